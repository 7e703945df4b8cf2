from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import Screen, refused

from bpcp.cellprofiler import Job
from bpcp.errors import Exit
from bpcp.profile import __main__ as profile
from bpcp.profile import massif
from bpcp.profile.massif import Site, as_text, read

# ms_print 3.19 on CellProfiler 4.2.8.1 and one image set of the demo; snapshots before the last
# few and branches deeper than four are left out.
RECORDED = (Path(__file__).parent / "recorded" / "ms_print.txt").read_text()


def test_the_peak_and_who_allocated_it() -> None:
    found = read(RECORDED)
    assert found.command.startswith("/opt/cellprofiler/bin/cellprofiler -c -r -p ")
    assert found.peak_mb == pytest.approx(84_223_888 / 1024**2)
    assert found.useful_mb == pytest.approx(82_183_746 / 1024**2)
    first, second, third = found.sites[:3]
    # of one function at two lines only one is told
    assert first == Site(
        pytest.approx(35_425_077 / 1024**2),
        42.06,
        "_PyObject_Malloc (obmalloc.c:2003)",
        "_PyObject_Malloc (obmalloc.c:2003)",
    )
    assert second.inner == "???"
    assert third.inner == "default_malloc (_multiarray_umath.cpython-311-x86_64-linux-gnu.so)"
    assert third.outer.startswith("PyArray_NewFromDescr_int (_multiarray_umath.")
    sizes = [s.mb for s in found.sites]
    assert sizes == sorted(sizes, reverse=True)
    assert not any(s.inner.startswith("in ") for s in found.sites)
    assert len(read(RECORDED, at_most=2).sites) == 2


def test_words() -> None:
    assert as_text([read(RECORDED, at_most=1)]) == (
        "     80.3 MB  /opt/cellprofiler/bin/cellprofiler -c -r -p"
        " /data/demo/pipelines/demo.cppipe --d\n"
        "     33.8 MB   42.1 %  _PyObject_Malloc (obmalloc.c:2003)\n"
    )
    assert "  ← PyArray_NewFromDescr_int" in as_text([read(RECORDED)])


def test_a_caller_is_followed_while_it_is_behind_nearly_all() -> None:
    text = """Command:            x
 Detailed snapshots: [1 (peak)]
  1        1        1,000,000        900,000       100,000            0
90.00% (900,000B) (heap allocation functions) malloc/new/new[], --alloc-fns, etc.
->60.00% (600,000B) 0x1: alloc (a.c:1)
| ->58.00% (580,000B) 0x2: middle (a.c:2)
|   ->57.00% (570,000B) 0x3: outer (a.c:3)
|   | ->30.00% (300,000B) 0x4: left (a.c:4)
|   | ->27.00% (270,000B) 0x5: right (a.c:5)
->30.00% (300,000B) 0x6: other (b.c:1)
  ->15.00% (150,000B) 0x7: half (b.c:2)
"""
    first, second = read(text).sites
    assert (first.inner, first.outer) == ("alloc (a.c:1)", "outer (a.c:3)")
    assert (second.inner, second.outer) == ("other (b.c:1)", "other (b.c:1)")


@pytest.mark.parametrize(
    "text", ["", RECORDED.replace(" (peak)", ""), RECORDED.replace("\n 63 ", "\n 60 ")]
)
def test_what_is_no_report(text: str) -> None:
    refused(Exit.MALFORMED_INPUT, "ms_print", read, text)


def test_without_valgrind(screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    screen.fill(1)
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused(
        Exit.UNAVAILABLE, "valgrind is missing", profile.main, screen.arguments("--massif")
    )
    assert "valgrind" in error.todo


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put a valgrind in place that only starts what it is given, and an ms_print that knows one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    valgrind = folder / "valgrind"
    valgrind.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "words = sys.argv[1:]\n"
        "assert words[:2] == ['--tool=massif', '--trace-children=yes'], words\n"
        "out = words[2].removeprefix('--massif-out-file=')\n"
        "out = out.replace('%p', str(os.getpid())).replace('%%', '%')\n"
        "open(out, 'w').write('massif')\n"
        "print('valgrind was here', file=open(words[3].removeprefix('--log-file='), 'w'))\n"
        "os.execvp(words[4], words[4:])\n"
    )
    printer = folder / "ms_print"
    printer.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "if pathlib.Path(sys.argv[1]).read_text() != 'massif': sys.exit('no massif file')\n"
        f"print(pathlib.Path({str(Path(__file__).parent / 'recorded' / 'ms_print.txt')!r})"
        ".read_text(), end='')\n"
    )
    for program in (valgrind, printer):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_one_image_set_the_smallest(
    quick: Path, screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    assert profile.main(screen.arguments("--massif")) == 0
    assert screen.ran() == [["f1.tif"]]
    kept = screen.workspace.profile.with_suffix(".massif.txt")
    assert kept.read_text() == RECORDED
    said = capsys.readouterr()
    assert "80.3 MB  /opt/cellprofiler" in said.out and str(kept) in said.out
    assert "one image set under valgrind, 10 to 500 times slower than by itself …" in said.err
    assert list(screen.workspace.attempts.iterdir()) == []
    assert not screen.workspace.profile.exists()


def test_a_profile_tells_how_long_it_may_take(
    quick: Path, screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(2)
    profile.main(screen.arguments("-P", "1"))
    capsys.readouterr()
    assert profile.main(screen.arguments("--massif", "--json")) == 0
    said = capsys.readouterr()
    assert "slower than by itself: " in said.err and " to " in said.err
    assert json.loads(said.out)[0]["sites"][0]["share"] == 42.06


def test_cellprofiler_that_fails_under_it(
    quick: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(2)
    monkeypatch.setenv("FAKE_MODE", "exception")
    error = refused(Exit.UNAVAILABLE, "under valgrind", profile.main, screen.arguments("--massif"))
    log = Path(error.todo.removeprefix("see "))
    assert "ValueError" in log.read_text()
    assert list(screen.workspace.attempts.iterdir()) == []


def test_a_process_without_a_peak_is_passed_over(
    quick: Path, screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(1)
    printer = quick / "ms_print"
    printer.write_text(f"#!{sys.executable}\nprint('Command:            uname')\n")
    assert profile.main(screen.arguments("--massif")) == 0
    assert capsys.readouterr().out.startswith("all of it: ")


def test_what_ms_print_can_not_read(quick: Path, tmp_path: Path) -> None:
    broken = tmp_path / "massif.1.out"
    broken.write_text("half")
    refused(Exit.UNAVAILABLE, "no massif file", massif.print_out, broken)


@pytest.mark.slow
def test_the_real_valgrind(tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    folder = tmp_path / "100 % of it"
    folder.mkdir()
    done = folder / "done"
    program = tmp_path / "program"
    program.write_text(
        f"#!/bin/sh\nhead -c 3000000 /dev/zero | sort -o /dev/null\necho Complete > '{done}'\n"
    )
    program.chmod(0o755)
    job = Job(folder, folder, 1, 1, folder, folder, done)
    files = massif.run(job, [str(program)], folder, tmp_path / "log")
    found = [read(massif.print_out(path)) for path in files]
    largest = max(found, key=lambda s: s.peak_mb)
    assert largest.command.startswith("sort") or "/sort" in largest.command
    assert largest.peak_mb > 1
