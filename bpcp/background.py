"""How processes end when they are told to: those beside a run with who started them, all tidily."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_PR_SET_PDEATHSIG = 1


class Told(BaseException):
    """The process was told to end."""


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise Told


@contextmanager
def tidily() -> Iterator[None]:
    """Let a signal to end, within the block, end what it started and take its temporary files away.

    Python alone would be gone at once, and leave both behind.
    """
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, _raise) for number in numbers]
    try:
        yield
    except Told:
        sys.exit(128 + signal.SIGTERM)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def tell_when_orphaned(number: signal.Signals) -> None:
    """Have a signal sent to this process when its parent is no more.

    A parent that is gone already sends none: ask `os.getppid` afterwards.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def serve() -> None:
    """Turn a signal to end into `Told`, and have one sent when the parent is no more."""
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise)
    # Ctrl-C, and the end of a terminal, go to all at it; the entry script says when it is time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(PermissionError):  # where it leads a group already
        os.setsid()
    tell_when_orphaned(signal.SIGTERM)
    if os.getppid() != parent:
        raise Told
