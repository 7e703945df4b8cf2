from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import FAKE, ROOT, Screen

from bpcp.errors import BpcpError, Exit, Parser, run_main

COMMANDS = (
    "plan",
    "chunk",
    "merge",
    "status",
    "compare",
    "run.todo",
    "run.closing",
    "run.progress",
    "workspace",
)


def ended(main: object, capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str]:
    assert callable(main)
    with pytest.raises(SystemExit) as caught:
        run_main("test", main)
    return caught.value.code, capsys.readouterr().err


def test_codes_are_those_of_the_design() -> None:
    assert {e.name: int(e) for e in Exit} == {
        "OK": 0, "SOME_FAILED": 1, "USAGE": 64, "MALFORMED_INPUT": 65, "NO_INPUT": 66,
        "UNAVAILABLE": 69, "BUG": 70, "CANNOT_CREATE": 73, "COPY_FAILED": 74, "STOPPED": 75,
        "NO_PERMISSION": 77, "BAD_SETTING": 78,
    }  # fmt: skip


@pytest.mark.parametrize("code", [Exit.OK, Exit.SOME_FAILED, 75])
def test_the_code_of_main_is_passed_on(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda argv: code, capsys) == (code, "")


def raising(error: BaseException) -> object:
    def main(argv: Sequence[str]) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BpcpError(Exit.NO_INPUT, "no list"), 66, "bpcp test: no list\n"),
        (BpcpError(Exit.STOPPED, "a", "do b"), 75, "bpcp test: a\n  → do b\n"),
        (KeyboardInterrupt(), 130, ""),
        (PermissionError(13, "denied", "/root/x"), 77, "bpcp test: no permission: /root/x\n"),
        (
            OSError(28, "No space left on device", "/data/x"),
            73,
            "bpcp test: /data/x: No space left on device\n"
            "  → free some space or check the folder, then run the same command again\n",
        ),
    ],
)
def test_errors_become_codes(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(raising(error), capsys) == (code, said)


def test_the_parser_never_exits_itself() -> None:
    parser = Parser("test")
    parser.add_argument("--format", choices=("csv", "parquet"))
    for argv in (["--format", "x"], ["--nope"], ["--form", "csv"], ["--format"], ["extra"]):
        with pytest.raises(BpcpError) as caught:
            parser.parse_args(argv)
        assert caught.value.code == Exit.USAGE
        assert caught.value.todo == "bpcp test --help"


def test_a_bad_choice_lists_the_good_ones() -> None:
    parser = Parser("test")
    parser.add_argument("--format", choices=("csv", "parquet"))
    with pytest.raises(BpcpError, match=r"csv.*parquet"):
        parser.parse_args(["--format", "x"])


def run(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"bpcp.{module}", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("module", COMMANDS)
def test_a_wrong_command_line_is_64_without_a_traceback(module: str) -> None:
    done = run(module, "--no-such-option")
    assert done.returncode == Exit.USAGE
    assert done.stdout == ""
    assert done.stderr.startswith("bpcp ")
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["plan", "merge", "status"])
def test_missing_input_is_66_without_a_traceback(module: str, tmp_path: Path) -> None:
    done = run(module, "-d", "x", "-p", tmp_path / "pipelines" / "gone.cppipe")
    assert done.returncode == Exit.NO_INPUT
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(screen: Screen) -> None:
    screen.fill(2)
    screen.all()
    script = 'trap "" PIPE; "$0" -m bpcp.status "$@" | true; exit "${PIPESTATUS[0]}"'
    process = subprocess.Popen(
        ["bash", "-c", script, sys.executable, *screen.arguments("--json")],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (Exit.OK, "")


def test_the_fake_answers_as_the_real_one() -> None:
    done = subprocess.run([str(FAKE), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "4.2.8.1\n"


def test_a_bug_says_so_and_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(raising(ZeroDivisionError("of all things")), capsys)
    assert code == 70
    assert "Traceback" in said and "of all things" in said
    assert said.endswith("bpcp test: this is a bug in bpcp; please report it\n")
