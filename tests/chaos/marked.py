"""The processes of a round: each start carries a mark of its own in its environment.

A process hands it on to its children, also across a new session; a forked shell that never became
another program shows it as well. So a process is found whoever between it and the bench was killed.
That the product has marks of its own is none of the bench's business: a judge asks nobody.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "BPCP_CHAOS"
# Whom harm may meet; "helper" is any Python process beside or between the chunks.
GROUPS = ("entry", "parallel", "run-chunk", "CellProfiler", "helper", "shell", "other")

_LOOK_S = 0.02
_MODULE = re.compile(r"bpcp(?:\.run)?\.(\w+)(\.\w+)*")


@dataclass(frozen=True)
class Process:
    """A process of a round.

    Attributes
    ----------
    role : str
        What it does: one of `GROUPS`, but for a helper the name of its module.
    group : str
        One of `GROUPS`.
    state : str
        As in proc(5): R, S, D, T …
    """

    pid: int
    role: str
    group: str
    state: str
    words: str

    def __str__(self) -> str:
        """Name it."""
        return f"{self.role} ({self.pid})"


def found(mark: str, *, below: bool = False, entry: int = 0) -> list[Process]:
    """List the living processes that carry a mark, by their ids; the caller is left out.

    Parameters
    ----------
    below : bool
        Whether marks that go on after this one (`mark/…`) count, too.
    entry : int
        Which of them is the entry script.
    """
    there = []
    # numbers as they come from the kernel: nothing is resolved, a name is enough
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):  # noqa: PTH208
        if pid != os.getpid() and _carries(pid, mark, below):
            with suppress(OSError):
                there.append(_read(pid, entry))
    return there


def _carries(pid: int, mark: str, below: bool) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    own = os.fsencode(f"{MARK}={mark}")
    return any(e == own or (below and e.startswith(own + b"/")) for e in environment)


def _read(pid: int, entry: int) -> Process:
    words = [
        w.decode(errors="replace") for w in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    role, group = ("entry", "entry") if pid == entry else role_of(words)
    # the little program that all modules are started by says nothing
    said = " ".join(w for w in words if "\n" not in w).strip()
    return Process(pid, role, group, state, said[-160:])


def role_of(words: list[str]) -> tuple[str, str]:
    """Tell from a command line what a process does: its role, and the group that it is of."""
    name = Path(words[0]).name if words and words[0] else "nothing"
    if name == "perl":
        return "parallel", "parallel"
    module = next((m[1] for w in words[1:] if (m := _MODULE.fullmatch(w))), "")
    if module == "chunk" or "run-chunk" in words:
        return "run-chunk", "run-chunk"
    if module:
        return module, "helper"
    if any(Path(w).name == "cellprofiler" for w in words[:6]):
        return "CellProfiler", "CellProfiler"
    return ("shell", "shell") if name in ("bash", "sh") else (name, "other")


def send(pid: int, number: signal.Signals, mark: str) -> bool:
    """Send a signal to a process, if it is still one of this mark, or below it."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # had hold of first, asked second: so the number can't have become somebody else's
        if not _carries(pid, mark, below=True):
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def await_none(look: Callable[[], list[Process]], patience_s: float) -> list[Process]:
    """Wait until nothing is found; give what is still there when patience ends."""
    end = time.monotonic() + patience_s
    while (left := look()) and time.monotonic() < end:
        time.sleep(_LOOK_S)
    return left


def end_all(mark: str, patience_s: float = 10.0) -> list[Process]:
    """Kill all processes of a mark and below it, and what they start meanwhile; give the rest."""

    def kill() -> list[Process]:
        left = found(mark, below=True)
        for process in left:
            send(process.pid, signal.SIGKILL, mark)
        return left

    return await_none(kill, patience_s)
