"""Names that a pipeline uses and nobody gives: images, objects, metadata."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from bpcp import imagelist
from bpcp.check import modules
from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import MEASUREMENTS_READ, METADATA_TEXTS, active, every_module, place
from bpcp.errors import BpcpError
from bpcp.imagelist import ImageList
from bpcp.pipeline import TAG, Module, Pipeline

CHANNEL = Code(
    "pipeline-missing-channel",
    Severity.ERROR,
    "a module wants an image that neither the image list nor an earlier module gives",
)
OBJECTS = Code(
    "pipeline-missing-object",
    Severity.ERROR,
    "a module wants objects that neither the image list nor an earlier module gives",
)
METADATA = Code(
    "pipeline-missing-metadata",
    Severity.ERROR,
    "the pipeline names or groups by metadata that the image list does not have",
)
CODES = (CHANNEL, OBJECTS, METADATA)

# How a setting begins that names what its module makes; only asked for a hint.
_NAMES = re.compile(r"Name |What should CellProfiler call|Image name|Output$")
# What a setting says where it names nothing.
_NOTHING = ("", "None", "Leave blank", "Leave this black", "Do not use")
# Tags that CellProfiler fills from the image files; the list need not have them.
_OF_FILES = ("Series", "Frame")
# More missing names than these are said in one finding.
_SEVERAL = 5
_IMAGE_COLUMNS = ("FileName_", "URL_")
_OBJECT_COLUMNS = ("ObjectsFileName_", "ObjectsURL_")


def of_names(pipe: Pipeline, images: ImageList | None) -> list[Finding]:
    """Find the names that nobody gives; what only an image list can tell is left out without one.

    Source: a run of CellProfiler 4.2.8.1 over each: "The X image is missing from the pipeline",
    "Feature Metadata_X for Image does not exist"; both end the process at its first image set.
    """
    header = images.header if images else ()
    found: list[Finding] = []
    if images or not pipe.named("LoadData"):
        listed = _listed(pipe, header, _IMAGE_COLUMNS)
        found += _missing(pipe, CHANNEL, "image", listed, modules.images_read)
        listed = _listed(pipe, header, _OBJECT_COLUMNS)
        found += _missing(pipe, OBJECTS, "objects", listed, modules.objects_read)
    if images:
        found += _missing_metadata(pipe, header)
    return found


def _listed(pipe: Pipeline, header: Sequence[str], prefixes: Sequence[str]) -> list[str]:
    """Name what the image list gives."""
    if any(m.get("Load images based on this data?") == "No" for m in pipe.named("LoadData")):
        return []
    names = (c[len(p) :] for c in header for p in prefixes if c.startswith(p))
    return list(dict.fromkeys(names))


def _missing(
    pipe: Pipeline,
    code: Code,
    kind: str,
    listed: Sequence[str],
    wanted: Callable[[Module], Iterable[str]],
) -> Iterator[Finding]:
    wanting = from_list(pipe, wanted, listed)
    if len(wanting) > _SEVERAL:
        yield _many(code, kind, wanting, listed)
        return
    for name, users in wanting.items():
        which = f"the {kind} {name}" if kind == "image" else f"the objects {name}"
        more = f" (as {len(users) - 1} more modules do)" if len(users) > 2 else ""
        more = f" (as module {users[1].number} does)" if len(users) == 2 else more
        yield Finding(
            code,
            place(users[0]),
            f"it wants {which}{more}, which neither the image list nor an earlier module gives",
            _remedy(pipe, kind, name, users[0], listed),
        )


def from_list(
    pipe: Pipeline, wanted: Callable[[Module], Iterable[str]], listed: Sequence[str] = ()
) -> dict[str, list[Module]]:
    """Name what modules want and no earlier one makes, and the modules that want it.

    Parameters
    ----------
    wanted : callable
        Names what a module reads: `modules.images_read` or `modules.objects_read`.
    listed : sequence of str
        What need not be named, for the image list gives it.
    """
    there = set(listed)
    wanting: dict[str, list[Module]] = {}
    for module in pipe.modules:
        for name in wanted(module):
            if name not in there and name not in _NOTHING:
                wanting.setdefault(name, []).append(module)
        there.update(_made(module))
    return wanting


def _many(
    code: Code, kind: str, wanting: dict[str, list[Module]], listed: Sequence[str]
) -> Finding:
    """Say it once, where the list is not for this pipeline: a reason each would hide the others."""
    names = list(wanting)
    users = list(dict.fromkeys(place(m) for found in wanting.values() for m in found))
    others = f", and {len(users) - 1} more" if len(users) > 1 else ""
    there = f"the list has {', '.join(listed)}" if listed else f"the list has no {kind}"
    what = "images" if kind == "image" else kind
    prefix = "FileName_" if kind == "image" else "ObjectsFileName_"
    return Finding(
        code,
        f"{users[0]}{others}",
        f"{len(names)} {what} are wanted that neither the image list nor an earlier module gives:"
        f" {', '.join(names[:_SEVERAL])} and {len(names) - _SEVERAL} more",
        f"{there}; give it columns {prefix}{names[0]} and so on, or take the list that belongs to"
        " the pipeline",
    )


def _made(module: Module) -> Iterator[str]:
    """Give whatever a module's settings name and it does not read: what it makes is among them."""
    for label, value in module.settings:
        if not modules.is_reader(module, label):
            yield from (name.strip() for name in value.split(","))


def _remedy(pipe: Pipeline, kind: str, name: str, user: Module, listed: Sequence[str]) -> str:
    for module in every_module(pipe):
        named = (value for label, value in module.settings if _NAMES.match(label))
        if module.number != user.number and name in named:
            on = module.number in {m.number for m in pipe.modules}
            if on and module.number > user.number:
                return f"move {module.name} (module {module.number}), which makes it, before it"
            if not on and module.number < user.number:
                return f"{module.name} (module {module.number}), which makes it, is disabled"
    load = next(iter(pipe.named("LoadData")), None)
    if load and load.get("Load images based on this data?") == "No":
        return "set LoadData's 'Load images based on this data?' to Yes"
    column = ("FileName_" if kind == "image" else "ObjectsFileName_") + name
    there = f"the list has {', '.join(listed)}" if listed else f"the list has no {kind}"
    near = _near(name, listed)
    if near:
        return f"{there}: is it {near}? Rename the column, or choose it in the module"
    return f"{there}; give it a column {column}, or choose another in the module"


def _near(name: str, there: Sequence[str]) -> str:
    folded = {other.casefold(): other for other in there}
    close = difflib.get_close_matches(name.casefold(), folded, 1)
    return folded[close[0]] if close else ""


def metadata_wanted(pipe: Pipeline) -> dict[str, tuple[Module, str]]:
    """Name the metadata that no module makes, with the first module that wants it, and why."""
    wanted: dict[str, tuple[Module, str]] = {}
    grouping = next(iter([*pipe.named("LoadData"), *pipe.named("Groups")]), None)
    if grouping:
        wanted = dict.fromkeys(pipe.group_keys, (grouping, "it groups by"))
    made: set[str] = set()
    for module in pipe.modules:
        for _, text in active(module, METADATA_TEXTS.get(module.name, {})):
            for tag in (one or other for one, other in TAG.findall(text)):
                if tag not in made:
                    wanted.setdefault(tag, (module, "it names files or folders by"))
        for _, value in active(module, MEASUREMENTS_READ.get(module.name, {})):
            tag = value.removeprefix("Metadata_")
            if tag not in (value, *made):
                wanted.setdefault(tag, (module, "it goes by"))
        if module.name == "LabelImages":
            made.update(("Plate", "Well", "Row", "Column", "Site", "SiteNumber"))
        elif module.name != "LoadData":
            made.update(_made(module))
    return {tag: why for tag, why in wanted.items() if tag not in _OF_FILES}


def _missing_metadata(pipe: Pipeline, header: Sequence[str]) -> Iterator[Finding]:
    for tag, (module, how) in metadata_wanted(pipe).items():
        if _is_listed(header, tag):
            continue
        tags = [c.removeprefix("Metadata_") for c in header if c.startswith("Metadata_")]
        near = _near(tag, tags)
        yield Finding(
            METADATA,
            place(module),
            f"{how} the metadata {tag}, which the image list does not have",
            f"it has {', '.join(tags) or 'no metadata'}"
            + (f": is it {near}?" if near else f"; give it a column Metadata_{tag}"),
        )


def _is_listed(header: Sequence[str], tag: str) -> bool:
    try:
        imagelist.group_values(tuple(header), (), (), (tag,))
    except BpcpError:
        return False
    return True
