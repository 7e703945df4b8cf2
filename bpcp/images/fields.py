"""Cut the names of images into the parts that they have in common: fields, and what parts them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os.path import splitext

# All that may part two fields; the fewer parts a name, the later it is tried.
_SEPARATORS = "_- .,;()[]{}=+&#@!~'"
_TRIES = (_SEPARATORS, "_ -", "_ ", "_-", "- ", "_", "-", " ")
# folders above the file that are looked at
_LEVELS = 5
_ROWS = "ABCDEFGHIJKLMNOP"
_RUNS = re.compile(r"\d+|\D+")
_CHANNEL = re.compile(r"(?:[Cc]hannel|CHANNEL)[A-Z].*", re.DOTALL)
# as IncuCyte and others write times
_TIME = re.compile(
    r"(?=\d+[a-z]+\d)(?:\d+y)?(?:\d+m)?(?:\d+d)?(?:\d+h)?(?:\d+m(?:in)?)?(?:\d+s)?", re.IGNORECASE
)


@dataclass(frozen=True, eq=False)
class Field:
    """What all names have at one place, between two separators or where letters meet digits.

    Attributes
    ----------
    values : tuple of str
        One for each name.
    gap : str
        What stands between the field before it and this one; the same in all names.
    level : int
        0 is the file's name, 1 its folder, 2 the folder above.
    """

    values: tuple[str, ...]
    gap: str
    level: int

    @cached_property
    def distinct(self) -> frozenset[str]:
        """The different values."""
        return frozenset(self.values)

    @property
    def constant(self) -> bool:
        """Whether all names have the same here."""
        return len(self.distinct) == 1

    @cached_property
    def number(self) -> bool:
        """Whether it is a number in all names."""
        return all(v.isdecimal() for v in self.distinct)

    @cached_property
    def time(self) -> bool:
        """Whether it is a time in all names: 00d03h00m."""
        return all(_TIME.fullmatch(v) for v in self.distinct)


@dataclass(frozen=True)
class Layout:
    """One way to cut all names: the fields from the uppermost folder to the name's end.

    Attributes
    ----------
    suffixes : frozenset of str
        Of the files: ".tif".
    """

    fields: tuple[Field, ...]
    suffixes: frozenset[str]


def layouts(paths: Sequence[str]) -> Iterator[Layout]:
    """Give the ways in which all names can be cut alike, those with the most fields first.

    Parameters
    ----------
    paths : sequence of str
        Below the source; at least one. Of deeper ones, the last folders count.
    """
    parts = [path.split("/") for path in paths]
    depth = min(_LEVELS, *map(len, parts)) if len(parts) > 1 else min(_LEVELS, len(parts[0]))
    columns = list(zip(*(p[-depth:] for p in parts), strict=True))
    above = [
        field
        for level, texts in zip(range(depth - 1, 0, -1), columns[:-1], strict=True)
        for field in _folder(texts, level)
    ]
    stems, suffixes = zip(*(splitext(name) for name in columns[-1]), strict=True)  # noqa: PTH122
    for separators, whole in _tries(stems):
        found = _aligned(stems, separators, 0, whole)
        if found is not None:
            yield Layout((*above, *found), frozenset(suffixes))


def _tries(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    seen = {c for text in texts for c in text}
    sets = list(dict.fromkeys("".join(c for c in each if c in seen) for each in _TRIES))
    for whole in ("all", "right", "left"):
        yield from ((each, whole) for each in sets if each)
    yield "", "all"


def _folder(texts: Sequence[str], level: int) -> list[Field]:
    """Cut the names of one level of folders; those that differ in form stay whole."""
    for separators in (*_TRIES, ""):
        found = _aligned(texts, separators, level, "all")
        if found is not None and (not separators or len(found) > 1):
            return found
    return [Field(tuple(texts), "", level)]


def _aligned(texts: Sequence[str], separators: str, level: int, whole: str) -> list[Field] | None:
    """Cut texts at separators; None where that gives not the same parts in all.

    Parameters
    ----------
    whole : str
        "all", or "right" and "left": only so many parts of that end as the shortest text has are
        compared, and what is left stays one field.
    """
    if not separators:
        return list(_runs(tuple(texts), "", level))
    cut = [re.split(f"([{re.escape(separators)}]+)", text) for text in texts]
    length = min(map(len, cut))
    if whole == "all":
        if length != max(map(len, cut)):
            return None
    elif length < 3:
        return None
    if whole == "right":
        cut = [["".join(c[: len(c) - length + 1]), *c[len(c) - length + 1 :]] for c in cut]
    if whole == "left":
        cut = [[*c[: length - 1], "".join(c[length - 1 :])] for c in cut]
    fields: list[Field] = []
    gap = ""
    for i, values in enumerate(zip(*cut, strict=True)):
        if i % 2:
            if len(set(values)) > 1:
                return None
            gap = values[0]
        else:
            fields += _runs(values, gap, level)
    return fields


def _runs(values: tuple[str, ...], gap: str, level: int) -> Iterator[Field]:
    """Cut one part where letters meet digits, if that is alike in all names."""
    whole = Field(values, gap, level)
    if whole.time:
        yield whole
        return
    if all(_CHANNEL.fullmatch(value) for value in values) and len({v[:7] for v in values}) == 1:
        # ChannelDAPI
        yield Field(tuple(v[:7] for v in values), gap, level)
        yield from _runs(tuple(v[7:] for v in values), "", level)
        return
    cut = [_RUNS.findall(value) for value in values]
    lengths = {len(c) for c in cut}
    starts = {c[0][0].isdecimal() for c in cut if c}
    if lengths == {1} or len(lengths) > 1 or len(starts) != 1:
        yield whole
        return
    runs = list(zip(*cut, strict=True))
    words = [r for r in runs if not r[0][0].isdecimal() and len(set(r)) > 1]
    if len(words) > 1 or not lengths - {0}:
        yield whole
        return
    for number, run in enumerate(runs):
        before = gap if not number else ""
        common = _row_at(run) if number + 1 < len(runs) else 0
        if common:
            yield Field(tuple(r[:common] for r in run), before, level)
            run, before = tuple(r[common:] for r in run), ""
        yield Field(run, before, level)


def _row_at(texts: Sequence[str]) -> int:
    """Give where a row's letter is behind a word that all texts have: WellA; 0 for nowhere."""
    first = texts[0]
    if not re.fullmatch(r"(?:[Ww]ell|WELL|[a-z]{2,}|[A-Z][a-z]+)[A-P]", first):
        return 0
    at = len(first) - 1
    alike = all(len(t) == len(first) and t[:at] == first[:at] and t[at] in _ROWS for t in texts)
    return at if alike and (len(set(texts)) > 1 or first[:at].lower() == "well") else 0
