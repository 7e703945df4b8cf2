"""Whether a pipeline file is whole, and whether a run of it leaves anything behind."""

from __future__ import annotations

from collections.abc import Iterator

from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import OUTPUT_FOLDERS, REVISIONS
from bpcp.cppipe import Block
from bpcp.mend import WHOLE_TEXT, Mend
from bpcp.pipeline import Pipeline

ONE_LINE = Code(
    "pipeline-one-line",
    Severity.ERROR,
    "a project of CellProfiler 3, which CellProfiler 4 can't read as it is",
)
CUT_OFF = Code("pipeline-cut-off", Severity.ERROR, "the end of the pipeline file is missing")
COUNT = Code(
    "pipeline-module-count",
    Severity.WARNING,
    "ModuleCount is not the number of modules in the pipeline file",
)
NO_OUTPUT = Code(
    "pipeline-no-output", Severity.ERROR, "no module writes anything, so a run would leave nothing"
)
CODES = (ONE_LINE, CUT_OFF, COUNT, NO_OUTPUT)

_SHOWN = 5
# Of its own, a macro may write anything.
_WRITERS = (*OUTPUT_FOLDERS, "RunImageJMacro")


def of_whole(pipe: Pipeline) -> Iterator[Finding]:
    """Find what is wrong with the file as a whole.

    CellProfiler reads as many modules as ModuleCount says, or as there are, without a word.

    Source: cellprofiler_core 4.2.8.1, pipeline/_pipeline.py (setup_modules).
    """
    if pipe.folded:
        said = "the pipeline of this project of CellProfiler 3, one line, is split into its lines"
        yield Finding(
            ONE_LINE,
            str(pipe.path),
            "it is a project of CellProfiler 3, whose pipeline is one line: CellProfiler 4 can't"
            " read it",
            "open it in CellProfiler 3, and export the pipeline as a .cppipe file",
            mends=(Mend(WHOLE_TEXT, "text", "one line", "lines", said),),
        )
    counted, there = pipe.written.count, pipe.written.every
    if cut := _cut(counted, there) or _cut_within(pipe):
        again = "get the file again from where it comes from"
        if len(there) != counted and there:
            again += f"; if modules were removed on purpose, write ModuleCount:{len(there)}"
        yield Finding(CUT_OFF, str(pipe.path), f"{cut}: it was cut off", again)
    elif counted is not None and counted != len(there):
        yield _miscounted(pipe, counted, there)


def _cut(counted: int | None, there: list[Block]) -> str:
    """Say how it can be seen that the end is missing; "" where it is not."""
    if not there:
        return "the file ends before its first module"
    # modules that somebody took out leave a gap in the numbers, or the last one's number
    numbered = [block.number for block in there] == list(range(1, len(there) + 1))
    if counted and counted > len(there) and numbered:
        has = f"{len(there)} module{'s' if len(there) > 1 else ''}"
        return f"ModuleCount says {counted}, the file has {has}"
    return ""


def _cut_within(pipe: Pipeline) -> str:
    """Say what the last module lacks, where CellProfiler knows how many settings it has."""
    written, read = pipe.written, pipe.content
    end = written.lines[-1]
    if end.strip() and not end.endswith(("\n", "\r")) and ":" not in end:
        return f"its last line is just {end.strip()!r}"
    if end.endswith(("\n", "\r")) or len(written.every) != len(read.blocks):
        return ""
    # fewer are not enough to tell: some modules got more without a new revision
    last, whole = written.every[-1], read.blocks[-1]
    if last.revision != whole.revision or len(last.settings) >= len(whole.settings):
        return ""
    has = f"{len(last.settings)} of {len(whole.settings)} settings"
    return f"its last module, {last.name}, has {has}, and the last line does not end"


def _miscounted(pipe: Pipeline, counted: int, there: list[Block]) -> Finding:
    what = f"ModuleCount says {counted}, the file has {len(there)} modules"
    if counted > len(there):
        what += ": some were removed, and CellProfiler reads those that are left"
        return Finding(COUNT, str(pipe.path), what, f"write ModuleCount:{len(there)}")
    unread = [f"{n}, {block.name}" for n, block in enumerate(there, 1)][counted:]
    more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
    what = f"CellProfiler reads the first {counted} of {len(there)} modules, as ModuleCount says"
    return Finding(
        COUNT,
        str(pipe.path),
        f"{what}; it does not read: {'; '.join(unread[:_SHOWN])}{more}",
        f"write ModuleCount:{len(there)}, if these are to run",
    )


def of_output(pipe: Pipeline) -> Iterator[Finding]:
    """Find out whether any module writes; of a plugin that is not known."""
    if not any(m.name in _WRITERS or m.name not in REVISIONS for m in pipe.modules):
        remedy = "add SaveImages or ExportToSpreadsheet, or enable it"
        read, there = len(pipe.written.blocks), len(pipe.written.every)
        if read < there:
            remedy = f"CellProfiler reads the first {read} of {there} modules: write"
            remedy += f" ModuleCount:{there}, if all are to run"
        yield Finding(
            NO_OUTPUT,
            str(pipe.path),
            "no module that is on saves an image or exports a table: CellProfiler would compute,"
            " and leave nothing",
            remedy,
        )
