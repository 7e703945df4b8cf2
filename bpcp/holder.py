"""Who holds a lock of bpcp's: what its file says, in words, and whether they are still there."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from bpcp.processes import PROC
from bpcp.words import duration

_WRITTEN = re.compile(r"pid=(\d+) host=(\S+) since=(\S+)")


@dataclass(frozen=True)
class Holder:
    """What a lock's file says.

    Attributes
    ----------
    since : str
        When it took the lock, UTC.
    """

    pid: int
    host: str
    since: str

    @classmethod
    def here(cls, pid: int) -> Holder:
        """Make one of a process on this machine that takes the lock now."""
        return cls(pid, os.uname().nodename, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Read a lock's file; None where it says nothing."""
        try:
            found = _WRITTEN.search(path.read_text(encoding="utf-8", errors="replace")[:200])
        except OSError:
            return None
        return cls(int(found[1]), found[2], found[3]) if found else None

    def text(self) -> str:
        """Give what stands in the file."""
        return f"pid={self.pid} host={self.host} since={self.since}\n"

    def words(self, now: datetime | None = None) -> str:
        """Say it to people, with how long ago that was."""
        said = f"process {self.pid} on {self.host}, since {self.since}"
        try:
            began = datetime.fromisoformat(self.since.replace("Z", "+00:00"))
            ago = ((now or datetime.now(timezone.utc)) - began).total_seconds()
        except (ValueError, TypeError):
            return said
        return f"{said} ({duration(max(0.0, ago))} ago)"

    def is_gone(self, path: Path, proc: Path = PROC) -> bool:
        """Tell whether the process is of this machine and no longer has the lock's file open.

        What holds the lock then are others that inherited it. A process that can't be looked into
        is taken to be there.
        """
        if self.host != os.uname().nodename:
            return False
        try:
            handles = list((proc / str(self.pid) / "fd").iterdir())
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return not any(_is_open(handle, path) for handle in handles)


def _is_open(handle: Path, path: Path) -> bool:
    try:
        return handle.samefile(path)
    except OSError:
        return False


def held_by(path: Path, what: str) -> str:
    """Say that somebody is at work: on this run, on a chunk; see `Holder.words`."""
    holder = Holder.read(path)
    return f"{what}: {holder.words()}" if holder else what
