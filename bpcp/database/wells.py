"""The SQL script with which a MySQL server makes tables of wells: SQL__Per_Well_SETUP.SQL.

One CellProfiler process writes it as a run begins, where means, medians or standard deviations by
well are asked for and the database is MySQL. It is made here of the merged database, which has the
same columns in the same order.

Source: cellprofiler 4.2.8.1, modules/exporttodatabase.py (write_mysql_table_per_well).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import bpcp.database.file as db
from bpcp.database.file import Layout
from bpcp.database.names import shortened
from bpcp.database.server import prefix_of
from bpcp.pipeline import Module

NAME = "SQL__Per_Well_SETUP.SQL"
_KINDS = {
    "avg": "Calculate the per-well mean values of object measurements?",
    "median": "Calculate the per-well median values of object measurements?",
    "std": "Calculate the per-well standard deviation values of object measurements?",
}
_TEXT = ("varchar", "TEXT")


def kinds(module: Module) -> list[str]:
    """Give the SQL functions by which a module wants wells summed up."""
    return [name for name, label in _KINDS.items() if module.get(label) == "Yes"]


def script(module: Module, file: Path) -> str:
    """Write the script of a module, from the merged database."""
    with closing(db.open_read_only(file)) as connection:
        layout = _layout(connection, prefix_of(module))
        parts = [f"USE {module.get('Database name')};\n"]
        parts += [_statement(name, layout, module) for name in kinds(module)]
    return "".join(parts)


def _layout(connection: sqlite3.Connection, prefix: str) -> Layout:
    return next(x for x in db.layouts(db.all_tables(connection)) if x.prefix == prefix)


def _statement(kind: str, layout: Layout, module: Module) -> str:
    combined = module.get(db.KEEPING) == "Single object table"
    named = [("OT" if combined else f"OT{i}", t) for i, t in enumerate(layout.objects, 1)]
    columns = [(short, c) for short, t in named for c in _measured(t.columns[1 + combined :])]
    own = [(c, k) for c, k in layout.images.columns[1:] if c.startswith("Image_")]
    columns += [("IT", c) for c in _measured(own) if not db.is_time(c)]
    short = shortened(f"{kind}_{column}" for _, column in columns)
    listed = "".join(f"{kind}({t}.{c}) as {short[f'{kind}_{c}']},\n" for t, c in columns)
    return (
        f"CREATE TABLE {layout.prefix}Per_Well_{kind} AS SELECT {listed}"
        "IT.Image_Metadata_Plate, IT.Image_Metadata_Well "
        f"FROM {layout.prefix}Per_Image IT\n{_joined(named, layout)}"
        "GROUP BY IT.Image_Metadata_Plate, IT.Image_Metadata_Well;\n\n"
    )


def _measured(columns: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (name for name, kind in columns if not kind.startswith(_TEXT))


def _joined(named: Sequence[tuple[str, db.Table]], layout: Layout) -> str:
    if not named:
        return ""
    if len(named) == 1:
        short, table = named[0]
        return f"JOIN {table.name} {short} ON IT.ImageNumber = {short}.ImageNumber\n"
    numbers = [
        f"SELECT ImageNumber, {layout.object_of(t)}_Number_Object_Number as ObjectNumber"
        f" FROM {t.name}\n"
        for _, t in named
    ]
    left = [
        f"LEFT JOIN {t.name} {short} ON N.ImageNumber = {short}.ImageNumber"
        f" AND N.ObjectNumber = {short}.{layout.object_of(t)}_Number_Object_Number\n"
        for short, t in named
    ]
    return (
        "RIGHT JOIN (SELECT DISTINCT ImageNumber, ObjectNumber FROM\n"
        f"({'UNION '.join(numbers)}) N_INNER) N ON IT.ImageNumber = N.ImageNumber\n{''.join(left)}"
    )
