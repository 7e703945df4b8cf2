"""Where a pipeline writes to, and which files it reads beside the images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bpcp import elsewhere
from bpcp.beside import ABSOLUTE, BELOW_IN, BELOW_OUT, ELSEWHERE, IN, OUT, Folder, Places
from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import INPUT_FILES, OUTPUT_FOLDERS, REVISIONS, active, holds, place
from bpcp.errors import Exit
from bpcp.mend import Mend, mended
from bpcp.pipeline import Kind, Module, Pipeline

OUTPUT_ELSEWHERE = Code(
    "pipeline-output-elsewhere",
    Severity.ERROR,
    "a module writes outside the default output folder",
)
PATH_MISSING = Code(
    "pipeline-path-missing",
    Severity.ERROR,
    "a file that a module reads beside the images is not here",
    Exit.NO_INPUT,
)
PLUGIN_PATH = Code(
    "pipeline-plugin-path",
    Severity.WARNING,
    "a setting of a plugin names a folder that is not here",
)
DEFAULT_INPUT = Code(
    "pipeline-default-input",
    Severity.WARNING,
    "a module reads a file from the default input folder, and nobody says which that is",
)
READS_OUTPUT = Code(
    "pipeline-reads-output",
    Severity.ERROR,
    "a module reads a file from the default output folder, which is empty as a process starts",
    Exit.NO_INPUT,
)
ESCAPED = Code(
    "pipeline-batch-escaped",
    Severity.WARNING,
    "CreateBatchFiles made plain text of the metadata in a folder's name",
)
CODES = (OUTPUT_ELSEWHERE, PATH_MISSING, PLUGIN_PATH, DEFAULT_INPUT, READS_OUTPUT, ESCAPED)

_TO_OUT = f"set its '{{}}' to {OUT}, or a sub-folder of it"
# Folders are parted by "/", or by "\" in a pipeline made on Windows, where no tag follows.
_PARTING = re.compile(r"/+|\\+(?!g<)")
# Two backslashes are one to CellProfiler, and what follows is no tag.
_NO_TAG = re.compile(r"(?<!\\)(?:\\\\)*\\(\\g<.+?>)")
_WEB = ("http:", "https:", "ftp:", "s3:", "gs:")


def of_places(pipe: Pipeline, where: Places | None) -> list[Finding]:
    """Find folders that a run can't write to as they are, and files that it would not find.

    Parameters
    ----------
    where : Places or None
        Where the run looks for files; None where that is not known.
    """
    return [*_written(pipe), *_escaped(pipe), *_read(pipe, where), *_of_plugins(pipe, where)]


def outputs(pipe: Pipeline) -> Iterator[tuple[Module, int, Folder]]:
    for module in pipe.modules:
        for at, value in active(module, OUTPUT_FOLDERS.get(module.name, {})):
            yield module, at, Folder.of(value)


def _written(pipe: Pipeline) -> Iterator[Finding]:
    taken = {
        _short(folder.path): folder
        for _, _, folder in outputs(pipe)
        if folder.is_within and folder.kind == BELOW_OUT
    }
    for module, at, folder in outputs(pipe):
        if folder.is_within:
            continue
        label, value = module.settings[at]
        remedy = _TO_OUT.format(label)
        if folder.kind not in (ELSEWHERE, BELOW_OUT):
            yield Finding(OUTPUT_ELSEWHERE, place(module), f"it writes to: {folder}", remedy)
            continue
        name = _name_for(folder, taken)
        new = f"{BELOW_OUT}|{name}" if name else f"{OUT}|"
        shown = name or "the result's own folder"
        said = f"{module.name} (module {module.number}) writes to {shown} in the result instead of"
        before = [key for key, _ in module.settings[:at]]
        mend = Mend(module.number, label, value, new, f"{said} {folder.path}", before.count(label))
        yield Finding(
            OUTPUT_ELSEWHERE,
            place(module),
            f"it writes outside the default output folder: {folder}",
            remedy,
            mends=mends_of(pipe, mend),
        )


def _escaped(pipe: Pipeline) -> Iterator[Finding]:
    r"""Find what CreateBatchFiles does to folders: "overlays/\g<Plate>" has two backslashes then.

    Source: cellprofiler_core 4.2.8.1, setting/text/_directory.py (alter_for_create_batch_files,
    join_parts), measurement/_measurements.py (apply_metadata).
    """
    if pipe.kind is not Kind.BATCH:
        return
    for module, _, folder in outputs(pipe):
        # what lies elsewhere gets a new name anyway
        if folder.kind == BELOW_OUT and folder.is_within and (tag := _NO_TAG.search(folder.path)):
            yield Finding(
                ESCAPED,
                place(module),
                f"CreateBatchFiles doubled the backslash in {folder.path}: its files all go to one"
                f" folder called {tag[1]}",
                "run the pipeline and its list of files instead, or make the batch file by"
                " ./run_batchfile_pipeline.sh",
            )


def mends_of(pipe: Pipeline, mend: Mend) -> tuple[Mend, ...]:
    """Give a mend where the pipeline's text can take it, else none."""
    try:
        mended(str(pipe.content), [mend])
    except ValueError:
        return ()
    return (mend,)


def _short(path: str) -> str:
    return "/".join(part for part in _PARTING.split(path) if part not in ("", "."))


def _name_for(folder: Folder, taken: dict[str, Folder]) -> str:
    r"""Choose a sub-folder of the result for a folder elsewhere: its last name that is no tag.

    "/data/masks" becomes "masks", "/data/\g<Plate>/masks" "data/\g<Plate>/masks"; where another
    folder has that name already, the name above it comes before it.
    """
    parts = [p for p in _PARTING.split(folder.path) if p not in ("", ".", "..")]
    if parts and re.fullmatch("[A-Za-z]:", parts[0]):
        parts = parts[1:]
    tagged = next((i for i, part in enumerate(parts) if "<" in part), len(parts))
    above, below = parts[: max(tagged - 1, 0)], parts[tagged:]
    name = parts[tagged - 1] if tagged else ""
    while True:
        full = "/".join([*filter(None, [name]), *below])
        if not full or taken.setdefault(full, folder) == folder:
            return full
        # two names of one spelling, of which nothing is left to tell them apart
        name = f"{above.pop()}_{name}" if above else f"{name}_"


def _read(pipe: Pipeline, where: Places | None) -> Iterator[Finding]:
    for module in pipe.modules:
        if module.name == "Metadata" and pipe.kind is Kind.BATCH:
            # its image sets are made already
            continue
        for folder_label, name_label, conditions in INPUT_FILES.get(module.name, ()):
            for at, (label, value) in enumerate(module.settings):
                if label != folder_label or not holds(module, at, conditions):
                    continue
                behind = (v for key, v in module.settings[at:] if key == name_label)
                name = next(behind, "")
                for finding in _missing(module, label, Folder.of(value), name, where):
                    yield replace(finding, mends=_by_map(pipe, module, at, where, name))
        if module.name == "MatchTemplate":
            template = module.get("Template")
            yield from _missing(module, "Template", Folder(ELSEWHERE, ""), template, where)


def _missing(
    module: Module, label: str, folder: Folder, name: str, where: Places | None
) -> Iterator[Finding]:
    if folder.kind in (OUT, BELOW_OUT):
        yield Finding(
            READS_OUTPUT,
            place(module),
            f"it reads {name} from the {folder}, which is empty as each process starts",
            f"put the file elsewhere, and set its '{label}' to {ELSEWHERE}",
        )
        return
    inputs = (IN, BELOW_IN)
    if folder.kind not in (*inputs, ELSEWHERE) or not name or name.lower().startswith(_WEB):
        return
    home = where.find(folder) if where else None
    if home is None:
        if folder.kind in inputs:
            yield Finding(
                DEFAULT_INPUT,
                place(module),
                f"it reads {name} from the {folder}, which the run is not told",
                f"name the folder: -i DIR; or set its '{label}' to {ELSEWHERE}",
            )
            return
        # where a relative one starts only the run knows
        home = Path(folder.path.replace("\\\\", "\\"))
        if not ABSOLUTE.match(str(home / name)):
            return
    path = home / name
    try:
        there = path.exists()
    except OSError:
        there = False
    if there:
        return
    if folder.kind == ELSEWHERE:
        remedy = f"copy it here, and set its '{label}'" + elsewhere.of_setting(folder.path)
    elif where and where.named:
        remedy = f"put it there, or name the folder that holds it: -i DIR; or set its '{label}'"
    else:
        remedy = f"name the folder that holds it: -i DIR; or set its '{label}' to {ELSEWHERE}"
    what = f"no such file here: {path}"
    if folder.kind != ELSEWHERE:
        what += f"; it looks for {name} in the {folder}"
        what += "" if where and where.named else ", which is the home folder without -i"
    yield Finding(PATH_MISSING, place(module), what, remedy)


def _by_map(
    pipe: Pipeline, module: Module, at: int, where: Places | None, name: str = ""
) -> tuple[Mend, ...]:
    """Give a patch where --map says what a setting's folder is called here, and it has the file."""
    label, value = module.settings[at]
    folder = Folder.of(value)
    if where is None or folder.kind != ELSEWHERE or "<" in folder.path:
        return ()
    path = folder.path.replace("\\\\", "\\")
    here = where.moved.path(path)
    if here == path or not (Path(here) / name).exists():
        return ()
    said = f"{module.name} (module {module.number}) reads from {here} instead of {path}"
    before = [key for key, _ in module.settings[:at]]
    new = f"{ELSEWHERE}|{here}"
    return mends_of(pipe, Mend(module.number, label, value, new, said, before.count(label)))


def _of_plugins(pipe: Pipeline, where: Places | None) -> Iterator[Finding]:
    for module in pipe.modules:
        if module.name in REVISIONS:
            continue
        for at, (label, value) in enumerate(module.settings):
            folder = Folder.of(value)
            if (
                folder.kind == ELSEWHERE
                and ABSOLUTE.match(folder.path)
                and "<" not in folder.path
                and not Path(folder.path).is_dir()
            ):
                yield Finding(
                    PLUGIN_PATH,
                    place(module),
                    f"no such folder here: {folder.path}",
                    f"set its '{label}', if the module uses it" + elsewhere.of_setting(folder.path),
                    mends=_by_map(pipe, module, at, where),
                )
