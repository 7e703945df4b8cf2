"""CellProfiler's tables as text: what a file is, what it holds, and whether it is whole.

Source of the formats: cellprofiler 4.2.8.1, modules/exporttospreadsheet.py.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as Set
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, cast

# Feature text and pixel data in one cell; CellProfiler's own limit does not apply to what it reads.
csv.field_size_limit(2**31 - 1)


class Kind(str, Enum):
    """What a table's rows are."""

    IMAGE = "image"
    OBJECT = "object"
    RELATIONSHIP = "relationship"
    EXPERIMENT = "experiment"
    # ExportToDatabase's: a SQLite file of many tables, and CellProfiler Analyst's properties file;
    # see `database`
    DATABASE = "database"
    PROPERTIES = "properties"


class Spelling(str, Enum):
    """How a process spelled a column; INTEGER gives way to FLOAT when columns are united."""

    BLANK = "blank"
    INTEGER = "integer"
    FLOAT = "float"
    TEXT = "text"


_BLOCK_ROWS = 1000
# Characters by which a file is taken for text.
_SAMPLE = 4096
_LONGEST_HEADER = 1 << 24
_LIKE_A_TABLE = re.compile(r"ImageNumber|\AKey.Value|\AModule.Module Number")
_IN_NUMBERS = "0123456789+-.einfa"
_DELIMITERS = (",", "\t", ";", "|")
# What stands between names, if it is none of these.
_BESIDE_A_NAME = re.compile(
    r"([^ \r\n]?)ImageNumber([^ \r\n]?)|\AKey(.)Value|\AModule(.)Module Number"
)
# What no name holds, between a column's name and how often it stood there before.
_AGAIN = "\x1f"
_RELATIONSHIP_HEADER = ["Module", "Module Number", "Relationship"]
# What tells kinds of relationship apart; CellProfiler writes all rows of one kind together.
RELATIONSHIP_KIND = ("Module Number", "Relationship", "First Object Name", "Second Object Name")
_RELATIONSHIP_NUMBERS = ("First Image Number", "Second Image Number")


@dataclass(frozen=True)
class Shape:
    """What kind of table a file is.

    Attributes
    ----------
    kind : Kind
    delimiter : str
    heads : int
        How many lines of header: two where measurements of several objects share the table.
    header : tuple of str
        The column names; with two lines of header each is "Object" + tab + "Feature". Where a name
        stands there again, the second and later are marked; see `feature` and `written`.
    """

    kind: Kind
    delimiter: str
    heads: int
    header: tuple[str, ...]

    @property
    def number_columns(self) -> tuple[int, ...]:
        """The columns that hold ImageNumbers, 0-based."""
        if self.kind is Kind.RELATIONSHIP:
            return tuple(self.header.index(name) for name in _RELATIONSHIP_NUMBERS)
        if self.kind is Kind.EXPERIMENT:
            return ()
        return tuple(i for i, name in enumerate(self.header) if feature(name) == "ImageNumber")


@dataclass(frozen=True)
class Summary:
    """What one process wrote into a table.

    Attributes
    ----------
    shape : Shape
    rows : int
    spellings : tuple of Spelling
        One for each column.
    rows_by_image : dict of int to int
        ImageNumber to number of rows, in order of appearance; empty for an experiment table.
    counts : dict of str to int
        Of a database: the rows of each of its tables.
    """

    shape: Shape
    rows: int
    spellings: tuple[Spelling, ...]
    rows_by_image: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        found = asdict(self)
        del found["rows_by_image"]
        if not self.counts:
            del found["counts"]
        return found

    @staticmethod
    def from_json(found: dict[str, Any]) -> Summary:
        """Read what `to_json` gave; without `rows_by_image`."""
        s = found["shape"]
        shape = _shape(s["kind"], s["delimiter"], s["heads"], tuple(s["header"]))
        spellings = _spellings(tuple(found["spellings"]))
        return Summary(shape, found["rows"], spellings, counts=found.get("counts", {}))


# thousands of chunks write tables of the same columns
@lru_cache(maxsize=4096)
def _shape(kind: str, delimiter: str, heads: int, header: tuple[str, ...]) -> Shape:
    return Shape(Kind(kind), delimiter, heads, header)


@lru_cache(maxsize=4096)
def _spellings(values: tuple[str, ...]) -> tuple[Spelling, ...]:
    return tuple(Spelling(value) for value in values)


class BrokenTableError(Exception):
    """A table that was not written to its end."""


def open_table(path: Path) -> TextIO:
    """Open a table for reading, packed or not; bytes that aren't UTF-8 survive the way back."""
    packed = _packed(path)
    if packed.is_file() and not path.is_file():
        return cast(
            TextIO, gzip.open(packed, "rt", encoding="utf-8", errors="surrogateescape", newline="")
        )
    return path.open(encoding="utf-8", errors="surrogateescape", newline="")


def is_there(path: Path) -> bool:
    """Tell whether a table is there, packed or not."""
    return path.is_file() or _packed(path).is_file()


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def recognise(path: Path) -> Shape | None:
    """Tell what kind of table a file is, from its first lines; None where it is none.

    A pipeline may give tables any name, and any character between their cells.
    """
    with open_table(path) as file:
        if "\0" in file.read(_SAMPLE):
            return None
        file.seek(0)
        start = file.readline(_LONGEST_HEADER) + file.readline(_LONGEST_HEADER)
        if not _LIKE_A_TABLE.search(start):
            return None
        others = (c for found in _BESIDE_A_NAME.findall(start) for c in found if c)
        for delimiter in dict.fromkeys((*_DELIMITERS, *others)):
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            first = next(reader, [])
            # of chosen measurements, there may be none in the image table but its number
            if len(first) < 2 and first != ["ImageNumber"]:
                continue
            # CellProfiler itself writes Metadata_Row several times, where Groups names it
            names = _distinct(first)
            if first == ["Key", "Value"]:
                return Shape(Kind.EXPERIMENT, delimiter, 1, tuple(first))
            if first[:3] == _RELATIONSHIP_HEADER:
                return Shape(Kind.RELATIONSHIP, delimiter, 1, tuple(first))
            if first[:2] == ["ImageNumber", "ObjectNumber"]:
                return Shape(Kind.OBJECT, delimiter, 1, names)
            if "ImageNumber" in first:
                return Shape(Kind.IMAGE, delimiter, 1, names)
            second = next(reader, [])
            if second[:2] == ["ImageNumber", "ObjectNumber"] and len(first) == len(second):
                both = [f"{a}\t{b}" for a, b in zip(first, second, strict=True)]
                return Shape(Kind.OBJECT, delimiter, 2, _distinct(both))
    return None


def nearest(name: str, patterns: Iterable[str]) -> str | None:
    """Give the pattern that fits a file's name best: with the most that stands there as it is."""
    fits = [p for p in patterns if re.fullmatch(p, name, re.DOTALL)]
    return max(fits, key=lambda p: len(p.replace(".*", "")), default=None)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name}{_AGAIN}{seen[name]}" if seen[name] > 1 else name)
    return tuple(found)


def written(name: str) -> str:
    """Give a column's name as it stands in the file."""
    return name.partition(_AGAIN)[0]


def feature(name: str) -> str:
    """Give a column's own name: without its object, and as it stands in the file."""
    return written(name).rpartition("\t")[2]


def single(name: str) -> str:
    """Give a column a name that no other has: "Nuclei_AreaShape_Area", "Metadata_Row_2"."""
    return name.replace("\t", "_").replace(_AGAIN, "_")


def rows(path: Path, shape: Shape) -> Iterator[list[str]]:
    """Give a table's rows, without its header."""
    with open_table(path) as file:
        reader = csv.reader(file, delimiter=shape.delimiter)
        for _ in range(shape.heads):
            next(reader, None)
        yield from reader


def is_number_table(summary: Summary) -> bool:
    """Tell whether no cell of a table can hold a quote, a delimiter or a line break."""
    return Spelling.TEXT not in summary.spellings and summary.shape.delimiter not in _IN_NUMBERS


def summarise(path: Path, shape: Shape, skipped: frozenset[int] = frozenset()) -> Summary:
    """Read a whole table and say what it holds.

    Parameters
    ----------
    skipped : set of int
        Image sets that the pipeline left before its end: of their objects, "nan" may stand for what
        was not measured.

    Raises
    ------
    BrokenTableError
        Where it does not end with a line, or a row is not as long as the header.
    """
    with path.open("rb") as raw:
        raw.seek(-1, 2)
        if raw.read(1) != b"\n":
            raise BrokenTableError(f"{path.name} ends in the middle of a line")
    width = len(shape.header)
    seen: list[set[Spelling]] = [set() for _ in shape.header]
    had_nan = [False] * width
    by_image: dict[int, int] = {}
    number = shape.number_columns[0] if shape.number_columns else None
    count = 0
    body = rows(path, shape)
    # in blocks: a plate in one chunk has millions of cells
    while block := list(islice(body, _BLOCK_ROWS)):
        for i, row in enumerate(block, count + 1):
            if len(row) != width:
                raise BrokenTableError(
                    f"{path.name}, row {i}: {len(row)} cells, the header has {width}"
                )
        count += len(block)
        of_skipped = shape.kind is Kind.OBJECT and skipped.issuperset(
            int(row[shape.number_columns[0]]) for row in block
        )
        for i, cells in enumerate(zip(*block, strict=True)):
            distinct = set(cells)
            had_nan[i] |= "nan" in distinct and not of_skipped
            seen[i].add(_spelling(distinct - {"", "nan"}))
        if number is not None:
            for row in block:
                n = int(row[number])
                by_image[n] = by_image.get(n, 0) + 1
    spellings = tuple(
        # "nan" beside integers was a missing value, for a real NaN would have made them floats;
        # alone it is a float
        Spelling.FLOAT if nan and how is Spelling.BLANK else how
        for nan, how in zip(had_nan, map(unite, seen), strict=True)
    )
    return Summary(shape, count, spellings, by_image)


def _spelling(distinct: Set[str]) -> Spelling:
    """Tell how cells are spelled that are neither blank nor nan."""
    for how, read in ((Spelling.INTEGER, int), (Spelling.FLOAT, float)):
        try:
            for cell in distinct:
                read(cell)
        except ValueError:
            continue
        return how if distinct else Spelling.BLANK
    return Spelling.TEXT


def unite(spellings: Iterable[Spelling]) -> Spelling:
    """Tell how one process would have spelled a column that several wrote."""
    order = (Spelling.BLANK, Spelling.INTEGER, Spelling.FLOAT, Spelling.TEXT)
    return max(spellings, key=order.index, default=Spelling.BLANK)
