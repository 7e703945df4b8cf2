"""Image files of many kinds: what CellProfiler's own reader does with them, and what bpcp says.

No error about a file that CellProfiler reads, and no file that was cut off goes through unnamed.
The table is printed: pytest -m long -s tests/e2e/test_image_files.py
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, cellprofiler
from drawn import Drawn, cuts, damaged, kinds
from numpy.typing import NDArray

from bpcp import engine
from bpcp.cellprofiler import environment
from bpcp.check.files import How, of_files
from bpcp.check.findings import Severity
from bpcp.imagelist import ImageList

pytestmark = [pytest.mark.slow, pytest.mark.long]

WHOLE, DAMAGED, HOLE = "whole", "damaged", "its end a hole"
# Cut at all places; the others at some, to save time.
ALL_CUTS = {
    "little-endian", "directory last", "BigTIFF", "strips", "pages, directories last", "OME-TIFF",
    "MetaMorph stack", "PNG", "JPEG file", "Cellomics C01",
}  # fmt: skip
SOME_CUTS = {"at half", "last byte"}
# Of this, CellProfiler's reader gave no answer in 75 s.
ENDLESS = "chain that comes back"
# What tells how values are scaled.
SCALES = {"u1": 255, "u2": 65535, "u4": 2**32, "i1": 255, "i2": 65535, "i4": 2**32 - 1}
# What these findings say does not depend on a file alone.
_OF_OTHERS = ("image-size-differs", "image-depth-differs", "image-not-checked")


@dataclass(frozen=True)
class Case:
    """A file, and how it came about."""

    kind: str
    what: str
    name: str
    drawn: Drawn


def draw(folder: Path) -> list[Case]:
    found: list[Case] = []

    def put(kind: str, what: str, drawn: Drawn, data: bytes, hole: int = 0) -> None:
        name = f"{len(found):03} {drawn.name}"
        (folder / name).write_bytes(data)
        if hole:
            os.truncate(folder / name, hole)
            if (folder / name).stat().st_blocks * 512 >= hole:
                # a disk that has no holes
                return
        found.append(Case(kind, what, name, drawn))

    for kind, drawn in kinds():
        put(kind, WHOLE, drawn, drawn.data)
        for where, data in cuts(drawn):
            if kind in ALL_CUTS or where in SOME_CUTS:
                put(kind, where, drawn, data)
        if kind == "large":
            size = len(drawn.data)
            put(kind, HOLE, drawn, drawn.data[: size // 2], size)
    for kind, drawn in damaged():
        put(kind, DAMAGED, drawn, drawn.data)
    return found


def read(folder: Path, cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """Let CellProfiler's reader read files, all in one process."""
    names = [case.name for case in cases if case.kind != ENDLESS]
    done = subprocess.run(
        [Path(cellprofiler()).with_name("python"), ROOT / "tests/e2e/read_images.py", folder],
        input="".join(f"{name}\n" for name in names), env=environment(),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    answers = map(json.loads, done.stdout.splitlines())
    found = {answer["name"]: answer for answer in answers}
    assert list(found) == names, done.stderr[-2000:]
    return found


def values(answer: dict[str, Any]) -> NDArray[Any]:
    raw = np.frombuffer(base64.b64decode(answer["values"]), "<f4")
    return raw.reshape(answer["shape"])


def is_right(answer: dict[str, Any], drawn: Drawn) -> bool:
    pixels = drawn.pixels
    if pixels is None:
        return True
    wanted = pixels / SCALES.get(pixels.dtype.str[1:], 1)
    given = values(answer)
    return given.shape == wanted.shape and np.allclose(given, wanted, rtol=2e-6, atol=2e-6)


def said(folder: Path, cases: Sequence[Case]) -> dict[str, tuple[str, str]]:
    """Give what bpcp's check says of each file: how bad, and in words."""
    header = ("FileName_DNA", "PathName_DNA")
    rows = tuple((case.name, str(folder)) for case in cases)
    images = ImageList(header, rows, tuple(range(len(rows))))
    findings, _ = of_files(images, folder, How(ask=engine.unreadable))
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for finding in findings:
        if finding.code.name not in _OF_OTHERS:
            for line in finding.lines:
                words = f"{finding.code.name}: {finding.what.removeprefix('DNA: ')}"
                found[cases[line].name].append((finding.code.severity.name.lower(), words))
    worst = sorted(Severity, reverse=True)
    return {
        name: max(all_of, key=lambda one: -worst.index(Severity[one[0].upper()]))
        for name, all_of in found.items()
    }


def faults(case: Case, does: str, severity: str) -> Iterator[str]:
    """Say what is wrong with what bpcp says of a file, by what CellProfiler does with it."""
    if case.what == WHOLE:
        if does == "other values":
            yield "CellProfiler does not read what was drawn"
        if does == "reads" and severity == "error":
            yield "an error of a file that CellProfiler reads"
        if does == "fails" and not severity:
            yield "nothing of a file that CellProfiler can't read"
    elif not severity:
        yield "a file that was cut off goes through"
    elif does == "other values" and severity != "error" and case.what != HOLE:
        yield "only a warning where CellProfiler reads other values"


def test_no_wrong_error_and_no_truncated_file_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "größe & 'q'"
    folder.mkdir()
    cases = draw(folder)
    answers, words = read(folder, cases), said(folder, cases)
    lines, wrong = [], []
    whole = {c.kind: answers[c.name].get("values") for c in cases if c.what == WHOLE}
    for case in cases:
        answer = answers.get(case.name, {})
        if not answer:
            does = "not asked"
        elif "error" in answer:
            does = "fails"
        elif case.what in (WHOLE, DAMAGED):
            does = "reads" if is_right(answer, case.drawn) else "other values"
        else:
            does = "reads" if answer["values"] == whole[case.kind] else "other values"
        severity, what = words.get(case.name, ("", ""))
        lines.append(f"{case.kind:36} {case.what:14} {does:12} {severity or 'good':8} {what}")
        wrong += [f"{fault}: {lines[-1]}" for fault in faults(case, does, severity)]
    print("kind, file, CellProfiler's reader, bpcp", *lines, sep="\n")
    assert not wrong, "\n".join(wrong)
