from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import EXPORT, IDENTIFY, PROJECT, ROOT, SAVE, Screen, load_data, refused

from bpcp.chunk import __main__ as chunk
from bpcp.errors import Exit
from bpcp.run import closing, todo
from bpcp.workspace import hold, read_json, write_json


def alive(pid: int) -> bool:
    """Tell whether a process still runs; a zombie does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_for(met: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def only_attempts(screen: Screen) -> list[Path]:
    folder = screen.workspace.attempts
    return list(folder.iterdir()) if folder.is_dir() else []


def run_chunk(screen: Screen, chunk_id: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bpcp.chunk", str(screen.workspace.status), chunk_id],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_good_chunk(screen: Screen) -> None:
    screen.fill(5)
    screen.plan("-q", "--chunk-size", "5")
    (verdict,) = screen.run()
    assert verdict["failed"] == []
    (part,) = verdict["parts"]
    assert (part["first"], part["last"]) == (1, 5)
    assert set(part["tables"]) == {"Image.csv", "Nuclei.csv", "Experiment.csv"}
    # files of 8 to 12 bytes have 1 to 5 nuclei
    assert part["objects"] == {"Nuclei": 15}
    assert len(part["files"]) == 5
    assert (
        screen.workspace.analysis / "overlays/f1_overlay.png"
    ).read_bytes() == b"overlay of xxxxxxxx"
    assert verdict["cost"]["attempts"] == 1
    assert verdict["cost"]["cpu_s"] > 0
    assert only_attempts(screen) == []
    assert not screen.workspace.chunk(screen.chunks()[0]).running.exists()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("nothing", "CellProfiler wrote nothing"),
        ("failure-word", "CellProfiler said Failure"),
        ("half", "Image.csv ends in the middle of a line"),
        ("blank-row", "is blank in Image.csv"),
        ("module-error", "01LoadData failed"),
        ("missing-row", "Image.csv lacks 1 image sets"),
        ("double-row", "Image.csv has 1 rows twice"),
        ("count", "its table has"),
        ("exception", "IdentifyPrimaryObjects: ValueError: could not convert"),
        ("crash", "CellProfiler crashed: SIGSEGV"),
    ],
)
@pytest.mark.parametrize("at", ["f4.tif", "f1.tif/f2.tif/f7.tif"])
def test_exactly_the_bad_image_sets_are_left(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, mode: str, reason: str, at: str
) -> None:
    screen.fill(7)
    screen.plan("-q", "--chunk-size", "7")
    monkeypatch.setenv("FAKE_MODE", mode)
    monkeypatch.setenv("FAKE_AT", at)
    (verdict,) = screen.run()
    assert screen.failed() == at.split("/")
    for failed in verdict["failed"]:
        assert reason in failed["reason"]
        assert Path(failed["log"]).is_file()
    covered = [n for p in verdict["parts"] for n in range(p["first"], p["last"] + 1)]
    bad = [int(name[1:-4]) for name in at.split("/")]
    assert sorted(covered + bad) == list(range(1, 8))
    assert only_attempts(screen) == []
    # nothing of a bad image set is published
    overlays = {p.name for p in (screen.workspace.analysis / "overlays").iterdir()}
    assert overlays == {f"f{n}_overlay.png" for n in covered}
    screen.merge()
    assert [int(r["ImageNumber"]) for r in screen.table("Image.csv")] == sorted(covered)


@pytest.mark.parametrize("at", ["f1.tif", "f3.tif"])
def test_a_crash_while_loading_is_blamed_on_what_was_loaded(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "4")
    monkeypatch.setenv("FAKE_MODE", "crash-loading")
    monkeypatch.setenv("FAKE_AT", at)
    screen.run()
    assert screen.failed() == [at]


@pytest.mark.parametrize("mode", ["nothing", "exception", "crash", "half"])
def test_where_all_fail_all_are_named(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    screen.fill(3)
    screen.plan("-q", "--chunk-size", "3")
    monkeypatch.setenv("FAKE_MODE", mode)
    (verdict,) = screen.run()
    assert verdict["parts"] == []
    assert screen.failed() == ["f1.tif", "f2.tif", "f3.tif"]


def test_a_missing_and_an_empty_file_are_named_before_anything_runs(screen: Screen) -> None:
    screen.fill(5)
    (screen.images / "f2.tif").unlink()
    (screen.images / "f4.tif").write_bytes(b"")
    screen.plan("-q", "--chunk-size", "5")
    (verdict,) = screen.run()
    assert [(f["reason"], f["image"], f["file"]) for f in verdict["failed"]] == [
        ("missing file", "DNA", str(screen.images / "f2.tif")),
        ("empty file", "DNA", str(screen.images / "f4.tif")),
    ]
    assert screen.ran() == [["f1.tif"], ["f3.tif"], ["f5.tif"]]


def test_a_folder_without_permission_or_in_a_file_is_named(screen: Screen) -> None:
    screen.add("a.tif", 8)
    screen.rows[-1][1] = str(screen.images / "a.tif")
    screen.write()
    screen.plan("-q")
    (verdict,) = screen.run()
    assert verdict["failed"][0]["reason"] == "unreadable file (Not a directory)"


def test_a_group_that_is_aggregated_fails_together(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(6)
    screen.write(load_data(keys="Well"), IDENTIFY, PROJECT, EXPORT)
    screen.plan("-q", "--chunk-size", "6")
    monkeypatch.setenv("FAKE_MODE", "module-error")
    monkeypatch.setenv("FAKE_AT", "f4.tif")
    (verdict,) = screen.run()
    assert [(f["image_set"], f["reason"]) for f in verdict["failed"]] == [
        (3, "in one group with one that failed"),
        (4, "01LoadData failed"),
    ]
    assert verdict["failed"][0]["with"] == 4
    assert [(p["first"], p["last"]) for p in verdict["parts"]] == [(1, 2), (5, 6)]


def test_a_group_that_nothing_aggregates_fails_image_set_by_image_set(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(6)
    screen.write(load_data(keys="Well"), IDENTIFY, SAVE, EXPORT)
    screen.plan("-q", "--chunk-size", "6")
    monkeypatch.setenv("FAKE_MODE", "module-error")
    monkeypatch.setenv("FAKE_AT", "f4.tif")
    screen.run()
    assert screen.failed() == ["f4.tif"]
    screen.merge()
    # the group's measurements are those of the whole list, failed image sets and all
    names = ("Group_Number", "Group_Index", "Group_Length")
    found = [" ".join(r[n] for n in names) for r in screen.table("Image.csv")]
    assert found == ["1 1 2", "1 2 2", "2 1 2", "3 1 2", "3 2 2"]


def test_a_group_with_a_missing_file_fails_together(screen: Screen) -> None:
    screen.fill(4)
    screen.write(load_data(keys="Well"), IDENTIFY, PROJECT, EXPORT)
    (screen.images / "f1.tif").unlink()
    screen.plan("-q", "--chunk-size", "4")
    (verdict,) = screen.run()
    assert [f["reason"] for f in verdict["failed"]] == [
        "missing file",
        "in one group with one that failed",
    ]


def test_only_what_failed_is_tried_again(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.fill(5)
    screen.plan("-q", "--chunk-size", "5")
    monkeypatch.setenv("FAKE_MODE", "exception")
    monkeypatch.setenv("FAKE_AT", "f2.tif/f3.tif")
    screen.run()
    assert screen.failed() == ["f2.tif", "f3.tif"]
    screen.ran()
    monkeypatch.setenv("FAKE_AT", "f3.tif")
    screen.run()
    assert screen.failed() == ["f3.tif"]
    assert screen.ran() == [["f2.tif", "f3.tif"], ["f2.tif"], ["f3.tif"]]
    monkeypatch.delenv("FAKE_MODE")
    (verdict,) = screen.run()
    assert screen.ran() == [["f3.tif"]]
    assert verdict["failed"] == []
    assert len({p["part"] for p in verdict["parts"]}) == len(verdict["parts"])
    assert screen.run() == []
    screen.merge()
    assert [r["Count_Nuclei"] for r in screen.table("Image.csv")] == [
        "1.0", "2.0", "3.0", "4.0", "5.0",
    ]  # fmt: skip


def test_a_crash_once_is_tried_again(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen.fill(3)
    screen.plan("-q", "--chunk-size", "3")
    monkeypatch.setenv("FAKE_MODE", "crash")
    monkeypatch.setenv("FAKE_SIGNAL", "KILL")
    monkeypatch.setenv("FAKE_ONCE", str(tmp_path / "once"))
    (verdict,) = screen.run()
    assert verdict["failed"] == []
    assert verdict["cost"]["attempts"] == 2
    everything = ["f1.tif", "f2.tif", "f3.tif"]
    assert screen.ran() == [everything, everything]


def test_another_digest_redoes_the_chunk(screen: Screen) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2")
    screen.run()
    paths = screen.workspace.chunk(screen.chunks()[0])
    stale = paths.tables(7)
    stale.mkdir()
    known = read_json(paths.done)
    assert known is not None
    write_json(paths.done, {**known, "digest": "of yesterday"})
    (verdict,) = screen.run()
    assert verdict["digest"] == known["digest"]
    assert screen.ran() == [["f1.tif", "f2.tif"]] * 2
    assert not stale.exists()


def test_what_is_done_does_not_run_again(screen: Screen) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2")
    screen.run()
    screen.ran()
    chunk.run_chunk(chunk.load(screen.workspace, screen.chunks()[0]))
    assert screen.ran() == []


def test_work_is_done_where_the_user_says(screen: Screen, tmp_path: Path) -> None:
    scratch = tmp_path / "my scratch; ü"
    scratch.mkdir()
    screen.fill(2)
    screen.plan("-q", "-t", str(scratch))
    before = screen.table
    screen.run()
    screen.merge()
    assert list(scratch.iterdir()) == []
    assert not screen.workspace.attempts.exists()
    assert before("Image.csv")[0]["PathName_Overlay"] == str(screen.workspace.analysis / "overlays")


def test_a_result_that_cannot_be_written_is_73(screen: Screen) -> None:
    screen.fill(1)
    screen.plan("-q")
    screen.workspace.analysis.parent.mkdir(parents=True)
    screen.workspace.analysis.touch()
    refused(Exit.CANNOT_CREATE, "can't write", screen.run)
    assert screen.verdicts() == []
    assert only_attempts(screen) == []


def test_an_unknown_chunk_is_66(screen: Screen) -> None:
    screen.fill(1)
    screen.plan("-q")
    refused(Exit.NO_INPUT, "no chunk nope", chunk.load, screen.workspace, "nope")


def test_a_run_of_an_earlier_version_is_planned_again(screen: Screen) -> None:
    screen.fill(1)
    screen.plan("-q")
    run = screen.run_json()
    del run["skips"], run["modules"]
    write_json(screen.workspace.run, run)
    name = next(screen.workspace.chunks.iterdir()).name
    error = refused(Exit.STOPPED, "earlier version of bpcp", chunk.load, screen.workspace, name)
    assert "run_analysis_pipeline.sh" in error.todo
    screen.plan("-q")
    assert chunk.load(screen.workspace, name).run["skips"] == []


def test_an_orphan_is_ended(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen.fill(1)
    screen.plan("-q")
    monkeypatch.setenv("FAKE_MODE", "orphan")
    monkeypatch.setenv("FAKE_ORPHAN", str(tmp_path / "orphan"))
    (verdict,) = screen.run()
    assert verdict["failed"] == []
    orphan = int((tmp_path / "orphan").read_text())
    wait_for(lambda: not alive(orphan))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_no_folder_and_no_process(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2")
    monkeypatch.setenv("FAKE_MODE", "slow")
    monkeypatch.setenv("FAKE_SLEEP", "60")
    (name,) = screen.chunks()
    process = run_chunk(screen, name)
    wait_for(screen.journal.exists)
    running = read_json(screen.workspace.chunk(name).running)
    assert running is not None
    assert running["pid"] == process.pid
    assert Path(running["folder"]).is_dir()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    assert not any(alive(int(child)) for child in children)
    assert len(children) == 1
    assert only_attempts(screen) == []
    assert not screen.workspace.chunk(name).running.exists()
    assert screen.verdicts() == []
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_when_it_is_killed_cellprofiler_ends_and_the_next_start_clears_away(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2")
    monkeypatch.setenv("FAKE_MODE", "slow")
    monkeypatch.setenv("FAKE_SLEEP", "60")
    process = run_chunk(screen, screen.chunks()[0])
    wait_for(screen.journal.exists)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    wait_for(lambda: not alive(int(child)))
    assert len(only_attempts(screen)) == 1
    monkeypatch.delenv("FAKE_MODE")
    todo.clear_leftovers(screen.workspace)
    assert only_attempts(screen) == []
    assert screen.run()[0]["failed"] == []


def test_main_says_what_failed(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2")
    monkeypatch.setenv("FAKE_MODE", "module-error")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    (name,) = screen.chunks()
    process = run_chunk(screen, name)
    _, said = process.communicate(timeout=30)
    assert process.returncode == Exit.SOME_FAILED
    stamp, rest = said.split(" ", 1)
    assert re.fullmatch(r"time=20[0-9T:-]+Z", stamp)
    assert rest == f"event=failed chunk={name} image_set=2 reason='01LoadData failed'\n"


def test_files_outside_the_output_folder_are_a_fault(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    screen.plan("-q")
    monkeypatch.setenv("FAKE_MODE", "outside")
    (verdict,) = screen.run()
    (failed,) = verdict["failed"]
    assert failed["reason"] == "the pipeline saves outside the default output folder: x"
    assert only_attempts(screen) == []


def test_a_chunk_runs_once_at_a_time(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.fill(1)
    screen.plan("-q")
    (name,) = screen.chunks()
    monkeypatch.setenv("FAKE_MODE", "slow")
    monkeypatch.setenv("FAKE_SLEEP", "60")
    process = run_chunk(screen, name)
    try:
        wait_for(screen.journal.exists)
        running = read_json(screen.workspace.chunk(name).running)
        arguments = [str(screen.workspace.status), name]
        what = f"another process is at work on chunk {name}: process {process.pid} on "
        refused(Exit.STOPPED, what, chunk.main, arguments)
        # and whoever starts the run leaves it alone
        assert todo.clear_leftovers(screen.workspace) == []
        assert running is not None
        assert Path(running["folder"]).is_dir()
        assert read_json(screen.workspace.chunk(name).running) == running
    finally:
        process.terminate()
        process.wait(10)
    assert only_attempts(screen) == []
    todo.clear_leftovers(screen.workspace)
    monkeypatch.delenv("FAKE_MODE")
    assert chunk.main(arguments) == Exit.OK


def test_why_a_chunk_could_not_be_run_is_left_for_the_end(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(1)
    screen.plan("-q")
    (name,) = screen.chunks()
    arguments = [str(screen.workspace.status), name]
    screen.workspace.analysis.parent.mkdir(parents=True)
    screen.workspace.analysis.touch()
    refused(Exit.CANNOT_CREATE, "can't write", chunk.main, arguments)
    error = read_json(screen.workspace.chunk(name).error)
    assert error is not None
    assert error["code"] == Exit.CANNOT_CREATE
    assert str(screen.workspace.analysis) in error["reason"]

    capsys.readouterr()
    close = [str(screen.workspace.status), "--wall-s", "1", "--go-on", "again"]
    assert closing.main(close) == Exit.CANNOT_CREATE
    found = capsys.readouterr().err.splitlines()
    assert f"  chunk {name}: {error['reason']}" in found
    assert found[-2:] == [
        f"  all that happened: {screen.workspace.events}",
        "  → mend that, then: again",
    ]

    screen.workspace.analysis.unlink()
    assert chunk.main(arguments) == Exit.OK
    assert not screen.workspace.chunk(name).error.exists()


def test_the_cost_adds_up(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2")
    monkeypatch.setenv("FAKE_MODE", "exception")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    (first,) = screen.run()
    monkeypatch.delenv("FAKE_MODE")
    (second,) = screen.run()
    assert second["failed"] == []
    assert second["cost"]["attempts"] == first["cost"]["attempts"] + 1
    for name in ("cpu_s", "wall_s"):
        assert second["cost"][name] > first["cost"][name]
    assert second["cost"]["peak_mb"] >= first["cost"]["peak_mb"]


def test_a_workspace_that_was_moved_goes_on(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only what failed runs again, and the result names its new place."""
    screen.images_elsewhere = tmp_path / "images"
    screen.fill(4)
    gone = screen.images / "f3.tif"
    kept = gone.rename(tmp_path / "kept")
    assert screen.all("--chunk-size", "2").failed == 1
    screen.ran()
    screen.base = screen.base.rename(tmp_path / "moved")
    kept.rename(gone)
    assert screen.all("--chunk-size", "2").done == 4
    assert screen.ran() == [["f3.tif"]]
    home = str(screen.workspace.analysis / "overlays")
    assert {r["PathName_Overlay"] for r in screen.table("Image.csv")} == {home}


def test_twins_that_somebody_runs_by_hand_are_left_alone(screen: Screen) -> None:
    """Chunks of the same rows are told apart by a number behind their name."""
    screen.fill(1)
    screen.plan("-q")
    workspace = screen.workspace
    (name,) = screen.chunks()
    for twin in (f"{name}-2", f"{name}-3"):
        shutil.copytree(workspace.chunk(name).folder, workspace.chunk(twin).folder)
    folders = [
        workspace.attempts / f"{workspace.attempt_prefix}{middle}-0123456789abcdef"
        for middle in (name, f"{name}-2", f"{name}-2-images", f"{name}-3")
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    with hold(workspace.chunk(f"{name}-2").lock, "it"):
        assert sorted(todo.clear_leftovers(workspace)) == sorted([folders[0], folders[3]])


def test_what_nobody_foresaw_is_said_to_whoever_asks_later(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    screen.plan("-q")
    (name,) = screen.chunks()

    def broken(_: object) -> None:
        raise RuntimeError("unable to close file")

    monkeypatch.setattr(chunk, "run_chunk", broken)
    with pytest.raises(RuntimeError):
        chunk.main([str(screen.workspace.status), name])
    found = read_json(screen.workspace.chunk(name).error)
    assert found == {"reason": "RuntimeError: unable to close file", "code": Exit.BUG}
    lines, code = closing.words(screen.workspace, 1, 0, "again")
    assert f"  chunk {name}: RuntimeError: unable to close file" in lines
    assert code == Exit.BUG
