"""What binds image sets together: modules that look at more than one, or at their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bpcp.check.modules import counts_to_the_last, is_group_bound, is_run_bound
from bpcp.pipeline import Module, Pipeline

# Settings by which an image set's place in the whole list reaches more than the tables.
_SEQUENTIAL = "Sequential numbers"
_DIGITS = "Number of digits"
_PLACE_MEASUREMENTS = ("ImageNumber", "Group_Number", "Group_Index", "Group_Length")


def aggregators(pipe: Pipeline) -> list[str]:
    """Name the modules that need all image sets of a group in one process."""
    return _named(m for m in pipe.modules if is_group_bound(m) or is_run_bound(m))


def needing_all(pipe: Pipeline) -> list[str]:
    """Name the modules that need all image sets in one process."""
    if not pipe.group_keys:
        return aggregators(pipe)
    return _named(m for m in pipe.modules if is_run_bound(m))


def place_users(pipe: Pipeline) -> list[str]:
    """Name the modules that use an image set's number for more than the tables."""
    return _named(
        m for m in pipe.modules if not m.name.startswith("ExportTo") and _uses_its_place(m)
    )


def _uses_its_place(m: Module) -> bool:
    values = [v for _, v in m.settings]
    return (
        # TrackObjects measures the ImageNumber of an object's parent
        m.name in ("LabelImages", "TrackObjects")
        or (m.name == "SaveImages" and _SEQUENTIAL in values)
        or any(name in v for v in values for name in _PLACE_MEASUREMENTS)
        or counts_to_the_last(m)
    )


def count_users(pipe: Pipeline, image_sets: int) -> list[str]:
    """Name the modules whose file names depend on how many image sets a process has."""
    needed = math.ceil(math.log10(image_sets + 1))
    return _named(
        m
        for m in pipe.named("SaveImages")
        if _SEQUENTIAL in dict(m.settings).values() and needed > int(m.get(_DIGITS, "4"))
    )


def _named(modules: Iterable[Module]) -> list[str]:
    return [f"{m.name} (module {m.number})" for m in modules]
