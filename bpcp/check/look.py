"""Look at one image file: whether it is there, its header is good, its pixels lie inside it.

What CellProfiler 4.2.8.1 does with such files was tried: a TIFF or JPEG that is cut off, and a TIFF
with strips that were never written, are read without a word, with wrong values. A broken zlib
strip, an empty file, random bytes, a PNG called .tif, a TIFF whose name has no ending fail their
image set; a TIFF or PNG called .jpg is read.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import BinaryIO

from bpcp.check import raster
from bpcp.check.faults import (
    BAD_HEADER,
    DANGLING,
    DECODE,
    EMPTY,
    MISSING,
    NO_PERMISSION,
    NOT_A_FILE,
    UNREADABLE,
    UNUSUAL,
    FaultError,
    Looked,
)
from bpcp.check.raster import BMP, C01, DIB, GIF, JPEG, MAT, NPY, PNG
from bpcp.check.tiff import Tiff, walk

_TIFF = "TIFF"
_MAGIC = (
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"II+\0", _TIFF),
    (b"MM\0+", _TIFF),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF8", GIF),
    (b"BM", BMP),
    (b"\x93NUMPY", NPY),
)
_BY_NAME = {
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".btf": _TIFF,
    ".tf8": _TIFF,
    ".tf2": _TIFF,
    ".stk": _TIFF,
    ".lsm": _TIFF,
    ".scn": _TIFF,
    ".flex": _TIFF,
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".gif": GIF,
    ".bmp": BMP,
    ".npy": NPY,
}
# Files of these names are of other kinds as well, into which bpcp can't look.
_BY_NAME_AND_START = {
    ".c01": (b"\0\0\0\x10\x78", C01),
    ".dib": (b"\x28\0\0\0", DIB),
    ".mat": (b"MATLAB 5.0", MAT),
}
_LOOKS: dict[str, Callable[[BinaryIO, int], Looked]] = {
    PNG: raster.png,
    JPEG: partial(raster.photo, kind=JPEG),
    GIF: partial(raster.photo, kind=GIF),
    BMP: raster.bmp,
    C01: partial(raster.cellomics, kind=C01),
    DIB: partial(raster.cellomics, kind=DIB),
    MAT: raster.matlab,
    NPY: raster.numpy,
}
_BLOCK = 512


def look(path: str, *, deep: bool = False) -> Looked:
    """Look at a file.

    Parameters
    ----------
    deep : bool
        Whether to decode every pixel.
    """
    kind = ""
    try:
        found = _there(path)
        with open(path, "rb") as file:  # noqa: PTH123 -- 17,000 times
            kind = _kind(path, file.read(16))
            seen = _looked(file, found.st_size, kind, deep)
            seen = replace(seen, hole=_hole(file, found))
        if seen.unusual:
            seen = replace(seen, fault=UNUSUAL, said=seen.unusual)
        return seen
    except FaultError as fault:
        return Looked(fault.fault, str(fault))
    except OSError as error:
        return Looked(UNREADABLE, f"can't be read: {error.strerror or error}")
    except Exception as error:
        # whatever a parser stumbles over in bytes that no camera wrote
        return Looked(BAD_HEADER, f"its {kind} header can't be read: {error}")


def _there(path: str) -> os.stat_result:
    """Give what the disk knows of a file that is there."""
    try:
        found = os.stat(path)  # noqa: PTH116 -- 17,000 times
    except ValueError:
        raise FaultError(MISSING, "no file can have such a name") from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise FaultError(NO_PERMISSION, "its folder may not be read") from None
        if os.path.islink(path):  # noqa: PTH114 -- 17,000 times
            target = os.readlink(path)  # noqa: PTH115 -- 17,000 times
            raise FaultError(DANGLING, f"a link to {target}, which is not there") from None
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise FaultError(MISSING, "missing") from None
        raise
    if not stat.S_ISREG(found.st_mode):
        folder = stat.S_ISDIR(found.st_mode)
        raise FaultError(NOT_A_FILE, "a folder" if folder else "no plain file")
    if not os.access(path, os.R_OK):
        raise FaultError(NO_PERMISSION, "may not be read")
    if found.st_size == 0:
        raise FaultError(EMPTY, "an empty file")
    return found


def _kind(path: str, start: bytes) -> str:
    """Tell what a file is; "" is what bpcp can't look into."""
    ending = os.path.splitext(path)[1]  # noqa: PTH122 -- 17,000 times
    named = _BY_NAME.get(ending.lower(), "")
    if ending.lower() in _BY_NAME_AND_START:
        begins, kind = _BY_NAME_AND_START[ending.lower()]
        return kind if start.startswith(begins[: len(start)]) else ""
    found = next((kind for magic, kind in _MAGIC if start.startswith(magic)), "")
    if found and not ending:
        raise FaultError(BAD_HEADER, f"a {found} whose name does not end in .{found.lower()[:4]}")
    if named == JPEG and found in (_TIFF, PNG):
        return found
    if named and found != named:
        really = f"a {found}" if found else f"it begins with {start[:10]!r}"
        raise FaultError(BAD_HEADER, f"no {named} file: {really}")
    return named


def _looked(file: BinaryIO, size: int, kind: str, deep: bool) -> Looked:
    if not kind:
        return Looked()
    if kind != _TIFF:
        seen = _LOOKS[kind](file, size)
        return replace(seen, flat=_flat(file, kind)) if deep else seen
    tiff = walk(file, size)
    return Looked(
        kind=_TIFF,
        size=tiff.size,
        depth=tiff.depth,
        warnings=tuple(tiff.odd),
        unusual=tiff.unusual,
        flat=deep and _flat_tiff(file, tiff),
    )


def _hole(file: BinaryIO, found: os.stat_result) -> int:
    """Give how many bytes of a file were never written, as after a copy that was cut off."""
    size, whence = found.st_size, getattr(os, "SEEK_HOLE", None)
    if whence is None or found.st_blocks * _BLOCK >= size:
        return 0
    at = count = 0
    try:
        while at < size:
            at = os.lseek(file.fileno(), at, whence)
            after = _data_behind(file, at, size)
            count, at = count + after - at, after
    except OSError:
        return 0
    return count


def _data_behind(file: BinaryIO, at: int, size: int) -> int:
    try:
        return os.lseek(file.fileno(), at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise


def _flat_tiff(file: BinaryIO, tiff: Tiff) -> bool:
    """Decode all pages; tell whether all their values are one."""
    import tifffile

    values: set[float] = set()
    file.seek(0)
    with _tifffile_is_quiet(), tifffile.TiffFile(file) as tif:
        for number in range(len(tiff.offsets)):
            try:
                pixels = tif.pages[number].asarray()
            except Exception as error:
                if "imagecodecs" not in str(error):
                    raise FaultError(
                        DECODE, f"page {number + 1} can't be decoded: {error}"
                    ) from None
                pixels = raster.decoded(file, number)
            values |= {float(pixels.min()), float(pixels.max())}
    return len(values) == 1


def _flat(file: BinaryIO, kind: str) -> bool:
    """Decode an image; tell whether all its values are one."""
    import numpy as np

    file.seek(0)
    if kind == NPY:
        pixels = np.load(file, allow_pickle=False)
    elif kind in (PNG, JPEG, GIF, BMP):
        pixels = raster.decoded(file)
    else:
        return False
    return pixels.size > 0 and bool(pixels.min() == pixels.max())


@contextmanager
def _tifffile_is_quiet() -> Iterator[None]:
    """Keep what tifffile logs off the terminal."""
    log = logging.getLogger("tifffile")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
