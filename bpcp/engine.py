"""The CellProfiler that a plan is made for: its version, and what it says of the pipeline."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from bpcp import cellprofiler, imagelist, pipeline, plugins, widths
from bpcp.check.code import refuse_code
from bpcp.check.modules import REVISIONS, skipping_flags
from bpcp.database import file as database
from bpcp.database import width
from bpcp.errors import BpcpError
from bpcp.imagelist import row_text
from bpcp.imagesets import ImageSets
from bpcp.pipeline import Kind, Pipeline
from bpcp.scratch import scratch, sweep
from bpcp.settings import Settings
from bpcp.workspace import Json

# The smallest pipeline that reads images.
_READ_IMAGES = """\
CellProfiler Pipeline: http://www.cellprofiler.org
Version:5
DateRevision:428
GitHash:
ModuleCount:1
HasImagePlaneDetails:False

LoadData:[module_num:1|svn_version:'Unknown'|variable_revision_number:6|show_window:False\
|notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]
    Input data file location:Default Input Folder|
    Name of the file:images.csv
    Load images based on this data?:Yes
    Base image location:None|
    Process just a range of rows?:No
    Rows to process:1,100000
    Group images by metadata?:No
    Select metadata tags for grouping:
    Rescale intensities?:Yes
"""

# Much more than a start of CellProfiler takes, and than it takes to read an image.
_START_S, _READ_S = 60, 5

_MEASURED = ("objects", "widest", "widths")


def read(path: Path, plugins_directory: Path | None = None) -> Pipeline:
    """Read a pipeline file, with its settings as the installed CellProfiler reads them.

    It reads settings by their place, and has others today than an old pipeline names: so it is
    asked to save such a one again, which takes a second or two, and that is what is run.

    Raises
    ------
    BpcpError
        As `pipeline.read`; 65 where loading it would run code of the file; 69 where CellProfiler is
        missing.
    """
    pipe = pipeline.read(Path(os.path.abspath(path)))  # noqa: PTH100 -- as locate does
    refuse_code(pipe)
    blocks = pipe.content.blocks
    todays = all(REVISIONS.get(block.name) == block.revision for block in blocks)
    # a file that does not end with a line may be cut off, which the number of settings tells
    if not blocks or pipe.kind is Kind.BATCH or (todays and pipe.text.endswith(b"\n")):
        return pipe
    with scratch("asked") as folder:
        program = folder / "pipeline.cppipe"
        program.write_bytes(pipe.text)
        argv = cellprofiler.command(plugins=plugins_directory)
        text = cellprofiler.saved(argv, program, folder)
    if text is None:
        return pipe
    saved = pipeline.of_text(pipe.path, text.encode(), pipe.kind)
    return replace(saved, folded=pipe.folded, own=pipe.content)


def ask(pipe: Pipeline, sets: ImageSets, old: Json, settings: Settings) -> Json:
    """Find out which CellProfiler runs, and what the pipeline measures: objects, columns."""
    argv = cellprofiler.command(plugins=settings.plugins)
    files = plugins.contents(argv)
    # also where it need not be asked this time
    sweep("asked")
    known = old.get("cellprofiler", {})
    question = [pipe.sha256, row_text(sets.images.header), ",".join(t.name for t in sets.types)]
    question += map(" ".join, files.items())
    with ThreadPoolExecutor() as pool:
        # each answer costs a start of CellProfiler, so the likely second question goes out at once
        version = pool.submit(cellprofiler.version, argv)
        asking = settings.ask_again or known.get("question") != imagelist.digest(question)
        # an earlier bpcp asked for less
        asking = asking or not known.keys() >= {*_MEASURED}
        folder = settings.input_folder
        measured = pool.submit(_measured, argv, pipe, sets, folder) if asking else None
        found = version.result()
        if measured is None and found != known["version"]:
            measured = pool.submit(_measured, argv, pipe, sets, folder)
        return {
            "command": argv,
            "version": found,
            "python": cellprofiler.python_version(argv),
            "plugins": files,
            "question": imagelist.digest(question),
            **(measured.result() if measured else {k: known[k] for k in _MEASURED}),
        }


def measurements(
    argv: Sequence[str], pipe: Pipeline, sets: ImageSets | None, input_folder: Path | None = None
) -> list[tuple[str, str]]:
    """Ask CellProfiler what a pipeline measures, with one row of its list; see `cellprofiler`.

    Raises
    ------
    BpcpError
        65 where the pipeline does not load.
    """
    with scratch("asked") as folder:
        program, listed = folder / "pipeline.cppipe", None
        program.write_bytes(pipe.text)
        if sets and sets.images.rows and pipe.reads_list:
            listed = folder / "images.csv"
            header, rows = sets.images.header, sets.images.rows
            witness = imagelist.witness_row(header, sets.types, sets.beside or rows, rows[:1])
            imagelist.write(listed, header, [rows[0], *filter(None, [witness])])
        try:
            return cellprofiler.measurements(argv, program, listed, folder, input_folder)
        except BpcpError as error:
            what = str(error).replace(str(program), str(pipe.path))
            raise BpcpError(error.code, what, "bpcp check says more") from None


def unreadable(paths: Sequence[str]) -> dict[str, str] | None:
    """Let CellProfiler's own reader open image files: LoadData reads each as an image set.

    Parameters
    ----------
    paths : sequence of str
        Absolute paths.

    Returns
    -------
    dict of str to str or None
        For those that it can't read, its error; None where it gave no answer.

    Raises
    ------
    BpcpError
        69 where there is no CellProfiler.
    """
    argv = cellprofiler.command()
    with scratch("asked") as folder:
        program, listed = folder / "read.cppipe", folder / "images.csv"
        program.write_text(_READ_IMAGES, encoding="utf-8")
        rows = [tuple(reversed(os.path.split(path))) for path in paths]
        imagelist.write(listed, ("FileName_Image", "PathName_Image"), rows)
        # some damaged files are read without end
        timeout_s = _START_S + _READ_S * len(paths)
        try:
            errors = cellprofiler.errors_by_image_set(argv, program, listed, folder, timeout_s)
        except BpcpError:
            return None
    if len(errors) != len(paths):
        return None
    return {path: error for path, error in zip(paths, errors, strict=True) if error}


def measuring_modules(pipe: Pipeline) -> list[str]:
    """Name the modules whose ModuleError_ and ExecutionTime_ a process measures: "03FlagImage".

    From the first export on it measures none. Source: cellprofiler_core 4.2.8.1,
    pipeline/_pipeline.py (run_with_yield) and should_stop_writing_measurements of the modules.
    """
    before = takewhile(lambda m: not m.name.startswith("ExportTo"), pipe.modules)
    return [f"{m.number:02d}{m.name}" for m in before]


def skips(pipe: Pipeline) -> list[Json]:
    """List the flags for which a FlagImage ends the pipeline, as `verdict.Declared` takes them."""
    return [
        {"module": m.number, "measurement": measurement, "flag": flag}
        for m in pipe.named("FlagImage")
        for measurement, flag in skipping_flags(m)
    ]


def _measured(
    argv: Sequence[str], pipe: Pipeline, sets: ImageSets, input_folder: Path | None
) -> Json:
    found = measurements(argv, pipe, sets, input_folder)
    return {
        "objects": list(dict.fromkeys(name for name, _ in found)),
        "widest": widths.widest(pipe, found),
        "widths": {str(m.number): width.widths(m, found) for m in pipe.named("ExportToDatabase")},
    }


def expected_tables(pipe: Pipeline, objects: Sequence[str]) -> list[Json]:
    """Give the tables that each chunk must write, as `verdict.Expected` takes them."""
    found: list[Json] = []
    for table in pipe.tables():
        nulls = {"nulls": True} if table.nulls else {}
        if table.objects:
            found.append({"pattern": table.pattern(), "objects": list(table.objects), **nulls})
            continue
        before, _, after = table.pattern().rpartition(re.escape("*"))
        found += [
            {"pattern": f"{before}{re.escape(name)}{after}", "objects": [name], **nulls}
            for name in dict.fromkeys(("Image", *objects))
            if name != "Experiment"
        ]
    for module in pipe.named("ExportToDatabase"):
        found += database.declared(module)
    return found
