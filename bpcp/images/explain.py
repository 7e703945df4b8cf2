"""Say in one table what was understood of a source: how names were read, and what is left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from shutil import get_terminal_size
from textwrap import wrap

from bpcp.images import plates
from bpcp.images.place import Placed
from bpcp.images.presets import Placer, share
from bpcp.images.propose import Attempt
from bpcp.images.record import Image
from bpcp.images.report import LeftOut, account, counted, shown, summary, understood
from bpcp.images.store import Store
from bpcp.images.walk import Walk

# a screen that nothing is known of
_SCREEN = (80, 24)
# lines of the screen that are not rows of the table
_OTHER = 14
_ROLES = ("plate", "well", "site", "channel", "z", "t")
_WIDEST = 14
# what a reason needs at least, and the example
_REASON, _EXAMPLE = 40, 16
# forms that are told apart
_MOST = 1000
_GUID = re.compile(r"[0-9A-F]{8}-(?:[0-9A-F]{4}-){3}[0-9A-F]{12}", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d+")

File = tuple[str, str]


@dataclass
class _Form:
    """Names of one form, all read alike.

    Attributes
    ----------
    values : tuple of str
        What the first of them says, by _ROLES.
    """

    example: str
    values: tuple[str, ...] = ()
    count: int = 0


@dataclass
class _Forms:
    """All forms; the plate and the channel that a name says are no part of its form."""

    known: dict[object, _Form] = field(default_factory=dict)

    def add(self, name: str, example: str, image: Image | None) -> None:
        """Count a name."""
        values: tuple[str, ...] = ()
        form = name
        if image is not None:
            values = tuple(getattr(image, role) for role in _ROLES)
            well = "" if plates.row_and_column(image.well) else image.well
            for text in (image.plate, well, image.channel):
                # numbers are alike below
                if text and not text.isdecimal():
                    form = form.replace(text, "\0")
        form = _NUMBER.sub("0", _WORD.sub("a", _GUID.sub("\1", form)))
        key = (form, tuple(map(bool, values)))
        if len(self.known) >= _MOST and key not in self.known:
            key = ("", ())
        found = self.known.setdefault(key, _Form(example, values))
        found.count += 1
        if image is None:
            # in no order
            found.example = min(found.example, example)

    @property
    def largest(self) -> list[_Form]:
        """The forms, those with most names first."""
        return sorted(self.known.values(), key=lambda f: (-f.count, f.example))


def read(
    store: Store,
    found: Walk,
    placer: Placer,
    placed: Placed,
    sample: Sequence[File],
    given: bool,
) -> Iterator[str]:
    """Say how a preset read the names, also where it ended in an error.

    Parameters
    ----------
    sample : sequence of (str, str)
        Folders and names to measure presets by; none for the user's own expression.
    given : bool
        Whether the user named the preset.
    """
    preset = placer.preset
    room = get_terminal_size(_SCREEN).columns
    yield cut(f"preset {preset.name}: {shown(preset.what)}", room)
    if not sample:
        evidence = ["given by --regex"]
    else:
        fits = round(share(placer, sample) * len(sample))
        of = "names" if len(sample) == store.count_files() else "names of a sample"
        evidence = ["given by --preset"] if given else []
        evidence.append(f"{fits:,} of {len(sample):,} {of} fit")
    if placed.indexes:
        more = f" and {placed.indexes - 1:,} more" if placed.indexes > 1 else ""
        evidence.append(f"index {shown(_below(placer, placed.index))}{more}")
    yield cut(f"  {'; '.join(evidence)}", room)
    yield from _in_part(found, sample, preset.name, room)
    store.sort()
    forms = _Forms()
    for image in store.images():
        forms.add(image.file, placer.shown(image.folder, image.file), image)
    yield ""
    yield from _table(forms.largest, _left_out(found, placer, placed.left_out), room)


def unread(
    store: Store,
    found: Walk,
    asked: Placer,
    tried: Attempt | None,
    sample: Sequence[File],
    command: str,
) -> Iterator[str]:
    """Say what names that no preset fits are like, and how they could be read.

    Parameters
    ----------
    tried : Attempt, optional
        None where several presets fit.
    command : str
        What the user typed, as far as it says what the images are.
    """
    room = get_terminal_size(_SCREEN).columns
    yield "several presets fit" if tried is None else "no preset fits"
    yield from _in_part(found, sample, "", room)
    forms = _Forms()
    proposal = tried.proposal if tried is not None else None
    examples: list[str] = []
    if proposal is None:
        for folder, name in store.unplaced():
            forms.add(name, asked.shown(folder, name), None)
    else:
        placer = proposal.placer(asked)
        store.sort()
        for image in store.images():
            forms.add(image.file, placer.shown(image.folder, image.file), image)
        for image in store.examples():
            said = understood(placer.shown(image.folder, image.file), image)
            examples.append(_reading(said, room - 2))
        counts = account(store.sets(), store.values("channel"))
        lacking = f"; {counts.incomplete:,} incomplete" if counts.incomplete else ""
        channels = {channel: shown(channel) for channel in store.values("channel")}
        examples += lines_of(f"{summary(counts, channels)}{lacking}")
    yield ""
    unread_files = [tried.unread] if tried is not None and tried.unread is not None else []
    yield from _table(forms.largest, _left_out(found, asked, unread_files), room)
    if tried is None:
        return
    yield ""
    if proposal is None:
        yield "no --regex can be proposed: nothing in the names tells all files apart, each"
        yield f"with its channels.{' What differs in them:' if tried.varying else ''}"
        for count, values in tried.varying:
            more = ", …" if count > len(values) else ""
            yield cut(f"  {counted(count, 'value')}: {', '.join(map(shown, values))}{more}", room)
        return
    yield "A proposal made from the names; confirm its reading, or change it:"
    yield from (f"  {line}" for line in examples)
    yield f"  {command} \\"
    yield f"    {proposal.options}"


def lines_of(text: str) -> list[str]:
    """Break a sentence into lines of the screen."""
    room = get_terminal_size(_SCREEN).columns
    return wrap(text, room, subsequent_indent="  ", break_on_hyphens=False) or [""]


def _reading(said: str, room: int) -> str:
    """Shorten a path rather than what it is taken for."""
    path, _, words = said.rpartition(" → ")
    return cut(f"{cut(path, max(_EXAMPLE, room - width(words) - 3))} → {words}", room)


def _below(placer: Placer, path: str) -> str:
    return placer.shown(*path.rsplit("/", 1))


def _in_part(found: Walk, sample: Sequence[File], but: str, room: int) -> Iterator[str]:
    """Say which other presets fit some of the names."""
    others = [Placer(p, found.root) for name, p in found.presets.items() if name != but]
    shares = [(share(other, sample), other.preset.name) for other in others] if sample else []
    fitting = [f"{name} {_percent(part)}" for part, name in sorted(shares, reverse=True) if part]
    if fitting:
        yield cut(
            f"  {'other presets fit' if but else 'presets fit'} in part: {', '.join(fitting)}", room
        )


def _percent(part: float) -> str:
    if part < 1 and round(part * 100) in (0, 100):
        return "<1%" if part < 0.5 else ">99%"
    return f"{part:.0%}"


def _left_out(found: Walk, placer: Placer, more: Sequence[LeftOut]) -> list[LeftOut]:
    kinds = [LeftOut(what, n, found.first[what]) for what, n in found.skipped.items() if n]
    left = [LeftOut(k.reason, k.count, _below(placer, k.example)) for k in (*kinds, *more)]
    return sorted(left, key=lambda kind: (-kind.count, kind.reason))


# --- the table -----------------------------------------------------------------------------------


def _table(forms: Sequence[_Form], left: Sequence[LeftOut], room: int) -> Iterator[str]:
    """Lay out forms and what is left out: one line each, none wider than the screen."""
    lines = max(2, (get_terminal_size(_SCREEN).lines - _OTHER) // 2)
    few, few_left = forms[:lines], left[:lines]
    used = [i for i, _ in enumerate(_ROLES) if any(f.values and f.values[i] for f in forms)]
    rows = [[_ROLES[i] for i in used]]
    rows += [[shown(f.values[i]) if f.values else "" for i in used] for f in few]
    counts = ["files", *(f"{n:,}" for n in (*(f.count for f in forms), *(k.count for k in left)))]
    number = max(map(len, counts))
    widths = [min(_WIDEST, max(map(width, column))) for column in zip(*rows, strict=True)]
    reasons = [f"left out: {kind.reason}" for kind in few_left]
    span = sum(widths) + 2 * max(0, len(widths) - 1)
    span = max(span, min(_REASON, max(map(width, reasons), default=0)))
    if len(forms) > lines or len(left) > lines:
        span = max(span, _REASON)
    span = min(span, max(0, room - number - _EXAMPLE - 4))
    last = max(1, room - number - span - (4 if span else 2))

    def line(count: str, middle: str, example: str) -> str:
        parts = [count.rjust(number), *([_padded(middle, span)] if span else [])]
        return "  ".join([*parts, cut(example, last)]).rstrip()

    def cells(texts: Sequence[str]) -> str:
        return "  ".join(_padded(t, w) for t, w in zip(texts, widths, strict=True))

    yield line("files", cells(rows[0]), "example")
    for form, texts in zip(few, rows[1:], strict=True):
        yield line(f"{form.count:,}", cells(texts), shown(form.example))
    if rest := forms[lines:]:
        yield line(f"{sum(f.count for f in rest):,}", f"in {counted(len(rest), 'more form')}", "")
    for kind, reason in zip(few_left, reasons, strict=True):
        yield line(f"{kind.count:,}", reason, shown(kind.example))
    if other := left[lines:]:
        number_left = f"{sum(k.count for k in other):,}"
        yield line(number_left, f"left out: {counted(len(other), 'more kind')}", "")


def _padded(text: str, room: int) -> str:
    text = cut(text, room)
    return text + " " * (room - width(text))


def width(text: str) -> int:
    """Give how many cells of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, room: int) -> str:
    """Shorten a text in its middle to so many cells."""
    if width(text) <= room:
        return text
    head, tail = "", ""
    for c in text:
        if width(head + c) > (room - 1) // 2:
            break
        head += c
    for c in reversed(text):
        if width(head + "…" + c + tail) > room:
            break
        tail = c + tail
    return f"{head}…{tail}"
