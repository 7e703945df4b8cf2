"""run-chunk: give one chunk to CellProfiler, judge what comes out, publish it, and say so.

An attempt works in a private folder. What it wrote is judged by content; tables then wait beside
the chunk for the merge, all other files go to the result, and `done.json` is written last. An
attempt that fails is cut down: what the log shows to be the culprit runs alone, and the rest
without it, until only the image sets that fail by themselves are left, each with its reason.

This runs once for each chunk, so it imports nothing heavy.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar

from bpcp import imagelist, staging
from bpcp.chunk import admission
from bpcp.chunk.attempt import Attempt, Task, Unit, now
from bpcp.chunk.isolate import Account, Isolation
from bpcp.chunk.readable import Images
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.failure import Kind, is_full, kind_of
from bpcp.publish import clear, move, publish, sha256
from bpcp.workspace import Json, Workspace, hold, of_status, read_json, write_json

_Made = TypeVar("_Made")
_PLAN_AGAIN = "plan again: the same ./run_analysis_pipeline.sh command does"


class Stopped(BaseException):
    """The process was told to end."""


def load(workspace: Workspace, chunk_id: str) -> Task:
    """Read what a chunk is given.

    Raises
    ------
    BpcpError
        66 where the run has no such chunk; 75 where its plan is not whole, or of an earlier bpcp.
    """
    paths = workspace.chunk(chunk_id)
    run, chunk = read_json(workspace.run), read_json(paths.chunk)
    if run is None or chunk is None:
        raise BpcpError(Exit.NO_INPUT, f"no chunk {chunk_id} in {workspace.status}", "bpcp plan")
    if not (
        workspace.pipeline.is_file()
        and run.get("pipeline_sha256") == chunk.get("pipeline_sha256") == sha256(workspace.pipeline)
    ):
        raise BpcpError(
            Exit.STOPPED,
            f"chunk {chunk_id} and the pipeline in {workspace.status} are not of one plan",
            _PLAN_AGAIN,
        )
    if "skips" not in run:
        raise BpcpError(
            Exit.STOPPED,
            f"{workspace.status} was planned by an earlier version of bpcp, {run.get('bpcp')}",
            _PLAN_AGAIN,
        )
    images = imagelist.read(paths.images)
    rows = images.rows[: chunk["image_sets"]]
    remote = read_json(paths.remote) or {}
    return Task(workspace, paths, run, chunk, images.header, rows, remote=remote)


def run_chunk(task: Task) -> Json:
    """Run what is left of a chunk, and write its verdict.

    Returns
    -------
    dict
        What was written to done.json.
    """
    known = read_json(task.paths.done) or {}
    account = Account()
    todo = task.units
    # as they are before they are read; what is done keeps what it was read as
    images = Images(task)
    if known.get("digest") == task.chunk["digest"]:
        account.parts = known["parts"]
        good = {n for part in account.parts for n in range(part["first"], part["last"] + 1)}
        for n in good:
            images.prints[n - task.first] = known["inputs"][n - task.first]
        todo = [u for u in todo if u[0] not in good]
        # first what was not even tried
        untried = {f["image_set"] for f in known["failed"] if kind_of(f) is Kind.NOT_TRIED}
        todo.sort(key=lambda u: u[0] not in untried)
        cost = known["cost"]
        account.attempts, account.wall_s = int(cost["attempts"]), float(cost["wall_s"])
        account.cpu_s, account.peak_mb = float(cost["cpu_s"]), float(cost["peak_mb"])
        account.written_mb = float(cost["written_mb"])
    else:
        shutil.rmtree(task.paths.all_tables, ignore_errors=True)
    clear(task.workspace.analysis, task.paths)
    started = time.monotonic()
    with _images(task) as at_hand:
        images.at_hand(at_hand)
        isolation = Isolation(at_hand, account, images, lambda a: _publish(at_hand, account, a))
        isolation.run(_set_aside(images, account, todo))
    verdict: Json = {
        "chunk": task.paths.id,
        "digest": task.chunk["digest"],
        "inputs": images.prints,
        "image_sets": task.chunk["image_sets"],
        "cellprofiler": task.run["cellprofiler"]["version"],
        "checked": bool(task.run.get("checked")),
        "parts": sorted(account.parts, key=lambda p: int(p["first"])),
        "failed": sorted(account.failed, key=lambda f: int(f["image_set"])),
        "cost": {
            "attempts": account.attempts,
            "wall_s": round(account.wall_s + time.monotonic() - started, 3),
            "cpu_s": round(account.cpu_s, 3),
            "peak_mb": round(account.peak_mb, 1),
            "written_mb": round(account.written_mb, 1),
        },
        "finished": now(),
    }
    _with_room(task, 1 << 20, lambda: write_json(task.paths.done, verdict))
    clear(task.workspace.analysis, task.paths)
    return verdict


@contextmanager
def _images(task: Task) -> Iterator[Task]:
    """Have a chunk's images at hand: those that lie elsewhere are waited for, or brought."""
    if not task.run["fetches"]:
        yield task
        return
    found = staging.await_images(task.workspace, task.paths, task.chunk["digest"])
    if found is not None:
        yield replace(task, inputs=found)
        return
    from bpcp import fetch

    task.workspace.attempts.mkdir(parents=True, exist_ok=True)
    name = f"{task.workspace.attempt_prefix}{task.paths.id}-images-"
    with tempfile.TemporaryDirectory(prefix=name, dir=task.workspace.attempts) as folder:
        found = fetch.for_one(task.workspace, task.paths.id, task.run, Path(folder))
        yield replace(task, inputs=found)


def _set_aside(images: Images, account: Account, todo: Sequence[Unit]) -> list[Unit]:
    """Name the image sets whose files can't be read; return the units without any."""
    good = []
    for first, last in todo:
        faults = ((n, images.fault(n)) for n in range(first, last + 1))
        bad = {n: fault for n, fault in faults if fault}
        if bad:
            account.fail((first, last), bad, log=None)
        else:
            good.append((first, last))
    return good


def _publish(task: Task, account: Account, attempt: Attempt) -> Json:
    """Bring an attempt's outputs to their places, and give the record of the part they make."""
    number = 1 + max((int(p["part"]) for p in account.parts), default=0)
    home = task.paths.tables(number)
    shutil.rmtree(home, ignore_errors=True)
    size = staging.space_of(attempt.output)
    try:
        for name in attempt.verdict.tables:
            source, target = attempt.output / name, home / name
            _with_room(task, size, partial(move, source, target, task.paths.incoming))
        put = partial(publish, output=attempt.output, analysis=task.workspace.analysis)
        files = [
            _with_room(task, size, partial(put, name, paths=task.paths))
            for name in attempt.verdict.files
        ]
    except OSError as error:
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"can't write {error.filename2 or error.filename}: {error.strerror}",
            "make room, or mend its permissions; then run the same command again",
        ) from error
    return {
        "part": number,
        "first": attempt.first,
        "last": attempt.last,
        "attempt": attempt.number,
        "output": str(attempt.output),
        "mirror": attempt.mirror,
        "tables": {name: summary.to_json() for name, summary in attempt.verdict.tables.items()},
        "files": files,
        "objects": attempt.verdict.objects,
        "modules_s": round(attempt.verdict.modules_s, 3),
        "skipped": attempt.verdict.skipped,
        "cost": attempt.cost,
    }


def _with_room(task: Task, size: int, write: Callable[[], _Made]) -> _Made:
    """Write something; where a disk is full, wait until it has room, and write it then.

    Parameters
    ----------
    size : int
        Bytes to wait for.
    """
    pause_s = 0.5
    while True:
        try:
            return write()
        except (OSError, BpcpError) as error:
            if not is_full(error):
                raise
        clear(task.workspace.analysis, task.paths)
        # a quota, or too many files, leave no other way than to try now and then
        pause_s = min(30.0, 2 * pause_s)
        admission.await_room(task.workspace, size, pause_s)


def _event(task: Task, verdict: Json) -> str:
    """Give the line for events.log."""
    failed = len(verdict["failed"])
    done = int(task.chunk["image_sets"]) - failed
    skipped = sum(len(n) for part in verdict["parts"] for n in part.get("skipped", {}).values())
    also = f" skipped={skipped}" if skipped else ""
    cost = verdict["cost"]
    return (
        f"time={now()} event=chunk chunk={task.paths.id} done={done} failed={failed}{also}"
        f" attempts={cost['attempts']} wall_s={cost['wall_s']} cpu_s={cost['cpu_s']}"
        f" peak_mb={cost['peak_mb']}"
    )


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def _or_say_why(task: Task) -> Json:
    """Run a chunk; where that can't be done at all, leave the reason for whoever asks later."""
    try:
        return run_chunk(task)
    except Exception as error:
        code, reason = Exit.BUG, f"{type(error).__name__}: {error}"
        if isinstance(error, BpcpError):
            code, reason = error.code, str(error)
        elif isinstance(error, OSError):
            code, reason = Exit.CANNOT_CREATE, str(error)
        with suppress(BpcpError, OSError):
            write_json(task.paths.error, {"reason": reason, "code": int(code)})
        raise


def main(argv: Sequence[str]) -> int:
    """Run one chunk of a run."""
    parser = Parser("run-chunk")
    parser.add_argument("run", type=Path)
    parser.add_argument("chunk")
    args = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    workspace = of_status(args.run)
    try:
        task = load(workspace, args.chunk)
    except BpcpError as error:
        paths = workspace.chunk(args.chunk)
        if paths.chunk.is_file():
            # for whoever asks why the run did not go on
            write_json(paths.error, {"reason": str(error), "code": int(error.code)})
        raise
    admission.ensure_room(workspace)
    try:
        # a moment: whoever looks for leftovers holds it for one
        with hold(task.paths.lock, f"chunk {args.chunk}", wait_s=1):
            task.paths.error.unlink(missing_ok=True)
            verdict = _or_say_why(task)
    except Stopped as stopped:
        return 128 + int(stopped.args[0])
    print(_event(task, verdict))
    for failed in verdict["failed"]:
        print(
            f"time={now()} event=failed chunk={args.chunk} image_set={failed['image_set']}"
            f" reason={failed['reason']!r}",
            file=sys.stderr,
        )
    return Exit.SOME_FAILED if verdict["failed"] else Exit.OK


if __name__ == "__main__":
    run_main("run-chunk", main)
