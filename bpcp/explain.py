"""A plan in words: how many chunks of what size and why, and what each process reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bpcp.cut import CHUNK_SIZE, Chunk, Cut
from bpcp.imagelist import Row, column_types
from bpcp.pipeline import Pipeline
from bpcp.settings import Settings
from bpcp.workspace import Json


def describe(run: Json, chunks: Sequence[Chunk], slots: int) -> str:
    """Say in a line what the plan is."""
    sizes = [len(c.rows) for c in chunks]
    grouped = run["cutting"]["group_by"] or run["group_keys"]
    by = f", grouped by {', '.join(grouped)}" if grouped else ""
    return (
        f"{run['image_sets']:,} image sets in {_count(len(sizes), 'chunk')}"
        f" of {_span(sizes)}{by}, {min(slots, len(sizes))} at a time"
    )


def size(cut: Cut, pipe: Pipeline, settings: Settings) -> str:
    """Say why chunks are as large as they are, where no module decides it."""
    sizes = list(Counter(cut.groups).values())
    grouped = len(sizes) < len(cut.groups)
    keys = ", ".join(settings.group_by)
    across = bool(keys) and cut.groups == cut.own and bool(pipe.group_keys)
    if keys and settings.chunk_size is None and not across:
        return f"size: one chunk for each {keys}"
    about = (
        f"{settings.chunk_size} as asked"
        if settings.chunk_size is not None
        else f"about {CHUNK_SIZE}"
    )
    if not grouped:
        each = "" if settings.chunk_size else ", the same number of chunks for each process"
        return f"size: {about}{each}"
    whose = keys if keys and not across else ", ".join(pipe.group_keys)
    lies = f"; the pipeline's groups lie across {keys}, and decide" if across else ""
    groups = f"{_count(len(sizes), 'group')} of {_span(sizes)} by {whose}, never parted{lies}"
    return f"size: {groups}; {about}"


def reading(
    cut: Cut, chunks: Sequence[Chunk], batched: bool, place_users: Sequence[str] | None
) -> str:
    """Say what each process reads.

    Parameters
    ----------
    place_users : sequence of str or None
        Where each reads the whole list: the modules that use image sets' numbers, if it is these.
    """
    if batched:
        return "reads: each process its own image sets of the batch file"
    if place_users:
        users = ", ".join(place_users)
        return f"reads: each process the whole list, for {users} uses image sets' numbers"
    if place_users is not None:
        return "reads: each process the whole list, for a part of it would be typed otherwise"
    helped = [c for c in chunks if c.witness]
    if not helped:
        return "reads: each process its own rows"
    names = {
        name
        for chunk in helped
        for name, wide, own in zip(
            cut.images.header, cut.types, column_types(cut.images.header, chunk.rows), strict=True
        )
        if wide != own
    }
    return (
        f"reads: each process its own rows; {_count(len(helped), 'chunk')} with one row more, not"
        f" analysed, that keeps the type of {', '.join(sorted(names))}"
    )


def label(header: Row, chunk: Chunk) -> str:
    """Name a chunk by its first image set."""
    row = dict(zip(header, chunk.rows[0], strict=True))
    named = [row[f"Metadata_{k}"] for k in ("Plate", "Well", "Site") if f"Metadata_{k}" in row]
    return " ".join(" ".join(named).split()) or f"line {chunk.lines[0]}"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"


def _span(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
