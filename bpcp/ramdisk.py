"""How large a RAM disk should be: for the images that slots work on, within the memory left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bpcp import fetch
from bpcp.chunk import learned
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.limits import GB, Limits, read_limits, to_bytes
from bpcp.slots import process_gb
from bpcp.sync import amount
from bpcp.workspace import Workspace, of_status, read_json, read_plan

# Of the memory that processes leave, so much stays for everything else.
_SHARE = 0.8
_LEAST = 64 << 20


def wanted(workspace: Workspace, slots: int) -> int:
    """Say how many bytes are of use: each slot's chunk and its next one, and what it writes."""
    run = read_json(workspace.run) or {}
    most = 0
    for planned in read_plan(workspace):
        # of no disk at all: every file counts that could be brought
        read = sum(w.size for w in fetch.wants(workspace, planned.id, run, faster_than=-1))
        written = learned.room_for(workspace, len(planned.image_numbers), read)
        most = max(most, 2 * read + written)
    return slots * most


def size(asked: str, need: int, processes_gb: float, limits: Limits) -> tuple[int, str]:
    """Choose the size of a RAM disk.

    Parameters
    ----------
    asked : str
        "auto", or a size as `limits.to_bytes` reads it.
    need : int
        Bytes that are of use.
    processes_gb : float
        Memory that all processes take.

    Returns
    -------
    size : int
        Bytes.
    warning : str
        What the user should know, or "".

    Raises
    ------
    BpcpError
        78 where the memory left is too little for any.
    """
    left = int(_SHARE * (limits.mem_free_gb - processes_gb) * GB)
    if asked == "auto":
        if left < _LEAST:
            raise BpcpError(
                Exit.BAD_SETTING,
                f"no memory left for a RAM disk: {limits.mem_free_gb:.1f} GB are free, and the"
                f" processes take {processes_gb:.1f} GB",
                "fewer processes (-P), or no --ramdisk",
            )
        return max(_LEAST, min(need, left)), ""
    found = to_bytes(asked)
    if found > left:
        return found, (
            f"a RAM disk of {amount(found)} and processes of {processes_gb:.1f} GB may need more"
            f" than the {limits.mem_free_gb:.1f} GB of memory that are free"
        )
    return found, ""


def main(argv: Sequence[str]) -> int:
    """Print the size of the RAM disk for a plan, in bytes."""
    parser = Parser("run")
    parser.add_argument("run", type=Path)
    parser.add_argument("--slots", type=int, required=True)
    args = parser.parse_args(argv)
    workspace = of_status(args.run)
    slots = min(args.slots, max(1, len(read_plan(workspace))))
    run = read_json(workspace.run) or {}
    need = wanted(workspace, slots) if run["ramdisk"] == "auto" else 0
    processes_gb = slots * process_gb(workspace, run["file_sha256"])
    found, warning = size(run["ramdisk"], need, processes_gb, read_limits())
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    print(found)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
