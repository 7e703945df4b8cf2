"""ExportToDatabase's SQLite file: what is in it, whether it is whole, and how to read it.

What one CellProfiler process writes, headless (measured on Python 3.11, SQLite 3.40):

- Tables are made when the run is prepared, and filled image set by image set, in the order of their
  ImageNumbers: `<prefix>Per_Image` (one row each), `<prefix>Per_Object` or one `<prefix>Per_<Name>`
  for each kind of object, and, where asked for, `<prefix>Per_Relationships`. All three ways of
  keeping objects fill tables; "single object view" adds a view over them.
- The ImageNumber is the key of `Per_Image`, so none can be there twice.
- Column types come from the pipeline and from LoadData's types of the image list, never from other
  values: text is TEXT in `Per_Image`, whatever its width. Numbers are stored typed, so what one
  process spells 0.0 and another 0 is one value here; NaN and infinity are NULL.
- `Per_RelationshipTypes` is filled at the start, in the order of the modules.
- `Experiment` has one row for each ExportToDatabase module; `<prefix>Per_Experiment` one row with
  the pipeline's text, two time stamps, and what MeasureImageQuality measures over all image sets.
- `Experiment_Properties` holds the properties file as it would be at the start, line by line,
  escaped as MySQL wants it; with one table per object and all objects, it stays empty.
- Columns `ExecutionTime_` are there, `ModuleError_` are not; thumbnails are base64 text in longblob
  columns of `Per_Image`.
- Names longer than "Maximum # of characters in a column name" lose vowels, then other letters:
  what a column holds can't be told from such a name.
- `<file>[_<prefix>][_<object>].properties` and `.workspace` are written when the run ends. The
  first holds the time, the database's path as it was handed to CellProfiler, a filter for each
  plate that the process was given, and the number of channels of its last image set; nothing in
  the second depends on the process.
- "Overwrite without warning?" makes no difference in a folder without the database.
- From a batch file no table is made: the process that makes the batch file makes the tables, too,
  and another one, in another folder, fails with "no such table" unless they are put there.
- A quote ' in the path of the output folder breaks CellProfiler's own statements for
  `Experiment_Properties`; MySQL's way to escape it is not SQLite's.
- Experiment.csv of ExportToSpreadsheet gains a row ExportToDb_Images where a properties file is
  asked for.

Source: cellprofiler 4.2.8.1, modules/exporttodatabase.py.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from collections.abc import Set as Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bpcp import tables
from bpcp.tables import BrokenTableError, Kind, Shape, Summary

if TYPE_CHECKING:
    from bpcp.pipeline import Module

# What `verdict.Expected` and run.json call them; no object of a pipeline can have such a name.
DATABASE, PROPERTIES = "SQLite database", "properties file"

_MAGIC = b"SQLite format 3\0"
_TIME = re.compile(r"(I?m?a?g?e?_)?Ex?e?c?u?t?i?o?n?T?i?m?e?_\d\d\w+")
_COUNT = "Image_Count_"
_OBJECT_NUMBER = "_Number_Object_Number"
_PROPERTIES_HEAD = re.compile(r"^# CellProfiler Analyst \S+ properties file\s*$", re.MULTILINE)
# The last line of a properties file.
_PROPERTIES_TAIL = re.compile(r"^process_3D = (True|False)\s*\Z", re.MULTILINE)


def type_of(module: Module) -> str:
    """Give the type of database that CellProfiler 4 makes: of "MySQL / CSV", which is gone, SQLite.

    Source: its upgrade_settings.
    """
    kind = module.get("Database type")
    return "SQLite" if kind == "MySQL / CSV" else kind


def path_of(module: Module) -> str:
    """Give the path of an ExportToDatabase module's file, relative to the output folder."""
    kind, _, folder = module.get("Output file location", "Default Output Folder|").partition("|")
    name = module.get("Name the SQLite database file", "DefaultDB.db")
    return os.path.normpath(os.path.join(folder if kind.endswith("sub-folder") else "", name))  # noqa: PTH118


def declared(module: Module) -> list[dict[str, Any]]:
    """Give what an ExportToDatabase module must write, as run.json lists tables.

    Parameters
    ----------
    module : Module
        The module, as the pipeline file has it: of type SQLite, and writing inside the default
        output folder.

    Returns
    -------
    list of dict
        `pattern`, a regular expression for the path relative to the output folder, and `objects`,
        as `verdict.Expected` takes them.
    """
    path = path_of(module)
    found: list[dict[str, Any]] = [{"pattern": re.escape(path), "objects": [DATABASE]}]
    start = os.path.splitext(path)[0]  # noqa: PTH122 -- as CellProfiler cuts it
    if module.get("Add a prefix to table names?") == "Yes":
        start += "_" + re.sub("_$", "", module.get("Table prefix"))
    # with a table for each of all objects, whether there are any is for CellProfiler to say
    sure = (
        module.get("Export measurements for all objects to the database?") != "All"
        or module.get(KEEPING) != "One table per object type"
    )
    if module.get("Create a CellProfiler Analyst properties file?") == "Yes" and sure:
        pattern = re.escape(start) + r"(_.*)?\.properties"
        found.append({"pattern": pattern, "objects": [PROPERTIES]})
    return found


KEEPING = "Create one table per object, a single object table or a single object view?"


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table of a database.

    Attributes
    ----------
    name : str
    columns : tuple of (str, str)
        Name and declared type, in order.
    keys : tuple of str
        The columns of its primary key.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(name for name, _ in self.columns)


@dataclass(frozen=True)
class Layout:
    """The tables of one ExportToDatabase module.

    Attributes
    ----------
    prefix : str
        What stands before "Per_" in their names.
    images : Table
    objects : tuple of Table
    relationships, types, experiment : Table or None
    """

    prefix: str
    images: Table
    objects: tuple[Table, ...]
    relationships: Table | None
    types: Table | None
    experiment: Table | None

    def object_of(self, table: Table) -> str:
        """Give the name of the objects in a table; "" where it holds several kinds."""
        if table.names[1:2] == ("ObjectNumber",):
            return ""
        return table.name[len(self.prefix) + len("Per_") :]


def is_time(column: str) -> bool:
    """Tell whether a column holds a module's CPU seconds, also where its name was shortened."""
    return bool(_TIME.fullmatch(column))


def quoted(name: str) -> str:
    """Quote a name as SQLite asks."""
    return '"' + name.replace('"', '""') + '"'


def uri(path: Path) -> str:
    """Give the address by which SQLite opens a file that nobody writes, without locks."""
    return f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database that nobody writes."""
    return sqlite3.connect(uri(path), uri=True, isolation_level=None)


def all_tables(connection: sqlite3.Connection) -> list[Table]:
    """List the tables of a database in the order in which they were made; not SQLite's own."""
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
    )
    found = []
    for (name,) in names.fetchall():
        rows = connection.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
        keys = sorted((row[5], row[1]) for row in rows if row[5])
        found.append(
            Table(name, tuple((row[1], row[2]) for row in rows), tuple(k for _, k in keys))
        )
    return found


def layouts(found: Sequence[Table]) -> list[Layout]:
    """Sort tables by the module that made them; several may write to one file."""
    ends = "Per_Image"
    images = {
        t.name[: -len(ends)]: t
        for t in found
        if t.name.endswith(ends) and t.keys == ("ImageNumber",)
    }
    own: dict[str, dict[str, Table]] = {prefix: {} for prefix in images}
    # of prefixes "" and "a_", a_Per_Nuclei belongs to the longer one
    for table in found:
        fits = [p for p in images if table.name.startswith(f"{p}Per_")]
        if fits:
            prefix = max(fits, key=len)
            own[prefix][table.name[len(prefix) :]] = table
    return [
        Layout(
            prefix,
            table,
            tuple(
                t
                for t in own[prefix].values()
                if t is not table and t.names[:1] == ("ImageNumber",) and len(t.keys) == 2
            ),
            own[prefix].get("Per_Relationships"),
            own[prefix].get("Per_RelationshipTypes"),
            own[prefix].get("Per_Experiment"),
        )
        for prefix, table in images.items()
    ]


@contextmanager
def unpacked(path: Path, scratch: Path) -> Iterator[Path]:
    """Give a waiting database as a file, also where it was packed.

    Parameters
    ----------
    scratch : Path
        A folder for the file that is unpacked; it is removed again.
    """
    packed = path.with_name(f"{path.name}.gz")
    if path.is_file() or not packed.is_file():
        yield path
        return
    plain = scratch / f"{len(list(scratch.iterdir()))}.db"
    try:
        with gzip.open(packed, "rb") as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        yield plain
    finally:
        plain.unlink(missing_ok=True)


# --- judging --------------------------------------------------------------------------------------


def is_sqlite(path: Path) -> bool:
    """Tell whether a file begins as SQLite's do."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def recognise(path: Path) -> Shape | None:
    """Tell whether a file is one of ExportToDatabase's that chunks must not publish by themselves.

    Raises
    ------
    BrokenTableError
        Where it is a database that can't be read.
    """
    if path.suffix == ".properties":
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            head = file.read(400)
        return Shape(Kind.PROPERTIES, "", 0, ()) if _PROPERTIES_HEAD.search(head) else None
    if not is_sqlite(path):
        return None
    try:
        with closing(open_read_only(path)) as connection:
            found = layouts(all_tables(connection))
    except sqlite3.Error as error:
        raise BrokenTableError(f"{path.name} is damaged: {error}") from error
    return Shape(Kind.DATABASE, "", 0, ()) if found else None


@dataclass(frozen=True)
class Found:
    """What the check of a database said.

    Attributes
    ----------
    summary : Summary
    faults : list of str
        What is wrong; empty where nothing is.
    objects : dict of str to int
        How many there are of each kind.
    modules_s : float
        CPU seconds that the modules took.
    """

    summary: Summary
    faults: list[str] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)
    modules_s: float = 0.0


def judge(path: Path, shape: Shape, wanted: Set[int], skipped: Set[int] = frozenset()) -> Found:
    """Read what `recognise` found, and count what it holds.

    Parameters
    ----------
    wanted : set of int
        The numbers of the image sets that the process was given.
    skipped : set of int
        Those of which it need not hold a row: FlagImage ended their pipeline before the export.

    Raises
    ------
    BrokenTableError
        Where it is not whole.
    """
    if shape.kind is Kind.PROPERTIES:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        if not _PROPERTIES_TAIL.search(text):
            raise BrokenTableError(f"{path.name} was not written to its end")
        return Found(Summary(shape, 1, ()))
    for end in ("-journal", "-wal"):
        if path.with_name(path.name + end).exists():
            raise BrokenTableError(f"{path.name} was not closed: {path.name}{end} is beside it")
    try:
        with closing(open_read_only(path)) as connection:
            first = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if first != "ok":
                raise BrokenTableError(f"{path.name} is damaged: {first}")
            return _judge(connection, path.name, shape, wanted, skipped)
    except sqlite3.Error as error:
        raise BrokenTableError(f"{path.name} is damaged: {error}") from error


def _judge(
    connection: sqlite3.Connection, name: str, shape: Shape, wanted: Set[int], skipped: Set[int]
) -> Found:
    found = all_tables(connection)
    counts = {
        t.name: connection.execute(f"SELECT COUNT(*) FROM {quoted(t.name)}").fetchone()[0]  # noqa: S608
        for t in found
    }
    layout_of = layouts(found)
    summary = Summary(shape, sum(counts[x.images.name] for x in layout_of), (), counts=counts)
    result = Found(summary)
    modules_s = []
    for layout in layout_of:
        by_image = _rows_by_image(connection, layout.images)
        where = f"{layout.images.name} of {name}"
        result.faults.extend(_number_faults(where, by_image, wanted, skipped))
        modules_s.append(_judge_module(connection, name, layout, wanted & by_image.keys(), result))
    return Found(summary, result.faults, result.objects, max(modules_s, default=0.0))


def _judge_module(
    connection: sqlite3.Connection, name: str, layout: Layout, wanted: Set[int], result: Found
) -> float:
    if layout.experiment is not None and result.summary.counts[layout.experiment.name] != 1:
        count = result.summary.counts[layout.experiment.name]
        result.faults.append(f"{layout.experiment.name} of {name} has {count} rows, not one")
    counted, modules_s = _read_images(connection, name, layout, result.faults)
    for table in layout.objects:
        rows = _rows_by_image(connection, table)
        stray = set(rows) - wanted
        if stray:
            result.faults.append(
                f"{table.name} of {name} has rows of image set {min(stray)}, which was not asked"
                " for"
            )
        single = layout.object_of(table)
        kinds = (
            [single]
            if single
            else [c[: -len(_OBJECT_NUMBER)] for c in table.names if c.endswith(_OBJECT_NUMBER)]
        )
        kinds = [kind for kind in kinds if kind in counted]
        for number in sorted(wanted) if kinds else ():
            # a table of several kinds has as many rows as there are of the most frequent one, which
            # may be one whose name was shortened
            most = max(kinds, key=lambda kind: counted[kind].get(number, 0))
            expected, there = counted[most].get(number, 0), rows.get(number, 0)
            if there < expected or (single and there > expected):
                result.faults.append(
                    f"image set {number}: {_COUNT}{most} is {expected}, {table.name} has"
                    f" {there} rows"
                )
        for kind in kinds:
            result.objects[kind] = sum(counted[kind].values())
    return modules_s


def _rows_by_image(connection: sqlite3.Connection, table: Table) -> dict[int, int]:
    return dict(
        connection.execute(
            f"SELECT ImageNumber, COUNT(*) FROM {quoted(table.name)} GROUP BY ImageNumber"  # noqa: S608
        )
    )


def _number_faults(
    where: str, by_image: dict[int, int], wanted: Set[int], skipped: Set[int]
) -> Iterator[str]:
    stray, missing = set(by_image) - wanted, wanted - skipped - set(by_image)
    if stray:
        yield f"{where} has a row of image set {min(stray)}, which was not asked for"
    if missing:
        yield f"{where} lacks {len(missing)} image sets, the first is {min(missing)}"


def _read_images(
    connection: sqlite3.Connection, name: str, layout: Layout, faults: list[str]
) -> tuple[dict[str, dict[int, int]], float]:
    """Give the counts of each kind of object by image set, and the modules' CPU seconds."""
    columns = [c for c in layout.images.names if not c.startswith("Image_Thumbnail_")]
    measured = [
        i for i, c in enumerate(columns) if not c.startswith(("ImageNumber", "Image_Group_"))
    ]
    times = [i for i, c in enumerate(columns) if is_time(c)]
    counts = [(c[len(_COUNT) :], i) for i, c in enumerate(columns) if c.startswith(_COUNT)]
    found: dict[str, dict[int, int]] = {kind: {} for kind, _ in counts}
    modules_s = 0.0
    listed = ", ".join(map(quoted, columns))
    for row in connection.execute(f"SELECT {listed} FROM {quoted(layout.images.name)}"):  # noqa: S608
        if all(row[i] is None for i in measured):
            faults.append(f"image set {row[0]} is blank in {layout.images.name} of {name}")
            continue
        modules_s += sum(row[i] or 0.0 for i in times)
        for kind, i in counts:
            # NULL: CellProfiler could not count where nothing was found
            found[kind][row[0]] = int(row[i] or 0)
    return found, modules_s


def open_properties(path: Path) -> str:
    """Read a waiting properties file, packed or not."""
    with tables.open_table(path) as file:
        return file.read()
