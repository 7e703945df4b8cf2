"""Which verdicts no longer hold, and what the result has of them that must go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpcp import contested, imagelist
from bpcp.imagelist import Row
from bpcp.sources import Listed
from bpcp.tables import is_there
from bpcp.workspace import Json, Planned, Workspace, read_json, verdict, write_json


def supersede(workspace: Workspace, digests: dict[str, str]) -> None:
    """Remember the files of verdicts that no longer count, so that the merge can clear them."""
    if workspace.chunks.is_dir():
        verdicts = (read_json(folder / "done.json") for folder in workspace.chunks.iterdir())
        _remember(workspace, (v for v in verdicts if v and v["digest"] != digests.get(v["chunk"])))


def _remember(workspace: Workspace, verdicts: Iterable[Json]) -> None:
    files = {f["path"]: f["sha256"] for v in verdicts for p in v["parts"] for f in p["files"]}
    if files:
        write_json(workspace.superseded, {**(read_json(workspace.superseded) or {}), **files})


@dataclass(frozen=True)
class Today:
    """Where images are today: the root of relative folders, and what lies in a bucket."""

    root: Path
    remote: Listed


def find(
    workspace: Workspace, planned: Sequence[Planned], run: Json, remote: Listed
) -> tuple[list[str], list[str]]:
    """List the chunks whose verdicts no longer hold: by their images, and by what they saved.

    They don't where an image file changed since it was analysed, or a file that the chunk saved
    is gone or has another size. An image that is gone is no reason: its result would go too.

    Parameters
    ----------
    remote : Listed
        The images that lie in a bucket, as it has them today.
    """
    now = Today(Path(run["root"]), remote)
    verdicts = [(p, found) for p in planned if (found := verdict(workspace, p))]
    claims: dict[str, set[str]] = {}
    for _, done in verdicts:
        for file in (f for part in done["parts"] for f in part["files"]):
            claims.setdefault(file["path"], set()).add(file["sha256"])
    # of files that several chunks wrote with different content, one stays
    disputed = {path for path, contents in claims.items() if len(contents) > 1}
    changed = [p.id for p, done in verdicts if _inputs_changed(workspace, p, done, now)]
    gone = contested.lost(workspace, planned) if disputed else set()
    lost = [
        p.id for p, done in verdicts if p.id in gone or _outputs_lost(workspace, done, disputed)
    ]
    return changed, [chunk for chunk in lost if chunk not in changed]


def drop(
    workspace: Workspace,
    planned: Sequence[Planned],
    run: Json,
    remote: Listed,
    bad: Collection[int] = (),
) -> list[str]:
    """Drop the verdicts that no longer hold, and say why.

    Parameters
    ----------
    bad : collection of int
        Lines of image sets that must fail: whose files are bad, or that would save over what others
        saved. What an earlier run made of them is wrong.
    """
    changed, lost = find(workspace, planned, run, remote)
    wrong = [
        p.id
        for p in planned
        if p.id not in (*changed, *lost) and _measured_bad(workspace, p, Path(run["root"]), bad)
    ]
    for chunk in (*changed, *lost, *wrong):
        paths = workspace.chunk(chunk)
        _remember(workspace, [found for found in [read_json(paths.done)] if found])
        paths.done.unlink()
    notes = []
    if changed:
        notes.append(f"images changed: {len(changed)} chunks run again")
    if wrong:
        again = f"{len(wrong)} chunks run again"
        notes.append(f"image sets that fail now were measured before: {again}")
    if lost:
        notes.append(f"saved files are gone or changed: {len(lost)} chunks run again")
    return notes


def _measured_bad(workspace: Workspace, planned: Planned, root: Path, bad: Collection[int]) -> bool:
    """Tell whether a verdict calls an image set good whose files are there, and bad."""
    done = verdict(workspace, planned) if bad else None
    if done is None:
        return False
    paths = workspace.chunk(planned.id)
    images, first = imagelist.read(paths.images), paths.first
    failed = {f["image_set"] - first for f in done["failed"]}
    for i, line in enumerate(planned.lines):
        if line in bad and i not in failed:
            # what is gone since is no reason to give its result up
            names = imagelist.files(images.header, images.rows[i], root)
            if all(Path(name).exists() for _, name in names):
                return True
    return False


def _inputs_changed(workspace: Workspace, planned: Planned, done: Json, now: Today) -> bool:
    paths = workspace.chunk(planned.id)
    images = imagelist.read(paths.images)
    first = paths.first
    # image sets that failed are tried again anyway, whatever changed about their files
    failed = {f["image_set"] - first for f in done["failed"]}
    return any(
        imagelist.fingerprint(images.header, [images.rows[i]], now.root, now.remote) != known
        and not _is_gone(images.header, images.rows[i], now)
        for i, known in enumerate(done["inputs"])
        if i not in failed
    )


def _is_gone(header: Row, row: Row, now: Today) -> bool:
    """Tell whether an image set can't be analysed again; then what is known of it stays."""
    return not all(
        name in now.remote or imagelist.is_remote(name) or Path(name).exists()
        for _, name in imagelist.files(header, row, now.root)
    )


def _outputs_lost(workspace: Workspace, done: Json, disputed: set[str]) -> bool:
    for part in done["parts"]:
        for file in (f for f in part["files"] if f["path"] not in disputed):
            try:
                size = (workspace.analysis / file["path"]).stat().st_size
            except OSError:
                return True
            if size != file["size"]:
                return True
        tables = workspace.chunk(done["chunk"]).tables(part["part"])
        if not all(is_there(tables / name) for name in part["tables"]):
            return True
    return False
