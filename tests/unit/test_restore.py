from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.request import pathname2url

import pytest
from conftest import HOSTILE, refused, write_csv

from bpcp import restore, tables
from bpcp.errors import BpcpError, Exit
from bpcp.restore import Restorer, Run, Source
from bpcp.tables import Kind, Shape

Row = list[object]
HOME = f"/data/{HOSTILE}/analysis"
OBJECT: Row = ["ImageNumber", "ObjectNumber"]


def source(
    folder: Path,
    files: Mapping[str, list[Row]],
    numbers: tuple[int, ...],
    first: int = 1,
    output: str = "/tmp/bpcp-1/ü out",  # noqa: S108
) -> Source:
    summaries = {}
    for name, rows in files.items():
        path = write_csv(folder / name, rows)
        shape = tables.recognise(path)
        assert shape is not None
        summaries[name] = tables.summarise(path, shape)
    return Source(folder, output, first, numbers, summaries)


def rows(
    found: Source,
    name: str,
    *others: Source,
    typed: frozenset[str] = frozenset(),
    nulls: tuple[str, ...] = (),
) -> list[list[str]]:
    table = restore.unite(name, [found, *others])
    restorer = Restorer(HOME, (1, 3, 7, 20), typed, nulls=nulls)
    out = []
    for number, row in restore.restored(table, found, restorer):
        cells = row.rstrip("\r\n").split(",") if isinstance(row, str) else row
        assert cells[table.shape.number_columns[0]] == str(number)
        out.append(cells)
    return out


@pytest.mark.parametrize(
    ("number", "values"), [(1, "1 1 2"), (2, "1 2 2"), (3, "2 1 4"), (6, "2 4 4"), (19, "3 13 13")]
)
def test_group_measurements(number: int, values: str) -> None:
    restorer = Restorer(HOME, (1, 3, 7, 20), frozenset())
    assert " ".join(restorer.group(n, number) for n in ("Number", "Index", "Length")) == values


def test_group_measurements_of_a_list() -> None:
    listed = ((7, 3), (1, 1), (8, None))
    restorer = Restorer(HOME, (1, 3, 4), frozenset(), listed_groups=listed)
    found = [[restorer.group(n, i) for n in ("Number", "Index", "Length")] for i in (1, 2, 3)]
    assert found == [["7", "3", "2"], ["1", "1", "2"], ["8", "", "1"]]


def test_image_numbers_and_groups(tmp_path: Path) -> None:
    header: Row = ["Group_Index", "Group_Length", "Group_Number", "ImageNumber"]
    found = source(tmp_path, {"Image.csv": [header, [1, 2, 1, 1], [2, 2, 1, 2]]}, (2, 5))
    assert rows(found, "Image.csv") == [["2", "2", "1", "2"], ["3", "4", "2", "5"]]


def test_numbers_start_where_a_part_starts(tmp_path: Path) -> None:
    found = source(tmp_path, {"Nuclei.csv": [OBJECT, [4, 1], [5, 1]]}, (40, 70), first=4)
    assert rows(found, "Nuclei.csv") == [["40", "1"], ["70", "1"]]


def test_parents_in_earlier_image_sets_stay_as_they_are(tmp_path: Path) -> None:
    """What tracks reads the whole list, so these are its ImageNumbers already."""
    header: Row = [*OBJECT, "TrackObjects_ParentImageNumber_50", "TrackObjects_Label"]
    body: list[Row] = [[11, 1, 0, 1], [11, 2, "nan", 2], [12, 1, 11, 1], [12, 2, "3.0", 1]]
    found = source(tmp_path, {"Nuclei.csv": [header, *body]}, (11, 12), first=11)
    assert [r[2] for r in rows(found, "Nuclei.csv")] == ["0", "nan", "11", "3.0"]


@pytest.mark.parametrize("own", [0, 3, 6, -1])
def test_a_number_of_another_part_is_refused(tmp_path: Path, own: int) -> None:
    found = source(tmp_path, {}, (40, 70), first=4)
    assert found.number(5) == 70
    refused(Exit.BUG, f"a row of image set {own}, which is not its own", found.number, own)


def test_a_mean_over_parents_is_no_image_number(tmp_path: Path) -> None:
    header: Row = ["ImageNumber", "Mean_Nuclei_TrackObjects_ParentImageNumber_50"]
    found = source(tmp_path, {"Image.csv": [header, [1, 7.5]]}, (3,))
    assert rows(found, "Image.csv") == [["3", "7.5"]]


def test_folders_of_saved_images_move_home(tmp_path: Path) -> None:
    output = "/tmp/bpcp-1/ü out"  # noqa: S108
    url = pathname2url(output)
    header: Row = ["ImageNumber", "PathName_DNA", "PathName_Overlay", "URL_DNA", "URL_Overlay"]
    body: Row = [1, "/images", f"{output}/a b", "file:/images/a", f"file:{url}/a%20b/c.png"]
    found = source(tmp_path, {"Image.csv": [header, body]}, (1,), output=output)
    (row,) = rows(found, "Image.csv")
    assert row[1:3] == ["/images", f"{HOME}/a b"]
    assert row[3:] == ["file:/images/a", f"file:{pathname2url(HOME)}/a%20b/c.png"]


def test_integers_are_respelled_where_another_part_has_floats(tmp_path: Path) -> None:
    header: Row = ["ImageNumber", "Metadata_Dose", "Quality"]
    whole = source(
        tmp_path / "1", {"Image.csv": [header, [1, 0, 0], [2, 1, "nan"], [3, 2, ""]]}, (1, 2, 3)
    )
    broken = source(tmp_path / "2", {"Image.csv": [header, [1, 0.5, 0.5]]}, (4,))
    found = rows(whole, "Image.csv", broken, typed=frozenset({"Metadata_Dose"}))
    assert [r[2] for r in found] == ["0.0", "nan", ""]
    # the image list's own columns are typed by the whole list already
    assert [r[1] for r in found] == ["0", "1", "2"]
    assert [r[2] for r in rows(whole, "Image.csv")] == ["0", "nan", ""]


def test_large_integers_keep_their_digits_as_floats(tmp_path: Path) -> None:
    header: Row = [*OBJECT, "Sum"]
    whole = source(tmp_path / "1", {"N.csv": [header, [1, 1, 123456789012]]}, (1,))
    broken = source(tmp_path / "2", {"N.csv": [header, [1, 1, 0.5]]}, (2,))
    assert rows(whole, "N.csv", broken)[0][2] == "123456789012.0"


def test_columns_are_united(tmp_path: Path) -> None:
    one = source(tmp_path / "1", {"Image.csv": [["B", "ImageNumber", "Z"], [1, 1, 2]]}, (1,))
    two = source(tmp_path / "2", {"Image.csv": [["A", "ImageNumber", "Z"], [3, 1, 4]]}, (2,))
    table = restore.unite("Image.csv", [one, two])
    assert table.shape.header == ("A", "B", "ImageNumber", "Z")
    assert rows(one, "Image.csv", two) == [["", "1", "1", "2"]]
    assert rows(two, "Image.csv", one) == [["3", "", "2", "4"]]


def test_columns_of_objects_keep_their_order_and_lack_nan(tmp_path: Path) -> None:
    one = source(tmp_path / "1", {"N.csv": [[*OBJECT, "Z"], [1, 1, 5]]}, (1,))
    two = source(tmp_path / "2", {"N.csv": [[*OBJECT, "Z", "A"], [1, 1, 5, 6]]}, (2,))
    assert restore.unite("N.csv", [one, two]).shape.header == (
        "ImageNumber",
        "ObjectNumber",
        "Z",
        "A",
    )
    assert rows(one, "N.csv", two) == [["1", "1", "5", "nan"]]


def test_means_over_objects_that_a_chunk_does_not_have_are_nan(tmp_path: Path) -> None:
    """CellProfiler computes these as it writes the table, also where nothing was measured."""
    wide: Row = ["Count_N", "ImageNumber", "Mean_N_A", "Median_N_A", "StDev_N_A"]
    one = source(tmp_path / "1", {"Image.csv": [["ImageNumber"], [1]]}, (1,))
    two = source(tmp_path / "2", {"Image.csv": [wide, [1, 1, 5, 5, 0]]}, (2,))
    assert rows(one, "Image.csv", two) == [["", "1", "nan", "nan", "nan"]]
    null = rows(one, "Image.csv", two, nulls=(r"Image\.csv",))
    assert null == [["", "1", "", "", ""]]
    assert rows(one, "Image.csv", two, nulls=(r"Other\.csv",)) != null


def test_nothing_stands_in_a_table_of_objects_where_nan_is_not_wanted(tmp_path: Path) -> None:
    one = source(tmp_path / "1", {"N.csv": [[*OBJECT, "Z"], [1, 1, 5]]}, (1,))
    two = source(tmp_path / "2", {"N.csv": [[*OBJECT, "Z", "A"], [1, 1, 5, 6]]}, (2,))
    assert rows(one, "N.csv", two, nulls=(r"N\.csv",)) == [["1", "1", "5", ""]]


@pytest.mark.parametrize("narrow_first", [True, False])
def test_a_table_of_one_column_has_the_delimiter_of_the_others(
    tmp_path: Path, narrow_first: bool
) -> None:
    narrow = source(tmp_path / "1", {"Image.txt": [["ImageNumber"], [1]]}, (1,))
    path = write_csv(tmp_path / "2" / "Image.txt", [["Count_N", "ImageNumber"], [3, 1]], "\t")
    shape = tables.recognise(path)
    assert shape is not None
    wide = Source(path.parent, "/o", 1, (2,), {"Image.txt": tables.summarise(path, shape)})
    both = [narrow, wide] if narrow_first else [wide, narrow]
    table = restore.unite("Image.txt", both)
    assert (table.shape.delimiter, table.shape.header) == ("\t", ("Count_N", "ImageNumber"))
    restorer = Restorer(HOME, (1, 20), frozenset())
    assert [row for s in both for _, row in restore.restored(table, s, restorer)] == (
        [["", "1"], ["3", "2"]] if narrow_first else [["3", "2"], ["", "1"]]
    )


def test_tables_of_different_kinds_are_a_bug(tmp_path: Path) -> None:
    one = source(tmp_path / "1", {"N.csv": [OBJECT, [1, 1]]}, (1,))
    two = source(tmp_path / "2", {"N.csv": [["Key", "Value"], ["a", "b"]]}, (2,))
    with pytest.raises(BpcpError, match="different kinds") as caught:
        restore.unite("N.csv", [one, two])
    assert caught.value.code == Exit.BUG


def test_lines_of_numbers_change_only_in_their_first_cell(tmp_path: Path) -> None:
    body: list[Row] = [[1, 1, "1e-05"], [2, 1, "0.10000000000000001"]]
    found = source(tmp_path, {"N.csv": [[*OBJECT, "A"], *body]}, (8, 9))
    table = restore.unite("N.csv", [found])
    streamed = list(restore.restored(table, found, Restorer(HOME, (1, 20), frozenset())))
    assert streamed == [(8, "8,1,1e-05\r\n"), (9, "9,1,0.10000000000000001\r\n")]


def test_text_with_line_breaks_survives(tmp_path: Path) -> None:
    body: Row = [1, 1, 'a\r\n"b",c']
    found = source(tmp_path, {"N.csv": [[*OBJECT, "Metadata_Note"], body]}, (3,))
    assert rows(found, "N.csv") == [["3", "1", 'a\r\n"b",c']]


def test_pieces_are_cut_at_gaps_and_sorted(tmp_path: Path) -> None:
    one = Source(tmp_path, "", 1, (1, 2, 7), {})
    two = Source(tmp_path, "", 1, (3, 6), {})
    assert restore.runs([one, two]) == [
        Run(1, 0, 2), Run(3, 1, 1), Run(6, 1, 1), Run(7, 0, 1),
    ]  # fmt: skip


def test_two_lines_of_header_are_united_by_object(tmp_path: Path) -> None:
    shape = Shape(
        Kind.OBJECT, ",", 2, ("Image\tImageNumber", "Image\tObjectNumber", "N\tA", "C\tA")
    )
    assert restore.united_header([shape, shape]) == shape.header
