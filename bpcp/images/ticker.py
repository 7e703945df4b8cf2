"""Show that a long listing is alive: a line with how many files there are so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")

_TERMINAL_S = 0.5
# to a file or a pipe: a line now and then
_LOG_S = 30.0
# asking for the time costs more than most files do
_EVERY = 512


def ticking(
    items: Iterable[T],
    words: str,
    stream: TextIO | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Hand items on, and count them on stderr where they take long.

    Parameters
    ----------
    words : str
        What they are, behind their number: "files listed".
    stream : file, optional
        Instead of stderr.
    now : callable, optional
        Instead of the clock, seconds.
    """
    out = stream or sys.stderr
    terminal = out.isatty()
    pause_s = _TERMINAL_S if terminal else _LOG_S
    due = now() + pause_s
    shown = False
    count = 0
    for count, item in enumerate(items, start=1):
        yield item
        if count % _EVERY == 0 and now() >= due:
            start, end = ("\r", "") if terminal else ("", "\n")
            print(f"{start}{count:,} {words}", end=end, file=out, flush=True)
            due, shown = now() + pause_s, True
    if shown:
        start = "\r" if terminal else ""
        print(f"{start}{count:,} {words}", file=out, flush=True)
