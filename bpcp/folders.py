"""Folders that are elsewhere on this machine: --map OLD=NEW."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote
from urllib.request import pathname2url

from bpcp.errors import BpcpError, Exit

FOLDERS = ("PathName_", "ObjectsPathName_")
ADDRESSES = ("URL_", "ObjectsURL_")


@dataclass(frozen=True)
class Moved:
    """Folders that are elsewhere on this machine.

    Attributes
    ----------
    maps : tuple of (str, str)
        What a path begins with, and what it begins with here.
    """

    maps: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> list[str]:
        """The maps as they were asked for."""
        return [f"{old}={new}" for old, new in self.maps]

    def path(self, path: str) -> str:
        """Give a path of this machine."""
        for old, new in self.maps:
            if path == old or path.startswith(old.rstrip("/") + "/") or path.startswith(old + "\\"):
                rest = path[len(old) :] if old != "/" else path
                return new.rstrip("/") + rest.replace("\\", "/") if "\\" in old else new + rest
        return path

    def url(self, url: str) -> str:
        """Give a file's address on this machine."""
        if not url.lower().startswith("file:"):
            return url
        head = url[:7] if url[5:7] == "//" else url[:5]
        own = unquote(url[len(head) :])
        here = self.path(own)
        return url if here == own else f"file:{pathname2url(here)}"

    def cell(self, column: str, cell: str) -> str:
        """Give what a column holds on this machine."""
        if column.startswith(FOLDERS):
            return self.path(cell)
        return self.url(cell) if column.startswith(ADDRESSES) else cell


NOWHERE = Moved()


def moved_of(options: Sequence[str]) -> Moved:
    """Read --map OLD=NEW.

    Raises
    ------
    BpcpError
        64 where one can't be read, or one OLD lies in another: CellProfiler would apply both.
    """
    maps: list[tuple[str, str]] = []
    for option in options:
        old, equals, new = option.partition("=")
        if not equals or not old or not new:
            raise BpcpError(
                Exit.USAGE, f"--map {option}: not OLD=NEW", "--map /old/images=/data/images"
            )
        old = old.rstrip("/\\") or "/"
        new = os.path.abspath(new)  # noqa: PTH100 -- a link counts where it lies
        maps.append((old, new))
    for a, _ in maps:
        for b, _ in maps:
            if a is not b and (b == a or b.startswith(a.rstrip("/") + "/")):
                raise BpcpError(
                    Exit.USAGE,
                    f"--map: {b} lies in {a}, and one path can't be moved twice",
                    "name folders that lie beside each other",
                )
    return Moved(tuple(maps))
