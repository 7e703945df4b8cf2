"""Files that a pipeline reads beside its images, and those that it saves twice."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ONE_THREAD, ROOT, Lab, Plain, cellprofiler
from test_batch import COSTLY, with_files
from texts import Added, Text

pytestmark = [pytest.mark.slow, pytest.mark.long]

# Of both kinds: the flag's rules lie in the folder itself, the doses below it.
RULES = "IF (Image_Intensity_MeanIntensity_DNA > 0.02, [1.0, -1.0], [-1.0, 1.0])\n"
FLAG = Added(
    "FlagImage",
    4,
    """\
Hidden:1
Hidden:1
Name the flag's category:Metadata
Name the flag:Bright
How should measurements be linked?:Flag if any fail
Skip image set if flagged?:No
Flag is based on:Rules
Select the object to be used for flagging:None
Which measurement?:None
Flag images based on low values?:No
Minimum value:0.0
Flag images based on high values?:No
Maximum value:1.0
Rules file location:Default Input Folder|
Rules file name:rules.txt
Class number:1
Ignore flag skips on last cycle?:No
""",
)
DOSES = """\
    Metadata extraction method:Import from file
    Metadata source:File name
    Regular expression to extract from file name:^(?P<Unused>.*)
    Regular expression to extract from folder name:(?P<Unused>.*)
    Extract metadata from:All images
    Select the filtering criteria:and (file does contain "")
    Metadata file location:Default Input Folder sub-folder|treatments
    Match file and image metadata:[{'Image Metadata': 'Row', 'CSV Metadata': 'Row'}, \
{'Image Metadata': 'Col', 'CSV Metadata': 'Col'}]
    Use case insensitive matching?:No
    Metadata file name:doses.csv
    Does cached metadata exist?:No
"""


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def check(lab: Lab, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(ROOT / "bin" / "bpcp"), "check", "-d", lab.dataset, "-p", str(lab.pipeline), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_default_input_folder(
    lab: Lab, plain: Callable[..., Plain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules and a metadata file: found by -i alone, and the same as in one process with -i."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    folder = tmp_path / 'in "put"'
    (folder / "treatments").mkdir(parents=True)
    (folder / "rules.txt").write_text(RULES)
    wells = [(f"{row:02d}", f"{column:02d}") for row in range(1, 9) for column in range(1, 13)]
    doses = "".join(f"{r},{c},{int(r) * 10 + int(c)}\n" for r, c in wells)
    (folder / "treatments" / "doses.csv").write_text(f"Row,Col,Dose\n{doses}")
    with_files(lab)
    text = Text(lab.pipeline.read_text()).add(FLAG)
    text.set("Metadata", "Extraction method count", "3")
    text.set("SaveImages", "Text to append to the image name", r"_\g<Dose>")
    text.text = text.text.replace(
        "    Does cached metadata exist?:No\n\nNames",
        f"    Does cached metadata exist?:No\n{DOSES}\nNames",
    )
    assert "doses.csv" in text.text
    lab.pipeline.write_text(text.text)

    code, said = check(lab, "--no-images")
    assert code == 66
    for name in ("rules.txt", "treatments/doses.csv"):
        assert f"no such file here: {tmp_path / 'home' / name}" in said
    assert "Metadata" in said and "FlagImage" in said and "-i DIR" in said
    assert "no such file here" in lab.run(expect=66)
    assert not lab.analysis.exists()

    files = ["--file-list", str(lab.file_list), "-i", str(folder)]
    one = plain(lab, inputs=files)
    assert "12 of 12 image sets" in lab.run("--chunk-size", "5", "-i", str(folder))
    result = one.result()
    lab.compare(result)
    images = rows_of(lab.analysis / "Image.csv")
    assert {row["Metadata_Bright"] for row in images} <= {"0", "1"}
    assert images[0]["Metadata_Dose"] not in ("", "nan")
    assert len(list(lab.analysis.rglob("*.png"))) == 12
    # the files are a part of the run
    (folder / "rules.txt").write_text(RULES.replace("0.02", "0.9"))
    assert "a file that the pipeline reads" in lab.run("--dry-run", "-i", str(folder))


def two_plates(lab: Lab, folder: Path) -> None:
    """Make two plates of the six image sets each whose files have the same names."""
    rows = rows_of(lab.image_list)
    for i, row in enumerate(rows):
        like, plate = rows[i % 6], f"P{1 + i // 6}"
        (folder / plate).mkdir(parents=True, exist_ok=True)
        for channel in ("DNA", "Cyto"):
            source = Path(row[f"PathName_{channel}"]) / row[f"FileName_{channel}"]
            shutil.copy(source, folder / plate / like[f"FileName_{channel}"])
    for i, row in enumerate(rows):
        plate = f"P{1 + i // 6}"
        like = dict(rows[i % 6])
        for channel in ("DNA", "Cyto"):
            row[f"FileName_{channel}"] = like[f"FileName_{channel}"]
            row[f"PathName_{channel}"] = plate
        row["Metadata_Plate"] = plate
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def overlays(result: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (result / "overlays").iterdir()}


def test_names_that_two_plates_save(lab: Lab, plain: Callable[..., Plain], tmp_path: Path) -> None:
    """The later image set's file stays; where nothing may be overwritten, the later one fails."""
    folder = tmp_path / "in"
    two_plates(lab, folder)
    text = Text(lab.pipeline.read_text()).disable(*COSTLY)
    text.set("LoadData", "Base image location", "Default Input Folder|")
    text.set("SaveImages", "Output file location", "Default Output Folder sub-folder|overlays")
    lab.pipeline.write_text(text.text)
    inputs = ["--data-file", str(lab.image_list), "-i", str(folder)]

    one = plain(lab, inputs=inputs)
    code, said = check(lab, "-i", str(folder))
    assert code == 0 and "pipeline-saved-twice" in said
    assert "line 2 (" in said and "and line 8 (" in said and "6 files of 12" in said
    result = one.result()
    assert len(overlays(result)) == 6
    for size in ("4", "8"):
        lab.run("-w", "--chunk-size", size, "-i", str(folder))
        lab.compare(result)
        assert overlays(lab.analysis) == overlays(result)

    text.set("SaveImages", "Overwrite existing files without warning?", "No")
    lab.pipeline.write_text(text.text)
    output = tmp_path / "no"
    done = subprocess.run(
        [cellprofiler(), "-c", "-r", "-p", str(lab.pipeline), *inputs, "-o", str(output)],
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        check=False,
    )
    # it ends at the first image set of the second plate, with what the first one saved
    assert done.returncode == 1 and "trying to overwrite" in done.stderr
    assert "Image # 7, module SaveImages" in done.stdout + done.stderr
    assert len(overlays(output)) == 6
    code, said = check(lab, "-i", str(folder))
    assert code == 65 and "pipeline-overwrite-refused" in said
    said = lab.run("--chunk-size", "4", "-i", str(folder), expect=1)
    assert "6 of 12 image sets" in said and "saved before: 6 image sets will fail" in said
    assert overlays(lab.analysis) == overlays(output)
    assert [row["ImageNumber"] for row in rows_of(lab.analysis / "Image.csv")] == list("123456")
