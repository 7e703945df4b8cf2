"""The verdict on an attempt, from what it wrote: CellProfiler's exit code proves nothing.

It exits 0 after an unknown module, a full disk, an unwritable folder and a range without image
sets; so the outputs themselves are read and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bpcp import tables
from bpcp.cellprofiler import Course
from bpcp.database import file as database
from bpcp.tables import BrokenTableError, Kind, Shape, Summary
from bpcp.workspace import Json

# What a pipeline declares that is no table.
_OTHERS = (database.DATABASE, database.PROPERTIES)
_NO_OBJECTS = ("Image", "Experiment", "Object relationships", *_OTHERS)


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


@dataclass(frozen=True)
class Declared:
    """What the pipeline declares.

    Attributes
    ----------
    tables : tuple of Expected
    modules : frozenset of str
        Those that measure ModuleError_ and ExecutionTime_: "03FlagImage". Other such columns came
        with the image list.
    flags : dict of int to dict
        By number of a FlagImage: the flags for which it skips an image set, by their measurements.
    last_module : int
    """

    tables: tuple[Expected, ...] = ()
    modules: frozenset[str] = frozenset()
    flags: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    last_module: int = 0

    @staticmethod
    def of(run: Json) -> Declared:
        """Read it from a run's settings, as in run.json."""
        flags: dict[int, dict[str, str]] = {}
        for known in run["skips"]:
            flags.setdefault(int(known["module"]), {})[known["measurement"]] = known["flag"]
        return Declared(
            tuple(Expected(t["pattern"], tuple(t["objects"])) for t in run["tables"]),
            frozenset(run["modules"]),
            flags,
            int(run["last_module"]),
        )


@dataclass(frozen=True)
class Ran:
    """What a process was given, and what it says of itself.

    Attributes
    ----------
    first, last : int
        The image sets, 1-based, inclusive.
    said : str
        The word in its done file: "Complete", "Failure", or "" where there is none.
    course : Course
        What its log says.
    last_module : int
        The last one of the pipeline.
    """

    first: int
    last: int
    said: str
    course: Course = field(default_factory=Course)
    last_module: int = 0

    @property
    def wanted(self) -> set[int]:
        """The image sets that it was given."""
        return set(range(self.first, self.last + 1))

    @cached_property
    def is_complete(self) -> bool:
        """Whether it came to its end: it says so, or had nothing to count at an export's end.

        Where all image sets are skipped before a module makes objects, ExportToSpreadsheet fails
        at a table of these that the pipeline lists by name; beside another image set it does not.
        """
        if self.said == "Complete":
            return True
        return self.said == "Failure" and bool(self.course.uncounted) and self._all_skipped

    @cached_property
    def skipped(self) -> dict[int, int]:
        """The image sets that it left before the last module, each with the module that did it.

        A module that fails ends the whole process, so a process that is complete skipped these.
        """
        return self._left if self.is_complete else {}

    @cached_property
    def _left(self) -> dict[int, int]:
        return {n: m for n, m in self.course.reached.items() if m < self.last_module}

    @property
    def _all_skipped(self) -> bool:
        return set(self._left) == self.wanted

    @property
    def skips_all(self) -> bool:
        """Whether it skipped every image set."""
        return self.is_complete and self._all_skipped

    def must_write(self, objects: Sequence[str]) -> bool:
        """Tell whether a table must be there though every image set was skipped.

        Of objects and relationships, nothing was measured; where it failed at a spreadsheet,
        ExportToDatabase may not have come to its properties file.
        """
        needed = {"Image", "Experiment", database.DATABASE}
        if self.said == "Complete":
            needed.add(database.PROPERTIES)
        return not needed.isdisjoint(objects)

    @property
    def accounts_for_all(self) -> bool:
        """Whether its log shows of each image set that it was done with it."""
        return self.is_complete and self.wanted <= self.course.reached.keys()

    def is_through(self, image_set: int) -> bool:
        """Tell whether it was done with all modules of an image set, by its log."""
        return self.course.reached.get(image_set, 0) >= self.last_module > 0


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
    skipped : dict of str to list
        By what skipped them, "FlagImage (QCFlag)": the image sets that the pipeline left before
        its last module. They are done.
    """

    said: str = ""
    faults: list[str] = field(default_factory=list)
    tables: dict[str, Summary] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)
    modules_s: float = 0.0
    skipped: dict[str, list[int]] = field(default_factory=dict)


def judge(output: Path, declared: Declared, ran: Ran) -> Verdict:
    """Check what an attempt wrote to its output folder."""
    verdict = Verdict(ran.said)
    if not ran.is_complete:
        verdict.faults.append(
            f"CellProfiler said {ran.said}" if ran.said else "CellProfiler ended before it was done"
        )
    names = sorted(str(p.relative_to(output)) for p in output.rglob("*") if not p.is_dir())
    databases = {}
    for name in names:
        if found := _sort_in(verdict, output, name, ran):
            databases[name] = found
    if not names and (declared.tables or not ran.accounts_for_all):
        verdict.faults.append("CellProfiler wrote nothing")
        return verdict
    patterns = [(re.compile(e.pattern, re.DOTALL), e) for e in declared.tables]
    for pattern, table in patterns:
        if ran.skips_all and not ran.must_write(table.objects):
            continue
        if not any(pattern.fullmatch(name) for name in verdict.tables):
            what = " and ".join(table.objects)
            verdict.faults.append(f"no {what}" if what in _OTHERS else f"no table of {what}")
    by_object = _object_rows(verdict, patterns)
    flagged: dict[int, list[str]] = {}
    for name, summary in verdict.tables.items():
        if summary.shape.kind is Kind.IMAGE:
            check = _ImageTable(declared, ran, summary.shape)
            check.read(verdict, output / name, by_object)
            flagged.update(check.flagged)
    for number, module in ran.skipped.items():
        by = _skipped_by(declared, module, flagged.get(number, []))
        verdict.skipped.setdefault(by, []).append(number)
    _check_image_numbers(verdict, ran.wanted, patterns)
    alone = (t.objects[0] for t in declared.tables if len(t.objects) == 1)
    verdict.objects = {
        name: sum(by_object.get(name, {}).values()) for name in alone if name not in _NO_OBJECTS
    }
    for found in databases.values():
        verdict.faults += found.faults
        verdict.objects = {**found.objects, **verdict.objects}
        # the same modules as in an image table, counted once
        verdict.modules_s = verdict.modules_s or found.modules_s
    return verdict


def _skipped_by(declared: Declared, module: int, flags: Sequence[str]) -> str:
    """Name what skipped an image set; of a FlagImage, also the flags, as far as they are known."""
    known = declared.flags.get(module)
    if known is None:
        # of a plugin
        return next(
            (m.lstrip("0123456789") for m in declared.modules if _number(m) == module),
            f"module {module}",
        )
    return f"FlagImage ({', '.join(flags or dict.fromkeys(known.values()))})"


def _sort_in(verdict: Verdict, output: Path, name: str, ran: Ran) -> database.Found | None:
    """Put a file where it belongs; give what a database holds."""
    path = output / name
    if path.stat().st_size == 0:
        verdict.faults.append(f"{name} is empty")
        return None
    try:
        if shape := tables.recognise(path):
            verdict.tables[name] = tables.summarise(path, shape, frozenset(ran.skipped))
        elif shape := database.recognise(path):
            found = database.judge(path, shape, ran.wanted, ran.skipped.keys())
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


class _ImageTable:
    """What a process says of its image sets in an image table.

    Attributes
    ----------
    flagged : dict of int to list
        The flags of image sets that were skipped, as far as they are exported.
    """

    def __init__(self, declared: Declared, ran: Ran, shape: Shape) -> None:
        self._ran, self._shape = ran, shape
        self.flagged: dict[int, list[str]] = {}
        at = {name: i for i, name in enumerate(shape.header)}
        self._number_at = at["ImageNumber"]
        # others are of an earlier run, and came with the list
        own = [m for m in declared.modules if f"ModuleError_{m}" in at]
        self._errors = sorted((_number(m), m, at[f"ModuleError_{m}"]) for m in own)
        times = (f"ExecutionTime_{m}" for m in declared.modules)
        self._times = [at[name] for name in times if name in at]
        self._counts = [(name[6:], i) for name, i in at.items() if name.startswith("Count_")]
        self._measured = [
            i for name, i in at.items() if not name.startswith(("ImageNumber", "Group_"))
        ]
        self._flags = {
            module: [(name, at[column]) for column, name in flags.items() if column in at]
            for module, flags in declared.flags.items()
        }

    def read(self, verdict: Verdict, path: Path, by_object: dict[str, dict[int, int]]) -> None:
        """Find what is wrong with its rows."""
        for row in tables.rows(path, self._shape):
            number = int(row[self._number_at])
            verdict.modules_s += sum(float(row[i]) for i in self._times if row[i])
            fault = self._fault(number, row, path.name)
            if fault:
                verdict.faults.append(f"image set {number}{fault}")
            for name, i in self._counts:
                if name in by_object:
                    _check_count(verdict, name, number, row[i], by_object[name].get(number, 0))

    def _fault(self, number: int, row: list[str], table: str) -> str:
        skipped_at = self._ran.skipped.get(number)
        if skipped_at is not None:
            flags = self._flags.get(skipped_at, [])
            if raised := [name for name, i in flags if row[i] not in ("", "0", "0.0")]:
                self.flagged[number] = raised
        elif self._measured and not any(row[i] for i in self._measured):
            # of what was chosen for the table, there may be nothing
            is_known = not self._errors and self._ran.is_through(number)
            return "" if is_known else f" is blank in {table}"
        for module, name, i in self._errors:
            if row[i] not in ("0", "0.0") and (skipped_at is None or module <= skipped_at):
                return f": {name} {'failed' if row[i] else 'did not finish'}"
        return ""


def _number(module: str) -> int:
    """Give the place in the pipeline of a module that is named as in its ModuleError_."""
    return int(module[: len(module) - len(module.lstrip("0123456789"))])


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
