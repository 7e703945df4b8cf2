"""How many processes a run starts: what -P asks for, and what memory carries by the last profile.

This runs at every start, so it imports nothing heavy.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.limits import GB, PROCESS_MEM_GB, Limits, read_limits
from bpcp.publish import sha256
from bpcp.workspace import Json, Workspace, locate, read_json

# For bpcp itself, the merge, and the images that the kernel keeps at hand.
RESERVE_MB = 1000.0
# What stands beside each CellProfiler: its run-chunk.
BESIDE_MB = 15.0
# GNU parallel's word for "as many as there are jobs" is 0; so many are never reached.
NO_LIMIT = 100_000


@dataclass(frozen=True)
class Carried:
    """What the last profile says of a run on this machine.

    Attributes
    ----------
    jobs : int
        Processes that the free memory carries, at least 1.
    process_mb : float
        What each takes at its peak.
    set_s : float
        Seconds for an image set, as many processes at once as were measured.
    """

    jobs: int
    process_mb: float
    set_s: float
    free_gb: float

    def __str__(self) -> str:
        many = f"{self.jobs} process{'es' if self.jobs != 1 else ''}"
        return (
            f"memory carries {many}: {self.free_gb:.1f} GB free, {self.process_mb:,.0f} MB each"
            " by the last profile"
        )


def free_mb(limits: Limits) -> float:
    """Give the memory that can still be taken in MB, which are 1024² bytes as in a verdict."""
    return limits.mem_free_gb * GB / 1024**2


def fit(room_mb: float, process_mb: float) -> int:
    """Give how many processes memory carries, at least 1."""
    return max(1, int((room_mb - RESERVE_MB) / (process_mb + BESIDE_MB)))


def known(workspace: Workspace, pipeline_sha256: str) -> Json | None:
    """Read the last profile, where it is one of this very pipeline."""
    found = read_json(workspace.profile)
    return found if found and found.get("pipeline_sha256") == pipeline_sha256 else None


def carried(workspace: Workspace, pipeline_sha256: str, limits: Limits) -> Carried | None:
    """Say what memory carries by the last profile; None where nothing was measured."""
    found = known(workspace, pipeline_sha256)
    if found is None:
        return None
    process_mb = float(found["prediction"]["process_mb"])
    jobs = fit(free_mb(limits), process_mb)
    return Carried(jobs, process_mb, float(found["figures"]["set_s"]), limits.mem_free_gb)


def process_gb(workspace: Workspace, pipeline_sha256: str) -> float:
    """Give what a process takes at its peak in GB: by the last profile, or as most do."""
    found = known(workspace, pipeline_sha256)
    if found is None:
        return PROCESS_MEM_GB
    return (float(found["prediction"]["process_mb"]) + BESIDE_MB) * 1024**2 / GB


def asked(jobs: str, cores: int) -> int:
    """Give what GNU parallel's -P means here: N, N%, +N, -N, or 0 for no limit.

    Raises
    ------
    BpcpError
        64 where it is none of these.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,6}|[0-9]{1,6}%", jobs):
        raise BpcpError(
            Exit.USAGE,
            f"-P {jobs}: not a number of jobs",
            "as GNU parallel's: 8, 50%, +2, -1, or 0 for no limit",
        )
    number = int(jobs.rstrip("%"))
    if jobs[0] in "+-":
        number += cores
    elif jobs.endswith("%"):
        number = cores * number // 100
    elif number == 0:
        return NO_LIMIT
    return max(1, number)


def choose(jobs: str, cores: int, memory: Carried | None) -> tuple[int, str]:
    """Choose how many processes a run starts.

    Parameters
    ----------
    jobs : str
        What -P says; "" where the user left it out. Only then memory decides: who names a number
        gets it, and a warning where it is more than memory carries.

    Returns
    -------
    slots : int
    words : str
        What the user should know; mostly "".
    """
    slots = asked(jobs or "100%", cores)
    if memory is None or slots <= memory.jobs:
        return slots, ""
    if jobs:
        return slots, f"warning: -P {jobs}, but {memory}"
    return memory.jobs, f"{memory.jobs} at once, not {slots}: {memory}"


def main(argv: Sequence[str]) -> int:
    """Print how many processes a run starts; on stderr why, where memory has a say."""
    parser = Parser("run")
    parser.add_argument("--jobs", default="")
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("-p", "--pipeline", required=True, type=Path)
    parser.add_argument("-q", "--quiet", action="store_true")
    args = parser.parse_args(argv)
    limits, memory = read_limits(), None
    # a pipeline that is not there is for the next step to tell
    if args.pipeline.is_file():
        memory = carried(locate(args.dataset, args.pipeline), sha256(args.pipeline), limits)
    slots, words = choose(args.jobs, limits.cores, memory)
    if words and not args.quiet:
        print(words, file=sys.stderr)
    print(slots)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
