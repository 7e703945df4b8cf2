"""Volumes: NamesAndTypes reads TIFF stacks as 3-D images, each against one plain process."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import ROOT, Lab, Plain, draw
from filelist import of_load_data
from texts import SAVE_LAST, Added, Text

pytestmark = [pytest.mark.slow, pytest.mark.long]

THRESHOLD = Added(
    "Threshold",
    12,
    """\
Select the input image:DNA
Name the output image:Bright
Threshold strategy:Global
Thresholding method:Minimum Cross-Entropy
Threshold smoothing scale:0.0
Threshold correction factor:1.0
Lower and upper bounds on threshold:0.0,1.0
Manual threshold:0.0
Select the measurement to threshold with:None
Two-class or three-class thresholding?:Two classes
Log transform before thresholding?:No
Assign pixels in the middle intensity class to the foreground or the background?:Foreground
Size of adaptive window:50
Lower outlier fraction:0.05
Upper outlier fraction:0.05
Averaging method:Mean
Variance method:Standard deviation
# of deviations:2.0
Thresholding method:Minimum Cross-Entropy
""",
)
OBJECTS = Added(
    "ConvertImageToObjects",
    1,
    """\
Select the input image:Bright
Name the output object:Nuclei
Convert to boolean image:Yes
Preserve original labels:No
Background label:0
Connectivity:0
""",
)
INTENSITY = Added(
    "MeasureObjectIntensity",
    4,
    "Select images to measure:DNA, Cyto\nSelect objects to measure:Nuclei\n",
)
STACK = SAVE_LAST.set(
    Select_the_image_to_save="Bright",
    Select_method_for_constructing_file_names="From image filename",
    Select_image_name_for_file_prefix="DNA",
    Append_a_suffix_to_the_image_file_name="Yes",
    Text_to_append_to_the_image_name="_bright",
    Saved_file_format="tiff",
    When_to_save="Every cycle",
)


@pytest.fixture
def volumes(tmp_path: Path) -> Lab:
    """The demo's images, each made a stack of five planes that fades to both ends."""
    lab = draw(tmp_path / "lab", "--wells", "2", "--sites", "2")
    loaded, _, rest = lab.pipeline.read_text().partition("IdentifyPrimaryObjects:[")
    export = re.search(r"^ExportToSpreadsheet:\[.*", rest, flags=re.MULTILINE | re.DOTALL)
    assert export
    # all others can't process volumes, or measure what they find
    export = re.sub(r"module_num:\d+", "module_num:2", export[0])
    whole = re.sub(r"ModuleCount:\d+", "ModuleCount:2", loaded) + export
    text = Text(of_load_data(whole, ("Row", "Col")))
    text.set("NamesAndTypes", "Process as 3D?", "Yes")
    text.set("NamesAndTypes", "Relative pixel spacing in Z", "2.5")
    lab.pipeline.write_text(text.add(THRESHOLD, OBJECTS, INTENSITY, STACK).text)
    for path in lab.base.rglob("*.tiff"):
        plane = tifffile.imread(path)[:160, :160].astype(float)
        stack = np.stack([plane * weight for weight in (0.2, 0.7, 1.0, 0.6, 0.3)])
        tifffile.imwrite(path, stack.astype(np.uint16), photometric="minisblack")
    lab.file_list.parent.mkdir(parents=True)
    images = sorted(lab.base.rglob("*.tiff"))
    lab.file_list.write_text("".join(f"{path}\n" for path in images))
    return lab


def test_volumes_equal_one_process(volumes: Lab, plain: Callable[..., Plain]) -> None:
    one = plain(volumes, inputs=["--file-list", str(volumes.file_list)])
    assert "4 of 4 image sets" in volumes.run("--group-by", "Row,Col")
    assert len(volumes.verdicts()) == 2
    volumes.compare(one.result())
    with tifffile.TiffFile(next(volumes.analysis.rglob("*_bright.tiff"))) as file:
        assert len(file.pages) == 5
    header = (volumes.analysis / "Nuclei.csv").read_text().partition("\n")[0]
    assert "Location_Center_Z" in header

    # a stack that is missing, and one whose last planes are cut off, are known before a run
    first, second, *_ = volumes.file_list.read_text().splitlines()
    Path(first).unlink()
    Path(second).write_bytes(Path(second).read_bytes()[:-100_000])
    command = [str(ROOT / "bin/bpcp"), "check", "-d", "demo", "-p", str(volumes.pipeline)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 65, done.stdout + done.stderr
    for code, path in (("image-missing", first), ("image-truncated", second)):
        assert f"ERROR {code}" in done.stdout and Path(path).name in done.stdout
