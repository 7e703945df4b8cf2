"""Read the index of an IN Cell Analyzer (GE, Cytiva), and of MetaXpress for IN Carta: .xdce.

An IN Cell Analyzer 1000 writes it as an .xml, which is known by its outermost element.

The file names each image with its well (1-based) and its field, wave, z and time indexes, which
are 0-based in the file and 1-based in names and on the screen; here they are 1-based, too. Its
Plate is the kind of plate, not the one that was imaged: that is the PlateID, or the .xdce's own
name. Images/@path is where the instrument had its images, not where they are now. PositionX and Y
are micrometres on the plate, PositionZ is the focus.

Sources: ome/bioformats, InCellReader.java (elements; .xdce or .xml, of which a folder may hold
several; the plate is the file's name; a Wavelength with fusion_wave="true" is computed, not taken)
and pull requests 4270 (channels with and without
z in one plate) and 2123 (files without names exist); unige-biochem/bioformats-to-incarta,
ImageXpressLayout.java (PlateID; indexes count from 0, names from 1; ISO-8859-1); names:
CellProfiler/CellProfiler, issue 3725, and mobie/mobie-viewer-fiji, issue 1056.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images.index import IndexFile, Once, Record, Shape
from bpcp.images.record import Image, Index

ROOT = "ImageStack"
_SHAPE = Shape(
    "an .xdce",
    ROOT,
    {
        "Wavelengths/Wavelength": frozenset(
            ("@index", "@fusion_wave", "ExcitationFilter@name", "EmissionFilter@name")
        ),
        "Images/Image": frozenset(
            (
                "@filename",
                "Row@number",
                "Column@number",
                "Identifier@field_index",
                "Identifier@wave_index",
                "Identifier@z_index",
                "Identifier@time_index",
                "ExcitationFilter@name",
                "EmissionFilter@name",
                "PlatePosition_um@x",
                "PlatePosition_um@y",
                "FocusPosition@z",
            )
        ),
    },
)
_EXTRA = (
    ("PositionX", "PlatePosition_um@x"),
    ("PositionY", "PlatePosition_um@y"),
    ("PositionZ", "FocusPosition@z"),
)


def read(path: Path, folder: str = "") -> Index:
    """Read an .xdce.

    The file is read twice: to check it, and again as the images are asked for.

    Parameters
    ----------
    path : Path
        The .xdce or .xml, under its own name.
    folder : str
        Where its images lie, as it will stand in PathName_; "" is its own folder.

    Returns
    -------
    Index
        Its channels are waves, from "1" on; their names are those in file names: excitation and
        emission, "UV - DAPI".

    Raises
    ------
    BpcpError
        66 where it is missing; 65, naming the line, where it is not an .xdce, is cut off, names
        files outside its folder, or says something twice.
    """
    index = IndexFile(path, folder)
    plate = path.stem
    waves: dict[str, str] = {}
    names: dict[str, str] = {}
    once = Once(index)
    for record in index.records(_SHAPE):
        if record.kind == "Images/Image":
            image = _image(index, record, "")
            once.add(record, "@filename", image)
            names[image.channel] = names.get(image.channel) or _filters(record.values)
        elif record.kind:
            if record.values.get("@fusion_wave", "").lower() != "true":
                number = _from_one(index, record, "@index", str(len(waves)))
                waves.setdefault(number, _filters(record.values))
        else:
            plate = record.values.get("@PlateID") or plate
    if not names:
        raise BpcpError(
            Exit.MALFORMED_INPUT, f"{index.shown}: names no images", "was the measurement ended?"
        )
    channels = {
        channel: name
        for channel in sorted(names, key=int)
        if (name := waves.get(channel) or names[channel])
    }
    return Index(_images(index, plate), channels, ())


def _filters(values: Mapping[str, str]) -> str:
    both = (values.get("ExcitationFilter@name"), values.get("EmissionFilter@name"))
    return " - ".join(name for name in both if name)


def _from_one(index: IndexFile, record: Record, key: str, default: str | None = None) -> str:
    number = index.whole(record, key, default)
    return str(int(number) + 1) if number else ""


def _image(index: IndexFile, record: Record, plate: str) -> Image:
    values = record.values
    folder, file = index.place(record, "@filename")
    return Image(
        folder,
        file,
        _from_one(index, record, "Identifier@wave_index"),
        index.well(record, "Row@number", "Column@number"),
        plate,
        _from_one(index, record, "Identifier@field_index", ""),
        _from_one(index, record, "Identifier@z_index", ""),
        _from_one(index, record, "Identifier@time_index", ""),
        tuple((name, values[key]) for name, key in _EXTRA if values.get(key)),
    )


def _images(index: IndexFile, plate: str) -> Iterator[Image]:
    for record in index.records(_SHAPE):
        if record.kind == "Images/Image":
            yield _image(index, record, plate)
