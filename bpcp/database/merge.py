"""Make one SQLite database of the chunks' databases: the one that a single process would have made.

Rows are copied piece by piece, in the order of their ImageNumbers, from one chunk's file after the
other; memory does not grow with the data set. A packed file is unpacked for as long as its rows are
needed: one at a time, unless the image sets of several chunks lie across each other.
"""

from __future__ import annotations

import errno
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import pathname2url

import bpcp.database.file as db
from bpcp import staging
from bpcp.database.file import Layout, Table, quoted
from bpcp.database.once import Job, insert, read, read_once, rows_of, write_once
from bpcp.errors import BpcpError, Exit
from bpcp.restore import DamagedTableError, Restorer, Run, Source

# of SQLite's own page cache, in KiB; what is sorted beyond it goes to a file
_CACHE_KIB = 64 << 10


@dataclass
class _State:
    """How far the rows of a source are copied.

    Attributes
    ----------
    types : dict of str to dict
        By the prefix of the tables: its numbers of kinds of relationship to those of the whole.
    copied : Counter
        Rows by table.
    """

    source: Source
    stack: ExitStack
    old: sqlite3.Connection
    types: dict[str, dict[int, int]] = field(default_factory=dict)
    copied: Counter[str] = field(default_factory=Counter)


def merge_database(job: Job, target: Path) -> int:
    """Write the database of all chunks.

    Parameters
    ----------
    target : Path
        Written over; the caller flushes it and gives it its final name.

    Returns
    -------
    int
        How many rows its image tables have.

    Raises
    ------
    DamagedTableError
        Where a chunk's database is not as it was when the chunk was judged.
    BpcpError
        70 where chunks made other tables than others; 1 where something is measured over all image
        sets of a process and can't be made anew.
    OSError
        Where it can't be written.
    """
    target.unlink(missing_ok=True)
    once = read_once(job)
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as new:
            # whatever stops this, the file is made anew
            for pragma in (
                "journal_mode = OFF",
                "synchronous = OFF",
                f"cache_size = -{_CACHE_KIB}",
            ):
                new.execute(f"PRAGMA {pragma}")
            for _, sql in once.statements:
                new.execute(sql)
            layouts = db.layouts(db.all_tables(new))
            _copy_pieces(new, job, layouts)
            new.execute("BEGIN")
            write_once(new, job, layouts, once)
            new.execute("COMMIT")
            return _count(new, job, layouts)
    except sqlite3.Error as error:
        code = errno.ENOSPC if "full" in str(error) else errno.EIO
        raise OSError(code, str(error), str(target)) from error


# --- rows by image set ----------------------------------------------------------------------------


def _copy_pieces(new: sqlite3.Connection, job: Job, layouts: Sequence[Layout]) -> None:
    mine = [piece for piece in job.order if job.path in job.found[piece.source].summaries]
    left = Counter(piece.source for piece in mine)
    states: dict[int, _State] = {}
    with ExitStack() as all_open:
        for piece in mine:
            if piece.source not in states:
                source = job.found[piece.source]
                stack = all_open.enter_context(ExitStack())
                states[piece.source] = _State(source, stack, read(source, job, stack))
            state = states[piece.source]
            new.execute("BEGIN")
            try:
                for layout in layouts:
                    _copy_piece(state, new, layout, piece, job.restorer)
            except sqlite3.IntegrityError as error:
                raise DamagedTableError(state.source.chunk, str(error)) from error
            new.execute("COMMIT")
            left[piece.source] -= 1
            if not left[piece.source]:
                _check_copied(state, job, layouts)
                states.pop(piece.source).stack.close()


def _copy_piece(
    state: _State, new: sqlite3.Connection, layout: Layout, piece: Run, restorer: Restorer
) -> None:
    source = state.source
    first = source.first + source.numbers.index(piece.first)
    span = (first, first + piece.count - 1)
    number = _renumber(source)
    wanted: list[tuple[Table, str, list[tuple[int, Change]]]] = [
        (layout.images, "ImageNumber", _image_changes(layout.images, source, restorer)),
        *((table, "ImageNumber", [(0, number)]) for table in layout.objects),
    ]
    if layout.relationships is not None and layout.types is not None:
        names = layout.relationships.names
        ids = _types(state, new, layout)
        changes: list[tuple[int, Change]] = [
            (names.index("relationship_type_id"), lambda own, _: ids[own]),
            (names.index("image_number1"), number),
            (names.index("image_number2"), number),
        ]
        wanted.append((layout.relationships, "image_number1", changes))
    for table, key, changes in wanted:
        listed = ", ".join(map(quoted, table.names))
        rows = _changed(state, table, key, span, changes)
        marks = ", ".join("?" * len(table.names))
        before = new.total_changes
        new.executemany(f"INSERT INTO {quoted(table.name)} ({listed}) VALUES ({marks})", rows)  # noqa: S608
        state.copied[table.name] += new.total_changes - before


Change = Callable[[Any, int], Any]


def _changed(
    state: _State,
    table: Table,
    key: str,
    span: tuple[int, int],
    changes: Sequence[tuple[int, Change]],
) -> Iterator[Sequence[Any]]:
    """Give the rows of some image sets as the result has them.

    Parameters
    ----------
    key : str
        The column of the ImageNumber.
    span : (int, int)
        The first and the last of them, in the source's own numbering.
    changes : sequence of (int, Change)
        The columns that must change, 0-based. A change takes the cell and the row's ImageNumber in
        the whole list.
    """
    name, column, at = quoted(table.name), quoted(key), table.names.index(key)
    try:
        ends = state.old.execute(
            f"SELECT MIN(rowid), MAX(rowid) FROM {name} WHERE {column} BETWEEN ? AND ?",  # noqa: S608
            span,
        ).fetchone()
        for row in state.old.execute(scan(table, key), (*ends, *span)):
            cells = list(row)
            whole = state.source.number(cells[at])
            for i, change in changes:
                cells[i] = change(cells[i], whole)
            yield cells
    except (sqlite3.Error, KeyError, TypeError) as error:
        raise DamagedTableError(state.source.chunk, str(error)) from error


def scan(table: Table, key: str) -> str:
    """Give the query for rows between two rowids, and between two ImageNumbers.

    Rows of image sets that follow each other do so as well. By their numbers alone, which the +
    keeps SQLite from, it would sort them all first, in a temporary file.
    """
    listed = ", ".join(map(quoted, table.names))
    return (
        f"SELECT {listed} FROM {quoted(table.name)} WHERE rowid BETWEEN ? AND ?"  # noqa: S608
        f" AND +{quoted(key)} BETWEEN ? AND ? ORDER BY rowid"
    )


def _renumber(source: Source) -> Change:
    return lambda own, _: source.number(own)


def _image_changes(table: Table, source: Source, restorer: Restorer) -> list[tuple[int, Change]]:
    """Say which cells of an image table must change; names that were shortened say nothing."""
    found: list[tuple[int, Change]] = [(0, _renumber(source))]
    groups = {f"Image_Group_{name}": name for name in ("Number", "Index", "Length")}
    seen = set()
    move = _move_home(source, restorer.analysis)
    for i, (column, kind) in enumerate(table.columns):
        if column in groups:
            seen.add(column)
            found.append((i, _regroup(restorer, groups[column])))
        elif kind == "TEXT":
            found.append((i, move))
    if seen != set(groups):
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{table.name} has no column {min(set(groups) - seen)}: its columns' names were"
            " shortened",
            "set ExportToDatabase's Maximum # of characters in a column name to 64",
        )
    return found


def _regroup(restorer: Restorer, name: str) -> Change:
    return lambda _, number: int(group) if (group := restorer.group(name, number)) else None


def _move_home(source: Source, analysis: str) -> Change:
    homes = (
        (source.output, analysis),
        (f"file:{pathname2url(source.output)}", f"file:{pathname2url(analysis)}"),
    )

    def moved(cell: Any, _: int) -> Any:
        if not isinstance(cell, str):
            return cell
        for own, home in homes:
            if cell.startswith(own):
                return home + cell[len(own) :]
        return staging.restored(cell, source.mirror) if source.mirror else cell

    return moved


def _types(state: _State, new: sqlite3.Connection, layout: Layout) -> dict[int, int]:
    """Give a chunk's kinds of relationship their numbers in the whole, new ones to new kinds."""
    if layout.prefix in state.types or layout.types is None:
        return state.types.get(layout.prefix, {})
    known = {tuple(kind): int(number) for number, *kind in rows_of(new, layout.types.name)}
    found = state.types.setdefault(layout.prefix, {})
    for own, *kind in rows_of(state.old, layout.types.name):
        if tuple(kind) not in known:
            free = max(known.values()) + 1 if own in known.values() else own
            insert(new, layout.types.name, [(free, *kind)])
            known[tuple(kind)] = free
        found[own] = known[tuple(kind)]
    return found


def _by_image_set(layouts: Sequence[Layout]) -> list[Table]:
    """List the tables that are filled image set by image set."""
    return [
        table
        for layout in layouts
        for table in (layout.images, *layout.objects, layout.relationships)
        if table is not None
    ]


def _check_copied(state: _State, job: Job, layouts: Sequence[Layout]) -> None:
    counts = state.source.summaries[job.path].counts
    for table in _by_image_set(layouts):
        if state.copied[table.name] != counts[table.name]:
            raise DamagedTableError(
                state.source.chunk,
                f"{table.name}: {state.copied[table.name]} rows of {counts[table.name]}",
            )


def _count(new: sqlite3.Connection, job: Job, layouts: Sequence[Layout]) -> int:
    """Count what the chunks have once more, in what was written; give the rows of image tables."""
    images = 0
    for table in _by_image_set(layouts):
        expected = sum(s.summaries[job.path].counts[table.name] for s in job.having)
        rows = int(new.execute(f"SELECT COUNT(*) FROM {quoted(table.name)}").fetchone()[0])  # noqa: S608
        if rows != expected:
            raise BpcpError(
                Exit.BUG,
                f"{table.name} of {job.path}: {rows} rows merged, the chunks have {expected}",
            )
        images += rows if any(table is x.images for x in layouts) else 0
    return images
