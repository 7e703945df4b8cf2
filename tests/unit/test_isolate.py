"""Chunks that fail are cut down; what is left has a kind and a reason."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import EXPORT, IDENTIFY, PROJECT, ROOT, Screen, load_data

from bpcp import staging
from bpcp.chunk import admission, isolate
from bpcp.chunk import attempt as attempt_module
from bpcp.chunk.attempt import Attempt, Hunger
from bpcp.chunk.isolate import diagnose
from bpcp.chunk.verdict import Verdict
from bpcp.errors import Exit
from bpcp.failure import Kind
from bpcp.workspace import Json, read_json

LOG = "Fri Nov 20 09:37:44 2026: Image # {}, module {} # {}: CPU_time = 0.01 secs, Wall_time = 0.00"
RUN: Json = {"last_module": 3, "stall_min": 2.5}


def kinds(verdict: Json) -> list[tuple[int, str]]:
    return [(f["image_set"], f["kind"]) for f in verdict["failed"]]


# --- what a log says --------------------------------------------------------------------------


def attempt(
    folder: Path,
    log: str,
    number: int = 0,
    faults: tuple[str, ...] = ("a fault",),
    ended: Kind | None = None,
) -> Attempt:
    path = folder / "log"
    path.write_text(log)
    cost = {"peak_mb": 1234.5, "wall_s": 2345.6}
    return Attempt(1, 5, 1, folder, path, Verdict(faults=list(faults)), number, cost, ended)


def finished(*image_sets: int) -> str:
    return "".join(f"{LOG.format(n, f'Module{m}', m)}\n" for n in image_sets for m in (1, 2, 3))


def test_diagnose_an_exception(tmp_path: Path) -> None:
    # the real one writes the line of the module that failed behind its traceback
    log = (
        f"{finished(1)}pipeline_exception\n"
        "Error detected during run of module Module1\n"
        "Traceback (most recent call last):\n"
        '  File "formatreader.py", line 619, in __init__\n'
        "    raise IOError(\n"
        'FileNotFoundError: [Errno 2] The file, "/x: y/gone.tiff", does not exist.\n'
        f"{LOG.format(2, 'Module1', 1)}\n"
    )
    found = diagnose(attempt(tmp_path, log), RUN)
    assert (found.culprit, found.started) == (2, True)
    assert found.kind is Kind.MODULE
    assert found.more == {"module": "Module1"}
    assert found.reason == (
        'Module1: FileNotFoundError: [Errno 2] The file, "/x: y/gone.tiff", does not exist.'
    )
    assert len(found.lines) == 5
    assert found.lines[-2].startswith("FileNotFoundError")


@pytest.mark.parametrize(
    ("module", "error", "kind"),
    [
        ("LoadData", "FileNotFoundError: [Errno 2] The file, x, does not exist.", Kind.MISSING),
        ("NamesAndTypes", "OSError: not a TIFF", Kind.UNREADABLE),
        ("Smooth", "FileNotFoundError: no such thing", Kind.MODULE),
        ("Smooth", "numpy.core._exceptions._ArrayMemoryError: Unable to allocate", Kind.MEMORY),
        ("LoadData", "java.lang.OutOfMemoryError: Java heap space", Kind.MEMORY),
        ("SaveImages", "OSError: [Errno 28] No space left on device: 'x'", Kind.SPACE),
    ],
)
def test_diagnose_a_module_by_what_it_raised(
    tmp_path: Path, module: str, error: str, kind: Kind
) -> None:
    log = f"{finished(1)}Error detected during run of module {module}\n{error}\n"
    assert diagnose(attempt(tmp_path, log), RUN).kind is kind


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Kind.STALLED, "no sign of life for 2.5 min, after Module1"),
        (Kind.TIMEOUT, "not done after 2,346 s, many times what others took, after Module1"),
        (Kind.MEMORY, "out of memory: it was killed at 1,234 MB, after Module1"),
    ],
)
def test_diagnose_what_was_ended(tmp_path: Path, ended: Kind, words: str) -> None:
    log = finished(1, 2) + LOG.format(3, "Module1", 1) + "\n"
    found = diagnose(attempt(tmp_path, log, signal.SIGKILL, ended=ended), RUN)
    assert (found.kind, found.reason, found.culprit) == (ended, words, 3)


@pytest.mark.parametrize(
    ("log", "faults", "kind"),
    [
        ("ValueError: Could not find the X module\n", ("nothing",), Kind.NOT_STARTED),
        ("Times reported are CPU and Wall-clock times\n", ("nothing",), Kind.INCOMPLETE),
        ("", ("Image.csv is empty",), Kind.NOT_STARTED),
        ("", ("the pipeline saves outside the default output folder: x",), Kind.OUTSIDE),
        ("OSError: [Errno 28] No space left on device\n", ("half",), Kind.SPACE),
        ("MemoryError\n", ("half",), Kind.MEMORY),
    ],
)
def test_diagnose_without_a_module(
    tmp_path: Path, log: str, faults: tuple[str, ...], kind: Kind
) -> None:
    assert diagnose(attempt(tmp_path, log, faults=faults), RUN).kind is kind


@pytest.mark.parametrize(
    ("log", "culprit", "started"),
    [
        (finished(1) + LOG.format(2, "Module1", 1) + "\n", 2, True),
        (finished(1, 2), 3, True),
        ("", 0, False),
    ],
)
def test_diagnose_a_crash(tmp_path: Path, log: str, culprit: int, started: bool) -> None:
    found = diagnose(attempt(tmp_path, log, signal.SIGKILL), RUN)
    assert (found.culprit, found.started) == (culprit, started)
    assert (found.kind, found.reason) == (Kind.CRASH, "CellProfiler was ended by SIGKILL")


def test_diagnose_by_what_the_check_said(tmp_path: Path) -> None:
    found = diagnose(attempt(tmp_path, finished(1, 2, 3, 4, 5), faults=("image set 4: bad",)), RUN)
    assert (found.culprit, found.reason, found.kind) == (4, "bad", Kind.INCOMPLETE)


def test_diagnose_without_a_hint(tmp_path: Path) -> None:
    found = diagnose(attempt(tmp_path, finished(1, 2, 3, 4, 5) + "OSError: disk full\n"), RUN)
    assert (found.culprit, found.reason) == (0, "a fault (OSError: disk full)")


# --- what is tried again, and what is not -----------------------------------------------------


def test_a_module_that_fails_always_is_tried_once_for_each(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(5)
    screen.plan("-q", "--chunk-size", "5", "--retries", "7")
    monkeypatch.setenv("FAKE_MODE", "exception")
    monkeypatch.setenv("FAKE_AT", "f1.tif/f4.tif")
    (verdict,) = screen.run()
    assert kinds(verdict) == [(1, "module-error"), (4, "module-error")]
    assert all(f["module"] == "IdentifyPrimaryObjects" for f in verdict["failed"])
    assert "ValueError: could not convert" in verdict["failed"][0]["last_lines"]
    # the first of a process is not run alone: it would do the same again
    assert screen.ran() == [
        ["f1.tif", "f2.tif", "f3.tif", "f4.tif", "f5.tif"],
        ["f2.tif", "f3.tif", "f4.tif", "f5.tif"],
        ["f2.tif", "f3.tif"],
        ["f4.tif"],
        ["f5.tif"],
    ]


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2), (3, 4)])
def test_a_crash_is_tried_again_as_often_as_asked(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, retries: int, attempts: int
) -> None:
    screen.fill(1)
    screen.plan("-q", "--retries", str(retries))
    monkeypatch.setenv("FAKE_MODE", "crash")
    (verdict,) = screen.run()
    assert kinds(verdict) == [(1, "crash")]
    assert verdict["cost"]["attempts"] == attempts


def test_a_crash_is_isolated_at_once(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what crashed runs again, not all that was done before it."""
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "4")
    monkeypatch.setenv("FAKE_MODE", "crash")
    monkeypatch.setenv("FAKE_AT", "f3.tif")
    (verdict,) = screen.run()
    assert kinds(verdict) == [(3, "crash")]
    assert screen.ran() == [
        ["f1.tif", "f2.tif", "f3.tif", "f4.tif"],
        ["f1.tif", "f2.tif"],
        ["f3.tif"],
        ["f4.tif"],
    ]


@pytest.mark.parametrize("mode", ["exception", "crash", "nothing", "module-error"])
def test_a_pipeline_at_fault_is_not_tried_at_every_image_set(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    screen.fill(30)
    screen.plan("-q", "--chunk-size", "30")
    monkeypatch.setenv("FAKE_MODE", mode)
    (verdict,) = screen.run()
    found = kinds(verdict)
    assert [n for n, _ in found] == list(range(1, 31))
    tried = [n for n, kind in found if kind != "not-tried"]
    # three in a row, the last one, and one from the middle
    assert tried == [1, 2, 3, 17, 30]
    (untried,) = [f for f in verdict["failed"] if f["image_set"] == 4]
    assert untried["reason"].startswith("not tried: 5 before it failed alike (")
    assert verdict["cost"]["attempts"] <= 13


def test_some_that_fail_alike_do_not_condemn_the_rest(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(12)
    screen.plan("-q", "--chunk-size", "12")
    monkeypatch.setenv("FAKE_MODE", "exception")
    monkeypatch.setenv("FAKE_AT", "/".join(f"f{n}.tif" for n in (1, 2, 3, 4, 5, 6, 12)))
    (verdict,) = screen.run()
    assert kinds(verdict) == [(n, "module-error") for n in (1, 2, 3, 4, 5, 6, 12)]


def test_missing_files_say_nothing_about_the_pipeline(screen: Screen) -> None:
    screen.fill(9)
    for n in range(1, 8):
        (screen.images / f"f{n}.tif").unlink()
    screen.plan("-q", "--chunk-size", "9")
    (verdict,) = screen.run()
    assert kinds(verdict) == [(n, "missing-file") for n in range(1, 8)]


def test_a_group_that_crashes_fails_together(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(4)
    screen.write(load_data(keys="Well"), IDENTIFY, PROJECT, EXPORT)
    screen.plan("-q", "--chunk-size", "4")
    monkeypatch.setenv("FAKE_MODE", "crash")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    (verdict,) = screen.run()
    assert kinds(verdict) == [(1, "same-group"), (2, "crash")]


# --- hanging, spinning, eating ----------------------------------------------------------------


def test_one_that_shows_no_life_is_ended_and_named(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(3)
    screen.plan("-q", "--chunk-size", "3", "--stall-min", "0.02", "--retries", "0")
    monkeypatch.setenv("FAKE_MODE", "hang")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    (verdict,) = screen.run()
    assert kinds(verdict) == [(2, "stalled")]
    assert verdict["failed"][0]["reason"] == "no sign of life for 0.02 min, after LoadData"


def test_one_that_takes_far_longer_than_others_is_ended_and_named(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "2", "--stall-min", "0.02", "--retries", "0")
    monkeypatch.setenv("FAKE_MODE", "spin")
    monkeypatch.setenv("FAKE_AT", "f4.tif")
    _, verdict = screen.run()
    assert kinds(verdict) == [(2, "timeout")]  # its own numbers: the second of the second chunk
    assert "many times what others took" in verdict["failed"][0]["reason"]


def test_one_whose_child_works_is_left_alone(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    screen.plan("-q", "--stall-min", "0.05", "--retries", "0")
    monkeypatch.setenv("FAKE_MODE", "works-in-child")
    monkeypatch.setenv("FAKE_SLEEP", "8")
    (verdict,) = screen.run()
    assert verdict["failed"] == []


def test_what_was_stopped_is_ended(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's SIGSTOP is no way to work either; the second attempt is let be."""
    screen.fill(1)
    screen.plan("-q", "--stall-min", "0.02")
    monkeypatch.setenv("FAKE_MODE", "crash")
    monkeypatch.setenv("FAKE_SIGNAL", "STOP")
    monkeypatch.setenv("FAKE_ONCE", str(screen.base.parent / "once"))
    (verdict,) = screen.run()
    assert (verdict["failed"], verdict["cost"]["attempts"]) == ([], 2)


def test_one_killed_for_memory_runs_again_and_then_alone(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2", "--retries", "0")
    monkeypatch.setenv("FAKE_MODE", "crash")
    monkeypatch.setenv("FAKE_SIGNAL", "KILL")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    # as the kernel counts, which kills nothing for memory here
    kills = iter(range(1000))
    monkeypatch.setattr(admission, "kills_so_far", lambda: next(kills))
    hungers: list[tuple[int, int, Hunger]] = []
    attempted = isolate.attempted

    def seen(*args: Any) -> object:
        hungers.append((args[1], args[2], args[4]))
        return attempted(*args)

    monkeypatch.setattr(isolate, "attempted", seen)
    (verdict,) = screen.run()
    assert kinds(verdict) == [(2, "out-of-memory")]
    # the whole; the first, which passes; the second, with more memory, and alone
    assert hungers == [
        (1, 2, Hunger()),
        (1, 1, Hunger()),
        (2, 2, Hunger(1, 600)),
        (2, 2, Hunger(2, 600)),
    ]
    assert hungers[-1][2].alone
    dead = read_json(screen.workspace.memory)
    assert dead is not None
    # of what it had at its peak, not of what it was thought to need
    assert dead["process_mb"] == 600


def test_the_youngest_yields_where_memory_is_all_but_gone(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    screen.plan("-q", "--retries", "0")
    monkeypatch.setenv("FAKE_MODE", "slow")
    yields = iter([True] * 4)
    monkeypatch.setattr(admission, "must_yield", lambda *_: next(yields, False))
    monkeypatch.setenv("FAKE_SLEEP", "3")
    began = time.monotonic()
    (verdict,) = screen.run()
    # however often: it is nobody's fault
    assert (verdict["failed"], verdict["cost"]["attempts"]) == ([], 5)
    assert not screen.workspace.memory.exists()
    assert time.monotonic() - began > 3


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group of 200 MB: v1's, or v2's where that may be shared out."""
    top = Path("/sys/fs/cgroup")
    for folder, limit in (
        (top / "memory" / f"bpcp-test-{os.getpid()}", "memory.limit_in_bytes"),
        (top / f"bpcp-test-{os.getpid()}", "memory.max"),
    ):
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(200 << 20))
        except OSError:
            folder.rmdir()
            continue
        break
    else:
        pytest.skip("no control group for memory can be made here: only root can")
    yield folder
    # the last process leaves a moment after its end
    for _ in range(100):
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)
    pytest.fail(f"still there: {(folder / 'cgroup.procs').read_text()}")


def test_one_that_eats_memory_is_killed_by_the_kernel_and_named(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, small_memory: Path
) -> None:
    screen.fill(3)
    screen.plan("-q", "--chunk-size", "3")
    (chunk,) = screen.chunks()
    monkeypatch.setenv("FAKE_MODE", "eat")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    monkeypatch.setenv("FAKE_EAT", "400")
    done = subprocess.run(
        [
            "bash", "-c", 'echo $$ >"$1" && shift && exec "$@"', "-",
            str(small_memory / "cgroup.procs"),
            sys.executable, "-m", "bpcp.chunk", str(screen.workspace.status), chunk,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == Exit.SOME_FAILED, done.stderr
    (verdict,) = screen.verdicts()
    assert kinds(verdict) == [(2, "out-of-memory")]
    assert "out of memory: it was killed at" in verdict["failed"][0]["reason"]
    assert [(p["first"], p["last"]) for p in verdict["parts"]] == [(1, 1), (3, 3)]


# --- kernels and second starts -----------------------------------------------------------------


def test_a_kernel_without_handles_on_processes_will_do(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    screen.fill(3)
    screen.plan("-q", "--chunk-size", "3", "--stall-min", "0.02", "--retries", "0")
    monkeypatch.setenv("FAKE_MODE", "hang")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    (verdict,) = screen.run()
    assert kinds(verdict) == [(2, "stalled")]


def test_what_was_not_tried_comes_first_at_the_next_start(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(12)
    screen.plan("-q", "--chunk-size", "12")
    monkeypatch.setenv("FAKE_MODE", "exception")
    # the very ones that are tried: the first, one from the middle, the last
    bad = (1, 2, 3, 8, 12)
    monkeypatch.setenv("FAKE_AT", "/".join(f"f{n}.tif" for n in bad))
    (verdict,) = screen.run()
    assert [n for n, kind in kinds(verdict) if kind == "not-tried"] == [4, 5, 6, 7, 9, 10, 11]
    (verdict,) = screen.run()
    assert kinds(verdict) == [(n, "module-error") for n in bad]


def test_a_quota_is_a_full_disk(tmp_path: Path) -> None:
    log = (
        "Error detected during run of module SaveImages\nOSError: [Errno 122] Disk quota exceeded\n"
    )
    assert diagnose(attempt(tmp_path, log), RUN).kind is Kind.SPACE


def full_for_a_moment(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk of the first attempt be seen full, once."""
    free = [0, 10**12]
    real = staging.free_bytes
    monkeypatch.setattr(
        "bpcp.chunk.attempt.staging.free_bytes",
        lambda folder: (
            free.pop(0) if free and folder.parent == screen.workspace.attempts else real(folder)
        ),
    )


def test_a_disk_that_was_full_meanwhile_is_the_reason_though_the_log_is_empty(
    screen: Screen, small_ram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the log could be written; by the time it is judged, there may be room again."""
    found = replace(attempt(small_ram, "", faults=("no table of Image",)), full=small_ram / "x")
    failed = diagnose(found, RUN)
    assert (failed.kind, failed.reason) == (Kind.SPACE, f"the disk of {small_ram} was full")
    # and it is tried again, once there is room
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2", "--retries", "0")
    monkeypatch.setenv("FAKE_MODE", "crash")
    monkeypatch.setenv("FAKE_ONCE", str(screen.base.parent / "once"))
    full_for_a_moment(screen, monkeypatch)
    (verdict,) = screen.run()
    assert (verdict["failed"], verdict["cost"]["attempts"]) == ([], 2)


# --- measurements that did not come to the disk ------------------------------------------------


def test_tables_of_measurements_that_were_lost_are_not_believed_however_whole_they_look(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CellProfiler 4.2.8.1 does: HDF5 complains as it closes, and tables are full of zeros."""
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2", "--retries", "0")
    monkeypatch.setenv("FAKE_MODE", "lost")
    monkeypatch.setenv("FAKE_ONCE", str(screen.base.parent / "once"))
    (verdict,) = screen.run()
    assert (verdict["failed"], verdict["cost"]["attempts"]) == ([], 2)


def test_a_disk_that_was_full_meanwhile_is_no_place_for_measurements(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2", "--retries", "0")
    full_for_a_moment(screen, monkeypatch)
    (verdict,) = screen.run()
    assert (verdict["failed"], verdict["cost"]["attempts"]) == ([], 2)


def test_a_disk_that_fails_is_named(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.fill(3)
    screen.plan("-q", "--chunk-size", "3")
    monkeypatch.setenv("FAKE_MODE", "lost")
    monkeypatch.setenv("FAKE_ERROR", "Input/output error")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    (verdict,) = screen.run()
    assert kinds(verdict) == [(2, "output-incomplete")]
    assert verdict["failed"][0]["reason"] == "measurements were lost: Input/output error"


def test_a_disk_that_stays_full_is_named_after_a_while(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    screen.plan("-q")
    monkeypatch.setenv("FAKE_MODE", "lost")
    (verdict,) = screen.run()
    assert kinds(verdict) == [(1, "disk-full")]
    assert verdict["failed"][0]["reason"] == "measurements were lost: No space left on device"
    # as often as room may run short, and once more
    assert verdict["cost"]["attempts"] == 4


def full_once(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let preparing an attempt fail once."""
    prepared = attempt_module._staged
    left = [OSError(number, os.strerror(number))]

    def staged(*args: Any) -> Any:
        if left:
            raise left.pop()
        return prepared(*args)

    monkeypatch.setattr(attempt_module, "_staged", staged)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_disk_that_is_full_before_it_starts_is_waited_for_or_left(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, elsewhere: bool
) -> None:
    screen.fill(2)
    home = tmp_path / "home"
    home.mkdir()
    screen.plan("-q", "--chunk-size", "2", *(["-t", str(home)] if elsewhere else []))
    full_once(monkeypatch, errno.ENOSPC)
    waited: list[int] = []
    monkeypatch.setattr(admission, "await_room", lambda _, size, __: waited.append(size))
    (verdict,) = screen.run()
    assert (verdict["failed"], verdict["cost"]["attempts"]) == ([], 1)
    # what -t names is left for the run's own folder, where it would be waited for
    assert waited == ([] if elsewhere else [16_000_000])
    assert list(home.iterdir()) == []


def test_what_is_no_matter_of_room_is_not_waited_for(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    screen.plan("-q")
    full_once(monkeypatch, errno.EACCES)
    with pytest.raises(PermissionError):
        screen.run()
