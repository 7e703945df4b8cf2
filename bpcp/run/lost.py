"""List the chunks that were started and lost: their run-chunk was killed, and left no word."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bpcp.errors import Exit, Parser, run_main
from bpcp.run import todo
from bpcp.workspace import Workspace, of_status


def lost(workspace: Workspace, started: Iterable[str], since: float) -> list[str]:
    """List those of some chunks that have neither a new verdict nor a new reason for having none.

    Parameters
    ----------
    started : iterable of str
        The chunks that were given to GNU parallel.
    since : float
        When, in seconds since 1970; an older verdict is that of another start.
    """

    def is_new(path: Path) -> bool:
        try:
            return path.stat().st_mtime >= since
        except FileNotFoundError:
            return False

    paths = (workspace.chunk(chunk_id) for chunk_id in started)
    return [p.id for p in paths if not is_new(p.done) and not is_new(p.error)]


def main(argv: Sequence[str]) -> int:
    """Print them, once what they left in folders is cleared away; no chunk may be running."""
    parser = Parser("run")
    parser.add_argument("run", type=Path)
    parser.add_argument("--since", type=float, required=True)
    args = parser.parse_args(argv)
    workspace = of_status(args.run)
    todo.clear_leftovers(workspace)
    for chunk_id in lost(workspace, sys.stdin.read().split(), args.since):
        print(chunk_id)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
