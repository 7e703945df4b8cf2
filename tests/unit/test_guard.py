from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from conftest import ROOT, Screen
from s3server import wait_for

from bpcp.errors import BpcpError, Exit
from bpcp.holder import Holder, held_by
from bpcp.processes import ATTEMPT, RUN, marked, read
from bpcp.run import enter, guard, lost
from bpcp.run.guard import Limit, Rounds, Tally, verdict_on
from bpcp.workspace import Json, Workspace, hold, read_json, read_plan, write_json


def state(pid: int) -> str:
    found = read(pid)
    return found.state if found else ""


@pytest.fixture
def planned(screen: Screen) -> Iterator[Screen]:
    screen.fill(12)
    screen.plan("-q", "--chunk-size", "2")
    yield screen
    guard.sweep(screen.workspace, kindly_s=0)


def sleeper(workspace: Workspace, **more: str) -> subprocess.Popen[bytes]:
    """Start a process with the run's mark."""
    environment = {**os.environ, RUN: str(workspace.status), **more}
    return subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True)


def ends(
    workspace: Workspace,
    number: int,
    failed: int = 0,
    reason: str = "broken",
    log: str | None = "x",
    ago_s: float = -1,
) -> None:
    """Write the verdict of a chunk, 0-based, `ago_s` seconds ago."""
    chunk = read_plan(workspace)[number]
    finished = datetime.now(timezone.utc) - timedelta(seconds=ago_s)
    sets = chunk.image_numbers[:failed]
    done: Json = {
        "digest": chunk.digest,
        "failed": [{"image_set": n, "reason": reason, "log": log} for n in sets],
        "finished": finished.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    write_json(workspace.chunk(chunk.id).done, done)


def tally(workspace: Workspace) -> Tally:
    found = Tally(workspace, time.time() - 0.5)
    found.look()
    return found


# --- when to give up --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count", "percent"),
    [("1", 1, None), ("050", 50, None), ("5%", None, 5), ("100%", None, 100)],
)
def test_limits(text: str, count: int | None, percent: int | None) -> None:
    assert Limit.parse(text) == Limit(count, percent)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "x", "1.5", "0%", "101%", "%", "5 %", "5%%", "٣", "1\n"]
)
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(BpcpError) as caught:
        Limit.parse(text)
    assert caught.value.code == Exit.USAGE
    assert text in str(caught.value)


def test_a_limit_is_reached() -> None:
    assert [Limit(count=3).is_reached(n, 100) for n in (2, 3)] == [False, True]
    assert [Limit(percent=5).is_reached(n, 60) for n in (0, 2, 3)] == [False, False, True]
    assert not Limit(percent=1).is_reached(0, 0)


def test_the_first_three_chunks_failed_altogether(planned: Screen) -> None:
    workspace = planned.workspace
    for number in range(4):
        ends(workspace, number, failed=2, reason="MeasureX: KeyError")
        # a few that fail at once, while others are at work, prove nothing
        assert verdict_on(tally(workspace), None) == ""
    ends(workspace, 4, failed=2, reason="LoadData: OSError")
    assert (
        verdict_on(tally(workspace), None)
        == "not one image set of the first 5 chunks succeeded, 8 of them: MeasureX: KeyError"
    )


def test_one_that_succeeded_in_whatever_start_disproves_it(planned: Screen) -> None:
    workspace = planned.workspace
    for number in range(5):
        ends(workspace, number, failed=2)
    assert verdict_on(tally(workspace), None)
    ends(workspace, 5, failed=1, ago_s=3600)
    assert verdict_on(tally(workspace), None) == ""


def test_files_that_were_bad_before_anything_ran_prove_nothing(planned: Screen) -> None:
    workspace = planned.workspace
    for number in range(5):
        ends(workspace, number, failed=2, reason="missing file", log=None)
    assert verdict_on(tally(workspace), None) == ""
    # the user's own limit counts them
    assert verdict_on(tally(workspace), Limit(count=10)) == (
        "10 of 12 image sets failed (--max-failures 10): missing file"
    )


def test_failures_of_earlier_starts_do_not_count(planned: Screen) -> None:
    workspace = planned.workspace
    for number in (0, 1, 2):
        ends(workspace, number, failed=2, ago_s=3600)
    found = tally(workspace)
    assert (found.failed, found.hopeless, found.left) == (0, 0, 6)
    assert verdict_on(found, Limit(count=1)) == ""
    ends(workspace, 0, failed=1)
    found.look()
    assert (found.failed, found.good, found.left) == (1, 1, 5)
    assert verdict_on(found, Limit(percent=8)).startswith("1 of 12 image sets failed")


def test_at_its_very_end_a_run_is_not_stopped(planned: Screen) -> None:
    workspace = planned.workspace
    for number in range(6):
        ends(workspace, number, failed=2)
    assert verdict_on(tally(workspace), None) == ""
    assert verdict_on(tally(workspace), Limit(count=1)) == ""


def test_each_verdict_is_read_once_and_a_new_plan_is_noticed(
    planned: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = planned.workspace
    reads: list[Path] = []
    real = read_json

    def counting(path: Path) -> Json | None:
        reads.append(path)
        return real(path)

    monkeypatch.setattr(guard, "read_json", counting)
    ends(workspace, 0, failed=1)
    found = tally(workspace)
    found.look()
    assert len(reads) == 1
    write_json(workspace.plan, {"chunks": []})
    found.look()
    assert (found.total, found.failed, found.left) == (0, 0, 0)


def test_before_there_is_a_plan_there_is_nothing_to_say(tmp_path: Path) -> None:
    found = tally(Workspace(tmp_path, "d", "t"))
    assert (found.total, found.left, verdict_on(found, Limit(count=1))) == (0, 0, "")


# --- run-chunks -------------------------------------------------------------------------------


def runs(workspace: Workspace, pid: int, folder: str = "/nowhere") -> str:
    """Write down that a process runs the first chunk; give its id."""
    chunk = read_plan(workspace)[0].id
    write_json(workspace.chunk(chunk).running, {"pid": pid, "folder": folder, "log": "x"})
    return chunk


def test_a_run_chunk_that_is_stopped_for_too_long_is_killed(planned: Screen) -> None:
    workspace = planned.workspace
    child = sleeper(workspace)
    chunk = runs(workspace, child.pid)
    clock = [1000.0]
    rounds = Rounds(workspace, lambda: clock[0])
    child.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(child.pid) == "T")
    assert rounds.look([chunk]) == []
    clock[0] += 9.9 * 60
    assert rounds.look([chunk]) == []
    # one that went on meanwhile has all its time again
    child.send_signal(signal.SIGCONT)
    wait_for(lambda: state(child.pid) == "S")
    assert rounds.look([chunk]) == []
    child.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(child.pid) == "T")
    clock[0] += 60
    assert rounds.look([chunk]) == []
    clock[0] += 10 * 60
    assert rounds.look([chunk]) == [child.pid]
    assert child.wait(10) == -signal.SIGKILL


def test_one_that_is_not_of_the_run_is_left_alone(planned: Screen) -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        chunk = runs(planned.workspace, child.pid)
        child.send_signal(signal.SIGSTOP)
        wait_for(lambda: state(child.pid) == "T")
        clock = [0.0]
        rounds = Rounds(planned.workspace, lambda: clock[0])
        rounds.look([chunk])
        clock[0] += 3600
        assert rounds.look([chunk]) == []
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_what_a_dead_run_chunk_left_running_is_ended(planned: Screen) -> None:
    workspace = planned.workspace
    dead = subprocess.Popen(["true"])
    dead.wait()
    stray = sleeper(workspace, **{ATTEMPT: "/scratch/bpcp-1"})
    other = sleeper(workspace, **{ATTEMPT: "/scratch/bpcp-2"})
    chunk = runs(workspace, dead.pid, "/scratch/bpcp-1")
    assert Rounds(workspace).look([chunk]) == []
    assert stray.wait(10) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()


# --- the end ----------------------------------------------------------------------------------


def test_the_sweep_ends_all_of_the_run_and_nothing_else(planned: Screen, tmp_path: Path) -> None:
    workspace = planned.workspace
    ours = [sleeper(workspace) for _ in range(3)]
    other = sleeper(Workspace(tmp_path / "elsewhere", "d", "t"))
    assert guard.sweep(workspace) == 3
    assert [p.wait(10) for p in ours] == [-signal.SIGTERM] * 3
    assert other.poll() is None
    other.kill()
    other.wait()
    assert guard.sweep(workspace) == 0


def test_what_ends_by_itself_has_a_moment_for_it(planned: Screen) -> None:
    environment = {**os.environ, RUN: str(planned.workspace.status)}
    child = subprocess.Popen(["sleep", "0.5"], env=environment)
    # a child of this process that is dead carries no mark any more
    assert guard.sweep(planned.workspace, by_itself_s=20) == 0
    assert child.wait() == 0


def test_a_chunk_that_is_run_by_hand_is_left_alone(planned: Screen) -> None:
    workspace = planned.workspace
    hand = subprocess.Popen(["sleep", "60"])
    engine = sleeper(workspace, **{ATTEMPT: "/scratch/bpcp-3"})
    try:
        runs(workspace, hand.pid, "/scratch/bpcp-3")
        assert guard.sweep(workspace) == 0
        assert engine.poll() is None
        hand.kill()
        hand.wait()
        assert guard.sweep(workspace) == 1
    finally:
        for child in (hand, engine):
            child.kill()
            child.wait()


START = """
import os, signal, subprocess, sys
status, more = sys.argv[1], sys.argv[2:]
environment = {**os.environ, "BPCP_RUN": status}
signal.signal(signal.SIGRTMIN, lambda *_: print("halted", flush=True))
guard = subprocess.Popen(
    [sys.executable, "-m", "bpcp.run.guard", status, "--run-pid", str(os.getpid()), *more],
    env=environment,
)
stray = subprocess.Popen(["setsid", "sleep", "60"], env=environment)
print(guard.pid, stray.pid, flush=True)
if sys.stdin.readline().strip() == "end":
    guard.send_signal(signal.SIGUSR1)
print("guard", guard.wait(), flush=True)
"""


def start(workspace: Workspace, *more: str) -> tuple[subprocess.Popen[str], int, int]:
    """Start one that stands for the entry script, with its guard and a process that strayed."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(workspace.status), *more],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    beside, stray = process.stdout.readline().split()
    # it is there once it leads a session
    wait_for(lambda: (p := read(int(beside))) is not None and p.session == p.pid)
    return process, int(beside), int(stray)


def test_when_the_entry_is_killed_the_guard_ends_the_rest(planned: Screen) -> None:
    workspace = planned.workspace
    workspace.log.mkdir(parents=True, exist_ok=True)
    process, beside, stray = start(workspace)
    process.kill()
    process.wait()
    wait_for(lambda: state(stray) in ("", "Z"))
    wait_for(lambda: state(beside) in ("", "Z"))
    assert "event=leftovers ended=1 entry=gone" in workspace.events.read_text()


def test_when_the_run_ends_the_guard_ends_what_is_left(planned: Screen) -> None:
    workspace = planned.workspace
    workspace.log.mkdir(parents=True, exist_ok=True)
    process, _, stray = start(workspace)
    said, _ = process.communicate("end\n", timeout=30)
    assert said == "guard 0\n"
    assert state(stray) in ("", "Z")
    assert "event=leftovers ended=1 entry=ended" in workspace.events.read_text()


def test_state_that_makes_no_sense_does_not_end_the_guard(planned: Screen) -> None:
    workspace = planned.workspace
    process, beside, stray = start(workspace)
    chunk = workspace.chunk(read_plan(workspace)[0].id)
    write_json(chunk.done, {"digest": read_plan(workspace)[0].digest, "failed": 3, "finished": 4})
    write_json(chunk.running, {"pid": None, "folder": [], "log": 1})
    time.sleep(2)
    assert state(beside) == "S"
    assert state(stray) == "S"
    said, _ = process.communicate("end\n", timeout=30)
    assert said == "guard 0\n"


def test_a_hopeless_run_is_told(planned: Screen) -> None:
    workspace = planned.workspace
    process, _, _ = start(workspace, "--max-failures=3")
    assert process.stdout is not None
    ends(workspace, 0, failed=2, ago_s=-60)
    ends(workspace, 1, failed=2, reason="broken, too", ago_s=-60)
    assert process.stdout.readline() == "halted\n"
    found = json.loads(workspace.halted.read_text())
    assert found == {
        "why": "4 of 12 image sets failed (--max-failures 3), 2 of them: broken",
        "failed": 4,
    }
    process.kill()
    process.communicate()
    wait_for(lambda: not marked(RUN, str(workspace.status)))


# --- one writer -------------------------------------------------------------------------------


def test_holders() -> None:
    now = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)
    holder = Holder(4711, "node3", "2026-11-20T09:50:00Z")
    assert holder.words(now) == (
        "process 4711 on node3, since 2026-11-20T09:50:00Z (2 h 10 min ago)"
    )
    assert Holder(1, "a", "yesterday").words(now) == "process 1 on a, since yesterday"


def test_what_a_lock_says(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert held_by(path, "this run") == "this run"
    path.write_bytes(b"\xff\xfe nonsense")
    assert Holder.read(path) is None
    path.write_text(Holder(7, "node3", "2026-11-20T09:50:00Z").text())
    assert Holder.read(path) == Holder(7, "node3", "2026-11-20T09:50:00Z")
    assert held_by(path, "this run").startswith("this run: process 7 on node3, since 2026-11-20")


def test_whether_the_holder_is_there(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path, "it"):
        found = Holder.read(path)
        assert found is not None
        assert not found.is_gone(path)
    # it lives, and has let go
    assert found.is_gone(path)
    dead = subprocess.Popen(["true"])
    dead.wait()
    assert Holder.here(dead.pid).is_gone(path)
    # nothing is known of other machines
    assert not Holder(dead.pid, "node3", "2026-11-20T09:50:00Z").is_gone(path)


def test_the_lock_is_taken_and_says_by_whom(planned: Screen) -> None:
    workspace = planned.workspace
    write_json(workspace.halted, {"why": "before"})
    stray = sleeper(workspace)
    handle = os.open(workspace.lock, os.O_RDWR | os.O_APPEND)
    try:
        assert enter.main([str(workspace.status), "--handle", str(handle), "--pid", "4711"]) == 0
        found = Holder.read(workspace.lock)
        assert found is not None
        assert (found.pid, found.host) == (4711, os.uname().nodename)
        # what an earlier start left is gone, what it said, too
        assert stray.wait(10) == -signal.SIGTERM
        assert not workspace.halted.exists()
    finally:
        os.close(handle)


def test_who_is_at_work_is_named(planned: Screen) -> None:
    workspace = planned.workspace
    stray = sleeper(workspace)
    try:
        with hold(workspace.lock, "it"):
            handle = os.open(workspace.lock, os.O_RDWR)
            with pytest.raises(BpcpError) as caught:
                enter.take(handle, workspace, 1, wait_s=0.2)
            os.close(handle)
        assert caught.value.code == Exit.STOPPED
        me = f"process {os.getpid()} on {os.uname().nodename}"
        assert str(caught.value).startswith(
            f"another process is at work on this run: {me}, since 20"
        )
        # its processes are its own
        assert stray.poll() is None
    finally:
        stray.kill()
        stray.wait()


def test_what_holds_a_dead_ones_lock_is_ended(planned: Screen) -> None:
    workspace = planned.workspace
    dead = subprocess.Popen(["true"])
    dead.wait()
    workspace.lock.write_text(Holder.here(dead.pid).text())
    theirs = os.open(workspace.lock, os.O_RDWR)
    fcntl.flock(theirs, fcntl.LOCK_EX)
    environment = {**os.environ, RUN: str(workspace.status)}
    heir = subprocess.Popen(["sleep", "60"], env=environment, pass_fds=(theirs,))
    os.close(theirs)
    heir.send_signal(signal.SIGSTOP)
    handle = os.open(workspace.lock, os.O_RDWR | os.O_APPEND)
    try:
        enter.take(handle, workspace, 4711, wait_s=0)
    finally:
        os.close(handle)
    assert heir.wait(10) == -signal.SIGTERM


# --- chunks that were lost --------------------------------------------------------------------


def test_lost_are_those_without_verdict_and_without_a_word(
    planned: Screen, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = planned.workspace
    first, second, third, *others = [p.id for p in read_plan(workspace)]
    ends(workspace, 0, failed=1)
    write_json(workspace.chunk(second).error, {"reason": "no room", "code": 73})
    # of a start before this one: when it was tried again, its run-chunk was killed
    ends(workspace, 2, failed=1)
    os.utime(workspace.chunk(third).done, (0, 0))
    since = time.time() - 1000
    # those that were never started are not lost
    started = [first, second, third, others[0]]
    assert lost.lost(workspace, started, since) == [third, others[0]]
    folder = workspace.attempts / "bpcp-x"
    folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(started)))
    assert lost.main([str(workspace.status), "--since", str(since)]) == 0
    assert capsys.readouterr().out.split() == [third, others[0]]
    assert not folder.exists()


def test_an_image_set_that_is_through_disproves_it_before_its_chunk_ends(
    planned: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = planned.workspace
    for number in range(5):
        ends(workspace, number, failed=2)
    log = workspace.status / "log"
    running = {"pid": os.getpid(), "folder": "x", "log": str(log)}
    write_json(workspace.chunk(planned.chunks()[5]).running, running)
    told: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: told.append(pid))
    last = (read_json(workspace.run) or {})["last_module"]
    log.write_text(f"x: Image # 1, module Export # {last}: CPU_time = 0.01 secs\n")
    watching = guard.Guard(workspace, 4711, None)
    watching._tally = tally(workspace)
    watching.look()
    assert told == []
    log.write_text("Times reported are CPU and Wall-clock times\n")
    watching.look()
    assert told == [4711]
    assert "succeeded" in (read_json(workspace.halted) or {})["why"]


def test_what_a_dead_run_chunk_left_is_found_though_nobody_waited_for_it(planned: Screen) -> None:
    """As in a container whose first process waits for nobody."""
    workspace = planned.workspace
    folder = str(workspace.attempts / "x")
    marks = {RUN: str(workspace.status), ATTEMPT: folder}
    with subprocess.Popen(["sleep", "60"]) as dead:
        left = subprocess.Popen(["sleep", "60"], env={**os.environ, **marks})
        try:
            running = {"pid": dead.pid, "folder": folder, "log": "x"}
            write_json(workspace.chunk(planned.chunks()[0]).running, running)
            # as long as it lives, it is run by hand
            assert guard.of_run(workspace) == []
            dead.kill()
            os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
            assert guard.of_run(workspace) == [left.pid]
        finally:
            left.kill()
            left.wait()


def test_a_disk_that_is_full_does_not_keep_a_hopeless_run_going(
    planned: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        ends(planned.workspace, number, failed=2)
    told: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: told.append(pid))
    watching = guard.Guard(planned.workspace, 4711, None)
    watching._tally = tally(planned.workspace)

    def full(*_: object) -> None:
        raise BpcpError(Exit.CANNOT_CREATE, "full")

    with monkeypatch.context() as patch:
        patch.setattr(guard, "write_json", full)
        with pytest.raises(BpcpError):
            watching.look()
    assert told == []
    watching.look()
    watching.look()
    assert told == [4711]
