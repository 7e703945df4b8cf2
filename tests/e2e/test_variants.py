"""The promise again, where pipelines and lists make it hard: each against one plain process."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Lab, Plain, cellprofiler
from cp3 import version_4
from texts import APPLY, CORRECT, CORRECTED, PROJECT, SAVE_LAST, SCIKIT_IMAGE, TRACK, Text

from bpcp.batch import set_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.long]

Rows = list[dict[str, str]]
COSTLY = ("MeasureTexture", "MeasureObjectSizeShape", "MeasureObjectIntensity")


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
    pipeline.add(TRACK)
    return ("--chunk-size", "4")


def illumination(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """An illumination function over all images of a plate, saved at its last cycle."""
    for i, row in enumerate(rows):
        row["Metadata_Plate"] = ("P1", "P2", "P3")[i % 3]
    pipeline.set("LoadData", "Group images by metadata?", "Yes")
    pipeline.set("LoadData", "Select metadata tags for grouping", "Plate")
    pipeline.add(CORRECT, SAVE_LAST.set(Enter_single_file_name=r"\g<Plate>_IllumDNA"))
    return ("--chunk-size", "2")


def functions_of_an_older_cellprofiler(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Illumination functions saved as .mat, in columns and under names as older lists have them."""
    folder = Path(rows[0]["PathName_DNA"])
    code = "import sys, numpy, scipy.io as s; x = numpy.linspace(1, 2, 384)\n"
    code += "for i, p in enumerate(sys.argv[1:]): s.savemat(p, {'Image': numpy.outer(x, x) + i})"
    names = ("P1_IllumDNA.mat", "P2_IllumDNA.mat")
    python = Path(cellprofiler()).with_name("python")
    subprocess.run([python, "-c", code, *(folder / name for name in names)], check=True)
    for i, row in enumerate(rows):
        row.update({"FileName_Illum_98.mat": names[i % 2], "PathName_Illum_98.mat": str(folder)})
        for column in [c for c in row if c.startswith(("FileName_", "PathName_"))]:
            row[f"Image_{column}"] = row.pop(column)
    pipeline.add(APPLY, CORRECTED)
    return ("--chunk-size", "4")


def projection(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """A projection over the planes of each well, whose rows lie apart in the list."""
    for row in rows:
        row["Metadata_ZPlane"] = row["Metadata_Site"]
    rows.sort(key=lambda r: (r["Metadata_ZPlane"], r["Metadata_Well"]))
    pipeline.set("LoadData", "Group images by metadata?", "Yes")
    pipeline.set("LoadData", "Select metadata tags for grouping", "Plate,Well")
    saved = SAVE_LAST.set(
        Select_the_image_to_save="ProjectionDNA",
        Enter_single_file_name=r"\g<Well>_max",
        Saved_file_format="tiff",
    )
    pipeline.add(PROJECT, saved)
    return ("--chunk-size", "3")


def scikit_image(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """Modules that call what scikit-image renamed or changed after the version declared."""
    del rows[4:]
    pipeline.add(*SCIKIT_IMAGE)
    return ("--chunk-size", "1")


def range_of_rows(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """LoadData takes rows 3 to 10; the columns are typed by all rows of the list."""
    rows[0]["Metadata_Site"] = "A"
    pipeline.set("LoadData", "Process just a range of rows?", "Yes")
    pipeline.set("LoadData", "Rows to process", "3,10")
    return ("--chunk-size", "3")


def by_plate(pipeline: Text, rows: Rows) -> tuple[str, ...]:
    """-k over three plates whose rows are mixed; "02" and 2 are one plate to CellProfiler."""
    for i, row in enumerate(rows):
        row["Metadata_Plate"] = ("1", "02", "2", "3")[i % 4]
    return ("-k",)


def changed(lab: Lab, change: Callable[[Text, Rows], tuple[str, ...]]) -> tuple[str, ...]:
    """Change a workspace's pipeline and list; give the options that belong to it."""
    pipeline = Text(lab.pipeline.read_text()).disable(*COSTLY)
    with lab.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    options = change(pipeline, rows)
    lab.pipeline.write_text(pipeline.text)
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return options


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
        illumination,
        functions_of_an_older_cellprofiler,
        projection,
        scikit_image,
        range_of_rows,
        by_plate,
    ],
)
def test_equals_one_process(
    lab: Lab,
    plain: Callable[[Lab], Plain],
    change: Callable[[Text, Rows], tuple[str, ...]],
) -> None:
    options = changed(lab, change)
    one = plain(lab)
    said = lab.run(*options)
    count = {range_of_rows: 8, scikit_image: 4}.get(change, 12)
    assert f"{count} of {count} image sets" in said
    assert len(lab.verdicts()) >= 3
    lab.compare(one.result())


def test_a_pipeline_of_cellprofiler_3_equals_one_process(
    lab: Lab, plain: Callable[[Lab], Plain]
) -> None:
    """Escaped UTF-16 values, settings of older revisions, and a copy that bpcp changes.

    As a project, its pipeline is one line, which CellProfiler 4 can't read.
    """
    changed(lab, range_of_rows)
    pipeline = Text(lab.pipeline.read_text())
    pipeline.text = pipeline.text.replace("|notes:[]|", "|notes:['a: |b|', \"it's\"]|", 1)
    # as it was before settings were joined, and before one was added
    was = "    Hidden:1\n    Select an image to measure:DNA\n    Select objects to measure:Nuclei\n"
    pipeline.replace_module("MeasureObjectIntensity", 3, was)
    saved = pipeline.module("SaveImages").rpartition("    Save with lossless")[0]
    pipeline.replace_module("SaveImages", 15, saved)
    pipeline.text = pipeline.text.replace("enabled:False", "enabled:True", 1)
    new = Lab(lab.base, "new", lab.pipeline.with_name("new.cppipe"))
    new.pipeline.write_text(pipeline.text)
    shutil.copytree(lab.image_list.parent, new.image_list.parent)
    lab.pipeline.write_text(version_4(pipeline.text))
    of_new = plain(new).result()
    of_old = plain(lab).result()
    python = Path(cellprofiler()).with_name("python")
    maker = Path(__file__).with_name("project.py")
    project = lab.pipeline.with_suffix(".cpproj")
    subprocess.run([python, maker, new.pipeline, os.devnull, project], check=True)
    set_pipeline(project, lab.pipeline.read_text().encode("unicode_escape").decode())
    own = Lab(lab.base, lab.dataset, project)
    said = own.run("--chunk-size", "3")
    for words in ("8 of 8 image sets", "takes these rows", "split into its lines"):
        assert words in said
    assert len(own.verdicts()) == 3
    own.compare(of_old)
    own.compare(of_new)
