"""What the processes beside a run have in common: they end when told, and with who started them."""

from __future__ import annotations

import ctypes
import os
import signal
from types import FrameType

_PR_SET_PDEATHSIG = 1


class Told(BaseException):
    """The process was told to end."""


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise Told


def serve() -> None:
    """Turn a signal to end into `Told`, and have one sent when the parent is no more."""
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise)
    # Ctrl-C goes to all at a terminal; the entry script says when it is time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise Told
