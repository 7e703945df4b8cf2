"""Before image sets that failed are tried again: look whether their files were mended."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bpcp import imagelist
from bpcp.check.look import look
from bpcp.chunk.__main__ import load
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.run.todo import failed
from bpcp.workspace import Workspace, of_status, read_json, write_json


def look_again(workspace: Workspace, chunk_id: str) -> int:
    """Look again at the image sets of a chunk that the check found bad; return how many are mended.

    Only those whose files changed since: of the others, the check's word holds.
    """
    task = load(workspace, chunk_id)
    bad = read_json(task.paths.bad) or {}
    # what the files were when the check looked, or at least when the chunk ran
    checked = (read_json(task.paths.checked) or {}).get("rows", [])
    seen = checked or (read_json(task.paths.done) or {})["inputs"]
    kept = {}
    for number, why in bad.items():
        at = int(number) - task.first
        row = task.rows[at]
        now = imagelist.fingerprint(task.header, [row], task.root, task.remote)
        if now == seen[at]:
            kept[number] = why
            continue
        files = imagelist.files(task.header, row, task.root)
        looks = (look(path) for _, path in files if not imagelist.is_remote(path))
        fault = next((found for found in looks if found.certain), None)
        if fault:
            kept[number] = fault.said
    if kept != bad:
        write_json(task.paths.bad, kept)
    return len(bad) - len(kept)


def main(argv: Sequence[str]) -> int:
    """Look again at what failed, and say what will be tried; the caller holds the run's lock."""
    parser = Parser("retry")
    parser.add_argument("run", type=Path)
    parser.add_argument("-q", "--quiet", action="store_true")
    args = parser.parse_args(argv)
    workspace = of_status(args.run)
    chunks = failed(workspace)
    mended = sum(look_again(workspace, chunk_id) for chunk_id in chunks)
    count = sum(
        len((read_json(workspace.chunk(chunk_id).done) or {})["failed"]) for chunk_id in chunks
    )
    if not count:
        raise BpcpError(Exit.NO_INPUT, "no image set has failed", "bpcp status tells how far it is")
    if not args.quiet:
        files = f", the files of {mended:,} were mended" if mended else ""
        sets = "image set" if count == 1 else "image sets"
        print(f"retry: {count:,} {sets} that failed{files}", file=sys.stderr)
    return Exit.OK


if __name__ == "__main__":
    run_main("retry", main)
