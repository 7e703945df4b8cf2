"""What the fields of names may be by their form and by the word before them (words.json).

The words are those of the names that presets.py and tests/unit/test_images_propose.py quote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

from bpcp.images import plates
from bpcp.images.fields import Field

# roles with words of their own, in the order in which an equal score is decided
ROLES = ("site", "channel", "z", "t", "plate", "well")
WORDS = cast(
    Mapping[str, list[str]],
    json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8")),
)
STAINS = frozenset(WORDS["stains"])
# channels of one image set; more are rather treatments
CHANNELS = 8
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


def by_form(fields: Sequence[Field]) -> Iterator[Part]:
    """Give all that fields look like, in no order."""
    wells = list(wells_of(fields))
    yield from wells
    surest = max(wells, key=lambda p: p.score, default=None)
    for i, one in enumerate(fields):
        if one.time:
            further = i + 1 < len(fields) and fields[i + 1].time and not fields[i + 1].level
            yield Part("t", i, i + further, 85 + further)
        elif one.number:
            yield from _afterword_before(fields, i, surest)
        if not one.time:
            yield from _stains(fields, i)


def wells_of(fields: Sequence[Field]) -> Iterator[Part]:
    """Give the fields that look like wells: A01, A-1, r01c01."""
    for i, (row, col) in enumerate(pairwise(fields)):
        if row.level != col.level:
            continue
        if col.number and not row.number and _GAP.fullmatch(col.gap):
            places = {(r, c) for r, c in zip(row.values, col.values, strict=True)}
            if all(len(r) <= 2 and plates.row_and_column(r + c) for r, c in places):
                word = row.values[0].lower() if row.constant else ""
                score = 100 if not word else 30 if is_known(word) else 75
                yield Part("well", i, i + 1, score - 8 * len(col.gap), split=bool(col.gap))
        if row.number and word_before(fields, i) in WORDS["row"]:
            j = next((j for j in (i + 2, i + 3) if j < len(fields) and fields[j].number), 0)
            if j and fields[j].level == row.level and word_before(fields, j) in WORDS["col"]:
                yield Part("well", i, j, 100, split=True)


def is_known(word: str) -> bool:
    """Tell whether a word says what the number behind it is."""
    return any(word in WORDS[role] for role in (*ROLES, "row", "col"))


def word_before(fields: Sequence[Field], at: int) -> str:
    """Give the word that stands before a number in all names."""
    if not at or fields[at - 1].level != fields[at].level or not _GAP.fullmatch(fields[at].gap):
        return ""
    before = fields[at - 1]
    found = re.search(r"[^\W\d_]+$", before.values[0]) if before.constant else None
    return found[0].lower() if found else ""


def _afterword_before(fields: Sequence[Field], i: int, well: Part | None) -> Iterator[Part]:
    word, field = word_before(fields, i), fields[i]
    for role in ROLES:
        if word in WORDS[role]:
            place = WORDS[role].index(word)
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
    if len(field.distinct) > CHANNELS:
        return
    known = sum(_is_stain(v) for v in field.distinct)
    if known == len(field.distinct):
        yield Part("channel", i, i, 40 if field.constant else 85)
    elif known * 2 >= len(field.distinct):
        yield Part("channel", i, i, 65)


def _is_stain(text: str) -> bool:
    low = text.lower()
    return low in STAINS or any(w in STAINS for w in re.findall(r"[^\W\d_]+\d?|\d+", low)) or (
        re.fullmatch(r"(?:w|c|ch)\d{1,2}\D*", low) is not None
    )  # fmt: skip
