"""Image sets that FlagImage skips, against one process that skips them as well."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Lab, Plain
from test_database import DATABASE, module
from test_variants import Rows, changed
from texts import FLAG, Added, Text

pytestmark = [pytest.mark.slow, pytest.mark.long]

DIRTY = FLAG
BLURRY = Added(
    FLAG.name,
    FLAG.revision,
    FLAG.settings.replace("QCFlag", "Blurry").replace("Metadata_Dirt", "Metadata_Blur"),
)
# for each image set: whether it is skipped before any object is made, and after the nuclei are
KINDS = ("dirty", "dirty", "dirty", "", "blurry", "blurry", "", "blurry")


def mark(rows: Rows, kinds: tuple[str, ...]) -> None:
    del rows[len(kinds) :]
    for row, kind in zip(rows, kinds, strict=True):
        row["Metadata_Dirt"] = str(int(kind == "dirty"))
        row["Metadata_Blur"] = str(int(kind == "blurry"))


def named_tables(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Tables by name, those of later objects first; means; a database. Whole chunks are skipped."""
    mark(rows, KINDS)
    pipeline.disable("OverlayOutlines", "SaveImages", "GrayToColor", "RescaleIntensity")
    pipeline.put("LoadData", DIRTY).put("IdentifyPrimaryObjects", BLURRY)
    pipeline.export(
        ("Cytoplasm", "No", "Cytoplasm.csv"),
        ("Nuclei", "No", "nuclei and cells.csv"),
        ("Cells", "Yes", "unused.csv"),
        ("Nuclei", "No", "Nuclei.csv"),
        ("Image", "No", "Image.csv"),
        ("Experiment", "No", "Experiment.csv"),
    )
    mean = "Calculate the per-image mean values for object measurements?"
    pipeline.set("ExportToSpreadsheet", mean, "Yes")
    at = pipeline.text.index("ExportToSpreadsheet:[")
    number = pipeline.text[:at].count(":[module_num:") + 1
    last = pipeline.text[at:].replace(f"[module_num:{number}", f"[module_num:{number + 1}")
    database = module("ExportToDatabase", number, 28, DATABASE, {})
    pipeline.text = (pipeline.text[:at] + database + last).replace(
        f"ModuleCount:{number}\n", f"ModuleCount:{number + 1}\n"
    )
    return ("--chunk-size", "2")


def groups_and_chosen_measurements(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """The last image set of each well goes on nevertheless; the flag itself is not exported."""
    mark(rows, KINDS)
    pipeline.set("LoadData", "Group images by metadata?", "Yes")
    pipeline.set("LoadData", "Select metadata tags for grouping", "Well")
    dirty = DIRTY.set(Ignore_flag_skips_on_last_cycle="Yes")
    pipeline.put("LoadData", dirty).put("IdentifyPrimaryObjects", BLURRY)
    pipeline.set("ExportToSpreadsheet", "Select the measurements to export", "Yes")
    pipeline.set(
        "ExportToSpreadsheet",
        "Press button to select measurements",
        "Image|Count_Cells,Cells|Intensity_MeanIntensity_DNA,Nuclei|Location_Center_X",
    )
    return ("--chunk-size", "2")


def audited(lab: Lab) -> dict[str, object]:
    command = [str(ROOT / "bin" / "bpcp"), "audit", *lab.command()[1:], "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("change", "dirty", "blurry"),
    [
        (named_tables, "3 skipped by FlagImage (QCFlag)", "3 skipped by FlagImage (Blurry)"),
        (
            groups_and_chosen_measurements,
            "2 skipped by FlagImage (QCFlag)",
            "3 skipped by FlagImage (Blurry)",
        ),
    ],
)
def test_equals_one_process(
    lab: Lab,
    plain: Callable[[Lab], Plain],
    change: Callable[[Text, Rows], tuple[str, ...]],
    dirty: str,
    blurry: str,
) -> None:
    options = changed(lab, change)
    one = plain(lab)
    said = lab.run(*options)
    assert "done: 8 of 8 image sets" in said
    assert dirty in said and blurry in said
    assert len(lab.verdicts()) == 4
    lab.compare(one.result())
    found = audited(lab)
    assert found["adds_up"] is True
    assert found["skipped"] == {
        words.partition(" skipped by ")[2]: int(words[0]) for words in (dirty, blurry)
    }


def test_all_are_skipped(lab: Lab, plain: Callable[[Lab], Plain]) -> None:
    def change(pipeline: Text, rows: Rows) -> tuple[str, ...]:
        mark(rows, ("dirty",) * 4)
        pipeline.put("LoadData", DIRTY)
        return ("--chunk-size", "2")

    options = changed(lab, change)
    one = plain(lab)
    assert "4 skipped by FlagImage (QCFlag)" in lab.run(*options)
    lab.compare(one.result())
    assert sorted(p.name for p in lab.analysis.iterdir()) == ["Experiment.csv", "Image.csv"]
    assert Path(lab.status / "manifest.sha256").is_file()
