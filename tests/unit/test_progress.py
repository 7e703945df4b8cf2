from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, Screen

from bpcp.run.progress import Waits, Watch
from bpcp.workspace import write_json

LINE = "Fri Nov 20 09:37:44 2026: Image # {}, module M # {}: CPU_time = 0.01 secs, Wall_time = 0\n"


@pytest.fixture
def planned(screen: Screen) -> Screen:
    screen.fill(6)
    screen.plan("-q", "--chunk-size", "2")
    return screen


def start_attempt(screen: Screen, name: str, decided: int = 0) -> Path:
    log = screen.workspace.attempt_log(name, 1)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    running = {"pid": os.getpid(), "log": str(log), "decided": decided}
    write_json(screen.workspace.chunk(name).running, running)
    return log


def test_nothing_yet(planned: Screen) -> None:
    watch = Watch(planned.workspace)
    assert watch.line(200) == f"[{'-' * 20}] 0/6 image sets · 0 running"


def test_counts_what_runs_and_what_is_done(planned: Screen) -> None:
    watch = Watch(planned.workspace)
    first, second, _ = planned.chunks()
    log = start_attempt(planned, first)
    log.write_text("".join(LINE.format(1, m) for m in range(1, 5)) + LINE.format(2, 4)[:-1])
    watch.look()
    # the last line is not whole yet
    assert (watch.running, watch.under_way, watch.done) == (1, 1, 0)
    with log.open("a") as file:
        file.write("\n")
    watch.look()
    assert watch.under_way == 2
    planned.workspace.chunk(first).running.unlink()
    planned.run()
    watch.look()
    assert (watch.running, watch.under_way, watch.done, watch.failed) == (0, 0, 6, 0)
    assert second not in watch.open
    assert watch.line(200).startswith(f"[{'#' * 20}] 6/6 image sets · 0 running")


def test_pieces_that_are_done_of_a_chunk_that_is_cut_down_count(planned: Screen) -> None:
    watch = Watch(planned.workspace)
    start_attempt(planned, planned.chunks()[0], decided=1)
    watch.look()
    assert (watch.running, watch.under_way, watch.done) == (1, 1, 0)


def test_what_is_done_of_a_chunk_counts_while_its_failed_ones_are_tried_again(
    planned: Screen,
) -> None:
    (planned.images / "f3.tif").unlink()
    planned.run()
    watch = Watch(planned.workspace)
    assert (watch.done, watch.failed) == (5, 1)
    start_attempt(planned, planned.chunks()[1]).write_text("")
    again = Watch(planned.workspace)
    assert (again.done, again.failed, again.under_way) == (4, 0, 1)


def test_chunks_whose_images_are_here_before_they_run(screen: Screen) -> None:
    screen.fill(6)
    # a RAM disk: images are fetched
    screen.plan("-q", "--chunk-size", "2", "--ramdisk", "auto")
    watch = Watch(screen.workspace)
    assert watch.line(200).endswith("0/6 image sets · 0 running · 0 ahead")
    first, second, _ = screen.chunks()
    for name in (first, second):
        write_json(screen.workspace.chunk(name).fetched, {})
    start_attempt(screen, first)
    watch.look()
    assert watch.line(200).endswith("1 running · 1 ahead")


def test_a_log_that_is_not_there_yet(planned: Screen) -> None:
    watch = Watch(planned.workspace)
    start_attempt(planned, planned.chunks()[0]).unlink()
    watch.look()
    assert (watch.running, watch.under_way) == (1, 0)


def test_failures_are_shown(planned: Screen) -> None:
    (planned.images / "f3.tif").unlink()
    planned.run()
    watch = Watch(planned.workspace)
    assert (watch.done, watch.failed) == (5, 1)
    assert "1 failed" in watch.line(200)


def test_eta_is_of_this_start(planned: Screen) -> None:
    planned.run()
    planned.workspace.chunk(planned.chunks()[0]).done.unlink()
    watch = Watch(planned.workspace)
    assert watch.at_start == 4
    assert "ETA" not in watch.line(200)
    start_attempt(planned, planned.chunks()[0]).write_text(LINE.format(1, 4))
    watch.look()
    for elapsed_s, words in (
        (0.4, "2.5/s · ETA 0 s"),
        (10, "6/min · ETA 10 s"),
        (120, "30/h · ETA 2 min 00 s"),
    ):
        watch.started = time.monotonic() - elapsed_s
        assert watch.line(200).endswith(f" 5/6 image sets · 1 running · {words}")


def test_the_line_fits_the_terminal(planned: Screen) -> None:
    planned.run()
    watch = Watch(planned.workspace)
    watch.at_start, watch.total = 0, 10**9
    watch.started = time.monotonic() - 10**6
    whole = watch.line(200)
    assert 80 < len(whole) < 200
    for width in (10, 30, 80):
        assert watch.line(width) == whole[: width - 1]


def test_what_is_waited_for_is_said_once_if_it_lasts() -> None:
    clock = [1000.0]
    waits = Waits(lambda: clock[0])

    def said(after_s: float, what: str) -> str:
        clock[0] += after_s
        return waits.to_say(what)

    assert said(0, "memory: 3 MB are free") == ""
    assert said(1, "") == ""
    assert said(5, "memory: 2 MB are free") == "the next chunk waits for memory: 2 MB are free"
    assert said(60, "memory: 1 MB are free") == ""
    # something else is said as well
    assert said(1, "room: x is full") == ""
    assert said(5, "room: x is full") == "the next chunk waits for room: x is full"
    # and the same after a while without
    assert said(1000, "memory: none") == ""
    assert said(30, "memory: none") == "the next chunk waits for memory: none"


def test_the_line_says_that_it_waits_on_a_narrow_terminal_too(planned: Screen) -> None:
    watch = Watch(planned.workspace)
    planned.workspace.turn.write_text('{"waits_for": "room: /data has 3 MB free"}')
    watch.look()
    assert "0/6 image sets · 0 running · waits for room" in watch.line(80)


def test_ends_when_told(planned: Screen) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bpcp.run.progress", str(planned.workspace.status)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(1)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (0, "")
    assert time.monotonic() - started < 2
