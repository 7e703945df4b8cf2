from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HOSTILE, refused

from bpcp import imagelist
from bpcp.errors import Exit
from bpcp.imagelist import Type

INTEGER, FLOAT, TEXT = Type.INTEGER, Type.FLOAT, Type.TEXT
HEADER = ("FileName_DNA", "Metadata_Plate", "Metadata_Well")


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "load_data.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("4", INTEGER),
        ("04", INTEGER),
        ("-3", INTEGER),
        (" 7 ", INTEGER),
        ("1_000", INTEGER),
        ("1E05", FLOAT),
        ("0.03", FLOAT),
        ("nan", FLOAT),
        ("inf", FLOAT),
        ("", TEXT),
        ("A01", TEXT),
        ("2147483647", INTEGER),
        ("2147483648", TEXT),
        ("-2147483648", INTEGER),
        ("-2147483649", TEXT),
    ],
)
def test_cell_type(cell: str, kind: Type) -> None:
    assert imagelist.cell_type(cell) is kind


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("Metadata_Site", ["01", "2"], INTEGER),
        ("Metadata_Dose", ["0", "0.03"], FLOAT),
        ("Metadata_Plate", ["007", "P1", "1.5"], TEXT),
        ("Metadata_Plate", ["7", ""], TEXT),
        ("FileName_DNA", ["1"], TEXT),
        ("PathName_DNA", ["1"], TEXT),
        ("URL_DNA", ["1"], TEXT),
        ("ObjectsFileName_Nuclei", ["1"], TEXT),
        ("Metadata_WellColumn", ["01"], TEXT),
        ("Metadata_Col", ["1"], TEXT),
        ("Metadata_WellRow", ["1"], INTEGER),
    ],
)
def test_column_type(name: str, cells: list[str], kind: Type) -> None:
    assert imagelist.column_types((name,), [(cell,) for cell in cells]) == (kind,)


def test_shown_as_cellprofiler_writes_it() -> None:
    assert imagelist.shown("007", INTEGER) == "7"
    assert imagelist.shown("1E05", FLOAT) == "100000.0"
    assert imagelist.shown("007", TEXT) == "007"


def test_reads_what_excel_saves(tmp_path: Path) -> None:
    path = written(
        tmp_path, "FileName_DNA,Metadata_Site\r\na.tif,1\r\n\r\nb.tif,2\r\n", "utf-8-sig"
    )
    images = imagelist.read(path)
    assert images.header == ("FileName_DNA", "Metadata_Site")
    assert images.rows == (("a.tif", "1"), ("b.tif", "2"))
    assert images.lines == (2, 4)


def test_lines_count_line_breaks_in_cells(tmp_path: Path) -> None:
    path = written(tmp_path, 'FileName_DNA,Metadata_Note\na.tif,"two\nlines"\nb.tif,x\n')
    images = imagelist.read(path)
    assert images.rows[0] == ("a.tif", "two\nlines")
    assert images.lines[1] == 4


def test_prefixed_columns_are_renamed(tmp_path: Path) -> None:
    path = written(tmp_path, "Image_FileName_DNA,Image_PathName_DNA,Image_Note\na,b,c\n")
    assert imagelist.read(path).header == ("FileName_DNA", "PathName_DNA", "Image_Note")


def test_cells_beyond_the_header_are_dropped(tmp_path: Path) -> None:
    assert imagelist.read(written(tmp_path, "FileName_DNA\na.tif,b,c\n")).rows == (("a.tif",),)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no image sets"),
        ("FileName_DNA\n", "no image sets"),
        ("FileName_DNA,Metadata_Site\na.tif,1\nb.tif\n", "line 3: 1 cells, the header has 2"),
        ("Metadata_Site\n1\n", "no FileName_ or URL_ column"),
        ("FileName_DNA,FileName_DNA\na,b\n", "two columns are named FileName_DNA"),
    ],
)
def test_refuses_a_malformed_list(tmp_path: Path, text: str, what: str) -> None:
    refused(Exit.MALFORMED_INPUT, what, imagelist.read, written(tmp_path, text))


def test_refuses_another_encoding(tmp_path: Path) -> None:
    path = written(tmp_path, "FileName_DNA\nü.tif\n", "latin-1")
    refused(Exit.MALFORMED_INPUT, "not UTF-8", imagelist.read, path)


def test_refuses_a_missing_list(tmp_path: Path) -> None:
    refused(Exit.NO_INPUT, "no image list", imagelist.read, tmp_path / "gone.csv")


def test_hostile_cells_survive_writing_and_reading(tmp_path: Path) -> None:
    cells = (HOSTILE, 'a,"b"\nc', "  ")
    path = tmp_path / "images.csv"
    imagelist.write(path, HEADER, [cells])
    assert imagelist.read(path).rows == (cells,)


def test_numbering_follows_the_sorted_groups() -> None:
    wells = ["A02", "A01", "A02", "A01", "A10"]
    rows = [(f"{i}.tif", "P1", well) for i, well in enumerate(wells)]
    types = imagelist.column_types(HEADER, rows)
    groups = imagelist.group_values(HEADER, types, rows, ["Well"])
    assert imagelist.numbering(groups) == [1, 3, 0, 2, 4]


def test_groups_sort_as_text_of_what_was_typed() -> None:
    rows = [("a", "10", "x"), ("b", "09", "x"), ("c", "1.5", "x")]
    types = imagelist.column_types(HEADER, rows)
    groups = imagelist.group_values(HEADER, types, rows, ["Plate"])
    assert groups == [("10.0",), ("9.0",), ("1.5",)]
    assert imagelist.numbering(groups) == [2, 0, 1]


def test_without_keys_all_rows_are_one_group() -> None:
    assert imagelist.group_values(HEADER, (TEXT,) * 3, [("a", "b", "c")] * 2, []) == [(), ()]


def test_well_is_joined_from_row_and_column() -> None:
    header = ("FileName_DNA", "Metadata_WellRow", "Metadata_WellCol")
    rows = [("a", "B", "03")]
    types = imagelist.column_types(header, rows)
    assert imagelist.group_values(header, types, rows, ["Well"]) == [("B03",)]


def test_refuses_a_key_that_is_not_there() -> None:
    error = refused(
        Exit.MALFORMED_INPUT, "Metadata_Dose",
        imagelist.group_values, HEADER, (TEXT,) * 3, [("a", "b", "c")], ["Dose"],
    )  # fmt: skip
    assert "Plate, Well" in error.todo


def test_witness_widens_what_the_part_alone_would_narrow() -> None:
    whole = [("a", "01", "1"), ("b", "P2", "0.5"), ("c", "3", "2")]
    types = imagelist.column_types(HEADER, whole)
    part = whole[2:]
    witness = imagelist.witness_row(HEADER, types, whole, part)
    assert witness == ("c", "P2", "0.5")
    assert imagelist.column_types(HEADER, [*part, witness]) == types


@pytest.mark.parametrize(
    ("sites", "last"), [("1 2 3", "999999999"), ("1 2.5 3", "999999999.5"), ("1 x 3", "x~")]
)
def test_a_witness_of_a_grouped_list_makes_the_last_group(sites: str, last: str) -> None:
    header = ("FileName_DNA", "Metadata_Site", "Metadata_Note")
    whole = [("a", s, n) for s, n in zip(sites.split(), "12y", strict=True)]
    types = imagelist.column_types(header, whole)
    part = whole[:2]
    witness = imagelist.witness_row(header, types, whole, part, ["Site"])
    assert witness == ("a", last, "y")
    assert imagelist.column_types(header, [*part, witness]) == types
    groups = imagelist.group_values(header, types, [*part, witness], ["Site"])
    assert imagelist.numbering(groups) == [0, 1, 2]


def test_no_witness_where_the_part_is_typed_alike() -> None:
    whole = [("a", "01", "x"), ("b", "2", "y")]
    types = imagelist.column_types(HEADER, whole)
    assert imagelist.witness_row(HEADER, types, whole, whole[:1]) is None


def named(header: str, *cells: str, root: str = "/root") -> list[tuple[str, str]]:
    return imagelist.files(tuple(header.split(",")), cells, Path(root))


def test_files_of_absolute_and_relative_folders() -> None:
    header = "FileName_DNA,PathName_DNA"
    assert named(header, "a b.tif", "/plates/1") == [("DNA", "/plates/1/a b.tif")]
    assert named(header, "a.tif", "plate 1") == [("DNA", "/root/plate 1/a.tif")]


def test_files_without_a_folder_column() -> None:
    assert named("FileName_DNA", "a.tif") == [("DNA", "/root/a.tif")]


def test_files_of_urls() -> None:
    header = "FileName_DNA,PathName_DNA,URL_DNA"
    assert named(header, "a", "/b", "file:///c/d%20%C3%BC.tif") == [("DNA", "/c/d ü.tif")]
    assert named(header, "a", "/b", "file:/c/d.tif") == [("DNA", "/c/d.tif")]
    assert named(header, "a", "/b", "") == [("DNA", "/b/a")]
    assert named("URL_DNA", "https://x/a.tif") == [("DNA", "https://x/a.tif")]
    assert named("FileName_DNA,PathName_DNA", "a.tif", "s3://b/p") == [("DNA", "s3://b/p/a.tif")]


def test_files_of_objects() -> None:
    header = "FileName_DNA,ObjectsFileName_Nuclei,ObjectsPathName_Nuclei"
    assert named(header, "a", "n.png", "/o") == [("DNA", "/root/a"), ("Nuclei", "/o/n.png")]


def test_only_cellprofiler_can_fetch_a_remote_file() -> None:
    assert imagelist.is_remote("s3://bucket/a.tif")
    assert imagelist.is_remote("HTTP://x/a.tif")
    assert not imagelist.is_remote("/data/http:/a.tif")


def test_fingerprint_notices_another_size_and_time(tmp_path: Path) -> None:
    image = tmp_path / "a.tif"
    image.write_bytes(b"1")
    row = ("a.tif", "P", "W")
    before = imagelist.fingerprint(HEADER, [row], tmp_path)
    assert imagelist.fingerprint(HEADER, [row], tmp_path) == before
    image.write_bytes(b"22")
    changed = imagelist.fingerprint(HEADER, [row], tmp_path)
    image.unlink()
    assert len({before, changed, imagelist.fingerprint(HEADER, [row], tmp_path)}) == 3


def test_digest_depends_on_where_texts_are_cut() -> None:
    assert imagelist.digest(["ab", "c"]) != imagelist.digest(["a", "bc"])
    assert imagelist.digest([]) != imagelist.digest([""])


def test_an_empty_url_without_a_file_name_is_the_root() -> None:
    found = imagelist.files(("URL_DNA", "Metadata_Well"), ("", "A01"), Path("/root of all"))
    assert found == [("DNA", "/root of all")]


def test_a_list_with_group_numbers_is_numbered_as_it_stands() -> None:
    groups = [("B",), ("A",)]
    assert imagelist.numbering(groups, ("Group_Number", *HEADER)) == [0, 1]
    assert imagelist.numbering(groups, ("Group_Index", *HEADER)) == [1, 0]


def test_group_columns_are_whole_numbers(tmp_path: Path) -> None:
    assert imagelist.column_types(("Group_Number",), [("1.5",), ("x",)]) == (Type.INTEGER,)
    path = tmp_path / "load_data.csv"
    path.write_text("FileName_DNA,Group_Index\na.tif,1\nb.tif,2.0\n")
    error = refused(Exit.MALFORMED_INPUT, "line 3: Group_Index is '2.0'", imagelist.read, path)
    assert "delete the column" in error.todo
