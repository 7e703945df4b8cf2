from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from conftest import HOSTILE, ROOT, refused
from PIL import Image

from bpcp.check import faults, files, look
from bpcp.check.files import How, of_files
from bpcp.check.findings import Finding, Severity, bad_lines, exit_of
from bpcp.errors import Exit
from bpcp.imagelist import ImageList

PIXELS = np.random.default_rng(1).integers(100, 60000, (40, 32), dtype="uint16")
BYTES = (PIXELS >> 8).astype("uint8")
GREY = "minisblack"
STACK = np.stack([PIXELS, PIXELS // 2, PIXELS // 4])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / HOSTILE / "line\nbreak"
    found.mkdir(parents=True)
    return found


def listed(*rows: tuple[str, ...], channels: tuple[str, ...] = ("DNA",)) -> ImageList:
    header = tuple(f"FileName_{channel}" for channel in channels)
    return ImageList(header, rows, tuple(range(2, len(rows) + 2)))


def refuse(paths: Sequence[str]) -> dict[str, str]:
    """Answer as a CellProfiler that can't read the files either."""
    return dict.fromkeys(paths, "OSError: Could not load the file as an image")


REFUSED = How(ask=refuse)


def found(folder: Path, *names: str, how: How = REFUSED) -> list[Finding]:
    return of_files(listed(*((name,) for name in names)), folder, how)[0]


def tiff(path: Path, **how: object) -> bytes:
    tifffile.imwrite(path, how.pop("pixels", PIXELS), **how)
    return path.read_bytes()


def cut(path: Path, end: int) -> None:
    os.truncate(path, end if end >= 0 else path.stat().st_size + end)


def put(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def missing(path: Path) -> None:
    pass


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def empty(path: Path) -> None:
    path.touch()


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(2).bytes(5000))


def truncated(path: Path) -> None:
    tiff(path)
    cut(path, 1500)


def broken_strip(path: Path) -> None:
    tiff(path, compression="zlib")
    put(path, path.stat().st_size - 600, b"\xff" * 300)


def lost_page(path: Path) -> None:
    tiff(path, metadata=None)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        behind = page.offset + 2 + 12 * len(page.tags)
    put(path, behind, struct.pack("<I", 999_999))


def circle(path: Path) -> None:
    tiff(path, metadata=None)
    with tifffile.TiffFile(path) as tif:
        first = tif.pages.first
    put(path, first.offset + 2 + 12 * len(first.tags), struct.pack("<I", first.offset))


def zstandard(path: Path) -> None:
    Image.fromarray(PIXELS).save(path, compression="zstd")


def hole(path: Path) -> None:
    tiff(path)
    cut(path, 20480)


def flat(path: Path) -> None:
    tiff(path, pixels=np.full((40, 32), 7, "uint16"))


def no_file(path: Path) -> None:
    # says only its size, and so is not looked into
    path.with_suffix(".C01").write_bytes(b"Cellomics")


# For each code of one file: what makes it, whether it needs --deep, what is said.
FIRES: dict[str, tuple[Callable[[Path], object], bool, str]] = {
    "image-missing": (missing, False, "missing"),
    "image-dangling-link": (dangling, False, "a link to nowhere, which is not there"),
    "image-not-a-file": (Path.mkdir, False, "a folder"),
    "image-empty": (empty, False, "an empty file"),
    "image-unreadable-header": (random_bytes, False, "no TIFF file: it begins with b'"),
    "image-truncated": (truncated, False, "ends at byte 1,500; strip 1 of 1 goes to 2,816"),
    "image-decode-error": (broken_strip, True, "page 1 can't be decoded: "),
    "image-odd-header": (lost_page, False, "it names one more page, behind its end"),
    "image-directory-loop": (circle, False, "its directory 1 names the one at byte 8 as the next"),
    "image-unusual-format": (zstandard, False, "a TIFF of compression 50000 (Zstandard); Cell"),
    "image-hole": (hole, False, "16,384 of its bytes were never written, and read as zeros"),
    "image-flat": (flat, True, "all pixels have one value"),
}
# Those that have a test of their own.
ELSEWHERE = {
    "image-no-permission",
    "image-unreadable",
    "image-size-differs",
    "image-depth-differs",
    "image-set-size-differs",
    "image-not-checked",
    "image-not-verified",
}


@pytest.mark.parametrize("code", FIRES)
def test_fires_by_row_and_channel(folder: Path, code: str) -> None:
    make, deep, what = FIRES[code]
    tiff(folder / "good.tif")
    make(folder / "bad one.tif")
    if make is hole and (folder / "bad one.tif").stat().st_blocks * 512 >= 20480:
        pytest.skip("no holes in files on this disk")
    images = listed(
        ("good.tif", "good.tif"),
        ("bad one.tif", "good.tif"),
        ("good.tif", "bad one.tif"),
        channels=("DNA", "ER"),
    )
    (finding,), count = of_files(images, folder, How(deep=deep, ask=refuse))
    assert finding.code.name == code
    assert finding.place == str(folder / "bad one.tif")
    assert finding.what.startswith(f"DNA, ER: {what}")
    assert finding.lines == (3, 4)
    assert count == 2
    error = finding.code.severity is Severity.ERROR
    assert list(bad_lines([finding])) == ([3, 4] if error else [])


def test_every_code_fires() -> None:
    assert set(FIRES) | ELSEWHERE == {code.name for code in files.CODES}


def test_missing_files_alone_are_66(folder: Path) -> None:
    empty(folder / "empty.tif")
    assert exit_of(found(folder, "gone.tif")) is Exit.NO_INPUT
    assert exit_of(found(folder, "gone.tif", "empty.tif")) is Exit.MALFORMED_INPUT


def test_a_folder_that_is_not_there_is_one_finding(folder: Path) -> None:
    findings = found(folder, *(f"plate/{i}.tif" for i in range(50)), "other.tif")
    assert [(f.place, len(f.lines)) for f in findings] == [
        (str(folder / "other.tif"), 1),
        (str(folder / "plate"), 50),
    ]
    assert findings[1].what == "DNA: no such folder, for 50 files"


@pytest.mark.parametrize(("there", "asked"), [("A01.TIF", "a01.tif"), ("a b.tif", "a%20b.tif ")])
def test_a_name_that_is_nearly_there_is_told(folder: Path, there: str, asked: str) -> None:
    tiff(folder / there)
    (finding,) = found(folder, asked)
    assert finding.what == f"DNA: missing; there is {there!r}"


def test_a_name_that_no_file_can_have(folder: Path) -> None:
    tiff(folder / "a.tif")
    assert [f.code for f in found(folder, "a" * 300, "a.tif/b.tif")] == [files.MISSING] * 2
    assert look.look("a\0b").fault == faults.MISSING


def test_what_is_no_plain_file_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe.tif")
    (finding,) = found(folder, "pipe.tif")
    assert (finding.code, finding.what) == (files.NOT_A_FILE, "DNA: no plain file")


def test_a_link_that_leads_in_a_circle(folder: Path) -> None:
    (folder / "a.tif").symlink_to("a.tif")
    (finding,) = found(folder, "a.tif")
    assert finding.code is files.DANGLING


class Os:
    """The module os as `look` sees it, with functions of its own."""

    def __init__(self, **functions: object) -> None:
        self.__dict__.update(functions)

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


def failing(number: int) -> Callable[[str], object]:
    def stat(path: str) -> object:
        raise OSError(number, os.strerror(number), path)

    return stat


def test_no_permission(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiff(folder / "a.tif")
    monkeypatch.setattr(look, "os", Os(access=lambda *_: False))
    (finding,) = found(folder, "a.tif")
    assert (finding.code, finding.code.exit) == (files.NO_PERMISSION, Exit.NO_INPUT)
    monkeypatch.setattr(look, "os", Os(stat=failing(errno.EACCES)))
    assert look.look(str(folder / "a.tif")).said == "its folder may not be read"


def test_a_disk_that_gives_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiff(folder / "a.tif")
    monkeypatch.setattr(look, "os", Os(stat=failing(errno.EIO)))
    (finding,) = found(folder, "a.tif")
    assert finding.code is files.UNREADABLE
    assert finding.what == "DNA: can't be read: Input/output error"


def saved(path: Path, **how: object) -> None:
    Image.fromarray(BYTES).save(path, **how)


@pytest.mark.parametrize("deep", [False, True])
def test_good_files_of_all_kinds(folder: Path, deep: bool) -> None:
    kinds: dict[str, tuple[Callable[[Path], object], tuple[int, ...], str]] = {
        "plain.tif": (tiff, (40, 32, 1, 1), "uint16"),
        "big.tif": (lambda p: tiff(p, bigtiff=True), (40, 32, 1, 1), "uint16"),
        "motorola.tiff": (lambda p: tiff(p, byteorder=">"), (40, 32, 1, 1), "uint16"),
        "strips.tif": (lambda p: tiff(p, rowsperstrip=7), (40, 32, 1, 1), "uint16"),
        "tiles.tif": (lambda p: tiff(p, tile=(16, 16)), (40, 32, 1, 1), "uint16"),
        "zlib.tif": (lambda p: tiff(p, compression="zlib"), (40, 32, 1, 1), "uint16"),
        "lzw.TIF": (lambda p: saved(p, compression="tiff_lzw"), (40, 32, 1, 1), "uint8"),
        "pages.tif": (
            lambda p: tiff(p, pixels=STACK, metadata=None, photometric=GREY),
            (40, 32, 1, 3),
            "uint16",
        ),
        "ome.ome.tif": (
            lambda p: tiff(p, pixels=STACK, ome=True, photometric=GREY),
            (40, 32, 1, 3),
            "uint16",
        ),
        "imagej.tif": (lambda p: tiff(p, pixels=STACK, imagej=True), (40, 32, 1, 3), "uint16"),
        "colour.tif": (
            lambda p: tiff(p, pixels=np.dstack([BYTES] * 3), photometric="rgb"),
            (40, 32, 3, 1),
            "uint8",
        ),
        "planes.tif": (
            lambda p: tiff(
                p, pixels=np.stack([BYTES] * 3), photometric="rgb", planarconfig="separate"
            ),
            (40, 32, 3, 1),
            "uint8",
        ),
        "float.tif": (lambda p: tiff(p, pixels=PIXELS / np.float32(7)), (40, 32, 1, 1), "float32"),
        "bits.tif": (lambda p: Image.fromarray(BYTES > 90).save(p), (40, 32, 1, 1), "1-bit"),
        "a.png": (saved, (40, 32, 1, 1), "uint8"),
        "deep.png": (lambda p: Image.fromarray(PIXELS).save(p), (40, 32, 1, 1), "uint16"),
        "a.jpg": (saved, (40, 32, 1, 1), "uint8"),
        # CellProfiler reads by content what is called .jpg, and nothing else
        "tiff.jpg": (lambda p: saved(p, format="tiff"), (40, 32, 1, 1), "uint8"),
        "illum.npy": (lambda p: np.save(p, PIXELS / 7), (40, 32, 1, 1), "float64"),
    }
    for name, (make, size, depth) in kinds.items():
        make(folder / name)
        seen = look.look(str(folder / name), deep=deep)
        assert (seen.fault, seen.said, seen.size, seen.depth) == ("", "", size, depth), name
        assert (seen.flat, seen.warnings) == (False, ()), name


def sparse(path: Path) -> None:
    tiff(path, rowsperstrip=10)
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages.first.tags["StripOffsets"]
    put(path, tag.valueoffset + tag.valuebytecount // 2, b"\0" * (tag.valuebytecount // 2))


def fewer_bytes(path: Path) -> None:
    tiff(path)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages.first.tags["StripByteCounts"].valueoffset
    put(path, at, struct.pack("<I", 2000))


def no_bytes(path: Path) -> None:
    # CellProfiler reads only zeros
    tiff(path)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages.first.tags["StripByteCounts"].valueoffset
    put(path, at, bytes(4))


def fewer_strips(path: Path) -> None:
    # two strips, of an image that is said to be twice as high
    tiff(path, rowsperstrip=20)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages.first.tags["ImageLength"].valueoffset
    put(path, at, struct.pack("<H", 80))


def late_directory(path: Path) -> None:
    tiff(path)
    put(path, 4, struct.pack("<I", 2_000_000))


def shortened(make: Callable[[Path], object], by: float) -> Callable[[Path], None]:
    def made(path: Path) -> None:
        make(path)
        cut(path, int(path.stat().st_size * by))

    return made


def behind(number: int) -> Callable[[Path], None]:
    """Write three pages, and let the pixels of one lie behind the file's end."""

    def made(path: Path) -> None:
        tiff(path, pixels=STACK, metadata=None, photometric=GREY)
        with tifffile.TiffFile(path) as tif:
            at = tif.pages[number - 1].aspage().tags["StripOffsets"].valueoffset
        put(path, at, struct.pack("<I", path.stat().st_size - 100))

    return made


def as_imagej(path: Path) -> None:
    """Write three planes behind one directory, as ImageJ does with large stacks."""
    about = "ImageJ=1.54f\nimages=3\nslices=3\n"
    tiff(path, description=about, metadata=None)
    with path.open("ab") as file:
        file.write(STACK[1:].tobytes())


TRUNCATED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "last byte": ("a.tif", shortened(tiff, 0.9999), "strip 1 of 1"),
    "header": ("a.tif", lambda p: p.write_bytes(b"II*\0\x08"), "within its header"),
    "directory": ("a.tif", late_directory, "before its directory at 2,000,000"),
    "tiles": (
        "a.tif",
        shortened(lambda p: tiff(p, tile=(16, 16)), 0.6),
        "tile 4 of 6 goes to",
    ),
    "zlib": (
        "a.tif",
        shortened(lambda p: tiff(p, compression="zlib", rowsperstrip=10), 0.6),
        "strip 3 of 4",
    ),
    "bigtiff": ("a.tif", shortened(lambda p: tiff(p, bigtiff=True), 0.5), "strip 1 of 1"),
    "page 2": (
        "a.tif",
        shortened(lambda p: tiff(p, pixels=STACK, metadata=None, photometric=GREY), 0.7),
        "before its page 2",
    ),
    "pixels of page 3": ("a.tif", behind(3), "strip 1 of 1 of page 3 goes to"),
    "imagej": ("a.tif", shortened(as_imagej, 0.8), "the last of its 3 planes"),
    "never written": ("a.tif", sparse, "strip 3 of 4 was never written"),
    "byte count of 0": ("a.tif", no_bytes, "strip 1 of 1 was never written"),
    "byte counts": ("a.tif", fewer_bytes, "holds 2,000 of the 2,560 bytes"),
    "strips": ("a.tif", fewer_strips, "has 2 of the 4 strips"),
    "png": ("a.png", shortened(saved, 0.5), "its chunk IDAT goes to"),
    "jpeg": ("a.jpg", shortened(saved, 0.7), "before the JPEG's end"),
    "npy": ("a.npy", shortened(lambda p: np.save(p, PIXELS), 0.9), "its values go to"),
}


@pytest.mark.parametrize("case", TRUNCATED)
def test_truncated(folder: Path, case: str) -> None:
    name, make, what = TRUNCATED[case]
    make(folder / name)
    (finding,) = found(folder, name)
    assert finding.code is files.TRUNCATED
    assert what in finding.what


def test_imagej_planes_behind_one_directory_are_good(folder: Path) -> None:
    as_imagej(folder / "a.tif")
    assert look.look(str(folder / "a.tif")).size == (40, 32, 1, 3)


def test_metamorph_writes_single_planes_without_uic2tag(folder: Path) -> None:
    tiff(folder / "a.tif", extratags=[(33628, "I", 2, (0, 1), True)])
    assert look.look(str(folder / "a.tif")) == faults.Looked(
        kind="TIFF", size=(40, 32, 1, 1), depth="uint16"
    )


@pytest.mark.parametrize("pages", [1, 3])
def test_every_cut_of_a_tiff_is_seen(folder: Path, pages: int) -> None:
    whole = tiff(folder / "a.tif", pixels=STACK[:pages], metadata=None, photometric=GREY)
    with tifffile.TiffFile(folder / "a.tif") as tif:
        last = tif.pages[pages - 1].aspage()
        needed = max(last.dataoffsets[0] + last.databytecounts[0], last.offset + 12 * 10)
    for end in [*range(1, needed, 37), needed - 1]:
        (folder / "a.tif").write_bytes(whole[:end])
        seen = look.look(str(folder / "a.tif"))
        assert seen.fault in (faults.TRUNCATED, faults.BAD_HEADER) or seen.warnings, end


BAD_HEADERS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "page of an error": ("a.tif", lambda p: p.write_bytes(b"<?xml version"), "b'<?xml vers'"),
    "png": ("a.tif", lambda p: saved(p, format="png"), "no TIFF file: a PNG"),
    "tiff": ("a.png", tiff, "no PNG file: a TIFF"),
    "no ending": ("a", lambda p: saved(p, format="tiff"), "does not end in .tif"),
    "no image": ("a.tif", lambda p: p.write_bytes(b"II*\0\0\0\0\0\0\0"), "no image in it"),
    "garbage": (
        "a.tif",
        lambda p: p.write_bytes(b"II*\0\x08\0\0\0" + b"\xab" * 900),
        "43,947 tags",
    ),
    "png garbage": (
        "a.png",
        lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\xab" * 900),
        "its PNG header can't be read",
    ),
    "npy garbage": (
        "a.npy",
        lambda p: p.write_bytes(b"\x93NUMPY\x01\x00\x10\x00" + b"x" * 90),
        "its NumPy header can't be read",
    ),
    "npy objects": ("a.npy", lambda p: np.save(p, np.array([{}])), "Python objects"),
}


class Reader:
    """Stands in for CellProfiler's reader, and notes what it is asked."""

    def __init__(self, answer: Mapping[str, str] | None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __call__(self, paths: Sequence[str]) -> Mapping[str, str] | None:
        self.asked += paths
        return self.answer


def test_cellprofiler_decides_on_one_file_of_each_kind(folder: Path) -> None:
    for i in range(3):
        saved(folder / f"{i}.tif", format="png")
        tiff(folder / f"{i}.png")
    first, other = str(folder / "0.tif"), str(folder / "0.png")
    reader = Reader({first: "OSError: no image"})
    names = [f"{i}.{ending}" for ending in ("tif", "png") for i in range(3)]
    findings = found(folder, *names, how=How(ask=reader))
    assert reader.asked == [first, other]
    assert [(f.code.name, f.lines) for f in findings] == [
        ("image-unreadable-header", (2,)),
        ("image-unreadable-header", (3,)),
        ("image-unreadable-header", (4,)),
        ("image-not-verified", (5, 6, 7)),
    ]
    assert "no TIFF file: a PNG; CellProfiler: OSError: no image" in findings[0].what
    assert f"CellProfiler can't read {first!r} either" in findings[1].what
    assert findings[3].place == f"{other} and 2 more"
    assert "CellProfiler reads the first of them" in findings[3].what
    assert list(bad_lines(findings)) == [2, 3, 4]


@pytest.mark.parametrize("ask", [None, Reader(None)])
def test_what_no_reader_was_asked_about_is_a_warning(
    folder: Path, ask: Reader | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiff(folder / "a.tif")

    def stumble(*_: object) -> None:
        raise KeyError("UIC2tag")

    monkeypatch.setattr(look, "walk", stumble)
    (finding,) = found(folder, "a.tif", how=How(ask=ask))
    assert (finding.code, bad_lines([finding])) == (files.NOT_VERIFIED, {})
    assert "'UIC2tag'; CellProfiler was not asked" in finding.what


def test_more_kinds_than_can_be_asked_about_are_warnings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_KINDS", 1)
    tiff(folder / "a.png")
    saved(folder / "a.tif", format="png")
    refused, unasked = found(folder, "a.png", "a.tif")
    assert (refused.code, unasked.code) == (files.BAD_HEADER, files.NOT_VERIFIED)
    assert "CellProfiler was not asked" in unasked.what


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_unreadable_headers(folder: Path, case: str) -> None:
    name, make, what = BAD_HEADERS[case]
    make(folder / name)
    (finding,) = found(folder, name)
    assert finding.code is files.BAD_HEADER
    assert what in finding.what


def test_a_description_behind_the_end_is_odd(folder: Path) -> None:
    # tifffile writes OME's behind the pixels
    tiff(folder / "a.ome.tif", pixels=STACK, ome=True, photometric=GREY, contiguous=False)
    cut(folder / "a.ome.tif", -50)
    (finding,) = found(folder, "a.ome.tif")
    assert (finding.code, finding.what) == (
        files.ODD_HEADER,
        "DNA: its tag 270 lies behind its end",
    )


def test_what_a_camera_writes_everywhere_is_said_once(folder: Path) -> None:
    names = [f"{i}.tif" for i in range(21)]
    for name in names:
        lost_page(folder / name)
    (finding,) = found(folder, *names)
    assert (finding.code, finding.place) == (files.ODD_HEADER, "21 files")
    assert finding.lines == tuple(range(2, 23))
    assert len(found(folder, *names[:20])) == 20


def test_odd_files_that_are_whole_are_no_errors(folder: Path) -> None:
    # without the last chunk, which holds nothing; CellProfiler reads it
    saved(folder / "a.png")
    cut(folder / "a.png", -12)
    # a byte count that goes over the last row, as some writers have it
    tiff(folder / "a.tif")
    with tifffile.TiffFile(folder / "a.tif") as tif:
        at = tif.pages.first.tags["StripByteCounts"].valueoffset
    put(folder / "a.tif", at, struct.pack("<I", 2600))
    # other bytes stand behind its end
    saved(folder / "b.jpg")
    with (folder / "b.jpg").open("ab") as file:
        file.write(b"more" * 20)
    missing = ("its end mark is missing",)
    odd = {"a.png": missing, "a.tif": (), "b.jpg": ()}
    for name, warnings in odd.items():
        seen = look.look(str(folder / name))
        assert seen == look.look(str(folder / name), deep=True)
        assert (seen.fault, seen.warnings) == ("", warnings), name


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy"])
def test_deep_decodes(folder: Path, name: str) -> None:
    path = folder / name
    if name == "a.npy":
        np.save(path, np.zeros((4, 4)))
        assert look.look(str(path), deep=True).flat
    elif name == "a.png":
        saved(path)
        put(path, path.stat().st_size // 2, b"\0" * 40)
        assert look.look(str(path), deep=True).fault == faults.DECODE
    else:
        saved(path, compression="tiff_lzw")
        put(path, 100, b"\xff" * 200)
        assert look.look(str(path), deep=True).fault in (faults.DECODE, faults.TRUNCATED)
    assert not look.look(str(path)).flat


def test_sizes_are_compared_within_a_channel(folder: Path) -> None:
    tiff(folder / "a.tif")
    tiff(folder / "odd.tif", pixels=PIXELS[:30])
    tiff(folder / "stack.tif", pixels=STACK, metadata=None, photometric=GREY)
    tiff(folder / "colour.tif", pixels=np.dstack([PIXELS] * 3), photometric="rgb")
    names = ("a.tif", "odd.tif", "a.tif", "stack.tif", "colour.tif", "odd.tif", "a.tif")
    findings = found(folder, *names)
    assert [(f.code, f.place.rpartition("/")[2], f.lines, f.what) for f in findings] == [
        (
            files.SIZE,
            "DNA",
            (3, 7),
            "DNA: 30 × 32 pixels, and 40 × 32 pixels in 3 image sets",
        ),
        (
            files.SIZE,
            "stack.tif",
            (5,),
            "DNA: 40 × 32 pixels, 3 pages, and 40 × 32 pixels in 3 image sets",
        ),
        (
            files.SIZE,
            "colour.tif",
            (6,),
            "DNA: 40 × 32 pixels of 3 colours, and 40 × 32 pixels in 3 image sets",
        ),
    ]
    # legal, and so it never stops a run
    assert exit_of(findings) is Exit.OK
    assert found(folder, *names, how=How(compare=False)) == []


def test_depths_are_compared_within_a_channel(folder: Path) -> None:
    tiff(folder / "a.tif")
    tiff(folder / "byte.tif", pixels=BYTES)
    (finding,) = found(folder, "a.tif", "byte.tif", "a.tif")
    assert (finding.code, finding.lines) == (files.DEPTH, (3,))
    assert finding.what == "DNA: uint8, and uint16 in 2 image sets"


def test_sizes_of_one_image_set(folder: Path) -> None:
    tiff(folder / "a.tif")
    tiff(folder / "small.tif", pixels=PIXELS[:20, :16])
    rows = [("a.tif", "small.tif")] * 3
    (finding,), _ = of_files(listed(*rows, channels=("DNA", "ER")), folder)
    assert (finding.code, finding.place) == (files.SET_SIZE, "all 3 image sets")
    assert finding.what == "DNA 40 × 32, ER 20 × 16"
    # an image that differs within its channel is not named again
    rows = [("a.tif", "a.tif"), ("a.tif", "small.tif"), ("a.tif", "a.tif")]
    findings, _ = of_files(listed(*rows, channels=("DNA", "ER")), folder)
    assert [f.code for f in findings] == [files.SIZE]


def test_what_is_not_looked_into_is_counted(folder: Path) -> None:
    for name in ("a.C01", "b.C01", "plain"):
        (folder / name).write_bytes(b"something")
    names = ("a.C01", "b.C01", "plain", "s3://bucket/a.tif", "https://host/a.tif")
    findings = found(folder, *names, how=How(listed={"s3://bucket/a.tif": (5, 0, "")}))
    assert {f.code for f in findings} == {files.NOT_CHECKED}
    assert [f.what for f in findings] == [
        "1 file in a bucket: not looked into",
        "1 file reached by a URL: not looked into",
        "2 files called *.C01: not looked into",
        "1 file whose names have no ending: not looked into",
    ]


def test_files_in_a_bucket_are_there_or_not(folder: Path) -> None:
    tiff(folder / "here.tif")
    whole, nothing = str(folder / "whole.tif"), str(folder / "nothing.tif")
    how = How(listed={whole: (5, 0, ""), nothing: (0, 0, "")}, in_bucket=lambda _: True)
    findings = found(folder, "here.tif", "whole.tif", "nothing.tif", "gone.tif", how=how)
    assert [(f.code, f.lines) for f in findings] == [
        (files.EMPTY, (4,)),
        (files.MISSING, (5,)),
        (files.NOT_CHECKED, ()),
    ]
    assert findings[1].what == "DNA: not in the bucket"


def test_processes_give_what_one_gives(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for i in range(80):
        names.append(f"{i}.tif")
        tiff(folder / names[-1], pixels=PIXELS[: 40 - i % 3])
    truncated(folder / "41.tif")
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(files, "_ALONE", 10)
    many = found(folder, *names, how=How(workers=2, told=lambda *n: told.append(n)))
    assert many == found(folder, *names, how=How(workers=1))
    assert [f.lines for f in many if f.code is files.TRUNCATED] == [(43,)]
    assert told == [(64, 80), (80, 80)]


def _die(names: list[str], *, deep: bool) -> list[faults.Looked]:
    os.kill(os.getpid(), 9)
    return []


def test_a_process_that_is_killed_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_ALONE", 10)
    monkeypatch.setattr(files, "_look_at_batch", _die)
    names = [f"{i}.tif" for i in range(200)]
    refused(Exit.STOPPED, "was killed", partial(found, how=How(workers=2)), folder, *names)


def test_processes_end_with_their_parent() -> None:
    text = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from bpcp.check import files
pool = ProcessPoolExecutor(
    1, mp_context=multiprocessing.get_context("spawn"), initializer=files._ready
)
print(pool.submit(os.getpid).result(), flush=True)
pool.submit(time.sleep, 60).result()
"""
    command = [sys.executable, "-c", text]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        worker.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert worker.is_running()
        parent.kill()
        parent.wait()
        # gone, or not yet fetched by whoever fetches orphans
        until = time.monotonic() + 20
        while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_random_bytes_behind_good_magic_never_end_a_check(folder: Path) -> None:
    random = np.random.default_rng(3)
    sources = {
        "a.tif": tiff(folder / "a.tif"),
        "b.tif": tiff(folder / "b.tif", compression="zlib", rowsperstrip=10),
    }
    for name in ("a.png", "a.jpg"):
        saved(folder / name)
        sources[name] = (folder / name).read_bytes()
    np.save(folder / "a.npy", PIXELS)
    sources["a.npy"] = (folder / "a.npy").read_bytes()
    for name, data in sources.items():
        for _ in range(40):
            broken = bytearray(data)
            for at in random.integers(4, min(len(data), 400), 6):
                broken[at] = random.integers(256)
            (folder / name).write_bytes(broken)
            seen = look.look(str(folder / name), deep=bool(random.integers(2)))
            assert bool(seen.fault) == bool(seen.said)


@pytest.mark.parametrize("code", files.CODES, ids=lambda code: code.name)
def test_what_stops_a_run_stops_an_image_set(code: files.Code) -> None:
    assert code.name.startswith("image-")
    assert code.by_image_set == (code.severity is Severity.ERROR)


def test_what_tifffile_logs_stays_off_the_terminal(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lost_page(folder / "a.tif")
    look.look(str(folder / "a.tif"))
    assert capfd.readouterr() == ("", "")
