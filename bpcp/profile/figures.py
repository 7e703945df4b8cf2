"""Fold what was seen of a few processes into figures, and predict a whole run from them."""

from __future__ import annotations

import heapq
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bpcp.errors import BpcpError, Exit
from bpcp.profile.measure import Observed, Process

# Memory that grows with each image set is followed so many times further than it was measured;
# beyond that nobody knows, and a leak would be the exception.
_REACH = 3
# The merge reads, joins and writes each table: so many times what a chunk's check of it takes.
_MERGE = 1.5
# bpcp's own part of a chunk, beside CellProfiler: two starts of Python, folders, flushed files.
CHUNK_S = 0.3
# And of a run: progress, todo and the closing words.
RUN_S = 1.0


@dataclass(frozen=True)
class Module:
    """A module's share, as a mean over image sets.

    Attributes
    ----------
    wall_s, cpu_s : float
        For an image set.
    peak_mb : float or None
        The most memory of its process while it ran; None where it was too short to be met.
    """

    number: int
    name: str
    wall_s: float
    cpu_s: float
    peak_mb: float | None


@dataclass(frozen=True)
class Figures:
    """What a process and an image set cost.

    Attributes
    ----------
    together : int
        Processes that ran at once when the seconds below were taken.
    start_s : float
        From the start of a process to its first image set, with what the first one takes beyond
        the others.
    set_s, set_error_s : float
        An image set, and the standard error of that mean.
    end_s : float
        After the last image set, for each image set of the process: writing tables.
    alone_s : float
        An image set in a process that has the machine to itself.
    check_s : float
        bpcp's check of the outputs, for an image set.
    plan_s : float
        Making the plan.
    peak_mb, pss_mb : float
        The largest process by its resident size, and without its share of common pages.
    mean_mb : float
        The most that all together took, for each: they don't peak at the same moment.
    growth_mb : float
        What each further image set adds to a process, at least 0.
    sets : int
        Image sets that the process had of which that is known.
    """

    together: int
    start_s: float
    set_s: float
    set_error_s: float
    end_s: float
    alone_s: float
    check_s: float
    plan_s: float
    peak_mb: float
    pss_mb: float
    mean_mb: float
    growth_mb: float
    sets: int

    def chunk_s(self, image_sets: int) -> float:
        """Give the seconds that a chunk takes."""
        return self.start_s + CHUNK_S + image_sets * (self.set_s + self.end_s + self.check_s)

    def faster(self, factor: float) -> Figures:
        """Give the figures of a core that does `factor` times as much."""
        if factor == 1:
            return self
        seconds = ("start_s", "set_s", "set_error_s", "end_s", "alone_s", "check_s", "plan_s")
        return replace(self, **{name: getattr(self, name) / factor for name in seconds})

    def grown_mb(self, sizes: Sequence[int]) -> float:
        """Give what a process needs for the largest of the chunks, beyond what was measured."""
        return self.growth_mb * max(0, min(max(sizes), _REACH * self.sets) - self.sets)

    def process_mb(self, sizes: Sequence[int]) -> float:
        """Give what a process needs for the largest of the chunks, by its PSS."""
        return self.pss_mb + self.grown_mb(sizes)


@dataclass(frozen=True)
class Prediction:
    """What a run will take.

    Attributes
    ----------
    wall_s, low_s, high_s : float
        The spread is what the differences between image sets leave open (95 %).
    chunks, slots : int
        Chunks, and how many run at once.
    peak_mb : float
        The largest process, by its resident size, as a run's own account has it.
    process_mb, total_mb : float
        PSS of the largest process, and of all together at their peak.
    """

    wall_s: float
    low_s: float
    high_s: float
    chunks: int
    slots: int
    peak_mb: float
    process_mb: float
    total_mb: float


def set_seconds(process: Process) -> tuple[float, list[float], float]:
    """Give when the first image set began, what each took, and the time after the last.

    Raises
    ------
    BpcpError
        69 where the process logged no times.
    """
    ends = process.ends
    if not ends:
        raise BpcpError(
            Exit.UNAVAILABLE,
            f"CellProfiler logged no module times: {process.work.log}",
            "its log level must be INFO, as it is by default",
        )
    first = process.steps[0]
    begin = first.end_s - first.wall_s
    took = [b - a for a, b in pairwise([begin, *ends])]
    return begin, took, max(0.0, process.wall_s - ends[-1])


def _growth(process: Process) -> float:
    """Fit a line through the peaks of the image sets but the first, which warms up: MB each."""
    ends = process.ends
    peaks = []
    for begin, end in pairwise(ends):
        own = [mb for at, mb in process.points if begin < at <= end]
        if own:
            peaks.append(max(own))
    if len(peaks) < 3:
        return 0.0
    slope, _ = statistics.linear_regression(range(len(peaks)), peaks)
    return max(0.0, slope)


def fold(alone: Process, seen: Observed, check_s: float, plan_s: float) -> Figures:
    """Fold what was seen into figures.

    Parameters
    ----------
    alone : Process
        One that had the machine to itself.
    seen : Observed
        As many side by side as a run starts; that one again, where it starts one.
    check_s, plan_s : float
        As in `Figures`.
    """
    parts = [set_seconds(process) for process in seen.processes]
    # the first image set of a process also loads what later ones find loaded
    later = [s for _, took, _ in parts for s in took[1:]] or [
        s for _, took, _ in parts for s in took
    ]
    set_s = statistics.fmean(later)
    first = statistics.fmean(took[0] for _, took, _ in parts) - set_s
    _, took, _ = set_seconds(alone)
    everyone = [alone, *seen.processes]
    longest = max(everyone, key=lambda p: len(p.steps))
    return Figures(
        together=len(seen.processes),
        start_s=statistics.fmean(begin for begin, _, _ in parts) + first,
        set_s=set_s,
        set_error_s=statistics.stdev(later) / math.sqrt(len(later)) if len(later) > 1 else set_s,
        end_s=statistics.fmean(end / len(took) for _, took, end in parts),
        alone_s=statistics.fmean(took[1:] or took),
        check_s=check_s,
        plan_s=plan_s,
        peak_mb=max(p.max_mb for p in everyone),
        pss_mb=max(p.peak_mb for p in everyone),
        mean_mb=max((mb for _, mb in seen.total), default=0.0) / len(seen.processes),
        growth_mb=statistics.fmean(_growth(p) for p in seen.processes),
        sets=len(set_seconds(longest)[1]),
    )


def modules(processes: Sequence[Process]) -> list[Module]:
    """Give each module's share, in the order of the pipeline; memory from the first process."""
    wall: dict[int, float] = defaultdict(float)
    cpu: dict[int, float] = defaultdict(float)
    names: dict[int, str] = {}
    sets = 0
    for process in processes:
        sets += len({step.image_set for step in process.steps})
        for step in process.steps:
            wall[step.number] += step.wall_s
            cpu[step.number] += step.cpu_s
            names[step.number] = step.module
    peaks = module_peaks(processes[0])
    return [
        Module(number, names[number], wall[number] / sets, cpu[number] / sets, peaks.get(number))
        for number in sorted(names)
    ]


def module_peaks(process: Process) -> dict[int, float]:
    """Give the most memory that samples met while each module ran, in MB."""
    found: dict[int, float] = {}
    at = 0
    for step in process.steps:
        begin = step.end_s - step.wall_s
        while at < len(process.points) and process.points[at][0] < begin:
            at += 1
        while at < len(process.points) and process.points[at][0] <= step.end_s:
            found[step.number] = max(found.get(step.number, 0.0), process.points[at][1])
            at += 1
    return found


def schedule(durations: Sequence[float], slots: int) -> float:
    """Give when the last job ends, where each goes to the slot that is free first, in order."""
    free = [0.0] * max(1, min(slots, len(durations)))
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def predict(figures: Figures, sizes: Sequence[int], slots: int) -> Prediction:
    """Predict a run.

    Parameters
    ----------
    sizes : sequence of int
        Image sets of each chunk, in the order of the plan.
    slots : int
        Processes at once.
    """
    slots = min(slots, len(sizes))
    wall = schedule([figures.chunk_s(size) for size in sizes], slots)
    once = figures.plan_s + RUN_S + _MERGE * figures.check_s * sum(sizes)
    # all image sets of a slot err alike, for it is their mean that is not known better
    share = 2 * figures.set_error_s * schedule([float(size) for size in sizes], slots)
    return Prediction(
        wall_s=wall + once,
        low_s=max(once, wall + once - share),
        high_s=wall + once + share,
        chunks=len(sizes),
        slots=slots,
        peak_mb=figures.peak_mb + figures.grown_mb(sizes),
        process_mb=figures.process_mb(sizes),
        total_mb=(figures.mean_mb + figures.grown_mb(sizes)) * slots,
    )
