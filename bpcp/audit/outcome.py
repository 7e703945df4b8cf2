"""What an audit found: the count of image sets, what is wrong, and words for people."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from bpcp.errors import Exit
from bpcp.status import run_pipeline
from bpcp.workspace import Json, Workspace

_MOST_SHOWN = 10
_MOST_NAMED = 3


@dataclass(frozen=True)
class Fault:
    """One thing that does not add up.

    Attributes
    ----------
    what : str
        What is wrong, in one line.
    todo : str
        What to do next.
    file : str
        Where: relative to the result's folder; "" where it is no file of the result.
    table : str
        Which of a database's tables.
    image_number : int or None
        The first image set that it concerns.
    row : int or None
        Of the table, 1-based, the header left out.
    chunk : str
        The chunk that it concerns.
    """

    what: str
    todo: str
    file: str = ""
    table: str = ""
    image_number: int | None = None
    row: int | None = None
    chunk: str = ""

    @property
    def words(self) -> str:
        """Say it in one line."""
        row = f"row {self.row}" if self.row else ""
        image = f"ImageNumber {self.image_number}" if self.image_number else ""
        place = ", ".join(filter(None, (shown(self.file), self.table, row, image)))
        return f"{place}: {self.what}" if place else self.what


@dataclass(frozen=True)
class Remedies:
    """The commands that mend what is wrong."""

    workspace: Workspace

    def _of(self, *words: str, more: Sequence[str] = ()) -> str:
        of_run = ["-d", self.workspace.dataset, "-p", run_pipeline(self.workspace)]
        return shlex.join([*words, *of_run, *more])

    @property
    def run(self) -> str:
        """Give what runs all that is left."""
        return self._of("./run_analysis_pipeline.sh")

    def merge(self, *more: str) -> str:
        """Give what makes the tables anew."""
        return self._of("bpcp", "merge", more=more)

    @property
    def audit(self) -> str:
        """Give what looks again."""
        return self._of("bpcp", "audit")

    def run_without(self, path: Path) -> str:
        """Give what removes a file and makes it anew."""
        return f"rm {shlex.quote(str(path))}, then {self.run}"


@dataclass
class Outcome:
    """What an audit found; image sets unless it says otherwise.

    Attributes
    ----------
    total : int
        All that the user's list asks for, those in quarantine included.
    with_objects, with_none, failed, not_analysed, left : int
        Where objects are not counted, all that are done count as `with_objects`.
    skipped : dict of str to int
        Of those that are done, the ones that the pipeline skipped, by what did it. They count
        neither as `with_objects` nor as `with_none`.
    counts_objects : bool
        Whether the result has counts of objects at all.
    failures, quarantine : list of dict
        By name: `image_number` or `line`, and `reason`.
    objects : dict of str to int
        As counted in the tables.
    tables, saved : int
        Files of the result, by what they are.
    size : int
        Of these, in bytes.
    unread : int
        Saved files that were not read: their size and times are those of when they were.
    merged : bool
    waits : list of str
        Why something is left to do.
    strangers : list of str
        Files in the result's folder that nobody wrote.
    manifest : str
        "written", "as before", or "" where it was not.
    """

    total: int = 0
    with_objects: int = 0
    with_none: int = 0
    failed: int = 0
    not_analysed: int = 0
    left: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    counts_objects: bool = False
    failures: list[Json] = field(default_factory=list)
    quarantine: list[Json] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)
    tables: int = 0
    saved: int = 0
    size: int = 0
    unread: int = 0
    merged: bool = False
    waits: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    manifest: str = ""

    @property
    def exit_code(self) -> Exit:
        """0 it adds up, 1 it does not, 75 something is left to do."""
        if self.faults:
            return Exit.SOME_FAILED
        return Exit.OK if self.merged and not self.left else Exit.STOPPED


def shown(path: str) -> str:
    """Give a path for a line of text: as it is, or escaped where it would break the line."""
    return path if path.isprintable() else repr(path)


def named(paths: Sequence[str]) -> str:
    """Name a few of some files."""
    more = f" and {len(paths) - _MOST_NAMED:,} more" if len(paths) > _MOST_NAMED else ""
    return ", ".join(map(shown, paths[:_MOST_NAMED])) + more


def amount(size: int) -> str:
    """Write a number of bytes as people read it."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def counted(number: int, what: str) -> str:
    """Write a number of things."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def lines(workspace: Workspace, outcome: Outcome) -> list[str]:
    """Say what an audit found, to people."""
    out = [_image_sets(outcome)]
    if outcome.objects:
        out.append(", ".join(f"{n:,} {name}" for name, n in outcome.objects.items()))
    if outcome.tables or outcome.saved:
        out.append(_files(outcome))
    if outcome.manifest:
        words = "manifest " + outcome.manifest
        folder, manifest = str(workspace.analysis), str(workspace.manifest)
        out.append(f"{words}: cd {shlex.quote(folder)} && sha256sum -c {shlex.quote(manifest)}")
    out += [f"warning: {warning}" for warning in outcome.warnings[:_MOST_SHOWN]]
    if len(outcome.warnings) > _MOST_SHOWN:
        out.append(f"  … and {len(outcome.warnings) - _MOST_SHOWN:,} more warnings: --json")
    if outcome.faults:
        out.append(f"does not add up: {counted(len(outcome.faults), 'fault')}")
    for todo, mended in groupby(_told(outcome.faults), lambda fault: fault.todo):
        out += [f"  {fault.words}" for fault in mended]
        out.append(f"    → {todo}")
    if len(outcome.faults) > _MOST_SHOWN:
        out.append(f"  … and {len(outcome.faults) - _MOST_SHOWN:,} more: bpcp audit --json")
    if outcome.waits and not outcome.faults:
        remedies = Remedies(workspace)
        out += [f"  {why}" for why in outcome.waits[:_MOST_SHOWN]]
        out.append(f"  → {remedies.run if outcome.left else remedies.merge()}")
    return out


def _told(faults: Sequence[Fault]) -> list[Fault]:
    """Choose the faults that are told: a few of each file, rather than all of the first."""
    of_file: Counter[str] = Counter()
    ranks = []
    for i, fault in enumerate(faults):
        ranks.append((of_file[fault.file], i))
        of_file[fault.file] += 1
    return [faults[i] for i in sorted(i for _, i in sorted(ranks)[:_MOST_SHOWN])]


def _image_sets(outcome: Outcome) -> str:
    found = "with objects" if outcome.counts_objects else "done"
    parts = (
        (outcome.with_objects, found),
        (outcome.with_none, "with none"),
        *((n, f"skipped by {by}") for by, n in sorted(outcome.skipped.items())),
        (outcome.failed, "failed"),
        (outcome.not_analysed, "not analysed (quarantine)"),
        (outcome.left, "left to run"),
    )
    if not outcome.merged and not outcome.left:
        parts = ((outcome.with_objects, "done, not merged"), *parts[1:])
    said = [f"{n:,} {what}" for n, what in parts if n]
    return f"{counted(outcome.total, 'image set')}: {', '.join(said) or 'none analysed'}"


def _files(outcome: Outcome) -> str:
    said = f"{counted(outcome.tables, 'table')}, {counted(outcome.saved, 'saved file')}"
    said += f", {amount(outcome.size)}"
    if outcome.unread:
        said += f"; {outcome.unread:,} not read again: size and times are unchanged"
    return said


def to_json(workspace: Workspace, outcome: Outcome) -> Json:
    """Give what an audit found, for programs."""
    return {
        "dataset": workspace.dataset,
        "pipeline": workspace.tag,
        "adds_up": outcome.exit_code == Exit.OK,
        "exit": int(outcome.exit_code),
        "image_sets": {
            "total": outcome.total,
            "with_objects": outcome.with_objects,
            "with_none": outcome.with_none,
            "skipped": sum(outcome.skipped.values()),
            "failed": outcome.failed,
            "not_analysed": outcome.not_analysed,
            "left": outcome.left,
            "objects_counted": outcome.counts_objects,
        },
        "merged": outcome.merged,
        "skipped": outcome.skipped,
        "objects": outcome.objects,
        "files": {
            "tables": outcome.tables,
            "saved": outcome.saved,
            "size": outcome.size,
            "unread": outcome.unread,
        },
        "failed": outcome.failures,
        "not_analysed": outcome.quarantine,
        "faults": [asdict(fault) for fault in outcome.faults],
        "warnings": outcome.warnings,
        "strangers": outcome.strangers,
        "waits": outcome.waits,
        "manifest": str(workspace.manifest) if outcome.manifest else None,
        "result": str(workspace.analysis),
    }
