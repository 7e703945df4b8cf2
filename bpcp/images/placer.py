"""How instruments name images, and what a path says by that: plate, well, site, channel, z, t."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images import plates
from bpcp.images.record import Image, Index
from bpcp.images.store import clean

PLACES = ("plate", "well", "row", "col", "site", "channel", "z", "t")
# Groups of presets alone; in --regex they are further columns, as any other name.
PARTS = ("row0", "col0", "well_number", "area", "x", "y")
# what CellProfiler's users call their groups
_ALIASES = {
    "wellrow": "row",
    "wellcolumn": "col",
    "wellcol": "col",
    "column": "col",
    "field": "site",
    "channelnumber": "channel",
    "wavelength": "channel",
    "zplane": "z",
    "timepoint": "t",
}
# Folders that people put between a plate's folder and its images; presets know of more.
_BETWEEN = re.compile(
    # a date, and no barcode of eight digits
    r"images?|projections?|tiffs?|raw"
    r"|(?:19|20)\d{2}-\d{2}-\d{2}|(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])",
    re.IGNORECASE,
)
# Harmony: <plate>__2021-05-02T16_02_51-Measurement 1
_MEASURED = re.compile(r"__\d{4}-\d{2}-\d{2}T\d{2}_\d{2}_\d{2}(?:[ _-]Measurement ?\d+)?$")


@dataclass(frozen=True)
class Preset:
    """How one kind of instrument names its images.

    Attributes
    ----------
    name : str
        For --preset.
    what : str
        The instruments, for people.
    examples : tuple of str
        Paths as one of them wrote them, at least one, but for --regex.
    names : tuple of re.Pattern
        One of them must match a whole file name; groups of PLACES, PARTS and further ones.
    folder : re.Pattern, optional
        Is searched for in the folder; its groups go before those of the name.
    needs_folder : bool
        Whether a folder that doesn't fit means that the file doesn't.
    between : tuple of re.Pattern
        Match whole names of folders between the plate's and its images.
    projection, thumbnail : re.Pattern, optional
        Searched for in a path and in a file's name: they tell a projection and a small copy.
    index, beside : re.Pattern, optional
        Match the name of the index file, and of files that reading it needs.
    reads : str
        The index, for people.
    read : callable, optional
        Reads the index, given a copy of it and the folder of its images.
    channels : callable, optional
        Reads an index that only names channels.
    plate_from : str
        "name", where the plate's name is in the file's, or "folder".
    numbered : str
        How well_number counts: "by row" or "by column".
    holds, export : str
        Where a file holds several images: which, and what to do about it; else "".
    includes : tuple of Preset
        Whose names and indexes it reads.
    users : bool
        Whether it is from the user's own file.
    sources : tuple of str
        Where its names are public.
    """

    name: str
    what: str
    examples: tuple[str, ...]
    names: tuple[re.Pattern[str], ...]
    folder: re.Pattern[str] | None = None
    needs_folder: bool = False
    between: tuple[re.Pattern[str], ...] = ()
    projection: re.Pattern[str] | None = None
    thumbnail: re.Pattern[str] | None = None
    index: re.Pattern[str] | None = None
    beside: re.Pattern[str] | None = None
    reads: str = ""
    read: Callable[[Path, str], Index] | None = None
    channels: Callable[[Path], dict[str, str]] | None = None
    plate_from: str = "name"
    numbered: str = ""
    holds: str = ""
    export: str = ""
    includes: tuple[Preset, ...] = ()
    users: bool = False
    sources: tuple[str, ...] = ()

    @property
    def example(self) -> str:
        """A path that it reads, for people."""
        return self.examples[0] if self.examples else ""

    @property
    def groups(self) -> frozenset[str]:
        """What its names may tell: groups as in record.Image, or row and col, and further ones."""
        return frozenset(group(name) for pattern in self.names for name in pattern.groupindex)


@dataclass
class Placer:
    """Places files by one preset.

    Attributes
    ----------
    root : str
        Where the source starts, as in walk.Walk.
    plate : str
        The plate of all images, where the user named it.
    plate_from : str
        "name", "folder", or "" for what the preset says.
    plate_wells : int
        Of each plate, where the user told, or 0.
    number_kept : str
        The first well that stays a number, once there is one.
    """

    preset: Preset
    root: str
    plate: str = ""
    plate_from: str = ""
    plate_wells: int = 0
    number_kept: str = ""
    _folders: dict[str, dict[str, str] | None] = field(default_factory=dict)

    def place(self, folder: str, name: str) -> Image | None:
        """Read a file's place from its folder and name; None where it doesn't fit.

        Raises
        ------
        BpcpError
            64 where its well has a higher number than the user's plate.
        """
        groups = self._match(folder, name)
        if groups is None:
            return None
        well = self._well(groups, name)
        if well is None:
            return None
        extra = self._extra(groups)
        flat = self.preset.projection is not None and self.is_projection(folder, name)
        return Image(
            folder,
            name,
            channel=groups.get("channel", "").strip(" -"),
            well=well,
            plate=self._plate_of(folder, groups.get("plate", "")),
            site=self._site(groups),
            z="" if flat else unpadded(groups.get("z", "")),
            # of folders by year, day and time
            t=unpadded(groups.get("t", "").replace("/", "-")),
            extra=extra,
        )

    def is_thumbnail(self, name: str) -> bool:
        """Tell whether a file is one that the user's own preset calls a thumbnail."""
        pattern = self.preset.thumbnail if self.preset.users else None
        return pattern is not None and pattern.search(name) is not None

    def knows(self, folder: str, name: str) -> bool:
        """Tell whether a file is an image or a thumbnail of this preset."""
        return self.is_thumbnail(name) or self.place(folder, name) is not None

    def is_projection(self, folder: str, name: str) -> bool:
        """Tell whether a path is one of a projection."""
        pattern = self.preset.projection
        return pattern is not None and pattern.search(f"{folder}/{name}") is not None

    def _extra(self, groups: dict[str, str]) -> tuple[tuple[str, str], ...]:
        known = PLACES if self.preset.name == "regex" else (*PLACES, *PARTS)
        return tuple((k, clean(v)) for k, v in groups.items() if k not in known)

    def _well(self, groups: dict[str, str], name: str) -> str | None:
        if "row" in groups:
            return plates.well_of(groups["row"], groups["col"]) or None
        if self.preset.name != "regex":
            if "row0" in groups:
                return plates.well_of(groups["row0"], groups["col0"], 0) or None
            if "well_number" in groups:
                if not groups["well_number"].isdecimal():
                    return None
                number = int(groups["well_number"])
                well = plates.numbered(number, self.plate_wells, self.preset.numbered)
                if not well:
                    raise BpcpError(
                        Exit.USAGE,
                        f"--plate-wells {self.plate_wells}: {name!r} is well {number}",
                        "give a plate that has so many wells, up to 1536",
                    )
                if not self.plate_wells:
                    self.number_kept = min(self.number_kept or well, well)
                return well
        written = groups.get("well", "")
        place = plates.row_and_column(written)
        return plates.well_of(*place) if place else written

    def _site(self, groups: dict[str, str]) -> str:
        site = unpadded(groups.get("site", ""))
        if self.preset.name == "regex":
            return site
        if not site and "x" in groups:
            site = f"x{unpadded(groups['x'])}y{unpadded(groups['y'])}"
        return "_".join(filter(None, (unpadded(groups.get("area", "")), site)))

    def indexed(self, image: Image, folder: str) -> Image:
        """Give an image that an index in a folder placed the plate and metadata of that folder."""
        found = self._folder_groups(folder) or {}
        more = self._extra(found)
        from_folder = self.plate_from == "folder" or "plate" in found
        plate = "" if from_folder else image.plate
        return replace(
            image,
            plate=self.plate or plate or self.folder_plate(folder),
            extra=(*more, *((k, clean(v)) for k, v in image.extra)),
        )

    def _plate_of(self, folder: str, named: str) -> str:
        if self.plate:
            return self.plate
        source = self.plate_from or self.preset.plate_from
        return named if named and source == "name" else self.folder_plate(folder)

    def folder_plate(self, folder: str) -> str:
        """Give the plate that a folder's name says."""
        found = (self._folder_groups(folder) or {}).get("plate", "")
        return _MEASURED.sub("", found) if found else plate_folder(folder, self.preset.between)

    def acquisition(self, folder: str) -> str:
        """Give the folder of the acquisition that a folder is a layer of, such as ZStep_1."""
        return acquisition(folder, self.preset.between)

    def _folder_groups(self, folder: str) -> dict[str, str] | None:
        """Give what the folder says; None where it doesn't fit."""
        if folder not in self._folders:
            pattern = self.preset.folder
            found = pattern.search(folder) if pattern else None
            self._folders[folder] = _filled(found) if found else None
        return self._folders[folder]

    def _match(self, folder: str, name: str) -> dict[str, str] | None:
        if self.preset.name == "regex":
            found = self.preset.names[0].search(self.shown(folder, name))
            return None if found is None else _filled(found)
        above = self._folder_groups(folder)
        if above is None and self.preset.needs_folder:
            return None
        for pattern in self.preset.names:
            found = pattern.fullmatch(name)
            if found is not None:
                return {**_filled(found), **(above or {})} if above else _filled(found)
        return None

    def shown(self, folder: str, name: str) -> str:
        """Give a file's path below the source."""
        below = folder[len(self.root) :].lstrip("/") if folder.startswith(self.root) else folder
        return f"{below}/{name}" if below else name


def _filled(found: re.Match[str]) -> dict[str, str]:
    return {group(k): v for k, v in found.groupdict().items() if v is not None}


@lru_cache(maxsize=256)
def group(name: str) -> str:
    """Give what a group of a regular expression is called here: "Wavelength" is channel."""
    low = name.lower()
    low = _ALIASES.get(low, low)
    return low if low in PLACES else name


def unpadded(text: str) -> str:
    """Write a number without leading zeros; anything else as it is."""
    return str(int(text)) if text.isdecimal() else text


def plate_folder(folder: str, between: Sequence[re.Pattern[str]]) -> str:
    """Give the name of the folder that stands for the plate: the last that isn't a mere layer."""
    found = acquisition(folder.removeprefix("s3:"), between)
    return _MEASURED.sub("", found.rpartition("/")[2])


def acquisition(folder: str, between: Sequence[re.Pattern[str]]) -> str:
    """Give the folder of the acquisition that a folder is a layer of, such as ZStep_1."""
    parts = [p for p in folder.split("/") if p]
    layers = (_BETWEEN, *between)
    while len(parts) > 1 and any(layer.fullmatch(parts[-1]) for layer in layers):
        parts.pop()
    return "/".join(parts)
