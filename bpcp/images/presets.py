"""What instruments call their images, and what the names say: plate, well, site, channel, z, t.

Each name was taken from what instruments wrote, as public projects quote it:

- ImageXpress: CarragherLab/ImageXpressR and apahl/plate-inspector (README), ImageXpress HCS.ai:
  fractal-uzh-converters, "Molecular Devices ImageXpress"; folders TimePoint_n and ZStep_n:
  EZStitcher, "Microscope Formats".
- Cellomics: Bio-Formats' CellomicsReader, Broad Bioimage Benchmark Collection BBBC007,
  CellProfiler's ExampleHT29.
- Cell Painting Gallery: "Cell Painting Gallery folder structure" on its own site, and the
  load_data files of cpg0016-jump, whose sources used Phenix, CV8000 and ImageXpress.

Phenix, Yokogawa and InCell: see the modules that read their index files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images import incell_xdce, natural, phenix, yokogawa
from bpcp.images.record import Image, Index
from bpcp.images.store import clean

# So much of the names must fit before a preset is taken for the right one.
ENOUGH = 0.9
PLACES = ("plate", "well", "row", "col", "site", "channel", "z", "t")
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

# Folders that instruments and people put between a plate's folder and its images.
_BETWEEN = re.compile(
    r"(?:images?|flex|projections?|tiffs?|raw|experiment\w*|timepoint_?\d+|zstep_\d+"
    r"|measurement ?\d+|\d{4}-\d{2}-\d{2}|\d{8})",
    re.IGNORECASE,
)
# Harmony: <plate>__2021-05-02T16_02_51-Measurement 1
_MEASURED = re.compile(r"__\d{4}-\d{2}-\d{2}T\d{2}_\d{2}_\d{2}(?:[ _-]Measurement ?\d+)?$")
_GALLERY = re.compile(
    r"(?:(?:^|/)cpg\d{4}-[^/]+/(?P<Source>[^/]+))?(?:^|/)images/(?P<Batch>[^/]+)/images/(?P<plate>[^/]+)"
)
_IMAGEXPRESS = re.compile(
    r"(?:(?P<plate>.+?)_)?(?:t(?P<t>\d+)_)?(?P<row>[A-Z]|A[A-F])(?P<col>\d{2})"
    r"(?:_s(?P<site>\d+))?(?:_(?P<channel>w\d{1,2}?))?(?:_z(?P<z>\d+))?"
    r"(?:[0-9A-F]{8}-(?:[0-9A-F]{4}-){3}[0-9A-F]{12})?\.(?i:tiff?)",
    re.DOTALL,
)
# ZStep_0 holds projections
_IMAGEXPRESS_FOLDER = re.compile(
    r"(?:(?:^|/)TimePoint_(?P<t>\d+))?(?:(?:^|/)ZStep_(?:0|(?P<z>\d+)))?$",
    re.IGNORECASE,
)
_CELLOMICS = re.compile(
    r"(?P<plate>.+)_(?P<row>[A-Z]|A[A-F])(?P<col>\d{2})"
    r"(?:f(?P<site>\d{2,3}))?(?P<channel>d\d{1,2})\.(?i:tiff?|c01|dib|png|jpe?g)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Preset:
    """How one kind of instrument names its images.

    Attributes
    ----------
    name : str
        For --preset.
    what : str
        The instruments, for people.
    example : str
        A path as one of them wrote it.
    names : tuple of re.Pattern
        One of them must match a whole file name; named groups as in record.Image, or row and col.
    folder : re.Pattern, optional
        Is searched for in the folder; its groups go before those of the name.
    needs_folder : bool
        Whether a folder that doesn't fit means that the file doesn't.
    index : re.Pattern, optional
        The name of its index file.
    read : callable, optional
        Reads that, given a copy of it and the folder of its images.
    plate_from : str
        "name", where the plate's name is in the file's, or "folder".
    """

    name: str
    what: str
    example: str
    names: tuple[re.Pattern[str], ...]
    folder: re.Pattern[str] | None = None
    needs_folder: bool = False
    index: re.Pattern[str] | None = None
    read: Callable[[Path, str], Index] | None = None
    plate_from: str = "name"

    @property
    def groups(self) -> frozenset[str]:
        """What its names may tell: groups as in record.Image, or row and col, and further ones."""
        return frozenset(_group(name) for pattern in self.names for name in pattern.groupindex)


IMAGEXPRESS = Preset(
    "imagexpress",
    "Molecular Devices ImageXpress, MetaXpress",
    "4014/TimePoint_1/180706_A01_s5_w1B9D0B234-C57E-4A13-9664-D2CA89B4E7F8.tif",
    (_IMAGEXPRESS,),
    folder=_IMAGEXPRESS_FOLDER,
)
PHENIX = Preset(
    "phenix",
    "Opera Phenix, Operetta CLS (Harmony)",
    "BR00117035__2021-05-02T16_02_51-Measurement1/Images/r01c01f01p01-ch7sk1fk1fl1.tiff",
    (phenix.NAMES,),
    index=re.compile(r"Index(?:\.idx)?\.xml", re.IGNORECASE),
    read=phenix.read,
    plate_from="folder",
)
YOKOGAWA = Preset(
    "yokogawa",
    "Yokogawa CellVoyager CV7000, CV8000",
    "1053601756/1053601756_A01_T0001F001L01A06Z01C06.tif",
    (yokogawa.NAMES,),
    index=re.compile(r"MeasurementData\.mlf", re.IGNORECASE),
    read=yokogawa.read,
)
INCELL = Preset(
    "incell",
    "GE, Cytiva IN Cell Analyzer",
    "Plate 17/A - 01(fld 1 wv Green - dsRed z 3).tif",
    (incell_xdce.NAMES,),
    index=re.compile(r".*\.xdce", re.IGNORECASE | re.DOTALL),
    read=incell_xdce.read,
    plate_from="folder",
)
CELLOMICS = Preset(
    "cellomics",
    "Thermo Cellomics ArrayScan, CellInsight",
    "MFGTMP_150414100001/MFGTMP_150414100001_A01f00d0.C01",
    (_CELLOMICS,),
)
INSTRUMENTS = (IMAGEXPRESS, PHENIX, YOKOGAWA, INCELL, CELLOMICS)
GALLERY = Preset(
    "gallery",
    "the Cell Painting Gallery's folders, images of any of the above",
    "cpg0016-jump/source_8/images/J1/images/A1170383/Images/"
    "HTS_A01_s1_w33EFC51B3-6F57-4273-AFE3-BAA0781C8ACF.tif",
    tuple(pattern for preset in INSTRUMENTS for pattern in preset.names),
    folder=_GALLERY,
    needs_folder=True,
    plate_from="folder",
)
PRESETS = {p.name: p for p in (*INSTRUMENTS, GALLERY)}


class NoPreset(BpcpError):
    """No preset fits enough of the names."""


def own(text: str) -> Preset:
    """Make a preset of the user's regular expression over paths below the source.

    Raises
    ------
    BpcpError
        64 where it is none, or has no group that tells channels or places apart.
    """
    try:
        pattern = re.compile(text, re.DOTALL)
    except re.error as error:
        raise BpcpError(Exit.USAGE, f"--regex {text}: {error}", _HOW) from None
    groups = {_group(name) for name in pattern.groupindex}
    if not groups & set(PLACES):
        raise BpcpError(Exit.USAGE, f"--regex {text}: none of its groups has a known name", _HOW)
    for one, other in (("row", "col"), ("col", "row")):
        if one in groups and other not in groups:
            raise BpcpError(Exit.USAGE, f"--regex {text}: a group {one}, but none {other}", _HOW)
    return Preset("regex", text, "", (pattern,))


_HOW = (
    "named groups: (?P<well>[A-P]\\d\\d), (?P<site>\\d+), (?P<channel>\\d), plate, row and col, z,"
    " t; others become Metadata_ columns"
)


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
    """

    preset: Preset
    root: str
    plate: str = ""
    plate_from: str = ""
    _folders: dict[str, dict[str, str] | None] = field(default_factory=dict)

    def place(self, folder: str, name: str) -> Image | None:
        """Read a file's place from its folder and name; None where it doesn't fit."""
        groups = self._match(folder, name)
        if groups is None:
            return None
        if "well" in groups:
            place = natural.row_and_column(groups["well"])
            well = natural.well_of(*place) if place else groups["well"]
        elif "row" in groups:
            well = natural.well_of(groups["row"], groups["col"])
            if not well:
                return None
        else:
            well = ""
        extra = tuple((k, clean(v)) for k, v in groups.items() if k not in PLACES)
        return Image(
            folder,
            name,
            channel=groups.get("channel", "").strip(" -"),
            well=well,
            plate=self._plate_of(folder, groups.get("plate", "")),
            site=unpadded(groups.get("site", "")),
            z=unpadded(groups.get("z", "")),
            t=unpadded(groups.get("t", "")),
            extra=extra,
        )

    def indexed(self, image: Image, folder: str) -> Image:
        """Give an image that an index in a folder placed the plate and metadata of that folder."""
        found = self._folder_groups(folder) or {}
        more = tuple((k, clean(v)) for k, v in found.items() if k not in PLACES)
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
        return _MEASURED.sub("", found) if found else plate_folder(folder)

    def acquisition(self, folder: str) -> str:
        """Give the folder of the acquisition that a folder is a layer of, such as ZStep_1."""
        return acquisition(folder)

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
    return {_group(k): v for k, v in found.groupdict().items() if v is not None}


@lru_cache(maxsize=64)
def _group(name: str) -> str:
    low = name.lower()
    low = _ALIASES.get(low, low)
    return low if low in PLACES else name


def unpadded(text: str) -> str:
    """Write a number without leading zeros; anything else as it is."""
    return str(int(text)) if text.isdecimal() else text


def plate_folder(folder: str) -> str:
    """Give the name of the folder that stands for the plate: the last that isn't a mere layer."""
    found = acquisition(folder.removeprefix("s3:"))
    return _MEASURED.sub("", found.rpartition("/")[2])


def acquisition(folder: str) -> str:
    """Give the folder of the acquisition that a folder is a layer of, such as ZStep_1."""
    parts = [p for p in folder.split("/") if p]
    while len(parts) > 1 and _BETWEEN.fullmatch(parts[-1]):
        parts.pop()
    return "/".join(parts)


def share(placer: Placer, sample: Sequence[tuple[str, str]]) -> float:
    """Give how much of a sample of folders and names a preset fits, 0 to 1."""
    return sum(placer.place(*file) is not None for file in sample) / max(1, len(sample))


def detect(
    sample: Sequence[tuple[str, str]], root: str, beside: Sequence[tuple[str, str]]
) -> Preset:
    """Find the preset that fits most of a sample.

    Parameters
    ----------
    sample : sequence of (str, str)
        Folders and names of images; at least one.
    beside : sequence of (str, str)
        Index files; one kind alone decides where no names do.

    Raises
    ------
    BpcpError
        65 where none fits, or several do; the message shows names, and how to describe them.
    """
    shares = [(share(Placer(p, root), sample), p) for p in PRESETS.values()]
    good = [preset for fits, preset in shares if fits >= ENOUGH]
    if GALLERY in good:
        return GALLERY
    if len(good) == 1:
        return good[0]
    indexed = [p for p in INSTRUMENTS if p.index and any(p.index.fullmatch(n) for _, n in beside)]
    if not good and len(indexed) == 1:
        return indexed[0]
    shown = "".join(f"\n    {Placer(PHENIX, root).shown(*file)!r}" for file in _spread(sample))
    if good:
        names = " and ".join(preset.name for preset in good)
        raise BpcpError(
            Exit.MALFORMED_INPUT, f"the names fit several presets: {names}{shown}", "--preset NAME"
        )
    best = sorted((s for s in shares if s[0] > 0), key=lambda s: -s[0])[:3]
    tried = ", ".join(f"{p.name} fits {fits:.0%}" for fits, p in best) or "no preset fits any"
    raise NoPreset(
        Exit.MALFORMED_INPUT,
        f"what named these images? {tried}; names are:{shown}",
        f"--preset {'|'.join(PRESETS)}, or --regex with {_HOW}",
    )


def _spread(sample: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give the first, the middle and the last of some files."""
    return [sample[i] for i in sorted({0, len(sample) // 2, len(sample) - 1})]
