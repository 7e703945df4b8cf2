"""What a round does to a run, drawn from its seed alone: what, when, to whom.

Times are fractions of how long the same run takes undisturbed. Who is hit is drawn as an order of
groups of processes and a place within the group, for which processes live at a moment is up to the
machine; so a round that is repeated does the same harm, as far as the machine does the same.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from marked import GROUPS, Process

SIGNALS = ("TERM", "INT", "HUP", "KILL", "QUIT", "SEGV", "ABRT", "STOP")
# How often a group is aimed at first.
_WEIGHTS = {
    "entry": 3, "parallel": 3, "run-chunk": 4, "CellProfiler": 4, "helper": 4, "shell": 2,
    "other": 1,
}  # fmt: skip


class Kind(Enum):
    """The kinds of harm."""

    KILL = "kill"
    STOP = "hang"
    FILL = "fill"
    SPOIL = "spoil"
    TWICE = "twice"
    POWER = "power"


@dataclass(frozen=True)
class Harm:
    """One harm.

    Attributes
    ----------
    at : float
        When, as a fraction of an undisturbed run.
    signal : signal.Signals
        What is sent, of KILL and STOP.
    aim : tuple of str
        Groups of processes; the first of which one lives is hit.
    place : float
        Where in the group, 0 to below 1.
    count : int
        How many are hit at once: the next in the group, and then of the next groups.
    for_s : float
        After how many seconds a full disk has room again, or an image is put back; 0 never.
    way : str
        Of an image: "cut", "bytes" or "gone". Of a disk: "workspace" or "tmpdir".
    image_set : int
        Which one is spoilt, from 1.
    old_time : bool
        Whether an image that is put back has its old time, as `cp -p` and `rsync -a` give it.
    """

    at: float
    kind: Kind
    signal: signal.Signals = signal.SIGKILL
    aim: tuple[str, ...] = ()
    place: float = 0.0
    count: int = 1
    for_s: float = 0.0
    way: str = ""
    image_set: int = 0
    old_time: bool = False


@dataclass(frozen=True)
class Schedule:
    """A round.

    Attributes
    ----------
    disk : str
        What the workspace lies on: "folder", "ext4", or "ext4 late": one that flushes nothing that
        nobody asked it to flush.
    tmpdir : str
        "" for none, "folder" or "tmpfs" by -t, or "ramdisk" by --ramdisk.
    harms : tuple of Harm
        In the order of time.
    """

    disk: str
    tmpdir: str
    harms: tuple[Harm, ...]


def draw(seed: str, number: int, image_sets: int, *, root: bool) -> Schedule:
    """Draw a round.

    Each row of six rounds has each kind of harm as its first, so that a short bench has them all.

    Parameters
    ----------
    number : int
        From 1.
    root : bool
        Whether disks can be mounted; without, what needs that is left out.
    """
    kinds = list(Kind)
    random.Random(f"{seed}.{(number - 1) // len(kinds)}.kinds").shuffle(kinds)  # noqa: S311
    dice = random.Random(f"{seed}.{number}")  # noqa: S311
    first = kinds[(number - 1) % len(kinds)]
    rest = [Kind.KILL, Kind.KILL, Kind.STOP, Kind.SPOIL, Kind.TWICE, Kind.FILL, Kind.POWER]
    chosen = [first, *dice.choices(rest, k=dice.choice((0, 0, 1, 1, 2)))]
    if not root:
        chosen = [Kind.KILL if kind is Kind.FILL else kind for kind in chosen]
    # one image set at most is left bad: the bench says exactly which
    if chosen.count(Kind.SPOIL) > 1:
        chosen = [k for i, k in enumerate(chosen) if k is not Kind.SPOIL or i == 0] or [Kind.SPOIL]
    tmpdir = dice.choice(("", "", "folder", "tmpfs", "ramdisk"))
    disk = "folder"
    if Kind.POWER in chosen:
        disk = dice.choice(("ext4", "ext4 late"))
    way = "tmpdir"
    if Kind.FILL in chosen:
        way = dice.choice(("workspace", "tmpdir", "tmpdir"))
        if way == "workspace":
            disk = "ext4" if disk == "folder" else disk
        else:
            tmpdir = "tmpfs"
    if not root:
        disk, tmpdir = "folder", tmpdir if tmpdir in ("", "folder") else "folder"
    harms = [_harm(dice, kind, image_sets, way) for kind in chosen]
    return Schedule(disk, tmpdir, tuple(sorted(harms, key=lambda h: h.at)))


def _harm(dice: random.Random, kind: Kind, image_sets: int, way: str) -> Harm:
    at = round(dice.uniform(0.02, 0.95), 3)
    aim = tuple(sorted(GROUPS, key=lambda g: -(dice.random() ** (1 / _WEIGHTS[g]))))
    place = round(dice.random(), 3)
    if kind is Kind.KILL:
        number = signal.Signals[f"SIG{dice.choice(SIGNALS)}"]
        count = dice.choice((1, 1, 1, 2, 3))
        return Harm(at, kind, signal=number, aim=aim, place=place, count=count)
    if kind is Kind.STOP:
        return Harm(at, kind, signal=signal.SIGSTOP, aim=aim, place=place)
    if kind is Kind.FILL:
        return Harm(at, kind, for_s=round(dice.uniform(2, 15), 1), way=way)
    if kind is Kind.SPOIL:
        stays = dice.random() < 0.4
        return Harm(
            at,
            kind,
            for_s=0.0 if stays else round(dice.uniform(1, 12), 1),
            way=dice.choice(("cut", "bytes", "gone")),
            image_set=dice.randint(1, image_sets),
            old_time=dice.random() < 0.5,
        )
    if kind is Kind.TWICE:
        # before that, the first has not taken its lock, and either may be the one that works
        return Harm(max(at, 0.15), kind)
    return Harm(at, kind)


def victims(harm: Harm, living: Sequence[Process]) -> list[Process]:
    """Choose whom a harm hits of those that live now."""
    order: list[Process] = []
    for group in harm.aim:
        members = [p for p in living if p.group == group]
        at = int(harm.place * len(members))
        order += members[at:] + members[:at]
    return order[: harm.count]
