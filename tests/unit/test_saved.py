from __future__ import annotations

from pathlib import Path

import pytest
from conftest import EXPORT
from test_check_pipeline import module, piped

from bpcp import imagelist, saved
from bpcp.beside import Places
from bpcp.imagelist import Row, Type
from bpcp.saved import Moment, Named, Saver

HEADER = ("FileName_DNA", "PathName_DNA", "Metadata_Plate", "Metadata_Well", "Metadata_Site")
ROW: Row = ("a.b.tif", "/data/in/p1", "007", "A01", "01")
OUT, BELOW = "Default Output Folder|", "Default Output Folder sub-folder|"
BY_FILE = {
    "Select method for constructing file names": "From image filename",
    "Select image name for file prefix": "DNA",
    "Saved file format": "png",
    "Output file location": OUT,
}
NO = "Overwrite existing files without warning?:No"
SUFFIX = "Append a suffix to the image file name?:Yes"
SINGLE = "Select method for constructing file names:Single name"


def saves(*settings: str, name: str = "SaveImages") -> str:
    """Give a SaveImages that names by file, unless some settings say otherwise."""
    own = dict(setting.split(":", 1) for setting in settings)
    return module(name, *(f"{label}:{value}" for label, value in {**BY_FILE, **own}.items()))


def named(header: Row = HEADER, rows: tuple[Row, ...] = (ROW,), image_sets: int = 1) -> Named:
    types = imagelist.column_types(header, rows)
    where = Places(Path("/data"), Path("/data/in"))
    return Named(header, dict(zip(header, types, strict=True)), image_sets, where)


def savers(*modules: str, about: Named | None = None) -> list[Saver]:
    return list(saved.savers(piped(*modules, EXPORT), about or named()))


def name_of(*settings: str, number: int = 1) -> str:
    (saver,) = savers(saves(*settings))
    return saver.name(ROW, number)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], "a.b.png"),
        (["Saved file format:tif"], "a.b.tiff"),
        ([SUFFIX, r"Text to append to the image name:_\g<Site>"], "a.b_1.png"),
        # a suffix that is switched off
        ([r"Text to append to the image name:_\g<Gone>"], "a.b.png"),
        ([SINGLE, r"Enter single file name:x\g<Plate>_(?<Well>)"], "x7_A01.png"),
        # two backslashes are one, and make no tag
        ([SINGLE, r"Enter single file name:x\\g<Plate>"], r"x\g<Plate>.png"),
        (["Select method for constructing file names:Sequential numbers", "Enter file prefix:n",
          "Number of digits:2"], "n07.png"),
        ([rf"Output file location:{BELOW}m/\g<Plate>/./x"], "m/7/x/a.b.png"),
        (["Create subfolders in the output folder?:Yes", "Base image folder:Elsewhere...|/data"],
         "in/p1/a.b.png"),
        (["Create subfolders in the output folder?:Yes", "Base image folder:Default Input Folder|"],
         "p1/a.b.png"),
        (["Select the type of image to save:Movie/Stack", "Saved file format:png"], "a.b.tiff"),
    ],
)  # fmt: skip
def test_names_are_those_that_cellprofiler_makes(settings: list[str], expected: str) -> None:
    assert name_of(*settings, number=7) == expected


def test_numbers_are_as_long_as_the_list_needs() -> None:
    settings = saves(
        "Select method for constructing file names:Sequential numbers", "Number of digits:2"
    )
    (saver,) = savers(settings, about=named(image_sets=1000))
    assert saver.name(ROW, 7) == "0007.png"


def test_a_url_names_the_file_where_nothing_else_does() -> None:
    (saver,) = savers(saves(), about=named(("URL_DNA",), (("s3://b/p/x%20y.tif",),)))
    # as it is spelled there
    assert saver.name(("s3://b/p/x%20y.tif",), 1) == "x%20y.png"


def test_a_well_of_its_row_and_column() -> None:
    header, row = ("FileName_DNA", "Metadata_Row", "Metadata_Column"), ("a.tif", "B", "03")
    (saver,) = savers(
        saves(SINGLE, r"Enter single file name:\g<Well>"), about=named(header, (row,))
    )
    assert saver.name(row, 1) == "B03.png"


def test_crops_of_objects() -> None:
    crops = ("Directory:Default Output Folder|", "Objects:Nuclei", "Saved file format:png")
    (saver,) = savers(module("SaveCroppedObjects", *crops))
    assert saver.name(ROW, 1) == "Nuclei_*.png" and saver.overwrites
    prefix = "Prefix saved crop image name with input image name?:Yes"
    nested = "Save output crops in nested folders?:Yes"
    image = "Select image name to use as a prefix:DNA"
    (saver,) = savers(
        module(
            "SaveCroppedObjects", *crops[:2], "Saved file format:8-bit tiff", prefix, nested, image
        )
    )
    assert saver.name(ROW, 1) == "a.b/a.b_Nuclei_*.tiff"
    assert saved.unnumbered("a.b/a.b_Nuclei_12.tiff") == "a.b/a.b_Nuclei_*.tiff"
    assert saved.unnumbered("a_1/o_x.tiff") == "a_1/o_x.tiff"


def test_when_and_whether_it_saves() -> None:
    (saver,) = savers(saves("When to save:Last cycle"))
    assert (saver.moment, saver.overwrites) == (Moment.LAST, True)
    (saver,) = savers(
        saves("When to save:First cycle", "Overwrite existing files without warning?:No")
    )
    assert (saver.moment, saver.overwrites) == (Moment.FIRST, False)


@pytest.mark.parametrize(
    "settings",
    [
        ["Select image name for file prefix:Overlay"],
        [SINGLE, r"Enter single file name:\g<Gone>"],
        [SINGLE, r"Enter single file name:\g<Frame>"],
        ["Output file location:Same folder as image|"],
        ["Create subfolders in the output folder?:Yes", "Base image folder:Default Output Folder|"],
    ],
)
def test_a_name_that_can_not_be_told_is_left_alone(settings: list[str]) -> None:
    assert savers(saves(*settings)) == []


def test_what_an_earlier_module_measures_is_not_in_the_list() -> None:
    recorded = saves(
        "Select the image to save:DNA",
        "Record the file and path information to the saved image?:Yes",
    )
    assert len(savers(recorded, saves())) == 1
    flag = module("FlagImage", "Name the flag's category:Metadata", "Name the flag:Site")
    by_site = saves(SINGLE, r"Enter single file name:\g<Site>")
    assert savers(flag, by_site) == []
    assert savers(module("LabelImages"), by_site) == []
    assert len(savers(by_site, flag)) == 1


def test_the_last_image_set_that_writes_a_file() -> None:
    (saver,) = savers(saves())
    rows = [(n, (f"{name}.tif", *ROW[1:])) for n, name in ((3, "x"), (5, "y"), (9, "x"))]
    assert saved.writers([saver], rows) == {"x.png": 9, "y.png": 5}


def test_types_are_those_of_the_whole_list() -> None:
    about = named()
    text = Named(about.header, {**about.types, "Metadata_Site": Type.TEXT}, 1, about.where)
    (saver,) = savers(saves(SINGLE, r"Enter single file name:\g<Site>"), about=text)
    assert saver.name(ROW, 1) == "01.png"
