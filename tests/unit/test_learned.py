"""What is learned from chunks that are done."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Screen

from bpcp.chunk import learned
from bpcp.publish import sha256
from bpcp.workspace import read_json, write_json


def tell(screen: Screen, chunk: str, **cost: Any) -> None:
    """Let a verdict say what its attempts cost."""
    paths = screen.workspace.chunk(chunk)
    done = read_json(paths.done)
    assert done is not None
    done["cost"].update(cost)
    for part in done["parts"]:
        part["cost"].update(cost)
    write_json(paths.done, done)


def test_room_is_as_much_as_is_read_while_nothing_is_known(screen: Screen) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "2")
    assert learned.room_for(screen.workspace, 2, 10**9) == 10**9 + 64 * 10**6


def test_room_is_learned_from_what_others_wrote(screen: Screen) -> None:
    screen.fill(6)
    screen.plan("-q", "--chunk-size", "2")
    screen.run()
    for written_mb, chunk in zip((100.0, 300.0, 9999.0), screen.chunks(), strict=True):
        paths = screen.workspace.chunk(chunk)
        done = read_json(paths.done)
        assert done is not None
        done["cost"]["written_mb"] = written_mb
        if written_mb == 9999.0:  # what failed says little of what a good one writes
            done["failed"] = [{"image_set": 1, "reason": "x"}]
        write_json(paths.done, done)
    # 150 MB for each image set at most, half more for safety
    assert learned.room_for(screen.workspace, 4, 1) == int(1.5 * 150e6 * 4 + 64e6)


def test_time_is_learned_from_the_slowest(screen: Screen) -> None:
    screen.fill(6)
    screen.plan("-q", "--chunk-size", "2")
    assert learned.time_limit(screen.workspace, 2, 600) is None
    screen.run()
    for wall_s, chunk in zip((10.0, 200.0, 30.0), screen.chunks(), strict=True):
        tell(screen, chunk, wall_s=wall_s)
    # ten times 100 s for each image set
    assert learned.time_limit(screen.workspace, 3, 600) == pytest.approx(3000)
    assert learned.time_limit(screen.workspace, 3, 9999) == 9999


def test_memory_is_learned_from_what_is_known(screen: Screen) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "2")
    workspace, run = screen.workspace, screen.run_json()
    assert learned.process_mb(workspace, run) == 600
    screen.run()
    for peak_mb, chunk in zip((310.0, 420.0), screen.chunks(), strict=True):
        tell(screen, chunk, peak_mb=peak_mb)
    assert learned.process_mb(workspace, run) == 420
    profile = {"pipeline_sha256": sha256(screen.pipeline), "prediction": {"process_mb": 555.0}}
    write_json(workspace.profile, profile)
    assert learned.process_mb(workspace, run) == 555
    # what is done says more than what was killed
    assert learned.took_too_much(workspace, run, 500) == 1.25 * 500
    assert learned.process_mb(workspace, run) == 555
    for chunk in screen.chunks():
        workspace.chunk(chunk).done.unlink()
    for _ in range(5):
        learned.took_too_much(workspace, run, 500)
    assert learned.process_mb(workspace, run) == 1.25 * 500
    # of another pipeline
    assert learned.process_mb(workspace, {**run, "pipeline_sha256": "x"}) == 555


def test_one_image_set_that_takes_far_more_memory_does_not_hold_up_the_others(
    screen: Screen,
) -> None:
    screen.fill(8)
    screen.plan("-q", "--chunk-size", "2")
    workspace, run = screen.workspace, screen.run_json()
    # killed before anything is done: who knows whether it is the only one
    assert learned.took_too_much(workspace, run, 8000) == 10000
    assert learned.process_mb(workspace, run) == 10000
    screen.run()
    for peak_mb, chunk in zip((400.0, 9000.0, 420.0, 430.0), screen.chunks(), strict=True):
        tell(screen, chunk, peak_mb=peak_mb)
    # half more than most take; and what was killed counts no more
    assert learned.process_mb(workspace, run) == 1.5 * 430
    # its own measure it keeps
    assert learned.took_too_much(workspace, run, 8000) == 10000
