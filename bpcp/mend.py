r"""Mend a pipeline in a copy: change settings in its text, and take the changes back in another.

The user's file is never touched. CellProfiler writes the text of the pipeline that it ran into
Experiment.csv and its databases; the merge takes the changes back there. That text is spelled
anew: CellProfiler 2's "\x7C" is "|" in it, blanks at the end of a line are gone, and the settings
of an old module have the labels of today.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from bpcp.errors import BpcpError, Exit

_MODULE = re.compile(r"^\w+:\[", re.MULTILINE)
# The module's own switch is the last of its line; a note before it may say the same words.
_ENABLED = re.compile(r"(\|enabled:)(True|False)(?=\||\])")

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
_COUNT = re.compile(r"^ModuleCount:(\d+)", re.MULTILINE)
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


def mended_further(text: str, mends: Sequence[Mend]) -> str:
    """Change what was not changed yet, in a text that CellProfiler may have spelled anew."""
    for mend in mends:
        with suppress(ValueError):
            text = _changed(text, mend, mend.old, mend.new)
    return text


def unmended(text: str, mends: Sequence[Mend]) -> str:
    """Take the changes back, in a text that CellProfiler wrote of the mended pipeline.

    What isn't found stays as it is: CellProfiler renames settings where it reads an old pipeline,
    and a result must not be lost over a line of its log.
    """
    for mend in reversed(mends):
        with suppress(ValueError):
            text = _changed(text, mend, mend.new, mend.old)
    return text


def _changed(text: str, mend: Mend, old: str, new: str) -> str:
    starts = [found.start() for found in _MODULE.finditer(text)]
    if mend.module > len(starts):
        raise ValueError(f"no module {mend.module}")
    start = starts[mend.module - 1]
    end = starts[mend.module] if mend.module < len(starts) else len(text)
    if mend.label == "enabled":
        places = list(_ENABLED.finditer(text, start, _line_end(text, start)))[-1:]
    else:
        line = re.compile(rf"^( +{re.escape(mend.label)}:)([^\r\n]*)", re.MULTILINE)
        places = list(line.finditer(text, start, end))
    if mend.occurrence >= len(places) or plain(places[mend.occurrence][2]) != plain(old):
        raise ValueError(f"module {mend.module} has no {mend.label}:{old}")
    at = places[mend.occurrence]
    return text[: at.start(2)] + new + text[at.end() :]


def _line_end(text: str, start: int) -> int:
    at = text.find("\n", start)
    return len(text) if at < 0 else at


def plain(value: str) -> str:
    r"""Give a setting as CellProfiler reads it: up to its third version it wrote "All\x3A Across".

    Source: cellprofiler_core 4.2.8.1, pipeline/_pipeline.py (setup_modules); what this does to
    letters beyond ASCII is CellProfiler's own doing.
    """
    value = value.strip().replace(r"\\\\g<", r"\g<")
    if "\\x" not in value:
        return value
    with suppress(UnicodeDecodeError):
        return value.encode().decode("unicode_escape")
    return value


def with_create_batch(text: str) -> str:
    """Add CreateBatchFiles to a pipeline's text."""
    found = _COUNT.search(text)
    if not found:
        raise BpcpError(Exit.MALFORMED_INPUT, "the pipeline has no line ModuleCount")
    number = int(found[1]) + 1
    text = _COUNT.sub(f"ModuleCount:{number}", text, count=1)
    return text.rstrip("\r\n") + "\n" + _CREATE.format(number=number)


def without_create_batch(text: str) -> str:
    """Take away what `with_create_batch` added, in a text that CellProfiler wrote."""
    plain_text, found = _OWN_CREATE.subn("\n", text)
    return _COUNT.sub(lambda m: f"ModuleCount:{int(m[1]) - found}", plain_text, count=1)
