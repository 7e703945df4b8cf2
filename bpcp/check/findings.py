"""A finding: what a check has to say, where, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

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
        65 or 66, where it is an error.
    """

    name: str
    severity: Severity
    summary: str
    exit: Exit = Exit.MALFORMED_INPUT


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


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Give those that stop a run."""
    return [f for f in findings if f.code.severity is Severity.ERROR and not f.mends]


def exit_of(findings: Sequence[Finding]) -> Exit:
    """Give the exit code of a check: 66 where only missing files stop it."""
    codes = {f.code.exit for f in errors(findings)}
    if not codes:
        return Exit.OK
    return min(codes)
