"""Find the row that was changed in a table: write it once more, beside what is there."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO, cast

from bpcp import merge, tables
from bpcp.errors import BpcpError
from bpcp.restore import DamagedTableError
from bpcp.tables import Shape
from bpcp.workspace import Workspace


@dataclass(frozen=True)
class Change:
    """The first row that is not what the merge wrote.

    Attributes
    ----------
    what : str
    row : int or None
        1-based, the header left out.
    image_number : int or None
    """

    what: str
    row: int | None = None
    image_number: int | None = None


class _DiffersError(Exception):
    """What was to be written there is not what is there."""


class _Beside:
    """Where a table is written that only compares: each row with the one that is there."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.lines = 0
        self.wanted = b""
        self.start = 0

    def write(self, text: str) -> int:
        """Compare a line of the header, or a row."""
        self.wanted = text.encode("utf-8", "surrogateescape")
        if self._file.read(len(self.wanted)) != self.wanted:
            raise _DiffersError
        self.start += len(self.wanted)
        self.lines += 1
        return len(text)


def find_change(workspace: Workspace, path: str) -> Change | None:
    """Find the first row of a table that is not what the merge wrote.

    Returns
    -------
    Change, or None
        None where no row is, or where it can't be found out: the chunks' own tables are gone.
    """
    with (workspace.analysis / path).open("rb") as file:
        beside = _Beside(file)
        try:
            merge.write_again(workspace, path, cast(TextIO, beside))
        except _DiffersError:
            pass
        except (BpcpError, DamagedTableError, OSError):
            return None
        else:
            return Change("there is more behind its last row") if file.read(1) else None
        shape = _shape(workspace.analysis / path)
        if shape is None or beside.lines < shape.heads:
            return Change("its header was changed")
        file.seek(beside.start)
        # a cell may hold line breaks, and the row that is there may have other ones
        there = file.read(len(beside.wanted) + (1 << 16))
    wanted_cells, cells = _first(beside.wanted, shape), _first(there, shape)
    row = beside.lines - shape.heads + 1
    number = None
    if shape.number_columns:
        number = int(wanted_cells[shape.number_columns[0]])
    if len(cells) != len(wanted_cells):
        return Change("the row was changed", row, number)
    for name, cell, wanted in zip(shape.header, cells, wanted_cells, strict=True):
        if cell != wanted:
            column = tables.single(name)
            return Change(f"{column} is {cell!r}, the chunk wrote {wanted!r}", row, number)
    return Change("the row is spelled differently", row, number)


def _shape(path: Path) -> Shape | None:
    try:
        return tables.recognise(path)
    except (csv.Error, ValueError):
        return None


def _first(data: bytes, shape: Shape) -> list[str]:
    """Give the cells of the first row."""
    lines = data.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    try:
        return next(csv.reader(lines, delimiter=shape.delimiter), [])
    except csv.Error:
        return []
