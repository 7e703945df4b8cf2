"""Which GPU an attempt may use: each of a run's GPUs is held by one attempt at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from bpcp.workspace import Workspace

VISIBLE = "CUDA_VISIBLE_DEVICES"
_LOOK_S = 0.5


def devices(count: int, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Give the GPUs that attempts share: the first of those that the environment names, or of all.

    One that is named twice takes two attempts at once.
    """
    if VISIBLE not in environ:
        return [str(number) for number in range(count)]
    return [name for name in (w.strip() for w in environ[VISIBLE].split(",")) if name][:count]


@contextmanager
def held(workspace: Workspace, count: int | None) -> Iterator[dict[str, str]]:
    """Hold one of a run's GPUs, and give the environment of a process that uses it alone.

    Parameters
    ----------
    count : int or None
        How many GPUs there are; with None, processes see what this one does.
    """
    if not count:
        yield {}
        return
    # a run planned on another machine may find fewer here
    there = dict(enumerate(devices(count))) or {0: ""}
    handles = {
        number: os.open(workspace.gpu(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        for number in there
    }
    try:
        yield {VISIBLE: there[_taken(handles)]}
    finally:
        for handle in handles.values():
            os.close(handle)


def _taken(handles: Mapping[int, int]) -> int:
    """Wait until one of some files can be locked, and give its number."""
    while True:
        for number, handle in handles.items():
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return number
        time.sleep(_LOOK_S)
