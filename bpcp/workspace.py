"""Where everything is: the user's folders, and every name inside status/ and log/.

<base>/load_data_csv/<dataset>/load_data.csv        for pipelines that read by LoadData
<base>/filelist/<dataset>/filelist.txt               for the others: a path or URL a line
<base>/presets.toml                                  optional: the user's own names of images
<base>/metadata/<dataset>/{platelist,welllist}.txt   optional
<base>/analysis/<dataset>/<TAG>/                     the result
<base>/log/<dataset>/<TAG>/joblog                    GNU parallel's, of the last start
<base>/log/<dataset>/<TAG>/events.log                what happened, a line for each event
<base>/log/<dataset>/<TAG>/<chunk>.<attempt>.log     CellProfiler's, one for each attempt
<base>/status/<dataset>/<TAG>/
    run.json            what is run: list, CellProfiler, options
    pipeline.cppipe     the pipeline as it was planned; chunks run this copy
    plan.json           the chunks in order, and which image sets each holds
    lock                who runs it now
    images.csv          the whole list, where chunks must read it
    Batch_data.h5       the image sets that CellProfiler made of a list of files
    batch.json          what it was made of
    images.h5           those of them that are run, with this machine's folders: what chunks read
    databases/          empty databases of ExportToDatabase, for processes that start from it
    merged.json         what the last merge read and wrote
    mysql.json          which tables of MySQL servers are this run's
    manifest.sha256     the files of the result, for sha256sum -c; there once all added up
    manifest.json       as of when: their sizes and times
    superseded.json     files of chunks that are no longer part of the run
    profile.json        what the last profile measured; its plot and massif's words beside it
    memory.json         what processes need that were killed for their memory
    turn-<host>         held by the chunk that starts next; says what it waits for
    gpu-<n>-<host>      held by the attempt that uses the GPU
    halted.json         why this start was given up, if it was
    fetching            held while images are fetched ahead
    fetched.log         which files were fetched, and so may be removed again
    fetched/            images of s3:// addresses in the image list, while they are needed
    ramdisk/            where a RAM disk of the run's own is, while there is one
    uploaded.json       the chunks whose results are in the bucket
    writer.json         who last wrote to the bucket
    outbox/             links to what is being sent there
    attempts/           where attempts work, unless -t names another place
    chunks/<chunk>/chunk.json    what the chunk is given
    chunks/<chunk>/images.csv    its image sets
    chunks/<chunk>/remote.json   its images in the bucket: size, time, ETag
    chunks/<chunk>/checked.json  what its image files were when the check looked at them
    chunks/<chunk>/bad.json      its image sets whose files the check found bad, and why
    chunks/<chunk>/fetched.json  where its images are, once they were fetched
    chunks/<chunk>/lock          held while the chunk runs
    chunks/<chunk>/running.json  the attempt under way
    chunks/<chunk>/error.json    why run-chunk itself gave up, if it did
    chunks/<chunk>/done.json     the verdict; written last
    chunks/<chunk>/tables/<part>/   its tables, waiting for the merge
    chunks/<chunk>/incoming/     what comes from another file system, on its way
    chunks/<chunk>/replaced/     what stood where the chunk put a file of other content
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.holder import Holder, held_by

Json = dict[str, Any]

# Below status/, what tells only of this machine; patterns of the AWS CLI, whose * matches / too.
LOCAL_ONLY = (
    ".*",
    "*/.*",
    "lock",
    "halted.json",
    "memory.json",
    "fetching",
    "fetched.log",
    "fetched/*",
    "ramdisk/*",
    "uploaded.json",
    "outbox/*",
    "attempts/*",
    "turn-*",
    "gpu-*",
    "chunks/*/lock",
    "chunks/*/checked.json",
    "chunks/*/running.json",
    "chunks/*/error.json",
    "chunks/*/fetched.json",
    "chunks/*/incoming/*",
)


@dataclass(frozen=True)
class ChunkPaths:
    """The files of one chunk."""

    folder: Path

    @property
    def id(self) -> str:
        """The chunk's name."""
        return self.folder.name

    @property
    def chunk(self) -> Path:
        """What it is given."""
        return self.folder / "chunk.json"

    @property
    def images(self) -> Path:
        """Its image sets, a LoadData CSV."""
        return self.folder / "images.csv"

    @property
    def lock(self) -> Path:
        """Held while it runs."""
        return self.folder / "lock"

    @property
    def remote(self) -> Path:
        """Its images in the bucket, as they were listed when it was planned."""
        return self.folder / "remote.json"

    @property
    def checked(self) -> Path:
        """What its image files were when the check looked at them."""
        return self.folder / "checked.json"

    @property
    def bad(self) -> Path:
        """Its image sets whose files the check found bad, and why."""
        return self.folder / "bad.json"

    @property
    def fetched(self) -> Path:
        """Where its images are, once they were fetched."""
        return self.folder / "fetched.json"

    @property
    def error(self) -> Path:
        """Why run-chunk itself gave up, if it did."""
        return self.folder / "error.json"

    @property
    def incoming(self) -> Path:
        """What comes from another file system, on its way to its place."""
        return self.folder / "incoming"

    @property
    def first(self) -> int:
        """The number of its first image set in the list that CellProfiler is given."""
        return int((read_json(self.chunk) or {"first": 1})["first"])

    @property
    def running(self) -> Path:
        """The attempt under way."""
        return self.folder / "running.json"

    @property
    def done(self) -> Path:
        """The verdict; there once the chunk is done."""
        return self.folder / "done.json"

    def tables(self, part: int) -> Path:
        """Where the tables of a part wait."""
        return self.folder / "tables" / str(part)

    @property
    def all_tables(self) -> Path:
        """Where the tables of all parts wait."""
        return self.folder / "tables"

    @property
    def replaced(self) -> Path:
        """What stood where the chunk put a file of other content."""
        return self.folder / "replaced"


@dataclass(frozen=True)
class Workspace:
    """The folders of one run: one dataset through one pipeline."""

    base: Path
    dataset: str
    tag: str

    @property
    def image_list(self) -> Path:
        """The user's LoadData CSV."""
        return self.base / "load_data_csv" / self.dataset / "load_data.csv"

    @property
    def file_list(self) -> Path:
        """The user's list of files, a path or URL a line."""
        return self.base / "filelist" / self.dataset / "filelist.txt"

    def selection(self, name: str) -> Path:
        """Where the user may list the plates or wells to run: "platelist" or "welllist"."""
        return self.base / "metadata" / self.dataset / f"{name}.txt"

    @property
    def analysis(self) -> Path:
        """The result."""
        return self.base / "analysis" / self.dataset / self.tag

    @property
    def status(self) -> Path:
        """The state of the run."""
        return self.base / "status" / self.dataset / self.tag

    @property
    def log(self) -> Path:
        """The joblog and the logs of the attempts."""
        return self.base / "log" / self.dataset / self.tag

    @property
    def joblog(self) -> Path:
        """GNU parallel's account of the last start."""
        return self.log / "joblog"

    @property
    def run(self) -> Path:
        """What is run."""
        return self.status / "run.json"

    @property
    def pipeline(self) -> Path:
        """The pipeline as it was planned."""
        return self.status / "pipeline.cppipe"

    @property
    def events(self) -> Path:
        """What happened, a line for each event, over all starts."""
        return self.log / "events.log"

    @property
    def plan(self) -> Path:
        """The chunks in order."""
        return self.status / "plan.json"

    @property
    def lock(self) -> Path:
        """Who runs it now."""
        return self.status / "lock"

    @property
    def whole_list(self) -> Path:
        """The whole image list, where chunks must read it."""
        return self.status / "images.csv"

    @property
    def batch(self) -> Path:
        """The image sets that CellProfiler made of a list of files."""
        return self.status / "Batch_data.h5"

    @property
    def batch_state(self) -> Path:
        """What they were made of."""
        return self.status / "batch.json"

    @property
    def databases(self) -> Path:
        """Empty databases of ExportToDatabase, for processes that start from a batch file."""
        return self.status / "databases"

    @property
    def whole_batch(self) -> Path:
        """Those of them that are run, as chunks read them."""
        return self.status / "images.h5"

    @property
    def merged(self) -> Path:
        """What the last merge read and wrote."""
        return self.status / "merged.json"

    @property
    def loaded(self) -> Path:
        """What was loaded into MySQL servers, by the SQLite file that it was made of."""
        return self.status / "mysql.json"

    @property
    def manifest(self) -> Path:
        """The files of the result with their SHA-256; there once all added up."""
        return self.status / "manifest.sha256"

    @property
    def manifest_state(self) -> Path:
        """What the manifest was written of: the merge, and sizes and times of the files."""
        return self.status / "manifest.json"

    @property
    def superseded(self) -> Path:
        """Files of chunks that are no longer part of the run."""
        return self.status / "superseded.json"

    @property
    def profile(self) -> Path:
        """What the last profile measured; its plot and massif's words stand beside it."""
        return self.status / "profile.json"

    @property
    def memory(self) -> Path:
        """What processes need that were killed for their memory."""
        return self.status / "memory.json"

    @property
    def turn(self) -> Path:
        """Held by the chunk that starts next on this machine; says what it waits for."""
        return self.status / f"turn-{os.uname().nodename}"

    def gpu(self, number: int) -> Path:
        """Held by the attempt that uses one of this machine's GPUs, 0-based."""
        return self.status / f"gpu-{number}-{os.uname().nodename}"

    @property
    def halted(self) -> Path:
        """Why this start was given up: `why`, and how many image sets had `failed`."""
        return self.status / "halted.json"

    @property
    def fetching(self) -> Path:
        """Held while images are fetched ahead."""
        return self.status / "fetching"

    @property
    def fetched(self) -> Path:
        """Which files were fetched, and so may be removed again; a line of JSON for each."""
        return self.status / "fetched.log"

    @property
    def store(self) -> Path:
        """Images of s3:// addresses in the image list, while they are needed."""
        return self.status / "fetched"

    @property
    def ramdisk(self) -> Path:
        """Where a RAM disk of the run's own is, while there is one."""
        return self.status / "ramdisk"

    @property
    def uploaded(self) -> Path:
        """The chunks whose results are in the bucket."""
        return self.status / "uploaded.json"

    @property
    def outbox(self) -> Path:
        """Links to what is being sent to the bucket."""
        return self.status / "outbox"

    @property
    def writer(self) -> Path:
        """Who last wrote to the bucket."""
        return self.status / "writer.json"

    @property
    def attempts(self) -> Path:
        """Where attempts work, unless the user named another place."""
        return self.status / "attempts"

    @property
    def chunks(self) -> Path:
        """The chunks' folders."""
        return self.status / "chunks"

    def chunk(self, chunk_id: str) -> ChunkPaths:
        """Give the files of a chunk."""
        return ChunkPaths(self.chunks / chunk_id)

    @property
    def attempt_prefix(self) -> str:
        """How the names of this run's private folders begin, wherever they are."""
        own = hashlib.sha256(os.fsencode(self.status)).hexdigest()
        return f"bpcp-{own[:12]}-"

    def attempt_log(self, chunk_id: str, attempt: int) -> Path:
        """Give the log of an attempt, 1-based."""
        return self.log / f"{chunk_id}.{attempt}.log"


def locate(dataset: str, pipeline: Path) -> Workspace:
    """Find the workspace of a dataset and a pipeline file.

    Base is the parent of the nearest folder "pipelines" above the pipeline, or of the pipeline's
    own folder where there is none; TAG is the pipeline's file name up to its first dot.

    Raises
    ------
    BpcpError
        64 where a name can't name a folder.
    """
    if not dataset or dataset in (".", "..") or "/" in dataset or not dataset.isprintable():
        raise BpcpError(
            Exit.USAGE,
            f"not a name for a dataset: {dataset!r}",
            "give the name of a folder in load_data_csv/, without slashes",
        )
    path = Path(os.path.abspath(pipeline))  # noqa: PTH100 -- a link to a pipeline counts where it lies
    tag = path.name.split(".")[0]
    if not tag:
        raise BpcpError(Exit.USAGE, f"not a name for a pipeline: {pipeline}")
    home = next((p for p in path.parents if p.name == "pipelines"), path.parent)
    return Workspace(home.parent, dataset, tag)


def of_status(folder: Path) -> Workspace:
    """Give the workspace whose state lies in a folder.

    Raises
    ------
    BpcpError
        66 where the folder holds no run.
    """
    status = Path(os.path.abspath(folder))  # noqa: PTH100
    if not (status / "run.json").is_file():
        raise BpcpError(Exit.NO_INPUT, f"no run in {folder}", "bpcp plan -d DATASET -p PIPELINE")
    return Workspace(status.parents[2], status.parent.name, status.name)


LOCK_HELD = "BPCP_LOCK_HELD"
# Enough for the lines before a pipeline's modules.
_HEADER_BYTES = 600


@contextmanager
def locked(workspace: Workspace, wait_s: float = 5) -> Iterator[None]:
    """Be the one writer of a run; the lock dies with the process, and its children.

    `BPCP_LOCK_HELD` names the lock where the caller's caller, an entry script, holds it already.

    Raises
    ------
    BpcpError
        75 where another process holds it; the message says which, and since when.
    """
    if os.environ.get(LOCK_HELD) == str(workspace.lock):
        yield
        return
    workspace.status.mkdir(parents=True, exist_ok=True)
    with hold(workspace.lock, "this run", wait_s):
        yield


@contextmanager
def hold(path: Path, what: str, wait_s: float = 0) -> Iterator[None]:
    """Hold a lock file, which says who holds it; see `locked`."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        what = f"{path} is a link; bpcp would write over what it leads to"
        raise BpcpError(Exit.NO_PERMISSION, what, "find out who made it, and remove it") from None
    try:
        end = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise BpcpError(
                        Exit.STOPPED,
                        held_by(path, f"another process is at work on {what}"),
                        "wait for it, or end it; the lock goes with it",
                    ) from None
                time.sleep(0.2)
        os.truncate(handle, 0)
        os.pwrite(handle, Holder.here(os.getpid()).text().encode(), 0)
        yield
    finally:
        os.close(handle)


# The long lists that verdicts have in common.
_LISTS = ("header", "spellings")
_seen: dict[tuple[str, ...], list[str]] = {}


def read_json(path: Path) -> Json | None:
    """Read a state file; None where there is none, or none that is whole."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        found = json.loads(text, object_hook=_with_shared_lists)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _with_shared_lists(found: Json) -> Json:
    """Let what thousands of verdicts say of the same columns be there once; nobody changes it."""
    for name in _LISTS:
        words = found.get(name)
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            own = [sys.intern(word) for word in words]
            found[name] = _seen.setdefault(tuple(own), own)
    return found


def write_json(path: Path, content: Json) -> None:
    """Write a state file, so that it is there whole or not at all, whatever dies meanwhile."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, flush it, and rename it.

    Raises
    ------
    BpcpError
        73 where the folder can't be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"can't write {path}: {error.strerror}",
            "make room, or mend its permissions",
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def to_ranges(numbers: Iterable[int]) -> str:
    """Write numbers shortly, in their order: [1, 2, 3, 7] as "1-3,7"."""
    out: list[list[int]] = []
    for n in numbers:
        if out and n == out[-1][1] + 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in out)


def from_ranges(text: str) -> list[int]:
    """Read what `to_ranges` wrote."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


@dataclass(frozen=True)
class Planned:
    """A chunk's place in the plan.

    Attributes
    ----------
    id : str
        The chunk.
    digest : str
        Of everything that its result depends on; its verdict counts only with the same.
    image_numbers : sequence of int
        The ImageNumbers of its image sets in the whole list, 1-based, in its own order.
    lines : sequence of int
        Where they stand in the user's load_data.csv; line 1 is the header.
    """

    id: str
    digest: str
    image_numbers: Sequence[int]
    lines: Sequence[int]


def read_plan(workspace: Workspace) -> list[Planned]:
    """Read the chunks in order.

    Raises
    ------
    BpcpError
        66 where nothing is planned.
    """
    found = read_json(workspace.plan)
    if found is None:
        raise BpcpError(
            Exit.NO_INPUT,
            f"nothing is planned for dataset {workspace.dataset} and pipeline {workspace.tag}",
            "./run_analysis_pipeline.sh -d DATASET -p PIPELINE",
        )
    return [
        Planned(c["id"], c["digest"], from_ranges(c["image_numbers"]), from_ranges(c["lines"]))
        for c in found["chunks"]
    ]


def write_plan(workspace: Workspace, chunks: Sequence[Planned]) -> None:
    """Write the chunks in order."""
    rows = [
        {
            "id": c.id,
            "digest": c.digest,
            "image_numbers": to_ranges(c.image_numbers),
            "lines": to_ranges(c.lines),
        }
        for c in chunks
    ]
    write_json(workspace.plan, {"chunks": rows})


def verdict(workspace: Workspace, planned: Planned) -> Json | None:
    """Give a chunk's verdict, or None where it has none for what it is given today."""
    found = read_json(workspace.chunk(planned.id).done)
    return found if found and found.get("digest") == planned.digest else None


def _there(folder: Path, pattern: str) -> str:
    names = sorted(p.name for p in folder.glob(pattern)) if folder.is_dir() else []
    return f"in {folder}: {', '.join(names)}" if names else f"{folder} holds none"


def main(argv: Sequence[str]) -> int:
    """Tell a script where status, log, lock, joblog, events … are, in order; NUL behind each."""
    parser = Parser("run")
    parser.add_argument("dataset")
    parser.add_argument("pipeline", type=Path)
    args = parser.parse_args(argv)
    here = locate(args.dataset, args.pipeline)
    # before the caller makes a folder for a name that was only mistyped
    if not args.pipeline.is_file():
        raise BpcpError(
            Exit.NO_INPUT, f"no pipeline: {args.pipeline}", _there(args.pipeline.parent, "*.cp*")
        )
    # a project and a batch file name their images themselves, and so may a pipeline
    with args.pipeline.open("rb") as file:
        lists = b"\nHasImagePlaneDetails:True" in file.read(_HEADER_BYTES)
    own = lists or args.pipeline.suffix in (".cpproj", ".h5")
    if not (own or here.image_list.is_file() or here.file_list.is_file()):
        folder = here.base / "load_data_csv"
        raise BpcpError(Exit.NO_INPUT, f"no image list: {here.image_list}", _there(folder, "*"))
    for path in (
        here.status, here.log, here.lock, here.joblog, here.events, here.fetching, here.ramdisk,
    ):  # fmt: skip
        sys.stdout.buffer.write(os.fsencode(path) + b"\0")
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
