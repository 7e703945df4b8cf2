r"""Mend a pipeline in a copy: change settings in its text, and take the changes back in another.

The user's file is never touched. CellProfiler writes the text of the pipeline that it ran into
Experiment.csv and its databases; the merge takes the changes back there. That text is CellProfiler
4's: no escapes, no blanks at the end of a line, and settings of an old module have the labels of
today.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from bpcp.cppipe import Text, spelled, unfolded

# The module of a change that concerns the text as a whole: its line ends.
WHOLE_TEXT = 0

_CREATE = """
CreateBatchFiles:[module_num:{number}|svn_version:'Unknown'|variable_revision_number:8\
|show_window:False|notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]
    Store batch files in default output folder?:Yes
    Output folder path:
    Are the cluster computers running Windows?:No
    Hidden- in batch mode:No
    Hidden- in distributed mode:No
    Hidden- default input folder at time of save:
    Hidden- revision number:0
    Hidden- from old matlab:No
    Local root path:
    Cluster root path:
"""
# only where it is the last: the user's own, switched off, stays
_OWN_CREATE = re.compile(
    r"\n*^CreateBatchFiles:\[module_num:\d+\|[^\n]*(?:\n(?!\w+:\[)[^\n]*)*\Z", re.MULTILINE
)


@dataclass(frozen=True)
class Mend:
    """One setting changed, or a module switched off.

    Attributes
    ----------
    module : int
        Its 1-based place in the pipeline, disabled modules counted; or `WHOLE_TEXT`.
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
    text = unfolded(text)
    for mend in mends:
        text = _changed(text, mend, mend.old, mend.new, spelled)
    return text


def mended_further(text: str, mends: Sequence[Mend]) -> str:
    """Change what was not changed yet, in a text that CellProfiler may have written again."""
    text = unfolded(text)
    for mend in mends:
        with suppress(ValueError):
            text = _changed(text, mend, mend.old, mend.new, spelled)
    return text


def unmended(text: str, mends: Sequence[Mend]) -> str:
    """Take the changes back, in a text that CellProfiler wrote of the mended pipeline.

    What isn't found stays as it is: CellProfiler renames settings where it reads an old pipeline,
    and a result must not be lost over a line of its log.
    """
    for mend in reversed(mends):
        with suppress(ValueError):
            text = _changed(text, mend, mend.new, mend.old, str)
    return text


def _changed(text: str, mend: Mend, old: str, new: str, spell: Callable[[str], str]) -> str:
    if mend.module == WHOLE_TEXT:
        return text
    found = Text(text)
    if mend.module > len(found.blocks):
        raise ValueError(f"no module {mend.module}")
    block = found.blocks[mend.module - 1]
    if mend.label == "enabled":
        return found.changed(block.line, block.switched(old, new))
    settings = [s for s in block.settings if s.label == mend.label]
    if mend.occurrence >= len(settings) or old not in (
        settings[mend.occurrence].value,
        settings[mend.occurrence].raw,
    ):
        raise ValueError(f"module {mend.module} has no {mend.label}:{old}")
    return found.changed(settings[mend.occurrence].line, spell(new))


def with_create_batch(text: str) -> str:
    """Add CreateBatchFiles to a pipeline's text, behind the modules that CellProfiler reads."""
    found = Text(text)
    return found.with_module(_CREATE.format(number=len(found.blocks) + 1))


def without_create_batch(text: str) -> str:
    """Take away what `with_create_batch` added, in a text that CellProfiler wrote."""
    plain_text, found = _OWN_CREATE.subn("\n", text)
    return Text(plain_text).with_fewer(found)
