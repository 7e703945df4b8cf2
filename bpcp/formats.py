"""Write the merged tables in other formats too: Parquet files beside them, or one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bpcp import tables
from bpcp.errors import BpcpError, Exit
from bpcp.tables import Shape, Spelling
from bpcp.widths import check_sqlite
from bpcp.workspace import Json, Workspace, read_json

_BATCH_ROWS = 2000
# LoadData's types of a column of the image list, see imagelist.Type
_LISTED = {"INTEGER": Spelling.INTEGER, "FLOAT": Spelling.FLOAT, "TEXT": Spelling.TEXT}


def write(workspace: Workspace, merged: dict[str, Json], formats: Sequence[str]) -> list[Path]:
    """Write the merged tables in the formats that were asked for.

    Parameters
    ----------
    merged : dict
        As `merge.Merged.tables`.
    formats : sequence of str
        Any of "parquet" and "sqlite"; "csv" is there already.

    Returns
    -------
    list of Path
        What was written: `<table>.parquet` beside each `<table>.csv`, or `<TAG>.sqlite` with a
        table for each. Values that are missing in the CSV are null; NaN stays NaN in Parquet and
        is null in SQLite, which has no NaN.
    """
    listed = {
        name: _LISTED[kind] for name, kind in (read_json(workspace.run) or {})["columns"].items()
    }
    found = []
    if "parquet" in formats:
        for path, known in merged.items():
            target = workspace.analysis / f"{stem(path, merged)}.parquet"
            columns = _columns(known, listed)
            found.append(_write_parquet(workspace.analysis / path, target, columns))
    if "sqlite" in formats and merged:
        found.append(_write_sqlite(workspace, merged, listed))
    return found


def stem(path: str, paths: Collection[str]) -> str:
    """Give what a table is called in other formats: without .csv, unless another would be, too."""
    short = str(Path(path).with_suffix(""))
    alike = sum(str(Path(other).with_suffix("")) == short for other in paths)
    return path if alike > 1 else short


def _columns(known: Json, listed: dict[str, Spelling]) -> dict[str, Spelling]:
    """Give each column's type: what was seen, and for what the image list brings the wider one."""
    columns = {
        n: tables.unite([listed.get(n, Spelling.BLANK), Spelling(s)])
        for n, s in known["columns"].items()
    }
    if known["kind"] == "relationship":
        columns["Relationship"] = Spelling.TEXT
    return columns


def _value(cell: str, how: Spelling) -> Any:
    if how in (Spelling.TEXT, Spelling.BLANK):
        return cell
    if cell == "":
        return None
    return int(cell) if how is Spelling.INTEGER and cell != "nan" else float(cell)


def _shape(path: Path) -> Shape:
    shape = tables.recognise(path)
    if shape is None:
        raise BpcpError(Exit.BUG, f"{path} is not the table that the merge wrote")
    return shape


def _write_parquet(path: Path, target: Path, columns: dict[str, Spelling]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {Spelling.INTEGER: pa.int64(), Spelling.FLOAT: pa.float64()}
    schema = pa.schema([(name, kinds.get(how, pa.string())) for name, how in columns.items()])
    hows = list(columns.values())
    temporary = target.with_name(f".{target.name}.writing")
    body = tables.rows(path, _shape(path))
    try:
        with pq.ParquetWriter(temporary, schema) as writer:
            while batch := list(islice(body, _BATCH_ROWS)):
                cells = zip(*batch, strict=True)
                arrays = [
                    # a missing integer is null; its column stays one of integers
                    pa.array(
                        [
                            None if how is Spelling.INTEGER and c == "nan" else _value(c, how)
                            for c in column
                        ],
                        type=field.type,
                    )
                    for column, how, field in zip(cells, hows, schema, strict=True)
                ]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _write_sqlite(
    workspace: Workspace, merged: dict[str, Json], listed: dict[str, Spelling]
) -> Path:
    target = workspace.analysis / f"{workspace.tag}.sqlite"
    temporary = target.with_name(f".{target.name}.writing")
    temporary.unlink(missing_ok=True)
    kinds = {Spelling.INTEGER: "INTEGER", Spelling.FLOAT: "REAL"}
    database = sqlite3.connect(temporary)
    try:
        for path, known in merged.items():
            columns = _columns(known, listed)
            check_sqlite(path, len(columns))
            hows = list(columns.values())
            name = _quoted(stem(path, merged))
            fields = ", ".join(
                f"{_quoted(c)} {kinds.get(h, 'TEXT')}"
                for c, h in zip(_distinct(columns), hows, strict=True)
            )
            database.execute(f"CREATE TABLE {name} ({fields})")
            marks = ", ".join("?" * len(hows))
            database.executemany(
                f"INSERT INTO {name} VALUES ({marks})",  # noqa: S608 -- quoted as SQLite asks
                (
                    [_value(cell, how) for cell, how in zip(row, hows, strict=True)]
                    for row in tables.rows(
                        workspace.analysis / path, _shape(workspace.analysis / path)
                    )
                ),
            )
        database.commit()
        database.close()
        temporary.replace(target)
    finally:
        database.close()
        temporary.unlink(missing_ok=True)
    return target


def _distinct(names: Iterable[str]) -> list[str]:
    """Tell names apart that differ only in case, which SQLite takes for one: "dna", "DNA_2"."""
    given = list(names)
    taken: set[str] = set()
    found = []
    for name in given:
        free, n = name, 1
        # neither what stands already, nor what another column is called by itself
        while free.lower() in taken or (free != name and free in given):
            n += 1
            free = f"{name}_{n}"
        taken.add(free.lower())
        found.append(free)
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
