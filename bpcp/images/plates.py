"""Wells as instruments write them, on plates of 6 to 1536 wells.

| written              | read as                                        | groups                |
|----------------------|------------------------------------------------|-----------------------|
| A01, a1, A - 1, AA48 | row and column                                 | well                  |
| r01c02, 001002, C, 4 | row by letters or number, from 1; column       | row, col              |
| U00--V01             | row and column, from 0                         | row0, col0            |
| W0014                | B02 on 96 wells, A14 on 384, by --plate-wells  | well_number           |
|                      | and W0014 without: no name tells a plate's size|                       |
| X01--Y00             | site x1y0: a field in a grid                   | x, y                  |
| ROI2, a grid's number| before the site: 2_1                           | area                  |
"""

from __future__ import annotations

import re
from functools import lru_cache

# Wells, and the rows and columns that they stand in.
SHAPES = {
    6: (2, 3),
    12: (3, 4),
    24: (4, 6),
    48: (6, 8),
    96: (8, 12),
    384: (16, 24),
    1536: (32, 48),
}
# of the largest: A to AF
_ROWS, COLUMNS = SHAPES[1536]
_WELL = re.compile(r"([A-Za-z]{1,2})[ _-]*([0-9]{1,3})")


# a screen of a million images has a few hundred wells
@lru_cache(maxsize=4096)
def row_and_column(well: str) -> tuple[str, str] | None:
    """Split a well as instruments write it: "A01", "a1" and "A - 1" are row A, column 1.

    Returns
    -------
    (str, str), or None
        The row's letters and the column's number without padding; None where it is no place on a
        plate of at most 1536 wells.
    """
    found = _WELL.fullmatch(well)
    if found is None:
        return None
    row, column = found[1].upper(), int(found[2])
    return (row, str(column)) if column and _row_number(row) <= _ROWS else None


@lru_cache(maxsize=4096)
def well_of(row: str, column: str, first: int = 1) -> str:
    """Write a well as "A01", from a row's letters or its number ("1" is A, "27" is AA).

    Parameters
    ----------
    row, column : str
        As written.
    first : int
        The number of the first row and column: 1 or 0.

    Returns
    -------
    str
        "" where these are no row and column.
    """
    letters = _letters(int(row) + 1 - first) if row.isdecimal() else row.strip()
    column = column.strip()
    if first != 1 and column.isdecimal():
        column = str(int(column) + 1 - first)
    place = row_and_column(f"{letters}{column}")
    return f"{place[0]}{int(place[1]):02d}" if place else ""


def numbered(number: int, wells: int, by: str) -> str:
    """Name the well of a number, from 1: 14 of 96, counted "by row", is B02.

    Parameters
    ----------
    wells : int
        Of the plate: one of SHAPES; 0 where that is not known.
    by : str
        "by row": A1, A2 …; "by column": A1, B1 …

    Returns
    -------
    str
        "" where the plate has no such well. Without a plate "W0014": four digits, as no row W has.
    """
    if not wells:
        return f"W{number:04d}"
    rows, columns = SHAPES[wells]
    if not 1 <= number <= wells:
        return ""
    across, down = divmod(number - 1, columns if by == "by row" else rows)
    row, column = (across, down) if by == "by row" else (down, across)
    return well_of(str(row), str(column), 0)


def _letters(number: int) -> str:
    letters = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _row_number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number
