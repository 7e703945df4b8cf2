"""Read a table of the result to its end: its SHA-256, its rows by image set, and where it breaks.

A row is one line of the file unless a cell is quoted, so most rows need not be taken apart: a plate
has millions, of hundreds of cells each.
"""

from __future__ import annotations

import csv
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bpcp import tables
from bpcp.database import file as database
from bpcp.database.file import quoted
from bpcp.publish import sha256
from bpcp.tables import BrokenTableError, Kind, Shape

Tell = Callable[[int], None]

_BLOCK = 4 << 20
# beyond that, a quote that is not closed is damage rather than a long cell
_LONGEST = 64 << 20
# the first breaks of a table say where it is damaged; a million say no more
_MOST_BREAKS = 100


@dataclass(frozen=True)
class Break:
    """Where a table is not as CellProfiler writes one.

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


@dataclass
class Content:
    """What a table holds.

    Attributes
    ----------
    sha256 : str
    size : int
        In bytes.
    rows : int
    columns : tuple of str
        As `tables.single` names them.
    by_image : dict of int to int
        ImageNumber to number of rows.
    first_row : dict of int to int
        ImageNumber to its first row.
    counts : dict of str to dict
        Of an image table: by object, ImageNumber to Count_<Object>.
    breaks : list of Break
        What no table may have.
    gaps : list of Break
        Where ObjectNumbers skip or come again. They run from 1 in each image set; source:
        cellprofiler 4.2.8.1, modules/exporttospreadsheet.py (make_object_file).
    by_table : dict of str to dict
        Of a database: the rows by ImageNumber of each of its tables of objects.
    table_rows : dict of str to int
        Of a database: the rows of each of its tables.
    objects : dict of str to int
        Of a database: how many there are of each kind.
    """

    sha256: str = ""
    size: int = 0
    rows: int = 0
    columns: tuple[str, ...] = ()
    by_image: dict[int, int] = field(default_factory=dict)
    first_row: dict[int, int] = field(default_factory=dict)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)
    breaks: list[Break] = field(default_factory=list)
    gaps: list[Break] = field(default_factory=list)
    by_table: dict[str, dict[int, int]] = field(default_factory=dict)
    table_rows: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)

    def broken(self, what: str, image_number: int | None = None) -> None:
        """Note a break at the row that was read last."""
        if len(self.breaks) < _MOST_BREAKS:
            self.breaks.append(Break(what, self.rows or None, image_number))

    def skips(self, what: str, image_number: int) -> None:
        """Note a gap at the row that was read last."""
        if len(self.gaps) < _MOST_BREAKS:
            self.gaps.append(Break(what, self.rows, image_number))


def text(path: Path, kind: Kind, tell: Tell) -> Content:
    """Read a table that is text.

    Parameters
    ----------
    kind : Kind
        What the merge wrote there.
    tell : callable
        Is told how many bytes were read, now and then.

    Raises
    ------
    OSError
        Where it can't be read.
    """
    found = Content(size=path.stat().st_size)
    try:
        shape = tables.recognise(path)
    except (csv.Error, ValueError):
        shape = None
    if shape is None or shape.kind is not kind:
        found.sha256 = sha256(path)
        tell(found.size)
        found.broken("its header is not that of the table that the merge wrote")
        return found
    found.columns = tuple(map(tables.single, shape.header))
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        records = _Records(file, total.update, tell)
        for _ in range(shape.heads):
            next(iter(records), b"")
        read = {Kind.OBJECT: _objects, Kind.IMAGE: _images}.get(kind, _others)
        read(found, records, shape)
    if records.is_cut:
        found.rows += 1
        found.broken("it ends in the middle of this row")
    found.sha256 = total.hexdigest()
    return found


class _Records:
    """The rows of a file as bytes, without their line ends; all of it is read, once."""

    def __init__(self, file: IO[bytes], update: Callable[[bytes], None], tell: Tell) -> None:
        self.is_cut = False
        self._stream = self._read(file, update, tell)

    def __iter__(self) -> Iterator[bytes]:
        return self._stream

    def _read(
        self, file: IO[bytes], update: Callable[[bytes], None], tell: Tell
    ) -> Iterator[bytes]:
        rest = b""
        held: list[bytes] = []
        held_size, is_open = 0, False
        while block := file.read(_BLOCK):
            update(block)
            tell(len(block))
            if held_size > _LONGEST:
                continue
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            for line in lines:
                if not is_open and b'"' not in line:
                    yield line
                    continue
                # a quote in a cell is written twice, so that a whole row has an even number
                is_open ^= line.count(b'"') % 2 == 1
                held.append(line)
                held_size += len(line)
                if not is_open:
                    yield b"\n".join(held)
                    held, held_size = [], 0
        self.is_cut = bool(rest or held)


def _cells(line: bytes, delimiter: str) -> list[str]:
    text = line.removesuffix(b"\r").decode("utf-8", "surrogateescape")
    return next(csv.reader([text], delimiter=delimiter), [])


def _objects(found: Content, records: _Records, shape: Shape) -> None:
    """Count the rows of a table of objects; ImageNumber and ObjectNumber come first."""
    delimiter, most = shape.delimiter.encode(), len(shape.header) - 1
    by_image, first_row = found.by_image, found.first_row
    last_number, last_object = 0, 0
    before: dict[int, int] = {}
    head: Sequence[str] | Sequence[bytes]
    for line in records:
        found.rows += 1
        if b'"' in line:
            head = _cells(line, shape.delimiter)
            width = len(head) - 1
        else:
            head = line.split(delimiter, 2)
            width = line.count(delimiter)
        if width != most:
            found.broken(f"{width + 1} cells, the header has {most + 1}")
            continue
        try:
            number, own = int(head[0]), int(head[1])
        except ValueError:
            found.broken("its first cells are no ImageNumber and ObjectNumber")
            continue
        if number != last_number:
            before[last_number] = last_object
            last_number, last_object = number, before.get(number, 0)
            first_row.setdefault(number, found.rows)
        if own <= last_object:
            found.skips(f"ObjectNumber {own} stands there again", number)
        elif own > last_object + 1:
            found.skips(f"ObjectNumber {last_object + 1} is missing before it", number)
        last_object = own
        by_image[number] = by_image.get(number, 0) + 1


def _images(found: Content, records: _Records, shape: Shape) -> None:
    """Count the rows of an image table, and read what it says of objects."""
    at = shape.number_columns[0]
    counts = [(n[6:], i) for i, n in enumerate(shape.header) if n.startswith("Count_")]
    found.counts = {name: {} for name, _ in counts}
    for line in records:
        found.rows += 1
        cells = _cells(line, shape.delimiter)
        number = _number(found, cells, at, len(shape.header))
        if number is None:
            continue
        if found.by_image[number] > 1:
            found.broken("its image set has a row already", number)
        for name, i in counts:
            # nan: CellProfiler could not count where nothing was found
            cell = cells[i]
            try:
                found.counts[name][number] = 0 if cell in ("", "nan") else int(float(cell))
            except ValueError:
                found.broken(f"Count_{name} is {cell!r}", number)


def _others(found: Content, records: _Records, shape: Shape) -> None:
    """Count the rows of a table of relationships or of an experiment."""
    at = shape.number_columns[0] if shape.number_columns else None
    for line in records:
        found.rows += 1
        cells = _cells(line, shape.delimiter)
        if at is not None:
            _number(found, cells, at, len(shape.header))
        elif len(cells) != len(shape.header):
            found.broken(f"{len(cells)} cells, the header has {len(shape.header)}")


def _number(found: Content, cells: list[str], at: int, width: int) -> int | None:
    """Count a row for its image set; None where it is no row of the table."""
    if len(cells) != width:
        found.broken(f"{len(cells)} cells, the header has {width}")
        return None
    try:
        number = int(cells[at])
    except ValueError:
        found.broken(f"{cells[at]!r} is no ImageNumber")
        return None
    found.by_image[number] = found.by_image.get(number, 0) + 1
    found.first_row.setdefault(number, found.rows)
    return number


def of_database(path: Path, wanted: set[int], skipped: set[int]) -> Content:
    """Read a database of ExportToDatabase.

    Parameters
    ----------
    wanted : set of int
        The ImageNumbers that it must hold.
    skipped : set of int
        Those that it need not; see `database.judge`.

    Raises
    ------
    OSError
        Where it can't be read.
    """
    found = Content(sha256=sha256(path), size=path.stat().st_size)
    try:
        shape = database.recognise(path)
        if shape is None:
            found.broken("it is not the database that the merge wrote")
            return found
        judged = database.judge(path, shape, wanted, skipped)
        with closing(database.open_read_only(path)) as connection:
            for layout in database.layouts(database.all_tables(connection)):
                for table in layout.objects:
                    found.by_table[table.name] = _rows_of(connection, table.name, "ImageNumber")
    except (BrokenTableError, sqlite3.Error) as error:
        found.broken(str(error))
        return found
    found.rows, found.table_rows = judged.summary.rows, judged.summary.counts
    found.objects = judged.objects
    for fault in judged.faults:
        found.broken(fault)
    return found


def rows_in_sqlite(path: Path, table: str, column: int | None) -> tuple[int, dict[int, int]]:
    """Count the rows of a table that --format sqlite made, all and by image set.

    Parameters
    ----------
    column : int or None
        Which of its columns holds the ImageNumber, 0-based; None where none does.

    Raises
    ------
    sqlite3.Error
        Where it can't be read.
    """
    with closing(database.open_read_only(path)) as connection:
        whole = connection.execute(f"SELECT COUNT(*) FROM {quoted(table)}").fetchone()[0]  # noqa: S608
        if column is None:
            return whole, {}
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({quoted(table)})")]
        return whole, _rows_of(connection, table, names[column])


def _rows_of(connection: sqlite3.Connection, table: str, column: str) -> dict[int, int]:
    return dict(
        connection.execute(
            f"SELECT {quoted(column)}, COUNT(*) FROM {quoted(table)} GROUP BY 1"  # noqa: S608
        )
    )


def rows_in_parquet(path: Path, column: int | None) -> tuple[int, dict[int, int]]:
    """Count the rows of a Parquet file, all and by image set; see `rows_in_sqlite`.

    Raises
    ------
    OSError
        Where it can't be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    by_image: dict[int, int] = {}
    try:
        with pq.ParquetFile(path) as file:
            whole = file.metadata.num_rows
            if column is not None:
                names = [file.schema_arrow.names[column]]
                for block in file.iter_batches(columns=names):
                    for pair in block.column(0).value_counts().to_pylist():
                        number = pair["values"]
                        by_image[number] = by_image.get(number, 0) + pair["counts"]
    except pa.ArrowException as error:
        raise OSError(f"not a whole Parquet file ({error})") from error
    return whole, by_image
