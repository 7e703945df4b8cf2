"""Empty databases for processes that start from a batch file.

ExportToDatabase makes its tables when a run is prepared, which for a batch file is when that is
made. A process that starts from it finds them in its output folder, or fails: "no such table".
So what was made with the batch file is kept, and put into the folder of each attempt.

Source: cellprofiler 4.2.8.1, modules/exporttodatabase.py (prepare_run).
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from bpcp.database.file import Layout, all_tables, is_sqlite, layouts, quoted, recognise

_PIPELINE = "Pipeline_Pipeline"


def keep_empty(
    made_in: Path, home: Path, names: Sequence[str], own_text: Callable[[str], str]
) -> list[str]:
    """Keep the databases that CellProfiler makes with a batch file, for processes to fill.

    Parameters
    ----------
    made_in : Path
        The default output folder of the process that made the batch file.
    home : Path
        Where they are kept; what is there goes.
    names : sequence of str
        What `path_of` says of the pipeline's modules.
    own_text : callable
        Gives the pipeline as its user wrote it for the text that CellProfiler ran.

    Returns
    -------
    list of str
        Those that are not there, or hold none of CellProfiler's tables.
    """
    shutil.rmtree(home, ignore_errors=True)
    missing = []
    for name in dict.fromkeys(names):
        source, target = made_in / name, home / name
        if not source.is_file() or not is_sqlite(source) or recognise(source) is None:
            missing.append(name)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        with closing(sqlite3.connect(target, isolation_level=None)) as connection:
            for layout in layouts(all_tables(connection)):
                _empty(connection, layout, own_text)
    return missing


def _empty(connection: sqlite3.Connection, layout: Layout, own_text: Callable[[str], str]) -> None:
    for table in (layout.images, *layout.objects, layout.relationships):
        if table is not None:
            connection.execute(f"DELETE FROM {quoted(table.name)}")  # noqa: S608
    experiment = layout.experiment
    if experiment is None or _PIPELINE not in experiment.names:
        return
    name = quoted(experiment.name)
    for (text,) in connection.execute(f"SELECT {_PIPELINE} FROM {name}").fetchall():  # noqa: S608
        # CellProfiler writes a byte for each letter
        changed = own_text(bytes(text).decode("latin-1")).encode("latin-1")
        connection.execute(f"UPDATE {name} SET {_PIPELINE} = ?", (changed,))  # noqa: S608


def seed(home: Path, output: Path) -> None:
    """Put empty databases where a process that starts from a batch file fills them.

    Parameters
    ----------
    home : Path
        Where they were kept; nothing happens where it is not there.
    output : Path
        The default output folder of the process.
    """
    if home.is_dir():
        shutil.copytree(home, output, dirs_exist_ok=True)
