"""The presets that there are, which of them fits, and one of the user's regular expression."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images import presetfile
from bpcp.images.placer import PLACES, Placer, Preset, group

__all__ = [
    "ENOUGH",
    "GALLERY",
    "INSTRUMENTS",
    "PLACES",
    "PRESETS",
    "USERS_FILE",
    "NoPreset",
    "Placer",
    "Preset",
    "SeveralPresets",
    "detect",
    "own",
    "share",
    "with_users",
]

# So much of the names must fit before a preset is taken for the right one.
ENOUGH = 0.9
# of the user, in a workspace
USERS_FILE = "presets.toml"

PRESETS = presetfile.read(Path(__file__).with_name("presets.toml"), {})
INSTRUMENTS = tuple(p for p in PRESETS.values() if not p.includes)
GALLERY = PRESETS["gallery"]
# Folders that are layers, whatever wrote them: no others of the presets' are sure to be.
_BETWEEN = GALLERY.between

_HOW = (
    "named groups: (?P<well>[A-P]\\d\\d), (?P<site>\\d+), (?P<channel>\\d), plate, row and col, z,"
    " t; others become Metadata_ columns"
)


def with_users(folder: Path) -> dict[str, Preset]:
    """Give the user's own presets, from presets.toml in a folder, and then those that there are.

    Raises
    ------
    BpcpError
        65, naming preset and key, where one is malformed.
    """
    path = folder / USERS_FILE
    mine = presetfile.read(path, PRESETS, users=True) if path.is_file() else {}
    return {**mine, **PRESETS}


class NoPreset(BpcpError):
    """No preset fits enough of the names."""


class SeveralPresets(BpcpError):
    """Several presets fit the names alike."""


def own(text: str) -> Preset:
    """Make a preset of the user's regular expression over paths below the source.

    Raises
    ------
    BpcpError
        64 where it is none, or has no group that tells channels or places apart.
    """
    try:
        pattern = re.compile(text, re.DOTALL)
    except re.error as error:
        raise BpcpError(Exit.USAGE, f"--regex {text}: {error}", _HOW) from None
    groups = {group(name) for name in pattern.groupindex}
    if not groups & set(PLACES):
        raise BpcpError(Exit.USAGE, f"--regex {text}: none of its groups has a known name", _HOW)
    for one, other in (("row", "col"), ("col", "row")):
        if one in groups and other not in groups:
            raise BpcpError(Exit.USAGE, f"--regex {text}: a group {one}, but none {other}", _HOW)
    return Preset("regex", text, (), (pattern,), between=_BETWEEN)


def share(placer: Placer, sample: Sequence[tuple[str, str]]) -> float:
    """Give how much of a sample of folders and names a preset fits, 0 to 1."""
    return sum(map(placer.knows, *zip(*sample, strict=True))) / len(sample) if sample else 0


def detect(
    sample: Sequence[tuple[str, str]],
    root: str,
    beside: Sequence[tuple[str, str]],
    among: Mapping[str, Preset] = PRESETS,
) -> Preset:
    """Find the preset that fits most of a sample.

    Of several that fit, the user's own goes before the others, then one whose folder fits too
    before one of names alone, then the one that fits more.

    Parameters
    ----------
    sample : sequence of (str, str)
        Folders and names of images; at least one.
    beside : sequence of (str, str)
        Index files; one kind alone decides where no names do.
    among : mapping of str to Preset
        The presets that there are.

    Raises
    ------
    BpcpError
        65 where none fits, or several do; the message shows names, and how to describe them.
    """
    shares = [(share(Placer(p, root), sample), p) for p in among.values()]
    good = [((p.users, p.needs_folder, fits), p) for fits, p in shares if fits >= ENOUGH]
    best = [p for rank, p in good if rank == max(rank for rank, _ in good)]
    if len(best) == 1:
        return best[0]
    # of presets that read one kind of index, the first
    indexed = [p for p in among.values() if _has_index(p, beside)]
    if not best and len({p.read for p in indexed}) == 1:
        return indexed[0]
    shown = "".join(f"\n    {Placer(GALLERY, root).shown(*file)!r}" for file in _spread(sample))
    if best:
        names = " and ".join(preset.name for preset in best)
        raise SeveralPresets(
            Exit.MALFORMED_INPUT, f"the names fit several presets: {names}{shown}", "--preset NAME"
        )
    some = sorted((s for s in shares if s[0] > 0), key=lambda s: -s[0])[:3]
    tried = ", ".join(f"{p.name} fits {fits:.0%}" for fits, p in some) or "no preset fits any"
    apart = "images of several instruments: list their folders one by one; or "
    several = len(some) > 1 and some[0][0] < ENOUGH <= some[0][0] + some[1][0]
    raise NoPreset(
        Exit.MALFORMED_INPUT,
        f"what named these images? {tried}; names are:{shown}",
        f"{apart if several else ''}--preset NAME, of those in bpcp images --help;"
        f" or --regex with {_HOW}",
    )


def _has_index(preset: Preset, beside: Sequence[tuple[str, str]]) -> bool:
    if preset.read is None or preset.index is None:
        return False
    return any(preset.index.fullmatch(name) for _, name in beside)


def _spread(sample: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give the first, the middle and the last of some files."""
    return [sample[i] for i in sorted({0, len(sample) // 2, len(sample) - 1})]
