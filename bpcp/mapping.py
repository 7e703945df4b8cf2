"""Which paths a run's own lists name, and which --map fits none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bpcp import batch, beside, filelist, folders, imagelist, selection
from bpcp.errors import BpcpError
from bpcp.imagelist import ImageList
from bpcp.pipeline import Kind, Pipeline
from bpcp.settings import Settings
from bpcp.workspace import Workspace


def idle(workspace: Workspace, pipe: Pipeline, settings: Settings) -> list[str]:
    """Say which maps fit no path of a run; of lists that can't be read, others say so."""
    if not settings.moved.maps:
        return []
    try:
        return settings.moved.idle(_named(workspace, pipe, settings))
    except (BpcpError, OSError, ValueError):
        return []


def _named(workspace: Workspace, pipe: Pipeline, settings: Settings) -> Iterator[str]:
    """Give the paths and URLs, spelled as they are there."""
    for module in pipe.modules:
        for value in (value for _, value in module.settings if "|" in value):
            if (folder := beside.Folder.of(value)).kind == beside.ELSEWHERE and folder.path:
                yield folder.path.replace("\\\\", "\\")
    if pipe.kind is Kind.BATCH:
        yield from _of_rows(batch.read(pipe.path).images)
    elif pipe.reads_list:
        base = settings.input_folder or settings.root
        images = imagelist.read(workspace.image_list)
        yield from _of_rows(selection.rebase(images, pipe, base, settings.moved))
    elif workspace.file_list.is_file():
        text = workspace.file_list.read_text(encoding="utf-8-sig")
        for line in filter(None, (line.strip() for line in text.split("\n"))):
            whole = folders.is_url(line) or folders.is_windows(line) or imagelist.is_remote(line)
            yield line if whole else os.path.join(settings.root, line)  # noqa: PTH118
    elif pipe.kind is Kind.PROJECT:
        yield from filelist.in_project(pipe.path)
    elif pipe.lists_files:
        yield from filelist.in_text(str(pipe.content))


def _of_rows(images: ImageList) -> Iterator[str]:
    """Give a list's folders and URLs, each once, and the files whose name holds a folder."""
    at = {name: i for i, name in enumerate(images.header)}
    seen: set[str] = set()
    for name, i in at.items():
        if name.startswith((*folders.FOLDERS, *folders.ADDRESSES)):
            seen.update(dict.fromkeys(row[i] for row in images.rows if row[i]))
        elif name.startswith(folders.FILES):
            seen.update(row[i] for row in images.rows if folders.is_windows(row[i]))
    yield from sorted(seen)
