"""Walk through the directories of a TIFF: which pages it has, and whether their pixels lie inside.

Each directory is read once, so a chain that comes back is seen; nothing is read that lies beyond
the file's end, and no more in all than some times the file. Nothing is decoded.

What CellProfiler 4.2.8.1 does with each kind was tried: tests/e2e/test_image_files.py.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from bpcp.check.faults import BAD_HEADER, LOOP, TRUNCATED, FaultError

# Sizes of the types of values, in bytes. Source: TIFF 6.0; 13 IFD; 16 to 18 BigTIFF.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_SAMPLES = {1: "uint", 2: "int", 3: "float"}

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_DESCRIPTION, _STRIPS, _SAMPLES_PER_PIXEL, _ROWS, _STRIP_COUNTS = 270, 273, 277, 278, 279
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_COUNTS = 284, 317, 322, 323, 324, 325
_INNER, _SAMPLE_FORMAT, _STREAM, _STREAM_LENGTH, _SUBSAMPLING, _DEPTH = (
    330,
    339,
    513,
    514,
    530,
    32997,
)
_UIC2, _LSM = 33629, 34412
# MetaMorph counts planes: each has six numbers of four bytes
_UIC2_BYTES = 24

# What CellProfiler reads: plain, LZW, JPEG of both styles, Deflate, PackBits, JPEG 2000.
_READ = frozenset((1, 5, 6, 7, 8, 32773, 32946, 33003, 34712))
_OLD_JPEG, _LZW = 6, 5
# Names of some others.
_CODED = {
    2: "CCITT",
    3: "CCITT Group 3",
    4: "CCITT Group 4",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
}
_FLOAT_PREDICTOR = 3
# More tags than any writer puts into one directory.
_MOST_TAGS = 4096
# More strips than any image has.
_MOST_VALUES = 2_000_000
# More pages are not looked at: that takes some 20 s.
_MOST_PAGES = 1_000_000


class _Tag(NamedTuple):
    """An entry of a directory: its values' type, how many there are, where, and the short ones."""

    kind: int
    many: int
    at: int
    data: bytes = b""


@dataclass
class Tiff:
    """What a walk through a TIFF showed.

    Attributes
    ----------
    size : tuple of int
        Height and width in pixels, samples of a pixel, pages.
    depth : str
        The type of its values: "uint16", "12-bit".
    offsets : list of int
        Where the directories begin.
    odd : list of str
        What is odd, and no fault.
    unusual : str
        What CellProfiler may not read: a compression; "" where it does.
    """

    size: tuple[int, ...] = ()
    depth: str = ""
    offsets: list[int] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    unusual: str = ""


def walk(file: BinaryIO, size: int) -> Tiff:
    """Walk through a TIFF of so many bytes.

    Raises
    ------
    FaultError
        Of `TRUNCATED`, `LOOP` or `BAD_HEADER`.
    """
    return _Walk(file, size).all()


class _Walk:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        head = self._read(0, 16)
        order = "<" if head[:2] == b"II" else ">"
        self._order = order
        self._big = head[2:4] in (b"+\0", b"\0+")
        at, form = (8, "Q") if self._big else (4, "I")
        if len(head) < at + struct.calcsize(form):
            raise FaultError(TRUNCATED, f"ends at byte {size}, within its header")
        self._first = self._numbers(head, form, at)[0]
        # all that is read of directories; honest ones don't overlap
        self._room = 4 * size + 1_000_000
        self._found = Tiff()
        self._first_page: _Page | None = None
        # whether it is Zeiss's: its first directory alone says so
        self._lsm = False

    def _read(self, at: int, count: int) -> bytes:
        if at >= self._size:
            return b""
        self._file.seek(at)
        return self._file.read(count)

    def _numbers(self, data: bytes, form: str, at: int = 0) -> tuple[int, ...]:
        return struct.unpack_from(f"{self._order}{form}", data, at)

    def all(self) -> Tiff:
        """Walk from directory to directory."""
        found, seen, at = self._found, set[int](), self._first
        size, end, lost = self._size, 0, False
        if not at:
            raise FaultError(BAD_HEADER, "no image in it")
        if at >= size:
            raise FaultError(TRUNCATED, f"ends at byte {size:,}, before its directory at {at:,}")
        page: _Page | None = None
        while at:
            if at in seen:
                raise FaultError(
                    LOOP,
                    f"its directory {len(seen)} names the one at byte {at:,} as the next, which"
                    " came before: a circle that CellProfiler reads without end",
                )
            seen.add(at)
            tags, after = self._directory(at)
            if not tags:
                lost = True
                break
            page = self._page(tags, f" of page {len(seen)}" if found.offsets else "", at)
            found.offsets.append(at)
            end = page.end
            if len(seen) == _MOST_PAGES and after:
                self._say(f"only its first {_MOST_PAGES:,} pages were looked at")
                break
            at = after
        first = self._first_page
        if first is None or page is None:
            raise FaultError(BAD_HEADER, "no image in it")
        planes = 0
        if len(found.offsets) == 1:
            planes, end = self._planes(first)
        if lost:
            # writers put a directory behind its pixels, or before them
            if size - end > first.whole // 2:
                pages = len(found.offsets) + 1
                raise FaultError(TRUNCATED, f"ends at byte {size:,}, before its page {pages}")
            self._say("it names one more page, behind its end")
        found.size = (first.length, first.width, first.samples, max(len(found.offsets), planes))
        found.depth = first.depth
        found.unusual = first.unusual
        return found

    def _say(self, words: str) -> None:
        if words not in self._found.odd:
            self._found.odd.append(words)

    def _spend(self, count: int) -> None:
        self._room -= count
        if self._room < 0:
            raise FaultError(BAD_HEADER, "its directories lie over one another")

    def _directory(self, at: int) -> tuple[dict[int, _Tag], int]:
        """Read a directory, and where the next begins; of one that is not whole, nothing."""
        form, step, inline = ("Q", 20, 8) if self._big else ("H", 12, 4)
        wide = struct.calcsize(form)
        # most directories are not longer
        data = self._read(at, wide + 20 * step + inline)
        # of a half count, the directory lies beyond the end
        count = self._numbers(data, form)[0] if len(data) >= wide else 1
        start = at + wide
        if at == self._first and count > _MOST_TAGS:
            raise FaultError(BAD_HEADER, f"its directory names {count:,} tags")
        if at == self._first and start + count * step > self._size:
            raise FaultError(TRUNCATED, f"ends at byte {self._size:,}, within its directory")
        if not 0 < count <= _MOST_TAGS or start + count * step > self._size:
            return {}, 0
        self._spend(count * step)
        data = data[wide:] if count <= 20 else self._read(start, count * step + inline)
        tags: dict[int, _Tag] = {}
        entry = struct.Struct(self._order + ("HHQ" if self._big else "HHI"))
        for i in range(0, count * step, step):
            code, kind, many = entry.unpack_from(data, i)
            taken = (_UIC2_BYTES if code == _UIC2 else _SIZES.get(kind, 0)) * many
            value = i + step - inline
            if taken <= inline:
                tags.setdefault(code, _Tag(kind, many, start + value, data[value : value + taken]))
                continue
            (place,) = self._numbers(data, "Q" if self._big else "I", value)
            if place + taken > self._size:
                self._say(f"its tag {code} lies behind its end")
            tags.setdefault(code, _Tag(kind, many, place))
        rest = data[count * step : count * step + inline]
        if len(rest) < inline:
            self._say("it ends within its directory")
            return tags, 0
        return tags, self._numbers(rest, "Q" if self._big else "I")[0]

    def _values(self, tags: dict[int, _Tag], code: int) -> Sequence[int]:
        """Give a tag's whole numbers; none where it is not there, or has others."""
        tag = tags.get(code)
        if tag is None or tag.kind not in _INTEGERS:
            return ()
        if tag.many > _MOST_VALUES:
            raise FaultError(BAD_HEADER, f"its tag {code} has {tag.many:,} values")
        form = f"{tag.many}{_INTEGERS[tag.kind]}"
        if tag.data:
            return self._numbers(tag.data, form)
        taken = _SIZES[tag.kind] * tag.many
        if tag.at + taken > self._size:
            raise FaultError(
                TRUNCATED,
                f"ends at byte {self._size:,}, before the values of its tag {code} at {tag.at:,}",
            )
        self._spend(taken)
        return self._numbers(self._read(tag.at, taken), form)

    def _value(self, tags: dict[int, _Tag], code: int, usual: int) -> int:
        return next(iter(self._values(tags, code)), usual)

    def _page(self, tags: dict[int, _Tag], which: str, at: int) -> _Page:
        """See that a page's pixels lie inside the file, and those of its sub-directories."""
        page = self._measured(tags)
        if self._first_page is None:
            self._first_page, self._lsm = page, _LSM in tags
        page.end = max(at, self._inside(tags, page, which))
        for number, inner in enumerate(self._values(tags, _INNER), 1):
            name = f" of sub-directory {number}{which}"
            if inner >= self._size:
                raise FaultError(
                    TRUNCATED, f"ends at byte {self._size:,}; the directory{name} at {inner:,}"
                )
            below, _ = self._directory(inner)
            if _WIDTH in below:
                page.end = max(page.end, self._inside(below, self._measured(below), name))
        return page

    def _measured(self, tags: dict[int, _Tag]) -> _Page:
        width, length = self._value(tags, _WIDTH, 0), self._value(tags, _LENGTH, 0)
        if not width or not length:
            raise FaultError(BAD_HEADER, "its directory names no width or no height")
        samples = self._value(tags, _SAMPLES_PER_PIXEL, 1)
        bits = list(self._values(tags, _BITS)) or [1]
        bits = bits if len(bits) == samples else bits[:1] * min(samples, _MOST_TAGS)
        compression = self._value(tags, _COMPRESSION, 1)
        unusual = ""
        if compression not in _READ:
            name = _CODED.get(compression, "unknown here")
            unusual = f"a TIFF of compression {compression} ({name})"
        elif self._value(tags, _PREDICTOR, 1) == _FLOAT_PREDICTOR:
            unusual = "a TIFF with the floating-point predictor (3)"
        kind, widest = self._value(tags, _SAMPLE_FORMAT, 1), max(bits, default=1)
        named = kind in _SAMPLES and widest in (8, 16, 32, 64) and (kind != 3 or widest > 8)
        depth = f"{_SAMPLES[kind]}{widest}" if named else f"{widest}-bit"
        planar = self._value(tags, _PLANAR, 1) == 2
        row = sum((width * b + 7) // 8 for b in bits) if planar else (width * sum(bits) + 7) // 8
        whole = row * length * self._value(tags, _DEPTH, 1)
        if self._value(tags, _PHOTOMETRIC, 1) == 6 and not planar and compression == 1:
            across, down = (*self._values(tags, _SUBSAMPLING), 2, 2)[:2]
            across, down = across or 1, down or 1
            blocks = -(-width // across) * -(-length // down)
            whole = blocks * (across * down + 2) * widest // 8
        return _Page(width, length, samples, depth, compression, unusual, whole, planar)

    def _inside(self, tags: dict[int, _Tag], page: _Page, which: str) -> int:
        """See that strips or tiles are all there, and inside the file; give where they end."""
        size = self._size
        if page.compression == _OLD_JPEG and _STREAM in tags:
            # one stream, whatever the strips say
            end = self._value(tags, _STREAM, 0) + self._value(tags, _STREAM_LENGTH, 0)
            if end > size:
                raise FaultError(
                    TRUNCATED, f"ends at byte {size:,}; its JPEG stream{which} goes to {end:,}"
                )
            return end
        part, codes = (
            ("tile", (_TILES, _TILE_COUNTS))
            if _TILES in tags
            else ("strip", (_STRIPS, _STRIP_COUNTS))
        )
        offsets, counts = self._values(tags, codes[0]), self._values(tags, codes[1])
        if not offsets:
            raise FaultError(BAD_HEADER, f"its directory{which} names no {part}s")
        plain = page.compression == 1 and part == "strip"
        if plain and len(offsets) == 1 and codes[1] not in tags:
            # old writers leave it out; readers work it out
            counts = (page.whole,)
        wanted = self._parts(tags, page, part)
        if page.compression != _OLD_JPEG and min(len(offsets), len(counts)) < wanted:
            have = min(len(offsets), len(counts))
            raise FaultError(TRUNCATED, f"has {have:,} of the {wanted:,} {part}s{which}")
        # some writers count more bytes than the last strip's rows have
        spare = max(0, sum(counts) - page.whole) if plain else 0
        if self._lsm and page.compression == _LZW:
            # LSM counts bytes as they are when decoded
            counts = [min(1, count) for count in counts]
        last = 0
        for number, (offset, count) in enumerate(zip(offsets, counts, strict=False), 1):
            if offset == 0 or count == 0:
                raise FaultError(
                    TRUNCATED, f"{part} {number:,} of {len(offsets):,}{which} was never written"
                )
            end = offset + count - (spare if number == len(offsets) else 0)
            if end > size:
                raise FaultError(
                    TRUNCATED,
                    f"ends at byte {size:,}; {part} {number:,} of {len(offsets):,}{which}"
                    f" goes to {end:,}",
                )
            last = max(last, end)
        if plain and sum(counts) < page.whole:
            raise FaultError(
                TRUNCATED, f"holds {sum(counts):,} of the {page.whole:,} bytes of pixels{which}"
            )
        page.start, page.bytes = offsets[0], page.whole if page.compression == 1 else sum(counts)
        return last

    def _parts(self, tags: dict[int, _Tag], page: _Page, part: str) -> int:
        """Give how many strips or tiles a page needs."""
        layers = page.samples if page.planar else 1
        if part == "strip":
            rows = self._value(tags, _ROWS, page.length) or page.length
            return layers * -(-page.length // rows)
        wide = self._value(tags, _TILE_WIDTH, 0) or page.width
        high = self._value(tags, _TILE_LENGTH, 0) or page.length
        return layers * -(-page.width // wide) * -(-page.length // high)

    def _planes(self, page: _Page) -> tuple[int, int]:
        """See that the planes are there that ImageJ and MetaMorph put behind the only page's own.

        Returns
        -------
        int
            How many there are, with the page's own; 0 where there are no such.
        int
            Where they end.
        """
        tags, _ = self._directory(self._found.offsets[0])
        # MetaMorph and MetaXpress write single planes with UIC1tag (33628) alone
        planes = tags[_UIC2].many if _UIC2 in tags else self._imagej(tags)
        end = page.start + planes * page.bytes
        if planes < 2 or not page.start:
            return 0, page.end
        if end <= self._size:
            return planes, max(end, page.end)
        if _UIC2 not in tags and self._size == page.end:
            # perhaps one page of such a file, saved with its description
            self._say(f"its description names {planes:,} planes, and it has one")
            return 1, page.end
        raise FaultError(
            TRUNCATED, f"ends at byte {self._size:,}; the last of its {planes:,} planes at {end:,}"
        )

    def _imagej(self, tags: dict[int, _Tag]) -> int:
        tag = tags.get(_DESCRIPTION)
        if tag is None or tag.at + tag.many > self._size:
            return 0
        text = self._read(tag.at, min(tag.many, 10_000))
        if not text.startswith(b"ImageJ="):
            return 0
        for line in text.split(b"\n"):
            name, _, value = line.partition(b"=")
            if name == b"images" and value.strip().isdigit():
                return int(value[:18])
        return 0


@dataclass
class _Page:
    """What a directory says of its image.

    Attributes
    ----------
    whole : int
        The bytes that its pixels take uncompressed; each row begins at a byte.
    planar : bool
        Whether each sample has strips of its own.
    start, bytes, end : int
        Where its pixels begin, how many bytes they take, and where they end.
    """

    width: int
    length: int
    samples: int
    depth: str
    compression: int
    unusual: str
    whole: int
    planar: bool
    start: int = 0
    bytes: int = 0
    end: int = 0
