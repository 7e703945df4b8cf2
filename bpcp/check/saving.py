"""Files that several image sets save under one name: which, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bpcp import imagelist
from bpcp.beside import Places
from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import REVISIONS, place
from bpcp.errors import BpcpError
from bpcp.imagelist import ImageList, Row, Type
from bpcp.pipeline import Kind, Module, Pipeline
from bpcp.saved import Moment, Named, Saver, savers

OVERWRITTEN = Code(
    "pipeline-saved-twice",
    Severity.WARNING,
    "several image sets save files under one name, and only one of them stays",
)
REFUSED = Code(
    "pipeline-overwrite-refused",
    Severity.ERROR,
    "SaveImages would not write over what another image set saved, and the image set fails",
    by_image_set=True,
)
CODES = (OVERWRITTEN, REFUSED)

_TO_DO = "let the pipeline name the file, or its folder, by what differs: plate, well, site"
_NO = "Overwrite existing files without warning?"


@dataclass(frozen=True)
class _Clash:
    """A name that is saved again: by which image sets, as places in the list; and by what."""

    name: str
    earlier: int
    other: Saver
    later: int


_Clashes = dict[int, list[_Clash]]


def of_saving(
    pipe: Pipeline,
    images: ImageList,
    where: Places,
    types: Mapping[str, Type] | None = None,
) -> list[Finding]:
    """Find the names that several image sets, or several modules, give to what they save.

    Parameters
    ----------
    images : ImageList
        The image sets that run.
    types : mapping of str to Type, optional
        Of the columns, where the list does not tell.
    """
    listed = pipe.reads_list and pipe.kind is not Kind.BATCH
    if types is None:
        found = imagelist.column_types(images.header, images.rows) if listed else ()
        types = dict(zip(images.header, found, strict=False))
    kinds = [types.get(name, Type.TEXT) for name in images.header]
    try:
        groups = imagelist.group_values(images.header, kinds, images.rows, pipe.group_keys)
    except BpcpError:
        # names.METADATA says it
        return []
    every = list(savers(pipe, Named(images.header, types, len(images.rows), where)))
    if not every:
        return []
    # in a batch file they stand in the order of their numbers
    order = imagelist.numbering(groups) if listed else list(range(len(groups)))
    lost, refused = _walk(every, images.rows, groups, order)
    unit = "line" if listed else "image set"
    found_here: list[Finding] = []
    for saver in every:
        if clashes := lost.get(id(saver)):
            files = "file" if len(clashes) == 1 else "files"
            names = len({clash.name for clash in clashes})
            # what is skipped saves nothing
            most = "up to " if _may_be_skipped(pipe, saver.module) else ""
            what = (
                f"{_both(saver, clashes[0], images, unit)}; the later one's stays:"
                f" {most}{len(clashes):,} {files} of {len(clashes) + names:,} will be overwritten"
            )
            lines = _lines([clash.earlier for clash in clashes], images)
            found_here.append(Finding(OVERWRITTEN, place(saver.module), what, _TO_DO, lines))
        found_here += _not_overwritten(pipe, saver, refused.get(id(saver), []), images, unit)
    return found_here


def of_any_list(pipe: Pipeline, where: Places) -> Iterator[Finding]:
    """Find modules that give what they save one name, whatever the image list holds."""
    for saver in savers(pipe, Named((), {}, 0, where)):
        name = saver.name((), 1)
        if saver.moment is not Moment.EVERY or name != saver.name((), 2):
            continue
        if saver.overwrites:
            what = f"every image set saves {name}, and only the last one's stays"
            remedy = _TO_DO
        else:
            what = f"every image set saves {name}, and '{_NO}' is No: the second one fails"
            remedy = f"{_TO_DO}; or set '{_NO}' to Yes"
        yield Finding(OVERWRITTEN, place(saver.module), what, remedy)


def _walk(
    every: Sequence[Saver], rows: Sequence[Row], groups: Sequence[Row], order: Sequence[int]
) -> tuple[_Clashes, _Clashes]:
    """Save as one process would; give what is written over, and what is refused, by module."""
    lost: _Clashes = {}
    refused: _Clashes = {}
    there: dict[str, tuple[int, Saver]] = {}
    for at, own in enumerate(order):
        moments = {Moment.EVERY}
        if at == 0 or groups[order[at - 1]] != groups[own]:
            moments.add(Moment.FIRST)
        if at + 1 == len(order) or groups[order[at + 1]] != groups[own]:
            moments.add(Moment.LAST)
        new: dict[str, tuple[int, Saver]] = {}
        clashes: list[tuple[Saver, _Clash]] = []
        for saver in every:
            if saver.moment not in moments:
                continue
            name = saver.name(rows[own], at + 1)
            earlier = new.get(name) or there.get(name)
            clash = _Clash(name, *earlier, own) if earlier else None
            if clash and not saver.overwrites:
                refused.setdefault(id(saver), []).append(clash)
                # the image set fails here, with all that it saved
                break
            if clash:
                clashes.append((saver, clash))
            new[name] = (own, saver)
        else:
            for saver, clash in clashes:
                lost.setdefault(id(saver), []).append(clash)
            there.update(new)
    return lost, refused


def _not_overwritten(
    pipe: Pipeline, saver: Saver, clashes: Sequence[_Clash], images: ImageList, unit: str
) -> Iterator[Finding]:
    if not clashes:
        return
    remedy = f"{_TO_DO}; or set '{_NO}' to Yes"
    if not _may_be_skipped(pipe, saver.module):
        for clash in clashes:
            who = _named(images, clash.earlier, unit)
            who = f"module {clash.other.module.number}" if clash.earlier == clash.later else who
            what = f"it would save {clash.name}, which {who} saved before, and '{_NO}' is No"
            line = images.lines[clash.later]
            yield Finding(REFUSED, place(saver.module), what, remedy, (line,))
        return
    what = (
        f"{_both(saver, clashes[0], images, unit)}, and '{_NO}' is No: unless one of them is"
        " skipped before, one process ends with an error at the later one; a run analyses it by"
        f" itself, and keeps the earlier one's file; up to {len(clashes):,} of them"
    )
    lines = _lines([clash.later for clash in clashes], images)
    yield Finding(OVERWRITTEN, place(saver.module), what, remedy, lines)


def _may_be_skipped(pipe: Pipeline, saver: Module) -> bool:
    """Tell whether an image set may end before a module, without having failed."""
    before = [module for module in pipe.modules if module.number < saver.number]
    return any(
        "Yes" in module.all("Skip image set if flagged?") or module.name not in REVISIONS
        for module in before
    )


def _both(saver: Saver, clash: _Clash, images: ImageList, unit: str) -> str:
    later, number = _named(images, clash.later, unit), clash.other.module.number
    if clash.earlier == clash.later:
        return f"{later} saves {clash.name} here and by module {number}"
    both = f"{_named(images, clash.earlier, unit)} and {later} both save {clash.name}"
    return both if number == saver.module.number else f"{both} (module {number} and this one)"


def _named(images: ImageList, at: int, unit: str) -> str:
    cells = zip(images.header, images.rows[at], strict=True)
    metadata = ", ".join(f"{n[9:]} {cell}" for n, cell in cells if n.startswith("Metadata_"))
    return f"{unit} {images.lines[at]}" + (f" ({metadata})" if metadata else "")


def _lines(places: Iterable[int], images: ImageList) -> tuple[int, ...]:
    return tuple(images.lines[at] for at in sorted(set(places)))
