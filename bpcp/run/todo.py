"""List the chunks that are left to run, and clear away what dead attempts left behind.

Only the holder of the run's lock may call it: whatever still says that it runs is dead then.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bpcp import staging
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.scratch import is_ours
from bpcp.workspace import (
    ChunkPaths,
    Workspace,
    hold,
    of_status,
    read_json,
    read_plan,
    verdict,
)


def left(workspace: Workspace) -> list[str]:
    """List the chunks without a verdict, and behind them those with image sets that failed."""
    new, again = [], []
    for planned in read_plan(workspace):
        done = verdict(workspace, planned)
        if done is None:
            new.append(planned.id)
        elif done["failed"]:
            again.append(planned.id)
    return new + again


def failed(workspace: Workspace) -> list[str]:
    """List the chunks with image sets that failed; in order."""
    plan = read_plan(workspace)
    return [p.id for p in plan if (done := verdict(workspace, p)) and done["failed"]]


def undecided(workspace: Workspace) -> list[str]:
    """List the chunks without a verdict; in order."""
    return [p.id for p in read_plan(workspace) if verdict(workspace, p) is None]


def clear_leftovers(workspace: Workspace) -> list[Path]:
    """Remove the private folders of attempts that were killed, and half-written state; return them.

    A folder is removed only where it is one of this run's; what else may stand in a shared /tmp is
    left alone.
    """
    homes = {workspace.attempts}
    if tmpdir := (read_json(workspace.run) or {}).get("tmpdir"):
        homes.add(Path(tmpdir))
    for chunk in workspace.chunks.iterdir() if workspace.chunks.is_dir() else ():
        if not chunk.is_dir():
            # .DS_Store, for one
            continue
        paths = workspace.chunk(chunk.name)
        # what was to become a state file
        half = [n for n in os.listdir(chunk) if n.startswith(".")]  # noqa: PTH208 -- thousands
        running = read_json(paths.running)
        if running is None and not half:
            continue
        if _is_running(paths):
            continue
        for name in half:
            (chunk / name).unlink(missing_ok=True)
        if running is not None:
            homes.add(Path(str(running.get("folder"))).parent)
            paths.running.unlink(missing_ok=True)
    removed = []
    for home in homes:
        for folder in home.iterdir() if home.is_dir() else ():
            # a merge and a profile work in attempts/, too; all else there is somebody's
            prefix = "bpcp-" if home == workspace.attempts else workspace.attempt_prefix
            if is_ours(folder, prefix) and not _is_of_one_running(workspace, folder.name):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def _is_of_one_running(workspace: Workspace, name: str) -> bool:
    """Tell whether a private folder is of a chunk that somebody runs by hand, by its name."""
    chunk_id = name.removeprefix(workspace.attempt_prefix).rpartition("-")[0]
    paths = workspace.chunk(chunk_id.removesuffix("-images"))
    return paths.lock.is_file() and _is_running(paths)


def _is_running(paths: ChunkPaths) -> bool:
    """Tell whether somebody runs a chunk by hand, beside the run."""
    try:
        with hold(paths.lock, "it"):
            return False
    except BpcpError:
        return True


def main(argv: Sequence[str]) -> int:
    """Print the chunks that are left to run; or what the option asks for."""
    parser = Parser("run")
    parser.add_argument("run", type=Path)
    parser.add_argument("--undecided", action="store_true")
    parser.add_argument("--failed", action="store_true")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--beside", action="store_true")
    args = parser.parse_args(argv)
    workspace = of_status(args.run)
    if args.tables:
        for chunk in workspace.chunks.iterdir():
            for path in workspace.chunk(chunk.name).all_tables.rglob("*"):
                if path.is_file() and path.suffix != ".gz":
                    sys.stdout.buffer.write(os.fsencode(path) + b"\0")
        return Exit.OK
    if args.beside:
        run = read_json(workspace.run) or {}
        print(*(["fetch"] if run["fetches"] else []), *(["upload"] if run["output"] else []))
        return Exit.OK
    clear_leftovers(workspace)
    staging.clear(workspace, everything=not left(workspace))
    if args.undecided:
        print("\n".join(undecided(workspace)))
        return Exit.OK
    for chunk_id in failed(workspace) if args.failed else left(workspace):
        print(chunk_id)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
