"""Vet a run: its pipeline mended in a copy, its image sets, and what stands in the way."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bpcp import beside, imagesets
from bpcp.check.findings import Finding, Severity, errors, exit_of, unmended
from bpcp.check.pipeline import of_broken, of_folder, of_pipeline, row_range
from bpcp.check.servers import of_servers
from bpcp.errors import BpcpError, Exit
from bpcp.imagesets import ImageSets
from bpcp.mend import Mend
from bpcp.pipeline import Pipeline
from bpcp.pipeline import mended as pipe_mended
from bpcp.probe import answer
from bpcp.settings import Settings
from bpcp.workspace import Workspace


@dataclass(frozen=True)
class Vetted:
    """What is run.

    Attributes
    ----------
    pipe : Pipeline
        The user's, mended.
    sets : ImageSets
    mends : list of Mend
        How it was mended.
    warnings : list of str
        What may make the result other than the user wants.
    """

    pipe: Pipeline
    sets: ImageSets
    mends: list[Mend]
    warnings: list[str]

    @property
    def notes(self) -> list[str]:
        """What the user should know."""
        # one thing may take several settings
        return [*dict.fromkeys(f"mended: {m.said}" for m in self.mends), *self.warnings]


def vet(workspace: Workspace, pipe: Pipeline, settings: Settings) -> Vetted:
    """Mend what can be, and refuse what would fail.

    Raises
    ------
    BpcpError
        65 or 66 with the first thing that is wrong; 69 where CellProfiler is missing.
    """
    # twice: a batch file is made with the mended pipeline, and some findings need the image sets
    where = beside.places(pipe, settings)
    first = [
        *of_pipeline(pipe, None, where),
        *of_folder(pipe, _tables_made_in(workspace, pipe, settings)),
        *of_servers(pipe, workspace),
    ]
    mends = _mends(first, pipe, settings)
    ready = pipe_mended(pipe, mends)
    # of what CellProfiler will run: chunks write no MySQL, for one
    refuse(of_broken(ready, answer.of_this(), settings.plugins), pipe)
    sets = imagesets.of_run(workspace, ready, settings, row_range(pipe))
    found = of_pipeline(ready, sets.images, where)
    more = _mends(found, pipe, settings)
    # what the plan itself says about groups it says better
    warnings = [
        f"warning: {f.place}: {f.what}"
        for f in found
        if f.code.severity is Severity.WARNING
        and not f.mends
        and f.code.name != "pipeline-aggregates"
    ]
    if sets.unused:
        warnings.append(f"warning: {sets.unused}")
    return Vetted(pipe_mended(ready, more), sets, [*mends, *more], warnings)


def _tables_made_in(workspace: Workspace, pipe: Pipeline, settings: Settings) -> Path:
    """Give the folder of the processes that make a database's tables."""
    if pipe.reads_list:
        return settings.tmpdir or workspace.attempts
    # as imagesets.batch_file: attempts find the tables made
    if settings.tmpdir and settings.tmpdir.is_dir():
        return settings.tmpdir
    return Path(tempfile.gettempdir())


def _mends(found: Sequence[Finding], pipe: Pipeline, settings: Settings) -> list[Mend]:
    if not settings.mend:
        found = unmended(found)
    refuse(found, pipe)
    return [m for finding in found for m in finding.mends]


def refuse(findings: Iterable[Finding], pipe: Pipeline) -> None:
    """Raise the first of the errors that were found in a pipeline, if there are any.

    Raises
    ------
    BpcpError
        With the exit code of all.
    """
    found = list(findings)
    if wrong := errors(found):
        first = wrong[0]
        more = f" (and {len(wrong) - 1} more: bpcp check)" if len(wrong) > 1 else ""
        where = "" if first.place == str(pipe.path) else f"{first.place}: "
        raise BpcpError(exit_of(found), f"{pipe.path}: {where}{first.what}{more}", first.remedy)


def without(vetted: Vetted, bad: Collection[int]) -> Vetted:
    """Leave image sets out, by their lines.

    Raises
    ------
    BpcpError
        65 where none is left.
    """
    sets = imagesets.without(vetted.sets, bad)
    if not sets.images.rows:
        raise BpcpError(Exit.MALFORMED_INPUT, "no image set is left to analyse", "bpcp check")
    return replace(vetted, sets=sets)
