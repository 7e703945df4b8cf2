"""What to do where two files claim one place: what is advised has been tried on the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from glob import escape
from itertools import permutations, takewhile
from operator import itemgetter
from shlex import quote

from bpcp.images import spread
from bpcp.images.presets import PLACES, Placer
from bpcp.images.report import shown
from bpcp.images.store import Store


def remedy(
    store: Store,
    placer: Placer,
    names: Mapping[str, Sequence[str]],
    places: Sequence[Sequence[str]],
) -> str:
    """Say what would tell the files of a place apart.

    Parameters
    ----------
    store : Store
        The images; their plates may be other ones afterwards.
    placer : Placer
        What placed them.
    names : mapping of str to sequence of str
        What indexes call each channel.
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
    one_of_them = _best(_one_of_them(store, placer, one, other))
    plates = _best(_plates(store, placer, names, first, second))
    # a way that leaves no image set incomplete, before others
    best = min((gaps for gaps, _ in (*one_of_them, *plates)), default=0)
    advice += [what for gaps, what in one_of_them if not (best == 0 < gaps)]
    apart = [what for gaps, what in plates if not (best == 0 < gaps)]
    if not apart and (regex or not advice):
        apart = [_group(placer)]
    said = "; else ".join(advice)
    return f"{said}{'; or, ' if said and apart else ''}" + "".join(
        f"if they are of different plates, {what}" for what in apart
    )


# What to do, and how many image sets would then lack a channel; None where there is no list.
_Ways = Iterator[tuple["int | None", str]]


def _best(ways: _Ways) -> list[tuple[int, str]]:
    """Give the first of the ways that leave the fewest gaps, if any gives a list."""
    found = [(gaps, what) for gaps, what in ways if gaps is not None]
    return [min(found, key=itemgetter(0))] if found else []


def _one_of_them(store: Store, placer: Placer, one: str, other: str) -> _Ways:
    """Say how to list the files of one folder alone."""
    for folder, rest in ((one, other), (other, one)):
        branch = _branch(folder, rest)
        inside = _within(branch)
        if not inside(folder) or inside(rest):
            continue
        if placer.root:
            yield store.gaps(inside), f"give SOURCE the folder of one of them, {shown(branch)}"
        path = placer.shown(branch, "") if placer.root else f"{branch}/"
        gaps = store.gaps(lambda path, inside=inside: not inside(path))  # type: ignore[misc]
        yield gaps, f"leave one of them out, --exclude {quote(f'{escape(path)}*')}"


def _plates(store: Store, placer: Placer, names: Mapping[str, Sequence[str]], *files: str) -> _Ways:
    """Say how two files would be of two plates."""
    bare = replace(placer, plate="")
    places = [(folder, name) for folder, _, name in (file.rpartition("/") for file in files)]
    if placer.plate:
        images = [(bare.place(folder, name), folder) for folder, name in places]
        if len({image.plate if image else bare.folder_plate(f) for image, f in images}) > 1:
            yield 0, "leave out --plate"
    # before plates are changed
    each = [store.gaps(_within(_branch(*pair))) for pair in permutations(f for f, _ in places)]
    if placer.plate_from != "folder":
        folders = {folder for folder, _, _ in store.by_folder()}
        store.rename_plates({folder: bare.folder_plate(folder) for folder in folders})
        list(spread.join(store, bare, names))
        instead = " instead of --plate" if placer.plate else ""
        yield store.gaps(), f"--plate-from folder{instead}"
    if placer.root and placer.preset.name != "regex":
        gaps = None if None in each else sum(filter(None, each))
        yield gaps, "list each by itself, with --plate NAME"


def _group(placer: Placer) -> str:
    """Say how an expression would name plates."""
    how = "a group plate in --regex, as in (?P<plate>[^/]+)/"
    others = sorted(placer.preset.groups - set(PLACES))
    if placer.preset.name == "regex" and others:
        how += f" ({', '.join(others)}: a column, tells no places apart)"
    return f"{how}{', without --plate' if placer.plate else ''}"


def _within(branch: str) -> Callable[[str], bool]:
    return lambda path: f"{path}/".startswith(f"{branch}/")


def _branch(one: str, other: str) -> str:
    """Give the uppermost folder that holds one of two folders and not the other."""
    parts, others = one.split("/"), other.split("/")
    pairs = zip(parts, others, strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    # where one is in the other, only the inner one can be given by itself
    return "/".join((parts if alike < len(parts) else others)[: alike + 1])
