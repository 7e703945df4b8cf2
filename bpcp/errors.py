"""Exit codes, and the one way in which a command tells its user what went wrong."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from io import UnsupportedOperation
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast


class Exit(IntEnum):
    """Exit codes of every command, after sysexits.h; listed in README.md."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 64
    MALFORMED_INPUT = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    BUG = 70
    CANNOT_CREATE = 73
    COPY_FAILED = 74
    STOPPED = 75
    NO_PERMISSION = 77
    BAD_SETTING = 78


class BpcpError(Exception):
    """What is wrong and where, what to do next, and the exit code that says so to programs."""

    def __init__(self, code: Exit, what: str, todo: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.todo = todo


class Parser(argparse.ArgumentParser):
    """Options of a command whose help is the header of its file in bin/.

    A wrong command line ends with 64; a bad choice lists the good ones.
    """

    def __init__(self, command: str) -> None:
        self.name = _name(command)
        super().__init__(prog=self.name, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise BpcpError(Exit.USAGE, message, f"{self.name} --help")


def _name(command: str) -> str:
    """Give what the user types: an entry script's own name, or a command of bpcp."""
    return f"./{command}" if command.endswith(".sh") else f"bpcp {command}"


class _ForPeople:
    """A stream that people read: what can't be written to it is lost, and no more comes of it.

    Its reader may be gone, or the disk that it goes to full; that must not decide about a run.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            _discard(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """Let what a stream still holds, and all that follows, go nowhere."""
    with suppress(UnsupportedOperation), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _shield_streams() -> None:
    """Let stderr, and stdout where it goes to the same place, never fail."""
    with suppress(UnsupportedOperation):
        if os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno()):
            sys.stdout = cast("TextIO", _ForPeople(sys.stdout))
    sys.stderr = cast("TextIO", _ForPeople(sys.stderr))


def run_main(command: str, main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run `main` on the command line and exit; a user's mistake never shows a traceback."""
    _shield_streams()
    try:
        code = main(sys.argv[1:])
    except BpcpError as error:
        print(f"{_name(command)}: {error}", file=sys.stderr)
        if error.todo:
            print(f"  → {error.todo}", file=sys.stderr)
        code = error.code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # the reader of a pipe (head, less) has seen enough
        code = Exit.OK
    except PermissionError as error:
        print(f"{_name(command)}: no permission: {error.filename}", file=sys.stderr)
        code = Exit.NO_PERMISSION
    except OSError as error:
        code = _of_the_machine(command, error)
    except Exception:
        traceback.print_exc()
        print(f"{_name(command)}: this is a bug in bpcp; please report it", file=sys.stderr)
        code = Exit.BUG
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python would fail on it once more, and end with 120
        _discard(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            code = code or _of_the_machine(command, error)
    sys.exit(int(code))


def _of_the_machine(command: str, error: OSError) -> Exit:
    """Say what the machine can't do: a full disk, a folder that went away."""
    where = f"{error.filename}: " if error.filename else ""
    print(f"{_name(command)}: {where}{error.strerror}", file=sys.stderr)
    print(
        "  → free some space or check the folder, then run the same command again", file=sys.stderr
    )
    return Exit.CANNOT_CREATE
