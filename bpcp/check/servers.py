"""ExportToDatabase to a MySQL server: how chunks go round it, and whether it will take the result.

Source: CellProfiler 4.2.8.1, modules/exporttodatabase.py (prepare_run).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from bpcp import pipeline
from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import place
from bpcp.check.places import mends_of
from bpcp.database.file import path_of, type_of
from bpcp.database.load import is_ours, refuse_to_overwrite, tables_of, temporary_of
from bpcp.database.server import (
    QUOTE,
    Server,
    connected,
    has,
    is_waiting,
    prefix_of,
    refusal,
    try_out,
    waiting_name,
)
from bpcp.errors import BpcpError, Exit
from bpcp.mend import Mend
from bpcp.pipeline import Kind, Module, Pipeline
from bpcp.workspace import Workspace, read_json

MYSQL = Code(
    "pipeline-mysql",
    Severity.ERROR,
    "each process would make the server's tables again: chunks write SQLite, and it is loaded once",
)
SERVER = Code(
    "pipeline-mysql-server", Severity.ERROR, "the MySQL server can't be reached", Exit.UNAVAILABLE
)
REFUSED = Code(
    "pipeline-mysql-refused",
    Severity.ERROR,
    "the MySQL server refuses the pipeline's user",
    Exit.NO_PERMISSION,
)
EXISTS = Code(
    "pipeline-mysql-tables",
    Severity.ERROR,
    "the MySQL server has tables that must not be overwritten",
    Exit.CANNOT_CREATE,
)
CODES = (MYSQL, SERVER, REFUSED, EXISTS)

_TYPE, _FILE = "Database type", "Name the SQLite database file"
_WIDE = 500
# What goes into Experiment and Experiment_Properties, or only into a properties file.
_TEXTS = (
    "Experiment name",
    "Enter an image url prepend if you plan to access your files via http",
    "Image name",
    "Enter the name of the group",
    "Enter the per-image columns which define the group, separated by commas",
    "Enter the name of the filter",
    "Enter the MySQL WHERE clause to define a filter",
    "Enter a phenotype class table name if using the Classifier tool in CellProfiler Analyst",
)


def of_types(pipe: Pipeline) -> Iterator[Finding]:
    """Find modules that write to a server, and say how the run's copy is patched."""
    before: list[Server] = []
    for module in pipe.named("ExportToDatabase"):
        if type_of(module) == "SQLite":
            continue
        server = Server.of(module)
        what = f"it writes to {type_of(module) or 'a database server'}: {server}"
        remedy = "set 'Database type' to SQLite, or use ExportToSpreadsheet"
        mends: tuple[Mend, ...] = ()
        if type_of(module) != "MySQL":
            what = f"CellProfiler 4 writes to no {type_of(module) or 'database without a type'}"
        elif pipe.kind is Kind.BATCH:
            what += "; the SQLite tables that chunks would fill are not made by this batch file"
            remedy = "run the pipeline that it was made of, with its list"
        else:
            mends = _mends(pipe, module, waiting_name(server, before))
            before.append(server)
            if not mends:
                remedy = "open the pipeline in CellProfiler 4 and save it again"
        yield Finding(MYSQL, place(module), what, remedy, mends=mends)


def _mends(pipe: Pipeline, module: Module, name: str) -> tuple[Mend, ...]:
    """Patch a module so that its processes write SQLite; none where its settings are too old."""
    named = f"ExportToDatabase (module {module.number})"
    said = f"{named} writes SQLite in each process, and bpcp loads the merged tables into MySQL"
    found = [
        *mends_of(pipe, Mend(module.number, _TYPE, "MySQL", "SQLite", said)),
        *mends_of(
            pipe,
            Mend(module.number, _FILE, module.get(_FILE), name, f"{named} names that file {name}"),
        ),
    ]
    if len(found) < 2:
        return ()
    seen: Counter[str] = Counter()
    for label, value in module.settings:
        if "'" in value and label in _TEXTS:
            new = value.replace("'", QUOTE)
            said = f"{named} has no quote ' in '{label}' until it is loaded: SQLite can't take it"
            found += mends_of(pipe, Mend(module.number, label, value, new, said, seen[label]))
        seen[label] += 1
    return tuple(found)


def of_servers(pipe: Pipeline, workspace: Workspace) -> list[Finding]:
    """Ask the servers that a pipeline names whether they will take its tables."""
    if pipe.kind is Kind.BATCH:
        return []
    found: list[Finding] = []
    known = read_json(workspace.loaded) or {}
    by_server: dict[Server, list[Module]] = {}
    for module in pipe.named("ExportToDatabase"):
        if type_of(module) == "MySQL":
            password = pipeline.password_of(pipe.path, module.number)
            by_server.setdefault(Server.of(module, password), []).append(module)
    for server, modules in by_server.items():
        where = "; ".join(map(place, modules))
        loaded = [k for k in known.values() if k.get("server") == str(server)]
        try:
            try_out(server, f"{temporary_of(workspace.analysis)}probe")
            for module in modules:
                _refuse_old_tables(server, module, loaded)
        except BpcpError as error:
            codes = {Exit.NO_PERMISSION: REFUSED, Exit.CANNOT_CREATE: EXISTS}
            found.append(Finding(codes.get(error.code, SERVER), where, str(error), error.todo))
    return found


def try_widths(
    pipe: Pipeline, widths: Mapping[str, Mapping[str, int]], workspace: Workspace
) -> None:
    """Ask the servers whether they take tables as wide as the run's; see `databases.of_widths`.

    Raises
    ------
    BpcpError
        73 where one does not; 69 or 77 where it can't be asked.
    """
    for module in pipe.named("ExportToDatabase"):
        tables = widths.get(str(module.number), {})
        # the server's own limits begin far above what most pipelines measure
        if is_waiting(path_of(module)) and (most := max(tables.values(), default=0)) > _WIDE:
            server = Server.of(module, pipeline.password_of(pipe.path, module.number))
            try_out(server, f"{temporary_of(workspace.analysis)}probe", most)


def _refuse_old_tables(server: Server, module: Module, loaded: list[dict[str, object]]) -> None:
    """Raise where tables are there that the module must not overwrite."""
    import pymysql

    if module.get("Overwrite without warning?") != "Never":
        return
    objects = module.get("Select the objects").split(",")
    with connected(server) as connection, connection.cursor() as cursor:
        try:
            there = [name for name in tables_of(module, objects) if has(cursor, name)]
            if there and not any(is_ours(cursor, prefix_of(module), k) for k in loaded):
                raise refuse_to_overwrite(server, there)
        except pymysql.Error as error:
            raise refusal(server, error) from None
