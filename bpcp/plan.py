"""Plan a run: what is run, by which CellProfiler, in which chunks; and write it down."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bpcp import (
    __version__,
    background,
    beside,
    binding,
    engine,
    explain,
    imagelist,
    mapping,
    pipeline,
    plan_files,
    preflight,
    stale,
    vet,
    widths,
)
from bpcp.access import add_options
from bpcp.check import databases
from bpcp.check.findings import bad_lines
from bpcp.check.servers import try_widths
from bpcp.cut import (
    Chunk,
    Cut,
    boundaries,
    chunks_of,
    contiguous,
    group_sizes,
    listed_groups,
    order,
    processed,
    witness_is_apart,
)
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.failure import RETRIES, STALL_MIN
from bpcp.folders import Moved
from bpcp.imagelist import ImageList, Row, row_text
from bpcp.imagesets import ImageSets
from bpcp.pipeline import Kind
from bpcp.publish import sha256
from bpcp.settings import Settings, settings_of
from bpcp.sources import Listed
from bpcp.vet import Vetted
from bpcp.workspace import (
    Json,
    Planned,
    Workspace,
    locate,
    locked,
    read_json,
    read_plan,
    verdict,
)

# Changes whenever what run-chunk does with the same input would give other results.
_RECIPE = "1"
_FORMATS = ("csv", "parquet", "sqlite")


@dataclass(frozen=True)
class Plan:
    """A plan, worked out; nothing is written yet.

    Attributes
    ----------
    run : dict
        What goes into run.json.
    pipeline : bytes
        The pipeline's text.
    chunks : list of Chunk
    vetted : Vetted
        The pipeline and the image sets that are run.
    remote : Listed
        The images that lie in a bucket.
    moved : Moved
        Folders that are elsewhere on this machine.
    bad : dict of int to str
        Lines of image sets that can't be analysed, and why.
    refused : dict of int to str
        Lines of image sets that would save over what others saved, and must not.
    seen : dict of int to str
        By line, what the files of image sets were that the check looked at.
    notes : list of str
        What the user should know.
    """

    run: Json
    pipeline: bytes
    chunks: list[Chunk]
    vetted: Vetted
    remote: Listed
    moved: Moved
    bad: dict[int, str]
    refused: dict[int, str]
    seen: dict[int, str]
    notes: list[str]

    @property
    def planned(self) -> list[Planned]:
        """The chunks' places, for plan.json."""
        return [Planned(c.id, c.digest, c.image_numbers, c.lines) for c in self.chunks]


def make(workspace: Workspace, pipe: pipeline.Pipeline, settings: Settings) -> Plan:
    """Work out a plan.

    Raises
    ------
    BpcpError
        65 where the list or the pipeline can't be run, 66 where one is missing, 69 where
        CellProfiler is.
    """
    old = read_json(workspace.run) or {}
    if Path(old.get("pipeline", pipe.path)).name != pipe.path.name and not settings.ask_again:
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"{workspace.analysis} holds the result of {old['pipeline']}, and {pipe.path} would"
            " go to the same place: their names are the same up to the first dot",
            "rename one of them; or put this one in its place with -w",
        )
    vetted = vet.vet(workspace, pipe, settings)
    remote = _remote(vetted.sets, settings)
    previous = _previous(workspace)
    done = _done(workspace, previous, settings, remote)
    looked = preflight.look(workspace, vetted, settings, remote, done)
    twice = preflight.saved_twice(vetted, settings, looked.bad)
    bad, refused, left_out = looked.bad, bad_lines(twice), []
    if settings.quarantine and (bad or refused):
        left_out = preflight.named(vetted.sets, {**bad, **refused})
        vetted, bad, refused = vet.without(vetted, {**bad, **refused}), {}, {}
    pipe, sets = vetted.pipe, vetted.sets
    images = sets.images
    cut = order(sets, pipe, settings.group_by)
    asked = engine.ask(pipe, sets, old, settings)
    vet.refuse(databases.of_widths(pipe, asked["widths"]), pipe)
    try_widths(pipe, asked["widths"], workspace)
    recipe = imagelist.digest(
        [
            _RECIPE,
            pipe.sha256,
            asked["version"],
            asked["python"],
            str(settings.source.input or settings.root) if _has_relative(images) else "",
            *beside.identity(pipe, settings),
            *(f"plugins/{name} {digest}" for name, digest in asked["plugins"].items()),
        ]
    )
    kept = _kept(workspace, settings, previous, old, recipe)
    places, why = places_of(pipe, settings, cut, kept, ramp=bool(remote))

    users = binding.place_users(pipe)
    whole = bool(users or sets.made)
    keys = pipe.group_keys
    bounded = partial(contiguous, bonds=cut.bonds)
    chunks = list(chunks_of(cut, bounded(places) if whole else places, whole, recipe, keys))
    if not all(witness_is_apart(cut, c, keys) for c in chunks):
        whole = True
        chunks = list(chunks_of(cut, bounded(places), whole, recipe))
    stages = _is_elsewhere(images, settings, remote) and not pipe.follows_folders()
    source = settings.source
    if remote:
        # signed or not: what chunks do must not hang on whether credentials are found each time
        source = replace(source, access=source.access.decided())
    run: Json = {
        "bpcp": __version__,
        "dataset": workspace.dataset,
        "pipeline": str(pipe.path),
        "file_sha256": sha256(pipe.path),
        "pipeline_sha256": pipe.sha256,
        "recipe": recipe,
        "last_module": max(m.number for m in pipe.modules),
        "image_list": str(_named_in(workspace, pipe)),
        "batch": _batch(sets),
        "image_sets": len(images.rows),
        "not_analysed": left_out,
        "checked": settings.check,
        "mends": [m.to_json() for m in vetted.mends],
        "columns": {c: t.name for c, t in zip(images.header, cut.types, strict=True)},
        "root": str(settings.root),
        "input_folder": str(settings.input_folder) if settings.input_folder else None,
        "tmpdir": str(settings.tmpdir) if settings.tmpdir else None,
        "source": source.to_json(),
        "output": settings.output,
        "ramdisk": settings.ramdisk,
        "space": settings.space,
        "retries": settings.retries,
        "stall_min": settings.stall_min,
        "gpus": settings.gpus,
        "stages": stages,
        "fetches": stages or bool(remote),
        "cutting": _cutting(settings),
        "chunks": len(chunks),
        "group_keys": list(pipe.group_keys),
        "group_sizes": group_sizes(cut),
        "group_numbers": listed_groups(cut),
        "processed": processed(cut),
        "reads_whole_list": whole,
        "cellprofiler": asked,
        "modules": engine.measuring_modules(pipe),
        "skips": engine.skips(pipe),
        "tables": engine.expected_tables(pipe, asked["objects"]),
    }
    # state that came back from a bucket holds only the rows of chunks that are done
    known = [row for _, rows in previous for row in rows]
    whole_list = len(known) == old.get("image_sets")
    changes = _changes(old, run, known if whole_list else [], images.rows)
    reads = explain.reading(cut, chunks, sets.made is not None, users if whole else None)
    said = [*preflight.said(looked, left_out), *preflight.said_twice(twice, refused)]
    notes = [*changes, *sets.notes, *vetted.notes, *said, why, reads]
    return Plan(
        run, pipe.text, chunks, vetted, remote, settings.moved, bad, refused, looked.seen, notes
    )


def _done(
    workspace: Workspace,
    previous: Sequence[tuple[Planned, list[Row]]],
    settings: Settings,
    remote: Listed,
) -> set[str]:
    """Give the rows of chunks that are done: images that were looked at are not again.

    A chunk whose verdict no longer holds runs again, so its images are looked at as they are now.
    """
    if not settings.check:
        return set()
    planned = [planned for planned, _ in previous]
    changed, lost = stale.find(workspace, planned, {"root": str(settings.root)}, remote)
    again = {*changed, *lost}
    found = ((rows, verdict(workspace, p)) for p, rows in previous if p.id not in again)
    return {
        row_text(row)
        for rows, done in found
        if done and not done["failed"] and done.get("checked")
        for row in rows
    }


def _named_in(workspace: Workspace, pipe: pipeline.Pipeline) -> Path:
    """Give the file of the user's that names the images."""
    if pipe.kind is Kind.BATCH:
        return pipe.path
    if pipe.reads_list:
        return workspace.image_list
    return workspace.file_list if workspace.file_list.is_file() else pipe.path


def _batch(sets: ImageSets) -> str | None:
    """Say whose batch file chunks read: "own", where bpcp had it made, "given", or none."""
    if sets.made is None:
        return None
    return "own" if sets.made.question else "given"


def _remote(sets: ImageSets, settings: Settings) -> Listed:
    """Look up the images that lie in a bucket."""
    images = sets.images
    named = (
        name
        for row in images.rows
        for _, name in imagelist.files(images.header, row, settings.root)
    )
    if sets.made:
        # CellProfiler knows how to read these, and can't be told of another place
        named = (name for name in named if not imagelist.is_remote(name))
    if settings.source.input is None:
        named = (name for name in named if name.lower().startswith("s3://"))
    names = dict.fromkeys(named)
    found = settings.source.look(names, settings.root) if names else {}
    if settings.source.input and not found and not any(Path(name).exists() for name in names):
        raise BpcpError(
            Exit.NO_INPUT,
            f"{settings.source.input} holds none of the {len(names):,} files that"
            " the image list names",
            f"the first would be {_where(next(iter(names)), settings)}",
        )
    return found


def _where(name: str, settings: Settings) -> str:
    place = settings.source.find(name, settings.root)
    return f"s3://{place[0]}/{place[1]}" if place else name


def _is_elsewhere(images: ImageList, settings: Settings, remote: Listed) -> bool:
    """Tell whether images should be brought to the disk that -t names; the first row decides."""
    if settings.tmpdir is None or settings.ramdisk:
        return bool(settings.ramdisk)
    here = settings.tmpdir.stat().st_dev
    for _, name in imagelist.files(images.header, images.rows[0], settings.root):
        try:
            if name in remote or Path(name).stat().st_dev != here:
                return True
        except OSError:
            continue
    return False


def _cutting(settings: Settings) -> Json:
    return {"chunk_size": settings.chunk_size, "group_by": list(settings.group_by)}


def _previous(workspace: Workspace) -> list[tuple[Planned, list[Row]]]:
    """Give the chunks of the last plan, with their rows."""
    planned = read_plan(workspace) if read_json(workspace.plan) else []
    return [(p, rows) for p in planned if (rows := _rows_of(workspace, p))]


def _kept(
    workspace: Workspace,
    settings: Settings,
    previous: Sequence[tuple[Planned, list[Row]]],
    old: Json,
    recipe: str,
) -> list[list[Row]]:
    """Choose which chunks of the last plan stay as they are."""
    if _cutting(settings) == old.get("cutting"):
        return [rows for _, rows in previous]
    # asked to cut otherwise: only what is done, and would not run again anyway, unless with -w
    if settings.ask_again or old.get("recipe") != recipe:
        return []
    return [rows for p, rows in previous if verdict(workspace, p)]


def places_of(
    pipe: pipeline.Pipeline,
    settings: Settings,
    cut: Cut,
    kept: list[list[Row]],
    *,
    ramp: bool = False,
) -> tuple[list[list[int]], str]:
    """Choose which rows make a chunk, and say why."""
    count = len(cut.images.rows)
    size, one_each = settings.chunk_size, False
    if users := binding.count_users(pipe, count):
        size = count
        kept = [rows for rows in kept if len(rows) == count]
        why = f"one process: {_list(users)} names files by the number of all image sets"
    elif users := binding.needing_all(pipe):
        none = "" if pipe.group_keys else "; the pipeline has no groups"
        why = f"one process: {_list(users)} needs all image sets{none}"
    else:
        one_each = bool(settings.group_by) and size is None
        why = explain.size(cut, pipe, settings)
    return boundaries(cut, kept, size, settings.slots, one_each=one_each, ramp=ramp), why


def _has_relative(images: ImageList) -> bool:
    at = [i for i, c in enumerate(images.header) if c.startswith(("PathName_", "ObjectsPathName_"))]
    return any(not row[i].startswith("/") for row in images.rows for i in at)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _rows_of(workspace: Workspace, planned: Planned) -> list[Row] | None:
    """Read back the rows of a chunk of the last plan, without its witness."""
    try:
        return list(
            imagelist.read(workspace.chunk(planned.id).images).rows[: len(planned.image_numbers)]
        )
    except BpcpError:
        return None


def _changes(
    old: Json, run: Json, rows_before: Sequence[Row], rows_now: Sequence[Row]
) -> list[str]:
    """Say what changed since the last plan, and so why things run again."""
    if not old:
        return []
    every = "every image set runs again"
    found = []
    if old.get("pipeline_sha256") != run["pipeline_sha256"]:
        found.append(f"the pipeline changed: {every}")
    before, now = (
        f"{engine.get('version')}"
        + (f" on Python {engine['python']}" if engine.get("python") else "")
        for engine in (old["cellprofiler"], run["cellprofiler"])
    )
    if before != now:
        found.append(f"CellProfiler changed from {before} to {now}: {every}")
    if plugins := _differ(old["cellprofiler"].get("plugins", {}), run["cellprofiler"]["plugins"]):
        found.append(f"plugins changed ({plugins}): {every}")
    if not found and old.get("recipe") != run["recipe"]:
        found.append(f"a file that the pipeline reads, or the root of the images, changed: {every}")
    for name, kind in run["columns"].items():
        was = old["columns"].get(name, kind)
        if was != kind:
            found.append(f"{name} is {kind.lower()} now, was {was.lower()}: {every}")
    if old["columns"].keys() != run["columns"].keys():
        found.append(f"the columns of the image list changed: {every}")
    elif rows_before:
        counted, counts = Counter(rows_before), Counter(rows_now)
        new, gone = (counts - counted).total(), (counted - counts).total()
        if new or gone:
            found.append(f"the image list changed: {new:,} image sets new, {gone:,} gone")
    return found


def _differ(before: Json, now: Json) -> str:
    """Name the files that changed, came or went, three at most."""
    names = sorted({name for name, _ in before.items() ^ now.items()})
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("plan")
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("-p", "--pipeline", required=True, type=Path)
    parser.add_argument("-t", "--tmpdir", type=Path)
    parser.add_argument("--ramdisk", default="")
    parser.add_argument("--space", default="")
    parser.add_argument("-k", "--group_by_plate", action="store_true")
    parser.add_argument("-c", "--create_groups_from_data_file", action="store_true")
    parser.add_argument("-w", "--overwrite_batchfile", action="store_true")
    parser.add_argument("--group-by", default="")
    parser.add_argument("--map", action="append", default=[])
    parser.add_argument("-i", "--input-folder", default="")
    parser.add_argument("--no-check", action="store_true")
    parser.add_argument("--no-fix", action="store_true")
    parser.add_argument("--quarantine", action="store_true")
    parser.add_argument("--chunk-size", type=int)
    parser.add_argument("--input", default="")
    parser.add_argument("--output", default="")
    add_options(parser)
    parser.add_argument("--retries", type=int, default=RETRIES)
    parser.add_argument("--stall-min", type=float, default=STALL_MIN)
    parser.add_argument("--plugins-directory", type=Path)
    parser.add_argument("--gpus", type=int)
    parser.add_argument("--slots", type=int, default=0)
    parser.add_argument("--format", action="append", choices=_FORMATS, default=[])
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Plan a run, or say how it would be cut."""
    args = parse(argv)
    workspace = locate(args.dataset, args.pipeline)
    settings = settings_of(args, workspace)
    pipe = engine.read(args.pipeline, settings.plugins)
    if not args.quiet:
        # at once: a plan that fails for want of images may fail for this
        for said in mapping.idle(workspace, pipe, settings):
            print(f"warning: {said}", file=sys.stderr)
    with background.tidily():
        if args.dry_run:
            plan = make(workspace, pipe, settings)
            _check_formats(plan, args.format)
        else:
            with locked(workspace):
                plan = make(workspace, pipe, settings)
                _check_formats(plan, args.format)
                plan_files.write(workspace, plan)
                dropped = stale.drop(
                    workspace, plan.planned, plan.run, plan.remote, {**plan.bad, **plan.refused}
                )
                plan.notes[:0] = dropped
    found = stale.find(workspace, plan.planned, plan.run, plan.remote)
    again = {chunk for chunks in found for chunk in chunks}
    states = [
        "done" if verdict(workspace, p) and p.id not in again else "to do" for p in plan.planned
    ]
    if not args.quiet:
        words = explain.describe(plan.run, plan.chunks, args.slots or settings.slots)
        print(f"plan: {words}", file=sys.stderr)
        if done := states.count("done"):
            print(f"      {done} of {len(states)} chunks are done already", file=sys.stderr)
        for note in plan.notes:
            print(f"      {note}", file=sys.stderr)
    if args.dry_run:
        print("chunk\timage_sets\tfirst\tlast\tfirst_row\tstate")
        for chunk, state in zip(plan.chunks, states, strict=True):
            numbers = chunk.image_numbers
            label = explain.label(plan.vetted.sets.images.header, chunk)
            print(f"{chunk.id}\t{len(numbers)}\t{numbers[0]}\t{numbers[-1]}\t{label}\t{state}")
    return Exit.OK


def _check_formats(plan: Plan, formats: Sequence[str]) -> None:
    if "sqlite" in formats:
        widths.check_sqlite(*plan.run["cellprofiler"]["widest"])


if __name__ == "__main__":
    run_main("plan", main)
