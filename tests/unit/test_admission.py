"""When one more CellProfiler may start."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Screen

from bpcp import processes
from bpcp.chunk import admission
from bpcp.chunk.admission import AtWork, Need, shortage
from bpcp.workspace import Workspace

HERE = Path("/base/status/d/t")
WORKSPACE = Workspace(Path("/base"), "d", "t")
NEED = Need(memory_mb=600, alone=False, room=10**8, at=Path("/disk"))
PLENTY = 10**12


def at_work(promised_mb: float = 0, run: str = str(HERE), alone: bool = False) -> AtWork:
    return AtWork(1, 1, run, promised_mb, alone)


def test_with_room_it_starts() -> None:
    assert shortage(WORKSPACE, NEED, [], 10_000, PLENTY) == ""
    assert shortage(WORKSPACE, NEED, [at_work(600)] * 3, 600 * 4 + 100, PLENTY) == ""


def test_memory_that_others_may_still_come_to_take_is_theirs() -> None:
    why = shortage(WORKSPACE, NEED, [at_work(600)] * 3, 600 * 4 + 99, PLENTY)
    assert why == "memory: 599 MB are free, one more takes 600"
    # another run's too
    assert shortage(WORKSPACE, NEED, [at_work(9000, "/else"), at_work()], 9000, PLENTY)


def test_one_always_runs() -> None:
    assert shortage(WORKSPACE, NEED, [], 0, PLENTY) == ""
    assert shortage(WORKSPACE, NEED, [at_work(600, "/else")], 0, PLENTY) == ""


def test_one_that_must_be_alone_waits_for_all_others_of_its_run() -> None:
    alone = Need(600, True, 1, Path("/disk"))
    assert "runs alone" in shortage(WORKSPACE, alone, [at_work()], PLENTY, PLENTY)
    assert "runs alone" in shortage(WORKSPACE, NEED, [at_work(alone=True)], PLENTY, PLENTY)
    assert shortage(WORKSPACE, alone, [at_work(run="/else")], PLENTY, PLENTY) == ""


def test_room_for_what_it_and_those_at_work_write() -> None:
    assert shortage(WORKSPACE, NEED, [at_work()], PLENTY, 2 * 10**8) == ""
    why = shortage(WORKSPACE, NEED, [at_work()], PLENTY, 2 * 10**8 - 1)
    assert why == "room: /disk has 200 MB free, 200 are needed"
    # one always runs, unless there is room for nothing at all
    assert shortage(WORKSPACE, NEED, [], PLENTY, 64 * 10**6) == ""
    assert shortage(WORKSPACE, NEED, [], PLENTY, 0) == "room: /disk has 0.0 MB free, 64 are needed"


@contextmanager
def working(run: Path, needs_mb: int, alone: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process that looks like a CellProfiler at work, of some 10 MB."""
    marks = Need(needs_mb, alone, 0, run).environment
    marks |= {processes.RUN: str(run), processes.ATTEMPT: str(run / "attempts" / "x")}
    # its child carries the marks as well, and is its own business
    words = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(flush=True); p.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", words],
        env={**os.environ, **marks}, start_new_session=True, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            processes.end_marked(processes.RUN, str(run))


def test_those_at_work_are_found_by_their_marks(tmp_path: Path) -> None:
    run = tmp_path / "it's; ü\n"
    with working(run, 500) as one, working(run, 1, alone=True) as two:
        found = {a.pid: a for a in admission.at_work() if a.run == str(run)}
        assert found.keys() == {one.pid, two.pid}
        assert 400 < found[one.pid].promised_mb < 500
        # it takes more than it was expected to: nothing is promised any more
        assert found[two.pid].promised_mb == 0
        assert (found[one.pid].alone, found[two.pid].alone) == (False, True)


def test_the_youngest_must_yield_and_only_where_memory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path, "d", "t")
    run = workspace.status
    run.mkdir(parents=True)
    with working(run, 1) as one:
        time.sleep(0.02)  # two clock ticks
        with working(run, 1) as two, working(tmp_path, 1):
            own = [a for a in admission.at_work() if a.run == str(run)]
            monkeypatch.setattr(admission, "at_work", lambda: own)
            assert not admission.must_yield(workspace, two.pid)
            monkeypatch.setattr(admission, "free_mb", lambda: 99.0)
            assert admission.must_yield(workspace, two.pid)
            assert not admission.must_yield(workspace, one.pid)
            # the last one goes on, whatever happens
            monkeypatch.setattr(admission, "at_work", lambda: own[:1])
            assert not admission.must_yield(workspace, own[0].pid)


def test_each_waits_for_its_turn_and_says_for_what(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.workspace.status.mkdir(parents=True)
    free = {"mb": 0.0}
    monkeypatch.setattr(admission, "free_mb", lambda: free["mb"])
    monkeypatch.setattr(admission, "_LOOK_S", 0.02)
    monkeypatch.setattr(admission, "at_work", lambda: [at_work(0, str(screen.workspace.status))])
    started = []

    def start(name: str) -> None:
        need = Need(600, False, 1, screen.workspace.status)
        with admission.turn(screen.workspace, lambda: need):
            started.append(name)

    threads = [threading.Thread(target=start, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    wait_until(lambda: admission.waits_for(screen.workspace))
    assert admission.waits_for(screen.workspace) == "memory: 0 MB are free, one more takes 600"
    assert started == []
    free["mb"] = 1000.0
    for thread in threads:
        thread.join(10)
    assert sorted(started) == ["a", "b"]
    assert admission.waits_for(screen.workspace) == ""


def test_what_others_taught_while_it_waited_for_its_turn_counts(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.workspace.status.mkdir(parents=True)
    monkeypatch.setattr(admission, "_LOOK_S", 0.02)
    asked = []

    def need() -> Need:
        asked.append(len(asked))
        return Need(100 * len(asked), False, 1, screen.workspace.status)

    with admission.turn(screen.workspace, need) as found:
        assert found.memory_mb == 100
    handle = os.open(screen.workspace.turn, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    timer = threading.Timer(0.2, os.close, (handle,))
    timer.start()
    with admission.turn(screen.workspace, need) as found:
        assert found.memory_mb == 300
    timer.join()


def test_the_turn_of_a_dead_one_goes_on(screen: Screen) -> None:
    screen.workspace.status.mkdir(parents=True)
    screen.workspace.turn.write_text("{half", encoding="utf-8")
    assert admission.waits_for(screen.workspace) == ""
    holder = subprocess.Popen(["flock", str(screen.workspace.turn), "sleep", "60"])
    wait_until(lambda: not is_free(screen.workspace.turn))
    subprocess.run(["pkill", "-KILL", "-P", str(holder.pid)], check=True)
    holder.kill()
    holder.wait()
    with admission.turn(screen.workspace, lambda: Need(1, False, 1, screen.workspace.status)):
        pass


def is_free(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_full_disk_is_waited_for(
    screen: Screen, small_ram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.workspace.status.mkdir(parents=True)
    monkeypatch.setattr(admission, "_LOOK_S", 0.02)
    monkeypatch.setattr(admission, "fullest", lambda _: small_ram)
    (small_ram / "full").write_bytes(b"x" * (1 << 20))
    thread = threading.Thread(target=admission.await_room, args=(screen.workspace, 500_000))
    thread.start()
    wait_until(lambda: admission.waits_for(screen.workspace))
    expected = f"room: {small_ram} has 0.0 MB free, 0.5 are needed"
    assert admission.waits_for(screen.workspace) == expected
    assert thread.is_alive()
    (small_ram / "full").unlink()
    thread.join(10)
    assert not thread.is_alive()
    assert admission.waits_for(screen.workspace) == ""


def test_what_is_waited_for_can_be_said_on_a_full_disk(small_ram: Path) -> None:
    """The file is written over in place; so it needs no room."""
    workspace = Workspace(small_ram, "d", "t")
    workspace.status.mkdir(parents=True)
    with admission.turn(workspace, lambda: Need(1, False, 1, small_ram)):
        pass
    (small_ram / "full").write_bytes(b"x" * admission.free_bytes(small_ram))
    assert admission.free_bytes(small_ram) == 0
    handle = os.open(workspace.turn, os.O_RDWR)
    admission._say(handle, "room: " + "x" * 5000)
    os.close(handle)
    assert admission.waits_for(workspace).startswith("room: xxx")


def test_the_kernel_is_told_whom_to_kill_first(tmp_path: Path) -> None:
    with working(tmp_path, 1) as process:
        admission.kill_first(process.pid)
        score = Path(f"/proc/{process.pid}/oom_score_adj").read_text()
        assert score.strip() == "1000"
    admission.kill_first(2**22)  # long gone: no error


def test_kills_are_read_from_the_kernels_counter(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 7\noom_kill_x 9\n")
    assert admission.kills_so_far(tmp_path) == 7
    assert admission.kills_so_far(tmp_path / "none") == 0


def wait_until(met: object, seconds: float = 10) -> None:
    assert callable(met)
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_words_of_a_dead_waiter_are_wiped_out(screen: Screen) -> None:
    workspace = screen.workspace
    workspace.status.mkdir(parents=True)
    workspace.turn.write_text('{"waits_for": "memory: none"}', encoding="utf-8")
    with admission.turn(workspace, lambda: Need(1, False, 1, workspace.status)):
        assert admission.waits_for(workspace) == ""


def test_what_is_waited_for_stands_in_the_events(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = screen.workspace
    workspace.status.mkdir(parents=True)
    workspace.log.mkdir(parents=True)
    monkeypatch.setattr(admission, "_LOOK_S", 0.02)
    left = [0.0, 0.0, 9999.0]
    monkeypatch.setattr(admission, "free_mb", lambda: left.pop(0))
    monkeypatch.setattr(admission, "at_work", lambda: [at_work(0, str(workspace.status))])
    with admission.turn(workspace, lambda: Need(600, False, 1, workspace.status)):
        pass
    (line,) = workspace.events.read_text(encoding="utf-8").splitlines()
    assert line.endswith('event=waits for="memory: 0 MB are free, one more takes 600"')


def test_with_no_room_for_a_state_file_nothing_begins(
    small_ram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(small_ram, "d", "t")
    workspace.status.mkdir(parents=True)
    monkeypatch.setattr(admission, "_LOOK_S", 0.02)
    monkeypatch.setattr(admission, "_LEAST_STATE", 500_000)
    full = small_ram / "full"
    full.write_bytes(b"x" * 900_000)
    thread = threading.Thread(target=admission.ensure_room, args=(workspace,))
    thread.start()
    wait_until(lambda: admission.waits_for(workspace))
    assert thread.is_alive()
    full.unlink()
    thread.join(10)
    assert not thread.is_alive()


def test_kills_for_memory_are_those_of_the_own_control_group(tmp_path: Path) -> None:
    proc, top = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "vmstat").write_text("oom_kill_x 1\noom_kill 7\n")
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    # where no group says it, the machine's
    assert admission.kills_so_far(proc, top) == 7
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "memory.events").write_text("low 0\noom 9\noom_kill 5\n")
    (top / "a" / "b" / "memory.events").write_text("low 0\noom 4\noom_kill 3\n")
    assert admission.kills_so_far(proc, top) == 3
    # version 1
    (proc / "self" / "cgroup").write_text("5:memory:/c\n")
    (top / "memory" / "c").mkdir(parents=True)
    control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
    (top / "memory" / "c" / "memory.oom_control").write_text(control)
    assert admission.kills_so_far(proc, top) == 2
