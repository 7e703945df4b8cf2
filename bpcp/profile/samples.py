"""Choose the image sets that a profile runs: some that differ, and a fair draw of the list."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bpcp import imagelist
from bpcp.errors import BpcpError, Exit
from bpcp.imagelist import ImageList

# Looking at a file's size may be a request over a network; so many say enough of a list.
LOOK_AT = 2000


@dataclass(frozen=True)
class Candidate:
    """An image set whose files are all there.

    Attributes
    ----------
    place : int
        Its row in the list, 0-based.
    size : int
        Bytes of its files.
    """

    place: int
    size: int


def candidates(images: ImageList, root: Path) -> tuple[list[Candidate], int]:
    """Look at the files of a list, of `LOOK_AT` image sets at most, spread evenly.

    Parameters
    ----------
    root : Path
        Where relative folders start.

    Returns
    -------
    list of Candidate
        In the order of the list.
    int
        How many of those looked at lack a file.

    Raises
    ------
    BpcpError
        66 where none can be run: files that are missing, or only reached by a URL.
    """
    count = len(images.rows)
    looked_at = min(count, LOOK_AT)
    # with the first and the last
    places = sorted({i * (count - 1) // max(looked_at - 1, 1) for i in range(looked_at)})
    found = []
    lacking: list[str] = []
    for place in places:
        size = 0
        for _, name in imagelist.files(images.header, images.rows[place], root):
            if imagelist.is_remote(name):
                raise BpcpError(
                    Exit.NO_INPUT,
                    f"line {images.lines[place]} of the image list names {name}, not a file",
                    "a profile needs images on this machine: copy a few plates' worth of wells,"
                    " and profile a dataset that lists these",
                )
            try:
                size += Path(name).stat().st_size
            except OSError:
                lacking.append(name)
                break
        else:
            found.append(Candidate(place, size))
    if not found:
        raise BpcpError(
            Exit.NO_INPUT,
            f"no image set has all its files; the first that is missing: {lacking[0]}",
            "see that the folders in load_data.csv are right, and mounted",
        )
    return found, len(lacking)


def different(
    images: ImageList, there: Sequence[Candidate], count: int
) -> list[tuple[Candidate, str]]:
    """Choose image sets that differ most: by the size of their files, and by where they lie.

    Parameters
    ----------
    there : sequence of Candidate
        At least one.
    count : int
        How many at most; where sizes and wells name fewer, others are added between them.

    Returns
    -------
    list of (Candidate, str)
        In the order of the list, each with what it was chosen for.
    """
    by_size = sorted(there, key=lambda c: (c.size, c.place))
    by_well = sorted(there, key=lambda c: (_well(images, c), c.place))
    last = len(there) - 1
    chosen: dict[Candidate, list[str]] = {}
    for candidate, why in (
        (by_size[-1], "largest"),
        (by_size[0], "smallest"),
        (by_size[last // 2], "median"),
        (by_well[0], "first well"),
        (by_well[-1], "last well"),
    ):
        if candidate in chosen or len(chosen) < count:
            chosen.setdefault(candidate, []).append(why)
    for candidate in draw(there, count):
        if len(chosen) < count:
            chosen.setdefault(candidate, ["between"])
    return sorted(((c, ", ".join(why)) for c, why in chosen.items()), key=lambda x: x[0].place)


def _well(images: ImageList, candidate: Candidate) -> tuple[str, ...]:
    row = images.rows[candidate.place]
    names = ("Metadata_Plate", "Metadata_Well", "Metadata_Site")
    return tuple(row[images.header.index(n)] for n in names if n in images.header)


def draw(there: Sequence[Candidate], count: int) -> list[Candidate]:
    """Draw image sets that stand for the whole list: one from each of `count` layers of size.

    Within a layer chance decides, always in the same way: plates repeat themselves, and a fixed
    step through them could meet the same site of each well.

    Returns
    -------
    list of Candidate
        Shuffled, so that any part of it stands for the list too.
    """
    by_size = sorted(there, key=lambda c: (c.size, c.place))
    count = min(count, len(by_size))
    chance = random.Random(0)  # noqa: S311 -- a draw, not a secret
    found = []
    for i in range(count):
        first, after = i * len(by_size) // count, (i + 1) * len(by_size) // count
        found.append(by_size[chance.randrange(first, after)])
    chance.shuffle(found)
    return found


def deal(drawn: Sequence[Candidate], hands: int, each: int) -> list[list[Candidate]]:
    """Deal image sets to processes, as many to each; where there are too few, some to several.

    Returns
    -------
    list of list of Candidate
        One for each process, in the order of the list, none twice in one.
    """
    each = min(each, len(drawn))
    return [
        sorted((drawn[(hand * each + k) % len(drawn)] for k in range(each)), key=lambda c: c.place)
        for hand in range(hands)
    ]
