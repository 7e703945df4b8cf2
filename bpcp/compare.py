"""Compare two result folders, file by file and cell by cell.

What may differ between two runs of the same pipeline is left out: `ExecutionTime_*`, and the time
stamps of Experiment.csv, databases and properties files, and the passwords of database servers,
which a run of bpcp writes nowhere. A folder's own path, which CellProfiler
writes down for each image that it saved, counts as the same in both. Object relationships are
compared kind by kind: CellProfiler writes the kinds in the order of a Python set, which no two of
its processes share. SQLite databases are compared by what they hold.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from urllib.request import pathname2url

from bpcp import tables
from bpcp.database import file as database
from bpcp.database.compare import compare_databases, compare_properties
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.pipeline import without_passwords
from bpcp.publish import sha256
from bpcp.tables import Kind, Shape

_STAMPS = ("Run_Timestamp", "Modification_Timestamp")
_MOST_SHOWN = 20


@dataclass(frozen=True)
class Difference:
    """One thing that is not equal: the file, where in it, and what each side has."""

    path: str
    where: str
    left: str
    right: str

    def __str__(self) -> str:
        """Say it in a line."""
        place = f"{self.path}, {self.where}" if self.where else self.path
        return f"{place}: {self.left} | {self.right}"


def compare(left: Path, right: Path) -> Iterator[Difference]:
    """Give each difference between two folders.

    Raises
    ------
    BpcpError
        66 where one of them is not there.
    """
    for folder in (left, right):
        if not folder.is_dir():
            raise BpcpError(Exit.NO_INPUT, f"no folder: {folder}")
    names = sorted({*_files(left), *_files(right)})
    if not names:
        raise BpcpError(Exit.NO_INPUT, f"nothing to compare: {left} and {right} are empty")
    for name in names:
        a, b = left / name, right / name
        if not a.is_file() or not b.is_file():
            yield Difference(name, "", *("there" if f.is_file() else "missing" for f in (a, b)))
            continue
        if database.is_sqlite(a) and database.is_sqlite(b):
            for found in compare_databases((a, b), (left, right)):
                yield Difference(name, found[0], _cut(found[1]), _cut(found[2]))
            continue
        if a.suffix == ".properties":
            for found in compare_properties((a, b), (left, right)):
                yield Difference(name, found[0], _cut(found[1]), _cut(found[2]))
            continue
        shape_a, shape_b = tables.recognise(a), tables.recognise(b)
        if shape_a is None or shape_b is None:
            if sha256(a) != sha256(b):
                yield Difference(
                    name, "content", f"{a.stat().st_size} bytes", f"{b.stat().st_size} bytes"
                )
            continue
        yield from _compare_tables(name, (left, right), (shape_a, shape_b))


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder))


def _compare_tables(
    name: str, folders: tuple[Path, Path], shapes: tuple[Shape, Shape]
) -> Iterator[Difference]:
    left, right = shapes
    if (left.kind, left.delimiter, left.heads) != (right.kind, right.delimiter, right.heads):
        yield Difference(name, "kind", left.kind.value, right.kind.value)
        return
    headers = [[c for c in s.header if not _ignored(c)] for s in shapes]
    if headers[0] != headers[1]:
        for i, (c, d) in enumerate(zip_longest(*headers, fillvalue="nothing")):
            if c != d:
                yield Difference(name, f"column {i + 1}", c, d)
                break
        return
    at = [[i for i, c in enumerate(s.header) if not _ignored(c)] for s in shapes]
    own = [(str(f), pathname2url(str(f))) for f in folders]
    bodies = [_rows(f / name, s) for f, s in zip(folders, shapes, strict=True)]
    for number, (a, b) in enumerate(zip_longest(*bodies), 1):
        if a is None or b is None:
            yield Difference(
                name, f"row {number}", *("missing" if r is None else "there" for r in (a, b))
            )
            return
        if left.kind is Kind.EXPERIMENT and a[0] == b[0] and _is_left_out(a, b):
            continue
        if len(a) != len(left.header) or len(b) != len(right.header):
            yield Difference(name, f"row {number}", f"{len(a)} cells", f"{len(b)} cells")
            return
        for column, i, j in zip(headers[0], at[0], at[1], strict=True):
            if a[i] != b[j] and not _same_place(column, a[i], b[j], own):
                shown = column.replace("\t", "_")
                yield Difference(name, f"row {number}, {shown}", _cut(a[i]), _cut(b[j]))


def _rows(path: Path, shape: Shape) -> Iterator[list[str]]:
    """Give a table's rows; those of object relationships sorted by kind, else in their order."""
    if shape.kind is not Kind.RELATIONSHIP:
        return tables.rows(path, shape)
    at = [shape.header.index(name) for name in tables.RELATIONSHIP_KIND]
    return iter(sorted(tables.rows(path, shape), key=lambda row: [row[i] for i in at]))


def _is_left_out(a: Sequence[str], b: Sequence[str]) -> bool:
    """Tell whether two rows of an experiment are time stamps, or differ only in passwords."""
    if a[0] in _STAMPS:
        return True
    texts = [without_passwords("\t".join(row).encode()) for row in (a, b)]
    return a[0] == "Pipeline_Pipeline" and texts[0] == texts[1]


def _ignored(column: str) -> bool:
    return column.rpartition("\t")[2].startswith("ExecutionTime_")


def _same_place(column: str, a: str, b: str, own: Sequence[tuple[str, str]]) -> bool:
    name = column.rpartition("\t")[2]
    if not name.startswith(("PathName_", "URL_")):
        return False
    which = 1 if name.startswith("URL_") else 0
    return a.replace(own[0][which], "", 1) == b.replace(own[1][which], "", 1)


def _cut(cell: str) -> str:
    return cell if len(cell) <= 60 else f"{cell[:57]}..."


def main(argv: Sequence[str]) -> int:
    """Compare two result folders and say where they differ."""
    parser = Parser("compare")
    parser.add_argument("left", type=Path)
    parser.add_argument("right", type=Path)
    parser.add_argument("-q", "--quiet", action="store_true")
    args = parser.parse_args(argv)
    left, right = args.left.resolve(), args.right.resolve()
    count = 0
    for difference in compare(left, right):
        count += 1
        if count <= _MOST_SHOWN:
            print(difference)
    if not args.quiet:
        files = sum(1 for _ in _files(left))
        rest = f", {_MOST_SHOWN} shown" if count > _MOST_SHOWN else ""
        print(
            f"differ in {count:,} places{rest}" if count else f"equal: {files:,} files",
            file=sys.stderr,
        )
    return Exit.SOME_FAILED if count else Exit.OK


if __name__ == "__main__":
    run_main("compare", main)
