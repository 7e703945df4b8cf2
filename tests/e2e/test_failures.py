"""What fails is named; what does not is in the tables."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Lab, Plain
from texts import Text

pytestmark = pytest.mark.slow


def _own_images(lab: Lab) -> list[dict[str, str]]:
    """Copy the images into the workspace, so that a test may break them; return the rows."""
    with lab.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for channel in ("DNA", "Cyto"):
            source = Path(row[f"PathName_{channel}"], row[f"FileName_{channel}"])
            target = lab.base / "images" / source.name
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(source, target)
            row[f"PathName_{channel}"] = str(target.parent)
    _write(lab, rows)
    return rows


def _write(lab: Lab, rows: list[dict[str, str]]) -> None:
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _cells(table: Path, without: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Give a table's rows but those of some image sets, less what two runs never share."""
    own = ("ExecutionTime_", "PathName_Overlay", "URL_Overlay")
    with table.open(newline="") as file:
        return [
            {name: cell for name, cell in row.items() if not name.startswith(own)}
            for row in csv.DictReader(file)
            if row["ImageNumber"] not in without
        ]


def test_one_missing_and_one_broken_image(lab: Lab, plain: Callable[[Lab], Plain]) -> None:
    rows = _own_images(lab)
    clean = plain(lab).result()
    missing = Path(rows[4]["PathName_DNA"], rows[4]["FileName_DNA"])
    broken = Path(rows[9]["PathName_Cyto"], rows[9]["FileName_Cyto"])
    aside = missing.with_suffix(".aside")
    missing.rename(aside)
    whole = broken.read_bytes()
    broken.write_bytes(b"these bytes are no image" * 40)

    # without the check, it is CellProfiler that meets it
    said = lab.run("--chunk-size", "6", "--no-check", expect=1)
    assert "10 of 12 image sets" in said and "2 failed" in said
    assert f"line 6 of load_data.csv (BPCP-DEMO {rows[4]['Metadata_Well']}" in said
    assert "missing file" in said and str(missing) in said
    assert "line 11 of load_data.csv" in said and "LoadData: " in said

    status = subprocess.run(
        [str(ROOT / "bin/bpcp"), "status", "-d", "demo", "-p", str(lab.pipeline), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert status.returncode == 1
    failed = json.loads(status.stdout)["failed"]
    assert [(f["line"], f["image_number"]) for f in failed] == [(6, 5), (11, 10)]
    assert Path(failed[1]["log"]).is_file()

    # all others are in the tables, cell for cell as in a clean run
    for table in ("Image.csv", "Nuclei.csv", "Cells.csv", "Cytoplasm.csv"):
        others = _cells(clean / table, without=("5", "10"))
        assert _cells(lab.analysis / table) == others
        assert len(others) > 9
    with (lab.analysis / "Image.csv").open(newline="") as file:
        numbers = [int(r["ImageNumber"]) for r in csv.DictReader(file)]
    assert numbers == [1, 2, 3, 4, 6, 7, 8, 9, 11, 12]

    aside.rename(missing)
    broken.write_bytes(whole)
    before = lab.verdicts()
    assert "12 of 12 image sets" in lab.run("--chunk-size", "6")
    assert lab.verdicts().keys() == before.keys()
    lab.compare(clean)


def test_an_unknown_module_is_an_error_and_never_done(lab: Lab) -> None:
    text = lab.pipeline.read_text()
    lab.pipeline.write_text(text.replace("\nMeasureTexture:[", "\nMeasureMoonlight:["))
    said = lab.run(expect=65)
    assert "MeasureMoonlight" in said
    assert "done" not in said
    assert not lab.analysis.exists()


def test_a_pipeline_that_asks_for_an_image_of_another_name_is_refused(lab: Lab) -> None:
    text = lab.pipeline.read_text()
    lab.pipeline.write_text(
        text.replace("Select the input image:DNA", "Select the input image:DAPI")
    )
    said = lab.run(expect=65)
    assert "it wants the image DAPI" in said
    assert "the list has DNA, Cyto" in said
    assert not lab.analysis.exists()


def test_a_pipeline_that_fails_at_every_image_set(lab: Lab) -> None:
    """A module asks for a measurement that nobody made: every chunk fails, and says why."""
    text = Text(lab.pipeline.read_text())
    text.set("IdentifyPrimaryObjects", "Thresholding method", "Measurement")
    text.set("IdentifyPrimaryObjects", "Select the measurement to threshold with", "Nobody_Made")
    lab.pipeline.write_text(text.text)
    said = lab.run("--chunk-size", "12", expect=1)
    assert "0 of 12 image sets" in said and "12 failed" in said
    assert not list(lab.analysis.glob("*.csv"))
