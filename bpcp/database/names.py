"""Names of columns that were longer than "Maximum # of characters in a column name".

Source: cellprofiler 4.2.8.1, modules/exporttodatabase.py (ColumnNameMapping).
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Collection, Iterable, Iterator

_VOWELS = "aeiou"
# In this order letters are dropped from names that are too long.
_DROPPED = (
    _VOWELS,
    "".join(c for c in string.ascii_lowercase if c not in _VOWELS),
    string.ascii_uppercase,
)


def find(name: str, columns: Collection[str]) -> str | None:
    """Find a column by its full name, or by what that was shortened to.

    Two names may be shortened alike, and the second then loses other letters: a name that is found
    so may be another's.
    """
    if name in columns or not columns:
        return name if name in columns else None
    # what is shortened has just as many letters as may be
    short = shortened([name], max(map(len, columns)))[name]
    return short if short in columns else None


def shortened(names: Iterable[str], longest: int = 64) -> dict[str, str]:
    """Shorten names as CellProfiler does: vowels go first, from the end.

    Names are of letters, digits, "_" and "$".
    """
    found = {name: name for name in names}
    taken = set(found)
    for name in sorted(n for n in found if len(n) > longest):
        short = name
        for start in (name.find("_"), 0):
            short = _without_letters(short, max(start, 0), longest)
        numbers = _numbers(name)
        while short in taken:
            short = name
            while len(short) > longest:
                at = next(numbers) % len(short)
                short = short[:at] + short[at + 1 :]
        taken.remove(name)
        taken.add(short)
        found[name] = short
    return found


def _without_letters(name: str, start: int, longest: int) -> str:
    for letters in _DROPPED:
        for at in range(len(name) - 1, start - 1, -1):
            if len(name) <= longest:
                return name
            if name[at] in letters:
                name = name[:at] + name[at + 1 :]
    return name


def _numbers(seed: str) -> Iterator[int]:
    """Give numbers that look random, and are the same for the same text each time."""
    state = hashlib.md5(seed.encode(), usedforsecurity=False)
    while True:
        digest = state.digest()
        state.update(digest)
        yield digest[0] + 256 * digest[1]
