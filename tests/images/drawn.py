"""Small image files of many kinds and makers, with their pixels, and how files get cut off.

Tags of makers are as their readers look for them: Bio-Formats (FluoviewReader, MetamorphReader,
ZeissLSMReader, GatanReader, ...), tifffile's tables of tags.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tiffs import (
    ASCII,
    BYTE,
    DOUBLE,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    How,
    Page,
    Tags,
    tiff,
)

Pixels = NDArray[Any]

HEIGHT, WIDTH = 24, 32
_random = np.random.default_rng(5)
GREY16 = _random.integers(300, 60_000, (HEIGHT, WIDTH), dtype="uint16")
GREY8 = (GREY16 >> 8).astype("uint8")
PLANES = np.stack([GREY16, GREY16 // 3, GREY16 // 5])
RGB = np.dstack([GREY8, GREY8 // 2, 255 - GREY8])
# smooth, as JPEG likes it
SMOOTH = np.add.outer(np.arange(HEIGHT) * 4, np.arange(WIDTH) * 3).astype("uint8")
BITS = GREY8 > 90
# beyond a file system's blocks, so that a hole is one
LARGE = _random.integers(300, 60_000, (128, 96), dtype="uint16")


@dataclass(frozen=True)
class Drawn:
    """A file.

    Attributes
    ----------
    name : str
        Its ending counts.
    data : bytes
    behind : int
        How many of its bytes stand behind its end.
    pixels : array, optional
        What a reader should give of its first page; None where it is for the reader to say.
    """

    name: str
    data: bytes
    pixels: Pixels | None = None
    behind: int = 0


def _tags(pixels: Pixels, **more: tuple[int, Any]) -> Tags:
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = pixels.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    found: Tags = {
        256: (SHORT, pixels.shape[1]),
        257: (SHORT, pixels.shape[0]),
        258: (SHORT, [bits] * samples),
        259: (SHORT, 1),
        262: (SHORT, 2 if samples >= 3 else 1),
        277: (SHORT, samples),
        278: (SHORT, pixels.shape[0]),
        282: (RATIONAL, (72, 1)),
        283: (RATIONAL, (72, 1)),
        296: (SHORT, 2),
    }
    if kind != 1:
        found[339] = (SHORT, [kind] * samples)
    return found


def page(
    pixels: Pixels,
    more: Tags | None = None,
    *,
    rows: int = 0,
    tile: int = 0,
    order: str = "<",
    encode: Callable[[bytes], bytes] = bytes,
    planar: bool = False,
) -> Page:
    """Make a page of strips of so many rows, or of square tiles."""
    tags = _tags(pixels)
    height, width = pixels.shape[:2]
    data = pixels.astype(pixels.dtype.newbyteorder(order))
    layers = [data]
    if planar:
        tags[284] = (SHORT, 2)
        layers = [data[:, :, i] for i in range(data.shape[2])]
    step = tile or rows or height
    parts = []
    for layer in layers:
        for y in range(0, height, step):
            if not tile:
                parts.append(encode(layer[y : y + step].tobytes()))
                continue
            for x in range(0, width, tile):
                part = np.zeros((tile, tile, *layer.shape[2:]), layer.dtype)
                seen = layer[y : y + tile, x : x + tile]
                part[: seen.shape[0], : seen.shape[1]] = seen
                parts.append(encode(part.tobytes()))
    if tile:
        del tags[278]
        tags |= {322: (SHORT, tile), 323: (SHORT, tile)}
    else:
        tags[278] = (SHORT, step)
    return Page(tags | (more or {}), parts, tiled=bool(tile))


def _coded(code: int) -> Tags:
    return {259: (SHORT, code)}


def packbits(data: bytes) -> bytes:
    """Encode bytes as literal runs."""
    runs = [data[i : i + 128] for i in range(0, len(data), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def lzw(data: bytes) -> bytes:
    """Encode bytes as codes of nine bits, each for itself; the table starts anew in time."""
    codes = []
    for i in range(0, len(data), 200):
        codes += [256, *data[i : i + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _interlaced(pixels: Pixels) -> bytes:
    """Draw a PNG of seven passes (Adam7)."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
              (0, 1, 1, 2))  # fmt: skip
    rows = b"".join(
        b"\0" + row.tobytes() for x, y, dx, dy in passes for row in pixels[y::dy, x::dx]
    )
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 1),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


def _by_pillow(pixels: Pixels, form: str = "TIFF", **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **how)
    return file.getvalue()


def _jpeg(pixels: Pixels, **how: Any) -> bytes:
    return _by_pillow(pixels, "JPEG", **{"quality": 95, **how})


def _differenced(pixels: Pixels) -> Pixels:
    found = pixels.copy()
    found[:, 1:] -= pixels[:, :-1]
    return found


def _float_differenced(pixels: Pixels) -> Pixels:
    rows = pixels.astype(">f4").view("uint8").reshape(HEIGHT, WIDTH, 4)
    rows = rows.transpose(0, 2, 1).reshape(HEIGHT, WIDTH * 4)
    return _differenced(rows)


def _twelve(pixels: Pixels) -> bytes:
    values = (pixels >> 4).reshape(-1, 2).astype(int)
    packed = np.empty((len(values), 3), "uint8")
    packed[:, 0] = values[:, 0] >> 4
    packed[:, 1] = (values[:, 0] & 15) << 4 | values[:, 1] >> 8
    packed[:, 2] = values[:, 1] & 255
    return packed.tobytes()


def _text(words: str) -> tuple[int, bytes]:
    return ASCII, words.encode() + b"\0"


_OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0" Name="a"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16"'
    ' BigEndian="false" SizeX="32" SizeY="24" SizeC="1" SizeZ="{z}" SizeT="1">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
)


def _ome(planes: int) -> Tags:
    data = "".join(f'<TiffData IFD="{i}" FirstZ="{i}" PlaneCount="1"/>' for i in range(planes))
    return {270: _text(_OME.format(z=planes, data=data))}


def _lsm(packed: bool = False) -> bytes:
    """Draw two planes, each with a thumbnail behind it, as LSM files have.

    Of packed ones, the byte counts are those of the pixels.
    """
    info = bytearray(512)
    struct.pack_into("<IiIIIIIi", info, 0, 0x00400494C, len(info), WIDTH, HEIGHT, 2, 1, 1, 2)
    struct.pack_into("<II", info, 32, 10, 10)
    struct.pack_into("<ddd", info, 40, 1e-7, 1e-7, 1e-7)
    thumb = np.dstack([GREY8[::2, ::2]] * 3)
    pages = []
    for number in range(2):
        more: Tags = {254: (LONG, 0), 259: (SHORT, 5 if packed else 1)}
        if number == 0:
            more[34412] = (BYTE, bytes(info))
        own = page(PLANES[number], more, encode=lzw if packed else bytes)
        if packed:
            own.counts = [PLANES[number].nbytes + 2000]
        pages += [own, page(thumb, {254: (LONG, 1)}, planar=True)]
    return tiff(pages)


def _stk(planes: int, *, uic1: bool = True, wide: bool = True) -> bytes:
    """Draw MetaMorph's stack: one directory, planes behind its own, tables of six numbers each."""
    numbers = [value for i in range(planes) for value in (1, 1, 2453000, i * 100, 2453000, i)]
    own = page(GREY16, {305: _text("MetaMorph")}, rows=HEIGHT)
    table = struct.pack(f"<{len(numbers)}I", *numbers)
    at = _Laid()
    tags = own.tags
    if uic1:
        tags[33628] = (LONG, [0, 1])
    if wide:
        at.table(33630, RATIONAL, planes, struct.pack(f"<{2 * planes}I", *[1, 10] * planes))
        # of its own kind: id, offset, until 0
        at.table(
            33631, LONG, planes, struct.pack("<HIHIH", 0, 0, 1, 0, 0).ljust(4 * planes + 8, b"\0")
        )
        at.table(33629, RATIONAL, planes, table)
    own.behind = b"".join(plane.tobytes() for plane in PLANES[1:planes])
    return at.file(own)


class _Laid:
    """A file whose tables lie at its start, and are named by entries with counts of their own."""

    def __init__(self) -> None:
        self._tables: list[tuple[int, int, int, bytes]] = []

    def table(self, code: int, kind: int, count: int, data: bytes) -> None:
        self._tables.append((code, kind, count, data))

    def file(self, own: Page) -> bytes:
        raw = []
        whole = tiff(
            [replace(own, raw=[struct.pack("<HHII", c, k, n, 0) for c, k, n, _ in self._tables])]
        )
        end = len(whole) + len(whole) % 2
        tail = b""
        for code, kind, count, data in self._tables:
            raw.append(struct.pack("<HHII", code, kind, count, end + len(tail)))
            tail += data
        whole = tiff([replace(own, raw=raw)])
        return whole + bytes(len(whole) % 2) + tail


def _imagej(planes: int, *, order: str = ">", large: bool = False) -> bytes:
    about = f"ImageJ=1.54f\nimages={planes}\nslices={planes}\nloop=false\nmin=0.0\nmax=60000.0\n"
    more = {270: _text(about)}
    if large:
        own = page(GREY16, more, order=order)
        own.behind = b"".join(p.astype(order + "u2").tobytes() for p in PLANES[1:planes])
        return tiff([own], How(order))
    pages = [
        page(plane, more if not i else {}, order=order) for i, plane in enumerate(PLANES[:planes])
    ]
    return tiff(pages, How(order))


def _fluoview() -> bytes:
    """Draw FluoView's: MMHEADER with ten dimensions, MMSTAMP, a description with its settings."""
    head = bytearray(1500)
    dims = [(b"x", WIDTH), (b"y", HEIGHT), (b"Z", 2)] + [(b"", 1)] * 7
    at = 284
    for name, size in dims:
        struct.pack_into("<16sIdd64s", head, at, name, size, 0.0, 1.0, b"um")
        at += 100
    about = _text(
        "[Intensity Mapping]\r\nMap Ch0: Range=00000 to 04095\r\n[Intensity Mapping End]\r\n"
    )
    more = {270: about, 34361: (BYTE, bytes(head)), 34362: (DOUBLE, [0.0] * 8)}
    return tiff([page(plane, more) for plane in PLANES[:2]])


def _scanimage() -> bytes:
    about = "state.configPath='C:\\\\'\rstate.software.version=3.8\rstate.acq.numberOfFrames=3\r"
    return tiff([page(plane, {270: _text(about)}) for plane in PLANES])


def _scanimage_big() -> bytes:
    about = "SI.VERSION_MAJOR = 2016\nSI.hChannels.channelSave = 1\nSI.hStackManager.numSlices = 3"
    software = _text(about)
    return tiff(
        [page(plane, {270: _text("frameNumbers = 1"), 305: software}) for plane in PLANES],
        How(big=True),
    )


def _old_jpeg() -> bytes:
    """Draw JPEG of the old style: one stream that tags 513 and 514 name."""
    stream = _jpeg(SMOOTH)
    own = page(SMOOTH, _coded(6))
    own.parts = [stream]
    whole = tiff([own])
    at = whole.index(stream)
    own.tags |= {513: (LONG, at + 24), 514: (LONG, len(stream))}
    whole = tiff([own])
    own.tags[513] = (LONG, whole.index(stream))
    return tiff([own])


def _with(own: Page, *raw: bytes) -> Page:
    return replace(own, raw=raw)


def _chunky(own: Page, **how: Any) -> bytes:
    return tiff([own], How(**how))


def _palette() -> Page:
    colours = np.linspace(0, 65535, 768).astype(int).tolist()
    return page(GREY8, {262: (SHORT, 3), 320: (SHORT, colours)})


def _packed(data: bytes, bits: int, more: Tags | None = None) -> Page:
    own = page(GREY8, {258: (SHORT, bits), **(more or {})})
    own.parts = [data]
    return own


_FOUR = (GREY8.reshape(-1, 2) & 240 | GREY8.reshape(-1, 2)[:, ::-1] >> 4)[:, 0].tobytes()


def _pyramid(ome: bool) -> bytes:
    own = page(GREY16, _ome(1) if ome else None, tile=16)
    own.inner = [page(GREY16[::2, ::2].copy(), {254: (LONG, 1)}, tile=16)]
    return tiff([own])


def _scn() -> bytes:
    about = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        '<collection name="a" sizeX="32" sizeY="24"><image name="i"><pixels sizeX="32" sizeY="24">'
        '<dimension sizeX="32" sizeY="24" r="0" ifd="0"/></pixels></image></collection></scn>'
    )
    return tiff([page(RGB, {270: _text(about)}, tile=16)], How(big=True))


def _flex() -> bytes:
    about = "<Root><FLEX><Plate><Barcode>P</Barcode></Plate></FLEX></Root>"
    return tiff([page(plane, {65200: _text(about)}) for plane in PLANES])


def _bmp() -> bytes:
    return _by_pillow(GREY8, "BMP")


def _dib() -> bytes:
    """Draw Cellomics' .DIB: a bitmap header of 40 bytes behind 12, 16 bits a pixel."""
    head = struct.pack("<III", 40, WIDTH, HEIGHT) + struct.pack("<HHIIIII", 1, 16, 0, 0, 0, 0, 0)
    return head.ljust(52, b"\0") + GREY16.tobytes()


def _c01() -> bytes:
    """Draw Cellomics' .C01: four bytes, then a compressed .DIB."""
    return struct.pack(">I", 16) + zlib.compress(_dib())


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, GREY16 / 7)
    return file.getvalue()


def _mat() -> bytes:
    """Draw a MATLAB 5 file of one matrix, "Image", of doubles."""
    values = (GREY16 / 65535).astype("<f8")
    data = values.tobytes("F")
    body = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, HEIGHT, WIDTH)
    body += struct.pack("<II", 1, 5) + b"Image\0\0\0" + struct.pack("<II", 9, len(data)) + data
    return (
        b"MATLAB 5.0".ljust(124)
        + struct.pack("<HH", 0x0100, 0x4D49)
        + struct.pack("<II", 14, len(body))
        + body
    )


def _ccitt() -> bytes:
    return _by_pillow(BITS, compression="group4")


def kinds() -> Iterator[tuple[str, Drawn]]:
    """Draw one file of each kind."""
    of_tiff: dict[str, tuple[bytes, Pixels | None]] = {}

    def add(kind: str, data: bytes, pixels: Pixels | None = None) -> None:
        of_tiff[kind] = (data, pixels)

    add("little-endian", tiff([page(GREY16)]), GREY16)
    add("big-endian", tiff([page(GREY16, order=">")], How(">")), GREY16)
    add("directory last", tiff([page(GREY16)], How(late=True)), GREY16)
    add("BigTIFF", tiff([page(GREY16)], How(big=True)), GREY16)
    add(
        "BigTIFF, big-endian",
        tiff([page(GREY16, order=">")], How(">", big=True, late=True)),
        GREY16,
    )
    add("large", tiff([page(LARGE, rows=16)]), LARGE)
    add("strips", tiff([page(GREY16, rows=5)]), GREY16)
    add("strips of one row", tiff([page(GREY16, rows=1)], How(late=True)), GREY16)
    add("tiles", tiff([page(GREY16, tile=16)]), GREY16)
    add("planar", tiff([page(RGB, planar=True, rows=8)]), RGB)
    add("planar tiles", tiff([page(RGB, planar=True, tile=16)]), RGB)
    add("pages", tiff([page(plane) for plane in PLANES]), GREY16)
    add("pages, directories last", tiff([page(p) for p in PLANES], How(late=True)), GREY16)
    add("sub-directories", _pyramid(False), GREY16)
    add("OME-TIFF", tiff([page(p, _ome(3) if not i else {}) for i, p in enumerate(PLANES)]), GREY16)
    add("OME-TIFF pyramid", _pyramid(True), GREY16)
    add("ImageJ stack", _imagej(3), GREY16)
    add("ImageJ, one directory", _imagej(3, large=True), GREY16)
    add("LSM", _lsm(), GREY16)
    add("LSM, LZW", _lsm(packed=True), GREY16)
    add("LZW tiles", tiff([page(GREY16, _coded(5), tile=16, encode=lzw)]), GREY16)
    add("MetaMorph stack", _stk(3), GREY16)
    add("MetaMorph stack, UIC2 alone", _stk(3, uic1=False), GREY16)
    add("MetaMorph plane, UIC1 alone", _stk(1, wide=False), GREY16)
    add(
        "MetaXpress",
        tiff(
            [
                page(
                    GREY16,
                    {
                        270: _text('<MetaData><PlaneInfo><prop id="a"/></PlaneInfo></MetaData>'),
                        305: _text("MetaSeries"),
                    },
                )
            ]
        ),
        GREY16,
    )
    add("ScanImage", _scanimage(), GREY16)
    add("ScanImage, BigTIFF", _scanimage_big(), GREY16)
    add("FluoView", _fluoview(), GREY16)
    add(
        "NIH Image",
        tiff([page(GREY8, {43314: (LONG, [0x49494E46, 1]), 40001: (BYTE, bytes(200))})]),
        GREY8,
    )
    add(
        "Gatan",
        tiff(
            [
                page(
                    GREY16,
                    {
                        65006: (DOUBLE, 1.0),
                        65009: (DOUBLE, 2.0),
                        65015: (LONG, 1),
                        65027: (UNDEFINED, bytes(64)),
                    },
                )
            ]
        ),
        GREY16,
    )
    add(
        "Andor",
        tiff(
            [
                page(p, {4864: (LONG, 1), 4869: (DOUBLE, -60.0), 4876: (LONG, i)})
                for i, p in enumerate(PLANES)
            ]
        ),
        GREY16,
    )
    add(
        "SIS",
        tiff([page(GREY16, {271: _text("Olympus Soft Imaging Solutions"), 33560: (LONG, 8)})]),
        GREY16,
    )
    add("Leica SCN", _scn(), RGB)
    add(
        "GeoTIFF",
        tiff(
            [
                page(
                    GREY16,
                    {
                        33550: (DOUBLE, [1.0, 1.0, 0.0]),
                        34735: (SHORT, [1, 1, 0, 1, 1024, 0, 1, 1]),
                        42113: _text("0"),
                    },
                )
            ]
        ),
        GREY16,
    )
    add("EXIF", tiff([page(GREY8, {34665: (LONG, 8)})]), GREY8)
    own = page(GREY16)
    add("unknown type of a tag", tiff([_with(own, struct.pack("<HHII", 65100, 99, 1, 7))]), GREY16)
    add("tag without values", tiff([_with(own, struct.pack("<HHII", 65100, 3, 0, 0))]), GREY16)
    add(
        "tag of 4 billion values",
        tiff([_with(own, struct.pack("<HHII", 65100, 4, 0xFFFFFFFF, 8))]),
        GREY16,
    )
    add(
        "tag behind the end",
        tiff([_with(own, struct.pack("<HHII", 65100, 7, 400, 1_000_000))]),
        GREY16,
    )
    add("tag given twice", tiff([_with(own, struct.pack("<HHII", 256, 3, 1, WIDTH))]), GREY16)
    add("tags out of order", tiff([own], How(unsorted=True)), GREY16)
    add("odd offsets", tiff([own], How(odd=True)), GREY16)
    add("chain beyond the end", tiff([own], How(last=1_000_000)), GREY16)
    add(
        "description not UTF-8",
        tiff([page(GREY16, {270: (ASCII, "Größe 3 µm".encode("latin-1") + b"\0")})]),
        GREY16,
    )
    add(
        "description not ASCII, ImageJ",
        tiff([page(GREY16, {270: (ASCII, b"ImageJ=1.5\nunit=\xb5m\nimages=x\n\0")})]),
        GREY16,
    )
    add("no byte counts", tiff([replace(own, counts=[])]), GREY16)
    extracted = page(GREY16, {270: _text("ImageJ=1.54f\nimages=3\nslices=3\n")})
    add("ImageJ, one page of three", tiff([extracted]), GREY16)
    add("byte counts too large", tiff([replace(own, counts=[HEIGHT * WIDTH * 2 + 64])]), GREY16)
    add(
        "no rows per strip",
        tiff([replace(own, tags={k: v for k, v in own.tags.items() if k != 278})]),
        GREY16,
    )
    add("deflate", tiff([page(GREY16, _coded(8), rows=8, encode=zlib.compress)]), GREY16)
    add("deflate, old code", tiff([page(GREY16, _coded(32946), encode=zlib.compress)]), GREY16)
    add("deflate tiles", tiff([page(GREY16, _coded(8), tile=16, encode=zlib.compress)]), GREY16)
    add("PackBits", tiff([page(GREY8, _coded(32773), rows=8, encode=packbits)]), GREY8)
    add("LZW", _by_pillow(GREY8, compression="tiff_lzw"), GREY8)
    diff = page(_differenced(GREY16), {**_coded(8), 317: (SHORT, 2)}, encode=zlib.compress)
    add("deflate, predictor 2", tiff([diff]), GREY16)
    floats = (GREY16 / 65535).astype("f4")
    own = page(floats, {**_coded(8), 317: (SHORT, 3)})
    own.parts = [zlib.compress(_float_differenced(floats).tobytes())]
    add("deflate, predictor 3", tiff([own]), floats)
    own = page(SMOOTH, _coded(7))
    own.parts = [_jpeg(SMOOTH)]
    add("JPEG", tiff([own]))
    own = page(np.dstack([SMOOTH] * 3), {**_coded(7), 262: (SHORT, 6), 530: (SHORT, [2, 2])})
    own.parts = [_jpeg(np.dstack([SMOOTH] * 3), subsampling=2)]
    add("JPEG, YCbCr", tiff([own]))
    add("JPEG with tables, Pillow's", _by_pillow(np.dstack([SMOOTH] * 3), compression="jpeg"))
    add("JPEG, old style", _old_jpeg())
    add("CCITT G4", _ccitt())
    add("CCITT G3", _by_pillow(BITS, compression="group3"))
    own = page(SMOOTH, _coded(33003))
    own.parts = [_by_pillow(SMOOTH, "JPEG2000", no_jp2=True)]
    add("JPEG 2000", tiff([own]))
    add("Zstandard", _by_pillow(GREY8, compression="zstd"), GREY8)
    own = page(RGB, _coded(50001))
    own.parts = [_by_pillow(RGB, "WEBP", lossless=True)]
    add("WebP", tiff([own]), RGB)
    add("LZMA", _by_pillow(GREY8, compression="lzma"), GREY8)
    add("unknown compression", tiff([page(GREY8, _coded(65535))]))
    add("1 bit", tiff([_packed(np.packbits(BITS, axis=1).tobytes(), 1)]))
    add("4 bits", tiff([_packed(_FOUR, 4)]))
    add("8 bits", tiff([page(GREY8)]), GREY8)
    own = page(GREY16, {258: (SHORT, 12)})
    own.parts = [_twelve(GREY16)]
    add("12 bits, packed", tiff([own]), GREY16 >> 4)
    for kind in ("u4", "i1", "i2", "i4", "f2", "f4", "f8"):
        pixels = (GREY16 // 600 - 40).astype(kind) if "i" in kind else GREY16.astype(kind)
        pixels = pixels / np.array(7, kind) if "f" in kind else pixels
        names = {"u": "unsigned", "i": "signed", "f": "float"}
        add(f"{int(kind[1]) * 8} bits, {names[kind[0]]}", tiff([page(pixels)]), pixels)
    add("palette", tiff([_palette()]))
    add("RGB", tiff([page(RGB)]), RGB)
    add("RGB, 16 bits", tiff([page(np.dstack(list(PLANES)))]), np.dstack(list(PLANES)))
    rgba = np.dstack([RGB, GREY8])
    add("RGBA", tiff([page(rgba, {338: (SHORT, 2)})]), RGB)
    add("CMYK", tiff([page(rgba, {262: (SHORT, 5)})]))
    add("min is white", tiff([page(GREY8, {262: (SHORT, 0)})]))
    add("YCbCr", tiff([page(RGB, {262: (SHORT, 6), 530: (SHORT, [1, 1])})]))
    wide = RGB[::2, ::2]
    blocks = np.dstack(
        [GREY8[0::2, 0::2], GREY8[0::2, 1::2], GREY8[1::2, 0::2], GREY8[1::2, 1::2], wide[:, :, 1:]]
    )
    own = page(RGB, {262: (SHORT, 6), 530: (SHORT, [2, 2])})
    own.parts = [blocks.tobytes()]
    add("YCbCr, 2 × 2", tiff([own]))
    add(
        "fill order 2",
        tiff(
            [_packed(np.packbits(BITS, axis=1, bitorder="little").tobytes(), 1, {266: (SHORT, 2)})]
        ),
    )
    add("orientation 3", tiff([page(GREY8, {274: (SHORT, 3)})]))
    for kind, (data, pixels) in of_tiff.items():
        ending = {"LSM": "lsm", "LSM, LZW": "lsm", "BigTIFF": "btf"}.get(kind, "tif")
        yield kind, Drawn(f"{kind}.{ending}", data, pixels)
    stack = of_tiff["MetaMorph stack"]
    yield "STK", Drawn("a.stk", *stack)
    yield "Flex", Drawn("a.flex", _flex(), GREY16)
    yield "PNG", Drawn("grey.png", _by_pillow(GREY8, "PNG"), GREY8)
    yield "PNG, interlaced", Drawn("woven.png", _interlaced(GREY8), GREY8)
    yield "PNG, 16 bits", Drawn("deep.png", _by_pillow(GREY16, "PNG"), GREY16)
    yield "PNG, 1 bit", Drawn("bits.png", _by_pillow(BITS, "PNG"))
    yield "PNG, colour", Drawn("colour.png", _by_pillow(RGB, "PNG"), RGB)
    with io.BytesIO() as file:
        Image.fromarray(RGB).quantize(16).save(file, "PNG")
        yield "PNG, palette", Drawn("palette.png", file.getvalue())
    with io.BytesIO() as file:
        Image.fromarray(RGB).quantize(200).save(file, "PNG")
        yield "PNG, palette of 8 bits", Drawn("colours.png", file.getvalue())
    yield (
        "PNG, bytes behind its end",
        Drawn("more.png", _by_pillow(GREY8, "PNG") + b"more" * 20, GREY8, 80),
    )
    yield "JPEG file", Drawn("a.jpg", _jpeg(SMOOTH))
    yield "JPEG file, progressive", Drawn("b.jpg", _jpeg(SMOOTH, progressive=True))
    yield "JPEG file, bytes behind its end", Drawn("c.jpg", _jpeg(SMOOTH) + b"more" * 20, behind=80)
    yield "BMP", Drawn("a.bmp", _bmp(), GREY8)
    yield "GIF", Drawn("a.gif", _by_pillow(GREY8, "GIF"))
    yield "Cellomics DIB", Drawn("a.dib", _dib(), GREY16)
    yield "Cellomics C01", Drawn("a.C01", _c01(), GREY16)
    yield "NumPy", Drawn("a.npy", _npy(), GREY16 / 7)
    yield "MATLAB", Drawn("a.mat", _mat(), (GREY16 / 65535))


def damaged() -> Iterator[tuple[str, Drawn]]:
    """Draw files that are damaged, but not cut off."""
    own = page(GREY16, rows=4)
    yield "chain that comes back", Drawn("circle.tif", tiff([own], How(last=8)), GREY16)
    whole = tiff([own])
    _, half = struct.unpack_from("<II", _entry(whole, 273), 4)
    table = list(struct.unpack_from("<6I", whole, half))
    for name, beyond in (
        ("half of the strips beyond the end", len(whole)),
        ("strips not written", 0),
    ):
        offsets = [*table[:3], *(beyond and at + beyond for at in table[3:])]
        data = whole[:half] + struct.pack("<6I", *offsets) + whole[half + 24 :]
        yield name, Drawn(f"{name}.tif", data, GREY16)
    yield "byte count of 0", Drawn("zero.tif", tiff([replace(page(GREY16), counts=[0])]), GREY16)


def _entry(data: bytes, code: int) -> bytes:
    """Give a tag's entry of a little-endian file's first directory, which stands at byte 8."""
    (count,) = struct.unpack_from("<H", data, 8)
    entries = [data[i : i + 12] for i in range(10, 10 + 12 * count, 12)]
    return next(entry for entry in entries if entry.startswith(struct.pack("<H", code)))


def cuts(drawn: Drawn) -> Iterator[tuple[str, bytes]]:
    """Give a file as copies leave it that were cut off."""
    data = drawn.data
    size = len(data) - drawn.behind
    for where, end in {
        "in its header": 6,
        "at 3 %": size * 3 // 100,
        "at half": size // 2,
        "at 80 %": size * 8 // 10,
        "at 99 %": size * 99 // 100,
        "last byte": size - 1,
    }.items():
        yield where, data[:end]
