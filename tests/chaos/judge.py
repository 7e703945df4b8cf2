"""The judges of a round: what is lost, doubled, wrong, misnamed, or left behind.

Rows are counted here, from the tables' own text; that each cell is equal says `bpcp compare`, which
has tests of its own. A judge says nothing of image sets that a run itself says failed: whether it
was right to say so is another judge's.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

IMAGE_NUMBER = "ImageNumber"
_MOST = 5


class Fault(Enum):
    """What can be wrong; the words of the last line."""

    LOST = "lost"
    DOUBLED = "duplicated"
    WRONG = "wrong"
    ORPHAN = "orphans"
    LEFT = "left behind"
    NAMED = "misnamed"
    HUNG = "hung"
    SECOND = "two at once"
    ENDLESS = "never done"
    AUDIT = "audit"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    fault: Fault
    what: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.fault.value}: {self.what}"


def tables(folder: Path) -> dict[str, Counter[int]]:
    """Count the rows of each image set in each table of a result, by path relative to it."""
    found = {}
    for path in sorted(folder.rglob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if IMAGE_NUMBER not in header:
                continue
            at = header.index(IMAGE_NUMBER)
            # a row that is cut off counts as one of no image set
            numbers = (r[at] if len(r) == len(header) else "" for r in rows)
            found[str(path.relative_to(folder))] = Counter(
                int(n) if n.isdigit() else 0 for n in numbers
            )
    return found


def saved(clean: Path) -> dict[int, set[str]]:
    """Give the files that each image set saved, by path relative to the result."""
    found: dict[int, set[str]] = {}
    with (clean / "Image.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name in (c[9:] for c in row if c.startswith("FileName_")):
                path = Path(row[f"PathName_{name}"], row[f"FileName_{name}"])
                if path.is_relative_to(clean):
                    own = found.setdefault(int(row[IMAGE_NUMBER]), set())
                    own.add(str(path.relative_to(clean)))
    return found


def counted(clean: Path, result: Path, without: Collection[int] = ()) -> list[Problem]:
    """Count rows and saved files against a clean result's.

    Parameters
    ----------
    without : collection of int
        Image sets that failed: of these nothing may be there.
    """
    problems = []
    there = tables(result)
    for name, rows in tables(clean).items():
        expected = Counter({n: count for n, count in rows.items() if n not in without})
        found = there.get(name)
        if found is None:
            problems.append(Problem(Fault.LOST, f"{name} is not there"))
            continue
        for fault, more in (
            (Fault.LOST, expected - found),
            (Fault.DOUBLED, found - expected),
        ):
            if more:
                each = ", ".join(f"{c} of image set {n}" for n, c in sorted(more.items())[:_MOST])
                problems.append(Problem(fault, f"{name}: rows: {each}"))
    for number, files in saved(clean).items():
        for name in sorted(files) if number not in without else ():
            if not (result / name).is_file():
                problems.append(Problem(Fault.LOST, f"{name} of image set {number}"))
    return problems


def filtered(clean: Path, target: Path, without: Collection[int]) -> Path:
    """Make a copy of a clean result that knows nothing of some image sets; give it."""
    shutil.rmtree(target, ignore_errors=True)
    gone = {name for n, files in saved(clean).items() if n in without for name in files}
    for path in sorted(p for p in clean.rglob("*") if p.is_file()):
        name = str(path.relative_to(clean))
        if name in gone:
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".csv":
            shutil.copy2(path, target / name)
            continue
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
        if IMAGE_NUMBER in header:
            at = header.index(IMAGE_NUMBER)
            rows = [r for r in rows if int(r[at]) not in without]
        with (target / name).open("w", newline="", encoding="utf-8") as file:
            # saved images are named with the folder of the result
            moved = ([c.replace(str(clean), str(target)) for c in r] for r in [header, *rows])
            csv.writer(file, lineterminator="\n").writerows(moved)
    return target


def equal(
    compare: Callable[[Path, Path], tuple[int, str]],
    clean: Path,
    result: Path,
    without: Collection[int] = (),
    scratch: Path | None = None,
) -> list[Problem]:
    """Compare a result with a clean one, cell by cell and byte by byte.

    Parameters
    ----------
    compare : callable
        `bpcp compare` on two folders: its exit code and what it says.
    scratch : Path
        Where to put a clean result without some image sets, if there are such.
    """
    if without:
        if not scratch:
            raise ValueError("nowhere to put it")
        clean = filtered(clean, scratch, without)
    code, said = compare(clean, result)
    if code == 0:
        return []
    lines = said.strip().splitlines() or [f"bpcp compare ends with {code}"]
    return [Problem(Fault.WRONG, line) for line in lines[:_MOST]]


def named(
    failed: Mapping[int, str], expected: Mapping[int, str], may: Collection[int] = ()
) -> list[Problem]:
    """Judge which image sets a run says failed, and why.

    Parameters
    ----------
    failed : mapping of int to str
        Their reasons, by number.
    expected : mapping of int to str
        Regular expressions of the reasons that they should have.
    may : collection of int
        Those of `expected` that need not fail: they were done before they were harmed.
    """
    problems = [
        Problem(Fault.NAMED, f"image set {n} failed, and nobody harmed it: {reason}")
        for n, reason in failed.items()
        if n not in expected
    ]
    for n, reason in expected.items():
        if n not in failed:
            if n not in may:
                problems.append(Problem(Fault.NAMED, f"image set {n} is bad, and did not fail"))
        elif not re.search(reason, failed[n]):
            problems.append(
                Problem(Fault.NAMED, f"image set {n}: {failed[n]!r} does not say {reason!r}")
            )
    return problems


def left_behind(
    places: Iterable[Path], mounts: Sequence[str], shared: Iterable[str]
) -> list[Problem]:
    """Name what a finished run left where nothing may be left.

    Parameters
    ----------
    places : iterable of Path
        Folders that must be empty, or not there: TMPDIR, what -t names, attempts/.
    mounts : sequence of str
        What is mounted within the round and should not be.
    shared : iterable of str
        What is in /dev/shm and was not there before.
    """
    found = [str(p) for folder in places if folder.is_dir() for p in sorted(folder.iterdir())]
    found += [f"{place}, mounted" for place in mounts]
    found += [f"/dev/shm/{name}" for name in shared]  # noqa: S108
    return [Problem(Fault.LEFT, what) for what in found]


def hidden(folder: Path) -> list[Path]:
    """List files under temporary names, which a killed process left below a folder."""
    return sorted(p for p in folder.rglob(".*") if p.is_file())
