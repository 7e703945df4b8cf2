"""List the chunks that are left to run, and clear away what dead attempts left behind.

Only the holder of the run's lock may call it: whatever still says that it runs is dead then.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from bpcp.errors import Exit, Parser, run_main
from bpcp.workspace import Workspace, of_status, read_json, read_plan, verdict


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

    A folder is removed only where it is one of ours: the name that an attempt gives, no link, and
    owned by this user; what else may stand at that place in a shared /tmp is left alone.
    """
    removed = []
    for chunk in workspace.chunks.iterdir() if workspace.chunks.is_dir() else ():
        paths = workspace.chunk(chunk.name)
        running = read_json(paths.running)
        if running is None:
            continue
        folder = Path(running["folder"])
        try:
            found = folder.lstat()
        except FileNotFoundError:
            found = None
        if (
            found
            and stat.S_ISDIR(found.st_mode)
            and found.st_uid == os.getuid()
            and folder.name.startswith("bpcp-")
        ):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        paths.running.unlink(missing_ok=True)
    if workspace.attempts.is_dir():
        for folder in workspace.attempts.iterdir():
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def main(argv: Sequence[str]) -> int:
    """Print the chunks that are left to run, a line each; or with --undecided only those."""
    parser = Parser("run")
    parser.add_argument("run", type=Path)
    parser.add_argument("--undecided", action="store_true")
    args = parser.parse_args(argv)
    workspace = of_status(args.run)
    clear_leftovers(workspace)
    if args.undecided:
        print("\n".join(undecided(workspace)))
        return Exit.OK
    for chunk_id in left(workspace):
        print(chunk_id)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
