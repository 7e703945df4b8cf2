"""Mend a pipeline in a copy: change settings in its text, and take the changes back in another.

The user's file is never touched. CellProfiler writes the text of the pipeline that it ran into
Experiment.csv and its databases; the merge takes the changes back there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_MODULE = re.compile(r"^\w+:\[", re.MULTILINE)


@dataclass(frozen=True)
class Mend:
    """One setting changed, or a module switched off.

    Attributes
    ----------
    module : int
        Its 1-based place in the pipeline, disabled modules counted.
    label : str
        The setting's label, or "enabled" for the module itself.
    old, new : str
        The setting's value before and after; for "enabled": "True" and "False".
    said : str
        What the user is told.
    occurrence : int
        Which of the module's settings of this label, 0-based.
    """

    module: int
    label: str
    old: str
    new: str
    said: str
    occurrence: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return asdict(self)


def mended(text: str, mends: Sequence[Mend]) -> str:
    """Change a pipeline's text.

    Raises
    ------
    ValueError
        Where the text has no such setting with the old value.
    """
    for mend in mends:
        text = _changed(text, mend, mend.old, mend.new)
    return text


def unmended(text: str, mends: Sequence[Mend]) -> str:
    """Take the changes back, in a text that CellProfiler wrote of the mended pipeline."""
    for mend in reversed(mends):
        text = _changed(text, mend, mend.new, mend.old)
    return text


def _changed(text: str, mend: Mend, old: str, new: str) -> str:
    starts = [found.start() for found in _MODULE.finditer(text)]
    if mend.module > len(starts):
        raise ValueError(f"no module {mend.module}")
    start = starts[mend.module - 1]
    end = starts[mend.module] if mend.module < len(starts) else len(text)
    block = text[start:end]
    name = r"\|enabled:" if mend.label == "enabled" else rf"^ +{re.escape(mend.label)}:"
    rest = r"[^|]*(?=\|)" if mend.label == "enabled" else r"[^\r\n]*"
    places = list(re.finditer(f"({name})({rest})", block, re.MULTILINE))
    if mend.occurrence >= len(places) or places[mend.occurrence][2] != old:
        raise ValueError(f"module {mend.module} has no {mend.label}:{old}")
    at = places[mend.occurrence]
    return text[:start] + block[: at.start(2)] + new + block[at.end() :] + text[end:]
