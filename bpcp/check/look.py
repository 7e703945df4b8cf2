"""Look at one image file: whether it is there, its header is good, its pixels lie inside it.

What CellProfiler 4.2.8.1 does with such files was tried: a TIFF or JPEG that is cut off, and a TIFF
with strips that were never written, are read without a word, with wrong values. A broken zlib
strip, an empty file, random bytes, a PNG called .tif, a TIFF whose name has no ending fail their
image set; a TIFF or PNG called .jpg is read.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import tifffile
    from numpy.typing import NDArray

# What may be wrong; image-<fault> is the code of the finding.
MISSING = "missing"
DANGLING = "dangling-link"
NOT_A_FILE = "not-a-file"
NO_PERMISSION = "no-permission"
UNREADABLE = "unreadable"
EMPTY = "empty"
BAD_HEADER = "unreadable-header"
TRUNCATED = "truncated"
DECODE = "decode-error"
# Where a parser of ours gives up: CellProfiler's own reader may do better.
UNSURE = frozenset((BAD_HEADER, DECODE))

_TIFF, _PNG, _JPEG, _NPY = "TIFF", "PNG", "JPEG", "NumPy"
_MAGIC = (
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"II+\0", _TIFF),
    (b"MM\0+", _TIFF),
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"\xff\xd8\xff", _JPEG),
    (b"\x93NUMPY", _NPY),
)
_BY_NAME = {
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".btf": _TIFF,
    ".tf8": _TIFF,
    ".stk": _TIFF,
    ".flex": _TIFF,
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".npy": _NPY,
}
# In what tifffile logs. What is outside a file is often written so by its camera, and harmless.
_LOST_PAGE = re.compile("invalid page offset|invalid offset to page|corrupted tag list")
_LOST_TAG = re.compile(r"TiffTag (\d+) .*invalid value offset")


class _FaultError(Exception):
    """What is wrong with a file."""

    def __init__(self, fault: str, said: str) -> None:
        super().__init__(said)
        self.fault = fault


@dataclass(frozen=True)
class Looked:
    """What a look at a file showed.

    Attributes
    ----------
    fault : str
        What is wrong, one of this module's names; "" where nothing is.
    said : str
        That, in words.
    kind : str
        "TIFF", "PNG", "JPEG", "NumPy", or "" where bpcp can't look inside.
    size : tuple of int
        Height and width in pixels, colours or samples of a pixel, pages; () where unknown.
    depth : str
        The type of its values, as numpy names them, "uint16"; a packed one has its bits: "12-bit".
    warnings : tuple of str
        What is odd, and no fault.
    flat : bool
        Whether all its pixels were decoded, and have one value.
    """

    fault: str = ""
    said: str = ""
    kind: str = ""
    size: tuple[int, ...] = ()
    depth: str = ""
    warnings: tuple[str, ...] = ()
    flat: bool = False

    @property
    def certain(self) -> bool:
        """Whether it has a fault that needs no second opinion."""
        return bool(self.fault) and self.fault not in UNSURE


def look(path: str, *, deep: bool = False) -> Looked:
    """Look at a file.

    Parameters
    ----------
    deep : bool
        Whether to decode every pixel.
    """
    try:
        size = _there(path)
        with open(path, "rb") as file:  # noqa: PTH123 -- 17,000 times
            start = file.read(16)
            kind = _kind(path, start)
            if not kind:
                return Looked()
            return _LOOKS[kind](file, size, deep)
    except _FaultError as fault:
        return Looked(fault.fault, str(fault))
    except OSError as error:
        return Looked(UNREADABLE, f"can't be read: {error.strerror or error}")


def _there(path: str) -> int:
    """Give the size of a file that is there, in bytes."""
    try:
        found = os.stat(path)  # noqa: PTH116 -- 17,000 times
    except ValueError:
        raise _FaultError(MISSING, "no file can have such a name") from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise _FaultError(NO_PERMISSION, "its folder may not be read") from None
        if os.path.islink(path):  # noqa: PTH114 -- 17,000 times
            target = os.readlink(path)  # noqa: PTH115 -- 17,000 times
            raise _FaultError(DANGLING, f"a link to {target}, which is not there") from None
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise _FaultError(MISSING, "missing") from None
        raise
    if not stat.S_ISREG(found.st_mode):
        folder = stat.S_ISDIR(found.st_mode)
        raise _FaultError(NOT_A_FILE, "a folder" if folder else "no plain file")
    if not os.access(path, os.R_OK):
        raise _FaultError(NO_PERMISSION, "may not be read")
    if found.st_size == 0:
        raise _FaultError(EMPTY, "an empty file")
    return found.st_size


def _kind(path: str, start: bytes) -> str:
    """Tell what a file is; "" is what bpcp can't look into."""
    ending = os.path.splitext(path)[1]  # noqa: PTH122 -- 17,000 times
    named = _BY_NAME.get(ending.lower(), "")
    found = next((kind for magic, kind in _MAGIC if start.startswith(magic)), "")
    if found and not ending:
        raise _FaultError(BAD_HEADER, f"a {found} whose name does not end in .{found.lower()[:4]}")
    if named == _JPEG and found in (_TIFF, _PNG):
        return found
    if named and found != named:
        really = f"a {found}" if found else f"it begins with {start[:10]!r}"
        raise _FaultError(BAD_HEADER, f"no {named} file: {really}")
    return named


def _tiff(file: BinaryIO, size: int, deep: bool) -> Looked:
    import tifffile

    with _tifffile_is_quiet() as said:
        try:
            _first_directory(file, size)
            with tifffile.TiffFile(file) as tif:
                pages = [page.aspage() for page in tif.pages]
                if not pages:
                    raise _FaultError(BAD_HEADER, "no image in it")
                for number, page in enumerate(pages):
                    _inside(page, size, f" of page {number + 1}" if number else "")
                first = pages[0]
                planes = _planes_behind(tif, first) if len(pages) == 1 else 0
                if planes > 1:
                    _contiguous(first, planes, size)
                lost = any(map(_LOST_PAGE.search, said))
                if lost and size - _end(pages[-1]) > _plain_bytes(first) // 2:
                    raise _FaultError(
                        TRUNCATED, f"ends at byte {size:,}, before its page {len(pages) + 1}"
                    )
                return Looked(
                    kind=_TIFF,
                    size=(
                        int(first.imagelength),
                        int(first.imagewidth),
                        int(first.samplesperpixel),
                        max(len(pages), planes),
                    ),
                    depth=_depth(first),
                    warnings=tuple(_odd(said)),
                    flat=deep and _decoded_tiff(file, pages),
                )
        except _FaultError:
            raise
        except OSError:
            raise
        except Exception as error:
            # whatever a parser stumbles over in bytes that no camera wrote
            raise _FaultError(BAD_HEADER, f"its TIFF header can't be read: {error}") from None


def _first_directory(file: BinaryIO, size: int) -> None:
    """See that the first directory begins inside the file; writers often put it at the end."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    at, form = (8, "Q") if big else (4, "I")
    if len(head) < at + struct.calcsize(form):
        raise _FaultError(TRUNCATED, f"ends at byte {size}, within its header")
    offset = struct.unpack_from(f"{order}{form}", head, at)[0]
    if offset >= size:
        raise _FaultError(TRUNCATED, f"ends at byte {size:,}, before its directory at {offset:,}")
    file.seek(0)


def _inside(page: tifffile.TiffPage, size: int, which: str) -> None:
    """See that a page's strips or tiles are all there, and inside the file."""
    offsets, counts = list(page.dataoffsets), list(page.databytecounts)
    plain = page.compression == 1 and not page.is_tiled
    whole = _plain_bytes(page)
    if plain and len(counts) == 1 and counts[0] == 0:
        # old writers leave it out; readers work it out
        counts = [whole]
    part = "tile" if page.is_tiled else "strip"
    wanted = math.prod(page.chunked)
    # JPEG of the old style has one stream
    if page.compression != 6 and min(len(offsets), len(counts)) < wanted:
        raise _FaultError(TRUNCATED, f"has {len(offsets):,} of the {wanted:,} {part}s{which}")
    # some writers count more bytes than the last strip's rows have
    spare = max(0, sum(counts) - whole) if plain else 0
    for number, (offset, count) in enumerate(zip(offsets, counts, strict=False), 1):
        if offset == 0 or count == 0:
            raise _FaultError(
                TRUNCATED, f"{part} {number:,} of {len(offsets):,}{which} was never written"
            )
        end = offset + count - (spare if number == len(offsets) else 0)
        if end > size:
            raise _FaultError(
                TRUNCATED,
                f"ends at byte {size:,}; {part} {number:,} of {len(offsets):,}{which}"
                f" goes to {end:,}",
            )
    if plain and sum(counts) < whole:
        raise _FaultError(
            TRUNCATED, f"holds {sum(counts):,} of the {whole:,} bytes of pixels{which}"
        )


def _odd(said: list[str]) -> Iterator[str]:
    """Say what a header names that is not in the file, by what tifffile logged."""
    if any(map(_LOST_PAGE.search, said)):
        yield "it names one more page, behind its end"
    for words in said:
        if found := _LOST_TAG.search(words):
            yield f"its tag {found[1]} lies behind its end"


def _end(page: tifffile.TiffPage) -> int:
    """Give where a page's data end, or its directory begins, whichever is later."""
    ends = (o + c for o, c in zip(page.dataoffsets, page.databytecounts, strict=False))
    return int(max(page.offset, *ends))


def _plain_bytes(page: tifffile.TiffPage) -> int:
    """Give the bytes that a page's pixels take uncompressed; each row begins at a byte."""
    row = (page.imagewidth * page.samplesperpixel * _bits(page) + 7) // 8
    return int(row * page.imagelength * page.imagedepth)


def _bits(page: tifffile.TiffPage) -> int:
    bits = page.bitspersample
    return int(bits if isinstance(bits, int) else max(bits))


def _depth(page: tifffile.TiffPage) -> str:
    dtype = page.dtype
    if dtype is None or dtype.itemsize * 8 != _bits(page):
        return f"{_bits(page)}-bit"
    return str(dtype)


def _planes_behind(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """Give the planes that ImageJ and MetaMorph put behind the only directory's own."""
    if tif.is_imagej:
        return int((tif.imagej_metadata or {}).get("images", 1))
    # MetaMorph and MetaXpress write single planes with UIC1tag alone
    if planes := page.tags.get("UIC2tag"):
        return int(planes.count)
    return 0


def _contiguous(page: tifffile.TiffPage, planes: int, size: int) -> None:
    offsets = page.dataoffsets
    each = _plain_bytes(page) if page.compression == 1 else sum(page.databytecounts)
    end = offsets[0] + planes * each
    if end > size:
        raise _FaultError(
            TRUNCATED, f"ends at byte {size:,}; the last of its {planes:,} planes at {end:,}"
        )


def _decoded_tiff(file: BinaryIO, pages: list[tifffile.TiffPage]) -> bool:
    """Decode all pages; tell whether all their values are one."""
    import numpy as np

    values: set[float] = set()
    for number, page in enumerate(pages):
        try:
            pixels = page.asarray()
        except Exception as error:
            if "imagecodecs" not in str(error):
                raise _FaultError(DECODE, f"page {number + 1} can't be decoded: {error}") from None
            pixels = _by_pillow(file, number)
        values |= {float(np.min(pixels)), float(np.max(pixels))}
    return len(values) == 1


def _by_pillow(file: BinaryIO, page: int = 0) -> NDArray[Any]:
    """Decode an image by Pillow, which knows compressions that tifffile leaves to a plugin."""
    import numpy as np
    from PIL import Image

    file.seek(0)
    try:
        with Image.open(file) as image:
            image.seek(page)
            return np.asarray(image)
    except Exception as error:
        raise _FaultError(DECODE, f"page {page + 1} can't be decoded: {error}") from None


def _photo(file: BinaryIO, size: int, deep: bool, kind: str, end: bytes) -> Looked:
    """Look at a PNG or JPEG: its header, and the mark at its end; without one, decode it."""
    from PIL import Image

    # a whole-slide image is no attack
    Image.MAX_IMAGE_PIXELS = None
    file.seek(0)
    try:
        with Image.open(file) as image:
            width, height = image.size
            bands, mode = len(image.getbands()), image.mode
    except Exception as error:
        raise _FaultError(BAD_HEADER, f"its {kind} header can't be read: {error}") from None
    file.seek(max(0, size - 64))
    ended = file.read().rstrip(b"\0\r\n ").endswith(end)
    flat = False
    if deep or not ended:
        try:
            pixels = _by_pillow(file)
        except _FaultError as fault:
            if ended:
                raise
            raise _FaultError(
                TRUNCATED, f"ends at byte {size:,}, before the {kind}'s end: {fault}"
            ) from None
        flat = deep and bool(pixels.min() == pixels.max())
    depth = {"1": "1-bit", "I": "int32", "F": "float32"}.get(mode, "uint8")
    if mode.startswith("I;16"):
        depth = "uint16"
    return Looked(kind=kind, size=(height, width, bands, 1), depth=depth, flat=flat)


def _png(file: BinaryIO, size: int, deep: bool) -> Looked:
    return _photo(file, size, deep, _PNG, b"IEND\xaeB`\x82")


def _jpeg(file: BinaryIO, size: int, deep: bool) -> Looked:
    return _photo(file, size, deep, _JPEG, b"\xff\xd9")


def _numpy(file: BinaryIO, size: int, deep: bool) -> Looked:
    import numpy as np

    file.seek(0)
    try:
        npy = np.lib.format
        version = npy.read_magic(file)  # type: ignore[no-untyped-call]
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(file)  # type: ignore[no-untyped-call]
        shape, _, dtype = header
    except Exception as error:
        raise _FaultError(BAD_HEADER, f"its NumPy header can't be read: {error}") from None
    if dtype.hasobject:
        raise _FaultError(BAD_HEADER, "holds Python objects, not pixels")
    end = file.tell() + math.prod(shape) * dtype.itemsize
    if end > size:
        raise _FaultError(TRUNCATED, f"ends at byte {size:,}; its values go to {end:,}")
    flat = False
    if deep:
        file.seek(0)
        values = np.load(file, allow_pickle=False)
        flat = values.size > 0 and bool(values.min() == values.max())
    height, width, samples, *_ = (*shape, 1, 1, 1)
    return Looked(kind=_NPY, size=(height, width, samples, 1), depth=str(dtype), flat=flat)


_LOOKS = {_TIFF: _tiff, _PNG: _png, _JPEG: _jpeg, _NPY: _numpy}


class _Listener(logging.Handler):
    """Takes what tifffile logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def _tifffile_is_quiet() -> Iterator[list[str]]:
    """Keep what tifffile logs off the terminal, and give it."""
    log = logging.getLogger("tifffile")
    listener, before = _Listener(), log.propagate
    log.addHandler(listener)
    log.propagate = False
    try:
        yield listener.said
    finally:
        log.removeHandler(listener)
        log.propagate = before
