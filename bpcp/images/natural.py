"""The order in which people count: A2 before A10, site 9 before site 10, well Z01 before AA01."""

from __future__ import annotations

import re

from bpcp.images.plates import row_and_column

Key = tuple[tuple[int, int, str], ...]

_DIGITS = re.compile(r"([0-9]+)")


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
