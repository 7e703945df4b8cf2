"""The CellProfiler that a plan is made for: its version, and what it says of the pipeline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bpcp import cellprofiler, imagelist
from bpcp.database import file as database
from bpcp.database.width import widths
from bpcp.errors import BpcpError
from bpcp.imagelist import row_text
from bpcp.imagesets import ImageSets
from bpcp.pipeline import Pipeline
from bpcp.scratch import scratch, sweep
from bpcp.workspace import Json


def ask(pipe: Pipeline, sets: ImageSets, old: Json, again: bool) -> Json:
    """Find out which CellProfiler runs, and which objects the pipeline measures."""
    argv = cellprofiler.command()
    # also where it need not be asked this time
    sweep("asked")
    known = old.get("cellprofiler", {})
    question = [pipe.sha256, row_text(sets.images.header), ",".join(t.name for t in sets.types)]
    with ThreadPoolExecutor() as pool:
        # each answer costs a start of CellProfiler, so the likely second question goes out at once
        version = pool.submit(cellprofiler.version, argv)
        asking = again or known.get("question") != imagelist.digest(question)
        answer = pool.submit(measurements, argv, pipe, sets) if asking else None
        found = version.result()
        if answer is None and found != known["version"]:
            answer = pool.submit(measurements, argv, pipe, sets)
        measured = answer.result() if answer else []
        return {
            "command": argv,
            "version": found,
            "python": cellprofiler.python_version(argv),
            "question": imagelist.digest(question),
            "objects": list(dict.fromkeys(n for n, _ in measured)) if answer else known["objects"],
            "widths": _widths(pipe, measured) if answer else known.get("widths", {}),
        }


def measurements(
    argv: Sequence[str], pipe: Pipeline, sets: ImageSets | None
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
            return cellprofiler.measurements(argv, program, listed, folder)
        except BpcpError as error:
            what = str(error).replace(str(program), str(pipe.path))
            raise BpcpError(error.code, what, "bpcp check says more") from None


def _widths(pipe: Pipeline, measured: Sequence[tuple[str, str]]) -> Json:
    """Give how many columns the tables of each ExportToDatabase have, by the module's number."""
    return {str(m.number): widths(m, measured) for m in pipe.named("ExportToDatabase")}


def expected_tables(pipe: Pipeline, objects: Sequence[str]) -> list[Json]:
    """Give the tables that each chunk must write, as `verdict.Expected` takes them."""
    found: list[Json] = []
    for table in pipe.tables():
        if table.objects:
            found.append({"pattern": table.pattern(), "objects": list(table.objects)})
            continue
        before, _, after = table.pattern().rpartition(re.escape("*"))
        found += [
            {"pattern": f"{before}{re.escape(name)}{after}", "objects": [name]}
            for name in dict.fromkeys(("Image", *objects))
            if name != "Experiment"
        ]
    for module in pipe.named("ExportToDatabase"):
        found += database.declared(module)
    return found
