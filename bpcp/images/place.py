"""Place all files of a source: by the instrument's index files, or else by their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from bpcp.errors import BpcpError, Exit
from bpcp.images import incell_xdce, located, plates, projections, spread
from bpcp.images.index import root as outermost
from bpcp.images.parts import STAINS
from bpcp.images.placer import Placer, Preset
from bpcp.images.record import Image
from bpcp.images.remote import fetched, in_bucket
from bpcp.images.report import SHOWN, LeftOut, counted, shown, some
from bpcp.images.store import Store
from bpcp.images.ticker import ticking
from bpcp.images.walk import Walk
from bpcp.scratch import scratch

_EXCLUDE = "--exclude 'PATTERN', such as 'overlays/*'"
# What stands in the names of a plate's images, whatever instrument wrote them.
_SPELLED = re.compile(r"(?<![A-Za-z0-9])([A-P])[ _-]?(\d{1,2})(?![A-Za-z0-9])")
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
    if found.listed:
        placed.left_out += _repeated(store, "file", "file", "that the list names again")
    namers: list[str] = []
    with scratch("images") as home:
        for number, (preset, folder, name) in enumerate(_indexes(store, found, placer.preset)):
            path = _local(found, preset, folder, name, home / str(number))
            if (folder, name) not in found.beside:
                if outermost(path) != incell_xdce.ROOT:
                    continue
                found.is_index(folder, name)
            if preset.channels is not None:
                placed.learn(preset.channels(path))
                namers.append(f"{folder}/{name}")
            if preset.read is None:
                continue
            index = preset.read(path, folder)
            images = ticking(index.images, "images in the index")
            before = store.last()
            store.add(placer.indexed(i, folder) for i in images)
            located.locate(store, folder, before)
            placed.learn(index.channels)
            placed.notes += [f"{shown(name)}: {note}" for note in index.notes]
            placed.indexes += 1
            placed.index = placed.index or f"{folder}/{name}"
    if placed.indexes > 1:
        placed.left_out += _repeated(store, "image", "image", "that another index names, too")
    if placed.indexes:
        _not_shared(store, placer, placed)
    _by_name(store, found, placer, placed)
    _refuse_stains(store, placer)
    count = len(store.values("plate"))
    if namers and len(namers) < count:
        placed.notes.append(
            f"channels of all {count:,} plates are called as {_named(namers, len(namers))} says;"
            " the others have no such file"
        )
    _refuse_thumbnails(store, placer, bool(placed.indexes))
    placed.notes += spread.join(store, placer, placed.channels)
    placed.left_out += drop_projections(store, placer)[0]


def _repeated(store: Store, table: str, what: str, why: str) -> Iterator[LeftOut]:
    count, paths = store.drop_repeated(table, SHOWN)
    if count:
        note = f"{counted(count, what)} {why}, taken once: {_named(paths, count)}"
        yield LeftOut(f"{what}s {why}", count, paths[0], note)


def _named(paths: Sequence[str], count: int) -> str:
    return some([shown(path) for path in paths], count)


def drop_projections(
    store: Store, placer: Placer, last: bool = False
) -> tuple[list[LeftOut], list[str]]:
    """Leave out projections of planes that are listed themselves; say which, and what stays.

    Parameters
    ----------
    last : bool
        Whether no channel will be left out any more: then channels without planes are named.
    """
    left: list[LeftOut] = []
    notes: list[str] = []
    if placer.preset.name == "regex":
        return left, notes
    found = projections.drop(store, placer.acquisition, SHOWN)
    if found.dropped:
        note = (
            f"{counted(found.dropped, 'projection')} of z planes that are listed, left out:"
            f" {_named(found.shown, found.dropped)}"
        )
        reason = "projections of listed z planes"
        left.append(LeftOut(reason, found.dropped, found.shown[0], note))
    if not last:
        return left, notes
    if found.kept:
        notes.append(
            f"{counted(found.kept, 'image')} without a z plane, beside planes of other places or"
            f" channels, listed: {_named(found.stay, found.kept)}"
        )
    drop = ", --incomplete drop the images without planes" if found.kept else ""
    for channel in dict.fromkeys(channel for _, channel in found.alone):
        homes = [_below(placer, home) for home, other in found.alone if other == channel]
        notes.append(
            f"channel {channel} has no z planes in {some(homes)}, other channels have:"
            f" --channel {quote(channel)}= lists the planes of the others{drop}"
        )
    return left, notes


def _below(placer: Placer, folder: str) -> str:
    """Give a folder or an acquisition for people, below the source."""
    path, root = folder.lstrip("/"), placer.root.lstrip("/")
    return shown(path.removeprefix(root).strip("/") or path)


def _refuse_thumbnails(store: Store, placer: Placer, indexed: bool) -> None:
    """Refuse a plate's wells and channels of which there are thumbnails alone.

    Parameters
    ----------
    indexed : bool
        Whether an index placed images.

    Raises
    ------
    BpcpError
        65 where there are any.
    """
    there: dict[str, set[str]] = {}
    for folder, *place in store.channels_in():
        there.setdefault(f"{placer.acquisition(folder)}/", set()).update(_spoken(*place))
    near: dict[str, set[str]] = {}
    lost: dict[str, None] = {}
    for folder, name in ticking(store.thumbnails(), "thumbnails compared"):
        image = placer.place(folder, name)
        if image is None:
            continue
        if folder not in near:
            home = f"{placer.acquisition(folder)}/"
            # some put them into a folder of their own, within or beside that of the images
            related = (o for o in there if o.startswith(home) or home.startswith(o))
            near[folder] = set().union(*(there[other] for other in related))
        # an index may call channels otherwise
        for what in _spoken(image.well, "" if indexed else image.channel):
            if what not in near[folder]:
                lost[f"{what} in {_below(placer, folder)}"] = None
    if lost:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"there are thumbnails, but no images of {some(list(lost))}",
            f"get the images; or leave the thumbnails out, too: {_EXCLUDE}",
        )


def _spoken(well: str, channel: str) -> list[str]:
    named = (("well", well), ("channel", channel))
    return [f"{what} {text}" for what, text in named if text]


def _refuse_stains(store: Store, placer: Placer) -> None:
    """Refuse plates that are called like stains where no name tells a channel.

    Raises
    ------
    BpcpError
        65 where each plate's name has one that no other has.
    """
    if placer.preset.name == "regex" or store.values("channel") != [""]:
        return
    names = store.values("plate")
    words = [set(re.split(r"[_ .-]+", name)) for name in names]
    shared = set.intersection(*words)
    stains = [next((w for w in own - shared if w.lower() in STAINS), "") for own in words]
    if len(names) > 1 and all(stains):
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"no name tells a channel, and plates are called like stains:"
            f" {some([shown(name) for name in names])}",
            "say which part is the channel, such as"
            f" --regex '(?P<channel>{'|'.join(sorted(stains))})_(?P<well>[A-P]\\d\\d)'",
        )


def _not_shared(store: Store, placer: Placer, placed: Placed) -> None:
    """Say which images only the index has, and drop them; and which files it does not name.

    Raises
    ------
    BpcpError
        65 where these are all files of a well or of a channel.
    """
    # in this order: a folder of which the index has nothing right goes by its names
    count, paths = store.absent(SHOWN)
    if count:
        note = f"{counted(count, 'image')} in the index, but not there: {_named(paths, count)}"
        placed.left_out.append(LeftOut("in the index, but not there", count, paths[0], note))
    left = [f"{folder}/{name}" for folder, name in store.beside()]
    if not left:
        return
    lost = _lost(store, placer, left)
    said = f"{counted(len(left), 'file')} not in the index"
    note = f"{said}, left out: {_named(left, len(left))}"
    placed.left_out.append(LeftOut("not in the index", len(left), left[0], note))
    if lost:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{said}, and so nothing of {' or '.join(lost)}: {shown(left[0])} …",
            f"get the whole index; or leave these files out: {_EXCLUDE}",
        )


def _lost(store: Store, placer: Placer, left: Sequence[str]) -> list[str]:
    """Say of which wells and channels an index names nothing, by the names of files."""
    found = [image for image in (placer.place(*p.rsplit("/", 1)) for p in left) if image]
    indexed = store.wells_in()
    wells = dict.fromkeys(i.well for i in found if i.well and (i.folder, i.well) not in indexed)
    # an index may call channels otherwise than names do: names of both sides are compared
    missing = {(i.folder, i.channel) for i in found if i.channel}
    for folder, name in store.placed():
        if not missing:
            break
        image = placer.place(folder, name)
        missing.discard((folder, image.channel if image else ""))
    channels = dict.fromkeys(i.channel for i in found if (i.folder, i.channel) in missing)
    return [
        f"{what}{'s' if len(lost) > 1 else ''} {some(list(lost), len(lost))}"
        for what, lost in (("well", wells), ("channel", channels))
        if lost
    ]


def _by_name(store: Store, found: Walk, placer: Placer, placed: Placed) -> None:
    others = [Placer(p, placer.root) for p in found.presets.values() if p is not placer.preset]
    strange: list[str] = []
    # by folder and the wells that a name may mean, the first such file
    unread: dict[tuple[str, frozenset[str]], str] = {}
    first = ""
    homes: Counter[str] = Counter()
    count = 0

    def images() -> Iterator[Image]:
        nonlocal count, first
        for folder, name in ticking(store.unplaced(), "files placed"):
            if placer.is_thumbnail(name):
                found.skip("thumbnails", folder, name)
                continue
            image = placer.place(folder, name)
            if image is not None:
                yield image
                continue
            count += 1
            first = min(first or f"{folder}/{name}", f"{folder}/{name}")
            home = placer.acquisition(folder)
            if spelled := _wells_of(name):
                unread.setdefault((home, spelled), f"{folder}/{name}")
            if home in homes or _WELL.search(name) or any(o.place(folder, name) for o in others):
                homes[home] += 1
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
    there: dict[str, set[str]] = {}
    for folder, well in store.wells_in():
        home = placer.acquisition(folder)
        there.setdefault(home, set()).add(well)
        homes.pop(home, None)
    if homes:
        folders = [f"{_below(placer, name)} ({counted(n, 'file')})" for name, n in homes.items()]
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"the preset {preset.name} fits no file of {counted(len(folders), 'folder')} that look"
            f" like plates: {some(folders, len(folders))}",
            f"list them apart, with --preset or --regex; or leave them out: {_EXCLUDE}",
        )
    called = set().union(*map(_wells_of, store.values("plate")))
    for (home, spelled), path in unread.items():
        lost = spelled - called
        if lost and not spelled & there.get(home, set()) and _lies_among(lost, there.get(home, ())):
            raise BpcpError(
                Exit.MALFORMED_INPUT,
                f"{preset.name} fits no file of well {' or '.join(sorted(lost))}:"
                f" {_below(placer, path)} …",
                f"call them like the others, or describe all names by --regex; or leave them out:"
                f" {_EXCLUDE}",
            )


def _wells_of(name: str) -> frozenset[str]:
    """Give the wells that a name's parts may mean, however they are spelled."""
    return frozenset(plates.well_of(*found) for found in _SPELLED.findall(name)) - {""}


def _lies_among(wells: Iterable[str], listed: Iterable[str]) -> bool:
    """Tell whether a well is within the rows and columns of those that are listed."""
    places = [place for place in map(plates.row_and_column, listed) if place]
    rows, columns = {row for row, _ in places}, {column for _, column in places}
    found = [plates.row_and_column(well) for well in wells]
    return any(place and place[0] in rows and place[1] in columns for place in found)


def _indexes(store: Store, found: Walk, preset: Preset) -> Iterator[tuple[Preset, str, str]]:
    """Give the index files that a preset reads: preset, folder, name.

    What lies deeper comes first: it knows its images best.
    """
    mine = preset.includes or (preset,)
    done: set[str] = set()
    # Index.idx.xml before Index.xml, which Harmony writes too
    order = sorted(found.beside, key=lambda f: (-f[0].count("/"), f[0], ".idx." not in f[1], f[1]))
    for folder, name in order:
        for one in mine:
            if one.index is None or not one.index.fullmatch(name):
                continue
            if one.read is None:
                yield one, folder, name
            elif folder not in done or one.read is incell_xdce.read:
                done.add(folder)
                yield one, folder, name
    for one in mine:
        if one.read is incell_xdce.read:
            # an index that lies among its images
            near = [(f, n) for f, n in found.xml if f not in done and store.holds(f)]
            yield from ((one, folder, name) for folder, name in near)


def _local(found: Walk, preset: Preset, folder: str, name: str, scratch: Path) -> Path:
    """Give an index as a file, with the files next to it that reading it needs."""
    if not in_bucket(folder):
        return Path(folder) / name
    fetched(found.access, f"{folder}/{name}", scratch / name)
    for near, other in found.beside:
        needed = preset.beside is not None and preset.beside.fullmatch(other)
        if near == folder and other != name and needed:
            fetched(found.access, f"{folder}/{other}", scratch / other)
    return scratch / name
