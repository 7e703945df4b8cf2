"""See whether image files other than TIFFs are whole: by their parts' lengths and their end marks.

What CellProfiler 4.2.8.1 does with each kind was tried: tests/e2e/test_image_files.py.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from bpcp.check.faults import BAD_HEADER, DECODE, TRUNCATED, FaultError, Looked

if TYPE_CHECKING:
    from numpy.typing import NDArray

PNG, JPEG, GIF, BMP, NPY, MAT, C01, DIB = (
    "PNG", "JPEG", "GIF", "BMP", "NumPy", "MATLAB", "Cellomics C01", "Cellomics DIB",
)  # fmt: skip
_END_MARKS = {JPEG: b"\xff\xd9", GIF: b";"}
_SCAN = b"\xff\xda"
# Samples of a pixel by PNG's colour type.
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# More chunks or elements than any writer puts into a file.
_MOST_CHUNKS = 1_000_000
# Deflate packs no more bytes into one; JPEG does, but for images of one colour alone.
_MOST_VALUES_A_BYTE = 1100
# No Cellomics image is larger.
_MOST_INFLATED = 1 << 32
# Bytes of a bitmap's header in Cellomics files. Source: Bio-Formats, CellomicsReader.
_DIB_HEADER = 52
_MIB = 1 << 20


def decoded(file: BinaryIO, page: int = 0) -> NDArray[Any]:
    """Decode an image by Pillow.

    Raises
    ------
    FaultError
        Of `DECODE`.
    """
    import numpy as np
    from PIL import Image

    # a whole-slide image is no attack
    Image.MAX_IMAGE_PIXELS = None
    file.seek(0)
    try:
        with Image.open(file) as image:
            image.seek(page)
            return np.asarray(image)
    except Exception as error:
        raise FaultError(DECODE, f"page {page + 1} can't be decoded: {error}") from None


def png(file: BinaryIO, size: int) -> Looked:
    """Look at a PNG: each chunk says how long it is, and IEND is the last."""
    file.seek(8)
    head = file.read(21)
    if len(head) < 21:
        raise FaultError(TRUNCATED, f"ends at byte {size:,}, within its header")
    _, first, width, height, depth, colour = struct.unpack(">I4sIIBB", head[:18])
    samples = _PNG_SAMPLES.get(colour, 0)
    if first != b"IHDR" or not samples or not width or not height:
        raise FaultError(BAD_HEADER, "its PNG header can't be read")
    odd = () if _png_ends(file, size, width * height * samples) else ("its end mark is missing",)
    named = f"uint{depth}" if depth in (8, 16) else f"{depth}-bit"
    unusual = f"a PNG with {depth}-bit values" if depth < 8 else ""
    return Looked(
        kind=PNG, size=(height, width, samples, 1), depth=named, warnings=odd, unusual=unusual
    )


def _png_ends(file: BinaryIO, size: int, values: int) -> bool:
    at = 8
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        at += 12 + length
        if kind == b"IEND":
            return at <= size
        if not kind.isalpha():
            raise FaultError(BAD_HEADER, f"its PNG header can't be read: a chunk called {kind!r}")
        if at > size:
            raise FaultError(
                TRUNCATED, f"ends at byte {size:,}; its chunk {kind.decode()} goes to {at:,}"
            )
    _decodes(file, size, PNG, values)
    return False


def _decodes(file: BinaryIO, size: int, kind: str, values: int) -> None:
    """See whether a file without an end mark holds all its pixels."""
    what = f"ends at byte {size:,}, before the {kind}'s end"
    if values > size * _MOST_VALUES_A_BYTE:
        raise FaultError(TRUNCATED, what)
    try:
        decoded(file)
    except FaultError as fault:
        raise FaultError(TRUNCATED, f"{what}: {fault}") from None


def photo(file: BinaryIO, size: int, kind: str) -> Looked:
    """Look at a JPEG or GIF: its header, and the mark at its end; without one, decode it."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    file.seek(0)
    try:
        with Image.open(file) as image:
            (width, height), bands = image.size, len(image.getbands())
    except Exception as error:
        raise FaultError(BAD_HEADER, f"its {kind} header can't be read: {error}") from None
    file.seek(max(0, size - 64))
    end = _END_MARKS[kind]
    odd: tuple[str, ...] = ()
    if not file.read().rstrip(b"\0\r\n ").endswith(end):
        _decodes(file, size, kind, width * height * bands)
        file.seek(0)
        data = file.read()
        # behind its end others may stand
        if kind == GIF or data.rfind(end) < data.rfind(_SCAN):
            odd = ("its end mark is missing",)
    return Looked(kind=kind, size=(height, width, bands, 1), depth="uint8", warnings=odd)


def bmp(file: BinaryIO, size: int) -> Looked:
    """Look at a Windows bitmap; of a compressed one the length is not known."""
    file.seek(0)
    head = file.read(34)
    if len(head) < 34:
        raise FaultError(TRUNCATED, f"ends at byte {size:,}, within its header")
    start, length, width, height, _, bits, coded = struct.unpack("<10xIIiiHHI", head)
    if length < 40:
        return Looked(kind=BMP)
    end = start + (width * bits + 31) // 32 * 4 * abs(height)
    if not coded:
        _reaches(end, size)
    return Looked(kind=BMP, size=(abs(height), width, 3 if bits > 8 else 1, 1), depth="uint8")


def _reaches(end: int, size: int) -> None:
    if end > size:
        raise FaultError(TRUNCATED, f"ends at byte {size:,}; its values go to {end:,}")


def cellomics(file: BinaryIO, size: int, kind: str) -> Looked:
    """Look at a Cellomics file: a bitmap of 16 bits, in a .C01 compressed behind four bytes."""
    file.seek(0 if kind == DIB else 4)
    if kind == DIB:
        head = file.read(_DIB_HEADER)
    else:
        head, size = _inflated(file, size)
    if len(head) < _DIB_HEADER:
        raise FaultError(TRUNCATED, f"ends at byte {size:,}, within its header")
    width, height, _, bits = struct.unpack_from("<IIHH", head, 4)
    _reaches(_DIB_HEADER + (width * bits + 7) // 8 * height, size)
    return Looked(kind=kind, size=(height, width, 1, 1), depth=f"uint{bits}")


def _inflated(file: BinaryIO, size: int) -> tuple[bytes, int]:
    """Give the start of a compressed rest of a file, and the length of all; it is not kept."""
    zipped, head, total = zlib.decompressobj(), b"", 0
    try:
        while not zipped.eof:
            data = zipped.unconsumed_tail or file.read(_MIB)
            if not data:
                raise FaultError(
                    TRUNCATED, f"ends at byte {size:,}, before its compressed pixels do"
                )
            part = zipped.decompress(data, _MIB)
            total += len(part)
            head = head or part
            if total > _MOST_INFLATED:
                raise FaultError(BAD_HEADER, f"holds more than {_MOST_INFLATED:,} bytes of pixels")
    except zlib.error as error:
        raise FaultError(DECODE, f"can't be decoded: {error}") from None
    return head, total


def matlab(file: BinaryIO, size: int) -> Looked:
    """Look at a MATLAB 5 file: each of its elements says how long it is."""
    file.seek(126)
    mark = file.read(2)
    if len(mark) < 2 or size < 136:
        raise FaultError(TRUNCATED, f"ends at byte {size:,}, within its header")
    order, at = "<" if mark == b"IM" else ">", 128
    for _ in range(_MOST_CHUNKS):
        if at >= size:
            break
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise FaultError(TRUNCATED, f"ends at byte {size:,}, within an element's header")
        kind, length = struct.unpack(f"{order}II", head)
        # of a short element the value is in its header
        at += 8 if kind >> 16 else 8 + length
        _reaches(at, size)
    return Looked(kind=MAT)


def numpy(file: BinaryIO, size: int) -> Looked:
    """Look at a NumPy array."""
    import numpy as np

    file.seek(0)
    try:
        npy = np.lib.format
        version = npy.read_magic(file)  # type: ignore[no-untyped-call]
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(file)  # type: ignore[no-untyped-call]
        shape, _, dtype = header
    except Exception as error:
        raise FaultError(BAD_HEADER, f"its NumPy header can't be read: {error}") from None
    if dtype.hasobject:
        raise FaultError(BAD_HEADER, "holds Python objects, not pixels")
    _reaches(file.tell() + math.prod(shape) * dtype.itemsize, size)
    height, width, samples, *_ = (*shape, 1, 1, 1)
    return Looked(kind=NPY, size=(height, width, samples, 1), depth=str(dtype))
