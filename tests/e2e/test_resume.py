"""Whatever is killed: the same command again, complete and equal, and nothing done runs twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Lab, Plain, descendants, is_alive, kill_one, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def small_plain(small_demo: Lab, plain: Callable[[Lab], Plain]) -> Plain:
    return plain(small_demo)


@pytest.mark.parametrize("victim", ["entry", "perl", "bin/cellprofiler -c -r"])
def test_kill_9_then_the_same_command(lab: Lab, small_plain: Plain, victim: str) -> None:
    options = ("--chunk-size", "2", "-P", "2")
    started = lab.start(*options)
    everything: dict[int, str] = {}

    def is_in_the_middle() -> bool:
        everything.update(descendants(started.pid))
        running = [w for w in descendants(started.pid).values() if "cellprofiler -c -r" in w]
        return len(lab.verdicts()) >= 2 and bool(running)

    wait_for(is_in_the_middle)
    done = lab.verdicts()
    kill_one(started, victim)
    code = started.wait(timeout=180)
    if victim.startswith("bin/cellprofiler"):
        # one killed process is tried again, so nothing is lost even now
        assert code == 0
    else:
        assert code == (-signal.SIGKILL if victim == "entry" else 75)
        # nothing that was started outlives it
        wait_for(lambda: not any(is_alive(pid) for pid in everything), timeout_s=20)
        assert len(lab.verdicts()) < 6

    said = lab.run(*options)
    assert "12 of 12 image sets" in said
    again = lab.verdicts()
    assert {chunk: again[chunk] for chunk in done} == done
    lab.compare(small_plain.result())
    assert not list((lab.status / "attempts").iterdir())


def test_terminated_says_how_to_go_on(lab: Lab) -> None:
    started = lab.start("--chunk-size", "2")
    wait_for(lambda: any("cellprofiler -c -r" in w for w in descendants(started.pid).values()))
    below = descendants(started.pid)
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=60) == 75
    said = Path(lab.base / "start.log").read_text()
    assert "12 left" in said or "image sets done" in said
    assert f"go on with: {lab.command()[0]} -d demo" in said
    wait_for(lambda: not any(is_alive(pid) for pid in below), timeout_s=20)


def test_only_what_a_changed_list_touches_runs_again(
    lab: Lab, plain: Callable[[Lab], Plain]
) -> None:
    """The list loses a row, and what is left is turned round: content counts, not position."""
    lab.run("--chunk-size", "4")
    before = lab.verdicts()
    header, *rows = lab.image_list.read_text().splitlines()
    lab.image_list.write_text("\n".join([header, *rows[8:12], *rows[0:7]]) + "\n")
    other = plain(lab)
    said = lab.run("--chunk-size", "4")
    assert "11 of 11 image sets" in said
    kept = [c for c, when in lab.verdicts().items() if before.get(c) == when]
    assert len(kept) == 2
    lab.compare(other.result())


def test_a_changed_pipeline_runs_again_and_says_why(lab: Lab) -> None:
    lab.run("--chunk-size", "6")
    before = lab.verdicts()
    text = lab.pipeline.read_text()
    assert text.count("Texture scale to measure:3") == 1
    lab.pipeline.write_text(
        text.replace("Texture scale to measure:3", "Texture scale to measure:5")
    )
    said = lab.run("--chunk-size", "6")
    assert "the pipeline changed: every image set runs again" in said
    assert not set(lab.verdicts().values()) & set(before.values())
    header = (lab.analysis / "Nuclei.csv").read_text().splitlines()[0]
    assert "_DNA_5_" in header and "_DNA_3_" not in header
