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
    """List the chunks without a verdict, and those with image sets that failed; in order."""
    found = []
    for planned in read_plan(workspace):
        done = verdict(workspace, planned)
        if done is None or done["failed"]:
            found.append(planned.id)
    return found


def undecided(workspace: Workspace) -> list[str]:
    """List the chunks without a verdict; in order."""
    return [p.id for p in read_plan(workspace) if verdict(workspace, p) is None]


def clear_leftovers(workspace: Workspace) -> list[Path]:
    """Remove the folders of attempts that were killed; return them.

    A folder is removed only where it is one of ours; what else may stand at that place in a shared
    /tmp is left alone.
    """
    removed = []
    for chunk in workspace.chunks.iterdir() if workspace.chunks.is_dir() else ():
        paths = workspace.chunk(chunk.name)
        running = read_json(paths.running)
        if running is None or _is_running(paths):
            continue
        folder = Path(running["folder"])
        if staging.is_ours(folder, "bpcp-"):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        paths.running.unlink(missing_ok=True)
    live = {
        str(running["folder"])
        for chunk in (workspace.chunks.iterdir() if workspace.chunks.is_dir() else ())
        if (running := read_json(workspace.chunk(chunk.name).running))
    }
    if workspace.attempts.is_dir():
        for folder in workspace.attempts.iterdir():
            if str(folder) in live:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


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
    for chunk_id in left(workspace):
        print(chunk_id)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
