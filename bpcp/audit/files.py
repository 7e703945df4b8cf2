"""What the result must hold, file by file, and reading it: several at once, and with an ETA."""

from __future__ import annotations

import os
import stat as kinds
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from bpcp import contested
from bpcp.audit.image_sets import Account
from bpcp.audit.outcome import amount
from bpcp.publish import sha256
from bpcp.words import duration
from bpcp.workspace import Json, Workspace, to_ranges

T = TypeVar("T")
R = TypeVar("R")

_QUIET_S = 3.0
_TERMINAL_S = 0.5
# to a file or a pipe: a line now and then
_LOG_S = 30.0
# more would only wait for the disk
_MOST_THREADS = 8


@dataclass(frozen=True)
class Saved:
    """A file that a chunk published.

    Attributes
    ----------
    path : str
        Relative to the result's folder.
    size : int
        In bytes.
    sha256 : str
    chunk : str
    numbers : tuple of int
        The image sets of the process that wrote it.
    """

    path: str
    size: int
    sha256: str
    chunk: str
    numbers: tuple[int, ...]

    @property
    def origin(self) -> str:
        """Say whose it is."""
        return f"saved by chunk {self.chunk}, ImageNumber {to_ranges(self.numbers)}"


def saved_of(workspace: Workspace, found: Account) -> dict[str, Saved]:
    """List the files that the chunks saved, by path; where several saved one, that which stays."""
    files, _ = contested.kept(workspace, found.plan)
    return {
        path: Saved(path, claim.size, claim.sha256, claim.chunk, tuple(claim.numbers))
        for path, claim in files.items()
    }


@dataclass(frozen=True)
class Look:
    """What a look at a saved file found.

    Attributes
    ----------
    what : str
        What is wrong; "" where it is as it was saved.
    rerun : bool
        Whether the next run finds that out by itself, and makes it anew.
    read : bool
        Whether it was read, rather than known by size and times.
    times : list of int
        Its size in bytes, and the times in ns when its content and its entry last changed.
    """

    what: str = ""
    rerun: bool = True
    read: bool = False
    times: tuple[int, ...] = ()


class Known:
    """Which saved files need not be read again: nothing touched them since they were.

    The system itself sets the time when a file's entry changed, at each write and each rename; so a
    file whose time is before its chunk's verdict, on the same file system, is what was published.
    """

    def __init__(self, workspace: Workspace, before: Json, *, quick: bool) -> None:
        self._quick = quick
        self._before = before
        self._workspace = workspace
        self._verdicts: dict[str, os.stat_result] = {}

    def covers(self, saved: Saved, now: os.stat_result) -> bool:
        """Tell whether a file is as it was when it was read last."""
        if not self._quick:
            return False
        if known := self._before.get(saved.path):
            return bool([*times_of(now), saved.sha256] == known)
        if saved.chunk not in self._verdicts:
            self._verdicts[saved.chunk] = self._workspace.chunk(saved.chunk).done.stat()
        done = self._verdicts[saved.chunk]
        return bool(now.st_dev == done.st_dev and now.st_ctime_ns < done.st_mtime_ns)


def times_of(now: os.stat_result) -> tuple[int, ...]:
    """Give a file's size, and when its content and its entry changed."""
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns


def look(folder: Path, saved: Saved, known: Known) -> Look:
    """Compare a saved file with what was published."""
    path = folder / saved.path
    try:
        now = path.stat()
        if not kinds.S_ISREG(now.st_mode):
            return Look("it is no file any more")
        if now.st_size != saved.size:
            return Look(f"it has {now.st_size:,} bytes, {saved.size:,} were saved")
        if known.covers(saved, now):
            return Look(times=times_of(now))
        if sha256(path) != saved.sha256:
            # its size says nothing to a run
            return Look("its content changed since it was saved (SHA-256)", rerun=False, read=True)
    except (FileNotFoundError, NotADirectoryError):
        return Look("it is gone")
    except OSError as error:
        return Look(f"it can't be read: {error.strerror}", rerun=False)
    return Look(read=True, times=times_of(now))


def strangers(folder: Path, known: Iterable[str]) -> list[str]:
    """List the files of the result that nobody wrote, relative to its folder."""
    expected = set(known)
    found = []
    for home, _, names in os.walk(folder):
        below = os.path.relpath(home, folder)
        for name in names:
            path = name if below == "." else f"{below}/{name}"
            if path not in expected:
                found.append(path)
    return sorted(found)


class Readers:
    """A few threads that read files, and a line on stderr where that takes long.

    Reading and hashing let other threads run.

    Parameters
    ----------
    total : int
        Bytes to read.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Readers:
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        self._over.set()
        self._ticker.join()

    def tell(self, size: int) -> None:
        """Note that so many bytes more were read."""
        with self._lock:
            self._done += size

    def map(self, read: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Read things, and give what was found in their order."""
        return self._pool.map(read, items)

    def _tick(self) -> None:
        terminal = sys.stderr.isatty()
        started = time.monotonic()
        width, pause_s = 0, _QUIET_S if terminal else _LOG_S
        while not self._over.wait(pause_s):
            pause_s = _TERMINAL_S if terminal else _LOG_S
            done, passed_s = min(self._done, self._total), time.monotonic() - started
            if not done:
                continue
            left = duration((self._total - done) * passed_s / done)
            text = f"audit: {100 * done // self._total} % of {amount(self._total)} · ETA {left}"
            if terminal:
                print(f"\r{text:<{width}}", end="", file=sys.stderr, flush=True)
                width = len(text)
            else:
                print(text, file=sys.stderr, flush=True)
        if width:
            print(f"\r{' ' * width}\r", end="", file=sys.stderr, flush=True)
