from __future__ import annotations

import pytest
from conftest import Screen

from bpcp.errors import Exit
from bpcp.run import closing
from bpcp.words import duration
from bpcp.workspace import write_json


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (18_440, "5 h 07 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def closed(screen: Screen, *more: str, wall_s: str = "0.001") -> int:
    return closing.main(
        [str(screen.workspace.status), "--wall-s", wall_s, "--go-on=run again -d 'x'", *more]
    )


def test_all_done(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(3)
    screen.all()
    code = closed(screen)
    said = capsys.readouterr().err.splitlines()
    assert code == Exit.OK
    assert said[0].startswith("done: 3 of 3 image sets in 0 s, ")
    assert said[0].endswith(" × one process")
    assert said[1:] == ["  6 Nuclei", f"  result: {screen.workspace.analysis}"]


def test_no_speed_where_one_process_would_have_been_as_fast(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(1)
    screen.all()
    closed(screen, wall_s="100")
    assert "one process" not in capsys.readouterr().err
    closed(screen, "--before-s", "1000")
    assert "one process" not in capsys.readouterr().err


def test_nothing_to_do(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(3)
    screen.all()
    code = closed(screen, "--ran", "0")
    assert code == Exit.OK
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "nothing to do: 3 of 3 image sets are done already"


def test_quiet_says_nothing_of_success(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(1)
    screen.all()
    assert closed(screen, "--quiet") == Exit.OK
    assert capsys.readouterr() == ("", "")


def test_failures_are_said_even_when_quiet(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(2)
    (screen.images / "f2.tif").unlink()
    screen.all()
    code = closed(screen, "--quiet")
    assert code == Exit.SOME_FAILED
    said = capsys.readouterr().err
    assert "1 failed" in said
    assert "line 3 of load_data.csv (P1 A01): missing file" in said
    assert "  → put the file there, or take its row out of the image list\n" in said
    assert "  → then: bpcp retry -d" in said


def test_a_run_that_was_given_up_says_why_and_is_1(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "2")
    write_json(screen.workspace.halted, {"why": "the first 3 chunks failed", "failed": 0})
    assert closed(screen, "--quiet") == Exit.SOME_FAILED
    assert capsys.readouterr().err.splitlines() == [
        "given up: the first 3 chunks failed",
        "  0 of 4 image sets done, 4 left",
        "  → mend that, then: run again -d 'x'",
    ]


def test_so_does_one_that_tried_again_what_has_a_verdict_of_an_earlier_start(
    screen: Screen, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(2)
    screen.plan("-q")
    monkeypatch.setenv("FAKE_MODE", "exception")
    screen.run()
    write_json(screen.workspace.halted, {"why": "the first 3 chunks failed", "failed": 0})
    assert closed(screen) == Exit.SOME_FAILED
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "given up: the first 3 chunks failed"
    assert said[-2:] == [
        "  0 of 2 image sets done, 2 failed",
        "  → mend that, then: run again -d 'x'",
    ]


def test_stopped_early_says_how_to_go_on(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(3)
    screen.plan("-q", "--chunk-size", "1")
    screen.run()
    screen.workspace.chunk(screen.chunks()[0]).done.unlink()
    code = closed(screen)
    assert code == Exit.STOPPED
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "stopped: 2 of 3 image sets done, 1 left",
        "  → go on with: run again -d 'x'",
    ]


def test_before_is_a_number_for_the_later_call(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(1)
    screen.plan("-q")
    assert closing.main([str(screen.workspace.status), "--before"]) == 0
    assert capsys.readouterr().out == "0.0\n"
    screen.run()
    closing.main([str(screen.workspace.status), "--before"])
    assert float(capsys.readouterr().out) > 0
