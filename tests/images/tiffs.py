"""Write TIFF files byte by byte, also such as no library writes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, FLOAT, DOUBLE, IFD, LONG8 = (
    1, 2, 3, 4, 5, 7, 10, 11, 12, 13, 16,
)  # fmt: skip
_FORM = {
    1: "B",
    2: "s",
    3: "H",
    4: "I",
    5: "II",
    7: "s",
    10: "ii",
    11: "f",
    12: "d",
    13: "I",
    16: "Q",
}
Value = Any
Tags = dict[int, tuple[int, Value]]


@dataclass
class Page:
    """One directory and its pixels.

    Attributes
    ----------
    tags : dict
        By code: type and value, bytes or numbers. Where its strips or tiles lie is added.
    parts : sequence of bytes
        Its strips or tiles, encoded.
    tiled : bool
        Whether they are tiles.
    behind : bytes
        Pixels right behind them that no tag names, as ImageJ and MetaMorph put them.
    inner : sequence of Page
        Its sub-directories (tag 330).
    raw : sequence of bytes
        Whole entries to be added as they are.
    counts : list of int, optional
        Byte counts other than the true ones; none at all where it is empty.
    """

    tags: Tags
    parts: Sequence[bytes]
    tiled: bool = False
    behind: bytes = b""
    inner: Sequence[Page] = ()
    raw: Sequence[bytes] = ()
    counts: list[int] | None = None


@dataclass
class How:
    """How a file is laid out.

    Attributes
    ----------
    order : str
        "<" for little-endian, ">" for big-endian.
    big : bool
        Whether it is a BigTIFF.
    late : bool
        Whether a directory stands behind its pixels, else before them.
    odd : bool
        Whether directories and pixels begin at odd offsets.
    unsorted : bool
        Whether tags stand in falling order.
    last : int
        What the last directory gives as the offset of the next.
    """

    order: str = "<"
    big: bool = False
    late: bool = False
    odd: bool = False
    unsorted: bool = False
    last: int = 0


@dataclass
class _Writer:
    how: How
    data: bytearray = field(default_factory=bytearray)

    def put(self, data: bytes) -> int:
        """Append bytes; give where they begin."""
        if len(self.data) % 2 != self.how.odd:
            self.data.append(0)
        at = len(self.data)
        self.data += data
        return at

    def pack(self, form: str, *values: Value) -> bytes:
        return struct.pack(self.how.order + form, *values)

    @property
    def wide(self) -> str:
        return "Q" if self.how.big else "I"

    def entry(self, code: int, kind: int, value: Value) -> bytes:
        """Give a directory's entry; what does not fit into it is written here."""
        room = 8 if self.how.big else 4
        if isinstance(value, bytes):
            count, data = len(value), value
        else:
            values = list(value) if isinstance(value, (tuple, list)) else [value]
            count = len(values) // len(_FORM[kind].strip("<>"))
            data = self.pack(_FORM[kind][0] * len(values), *values)
        inside = data if len(data) <= room else self.pack(self.wide, self.put(data))
        return self.pack(f"HH{self.wide}", code, kind, count) + inside.ljust(room, b"\0")

    def page(self, page: Page, first: bool) -> tuple[int, int]:
        """Write a page; give where its directory begins, and where the next one's offset stands."""
        how, tags = self.how, dict(page.tags)
        inner = [self.page(sub, False)[0] for sub in page.inner]
        if inner:
            tags[330] = (LONG8 if how.big else LONG, inner)
        codes = (324, 325) if page.tiled else (273, 279)
        kind = LONG8 if how.big else LONG
        parts = list(page.parts)
        tags.setdefault(codes[0], (kind, [0] * len(parts)))
        if page.counts != []:
            tags.setdefault(codes[1], (LONG, list(page.counts or map(len, parts))))
        own = tags[codes[0]] == (kind, [0] * len(parts))
        if how.late:
            if own:
                tags[codes[0]] = (kind, [self.put(part) for part in parts])
            self.data += page.behind
            at, behind = self._directory(tags, page)
        else:
            at, behind = self._directory(tags, page)
            if own:
                # again, now that its length is known
                size, start = len(self.data), at
                del self.data[start:]
                offsets, end = [], size
                for part in parts:
                    end += end % 2 != how.odd
                    offsets.append(end)
                    end += len(part)
                tags[codes[0]] = (kind, offsets)
                at, behind = self._directory(tags, page)
                for part in parts:
                    self.put(part)
            self.data += page.behind
        return at, behind

    def _directory(self, tags: Tags, page: Page) -> tuple[int, int]:
        how = self.how
        if len(self.data) % 2 != how.odd:
            self.data.append(0)
        at, count = len(self.data), len(tags) + len(page.raw)
        head, step = (8, 20) if how.big else (2, 12)
        behind = at + head + step * count
        room = behind - at + (8 if how.big else 4)
        self.data += bytes(room)
        entries = [(code, self.entry(code, *tags[code])) for code in tags]
        entries += [(struct.unpack(how.order + "H", raw[:2])[0], raw) for raw in page.raw]
        entries.sort(key=lambda e: e[0], reverse=how.unsorted)
        text = self.pack("Q" if how.big else "H", count) + b"".join(e for _, e in entries)
        self.data[at : at + len(text)] = text
        return at, behind


def tiff(pages: Sequence[Page], how: How | None = None) -> bytes:
    """Give a file of some pages."""
    how = how or How()
    out = _Writer(how)
    magic = b"II" if how.order == "<" else b"MM"
    out.data += magic + (out.pack("HHHQ", 43, 8, 0, 0) if how.big else out.pack("HI", 42, 0))
    link = 8 if how.big else 4
    for number, page in enumerate(pages):
        at, behind = out.page(page, number == 0)
        out.data[link : link + struct.calcsize("<" + out.wide)] = out.pack(out.wide, at)
        link = behind
    out.data[link : link + struct.calcsize("<" + out.wide)] = out.pack(out.wide, how.last)
    return bytes(out.data)
