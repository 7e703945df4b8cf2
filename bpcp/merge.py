"""Make one result of the chunks' tables: the one that a single process would have written.

Tables are streamed, a row at a time; memory does not grow with the data set.
"""

from __future__ import annotations

import csv
import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TextIO

from bpcp import __version__, contested, experiment, imagelist, inside, tables
from bpcp.database import once, to_server
from bpcp.database.merge import merge_database
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.imagelist import Type
from bpcp.publish import sha256
from bpcp.restore import (
    DamagedTableError,
    Restorer,
    Run,
    Source,
    Table,
    restored,
    runs,
    runs_as,
)
from bpcp.subfolders import Families, with_empty
from bpcp.tables import Kind, Summary
from bpcp.workspace import (
    Json,
    Planned,
    Workspace,
    locate,
    locked,
    read_json,
    read_plan,
    verdict,
    write_json,
)

# What waits with the tables and is none: databases have a format of their own.
_NO_TABLES = (Kind.DATABASE.value, Kind.PROPERTIES.value)
_EXPERIMENT = ["Experiment"]
FORMATS = ("csv", "parquet", "sqlite")
_OTHERS = tuple(f".{name}" for name in FORMATS[1:])


def sources(workspace: Workspace, plan: Sequence[Planned]) -> list[Source]:
    """List the parts of all chunks that are done.

    Raises
    ------
    BpcpError
        75 where chunks are not done.
    """
    found: list[Source] = []
    left = 0
    for planned in sorted(plan, key=lambda p: p.image_numbers[0]):
        done = verdict(workspace, planned)
        if done is None:
            left += 1
            continue
        paths = workspace.chunk(planned.id)
        first = paths.first
        for part in done["parts"]:
            numbers = planned.image_numbers[part["first"] - first : part["last"] - first + 1]
            summaries = {name: Summary.from_json(s) for name, s in part["tables"].items()}
            skipped = {n for own in part.get("skipped", {}).values() for n in own}
            folder = paths.tables(part["part"])
            found.append(
                Source(
                    folder,
                    part["output"],
                    part["first"],
                    tuple(numbers),
                    summaries,
                    part["mirror"],
                    skipped=frozenset(planned.image_numbers[n - first] for n in skipped),
                )
            )
    if left:
        raise BpcpError(
            Exit.STOPPED,
            f"{left} of {len(plan)} chunks are not done, so there is nothing to merge yet",
            "run the same ./run_analysis_pipeline.sh command again: it goes on where it stopped",
        )
    run = read_json(workspace.run) or {}
    declared = run.get("tables", [])
    patterns = [t["pattern"] for t in declared if t["objects"] == _EXPERIMENT]
    return with_empty(_one_experiment(found, patterns), run)


def _one_experiment(found: Sequence[Source], patterns: Sequence[str]) -> list[Source]:
    """Put the experiment tables of one export at one path: where the first image set put it.

    A process writes one such table, into the folder that its own first image set names.
    """
    homes: dict[str, str] = {}
    placed = []
    for source in found:
        elsewhere = {}
        for path, summary in source.summaries.items():
            if summary.shape.kind is Kind.EXPERIMENT:
                export = tables.nearest(path, patterns) or Path(path).name
                elsewhere[homes.setdefault(export, path)] = path
        moved = {own: home for home, own in elsewhere.items()}
        summaries = {moved.get(path, path): s for path, s in source.summaries.items()}
        placed.append(replace(source, summaries=summaries, elsewhere=elsewhere))
    return placed


def _write_body(
    table: Table, file: TextIO, order: Sequence[Run], found: Sequence[Source], restorer: Restorer
) -> None:
    writer = csv.writer(file, delimiter=table.shape.delimiter)
    if table.shape.heads == 2:
        writer.writerow([name.partition("\t")[0] for name in table.shape.header])
    writer.writerow([tables.feature(name) for name in table.shape.header])
    cursors: dict[int, _Cursor] = {}
    pieces_left = Counter(piece.source for piece in order)
    for piece in order:
        source = found[piece.source]
        if table.path in source.summaries and source.summaries[table.path].rows:
            cursor = cursors.get(piece.source)
            if cursor is None:
                cursor = cursors[piece.source] = _Cursor(restored(table, source, restorer))
            for row in cursor.until(piece.first + piece.count - 1):
                if isinstance(row, str):
                    file.write(row)
                else:
                    writer.writerow(row)
                table.rows += 1
        pieces_left[piece.source] -= 1
        if not pieces_left[piece.source] and piece.source in cursors:
            cursors.pop(piece.source).close()


class _Cursor:
    """A place in a source's rows, which are in the order of their ImageNumbers."""

    def __init__(self, stream: Generator[tuple[int, list[str] | str], None, None]) -> None:
        self._stream = stream
        self._ahead = next(stream, None)

    def until(self, last: int) -> Iterator[list[str] | str]:
        """Give the rows up to an ImageNumber."""
        while self._ahead is not None and self._ahead[0] <= last:
            yield self._ahead[1]
            self._ahead = next(self._stream, None)

    def close(self) -> None:
        """Close the file behind it."""
        self._stream.close()


def _write_relationships(
    table: Table, file: TextIO, order: Sequence[Run], found: Sequence[Source], restorer: Restorer
) -> None:
    """Write object relationships: all of one kind together, and in each the image sets in order."""
    writer = csv.writer(file, delimiter=table.shape.delimiter)
    writer.writerow(table.shape.header)
    in_order = list(dict.fromkeys(r.source for r in order))
    having = [found[i] for i in in_order if table.path in found[i].summaries]

    at = [table.shape.header.index(name) for name in tables.RELATIONSHIP_KIND]

    def kind(row: Sequence[str]) -> tuple[str, ...]:
        return tuple(row[i] for i in at)

    kinds: dict[tuple[str, ...], None] = {}
    for source in having:
        for row in tables.rows(source.file(table.path), table.shape):
            kinds.setdefault(kind(row))
    for wanted in kinds:
        for source in having:
            for _, cells in restored(table, source, restorer):
                if not isinstance(cells, str) and kind(cells) == wanted:
                    writer.writerow(cells)
                    table.rows += 1


@dataclass
class Merged:
    """What a merge wrote.

    Attributes
    ----------
    tables : dict of str to dict
        By path: `rows`, `columns`, `size` in bytes, `sha256`.
    removed : list of str
        Files that a single process would not have left there.
    loaded : dict of str to str
        By the SQLite file: what was loaded into a MySQL server, and into which.
    fresh : bool
        False where there was nothing to do.
    """

    tables: dict[str, Json] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    loaded: dict[str, str] = field(default_factory=dict)
    fresh: bool = True


def merge(workspace: Workspace) -> Merged:
    """Merge the chunks of a run.

    Raises
    ------
    BpcpError
        75 where chunks are not done, or what they saved is gone.
    """
    plan = read_plan(workspace)
    found = sources(workspace, plan)
    state = state_of(workspace, plan)
    last = read_json(workspace.merged) or {}
    if (
        last.get("state") == state
        and _still_there(workspace, last["tables"])
        and to_server.is_there(workspace, last.get("loaded", []))
    ):
        return Merged(last["tables"], fresh=False)
    files = contested.settle(workspace, plan)
    restorer = _restorer(workspace)
    order = runs(found)
    _allow_many_open_files()
    result = Merged()
    images: Path | None = None
    families = Families(found, read_json(workspace.run) or {})
    paths = families.paths
    shapes = {p: next(s.summaries[p].shape for s in found if p in s.summaries) for p in paths}
    # experiment tables may be made anew from the image table, properties from their database
    late = (Kind.DATABASE, Kind.EXPERIMENT, Kind.PROPERTIES)
    rank = {kind: late.index(kind) + 1 if kind in late else 0 for kind in Kind}
    for path in sorted(paths, key=lambda p: (rank[shapes[p].kind], p)):
        table = families.table(path)
        try:
            _write(workspace, table, order, found, restorer, images)
        except DamagedTableError as error:
            workspace.chunk(error.chunk).done.unlink(missing_ok=True)
            raise BpcpError(
                Exit.STOPPED,
                f"{path} of chunk {error.chunk} is damaged: {error}",
                "run the same ./run_analysis_pipeline.sh command again: that chunk runs anew",
            ) from error
        written = workspace.analysis / path
        if table.shape.kind is Kind.IMAGE and images is None:
            images = written
        if table.shape.kind not in late[1:]:
            _check_count(table, found)
        result.tables[path] = {
            "rows": table.rows,
            "columns": {tables.single(n): s.value for n, s in table.spellings.items()},
            "kind": table.shape.kind.value,
            "size": written.stat().st_size,
            "sha256": sha256(written),
        }
    result.loaded = to_server.send(workspace, result.tables)
    result.removed = _remove_superseded(workspace, files, last.get("tables", {}), result.tables)
    for name in last.get("other_formats", []):
        # of the tables as they were; they are written anew below, where they are still wanted
        file = inside.below(workspace.analysis, name, workspace.merged)
        if file.suffix in _OTHERS:
            file.unlink(missing_ok=True)
    write_json(
        workspace.merged,
        {
            "state": state,
            "tables": result.tables,
            "formats": last.get("formats", []),
            "loaded": list(result.loaded),
        },
    )
    return result


def write_again(workspace: Workspace, path: str, file: TextIO) -> None:
    """Write one table of the result once more, from the chunks' tables, to wherever `file` leads.

    Parameters
    ----------
    path : str
        Of a table that is text: no database, no properties file.
    file : text file
        Is handed the header and then each row by a call of its own.

    Raises
    ------
    BpcpError
        75 where chunks are not done.
    DamagedTableError
        Where a chunk's table is not as it was when the chunk was judged.
    """
    found = sources(workspace, read_plan(workspace))
    table = Families(found, read_json(workspace.run) or {}).table(path)
    order, restorer = runs(found), _restorer(workspace)
    as_processed = _as_processed(workspace, order, found)
    _allow_many_open_files()
    if table.shape.kind is Kind.EXPERIMENT:
        tables_of = {p: s.shape.kind for x in found for p, s in x.summaries.items()}
        images = next((p for p in sorted(tables_of) if tables_of[p] is Kind.IMAGE), None)
        at = workspace.analysis / images if images else None
        experiment.write(table, file, found, restorer, at, workspace.whole_batch)
    elif table.shape.kind is Kind.RELATIONSHIP:
        _write_relationships(table, file, as_processed, found, restorer)
    else:
        _write_body(table, file, order, found, restorer)


def _restorer(workspace: Workspace) -> Restorer:
    run = read_json(workspace.run) or {}
    return Restorer(
        str(workspace.analysis),
        tuple(accumulate(run["group_sizes"], initial=1)),
        # numbers are spelled as what was measured over them
        frozenset(name for name, kind in run["columns"].items() if kind == Type.TEXT.name),
        experiment.own_text(run),
        shows_batch=run.get("batch") == "given",
        packed=_packed(workspace, run),
        nulls=tuple(t["pattern"] for t in run.get("tables", []) if t.get("nulls")),
        listed_groups=tuple(map(tuple, run.get("group_numbers") or ())),
    )


def _packed(workspace: Workspace, run: Json) -> dict[int, str]:
    if run.get("batch") != "own":
        return {}
    from bpcp import batch

    return batch.packed(workspace.whole_batch)


def write_formats(workspace: Workspace, merged: Merged, asked: Sequence[str]) -> list[Path]:
    """Write the tables in other formats: those asked for, and those that were there before."""
    known = read_json(workspace.merged) or {}
    wanted = sorted({*known.get("formats", []), *asked} - {"csv"})
    # also where the last merge was ended before it came to them
    behind = merged.fresh or "other_formats" not in known
    new = wanted if behind else [name for name in wanted if name in asked]
    if not new:
        return []
    from bpcp import formats

    if "sqlite" in new and f"{workspace.tag}.sqlite" in merged.tables:
        raise BpcpError(
            Exit.BAD_SETTING,
            f"{workspace.tag}.sqlite is the pipeline's own database, which --format sqlite would"
            " write over",
            "give it another name in ExportToDatabase, or leave out --format sqlite",
        )
    made = formats.write(
        workspace, {p: t for p, t in merged.tables.items() if t["kind"] not in _NO_TABLES}, new
    )
    # as they are now; of the others, as they were when they were written
    contents = dict(known.get("other_contents", {}))
    for path in made:
        name = str(path.relative_to(workspace.analysis))
        contents[name] = {"size": path.stat().st_size, "sha256": sha256(path)}
    others = sorted({*contents, *known.get("other_formats", [])})
    known = {**known, "formats": wanted, "other_formats": others, "other_contents": contents}
    write_json(workspace.merged, known)
    return made


def state_of(workspace: Workspace, plan: Sequence[Planned]) -> str:
    """Give what a merge's result depends on, in one text."""
    parts = [__version__, str(workspace.analysis)]
    for planned in plan:
        done = verdict(workspace, planned) or {}
        parts += [planned.id, planned.digest, str(planned.image_numbers), done.get("finished", "")]
        parts += done.get("inputs", [])
        parts.append(",".join(f"{p['first']}-{p['last']}" for p in done.get("parts", [])))
    return imagelist.digest(parts)


def _still_there(workspace: Workspace, written: dict[str, Json]) -> bool:
    for path, known in written.items():
        file = workspace.analysis / path
        if (
            not file.is_file()
            or file.stat().st_size != known["size"]
            or sha256(file) != known["sha256"]
        ):
            return False
    return True


def _write(
    workspace: Workspace,
    table: Table,
    order: Sequence[Run],
    found: Sequence[Source],
    restorer: Restorer,
    images: Path | None,
) -> None:
    target = workspace.analysis / table.path
    temporary = target.with_name(f".{target.name}.merging")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        job = _job(workspace, table, order, found, restorer)
        if table.shape.kind is Kind.DATABASE:
            table.rows = _write_database(job, temporary)
        # what was written there already is only flushed
        with temporary.open("a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            if table.shape.kind is Kind.DATABASE:
                pass
            elif table.shape.kind is Kind.PROPERTIES:
                file.write(once.properties(job))
                table.rows = 1
            elif table.shape.kind is Kind.EXPERIMENT:
                experiment.write(table, file, found, restorer, images, workspace.whole_batch)
            elif table.shape.kind is Kind.RELATIONSHIP:
                _write_relationships(table, file, job.order, found, restorer)
            else:
                _write_body(table, file, order, found, restorer)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"can't write {target}: {error.strerror}",
            "make room, or mend its permissions; then: bpcp merge -d DATASET -p PIPELINE",
        ) from error
    finally:
        # where its folder can't be written, that is what must be said
        with suppress(OSError):
            temporary.unlink()


def _job(
    workspace: Workspace,
    table: Table,
    order: Sequence[Run],
    found: Sequence[Source],
    restorer: Restorer,
) -> once.Job:
    filters = once.makes_plate_filters(workspace.pipeline)
    order = _as_processed(workspace, order, found)
    servers = to_server.servers_of(workspace, found)
    return once.Job(table.path, found, order, restorer, workspace.attempts, filters, servers)


def _as_processed(
    workspace: Workspace, order: Sequence[Run], found: Sequence[Source]
) -> Sequence[Run]:
    """Give the pieces in the order in which CellProfiler processes and writes image sets."""
    numbers = (read_json(workspace.run) or {}).get("processed")
    return runs_as(found, numbers) if numbers else order


def _write_database(job: once.Job, temporary: Path) -> int:
    job.scratch.mkdir(parents=True, exist_ok=True)
    # below attempts/: whatever is killed here, the next start clears it away
    with tempfile.TemporaryDirectory(prefix="bpcp-merge-", dir=job.scratch) as scratch:
        return merge_database(replace(job, scratch=Path(scratch)), temporary)


def _check_count(table: Table, found: Sequence[Source]) -> None:
    expected = sum(s.summaries[table.path].rows for s in found if table.path in s.summaries)
    if expected != table.rows:
        raise BpcpError(
            Exit.BUG, f"{table.path}: {table.rows} rows merged, the chunks have {expected}"
        )


def _remove_superseded(
    workspace: Workspace, files: dict[str, str], before: dict[str, Json], now: dict[str, Json]
) -> list[str]:
    """Remove what earlier chunks or merges left, unless somebody changed it since."""
    stale = dict(read_json(workspace.superseded) or {})
    stale.update({path: known["sha256"] for path, known in before.items()})
    removed = []
    for path, content in stale.items():
        file = inside.below(workspace.analysis, path, workspace.superseded)
        if path not in files and path not in now and file.is_file() and sha256(file) == content:
            file.unlink()
            removed.append(path)
    workspace.superseded.unlink(missing_ok=True)
    return removed


def _allow_many_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(argv: Sequence[str]) -> int:
    """Merge a run's chunks, and write them in other formats where asked."""
    parser = Parser("merge")
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("-p", "--pipeline", required=True, type=Path)
    parser.add_argument("--format", action="append", choices=FORMATS, default=[])
    parser.add_argument("-q", "--quiet", action="store_true")
    args = parser.parse_args(argv)
    workspace = locate(args.dataset, args.pipeline)
    with locked(workspace):
        merged = merge(workspace)
        made = write_formats(workspace, merged, args.format)
    if not args.quiet:
        rows = sum(t["rows"] for t in merged.tables.values() if t["kind"] == "object")
        what = "merged" if merged.fresh else "merged already"
        kinds = [t["kind"] for t in merged.tables.values()]
        count = sum(kind not in _NO_TABLES for kind in kinds)
        others = [t["rows"] for t in merged.tables.values() if t["kind"] == Kind.DATABASE.value]
        also = "".join(f", a database of {n:,} image sets" for n in others)
        print(f"{what}: {count} tables, {rows:,} objects{also}", file=sys.stderr)
        for words in merged.loaded.values():
            print(f"        {words}", file=sys.stderr)
        for path in merged.removed:
            print(f"        removed {path}: no chunk makes it any more", file=sys.stderr)
        for file in made:
            print(f"        {file}", file=sys.stderr)
    return Exit.OK


if __name__ == "__main__":
    run_main("merge", main)
