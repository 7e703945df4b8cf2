"""The order in which people count: A2 before A10, site 9 before site 10, well Z01 before AA01."""

from __future__ import annotations

import re
from functools import lru_cache

Key = tuple[tuple[int, int, str], ...]

_DIGITS = re.compile(r"([0-9]+)")
_WELL = re.compile(r"([A-Za-z]{1,2})[ _-]*([0-9]{1,3})")
# of a plate of 1536 wells, the largest that is imaged: A to AF
_ROWS = 32
COLUMNS = 48


def key(text: str) -> Key:
    """Give what sorts a text by its numbers; equal only for equal texts."""
    parts = _DIGITS.split(text)
    found = [(0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts) if p]
    return (*found, (2, 0, text))


def well_key(text: str) -> Key:
    """Give what sorts a well: by row, then by column; what is no well comes last."""
    place = row_and_column(text)
    if place is None:
        return ((1, 0, ""), *key(text))
    row, column = place
    return ((0, len(row), row), (0, int(column), ""))


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
def well_of(row: str, column: str) -> str:
    """Write a well as "A01", from a row's letters or its number ("1" is A, "27" is AA).

    Returns
    -------
    str
        "" where these are no row and column.
    """
    letters = _letters(int(row)) if row.isdecimal() else row.strip()
    place = row_and_column(f"{letters}{column.strip()}")
    return f"{place[0]}{int(place[1]):02d}" if place else ""


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
