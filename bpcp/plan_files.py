"""A plan written down, for the processes that run its chunks."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpcp import imagelist, stale
from bpcp.errors import BpcpError, Exit
from bpcp.imagesets import Made
from bpcp.run.todo import clear_leftovers
from bpcp.workspace import Workspace, read_json, write_bytes, write_json, write_plan

if TYPE_CHECKING:
    from bpcp.imagelist import Row
    from bpcp.plan import Plan


def write(workspace: Workspace, plan: Plan) -> None:
    """Write a plan down, and let go of the chunks that are no longer part of it.

    What tells a chunk's input from that of another plan, chunk.json, is written last: killed in
    between, `run-chunk` finds chunk and pipeline apart, and refuses.
    """
    whole = bool(plan.run["reads_whole_list"])
    images, made = plan.vetted.sets.images, plan.vetted.sets.made
    header, root = images.header, Path(plan.run["root"])
    clear_leftovers(workspace)
    stale.supersede(workspace, {c.id: c.digest for c in plan.chunks})
    workspace.status.mkdir(parents=True, exist_ok=True)
    if made:
        made.keep(workspace)
        _write_batch(workspace.whole_batch, plan, made)
    elif whole:
        _write_list(workspace.whole_list, header, images.rows)
    write_bytes(workspace.pipeline, plan.pipeline)
    write_plan(workspace, plan.planned)
    write_json(workspace.run, plan.run)
    for chunk in plan.chunks:
        paths = workspace.chunk(chunk.id)
        content = {
            "id": chunk.id,
            "digest": chunk.digest,
            "pipeline_sha256": plan.run["pipeline_sha256"],
            "reads_whole_list": whole,
            "image_sets": len(chunk.rows),
            "first": chunk.units[0][0],
            "units": [list(unit) for unit in chunk.units],
        }
        refused = {
            str(n): plan.refused[line]
            for n, line in enumerate(chunk.lines, chunk.units[0][0])
            if line in plan.refused
        }
        if refused:
            content["refused"] = refused
        remote = {
            name: list(plan.remote[name])
            for row in chunk.rows
            for _, name in imagelist.files(header, row, root)
            if name in plan.remote
        }
        if remote != (read_json(paths.remote) or {}):
            write_json(paths.remote, remote)
        first = content["first"]
        bad = {
            str(n): plan.bad[line] for n, line in enumerate(chunk.lines, first) if line in plan.bad
        }
        if bad != (read_json(paths.bad) or {}):
            write_json(paths.bad, bad)
        checked = {"rows": [plan.seen.get(line) for line in chunk.lines]}
        if any(checked["rows"]):
            write_json(paths.checked, checked)
        else:
            paths.checked.unlink(missing_ok=True)
        paths.folder.mkdir(parents=True, exist_ok=True)
        _write_list(paths.images, header, [*chunk.rows, *filter(None, [chunk.witness])])
        if read_json(paths.chunk) != content:
            write_json(paths.chunk, content)
    keep = {c.id for c in plan.chunks}
    for folder in workspace.chunks.iterdir():
        # what else stands there is somebody's
        is_chunk = not folder.is_symlink() and workspace.chunk(folder.name).chunk.is_file()
        if is_chunk and folder.name not in keep:
            shutil.rmtree(folder)


def _write_list(path: Path, header: Row, rows: Sequence[Row]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        imagelist.write(temporary, header, rows)
        # a power cut may have left one without content, which is written anew
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            temporary.unlink()
            return
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        raise BpcpError(Exit.CANNOT_CREATE, f"can't write {path}: {error.strerror}") from error


def _flush(path: Path) -> None:
    """Have a file on the disk before it gets its name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_batch(path: Path, plan: Plan, made: Made) -> None:
    from bpcp import batch

    temporary = path.with_name(f".{path.name}.new")
    own, mends = plan.run["batch"] == "own", plan.vetted.mends
    try:
        batch.copy(
            made.path, temporary, keep=plan.vetted.sets.keep, moved=plan.moved, own=own, mends=mends
        )
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        raise BpcpError(Exit.CANNOT_CREATE, f"can't write {path}: {error.strerror}") from error
