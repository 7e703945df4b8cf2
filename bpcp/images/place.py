"""Place all files of a source: by the instrument's index files, or else by their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images import htd
from bpcp.images.presets import (
    GALLERY,
    IMAGEXPRESS,
    INSTRUMENTS,
    Placer,
    Preset,
    acquisition,
)
from bpcp.images.record import Image
from bpcp.images.remote import fetched, in_bucket
from bpcp.images.report import SHOWN, LeftOut, counted, shown, some
from bpcp.images.store import Store
from bpcp.images.ticker import ticking
from bpcp.images.walk import Walk
from bpcp.scratch import scratch

# of Yokogawa, beside its index
_SETTINGS = (".mes", ".mrf")
_EXCLUDE = "--exclude 'PATTERN', such as 'overlays/*'"
# What stands in the names of a plate's images, whatever instrument wrote them.
_WELL = re.compile(r"(?<![A-Za-z0-9])[A-P](?:0?[1-9]|1\d|2[0-4])(?![0-9])|r\d\dc\d\d")
_HTD = re.compile(r".*\.htd", re.IGNORECASE | re.DOTALL)


@dataclass
class Placed:
    """What was learnt on the way.

    Attributes
    ----------
    channels : dict of str to list of str
        What index files call each channel; more than one name where they don't agree.
    notes : list of str
        What the user should know.
    indexes : int
        How many index files were read.
    index : str
        The first of them.
    left_out : list of LeftOut
        Files that are not placed, or not kept.
    """

    channels: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    indexes: int = 0
    index: str = ""
    left_out: list[LeftOut] = field(default_factory=list)

    def learn(self, channels: dict[str, str]) -> None:
        """Take what an index calls its channels."""
        for channel, name in channels.items():
            known = self.channels.setdefault(channel, [])
            if name not in known:
                known.append(name)


def place_all(store: Store, found: Walk, placer: Placer, placed: Placed) -> None:
    """Place the files of a store by a preset; `placed` also tells of what came before an error.

    Raises
    ------
    BpcpError
        65 where not one fits, or an index file is broken.
    """
    with scratch("images") as home:
        for number, (preset, folder, name) in enumerate(_indexes(found, placer.preset)):
            path = _local(found, folder, name, home / str(number))
            if preset.read is None:
                placed.learn(htd.channels(path))
                continue
            index = preset.read(path, folder)
            images = ticking(index.images, "images in the index")
            store.add(placer.indexed(i, folder) for i in images)
            placed.learn(index.channels)
            placed.notes += [f"{shown(name)}: {note}" for note in index.notes]
            placed.indexes += 1
            placed.index = placed.index or f"{folder}/{name}"
    if placed.indexes:
        _not_shared(store, placer, placed)
    _by_name(store, placer, placed)
    if placer.preset.name != "regex":
        count, first = store.drop_projections(acquisition)
        if count:
            note = (
                f"{counted(count, 'projection')} of z planes that are listed, left out,"
                f" such as {shown(first)}"
            )
            reason = "projections of listed z planes"
            placed.left_out.append(LeftOut(reason, count, first, note))


def _not_shared(store: Store, placer: Placer, placed: Placed) -> None:
    """Say which images only the index has, and drop them; and which files it does not name.

    Raises
    ------
    BpcpError
        65 where these are all files of a well.
    """
    # in this order: a folder of which the index has nothing right goes by its names
    count, paths = store.absent(SHOWN)
    if count:
        note = (
            f"{counted(count, 'image')} in the index, but not there:"
            f" {some([shown(p) for p in paths], count)}"
        )
        placed.left_out.append(LeftOut("in the index, but not there", count, paths[0], note))
    left = [f"{folder}/{name}" for folder, name in store.beside()]
    if not left:
        return
    indexed = store.wells_in()
    wells = dict.fromkeys(
        image.well
        for image in (placer.place(*path.rsplit("/", 1)) for path in left)
        if image and image.well and (image.folder, image.well) not in indexed
    )
    said = f"{counted(len(left), 'file')} not in the index"
    note = f"{said}, left out: {some([shown(p) for p in left], len(left))}"
    placed.left_out.append(LeftOut("not in the index", len(left), left[0], note))
    if wells:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{said}, and so nothing of well{'s' if len(wells) > 1 else ''}"
            f" {some(list(wells), len(wells))}: {shown(left[0])} …",
            f"get the whole index; or leave these files out: {_EXCLUDE}",
        )


def _by_name(store: Store, placer: Placer, placed: Placed) -> None:
    strange: list[str] = []
    first = ""
    plates: Counter[str] = Counter()
    count = 0

    def images() -> Iterator[Image]:
        nonlocal count, first
        for folder, name in ticking(store.unplaced(), "files placed"):
            image = placer.place(folder, name)
            if image is not None:
                yield image
                continue
            count += 1
            first = min(first or f"{folder}/{name}", f"{folder}/{name}")
            if _WELL.search(name):
                plates[acquisition(folder)] += 1
            if count <= SHOWN:
                strange.append(shown(placer.shown(folder, name)))

    store.add(images())
    preset = placer.preset
    if count:
        note = (
            f"{counted(count, 'file')} that the preset does not fit, left out:"
            f" {some(strange, count)}"
        )
        placed.left_out.append(LeftOut(f"{preset.name} does not fit", count, first, note))
    if not store.count_images():
        what = f"--regex {preset.what}" if preset.name == "regex" else f"preset {preset.name}"
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{what} fits none of {counted(count, 'name')}: {some(strange, count)}",
            f"it is for names like {preset.example}" if preset.example else "mend the expression",
        )
    for folder, _ in store.wells_in():
        plates.pop(acquisition(folder), None)
    if plates:
        folders = [f"{shown(name)} ({counted(n, 'file')})" for name, n in plates.items()]
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"the preset {preset.name} fits no file of {counted(len(folders), 'folder')} that look"
            f" like plates: {some(folders, len(folders))}",
            f"list them apart, with --preset or --regex; or leave them out: {_EXCLUDE}",
        )


def _indexes(found: Walk, preset: Preset) -> Iterator[tuple[Preset, str, str]]:
    """Give the index files that a preset reads, one for each folder: preset, folder, name."""
    mine = INSTRUMENTS if preset is GALLERY else (preset,)
    done: set[str] = set()
    # Index.idx.xml before Index.xml, which Harmony writes too
    for folder, name in sorted(found.beside, key=lambda f: (f[0], ".idx." not in f[1], f[1])):
        for one in mine:
            if one.index is not None and one.index.fullmatch(name) and folder not in done:
                done.add(folder)
                yield one, folder, name
            elif one is IMAGEXPRESS and _HTD.fullmatch(name):
                yield one, folder, name


def _local(found: Walk, folder: str, name: str, scratch: Path) -> Path:
    """Give an index as a file, with the settings that lie next to it."""
    if not in_bucket(folder):
        return Path(folder) / name
    for near, other in found.beside:
        if near == folder and (other == name or other.lower().endswith(_SETTINGS)):
            fetched(found.access, f"{folder}/{other}", scratch / other)
    return scratch / name
