"""Place all files of a source: by the instrument's index files, or else by their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images.placer import Placer, Preset
from bpcp.images.record import Image
from bpcp.images.remote import fetched, in_bucket
from bpcp.images.report import SHOWN, counted, shown, some
from bpcp.images.store import Store
from bpcp.images.ticker import ticking
from bpcp.images.walk import Walk
from bpcp.scratch import scratch

_EXCLUDE = "--exclude 'PATTERN', such as 'overlays/*'"
# What stands in the names of a plate's images, whatever instrument wrote them.
_WELL = re.compile(r"(?<![A-Za-z0-9])[A-P](?:0?[1-9]|1\d|2[0-4])(?![0-9])|r\d\dc\d\d")


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
    """

    channels: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    indexes: int = 0

    def learn(self, channels: dict[str, str]) -> None:
        """Take what an index calls its channels."""
        for channel, name in channels.items():
            known = self.channels.setdefault(channel, [])
            if name not in known:
                known.append(name)


def place_all(store: Store, found: Walk, placer: Placer) -> Placed:
    """Place the files of a store by a preset.

    Raises
    ------
    BpcpError
        65 where not one fits, or an index file is broken.
    """
    placed = Placed()
    with scratch("images") as home:
        for number, (preset, folder, name) in enumerate(_indexes(found, placer.preset)):
            path = _local(found, preset, folder, name, home / str(number))
            if preset.channels is not None:
                placed.learn(preset.channels(path))
            if preset.read is None:
                continue
            index = preset.read(path, folder)
            images = ticking(index.images, "images in the index")
            store.add(placer.indexed(i, folder) for i in images)
            placed.learn(index.channels)
            placed.notes += [f"{shown(name)}: {note}" for note in index.notes]
            placed.indexes += 1
    if placed.indexes:
        placed.notes += _not_shared(store, placer)
    _by_name(store, placer, placed)
    if placer.preset.name != "regex":
        count, first = store.drop_projections(placer.acquisition)
        if count:
            placed.notes.append(
                f"{counted(count, 'projection')} of z planes that are listed, left out,"
                f" such as {shown(first)}"
            )
    return placed


def _not_shared(store: Store, placer: Placer) -> Iterator[str]:
    """Say which images only the index has, and drop them; and which files it does not name.

    Raises
    ------
    BpcpError
        65 where these are all files of a well.
    """
    # in this order: a folder of which the index has nothing right goes by its names
    count, paths = store.absent(SHOWN)
    if count:
        yield (
            f"{counted(count, 'image')} in the index, but not there:"
            f" {some([shown(p) for p in paths], count)}"
        )
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
    if wells:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{said}, and so nothing of well{'s' if len(wells) > 1 else ''}"
            f" {some(list(wells), len(wells))}: {shown(left[0])} …",
            f"get the whole index; or leave these files out: {_EXCLUDE}",
        )
    yield f"{said}, left out: {some([shown(p) for p in left], len(left))}"


def _by_name(store: Store, placer: Placer, placed: Placed) -> None:
    strange: list[str] = []
    plates: Counter[str] = Counter()
    count = 0

    def images() -> Iterator[Image]:
        nonlocal count
        for folder, name in ticking(store.unplaced(), "files placed"):
            image = placer.place(folder, name)
            if image is not None:
                yield image
                continue
            count += 1
            if _WELL.search(name):
                plates[placer.acquisition(folder)] += 1
            if count <= SHOWN:
                strange.append(shown(placer.shown(folder, name)))

    store.add(images())
    preset = placer.preset
    if not store.count_images():
        what = f"--regex {preset.what}" if preset.name == "regex" else f"preset {preset.name}"
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{what} fits none of {counted(count, 'name')}: {some(strange, count)}",
            f"it is for names like {preset.example}" if preset.example else "mend the expression",
        )
    for folder, _ in store.wells_in():
        plates.pop(placer.acquisition(folder), None)
    if plates:
        folders = [f"{shown(name)} ({counted(n, 'file')})" for name, n in plates.items()]
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"the preset {preset.name} fits no file of {counted(len(folders), 'folder')} that look"
            f" like plates: {some(folders, len(folders))}",
            f"list them apart, with --preset or --regex; or leave them out: {_EXCLUDE}",
        )
    if count:
        placed.notes.append(
            f"{counted(count, 'file')} that the preset does not fit, left out:"
            f" {some(strange, count)}"
        )


def _indexes(found: Walk, preset: Preset) -> Iterator[tuple[Preset, str, str]]:
    """Give the index files that a preset reads, one for each folder: preset, folder, name."""
    mine = preset.includes or (preset,)
    done: set[str] = set()
    # Index.idx.xml before Index.xml, which Harmony writes too
    for folder, name in sorted(found.beside, key=lambda f: (f[0], ".idx." not in f[1], f[1])):
        for one in mine:
            if one.index is None or not one.index.fullmatch(name):
                continue
            if one.read is None:
                yield one, folder, name
            elif folder not in done:
                done.add(folder)
                yield one, folder, name


def _local(found: Walk, preset: Preset, folder: str, name: str, scratch: Path) -> Path:
    """Give an index as a file, with the files next to it that reading it needs."""
    if not in_bucket(folder):
        return Path(folder) / name
    for near, other in found.beside:
        needed = preset.beside is not None and preset.beside.fullmatch(other)
        if near == folder and (other == name or needed):
            fetched(found.access, f"{folder}/{other}", scratch / other)
    return scratch / name
