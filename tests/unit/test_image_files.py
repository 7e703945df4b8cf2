"""Image files of many kinds and makers, as bpcp's own look at them goes; see tests/images."""

from __future__ import annotations

import resource
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from drawn import GREY16, Drawn, cuts, damaged, kinds, page
from tiffs import How, tiff

from bpcp import engine
from bpcp.check import faults, raster
from bpcp.check.faults import Looked
from bpcp.check.look import look

DRAWN = dict(kinds())
# seconds that a look at one file may take, on a busy machine
MOST_S = 2


@contextmanager
def little_memory() -> Iterator[None]:
    """Let this process take 500 MB more than it has, and no more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (500 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def seen(path: Path, data: bytes) -> Looked:
    path.write_bytes(data)
    start = time.monotonic()
    found = look(str(path))
    assert time.monotonic() - start < MOST_S, path
    return found


@pytest.mark.parametrize("kind", DRAWN)
def test_whole_files_and_their_cuts(tmp_path: Path, kind: str) -> None:
    drawn = DRAWN[kind]
    found = seen(tmp_path / drawn.name, drawn.data)
    assert found.fault in ("", faults.UNUSUAL if found.unusual else "")
    if drawn.pixels is not None and found.size:
        assert found.size[:2] == drawn.pixels.shape[:2]
    for where, data in cuts(drawn):
        cut = seen(tmp_path / drawn.name, data)
        assert cut.fault or cut.warnings, where


def test_damaged_files(tmp_path: Path) -> None:
    for kind, drawn in damaged():
        found = seen(tmp_path / drawn.name, drawn.data)
        assert found.fault == (faults.LOOP if "chain" in kind else faults.TRUNCATED), kind
        assert found.certain


def test_a_chain_that_comes_back_later(tmp_path: Path) -> None:
    pages = [page(GREY16)] * 3
    at = tiff(pages).rindex(struct.pack("<HHI", 256, 3, 1)) - 2
    found = seen(tmp_path / "a.tif", tiff(pages, How(last=at)))
    assert (found.fault, found.said[:30]) == (faults.LOOP, "its directory 3 names the one ")


def test_the_smallest_file_that_leads_in_a_circle(tmp_path: Path) -> None:
    tags = [
        (256, 8),
        (257, 8),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 122),
        (277, 1),
        (278, 8),
        (279, 16),
    ]
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8) + bytes(16)
    assert seen(tmp_path / "a.tif", data).certain


def test_many_pages_take_seconds_and_no_memory(tmp_path: Path) -> None:
    tags = [(256, 1), (257, 1), (258, 8), (273, 8), (279, 1)]
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags)
    size, count = 2 + len(entries) + 4, 20_000
    data = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number in range(count):
        after = 8 + size * (number + 1) if number + 1 < count else 0
        data += struct.pack("<H", len(tags)) + entries + struct.pack("<I", after)
    with little_memory():
        assert seen(tmp_path / "a.tif", bytes(data)).size == (1, 1, 1, count)


def test_directories_that_share_a_large_table_are_given_up(tmp_path: Path) -> None:
    # each of 2,000 pages names the same 400,000 strips
    count, strips = 2000, 400_000
    tags = [(256, 1), (257, strips), (258, 8), (278, 1), (273, 0), (279, 0)]
    size = 2 + 12 * len(tags) + 4
    table = 8 + size * count
    data = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number in range(count):
        data += struct.pack("<H", len(tags))
        for code, value in tags:
            entry = (code, 4, strips, table) if code in (273, 279) else (code, 4, 1, value)
            data += struct.pack("<HHII", *entry)
        data += struct.pack("<I", 8 + size * (number + 1) if number + 1 < count else 0)
    data += struct.pack("<I", 1) * strips
    found = seen(tmp_path / "a.tif", bytes(data))
    assert (found.fault, found.said) == (faults.BAD_HEADER, "its directories lie over one another")


def test_a_reader_that_gives_no_answer_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = tmp_path / "cellprofiler"
    endless.write_text("#!/bin/sh\nexec sleep 60\n")
    endless.chmod(0o755)
    monkeypatch.setenv("BPCP_CELLPROFILER", str(endless))
    monkeypatch.setattr(engine, "_START_S", 0.1)
    monkeypatch.setattr(engine, "_READ_S", 0.1)
    assert engine.unreadable([str(tmp_path / "a.tif")]) is None


def test_what_unpacks_without_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster, "_MOST_INFLATED", 3 << 20)
    data = struct.pack(">I", 16) + zlib.compress(bytes(9 << 20))
    found = seen(tmp_path / "a.C01", data)
    assert (found.fault, found.said) == (
        faults.BAD_HEADER,
        "holds more than 3,145,728 bytes of pixels",
    )


def mutated(drawn: Drawn, random: np.random.Generator, count: int) -> Iterator[bytes]:
    """Change bytes near a file's start, where headers are, and some anywhere."""
    for _ in range(count):
        data = bytearray(drawn.data)
        reach = 400 if random.random() < 0.8 else len(data)
        for at in random.integers(0, min(reach, len(data)), random.integers(1, 5)):
            # counts and offsets in the billions, among others
            data[at] = random.choice([0, 1, 0xFF, 0x7F, 0x80, int(random.integers(256))])
        yield bytes(data)


def test_no_change_of_a_header_hangs_or_takes_all_memory(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    known = {
        "",
        *(getattr(faults, name) for name in dir(faults) if name.isupper() and name != "UNSURE"),
    }
    with little_memory():
        for drawn in DRAWN.values():
            for data in mutated(drawn, random, 20):
                found = seen(tmp_path / drawn.name, data)
                assert found.fault in known
                assert "MemoryError" not in found.said
                assert found.said or not found.fault
