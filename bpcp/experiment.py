"""Experiment tables: what is measured once for a run, made of what each process wrote."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from bpcp import tables
from bpcp.errors import BpcpError, Exit
from bpcp.mend import Mend, unmended, without_create_batch
from bpcp.restore import Restorer, Source, Table
from bpcp.workspace import Json

_FIRST_STAMP, _LAST_STAMP = "Run_Timestamp", "Modification_Timestamp"
# MeasureImageQuality's means over all image sets of a run; source: its post_run.
_OVER_ALL = re.compile(r"ImageQuality_Threshold(Mean|Median|Std)(.*)")

# TrackObjects counts the tracks of each group, and keeps the last count; source: its post_group.
_LAST_GROUP = ("TrackObjects_OriginalNumberOfTracks", "TrackObjects_FilteredNumberOfTracks")
_PIPELINE, _MAPPINGS = "Pipeline_Pipeline", "Path_Mappings"
# What CreateBatchFiles leaves there, and a process without it does not.
_BATCH_KEYS = (_MAPPINGS, "Pipeline_UserPipeline")
_OWN_BATCH = "own"
_PACKING = "ImageSet_Zip_Dictionary"


def own_text(run: Json) -> Callable[[str], str]:
    """Give what makes the user's own pipeline of one that CellProfiler ran and wrote down."""
    mends = [Mend(**known) for known in run.get("mends", [])]

    def own(text: str) -> str:
        if run.get("batch") == _OWN_BATCH:
            text = without_create_batch(text)
        return unmended(text, mends)

    return own


def write(
    table: Table,
    file: TextIO,
    found: Sequence[Source],
    restorer: Restorer,
    images: Path | None,
    batch_file: Path,
) -> None:
    """Write an experiment table.

    Parameters
    ----------
    batch_file : Path
        Where the image sets are that chunks read today, if they read a batch file.
    images : Path or None
        The merged image table, where there is one.

    Raises
    ------
    BpcpError
        1 where a measurement over all image sets can't be made anew.
    """
    # the process that had the last image set comes last
    having = sorted((s for s in found if table.path in s.summaries), key=lambda s: max(s.numbers))
    values: dict[str, list[str]] = {}
    for source in having:
        for key, value in tables.rows(source.file(table.path), table.shape):
            if key not in _BATCH_KEYS or restorer.shows_batch:
                values.setdefault(key, []).append(_restored(key, value, source, restorer))
    writer = csv.writer(file, delimiter=table.shape.delimiter)
    writer.writerow(table.shape.header)
    for key, seen in values.items():
        if key in (_FIRST_STAMP, _LAST_STAMP):
            value = min(seen) if key == _FIRST_STAMP else max(seen)
        elif over_all := _OVER_ALL.fullmatch(key):
            value = _over_all(
                over_all[1], f"ImageQuality_Threshold{over_all[2]}", images, table.path
            )
        elif key == _PACKING and len(set(seen)) > 1:
            # chunks that were done before the list of files changed
            from bpcp import batch

            value = batch.packing(batch_file) or seen[-1]
        elif len(set(seen)) == 1 or key in _LAST_GROUP:
            value = seen[-1]
        else:
            raise BpcpError(
                Exit.SOME_FAILED,
                f"{table.path}: {key} is measured over all image sets of a process,"
                " and can't be made anew from the chunks' tables",
                "run it in one piece: the same command with -w and --chunk-size with the number of"
                " image sets",
            )
        writer.writerow([key, value])
        table.rows += 1


def _restored(key: str, value: str, source: Source, restorer: Restorer) -> str:
    """Give a value as one process would have it that worked in the result's own folder."""
    if key == _PIPELINE:
        # CreateBatchFiles names the output folder of its process
        return restorer.text(value.replace(source.output, restorer.analysis))
    if key == _MAPPINGS and source.mirror:
        known = json.loads(value)
        known["PathMappings"] = [m for m in known["PathMappings"] if m[1] != source.mirror]
        return json.dumps(known)
    return value


def _over_all(how: str, column: str, images: Path | None, path: str) -> str:
    """Make MeasureImageQuality's mean, median or standard deviation anew from the image table."""
    import numpy as np

    shape = tables.recognise(images) if images else None
    if images is None or shape is None or column not in shape.header:
        raise BpcpError(
            Exit.SOME_FAILED,
            f"{path}: ImageQuality_Threshold{how} needs the column {column} of an image table,"
            " which the pipeline does not export",
            "export the image measurements too",
        )
    at = shape.header.index(column)
    cells = [float(row[at]) for row in tables.rows(images, shape) if row[at] not in ("", "nan")]
    values = np.array(cells)
    found = {"Mean": np.mean(values), "Median": np.median(values), "Std": np.std(values)}[how]
    return str(float(found))
