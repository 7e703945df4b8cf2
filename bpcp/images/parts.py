"""What the fields of names may be: the well, the site, the channel, the plane, the time, the plate.

By their form and the word before them (words.json), then by what tells files apart.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

from bpcp.images import natural
from bpcp.images.fields import Field, Layout
from bpcp.images.presets import ENOUGH

# roles with words of their own, in the order in which an equal score is decided
_ROLES = ("site", "channel", "z", "t", "plate", "well")
_WORDS = cast(
    Mapping[str, list[str]],
    json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8")),
)
_STAINS = frozenset(_WORDS["stains"])
# channels of one image set; more are rather treatments
_CHANNELS = 8
# a well with rows that differ, or with a letter that no other part has
SURE = 75
_GAP = re.compile(r"[_ =-]{0,3}")


@dataclass(frozen=True)
class Part:
    """Fields that say one thing of an image.

    Attributes
    ----------
    role : str
        Of presets.PLACES, without row and col.
    first, last : int
        Its fields in the layout, both included.
    score : int
        How sure that is, 0 to 100.
    split : bool
        Whether `first` is the row and `last` the column.
    """

    role: str
    first: int
    last: int
    score: int
    split: bool = False

    @property
    def at(self) -> range:
        """Its fields in the layout."""
        return range(self.first, self.last + 1)


def readings(layout: Layout) -> Iterator[list[Part]]:
    """Give what the fields may be, the likeliest first."""
    known = sorted(by_form(layout.fields), key=lambda p: (-p.score, _ROLES.index(p.role)))
    channels = [p for p in known if p.role == "channel"]
    for channel in (*channels, *_repeated(layout.fields, channels), None):
        parts = _chosen(layout.fields, known, channel)
        if parts is not None:
            yield sorted(parts, key=lambda p: p.first)


# --- what a field looks like ---------------------------------------------------------------------


def by_form(fields: Sequence[Field]) -> Iterator[Part]:
    wells = list(_wells(fields))
    yield from wells
    surest = max(wells, key=lambda p: p.score, default=None)
    for i, one in enumerate(fields):
        if one.time:
            further = i + 1 < len(fields) and fields[i + 1].time and not fields[i + 1].level
            yield Part("t", i, i + further, 85 + further)
        elif one.number:
            yield from _after_word(fields, i, surest)
        if not one.time:
            yield from _stains(fields, i)


def _wells(fields: Sequence[Field]) -> Iterator[Part]:
    for i, (row, col) in enumerate(pairwise(fields)):
        if row.level != col.level:
            continue
        if col.number and not row.number and _GAP.fullmatch(col.gap):
            places = {(r, c) for r, c in zip(row.values, col.values, strict=True)}
            if all(len(r) <= 2 and natural.row_and_column(r + c) for r, c in places):
                word = row.values[0].lower() if row.constant else ""
                score = 100 if not word else 30 if _known(word) else 75
                yield Part("well", i, i + 1, score - 8 * len(col.gap), split=bool(col.gap))
        if row.number and _word(fields, i) in _WORDS["row"]:
            j = next((j for j in (i + 2, i + 3) if j < len(fields) and fields[j].number), 0)
            if j and fields[j].level == row.level and _word(fields, j) in _WORDS["col"]:
                yield Part("well", i, j, 100, split=True)


def _known(word: str) -> bool:
    return any(word in _WORDS[role] for role in (*_ROLES, "row", "col"))


def _word(fields: Sequence[Field], at: int) -> str:
    """Give the word that stands before a number in all names."""
    if not at or fields[at - 1].level != fields[at].level or not _GAP.fullmatch(fields[at].gap):
        return ""
    before = fields[at - 1]
    found = re.search(r"[^\W\d_]+$", before.values[0]) if before.constant else None
    return found[0].lower() if found else ""


def _after_word(fields: Sequence[Field], i: int, well: Part | None) -> Iterator[Part]:
    word, field = _word(fields, i), fields[i]
    for role in _ROLES:
        if word in _WORDS[role]:
            place = _WORDS[role].index(word)
            score = (95 if not field.gap else 80 if len(word) > 1 else 55) - place
            ahead = field.level > 0 or (well is not None and i < well.first)
            if role == "plate" and word == "p":
                # P3_A01 is a plate, A01_p3 a position
                score += 10 if ahead else -90
            # short words keep their letter, as instruments' channels do: w1; so do plates
            keeps = role == "plate" or (role == "channel" and not field.gap and len(word) < 3)
            first = i - 1 if keeps else i
            yield Part(role, first, i, score)


def _stains(fields: Sequence[Field], i: int) -> Iterator[Part]:
    field = fields[i]
    if len(field.distinct) > _CHANNELS:
        return
    known = sum(_is_stain(v) for v in field.distinct)
    if known == len(field.distinct):
        yield Part("channel", i, i, 40 if field.constant else 85)
    elif known * 2 >= len(field.distinct):
        yield Part("channel", i, i, 65)


def _is_stain(text: str) -> bool:
    low = text.lower()
    return low in _STAINS or any(w in _STAINS for w in re.findall(r"[^\W\d_]+\d?|\d+", low)) or (
        re.fullmatch(r"(?:w|c|ch)\d{1,2}\D*", low) is not None
    )  # fmt: skip


def _repeated(fields: Sequence[Field], known: Sequence[Part]) -> Iterator[Part]:
    """Give the last field that differs, if it has few values: each place may have them all."""
    varying = [i for i, f in enumerate(fields) if not f.constant]
    if len(varying) > 1 and not fields[varying[-1]].level:
        i = varying[-1]
        # of two numbers the last, of one none: that is rather a site
        wells = {j for p in _wells(fields) if p.score >= SURE for j in p.at}
        behind = max((j for j in wells if not fields[j].level), default=-1)
        sites = [j for j in varying if fields[j].number and not fields[j].level and j > behind]
        words = [_word(fields, j) for j in sites]
        numbers = sum(word in _WORDS["site"] or not _known(word) for word in words)
        few = len(fields[i].distinct) <= _CHANNELS and (numbers > 1 or not fields[i].number)
        named = any(i in p.at for p in known) or _known(_word(fields, i))
        if few and not named and not fields[i].time:
            yield Part("channel", i, i, 20)


# --- what tells files apart ----------------------------------------------------------------------


class _Keys:
    """How far the fields that were taken tell files apart."""

    def __init__(self, count: int) -> None:
        self.ids = [0] * count
        self.number = min(1, count)

    def and_of(self, fields: Sequence[Field]) -> _Keys:
        """Give the keys that these fields tell apart as well."""
        found = _Keys(0)
        seen: dict[tuple[int, tuple[str, ...]], int] = {}
        rows = zip(*(f.values for f in fields), strict=True)
        found.ids = [
            seen.setdefault((i, row), len(seen)) for i, row in zip(self.ids, rows, strict=True)
        ]
        found.number = len(seen)
        return found

    def complete(self, channels: Sequence[str] | None) -> bool:
        """Tell whether nearly all keys have all channels."""
        if channels is None:
            return True
        wanted = len(set(channels))
        there = Counter(i for i, _ in set(zip(self.ids, channels, strict=True)))
        return sum(n == wanted for n in there.values()) >= ENOUGH * len(there)


def _chosen(
    fields: Sequence[Field], known: Sequence[Part], channel: Part | None
) -> list[Part] | None:
    """Choose parts that tell all files apart; None where they don't."""
    count = len(fields[0].values)
    named: list[str] | None = None
    parts: dict[str, Part] = {}
    if channel is not None:
        parts["channel"] = channel
        named = ["|".join(v) for v in zip(*(fields[i].values for i in channel.at), strict=True)]
    keys = _Keys(count)

    def taken(i: int) -> bool:
        return any(i in p.at for p in parts.values())

    def told() -> int:
        # files, as far as channels tell them apart, too
        return len(set(zip(keys.ids, named, strict=True))) if named else keys.number

    for part in known:
        if part.role in parts or part.role == "channel" or any(map(taken, part.at)):
            continue
        more = keys.and_of([fields[i] for i in part.at])
        kept = part.role in ("well", "plate") and part.score > 50
        if (more.number > keys.number or kept) and more.complete(named):
            parts[part.role], keys = part, more
    left: list[int] = []
    for i in _leftover(fields, parts):
        if told() == count:
            break
        more = keys.and_of([fields[i]])
        if not taken(i) and more.number > keys.number and more.complete(named):
            left.append(i)
            keys = more
    surest = next((p for p in known if p.role == "well"), None)
    if surest is not None and surest.score >= SURE:
        well = parts.get("well")
        if well is None or well.score < surest.score:
            return None
    if told() < count:
        return None
    return _given_roles(fields, parts, sorted(left))


def _leftover(fields: Sequence[Field], parts: Mapping[str, Part]) -> Iterator[int]:
    """Give the fields that may still tell files apart, in the order in which they are tried."""
    varying = [i for i, f in enumerate(fields) if not f.constant]
    # what is of one file alone, such as a GUID, places nothing
    useful = [
        i
        for i in varying
        if fields[i].number or len(fields[i].distinct) < max(2, len(fields[i].values))
    ]
    behind = max((p.last for p in parts.values() if p.role == "well"), default=-1)
    # behind a well are sites; then folders and what is before, from the left
    yield from (i for i in useful if fields[i].number and behind >= 0 and i > behind)
    yield from (i for i in useful if not (fields[i].number and behind >= 0 and i > behind))


def _given_roles(
    fields: Sequence[Field], parts: dict[str, Part], left: list[int]
) -> list[Part] | None:
    """Give each field that is left over a role; None where there are too many."""
    well = parts.get("well")
    behind = well.last if well is not None and fields[well.last].level == 0 else -1
    last = left[-1] if left else -1
    if last > behind and fields[last].level == 0 and fields[last].number:
        before = parts.get("site")
        if before is None:
            left.pop()
            parts["site"] = Part("site", last, last, 10)
        elif well is None and before.last < last:
            # XY01_00001: a place and a tile in it
            left.pop()
            parts["well"] = well = replace(before, role="well", first=_letters(fields, before))
            parts["site"] = Part("site", last, last, 10)
        elif before.last + 1 == last and fields[before.last].level == 0:
            parts["site"] = replace(before, last=left.pop())
    for first, last in _joined(fields, left):
        folder = fields[first].level > 0
        order = ("plate", "well", "site") if folder or well is not None else ("well", "plate")
        role = next((r for r in order if r not in parts), "")
        if not role:
            return None
        found = Part(role, first, last, 10)
        parts[role] = found if folder else replace(found, first=_letters(fields, found))
    if "plate" in parts:
        parts["plate"] = _widened(fields, parts)
    used = [i for p in parts.values() for i in p.at]
    return list(parts.values()) if len(used) == len(set(used)) else None


def _widened(fields: Sequence[Field], parts: Mapping[str, Part]) -> Part:
    """Give the plate's part, the whole name of its folder if that says nothing else."""
    plate = parts["plate"]
    level = fields[plate.first].level
    same = [i for i, f in enumerate(fields) if f.level == level]
    other = any(i in p.at for i in same for p in parts.values() if p is not plate)
    return plate if not level or other else replace(plate, first=same[0], last=same[-1])


def _letters(fields: Sequence[Field], part: Part) -> int:
    """Give where a part starts with the letters right before it."""
    before = fields[part.first - 1] if part.first else None
    joined = before is not None and not fields[part.first].gap and part.first > 0
    return part.first - 1 if joined and before and before.constant else part.first


def _joined(fields: Sequence[Field], left: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Join fields of one folder, and those in a name with nothing that differs between them."""
    runs: list[tuple[int, int]] = []
    for i in left:
        if runs and fields[i].level == fields[runs[-1][0]].level:
            between = range(runs[-1][1] + 1, i)
            if fields[i].level or all(fields[j].constant for j in between):
                runs[-1] = (runs[-1][0], i)
                continue
        runs.append((i, i))
    yield from runs
