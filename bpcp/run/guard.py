"""Stand beside a run: nothing that it started outlives it, and one that is hopeless is stopped.

The entry script can be killed, and GNU parallel, and a run-chunk; what they started may have left
their process groups and their sessions. The guard is in a session of its own, hears none of the
signals of a terminal, and finds all of it by the run's mark.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bpcp import processes
from bpcp.background import tell_when_orphaned
from bpcp.cellprofiler import finished_in
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.failure import STALL_MIN, Kind, kind_of
from bpcp.processes import ATTEMPT, RUN
from bpcp.workspace import (
    Json,
    Planned,
    Workspace,
    read_json,
    read_plan,
    write_json,
)

# What the entry script is told a hopeless run by; bash calls it RTMIN.
HALT = signal.SIGRTMIN
# What the entry script tells the guard by that the run is over.
_OVER = signal.SIGUSR1
# What the kernel tells it by that the entry script is gone: also one that was stopped hears it.
_ORPHANED = signal.SIGCONT
_LOOK_S = 0.5
# Of the time, at most, that looking may take.
_SHARE = 0.05
# How often run-chunks are looked at, in seconds.
_ROUND_S = 5.0
# After a run that ended in good order, what it started may take this long to end by itself.
_BY_ITSELF_S = 2.0
# Between TERM and KILL: run-chunk clears its folder away.
_KINDLY_S = 5.0
# So many chunks of which nothing succeeded, and so many image sets that were tried, prove the
# pipeline at fault, where nothing else succeeded: what fails at once ends before what is good.
_PROOF = 3
_PROOF_SETS = 10


# --- whom to end ------------------------------------------------------------------------------


def of_run(workspace: Workspace) -> list[int]:
    """List the processes of a run's starts.

    Who runs one of its chunks by hand is none of them, nor is the CellProfiler of that one.
    """
    found = processes.marked(RUN, str(workspace.status))
    # to ask each of many thousand chunks takes a while
    apart = _by_hand(workspace) if found else []
    return [
        pid for pid in found if not any(processes.carries(pid, ATTEMPT, folder) for folder in apart)
    ]


def is_of_run(pid: int, status: str) -> bool:
    """Tell whether a process carries the mark of a run."""
    return processes.carries(pid, RUN, status)


def _by_hand(workspace: Workspace) -> list[str]:
    """List the folders of attempts whose run-chunk is alive and not of a start of the run."""
    found = []
    folders = os.listdir(workspace.chunks) if workspace.chunks.is_dir() else []  # noqa: PTH208
    for name in folders:
        running = read_json(workspace.chunk(name).running) or {}
        # one that makes no sense protects nobody
        with suppress(KeyError, TypeError, ValueError):
            pid = int(running["pid"])
            if processes.is_alive(pid) and not is_of_run(pid, str(workspace.status)):
                found.append(str(running["folder"]))
    return found


def sweep(workspace: Workspace, by_itself_s: float = 0.0, kindly_s: float = _KINDLY_S) -> int:
    """End all that a run started and that is still there.

    Parameters
    ----------
    by_itself_s : float
        How long to wait for it to end by itself.
    kindly_s : float
        Seconds between SIGTERM and SIGKILL.

    Returns
    -------
    int
        How many processes had to be told.
    """
    status = str(workspace.status)
    end = time.monotonic() + by_itself_s
    while (found := of_run(workspace)) and time.monotonic() < end:
        time.sleep(0.02)
    if not found:
        return 0
    return processes.end(lambda: of_run(workspace), lambda p: is_of_run(p, status), kindly_s)


# --- when to give up --------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """How many image sets may fail in one start.

    Attributes
    ----------
    count : int or None
        That many stop the run.
    percent : int or None
        That share of all image sets of the dataset does.
    """

    count: int | None = None
    percent: int | None = None

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read "50" or "5%".

        Raises
        ------
        BpcpError
            64 where it is neither.
        """
        found = re.fullmatch(r"0*([1-9][0-9]{0,17})(%?)", text, re.ASCII)
        if not found or (found[2] and int(found[1]) > 100):
            raise BpcpError(
                Exit.USAGE,
                f"--max-failures {text}: neither a number of image sets nor a share of them",
                "50, 5%",
            )
        return cls(percent=int(found[1])) if found[2] else cls(count=int(found[1]))

    def is_reached(self, failed: int, total: int) -> bool:
        """Tell whether so many of a dataset's image sets are too many."""
        if self.count is not None:
            return failed >= self.count
        return self.percent is not None and failed > 0 and 100 * failed >= self.percent * total

    def __str__(self) -> str:
        return f"{self.percent}%" if self.count is None else str(self.count)


class Tally:
    """What ended in this start, and how; each verdict is read once.

    Attributes
    ----------
    total : int
        Image sets of the plan.
    good : int
        Those that succeeded, in whatever start.
    failed : int
        Those that failed in this start.
    hopeless : int
        Chunks of this start in which CellProfiler was tried and not one image set succeeded.
    tried : int
        Image sets of these at which it was tried.
    left : int
        Chunks that are still to run in this start.
    """

    def __init__(self, workspace: Workspace, since: float) -> None:
        self._workspace = workspace
        self._since = since
        self._plan_seen = (0, 0)
        self._chunks: list[tuple[Planned, str]] = []
        # by chunk: when its verdict was last written, and what it says
        self._seen: dict[str, tuple[int, _Ended]] = {}
        self.total = self.good = self.failed = self.hopeless = self.tried = self.left = 0

    def look(self) -> None:
        """Read what changed."""
        self._read_plan()
        self.good = self.failed = self.hopeless = self.tried = self.left = 0
        for planned, path in self._chunks:
            ended = self._ended(planned, path)
            if ended is not None:
                self.good += ended.good
                self.failed += len(ended.reasons)
                self.hopeless += ended.hopeless > 0
                self.tried += ended.hopeless
            if ended is None or ended.runs_again:
                self.left += 1

    def chunks(self) -> list[str]:
        """List all chunks."""
        return [planned.id for planned, _ in self._chunks]

    def reasons(self) -> Counter[str]:
        """Count why image sets failed in this start."""
        known = (self._seen.get(planned.id) for planned, _ in self._chunks)
        return Counter(reason for seen in known if seen for reason in seen[1].reasons)

    def _read_plan(self) -> None:
        try:
            found = self._workspace.plan.stat()
        except OSError:
            return
        if (found.st_mtime_ns, found.st_ino) == self._plan_seen:
            return
        self._chunks = [
            (p, str(self._workspace.chunk(p.id).done)) for p in read_plan(self._workspace)
        ]
        self._plan_seen = (found.st_mtime_ns, found.st_ino)
        self.total = sum(len(p.image_numbers) for p, _ in self._chunks)
        self._seen.clear()

    def _ended(self, planned: Planned, path: str) -> _Ended | None:
        try:
            written = os.stat(path).st_mtime_ns  # noqa: PTH116 -- of each chunk at each look
        except OSError:
            self._seen.pop(planned.id, None)
            return None
        known = self._seen.get(planned.id)
        if known is None or known[0] != written:
            done = read_json(Path(path))
            if done is None or done.get("digest") != planned.digest:
                self._seen.pop(planned.id, None)
                return None
            known = (written, _Ended.of(done, len(planned.image_numbers), self._since))
            self._seen[planned.id] = known
        return known[1]


@dataclass(frozen=True)
class _Ended:
    """How a chunk ended.

    Attributes
    ----------
    good : int
        Image sets that succeeded.
    reasons : tuple of str
        Of those that failed in this start.
    hopeless : int
        Where it ended in this start and nothing succeeded: at how many image sets it was tried.
    runs_again : bool
        Whether it failed in an earlier start, and so is run again in this one.
    """

    good: int
    reasons: tuple[str, ...]
    hopeless: int
    runs_again: bool

    @classmethod
    def of(cls, done: Json, image_sets: int, since: float) -> _Ended:
        finished = datetime.fromisoformat(str(done["finished"]).replace("Z", "+00:00"))
        failed = done["failed"]
        good = image_sets - len(failed)
        if finished.timestamp() <= since:
            return cls(good, (), hopeless=0, runs_again=bool(failed))
        # those whose files were bad before anything ran prove nothing against the pipeline
        tried = sum(
            bool(f.get("log")) and kind_of(f) not in (Kind.NOT_TRIED, Kind.TOGETHER) for f in failed
        )
        reasons = tuple(str(f["reason"]) for f in failed)
        return cls(good, reasons, hopeless=0 if good else tried, runs_again=False)


def verdict_on(tally: Tally, limit: Limit | None) -> str:
    """Say why a run should be given up, for people; "" where it should not.

    Parameters
    ----------
    limit : Limit or None
        What the user set; None stops a run of which the first chunks failed altogether.
    """
    # at its very end, a run is not stopped any more
    if not tally.left:
        return ""
    if limit is None:
        if tally.good or tally.hopeless < _PROOF or tally.tried < _PROOF_SETS:
            return ""
        what = f"not one image set of the first {tally.hopeless} chunks succeeded"
    elif limit.is_reached(tally.failed, tally.total):
        what = f"{tally.failed:,} of {tally.total:,} image sets failed (--max-failures {limit})"
    else:
        return ""
    reasons = tally.reasons().most_common()
    most = f", {reasons[0][1]:,} of them" if len(reasons) > 1 else ""
    return f"{what}{most}: {reasons[0][0]}"


# --- run-chunks -------------------------------------------------------------------------------


class Rounds:
    """Looks after the run-chunks that are at work, now and then."""

    def __init__(self, workspace: Workspace, now: Callable[[], float] = time.monotonic) -> None:
        self._workspace = workspace
        self._now = now
        # since when run-chunks are stopped, by what names a process for good
        self._stopped: dict[tuple[int, int], float] = {}

    def look(self, chunks: Sequence[str]) -> list[int]:
        """End run-chunks that were stopped for too long, and what dead ones left running.

        Returns
        -------
        list of int
            The run-chunks that were ended.
        """
        stall_s = 60 * float((read_json(self._workspace.run) or {}).get("stall_min", STALL_MIN))
        stopped: dict[tuple[int, int], float] = {}
        ended = []
        for chunk in chunks:
            running = read_json(self._workspace.chunk(chunk).running)
            if running is None:
                continue
            found = processes.read(int(running["pid"]))
            if found is None or found.state == "Z":
                # its CellProfiler was told to die with it, but not what that one started
                processes.end_marked(ATTEMPT, str(running["folder"]))
            elif found.state == "T" and is_of_run(found.pid, str(self._workspace.status)):
                name = (found.pid, found.started)
                stopped[name] = self._stopped.get(name, self._now())
                if self._now() - stopped[name] >= stall_s:
                    self._kill(*name)
                    ended.append(found.pid)
        self._stopped = stopped
        return ended

    def _kill(self, pid: int, started: int) -> None:
        def still(pid: int) -> bool:
            found = processes.read(pid)
            return found is not None and found.started == started

        processes.send([pid], signal.SIGKILL, still)


# --- the guard --------------------------------------------------------------------------------


def _note(workspace: Workspace, words: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with suppress(OSError), workspace.events.open("a", encoding="utf-8") as file:
        file.write(f"time={stamp} {words}\n")


class Guard:
    """What is done at each look."""

    def __init__(self, workspace: Workspace, run_pid: int, limit: Limit | None) -> None:
        self._workspace = workspace
        self._run_pid = run_pid
        self._limit = limit
        self._tally = Tally(workspace, time.time())
        self._rounds = Rounds(workspace)
        self._next_round = 0.0
        self._halted = False

    def look(self) -> None:
        """Look at the run once, and do what has to be done."""
        self._tally.look()
        why = "" if self._halted else verdict_on(self._tally, self._limit)
        if why and self._limit is None and self._something_succeeds():
            why = ""
        if why:
            write_json(self._workspace.halted, {"why": why, "failed": self._tally.failed})
            os.kill(self._run_pid, HALT)
            # not before: on a full disk it is tried again
            self._halted = True
        if time.monotonic() >= self._next_round:
            for pid in self._rounds.look(self._tally.chunks()):
                _note(self._workspace, f"event=stalled run_chunk={pid}")
            self._next_round = time.monotonic() + _ROUND_S

    def _something_succeeds(self) -> bool:
        """Tell whether an attempt under way has come to the end of an image set."""
        last_module = int((read_json(self._workspace.run) or {})["last_module"])
        for chunk in self._tally.chunks():
            running = read_json(self._workspace.chunk(chunk).running)
            if running and finished_in(str(running["log"]), last_module)[1]:
                return True
        return False

    def watch(self) -> None:
        """Look again and again, until the run is over."""
        pause_s = _LOOK_S
        while os.getppid() == self._run_pid:
            heard = signal.sigtimedwait({_OVER, _ORPHANED}, pause_s)
            if heard and heard.si_signo == _OVER:
                break
            began = time.monotonic()
            # what can't be read now is read later: a plan is being written, a disk is full; and
            # whatever else a state file may say, the guard is needed at the end
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, BpcpError):
                self.look()
            pause_s = max(_LOOK_S, (time.monotonic() - began) / _SHARE)


def main(argv: Sequence[str]) -> int:
    """Stand beside a run until it is over, and then end what is left of it."""
    parser = Parser("run")
    parser.add_argument("status", type=Path)
    parser.add_argument("--run-pid", type=int, default=0)
    parser.add_argument("--max-failures", type=Limit.parse, default=None)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    if args.check:
        return Exit.OK
    # they come when this process waits for them, and at no other time
    signal.pthread_sigmask(signal.SIG_BLOCK, {_OVER, _ORPHANED})
    signal.signal(_OVER, signal.SIG_DFL)
    with suppress(OSError):
        os.setsid()
    tell_when_orphaned(_ORPHANED)
    status: Path = args.status
    workspace = Workspace(status.parents[2], status.parent.name, status.name)
    Guard(workspace, args.run_pid, args.max_failures).watch()
    alone = os.getppid() != args.run_pid
    ended = sweep(workspace, 0.0 if alone else _BY_ITSELF_S)
    if ended:
        _note(workspace, f"event=leftovers ended={ended} entry={'gone' if alone else 'ended'}")
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
