"""Choose which fields place the files: those that tell them apart in complete image sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bpcp.images.fields import Field, Layout
from bpcp.images.parts import (
    CHANNELS,
    ROLES,
    SURE,
    WORDS,
    Part,
    by_form,
    is_known,
    wells_of,
    word_before,
)
from bpcp.images.presets import ENOUGH


def readings(layout: Layout) -> Iterator[list[Part]]:
    """Give what the fields may be, the likeliest first."""
    known = sorted(by_form(layout.fields), key=lambda p: (-p.score, ROLES.index(p.role)))
    channels = [p for p in known if p.role == "channel"]
    for channel in (*channels, *_repeated(layout.fields, channels), None):
        parts = _chosen(layout.fields, known, channel)
        if parts is not None:
            yield sorted(parts, key=lambda p: p.first)


def _repeated(fields: Sequence[Field], known: Sequence[Part]) -> Iterator[Part]:
    """Give the last field that differs, if it has few values: each place may have them all."""
    varying = [i for i, f in enumerate(fields) if not f.constant]
    if len(varying) > 1 and not fields[varying[-1]].level:
        i = varying[-1]
        # of two numbers the last, of one none: that is rather a site
        wells = {j for p in wells_of(fields) if p.score >= SURE for j in p.at}
        behind = max((j for j in wells if not fields[j].level), default=-1)
        sites = [j for j in varying if fields[j].number and not fields[j].level and j > behind]
        words = [word_before(fields, j) for j in sites]
        numbers = sum(word in WORDS["site"] or not is_known(word) for word in words)
        few = len(fields[i].distinct) <= CHANNELS and (numbers > 1 or not fields[i].number)
        named = any(i in p.at for p in known) or is_known(word_before(fields, i))
        if few and not named and not fields[i].time:
            yield Part("channel", i, i, 20)


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
