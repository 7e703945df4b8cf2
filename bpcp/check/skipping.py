"""What a pipeline needs whose image sets may be skipped: a process that skips all must end well.

Where all image sets of a process are skipped before a module makes some objects, CellProfiler
fails at the table that ExportToSpreadsheet lists for these, and writes none of those behind it;
one that also has other image sets does not fail. With the tables of images first and those of
objects in the order in which they are made, all that such a process can write is written by then.

Source: cellprofiler 4.2.8.1, modules/exporttospreadsheet.py (post_run, make_object_file).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import place, skipping_flags
from bpcp.check.places import mends_of
from bpcp.mend import Mend
from bpcp.pipeline import Module, Pipeline, is_objects

EXPORT_ORDER = Code(
    "pipeline-export-order",
    Severity.NOTE,
    "tables are written in another order, as image sets may be skipped",
)
MEANS = Code(
    "pipeline-means-behind-flag",
    Severity.WARNING,
    "a module averages over image sets that FlagImage may all have skipped",
)
CODES = (EXPORT_ORDER, MEANS)

_SHARES = "Combine these object measurements with those of the previous object?"
# What ExportToSpreadsheet keeps of each table that it lists.
_ENTRY = ("Data to export", _SHARES, "File name", "Use the object name for the file name?")
_SHARES_AT = 1


def of_skipping(pipe: Pipeline) -> Iterator[Finding]:
    """Find what is to be said of a pipeline that skips image sets."""
    flags = [m for m in pipe.modules if skipping_flags(m)]
    if not flags:
        return
    for module in pipe.named("MeasureImageQuality"):
        if module.number > flags[0].number and "Yes" in module.all("Calculate thresholds?"):
            yield Finding(
                MEANS,
                place(module),
                f"it averages thresholds over the image sets of a process; where {place(flags[0])}"
                " skips all of these, CellProfiler fails, and the image sets of that chunk with it",
                f"put it before {place(flags[0])}; or run with chunks so large (--chunk-size) that"
                " each has an image set that is not skipped",
            )
    for module in pipe.named("ExportToSpreadsheet"):
        if module.get("Export all measurement types?") == "Yes":
            continue
        said = (
            f"ExportToSpreadsheet (module {module.number}) writes its tables in the order in which"
            " they are measured"
        )
        if mends := _mends(pipe, module, said):
            yield Finding(
                EXPORT_ORDER,
                place(module),
                "it lists tables of objects before those of images, or before those of objects that"
                " are made earlier; a process whose image sets are all skipped would lack these",
                "list Image and Experiment first, then the objects as the modules make them",
                mends=mends,
            )


def _mends(pipe: Pipeline, module: Module, said: str) -> tuple[Mend, ...]:
    """Give what puts a module's tables in order; none where they are, or can't be."""
    entries = list(zip(*map(module.all, _ENTRY), strict=True))
    ordered = _ordered(pipe, entries)
    if len({(e[0] if e[3] == "Yes" else e[2]) for e in entries}) < len(entries):
        # several write one file, and the last one's stays
        return ()
    changes = [
        Mend(module.number, label, old, new, said, at)
        for at, (before, after) in enumerate(zip(entries, ordered, strict=True))
        for label, old, new in zip(_ENTRY, before, after, strict=True)
        if old != new
    ]
    found = [mend for change in changes for mend in mends_of(pipe, change)]
    return tuple(found) if len(found) == len(changes) else ()


_Entry = tuple[str, ...]


def _ordered(pipe: Pipeline, entries: Sequence[_Entry]) -> list[_Entry]:
    tables: list[list[_Entry]] = []
    for entry in entries:
        name, shares = entry[0], entry[_SHARES_AT] == "Yes"
        if shares and tables and is_objects(name) and is_objects(tables[-1][-1][0]):
            tables[-1].append(entry)
        else:
            tables.append([entry])
    ordered = sorted(tables, key=lambda table: max(_made_by(pipe, e[0]) for e in table))
    if ordered == tables:
        return list(entries)
    # where it stands now, the first of a table may come behind other objects
    alone = [[(*t[0][:_SHARES_AT], "No", *t[0][_SHARES_AT + 1 :]), *t[1:]] for t in ordered]
    return [entry for table in alone for entry in table]


def _made_by(pipe: Pipeline, name: str) -> int:
    """Give the place of the module that makes some objects: the first that names them."""
    if not is_objects(name):
        return 0
    naming = (m.number for m in pipe.modules if any(name == value for _, value in m.settings))
    return next(naming, 0)
