"""ExportToDatabase in each form that its settings offer: SQLite, equal to one process.

All modules stand in one pipeline, each with a file of its own, so that one run shows many.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing

import pytest
from conftest import Lab, Plain
from test_database import ALL, DATABASE, KEEPING, NEIGHBORS, QUALITY, RELATE, module
from test_variants import COSTLY
from texts import Text

pytestmark = [pytest.mark.slow, pytest.mark.long]

EACH, ONE, VIEW = "One table per object type", "Single object table", "Single object view"
PREFIX, NAME = "Add a prefix to table names?", "Table prefix"
OBJECTS = "Select the objects"
MEAN, MEDIAN, STD = (
    f"Calculate the per-image {kind} values of object measurements?"
    for kind in ("mean", "median", "standard deviation")
)
WELLS = {
    f"Calculate the per-well {kind} values of object measurements?": "Yes"
    for kind in ("mean", "median", "standard deviation")
}
LONGEST = "Maximum # of characters in a column name"
RELATIONSHIPS = "Export object relationships?"
THUMBNAILS = "Write image thumbnails directly to the database?"
OF_IMAGES = "Select the images for which you want to save thumbnails"
SCALED = "Auto-scale thumbnail pixel intensities?"
PROPERTIES = "Create a CellProfiler Analyst properties file?"
WORKSPACE = "Create a CellProfiler Analyst workspace file?"
DEFAULTS = "Include information for all images, using default values?"
PLATE, WELL = "Select the plate metadata", "Select the well metadata"
GROUPS, FILTERS = "Do you want to add group fields?", "Do you want to add filter fields?"
FOR_PLATES = "Automatically create a filter for each plate?"
OVERWRITE = "Overwrite without warning?"
FILE, FOLDER = "Name the SQLite database file", "Output file location"
EXPERIMENT = "Experiment name"
IMAGES = {
    "Properties image group count|1": "Properties image group count|2",
    "Select an image to include|None": (
        "Select an image to include|Cyto\nUse the image name for the display?|No\n"
        "Image name|Actin\nChannel color|green\nSelect an image to include|DNA"
    ),
}
FILTER = {
    "Properties filter field count|0": "Properties filter field count|1",
    f"{FOR_PLATES}|Yes": (
        f"{FOR_PLATES}|Yes\nEnter the name of the filter|First\n"
        "Enter the MySQL WHERE clause to define a filter|Image_Metadata_Site = 1"
    ),
}
GROUPED = {
    "Properties group field count|1": "Properties group field count|2",
    "Enter the name of the group|PlateWell": (
        "Enter the name of the group|Site\nEnter the per-image columns which define the group,"
        " separated by commas|ImageNumber, Image_Metadata_Site\nEnter the name of the group|Well"
    ),
}
# What is set, and lines of the settings that others take the place of.
Combination = tuple[Mapping[str, str], Mapping[str, str]]
COMBINATIONS: dict[str, Combination] = {
    "single_table": ({}, {}),
    "single_table_of_one_kind": ({ALL: "Select...", OBJECTS: "Nuclei"}, {}),
    "single_table_of_two_kinds": ({ALL: "Select...", OBJECTS: "Nuclei,Cells", PREFIX: "No"}, {}),
    "tables": ({KEEPING: EACH}, {}),
    "tables_without_prefix": ({KEEPING: EACH, PREFIX: "No"}, {}),
    "tables_of_two_kinds": ({KEEPING: EACH, ALL: "Select...", OBJECTS: "Cells,Nuclei"}, {}),
    "view": ({KEEPING: VIEW}, {}),
    "view_of_one_kind": ({KEEPING: VIEW, ALL: "Select...", OBJECTS: "Cytoplasm"}, {}),
    "no_objects": ({ALL: "None"}, {}),
    "no_objects_nor_means": ({ALL: "None", KEEPING: VIEW, MEAN: "No", STD: "No"}, {}),
    "medians": ({MEAN: "No", MEDIAN: "Yes", STD: "No"}, {}),
    "means_medians_deviations": ({MEDIAN: "Yes", KEEPING: VIEW}, {}),
    "no_means": ({MEAN: "No", STD: "No", KEEPING: EACH}, {}),
    "wells": (WELLS, {}),
    "names_of_30": ({LONGEST: "30"}, {}),
    "names_of_18": ({LONGEST: "18", MEDIAN: "Yes"}, {}),
    "names_of_30_by_table": ({LONGEST: "30", KEEPING: EACH, MEDIAN: "Yes"}, {}),
    "names_of_32_in_a_view": ({LONGEST: "32", KEEPING: VIEW}, {}),
    "no_relationships": ({RELATIONSHIPS: "No"}, {}),
    "no_relationships_by_table": ({RELATIONSHIPS: "No", KEEPING: EACH, THUMBNAILS: "No"}, {}),
    "no_thumbnails": ({THUMBNAILS: "No"}, {}),
    "raw_thumbnails_of_two": ({OF_IMAGES: "Cyto,DNA", SCALED: "No"}, {}),
    "experiment_of_strange_name": ({EXPERIMENT: 'µ "a" \\ b; -- %s \\n'}, {}),
    "no_properties": ({PROPERTIES: "No"}, {}),
    "no_workspace": ({WORKSPACE: "No"}, {}),
    "neither": ({PROPERTIES: "No", WORKSPACE: "No", KEEPING: VIEW}, {}),
    "images_by_name": ({DEFAULTS: "No"}, IMAGES),
    "no_plates_nor_wells": (
        {PLATE: "None", WELL: "None", "Select the plate type": "None", FILTERS: "No"}, {},
    ),
    "site_as_well": ({WELL: "Site", "Select the plate type": "384"}, {}),
    "no_groups": ({GROUPS: "No"}, {}),
    "two_groups": ({}, GROUPED),
    "a_filter_of_its_own": ({}, FILTER),
    "a_filter_and_none_for_plates": ({FOR_PLATES: "No"}, FILTER),
    "images_by_url": (
        {
            "Access CellProfiler Analyst images via URL?": "Yes",
            "Enter an image url prepend if you plan to access your files via http": "http://x/y?z=1",
        },
        {},
    ),
    "classified_images": ({"Select the classification type": "Image"}, {}),
    "class_table": (
        {
            "Enter a phenotype class table name if using the Classifier tool in CellProfiler"
            " Analyst": "classes",
            "Which objects should be used for locations?": "Cells",
        },
        {},
    ),
    "histogram_of_objects": (
        {
            "Select the measurement display tool": "Histogram",
            "Type of measurement to plot on the X-axis": "Object",
            "Enter the object name": "Nuclei",
            "Select the X-axis measurement": "Location_Center_X",
        },
        {},
    ),
    "overwrites_data": ({OVERWRITE: "Data only"}, {}),
    "overwrites_all": ({OVERWRITE: "Data and schema"}, {}),
    "in_a_folder": ({FOLDER: "Default Output Folder sub-folder|a folder/deep", KEEPING: EACH}, {}),
    "two.dots": ({FILE: "two.dots.sqlite"}, {}),
    "no_ending": ({FILE: "no_ending"}, {}),
    "shared_first": ({FILE: "shared.db", NAME: "First_"}, {}),
    "shared_second": ({FILE: "shared.db", NAME: "Second", KEEPING: EACH, RELATIONSHIPS: "No"}, {}),
    "shared_third": ({FILE: "shared.db", NAME: "First_Third_", KEEPING: VIEW}, {}),
}  # fmt: skip


def add_all(pipeline: Text, combinations: Mapping[str, Combination], **of_all: str) -> None:
    """Put an ExportToDatabase for each combination before ExportToSpreadsheet."""
    at = pipeline.text.index("ExportToSpreadsheet:[")
    first = pipeline.text[:at].count(":[module_num:") + 1
    added = [
        module("MeasureObjectNeighbors", first, 3, NEIGHBORS, {}),
        module("RelateObjects", first + 1, 5, RELATE, {}),
        module("MeasureImageQuality", first + 2, 6, QUALITY, {}),
    ]
    for name, (changes, lines) in combinations.items():
        settings = DATABASE
        for old, new in lines.items():
            assert settings.count(f"{old}\n") == 1, old
            settings = settings.replace(f"{old}\n", f"{new}\n")
        values = {FILE: f"{name}.db", **of_all, **changes}
        added.append(module("ExportToDatabase", first + len(added), 28, settings, values))
    last = first + len(added)
    tail = pipeline.text[at:].replace(f"[module_num:{first}", f"[module_num:{last}")
    pipeline.text = (pipeline.text[:at] + "".join(added) + tail).replace(
        f"ModuleCount:{first}\n", f"ModuleCount:{last}\n"
    )


def test_equals_one_process(lab: Lab, plain: Callable[[Lab], Plain]) -> None:
    pipeline = Text(lab.pipeline.read_text()).disable(*COSTLY)
    add_all(pipeline, COMBINATIONS)
    lab.pipeline.write_text(pipeline.text)
    with lab.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))[:6]
    for i, row in enumerate(rows):
        # the second plate begins within a chunk; some chunks see nothing but numbers
        row["Metadata_Plate"] = "P-2" if i >= 3 else "P 1"
        row["Metadata_Batch"] = f"{i:02d}" if i < 5 else "B"
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    one = plain(lab)
    one.result()
    assert "6 of 6 image sets" in lab.run("--chunk-size", "2")
    assert len(lab.verdicts()) == 3
    lab.compare(one.result())
    made = {p.name for p in lab.analysis.rglob("*") if p.suffix in (".db", ".sqlite", "")}
    assert len([name for name in made if name.endswith(".db")]) == len(COMBINATIONS) - 4
    with closing(sqlite3.connect(lab.analysis / "shared.db")) as database:
        for prefix in ("First_", "Second", "First_Third_"):
            count = f"SELECT COUNT(*) FROM {prefix}Per_Image"  # noqa: S608
            assert database.execute(count).fetchone() == (6,)
        assert database.execute("SELECT COUNT(*) FROM Experiment").fetchone() == (3,)
