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
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bpcp import imagelist, s3, staging
from bpcp.background import Told, serve
from bpcp.disks import mount_of
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.limits import GB, PROCESS_MEM_GB, read_limits, to_bytes
from bpcp.sources import Source
from bpcp.staging import Inputs
from bpcp.todo import left
from bpcp.workspace import Json, Workspace, of_status, read_json, write_json

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


def bring(want: Want, place: Path, source: Source) -> str:
    """Bring one file to its place, whole or not at all; say why where it can't be had.

    Raises
    ------
    BpcpError
        74 where the bucket was away for too long.
    OSError
        Where there is no room.
    """
    if want.remote:
        try:
            s3.fetch(source.access, *want.remote, place)
        except s3.GoneError as error:
            return str(error)
        return ""
    place.parent.mkdir(parents=True, exist_ok=True)
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
        said = pool.map(lambda w: bring(w, Path(places[w.name]), source), todo)
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
    """

    store: Path | None
    budget: int
    slots: int


def room(workspace: Workspace, run: Json, slots: int, space: int | None) -> Room:
    """Work out how much may be brought where; makes the folder on the RAM disk.

    Parameters
    ----------
    space : int or None
        Bytes that the user grants to images that were fetched; None leaves it to bpcp.
    """
    if run["stages"]:
        home = Path(run["tmpdir"])
        store = Path(tempfile.mkdtemp(prefix=staging.STORE_PREFIX, dir=home))
        free = staging.free_bytes(home)
        if mount_of(home).is_memory:
            memory = read_limits().mem_free_gb * GB - slots * PROCESS_MEM_GB * GB
            free = min(free, max(0, int(memory)))
        return Room(store, free if space is None else min(space, free), slots)
    at = _existing(Path(run["root"]))
    # results go to some disk too, often this one
    return Room(None, int(0.8 * staging.free_bytes(at)) if space is None else space, slots)


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
    # chunks whose images are there, with when their last verdict was written
    ahead: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = Source.from_json(self.run["source"])
        self.here = {
            place: found
            for place, found in staging.fetched(self.workspace).items()
            if Path(place).exists()
        }
        if self.room.store:
            self._note({"store": str(self.room.store)})

    @property
    def used(self) -> int:
        """Bytes of what was brought."""
        return sum(size for size, _ in self.here.values())

    def place(self, want: Want, store: Path | None) -> str:
        """Say where a file is brought to."""
        if store:
            return staging.in_mirror(str(store), want.name)
        if want.name.startswith("/"):
            return want.name
        return staging.in_mirror(str(self.workspace.store), want.name)

    def fetch(self, chunk_ids: Sequence[str]) -> None:
        """Bring the images of chunks, in order; return when no chunk needs any of them."""
        device = self.room.store.stat().st_dev if self.room.store else None
        for chunk_id in chunk_ids:
            self.workspace.chunk(chunk_id).fetched.unlink(missing_ok=True)
            self.orders[chunk_id] = wants(self.workspace, chunk_id, self.run, device)
            self.needed.update(want.name for want in self.orders[chunk_id])
        wanted = {place for todo in self.orders.values() for w in todo for place in self._both(w)}
        self._remove(place for place in list(self.here) if place not in wanted)
        for chunk_id in chunk_ids:
            self._bring(chunk_id, self._admit(chunk_id))
        while self.ahead:
            time.sleep(_LOOK_S)
            self._let_go()

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
                    f"can't write {error.filename}: {error.strerror}",
                    "make room, or let PATHNAME_BASENAME name a folder that has more",
                ) from error
            # no room after all: without the RAM disk
            self._bring(chunk_id, None)
            return
        paths = self.workspace.chunk(chunk_id)
        places = {w.name: self.place(w, store) for w in self.orders[chunk_id] if store or w.remote}
        self.ahead[chunk_id] = _time(paths.done)
        content: Json = {
            "digest": (read_json(paths.chunk) or {})["digest"],
            "places": {n: p for n, p in places.items() if n not in failed and n != p},
            "failed": failed,
        }
        write_json(paths.fetched, content)

    def _bring_all(self, missing: Sequence[tuple[Want, Path]]) -> dict[str, str]:
        failed = {}
        with ThreadPoolExecutor(s3.CONNECTIONS) as pool:
            for want, place in missing:
                # noted first: whatever is killed now, the next start knows whose file it is
                self._note({"path": str(place), "size": want.size, "mtime_ns": want.mtime_ns})
            jobs = [(w, p, pool.submit(bring, w, p, self.source)) for w, p in missing]
            for want, place, job in jobs:
                try:
                    why = job.result()
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
                if why:
                    failed[want.name] = why
                else:
                    self.here[str(place)] = (want.size, want.mtime_ns)
        return failed

    def _admit(self, chunk_id: str) -> Path | None:
        """Wait for room for a chunk's images; say in which store, or None for their own places."""
        store = self.room.store
        if store and not self._may_fit(chunk_id):
            store = None
        while True:
            self._let_go()
            size = sum(w.size for w, _ in self._missing(chunk_id, store))
            at = store or _existing(Path(self.run["root"]))
            reserve = self._reserve(chunk_id) if store else 0
            if size == 0 or (
                self.used + size <= self.room.budget and staging.free_bytes(at) - size >= reserve
            ):
                return store
            if not self.ahead:
                # nothing will make more room; where it really is too little, writing says so
                return None
            time.sleep(_LOOK_S)

    def _reserve(self, chunk_id: str) -> int:
        """Give the bytes that must stay free for what attempts write."""
        paths = self.workspace.chunk(chunk_id)
        read = sum(w.size for w in self.orders[chunk_id])
        sets = int((read_json(paths.chunk) or {})["image_sets"])
        return self.room.slots * staging.room_for(self.workspace, sets, read)

    def _may_fit(self, chunk_id: str) -> bool:
        size = sum(w.size for w in self.orders[chunk_id])
        return size + self._reserve(chunk_id) <= self.room.budget

    def _let_go(self) -> None:
        """Remove what no chunk needs any more."""
        for chunk_id, before in list(self.ahead.items()):
            paths = self.workspace.chunk(chunk_id)
            if _time(paths.done) == before and not paths.error.exists():
                continue
            del self.ahead[chunk_id]
            paths.fetched.unlink(missing_ok=True)
            order = self.orders.pop(chunk_id)
            self.needed.subtract(want.name for want in order)
            self._remove(place for w in order if not self.needed[w.name] for place in self._both(w))

    def _remove(self, places: Iterable[str]) -> None:
        for place in places:
            if place in self.here:
                staging.remove(place, *self.here.pop(place))
                self._note({"gone": place})

    def _note(self, entry: Json) -> None:
        with self.workspace.fetched.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


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
    parser.add_argument("--space", type=to_bytes)
    args = parser.parse_args(argv)
    serve()
    workspace = of_status(args.run)
    run = read_json(workspace.run) or {}
    fetcher = Fetcher(workspace, run, room(workspace, run, args.slots, args.space))
    try:
        fetcher.fetch(left(workspace))
    except Told:
        pass
    finally:
        if fetcher.room.store:
            shutil.rmtree(fetcher.room.store, ignore_errors=True)
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
