"""The promise again, where pipelines and lists make it hard: each against one plain process."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from conftest import Lab, Plain

pytestmark = pytest.mark.slow

Rows = list[dict[str, str]]
COSTLY = ("MeasureTexture", "MeasureObjectSizeShape", "MeasureObjectIntensity")


TRACK = """\
TrackObjects:[module_num:14|svn_version:'Unknown'|variable_revision_number:7|show_window:False\
|notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]
    Choose a tracking method:Overlap
    Select the objects to track:Nuclei
    Select object measurement to use for tracking:None
    Maximum pixel distance to consider matches:50
    Select display option:Color and Number
    Save color-coded image?:No
    Name the output image:TrackedCells
    Select the movement model:Both
    Number of standard deviations for search radius:3.0
    Search radius limit, in pixel units (Min,Max):2.0,10.0
    Run the second phase of the LAP algorithm?:Yes
    Gap closing cost:40
    Split alternative cost:40
    Merge alternative cost:40
    Maximum gap displacement, in pixel units:5
    Maximum split score:50
    Maximum merge score:50
    Maximum temporal gap, in frames:5
    Filter objects by lifetime?:No
    Filter using a minimum lifetime?:Yes
    Minimum lifetime:1
    Filter using a maximum lifetime?:No
    Maximum lifetime:100
    Mitosis alternative cost:80
    Maximum mitosis distance, in pixel units:40
    Average cell diameter in pixels:35.0
    Use advanced configuration parameters:No
    Cost of cell to empty matching:15.0
    Weight of area difference in function matching cost:25.0

"""


@dataclass
class Text:
    """A pipeline's text, and ways to change it."""

    text: str

    def disable(self, *modules: str) -> Text:
        for name in modules:
            self.text, n = re.subn(
                rf"^({name}:\[.*)enabled:True", r"\1enabled:False", self.text, flags=re.MULTILINE
            )
            assert n, name
        return self

    def set(self, module: str, label: str, value: str) -> Text:
        """Give a setting of the first module of a kind another value."""
        head = re.search(rf"^{module}:\[", self.text, flags=re.MULTILINE)
        assert head, module
        before, after = self.text[: head.start()], self.text[head.start() :]
        changed, n = re.subn(
            rf"^(    {re.escape(label)}:).*$",
            lambda m: m[1] + value,
            after,
            count=1,
            flags=re.MULTILINE,
        )
        assert n, label
        self.text = before + changed
        return self

    def export(self, *tables: tuple[str, str, str]) -> Text:
        """Let ExportToSpreadsheet list its tables: object, whether it shares, file name."""
        self.set("ExportToSpreadsheet", "Export all measurement types?", "No")
        start = self.text.index("    Data to export:")
        self.text = self.text[:start] + "".join(
            f"    Data to export:{name}\n"
            f"    Combine these object measurements with those of the previous object?:{shares}\n"
            f"    File name:{file}\n"
            "    Use the object name for the file name?:No\n"
            for name, shares, file in tables
        )
        return self


def grouped(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """LoadData groups by well; the rows of a well lie apart, and the wells are not sorted."""
    pipeline.set("LoadData", "Group images by metadata?", "Yes")
    pipeline.set("LoadData", "Select metadata tags for grouping", "Well")
    rows.sort(key=lambda r: (int(r["Metadata_Site"]), r["Metadata_Well"][::-1]), reverse=True)
    return ("--chunk-size", "5")


def mixed_types(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """A site "A" among "01", "02" …, a dose that one row lacks, a float among integers."""
    for i, row in enumerate(rows):
        row["Metadata_Site"] = f"{i + 1:02d}"
        row["Metadata_Batch"] = "007"
        row["Metadata_Weight"] = str(i)
    rows[7]["Metadata_Site"] = "A"
    rows[3]["Metadata_Dose_uM"] = ""
    rows[10]["Metadata_Weight"] = "0.5"
    pipeline.set("SaveImages", "Text to append to the image name", r"_\g<Site>_\g<Weight>")
    return ("--chunk-size", "3")


def grouped_and_mixed(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """The groups' own key is text in the whole list and a number in most chunks."""
    grouped(pipeline, rows)
    pipeline.set("LoadData", "Select metadata tags for grouping", "Batch,Weight")
    for i, row in enumerate(rows):
        row["Metadata_Batch"] = f"{i % 4:02d}" if i % 4 else "B"
        row["Metadata_Weight"] = f"{i % 2}.50" if i == 3 else "1"
    return ("--chunk-size", "3")


def tables_in_subfolders(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Tables in a folder for each well, with a prefix, tabs, means, and blanks for NaN."""
    for label, value in (
        ("Output file location", r"Default Output Folder sub-folder|tables/\g<Well>"),
        ("Select the column delimiter", "Tab"),
        ("Add a prefix to file names?", "Yes"),
        ("Filename prefix", "Plate_"),
        ("Representation of Nan/Inf", "Null"),
        ("Calculate the per-image mean values for object measurements?", "Yes"),
        ("Add image file and folder names to your object data file?", "Yes"),
    ):
        pipeline.set("ExportToSpreadsheet", label, value)
    return ("--chunk-size", "5")


def joined_tables(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Two objects in one table, object relationships, and no table of its own for one object."""
    pipeline.export(
        ("Image", "No", "images.csv"),
        ("Cells", "No", "cells and cytoplasm.csv"),
        ("Cytoplasm", "Yes", "unused.csv"),
        ("Object relationships", "No", "relations.csv"),
        ("Nuclei", "No", "DATA.csv"),
        ("Experiment", "No", "about.csv"),
    )
    return ("--chunk-size", "5")


def joined_tables_in_subfolders(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """The experiment table stands where the first image set of the whole list puts it."""
    joined_tables(pipeline, rows)
    pipeline.set(
        "ExportToSpreadsheet",
        "Output file location",
        r"Default Output Folder sub-folder|./by/\g<Well>",
    )
    return ("--chunk-size", "4")


def numbered_files(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Saved images named by the number of the image set."""
    pipeline.set("SaveImages", "Select method for constructing file names", "Sequential numbers")
    pipeline.set("SaveImages", "Enter single file name", "field")
    return ("--chunk-size", "5")


def tracked(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Objects tracked from site to site of a well: each knows the ImageNumber of its parent."""
    grouped(pipeline, rows)
    pipeline.export(("Image", "No", "Image.csv"), ("Nuclei", "No", "Nuclei.csv"))
    pipeline.text = pipeline.text.replace("ModuleCount:14", "ModuleCount:15").replace(
        "ExportToSpreadsheet:[module_num:14", TRACK + "ExportToSpreadsheet:[module_num:15"
    )
    return ("--chunk-size", "4")


def by_plate(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """-k over three plates whose rows are mixed; "02" and 2 are one plate to CellProfiler."""
    for i, row in enumerate(rows):
        row["Metadata_Plate"] = ("1", "02", "2", "3")[i % 4]
    return ("-k",)


@pytest.mark.parametrize(
    "change",
    [
        grouped,
        mixed_types,
        grouped_and_mixed,
        tables_in_subfolders,
        joined_tables,
        joined_tables_in_subfolders,
        numbered_files,
        tracked,
        by_plate,
    ],
)
def test_equals_one_process(
    lab: Lab,
    plain: Callable[[Lab], Plain],
    change: Callable[[Text, Rows], tuple[str, ...]],
) -> None:
    pipeline = Text(lab.pipeline.read_text()).disable(*COSTLY)
    with lab.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    options = change(pipeline, rows)
    lab.pipeline.write_text(pipeline.text)
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    one = plain(lab)
    said = lab.run(*options)
    assert "12 of 12 image sets" in said
    assert len(lab.verdicts()) >= 3
    lab.compare(one.result())
