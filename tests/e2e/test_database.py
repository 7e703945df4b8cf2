"""ExportToDatabase: one database of all chunks, the one that a single process would have made."""

from __future__ import annotations

import csv
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ONE_THREAD, Lab, Plain, cellprofiler
from filelist import of_load_data
from test_variants import COSTLY, Rows, changed, grouped
from texts import TRACK, Text

from bpcp.database.compare import compare_databases

pytestmark = [pytest.mark.slow, pytest.mark.long]

KEEPING = "Create one table per object, a single object table or a single object view?"
ALL = "Export measurements for all objects to the database?"
HEAD = (
    "{name}:[module_num:{number}|svn_version:'Unknown'|variable_revision_number:{revision}"
    "|show_window:False|notes:[]|batch_state:array([], dtype=uint8)|enabled:True"
    "|wants_pause:False]\n"
)
# label|value, in the order in which CellProfiler reads them
DATABASE = f"""\
Database type|SQLite
Database name|DefaultDB
Add a prefix to table names?|Yes
Table prefix|MyExpt_
Output file location|Default Output Folder|
Create a CellProfiler Analyst properties file?|Yes
Database host|
Username|
Password|
Name the SQLite database file|Default DB.db
Calculate the per-image mean values of object measurements?|Yes
Calculate the per-image median values of object measurements?|No
Calculate the per-image standard deviation values of object measurements?|Yes
Calculate the per-well mean values of object measurements?|No
Calculate the per-well median values of object measurements?|No
Calculate the per-well standard deviation values of object measurements?|No
{ALL}|All
Select the objects|
Maximum # of characters in a column name|64
{KEEPING}|Single object table
Enter an image url prepend if you plan to access your files via http|
Write image thumbnails directly to the database?|Yes
Select the images for which you want to save thumbnails|DNA
Auto-scale thumbnail pixel intensities?|Yes
Select the plate type|96
Select the plate metadata|Plate
Select the well metadata|Well
Include information for all images, using default values?|Yes
Properties image group count|1
Properties group field count|1
Properties filter field count|0
Workspace measurement count|1
Experiment name|A screen
Which objects should be used for locations?|Nuclei
Enter a phenotype class table name if using the Classifier tool in CellProfiler Analyst|
Export object relationships?|Yes
Overwrite without warning?|Never
Access CellProfiler Analyst images via URL?|No
Select the classification type|Object
Select an image to include|None
Use the image name for the display?|Yes
Image name|Channel1
Channel color|red
Do you want to add group fields?|Yes
Enter the name of the group|PlateWell
Enter the per-image columns which define the group, separated by commas|ImageNumber
Do you want to add filter fields?|Yes
Automatically create a filter for each plate?|Yes
Create a CellProfiler Analyst workspace file?|Yes
Select the measurement display tool|ScatterPlot
Type of measurement to plot on the X-axis|Image
Enter the object name|None
Select the X-axis measurement|Count_Nuclei
Select the X-axis index|ImageNumber
Type of measurement to plot on the Y-axis|Image
Enter the object name|None
Select the Y-axis measurement|Count_Cells
Select the Y-axis index|ImageNumber
"""
NEIGHBORS = """\
Select objects to measure|Nuclei
Select neighboring objects to measure|Nuclei
Method to determine neighbors|Expand until adjacent
Neighbor distance|5
Consider objects discarded for touching image border?|Yes
Retain the image of objects colored by numbers of neighbors?|No
Name the output image|ObjectNeighborCount
Select colormap|Blues
Retain the image of objects colored by percent of touching pixels?|No
Name the output image|PercentTouching
Select colormap|Oranges
"""
RELATE = """\
Parent objects|Cells
Child objects|Nuclei
Calculate child-parent distances?|None
Calculate per-parent means for all child measurements?|No
Calculate distances to other parents?|No
Do you want to save the children with parents as a new object set?|No
Name the output object|RelateObjects
Parent name|None
"""

QUALITY = """\
Calculate metrics for which images?|All loaded images
Image count|1
Scale count|1
Threshold count|1
Select the images to measure|
Include the image rescaling value?|Yes
Calculate blur metrics?|No
Spatial scale for blur measurements|20
Calculate saturation metrics?|No
Calculate intensity metrics?|No
Calculate thresholds?|Yes
Use all thresholding methods?|No
Select a thresholding method|Otsu
Typical fraction of the image covered by objects|0.1
Two-class or three-class thresholding?|Two classes
Minimize the weighted variance or the entropy?|Weighted variance
Assign pixels in the middle intensity class to the foreground or the background?|Foreground
"""


def module(name: str, number: int, revision: int, settings: str, changes: Mapping[str, str]) -> str:
    """Give a module's text."""
    lines = []
    for line in settings.splitlines():
        label, _, value = line.partition("|")
        lines.append(f"    {label}:{changes.get(label, value)}\n")
    assert set(changes) <= {line.partition("|")[0] for line in settings.splitlines()}
    return HEAD.format(name=name, number=number, revision=revision) + "".join(lines) + "\n"


def add(pipeline: Text, **changes: str) -> None:
    """Put ExportToDatabase before ExportToSpreadsheet.

    And what makes relationships, and thresholds over all image sets.
    """
    at = pipeline.text.index("ExportToSpreadsheet:[")
    first = pipeline.text[:at].count(":[module_num:") + 1
    added = [
        module("MeasureObjectNeighbors", first, 3, NEIGHBORS, {}),
        module("RelateObjects", first + 1, 5, RELATE, {}),
        module("MeasureImageQuality", first + 2, 6, QUALITY, {}),
        module("ExportToDatabase", first + 3, 28, DATABASE, changes),
    ]
    tail = pipeline.text[at:].replace(f"[module_num:{first}", f"[module_num:{first + 4}")
    pipeline.text = (pipeline.text[:at] + "".join(added) + tail).replace(
        f"ModuleCount:{first}\n", f"ModuleCount:{first + 4}\n"
    )


def two_plates(rows: Rows) -> None:
    """Plates whose names need changing in a filter's name; the second begins within a chunk."""
    for i, row in enumerate(rows):
        row["Metadata_Plate"] = "P-2" if i >= 7 else "P 1"


def single_table(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    two_plates(rows)
    add(pipeline)
    return ("--chunk-size", "5")


def a_table_for_each_object(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Without a prefix, in a sub-folder."""
    add(
        pipeline,
        **{
            KEEPING: "One table per object type",
            "Add a prefix to table names?": "No",
            "Output file location": "Default Output Folder sub-folder|data/base",
        },
    )
    return ("--chunk-size", "5")


def view_without_spreadsheets(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Some objects only, joined in a view; the database is all that says what was measured."""
    two_plates(rows)
    add(
        pipeline,
        **{KEEPING: "Single object view", ALL: "Select...", "Select the objects": "Cells,Nuclei"},
    )
    pipeline.disable("ExportToSpreadsheet")
    return ("--chunk-size", "5")


def grouped_by_well(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Rows that lie across each other, groups, and text that looks like numbers in some chunks."""
    for i, row in enumerate(rows):
        row["Metadata_Batch"] = f"{i:02d}" if i < 11 else "B"
        row["Metadata_Weight"] = "0.5" if i == 3 else "1"
    add(pipeline)
    return grouped(pipeline, rows)


def tracked(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Relationships from image set to image set, written at the end of each group."""
    pipeline.add(TRACK.set(Choose_a_tracking_method="LAP"))
    add(pipeline)
    return grouped(pipeline, rows)


@pytest.mark.parametrize(
    "change",
    [single_table, a_table_for_each_object, view_without_spreadsheets, grouped_by_well, tracked],
)
def test_equals_one_process(
    lab: Lab,
    plain: Callable[[Lab], Plain],
    change: Callable[[Text, Rows], tuple[str, ...]],
) -> None:
    options = changed(lab, change)
    one = plain(lab)
    assert "12 of 12 image sets" in lab.run(*options)
    assert len(lab.verdicts()) >= 3
    lab.compare(one.result())
    (made,) = lab.analysis.rglob("*.db")
    with closing(sqlite3.connect(made)) as database:
        count = "SELECT COUNT(*) FROM "
        prefix = "" if made.parent.name == "base" else "MyExpt_"
        assert database.execute(f"{count} {prefix}Per_Image").fetchone() == (12,)
        # else nothing would have been compared
        assert database.execute(f"{count} {prefix}Per_RelationshipsView").fetchone() > (100,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    # what waits for the next merge is packed by now, and still of use
    packed = list(lab.status.glob("chunks/*/tables/*/**/*.db.gz"))
    assert len(packed) == len(lab.verdicts())
    before = made.read_bytes()
    made.unlink()
    lab.run(*options)
    assert made.read_bytes() == before
    assert not list((lab.status / "attempts").iterdir())


def test_from_a_batch_file(lab: Lab, tmp_path: Path) -> None:
    """A pipeline of files: each process finds the tables that were made with the batch file."""
    pipeline = Text(lab.pipeline.read_text()).disable(*COSTLY, "ExportToSpreadsheet")
    add(pipeline, **{"Select the well metadata": "Col"})
    lab.pipeline.write_text(of_load_data(pipeline.text, ("Col",)))
    files = lab.base / "filelist" / "demo" / "filelist.txt"
    files.parent.mkdir(parents=True)
    with lab.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    named = [f"{r[f'PathName_{c}']}/{r[f'FileName_{c}']}" for r in rows for c in ("DNA", "Cyto")]
    files.write_text("\n".join([*named, ""]))
    one = tmp_path / "one"
    subprocess.run(
        [
            cellprofiler(), "-c", "-r", "-p", str(lab.pipeline), "--file-list", str(files),
            "-o", str(one),
        ],
        env={**os.environ, **ONE_THREAD},
        check=True,
        capture_output=True,
        timeout=900,
    )  # fmt: skip
    assert "12 of 12 image sets" in lab.run("--chunk-size", "5")
    assert len(lab.verdicts()) == 3
    lab.compare(one)
    with closing(sqlite3.connect(lab.analysis / "Default DB.db")) as database:
        count = "SELECT COUNT(*) FROM MyExpt_Per_RelationshipsView"
        assert database.execute(count).fetchone() > (100,)


def test_what_fails_is_left_out_and_the_rest_is_there(
    lab: Lab, plain: Callable[[Lab], Plain], tmp_path: Path
) -> None:
    pipeline = Text(lab.pipeline.read_text()).disable(*COSTLY)
    add(pipeline)
    lab.pipeline.write_text(pipeline.text)
    clean = plain(lab).result()
    with lab.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = tmp_path / "own.tiff"
    own.write_bytes(b"these bytes are no image" * 40)
    # one is missing, one breaks its process
    rows[4]["FileName_DNA"] = "gone.tiff"
    rows[9]["PathName_Cyto"], rows[9]["FileName_Cyto"] = str(own.parent), own.name
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert "10 of 12 image sets" in lab.run("--chunk-size", "6", expect=1)

    others = tmp_path / "others.db"
    shutil.copy2(clean / "Default DB.db", others)
    with closing(sqlite3.connect(others)) as database:
        for table, column in (
            ("Per_Image", "ImageNumber"),
            ("Per_Object", "ImageNumber"),
            ("Per_Relationships", "image_number1"),
        ):
            database.execute(f"DELETE FROM MyExpt_{table} WHERE {column} IN (5, 10)")  # noqa: S608
        database.commit()
    files = (others, lab.analysis / "Default DB.db")
    found = [where for where, *_ in compare_databases(files, (clean, lab.analysis))]
    # what is measured over all image sets is, over those that are there
    over_all = [where for where in found if "Per_Experiment, row 1, ImageQuality_Thresh" in where]
    assert found == over_all and found
    with closing(sqlite3.connect(files[1])) as database:
        ((mean, of_images),) = database.execute(
            "SELECT ImageQuality_ThresholdMeanOtsu_DNA_2W,"
            " (SELECT AVG(Image_ImageQuality_ThresholdOtsu_DNA_2W) FROM MyExpt_Per_Image)"
            " FROM MyExpt_Per_Experiment"
        ).fetchall()
    assert mean == pytest.approx(of_images, rel=1e-12)
