"""List the chunks that were started and lost: their run-chunk was killed, and left no word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bpcp import todo
from bpcp.errors import Exit, Parser, run_main
from bpcp.workspace import Workspace, of_status


def lost(workspace: Workspace) -> list[str]:
    """List the chunks without a verdict and without a reason why they could not be run."""
    return [c for c in todo.undecided(workspace) if not workspace.chunk(c).error.exists()]


def main(argv: Sequence[str]) -> int:
    """Print them, once what they left in folders is cleared away; no chunk may be running."""
    parser = Parser("run")
    parser.add_argument("run", type=Path)
    args = parser.parse_args(argv)
    workspace = of_status(args.run)
    todo.clear_leftovers(workspace)
    for chunk_id in lost(workspace):
        print(chunk_id)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
