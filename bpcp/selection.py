"""Which rows of the user's image list are run, and in which folders their images lie."""

from __future__ import annotations

import os
from pathlib import Path

from bpcp import imagelist
from bpcp.errors import BpcpError, Exit
from bpcp.folders import NOWHERE, Moved
from bpcp.imagelist import ImageList, Row, Type
from bpcp.pipeline import Pipeline
from bpcp.workspace import Workspace


def select(images: ImageList, workspace: Workspace) -> tuple[ImageList, list[str]]:
    """Keep the plates and wells that metadata/<dataset>/{platelist,welllist}.txt name.

    Returns
    -------
    ImageList, list of str
        The rows that are left, and what to tell the user.

    Raises
    ------
    BpcpError
        65 where a list names what the image list does not have.
    """
    notes = []
    for name, key in (("platelist", "Plate"), ("welllist", "Well")):
        path = workspace.selection(name)
        if not path.is_file():
            continue
        wanted = set(path.read_text(encoding="utf-8-sig").split("\n")) - {""}
        types = imagelist.column_types(images.header, images.rows)
        typed = imagelist.group_values(images.header, types, images.rows, [key])
        plain = imagelist.group_values(images.header, [Type.TEXT] * len(types), images.rows, [key])
        # "007" in the list is the plate that CellProfiler calls 7
        names = [{t, p} for (t,), (p,) in zip(typed, plain, strict=True)]
        unknown = wanted.difference(*names)
        if unknown or not wanted:
            raise BpcpError(
                Exit.MALFORMED_INPUT,
                f"{path}: no {key} of the image list is {min(unknown)!r}"
                if wanted
                else f"{path} is empty",
                "mend it, or leave it out of account with -c",
            )
        keep = [i for i, n in enumerate(names) if n & wanted]
        if len(keep) < len(images.rows):
            notes.append(
                f"{len(images.rows) - len(keep)} image sets left out by {path.name} (all: -c)"
            )
        images = images.only(keep)
    return images, notes


def rebase(
    images: ImageList, pipe: Pipeline, input_folder: Path, maps: Moved = NOWHERE
) -> ImageList:
    """Make folders absolute where the pipeline puts them below the Default Input Folder.

    LoadData joins the two, and an absolute folder stays as it is.

    Parameters
    ----------
    maps : Moved
        What begins as one of these is absolute, too, though Linux does not know.

    Raises
    ------
    BpcpError
        65 where the pipeline reads images from a place that bpcp can't give it.
    """
    kind, _, folder = pipe.image_base.partition("|")
    if kind == "None":
        return images
    if kind.startswith("Default Input Folder"):
        base = input_folder / folder if kind.endswith("sub-folder") else input_folder
    elif kind == "Elsewhere...":
        base = Path(folder)
    else:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{pipe.path}: LoadData's Base image location is {kind}",
            "set it to None or Default Input Folder",
        )
    at = [i for i, c in enumerate(images.header) if c.startswith(("PathName_", "ObjectsPathName_"))]
    has = {images.header[i].split("PathName_")[1] for i in at}
    lacking = [
        c.replace("FileName_", "PathName_")
        for c in images.header
        if "FileName_" in c and c.split("FileName_")[1] not in has
    ]

    def moved(row: Row) -> Row:
        cells = list(row)
        for i in at:
            if maps.path(cells[i]) == cells[i]:
                cells[i] = os.path.join(base, cells[i])  # noqa: PTH118 -- CellProfiler's own spelling
        return (*cells, *(str(base) for _ in lacking))

    return ImageList((*images.header, *lacking), tuple(moved(r) for r in images.rows), images.lines)
