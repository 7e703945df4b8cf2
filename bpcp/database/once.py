"""What each process writes once into a database and beside it, and what one process would have.

The names of the tables' columns, the experiment, and CellProfiler Analyst's properties: the same
for all chunks but for time stamps, the chunk's own folder, a filter for each plate that it was
given, and what is measured over all image sets of a process. What `merge` needs of a
chunk's file is here, too.

Source: cellprofiler 4.2.8.1, modules/exporttodatabase.py (get_experiment_table_statements,
get_property_file_text, write_post_run_measurements).
"""

from __future__ import annotations

import errno
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as Set
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpcp.database.file as db
from bpcp.cppipe import Text, decoded
from bpcp.database.file import Layout, quoted
from bpcp.database.names import find
from bpcp.database.server import QUOTE, Server, database_lines
from bpcp.errors import BpcpError, Exit
from bpcp.restore import DamagedTableError, Restorer, Run, Source

# What MySQL's escape_string makes of what stands in a properties file, which CellProfiler then
# hands to SQLite as it is.
_ESCAPES = {
    ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n", ord("\r"): "\\r", 0x1A: "\\Z",
}  # fmt: skip
_PLATE = re.compile(
    r"(?P<field>filter_SQL_Plate_[A-Za-z0-9_]*) = (?P<value>SELECT ImageNumber FROM (?P<table>\w+)"
    r" WHERE (?P<column>Image_Metadata_[^=]+) = \"(?P<plate>[^\n]*)\")"
)
_FOR_EACH_PLATE = ("Automatically create a filter for each plate?", "Yes")
_FILE = re.compile(r"^(db_sqlite_file\s*= )(.*)$", re.MULTILINE)
_DATABASE_LINES = re.compile(r"^db_type\s*= sqlite\ndb_sqlite_file\s*= .*$", re.MULTILINE)
_NAMES = ("Experiment", "Experiment_Properties")
_STAMPS: dict[str, Callable[[Iterable[str]], str]] = {
    "Run_Timestamp": min, "Modification_Timestamp": max,
}  # fmt: skip
_PIPELINE = "Pipeline_Pipeline"
_OVER_ALL = re.compile(r"ImageQuality_Threshold(Mean|Median|Std)(.*)")


@dataclass(frozen=True)
class Job:
    """What is to be merged.

    Attributes
    ----------
    path : str
        Of the database, relative to the result.
    found : sequence of Source
        The parts of all chunks, those without this database too.
    order : sequence of Run
        Their pieces, by ImageNumber.
    restorer : Restorer
    scratch : Path
        A folder, for what must be unpacked.
    plate_filters : bool
        Whether the pipeline asks for a filter for each plate.
    servers : mapping of str to Server
        By its path: the server that a database is loaded into.
    """

    path: str
    found: Sequence[Source]
    order: Sequence[Run]
    restorer: Restorer
    scratch: Path
    plate_filters: bool = False
    servers: Mapping[str, Server] = field(default_factory=dict)

    @property
    def having(self) -> list[Source]:
        """The sources that hold it, by their first image sets."""
        return [s for s in self.found if self.path in s.summaries]


def read(source: Source, job: Job, stack: ExitStack) -> sqlite3.Connection:
    """Open a source's database; a packed one is unpacked for as long as the stack is open.

    Raises
    ------
    DamagedTableError
        Where it can't be read any more.
    """
    try:
        file = stack.enter_context(db.unpacked(source.file(job.path), job.scratch))
        if not file.is_file():
            raise DamagedTableError(source.chunk, "it is not there")
        return stack.enter_context(closing(db.open_read_only(file)))
    except (OSError, EOFError, zlib.error, sqlite3.Error) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DamagedTableError(source.chunk, str(error)) from error


@dataclass
class Once:
    """What each process writes once, whatever its image sets.

    Attributes
    ----------
    statements : list of (str, str)
        Names and statements of all tables, indexes and views, as they were made.
    names : dict of str to list
        The rows of Experiment and Experiment_Properties.
    values : dict of (str, str) to set
        By experiment table and column: what the processes wrote; of stamps the one that counts.
    """

    statements: list[tuple[str, str]]
    names: dict[str, list[tuple[Any, ...]]]
    values: dict[tuple[str, str], set[Any]] = field(default_factory=dict)


def read_once(job: Job) -> Once:
    """Read what the processes wrote once; all must have made the same tables.

    Raises
    ------
    BpcpError
        70 where they did not.
    """
    first = job.having[0]
    once: Once | None = None
    for source in job.having:
        with ExitStack() as stack:
            old = read(source, job, stack)
            try:
                statements = old.execute(
                    "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
                    " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
                ).fetchall()
                if once is None:
                    there = [t.name for t in db.all_tables(old) if t.name in _NAMES]
                    once = Once(statements, {name: rows_of(old, name) for name in there})
                elif _ordered(statements) != _ordered(once.statements):
                    raise BpcpError(
                        Exit.BUG,
                        f"{job.path}: chunks {first.chunk} and {source.chunk} made"
                        f" {_first_other(once.statements, statements)} with other columns or types",
                        "run all anew: the same ./run_analysis_pipeline.sh command with -w",
                    )
                _take_experiments(old, once, job.restorer)
            except sqlite3.Error as error:
                raise DamagedTableError(source.chunk, str(error)) from error
    if once is None:
        raise BpcpError(Exit.BUG, f"{job.path}: no chunk has it")
    return once


def rows_of(connection: sqlite3.Connection, name: str) -> list[tuple[Any, ...]]:
    """Give a small table's rows, as they were written."""
    return connection.execute(f"SELECT * FROM {quoted(name)} ORDER BY rowid").fetchall()  # noqa: S608


def _ordered(statements: Sequence[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Give statements by name; the columns of experiments stand in the order of a Python set."""
    return {
        name: sorted(line.rstrip(",)") for line in sql.split("\n"))
        if name.endswith("Per_Experiment")
        else sql
        for name, sql in statements
    }


def _first_other(ours: Sequence[tuple[str, str]], theirs: Sequence[tuple[str, str]]) -> str:
    """Name the first table, index or view that is not alike."""
    one, other = _ordered(ours), _ordered(theirs)
    names = dict.fromkeys((*one, *other))
    return next((n for n in names if one.get(n) != other.get(n)), "its tables")


def _take_experiments(old: sqlite3.Connection, once: Once, restorer: Restorer) -> None:
    for layout in db.layouts(db.all_tables(old)):
        if (table := layout.experiment) is None:
            continue
        for row in rows_of(old, table.name):
            for column, value in zip(table.names, row, strict=True):
                seen = once.values.setdefault((table.name, column), set())
                if column == _PIPELINE:
                    # CellProfiler writes a byte for each letter
                    text = bytes(value).decode("latin-1")
                    value = restorer.text(text).encode("latin-1")
                seen.add(value)
                if column in _STAMPS:
                    once.values[table.name, column] = {_STAMPS[column](seen)}


def write_once(new: sqlite3.Connection, job: Job, layouts: Sequence[Layout], once: Once) -> None:
    for name, rows in once.names.items():
        if name == "Experiment_Properties":
            # from a batch file, this would be where that was made
            home = f"{job.restorer.analysis}/{job.path}".translate(_ESCAPES)
            moved = ((*r[:3], home if r[2] == "db_sqlite_file" else r[3]) for r in rows)
            insert(new, name, _with_all_plates(new, moved) if job.plate_filters else moved)
        else:
            insert(new, name, rows)
    for layout in layouts:
        if (table := layout.experiment) is not None:
            row = [
                _agreed(new, job, layout, column, once.values.get((table.name, column), set()))
                for column in table.names
            ]
            insert(new, table.name, [row])


def insert(new: sqlite3.Connection, name: str, rows: Iterable[Sequence[Any]]) -> None:
    """Write a few rows."""
    for row in rows:
        marks = ", ".join("?" * len(row))
        new.execute(f"INSERT INTO {quoted(name)} VALUES ({marks})", row)  # noqa: S608


def _agreed(
    new: sqlite3.Connection, job: Job, layout: Layout, column: str, values: Set[Any]
) -> Any:
    """Give what one process would have written for what each process wrote once."""
    if over_all := _OVER_ALL.fullmatch(column):
        return _over_all(new, job, layout, over_all, values)
    if len(values) == 1:
        return next(iter(values))
    raise BpcpError(
        Exit.SOME_FAILED,
        f"{job.path}: {column} is measured over all image sets of a process, and can't be made"
        " again from the chunks' tables",
        "run it in one piece: the same command with -w and --chunk-size with the number of image"
        " sets",
    )


def _over_all(
    new: sqlite3.Connection, job: Job, layout: Layout, name: re.Match[str], values: Set[Any]
) -> float:
    """Make MeasureImageQuality's mean, median or standard deviation again from the image table.

    Parameters
    ----------
    values : set of float
        What the processes wrote, each over its own image sets: where the column's name was
        shortened, they tell whether it is the one.
    """
    import numpy as np

    full = f"Image_ImageQuality_Threshold{name[2]}"
    measured = find(full, layout.images.names)
    summed_up = getattr(np, {"Mean": "mean", "Median": "median", "Std": "std"}[name[1]])
    if measured is not None:
        cells = new.execute(
            f"SELECT ImageNumber, {quoted(measured)} FROM {quoted(layout.images.name)}"  # noqa: S608
            f" WHERE {quoted(measured)} IS NOT NULL ORDER BY ImageNumber"
        )
        by_image = dict(cells.fetchall())
        own = [[by_image[n] for n in s.numbers if n in by_image] for s in job.having]
        if measured == full or all(
            any(
                np.isclose(value, summed_up(some), rtol=1e-9)
                for value in values
                if value is not None
            )
            for some in own
            if some
        ):
            return float(summed_up(np.array(list(by_image.values()), dtype=float)))
    raise BpcpError(
        Exit.SOME_FAILED,
        f"{job.path}: {name[0]} needs the column {full} of {layout.images.name}, which is missing",
        "set ExportToDatabase's Maximum # of characters in a column name to 64",
    )


# --- the filters of plates ------------------------------------------------------------------------


def makes_plate_filters(pipeline: Path) -> bool:
    """Tell whether a pipeline asks for a filter for each plate."""
    if not pipeline.is_file():
        return False
    blocks = Text(decoded(pipeline.read_bytes())).blocks
    return any((s.label, s.value) == _FOR_EACH_PLATE for block in blocks for s in block.settings)


def _plate_filter(line: str) -> re.Match[str] | None:
    """Tell whether a line is one of CellProfiler's own filters, and of what."""
    found = _PLATE.fullmatch(line)
    return found if found and found["field"] == _field_of(found["plate"]) else None


def _field_of(plate: str) -> str:
    return "filter_SQL_Plate_" + re.sub("[^A-Za-z0-9_]", "_", plate)


def _filters(connection: sqlite3.Connection, known: re.Match[str]) -> list[tuple[str, str]]:
    """Give the filters of all plates, like the one that is known: by their first image sets.

    Empty where they can't be told: a column whose name was shortened.
    """
    table, column = known["table"], known["column"]
    there = next((t for t in db.all_tables(connection) if t.name == table), None)
    own = find(column, there.names) if there is not None else None
    if own is None:
        return []
    rows = connection.execute(
        f"SELECT {quoted(own)}, MIN(ImageNumber) FROM {quoted(table)}"  # noqa: S608
        f" WHERE {quoted(own)} IS NOT NULL GROUP BY 1 ORDER BY 2"
    ).fetchall()
    if known["plate"] not in [str(plate) for plate, _ in rows]:
        # of another column, whose name was shortened alike
        return []
    return [
        (
            _field_of(str(plate)),
            f'SELECT ImageNumber FROM {table} WHERE {column} = "{plate}"',  # noqa: S608 -- no query of ours
        )
        for plate, _ in rows
    ]


def _with_all_plates(
    new: sqlite3.Connection, rows: Iterable[Sequence[Any]]
) -> Iterator[Sequence[Any]]:
    """Put the filters of all plates where the properties have those of one process's."""
    written: set[tuple[Any, Any]] = set()
    for experiment, name, key, value in rows:
        known = _plate_filter(f"{key} = {value}".replace('\\"', '"'))
        filters = _filters(new, known) if known else []
        if not filters:
            yield experiment, name, key, value
        elif (experiment, name) not in written:
            written.add((experiment, name))
            # two plates may come to one name; the last one counts
            for field_name, statement in dict(filters).items():
                yield experiment, name, field_name, statement.translate(_ESCAPES)


def properties(job: Job) -> str:
    """Give a properties file as one process over the whole list would have written it.

    The database that it names must have been merged: what is in it depends on its image sets.

    Parameters
    ----------
    job : Job
        With the path of the properties file.

    Raises
    ------
    DamagedTableError
        Where a chunk's file can't be read any more.
    """
    # the process that had the last image set counted its channels; not of one that it skipped
    source = max(job.having, key=lambda s: max({*s.numbers} - s.skipped, default=0))
    try:
        text = db.open_properties(source.file(job.path))
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedTableError(source.chunk, str(error)) from error
    database = ""

    def moved(line: re.Match[str]) -> str:
        nonlocal database
        database = line[2]
        if database.startswith(source.output):
            database = job.restorer.analysis + database[len(source.output) :]
        return line[1] + database

    text = _FILE.sub(moved, text, count=1)
    for path, server in job.servers.items():
        if Path(path).name == Path(database).name:
            lines_of_server = database_lines(server)
            text = _DATABASE_LINES.sub(lambda _: lines_of_server, text, count=1)  # noqa: B023
            text = text.replace(QUOTE, "'")
    if not job.plate_filters:
        return text
    # the one that it names, or another one that has its tables
    paths = {p for s in job.found for p, summary in s.summaries.items() if summary.counts}
    places = sorted(Path(job.restorer.analysis, p) for p in paths)
    places.sort(key=lambda p: str(p) != database)
    lines: list[str] = []
    done = False
    for line in text.split("\n"):
        known = _plate_filter(line)
        filters = _filters_in(places, known) if known else []
        if not filters:
            lines.append(line)
        elif not done:
            done = True
            lines += [" = ".join(pair) for pair in filters]
    return "\n".join(lines)


def _filters_in(databases: Sequence[Path], known: re.Match[str]) -> list[tuple[str, str]]:
    for path in databases:
        with closing(db.open_read_only(path)) as connection:
            if found := _filters(connection, known):
                return found
    return []
