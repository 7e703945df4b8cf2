"""Say what CellProfiler will make of the list's values: LoadData gives each column one type.

Source: cellprofiler_core 4.2.8.1, utilities/core/modules/load_data.py: a cell is what Python's
int() or float() take it for, "1_000", " 7", "1E05" and "nan" included.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from bpcp.check.findings import Code, Finding, Severity
from bpcp.imagelist import ImageList, Type, cell_type, column_types, shown

TYPED = Code("list-typed", Severity.NOTE, "CellProfiler will write values in another spelling")
TYPED_CODE = Code("list-typed-code", Severity.WARNING, "names that CellProfiler takes for numbers")
MERGED = Code(
    "list-merged-values", Severity.WARNING, "different spellings are one value to CellProfiler"
)
MIXED = Code("list-mixed-types", Severity.NOTE, "a column's type is decided by some of its cells")
GROUP_VALUE = Code(
    "list-group-value", Severity.NOTE, "grouping values that CellProfiler's -g can't express"
)

EARLIER_RUN = Code(
    "list-earlier-run", Severity.NOTE, "the list holds measurements of an earlier run"
)

CODES = (TYPED, TYPED_CODE, MERGED, MIXED, GROUP_VALUE, EARLIER_RUN)

# Columns that only CellProfiler itself writes.
_MEASURED = re.compile(r"(?:ModuleError|ExecutionTime)_\d+\w+|Count_.+")

# What reads like a name and is a number to Python.
_CODE = re.compile(r"\s*[+-]?(\d+[eE][+-]?\d+|.*_.*|nan|inf|infinity)\s*", re.IGNORECASE)
_DECIMAL = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
# No name of a plate or compound has these.
_MEASURES = re.compile(r"[.+-]")
_ZEROS = re.compile(r"\s*[+-]?0\d.*")
_WORDS = {Type.INTEGER: "whole numbers", Type.FLOAT: "numbers", Type.TEXT: "text"}


def of_values(images: ImageList, group_keys: Sequence[str]) -> Iterator[Finding]:
    """Give what the user should know of the values of a list.

    Parameters
    ----------
    group_keys : sequence of str
        The metadata tags by which the pipeline groups.
    """
    if earlier := [name for name in images.header if _MEASURED.fullmatch(name)]:
        count = len(earlier) - 1
        more = f" and {count:,} more column{'s' if count > 1 else ''}" if count else ""
        yield Finding(
            EARLIER_RUN,
            f"line 1, {earlier[0]}",
            f"{earlier[0]}{more}: as in an image table of an earlier run. CellProfiler copies them"
            " to the new one; only where this pipeline measures the same, its own values stand"
            " there",
            "delete them from the list, if nobody needs them in the result",
            (1,),
        )
    types = column_types(images.header, images.rows)
    for i, name in enumerate(images.header):
        cells = [row[i] for row in images.rows]
        first: dict[str, int] = {}
        for line, cell in zip(images.lines, cells, strict=True):
            first.setdefault(cell, line)
        if types[i] != Type.TEXT:
            yield from _numbers(name, types[i], first)
        # the type of such columns does not depend on their cells
        if column_types((name,), ()) != (Type.TEXT,):
            yield from _mixed(name, types[i], first, Counter(cells))
        if name.removeprefix("Metadata_") in group_keys and name.startswith("Metadata_"):
            yield from _group_values(name, first)


def _numbers(name: str, kind: Type, first: Mapping[str, int]) -> Iterator[Finding]:
    spellings: dict[str, list[str]] = defaultdict(list)
    for cell in first:
        spellings[shown(cell, kind)].append(cell)
    # stage positions and the like, "-4E-06"
    measured = all(map(_DECIMAL.fullmatch, first)) and any(map(_MEASURES.search, first))
    codes = [] if measured else [cell for cell in first if _CODE.fullmatch(cell)]
    if codes:
        yield Finding(
            TYPED_CODE,
            f"line {first[codes[0]]}, {name}",
            f"{_becomes(codes, kind)}",
            "put a letter in front, if these are names",
            tuple(sorted(first[cell] for cell in codes)),
        )
    for value, cells in spellings.items():
        if len(cells) > 1 and any(_CODE.fullmatch(c) or _ZEROS.fullmatch(c) for c in cells):
            yield Finding(
                MERGED,
                f"line {first[cells[1]]}, {name}",
                f"{', '.join(map(repr, cells))} are all {value} to CellProfiler",
                "spell one thing one way; put a letter in front to keep them apart",
                tuple(sorted(first[cell] for cell in cells)),
            )
    respelled = [
        cell
        for cell in first
        # "3" as "3.0" is told by list-mixed-types
        if cell not in codes and shown(cell, kind) not in (cell, f"{cell}.0")
    ]
    if respelled:
        yield Finding(
            TYPED,
            f"line {first[respelled[0]]}, {name}",
            f"{_becomes(respelled, kind)}",
            "nothing, if they are numbers; put a letter in front to keep the spelling",
            tuple(sorted(first[cell] for cell in respelled)),
        )


def _becomes(cells: Sequence[str], kind: Type) -> str:
    shows = ", ".join(f"{cell!r} is {shown(cell, kind)}" for cell in cells[:2])
    more = f", and so {len(cells) - 2:,} more" if len(cells) > 2 else ""
    return f"{shows} to CellProfiler{more}"


def _mixed(
    name: str, kind: Type, first: Mapping[str, int], counts: Mapping[str, int]
) -> Iterator[Finding]:
    # empty cells are told by list-empty-cell
    kinds = {cell: cell_type(cell) for cell in first if cell}
    widest = [cell for cell, own in kinds.items() if own == kind]
    narrower = sum(counts[cell] for cell, own in kinds.items() if own != kind)
    if narrower and widest:
        of_all = sum(counts[cell] for cell in kinds)
        yield Finding(
            MIXED,
            f"line {first[widest[0]]}, {name}",
            f"{_WORDS[kind]}, for cells like {widest[0]!r}; {narrower:,} of {of_all:,} cells"
            f" alone would be {_WORDS[max(k for k in kinds.values() if k != kind)]}",
            "nothing: bpcp keeps the type of the whole list in each chunk",
            tuple(sorted(first[cell] for cell in widest)),
        )


def _group_values(name: str, first: Mapping[str, int]) -> Iterator[Finding]:
    hard = [cell for cell in first if "," in cell or "=" in cell]
    if hard:
        yield Finding(
            GROUP_VALUE,
            f"line {first[hard[0]]}, {name}",
            f"{hard[0]!r} holds a comma or an equals sign",
            "nothing: bpcp does not use -g; CellProfiler by itself can't select such a group",
            tuple(sorted(first[cell] for cell in hard)),
        )
