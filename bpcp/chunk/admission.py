"""When one more CellProfiler may start: when memory and disks have room for it.

Chunks start one after another, each in its turn. Who has the turn waits until there is room, and
all others wait behind it, at no cost. What runs is found by the marks that it carries, so that
nothing has to be kept in step, and other runs of the same user on this machine are seen as well.

This is part of every chunk, so it imports nothing heavy.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bpcp import processes
from bpcp.limits import GB, cgroup_folders, read_limits, table
from bpcp.processes import ATTEMPT
from bpcp.staging import free_bytes
from bpcp.workspace import Json, Workspace

# Memory that an attempt may come to take, in MB of 1024² bytes, in its environment.
NEEDS = "BPCP_NEEDS_MB"
# Set for an attempt that nothing may run beside.
ALONE = "BPCP_ALONE"

_LOOK_S = 1.0
# Below this, the kernel begins to throw out what others need, to swap, and to kill.
_FLOOR_MB = 100.0
_MIB = 1024**2
# Below this, nothing is written that could be left half.
_LEAST_STATE = 4_000_000
# With so much room one always runs: what it can't write for want of more waits then.
_LEAST_ROOM = 64_000_000
# What the turn's file is filled up to: written over in place, it needs no room on a full disk.
_WORDS = 1024


@dataclass(frozen=True)
class AtWork:
    """A CellProfiler at work for an attempt.

    Attributes
    ----------
    promised_mb : float
        What it may still come to take, beyond what it holds.
    """

    pid: int
    started: int
    run: str
    promised_mb: float
    alone: bool


@dataclass(frozen=True)
class Need:
    """What an attempt needs to start.

    Attributes
    ----------
    memory_mb : float
    alone : bool
        Whether nothing else of this run may be at work.
    room : int
        Bytes that it may write.
    at : Path
        The folder that needs that room.
    """

    memory_mb: float
    alone: bool
    room: int
    at: Path

    @property
    def environment(self) -> dict[str, str]:
        """Give the marks by which others see what it needs."""
        return {NEEDS: f"{self.memory_mb:.0f}", **({ALONE: "1"} if self.alone else {})}


def at_work(proc: Path = processes.PROC) -> list[AtWork]:
    """List the attempts of this user that are at work on this machine."""
    found = []
    for entry in os.listdir(proc):  # noqa: PTH208 -- names are enough
        if not entry.isdigit():
            continue
        with suppress(OSError, ValueError):
            # each leads a session, and few others do; what it started itself is its own
            if os.getsid(int(entry)) != int(entry):
                continue
            pairs = (proc / entry / "environ").read_bytes().split(b"\0")
            marks = dict(p.split(b"=", 1) for p in pairs if p.startswith(b"BPCP_") and b"=" in p)
            process = processes.read(int(entry), proc) if ATTEMPT.encode() in marks else None
            if process:
                needs_mb = float(marks.get(NEEDS.encode(), b"0"))
                found.append(
                    AtWork(
                        process.pid,
                        process.started,
                        os.fsdecode(marks.get(processes.RUN.encode(), b"")),
                        max(0.0, needs_mb - process.memory / _MIB),
                        ALONE.encode() in marks,
                    )
                )
    return found


def free_mb() -> float:
    """Give the memory that can still be taken; limits of containers and cgroups count."""
    return read_limits().mem_free_gb * GB / _MIB


def shortage(
    workspace: Workspace, need: Need, there: list[AtWork], memory_mb: float, room: int
) -> str:
    """Say what an attempt has to wait for; "" where it may start.

    Parameters
    ----------
    there : list of AtWork
        What is at work.
    memory_mb, room : float, int
        Memory that is free, and bytes at the place that the attempt writes to.
    """
    own = [a for a in there if a.run == str(workspace.status)]
    if own and (need.alone or any(a.alone for a in own)):
        return "memory: one that ran out of it runs alone"
    left_mb = memory_mb - sum(a.promised_mb for a in there) - _FLOOR_MB
    # one of them always runs: to wait for what others take would be to wait for ever
    if own and left_mb < need.memory_mb:
        return f"memory: {max(0.0, left_mb):,.0f} MB are free, one more takes {need.memory_mb:,.0f}"
    wanted = need.room * (len(own) + 1) if own else min(need.room, _LEAST_ROOM)
    if room < wanted:
        return _full(need.at, room, wanted)
    return ""


@contextmanager
def turn(workspace: Workspace, need: Callable[[], Need]) -> Iterator[Need]:
    """Wait until one more attempt may start; start it within the block.

    Parameters
    ----------
    need : callable
        Gives what it needs; asked before each look, for it is learned from the others.
    """
    handle = _open(workspace)
    # unknown: whoever died while it waited left words
    said: str | None = None
    # all others wait for who has the turn: what takes a while is done before
    wanted, asked = need(), time.monotonic()
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if time.monotonic() - asked > _LOOK_S:
            # others have taught something since
            wanted = need()
        while True:
            why = shortage(workspace, wanted, at_work(), free_mb(), free_bytes(wanted.at))
            if why != said:
                _say(handle, why)
                _note(workspace, why)
                said = why
            if not why:
                break
            time.sleep(_LOOK_S)
            wanted = need()
        yield wanted
    finally:
        if said:
            _say(handle, "")
        os.close(handle)


def ensure_room(workspace: Workspace) -> None:
    """Wait where not even a state file has room."""
    while free_bytes(fullest(workspace)) < _LEAST_STATE:
        await_room(workspace, _LEAST_STATE)


def fullest(workspace: Workspace) -> Path:
    """Give the folder of the run whose disk has least room: the state's, or the result's."""
    result = next(p for p in (workspace.analysis, *workspace.analysis.parents) if p.exists())
    return min((workspace.status, result), key=free_bytes)


def await_room(workspace: Workspace, size: int, pause_s: float = 0.0) -> None:
    """Wait, as a disk was full, until there is room for so many bytes; and say so meanwhile.

    Parameters
    ----------
    pause_s : float
        For so long at least: a quota, or too many files, can't be seen from here.
    """
    pause_s = pause_s or _LOOK_S
    handle = _open(workspace)
    try:
        while True:
            at = fullest(workspace)
            _say(handle, _full(at, free_bytes(at), size))
            time.sleep(pause_s)
            if free_bytes(fullest(workspace)) >= size:
                break
        _say(handle, "")
    finally:
        os.close(handle)


def _open(workspace: Workspace) -> int:
    handle = os.open(workspace.turn, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    if os.fstat(handle).st_size < _WORDS:
        # while there is room
        with suppress(OSError):
            os.pwrite(handle, b" " * _WORDS, 0)
    return handle


def _full(at: Path, free: int, wanted: int) -> str:
    return f"room: {at} has {_mb(free)} MB free, {_mb(wanted)} are needed"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}" if size >= 1e7 else f"{size / 1e6:.1f}"


def _note(workspace: Workspace, why: str) -> None:
    """Write down what is waited for; that nothing is any more, only where it was."""
    if why:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with suppress(OSError), workspace.events.open("a", encoding="utf-8") as file:
            file.write(f"time={stamp} event=waits for={json.dumps(why)}\n")


def _say(handle: int, why: str) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    content: Json = {"waits_for": why, "since": since} if why else {}
    text = json.dumps(content).encode()
    if len(text) > _WORDS:
        # a path beyond measure
        text = json.dumps({**content, "waits_for": why[:60] + "…"}).encode()
    text = text.ljust(_WORDS)
    with suppress(OSError):
        os.pwrite(handle, text, 0)


def waits_for(workspace: Workspace) -> str:
    """Say what the next chunk of this machine waits for; "" where it does not wait."""
    try:
        found = json.loads(workspace.turn.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(found.get("waits_for", ""))


def must_yield(workspace: Workspace, pid: int) -> bool:
    """Tell whether an attempt has to end, so that the kernel need not choose one.

    Memory is all but gone, and of all of its run that are at work it began last.
    """
    if free_mb() >= _FLOOR_MB:
        return False
    there = [a for a in at_work() if a.run == str(workspace.status)]
    youngest = max(there, key=lambda a: (a.started, a.pid), default=None)
    return len(there) > 1 and youngest is not None and youngest.pid == pid


def kills_so_far(proc: Path = processes.PROC, cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the processes that were killed for memory: of the own control group, or of the machine.

    Source: Documentation/admin-guide/cgroup-v2.rst (memory.events) and cgroup-v1/memory.rst.
    """
    with suppress(OSError):
        membership = (proc / "self" / "cgroup").read_text(encoding="utf-8")
        for folder in cgroup_folders(membership, cgroups):
            for name in ("memory.events", "memory.oom_control"):
                if "oom_kill" in (found := table(folder / name)):
                    return found["oom_kill"]
    return table(proc / "vmstat").get("oom_kill", 0)


def kill_first(pid: int) -> None:
    """Let the kernel, where it must kill one, choose this one before anything else."""
    # root's limits may forbid it in some containers
    with suppress(OSError):
        (processes.PROC / str(pid) / "oom_score_adj").write_text("1000")
