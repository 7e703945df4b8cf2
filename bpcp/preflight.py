"""Look at the image files of a run before it starts, and say which image sets can't be analysed."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bpcp import imagelist
from bpcp.beside import places
from bpcp.check.findings import (
    Finding,
    Severity,
    bad_lines,
    errors,
    exit_of,
    without_bad,
)
from bpcp.errors import BpcpError
from bpcp.imagelist import row_text
from bpcp.imagesets import ImageSets
from bpcp.settings import Settings
from bpcp.sources import Listed
from bpcp.vet import Vetted
from bpcp.workspace import Json, Workspace

_SHOWN = 3


@dataclass(frozen=True)
class Looked:
    """What a look at the files found.

    Attributes
    ----------
    bad : dict of int to str
        For the lines of image sets that can't be analysed: why.
    warnings : list of str
        What may make the result other than the user wants.
    unit : str
        What lines count: lines of the list, or image sets of a batch file.
    seen : dict of int to str
        By line, what the files were that were looked at, as `imagelist.fingerprint` says.
    """

    bad: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unit: str = "line"
    seen: dict[int, str] = field(default_factory=dict)


def look(
    workspace: Workspace,
    vetted: Vetted,
    settings: Settings,
    remote: Listed,
    done: Collection[str],
) -> Looked:
    """Look at all files of the image sets that were not looked at before.

    Parameters
    ----------
    done : collection of str
        The rows that are done, and were looked at before, as `imagelist.row_text` gives them.

    Raises
    ------
    BpcpError
        65 or 66 where none can be analysed.
    """
    images = vetted.sets.images
    at = [i for i, row in enumerate(images.rows) if row_text(row) not in done]
    if not settings.check or not at:
        return Looked()
    from bpcp.check.all import Asked, run
    from bpcp.check.progress import Progress

    left = images.only(at)
    # before they are looked at: what changes from now on is looked at again
    root = settings.root
    seen = {
        line: imagelist.fingerprint(left.header, [row], root, remote)
        for line, row in zip(left.lines, left.rows, strict=True)
    }
    progress = Progress()
    shows = sys.stderr.isatty()
    asked = Asked(mend=settings.mend, load=False, told=progress.told if shows else None)
    try:
        checked = run(workspace, vetted.pipe, settings, asked, left, remote)
    finally:
        progress.end()
    wrong = errors(without_bad(checked.findings))
    if len(checked.bad) == len(images.rows):
        # nothing is done, and nothing can be
        wrong = errors(checked.findings)
    if wrong:
        more = f" (and {len(wrong) - 1:,} more: bpcp check)" if len(wrong) > 1 else ""
        raise BpcpError(exit_of(wrong), f"{wrong[0].place}: {wrong[0].what}{more}", wrong[0].remedy)
    warned = [
        f"{f.place}: {f.what}"
        for f in checked.findings
        # what concerns the pipeline is told where it is mended
        if f.code.severity is Severity.WARNING and not f.code.name.startswith("pipeline-")
    ]
    return Looked(checked.bad, warned, checked.unit, seen)


def saved_twice(vetted: Vetted, settings: Settings, bad: Collection[int]) -> list[Finding]:
    """Find the names that several of the good image sets save."""
    from bpcp.check.saving import of_saving

    images = vetted.sets.images
    good = images.only([i for i, line in enumerate(images.lines) if line not in bad])
    types = dict(zip(images.header, vetted.sets.types, strict=True))
    found = of_saving(vetted.pipe, good, places(vetted.pipe, settings), types)
    refused = errors(found)
    if refused and len(bad_lines(refused)) == len(images.rows):
        raise BpcpError(
            exit_of(refused), f"{refused[0].place}: {refused[0].what}", refused[0].remedy
        )
    return found


def said_twice(found: Sequence[Finding], refused: Collection[int]) -> list[str]:
    """Say which names are saved twice, and how many image sets fail for it."""
    warned = [f for f in found if f.code.severity is Severity.WARNING]
    lines = [f"warning: {f.place}: {f.what}" for f in warned]
    if refused:
        lines.append(f"saved before: {_image_sets(len(refused))} will fail")
        lines += _first([f"{f.place}: {f.what}" for f in errors(found)])
    return lines


def named(sets: ImageSets, bad: dict[int, str]) -> list[Json]:
    """Give image sets with their metadata and what is wrong with them, for run.json."""
    header = sets.images.header
    rows = dict(zip(sets.images.lines, sets.images.rows, strict=True))
    return [
        {
            "line": line,
            "image_set": {
                name[9:]: cell
                for name, cell in zip(header, rows[line], strict=True)
                if name.startswith("Metadata_")
            },
            "reason": reason,
        }
        for line, reason in bad.items()
    ]


def said(looked: Looked, left_out: Sequence[Json]) -> list[str]:
    """Say what becomes of bad image sets, and what else was seen."""
    lines = []
    if left_out:
        lines.append(f"quarantine: {_image_sets(len(left_out))} not analysed: bpcp status")
    elif looked.bad:
        n = _image_sets(len(looked.bad))
        lines.append(f"bad images: {n} will fail (--quarantine leaves them out)")
        lines += _first([f"{looked.unit} {line}: {why}" for line, why in looked.bad.items()])
    if looked.warnings:
        count = len(looked.warnings)
        lines.append(f"{count:,} warning{'s' if count > 1 else ''}: bpcp check says more")
        lines += _first(looked.warnings)
    return lines


def _first(words: Sequence[str]) -> list[str]:
    more = [f"and {len(words) - _SHOWN:,} more"] if len(words) > _SHOWN else []
    return [f"  {line}" for line in (*words[:_SHOWN], *more)]


def _image_sets(count: int) -> str:
    return f"{count:,} image set{'s' if count > 1 else ''}"
