"""Run CellProfiler processes side by side, as a run starts them, and watch what they take.

Memory is the PSS of each process with all that it started: pages that several processes share are
counted once in the sum. What the samples miss, a peak between two of them, the kernel's own
account of the largest process (`ru_maxrss`) adds.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bpcp import cellprofiler, cgroup, gpus

_STEP = re.compile(
    cellprofiler.MODULE_DONE + r" = ([0-9.]+) secs, Wall_time = ([0-9.]+) secs", re.ASCII
)
# A sample costs 2 to 3 ms for each process; it may take a twentieth of one core.
_INTERVAL_S = 0.1
_COST = 20
# As in a chunk's verdict: MB are 1024² bytes.
MB = 1024**2


@dataclass(frozen=True)
class Work:
    """What one process is given.

    Attributes
    ----------
    job : cellprofiler.Job
    log : Path
        Where its words go.
    """

    job: cellprofiler.Job
    log: Path


@dataclass(frozen=True)
class Step:
    """A module that was done with an image set.

    Attributes
    ----------
    image_set, number : int
        The image set as the process numbers it, and the module's place in the pipeline; 1-based.
    end_s : float
        When, in seconds from the start of the process.
    wall_s, cpu_s : float
        What it took, by CellProfiler's own account.
    """

    image_set: int
    number: int
    module: str
    end_s: float
    wall_s: float
    cpu_s: float


@dataclass
class Process:
    """What was seen of a process.

    Attributes
    ----------
    points : list of (float, float)
        Seconds from its start, and its PSS in MB with that of what it started.
    steps : list of Step
    wall_s, cpu_s : float
    max_mb : float
        The largest resident size, by the kernel's account; exact, but counts pages shared with
        other processes in full.
    code : int
        As `subprocess.Popen.returncode`.
    """

    work: Work
    points: list[tuple[float, float]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    max_mb: float = 0.0
    shared_mb: float = 0.0
    code: int = 0

    @property
    def ends(self) -> list[float]:
        """When each image set was done, in seconds from the start: FlagImage may end one early."""
        return list({step.image_set: step.end_s for step in self.steps}.values())

    @property
    def peak_mb(self) -> float:
        """The most that it took, without its share of what others use too."""
        sampled = max((mb for _, mb in self.points), default=0.0)
        return max(sampled, self.max_mb - self.shared_mb)


@dataclass
class Observed:
    """What was seen of processes that ran side by side.

    Attributes
    ----------
    processes : list of Process
    total : list of (float, float)
        Seconds from the first start, and the PSS of all in MB.
    group_mb : float or None
        The peak of their control group, where one could be made; pages of files included.
    others : float
        Cores that other processes of the machine kept busy meanwhile.
    """

    processes: list[Process]
    total: list[tuple[float, float]] = field(default_factory=list)
    group_mb: float | None = None
    others: float = 0.0


class _Running:
    """A process under way."""

    def __init__(
        self,
        work: Work,
        argv: Sequence[str],
        folder: Path,
        group: cgroup.Group | None,
        environment: dict[str, str],
    ):
        self.seen = Process(work)
        self.started = time.monotonic()
        self._at = 0
        self._largest_mb = 0.0
        with work.log.open("wb") as sink:
            # as run-chunk does: it ends with this process, however this process ends
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],  # noqa: S607
                cwd=folder,
                env={**cellprofiler.environment(), **environment, "TMPDIR": str(work.job.tmpdir)},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if group:
            group.add(self.popen.pid)

    def look(self, tree: Sequence[psutil.Process]) -> float | None:
        """Take a sample; None where the process is no more."""
        pss = rss = 0
        for process in tree:
            with suppress(psutil.Error):
                memory = process.memory_full_info()
                pss, rss = pss + memory.pss, rss + memory.rss
        now = time.monotonic() - self.started
        self._read_log(now)
        if not pss:
            return None
        if rss / MB > self._largest_mb:
            self._largest_mb, self.seen.shared_mb = rss / MB, (rss - pss) / MB
        self.seen.points.append((now, pss / MB))
        return pss / MB

    def _read_log(self, now: float) -> None:
        fresh: list[re.Match[str]] = []
        with self.seen.work.log.open("rb") as file:
            file.seek(self._at)
            while (line := file.readline()).endswith(b"\n"):
                self._at += len(line)
                if found := _STEP.search(line.decode("utf-8", "replace")):
                    fresh.append(found)
        # the log's clock has whole seconds; so the last line is of now, and each one before it of
        # when the next module began
        end = now
        steps = []
        for found in reversed(fresh):
            cpu, wall = float(found[4]), float(found[5])
            steps.append(Step(int(found[1]), int(found[3]), found[2], end, wall, cpu))
            end -= wall
        self.seen.steps += reversed(steps)

    def ended(self) -> bool:
        """Tell whether it has ended, and take down what it took."""
        pid, status, usage = os.wait4(self.popen.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.popen.returncode = self.seen.code = os.waitstatus_to_exitcode(status)
        self.seen.wall_s = time.monotonic() - self.started
        self.seen.cpu_s = usage.ru_utime + usage.ru_stime
        self.seen.max_mb = usage.ru_maxrss * 1024 / MB
        self._read_log(self.seen.wall_s)
        self.end()
        return True

    def end(self) -> None:
        """End it, and what it started and left behind."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


def observe(
    works: Sequence[Work], command: Sequence[str], folder: Path, count: int | None = None
) -> Observed:
    """Run processes side by side to their ends.

    Parameters
    ----------
    command : sequence of str
        The CellProfiler to run, as `cellprofiler.command` gives it.
    folder : Path
        Where they stand, as relative names in a pipeline may need.
    count : int, optional
        How many GPUs there are, at least one for each; without it, each process sees all.
    """
    seen = Observed([])
    running: list[_Running] = []
    devices = gpus.devices(count) if count else []
    began, busy = time.monotonic(), _busy_s() - time.process_time()
    with cgroup.group() as group:
        try:
            for i, work in enumerate(works):
                environment = {gpus.VISIBLE: devices[i]} if devices else {}
                argv = [*command, *cellprofiler.arguments(work.job)]
                running.append(_Running(work, argv, folder, group, environment))
                seen.processes.append(running[-1].seen)
            _watch(running, seen, began)
        finally:
            for process in running:
                process.end()
        seen.group_mb = group.peak_mb() if group else None
    own_s = sum(p.cpu_s for p in seen.processes) + time.process_time()
    seen.others = max(0.0, _busy_s() - own_s - busy) / (time.monotonic() - began)
    return seen


def _watch(running: Sequence[_Running], seen: Observed, began: float) -> None:
    left = list(running)
    while left:
        cost = time.thread_time()
        trees = _trees([process.popen.pid for process in left])
        # all samples first: a process that is asked after its end has nothing to say any more
        found = [mb for p in left if (mb := p.look(trees[p.popen.pid])) is not None]
        seen.total.append((time.monotonic() - began, sum(found)))
        pause = max(_INTERVAL_S, _COST * (time.thread_time() - cost))
        until = time.monotonic() + pause
        while left and time.monotonic() < until:
            left = [process for process in left if not process.ended()]
            time.sleep(min(0.02, pause))


def _trees(roots: Sequence[int]) -> dict[int, list[psutil.Process]]:
    """Give each root's processes, with one look at the machine's process table."""
    found: dict[int, list[psutil.Process]] = {root: [] for root in roots}
    root_of = {root: root for root in roots}
    # parents stand before their children
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            root = root_of.setdefault(process.pid, root_of.get(process.ppid(), 0))
            if root in found:
                found[root].append(process)
    return found


def _busy_s() -> float:
    """Give the CPU seconds that all processes of the machine have taken since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
