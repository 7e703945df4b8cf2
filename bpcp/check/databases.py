"""Settings of ExportToDatabase of which bpcp can't make one database.

Source: CellProfiler 4.2.8.1, modules/exporttodatabase.py (make_full_filename, prepare_run,
get_experiment_table_statements, ColumnNameMapping), and cellprofiler_core 4.2.8.1,
setting/text/_directory.py (get_absolute_path).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bpcp.beside import Folder
from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import place
from bpcp.database.file import KEEPING, type_of
from bpcp.database.width import MOST
from bpcp.pipeline import TAG, Kind, Module, Pipeline

NAMES = Code(
    "pipeline-database-names",
    Severity.ERROR,
    "ExportToDatabase shortens the names of columns that the merge needs",
)
FOLDER = Code(
    "pipeline-database-folder",
    Severity.ERROR,
    "ExportToDatabase's files don't go to one folder inside the result",
)
QUOTE = Code("pipeline-database-quote", Severity.ERROR, "a quote ' breaks ExportToDatabase's SQL")
COLUMNS = Code(
    "pipeline-database-columns",
    Severity.ERROR,
    "ExportToDatabase's tables have more columns than SQLite takes",
)
CODES = (NAMES, FOLDER, QUOTE, COLUMNS)

_LONGEST = "Maximum # of characters in a column name"
# What the merge writes anew for the whole list.
_NEEDED = "Image_Group_Number"
_FOLDER = "Output file location"
_FILE = "Name the SQLite database file"
_EXPERIMENT = "Experiment name"


def of_databases(pipe: Pipeline) -> Iterator[Finding]:
    """Find settings whose databases would fail, or could not be merged."""
    for module in _writers(pipe):
        longest = module.get(_LONGEST)
        if longest.isdigit() and int(longest) < len(_NEEDED):
            yield Finding(
                NAMES,
                place(module),
                f"names of columns have {longest} characters at most: {_NEEDED}, which the merge"
                " writes anew, is shortened",
                f"set '{_LONGEST}' to 64",
            )
        elif longest.isdigit() and int(longest) < (needed := _key_length(module)):
            yield Finding(
                NAMES,
                place(module),
                f"names of columns have {longest} characters at most: the key of a kind of object's"
                f" table has {needed}, and CellProfiler shortens the column but not its key",
                f"set '{_LONGEST}' to 64",
            )
        yield from _of_places(module)
        if pipe.kind is not Kind.BATCH:
            yield from _of_quotes(module)


def of_widths(pipe: Pipeline, widths: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    """Find tables that SQLite does not take: CellProfiler stops before its first image set.

    Parameters
    ----------
    widths : mapping
        By a module's number: the columns of each of its tables, as `width.widths` counts them.
    """
    for module in _writers(pipe):
        wide = {t: n for t, n in widths.get(str(module.number), {}).items() if n > MOST}
        if wide:
            tables = ", ".join(f"{table} {count:,}" for table, count in wide.items())
            yield Finding(
                COLUMNS,
                place(module),
                f"SQLite takes tables of {MOST:,} columns at most, and CellProfiler says that it"
                f" measures: {tables}",
                "export fewer objects, one table for each, and no per-image means, medians or"
                " standard deviations; or use ExportToSpreadsheet",
            )


def of_folder(pipe: Pipeline, folder: Path) -> list[Finding]:
    """Find what a folder's own path does to a pipeline.

    Parameters
    ----------
    folder : Path
        Where the processes work that make the tables: those of a run; without LoadData, the one
        that makes the batch file.
    """
    writers = [] if pipe.kind is Kind.BATCH else list(filter(_stores_its_path, _writers(pipe)))
    if not writers or "'" not in str(folder):
        return []
    return [
        Finding(
            QUOTE,
            "; ".join(map(place, writers)),
            f"the quote ' in the folder where processes work breaks its SQL: {folder}",
            "name a folder without one: -t FOLDER",
        )
    ]


def _writers(pipe: Pipeline) -> Iterator[Module]:
    return (m for m in pipe.named("ExportToDatabase") if type_of(m) in ("SQLite", "MySQL"))


def _key_length(module: Module) -> int:
    """Give the length of the longest key that a module's tables of objects have at least."""
    export = module.get("Export measurements for all objects to the database?")
    if export == "None" or module.get(KEEPING) == "Single object table":
        return 0
    chosen = module.get("Select the objects").split(",") if export == "Select..." else ["?"]
    return max(len(f"{name.strip()}_Number_Object_Number") for name in chosen)


def _of_places(module: Module) -> Iterator[Finding]:
    folder, name = Folder.of(module.get(_FOLDER)), module.get(_FILE)
    if folder.is_named and TAG.search(folder.path):
        yield Finding(
            FOLDER,
            place(module),
            f"its folder has metadata in it: {folder.path}; the database knows none, and its"
            " properties file goes elsewhere",
            f"set '{_FOLDER}' to a folder without metadata",
        )
    if type_of(module) == "SQLite" and (Path(name).is_absolute() or ".." in Path(name).parts):
        yield Finding(
            FOLDER,
            place(module),
            f"its database leaves the output folder: {name}",
            f"set '{_FILE}' to a plain name",
        )


def _of_quotes(module: Module) -> Iterator[Finding]:
    folder = Folder.of(module.get(_FOLDER))
    texts = {}
    if _stores_its_path(module):
        texts[_FOLDER] = folder.path if folder.is_named else ""
    if type_of(module) == "SQLite":
        # of MySQL's, the run's copy has none: see `servers.of_types`
        texts[_EXPERIMENT] = module.get(_EXPERIMENT)
        if _stores_its_path(module):
            texts[_FILE] = module.get(_FILE)
    for label, text in texts.items():
        if "'" in text:
            yield Finding(
                QUOTE,
                place(module),
                f"the quote ' in '{label}' breaks its SQL: {text}",
                f"set '{label}' to one without it",
            )


def _stores_its_path(module: Module) -> bool:
    """Tell whether the database's path goes into a statement as its tables are made.

    Not so where each kind of object is to have a table, and all are meant: none is known then.
    """
    return (
        module.get("Export measurements for all objects to the database?") != "All"
        or module.get("Create one table per object, a single object table or a single object view?")
        != "One table per object type"
    )
