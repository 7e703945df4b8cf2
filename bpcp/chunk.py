"""run-chunk: give one chunk to CellProfiler, judge what comes out, publish it, and say so.

An attempt works in a private folder. What it wrote is judged by content; tables then wait beside
the chunk for the merge, all other files go to the result, and `done.json` is written last. An
attempt that fails is cut down: what the log shows to be the culprit runs alone, and the rest
without it, until only the image sets that fail by themselves are left, each with its reason.

This runs once for each chunk, so it imports nothing heavy.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from bpcp import cellprofiler, imagelist, staging
from bpcp.attempt import Attempt, Task, Unit, attempted, has_room, now
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.imagelist import Row
from bpcp.publish import clear, move, publish, sha256
from bpcp.staging import Inputs
from bpcp.workspace import Json, Workspace, hold, of_status, read_json, write_json

_PROGRESS = re.compile(cellprofiler.MODULE_DONE)
_MODULE_ERROR = re.compile(r"Error detected during run of module (\S+)")
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Warning|Exit|Interrupt)): ?(.*)")

# What any program says of a full disk.
_NO_ROOM = b"No space left on device"
# CellProfiler's words before its first image set.
_STARTED = "Times reported are CPU and Wall-clock times"
# So many single image sets that fail alike, one after another, prove the pipeline at fault.
_PROOF = 3

_IN_PLACE = Inputs()


class Stopped(BaseException):
    """The process was told to end."""


@dataclass
class Account:
    """What is known of a chunk so far."""

    parts: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    attempts: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    written_mb: float = 0.0
    # whether what -t names had no room, so that attempts work in the run's own folder
    no_room: bool = False

    def count(self, attempt: Attempt) -> None:
        """Add an attempt and what it cost."""
        self.attempts += 1
        self.cpu_s += attempt.cost["cpu_s"]
        self.peak_mb = max(self.peak_mb, attempt.cost["peak_mb"])
        self.written_mb = max(self.written_mb, attempt.cost["written_mb"])


def load(workspace: Workspace, chunk_id: str) -> Task:
    """Read what a chunk is given.

    Raises
    ------
    BpcpError
        66 where the run has no such chunk; 75 where its plan was not written to the end.
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
            "plan again: the same ./run_analysis_pipeline.sh command does",
        )
    images = imagelist.read(paths.images)
    rows = images.rows[: chunk["image_sets"]]
    remote = read_json(paths.remote) or {}
    return Task(workspace, paths, run, chunk, images.header, rows, remote=remote)


def unreadable(
    header: Row, row: Row, root: Path, inputs: Inputs = _IN_PLACE, *, reads_s3: bool = False
) -> Json | None:
    """Say which file of an image set is missing or empty, if one is.

    Parameters
    ----------
    reads_s3 : bool
        Whether CellProfiler itself reads what lies in a bucket.
    """
    for name, path in imagelist.files(header, row, root):
        if path in inputs.failed:
            return {"reason": inputs.failed[path], "image": name, "file": path}
        place = inputs.find(path)
        if imagelist.is_remote(place):
            if place.lower().startswith("s3://") and not reads_s3:
                return {"reason": "missing file", "image": name, "file": path}
            continue
        try:
            size = Path(place).stat().st_size
        except OSError as error:
            what = (
                "missing file"
                if isinstance(error, FileNotFoundError)
                else f"unreadable file ({error.strerror})"
            )
            return {"reason": what, "image": name, "file": path}
        if size == 0:
            return {"reason": "empty file", "image": name, "file": path}
    return None


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
    inputs = [
        imagelist.fingerprint(task.header, [row], task.root, task.remote) for row in task.rows
    ]
    if known.get("digest") == task.chunk["digest"]:
        account.parts = known["parts"]
        good = {n for part in account.parts for n in range(part["first"], part["last"] + 1)}
        for n in good:
            inputs[n - task.first] = known["inputs"][n - task.first]
        todo = [u for u in todo if u[0] not in good]
        cost = known["cost"]
        account.attempts, account.wall_s = int(cost["attempts"]), float(cost["wall_s"])
        account.cpu_s, account.peak_mb = float(cost["cpu_s"]), float(cost["peak_mb"])
        account.written_mb = float(cost["written_mb"])
    else:
        shutil.rmtree(task.paths.all_tables, ignore_errors=True)
    clear(task.workspace.analysis, task.paths)
    started = time.monotonic()
    with _images(task) as at_hand:
        for units in _ranges(_set_aside(at_hand, account, todo)):
            _cut_down(at_hand, account, units)
    verdict: Json = {
        "chunk": task.paths.id,
        "digest": task.chunk["digest"],
        "inputs": inputs,
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
    write_json(task.paths.done, verdict)
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
    name = f"bpcp-{task.paths.id}-images-"
    with tempfile.TemporaryDirectory(prefix=name, dir=task.workspace.attempts) as folder:
        found = fetch.for_one(task.workspace, task.paths.id, task.run, Path(folder))
        yield replace(task, inputs=found)


def _set_aside(task: Task, account: Account, todo: Sequence[Unit]) -> list[Unit]:
    """Name the image sets whose files can't be read; return the units without any."""
    good = []
    of_batch = bool(task.run.get("batch"))
    known = read_json(task.paths.bad) or {}
    for first, last in todo:
        bad = {}
        for n in range(first, last + 1):
            row = task.rows[n - task.first]
            found = unreadable(task.header, row, task.root, task.inputs, reads_s3=of_batch)
            if found or str(n) in known:
                # what is wrong now, rather than what was when the check looked
                bad[n] = found or {"reason": known[str(n)]}
        if bad:
            _fail(account, first, last, bad, log=None)
        else:
            good.append((first, last))
    return good


def _fail(account: Account, first: int, last: int, bad: dict[int, Json], log: Path | None) -> None:
    """Put a unit down as failed: culprits with their reasons, the others for being with them."""
    for n in range(first, last + 1):
        reason = bad.get(n) or {"reason": "in one group with one that failed", "with": min(bad)}
        account.failed.append({"image_set": n, **reason, "log": str(log) if log else None})


def _ranges(units: Sequence[Unit]) -> list[list[Unit]]:
    """Put units that follow each other together: each list is one process's work."""
    found: list[list[Unit]] = []
    for unit in units:
        if found and found[-1][-1][1] + 1 == unit[0]:
            found[-1].append(unit)
        else:
            found.append([unit])
    return found


def _cut_down(task: Task, account: Account, units: list[Unit]) -> None:
    """Run units in one process; where that fails, cut them down to the ones that fail alone."""
    again = True
    # single units that failed one after another, none to blame, for the same reason
    alike: list[str] = []
    probed = False
    pending = [units]
    while pending:
        work = pending.pop()
        first, last = work[0][0], work[-1][1]
        with attempted(task, first, last, _home(task, account, first, last)) as attempt:
            account.count(attempt)
            if not attempt.verdict.faults:
                alike.clear()
                account.parts.append(_publish(task, account, attempt))
                continue
            culprit, why, started = diagnose(attempt, int(task.run["last_module"]))
            reason = str(why["reason"])
            if not account.no_room and _ran_out_of_room(task, attempt):
                account.no_room = True
                pending.append(work)
            elif attempt.signal and again:
                # killed from outside, or a crash: once more before it is called a failure
                again = False
                pending.append(work)
            elif len(work) == 1 or not started or alike[-_PROOF:] == [reason] * _PROOF:
                for first, last in work:
                    at = culprit if first <= culprit <= last else first
                    _fail(account, first, last, {at: why}, attempt.log)
                if not culprit:
                    alike.append(reason)
            elif culprit:
                pending += _around(work, culprit)
            elif alike or not probed:
                # nothing says which one it is: perhaps it is none, and the pipeline is at fault;
                # then a few by themselves fail alike, and the rest need not be tried
                probed = True
                pending += [work[1:], work[:1]]
            else:
                half = len(work) // 2
                pending += [work[half:], work[:half]]


def _home(task: Task, account: Account, first: int, last: int) -> Path:
    """Choose where an attempt works: what -t names, as long as there is room."""
    if not task.run["tmpdir"]:
        return task.workspace.attempts
    home = Path(task.run["tmpdir"])
    # a RAM disk is only there while the entry script runs
    account.no_room = account.no_room or not home.is_dir() or not has_room(task, home, first, last)
    return task.workspace.attempts if account.no_room else home


def _ran_out_of_room(task: Task, attempt: Attempt) -> bool:
    """Tell whether an attempt failed because what -t names was full."""
    if attempt.folder.parent == task.workspace.attempts:
        return False
    return _NO_ROOM in attempt.log.read_bytes() or staging.free_bytes(attempt.folder) < 1 << 20


def _around(work: list[Unit], culprit: int) -> list[list[Unit]]:
    """Cut work before and behind the unit that holds the culprit; the last of these runs first."""
    at = next(i for i, (_, last) in enumerate(work) if culprit <= last)
    return [piece for piece in (work[at + 1 :], work[at : at + 1], work[:at]) if piece]


def diagnose(attempt: Attempt, last_module: int) -> tuple[int, Json, bool]:
    """Find out from an attempt's log which image set it failed at, and why.

    Returns
    -------
    culprit : int
        The image set that was worked on when it failed; 0 where the log does not say.
    reason : dict
        `reason`, and `module` where one is to blame.
    started : bool
        Whether it came as far as an image set: where not, cutting it down is no use.
    """
    number, module_number, started, error, failed_module = 0, 0, False, "", ""
    with attempt.log.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if found := _PROGRESS.search(line):
                number, module_number, started = int(found[1]), int(found[3]), True
            elif line.startswith(_STARTED):
                started = True
            elif found := _MODULE_ERROR.search(line):
                failed_module = found[1]
            elif found := _EXCEPTION.match(line):
                error = f"{found[1]}: {found[2]}".rstrip(": \n")
    if failed_module:
        return (
            number,
            {"reason": f"{failed_module}: {error or 'failed'}", "module": failed_module},
            True,
        )
    culprit = number or (attempt.first if started else 0)
    if number and module_number >= last_module:
        culprit = number + 1 if number < attempt.last else 0
    if attempt.signal:
        name = signal.Signals(attempt.signal).name
        return culprit, {"reason": f"CellProfiler was ended by {name}"}, started
    for fault in attempt.verdict.faults:
        if named := re.match(r"image set (\d+):? (.*)", fault):
            return int(named[1]), {"reason": named[2]}, started
    reason = attempt.verdict.faults[0] + (f" ({error})" if error else "")
    return 0 if attempt.verdict.said == "Complete" else culprit, {"reason": reason}, started


def _publish(task: Task, account: Account, attempt: Attempt) -> Json:
    """Bring an attempt's outputs to their places, and give the record of the part they make."""
    number = 1 + max((int(p["part"]) for p in account.parts), default=0)
    home = task.paths.tables(number)
    shutil.rmtree(home, ignore_errors=True)
    try:
        for name in attempt.verdict.tables:
            move(attempt.output / name, home / name, task.paths.incoming)
        files = [
            publish(name, attempt.output, task.workspace.analysis, task.paths)
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
        "cost": attempt.cost,
    }


def _event(task: Task, verdict: Json) -> str:
    """Give the line for events.log."""
    failed = len(verdict["failed"])
    done = int(task.chunk["image_sets"]) - failed
    cost = verdict["cost"]
    return (
        f"time={now()} event=chunk chunk={task.paths.id} done={done} failed={failed}"
        f" attempts={cost['attempts']} wall_s={cost['wall_s']} cpu_s={cost['cpu_s']}"
        f" peak_mb={cost['peak_mb']}"
    )


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def _or_say_why(task: Task) -> Json:
    """Run a chunk; where that can't be done at all, leave the reason for whoever asks later."""
    try:
        return run_chunk(task)
    except (BpcpError, OSError) as error:
        code = error.code if isinstance(error, BpcpError) else Exit.CANNOT_CREATE
        with suppress(BpcpError):
            write_json(task.paths.error, {"reason": str(error), "code": int(code)})
        raise


def main(argv: Sequence[str]) -> int:
    """Run one chunk of a run."""
    parser = Parser("run-chunk")
    parser.add_argument("run", type=Path)
    parser.add_argument("chunk")
    args = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    task = load(of_status(args.run), args.chunk)
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
            f"chunk={args.chunk} image_set={failed['image_set']} failed={failed['reason']!r}",
            file=sys.stderr,
        )
    return Exit.SOME_FAILED if verdict["failed"] else Exit.OK


if __name__ == "__main__":
    run_main("run-chunk", main)
