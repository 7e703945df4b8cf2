"""A finding: what a check has to say, where, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from bpcp.errors import Exit
from bpcp.mend import Mend


class Severity(IntEnum):
    """How bad a finding is."""

    NOTE = 0  # good to know
    WARNING = 1  # the run goes on, and its result may not be what the user wants
    ERROR = 2  # the run would fail, or give wrong numbers


@dataclass(frozen=True)
class Code:
    """A kind of finding; its name never changes once it was released.

    Attributes
    ----------
    name : str
        In kebab-case, beginning with what it is about: "pipeline-row-range", "list-short-row",
        "image-truncated". docs/findings.md has a section of this name.
    severity : Severity
    summary : str
        One line, for the list of all codes.
    exit : Exit
        What it ends a check with, where it is an error.
    by_image_set : bool
        Whether a run can go on without the image sets that an error concerns, and be right.
    """

    name: str
    severity: Severity
    summary: str
    exit: Exit = Exit.MALFORMED_INPUT
    by_image_set: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes
    ----------
    code : Code
    place : str
        Where: "module 7, ExportToSpreadsheet", "line 12, Metadata_Site", or a file.
    what : str
        What is wrong there, in one line.
    remedy : str
        What to do about it, in one line.
    lines : tuple of int
        Lines of the user's image list that it concerns, 1-based, the header being line 1. For an
        error of an image: the image sets that can't be analysed.
    mends : tuple of Mend
        What would put it right in a copy of the pipeline; a finding that has some is no error as
        long as bpcp may mend.
    """

    code: Code
    place: str
    what: str
    remedy: str
    lines: tuple[int, ...] = ()
    mends: tuple[Mend, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON; the names of its fields are a contract."""
        return {
            "code": self.code.name,
            "severity": self.code.severity.name.lower(),
            "place": self.place,
            "what": self.what,
            "remedy": self.remedy,
            "lines": list(self.lines),
            "mends": [mend.to_json() for mend in self.mends],
        }


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Give those that stop a run."""
    return [f for f in findings if f.code.severity is Severity.ERROR and not f.mends]


def bad_lines(findings: Iterable[Finding]) -> dict[int, str]:
    """Give the image sets that can't be analysed while the others can.

    Returns
    -------
    dict of int to str
        For each line of the user's image list, in its order, the reason; all of them where there
        are several.
    """
    reasons: dict[int, dict[str, None]] = {}
    for finding in errors(findings):
        if finding.code.by_image_set:
            for line in finding.lines:
                reasons.setdefault(line, {})[f"{finding.place}: {finding.what}"] = None
    return {line: "; ".join(reasons[line]) for line in sorted(reasons)}


def without_bad(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out the errors that go away with the image sets that `bad_lines` gives."""
    return [f for f in findings if not (f.code.by_image_set and f.lines and errors([f]))]


def unmended(findings: Iterable[Finding]) -> list[Finding]:
    """Take the mends away, where the user wants none: what they would put right is wrong then."""
    return [replace(f, mends=()) for f in findings]


def exit_of(findings: Sequence[Finding]) -> Exit:
    """Give the exit code of a check: 66 where only missing files stop it."""
    codes = {f.code.exit for f in errors(findings)}
    if not codes:
        return Exit.OK
    return min(codes)
