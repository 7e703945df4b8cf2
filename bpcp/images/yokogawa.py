"""Read the index of Yokogawa's CellVoyager (CV7000, CV8000, CQ1, CQ3K): MeasurementData.mlf.

A measurement is a folder with MeasurementData.mlf (a record for each image), MeasurementDetail.mrf
(plate; names the .mes) and the .mes (settings; what channels are). The .mlf may name images in
folders below: Image/, Projection/. X, Y and Z are micrometres, X and Y from the well's centre.

Sources: measurements of a CV7000, CV8000 and CQ3K among the tests of
fractal-analytics-platform/fractal-uzh-converters and fmi-faim/faim-ipa (ERR records are autofocus
errors, without field, channel or z; projections share the numbers of what they project;
Fluorophore and Application may be empty); faim-ipa, issue 152 (Target is free text, "Microscope
Image" unless someone changed it; Acquisition is the filter); ome/bioformats, pull requests 4481
(Target names the channel where it is unique), 4085 (one channel in several actions), 4203 (images
in folders below) and the folder listed there (DC_sCMOS #1_CAM1.tif and the like, which correct
images and are none).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images.index import IndexFile, Left, Once, Record, Shape, spoken
from bpcp.images.record import Image, Index

_EXTRA = (
    ("PositionX", "@X"),
    ("PositionY", "@Y"),
    ("PositionZ", "@Z"),
    ("AbsTime", "@Time"),
    ("ZImageProcessing", "@ZImageProcessing"),
)
_DATA = Shape(
    "a MeasurementData.mlf",
    "MeasurementData",
    {
        "MeasurementData/MeasurementRecord": frozenset(
            (
                "",
                "@Type",
                "@Row",
                "@Column",
                "@FieldIndex",
                "@ZIndex",
                "@TimePoint",
                "@Ch",
                "@TimelineIndex",
                "@ActionIndex",
                *(key for _, key in _EXTRA),
            )
        )
    },
)
_DETAIL = Shape(
    "a MeasurementDetail.mrf",
    "MeasurementDetail",
    {"MeasurementDetail/MeasurementSamplePlate": frozenset(("@Name",))},
)
_SETTING = Shape(
    "a .mes",
    "MeasurementSetting",
    {
        "ChannelList/Channel": frozenset(
            ("@Ch", "@Target", "@Fluorophore", "@Acquisition", "LightSourceName")
        )
    },
)
_RECORD = "MeasurementData/MeasurementRecord"
# What .mes files call a channel, best first; Target and Fluorophore are free text.
_CALLED = (
    ("@Target",),
    ("@Fluorophore",),
    ("@Acquisition",),
    ("LightSourceName", "@Acquisition"),
)


@dataclass(frozen=True)
class Way:
    """How an image was taken: what tells those of one channel and place apart."""

    channel: str
    timeline: str
    action: str
    processing: str


@dataclass(frozen=True)
class Known:
    """What images of one way are called where a place has several.

    Attributes
    ----------
    channel : str
        Instead of the channel's number: "L01A02C01", as in file names.
    suffix : str
        For the channel's name.
    flat : bool
        Whether z is left out: a projection next to the planes that it shows.
    """

    channel: str
    suffix: str
    flat: bool


def read(path: Path, folder: str = "") -> Index:
    """Read a MeasurementData.mlf, and the .mrf and .mes beside it.

    The file is read twice: to check it, and again as the images are asked for.

    Parameters
    ----------
    path : Path
        The .mlf.
    folder : str
        Where its images lie, as it will stand in PathName_; "" is the .mlf's own folder.

    Returns
    -------
    Index
        Its channels are the Ch of the records, named where the .mes names them. Where a channel
        was taken twice at one place, by two actions, it becomes two: "L01A01C01", "L01A02C01";
        projections that lie among their planes have no z. Errors of the instrument are left out,
        with a note. The plate is "" without an .mrf.

    Raises
    ------
    BpcpError
        66 where it is missing; 65, naming file and line, where it or the .mrf is not what it
        should be, is cut off, names files outside its folder, or says something twice.
    """
    index = IndexFile(path, folder)
    errors = Left("errors of the instrument", "record")
    others = Left("neither images nor errors", "record")
    once = Once(index)
    ways: dict[Way, None] = {}
    for record in index.records(_DATA):
        if record.kind != _RECORD:
            continue
        kind = record.values.get("@Type", "")
        if kind != "IMG":
            left = errors if kind == "ERR" else others
            left.out(record, record.values.get("", "") or kind or "no Type")
            continue
        image, way = _image(index, record, "")
        once.add(record, "", image, way.timeline, way.action, way.processing)
        ways[way] = None
    if not ways:
        raise BpcpError(
            Exit.MALFORMED_INPUT, f"{index.shown}: names no images", "was the measurement ended?"
        )
    known = _told_apart(ways) if _shares(index, ways) else {}
    plate, names, notes = _settings(index, {way.channel for way in ways})
    channels: dict[str, str] = {}
    for way in sorted(ways, key=lambda w: (int(w.channel), w.timeline, w.action, w.processing)):
        called = known.get(way, Known(way.channel, "", False))
        if way.channel in names:
            channels[called.channel] = names[way.channel] + called.suffix
    return Index(
        _images(index, plate, known),
        channels,
        (*notes, *_ways_note(known), *errors.note(), *others.note()),
    )


def _shares(index: IndexFile, ways: Collection[Way]) -> bool:
    """Tell whether any place has two images of a channel."""
    if len({way.channel for way in ways}) == len(ways):
        return False
    places = set()
    for image in _images(index, "", {}):
        place = spoken(image)
        if place in places:
            return True
        places.add(place)
    return False


def _told_apart(ways: Collection[Way]) -> dict[Way, Known]:
    known = {}
    for way in ways:
        alike = [w for w in ways if w.channel == way.channel]
        actions = {(w.timeline, w.action) for w in alike if w.processing == way.processing}
        projections = {w.processing for w in alike} - {""}
        channel, suffix = way.channel, ""
        if len(actions) > 1:
            suffix = f"_L{way.timeline}A{way.action}"
            numbers = (("L", way.timeline), ("A", way.action), ("C", way.channel))
            channel = "".join(f"{letter}{number:0>2}" for letter, number in numbers)
        if way.processing and len(projections) > 1:
            suffix += f"_{way.processing}"
            channel += f" {way.processing}"
        planes = any(not w.processing for w in alike)
        known[way] = Known(channel, suffix, bool(way.processing) and planes)
    return known


def _ways_note(known: Mapping[Way, Known]) -> list[str]:
    apart = sorted({k.channel for way, k in known.items() if k.channel != way.channel})
    notes = [f"taken more than once at a place: channels {', '.join(apart)}"] if apart else []
    if any(k.flat for k in known.values()):
        notes.append("projections next to their planes: they have no z")
    return notes


def _image(index: IndexFile, record: Record, plate: str) -> tuple[Image, Way]:
    values = record.values
    folder, file = index.place(record, "")
    image = Image(
        folder,
        file,
        index.whole(record, "@Ch"),
        index.well(record, "@Row", "@Column"),
        plate,
        index.whole(record, "@FieldIndex", ""),
        index.whole(record, "@ZIndex", ""),
        index.whole(record, "@TimePoint", ""),
        tuple((name, values[key]) for name, key in _EXTRA if values.get(key)),
    )
    way = Way(
        image.channel,
        index.whole(record, "@TimelineIndex", ""),
        index.whole(record, "@ActionIndex", ""),
        values.get("@ZImageProcessing", ""),
    )
    return image, way


def _images(index: IndexFile, plate: str, known: Mapping[Way, Known]) -> Iterator[Image]:
    for record in index.records(_DATA):
        if record.kind == _RECORD and record.values.get("@Type") == "IMG":
            image, way = _image(index, record, plate)
            called = known.get(way)
            if called is not None:
                z = "" if called.flat else image.z
                image = replace(image, channel=called.channel, z=z)
            yield image


def _settings(index: IndexFile, channels: set[str]) -> tuple[str, dict[str, str], list[str]]:
    """Give the plate's name, the channels' names, and what was missing for them."""
    detail = index.path.with_name("MeasurementDetail.mrf")
    if not detail.is_file():
        return "", {}, [f"{_absent(detail)}: it names the plate and, by the .mes, the channels"]
    root: dict[str, str] = {}
    plate = ""
    for record in IndexFile(detail, index.told).records(_DETAIL):
        if record.kind:
            plate = plate or record.values.get("@Name", "")
        else:
            root = record.values
    plate = plate or root.get("@Title", "")
    try:
        names = _channel_names(index, root.get("@MeasurementSettingFileName", ""), channels)
    except BpcpError as error:
        return plate, {}, [f"channels without names: {error}"]
    return plate, names, []


def _absent(path: Path) -> str:
    near = [p.name for p in path.parent.iterdir() if p.name.lower() == path.name.lower()]
    return f"no {path.name}, but {near[0]}; rename it" if near else f"no {path.name}"


def _channel_names(index: IndexFile, name: str, channels: set[str]) -> dict[str, str]:
    """Read the .mes that the .mrf names; no more than the channels that were taken."""
    # a program on Windows wrote this name; of a path only the end can be here
    path = index.path.with_name(re.split(r"[/\\]", name)[-1] or "?.mes")
    if not path.is_file():
        raise BpcpError(Exit.NO_INPUT, _absent(path) if name else "the .mrf names no .mes")
    settings = IndexFile(path, index.told)
    found: dict[str, Record] = {}
    for record in settings.records(_SETTING):
        if record.kind and (channel := settings.whole(record, "@Ch")) in channels:
            found.setdefault(channel, record)
    for keys in _CALLED:
        names = {c: " ".join(_words(r, keys)) for c, r in found.items()}
        if all(names.values()) and len(set(names.values())) == len(names):
            return names
    raise BpcpError(Exit.MALFORMED_INPUT, f"{path.name} calls several alike")


def _words(record: Record, keys: Sequence[str]) -> list[str]:
    return [word for key in keys if (word := record.values.get(key, ""))]
