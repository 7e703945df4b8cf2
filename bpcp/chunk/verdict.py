"""The verdict on an attempt, from what it wrote: CellProfiler's exit code proves nothing.

It exits 0 after an unknown module, a full disk, an unwritable folder and a range without image
sets; so the outputs themselves are read and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpcp import tables
from bpcp.database import file as database
from bpcp.tables import BrokenTableError, Kind, Shape, Summary

# What a pipeline declares that is no table.
_OTHERS = (database.DATABASE, database.PROPERTIES)


@dataclass(frozen=True)
class Expected:
    """A table that the pipeline declares.

    Attributes
    ----------
    pattern : str
        A regular expression for its path, relative to the output folder.
    objects : tuple of str
        Whose measurements it holds: "Image", "Experiment", "Object relationships", or objects; or
        what else it is, see `database.declared`.
    """

    pattern: str
    objects: tuple[str, ...]


@dataclass
class Verdict:
    """What the check of an attempt's outputs said.

    Attributes
    ----------
    said : str
        CellProfiler's own word, "Complete" or "Failure", or "" where it left none.
    faults : list of str
        What is wrong; empty means that the attempt is good.
    tables : dict of str to Summary
        The tables, by path relative to the output folder.
    files : list of str
        All other files.
    objects : dict of str to int
        Rows in the table of each object.
    modules_s : float
        CPU seconds that the modules took, by the ExecutionTime_ columns: what the same image sets
        cost one process at least.
    """

    said: str = ""
    faults: list[str] = field(default_factory=list)
    tables: dict[str, Summary] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)
    modules_s: float = 0.0


def judge(output: Path, expected: Sequence[Expected], first: int, last: int, said: str) -> Verdict:
    """Check what an attempt wrote.

    Parameters
    ----------
    output : Path
        Its output folder.
    expected : sequence of Expected
        The tables that the pipeline declares.
    first, last : int
        The image sets that it was given, 1-based, inclusive.
    said : str
        The word in its done file: "Complete", "Failure", or "" where there is none.
    """
    verdict = Verdict(said)
    if said != "Complete":
        verdict.faults.append(
            f"CellProfiler said {said}" if said else "CellProfiler ended before it was done"
        )
    names = sorted(str(p.relative_to(output)) for p in output.rglob("*") if not p.is_dir())
    wanted = set(range(first, last + 1))
    databases = {}
    for name in names:
        if found := _sort_in(verdict, output, name, wanted):
            databases[name] = found
    if not names:
        verdict.faults.append("CellProfiler wrote nothing")
        return verdict
    patterns = [(re.compile(e.pattern, re.DOTALL), e) for e in expected]
    for pattern, declared in patterns:
        if not any(pattern.fullmatch(name) for name in verdict.tables):
            what = " and ".join(declared.objects)
            verdict.faults.append(f"no {what}" if what in _OTHERS else f"no table of {what}")
    by_object = _object_rows(verdict, patterns)
    for name, summary in verdict.tables.items():
        if summary.shape.kind is Kind.IMAGE:
            _check_image_table(verdict, output / name, summary.shape, by_object)
    _check_image_numbers(verdict, wanted, patterns)
    verdict.objects = {name: sum(rows.values()) for name, rows in by_object.items()}
    for found in databases.values():
        verdict.faults += found.faults
        verdict.objects = {**found.objects, **verdict.objects}
        # the same modules as in an image table, counted once
        verdict.modules_s = verdict.modules_s or found.modules_s
    return verdict


def _sort_in(verdict: Verdict, output: Path, name: str, wanted: set[int]) -> database.Found | None:
    """Put a file where it belongs; give what a database holds."""
    path = output / name
    if path.stat().st_size == 0:
        verdict.faults.append(f"{name} is empty")
        return None
    try:
        if shape := tables.recognise(path):
            verdict.tables[name] = tables.summarise(path, shape)
        elif shape := database.recognise(path):
            found = database.judge(path, shape, wanted)
            verdict.tables[name] = found.summary
            return found
        else:
            verdict.files.append(name)
    except (BrokenTableError, ValueError) as error:
        verdict.faults.append(str(error))
    return None


def _object_rows(
    verdict: Verdict, patterns: Sequence[tuple[re.Pattern[str], Expected]]
) -> dict[str, dict[int, int]]:
    """Count rows for each image set of the objects that have a table of their own."""
    found: dict[str, dict[int, int]] = {}
    # of two exports to one name, the later one's table is there
    last = {e.pattern: e.objects for _, e in patterns}
    for name, summary in verdict.tables.items():
        objects = last.get(tables.nearest(name, last) or "", ())
        if len(objects) == 1 and summary.shape.kind is Kind.OBJECT:
            found.setdefault(objects[0], {}).update(summary.rows_by_image)
    return found


def _check_image_table(
    verdict: Verdict, path: Path, shape: Shape, by_object: dict[str, dict[int, int]]
) -> None:
    at = {name: i for i, name in enumerate(shape.header)}
    number_at = at["ImageNumber"]
    errors = [(name, i) for name, i in at.items() if name.startswith("ModuleError_")]
    counts = [(name[6:], i) for name, i in at.items() if name.startswith("Count_")]
    times = [i for name, i in at.items() if name.startswith("ExecutionTime_")]
    measured = [i for name, i in at.items() if not name.startswith(("ImageNumber", "Group_"))]
    for row in tables.rows(path, shape):
        number = int(row[number_at])
        if measured and not any(row[i] for i in measured):
            verdict.faults.append(f"image set {number} is blank in {path.name}")
            continue
        verdict.modules_s += sum(float(row[i]) for i in times if row[i])
        for name, i in errors:
            if row[i] not in ("0", "0.0"):
                state = "failed" if row[i] else "did not finish"
                verdict.faults.append(
                    f"image set {number}: {name.removeprefix('ModuleError_')} {state}"
                )
                break
        for name, i in counts:
            if name in by_object:
                _check_count(verdict, name, number, row[i], by_object[name].get(number, 0))


def _check_count(verdict: Verdict, name: str, number: int, counted: str, rows: int) -> None:
    # nan: CellProfiler could not count where nothing was found
    expected = 0 if counted in ("", "nan") else int(float(counted))
    if expected != rows:
        verdict.faults.append(
            f"image set {number}: Count_{name} is {counted or 'blank'}, its table has {rows} rows"
        )


def _check_image_numbers(
    verdict: Verdict, wanted: set[int], patterns: Sequence[tuple[re.Pattern[str], Expected]]
) -> None:
    """Each image set stands exactly once in the image tables of one export, wherever they are."""
    exports = Counter(e.pattern for _, e in patterns if e.objects == ("Image",))
    by_export: dict[str, tuple[str, list[int]]] = {}
    for name, summary in verdict.tables.items():
        numbers = [n for n, rows in summary.rows_by_image.items() for _ in range(rows)]
        if summary.shape.kind is Kind.IMAGE:
            export = tables.nearest(name, exports) or name
            by_export.setdefault(export, (Path(name).name, []))[1].extend(numbers)
        stray = set(numbers) - wanted
        if stray and summary.shape.kind is not Kind.RELATIONSHIP:
            verdict.faults.append(
                f"{name} has rows of image set {min(stray)}, which was not asked for"
            )
    for export, (name, numbers) in by_export.items():
        missing = wanted - set(numbers)
        if missing:
            verdict.faults.append(
                f"{name} lacks {len(missing)} image sets, the first is {min(missing)}"
            )
        # exports into folders by different metadata may be of one pattern
        most = max(exports[export], 1)
        doubled = sum(max(n - most, 0) for n in Counter(numbers).values())
        if doubled:
            verdict.faults.append(f"{name} has {doubled} rows twice")
