"""Cut a chunk down: keep what succeeds, until only the image sets are left that fail by themselves.

What the log shows to be the culprit runs alone, and the rest without it. What may pass a second
time is tried again; what failed by itself is not. Where one after another fails alike and nothing
succeeds, a few more from elsewhere in the chunk are tried, and if they fail as well, the pipeline
is at fault rather than the image sets: the rest is not tried.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpcp import cellprofiler, failure
from bpcp.chunk import admission, learned
from bpcp.chunk.attempt import SAVES_OUTSIDE, Attempt, Hunger, Task, Unit, attempted, has_room
from bpcp.chunk.readable import Images
from bpcp.errors import BpcpError
from bpcp.failure import Failure, Kind
from bpcp.workspace import Json

_PROGRESS = re.compile(cellprofiler.MODULE_DONE)
_MODULE_ERROR = re.compile(r"Error detected during run of module (\S+)")
_EXCEPTION = re.compile(
    r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Warning|Exit|Interrupt))(?:: ?(.*))?$"
)
# CellProfiler's words before its first image set.
_STARTED = "Times reported are CPU and Wall-clock times"
# So many that fail alike, one after another, make the pipeline suspect.
_SUSPECT = 3
# Signals that come from outside; others are a crash of the process itself.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_CHANGED = Failure(Kind.CHANGED, "its files changed while they were read, twice")
# How often an attempt may find a disk full that had room for it before.
_MOST_FULL = 3
# What a disk that was full has to have for an attempt to be prepared, in bytes, and how long it is
# waited for at least: a quota can't be seen from here.
_TO_START = 16_000_000
_PAUSE_S = 5.0


@dataclass
class Account:
    """What is known of a chunk so far."""

    parts: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    attempts: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    written_mb: float = 0.0
    # whether what -t names had no room, so that attempts work in the run's own folder
    no_room: bool = False

    @property
    def decided(self) -> int:
        """Image sets that are done or have failed."""
        done = sum(int(p["last"]) - int(p["first"]) + 1 for p in self.parts)
        return done + len(self.failed)

    def count(self, attempt: Attempt) -> None:
        """Add an attempt and what it cost."""
        self.attempts += 1
        self.cpu_s += attempt.cost["cpu_s"]
        self.peak_mb = max(self.peak_mb, attempt.cost["peak_mb"])
        self.written_mb = max(self.written_mb, attempt.cost["written_mb"])

    def fail(
        self, unit: Unit, culprits: dict[int, Failure], log: Path | None, others: Kind | None = None
    ) -> None:
        """Put a unit down as failed: culprits with their reasons, the others for being with them.

        Parameters
        ----------
        others : Kind, optional
            What kind that is; else that they are in one group with a culprit.
        """
        for n in range(unit[0], unit[1] + 1):
            why = culprits.get(n) or Failure(
                others or Kind.TOGETHER,
                "in one group with one that failed",
                more={"with": min(culprits)},
            )
            self.failed.append({"image_set": n, **why.to_json(), "log": str(log) if log else None})


def ranges(units: Sequence[Unit]) -> list[list[Unit]]:
    """Put units that follow each other together: each list is one process's work."""
    found: list[list[Unit]] = []
    for unit in units:
        if found and found[-1][-1][1] + 1 == unit[0]:
            found[-1].append(unit)
        else:
            found.append([unit])
    return found


class Isolation:
    """Runs the units of a chunk, and cuts them down where they fail.

    Parameters
    ----------
    publish : callable
        Brings a good attempt's outputs to their places, and gives the record of its part.
    """

    def __init__(
        self,
        task: Task,
        account: Account,
        images: Images,
        publish: Callable[[Attempt], Json],
    ) -> None:
        self._task, self._account, self._publish = task, account, publish
        self._images = images
        self._retries = int(task.run.get("retries", failure.RETRIES))
        self._pending: list[list[Unit]] = []
        # how often a piece of work failed in a way that may pass, by its first image set
        self._tries: Counter[int] = Counter()
        self._full = 0
        # image sets whose files changed while they were read
        self._unsteady: set[int] = set()
        # what earlier starts did
        self._decided = account.decided
        # work that memory was too little for, by its first image set
        self._hungry: dict[int, Hunger] = {}
        # failures of single units, one after another
        self._alike: list[str] = []
        self._probed = self._suspected = False

    def run(self, units: Sequence[Unit]) -> None:
        """Run units, each process a range of them."""
        workspace = self._task.workspace
        self._pending = ranges(units)[::-1]
        while self._pending:
            work = self._pending.pop()
            admission.ensure_room(workspace)
            home = self._home(work[0][0], work[-1][1])
            try:
                self._attempt(work, home)
            except (OSError, BpcpError) as error:
                if not failure.is_full(error):
                    raise
                # it was full before CellProfiler could be started
                self._pending.append(work)
                if home == workspace.attempts:
                    admission.await_room(workspace, _TO_START, _PAUSE_S)
                else:
                    self._account.no_room = True

    def _attempt(self, work: list[Unit], home: Path) -> None:
        first, last = work[0][0], work[-1][1]
        hunger = self._hungry.get(first, Hunger())
        decided = self._account.decided - self._decided
        with attempted(self._task, first, last, home, hunger, decided) as attempt:
            self._account.count(attempt)
            if changed := self._images.changed(first, last):
                self._again(work, changed, attempt.log)
                return
            if not attempt.verdict.faults and not attempt.lost:
                self._alike.clear()
                self._account.parts.append(self._publish(attempt))
                return
            if attempt.yielded:
                # nobody's fault; it waits for memory before it starts again
                self._pending.append(work)
                return
            found = diagnose(attempt, self._task.run)
            full = _ran_out_of_room(self._task, attempt)
        self._failed(work, found, attempt, full=full)

    def _again(self, work: list[Unit], changed: list[int], log: Path) -> None:
        """Run work again whose images changed meanwhile; those that change twice have failed."""
        faults = {n: self._images.fault(n) for n in changed}
        faults |= dict.fromkeys(self._unsteady.intersection(changed), _CHANGED)
        self._unsteady.update(changed)
        good = []
        for first, last in work:
            bad = {n: fault for n in range(first, last + 1) if (fault := faults.get(n))}
            if bad:
                self._account.fail((first, last), bad, log)
            else:
                good.append((first, last))
        self._pending += ranges(good)[::-1]

    def _failed(self, work: list[Unit], found: Failure, attempt: Attempt, *, full: bool) -> None:
        at = next((i for i, (_, last) in enumerate(work) if 0 < found.culprit <= last), None)
        if not self._account.no_room and full:
            self._account.no_room = True
            self._pending.append(work)
        elif found.kind is Kind.SPACE and self._full < _MOST_FULL:
            # it waits for room before it starts again
            self._full += 1
            self._pending.append(work)
        elif attempt.ended is Kind.MEMORY and not self._hungry.get(work[0][0], Hunger()).alone:
            self._starved(work, attempt, at)
        elif self._may_try_again(work, found, attempt, at):
            self._pending.append(work)
        elif len(work) == 1 or not found.started:
            self._give_up(work, found, attempt.log)
        elif at == 0 and found.kind is Kind.MODULE:
            # it was the first one of a process of its own: alone, it would do just the same
            self._pending.append(work[1:])
            self._give_up(work[:1], found, attempt.log)
        elif at is not None:
            self._pending += [p for p in (work[at + 1 :], work[at : at + 1], work[:at]) if p]
        elif self._alike or not self._probed:
            # nothing says which one it is: perhaps it is none, and the pipeline is at fault;
            # then a few by themselves fail alike
            self._probed = True
            self._pending += [work[1:], work[:1]]
        else:
            half = len(work) // 2
            self._pending += [work[half:], work[:half]]

    def _starved(self, work: list[Unit], attempt: Attempt, at: int | None) -> None:
        """Run work again that memory was too little for: what took it waits for more of it."""
        task, peak_mb = self._task, attempt.cost["peak_mb"]
        takes_mb = learned.took_too_much(task.workspace, task.run, peak_mb)
        culprit = 0 if at is None else at
        first = work[culprit][0]
        times = self._hungry.get(first, Hunger()).times
        self._hungry[first] = Hunger(times + 1, takes_mb)
        if at is None:
            self._pending.append(work)
        else:
            # one after another, the last one of these first
            self._pending += [p for p in (work[at + 1 :], work[at : at + 1], work[:at]) if p]

    def _may_try_again(
        self, work: list[Unit], found: Failure, attempt: Attempt, at: int | None
    ) -> bool:
        """Tell whether the same work may pass when it is tried again, and count that."""
        if not found.kind.may_pass or Kind.SPACE is found.kind or attempt.ended is Kind.MEMORY:
            return False
        outside = attempt.signal in _FROM_OUTSIDE and attempt.ended is None
        whole = len(work) == 1 or not found.started or at is None or outside
        blamed = work[0][0] if whole else work[at or 0][0]
        self._tries[blamed] += 1
        return whole and self._tries[blamed] <= self._retries

    def _give_up(self, work: list[Unit], found: Failure, log: Path) -> None:
        """Put all units of a piece of work down as failed."""
        for first, last in work:
            culprit = found.culprit if first <= found.culprit <= last else first
            self._account.fail((first, last), {culprit: found}, log)
        if len(work) == 1 and found.kind not in (Kind.MISSING, Kind.UNREADABLE):
            like = ":".join(found.reason.split(":")[:2])
            self._alike = [*self._alike, like] if self._alike[-1:] == [like] else [like]
            if len(self._alike) >= _SUSPECT and not self._account.parts:
                self._suspect(found, log)

    def _suspect(self, found: Failure, log: Path) -> None:
        """Try two from elsewhere, once; if these fail alike as well, leave the rest untried."""
        rest = sorted(unit for work in self._pending for unit in work)
        if not self._suspected:
            self._suspected = True
            if len(rest) > 2:
                half = len(rest) // 2
                self._pending = [
                    *ranges([*rest[:half], *rest[half + 1 : -1]])[::-1],
                    rest[half : half + 1],
                    rest[-1:],
                ]
        elif len(self._alike) == _SUSPECT + 2:
            self._pending = []
            why = f"not tried: {len(self._alike)} before it failed alike ({found.reason})"
            for first, last in rest:
                untried = {n: Failure(Kind.NOT_TRIED, why) for n in range(first, last + 1)}
                self._account.fail((first, last), untried, log)

    def _home(self, first: int, last: int) -> Path:
        """Choose where an attempt works: what -t names, as long as there is room."""
        task, account = self._task, self._account
        if not task.run["tmpdir"]:
            return task.workspace.attempts
        home = Path(task.run["tmpdir"])
        # a RAM disk is only there while the entry script runs
        account.no_room = (
            account.no_room or not home.is_dir() or not has_room(task, home, first, last)
        )
        return task.workspace.attempts if account.no_room else home


def _ran_out_of_room(task: Task, attempt: Attempt) -> bool:
    """Tell whether an attempt failed because what -t names was full."""
    if attempt.folder.parent == task.workspace.attempts:
        return False
    if attempt.full == attempt.folder:
        return True
    return failure.NO_ROOM.search(attempt.lost) is not None


@dataclass
class _Log:
    """What an attempt's log says.

    Attributes
    ----------
    number, module_number : int
        The image set and the module that were finished last; 0 where none was.
    module : str
        Its name.
    """

    number: int = 0
    module_number: int = 0
    module: str = ""
    started: bool = False
    error: str = ""
    failed_module: str = ""


def _read(log: Path) -> _Log:
    found = _Log()
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if done := _PROGRESS.search(line):
                found.number, found.module, found.module_number = (
                    int(done[1]),
                    done[2],
                    int(done[3]),
                )
                found.started = True
            elif line.startswith(_STARTED):
                found.started = True
            elif error := _MODULE_ERROR.search(line):
                found.failed_module = error[1]
            elif raised := _EXCEPTION.match(line):
                found.error = ": ".join(filter(None, raised.groups()))
    return found


def diagnose(attempt: Attempt, run: Json) -> Failure:
    """Find out from an attempt's log and its verdict at which image set it failed, and why.

    Parameters
    ----------
    run : dict
        The run's settings, as in run.json.
    """
    log = _read(attempt.log)
    lines = failure.last_lines(attempt.log)
    # who worked on it: the one behind the one that was finished last
    culprit = log.number or (attempt.first if log.started else 0)
    if log.number and log.module_number >= int(run["last_module"]):
        culprit = log.number + 1 if log.number < attempt.last else 0
    if attempt.ended:
        reason = _ended(attempt, run, log)
        return Failure(attempt.ended, reason, culprit, log.started, lines=lines)
    if lost := attempt.lost:
        no_room = attempt.full or failure.NO_ROOM.search(lost)
        kind = Kind.SPACE if no_room else Kind.INCOMPLETE
        return Failure(kind, lost, culprit, log.started, lines=lines)
    if log.failed_module:
        kind = failure.of_module(log.failed_module, log.error)
        reason = f"{log.failed_module}: {log.error or 'failed'}"
        more = {"module": log.failed_module}
        return Failure(kind, reason, log.number, more=more, lines=lines)
    if attempt.signal:
        name = failure.of_signal(attempt.signal)
        outside = attempt.signal in _FROM_OUTSIDE
        reason = f"CellProfiler {'was ended by' if outside else 'crashed:'} {name}"
        return Failure(Kind.CRASH, reason, culprit, log.started, lines=lines)
    faults = attempt.verdict.faults
    for fault in faults:
        if named := re.match(r"image set (\d+):? (.*)", fault):
            return Failure(Kind.INCOMPLETE, named[2], int(named[1]), log.started, lines=lines)
    kind = failure.of_module("", log.error)
    if kind is Kind.MODULE:
        kind = Kind.INCOMPLETE if log.started else Kind.NOT_STARTED
    if any(fault.startswith(SAVES_OUTSIDE) for fault in faults):
        kind = Kind.OUTSIDE
    reason = faults[0] + (f" ({log.error})" if log.error else "")
    said = attempt.verdict.said == "Complete"
    return Failure(kind, reason, 0 if said else culprit, log.started, lines=lines)


def _ended(attempt: Attempt, run: Json, log: _Log) -> str:
    """Say why bpcp or the kernel ended an attempt."""
    where = f", after {log.module}" if log.module else ""
    if attempt.ended is Kind.MEMORY:
        return f"out of memory: it was killed at {attempt.cost['peak_mb']:,.0f} MB{where}"
    if attempt.ended is Kind.STALLED:
        minutes = float(run.get("stall_min", failure.STALL_MIN))
        return f"no sign of life for {minutes:g} min{where}"
    return f"not done after {attempt.cost['wall_s']:,.0f} s, many times what others took{where}"
