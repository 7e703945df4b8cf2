"""Look at the image files of a run before it starts, and say which image sets can't be analysed."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

from bpcp.check.findings import errors, exit_of, without_bad
from bpcp.errors import BpcpError
from bpcp.imagelist import ImageList, row_text
from bpcp.imagesets import ImageSets
from bpcp.settings import Settings
from bpcp.sources import Listed
from bpcp.vet import Vetted
from bpcp.workspace import Json, Workspace

_SHOWN = 3


def bad_images(
    workspace: Workspace,
    vetted: Vetted,
    settings: Settings,
    remote: Listed,
    done: Collection[str],
) -> dict[int, str]:
    """Look at all files of the image sets that are still to be run.

    Parameters
    ----------
    done : collection of str
        The rows that are done, as `imagelist.row_text` gives them.

    Returns
    -------
    dict of int to str
        For the lines of image sets that can't be analysed: why.

    Raises
    ------
    BpcpError
        65 or 66 where none can be.
    """
    images = vetted.sets.images
    at = [i for i, row in enumerate(images.rows) if row_text(row) not in done]
    if not settings.check or not at:
        return {}
    from bpcp.check.all import Asked, run
    from bpcp.check.progress import Progress

    left = ImageList(
        images.header, tuple(images.rows[i] for i in at), tuple(images.lines[i] for i in at)
    )
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
    return checked.bad


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


def said(bad: dict[int, str], left_out: Sequence[Json]) -> list[str]:
    """Say what becomes of bad image sets."""
    if left_out:
        return [f"quarantine: {len(left_out):,} image sets are not analysed: bpcp status"]
    if not bad:
        return []
    first = [f"line {line}: {why}" for line, why in list(bad.items())[:_SHOWN]]
    more = [f"and {len(bad) - _SHOWN:,} more"] if len(bad) > _SHOWN else []
    head = f"bad images: {len(bad):,} image sets will fail (--quarantine leaves them out)"
    return [head, *(f"  {words}" for words in (*first, *more))]
