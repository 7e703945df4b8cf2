r"""The names of the files that modules save, worked out from settings and image list alone.

Source: CellProfiler 4.2.8.1, modules/saveimages.py (get_filename, run_image, post_group),
modules/savecroppedobjects.py (run); cellprofiler_core, measurement/_measurements.py
(apply_metadata), modules/loaddata.py (prepare_run).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from bpcp import imagelist
from bpcp.beside import BELOW_OUT, OUT, Folder, Places
from bpcp.errors import BpcpError
from bpcp.imagelist import Row, Type
from bpcp.pipeline import TAG, Module, Pipeline

# Tags that CellProfiler fills from more than one measurement.
_OF_FILES = ("Series", "Frame")
# What SaveImages called these up to its revision 11.
_FORMATS = {"tif": "tiff", "jpg": "jpeg"}
_OF_OBJECT = re.compile(r"_\d+(\.\w+)$")
_MOVIES = ("Movie", "Movie/Stack")

# A part of a name, from the cells of an image set and its ImageNumber.
_Part = Callable[[Row, int], str]


# The modules whose names are known here.
MODULES = ("SaveImages", "SaveCroppedObjects")


class UnknownNameError(Exception):
    """A name that image list and settings do not tell."""


class Moment(Enum):
    """At which image sets of a group a module saves."""

    EVERY = "every"
    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True)
class Saver:
    """A module that saves files, and how it names them.

    Attributes
    ----------
    module : Module
    moment : Moment
    overwrites : bool
        Whether it writes over a file that is there; otherwise it fails.
    parts : tuple of callable
        What make the name, relative to the default output folder. Where the module numbers
        objects, a "*" stands for the number.
    """

    module: Module
    moment: Moment
    overwrites: bool
    parts: tuple[_Part, ...]

    def name(self, row: Row, number: int) -> str:
        """Give the name that it writes for an image set, by its cells and its ImageNumber."""
        return os.path.normpath("".join(part(row, number) for part in self.parts))


@dataclass(frozen=True)
class Named:
    """What names are made of.

    Attributes
    ----------
    header : tuple of str
    types : mapping of str to Type
        Of each column, over the whole list.
    image_sets : int
        How many there are.
    where : Places
    """

    header: Row
    types: Mapping[str, Type]
    image_sets: int
    where: Places


def savers(pipe: Pipeline, named: Named) -> Iterator[Saver]:
    """Give the modules that save images under names that can be told before they run."""
    for module in pipe.modules:
        try:
            if module.name == "SaveImages":
                yield _save_images(module, named)
            elif module.name == "SaveCroppedObjects":
                yield _save_crops(module, named)
        except (UnknownNameError, BpcpError, ValueError):
            pass
        made = set(_measured(module))
        # from here on these are not what the list says
        named = replace(named, header=tuple("" if c in made else c for c in named.header))


def _measured(module: Module) -> Iterator[str]:
    """Name the columns of a list that a module measures anew."""
    if module.name == "LabelImages":
        for tag in ("Plate", "Well", "Row", "Column", "Site", "SiteNumber"):
            yield f"Metadata_{tag}"
    elif module.name == "FlagImage":
        categories, names = module.all("Name the flag's category"), module.all("Name the flag")
        yield from (f"{category}_{name}" for category, name in zip(categories, names, strict=False))
    elif module.get("Record the file and path information to the saved image?") == "Yes":
        image = module.get("Select the image to save")
        yield from (f"{prefix}_{image}" for prefix in ("FileName", "PathName", "URL"))


def _save_images(module: Module, named: Named) -> Saver:
    is_movie = module.get("Select the type of image to save") in _MOVIES
    moments = {"First cycle": Moment.FIRST, "Last cycle": Moment.LAST}
    moment = moments.get(module.get("When to save"), Moment.EVERY)
    parts = _folder(module.get("Output file location"), named)
    image = module.get("Select image name for file prefix")
    method = module.get("Select method for constructing file names")
    if method == "From image filename":
        if module.get("Create subfolders in the output folder?") == "Yes":
            parts += [_subfolder(module, image, named), _text("/")]
        parts.append(_image_file(image, named))
        if module.get("Append a suffix to the image file name?") == "Yes":
            parts += _tagged(module.get("Text to append to the image name"), named)
    elif method in ("Single name", "Sequential numbers"):
        text = module.get("Enter single file name") or module.get("Enter file prefix")
        parts += _tagged(text, named)
        if method == "Sequential numbers":
            digits = math.ceil(math.log10(named.image_sets + 1))
            digits = max(digits, int(module.get("Number of digits", "4")))
            parts.append(lambda _, number: str(number).zfill(digits))
    else:
        raise UnknownNameError(method)
    extension = module.get("Saved file format")
    parts.append(_text(".tiff" if is_movie else f".{_FORMATS.get(extension, extension)}"))
    overwrites = module.get("Overwrite existing files without warning?") != "No"
    # a movie's first frame makes its file
    return Saver(module, Moment.FIRST if is_movie else moment, overwrites, tuple(parts))


def _save_crops(module: Module, named: Named) -> Saver:
    parts = _folder(module.get("Directory"), named)
    objects = _text(module.get("Objects"))
    prefix: list[_Part] = []
    if module.get("Prefix saved crop image name with input image name?") == "Yes":
        prefix.append(_image_file(module.get("Select image name to use as a prefix"), named))
    if module.get("Save output crops in nested folders?") == "Yes":
        parts += [*(prefix or [objects]), _text("/")]
    parts += [*prefix, *([_text("_")] if prefix else [])]
    extension = "png" if module.get("Saved file format") == "png" else "tiff"
    parts += [objects, _text(f"_*.{extension}")]
    return Saver(module, Moment.EVERY, True, tuple(parts))


def _text(text: str) -> _Part:
    return lambda _row, _number: text


def _folder(value: str, named: Named) -> list[_Part]:
    folder = Folder.of(value)
    if folder.kind == OUT:
        return []
    if folder.kind != BELOW_OUT or not folder.is_within:
        raise UnknownNameError(value)
    return [*_tagged(folder.path, named), _text("/")]


def _tagged(text: str, named: Named) -> list[_Part]:
    r"""Give the parts of a text with metadata tags; two backslashes are one, and make no tag."""
    parts: list[_Part] = []
    for i, piece in enumerate(text.split("\\\\")):
        if i:
            parts.append(_text("\\"))
        at = 0
        for tag in TAG.finditer(piece):
            parts += [_text(piece[at : tag.start()]), _metadata(tag[1] or tag[2], named)]
            at = tag.end()
        parts.append(_text(piece[at:]))
    return parts


def _metadata(tag: str, named: Named) -> _Part:
    if tag in _OF_FILES:
        raise UnknownNameError(tag)
    types = [named.types.get(name, Type.TEXT) for name in named.header]

    def value(row: Row, _number: int) -> str:
        return imagelist.group_values(named.header, types, [row], [tag])[0][0]

    name = f"Metadata_{tag}"
    if name in named.header:
        at, kind = named.header.index(name), named.types.get(name, Type.TEXT)
        return lambda row, _: imagelist.shown(row[at], kind)
    # a well of its row and column; else it is not in the list
    imagelist.group_values(named.header, types, [], [tag])
    return value


def _image_file(image: str, named: Named) -> _Part:
    """Give an image's file name without what follows its last dot."""
    name, url = f"FileName_{image}", f"URL_{image}"
    if name in named.header:
        at = named.header.index(name)
        return lambda row, _: os.path.splitext(row[at])[0]  # noqa: PTH122 -- CellProfiler's own
    if url in named.header:
        at = named.header.index(url)
        return lambda row, _: os.path.splitext(row[at].rpartition("/")[2])[0]  # noqa: PTH122
    raise UnknownNameError(image)


def _subfolder(module: Module, image: str, named: Named) -> _Part:
    base = named.where.find(Folder.of(module.get("Base image folder")))
    name = f"PathName_{image}"
    if base is None or name not in named.header:
        raise UnknownNameError(name)
    at, root = named.header.index(name), named.where.root
    return lambda row, _: os.path.relpath(root / row[at], base)


def writers(every: Sequence[Saver], rows: Iterable[tuple[int, Row]]) -> dict[str, int]:
    """Give, by name, the last of some image sets that writes a file.

    Parameters
    ----------
    rows : iterable of (int, tuple of str)
        Their ImageNumbers and their cells, in the order in which they are processed.
    """
    return {saver.name(row, number): number for number, row in rows for saver in every}


def unnumbered(path: str) -> str:
    """Give the name that a file of an object's is known by: with a "*" for the object's number."""
    return _OF_OBJECT.sub(r"_*\1", path)
