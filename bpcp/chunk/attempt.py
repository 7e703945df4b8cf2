"""One try at a range of a chunk's image sets: a private folder, CellProfiler, and its cost."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from bpcp import cellprofiler, failure, gpus, imagelist, processes, staging
from bpcp.chunk import admission, learned
from bpcp.chunk.verdict import Declared, Ran, Verdict, judge
from bpcp.chunk.watchdog import Watchdog
from bpcp.database import empty
from bpcp.failure import STALL_MIN, Kind
from bpcp.imagelist import Row
from bpcp.staging import Inputs
from bpcp.workspace import ChunkPaths, Json, Workspace, write_json

# What bpcp itself puts into an attempt's folder, and asks CellProfiler to.
_OWN = ("output", "tmp", "done", "input", "images.csv", "images.h5")

# Bytes below which a disk is full.
_FULL = 1 << 20
# What a verdict says of an attempt that wrote where it must not.
SAVES_OUTSIDE = "the pipeline saves outside the default output folder"

Unit = tuple[int, int]


@dataclass(frozen=True)
class Task:
    """A chunk, and all that is needed to run it."""

    workspace: Workspace
    paths: ChunkPaths
    run: Json
    chunk: Json
    header: Row
    rows: tuple[Row, ...]
    inputs: Inputs = field(default_factory=Inputs)
    # of the files that come from a bucket: size, time, ETag
    remote: Json = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Where relative image folders start."""
        return Path(self.run["root"])

    @property
    def first(self) -> int:
        """The number of its first image set in the list that CellProfiler is given."""
        return int(self.chunk["first"])

    @property
    def image_list(self) -> Path:
        """What names the image sets that CellProfiler is given: a list, or a batch file."""
        if self.run["batch"]:
            return self.workspace.whole_batch
        return self.workspace.whole_list if self.chunk["reads_whole_list"] else self.paths.images

    @property
    def units(self) -> list[Unit]:
        """First and last number of each piece that can't be cut further."""
        return [(int(a), int(b)) for a, b in self.chunk["units"]]


@dataclass(frozen=True)
class Attempt:
    """One try at a range of image sets, and what came of it."""

    first: int
    last: int
    number: int
    folder: Path
    log: Path
    verdict: Verdict
    signal: int
    cost: Json
    # why bpcp, or the kernel for want of memory, ended it; None where neither did
    ended: Kind | None = None
    # whether it was ended for others' sake, as memory was all but gone
    yielded: bool = False
    # a folder whose disk was full meanwhile: then not even the log need say so
    full: Path | None = None
    # see staging; "" where images are read where the list says that they are
    mirror: str = ""

    @property
    def output(self) -> Path:
        """The default output folder that CellProfiler was given."""
        return self.folder / "output"

    @property
    def lost(self) -> str:
        """Why what it measured can't be trusted, however whole its tables look; else ""."""
        if self.full:
            return f"the disk of {self.full.parent} was full"
        return failure.lost_writes(self.log)


@dataclass(frozen=True)
class Hunger:
    """How often memory was too little for some work, and what it takes, in MB of 1024² bytes."""

    times: int = 0
    takes_mb: float = 0.0

    @property
    def alone(self) -> bool:
        """Whether nothing else of the run may be at work beside it."""
        return self.times > 1


@contextmanager
def attempted(
    task: Task, first: int, last: int, home: Path, hunger: Hunger, decided: int
) -> Iterator[Attempt]:
    """Make an attempt; its folder and its record are gone when the block ends, however it ends.

    Parameters
    ----------
    first, last : int
        The image sets, in the numbering of the list that CellProfiler is given.
    home : Path
        Where its private folder is made.
    hunger : Hunger
        What memory it is known to need.
    decided : int
        The chunk's image sets that are done or have failed since it was started, for whoever asks
        how far it is.
    """
    home.mkdir(parents=True, exist_ok=True)
    task.workspace.log.mkdir(parents=True, exist_ok=True)
    number = 1
    while (log := task.workspace.attempt_log(task.paths.id, number)).exists():
        number += 1
    folder = home / f"{task.workspace.attempt_prefix}{task.paths.id}-{secrets.token_hex(8)}"
    try:
        # first: whatever is killed now, the next start knows whose folder it is
        write_json(
            task.paths.running,
            {
                "pid": os.getpid(),
                "attempt": number,
                "first": first,
                "last": last,
                "decided": decided,
                "folder": str(folder),
                "log": str(log),
                "started": now(),
            },
        )
        # fails where somebody planted something of that name
        folder.mkdir(mode=0o700)
        rows = task.rows[first - task.first : last - task.first + 1]
        need = partial(_need, task, len(rows), bytes_of(task, rows), hunger)
        yield _run_cellprofiler(task, first, last, number, folder, log, need)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        task.paths.running.unlink(missing_ok=True)


def has_room(task: Task, home: Path, first: int, last: int) -> bool:
    """Tell whether a folder has room for all that an attempt may write."""
    rows = task.rows[first - task.first : last - task.first + 1]
    needed = learned.room_for(task.workspace, len(rows), bytes_of(task, rows))
    return staging.free_bytes(home) >= needed


def bytes_of(task: Task, rows: Sequence[Row]) -> int:
    """Give the bytes of all images of some rows, as far as they are at hand."""
    total = 0
    for row in rows:
        for _, name in imagelist.files(task.header, row, task.root):
            with suppress(OSError):
                total += Path(task.inputs.find(name)).stat().st_size
    return total


def _staged(task: Task, first: int, last: int, folder: Path) -> tuple[Path, str | Path, str]:
    """Give the list that an attempt reads, where it is started, and its mirror, or ""."""
    # in /, CellProfiler finds no image whose folder is relative
    if not task.inputs.places and task.root != Path("/"):
        return task.image_list, task.run["root"], ""
    mirror = folder / "input"
    rows = task.rows[first - task.first : last - task.first + 1]
    staging.mirror(mirror, task.header, rows, task.inputs, task.root)
    start_in = Path(f"{mirror}{task.root}")
    if task.run.get("batch"):
        # h5py is heavy, and needed only here
        from bpcp import batch

        batch.redirect(task.image_list, folder / "images.h5", str(mirror))
        return folder / "images.h5", start_in, str(mirror)
    images = imagelist.read(task.image_list)
    moved = (staging.rewritten(images.header, row, str(mirror)) for row in images.rows)
    imagelist.write(folder / "images.csv", images.header, moved)
    return folder / "images.csv", start_in, str(mirror)


def _need(task: Task, image_sets: int, read: int, hunger: Hunger) -> admission.Need:
    return admission.Need(
        memory_mb=max(hunger.takes_mb, learned.process_mb(task.workspace, task.run)),
        alone=hunger.alone,
        room=learned.room_for(task.workspace, image_sets, read),
        at=admission.fullest(task.workspace),
    )


def _run_cellprofiler(
    task: Task,
    first: int,
    last: int,
    number: int,
    folder: Path,
    log: Path,
    needs: Callable[[], admission.Need],
) -> Attempt:
    output, tmpdir, done_file = folder / "output", folder / "tmp", folder / "done"
    output.mkdir()
    tmpdir.mkdir()
    image_list, start_in, mirror = _staged(task, first, last, folder)
    from_batch = bool(task.run.get("batch"))
    if from_batch:
        empty.seed(task.workspace.databases, output)
    job = cellprofiler.Job(
        image_list if from_batch else task.workspace.pipeline,
        None if from_batch else image_list,
        first,
        last,
        output,
        tmpdir,
        done_file,
        task.run.get("input_folder"),
    )
    argv = [*task.run["cellprofiler"]["command"], *cellprofiler.arguments(job)]
    environment = {
        **cellprofiler.environment(),
        "TMPDIR": str(tmpdir),
        processes.RUN: str(task.workspace.status),
        processes.ATTEMPT: str(folder),
    }
    # a JVM that dies for want of room would leave a report in the user's own folder
    java = environment.get("JAVA_TOOL_OPTIONS", "")
    environment["JAVA_TOOL_OPTIONS"] = (
        f"{java} -XX:+IgnoreUnrecognizedVMOptions -XX:+ErrorFileToStderr"
    )
    stall_s = 60 * float(task.run.get("stall_min", STALL_MIN))
    with gpus.held(task.workspace, task.run.get("gpus")) as gpu, log.open("wb") as sink:
        try:
            with admission.turn(task.workspace, needs) as need:
                started = time.monotonic()
                process = subprocess.Popen(
                    # ends with this process, however this process ends
                    ["setpriv", "--pdeathsig", "KILL", "--", *argv],  # noqa: S607
                    cwd=start_in,
                    env={**environment, **gpu, **need.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            admission.kill_first(process.pid)
            # twice: one that hangs is to be called so
            limit = partial(learned.time_limit, task.workspace, last - first + 1, 2 * stall_s)
            dog = Watchdog(process.pid, log, stall_s, limit)
            kills = admission.kills_so_far()
            end = _await_end(task.workspace, process.pid, dog, (folder, log.parent))
            # its own account, not the sum of all that this process ever waited for
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            # also what it started and left behind, in whatever session
            processes.end_marked(processes.ATTEMPT, str(folder))
    number_of_signal = failure.signal_behind(process.returncode)
    if number_of_signal == signal.SIGKILL and admission.kills_so_far() > kills:
        end.why = end.why or Kind.MEMORY
    cost = {
        "wall_s": round(time.monotonic() - started, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
        "written_mb": round((staging.space_of(output) + staging.space_of(tmpdir)) / 1e6, 1),
    }
    said = done_file.read_text(encoding="utf-8").strip() if done_file.is_file() else ""
    declared = Declared.of(task.run)
    ran = Ran(first, last, said, cellprofiler.course_of(log), declared.last_module)
    verdict = judge(output, declared, ran)
    stray = sorted({p.name for p in folder.iterdir()} - set(_OWN))
    if stray:
        verdict.faults.append(f"{SAVES_OUTSIDE}: {stray[0]}")
    return Attempt(
        first,
        last,
        number,
        folder,
        log,
        verdict,
        number_of_signal,
        cost,
        end.why,
        end.yielded,
        end.full,
        mirror,
    )


@dataclass
class _End:
    """How a process came to its end; see `Attempt`."""

    why: Kind | None = None
    yielded: bool = False
    full: Path | None = None

    def look_at(self, folders: Sequence[Path]) -> None:
        """See whether a disk is full."""
        self.full = self.full or next((f for f in folders if staging.free_bytes(f) < _FULL), None)


def _await_end(workspace: Workspace, pid: int, dog: Watchdog, writes: Sequence[Path]) -> _End:
    """Wait until a process ended, and end it where it has to be.

    Parameters
    ----------
    writes : sequence of Path
        Folders that it writes to.
    """
    end = _End()
    with _ending(pid) as has_ended:
        while not has_ended(dog.look_s):
            end.look_at(writes)
            end.yielded = admission.must_yield(workspace, pid)
            end.why = Kind.MEMORY if end.yielded else dog.look()
            if end.why:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                break
        end.look_at(writes)
    return end


@contextmanager
def _ending(pid: int) -> Iterator[Callable[[float], bool]]:
    """Give what waits for a child's end, at most so many seconds, and tells whether it came."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        # a kernel before 5.3
        yield partial(_ended_within, pid)
        return
    try:
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        yield lambda seconds: bool(poller.poll(seconds * 1000))
    finally:
        os.close(handle)


def _ended_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        # it stays to be waited for
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)


def now() -> str:
    """Give the time in UTC, as it stands in logs and state files."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
