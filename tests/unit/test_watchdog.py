"""Whether a process shows life."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bpcp import processes
from bpcp.chunk.watchdog import Watchdog
from bpcp.failure import Kind
from bpcp.processes import Process


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def process(cpu_s: float) -> Process:
    return Process(7, 1, 7, "S", cpu_s, 0, 1)


@contextmanager
def seen(
    monkeypatch: pytest.MonkeyPatch, own: list[float], tree: list[float] | None = None
) -> Iterator[None]:
    """Let the kernel say these CPU seconds, one after another, the last one for ever."""

    def take(values: list[float]) -> float:
        return values.pop(0) if len(values) > 1 else values[0]

    with monkeypatch.context() as patch:
        patch.setattr(processes, "read", lambda _: process(take(own)))
        patch.setattr(processes, "tree", lambda _: [process(take(tree or [0.0]))])
        yield


def dog(log: Path, clock: Clock, limit_s: float | None = None) -> Watchdog:
    return Watchdog(7, log, 100.0, lambda: limit_s, clock)


def unlimited() -> None:
    return None


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


def looks(found: Watchdog, clock: Clock, seconds: float) -> Kind | None:
    end = clock.now + seconds
    while clock.now < end:
        if why := found.look():
            return why
        clock.now += found.look_s
    return None


def test_without_a_line_and_without_cpu_it_is_stalled(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    found = dog(log, clock)
    with seen(monkeypatch, [3.0]):
        assert looks(found, clock, 99) is None
        assert looks(found, clock, 10) is Kind.STALLED


def test_what_an_idle_jvm_takes_is_no_life(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    found = dog(log, clock)
    idle = [0.005 * i for i in range(1000)]
    with seen(monkeypatch, list(idle), list(idle)):
        assert looks(found, clock, 500) is Kind.STALLED


def test_a_line_is_life(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    found = dog(log, clock)
    with seen(monkeypatch, [3.0]):
        for _ in range(5):
            assert looks(found, clock, 90) is None
            with log.open("a") as file:
                file.write("Image # 1\n")


def test_cpu_is_life(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    found = dog(log, clock)
    with seen(monkeypatch, [0.1 * i for i in range(1000)]):
        assert looks(found, clock, 1000) is None


def test_the_cpu_of_a_child_is_life(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    found = dog(log, clock)
    with seen(monkeypatch, [1.0], [2.0 * i for i in range(1000)]):
        assert looks(found, clock, 1000) is None


def test_a_child_that_ends_its_work_counts_no_longer(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    found = dog(log, clock)
    with seen(monkeypatch, [1.0], [2.0 * i for i in range(20)]):
        assert looks(found, clock, 1000) is Kind.STALLED


def test_beyond_its_time_it_is_ended_though_it_works(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    found = dog(log, clock, limit_s=300.0)
    with seen(monkeypatch, [2.0 * i for i in range(1000)]):
        assert looks(found, clock, 299) is None
        assert looks(found, clock, 10) is Kind.TIMEOUT


def test_a_limit_that_is_learned_later_holds_as_well(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempts start before any of their siblings is done."""
    clock = Clock()
    limits = [None, None, 500.0]
    found = Watchdog(7, log, 100.0, lambda: limits.pop(0), clock)
    with seen(monkeypatch, [2.0 * i for i in range(1000)]):
        assert looks(found, clock, 499) is None
        assert limits == []
        assert looks(found, clock, 10) is Kind.TIMEOUT


def test_it_looks_often_enough_for_its_patience(log: Path) -> None:
    assert Watchdog(7, log, 600.0, unlimited).look_s == 2.0
    assert Watchdog(7, log, 1.0, unlimited).look_s == pytest.approx(0.1)
    assert Watchdog(7, log, 0.01, unlimited).look_s == 0.05


def test_a_real_process_that_sleeps(log: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        clock = Clock()
        found = Watchdog(child.pid, log, 100.0, unlimited, clock)
        try:
            assert looks(found, clock, 300) is Kind.STALLED
        finally:
            child.kill()


def test_while_nobody_could_look_nothing_stalls_and_no_limit_passes(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    found = dog(log, clock, limit_s=300.0)
    with seen(monkeypatch, [3.0]):
        assert looks(found, clock, 20) is None
        # the machine slept
        clock.now += 10_000
        assert looks(found, clock, 50) is None
        assert looks(found, clock, 50) is Kind.STALLED
