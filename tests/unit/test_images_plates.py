"""Wells, however instruments write them."""

from __future__ import annotations

import pytest

from bpcp.images.plates import SHAPES, numbered, row_and_column, well_of


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("A01", ("A", "1")),
        ("a1", ("A", "1")),
        ("A1", ("A", "1")),
        ("A-1", ("A", "1")),
        ("A - 1", ("A", "1")),
        ("A_001", ("A", "1")),
        ("P24", ("P", "24")),
        ("AA48", ("AA", "48")),
        ("af48", ("AF", "48")),
        ("AG1", None),
        ("A0", None),
        ("W0014", None),
        ("XY01", None),
        ("1", None),
        ("", None),
    ],
)
def test_a_well_is_a_row_and_a_column(written: str, place: tuple[str, str] | None) -> None:
    assert row_and_column(written) == place


@pytest.mark.parametrize(
    ("row", "column", "first", "well"),
    [
        ("1", "1", 1, "A01"),
        ("016", "024", 1, "P24"),
        ("27", "1", 1, "AA01"),
        ("C", "4", 1, "C04"),
        ("00", "00", 0, "A01"),
        ("1", "02", 0, "B03"),
        ("31", "47", 0, "AF48"),
        ("32", "0", 0, ""),
        ("0", "1", 1, ""),
        ("A", "0", 1, ""),
    ],
)
def test_rows_and_columns_count_from_one_or_from_zero(
    row: str, column: str, first: int, well: str
) -> None:
    assert well_of(row, column, first) == well


@pytest.mark.parametrize("wells", SHAPES)
def test_numbers_reach_each_well_of_a_plate_once(wells: int) -> None:
    rows, columns = SHAPES[wells]
    by_row = [numbered(number, wells, "by row") for number in range(1, wells + 1)]
    by_column = [numbered(number, wells, "by column") for number in range(1, wells + 1)]
    assert rows * columns == wells
    assert sorted(by_row) == sorted(by_column) == sorted(set(by_row))
    assert by_row[:2] == ["A01", "A02"] and by_column[:2] == ["A01", "B01"]
    assert by_row[-1] == by_column[-1] == well_of(str(rows), str(columns))
    assert numbered(wells + 1, wells, "by row") == numbered(0, wells, "by row") == ""


def test_a_number_stays_where_the_plate_is_not_known() -> None:
    assert [numbered(number, 0, "by row") for number in (1, 14, 1536)] == [
        "W0001",
        "W0014",
        "W1536",
    ]
