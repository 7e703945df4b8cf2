from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from conftest import Screen, refused

from bpcp import status
from bpcp.errors import Exit
from bpcp.workspace import write_json

LINE = "Fri Nov 20 09:37:44 2026: Image # {}, module M # {}: CPU_time = 0.01 secs, Wall_time = 0\n"


def gathered(screen: Screen) -> status.State:
    return status.gather(screen.workspace)


def test_nothing_is_planned(screen: Screen) -> None:
    refused(Exit.NO_INPUT, "nothing is planned", status.main, screen.arguments())


def test_from_planned_to_merged(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(5)
    screen.plan("-q", "--chunk-size", "2")
    state = gathered(screen)
    assert (state.total, state.done, state.failed, state.left) == (5, 0, 0, 5)
    assert (state.chunks, state.chunks_done, state.chunks_running) == (3, 0, 0)
    assert state.exit_code == Exit.STOPPED

    screen.run()
    state = gathered(screen)
    assert (state.done, state.left, state.chunks_done, state.attempts) == (5, 0, 3, 3)
    assert state.objects == {"Nuclei": 15}
    assert state.modules_s > 0
    assert state.exit_code == Exit.STOPPED
    assert "not merged yet" in "\n".join(status.lines(screen.workspace, state))

    screen.merge()
    assert status.main(screen.arguments()) == Exit.OK
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["5 of 5 image sets done", "3 of 3 chunks done"]
    assert said[-1] == f"result: {screen.workspace.analysis}"


def test_failures_are_named_by_line_and_file(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    (screen.images / "f3.tif").unlink()
    monkeypatch.setenv("FAKE_MODE", "exception")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    state = screen.all()
    assert (state.done, state.failed, state.left) == (2, 2, 0)
    assert state.exit_code == Exit.SOME_FAILED
    assert status.main(screen.arguments()) == Exit.SOME_FAILED
    said = capsys.readouterr().out
    assert "2 of 4 image sets done, 2 failed" in said
    assert "line 3 of load_data.csv (P1 A01): IdentifyPrimaryObjects: ValueError" in said
    assert f"line 4 of load_data.csv (P1 A02): missing file\n      {screen.images}/f3.tif" in said
    log = state.failures[0]["log"]
    assert f"log: {log}" in said
    assert Path(log).is_file()


def test_many_failures_are_cut(screen: Screen) -> None:
    screen.fill(12)
    for image in screen.images.iterdir():
        image.unlink()
    screen.plan("-q")
    screen.run()
    lines = status.describe_failures(screen.workspace, gathered(screen))
    assert len(lines) == 22
    assert lines[-1].startswith("  → put the file there")
    assert lines[-2] == "  … and 2 more: bpcp status --json"


def test_json_for_programs(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(3)
    (screen.images / "f1.tif").unlink()
    screen.all()
    assert status.main(screen.arguments("--json")) == Exit.SOME_FAILED
    found = json.loads(capsys.readouterr().out)
    counts = {"total": 3, "done": 2, "failed": 1, "left": 0, "under_way": 0, "not_analysed": 0}
    assert found["image_sets"] == {**counts, "skipped": 0}
    assert found["skipped"] == {}
    assert found["dataset"] == "plate 1"
    assert found["merged"] is True
    (failed,) = found["failed"]
    assert failed["image_number"] == 1
    assert failed["line"] == 2
    assert failed["image_set"] == {"Plate": "P1", "Well": "A01"}
    assert failed["file"] == str(screen.images / "f1.tif")


def test_a_running_attempt_counts_while_its_process_lives(screen: Screen) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "4")
    (name,) = screen.chunks()
    log = screen.workspace.attempt_log(name, 1)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(
        "".join(LINE.format(n, m) for n in (1, 2) for m in range(1, 5)) + LINE.format(3, 2)
    )
    running = {"pid": os.getpid(), "log": str(log), "decided": 0}
    write_json(screen.workspace.chunk(name).running, running)
    state = gathered(screen)
    assert (state.chunks_running, state.under_way, state.done) == (1, 2, 0)
    assert "0 of 1 chunks done, 1 running" in status.lines(screen.workspace, state)
    assert status.to_json(screen.workspace, state)["image_sets"]["under_way"] == 2
    # beyond any process id of Linux
    write_json(screen.workspace.chunk(name).running, {**running, "pid": 2**22 + 1})
    assert gathered(screen).chunks_running == 0
    write_json(screen.workspace.chunk(name).running, {**running, "log": "/gone"})
    assert gathered(screen).under_way == 0
    screen.workspace.turn.write_text('{"waits_for": "room: /data is full"}')
    write_json(screen.workspace.chunk(name).running, running)
    assert "the next chunk waits for room: /data is full" in status.lines(
        screen.workspace, gathered(screen)
    )
    # done, or failed, by an attempt before this one
    write_json(screen.workspace.chunk(name).running, {**running, "log": "/gone", "decided": 1})
    assert gathered(screen).under_way == 1


def test_a_merge_that_is_out_of_date_is_not_merged(screen: Screen) -> None:
    screen.fill(3)
    assert screen.all("--chunk-size", "1").merged
    screen.workspace.chunk(screen.chunks()[1]).done.unlink()
    screen.run()
    # the same verdict, but of another second
    path = screen.workspace.chunk(screen.chunks()[1]).done
    path.write_text(path.read_text().replace('"finished": "20', '"finished": "21'))
    state = gathered(screen)
    assert not state.merged
    assert state.exit_code == Exit.STOPPED


def test_a_result_without_one_of_its_tables_is_not_merged(screen: Screen) -> None:
    screen.fill(1)
    assert screen.all().merged
    (screen.workspace.analysis / "Nuclei.csv").unlink()
    state = gathered(screen)
    assert not state.merged
    said = status.lines(screen.workspace, state)[-1]
    words = ["bpcp", "merge", "-d", "plate 1", "-p", str(screen.pipeline)]
    assert said == f"not merged yet: {shlex.join(words)}"
    assert status.main(screen.arguments("--json")) == Exit.STOPPED
