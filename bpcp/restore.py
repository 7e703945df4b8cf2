"""What chunking and staging changed in a chunk's tables, and how one process would have had it.

A chunk numbers its own image sets from 1, works in a folder of its own, and spells a column as
integers where it saw no other numbers. Each of its rows is given back here with the ImageNumber,
the Group_* measurements, the folders of saved images, the columns and the spelling of the whole.
"""

from __future__ import annotations

import csv
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as Set
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import pathname2url

from bpcp import staging, tables
from bpcp.errors import BpcpError, Exit
from bpcp.tables import Kind, Shape, Spelling, Summary

_PACKED = "ImageSet_ImageSet"
# An image set's means over its objects are computed as the table is written, also over none.
# Source: cellprofiler_core 4.2.8.1, constants/measurement.py (AGG_MEAN, AGG_MEDIAN, AGG_STD_DEV).
_OVER_OBJECTS = ("Mean_", "Median_", "StDev_")


@dataclass(frozen=True)
class Source:
    """The tables of one part of one chunk.

    Attributes
    ----------
    folder : Path
        Where they lie.
    output : str
        The output folder that CellProfiler was given, as it stands in the tables.
    mirror : str
        What stands before the folders of its images in the tables, or "".
    first : int
        The number of its first image set, in its own numbering.
    numbers : tuple of int
        The ImageNumbers of its image sets in the whole list.
    summaries : dict of str to Summary
        By path in the result.
    elsewhere : dict of str to str
        Where a table lies here, if not at its path in the result.
    skipped : frozenset of int
        The ImageNumbers of those that the pipeline left before its last module.
    """

    folder: Path
    output: str
    first: int
    numbers: tuple[int, ...]
    summaries: dict[str, Summary]
    mirror: str = ""
    elsewhere: dict[str, str] = field(default_factory=dict)
    skipped: frozenset[int] = frozenset()

    @property
    def chunk(self) -> str:
        """The chunk that wrote them."""
        return self.folder.parents[1].name

    def file(self, path: str) -> Path:
        """Give the file of a table."""
        return self.folder / self.elsewhere.get(path, path)

    def number(self, own: int) -> int:
        """Give the ImageNumber in the whole list for one of its own.

        Raises
        ------
        BpcpError
            70 where it has no such image set.
        """
        if not 0 <= own - self.first < len(self.numbers):
            raise BpcpError(
                Exit.BUG, f"{self.folder}: a row of image set {own}, which is not its own"
            )
        return self.numbers[own - self.first]


@dataclass(frozen=True)
class Run:
    """Image sets of one source that follow each other in the whole list as well."""

    first: int
    source: int
    count: int


@dataclass(frozen=True)
class Restorer:
    """What one process over the whole list would have written.

    Attributes
    ----------
    analysis : str
        Its output folder.
    group_starts : tuple of int
        The ImageNumber of each group's first image set, ascending, and one past the last.
    typed : frozenset of str
        Columns that are text in the image list: spelled as there, never by what was seen.
    text : callable
        Makes the user's own pipeline of one that CellProfiler ran and wrote down.
    shows_batch : bool
        Whether the user gave a batch file, so that one process would have told of it.
    packed : mapping of int to str
        By ImageNumber: how image sets are packed today. That depends on the whole list of files,
        which may have changed since some chunks were done.
    nulls : tuple of str
        Regular expressions for the paths of tables that have nothing where others have "nan".
    listed_groups : tuple of (int, int or None)
        Group_Number and Group_Index of each image set where the image list brings them.
    """

    analysis: str
    group_starts: tuple[int, ...]
    typed: frozenset[str]
    text: Callable[[str], str] = str
    shows_batch: bool = False
    packed: Mapping[int, str] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()
    listed_groups: tuple[tuple[int, int | None], ...] = ()

    def missing(self, table: Table, column: str) -> str:
        """Give what stands in a column for an image set of which nothing there was measured."""
        if table.shape.kind is Kind.IMAGE and not column.startswith(_OVER_OBJECTS):
            return ""
        return "" if any(re.fullmatch(p, table.path, re.DOTALL) for p in self.nulls) else "nan"

    def group(self, name: str, number: int) -> str:
        """Give a Group_ measurement of an image set; "" where it has none.

        A list's Group_Length is never taken: LoadData gives the lengths of the sorted groups one
        after the other, also where the image sets do not stand in that order.
        """
        if self.listed_groups and name != "Length":
            given = self.listed_groups[number - 1][("Number", "Index").index(name)]
            return "" if given is None else str(given)
        at = bisect_right(self.group_starts, number) - 1
        start, end = self.group_starts[at], self.group_starts[at + 1]
        return str({"Number": at + 1, "Index": number - start + 1, "Length": end - start}[name])


def runs(found: Sequence[Source]) -> list[Run]:
    """Cut the sources where the whole list has other image sets in between, and sort the pieces."""
    pieces: list[Run] = []
    for i, source in enumerate(found):
        start = 0
        numbers = source.numbers
        for k in range(1, len(numbers) + 1):
            if k == len(numbers) or numbers[k] != numbers[k - 1] + 1:
                pieces.append(Run(numbers[start], i, k - start))
                start = k
    return sorted(pieces, key=lambda r: r.first)


def runs_as(found: Sequence[Source], numbers: Sequence[int]) -> list[Run]:
    """Cut the sources into pieces that follow each other as some ImageNumbers do."""
    source_of = {n: i for i, source in enumerate(found) for n in source.numbers}
    pieces: list[Run] = []
    for n in numbers:
        source = source_of.get(n)
        if source is None:
            # it failed
            continue
        last = pieces[-1] if pieces else None
        if last and last.source == source and n == last.first + last.count:
            pieces[-1] = Run(last.first, source, last.count + 1)
        else:
            pieces.append(Run(n, source, 1))
    return pieces


def united_header(shapes: Sequence[Shape]) -> tuple[str, ...]:
    """Give the columns that one process would have written; it sorts those of an image table."""
    names = dict.fromkeys(name for shape in shapes for name in shape.header)
    return tuple(sorted(names)) if shapes[0].kind is Kind.IMAGE else tuple(names)


@dataclass
class Table:
    """One table of the result, while it is written.

    Attributes
    ----------
    path : str
        Relative to the result's folder.
    shape : Shape
        With the united header.
    spellings : dict of str to Spelling
        How each column is spelled.
    rows : int
        How many were written.
    """

    path: str
    shape: Shape
    spellings: dict[str, Spelling]
    rows: int = 0


def unite(path: str, found: Sequence[Source], alike: Set[str] = frozenset()) -> Table:
    """Give the table that one process would have written at a path.

    Parameters
    ----------
    alike : set of str
        The paths of the same table in other folders, named by metadata: one process writes all of
        them with the columns, and the spelling of numbers, of all of its image sets.
    """
    having = [s.summaries[path] for s in found if path in s.summaries]
    others = [summary for s in found for p, summary in s.summaries.items() if p in alike]
    # one column says nothing of the delimiter
    wide = [s.shape for s in (*having, *others) if len(s.shape.header) > 1]
    first = (wide or [s.shape for s in having])[0]
    for shape in wide:
        if (shape.kind, shape.delimiter, shape.heads) != (first.kind, first.delimiter, first.heads):
            raise BpcpError(Exit.BUG, f"chunks wrote {path} as tables of different kinds")
    header = united_header([s.shape for s in (*having, *others)])
    seen: dict[str, list[Spelling]] = {name: [] for name in header}
    for summary in (*having, *others):
        for name, how in zip(summary.shape.header, summary.spellings, strict=True):
            seen[name].append(how)
    shape = Shape(first.kind, first.delimiter, first.heads, header)
    return Table(path, shape, {name: tables.unite(hows) for name, hows in seen.items()})


class DamagedTableError(Exception):
    """A chunk's waiting table that can't be read any more; the chunk must run again."""

    def __init__(self, chunk: str, what: str) -> None:
        super().__init__(what)
        self.chunk = chunk


Change = Callable[[str, int], str]


def _changes(table: Table, source: Source, restorer: Restorer) -> dict[int, Change]:
    """Say which cells of a source's rows must change; by column of the source, 0-based.

    A change takes the cell and the row's ImageNumber in the whole list.
    """
    summary = source.summaries[table.path]
    found: dict[int, Change] = {}
    for i, full_name in enumerate(summary.shape.header):
        name = tables.feature(full_name)
        if i in summary.shape.number_columns:
            found[i] = _renumber(source)
        elif name.startswith("Group_") and summary.shape.kind is Kind.IMAGE:
            found[i] = _regroup(restorer, name.removeprefix("Group_"))
        elif name.startswith(("PathName_", "ObjectsPathName_")):
            found[i] = _move_home(source, source.output, restorer.analysis)
        elif name.startswith(("URL_", "ObjectsURL_")):
            own = f"file:{pathname2url(source.output)}"
            found[i] = _move_home(source, own, f"file:{pathname2url(restorer.analysis)}")
        elif name == _PACKED and restorer.packed:
            found[i] = _pack(restorer)
        elif source.mirror and name.startswith(("FileName_", "ObjectsFileName_")):
            found[i] = _move_home(source, source.output, restorer.analysis)
        elif (
            summary.spellings[i] is Spelling.INTEGER
            and table.spellings[full_name] is Spelling.FLOAT
            and name not in restorer.typed
        ):
            found[i] = _as_float
    return found


def _renumber(source: Source) -> Change:
    return lambda cell, _: str(source.number(int(cell)))


def _regroup(restorer: Restorer, name: str) -> Change:
    return lambda _, number: restorer.group(name, number)


def _pack(restorer: Restorer) -> Change:
    return lambda cell, number: restorer.packed.get(number, cell)


def _move_home(source: Source, own: str, home: str) -> Change:
    def moved(cell: str, _: int) -> str:
        if cell.startswith(own):
            return home + cell[len(own) :]
        return staging.restored(cell, source.mirror) if source.mirror else cell

    return moved


def _as_float(cell: str, _: int) -> str:
    return cell if cell in ("", "nan") else repr(float(cell))


def restored(
    table: Table, source: Source, restorer: Restorer
) -> Generator[tuple[int, list[str] | str], None, None]:
    """Give a source's rows as the result has them, each with its ImageNumber in the whole list.

    A row is a list of cells; or a finished line, where only its first cell had to change.

    Raises
    ------
    DamagedTableError
        Where the table is not as it was when its chunk was judged.
    """
    rows = 0
    try:
        for row in _restored(table, source, restorer):
            rows += 1
            yield row
    except GeneratorExit:
        raise
    except (OSError, EOFError, zlib.error, ValueError, IndexError, csv.Error) as error:
        raise DamagedTableError(source.chunk, str(error)) from error
    if rows != source.summaries[table.path].rows:
        raise DamagedTableError(source.chunk, f"{rows} rows of {source.summaries[table.path].rows}")


def _restored(
    table: Table, source: Source, restorer: Restorer
) -> Generator[tuple[int, list[str] | str], None, None]:
    summary = source.summaries[table.path]
    changes = _changes(table, source, restorer)
    path = source.file(table.path)
    header = summary.shape.header
    if (
        header == table.shape.header
        and set(changes) == {0}
        and summary.shape.kind is Kind.OBJECT
        and tables.is_number_table(summary)
    ):
        yield from _lines(path, summary.shape, source)
        return
    own_number = summary.shape.number_columns[0]
    missing = [restorer.missing(table, name) for name in table.shape.header]
    at = {name: i for i, name in enumerate(header)}
    places = [at.get(name, -1) for name in table.shape.header]
    for row in tables.rows(path, summary.shape):
        number = source.number(int(row[own_number]))
        for i, change in changes.items():
            row[i] = change(row[i], number)
        yield (
            number,
            row
            if header == table.shape.header
            else [
                row[i] if i >= 0 else nothing for i, nothing in zip(places, missing, strict=True)
            ],
        )


def _lines(path: Path, shape: Shape, source: Source) -> Iterator[tuple[int, str]]:
    with tables.open_table(path) as file:
        for _ in range(shape.heads):
            file.readline()
        for line in file:
            own, rest = line.split(shape.delimiter, 1)
            number = source.number(int(own))
            yield number, f"{number}{shape.delimiter}{rest}"
