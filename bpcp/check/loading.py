"""Ask the installed CellProfiler whether it can load a pipeline, and say why where it can't."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bpcp import cellprofiler, engine
from bpcp.check import databases
from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import REVISIONS, every_module, place, writes
from bpcp.check.plugins import below, source_of
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
# What CellProfiler 4 dropped: its words, what they mean, and what to do.
_GONE = (
    (
        re.compile(r"Unsupported file format: (mat)"),
        "CellProfiler 4 saves no .mat files",
        "set 'Saved file format' to npy, and name the .npy files in the list of the pipeline that"
        " applies them",
    ),
    (
        re.compile(r"Unsupported file format: (bmp)"),
        "CellProfiler 4 saves no .bmp files",
        "set 'Saved file format' to png",
    ),
    (
        re.compile(r"Unsupported image type: (Objects)"),
        "CellProfiler 4 saves no objects as they are",
        "put ConvertObjectsToImage before it, and save the image that it makes",
    ),
)
_OPTION = cellprofiler.PLUGINS_DIRECTORY
# Whose revisions `modules.REVISIONS` holds.
_KNOWN = (4, 2, 8)


def loads(
    pipe: Pipeline,
    images: ImageList | None,
    version: str | None = None,
    input_folder: Path | None = None,
    plugins: Path | None = None,
) -> list[Finding]:
    """Find out whether the installed CellProfiler loads a pipeline; it runs nothing, and takes 3 s.

    Parameters
    ----------
    images : ImageList or None
        The list that it is to run on, for LoadData; it loads without one too.
    version : str, optional
        Its version, where it is known: asking for it takes a second.
    input_folder : Path, optional
        The Default Input Folder.
    plugins : Path, optional
        The folder of plugins that CellProfiler is given.

    Raises
    ------
    BpcpError
        69 where there is no CellProfiler, or none that answers.
    """
    argv = cellprofiler.command(plugins=plugins)
    version = cellprofiler.version(argv) if version is None else version
    return [*_asked(argv, pipe, images, input_folder, plugins), *_newer(pipe, version)]


def _asked(
    argv: Sequence[str],
    pipe: Pipeline,
    images: ImageList | None,
    input_folder: Path | None,
    plugins: Path | None,
) -> list[Finding]:
    # CellProfiler prepares each module even where it is only asked: one that exports would make its
    # tables anew, in whatever folder or server the user keeps the real ones
    quiet = [Mend(m.number, "enabled", "True", "False", "") for m in pipe.modules if writes(m)]
    text = mended_further(str(pipe.content), quiet)
    asked = of_text(pipe.path, text.encode("utf-8", "surrogateescape"), pipe.kind)
    try:
        listed = of_list(images) if images else None
        measured = engine.measurements(argv, asked, listed, input_folder)
    except BpcpError as error:
        if error.code is not Exit.MALFORMED_INPUT:
            raise
        cause = str(error).partition(f"{pipe.path}: ")[2] or str(error)
        return list(_why(pipe, cause, plugins))
    counted = {str(m.number): widths(m, measured) for m in pipe.named("ExportToDatabase")}
    return list(databases.of_widths(pipe, counted))


def _why(pipe: Pipeline, cause: str, plugins: Path | None) -> Iterator[Finding]:
    """Say what is behind CellProfiler's own words; it stops at the first module that it lacks."""
    named = _NAMED.search(cause)
    strange = [m for m in every_module(pipe) if m.name not in REVISIONS]
    suspects = [m for m in strange if named and m.name == named[1]]
    for module in suspects:
        yield _unknown(pipe, module, cause, plugins)
    if not suspects:
        yield _unloadable(pipe, cause, strange)


def _unloadable(pipe: Pipeline, cause: str, strange: Sequence[Module]) -> Finding:
    said, _, file = cause.partition(cellprofiler.OF_MODULE)
    modules = [m for m in every_module(pipe) if m.name.casefold() == file]
    names = ", ".join(dict.fromkeys(m.name for m in strange))
    remedy = "open it in CellProfiler, correct it there and save it again"
    if names:
        remedy = f"not of CellProfiler's own are: {names}; is what these need installed?"
    for pattern, meaning, todo in _GONE:
        if gone := pattern.search(said):
            # every one, though CellProfiler stops at the first
            modules = [m for m in modules if any(v == gone[1] for _, v in m.settings)]
            said, remedy = meaning, todo
    where = "the pipeline"
    if modules:
        numbers = ", ".join(str(m.number) for m in modules)
        where = f"module{'s' if len(modules) > 1 else ''} {numbers}, {modules[0].name}"
    return Finding(UNLOADABLE, where, f"CellProfiler can't load it: {said}", remedy)


def _unknown(pipe: Pipeline, module: Module, cause: str, plugins: Path | None) -> Finding:
    off = module.number not in {m.number for m in pipe.modules}
    what = f"the installed CellProfiler has no module {module.name}"
    if off:
        what += "; disabled or not, it reads no pipeline beyond one that it lacks"
    if why := cause.partition(cellprofiler.DOES_NOT_LOAD)[2]:
        what = f"it is a plugin that does not load: {why}"
        remedy = "install what it needs beside CellProfiler"
        return Finding(PLUGIN, place(module), what, remedy + (", or delete it" if off else ""))
    deeper = below(plugins, module.name) if plugins else None
    if deeper or (source := source_of(module.name)):
        if deeper:
            remedy = f"CellProfiler looks into one folder: {_OPTION} {deeper.parent}"
        elif plugins:
            remedy = f"put {source} into {plugins}"
        else:
            remedy = f"fetch {source}, and name its folder: {_OPTION} DIR"
        return Finding(PLUGIN, place(module), what, remedy + (", or delete it" if off else ""))
    if "no longer exists" in cause or "deprecated" in cause:
        gone = cause.partition(": ")[2] or cause
        return Finding(UNKNOWN, place(module), gone.rstrip("."), "put another in its place")
    folded = {name.casefold(): name for name in REVISIONS}
    near = difflib.get_close_matches(module.name.casefold(), folded, 3)
    remedy = f"spelled like it: {', '.join(folded[n] for n in near)}; " if near else ""
    # the file is called as the module, or CellProfiler does not find it there
    where = f"put {module.name.lower()}.py into {plugins}" if plugins else f"{_OPTION} DIR"
    remedy += "delete it from the pipeline" if off else f"if it is a plugin: {where}"
    return Finding(UNKNOWN, place(module), what, remedy)


def _newer(pipe: Pipeline, version: str) -> Iterator[Finding]:
    own = tuple(int(part) for part in re.findall(r"\d+", version))
    by = tuple(map(int, filter(None, pipe.written.made_by.split("."))))
    if by[:3] > own[:3]:
        yield Finding(
            NEWER,
            "the pipeline",
            f"made by CellProfiler {pipe.written.made_by}, and {version} is to run it: it reads"
            " settings by their place, whatever they are called",
            "run it with the CellProfiler that made it: BPCP_CELLPROFILER=COMMAND",
        )
    if own[:3] != _KNOWN:
        return
    # as pipelines are saved, a module that is newer than its program comes from a newer program
    for number, block in enumerate(pipe.written.blocks, 1):
        known = REVISIONS.get(block.name)
        if known and block.revision and block.revision > known:
            yield Finding(
                NEWER,
                f"module {number}, {block.name}",
                f"its settings are of revision {block.revision}; CellProfiler {version} knows"
                f" {known}, and reads them by their place",
                "run it with the CellProfiler that made it: BPCP_CELLPROFILER=COMMAND",
            )
