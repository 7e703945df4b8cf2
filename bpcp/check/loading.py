"""Ask the installed CellProfiler whether it can load a pipeline, and say why where it can't."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from bpcp import cellprofiler, engine
from bpcp.check import databases
from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import PLUGINS, REVISIONS, every_module, place, writes
from bpcp.database.width import widths
from bpcp.errors import BpcpError, Exit
from bpcp.imagelist import ImageList
from bpcp.imagesets import of_list
from bpcp.mend import Mend, mended_further
from bpcp.pipeline import Module, Pipeline, of_text

UNKNOWN = Code(
    "pipeline-unknown-module",
    Severity.ERROR,
    "the installed CellProfiler has no such module",
)
PLUGIN = Code(
    "pipeline-plugin-missing",
    Severity.ERROR,
    "a module is a plugin that the installed CellProfiler does not have",
)
UNLOADABLE = Code(
    "pipeline-unloadable",
    Severity.ERROR,
    "the installed CellProfiler can't load the pipeline",
)
NEWER = Code(
    "pipeline-newer",
    Severity.WARNING,
    "the pipeline was made by a newer CellProfiler than the installed one",
)
CODES = (UNKNOWN, PLUGIN, UNLOADABLE, NEWER)

_NAMED = re.compile(r"(?:Could not find the|The) (\w+) module")
_HEAD = re.compile(r"^(\w+):\[(?:.*?\bvariable_revision_number:(\d+))?", re.MULTILINE)
_MADE_BY = re.compile(r"^DateRevision:(\d+)\s*$", re.MULTILINE)
_PLUGINS_OPTION = "BPCP_CELLPROFILER='cellprofiler --plugins-directory DIR'"
# Whose revisions `modules.REVISIONS` holds.
_KNOWN = (4, 2, 8)


def loads(pipe: Pipeline, images: ImageList | None, version: str | None = None) -> list[Finding]:
    """Find out whether the installed CellProfiler loads a pipeline; it runs nothing, and takes 3 s.

    Parameters
    ----------
    images : ImageList or None
        The list that it is to run on, for LoadData; it loads without one too.
    version : str, optional
        Its version, where it is known: asking for it takes a second.

    Raises
    ------
    BpcpError
        69 where there is no CellProfiler, or none that answers.
    """
    argv = cellprofiler.command()
    version = cellprofiler.version(argv) if version is None else version
    return [*_asked(argv, pipe, images), *_newer(pipe, version)]


def _asked(argv: Sequence[str], pipe: Pipeline, images: ImageList | None) -> list[Finding]:
    # CellProfiler prepares each module even where it is only asked: one that exports would make its
    # tables anew, in whatever folder or server the user keeps the real ones
    quiet = [Mend(m.number, "enabled", "True", "False", "") for m in pipe.modules if writes(m)]
    text = mended_further(pipe.text.decode("utf-8", "surrogateescape"), quiet)
    asked = of_text(pipe.path, text.encode("utf-8", "surrogateescape"), pipe.kind)
    try:
        measured = engine.measurements(argv, asked, of_list(images) if images else None)
    except BpcpError as error:
        if error.code is not Exit.MALFORMED_INPUT:
            raise
        return list(_why(pipe, str(error).partition(f"{pipe.path}: ")[2] or str(error)))
    counted = {str(m.number): widths(m, measured) for m in pipe.named("ExportToDatabase")}
    return list(databases.of_widths(pipe, counted))


def _why(pipe: Pipeline, cause: str) -> Iterator[Finding]:
    """Say what is behind CellProfiler's own words; it stops at the first module that it lacks."""
    named = _NAMED.search(cause)
    strange = [m for m in every_module(pipe) if m.name not in REVISIONS]
    suspects = [m for m in strange if named and m.name == named[1]]
    for module in suspects:
        yield _unknown(pipe, module, cause)
    if not suspects:
        names = ", ".join(dict.fromkeys(m.name for m in strange))
        yield Finding(
            UNLOADABLE,
            "the pipeline",
            f"CellProfiler can't load it: {cause}",
            f"not of CellProfiler's own are: {names}; is what these need installed?"
            if names
            else "open it in CellProfiler, mend it there and save it again",
        )


def _unknown(pipe: Pipeline, module: Module, cause: str) -> Finding:
    off = module.number not in {m.number for m in pipe.modules}
    what = f"the installed CellProfiler has no module {module.name}"
    if off:
        what += "; disabled or not, it reads no pipeline beyond one that it lacks"
    if why := cause.partition(cellprofiler.DOES_NOT_LOAD)[2]:
        what = f"it is a plugin that does not load: {why}"
        remedy = "install what it needs beside CellProfiler"
        return Finding(PLUGIN, place(module), what, remedy + (", or delete it" if off else ""))
    if module.name.casefold() in PLUGINS:
        remedy = (
            "name the plugins' folder: BPCP_CELLPROFILER='cellprofiler --plugins-directory DIR'"
        )
        return Finding(PLUGIN, place(module), what, remedy + (", or delete it" if off else ""))
    if "no longer exists" in cause or "deprecated" in cause:
        gone = cause.partition(": ")[2] or cause
        return Finding(UNKNOWN, place(module), gone.rstrip("."), "put another in its place")
    folded = {name.casefold(): name for name in REVISIONS}
    near = difflib.get_close_matches(module.name.casefold(), folded, 3)
    remedy = f"spelled like it: {', '.join(folded[n] for n in near)}. " if near else ""
    remedy += f"If it is a plugin: {_PLUGINS_OPTION}" if not off else "Delete it from the pipeline"
    return Finding(UNKNOWN, place(module), what, remedy)


def _newer(pipe: Pipeline, version: str) -> Iterator[Finding]:
    text = pipe.text.decode("utf-8", "replace")
    own = tuple(int(part) for part in re.findall(r"\d+", version))
    made = _MADE_BY.search(text)
    # "428" or "4281" is a version; CellProfiler 2 wrote the time of its last change
    by = tuple(int(digit) for digit in made[1]) if made and len(made[1]) < 6 else ()
    if by[:3] > own[:3]:
        yield Finding(
            NEWER,
            "the pipeline",
            f"made by CellProfiler {'.'.join(map(str, by))}, and {version} is to run it: it reads"
            " settings by their place, whatever they are called",
            "run it with the CellProfiler that made it: BPCP_CELLPROFILER=COMMAND",
        )
    if own[:3] != _KNOWN:
        return
    # as pipelines are saved, a module that is newer than its program comes from a newer program
    for number, (name, revision) in enumerate(_HEAD.findall(text), 1):
        if name in REVISIONS and revision and int(revision) > REVISIONS[name]:
            yield Finding(
                NEWER,
                f"module {number}, {name}",
                f"its settings are of revision {revision}; CellProfiler {version} knows"
                f" {REVISIONS[name]}, and reads them by their place",
                "run it with the CellProfiler that made it: BPCP_CELLPROFILER=COMMAND",
            )
