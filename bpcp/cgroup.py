"""A control group of our own, for what the kernel knows of a process tree: its peak memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bpcp.limits import cgroup_folders

# cgroup v2's name for a group's peak, and v1's
_PEAKS = ("memory.peak", "memory.max_usage_in_bytes")


@dataclass(frozen=True)
class Group:
    """A control group; what joins it is counted, with all that it starts."""

    folder: Path
    _peak: Path

    def add(self, pid: int) -> None:
        """Let a process join; one that has ended already is no error."""
        with suppress(OSError):
            (self.folder / "cgroup.procs").write_text(str(pid))

    def peak_mb(self) -> float | None:
        """Give the most memory that it ever held, pages of files included."""
        try:
            return int(self._peak.read_text()) / 1024**2
        except (OSError, ValueError):
            return None


@contextmanager
def group(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> Iterator[Group | None]:
    """Make a control group inside this process's own, so that all limits hold; gone at the end.

    Gives None where there is none to be had: most users may not make one, and cgroup v2 counts
    memory only where the group above was told to.
    """
    made = _make(proc, cgroups)
    try:
        yield made
    finally:
        if made:
            _remove(made.folder)


def _make(proc: Path, cgroups: Path) -> Group | None:
    try:
        membership = (proc / "self" / "cgroup").read_text(encoding="utf-8")
    except OSError:
        return None
    for own in cgroup_folders(membership, cgroups):
        if not any((own / name).is_file() for name in _PEAKS):
            continue
        folder = own / f"bpcp-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            return None
        for name in _PEAKS:
            if (folder / name).is_file():
                return Group(folder, folder / name)
        _remove(folder)
        return None
    return None


def _remove(folder: Path) -> None:
    # a process that was just killed leaves its group a moment later
    for _ in range(20):
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
