"""How many columns ExportToDatabase's tables have, from what CellProfiler says that it measures.

SQLite takes no table or view of more than 2,000 columns, and CellProfiler stops before its first
image set; MySQL's InnoDB takes 1,017.

Source: cellprofiler 4.2.8.1, modules/exporttodatabase.py (ignore_feature, get_aggregate_columns,
get_create_object_table_statement), cellprofiler_core 4.2.8.1, utilities/measurement.py
(agg_ignore_feature).
"""

from __future__ import annotations

from collections.abc import Iterable

from bpcp.database.file import KEEPING
from bpcp.pipeline import Module

MOST = 2000

_NOT_WRITTEN = ("Description_", "ModuleError_", "TimeElapsed_")
_NO_OBJECTS = ("Image", "Experiment", "Neighbors")
_AGGREGATES = tuple(
    f"Calculate the per-image {kind} values of object measurements?"
    for kind in ("mean", "median", "standard deviation")
)


def widths(module: Module, measured: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Count the columns of each table of a module.

    Parameters
    ----------
    measured : iterable of (str, str)
        Objects and features, as `cellprofiler.measurements` gives them.
    """
    features: dict[str, set[str]] = {}
    for name, feature in measured:
        if not feature.startswith(_NOT_WRITTEN):
            features.setdefault(name, set()).add(feature)
    export = module.get("Export measurements for all objects to the database?")
    chosen = [name.strip() for name in module.get("Select the objects").split(",")]
    own = {
        name: len([f for f in found if not f.startswith("ExecutionTime_")])
        for name, found in features.items()
        if name not in _NO_OBJECTS and export != "None" and (export == "All" or name in chosen)
    }
    summed_up = sum(module.get(label) == "Yes" for label in _AGGREGATES)
    # no mean of an object's number
    aggregates = summed_up * sum(n - 1 for n in own.values())
    found = {"Per_Image": 1 + len(features.get("Image", ())) + aggregates}
    if own and module.get(KEEPING) != "One table per object type":
        found["Per_Object"] = 2 + sum(own.values())
    if module.get(KEEPING) != "Single object table":
        found |= {f"Per_{name}": 1 + n for name, n in own.items()}
    return found
