"""ExportToSpreadsheet's settings, one by one and mixed, against one plain process.

Each case is an export module of its own in one of two pipelines, with a folder of its own, so that
one run and one process prove them all. What must come out is in the folder that is the case's name.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Lab, Plain, draw
from texts import CORRECT, Added, Text

from bpcp.compare import Difference, compare

pytestmark = [pytest.mark.slow, pytest.mark.long]

_SETTINGS = {
    "Select the column delimiter": 'Comma (",")',
    "Add image metadata columns to your object data file?": "No",
    "Add image file and folder names to your object data file?": "No",
    "Select the measurements to export": "No",
    "Calculate the per-image mean values for object measurements?": "No",
    "Calculate the per-image median values for object measurements?": "No",
    "Calculate the per-image standard deviation values for object measurements?": "No",
    "Output file location": "",
    "Create a GenePattern GCT file?": "No",
    "Select source of sample row name": "Metadata",
    "Select the image to use as the identifier": "None",
    "Select the metadata to use as the identifier": "None",
    "Export all measurement types?": "Yes",
    "Press button to select measurements": "",
    "Representation of Nan/Inf": "NaN",
    "Add a prefix to file names?": "No",
    "Filename prefix": "MyExpt_",
    "Overwrite existing files without warning?": "Yes",
}
_DELIMITER = "Select the column delimiter"
_METADATA = "Add image metadata columns to your object data file?"
_FILES = "Add image file and folder names to your object data file?"
_MEAN = "Calculate the per-image mean values for object measurements?"
_MEDIAN = "Calculate the per-image median values for object measurements?"
_STD = "Calculate the per-image standard deviation values for object measurements?"
_CHOOSE = "Select the measurements to export"
_CHOSEN = "Press button to select measurements"
_NAN = "Representation of Nan/Inf"
_OVERWRITE = "Overwrite existing files without warning?"

Named = tuple[str, bool, str]
"""An object, whether it shares the table before, and a file name; "" is the object's."""

IMAGE: Named = ("Image", False, "")
NUCLEI: Named = ("Nuclei", False, "")


@dataclass(frozen=True)
class Case:
    """One export.

    Attributes
    ----------
    tables : tuple of Named
        What it lists; empty where it exports all measurement types.
    settings : dict of str to str
        What is not as in `_SETTINGS`.
    folder : str
        Below the case's own.
    home : str
        The folder of another case, where it writes to that.
    """

    tables: tuple[Named, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    home: str = ""

    def module(self, name: str) -> Added:
        settings = {**_SETTINGS, **self.settings}
        place = "/".join(filter(None, (self.home or name, self.folder)))
        settings["Output file location"] = f"Default Output Folder sub-folder|{place}"
        if self.tables:
            settings["Export all measurement types?"] = "No"
        lines = [f"{label}:{value}" for label, value in settings.items()]
        for objects, shares, file in self.tables or (("Do not use", False, ""),):
            lines += [
                f"Data to export:{objects}",
                f"Combine these object measurements with those of the previous object?:"
                f"{'Yes' if shares else 'No'}",
                f"File name:{file or 'DATA.csv'}",
                f"Use the object name for the file name?:{'No' if file else 'Yes'}",
            ]
        return Added("ExportToSpreadsheet", 13, "\n".join(lines) + "\n")


def delimited(delimiter: str, *tables: Named) -> Case:
    return Case(tables, {_DELIMITER: delimiter, _METADATA: "Yes"})


def chosen(press: str, *tables: Named, **more: str) -> Case:
    return Case(tables, {_CHOOSE: "Yes", _CHOSEN: press, **more})


def prefixed(prefix: str, *tables: Named) -> Case:
    settings = {"Add a prefix to file names?": "Yes", "Filename prefix": prefix}
    return Case(tables, settings)


_INTENSITY = "Nuclei|Intensity_MeanIntensity_DNA"
_MIXED = f"Image|Count_Nuclei,Image|Metadata_Well,{_INTENSITY},Cells|Intensity_MeanIntensity_Cyto"
JOINED: tuple[Named, ...] = (("Cells", False, ""), ("Cytoplasm", True, ""))
AGGREGATES = {_MEAN: "Yes", _MEDIAN: "Yes", _STD: "Yes"}

PLAIN = {
    "all": Case(),
    "all-tab": delimited("Tab"),
    "all-semicolon": delimited(";"),
    "all-bar": delimited("|"),
    "all-caret": delimited("^"),
    "all-tilde": delimited("~"),
    "all-letter": delimited("x"),
    "all-digit": delimited("1"),
    "listed-caret": delimited("^", IMAGE, *JOINED, ("Experiment", False, "")),
    "metadata-added": Case(settings={_METADATA: "Yes"}),
    "files-added": Case(settings={_FILES: "Yes"}),
    "metadata-and-files-added": Case(settings={_METADATA: "Yes", _FILES: "Yes"}),
    "mean": Case(settings={_MEAN: "Yes"}),
    "median": Case(settings={_MEDIAN: "Yes"}),
    "std": Case(settings={_STD: "Yes"}),
    "aggregates": Case(settings=AGGREGATES),
    "null": Case(settings={_NAN: "Null"}),
    "null-aggregates": Case(settings={_NAN: "Null", **AGGREGATES}),
    "null-joined": Case((IMAGE, *JOINED), {_NAN: "Null"}),
    "prefix": prefixed("MyExpt_"),
    "prefix-with-space": prefixed("plate 1, "),
    "prefix-empty": prefixed(""),
    "prefix-listed": prefixed("X_", IMAGE, ("Nuclei", False, "own.csv")),
    "image-alone": Case((IMAGE,)),
    "object-alone": Case((NUCLEI,)),
    "experiment-alone": Case((("Experiment", False, ""),)),
    "relationships-alone": Case((("Object relationships", False, ""),)),
    "object-without-rows": Case((IMAGE, ("Specks", False, ""))),
    "joined": Case(JOINED),
    "joined-with-one-without-rows": Case((("Nuclei", False, ""), ("Specks", True, ""))),
    "joined-first-without-rows": Case((("Specks", False, ""), ("Nuclei", True, ""))),
    "joined-three": Case((NUCLEI, ("Cells", True, ""), ("Cytoplasm", True, ""), IMAGE)),
    "joined-metadata-files": Case(JOINED, {_METADATA: "Yes", _FILES: "Yes"}),
    "joined-tab": delimited("Tab", *JOINED),
    "shares-with-image": Case((IMAGE, ("Nuclei", True, ""), ("Image", True, "again.csv"))),
    "own-names": Case((("Image", False, "a table.csv"), ("Nuclei", False, "b'c.csv"))),
    "own-suffixes": Case((("Image", False, "images.dat"), ("Nuclei", False, "nuclei"))),
    "own-suffix-tab": delimited("Tab", ("Image", False, "i.xls"), ("Nuclei", False, "n.TSV")),
    "own-name-below": Case((("Image", False, "below/Image.csv"), NUCLEI)),
    "same-object-twice": Case((NUCLEI, ("Nuclei", False, "again.csv"))),
    "same-stem": Case((("Image", False, "t.csv"), ("Nuclei", False, "t.txt"))),
    "same-file-twice": Case((("Image", False, "t.csv"), ("Nuclei", False, "t.csv"))),
    "same-file-image-last": Case((("Nuclei", False, "t.csv"), ("Image", False, "t.csv"))),
    "same-file-of-others": Case((("Nuclei", False, "t.csv"), ("Cells", False, "t.csv"), IMAGE)),
    "beside-another": Case(settings={_DELIMITER: "Tab"}, home="all"),
    "over-another": Case(settings={_NAN: "Null", _METADATA: "Yes"}, home="std"),
    "over-a-saved-image": Case(
        (("Image", False, "r01c02f01p01-ch1sk1fk1fl1_overlay.png"),), home="overlays/P1"
    ),
    "dots-in-folder": Case((IMAGE, ("Nuclei", False, "./n//n.csv")), folder="./a//b/."),
}
CHOSEN = {
    "chosen-image-only": chosen("Image|Count_Nuclei,Image|FileName_DNA"),
    "chosen-objects-only": chosen(_INTENSITY),
    "chosen-mixed": chosen(_MIXED),
    "chosen-mixed-listed": chosen(_MIXED, IMAGE, NUCLEI),
    "chosen-listed-objects-only": chosen(_INTENSITY, NUCLEI),
    "chosen-objects-only-tab": chosen(_INTENSITY, **{_DELIMITER: "Tab"}),
    "chosen-objects-only-caret": chosen(_INTENSITY, **{_DELIMITER: "^"}),
    "chosen-none": chosen(""),
    "chosen-none-none": chosen("None|None"),
    "chosen-stale": chosen("Image|Count_Gone,Gone|AreaShape_Area,Image|Count_Nuclei"),
    "chosen-odd": chosen(
        "Image|ImageNumber,Nuclei|ObjectNumber,Nuclei,|,Nuclei|Number_Object_Number"
    ),
    "chosen-aggregates": chosen(_MIXED, **AGGREGATES),
    "chosen-objects-mean": chosen(_INTENSITY, **{_MEAN: "Yes"}),
    "chosen-joined": chosen(_MIXED, IMAGE, *JOINED),
    "chosen-metadata-files": chosen(_INTENSITY, **{_METADATA: "Yes", _FILES: "Yes"}),
    "chosen-groups": chosen("Image|Group_Number,Image|Group_Index,Image|Group_Length"),
    "chosen-saved-file": chosen("Image|PathName_Overlay,Image|URL_DNA"),
    "folder-by-plate": Case(folder=r"\g<Plate>"),
    "folder-by-plate-well": Case(folder=r"\g<Plate>/\g<Well>", settings={_MEAN: "Yes"}),
    "folder-old-tag": Case(folder=r"(?<Plate>)x"),
    "folder-by-plate-aggregates": Case(folder=r"\g<Plate>", settings=AGGREGATES),
    "folder-by-plate-caret": Case(folder=r"\g<Plate>", settings={_DELIMITER: "^"}),
    "folder-by-well-beside": Case(folder=r"\g<Well>", home="folder-by-plate"),
    "folder-listed": Case((IMAGE, NUCLEI, ("Experiment", False, "")), folder=r"\g<Plate>"),
    "folder-listed-joined": Case(
        (*JOINED, ("Object relationships", False, "")), folder=r"\g<Well>"
    ),
    "name-by-plate": Case((("Image", False, r"\g<Plate>_Image.csv"),)),
    "name-by-well": Case((("Image", False, r"\g<Well>.csv"), ("Nuclei", False, r"N\g<Well>.csv"))),
    "name-by-well-two-objects": Case(
        (IMAGE, ("Nuclei", False, r"\g<Well>.csv"), ("Cells", False, r"C\g<Well>.csv"))
    ),
    "name-and-folder-by-tags": Case(
        (("Image", False, r"\g<Well>.csv"), ("Experiment", False, r"E.csv")), folder=r"\g<Plate>"
    ),
    "overwrite-no": Case(settings={_OVERWRITE: "No"}),
    "overwrite-no-listed": Case((IMAGE, NUCLEI), {_OVERWRITE: "No"}),
}
"""Two pipelines: where the first image set has no objects, and where it has some."""
PIPELINES = {"plain": PLAIN, "chosen": CHOSEN}

_COSTLY = ("MeasureTexture", "MeasureObjectSizeShape", "MeasureImageIntensity")


def arranged(base: Path, name: str, cases: dict[str, Case]) -> Lab:
    """Lay out a workspace over two plates, in each of which a field without objects comes first."""
    lab = draw(base, "--wells", "3", "--sites", "2")
    text = Text(lab.pipeline.read_text()).disable(*_COSTLY)
    start = text.text.index("IdentifyPrimaryObjects:[")
    end = text.text.index("\nIdentifySecondaryObjects:[")
    own = text.text[start:end].partition("\n")[2]
    specks = Added("IdentifyPrimaryObjects", 15, "\n".join(x.strip() for x in own.splitlines()))
    text.add(
        specks.set(
            Name_the_primary_objects_to_be_identified="Specks",
            Lower_and_upper_bounds_on_threshold="0.99,1.0",
        ),
        *(case.module(case_name) for case_name, case in cases.items()),
    )
    lab.pipeline.write_text(text.text)
    with lab.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    empty = rows[-1]
    rows = [empty, *rows[:3], empty, *rows[3:5], rows[1]]
    listed = [dict(row, Metadata_Plate=f"P{i // 4 + 1}") for i, row in enumerate(rows)]
    for i, row in enumerate(listed):
        row["Metadata_Site"] = str(i)
    if name == "plain":
        listed = listed[1:]
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, listed[0])
        writer.writeheader()
        writer.writerows(listed)
    return lab


@pytest.fixture(scope="module")
def differences(
    tmp_path_factory: pytest.TempPathFactory, plain: Callable[[Lab], Plain]
) -> dict[str, dict[str, list[Difference]]]:
    """Run each pipeline in three chunks, and compare it with one process, folder by folder."""
    found: dict[str, dict[str, list[Difference]]] = {}
    for name, cases in PIPELINES.items():
        lab = arranged(tmp_path_factory.mktemp(name) / "lab", name, cases)
        one = plain(lab)
        lab.run("--chunk-size", "3", "--format", "parquet", "--format", "sqlite")
        result = one.result()
        by_case: dict[str, list[Difference]] = {path.name: [] for path in result.iterdir()}
        for difference in compare(result, lab.analysis):
            if not difference.path.endswith((".parquet", ".sqlite")):
                by_case.setdefault(difference.path.partition("/")[0], []).append(difference)
        found[name] = by_case
    return found


@pytest.mark.parametrize(
    ("pipeline", "name"), [(p, name) for p, cases in PIPELINES.items() for name in cases]
)
def test_equals_one_process(
    differences: dict[str, dict[str, list[Difference]]], pipeline: str, name: str
) -> None:
    home = PIPELINES[pipeline][name].home.partition("/")[0]
    assert differences[pipeline][home or name] == []


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_nothing_else_differs(
    differences: dict[str, dict[str, list[Difference]]], pipeline: str
) -> None:
    assert [found for case in differences[pipeline].values() for found in case] == []


# --- columns that the list brings -----------------------------------------------------------------

_NUMBERS = {
    "Group_Number": "7,7,7,8,8,8",
    "Group_Index": "1,2,3,1,2,3",
    "Group_Length": "9,9,9,9,9,9",
}
_MEASURES = {
    "ImageNumber": "11,13,12,16,15,14",
    "Count_Nuclei": "5,5,5,5,5,5",
    "Height_DNA": "1,2,n/a,4,5,6",
    "Width_DNA": "1.5,1,1,1,1,1",
    "Scaling_DNA": "255,255,255,255,255,255",
    "MD5Digest_DNA": "0,0,0,0,0,0",
    "Intensity_MeanIntensity_DNA": "0,0,0,0,0,0",
    "Count_Old": "3,4,nan,5,6,7",
    "Frame_DNA": "0,0,0,0,0,0",
    "Threshold_FinalThreshold_Nuclei": "1,1,1,1,1,1",
}


@pytest.mark.parametrize(
    ("columns", "grouped", "options"),
    [
        pytest.param({**_NUMBERS, **_MEASURES}, True, (), id="all-grouped"),
        pytest.param({"Group_Number": "7,7,7,8,8,8"}, True, (), id="number-grouped"),
        pytest.param(_NUMBERS, False, ("-k",), id="groups-asked-for"),
    ],
)
def test_columns_of_the_list(
    tmp_path: Path,
    plain: Callable[[Lab], Plain],
    columns: dict[str, str],
    grouped: bool,
    options: tuple[str, ...],
) -> None:
    """Plates lie across each other, unsorted; an illumination function needs each of them whole."""
    lab = draw(tmp_path / "lab", "--wells", "3", "--sites", "2")
    text = Text(lab.pipeline.read_text()).disable(*_COSTLY, "IdentifySecondaryObjects")
    text.disable("IdentifyTertiaryObjects", "MeasureObjectIntensity", "OverlayOutlines")
    text.disable("RescaleIntensity", "GrayToColor", "SaveImages")
    if grouped:
        text.set("LoadData", "Group images by metadata?", "Yes")
        text.set("LoadData", "Select metadata tags for grouping", "Plate")
        text.add(CORRECT)
    lab.pipeline.write_text(text.text)
    with lab.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for i, (row, plate) in enumerate(zip(rows, ("P2", "P1", "P2", "P3", "P1", "P1"), strict=True)):
        row |= {"Metadata_Plate": plate}
        row |= {name: cells.split(",")[i] for name, cells in columns.items()}
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    one = plain(lab)
    lab.run("--chunk-size", "2", *options)
    assert len(lab.verdicts()) == 3
    lab.compare(one.result())
