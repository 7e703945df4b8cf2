"""What the images are, and what is wrong with them: incomplete sets, missing channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bpcp.images.record import Image
from bpcp.images.store import ImageSet

# of each kind of trouble
SHOWN = 5
# an index knows much of each image
_EXTRA = 2


@dataclass(frozen=True)
class LeftOut:
    """Files that no image set has, for one reason.

    Attributes
    ----------
    example : str
        The path of one of them.
    note : str
        What the user is told of them by itself.
    """

    reason: str
    count: int
    example: str
    note: str = ""


@dataclass
class Account:
    """The image sets, counted.

    Attributes
    ----------
    sets, incomplete : int
        Image sets, and those among them that lack a channel.
    wells : int
        Wells with a complete image set, of all plates.
    values : dict of str to set of str
        "plate", "z" and "t" of the complete image sets; "" is none.
    examples : list of (str, tuple of str)
        The first few incomplete sets: place, and the channels that they lack.
    lacking : dict of str to list of str
        Wells that have nothing of a channel at all, by channel.
    differs : dict of str to None
        Metadata in which an image set's channels differ.
    """

    sets: int = 0
    incomplete: int = 0
    wells: int = 0
    values: dict[str, set[str]] = field(
        default_factory=lambda: {"plate": set(), "z": set(), "t": set()}
    )
    examples: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    lacking: dict[str, list[str]] = field(default_factory=dict)
    differs: dict[str, None] = field(default_factory=dict)


def account(sets: Iterable[ImageSet], channels: Sequence[str]) -> Account:
    """Count image sets, those of a well together, as Store.sets gives them."""
    found = Account()
    at: tuple[str, str] | None = None
    counted_at: tuple[str, str] | None = None
    seen: set[str] = set()

    def close() -> None:
        for channel in channels:
            if at is not None and channel not in seen:
                found.lacking.setdefault(channel, []).append(", ".join(filter(None, at)))

    for image_set in sets:
        here = (image_set.plate, image_set.well)
        if here != at:
            close()
            at, seen = here, set()
        seen.update(image_set.files)
        found.sets += 1
        found.differs.update(dict.fromkeys(image_set.differs))
        missing = tuple(c for c in channels if c not in image_set.files)
        if missing:
            found.incomplete += 1
            if len(found.examples) < SHOWN:
                found.examples.append((image_set.place, missing))
            continue
        if here != counted_at:
            counted_at = here
            found.wells += 1
        for kind, values in found.values.items():
            values.add(getattr(image_set, kind))
    close()
    return found


def summary(found: Account, names: Mapping[str, str]) -> str:
    """Say what is in the complete image sets; `names` are CellProfiler's, by channel."""
    counts = [
        counted(found.sets - found.incomplete, "image set"),
        counted(len(found.values["plate"]), "plate"),
        counted(found.wells, "well"),
    ]
    several = [
        counted(len(values), one)
        for kind, one in (("z", "z plane"), ("t", "time point"))
        if len(values := found.values[kind] - {""}) > 1
    ]
    parts = [", ".join(counts)]
    if several:
        parts.append(f"{', '.join(several)}: each is an image set of its own")
    called = [n if c == n else f"{c}={n}" for c, n in names.items()]
    return "; ".join([*parts, f"channels: {', '.join(called)}"])


def understood(path: str, image: Image) -> str:
    """Say what a path was taken for."""
    return f"{shown(path)} → {placed(image, _EXTRA)}{' …' if len(image.extra) > _EXTRA else ''}"


def placed(image: Image, most: int | None = None) -> str:
    """Say an image's place, and all of its further metadata or at most so many."""
    parts = [
        ("plate", image.plate),
        ("well", image.well),
        ("site", image.site),
        ("channel", image.channel),
        ("z", image.z),
        ("t", image.t),
        *image.extra[:most],
    ]
    return ", ".join(f"{name} {shown(text)}" for name, text in parts if text)


def shown(path: str) -> str:
    """Give a path for people: quoted where it could spoil the terminal."""
    return path if path.isprintable() else repr(path)


def some(items: Sequence[str], total: int | None = None) -> str:
    """List the first few of some items, and say how many more there are."""
    total = len(items) if total is None else total
    rest = total - min(len(items), SHOWN)
    return ", ".join(items[:SHOWN]) + (f" … and {rest:,} more" if rest > 0 else "")


def counted(number: int, one: str, many: str = "") -> str:
    """Count things: "1 plate", "2,304 image sets"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def troubles(found: Account, names: dict[str, str]) -> list[str]:
    """List what image sets lack, a line each."""
    lines = []
    if found.incomplete:
        lines.append(
            f"{found.incomplete:,} of {counted(found.sets, 'image set')}"
            f" {'lacks' if found.incomplete == 1 else 'lack'} a channel:"
        )
        lines += [
            f"  {shown(place)}: no {', '.join(names[c] for c in missing)}"
            for place, missing in found.examples
        ]
        if found.incomplete > len(found.examples):
            lines.append(f"  … and {found.incomplete - len(found.examples):,} more")
    lines += [
        f"channel {names[channel]}: none in {counted(len(wells), 'well')}: {some(wells)}"
        for channel, wells in found.lacking.items()
    ]
    return lines
