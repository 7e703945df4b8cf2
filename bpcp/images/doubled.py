"""What to do where two files claim one place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from bpcp.images.presets import PLACES, Placer
from bpcp.images.report import shown


def remedy(placer: Placer, places: Sequence[Sequence[str]]) -> str:
    """Say what would tell the files of a place apart.

    Parameters
    ----------
    placer : Placer
        What placed them.
    places : sequence of sequence of str
        The files of some of the places; at least two each, as Store.doubled gives them.
    """
    first, second, *_ = places[0]
    one, other = first.rpartition("/")[0], second.rpartition("/")[0]
    regex = placer.preset.name == "regex"
    advice = []
    if regex and "channel" not in placer.preset.groups:
        advice.append("--regex has no group channel: add (?P<channel>…) where the names tell it")
    if one == other:
        more = "a group of --regex: plate, well, site, channel, z or t" if regex else "--regex"
        return "; ".join(advice or [f"tell them apart by {more}"])
    advice.append(f"give SOURCE the folder of one of them, {shown(_branch(one, other))}")
    return f"{'; else '.join(advice)}; {_plates(placer, one, other)}"


def _plates(placer: Placer, one: str, other: str) -> str:
    """Say how the two folders would become two plates."""
    if placer.plate:
        how = "leave out --plate"
    elif placer.folder_plate(one) != placer.folder_plate(other) and placer.plate_from != "folder":
        how = "--plate-from folder"
    else:
        how = "a group plate in --regex, as in (?P<plate>[^/]+)/"
        others = sorted(placer.preset.groups - set(PLACES))
        if placer.preset.name == "regex" and others:
            how += f" ({', '.join(others)}: a column, tells no places apart)"
    return f"or, if they are of different plates, {how}"


def _branch(one: str, other: str) -> str:
    """Give the uppermost folder that holds one of two folders and not the other."""
    parts, others = one.split("/"), other.split("/")
    pairs = zip(parts, others, strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    # where one is in the other, only the inner one can be given by itself
    return "/".join((parts if alike < len(parts) else others)[: alike + 1])
