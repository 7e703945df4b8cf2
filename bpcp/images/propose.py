"""Work out a --regex from the names of images that no preset fits; it is only ever shown.

fields.py cuts the names into fields, parts.py says what they look like, choose.py which of them
place the files. What comes out has to read every name, to give no two files one place, and to give
complete image sets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from shlex import quote

from bpcp.images import natural
from bpcp.images.choose import readings
from bpcp.images.fields import Field, Layout, layouts
from bpcp.images.parts import Part, by_form
from bpcp.images.presets import ENOUGH, Placer, own
from bpcp.images.record import Image
from bpcp.images.report import LeftOut, account
from bpcp.images.store import Store
from bpcp.images.ticker import ticking

# files that are looked at for the parts of their names; of each part, values that are shown
_LEARN, _SHOWN = 20_000, 3
_WELL = re.compile(r"(?<![A-Za-z0-9])[A-P]-?(?:0?[1-9]|1\d|2[0-4])(?![0-9])|r\d\dc\d\d")
_SPECIAL = re.compile(r"[.^$*+?{}\[\]\\|()]")


@dataclass(frozen=True)
class Proposal:
    """A regular expression that reads all names.

    Attributes
    ----------
    regex : str
        For --regex.
    plate : str
        For --plate, where folders stand for something else; "" for none.
    """

    regex: str
    plate: str = ""

    @property
    def options(self) -> str:
        """The options that the user would give."""
        # apart from its option, one that begins with a dash would be another
        regex = [f"--regex={self.regex}"] if self.regex[0] == "-" else ["--regex", self.regex]
        return quoted([*regex, *(["--plate", self.plate] if self.plate else [])])

    def placer(self, asked: Placer) -> Placer:
        """Give what reads names by it, with what the user says of plates."""
        return Placer(own(self.regex), asked.root, asked.plate or self.plate, asked.plate_from)


@dataclass
class Attempt:
    """What was made of names that no preset fits.

    Attributes
    ----------
    proposal : Proposal, optional
        None where nothing consistent was found.
    unread : LeftOut, optional
        The few names of another form that the proposal does not fit.
    varying : list of (int, list of str)
        What differs in the names, part by part: how many values, and the first few of them.
    """

    proposal: Proposal | None = None
    unread: LeftOut | None = None
    varying: list[tuple[int, list[str]]] = field(default_factory=list)


def attempt(store: Store, asked: Placer) -> Attempt:
    """Try to read the files of a store; those that the proposal reads are placed in it.

    Where all but a few names are of one form, a proposal for that will do.

    Parameters
    ----------
    asked : Placer
        Its root, and what the user says of plates; its preset doesn't matter.
    """
    files = _some(store)
    for some, most in ((files, 0.0), (_alike(files), 1 - ENOUGH)):
        found = propose(some, asked) if some else None
        if found is None:
            continue
        unread = _place(store, found.placer(asked))
        if unread.count <= most * store.count_files() and _is_consistent(store):
            return Attempt(found, unread if unread.count else None)
        store.clear()
    layout = next(layouts([asked.shown(*file) for file in files]))
    parts = [sorted(f.distinct, key=natural.key) for f in layout.fields if not f.constant]
    return Attempt(varying=[(len(values), values[:_SHOWN]) for values in parts])


def _alike(files: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give the files whose names have the commonest form, if only a few have another."""
    forms = [(f.count("/"), re.sub(r"[^\W_]+", "x", name.lower())) for f, name in files]
    form, count = Counter(forms).most_common(1)[0]
    if not ENOUGH * len(files) <= count < len(files):
        return []
    return [file for file, its in zip(files, forms, strict=True) if its == form]


def _some(store: Store) -> list[tuple[str, str]]:
    """Give files that hold whole image sets: all, or those of some wells or folders."""
    count = store.count_files()
    if count <= _LEARN:
        return list(store.unplaced())
    names = [_WELL.search(name) for _, name in store.sample(_LEARN // 10)]
    wells = sorted({n[0] for n in names if n})
    if sum(n is not None for n in names) >= ENOUGH * len(names):
        few = set(wells[:: -(-count // _LEARN)])
        mine = ((f, n) for f, n in store.unplaced() if (w := _WELL.search(n)) and w[0] in few)
        return list(islice(mine, _LEARN))
    return sorted(islice(store.unplaced(), _LEARN))


def _place(store: Store, placer: Placer) -> LeftOut:
    """Place all files of a store; give those that don't fit."""
    count, first = 0, ""

    def images() -> Iterator[Image]:
        nonlocal count, first
        for file in ticking(store.unplaced(), "files tried"):
            image = placer.place(*file)
            if image is not None:
                yield image
                continue
            path = "/".join(file)
            count, first = count + 1, min(first or path, path)

    store.add(images())
    return LeftOut("the proposal does not fit", count, first)


def _is_consistent(store: Store) -> bool:
    """Tell whether no two files have one place, and nearly all image sets are complete."""
    if store.doubled(0)[0]:
        return False
    store.sort()
    sets = account(store.sets(), store.values("channel"))
    return sets.incomplete <= (1 - ENOUGH) * sets.sets


def propose(files: Sequence[tuple[str, str]], asked: Placer) -> Proposal | None:
    """Work out an expression for files, folder and name; None where there is nothing consistent."""
    paths = [asked.shown(*file) for file in files]
    for layout in layouts(paths):
        for parts in readings(layout):
            if not parts:
                continue
            regex = _regex(layout, parts)
            if not _reads(regex, layout, parts, paths):
                continue
            for plate in _plates(layout, parts, asked):
                found = Proposal(regex, plate)
                placer = found.placer(asked)
                if _consistent([placer.place(*file) for file in files]):
                    return found
    return None


# --- the expression ------------------------------------------------------------------------------


def _regex(layout: Layout, parts: Sequence[Part]) -> str:
    """Write the expression, from the first part to the names' end."""
    fields = layout.fields
    start = min(p.first for p in parts)
    # with the letters right before it
    while start and fields[start].level == fields[start - 1].level and not fields[start].gap:
        start -= 1
    opening = {p.first: f"(?P<{'row' if p.split else p.role}>" for p in parts}
    closing = {p.last for p in parts} | {p.first for p in parts if p.split}
    opening |= {p.last: "(?P<col>" for p in parts if p.split}
    letters = {p.first for p in parts if p.role == "well"}
    inside = {i for p in parts for i in p.at}
    text = ""
    for i in range(start, len(fields)):
        field, after = fields[i], fields[i + 1] if i + 1 < len(fields) else None
        if i > start and field.level != fields[i - 1].level:
            text += "/"
        text += literal(field.gap) + opening.get(i, "")
        text += _pattern(field, after, i in letters, i in inside) + (")" if i in closing else "")
    suffixes = [literal(s) for s in sorted(layout.suffixes)]
    return text + (suffixes[0] if len(suffixes) == 1 else f"(?:{'|'.join(suffixes)})") + "$"


def literal(text: str) -> str:
    """Write a text for a regular expression: only what is special is escaped."""
    return "".join(
        _SPECIAL.sub(r"\\\g<0>", c) if c.isprintable() else re.escape(ascii(c)[1:-1]).replace(
            "\\\\", "\\"
        )
        for c in text
    )  # fmt: skip


def _pattern(field: Field, after: Field | None, row: bool, inside: bool) -> str:
    if row and all(re.fullmatch("[A-Pa-p]", v) for v in field.distinct):
        return "[A-P]" if all(v.isupper() for v in field.distinct) else "[A-Pa-p]"
    if row and not field.constant and all(re.fullmatch("[A-Za-z]{1,2}", v) for v in field.distinct):
        return "[A-Za-z]{1,2}"
    if field.number and (inside or not field.constant):
        return r"\d+"
    if field.constant:
        return literal(field.values[0])
    shapes = {re.sub(r"\d+", r"\\d+", v) for v in field.distinct}
    if field.time and len(shapes) == 1:
        return shapes.pop()
    if after is not None and after.level == field.level:
        stop = after.gap[:1] or (r"\d" if after.number else "")
    else:
        stop = "." if field.level == 0 else ""
    forbidden = re.compile(stop if stop == r"\d" else re.escape(stop))
    if stop and not any(map(forbidden.search, field.distinct)):
        return rf"[^/\{stop}]+" if stop in "-]^[" else rf"[^/{stop}]+"
    return "[^/]+"


def _reads(regex: str, layout: Layout, parts: Sequence[Part], paths: Sequence[str]) -> bool:
    """Tell whether an expression reads from all names what the fields say."""
    compiled = re.compile(regex, re.DOTALL)
    fields = layout.fields
    for number, path in enumerate(paths):
        found = compiled.search(path)
        if found is None:
            return False
        for part in parts:
            spans = [("row", part.first, part.first), ("col", part.last, part.last)]
            for name, first, last in spans if part.split else [(part.role, part.first, part.last)]:
                gaps = ("" if i == first else fields[i].gap for i in range(first, last + 1))
                values = (fields[i].values[number] for i in range(first, last + 1))
                wanted = "".join(g + v for g, v in zip(gaps, values, strict=True))
                if found[name] != wanted:
                    return False
    return True


def _plates(layout: Layout, parts: Sequence[Part], asked: Placer) -> list[str]:
    """Give the names for --plate to be tried; "" is none."""
    if asked.plate or any(p.role == "plate" for p in parts):
        return [""]
    other = {layout.fields[p.first].level for p in parts}
    other |= {
        layout.fields[p.first].level
        for p in by_form(layout.fields)
        if p.role != "plate" and p.score > 50 and any(not layout.fields[i].constant for i in p.at)
    }
    name = asked.root.rstrip("/").rpartition("/")[2] or "plate"
    return [name] if max(other, default=0) > 0 else ["", name]


def _consistent(images: Sequence[Image | None]) -> bool:
    """Tell whether all files are placed, none twice, in image sets that are complete."""
    placed = [i for i in images if i is not None]
    sets = [(i.plate, i.well, i.site, i.z, i.t) for i in placed]
    places = set(zip(sets, (i.channel for i in placed), strict=True))
    wanted = len({i.channel for i in placed})
    there = Counter(place for place, _ in places)
    full = sum(n == wanted for n in there.values())
    return len(placed) == len(images) == len(places) and full >= ENOUGH * len(there)


def quoted(words: Sequence[str]) -> str:
    """Write words for bash; what would spoil the terminal is escaped."""
    return " ".join(w if (w := quote(word)).isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    plain = (c if c.isprintable() and c not in "\\'" else f"\\U{ord(c):08x}" for c in word)
    return f"$'{''.join(plain)}'"
