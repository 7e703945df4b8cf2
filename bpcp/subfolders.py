"""Tables that ExportToSpreadsheet writes to a folder for each plate or well, named by metadata.

One process writes all of its tables to each of these folders, with the columns, and the spelling of
numbers, of all of its image sets. A process that has only some of them does not know them all.

Source: cellprofiler 4.2.8.1, modules/exporttospreadsheet.py (run_objects, make_image_file).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bpcp.restore import Source, Table, unite
from bpcp.tables import Kind, Spelling, Summary
from bpcp.workspace import Json


def with_empty(found: Sequence[Source], run: Json) -> list[Source]:
    """Add tables of objects without rows beside the image tables of processes that skipped all.

    Such a process knows of no objects.

    Parameters
    ----------
    run : dict
        The run's settings, as in run.json.
    """
    patterns = _patterns(run)
    beside: dict[str, dict[str, Summary]] = {}
    for source in found:
        objects = {p: s for p, s in source.summaries.items() if s.shape.kind is Kind.OBJECT}
        for image_table in _image_tables(source):
            home = Path(image_table).parent
            own = {Path(p).name: s for p, s in objects.items() if Path(p).parent == home}
            beside.setdefault(Path(image_table).name, {}).update(own)
    filled = []
    for source in found:
        empty = {
            str(Path(image_table).with_name(name)): replace(
                s, rows=0, spellings=(Spelling.BLANK,) * len(s.spellings), rows_by_image={}
            )
            for image_table in _image_tables(source)
            if source.skipped.issuperset(source.numbers)
            for name, s in beside[Path(image_table).name].items()
            if any(p.fullmatch(str(Path(image_table).with_name(name))) for p in patterns)
        }
        filled.append(replace(source, summaries={**empty, **source.summaries}) if empty else source)
    return filled


def _image_tables(source: Source) -> list[str]:
    return [p for p, s in source.summaries.items() if s.shape.kind is Kind.IMAGE]


class Families:
    """Tables of a result, those of one export in several folders with the same columns.

    Parameters
    ----------
    found : sequence of Source
    run : dict
        The run's settings, as in run.json.
    """

    def __init__(self, found: Sequence[Source], run: Json) -> None:
        self._found, self._patterns = found, _patterns(run)
        self.paths = list(dict.fromkeys(path for s in found for path in s.summaries))
        self._known: dict[re.Pattern[str], Table] = {}

    def table(self, path: str) -> Table:
        """Give the table that one process would have written at a path."""
        own = self._of(path)
        if own is None:
            return unite(path, self._found)
        if own not in self._known:
            alike = {p for p in self.paths if p != path and self._of(p) == own}
            self._known[own] = unite(path, self._found, alike)
        return replace(self._known[own], path=path, rows=0)

    def _of(self, path: str) -> re.Pattern[str] | None:
        """Give what declares a path; None where that is not certain."""
        matching = [p for p in self._patterns if p.fullmatch(path)]
        return matching[0] if len(matching) == 1 else None


def _patterns(run: Json) -> list[re.Pattern[str]]:
    return [re.compile(t["pattern"], re.DOTALL) for t in run.get("tables", [])]
