"""A plate that lies in several folders, one for each channel, site, time point or plane.

Such folders have one name but for what tells them apart, as in BBBC022 (Broad Bioimage Benchmark
Collection), whose plate 20585 is BBBC022_v1_images_20585w1, ..._20585w2 and so on; or they are
called by that alone, within the folder of their plate.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bpcp.images.presets import Placer
from bpcp.images.report import counted, shown, some
from bpcp.images.store import Store

# What stands before a number in the name of a folder.
_BEFORE = {
    "channel": "w|wv|wave|wavelength|c|ch|chan|channel",
    "site": "s|site|f|fld|field|pos|position|xy",
    "t": "t|time|timepoint|tp",
    "z": "z|zstep|zplane|plane|slice",
}
_NUMBER = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True)
class _Part:
    """Folders of images that are taken for one plate so far.

    Attributes
    ----------
    values : dict of str to (str or None)
        Their channel, site, t and z; None where they have several.
    folders : tuple of str
        The folders themselves.
    """

    values: Mapping[str, str | None]
    folders: tuple[str, ...]


def join(store: Store, placer: Placer, names: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Name plates that are named by folders by what such folders share.

    Folders are taken together where each holds a single channel (or site, t or z), no two the
    same, and its name says so: w2, ch02, or a channel's name.

    Parameters
    ----------
    placer : Placer
        What says how a plate is called after its folder.
    names : mapping of str to sequence of str
        What indexes call each channel.

    Yields
    ------
    str
        What was taken together, for people.
    """
    parts = _parts(store, placer)
    joined: dict[str, _Part] = {}
    again = True
    while again:
        again = False
        for kind in _BEFORE:
            for home, found in _together(parts, placer, kind, names):
                for old in found:
                    del parts[old]
                    joined.pop(old, None)
                parts[home] = joined[home] = _merged(found.values())
                again = True
    if not joined:
        return
    plates = {home: placer.folder_plate(home) for home in joined}
    store.rename_plates({f: plates[home] for home, part in joined.items() for f in part.folders})
    number = sum(len(part.folders) for part in joined.values())
    said = [shown(plate) for plate in plates.values()]
    yield (
        f"{counted(number, 'folder')} that hold parts of a plate, taken together as"
        f" {counted(len(said), 'plate')}: {some(said)}"
    )


def _parts(store: Store, placer: Placer) -> dict[str, _Part]:
    """Give the folders whose plate is called after them, by acquisition."""
    parts: dict[str, list[_Part]] = defaultdict(list)
    for folder, plate, values in store.by_folder():
        if plate == placer.folder_plate(folder):
            parts[placer.acquisition(folder)].append(_Part(values, (folder,)))
    return {home: _merged(found) for home, found in parts.items()}


def _merged(parts: Iterable[_Part]) -> _Part:
    parts = list(parts)
    values = {}
    for kind in _BEFORE:
        several = {part.values.get(kind) for part in parts}
        values[kind] = several.pop() if len(several) == 1 else None
    return _Part(values, tuple(folder for part in parts for folder in part.folders))


def _together(
    parts: Mapping[str, _Part], placer: Placer, kind: str, names: Mapping[str, Sequence[str]]
) -> list[tuple[str, dict[str, _Part]]]:
    """Give the folders that differ by one kind alone, by what stands for all of them."""
    found: dict[str, dict[str, _Part]] = defaultdict(dict)
    for home, part in parts.items():
        value = part.values[kind]
        above, _, name = home.rpartition("/")
        rest = _without(name, _tags(kind, value, names)) if value and above else None
        if rest is not None:
            found[f"{above}/{rest}" if rest else placer.acquisition(above)][home] = part
    return [
        (home, alike)
        for home, alike in found.items()
        if home not in parts and 1 < len(alike) == len({p.values[kind] for p in alike.values()})
    ]


def _tags(kind: str, value: str, names: Mapping[str, Sequence[str]]) -> str:
    """Give the regular expression of what names a value in a folder's name."""
    literal = [value, *names.get(value, ())] if kind == "channel" else []
    tags = [re.escape(text) for text in literal if not text.isdecimal()]
    if number := _NUMBER.search(value):
        tags.append(f"(?:{_BEFORE[kind]})[ _-]?0*{int(number[1])}")
    return "|".join(tags)


def _without(name: str, tags: str) -> str | None:
    """Take a tag out of a folder's name; None where it has none."""
    if not tags:
        return None
    # after a digit it needs nothing in between: 20585w1
    pattern = rf"(?:^|[ _.-]+|(?<=\d))(?:{tags})(?=$|[ _.-])"
    found = list(re.finditer(pattern, name, re.IGNORECASE))
    if not found:
        return None
    return f"{name[: found[-1].start()]}{name[found[-1].end() :]}".strip(" _.-")
