"""Load the database that the merge made into the MySQL server that the pipeline names.

What one CellProfiler process leaves there, from the statements that it makes tables with: those for
SQLite differ from those for MySQL only in Experiment and Experiment_Properties. Numbers are rounded
by the server: a FLOAT of MySQL has 24 bits.

Rows go into tables of temporary names, which are renamed all at once: a load that is killed never
looks complete, and the next one begins again. "Overwrite without warning?" decides about tables
that are there: Never refuses, "Data only" keeps them and replaces image sets by their numbers, in
one transaction, "Data and schema" makes them again. What an earlier load of the same run made is
made again, whatever the setting; `Per_Experiment`'s Run_Timestamp tells.

Source: cellprofiler 4.2.8.1, modules/exporttodatabase.py (prepare_run, create_database_tables,
get_experiment_table_statements, write_data_to_db, write_post_run_measurements).
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import bpcp.database.file as db
from bpcp.database.file import Layout, Table, quoted
from bpcp.database.server import (
    QUOTE,
    Server,
    connected,
    database_lines,
    has,
    is_waiting,
    prefix_of,
    refusal,
)
from bpcp.errors import BpcpError, Exit
from bpcp.pipeline import Module, Pipeline

_ROWS = 500
_FOREIGN = re.compile(
    r" ,(CONSTRAINT (\w+) FOREIGN KEY \( (\w+) \)\s+REFERENCES )(\w+)( \( \w+ \))"
)
_EXPERIMENTS, _PROPERTIES = "Experiment", "Experiment_Properties"
_OVER_ALL = re.compile(r"ImageQuality_Threshold(?:Mean|Median|Std).*")
_STAMP, _LAST_STAMP = "Run_Timestamp", "Modification_Timestamp"
_NEVER, _DATA = "Never", "Data only"
_OVERWRITE = "Overwrite without warning?"
# What MySQL's escape_string does to a text, taken back.
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "r": "\r", "Z": "\x1a", "0": "\0"}


@dataclass(frozen=True)
class Target:
    """A server's database, and the modules of the pipeline that write to it, in their order."""

    server: Server
    modules: tuple[Module, ...]

    def module(self, prefix: str) -> Module:
        """Give the module whose tables have a prefix; of several, the last."""
        return [m for m in self.modules if prefix_of(m) == prefix][-1]


def targets(pipe: Pipeline, passwords: Callable[[int], str]) -> dict[str, Target]:
    """Give the servers that a run's copy of a pipeline is loaded into, by the SQLite file's path.

    Parameters
    ----------
    passwords : callable
        Gives the password that the user's own file has for a module's number.
    """
    found: dict[str, list[Module]] = {}
    for module in pipe.named("ExportToDatabase"):
        if is_waiting(path := db.path_of(module)):
            found.setdefault(path, []).append(module)
    return {
        path: Target(Server.of(modules[0], passwords(modules[0].number)), tuple(modules))
        for path, modules in found.items()
    }


def tables_of(module: Module, objects: Sequence[str]) -> list[str]:
    """Name the tables by which CellProfiler tells that a module's are there already.

    Parameters
    ----------
    objects : sequence of str
        Those that have a table each, as far as they are known.
    """
    start = f"{prefix_of(module)}Per_"
    if module.get("Export measurements for all objects to the database?") == "None":
        return [f"{start}Image"]
    if module.get(db.KEEPING) == "Single object table":
        return [f"{start}Image", f"{start}Object"]
    return [f"{start}Image", *(f"{start}{name}" for name in objects)]


def is_ours(cursor: Any, prefix: str, known: Mapping[str, Any]) -> bool:
    """Tell whether the tables of a prefix are those that an earlier load of this run made.

    Parameters
    ----------
    known : mapping
        What that load left in the run's state.
    """
    stamp, table = known.get("stamps", {}).get(prefix), f"{prefix}Per_Experiment"
    if stamp is None or not has(cursor, table):
        return False
    cursor.execute(f"SELECT {_STAMP} FROM `{table}`")
    return [row[0] for row in cursor.fetchall()] == [stamp]


def refuse_to_overwrite(server: Server, tables: Iterable[str]) -> BpcpError:
    """Say that tables are there, and that the pipeline says to leave them."""
    return BpcpError(
        Exit.CANNOT_CREATE,
        f"the {server} has {', '.join(tables)} already, and '{_OVERWRITE}' is {_NEVER}",
        f"drop or rename these tables, give the pipeline another table prefix, or set"
        f" '{_OVERWRITE}' to 'Data and schema'",
    )


def temporary_of(analysis: Path) -> str:
    """Give what the names of a run's temporary tables begin with."""
    digest = hashlib.sha256(os.fsencode(analysis)).hexdigest()
    return f"bpcp_{digest[:12]}_"


class Load:
    """One load of one database."""

    def __init__(
        self,
        target: Target,
        known: Mapping[str, Any],
        temporary: str,
        keep: Callable[[dict[str, Any]], None],
    ) -> None:
        """Make one ready.

        Parameters
        ----------
        known : mapping
            What an earlier load of the same run left in its state.
        temporary : str
            What the names of temporary tables begin with: the same for each load of this run.
        keep : callable
            Puts what the next load must know into the run's state.
        """
        self._target, self._known, self._temporary, self._keep = target, known, temporary, keep
        self._names: dict[str, str] = {}

    def run(self, file: Path) -> int:
        """Load a SQLite file; give the rows of its image tables.

        Raises
        ------
        BpcpError
            69 where the server can't be reached, 77 where it refuses, 73 where it does not take
            the tables, or has some that must not be overwritten.
        """
        import pymysql

        server = self._target.server
        with closing(db.open_read_only(file)) as source, connected(server) as connection:
            try:
                with connection.cursor() as cursor:
                    return self._run(source, connection, cursor)
            except pymysql.Error as error:
                raise refusal(server, error) from None

    def _run(self, source: sqlite3.Connection, connection: Any, cursor: Any) -> int:
        cursor.execute("SET NAMES utf8")
        cursor.execute("SET foreign_key_checks = 0")
        self._clear(cursor)
        layouts = db.layouts(db.all_tables(source))
        kept = [x for x in layouts if self._keeps_tables(cursor, x)]
        new = [x for x in layouts if x not in kept]
        statements = dict(
            source.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        )
        for layout in new:
            for table in _tables(layout):
                self._fill(source, cursor, table, statements[table.name])
                connection.commit()
        for name in (_EXPERIMENTS, _PROPERTIES) if new else ():
            cursor.execute(_for_mysql(statements[name]))
        stamps = {x.prefix: _value(source, x.experiment, _STAMP) for x in new}
        record = {
            "server": str(self._target.server),
            "stamps": stamps,
            "experiments": self._known.get("experiments", {}),
        }
        self._keep(record)
        if new:
            self._put_in_place(source, cursor, new, statements)
        for layout in kept:
            self._replace_image_sets(source, cursor, layout)
        if new:
            record["experiments"] = self._describe(source, cursor, {x.prefix for x in new})
        self._keep(record)
        connection.commit()
        return sum(_count(source, x.images) for x in layouts)

    def _clear(self, cursor: Any) -> None:
        """Drop what a load that was killed left behind."""
        cursor.execute("SHOW TABLES LIKE %s", (self._temporary.replace("_", r"\_") + "%",))
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TABLE `{name}`")

    def _keeps_tables(self, cursor: Any, layout: Layout) -> bool:
        """Tell whether the tables that are there stay; an error where they must not be touched."""
        module = self._target.module(layout.prefix)
        names = tables_of(module, [t.name[len(layout.prefix) + 4 :] for t in layout.objects])
        there = [name for name in names if has(cursor, name)]
        if not there or is_ours(cursor, layout.prefix, self._known):
            return False
        if module.get(_OVERWRITE) == _NEVER:
            raise refuse_to_overwrite(self._target.server, there)
        return module.get(_OVERWRITE, _DATA) == _DATA

    # --- new tables -------------------------------------------------------------------------------

    def _fill(self, source: sqlite3.Connection, cursor: Any, table: Table, sql: str) -> None:
        name = self._names[table.name] = f"{self._temporary}{len(self._names)}"
        # its foreign key would have the name of one that is still there
        made = sql.replace(f"CREATE TABLE {table.name}", f"CREATE TABLE `{name}`", 1)
        cursor.execute(_FOREIGN.sub("", made))
        _insert(cursor, name, table.names, _rows(source, table))
        cursor.execute(f"SELECT COUNT(*) FROM `{name}`")
        (rows,) = cursor.fetchone()
        if rows != _count(source, table):
            raise BpcpError(
                Exit.BUG,
                f"{table.name}: {rows} rows loaded into the {self._target.server}, the merge wrote"
                f" {_count(source, table)}",
            )

    def _put_in_place(
        self,
        source: sqlite3.Connection,
        cursor: Any,
        layouts: Sequence[Layout],
        statements: Mapping[str, str],
    ) -> None:
        """Let the new tables take the place of those that are there."""
        indexes = source.execute(
            "SELECT tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
        for table, sql in indexes.fetchall():
            if table in self._names:
                cursor.execute(sql.replace(f" ON {table} ", f" ON `{self._names[table]}` ", 1))
        views = source.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'").fetchall()
        old = dict.fromkeys(name for layout in layouts for name in _replaced(layout))
        for name in old:
            kind = "VIEW" if self._is_view(cursor, name) else "TABLE"
            cursor.execute(f"DROP {kind} IF EXISTS `{name}`")
        for name, temporary in self._names.items():
            if foreign := _FOREIGN.search(statements[name]):
                other = self._names[foreign[4]]
                cursor.execute(f"ALTER TABLE `{temporary}` ADD {foreign[1]}`{other}`{foreign[5]}")
        pairs = [f"`{temporary}` TO `{name}`" for name, temporary in self._names.items()]
        cursor.execute(f"RENAME TABLE {', '.join(pairs)}")
        for name, sql in views:
            if name in old:
                cursor.execute(sql)

    def _is_view(self, cursor: Any, name: str) -> bool:
        cursor.execute(
            "SELECT 1 FROM information_schema.views WHERE table_schema = DATABASE()"
            " AND LOWER(table_name) = LOWER(%s)",
            (name,),
        )
        return bool(cursor.fetchall())

    def _describe(
        self, source: sqlite3.Connection, cursor: Any, prefixes: set[str]
    ) -> dict[str, int]:
        """Write the experiments' names and properties; give their numbers by their modules'."""
        numbers: dict[str, int] = {}
        rows = source.execute(f"SELECT experiment_id FROM {_EXPERIMENTS} ORDER BY 1")
        for (own,), module in zip(rows.fetchall(), self._target.modules, strict=True):
            if prefix_of(module) not in prefixes:
                continue
            name = module.get("Experiment name").replace(QUOTE, "'")
            before = self._known.get("experiments", {}).get(str(module.number))
            cursor.execute(
                f"DELETE FROM {_EXPERIMENTS} WHERE experiment_id = %s AND name = %s",
                (before, name),
            )
            if cursor.rowcount:
                cursor.execute(
                    f"DELETE FROM {_PROPERTIES} WHERE experiment_id = %s",
                    (before,),
                )
            else:
                before = None
            cursor.execute(
                f"INSERT INTO {_EXPERIMENTS} (experiment_id, name) VALUES (%s, %s)",
                (before, name),
            )
            number = numbers[str(module.number)] = cursor.lastrowid if before is None else before
            query = (
                f"SELECT object_name, field, value FROM {_PROPERTIES}"
                " WHERE experiment_id = ? ORDER BY rowid"
            )
            known = source.execute(query, (own,)).fetchall()
            rows_of_server = ((number, *row) for row in _properties(known, self._target.server))
            columns = ("experiment_id", "object_name", "field", "value")
            _insert(cursor, _PROPERTIES, columns, rows_of_server)
        return numbers

    # --- tables that stay -------------------------------------------------------------------------

    def _replace_image_sets(self, source: sqlite3.Connection, cursor: Any, layout: Layout) -> None:
        numbers = [
            n for (n,) in source.execute(f"SELECT ImageNumber FROM {quoted(layout.images.name)}")
        ]
        for table in (layout.images, *layout.objects):
            _delete(cursor, table.name, "ImageNumber", numbers)
            _insert(cursor, table.name, table.names, _rows(source, table))
        if layout.relationships is not None and layout.types is not None:
            table = layout.relationships
            for column in ("image_number1", "image_number2"):
                _delete(cursor, table.name, column, numbers)
            types = self._types(source, cursor, layout.types)
            at = table.names.index("relationship_type_id")
            rows = ((*r[:at], types[r[at]], *r[at + 1 :]) for r in _rows(source, table))
            _insert(cursor, table.name, table.names, rows, "REPLACE")
        if layout.experiment is not None:
            for column in layout.experiment.names:
                if column == _LAST_STAMP or _OVER_ALL.fullmatch(column):
                    value = _value(source, layout.experiment, column)
                    name = layout.experiment.name
                    cursor.execute(f"UPDATE `{name}` SET `{column}` = %s", (value,))

    def _types(self, source: sqlite3.Connection, cursor: Any, table: Table) -> dict[int, int]:
        """Give our numbers of kinds of relationship those that the server has for them."""
        columns = ", ".join(table.names)
        cursor.execute(f"SELECT {columns} FROM `{table.name}`")
        known = {tuple(kind): int(number) for number, *kind in cursor.fetchall()}
        found: dict[int, int] = {}
        for own, *kind in _rows(source, table):
            if tuple(kind) not in known:
                known[tuple(kind)] = max(known.values(), default=0) + 1
                row = (known[tuple(kind)], *kind)
                _insert(cursor, table.name, table.names, [row])
            found[own] = known[tuple(kind)]
        return found


def _tables(layout: Layout) -> list[Table]:
    found = (
        layout.images, *layout.objects, layout.types, layout.relationships, layout.experiment,
    )  # fmt: skip
    return [table for table in found if table is not None]


def _replaced(layout: Layout) -> Iterator[str]:
    """Name what CellProfiler drops before it makes a module's tables; what has a key first."""
    start = f"{layout.prefix}Per_"
    if layout.relationships is not None and layout.types is not None:
        yield from (f"{start}RelationshipsView", layout.relationships.name, layout.types.name)
    yield f"{start}Object"
    for table in _tables(layout):
        yield table.name


def _for_mysql(sql: str) -> str:
    """Give the statement for a table of all experiments as CellProfiler writes it for MySQL."""
    return (
        sql.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1)
        .replace("AUTOINCREMENT", "AUTO_INCREMENT")
        .replace(
            "(experiment_id, object_name, field)", "(experiment_id, object_name(200), field(200))"
        )
    )


def _properties(
    rows: Sequence[tuple[str, str, str]], server: Server
) -> Iterator[tuple[str, str, str]]:
    own = [line.split("=", 1) for line in database_lines(server).split("\n")]
    for name, key, value in rows:
        if key == "db_sqlite_file":
            continue
        if key == "db_type":
            yield from ((name, field.strip(), text.strip()) for field, text in own)
            continue
        yield name, key, _ESCAPED.sub(lambda m: _ESCAPES.get(m[1], m[1]), value).replace(QUOTE, "'")


def _value(source: sqlite3.Connection, table: Table | None, column: str) -> Any:
    if table is None or column not in table.names:
        return None
    return source.execute(f"SELECT {quoted(column)} FROM {quoted(table.name)}").fetchone()[0]


def _count(source: sqlite3.Connection, table: Table) -> int:
    return int(source.execute(f"SELECT COUNT(*) FROM {quoted(table.name)}").fetchone()[0])


def _rows(source: sqlite3.Connection, table: Table) -> Iterator[tuple[Any, ...]]:
    columns = ", ".join(map(quoted, table.names))
    return iter(source.execute(f"SELECT {columns} FROM {quoted(table.name)} ORDER BY rowid"))


def _insert(
    cursor: Any,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    how: str = "INSERT",
) -> None:
    listed = ", ".join(f"`{column}`" for column in columns)
    statement = f"{how} INTO `{table}` ({listed}) VALUES ({', '.join(['%s'] * len(columns))})"
    left = iter(rows)
    while batch := list(islice(left, _ROWS)):
        cursor.executemany(statement, batch)


def _delete(cursor: Any, table: str, column: str, numbers: Sequence[int]) -> None:
    for at in range(0, len(numbers), _ROWS):
        some = numbers[at : at + _ROWS]
        marks = ", ".join(["%s"] * len(some))
        cursor.execute(f"DELETE FROM `{table}` WHERE `{column}` IN ({marks})", some)
