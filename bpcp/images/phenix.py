"""Read the index of Harmony (Opera Phenix, Operetta, Sonata): Index.idx.xml, Index.xml.

A measurement of some plate is a folder of single-plane TIFFs and one XML file that says of each
where on the plate it was taken. Harmony up to 5 writes all of it for each image; Harmony 6 and 7
write a channel's name once, into a table by ChannelID (Maps/Map/Entry).

Sources: indexes of Harmony 1, 5 and 7 among the tests of broadinstitute/pe2loaddata, and its
issue 32 (Maps); mobie/mobie-viewer-fiji, issue 987 (Harmony 4.1); the format note of
openreadout/openreadout (docs/formats/opera-harmony.md: an empty URL is an image that was never
taken, a BufferNo is a page of a larger file); MannLabs/scPortrait, _parse_phenix.py (names of
Harmony 7, Images/flex/flex_...; the index in Images or above it); ome/bioformats, pull requests
4314 (Harmony 7: the index above the folders of images) and 4485 (backslashes in URLs). Positions
are metres, X and Y from the well's centre. TimepointID starts at 0 in Harmony 4 and 5, at 1 in 7
and, by sk or t, in all names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images.index import AGAIN, IndexFile, Left, Once, Record, Shape
from bpcp.images.record import Image, Index

_EXTRA = ("PositionX", "PositionY", "PositionZ", "AbsPositionZ", "AbsTime")
_PLACE = ("Row", "Col", "FieldID", "PlaneID", "TimepointID", "ChannelID", "FlimID", "SequenceID")
_SHAPE = Shape(
    "a Harmony index",
    "EvaluationInputData",
    {
        "Plates/Plate": frozenset(("PlateID", "Name")),
        "Map/Entry": frozenset(("@ChannelID", "ChannelName")),
        "Images/Image": frozenset(
            ("id", "State", "URL", "URL@BufferNo", "ChannelName", *_PLACE, *_EXTRA)
        ),
    },
)


def read(path: Path, folder: str = "") -> Index:
    """Read an index of Harmony.

    The file is read twice: to check it, and again as the images are asked for. Thus nothing is
    given of an index that is cut off or contradicts itself, and memory holds no images.

    Parameters
    ----------
    path : Path
        Index.idx.xml or Index.xml.
    folder : str
        Where its images lie, as it will stand in PathName_; "" is the index's own folder.

    Returns
    -------
    Index
        Its channels are ChannelIDs. Images that Harmony did not take or marks as not Ok are left
        out, with a note: they are missing or not to be trusted, and an image set that lacks one
        says so, while a measurement of one would not.

    Raises
    ------
    BpcpError
        66 where it is missing; 65, naming the line, where it is not such an index, is cut off,
        names files outside its folder, or says something twice.
    """
    index = IndexFile(path, folder)
    plates: list[str] = []
    table: dict[str, str] = {}
    names: dict[str, str] = {}
    notes: dict[str, None] = {}
    empty = Left("Harmony took none, their URL is empty")
    bad = Left("Harmony marks them as not Ok")
    once = Once(index)
    for record in index.records(_SHAPE):
        values = record.values
        if record.kind == "Plates/Plate":
            plates.append(_plate(record))
            if len(plates) > 1:
                raise index.wrong(record.line, "a second plate", "one index for each plate")
        elif record.kind == "Map/Entry":
            if values.get("ChannelName"):
                table.setdefault(index.whole(record, "@ChannelID"), values["ChannelName"])
        elif record.kind == "Images/Image":
            if not _taken(values):
                empty.out(record, values.get("id", "?"))
                continue
            image = _image(index, record, "")
            if not _good(values):
                bad.out(record, f"{image.file}, {values['State']}")
                continue
            once.add(record, "URL", image, values.get("FlimID", ""), values.get("SequenceID", ""))
            name = values.get("ChannelName", "")
            known = names[image.channel] = names.get(image.channel) or name
            if name and name != known:
                notes[f"channel {image.channel} is {known!r} here, {name!r} there"] = None
    if not names:
        raise BpcpError(Exit.MALFORMED_INPUT, f"{index.shown}: names no images", AGAIN)
    channels = {
        channel: name
        for channel in sorted(names, key=int)
        if (name := names[channel] or table.get(channel, ""))
    }
    plate = plates[0] if plates else ""
    return Index(_images(index, plate), channels, (*notes, *empty.note(), *bad.note()))


def _plate(record: Record) -> str:
    # the name is what pe2loaddata takes, too; the ID may be a barcode
    return record.values.get("Name") or record.values.get("PlateID", "")


def _taken(values: Mapping[str, str]) -> bool:
    # an element that is missing altogether is another matter: that index is broken
    return values.get("URL") != ""


def _good(values: Mapping[str, str]) -> bool:
    return values.get("State", "").lower() in ("ok", "")


def _image(index: IndexFile, record: Record, plate: str) -> Image:
    values = record.values
    folder, file = index.place(record, "URL")
    if values.get("URL@BufferNo", "0") != "0":
        raise index.wrong(
            record.line,
            f"page {values['URL@BufferNo']} of {file}: images that share a file are not supported",
            "export each image to a TIFF of its own",
        )
    return Image(
        folder,
        file,
        index.whole(record, "ChannelID"),
        index.well(record, "Row", "Col"),
        plate,
        index.whole(record, "FieldID", ""),
        index.whole(record, "PlaneID", ""),
        index.whole(record, "TimepointID", ""),
        tuple((key, values[key]) for key in _EXTRA if values.get(key)),
    )


def _images(index: IndexFile, plate: str) -> Iterator[Image]:
    for record in index.records(_SHAPE):
        if record.kind == "Images/Image" and _taken(record.values) and _good(record.values):
            yield _image(index, record, plate)
