"""Plugins: the real CellProfiler loads them, in every process; and says why it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Lab, Plain, draw
from filelist import of_load_data
from texts import Added, Text

pytestmark = [pytest.mark.slow, pytest.mark.long]

# Reads a file that is kept beside it, imports another one as it runs, and makes an image and
# measurements of images and objects.
STRIPES = """
from pathlib import Path

import numpy
from cellprofiler_core.image import Image
from cellprofiler_core.module import Module
from cellprofiler_core.setting.subscriber import ImageSubscriber, LabelSubscriber
from cellprofiler_core.setting.text import ImageName

FACTOR = float(Path(__file__).with_name("factor.txt").read_text())


class CountStripes(Module):
    module_name = "CountStripes"
    category = "Image Processing"
    variable_revision_number = 1

    def create_settings(self):
        self.image = ImageSubscriber("Select the input image", "None")
        self.objects = LabelSubscriber("Select the objects", "None")
        self.output = ImageName("Name the output image", "Stripes")

    def settings(self):
        return [self.image, self.objects, self.output]

    def run(self, workspace):
        from _striped import striped

        image = workspace.image_set.get_image(self.image.value)
        pixels = striped(image.pixel_data, FACTOR)
        workspace.image_set.add(self.output.value, Image(pixels, parent_image=image))
        objects = workspace.object_set.get_objects(self.objects.value)
        labels, found = objects.segmented, workspace.measurements
        means = [pixels[labels == number].mean() for number in range(1, objects.count + 1)]
        found.add_measurement("Image", "Stripes_Sum", float(pixels.sum()))
        found.add_measurement(self.objects.value, "Stripes_Mean", numpy.array(means))

    def get_measurement_columns(self, pipeline):
        return [("Image", "Stripes_Sum", "float"), (self.objects.value, "Stripes_Mean", "float")]
"""
STRIPED = """
def striped(pixels, factor):
    result = pixels.copy()
    result[::2] *= factor
    return result
"""
COUNT = Added(
    "CountStripes",
    1,
    """\
Select the input image:DNA
Select the objects:Nuclei
Name the output image:Stripes
""",
)
INTENSITY = Added("MeasureImageIntensity", 4, "Select images to measure:Stripes\n")
COSTLY = ("MeasureTexture", "MeasureObjectSizeShape", "MeasureObjectIntensity")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my plugins"
    made.mkdir()
    (made / "countstripes.py").write_text(STRIPES)
    (made / "_striped.py").write_text(STRIPED)
    (made / "factor.txt").write_text("0.5")
    (made / "broken.py").write_text("import nowhere_to_be_found\n")
    return made


@pytest.fixture
def striped(tmp_path: Path) -> Lab:
    lab = draw(tmp_path / "lab", "--wells", "2", "--sites", "2")
    text = Text(lab.pipeline.read_text()).disable(*COSTLY).add(COUNT, INTENSITY)
    lab.pipeline.write_text(text.text)
    return lab


def check(lab: Lab, *options: str) -> tuple[int, str]:
    command = [str(ROOT / "bin/bpcp"), "check", "-d", lab.dataset, "-p", str(lab.pipeline)]
    done = subprocess.run(
        [*command, "--no-images", "-q", *options], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_a_run_with_plugins_equals_one_process(
    striped: Lab, folder: Path, plain: Callable[..., Plain]
) -> None:
    option = ("--plugins-directory", str(folder))
    one = plain(striped, inputs=["--data-file", str(striped.image_list), *option])
    code, said = check(striped)
    assert code == 65 and "CountStripes" in said, said
    # another plugin that does not load is none of the pipeline's business
    assert check(striped, *option) == (0, "")
    assert "4 of 4 image sets" in striped.run("--chunk-size", "2", *option)
    striped.compare(one.result())

    # other values: all runs again, and differs
    (folder / "factor.txt").write_text("0.25")
    said = striped.run("--chunk-size", "2", *option)
    assert "plugins changed (factor.txt): every image set runs again" in said
    assert "Stripes_" in striped.compare(one.result(), expect=1)

    # CellProfiler would go on without it
    (folder / "countstripes.py").write_text(f"import nowhere_to_be_found\n{STRIPES}")
    code, said = check(striped, *option)
    assert code == 65 and "pipeline-plugin-missing" in said, said
    assert "does not load: ModuleNotFoundError: No module named 'nowhere_to_be_found'" in said


def test_a_list_of_files_with_plugins_equals_one_process(
    striped: Lab, folder: Path, plain: Callable[..., Plain]
) -> None:
    images = sorted(striped.base.rglob("*.tiff"))
    striped.pipeline.write_text(of_load_data(striped.pipeline.read_text()))
    striped.file_list.parent.mkdir(parents=True)
    striped.file_list.write_text("".join(f"{path}\n" for path in images))
    option = ("--plugins-directory", str(folder))
    one = plain(striped, inputs=["--file-list", str(striped.file_list), *option])
    assert "4 of 4 image sets" in striped.run("--chunk-size", "2", *option)
    striped.compare(one.result())
