"""Compare the tables of the result with what the chunks' verdicts said, and with each other."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpcp.audit import count
from bpcp.audit.changed import find_change
from bpcp.audit.count import Break, Content
from bpcp.audit.image_sets import Account
from bpcp.audit.outcome import Fault, Outcome, Remedies, counted
from bpcp.formats import stem
from bpcp.publish import sha256
from bpcp.restore import Source
from bpcp.tables import Kind, nearest, single
from bpcp.workspace import Json, Workspace, to_ranges

_NUMBER = re.compile(r"image set (\d+)")
_NO_TEXT = (Kind.DATABASE, Kind.PROPERTIES)


@dataclass
class Tables:
    """The tables of a result.

    Attributes
    ----------
    sources : list of Source
        What the chunks' verdicts said of them, part by part.
    merged : dict of str to dict
        What the merge wrote, by path.
    found : dict of str to Content
        What is there.
    missing : dict of str to str
        Why the others could not be read.
    """

    workspace: Workspace
    account: Account
    sources: Sequence[Source]
    merged: Mapping[str, Json]
    found: dict[str, Content] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def kind(self, path: str) -> Kind:
        """Say what kind of table stands at a path."""
        return Kind(self.merged[path]["kind"])

    def of_kind(self, *wanted: Kind) -> list[str]:
        """List the tables of some kinds that could be read."""
        return [path for path in self.found if self.kind(path) in wanted]

    def numbers(self, path: str) -> set[int]:
        """Give the ImageNumbers that may stand in a table."""
        return {n for s in self.sources if path in s.summaries for n in s.numbers}

    def is_changed(self, path: str) -> bool:
        """Tell whether a table is not, byte by byte, what the merge wrote."""
        return self.found[path].sha256 != str(self.merged[path]["sha256"])

    def read(self, path: str, tell: count.Tell) -> None:
        """Read a table, of whatever kind."""
        file = self.workspace.analysis / path
        kind = self.kind(path)
        try:
            if kind is Kind.DATABASE:
                own = self.numbers(path)
                content = count.of_database(file, own, own & self.account.skipped.keys())
                tell(content.size)
            elif kind is Kind.PROPERTIES:
                content = Content(sha256=sha256(file), size=file.stat().st_size)
            else:
                content = count.text(file, kind, tell)
            self.found[path] = content
        except (FileNotFoundError, NotADirectoryError):
            self.missing[path] = "it is gone"
        except OSError as error:
            self.missing[path] = f"it can't be read: {error.strerror}"


def compare(tables: Tables, outcome: Outcome) -> None:
    """Say what does not add up in the tables, and count the objects."""
    todo = Remedies(tables.workspace).merge()
    faults: list[Fault] = []
    for path in tables.merged:
        faults += _whole(tables, path, todo)
    faults += _image_rows(tables, todo)
    rows_of, counts = _objects(tables)
    faults += _object_rows(tables, rows_of, counts, todo)
    for path in tables.found:
        faults += _parts(tables, path, faults, todo)
    for path in tables.of_kind(Kind.DATABASE):
        faults += _database(tables, path, todo)
    for path in tables.found:
        if tables.is_changed(path) and not any(fault.file == path for fault in faults):
            faults.append(_changed(tables, path, todo))
    _count(tables, outcome, rows_of, counts)
    faults += _totals(tables, outcome, faults, todo)
    # first what is wrong with a file as a whole
    outcome.faults += sorted(faults, key=lambda f: f.row is not None or f.image_number is not None)


def _whole(tables: Tables, path: str, todo: str) -> Iterator[Fault]:
    """Say what is wrong with a table by itself."""
    if path in tables.missing:
        yield Fault(tables.missing[path], todo, path)
        return
    content = tables.found[path]
    if tables.kind(path) in _NO_TEXT:
        return
    for broken in content.breaks:
        yield Fault(broken.what, todo, path, image_number=broken.image_number, row=broken.row)
    wanted = tables.merged[path]
    if not content.breaks and list(dict.fromkeys(content.columns)) != list(wanted["columns"]):
        yield Fault("its columns are not those that the merge wrote", todo, path)
    if content.rows != wanted["rows"]:
        what = f"{counted(content.rows, 'row')}, the merge wrote {wanted['rows']:,}"
        yield Fault(what, todo, path)
    if tables.kind(path) is Kind.EXPERIMENT:
        return
    own = tables.numbers(path)
    for number in sorted(content.by_image.keys() - own):
        yield Fault(
            _stranger(tables, number), todo, path,
            image_number=number, row=content.first_row[number],
        )  # fmt: skip


def _stranger(tables: Tables, number: int) -> str:
    if number in tables.account.failed:
        return "a row of an image set that failed"
    if number in tables.account.good:
        return "a row of an image set whose chunk wrote none there"
    return "a row of an image set that is not part of the run"


def _image_rows(tables: Tables, todo: str) -> Iterator[Fault]:
    """Each image set stands once in the image tables of one export, over all subfolders."""
    declared = tables.account.run.get("tables", [])
    exports = Counter(t["pattern"] for t in declared if t["objects"] == ["Image"])
    of_export: dict[str, list[str]] = {}
    for path in (*tables.found, *tables.missing):
        if tables.kind(path) is Kind.IMAGE:
            export = nearest(path, exports) or Path(path).name
            of_export.setdefault(export, []).append(path)
    for export, paths in of_export.items():
        if any(path in tables.missing for path in paths):
            continue
        rows: Counter[int] = Counter()
        for path in paths:
            rows.update(tables.found[path].by_image)
        where = paths[0] if len(paths) == 1 else Path(paths[0]).name
        for number in sorted(tables.account.good):
            if rows[number] == 0:
                yield Fault("no row of this image set", todo, where, image_number=number)
            elif rows[number] > max(exports[export], 1) and len(paths) > 1:
                what = f"{rows[number]} rows of it, in several folders"
                yield Fault(what, todo, where, image_number=number)


_ByImage = dict[int, int]


def _objects(tables: Tables) -> tuple[dict[str, dict[str, _ByImage]], dict[str, _ByImage]]:
    """Give the rows of each kind of object by table, and what the image tables count of it."""
    rows_of: dict[str, dict[str, _ByImage]] = {}
    last = {t["pattern"]: t["objects"] for t in tables.account.run.get("tables", [])}
    for path in tables.of_kind(Kind.OBJECT):
        objects = last.get(nearest(path, last) or "", ())
        if len(objects) == 1:
            rows_of.setdefault(objects[0], {})[path] = tables.found[path].by_image
    counts: dict[str, _ByImage] = {}
    for path in tables.of_kind(Kind.IMAGE):
        own = tables.numbers(path)
        for name, known in tables.found[path].counts.items():
            counts.setdefault(name, {}).update({n: known[n] for n in known if n in own})
    return rows_of, counts


def _object_rows(
    tables: Tables,
    rows_of: Mapping[str, Mapping[str, _ByImage]],
    counts: Mapping[str, _ByImage],
    todo: str,
) -> Iterator[Fault]:
    """Each image set has as many rows of an object as its image table counts."""
    for name, by_path in rows_of.items():
        for path, rows in by_path.items():
            gaps = _gaps(tables, path)
            others = [known for p, known in by_path.items() if p != path]
            for number in sorted(tables.numbers(path)):
                wanted = counts.get(name, {}).get(number)
                there = rows.get(number, 0)
                # each of several folders has the image sets of its own metadata
                elsewhere = not there and any(known.get(number) == wanted for known in others)
                gap = gaps.get(number)
                if wanted is None or there == wanted or elsewhere:
                    if gap:
                        yield Fault(gap.what, todo, path, image_number=number, row=gap.row)
                    continue
                what = f"{counted(there, 'row')} of this image set, Count_{name} is {wanted:,}"
                what += f": {gap.what}" if gap else ""
                yield Fault(what, todo, path, image_number=number, row=gap.row if gap else None)


def _gaps(tables: Tables, path: str) -> dict[int, Break]:
    """Give the first gap of each image set; a table that is as it was written has none."""
    gaps = tables.found[path].gaps if tables.is_changed(path) else []
    return {gap.image_number or 0: gap for gap in reversed(gaps)}


def _parts(tables: Tables, path: str, before: Sequence[Fault], todo: str) -> Iterator[Fault]:
    """Each chunk's image sets have as many rows as it wrote; not where a fault says so already."""
    content = tables.found[path]
    if tables.kind(path) in (*_NO_TEXT, Kind.EXPERIMENT):
        return
    named = {f.image_number for f in before if f.file == path}
    for source in tables.sources:
        if path not in source.summaries or named.intersection(source.numbers):
            continue
        wanted = source.summaries[path].rows
        there = sum(content.by_image.get(n, 0) for n in source.numbers)
        if there != wanted:
            first = next((n for n in source.numbers if n in content.first_row), None)
            yield Fault(
                f"{counted(there, 'row')} of ImageNumber {to_ranges(source.numbers)},"
                f" chunk {source.chunk} wrote {wanted:,}",
                todo, path, image_number=source.numbers[0],
                row=content.first_row[first] if first else None, chunk=source.chunk,
            )  # fmt: skip


def _database(tables: Tables, path: str, todo: str) -> Iterator[Fault]:
    """Each table of a database has the rows that the chunks wrote, and each image set its own."""
    content = tables.found[path]
    wanted: Counter[str] = Counter()
    for source in tables.sources:
        if path in source.summaries:
            wanted.update(source.summaries[path].counts)
    numbers = tables.numbers(path)
    for broken in content.breaks:
        number = _NUMBER.search(broken.what)
        at = int(number[1]) if number else None
        yield Fault(broken.what.removeprefix(f"image set {at}: "), todo, path, image_number=at)
    for table, there in content.table_rows.items():
        # the others are written once for the whole run
        if not table.endswith(("Per_Image", "Per_Relationships")) and table not in content.by_table:
            continue
        if there != wanted[table]:
            what = f"{counted(there, 'row')}, the chunks wrote {wanted[table]:,}"
            yield Fault(what, todo, path, table)
    for table, rows in content.by_table.items():
        for number_there in sorted(rows.keys() - numbers):
            what = _stranger(tables, number_there)
            yield Fault(what, todo, path, table, image_number=number_there)


def _changed(tables: Tables, path: str, todo: str) -> Fault:
    """Say where a table whose rows all add up differs from what the merge wrote."""
    change = None
    if tables.kind(path) not in _NO_TEXT:
        change = find_change(tables.workspace, path)
    if change is None:
        return Fault("it is not what the merge wrote (SHA-256)", todo, path)
    return Fault(change.what, todo, path, image_number=change.image_number, row=change.row)


def _count(
    tables: Tables,
    outcome: Outcome,
    rows_of: Mapping[str, Mapping[str, _ByImage]],
    counts: Mapping[str, _ByImage],
) -> None:
    """Count the objects, and the image sets with any."""
    by_image: list[_ByImage] = list(counts.values())
    for name, by_path in rows_of.items():
        # several modules may write the same objects
        most = {n: max(known.get(n, 0) for known in by_path.values()) for n in tables.account.good}
        outcome.objects[name] = sum(most.values())
        by_image.append(most)
    for path in tables.of_kind(Kind.DATABASE):
        content = tables.found[path]
        by_image += content.by_table.values()
        for name, total in content.objects.items():
            outcome.objects.setdefault(name, total)
    if not outcome.objects:
        outcome.objects = {name: sum(known.values()) for name, known in counts.items()}
    if by_image:
        outcome.counts_objects = True
        good = tables.account.good - tables.account.skipped.keys()
        some = {n for known in by_image for n, rows in known.items() if rows and n in good}
        outcome.with_objects, outcome.with_none = len(some), len(good) - len(some)


def _totals(
    tables: Tables, outcome: Outcome, before: Sequence[Fault], todo: str
) -> Iterator[Fault]:
    """Compare the objects with what the chunks counted, where nothing else was wrong before."""
    if before:
        return
    said: Counter[str] = Counter()
    for done in tables.account.verdicts.values():
        for part in done["parts"]:
            said.update(part["objects"])
    for name, total in said.items():
        there = outcome.objects.get(name)
        if there is not None and there != total:
            yield Fault(f"{there:,} {name}, the chunks counted {total:,}", todo)


# --- other formats --------------------------------------------------------------------------------


def other_formats(tables: Tables, known: Json, entries: dict[str, str]) -> Iterator[Fault]:
    """Compare what --format wrote with the tables that it was made of.

    Parameters
    ----------
    known : dict
        merged.json.
    entries : dict of str to str
        Is given the SHA-256 of each.
    """
    contents = known.get("other_contents", {})
    for path in known.get("other_formats", []):
        file = tables.workspace.analysis / path
        is_parquet = file.suffix == ".parquet"
        todo = Remedies(tables.workspace).merge("--format", "parquet" if is_parquet else "sqlite")
        try:
            entries[path] = sha256(file)
            size = file.stat().st_size
        except OSError as error:
            gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
            what = "it is gone" if gone else f"it can't be read: {error.strerror}"
            yield Fault(what, todo, path)
            continue
        written = contents.get(path)
        if written and (size, entries[path]) != (written["size"], written["sha256"]):
            yield Fault("it is not what the merge wrote (SHA-256)", todo, path)
        for csv_path, content in tables.found.items():
            # of a table that was changed, what was made before says nothing
            if tables.kind(csv_path) in _NO_TEXT or tables.is_changed(csv_path):
                continue
            table = stem(csv_path, [p for p in tables.merged if tables.kind(p) not in _NO_TEXT])
            if is_parquet and f"{table}.parquet" != path:
                continue
            yield from _same_rows(tables, file, path, table, csv_path, content, todo)


def _same_rows(
    tables: Tables,
    file: Path,
    path: str,
    table: str,
    csv_path: str,
    content: Content,
    todo: str,
) -> Iterator[Fault]:
    column = _number_column(tables, csv_path)
    name = "" if file.suffix == ".parquet" else table
    try:
        if file.suffix == ".parquet":
            rows, by_image = count.rows_in_parquet(file, column)
        else:
            rows, by_image = count.rows_in_sqlite(file, table, column)
    except (OSError, sqlite3.Error) as error:
        yield Fault(f"it can't be read: {error}", todo, path, name)
        return
    if rows != content.rows:
        yield Fault(f"{counted(rows, 'row')}, {csv_path} has {content.rows:,}", todo, path, name)
    if column is None:
        return
    for number in sorted(by_image.keys() | content.by_image.keys(), key=str):
        there, wanted = by_image.get(number, 0), content.by_image.get(number, 0)
        if there != wanted:
            what = f"{counted(there, 'row')} of this image set, {csv_path} has {wanted:,}"
            yield Fault(what, todo, path, name, image_number=number)


def _number_column(tables: Tables, path: str) -> int | None:
    shapes = (s.summaries[path].shape for s in tables.sources if path in s.summaries)
    name = next((single(s.header[s.number_columns[0]]) for s in shapes if s.number_columns), "")
    columns = list(tables.merged[path]["columns"])
    return columns.index(name) if name in columns else None
