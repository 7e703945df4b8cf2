from __future__ import annotations

from pathlib import Path

import pytest
from conftest import pipeline_text, refused

from bpcp import pipeline, widths
from bpcp.errors import Exit

EXPORT = """
ExportToSpreadsheet:[module_num:4|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Select the column delimiter:Comma (",")
    Output file location:Default Output Folder|
    Add image metadata columns to your object data file?:{metadata}
    Add image file and folder names to your object data file?:{files}
    Select the measurements to export:{chooses}
    Calculate the per-image mean values for object measurements?:{mean}
    Calculate the per-image median values for object measurements?:{mean}
    Export all measurement types?:{all}
    Press button to select measurements:{chosen}
    Add a prefix to file names?:No
"""
LISTED = """\
    Data to export:{}
    Combine these object measurements with those of the previous object?:{}
    File name:{}
    Use the object name for the file name?:No
"""
MEASURED = [
    ("Experiment", "Run_Timestamp"),
    *(("Image", name) for name in ("Group_Number", "Metadata_Plate", "FileName_DNA", "Count_N")),
    *(("N", f"A{i}") for i in range(6)),
    ("N", "Number_Object_Number"),
    *(("Cells", f"B{i}") for i in range(3)),
    # it is measured by two modules, and is one column
    ("N", "A0"),
]


def read(folder: Path, *listed: tuple[str, str, str], **settings: str) -> pipeline.Pipeline:
    usual = dict.fromkeys(("metadata", "files", "chooses", "mean"), "No")
    usual = {**usual, "all": "No" if listed else "Yes", "chosen": "", **settings}
    path = folder / "p.cppipe"
    text = EXPORT.format(**usual) + "".join(LISTED.format(*one) for one in listed)
    path.write_text(pipeline_text(text))
    return pipeline.read(path)


@pytest.mark.parametrize(
    ("settings", "widest"),
    [
        ({}, ("N.csv", 9)),
        ({"metadata": "Yes"}, ("N.csv", 10)),
        ({"metadata": "Yes", "files": "Yes"}, ("N.csv", 11)),
        # the mean and the median of A0 to A5 and B0 to B2
        ({"mean": "Yes"}, ("Image.csv", 23)),
        ({"chooses": "Yes", "chosen": "N|A1,Image|Count_N,N|Gone"}, ("N.csv", 3)),
        ({"chooses": "Yes", "chosen": "N|A1,N|A2", "mean": "Yes"}, ("Image.csv", 5)),
        ({"chooses": "Yes"}, ("N.csv", 2)),
    ],
)
def test_the_widest_table(
    tmp_path: Path, settings: dict[str, str], widest: tuple[str, int]
) -> None:
    assert widths.widest(read(tmp_path, **settings), MEASURED) == widest


def test_tables_that_are_listed(tmp_path: Path) -> None:
    pipe = read(tmp_path, ("Image", "No", "i.csv"), ("N", "No", "o.csv"), ("Cells", "Yes", ""))
    assert widths.widest(pipe, MEASURED) == ("o.csv", 12)
    assert widths.widest(read(tmp_path, ("Image", "No", "i.csv")), MEASURED) == ("i.csv", 5)
    assert widths.widest(read(tmp_path, ("Experiment", "No", "e.csv")), MEASURED) == ("", 0)


def test_sqlite_has_a_limit() -> None:
    widths.check_sqlite("Image.csv", 2000)
    error = refused(
        Exit.MALFORMED_INPUT, "Image.csv has 2,001 columns", widths.check_sqlite, "Image.csv", 2001
    )
    assert "--format parquet" in error.todo
