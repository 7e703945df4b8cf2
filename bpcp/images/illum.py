"""Illumination functions beside their images: load_data_with_illum.csv.

The Cell Painting workflow saves one for each plate and channel as <plate>_Illum<Channel>.npy, in
a folder of the plate's name ("Cell Painting Gallery folder structure"); where raw images are
called Orig<Channel>, as there, the function is Illum<Channel> all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpcp.access import Access
from bpcp.errors import BpcpError, Exit
from bpcp.images.remote import in_bucket
from bpcp.s3 import Address, objects

_PREFIX = "FileName_"


@dataclass
class Illum:
    """A folder or s3:// prefix of illumination functions.

    Attributes
    ----------
    missing : dict of str to None
        What was looked for in vain so far.
    """

    folder: str
    there: frozenset[str]
    missing: dict[str, None] = field(default_factory=dict)
    _known: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def find(self, plate: str, channel: str) -> tuple[str, str]:
        """Give the file and the folder of a plate's and channel's function."""
        if (plate, channel) not in self._known:
            name = f"{plate}_{illum_name(channel)}.npy"
            nested = f"{plate}/{name}"
            if nested not in self.there and name in self.there:
                self._known[plate, channel] = (name, self.folder)
            else:
                if nested not in self.there:
                    self.missing[f"{self.folder}/{nested}"] = None
                self._known[plate, channel] = (name, f"{self.folder}/{plate}")
        return self._known[plate, channel]

    def rows(self, lines: Iterator[Sequence[str]]) -> Iterator[list[str]]:
        """Add columns of illumination functions to a list: header first, then rows.

        Raises
        ------
        BpcpError
            65 where the list names no plate or has such columns already.
        """
        header = list(next(lines))
        names = [c[len(_PREFIX) :] for c in header if c.startswith(_PREFIX)]
        if "Metadata_Plate" not in header:
            raise BpcpError(Exit.MALFORMED_INPUT, "--illum needs a column Metadata_Plate")
        added = [illum_name(name) for name in names]
        there = sorted(set(names) & set(added))
        if there:
            raise BpcpError(
                Exit.MALFORMED_INPUT, f"the list has a column {_PREFIX}{there[0]} already"
            )
        at = header.index("Metadata_Plate")
        yield [*header, *(f"{k}_{name}" for name in added for k in ("FileName", "PathName"))]
        for line in lines:
            yield [*line, *(cell for name in names for cell in self.find(line[at], name))]


def illum_name(channel: str) -> str:
    """Give the name of a channel's illumination function: IllumDNA for DNA and for OrigDNA."""
    short = channel.removeprefix("Orig")
    return f"Illum{short or channel}"


def look(source: str, access: Access) -> Illum:
    """List the illumination functions of a folder or an s3:// prefix, and of folders in it.

    It may be empty, or not there yet: lists are made before functions are computed.
    """
    if in_bucket(source):
        address = Address.parse(source)
        names = (name for name, _ in objects(access, address))
        return Illum(str(address), frozenset(n for n in names if n.endswith(".npy")))
    folder = Path(os.path.abspath(source))  # noqa: PTH100 -- links stay as they are named
    found = [p for pattern in ("*.npy", "*/*.npy") for p in folder.glob(pattern)]
    return Illum(str(folder), frozenset(str(p.relative_to(folder)) for p in found))
