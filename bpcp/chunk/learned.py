"""What chunks that are done teach about those to come: what they write, how long they take, memory.

This is part of every chunk, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from bpcp.errors import BpcpError
from bpcp.slots import known
from bpcp.workspace import Json, Workspace, read_json, write_json

# How many chunks are asked.
_MOST = 8
MB = 1e6
# How many folders are looked into for these; they come in no order.
_LOOKED_INTO = 1000
# Where nothing is known yet, no attempt is kept waiting for more room than this.
_MOST_GUESSED = 1e9
# What an attempt writes beside its outputs: measurements, the JVM's own.
_SLACK = 64 * MB
# So many times what the slowest took for each image set is too long.
_TOO_LONG = 10
# So many times what most of them took is usual; what took more was one of a kind.
_USUAL = 1.5
# One CellProfiler process on ordinary fields of view; measured 330 to 510 MB.
_PROCESS_MB = 600.0


def room_for(workspace: Workspace, image_sets: int, input_bytes: int) -> int:
    """Say how much an attempt will write at most, in bytes.

    The first ones are taken to write as much as they read, up to 1 GB.
    """
    each = [
        float(done["cost"]["written_mb"]) * MB / max(1, int(done["image_sets"]))
        for done in _some_done(workspace)
        if not done["failed"] and "written_mb" in done["cost"]
    ]
    guess = 1.5 * max(each) * image_sets if each else min(float(input_bytes), _MOST_GUESSED)
    return int(_SLACK + guess)


def time_limit(workspace: Workspace, image_sets: int, least_s: float) -> float | None:
    """Give how long an attempt may take at most, in seconds; None where there is no telling.

    Parameters
    ----------
    least_s : float
        No attempt takes too long before that.
    """
    each = [
        float(part["cost"]["wall_s"]) / image_sets_through
        for done in _some_done(workspace)
        for part in done["parts"]
        if (image_sets_through := _through(part))
    ]
    return max(least_s, _TOO_LONG * max(each) * image_sets) if each else None


def process_mb(workspace: Workspace, run: Json) -> float:
    """Give the memory that a CellProfiler process takes at its peak, in MB of 1024² bytes.

    By the last profile, and by chunks that are done; while there are none, by what was killed for
    it; where nothing was measured, as most do. An image set that takes far more than others does
    not count: it runs again by a measure of its own.
    """
    found = []
    if profile := known(workspace, run["file_sha256"]):
        found.append(float(profile["prediction"]["process_mb"]))
    done = [max(float(p["cost"]["peak_mb"]) for p in d["parts"]) for d in _some_done(workspace)]
    if done:
        found.append(min(max(done), _USUAL * sorted(done)[len(done) // 2]))
    dead = read_json(workspace.memory)
    if dead and not done and dead["pipeline_sha256"] == run["pipeline_sha256"]:
        found.append(float(dead["process_mb"]))
    return max(found, default=_PROCESS_MB)


def took_too_much(workspace: Workspace, run: Json, peak_mb: float) -> float:
    """Remember that a process was killed for its memory, which was so much at its peak.

    Gives what it needs, in the same unit.
    """
    mb = max(1.25 * peak_mb, process_mb(workspace, run))
    # where not even that has room, it is not remembered
    with suppress(BpcpError, OSError):
        write_json(workspace.memory, {"pipeline_sha256": run["pipeline_sha256"], "process_mb": mb})
    return mb


def _some_done(workspace: Workspace) -> Iterator[Json]:
    left = _MOST
    for folder in islice(workspace.chunks.iterdir(), _LOOKED_INTO):
        paths = workspace.chunk(folder.name)
        found = read_json(paths.done)
        # where all image sets were skipped, it teaches nothing of the others
        if not found or not any(map(_through, found["parts"])):
            continue
        # of the same pipeline, and the same way to run it
        if found["digest"] == (read_json(paths.chunk) or {})["digest"]:
            yield found
            left -= 1
            if not left:
                return


def _through(part: Json) -> int:
    """Count the image sets of a part that went through the whole pipeline."""
    skipped = sum(map(len, part.get("skipped", {}).values()))
    return int(part["last"]) - int(part["first"]) + 1 - skipped
