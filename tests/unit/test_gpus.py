"""GPUs that attempts share: one attempt on each, whoever starts them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import FAKE, ROOT, Screen, refused

from bpcp import gpus
from bpcp.errors import Exit
from bpcp.profile import __main__ as profile
from bpcp.run import todo

# A CellProfiler on a GPU: a line as it starts to run image sets, and one as it ends.
ON_GPU = """\
#!/bin/sh
case "$*" in *--version* | *--measurements*) exec '{fake}' "$@" ;; esac
echo "+ $CUDA_VISIBLE_DEVICES" >>'{journal}'
'{fake}' "$@"
code=$?
echo "- $CUDA_VISIBLE_DEVICES" >>'{journal}'
exit $code
"""


@pytest.fixture
def journal(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a CellProfiler that notes its GPU, and give the file where."""
    found, path = tmp_path / "gpus", tmp_path / "cellprofiler"
    path.write_text(ON_GPU.format(fake=str(FAKE), journal=found), encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("BPCP_CELLPROFILER", str(path))
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    return found


def most_at_once(journal: Path) -> dict[str, int]:
    """Give how many processes had each GPU at once, at most."""
    now: dict[str, int] = {}
    most: dict[str, int] = {}
    for line in journal.read_text().splitlines():
        sign, _, name = line.partition(" ")
        now[name] = now.get(name, 0) + (1 if sign == "+" else -1)
        most[name] = max(most.get(name, 0), now[name])
    assert not any(now.values())
    return most


@pytest.mark.parametrize(
    ("visible", "most"),
    [
        (None, {"0": 1, "1": 1}),
        # those of a cluster's job; the third is not asked for
        ("5,GPU-8a6d,7", {"5": 1, "GPU-8a6d": 1}),
        # one GPU that has room for two
        ("3,3", {"3": 2}),
    ],
)
def test_no_more_processes_than_gpus_run_at_once(
    screen: Screen,
    journal: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    most: dict[str, int],
) -> None:
    """Whoever starts run-chunk, and however many at once."""
    if visible is not None:
        monkeypatch.setenv(gpus.VISIBLE, visible)
    monkeypatch.setenv("FAKE_MODE", "slow")
    monkeypatch.setenv("FAKE_SLEEP", "0.5")
    screen.fill(6)
    screen.plan("--chunk-size", "1", "--gpus", "2")
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "bpcp.chunk", str(screen.workspace.status), chunk],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        for chunk in todo.left(screen.workspace)
    ]
    assert [process.wait(60) for process in running] == [0] * 6
    assert most_at_once(journal) == most


def test_without_the_option_each_process_sees_what_bpcp_does(
    screen: Screen, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpus.VISIBLE, "1,2")
    screen.fill(2)
    screen.all()
    assert most_at_once(journal) == {"1,2": 1}


def test_who_waits_for_a_gpu_goes_on_as_one_is_free(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setattr(gpus, "_LOOK_S", 0.01)
    screen.workspace.status.mkdir(parents=True)
    got = threading.Event()

    def third() -> None:
        with gpus.held(screen.workspace, 2) as found:
            assert found == {gpus.VISIBLE: "0"}
            got.set()

    waiting = threading.Thread(target=third)
    with gpus.held(screen.workspace, 2) as first, gpus.held(screen.workspace, 2) as second:
        assert (first, second) == ({gpus.VISIBLE: "0"}, {gpus.VISIBLE: "1"})
        waiting.start()
        assert not got.wait(0.2)
    assert got.wait(10)
    waiting.join()


def test_a_machine_with_fewer_than_were_planned(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.workspace.status.mkdir(parents=True)
    monkeypatch.setenv(gpus.VISIBLE, "4")
    with gpus.held(screen.workspace, 8) as found:
        assert found == {gpus.VISIBLE: "4"}
    # none: one process at a time, on the processor
    monkeypatch.setenv(gpus.VISIBLE, "")
    with gpus.held(screen.workspace, 8) as found:
        assert found == {gpus.VISIBLE: ""}


@pytest.mark.parametrize(
    ("asked", "visible", "code", "what"),
    [
        ("0", None, Exit.USAGE, "--gpus 0: at least 1"),
        ("3", "4, 5", Exit.BAD_SETTING, "--gpus 3, but CUDA_VISIBLE_DEVICES names 2: 4,5"),
        ("1", "", Exit.BAD_SETTING, "CUDA_VISIBLE_DEVICES names 0: none"),
    ],
)
def test_more_gpus_than_there_are(
    screen: Screen,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    visible: str | None,
    code: Exit,
    what: str,
) -> None:
    if visible is not None:
        monkeypatch.setenv(gpus.VISIBLE, visible)
    screen.fill(2)
    refused(code, what, screen.plan, "--gpus", asked)


def test_a_profile_runs_one_process_on_each_gpu(screen: Screen, journal: Path) -> None:
    screen.fill(12)
    arguments = ["-q", "-P", "4", "--samples", "2", "--gpus", "2"]
    assert profile.main(screen.arguments(*arguments)) == Exit.OK
    assert most_at_once(journal) == {"0": 1, "1": 1}
