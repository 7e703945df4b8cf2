"""Become the one writer of a run: take its lock, and end what an earlier, dead start left running.

The lock is inherited by what a start runs, so it is not free before all of that has ended. Where
who took it is dead, what still holds it is ended here: nobody ever has to remove a lock by hand.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.holder import Holder, held_by
from bpcp.processes import send
from bpcp.run.guard import is_of_run, of_run
from bpcp.workspace import Workspace

_LOOK_S = 0.05
# A live holder may be about to end; then what a dead one left, which is told to end and given time
_WAIT_S = 5.0
_KINDLY_S = 5.0
_PATIENCE_S = 15.0


def take(handle: int, workspace: Workspace, pid: int, wait_s: float = _WAIT_S) -> None:
    """Take the lock for a process, by a handle on its file that the process has open, too.

    Parameters
    ----------
    wait_s : float
        How long to wait for somebody who is at work.

    Raises
    ------
    BpcpError
        75 where somebody else holds it: who, and since when.
    """
    leftovers = Leftovers(workspace)
    began = time.monotonic()
    while not _is_taken(handle):
        holder = Holder.read(workspace.lock)
        waited = time.monotonic() - began
        # asked anew each time: another start may have come first
        gone = holder is not None and holder.is_gone(workspace.lock)
        if gone:
            leftovers.end()
        if waited >= (_PATIENCE_S if gone else wait_s):
            kill = f" (kill {holder.pid})" if holder and not gone else ""
            raise BpcpError(
                Exit.STOPPED,
                held_by(workspace.lock, "another process is at work on this run"),
                f"wait for it, or end it{kill}; the lock goes with it",
            )
        time.sleep(_LOOK_S)
    os.ftruncate(handle, 0)
    os.write(handle, Holder.here(pid).text().encode())
    # also what does not hold the lock
    end = time.monotonic() + _PATIENCE_S
    while leftovers.end() and time.monotonic() < end:
        time.sleep(_LOOK_S)


def _is_taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Leftovers:
    """What an earlier start left running: told to end once, and then made to."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._told: set[int] = set()
        self._began = time.monotonic()

    def end(self) -> bool:
        """Go on ending it; tell whether there is still something."""
        status = str(self._workspace.status)
        found = of_run(self._workspace)
        if not found:
            return False
        if not self._told:
            self._began = time.monotonic()

        def still(pid: int) -> bool:
            return is_of_run(pid, status)

        if time.monotonic() - self._began > _KINDLY_S:
            send(found, signal.SIGKILL, still)
        else:
            new = [pid for pid in found if pid not in self._told]
            for number in (signal.SIGTERM, signal.SIGCONT):
                send(new, number, still)
            self._told.update(new)
        return True


def main(argv: Sequence[str]) -> int:
    """Take the lock of a run for the entry script."""
    parser = Parser("run")
    parser.add_argument("status", type=Path)
    parser.add_argument("--handle", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    args = parser.parse_args(argv)
    # there may be no run yet, only its folder
    status: Path = args.status
    workspace = Workspace(status.parents[2], status.parent.name, status.name)
    try:
        take(args.handle, workspace, args.pid)
    except KeyboardInterrupt:
        return 130
    workspace.halted.unlink(missing_ok=True)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
