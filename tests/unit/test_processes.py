from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HOSTILE
from s3server import wait_for

from bpcp import processes
from bpcp.processes import RUN, end_marked, marked, read, send, tree


class Children:
    """Processes that a test starts, gone after it."""

    def __init__(self) -> None:
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str, mark: str = "", **more: bool) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **({RUN: mark} if mark else {})}
        child = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, **more)  # type: ignore[call-overload]
        self._all.append(child)
        return child  # type: ignore[no-any-return]

    def end(self) -> None:
        for child in self._all:
            child.kill()
            child.wait()


@pytest.fixture
def children() -> Iterator[Children]:
    found = Children()
    yield found
    found.end()


def state(pid: int) -> str:
    found = read(pid)
    return found.state if found else ""


def gone(pid: int) -> bool:
    return state(pid) in ("", "Z")


def test_what_the_kernel_says_of_a_process(children: Children) -> None:
    child = children.start("sleep", "60", start_new_session=True)
    wait_for(lambda: state(child.pid) == "S")
    found = read(child.pid)
    assert found is not None
    assert (found.parent, found.session) == (os.getpid(), child.pid)
    assert found.memory > 0
    child.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(child.pid) == "T")
    child.kill()
    wait_for(lambda: state(child.pid) == "Z")
    child.wait()
    assert read(child.pid) is None


def test_a_name_with_parentheses_and_spaces_is_read_past(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    rest = [
        "S",
        "1",
        "7",
        "7",
        *["0"] * 7,
        "100",
        "50",
        "10",
        "5",
        "0",
        "0",
        "1",
        "0",
        "999",
        "0",
        "3",
    ]
    (tmp_path / "7" / "stat").write_bytes(b"7 (a) b ( c) " + " ".join(rest).encode())
    (tmp_path / "self").mkdir()
    (found,) = processes.everyone(tmp_path)
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert found == processes.Process(7, 1, 7, "S", 165 / ticks, 3 * page, 999)


def test_cpu_seconds_are_counted(children: Children) -> None:
    child = children.start(sys.executable, "-c", "while True: pass")
    wait_for(lambda: (found := read(child.pid)) is not None and found.cpu_s > 0.2)


def test_a_tree_is_children_and_the_whole_session(children: Children) -> None:
    script = "sleep 61 & (sleep 62 & exec true) ; setsid sleep 63 & echo up; wait"
    leader = children.start("bash", "-c", script, mark="tree of a test", start_new_session=True)
    assert leader.stdout is not None
    leader.stdout.readline()
    # 62 has lost its parent and is in the session; 63 is a child in one of its own
    wait_for(lambda: len(tree(leader.pid)) == 4)
    assert {p.pid for p in tree(leader.pid)} == {leader.pid, *marked(RUN, "tree of a test")} - set()
    assert end_marked(RUN, "tree of a test") == []


def test_marked_are_those_that_carry_it_exactly(children: Children) -> None:
    mark = f"/data/{HOSTILE}\nx"
    one = children.start("sleep", "60", mark=mark)
    children.start("sleep", "60", mark=mark + "2")
    children.start("sleep", "60")
    wait_for(lambda: marked(RUN, mark) == [one.pid])
    assert marked(RUN, mark[:-1]) == []
    one.kill()
    # one that is dead and not waited for carries none
    wait_for(lambda: state(one.pid) == "Z")
    assert marked(RUN, mark) == []


def test_the_caller_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(f"/proc/{os.getpid()}/environ").read_bytes().split(b"\0")[0]
    name, _, value = os.fsdecode(own).partition("=")
    assert processes.carries(os.getpid(), name, value)
    assert os.getpid() not in marked(name, value)


def test_nothing_is_sent_to_one_that_is_another_by_now(children: Children) -> None:
    child = children.start("sleep", "60")
    send([child.pid], signal.SIGKILL, lambda _: False)
    # nor is one that is gone an error
    send([2**22 - 1], signal.SIGKILL, lambda _: True)
    time.sleep(0.1)
    assert child.poll() is None
    send([child.pid], signal.SIGKILL, lambda pid: pid == child.pid)
    assert child.wait(10) == -signal.SIGKILL


def test_where_the_kernel_gives_no_hold_it_is_sent_all_the_same(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "pidfd_open", refuse)
    child = children.start("sleep", "60")
    send([child.pid], signal.SIGTERM, lambda _: True)
    assert child.wait(10) == -signal.SIGTERM


def test_kindly_first(children: Children, tmp_path: Path) -> None:
    script = 'trap "touch \\"$1\\"; exit 0" TERM; echo up; while :; do sleep 0.05; done'
    child = children.start("bash", "-c", script, "-", str(tmp_path / "tidy"), mark="kind")
    assert child.stdout is not None
    child.stdout.readline()
    assert end_marked(RUN, "kind", kindly_s=10) == []
    assert child.wait(10) == 0
    assert (tmp_path / "tidy").exists()


def test_one_that_does_not_listen_is_killed_also_where_it_is_stopped(children: Children) -> None:
    deaf = children.start(
        "bash", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done", mark="deaf"
    )
    assert deaf.stdout is not None
    deaf.stdout.readline()
    stopped = children.start("sleep", "60", mark="deaf")
    stopped.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(stopped.pid) == "T")
    assert end_marked(RUN, "deaf", kindly_s=0.5) == []
    assert deaf.wait(10) == -signal.SIGKILL
    # it went on, and so heard the first word
    assert stopped.wait(10) == -signal.SIGTERM


def test_what_starts_others_meanwhile_is_ended_with_them(children: Children) -> None:
    script = "trap '' TERM; echo up; while :; do setsid sleep 60 & sleep 0.01; done"
    child = children.start("bash", "-c", script, mark="breeds")
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.3)
    assert len(marked(RUN, "breeds")) > 3
    assert end_marked(RUN, "breeds", kindly_s=0.2) == []
    wait_for(lambda: gone(child.pid))
    assert marked(RUN, "breeds") == []


def test_one_that_is_dead_and_not_waited_for_is_not_alive() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert processes.is_alive(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        found = processes.read(child.pid)
        assert found is not None
        assert found.state == "Z"
        assert not processes.is_alive(child.pid)
    assert not processes.is_alive(child.pid)
