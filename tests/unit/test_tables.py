from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from conftest import write_csv

from bpcp import tables
from bpcp.tables import BrokenTableError, Kind, Spelling, Summary

BLANK, INTEGER, FLOAT, TEXT = Spelling.BLANK, Spelling.INTEGER, Spelling.FLOAT, Spelling.TEXT
OBJECT = ["ImageNumber", "ObjectNumber", "Area"]
RELATIONSHIP = [
    "Module", "Module Number", "Relationship",
    "First Object Name", "First Image Number", "First Object Number",
    "Second Object Name", "Second Image Number", "Second Object Number",
]  # fmt: skip


def summary(path: Path) -> Summary:
    shape = tables.recognise(path)
    assert shape is not None
    return tables.summarise(path, shape)


@pytest.mark.parametrize(
    ("delimiter", "suffix"),
    [(",", "csv"), ("\t", "txt"), ("|", "txt"), ("^", "xls"), ("x", "txt"), ("1", "")],
)
@pytest.mark.parametrize(
    ("header", "kind", "numbers"),
    [
        (["Count_Nuclei", "ImageNumber", "URL_DNA"], Kind.IMAGE, (1,)),
        (OBJECT, Kind.OBJECT, (0,)),
        ([*OBJECT, "TrackObjects_ParentImageNumber_50"], Kind.OBJECT, (0,)),
        (RELATIONSHIP, Kind.RELATIONSHIP, (4, 7)),
        (["Key", "Value"], Kind.EXPERIMENT, ()),
    ],
)
def test_recognises(
    tmp_path: Path, delimiter: str, suffix: str, header: list[str], kind: Kind, numbers: tuple[int]
) -> None:
    path = write_csv(tmp_path / f"t.{suffix}", [header], delimiter)
    shape = tables.recognise(path)
    assert shape is not None
    assert (shape.kind, shape.delimiter, shape.heads) == (kind, delimiter, 1)
    assert shape.header == tuple(header)
    assert shape.number_columns == numbers


def test_recognises_an_image_table_of_numbers_alone(tmp_path: Path) -> None:
    shape = tables.recognise(write_csv(tmp_path / "Image.txt", [["ImageNumber"], [1]], "\t"))
    assert shape is not None
    assert (shape.kind, shape.header, shape.number_columns) == (Kind.IMAGE, ("ImageNumber",), (0,))


def test_an_image_table_may_hold_nothing_but_numbers(tmp_path: Path) -> None:
    found = summary(write_csv(tmp_path / "Image.txt", [["ImageNumber"], [1], [2]], "^"))
    assert (found.shape.kind, found.rows) == (Kind.IMAGE, 2)


def test_numbers_that_the_delimiter_cuts_are_no_number_table(tmp_path: Path) -> None:
    rows = [OBJECT, [1, 11, 0.5]]
    assert tables.is_number_table(summary(write_csv(tmp_path / "a.txt", rows, "^")))
    found = summary(write_csv(tmp_path / "b.txt", rows, "1"))
    assert found.shape.delimiter == "1" and not tables.is_number_table(found)
    assert list(tables.rows(tmp_path / "b.txt", found.shape)) == [["1", "11", "0.5"]]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("t1/Image.csv", r"t1/Image\.csv"),
        ("P1/Image.csv", r".*/Image\.csv"),
        ("P1/x_Image.csv", r".*/.*_Image\.csv"),
        ("Nuclei.csv", None),
    ],
)
def test_the_nearest_of_several_patterns(name: str, pattern: str | None) -> None:
    patterns = [r".*/Image\.csv", r"t1/Image\.csv", r".*Image\.csv", r".*/.*_Image\.csv"]
    assert tables.nearest(name, patterns) == pattern


def test_recognises_two_lines_of_header(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "all.csv",
        [
            ["Image", "Image", "Nuclei", "Nuclei", "Cells"],
            ["ImageNumber", "ObjectNumber", "A", "TrackObjects_ParentImageNumber", "A"],
            [1, 1, 2, 3, 4],
        ],
    )
    found = summary(path)
    assert (found.shape.kind, found.shape.heads) == (Kind.OBJECT, 2)
    assert found.shape.header[0] == "Image\tImageNumber"
    assert found.shape.number_columns == (0,)
    assert found.rows == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("overlay.png", "\x89PNG\0ImageNumber,ObjectNumber\n"),
        ("notes.txt", "nothing but words in a line\n"),
        ("one.csv", "Number\n1\n"),
        ("words.txt", "the ImageNumber in a line\n"),
        ("other.csv", "a,b\n1,2\n"),
        ("ragged.csv", "Image,Image\nImageNumber,ObjectNumber,A\n"),
    ],
)
def test_what_is_no_table(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert tables.recognise(path) is None


def test_an_empty_file_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "Image.csv"
    path.touch()
    assert tables.recognise(path) is None


def test_summary(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "Nuclei.csv",
        [OBJECT, [1, 1, 0.5], [3, 1, "nan"], [3, 2, 2]],
    )
    found = summary(path)
    assert found.rows == 3
    assert found.rows_by_image == {1: 1, 3: 2}
    assert found.spellings == (INTEGER, INTEGER, FLOAT)


def test_summary_of_a_header_only(tmp_path: Path) -> None:
    found = summary(write_csv(tmp_path / "Nuclei.csv", [OBJECT]))
    assert (found.rows, found.rows_by_image) == (0, {})
    assert found.spellings == (BLANK,) * 3


def test_summary_survives_json(tmp_path: Path) -> None:
    found = summary(write_csv(tmp_path / "Nuclei.csv", [OBJECT, [1, 1, "x"]]))
    back = Summary.from_json(json.loads(json.dumps(found.to_json())))
    assert (back.shape, back.rows, back.spellings) == (found.shape, 1, found.spellings)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ImageNumber,ObjectNumber\r\n1,1\r\n1,", "ends in the middle of a line"),
        ("ImageNumber,ObjectNumber\n1,1\n1\n", "row 2: 1 cells, the header has 2"),
        ("ImageNumber,ObjectNumber\n1,1,1\n", "row 1: 3 cells"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "Nuclei.csv"
    path.write_text(text)
    with pytest.raises(BrokenTableError, match=what):
        summary(path)


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one"):
        summary(write_csv(tmp_path / "Nuclei.csv", [OBJECT, ["one", 1, 1]]))


def test_reads_what_was_packed_and_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "Nuclei.csv"
    body = b'ImageNumber,ObjectNumber,Note\r\n1,1,"a\r\nb \xff"\r\n'
    (tmp_path / "Nuclei.csv.gz").write_bytes(gzip.compress(body))
    shape = tables.recognise(path)
    assert shape is not None
    assert list(tables.rows(path, shape)) == [["1", "1", "a\r\nb \udcff"]]


@pytest.mark.parametrize(
    ("cells", "how"),
    [
        (["", ""], BLANK),
        (["1", "-2", ""], INTEGER),
        (["1", "nan"], INTEGER),
        (["nan", "nan"], FLOAT),
        (["1.0", "2"], FLOAT),
        (["1e-05", "inf"], FLOAT),
        (["1", "A01"], TEXT),
        (["1", "2", "0.5"], FLOAT),
        (["nan", "1", "2"], INTEGER),
        (["1", "2", "x", "0.5"], TEXT),
        (["", "", "1"], INTEGER),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 1000])
def test_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[str], how: Spelling, block: int
) -> None:
    monkeypatch.setattr(tables, "_BLOCK_ROWS", block)
    found = summary(write_csv(tmp_path / "N.csv", [OBJECT, *([7, 1, cell] for cell in cells)]))
    assert found.spellings == (INTEGER, INTEGER, how)
    assert (found.rows, found.rows_by_image) == (len(cells), {7: len(cells)})


def test_a_broken_row_is_named_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BLOCK_ROWS", 2)
    path = write_csv(tmp_path / "N.csv", [OBJECT, *([1, k, 1] for k in range(4)), [1, 1]])
    with pytest.raises(BrokenTableError, match="row 5: 2 cells"):
        summary(path)


@pytest.mark.parametrize(
    ("hows", "how"),
    [
        ([], BLANK),
        ([BLANK, INTEGER], INTEGER),
        ([FLOAT, INTEGER, BLANK], FLOAT),
        ([INTEGER, TEXT, FLOAT], TEXT),
    ],
)
def test_unite(hows: list[Spelling], how: Spelling) -> None:
    assert tables.unite(hows) is how


def test_only_a_table_without_text_is_a_number_table(tmp_path: Path) -> None:
    assert tables.is_number_table(summary(write_csv(tmp_path / "a.csv", [OBJECT, [1, 1, 2]])))
    assert not tables.is_number_table(summary(write_csv(tmp_path / "b.csv", [OBJECT, [1, 1, "x"]])))


def test_a_name_that_stands_there_twice_is_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "Nuclei.csv"
    path.write_text("ImageNumber,ObjectNumber,Metadata_Row,Metadata_Row\n1,1,A,A\n")
    shape = tables.recognise(path)
    assert shape is not None
    assert len(set(shape.header)) == 4
    assert [tables.written(name) for name in shape.header[2:]] == ["Metadata_Row"] * 2
    assert [tables.single(name) for name in shape.header[2:]] == ["Metadata_Row", "Metadata_Row_2"]
    assert shape.number_columns == (0,)
