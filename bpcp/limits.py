"""What this process may use of its machine: cores, memory, processes, files.

A container or a cluster job may hold far less than the machine has; cgroups, v1 and v2, say so.
"""

from __future__ import annotations

import os
import re
import resource
from dataclasses import dataclass
from pathlib import Path

GB = 1e9
# One CellProfiler process on ordinary fields of view; measured 330 to 510 MB.
PROCESS_MEM_GB = 0.6
# A limit above this is none.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Limits:
    """What this process may use; None is "no limit".

    Attributes
    ----------
    mem_free_gb : float
        Memory that can still be taken, cgroup limits included.
    cores_seen, cores_allowed : int
        Cores of the machine, and those in this process's CPU affinity.
    cpu_quota : float or None
        Cores' worth of CPU time that the cgroups grant.
    tasks, open_files : int or None
        Processes and threads of this user or container; files of one process.
    """

    mem_free_gb: float
    cores_seen: int
    cores_allowed: int
    cpu_quota: float | None = None
    tasks: int | None = None
    open_files: int | None = None

    @property
    def cores(self) -> int:
        """Processes that can compute at the same time, at least 1."""
        quota = self.cores_allowed if self.cpu_quota is None else int(self.cpu_quota + 0.5)
        return max(1, min(self.cores_allowed, quota))


def read_limits(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Limits:
    """Read what this process may use, from the kernel and from cgroups v1 and v2."""
    mem_free = _meminfo(proc / "meminfo").get("MemAvailable", _NO_LIMIT)
    folders = cgroup_folders(_text(proc / "self" / "cgroup"), cgroups)
    for folder in folders:
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            # above it, processes are slowed down to a crawl
            ("memory.high", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and limit < _NO_LIMIT:
                # pages of files count as used, but are given back when needed
                stat = table(folder / "memory.stat")
                cached = sum(
                    stat.get(f"total_{name}", stat.get(name, 0))
                    for name in ("inactive_file", "active_file", "slab_reclaimable")
                )
                mem_free = min(mem_free, max(0, limit - (used or 0) + cached))
    quotas = [quota for folder in folders if (quota := _cpu_quota(folder)) is not None]
    tasks = [value for f in folders if (value := _number(f / "pids.max")) is not None]
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    # the kernel does not hold root to its limit
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:
        tasks.append(soft)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits(
        mem_free_gb=mem_free / GB,
        cores_seen=os.cpu_count() or 1,
        cores_allowed=len(os.sched_getaffinity(0)),
        cpu_quota=min(quotas, default=None),
        tasks=min(tasks, default=None),
        open_files=None if files == resource.RLIM_INFINITY else files,
    )


def cgroup_folders(membership: str, root: Path) -> list[Path]:
    """List the folders whose limits hold for a process, its own and those above it.

    Parameters
    ----------
    membership : str
        The text of /proc/self/cgroup: `0::/path` for v2, `4:cpu,cpuacct:/path` for v1. Inside a
        container the path may not be there; then the folder at the top is the container's own.
    """
    folders: dict[Path, None] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        tops = [root / name for name in controllers.split(",")] if controllers else [root]
        if controllers:
            tops.append(root / controllers)
        else:
            tops.append(root / "unified")
        for top in tops:
            inside = Path(path.lstrip("/"))
            for part in (inside, *inside.parents):
                if (top / part).is_dir():
                    folders[top / part] = None
    return list(folders)


def _cpu_quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit():
        return int(words[0]) / int(words[1])
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def table(path: Path) -> dict[str, int]:
    """Read a file of the kernel's that has a name and a number in each line; {} where none is."""
    rows = [line.split() for line in _text(path).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _meminfo(path: Path) -> dict[str, int]:
    # in bytes, though the file says kB
    found = re.findall(r"^(\w+):\s+(\d+) kB$", _text(path), re.M)
    return {name: int(value) * 1024 for name, value in found}


def to_bytes(text: str) -> int:
    """Read a size as people write it: "40G", "1.5T", "500M", each a power of 1024, or bytes.

    Raises
    ------
    ValueError
        Where it is none; argparse says so.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise ValueError(text)
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
