"""Compare two SQLite databases by what they hold, and two properties files line by line.

Files with the same content need not have the same bytes. Tables are compared with their columns,
types and keys, indexes and views as they were defined, rows in the order in which they were
written. Left out is what may differ between two runs: `ExecutionTime_` columns, time stamps, the
order of what was measured over the whole experiment, passwords, and the result's own folder, which
CellProfiler writes as it was given: as an absolute path or a relative one.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.request import pathname2url

from bpcp.database.file import Table, all_tables, is_time, open_properties, open_read_only, quoted
from bpcp.pipeline import without_passwords

# Where, and what each side has.
Found = tuple[str, str, str]

_STAMPS = ("Run_Timestamp", "Modification_Timestamp")
_DATABASE_FILE, _PASSWORD = "db_sqlite_file", "db_passwd "
_OWN_FOLDER = "<this folder>"
_DATE = re.compile(r"#\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\s*")
_LINE = re.compile(rf"({_DATABASE_FILE}\s*=\s*)(.*)", re.DOTALL)


def compare_databases(files: tuple[Path, Path], folders: tuple[Path, Path]) -> Iterator[Found]:
    """Give each difference between two databases.

    Parameters
    ----------
    folders : (Path, Path)
        The results that they are parts of.
    """
    broken = [_trouble(file) for file in files]
    if any(broken):
        yield "content", broken[0] or "whole", broken[1] or "whole"
        return
    with closing(open_read_only(files[0])) as left, closing(open_read_only(files[1])) as right:
        yield from _compare((left, right), folders)


def _trouble(file: Path) -> str:
    try:
        with closing(open_read_only(file)) as side:
            found = str(side.execute("PRAGMA quick_check(1)").fetchone()[0])
            return "" if found == "ok" else found
    except sqlite3.Error as error:
        return str(error)


def _compare(
    sides: tuple[sqlite3.Connection, sqlite3.Connection], folders: tuple[Path, Path]
) -> Iterator[Found]:
    definitions = [_definitions(side) for side in sides]
    for name in dict.fromkeys([*definitions[0], *definitions[1]]):
        there = [name in found for found in definitions]
        if not all(there):
            yield name, _presence(there[0]), _presence(there[1])
        elif definitions[0][name] != definitions[1][name]:
            yield name, definitions[0][name], definitions[1][name]
    tables = [{table.name: table for table in all_tables(side)} for side in sides]
    for name in tables[0]:
        if name in tables[1]:
            yield from _compare_tables(sides, (tables[0][name], tables[1][name]), folders)


def _definitions(side: sqlite3.Connection) -> dict[str, str]:
    """Give tables by name only, and indexes and views with what they are made of."""
    rows = side.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'")
    return {
        f"{kind} {name}": "" if kind == "table" else " ".join(sql.split())
        for kind, name, sql in rows
        if sql is not None
    }


def _statement(side: sqlite3.Connection, name: str) -> str:
    """Give how a table was made, constraints and all; CellProfiler gives each column a line."""
    query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    lines = str(side.execute(query, (name,)).fetchone()[0]).splitlines()
    return " ".join(" ".join(line for line in lines if not is_time(line.split(" ")[0])).split())


def _kept(table: Table) -> list[tuple[str, str]]:
    found = [(name, kind) for name, kind in table.columns if not is_time(name)]
    return sorted(found) if _is_unordered(table) else found


def _is_unordered(table: Table) -> bool:
    """Tell whether CellProfiler makes a table's columns in the order of a Python set."""
    return table.name.endswith("Per_Experiment")


def _compare_tables(
    sides: tuple[sqlite3.Connection, sqlite3.Connection],
    tables: tuple[Table, Table],
    folders: tuple[Path, Path],
) -> Iterator[Found]:
    name = tables[0].name
    columns = [_kept(table) for table in tables]
    if columns[0] != columns[1]:
        for i, pair in enumerate(zip_longest(*columns, fillvalue=("nothing", "")), 1):
            if pair[0] != pair[1]:
                yield f"{name}, column {i}", " ".join(pair[0]), " ".join(pair[1])
                break
        return
    if tables[0].keys != tables[1].keys:
        yield f"{name}, primary key", ", ".join(tables[0].keys), ", ".join(tables[1].keys)
        return
    made = [_statement(side, name) for side in sides]
    if made[0] != made[1] and not _is_unordered(tables[0]):
        yield f"{name}, definition", made[0], made[1]
    names = [column for column, _ in columns[0]]
    listed = ", ".join(map(quoted, names)) or "NULL"
    query = f"SELECT {listed} FROM {quoted(name)} ORDER BY rowid"  # noqa: S608 -- quoted as SQLite asks
    bodies = [side.execute(query) for side in sides]
    skipped = {i for i, column in enumerate(names) if column in _STAMPS}
    for number, (a, b) in enumerate(zip_longest(*bodies), 1):
        if a is None or b is None:
            yield f"{name}, row {number}", _presence(a is not None), _presence(b is not None)
            return
        if a == b and list(map(type, a)) == list(map(type, b)):
            continue
        for i, column in enumerate(names):
            if i in skipped or _same(column, a, b, i, folders):
                continue
            yield f"{name}, row {number}, {column}", _said(a[i]), _said(b[i])


def _same(
    column: str, a: Sequence[Any], b: Sequence[Any], i: int, folders: tuple[Path, Path]
) -> bool:
    if type(a[i]) is not type(b[i]):
        return False
    if column == "Pipeline_Pipeline" and isinstance(a[i], bytes):
        return without_passwords(a[i]) == without_passwords(b[i])
    if a[i] == b[i] or not isinstance(a[i], str):
        return bool(a[i] == b[i])
    if column == "value" and a[i - 1] == b[i - 1] == _DATABASE_FILE:
        # escaped as MySQL wants it
        cells = [row[i].replace('\\"', '"').replace("\\\\", "\\") for row in (a, b)]
        return _place(cells[0], folders[0]) == _place(cells[1], folders[1])
    return _without(a[i], folders[0]) == _without(b[i], folders[1])


def _without(cell: str, folder: Path) -> str:
    """Give a cell without the own folder that it begins with."""
    for start in (str(folder), f"file:{pathname2url(str(folder))}"):
        if cell.startswith(start):
            return _OWN_FOLDER + cell[len(start) :]
    return cell


def _place(path: str, folder: Path) -> str:
    """Give a database's path as seen from the own folder, where it lies in it."""
    if path.startswith("/"):
        return _without(path, folder)
    # relative to where CellProfiler was started, which nobody knows any more
    parts = Path(path).parts
    for i in range(len(parts)):
        if folder.joinpath(*parts[i:]).is_file():
            return "/".join((_OWN_FOLDER, *parts[i:]))
    return path


def _presence(there: bool) -> str:
    return "there" if there else "missing"


def _said(cell: Any) -> str:
    return "NULL" if cell is None else repr(cell) if isinstance(cell, str) else str(cell)


def compare_properties(files: tuple[Path, Path], folders: tuple[Path, Path]) -> Iterator[Found]:
    """Give each difference between two properties files of CellProfiler Analyst."""
    sides = [open_properties(file).split("\n") for file in files]
    for number, (a, b) in enumerate(zip_longest(*sides), 1):
        if a is None or b is None:
            yield f"line {number}", _presence(a is not None), _presence(b is not None)
            return
        if all(side.startswith(_PASSWORD) for side in (a, b)):
            continue
        if a == b or (number == 1 and _DATE.fullmatch(a) and _DATE.fullmatch(b)):
            continue
        one, other = _LINE.fullmatch(a), _LINE.fullmatch(b)
        if (
            one
            and other
            and one[1] == other[1]
            and _place(one[2], folders[0]) == _place(other[2], folders[1])
        ):
            continue
        yield f"line {number}", a, b
