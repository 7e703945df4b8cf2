"""Which processes are there, what they do, and how those of ours are ended.

What bpcp starts carries a mark in its environment, which its own children inherit, also those that
leave its process group and its session. So it can be found whoever was killed on the way, as
continuous integration servers find what a build left running.

This is part of every chunk, so it imports nothing heavy. Source: proc(5), pidfd_open(2).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# The marks: a run's is its status folder, an attempt's is its private folder.
RUN = "BPCP_RUN"
ATTEMPT = "BPCP_ATTEMPT"

PROC = Path("/proc")
_LOOK_S = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """What the kernel says of a process.

    Attributes
    ----------
    state : str
        R running, S asleep, D waiting for a disk, T stopped, Z dead and not yet waited for.
    cpu_s : float
        CPU seconds, its ended children's that it waited for included.
    memory : int
        Bytes that it holds in memory.
    started : int
        Clock ticks from the machine's start; with `pid` it names a process for good.
    """

    pid: int
    parent: int
    session: int
    state: str
    cpu_s: float
    memory: int
    started: int


def read(pid: int, proc: Path = PROC) -> Process | None:
    """Read what the kernel says of a process; None where there is none."""
    try:
        text = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # the name stands in parentheses, and may hold some itself
    words = text[text.rindex(b")") + 2 :].split()
    user, system, children_user, children_system = (int(w) for w in words[11:15])
    return Process(
        pid=pid,
        parent=int(words[1]),
        session=int(words[3]),
        state=words[0].decode(),
        cpu_s=(user + system + children_user + children_system) / _TICKS,
        memory=int(words[21]) * _PAGE,
        started=int(words[19]),
    )


def is_alive(pid: int) -> bool:
    """Tell whether there is such a process; one that is dead and not yet waited for is none."""
    found = read(pid)
    return found is not None and found.state != "Z"


def everyone(proc: Path = PROC) -> Iterator[Process]:
    """Read all processes of this machine, or of this container."""
    for name in os.listdir(proc):  # noqa: PTH208 -- names are enough
        if name.isdigit() and (found := read(int(name), proc)):
            yield found


def tree(pid: int, proc: Path = PROC) -> list[Process]:
    """List a process that leads a session, what it started, and all others of its session."""
    there = list(everyone(proc))
    found = {p.pid: p for p in there if p.pid == pid or p.session == pid}
    while more := [p for p in there if p.parent in found and p.pid not in found]:
        found.update((p.pid, p) for p in more)
    return list(found.values())


def marked(name: str, value: str, proc: Path = PROC) -> list[int]:
    """List this user's processes that carry a mark, the caller left out."""
    found = []
    for entry in os.listdir(proc):  # noqa: PTH208
        if entry.isdigit() and int(entry) != os.getpid() and carries(int(entry), name, value, proc):
            found.append(int(entry))
    return found


def carries(pid: int, name: str, value: str, proc: Path = PROC) -> bool:
    """Tell whether a process carries a mark; one that is dead, or another user's, does not."""
    try:
        environment = (proc / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return os.fsencode(f"{name}={value}") in environment.split(b"\0")


def send(pids: Iterable[int], number: signal.Signals, still: Callable[[int], bool]) -> None:
    """Send a signal to processes, as far as they are still the ones that were meant.

    Parameters
    ----------
    still : callable
        Tells that, given a number.
    """
    for pid in pids:
        with _held(pid) as held:
            if still(pid):
                with suppress(ProcessLookupError, PermissionError):
                    held(number)


@contextmanager
def _held(pid: int) -> Iterator[Callable[[signal.Signals], None]]:
    """Have hold of a process, so that its number can't become another one's; gives its `kill`."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        # no such process, which kill says too; or no such call: before Linux 5.3, or a sandbox
        yield lambda number: os.kill(pid, number)
        return
    try:
        yield lambda number: signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def end_marked(name: str, value: str, kindly_s: float = 0.0, patience_s: float = 10.0) -> list[int]:
    """End all processes that carry a mark, and those that they start meanwhile.

    Parameters
    ----------
    kindly_s : float
        Seconds between SIGTERM and SIGKILL; 0 leaves SIGTERM out.
    patience_s : float
        How long to go on after that: one that waits for a disk can't be ended.

    Returns
    -------
    list of int
        Those that are still there.
    """

    def find() -> list[int]:
        return marked(name, value)

    end(find, lambda pid: carries(pid, name, value), kindly_s, patience_s)
    return find()


def end(
    find: Callable[[], list[int]],
    still: Callable[[int], bool],
    kindly_s: float,
    patience_s: float = 10.0,
) -> int:
    """End all processes that are found, again and again, until there are none; see `end_marked`.

    Parameters
    ----------
    find : callable
        Lists them.
    still : callable
        Tells whether a process is one of them.

    Returns
    -------
    int
        How many were sent a signal.
    """
    told: set[int] = set()
    stop = time.monotonic() + kindly_s
    while (left := find()) and time.monotonic() < stop:
        new = [pid for pid in left if pid not in told]
        send(new, signal.SIGTERM, still)
        # one that is stopped hears it only when it goes on
        send(new, signal.SIGCONT, still)
        told.update(new)
        time.sleep(_LOOK_S)
    stop = time.monotonic() + patience_s
    while left and time.monotonic() < stop:
        send(left, signal.SIGKILL, still)
        told.update(left)
        time.sleep(_LOOK_S)
        left = find()
    return len(told)
