"""How many columns a table will have, by what CellProfiler says that a pipeline measures.

Source: cellprofiler 4.2.8.1, modules/exporttospreadsheet.py (filter_columns, make_object_file);
cellprofiler_core 4.2.8.1, utilities/measurement.py (agg_ignore_feature).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bpcp.database.width import MOST
from bpcp.errors import BpcpError, Exit
from bpcp.pipeline import Module, Pipeline, is_objects, tables_of

_AGGREGATES = (
    "Calculate the per-image mean values for object measurements?",
    "Calculate the per-image median values for object measurements?",
    "Calculate the per-image standard deviation values for object measurements?",
)
_ADDED = {
    "Add image metadata columns to your object data file?": ("Metadata_",),
    "Add image file and folder names to your object data file?": ("PathName_", "FileName_"),
}
_NOT_AGGREGATED = ("Description_", "ModuleError_", "TimeElapsed_", "Number_Object_Number")

Measured = Iterable[tuple[str, str]]


def widest(pipe: Pipeline, measured: Measured) -> tuple[str, int]:
    """Give the widest table that the pipeline exports, by its path, and how many columns it has.

    Parameters
    ----------
    measured : iterable of (str, str)
        Object and feature, as `engine.measurements`.

    Returns
    -------
    (str, int)
        "" and 0 where it exports none.
    """
    features: dict[str, dict[str, None]] = {}
    for name, feature in measured:
        features.setdefault(name, {})[feature] = None
    found = [("", 0)]
    for module in pipe.named("ExportToSpreadsheet"):
        chosen = _chosen(module)
        for table in tables_of(module):
            if table.objects:
                found.append((table.path, _width(module, table.objects, features, chosen)))
                continue
            for name in features:
                path = table.path.replace("*", name)
                found.append((path, _width(module, (name,), features, chosen)))
    return max(found, key=lambda known: known[1])


def check_sqlite(path: str, columns: int) -> None:
    """Refuse a table that SQLite can't take.

    Raises
    ------
    BpcpError
        65 where it has too many columns.
    """
    if columns > MOST:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"--format sqlite: {path} has {columns:,} columns, and SQLite takes"
            f" {MOST:,} in a table",
            "use --format parquet; the CSV tables have no such limit",
        )


def _chosen(module: Module) -> set[tuple[str, str]] | None:
    """Give the measurements that are exported; None for all."""
    if module.get("Select the measurements to export") != "Yes":
        return None
    listed = module.get("Press button to select measurements").split(",")
    return {(name, feature) for name, _, feature in (c.partition("|") for c in listed)}


def _width(
    module: Module,
    objects: Sequence[str],
    features: Mapping[str, Iterable[str]],
    chosen: set[tuple[str, str]] | None,
) -> int:
    own = [(name, feature) for name in objects for feature in features.get(name, ())]
    if chosen is not None:
        own = [known for known in own if known in chosen]
    if objects == ("Image",):
        kinds = sum(module.get(label) == "Yes" for label in _AGGREGATES)
        return 1 + len(own) + kinds * _aggregated(features, chosen)
    if not all(map(is_objects, objects)):
        return 0
    added = [p for label, names in _ADDED.items() if module.get(label) == "Yes" for p in names]
    beside = [f for f in features.get("Image", ()) if f.startswith(tuple(added))] if added else []
    return 2 + len(beside) + len(own)


def _aggregated(features: Mapping[str, Iterable[str]], chosen: set[tuple[str, str]] | None) -> int:
    """Count the measurements of objects that an image set has a mean of."""
    return sum(
        not feature.startswith(_NOT_AGGREGATED) and (chosen is None or (name, feature) in chosen)
        for name, known in features.items()
        if is_objects(name)
        for feature in known
    )
