"""Which settings a module fails with, of what was seen to work and to fail.

Runs in CellProfiler's own Python too, 3.8 or later.
"""

from __future__ import annotations

from itertools import combinations
from typing import Dict, NamedTuple, Tuple

# A setting of a module: its label, and which of those with this label it is, from 0.
Key = Tuple[str, int]
Assignment = Dict[Key, str]

_AT_MOST = 3


class Run(NamedTuple):
    """One run of a module.

    Attributes
    ----------
    visible : dict of Key to str
        The settings that select what the module does, as far as it looks at them.
    works : bool
    """

    visible: Assignment
    works: bool


def conditions(runs: list[Run]) -> list[Assignment]:
    """Find the settings with which a module fails.

    Parameters
    ----------
    runs : list of Run
        Of one module, on one kind of image; each differs from the first in few settings.

    Returns
    -------
    list of dict of Key to str
        With all settings of one of these, each run failed and none worked; an empty one: with any
        settings. What makes a module look at a setting is part of the condition, so that a value
        that it does not look at never counts.
    """
    failed = [run.visible for run in runs if not run.works]
    worked = [run.visible for run in runs if run.works]
    if not failed:
        return []
    if not worked:
        return [{}]
    found: list[Assignment] = []
    for visible in failed:
        if any(_holds(known, visible) for known in found):
            continue
        condition = _with_context(_least(visible, worked, failed), visible, runs)
        if condition not in found:
            found.append(condition)
    return found


def _holds(condition: Assignment, visible: Assignment) -> bool:
    return all(visible.get(key) == value for key, value in condition.items())


def _least(visible: Assignment, worked: list[Assignment], failed: list[Assignment]) -> Assignment:
    """Find the fewest settings that no run that worked has, those of the most that failed."""
    for size in range(1, _AT_MOST + 1):
        best: tuple[int, Assignment] = (0, {})
        for items in combinations(visible.items(), size):
            part = dict(items)
            if any(_holds(part, other) for other in worked):
                continue
            count = sum(_holds(part, other) for other in failed)
            if count > best[0]:
                best = (count, part)
        if best[0]:
            return best[1]
    return dict(visible)


def _with_context(condition: Assignment, visible: Assignment, runs: list[Run]) -> Assignment:
    """Add the settings without which the module does not look at those of a condition."""
    context: Assignment = {}
    size = -1
    while len(context) > size:
        size = len(context)
        # by what do the runs differ that do not look at all of them? A setting of the condition
        # hides no other one of it as long as there is another difference
        differences = []
        for run in runs:
            if not all(key in run.visible for key in (*condition, *context)):
                keys = [k for k in visible if run.visible.get(k, visible[k]) != visible[k]]
                differences.append([key for key in keys if key not in condition])
        for keys in sorted(differences, key=len):
            if keys and not any(key in context for key in keys):
                most = max(keys, key=lambda key: sum(key in other for other in differences))
                context[most] = visible[most]
    return {**condition, **context}
