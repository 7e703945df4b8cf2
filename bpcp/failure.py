"""Why an image set failed: of which kind that is, whether it may pass again, and what helps."""

from __future__ import annotations

import errno
import re
import signal
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from bpcp.workspace import Json

# How often what may pass is tried again.
RETRIES = 1
# Minutes without a sign of life, after which a CellProfiler is ended.
STALL_MIN = 10.0
# So much of an attempt's log goes into its verdict: what CellProfiler says last is why.
_LAST_LINES = 5
_TAIL_BYTES = 8192
# What any program says of a full disk.
NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded")
# What HDF5 says where measurements do not come to the disk, or not back. Nothing else may say it:
# h5py can't raise where it closes; CellProfiler goes on, reads zeros, and writes them into tables.
_LOST = re.compile(r"file (?:write|read) failed:.{0,2000}?error message = '([^']*)'", re.DOTALL)
_NO_MEMORY = re.compile(r"\b(?:\w*MemoryError|OutOfMemoryError)\b")
_NO_FILE = re.compile(r"FileNotFoundError|does not exist|No such file")
# Modules that read images; what they raise is about a file.
_READERS = ("LoadData", "LoadImages", "NamesAndTypes", "LoadSingleImage", "Images")


class Kind(Enum):
    """Kinds of failure; the value is the word for them in state files and `--json`."""

    MISSING = "missing-file"
    UNREADABLE = "unreadable-image"
    CHANGED = "image-changed"
    MODULE = "module-error"
    CRASH = "crash"
    MEMORY = "out-of-memory"
    STALLED = "stalled"
    TIMEOUT = "timeout"
    SPACE = "disk-full"
    INCOMPLETE = "output-incomplete"
    NOT_STARTED = "not-started"
    OUTSIDE = "saves-outside"
    TOGETHER = "same-group"
    NOT_TRIED = "not-tried"

    @property
    def may_pass(self) -> bool:
        """Whether the same image set may pass when it is tried again, though nothing was mended."""
        return self in _MAY_PASS

    @property
    def remedy(self) -> str:
        """What the user can do."""
        return _REMEDIES[self]


_MAY_PASS = frozenset({Kind.CRASH, Kind.MEMORY, Kind.STALLED, Kind.TIMEOUT, Kind.SPACE})
_REMEDIES = {
    Kind.MISSING: "put the file there, or take its row out of the image list",
    Kind.UNREADABLE: "copy the file anew from where it was acquired, or leave it out: --quarantine",
    Kind.CHANGED: "see that nothing writes it any more, then: bpcp retry",
    Kind.MODULE: "open this image set in CellProfiler's test mode, and mend the module's settings",
    Kind.CRASH: "its log says where; bpcp retry tries it again",
    Kind.MEMORY: "fewer processes (-P), or a machine with more memory for each",
    Kind.STALLED: "its log says where; if it only needs longer: a larger --stall-min",
    Kind.TIMEOUT: "it took far longer than others; if it only needs longer: a larger --stall-min",
    Kind.SPACE: "make room, then: bpcp retry",
    Kind.INCOMPLETE: "its log says more; a full disk or a folder without permission does this",
    Kind.NOT_STARTED: "CellProfiler can't run this pipeline: bpcp check says more",
    Kind.OUTSIDE: "let the pipeline save below the default output folder",
    Kind.TOGETHER: "mend the one that failed in its group",
    Kind.NOT_TRIED: "mend what failed alike before it, then: bpcp retry",
}


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, or an image set.

    Attributes
    ----------
    kind : Kind
    reason : str
        For people: the module and its exception, the file, the signal.
    culprit : int
        The image set that was worked on when it failed; 0 where nothing says which.
    started : bool
        Whether CellProfiler came as far as an image set: where not, cutting down is no use.
    more : dict
        What else is known: `module`, `file`, `image`, `with`.
    lines : tuple of str
        The last lines of the log.
    """

    kind: Kind
    reason: str
    culprit: int = 0
    started: bool = True
    more: Json = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """Give it as it stands in done.json, without the image set's number."""
        found: Json = {"kind": self.kind.value, "reason": self.reason, **self.more}
        if self.lines:
            found["last_lines"] = list(self.lines)
        return found


def of_file(reason: str, file: str = "", image: str = "") -> Failure:
    """Give the failure of an image set one of whose files can't be used.

    Parameters
    ----------
    reason : str
        As the check, the fetcher or `run-chunk` says it.
    """
    kind = Kind.MISSING if "missing" in reason or "gone" in reason else Kind.UNREADABLE
    more = {k: v for k, v in (("image", image), ("file", file)) if v}
    return Failure(kind, reason, more=more)


def of_module(module: str, error: str) -> Kind:
    """Tell what kind of failure a module's exception is."""
    if _NO_MEMORY.search(error):
        return Kind.MEMORY
    if NO_ROOM.search(error):
        return Kind.SPACE
    if module in _READERS:
        return Kind.MISSING if _NO_FILE.search(error) else Kind.UNREADABLE
    return Kind.MODULE


def signal_behind(code: int) -> int:
    """Give the signal that ended a process; 0 where it ended by itself.

    A command that stands around CellProfiler, such as a shell's, says 128 and the signal's number.
    """
    if code < 0:
        return -code
    return code - 128 if code - 128 in set(signal.Signals) else 0


def of_signal(number: int) -> str:
    """Name a signal, for people."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def lost_writes(log: Path) -> str:
    """Say why what an attempt measured can't be trusted, by its log; "" where nothing says so."""
    said = log.read_text(encoding="utf-8", errors="replace")
    if found := _LOST.search(said) or NO_ROOM.search(said):
        return f"measurements were lost: {found[found.lastindex or 0]}"
    return ""


def is_full(error: BaseException) -> bool:
    """Tell whether something failed as a disk, or somebody's share of it, was full."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def last_lines(log: Path) -> tuple[str, ...]:
    """Give the last lines of a log that are not empty."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return tuple(line[:300] for line in lines[-_LAST_LINES:])


def kind_of(failed: Json) -> Kind:
    """Read the kind of a failed image set from a verdict; one of an older bpcp has none."""
    try:
        return Kind(failed.get("kind", ""))
    except ValueError:
        return Kind.MODULE if "module" in failed else Kind.INCOMPLETE
