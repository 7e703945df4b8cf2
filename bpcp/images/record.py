"""What every way of finding images gives: an image file with its place on the plate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Image:
    """One image file (or one frame of it), placed.

    Attributes
    ----------
    folder : str
        As it will stand in PathName_: an absolute local folder, or s3://bucket/prefix.
    file : str
        The file's name in it.
    channel : str
        As the instrument calls it: "1", "w1", "01".
    well : str
        Row letters and column in two digits: "A01"; "AA01" beyond row Z.
    plate, site, z, t : str
        As the instrument writes them, numbers without padding ("1"); "" where it doesn't say.
    extra : tuple of (str, str)
        Further metadata and its value: ("PositionX", "0.000323").
    """

    folder: str
    file: str
    channel: str
    well: str
    plate: str = ""
    site: str = ""
    z: str = ""
    t: str = ""
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Index:
    """What an instrument's index file says.

    Attributes
    ----------
    images : iterable of Image
        May be read once.
    channels : dict of str to str
        The instrument's channel and its name, where the index gives one.
    notes : tuple of str
        What the user should know of this index.
    """

    images: Iterable[Image]
    channels: dict[str, str]
    notes: tuple[str, ...]
