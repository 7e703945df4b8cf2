from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import refused

from bpcp.cellprofiler import Job
from bpcp.errors import Exit
from bpcp.profile.figures import (
    CHUNK_S,
    RUN_S,
    Figures,
    fold,
    module_peaks,
    modules,
    predict,
    schedule,
)
from bpcp.profile.measure import Observed, Process, Step, Work

HERE = Path("/x")
WORK = Work(Job(HERE, HERE, 1, 1, HERE, HERE, HERE), HERE / "log")
FIGURES = Figures(
    together=2,
    start_s=3.0,
    set_s=2.0,
    set_error_s=0.1,
    end_s=0.25,
    alone_s=1.5,
    check_s=0.01,
    plan_s=4.0,
    peak_mb=500,
    pss_mb=450,
    mean_mb=400,
    growth_mb=2.0,
    sets=10,
)


def process(took: list[float], grows: float = 0.0, start: float = 3.0) -> Process:
    """Make a process of two modules, the second at the heavier; 300 MB and more."""
    steps, points, at = [], [(0.0, 10.0)], start
    for number, seconds in enumerate(took, 1):
        base = 300 + grows * number
        points += [(at + 0.2 * seconds, base), (at + 0.6 * seconds, base + 100)]
        middle, end = at + 0.4 * seconds, at + seconds
        steps.append(Step(number, 1, "LoadData", middle, 0.4 * seconds, 0.3 * seconds))
        steps.append(Step(number, 4, "MeasureTexture", end, 0.6 * seconds, 0.6 * seconds))
        at = end
    seen = Process(WORK, points, steps)
    seen.wall_s, seen.max_mb, seen.shared_mb = at + 0.5 * len(took), 520.0, 30.0
    return seen


def test_the_first_image_set_is_part_of_the_start() -> None:
    alone = process([3.0, 1.0, 1.0])
    both = Observed([process([4.0, 2.0, 2.0]), process([4.0, 2.0, 2.0])], [(0, 1), (1, 900)])
    found = fold(alone, both, 0.01, 4.0)
    assert found.together == 2
    assert found.start_s == pytest.approx(3.0 + 2.0)
    assert found.set_s == pytest.approx(2.0)
    assert found.alone_s == pytest.approx(1.0)
    assert found.end_s == pytest.approx(0.5)
    assert (found.peak_mb, found.pss_mb, found.mean_mb) == (520, 490, 450)
    assert found.sets == 3


def test_a_single_image_set_is_all_there_is_to_know() -> None:
    alone = process([2.0])
    found = fold(alone, Observed([alone]), 0.01, 4.0)
    assert (found.set_s, found.start_s) == (pytest.approx(2.0), pytest.approx(3.0))
    assert found.set_error_s == pytest.approx(2.0)
    assert found.growth_mb == 0


def test_an_image_set_that_is_skipped_ends_with_the_module_that_skips_it() -> None:
    alone = process([2.0, 1.0, 1.0])
    skipped = replace(alone, steps=[s for s in alone.steps if s != alone.steps[3]])
    assert skipped.ends == pytest.approx([5.0, 5.4, 7.0])
    assert fold(skipped, Observed([skipped]), 0.01, 4.0).sets == 3


def test_memory_that_grows_is_followed_and_not_for_ever() -> None:
    grows = process([1.0] * 8, grows=5.0)
    found = fold(grows, Observed([grows]), 0.0, 0.0)
    assert found.growth_mb == pytest.approx(5.0)
    assert found.grown_mb([8]) == 0
    assert found.grown_mb([3, 20]) == pytest.approx(60)
    assert found.grown_mb([1000]) == pytest.approx(5 * 16)
    shrinks = process([1.0] * 8, grows=-5.0)
    assert fold(shrinks, Observed([shrinks]), 0.0, 0.0).growth_mb == 0


def test_a_log_without_times_is_refused() -> None:
    silent = process([])
    refused(Exit.UNAVAILABLE, "no module times", fold, silent, Observed([silent]), 0.0, 0.0)


def test_memory_and_seconds_by_module() -> None:
    seen = process([2.0, 4.0], grows=10.0)
    assert module_peaks(seen) == {1: 320, 4: 420}
    first, second = modules([seen, process([6.0])])
    assert (first.number, first.name, first.peak_mb) == (1, "LoadData", 320)
    assert first.wall_s == pytest.approx(0.4 * 12 / 3)
    assert second.cpu_s == pytest.approx(0.6 * 12 / 3)


def test_a_module_too_short_to_be_met_has_no_peak() -> None:
    seen = process([1.0])
    seen.steps.append(Step(1, 5, "CalculateMath", 4.0, 0.0, 0.0))
    assert module_peaks(seen).get(5) is None


@pytest.mark.parametrize(
    ("durations", "slots", "wall"),
    [([4], 8, 4), ([3, 3, 3], 2, 6), ([1, 1, 1, 9], 2, 10), ([9, 1, 1, 1], 2, 9), ([5, 5], 1, 10)],
)
def test_jobs_go_to_the_slot_that_is_free_first(
    durations: list[float], slots: int, wall: float
) -> None:
    assert schedule(durations, slots) == wall


def test_a_prediction_counts_waves_starts_and_the_merge() -> None:
    found = predict(FIGURES, [24] * 4, 2)
    chunk = 3.0 + CHUNK_S + 24 * 2.26
    once = 4.0 + RUN_S + 1.5 * 0.01 * 96
    assert found.wall_s == pytest.approx(2 * chunk + once)
    assert found.high_s - found.wall_s == pytest.approx(2 * 0.1 * 48)
    assert found.wall_s - found.low_s == pytest.approx(found.high_s - found.wall_s)
    assert (found.chunks, found.slots) == (4, 2)
    assert found.peak_mb == 500 + 14 * 2
    assert found.process_mb == 450 + 28
    assert found.total_mb == 2 * (400 + 28)


def test_more_slots_than_chunks_do_nothing() -> None:
    assert predict(FIGURES, [24] * 4, 96).slots == 4
    assert predict(FIGURES, [24] * 4, 96).wall_s == predict(FIGURES, [24] * 4, 4).wall_s


def test_a_wide_spread_does_not_end_before_it_began() -> None:
    found = predict(replace(FIGURES, set_error_s=9.0), [24], 1)
    assert 0 < found.low_s < found.wall_s


def test_a_faster_core() -> None:
    assert FIGURES.faster(1) is FIGURES
    assert FIGURES.faster(2).set_s == 1.0
    assert FIGURES.faster(2).pss_mb == FIGURES.pss_mb
