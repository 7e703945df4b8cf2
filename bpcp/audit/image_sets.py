"""Account for every image set: the user's list, the plan, and what the chunks say of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpcp import imagelist, imagesets, pipeline, selection, stale
from bpcp.audit.outcome import Fault, Outcome, Remedies, counted, shown
from bpcp.check.pipeline import row_range
from bpcp.errors import BpcpError
from bpcp.folders import FOLDERS, lasting
from bpcp.imagelist import ImageList, Row
from bpcp.mend import Mend, unmended
from bpcp.pipeline import Kind
from bpcp.publish import sha256
from bpcp.sources import Listed
from bpcp.tables import is_there
from bpcp.workspace import Json, Planned, Workspace, read_json, read_plan, to_ranges


@dataclass
class Account:
    """What is known of each image set.

    Attributes
    ----------
    plan : list of Planned
    run : dict
    verdicts : dict of str to dict
        By chunk; only those that count.
    good : set of int
        The ImageNumbers of the image sets that are done.
    skipped : dict of int to str
        What skipped those of the good ones that the pipeline left before its last module.
    failed : dict of int to str
        The reasons of the others that have a verdict, by ImageNumber.
    rows : dict of str to (header, rows)
        By chunk: its image sets as it is given them.
    """

    plan: list[Planned]
    run: Json
    verdicts: dict[str, Json] = field(default_factory=dict)
    good: set[int] = field(default_factory=set)
    skipped: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    rows: dict[str, tuple[Row, tuple[Row, ...]]] = field(default_factory=dict)


def account(workspace: Workspace, outcome: Outcome) -> Account:
    """Count the image sets, and say which are not accounted for exactly once.

    Raises
    ------
    BpcpError
        66 where nothing is planned.
    """
    plan = read_plan(workspace)
    found = Account(plan, read_json(workspace.run) or {})
    remedies = Remedies(workspace)
    quarantine = found.run.get("not_analysed", [])
    outcome.quarantine = list(quarantine)
    outcome.not_analysed = len(quarantine)
    outcome.total = sum(len(p.image_numbers) for p in plan) + len(quarantine)
    for planned in plan:
        outcome.faults += _chunk(workspace, found, outcome, planned, remedies.run)
    outcome.faults += _numbers(found, remedies.run)
    outcome.faults += _listed(workspace, found, outcome, remedies.run)
    _stale(workspace, found, outcome, remedies.run)
    outcome.failed = len(found.failed)
    outcome.with_objects = len(found.good - found.skipped.keys())
    outcome.skipped = dict(Counter(found.skipped.values()))
    return found


def _chunk(
    workspace: Workspace, found: Account, outcome: Outcome, planned: Planned, todo: str
) -> Iterator[Fault]:
    """Read what a chunk is given and its verdict; each of its image sets must stand there once."""
    paths = workspace.chunk(planned.id)
    chunk = read_json(paths.chunk) or {}
    numbers = planned.image_numbers
    try:
        images = imagelist.read(paths.images)
        found.rows[planned.id] = (images.header, images.rows[: len(numbers)])
    except BpcpError as error:
        yield Fault(f"chunk {planned.id}: {error}", todo, chunk=planned.id)
    copy = workspace.pipeline
    given = chunk.get("pipeline_sha256")
    if chunk.get("digest") != planned.digest:
        yield Fault(f"chunk {planned.id} is not given what was planned", todo, chunk=planned.id)
    elif given and not (copy.is_file() and sha256(copy) == given):
        yield Fault(f"{copy} is not the pipeline of chunk {planned.id}", todo, chunk=planned.id)
    done = read_json(paths.done)
    if done is None or done.get("digest") != planned.digest:
        outcome.left += len(numbers)
        why = (
            "no verdict"
            if done is None
            else "its verdict is of another list, pipeline or CellProfiler"
        )
        outcome.waits.append(f"chunk {planned.id}, ImageNumber {to_ranges(numbers)}: {why}")
        return
    found.verdicts[planned.id] = done
    first = int(chunk.get("first", 1))
    claims: Counter[int] = Counter()
    for part in done["parts"]:
        claims.update(range(part["first"], part["last"] + 1))
        for by, own_numbers in part.get("skipped", {}).items():
            found.skipped.update({numbers[n - first]: by for n in own_numbers})
    found.good.update(numbers[n - first] for n in claims if 0 <= n - first < len(numbers))
    for failed in done["failed"]:
        own = int(failed["image_set"])
        claims[own] += 1
        if not failed.get("reason"):
            number = numbers[own - first] if 0 <= own - first < len(numbers) else None
            what = f"failed in chunk {planned.id} without a reason"
            yield Fault(what, todo, image_number=number, chunk=planned.id)
        if 0 <= own - first < len(numbers):
            number = numbers[own - first]
            found.failed[number] = str(failed.get("reason", ""))
            outcome.failures.append(
                {
                    "image_number": number,
                    "line": planned.lines[own - first],
                    "reason": failed.get("reason", ""),
                    "file": failed.get("file"),
                    "log": failed.get("log"),
                    "chunk": planned.id,
                }
            )
    remedy = f"rm {paths.done}, then {todo}"
    for own, number in enumerate(numbers, first):
        if claims[own] != 1:
            what = f"{claims[own]} verdicts of chunk {planned.id} on it" if claims[own] else (
                f"chunk {planned.id} has neither a result of it nor a reason"
            )  # fmt: skip
            yield Fault(what, remedy, image_number=number, chunk=planned.id)
    if strange := sorted(n for n in claims if not 0 <= n - first < len(numbers)):
        what = f"chunk {planned.id} has verdicts on image sets that are not its own: {strange[0]}"
        yield Fault(what, remedy, chunk=planned.id)


def _numbers(found: Account, todo: str) -> Iterator[Fault]:
    """Each ImageNumber of the run must be in one chunk."""
    planned = Counter(n for p in found.plan for n in p.image_numbers)
    every = range(1, int(found.run.get("image_sets", len(planned))) + 1)
    for numbers, what in (
        ([n for n in every if not planned[n]], "in no chunk"),
        (sorted(n for n in planned if planned[n] > 1), "in two chunks"),
        (sorted(n for n in planned if n not in every), "not part of the run, but in a chunk"),
    ):
        if numbers:
            count = f"{len(numbers):,} image sets are" if len(numbers) > 1 else "it is"
            what = f"{count} {what} ({to_ranges(numbers)})"
            yield Fault(what, todo, image_number=numbers[0])


# --- the user's list ------------------------------------------------------------------------------


def _listed(workspace: Workspace, found: Account, outcome: Outcome, todo: str) -> Iterator[Fault]:
    """Compare the list as it is today, row by row, with what the chunks are given."""
    try:
        images = _list_of(workspace, found.run)
    except BpcpError as error:
        outcome.warnings.append(f"the image sets are not compared with the list: {error}")
        return
    if images is None:
        return
    columns = [c for c in images.header if not c.startswith(FOLDERS)]
    given: Counter[Row] = Counter()
    planned_at: dict[int, Row] = {}
    for planned in found.plan:
        header, rows = found.rows.get(planned.id, ((), ()))
        for line, row in zip(planned.lines, rows, strict=False):
            planned_at[line] = _cells(header, row, columns)
            given[planned_at[line]] += 1
    today = {
        line: _cells(images.header, row, columns)
        for line, row in zip(images.lines, images.rows, strict=True)
    }
    left_out = {int(x["line"]) for x in found.run.get("not_analysed", [])}
    wanted = _selected(workspace, found.run, images) - left_out
    missing = []
    for line, cells in today.items():
        if given[cells]:
            given[cells] -= 1
        elif line in wanted:
            missing.append(line)
    yield from (Fault(f"{place(found.run, line)} is in no chunk", todo) for line in missing)
    if gone := +given:
        line = min(line for line, cells in planned_at.items() if cells in gone)
        what = f"{counted(gone.total(), 'image set')} of the run no longer in the list: the first"
        yield Fault(f"{what} was {place(found.run, line)}", todo)
    elif not missing and any(today.get(line) != cells for line, cells in planned_at.items()):
        yield Fault("the order of the list changed, and with it the ImageNumbers", todo)


def place(run: Json, line: int) -> str:
    """Say where the user finds an image set: a line of the list, or its number in a batch file."""
    return f"image set {line}" if run.get("batch") else f"line {line} of load_data.csv"


def _list_of(workspace: Workspace, run: Json) -> ImageList | None:
    """Read the image sets that the user asks for today."""
    if not run.get("image_list"):
        return None
    if not run.get("batch"):
        return imagelist.read(Path(run["image_list"]))
    from bpcp import batch

    # what CellProfiler made of the list of files; made anew, when that changes, by the next plan
    path = workspace.batch if run["batch"] == "own" else Path(run["image_list"])
    return batch.read(path).images


def _selected(workspace: Workspace, run: Json, images: ImageList) -> set[int]:
    """Give the lines that plates, wells and LoadData's own range let through."""
    if not run.get("batch") and workspace.pipeline.is_file():
        text = workspace.pipeline.read_text(encoding="utf-8", errors="surrogateescape")
        # the range is mended away in the run's copy
        own = unmended(text, [Mend(**known) for known in run.get("mends", [])])
        data = own.encode("utf-8", "surrogateescape")
        rows = row_range(pipeline.of_text(workspace.pipeline, data, Kind.TEXT))
        images = imagesets.in_range(images, rows) if rows else images
    try:
        images, _ = selection.select(images, workspace)
    except BpcpError:
        # metadata/ names what the list does not have: it was not used (-c), or changed since
        return set(images.lines)
    return set(images.lines)


def _cells(header: Row, row: Row, columns: Sequence[str]) -> Row:
    """Give what tells image sets apart wherever the images' folders are on this machine."""
    at = dict(zip(header, row, strict=True))
    return tuple(lasting(c, at.get(c, "")) for c in columns)


# --- verdicts that no longer hold -----------------------------------------------------------------


def _stale(workspace: Workspace, found: Account, outcome: Outcome, todo: str) -> None:
    """Say which verdicts are of images that changed since, and what else runs again by itself."""
    root = Path(found.run["root"])
    # of images in a bucket, what was known when the run was planned
    remote = {
        name: tuple(known)
        for p in found.plan
        for name, known in (read_json(workspace.chunk(p.id).remote) or {}).items()
    }
    there = [p for p in found.plan if p.id in found.rows]
    changed, lost = stale.find(workspace, there, found.run, remote)
    for planned in there:
        if planned.id in changed:
            outcome.faults += _changed(workspace, found, planned, root, remote, todo)
        elif planned.id in lost:
            parts = found.verdicts[planned.id]["parts"]
            waiting = workspace.chunk(planned.id).tables
            if not all(is_there(waiting(p["part"]) / name) for p in parts for name in p["tables"]):
                outcome.warnings.append(
                    f"chunk {planned.id}: its own tables are gone; the next run runs it again"
                )


def _changed(
    workspace: Workspace,
    found: Account,
    planned: Planned,
    root: Path,
    remote: Listed,
    todo: str,
) -> Iterator[Fault]:
    """Name the image sets of a chunk whose images changed since it was done."""
    done = found.verdicts[planned.id]
    header, rows = found.rows[planned.id]
    before = workspace.chunk(planned.id).done.stat().st_mtime
    for number, line, row, known in zip(
        planned.image_numbers, planned.lines, rows, done["inputs"], strict=False
    ):
        if number in found.failed:
            continue
        if imagelist.fingerprint(header, [row], root, remote) == known:
            continue
        names = [name for _, name in imagelist.files(header, row, root)]
        here = [Path(name) for name in names if Path(name).is_file()]
        newer = [str(path) for path in here if path.stat().st_mtime > before]
        which = shown((newer or names)[0])
        what = f"{which} changed since it was analysed ({place(found.run, line)})"
        yield Fault(what, todo, image_number=number, chunk=planned.id)
