"""What a pipeline says of itself: what it wants of an image list, and what a run of it writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from bpcp import binding
from bpcp.beside import Folder
from bpcp.check import names, places
from bpcp.check.modules import INPUT_FILES, REVISIONS, holds, images_read, objects_read, place
from bpcp.database import file as database
from bpcp.database.server import Server, is_waiting
from bpcp.errors import BpcpError
from bpcp.pipeline import Kind, Module, Pipeline
from bpcp.workspace import Json

# A longer list has a line for each.
_ON_A_LINE = 3
_SHOWN = 20
# The label in cellprofiler_core's ImageProcessing and ObjectProcessing, on which plugins build.
_INPUT = "Select the input image"
_KINDS = {Kind.TEXT: "pipeline", Kind.PROJECT: "project", Kind.BATCH: "batch file"}


def of_file(pipe: Pipeline) -> Json:
    """Describe a pipeline, without an image list and without CellProfiler."""
    return {
        "file": pipe.path.name,
        "kind": _KINDS[pipe.kind],
        "made_by": pipe.written.made_by,
        "modules": len(pipe.content.blocks),
        "disabled": len(pipe.content.blocks) - len(pipe.modules),
        "reads_by": "LoadData" if pipe.reads_list else "NamesAndTypes",
        "images": _images(pipe),
        "objects": list(names.from_list(pipe, objects_read)) if pipe.reads_list else [],
        "metadata": list(names.metadata_wanted(pipe)),
        "groups": list(pipe.group_keys),
        "one_process": binding.needing_all(pipe),
        "files": list(_files(pipe)),
        "writes": list(_writes(pipe)),
    }


def _images(pipe: Pipeline) -> list[str]:
    if pipe.reads_list:
        return list(names.from_list(pipe, _images_read))
    given = (n for m in pipe.named("NamesAndTypes") for n in m.all("Name to assign these images"))
    return list(dict.fromkeys(given))


def _images_read(module: Module) -> Iterator[str]:
    """Name the images that a module reads, plugins included as far as their labels say."""
    yield from images_read(module)
    if module.name not in REVISIONS:
        yield from module.all(_INPUT)


def _files(pipe: Pipeline) -> Iterator[str]:
    """Name the files that modules read beside the images."""
    for module in pipe.modules:
        for label, name, conditions in INPUT_FILES.get(module.name, ()):
            at = next((i for i, (key, _) in enumerate(module.settings) if key == label), None)
            if at is not None and holds(module, at, conditions):
                folder = Folder.of(module.settings[at][1])
                yield f"{module.get(name)} from {_where(folder)} ({place(module)})"


def _writes(pipe: Pipeline) -> Iterator[str]:
    """Name tables, databases and files, below the result's own folder."""
    # where there are none, a finding says why
    with suppress(BpcpError):
        yield from (table.path for table in pipe.tables())
    yield from map(_database, pipe.named("ExportToDatabase"))
    for module, _, folder in places.outputs(pipe):
        if module.name.startswith("ExportTo"):
            continue
        what = "files"
        if module.name == "SaveImages":
            saved = module.get("Select the image to save"), module.get("Saved file format")
            what = " as ".join(filter(None, saved)) or what
        yield f"{what} to {_where(folder)} ({place(module)})"


def _database(module: Module) -> str:
    path = database.path_of(module)
    is_served = database.type_of(module) == "MySQL" or is_waiting(path)
    return f"MySQL {Server.of(module)}" if is_served else path


def _where(folder: Folder) -> str:
    return str(folder) if folder.is_named else folder.kind


def words(about: Json) -> Iterator[str]:
    """Write a description for people."""
    by = f", made by CellProfiler {about['made_by']}" if about["made_by"] else ""
    off = f", {about['disabled']} of them disabled" if about["disabled"] else ""
    yield f"{about['file']}: a {about['kind']} of {about['modules']} modules{off}{by}"
    by_list = about["reads_by"] == "LoadData"
    wanted = [f"FileName_{name}" for name in about["images"]] if by_list else about["images"]
    wanted += [f"ObjectsFileName_{name}" for name in about["objects"]]
    tags = [f"Metadata_{tag}" for tag in about["metadata"]]
    if by_list:
        yield from _line("the list needs", [*wanted, *tags])
    else:
        yield from _line("images, from a list of files", wanted)
        yield from _line("metadata that it uses", tags)
    yield from _line("groups", about["groups"])
    yield from _line("one process, because of", about["one_process"])
    yield from _line("reads as well", about["files"])
    yield from _line("writes", about["writes"])


def _line(what: str, items: list[str]) -> Iterator[str]:
    if len(items) <= _ON_A_LINE:
        yield from (f"  {what}: {', '.join(items)}" for _ in items[:1])
        return
    yield f"  {what}:"
    yield from (f"    {item}" for item in items[:_SHOWN])
    if len(items) > _SHOWN:
        yield f"    and {len(items) - _SHOWN:,} more: --json lists all"
