"""Fetch images ahead of the chunks that need them, and remove them when no chunk does any more.

It goes through the chunks in the order in which they run, as far ahead as the room allows. Images
come from a bucket, or, where chunks work on a RAM disk, from this machine's slower disks as well.
The one who fetches holds a lock; a chunk waits for its images while that is held, and brings them
by itself where nobody else does.

Source for the choice of single requests: `aws s3 sync` would list the whole folder anew for each
chunk, and can only leave out what patterns on its command line name.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from bpcp import imagelist, s3, staging
from bpcp.background import Told, serve
from bpcp.chunk import learned
from bpcp.disks import mount_of
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.limits import GB, read_limits
from bpcp.run.todo import left
from bpcp.slots import process_gb
from bpcp.sources import Source
from bpcp.staging import Inputs
from bpcp.workspace import ChunkPaths, Json, Workspace, hold, of_status, read_json, write_json

_LOOK_S = 0.3


@dataclass(frozen=True)
class Want:
    """A file that a chunk needs and that is not where its list says, or not on the right disk.

    Attributes
    ----------
    name : str
        What the image list calls it.
    size : int
        Bytes.
    remote : tuple of (str, str), or None
        Bucket and key; None where it is copied from `name` itself.
    mtime_ns : int
        When it was last changed.
    """

    name: str
    size: int
    mtime_ns: int
    remote: tuple[str, str] | None


def wants(workspace: Workspace, chunk_id: str, run: Json, faster_than: int | None) -> list[Want]:
    """List the files of a chunk that must be brought.

    Parameters
    ----------
    faster_than : int or None
        The device number of the RAM disk: files of other disks are copied onto it.
    """
    paths = workspace.chunk(chunk_id)
    root, source = Path(run["root"]), Source.from_json(run["source"])
    images = imagelist.read(paths.images)
    count = int((read_json(paths.chunk) or {})["image_sets"])
    known = read_json(paths.remote) or {}
    found: dict[str, Want] = {}
    for row in images.rows[:count]:
        for _, name in imagelist.files(images.header, row, root):
            if name in found:
                continue
            place = source.find(name, root)
            if place and name in known:
                size, mtime_ns = (int(n) for n in known[name][:2])
                found[name] = Want(name, size, mtime_ns, place)
            elif faster_than is not None and not imagelist.is_remote(name):
                with suppress(OSError):
                    stat = Path(name).stat()
                    if stat.st_dev != faster_than:
                        found[name] = Want(name, stat.st_size, stat.st_mtime_ns, None)
    return list(found.values())


def bring(want: Want, place: Path, source: Source, temporary: Path | None = None) -> str:
    """Bring one file to its place, whole or not at all; say why where it can't be had.

    Parameters
    ----------
    temporary : Path, optional
        What it is called meanwhile, in the same folder; else a name that nobody else uses.

    Raises
    ------
    BpcpError
        74 where the bucket was away for too long.
    OSError
        Where there is no room.
    """
    if want.remote:
        try:
            s3.fetch(source.access, *want.remote, place, temporary)
        except s3.GoneError as error:
            return str(error)
        return ""
    place.parent.mkdir(parents=True, exist_ok=True)
    name = str(temporary)
    if temporary is None:
        handle, name = tempfile.mkstemp(prefix=".bpcp-", dir=place.parent)
        os.close(handle)
    try:
        shutil.copyfile(want.name, name)
        os.utime(name, ns=(want.mtime_ns, want.mtime_ns))
        Path(name).replace(place)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
    return ""


def bring_good(
    want: Want, place: Path, source: Source, checked: bool, temporary: Path | None = None
) -> str:
    """Bring one file, and look at it as the run's check did at those that were here.

    Parameters
    ----------
    checked : bool
        Whether the run checks its files.

    Returns
    -------
    str
        Why it can't be had, or used; it is not there then.
    """
    why = bring(want, place, source, temporary)
    if why or not (want.remote and checked):
        return why
    from bpcp.check.look import look

    found = look(str(place))
    if not found.certain:
        return ""
    place.unlink(missing_ok=True)
    return found.said


def is_there(want: Want, place: Path) -> bool:
    """Tell whether a file needs no fetching, as `aws s3 sync` would: same size, and no older."""
    try:
        stat = place.stat()
    except OSError:
        return False
    return stat.st_size == want.size and stat.st_mtime_ns >= want.mtime_ns


def for_one(workspace: Workspace, chunk_id: str, run: Json, folder: Path) -> Inputs:
    """Bring a chunk's images for it alone, where nobody fetches ahead.

    Parameters
    ----------
    folder : Path
        Where to; it goes when the chunk ends.
    """
    source = Source.from_json(run["source"])
    places: dict[str, str] = {}
    todo = []
    for want in wants(workspace, chunk_id, run, None):
        if not is_there(want, Path(want.name)):
            places[want.name] = staging.in_mirror(str(folder), want.name)
            todo.append(want)
    with ThreadPoolExecutor(s3.CONNECTIONS) as pool:
        checked = bool(run.get("checked"))
        said = pool.map(lambda w: bring_good(w, Path(places[w.name]), source, checked), todo)
        failed = {w.name: why for w, why in zip(todo, said, strict=True) if why}
    return Inputs({n: p for n, p in places.items() if n not in failed}, failed)


@dataclass(frozen=True)
class Room:
    """How much may be brought where.

    Attributes
    ----------
    store : Path or None
        The folder on a RAM disk that images are brought to; None brings them to their own places.
    budget : int
        Bytes of images at once.
    slots : int
        Attempts that write at the same time, for which room is left on the RAM disk.
    own : int
        Bytes of images at once in their own places, where the RAM disk has no room.
    """

    store: Path | None
    budget: int
    slots: int
    own: int = 0


def room(workspace: Workspace, run: Json, slots: int) -> Room:
    """Work out how much may be brought where; makes the folder on the RAM disk."""
    # what the user grants to images that were fetched
    space = run["space"]
    at = _existing(Path(run["root"]))
    # results go to some disk too, often this one
    own = int(0.8 * staging.free_bytes(at)) if space is None else space
    if run["stages"] and (home := Path(run["tmpdir"])).is_dir():
        store = home / f"{staging.STORE_PREFIX}{secrets.token_hex(8)}"
        staging.end_line(workspace)
        # noted first: whatever is killed now, the next start knows it
        _note(workspace, {"store": str(store)})
        store.mkdir(mode=0o700)
        free = staging.free_bytes(home)
        if mount_of(home).is_memory:
            each_gb = process_gb(workspace, run["file_sha256"])
            memory = (read_limits().mem_free_gb - slots * each_gb) * GB
            free = min(free, max(0, int(memory)))
        return Room(store, free if space is None else min(space, free), slots, own)
    return Room(None, own, slots)


def _existing(folder: Path) -> Path:
    return next(p for p in (folder, *folder.parents) if p.exists())


@dataclass
class Fetcher:
    """Brings images, chunk by chunk, and removes them."""

    workspace: Workspace
    run: Json
    room: Room
    # what was brought and is still there: size and time, by place
    here: dict[str, tuple[int, int]] = field(default_factory=dict)
    orders: dict[str, list[Want]] = field(default_factory=dict)
    # how many chunks still need a file
    needed: Counter[str] = field(default_factory=Counter)
    # chunks whose images are there, and are not over yet
    ahead: set[str] = field(default_factory=set)
    # when the last verdict of a chunk was written, and the last reason why it could not be run
    before: dict[str, tuple[int, int]] = field(default_factory=dict)
    # files of the user's own that stand where others of the bucket would go
    in_the_way: set[str] = field(default_factory=set)
    # what files that are being brought are called meanwhile
    under_way: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = Source.from_json(self.run["source"])
        noted = staging.fetched(self.workspace)
        for place in noted:
            staging.temporary(self.workspace, place).unlink(missing_ok=True)
        self.here = {p: found for p, found in noted.items() if staging.is_as_fetched(p, *found)}
        staging.end_line(self.workspace)
        for place in noted.keys() - self.here.keys():
            # what comes to stand there now is the user's own
            self._note({"gone": place})

    def used(self, store: Path | None) -> int:
        """Give the bytes of what was brought to a store, or to its own places."""
        below = f"{self.room.store}/"
        return sum(
            size
            for place, (size, _) in self.here.items()
            if (store is not None) == place.startswith(below)
        )

    def place(self, want: Want, store: Path | None) -> str:
        """Say where a file is brought to."""
        if store:
            return staging.in_mirror(str(store), want.name)
        if want.name.startswith("/") and want.name not in self.in_the_way:
            return want.name
        return staging.in_mirror(str(self.workspace.store), want.name)

    def fetch(self, chunk_ids: Sequence[str]) -> None:
        """Bring the images of chunks, in order; return when no chunk needs any of them."""
        device = self.room.store.stat().st_dev if self.room.store else None
        # at once: chunks that find what an earlier start brought don't wait
        self.before = {c: _ends(self.workspace.chunk(c)) for c in chunk_ids}
        for chunk_id in chunk_ids:
            self.workspace.chunk(chunk_id).fetched.unlink(missing_ok=True)
            self.orders[chunk_id] = wants(self.workspace, chunk_id, self.run, device)
            self.needed.update(want.name for want in self.orders[chunk_id])
        everything = [want for order in self.orders.values() for want in order]
        self.in_the_way = {w.name for w in everything if self._is_in_the_way(w)}
        wanted = {place for want in everything for place in self._both(want)}
        self._remove(place for place in list(self.here) if place not in wanted)
        try:
            for chunk_id in chunk_ids:
                store = self._admit(chunk_id)
                if self._is_over(chunk_id):
                    self._forget(chunk_id)
                else:
                    self._bring(chunk_id, store)
        except Exception:
            # chunks read what was brought so far
            self._await_end()
            raise
        self._await_end()

    def _await_end(self) -> None:
        while self.ahead:
            time.sleep(_LOOK_S)
            self.let_go()

    def _is_in_the_way(self, want: Want) -> bool:
        at = Path(want.name)
        return (
            want.remote is not None
            and want.name.startswith("/")
            and want.name not in self.here
            and at.exists()
            and not is_there(want, at)
        )

    def _both(self, want: Want) -> set[str]:
        return {self.place(want, self.room.store), self.place(want, None)}

    def _missing(self, chunk_id: str, store: Path | None) -> list[tuple[Want, Path]]:
        """List what must be brought for a chunk, and to which places."""
        places = [
            (w, Path(self.place(w, store))) for w in self.orders[chunk_id] if store or w.remote
        ]
        return [(w, place) for w, place in places if not is_there(w, place)]

    def _bring(self, chunk_id: str, store: Path | None) -> None:
        try:
            failed = self._bring_all(self._missing(chunk_id, store))
        except OSError as error:
            if store is None:
                raise BpcpError(
                    Exit.CANNOT_CREATE,
                    f"can't write {error.filename or self.run['root']}: {error.strerror}",
                    "make room, or let PATHNAME_BASENAME name a folder that has more",
                ) from error
            # no room after all: without the RAM disk
            self._bring(chunk_id, None)
            return
        paths = self.workspace.chunk(chunk_id)
        places = {w.name: self.place(w, store) for w in self.orders[chunk_id] if store or w.remote}
        self.ahead.add(chunk_id)
        content: Json = {
            "digest": (read_json(paths.chunk) or {})["digest"],
            "places": {n: p for n, p in places.items() if n not in failed and n != p},
            "failed": failed,
        }
        write_json(paths.fetched, content)

    def _bring_all(self, missing: Sequence[tuple[Want, Path]]) -> dict[str, str]:
        failed = {}
        names = [staging.temporary(self.workspace, str(place)) for _, place in missing]
        for want, place in missing:
            # noted first: whatever is killed now, the next start knows whose file it is
            self._note({"path": str(place), "size": want.size, "mtime_ns": want.mtime_ns})
        self.under_way = names
        checked = bool(self.run.get("checked"))
        pool = ThreadPoolExecutor(s3.CONNECTIONS)
        try:
            jobs = [
                (want, place, pool.submit(bring_good, want, place, self.source, checked, name))
                for (want, place), name in zip(missing, names, strict=True)
            ]
            for want, place, job in jobs:
                if why := job.result():
                    failed[want.name] = why
                    self._note({"gone": str(place)})
                else:
                    self.here[str(place)] = (want.size, want.mtime_ns)
        except Told:
            # some may wait for an answer for long; `main` ends them
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        pool.shutdown()
        self.under_way = []
        return failed

    def _admit(self, chunk_id: str) -> Path | None:
        """Wait for room for a chunk's images; say in which store, or None for their own places."""
        store = self.room.store
        if store and not self._may_fit(chunk_id):
            store = None
        while not self._is_over(chunk_id):
            self.let_go()
            size = sum(w.size for w, _ in self._missing(chunk_id, store))
            used = self.used(store)
            at = store or _existing(Path(self.run["root"]))
            reserve = self._reserve(chunk_id) if store else 0
            limit = self.room.budget if store == self.room.store else self.room.own
            if size == 0 or (used + size <= limit and staging.free_bytes(at) - size >= reserve):
                break
            if used and self.ahead:
                time.sleep(_LOOK_S)
            elif store:
                store = None
            else:
                # nothing will make more room; where it really is too little, writing says so
                break
        return store

    def _reserve(self, chunk_id: str) -> int:
        """Give the bytes that must stay free for what attempts write."""
        paths = self.workspace.chunk(chunk_id)
        read = sum(w.size for w in self.orders[chunk_id])
        sets = int((read_json(paths.chunk) or {})["image_sets"])
        return self.room.slots * learned.room_for(self.workspace, sets, read)

    def _may_fit(self, chunk_id: str) -> bool:
        size = sum(w.size for w in self.orders[chunk_id])
        return size + self._reserve(chunk_id) <= self.room.budget

    def let_go(self) -> None:
        """Remove what no chunk needs any more."""
        for chunk_id in list(self.ahead):
            if self._is_over(chunk_id):
                self.ahead.remove(chunk_id)
                self._forget(chunk_id)

    def _is_over(self, chunk_id: str) -> bool:
        """Tell whether a chunk came to an end since the start: done, given up, or killed."""
        paths = self.workspace.chunk(chunk_id)
        (done, error), before = _ends(paths), self.before[chunk_id]
        return done != before[0] or error not in (0, before[1]) or _was_killed(paths)

    def _forget(self, chunk_id: str) -> None:
        self.workspace.chunk(chunk_id).fetched.unlink(missing_ok=True)
        order = self.orders.pop(chunk_id)
        self.needed.subtract(want.name for want in order)
        self._remove(place for w in order if not self.needed[w.name] for place in self._both(w))

    def _remove(self, places: Iterable[str]) -> None:
        for place in places:
            if place in self.here:
                staging.remove(place, *self.here.pop(place))
                self._note({"gone": place})

    def clear_and_end(self) -> NoReturn:
        """Remove the folder on the RAM disk, and what was not brought to its end; end the process.

        Threads may still wait for an answer, or be about to write what they got. As another
        program takes this one's place, they are gone before it removes the first file.
        """
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        names = [str(name) for name in (*self.under_way, self.room.store) if name]
        os.execvp("rm", ["rm", "-rf", "--", *names])  # noqa: S606, S607 -- a list

    def _note(self, entry: Json) -> None:
        _note(self.workspace, entry)


def _note(workspace: Workspace, entry: Json) -> None:
    with workspace.fetched.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _ends(paths: ChunkPaths) -> tuple[int, int]:
    return _time(paths.done), _time(paths.error)


def _was_killed(paths: ChunkPaths) -> bool:
    if not paths.running.exists():
        return False
    try:
        with hold(paths.lock, "it"):
            return True
    except BpcpError:
        return False


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def main(argv: Sequence[str]) -> int:
    """Fetch the images of the chunks that are left to run; the caller holds the lock for this."""
    parser = Parser("run")
    parser.add_argument("run", type=Path)
    parser.add_argument("--slots", type=int, required=True)
    args = parser.parse_args(argv)
    serve()
    workspace = of_status(args.run)
    run = read_json(workspace.run) or {}
    fetcher = Fetcher(workspace, run, room(workspace, run, args.slots))
    try:
        fetcher.fetch(left(workspace))
    except Told:
        # what the last chunks read, too
        fetcher.let_go()
        fetcher.clear_and_end()
    finally:
        if fetcher.room.store:
            shutil.rmtree(fetcher.room.store, ignore_errors=True)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
