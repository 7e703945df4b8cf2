from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import ROOT, Screen
from s3server import Bucket, Proxy, wait_for

from bpcp import fetch, staging
from bpcp import plan as planned
from bpcp.chunk import __main__ as chunk
from bpcp.errors import BpcpError, Exit
from bpcp.fetch import Fetcher, Room
from bpcp.run import todo
from bpcp.workspace import hold, read_json, write_json

PLENTY = 10**9


def in_bucket(screen: Screen, bucket: Bucket, *more: str, size: int = 1) -> list[str]:
    """Put a screen's images into the bucket instead of its folder, and plan; give the chunks."""
    bucket.put_tree(screen.images, "p q/images")
    shutil.rmtree(screen.images)
    plan(screen, bucket, *more, size=size)
    return screen.chunks()


def plan(screen: Screen, bucket: Bucket, *more: str, size: int = 1) -> None:
    screen.plan(
        "-q", "--input", f"{bucket.url}/p q", "--endpoint-url", os.environ["TEST_ENDPOINT"],
        "--chunk-size", str(size), *more,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def endpoint(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ENDPOINT", proxy.url)
    monkeypatch.setattr(fetch, "_LOOK_S", 0.05)


def finish(screen: Screen, *chunks: str) -> None:
    """Say of chunks that they are done, as far as whoever fetches is concerned."""
    for name in chunks:
        write_json(screen.workspace.chunk(name).done, {"failed": [], "cost": {}})


def is_ready(screen: Screen, name: str) -> bool:
    return screen.workspace.chunk(name).fetched.exists()


def here(screen: Screen) -> list[str]:
    """Name the files that lie in the folder of the images."""
    return sorted(p.name for p in screen.images.rglob("*")) if screen.images.is_dir() else []


def asked_for(proxy: Proxy) -> list[str]:
    """Name the images that the bucket was asked for, in order."""
    return [path.rpartition("/")[2] for method, path in proxy.requests if "/p q/" in path]


@contextmanager
def fetching(screen: Screen, room: Room, chunks: Sequence[str] = ()) -> Iterator[Fetcher]:
    """Fetch in the background; at the end of the block all chunks are said to be done."""
    ids = list(chunks) or todo.left(screen.workspace)
    caught: list[BaseException] = []
    fetcher = Fetcher(screen.workspace, screen.run_json(), room)

    def work() -> None:
        try:
            fetcher.fetch(ids)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield fetcher
    finally:
        finish(screen, *(name for name in ids if name in screen.chunks()))
        thread.join(60)
        assert not thread.is_alive()
    if caught:
        raise caught[0]


def start(screen: Screen) -> subprocess.Popen[str]:
    """Start one who fetches, as the entry script does: it holds the lock as long as it lives."""
    handle = os.open(screen.workspace.fetching, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return subprocess.Popen(
            [sys.executable, "-m", "bpcp.fetch", str(screen.workspace.status), "--slots", "2"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=[handle], stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    finally:
        os.close(handle)


@contextmanager
def started(screen: Screen) -> Iterator[subprocess.Popen[str]]:
    process = start(screen)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_places(screen: Screen, name: str) -> dict[str, str]:
    found = read_json(screen.workspace.chunk(name).fetched)
    assert found is not None
    return dict(found["places"])


# --- order, budget, removal --------------------------------------------------------------------


def test_images_come_in_the_order_of_the_chunks_and_go_when_these_are_done(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(4)
    names = in_bucket(screen, bucket)
    with fetching(screen, Room(None, PLENTY, 2)):
        wait_for(lambda: all(is_ready(screen, name) for name in names))
        assert here(screen) == ["f1.tif", "f2.tif", "f3.tif", "f4.tif"]
        finish(screen, names[1])
        wait_for(lambda: here(screen) == ["f1.tif", "f3.tif", "f4.tif"])
        assert not is_ready(screen, names[1])
        # where they belong, with the time that the bucket has
        remote = read_json(screen.workspace.chunk(names[0]).remote)
        assert remote is not None
        ((path, (size, mtime_ns, _)),) = remote.items()
        found = Path(path).stat()
        assert (found.st_size, found.st_mtime_ns) == (size, mtime_ns)
        assert read_places(screen, names[0]) == {}
    assert here(screen) == []
    assert asked_for(proxy) == ["f1.tif", "f2.tif", "f3.tif", "f4.tif"]
    assert staging.fetched(screen.workspace) == {}


def test_never_more_is_here_than_the_budget_allows(screen: Screen, bucket: Bucket) -> None:
    for i in range(6):
        screen.add(f"f{i}.tif", 1000)
    screen.write()
    names = in_bucket(screen, bucket)
    most = 0

    def watch() -> bool:
        nonlocal most
        if screen.images.is_dir():
            most = max(most, staging.space_of(screen.images))
        return False

    def ready() -> list[str]:
        watch()
        return [name for name in names if is_ready(screen, name)]

    with fetching(screen, Room(None, 2500, 2)) as fetcher:
        for i in range(len(names)):
            want = names[i : i + 2]
            wait_for(lambda want=want: ready() == want)  # type: ignore[misc]
            assert fetcher.used(None) <= 2500
            # the third waits, however long
            for _ in range(20):
                threading.Event().wait(0.02)
                assert ready() == want
            finish(screen, names[i])
    assert 1000 < most <= 2500
    assert here(screen) == []


def test_one_chunk_that_needs_more_than_the_budget_comes_alone(
    screen: Screen, bucket: Bucket
) -> None:
    screen.fill(4)
    names = in_bucket(screen, bucket, size=2)
    with fetching(screen, Room(None, 1, 2)):
        wait_for(lambda: is_ready(screen, names[0]))
        assert here(screen) == ["f1.tif", "f2.tif"]
        threading.Event().wait(0.3)
        assert not is_ready(screen, names[1])
        finish(screen, names[0])
        wait_for(lambda: is_ready(screen, names[1]))
        assert here(screen) == ["f3.tif", "f4.tif"]


def test_a_file_of_all_chunks_comes_once_and_goes_with_the_last(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.header += ["FileName_Illum", "PathName_Illum"]
    for i in range(3):
        screen.add(f"f{i}.tif", 10).extend(["illum.npy", str(screen.images)])
    (screen.images / "illum.npy").write_bytes(b"illum")
    screen.write()
    names = in_bucket(screen, bucket)
    with fetching(screen, Room(None, PLENTY, 2)):
        wait_for(lambda: all(is_ready(screen, name) for name in names))
        finish(screen, names[0], names[2])
        wait_for(lambda: here(screen) == ["f1.tif", "illum.npy"])
    assert here(screen) == []
    assert asked_for(proxy).count("illum.npy") == 1


def test_a_chunk_that_was_given_up_or_killed_needs_no_images(
    screen: Screen, bucket: Bucket
) -> None:
    screen.fill(3)
    names = in_bucket(screen, bucket)
    given_up, killed, works = (screen.workspace.chunk(name) for name in names)
    # of an earlier start: says nothing of this one
    write_json(given_up.error, {"reason": "x", "code": 73})
    with fetching(screen, Room(None, PLENTY, 2)), hold(works.lock, "it"):
        write_json(works.running, {"folder": "x"})
        wait_for(lambda: all(is_ready(screen, name) for name in names))
        threading.Event().wait(0.3)
        assert here(screen) == ["f1.tif", "f2.tif", "f3.tif"]
        given_up.error.unlink()
        write_json(given_up.error, {"reason": "y", "code": 73})
        killed.lock.touch()
        write_json(killed.running, {"folder": "x"})
        wait_for(lambda: here(screen) == ["f3.tif"])


def test_a_chunk_that_ended_before_its_turn_is_passed_over(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(3)
    names = in_bucket(screen, bucket)
    with fetching(screen, Room(None, 1, 2)):
        wait_for(lambda: is_ready(screen, names[0]))
        finish(screen, names[1])  # by hand, elsewhere
        finish(screen, names[0])
        wait_for(lambda: is_ready(screen, names[2]))
    assert asked_for(proxy) == ["f1.tif", "f3.tif"]


def test_files_of_the_users_own_stay_as_they_are(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(4)
    names = in_bucket(screen, bucket)
    remote = read_json(screen.workspace.chunk(names[0]).remote)
    assert remote is not None
    ((_, (size, mtime_ns, _)),) = remote.items()
    same, other = screen.images / "f1.tif", screen.images / "f2.tif"
    screen.images.mkdir()
    same.write_bytes(b"y" * size)
    os.utime(same, ns=(mtime_ns, mtime_ns))
    other.write_bytes(b"quite another one")
    with fetching(screen, Room(None, PLENTY, 2)):
        wait_for(lambda: all(is_ready(screen, name) for name in names))
        assert other.read_bytes() == b"quite another one"
        # the chunk reads what the bucket has
        (place,) = read_places(screen, names[1]).values()
        assert Path(place).read_bytes() == b"x" * 9
        assert Path(place).is_relative_to(screen.workspace.store)
        changed = screen.images / "f3.tif"
        changed.write_bytes(b"changed meanwhile")
    assert asked_for(proxy) == ["f2.tif", "f3.tif", "f4.tif"]
    assert same.read_bytes() == b"y" * size
    assert other.read_bytes() == b"quite another one"
    assert changed.read_bytes() == b"changed meanwhile"
    assert here(screen) == ["f1.tif", "f2.tif", "f3.tif"]
    assert not list(screen.workspace.store.rglob("*.tif"))


def test_images_of_addresses_in_the_list_come_into_the_runs_own_folder(
    screen: Screen, bucket: Bucket
) -> None:
    bucket.put("x y/a.tif", b"12345678")
    screen.header = ["FileName_DNA", "PathName_DNA"]
    screen.rows = [["a.tif", f"{bucket.url}/x y"]]
    screen.write()
    screen.plan("-q", "--endpoint-url", os.environ["TEST_ENDPOINT"])
    (name,) = screen.chunks()
    with fetching(screen, Room(None, PLENTY, 2)):
        wait_for(lambda: is_ready(screen, name))
        place = screen.workspace.store / "s3:" / bucket.name / "x y" / "a.tif"
        assert read_places(screen, name) == {f"{bucket.url}/x y/a.tif": str(place)}
        assert place.read_bytes() == b"12345678"
    assert not place.exists()


# --- what can't be had -------------------------------------------------------------------------


def test_what_cannot_be_had_is_named(screen: Screen, bucket: Bucket, proxy: Proxy) -> None:
    screen.fill(3)
    (name,) = in_bucket(screen, bucket, size=3)
    bucket.remove("p q/images/f1.tif")
    proxy.add("answer", "images/f2.tif", status=403, code="AccessDenied")
    with fetching(screen, Room(None, PLENTY, 2)):
        wait_for(lambda: is_ready(screen, name))
        found = read_json(screen.workspace.chunk(name).fetched)
        assert found is not None
        assert found["failed"] == {
            str(screen.images / "f1.tif"): "missing file",
            str(screen.images / "f2.tif"): "no permission to read it",
        }
        assert here(screen) == ["f3.tif"]
        assert list(screen.images.glob(".*")) == []
        # were they put there by hand, they would be the user's own
        assert [Path(p).name for p in staging.fetched(screen.workspace)] == ["f3.tif"]
    assert here(screen) == []


def test_damage_on_the_way_is_mended(screen: Screen, bucket: Bucket, proxy: Proxy) -> None:
    screen.fill(2)
    names = in_bucket(screen, bucket)
    damaged = proxy.add("damage", "f1.tif", times=1)
    cut = proxy.add("cut", "f2.tif", times=1, after=2)
    with fetching(screen, Room(None, PLENTY, 2)):
        wait_for(lambda: all(is_ready(screen, name) for name in names))
        assert damaged.met.is_set()
        assert cut.met.is_set()
        assert (screen.images / "f1.tif").read_bytes() == b"x" * 8
        assert (screen.images / "f2.tif").read_bytes() == b"x" * 9


def test_where_the_bucket_stays_away_what_was_brought_is_kept_for_the_chunks(
    screen: Screen, bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BPCP_PATIENCE_S", "0")
    screen.fill(3)
    names = in_bucket(screen, bucket)
    away = proxy.add("answer", "f2.tif", status=400, code="Trouble")
    with (
        pytest.raises(BpcpError, match=r"f2\.tif") as caught,
        fetching(screen, Room(None, PLENTY, 2)) as fetcher,
    ):
        wait_for(away.met.is_set)
        wait_for(lambda: fetcher.under_way and here(screen) == ["f1.tif"])
        threading.Event().wait(0.3)
        assert is_ready(screen, names[0])
        assert here(screen) == ["f1.tif"]
    assert caught.value.code == Exit.COPY_FAILED
    assert here(screen) == []
    assert not is_ready(screen, names[2])


# --- from slow disks, to RAM disks -------------------------------------------------------------


def store_in(folder: Path) -> Path:
    store = folder / f"{staging.STORE_PREFIX}x"
    store.mkdir()
    return store


def test_images_of_other_disks_are_copied_to_a_ram_disk(screen: Screen, small_ram: Path) -> None:
    screen.fill(4)
    screen.plan("-q", "-t", str(small_ram), "--chunk-size", "2")
    assert screen.run_json()["stages"]
    names = screen.chunks()
    store = store_in(small_ram)
    before = {p: p.stat() for p in screen.images.iterdir()}
    with fetching(screen, Room(store, PLENTY, 0)):
        wait_for(lambda: all(is_ready(screen, name) for name in names))
        places = read_places(screen, names[0])
        assert places == {
            str(screen.images / name): staging.in_mirror(str(store), str(screen.images / name))
            for name in ("f1.tif", "f2.tif")
        }
        for name, place in places.items():
            assert Path(place).read_bytes() == Path(name).read_bytes()
            assert Path(place).stat().st_mtime_ns == Path(name).stat().st_mtime_ns
        finish(screen, names[0])
        wait_for(lambda: not any(Path(place).exists() for place in places.values()))
    assert [p for p in store.rglob("*") if p.is_file()] == []
    # the originals were never touched
    for path, stat in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_images_that_lie_on_the_ram_disk_already_stay_there(
    screen: Screen, small_ram: Path
) -> None:
    screen.images_elsewhere = small_ram / "images"
    screen.fill(2)
    screen.plan("-q", "-t", str(small_ram))
    assert not screen.run_json()["stages"]


def test_where_the_ram_disk_is_too_small_images_go_to_their_own_places(
    screen: Screen, bucket: Bucket, small_ram: Path
) -> None:
    screen.fill(2)
    screen.add("big.tif", 2 << 20)
    screen.write()
    names = in_bucket(screen, bucket, "-t", str(small_ram))
    store = store_in(small_ram)
    with fetching(screen, Room(store, 1 << 20, 0, PLENTY)):
        wait_for(lambda: all(is_ready(screen, name) for name in names))
        assert all(
            Path(place).is_relative_to(store)
            for name in names[:2]
            for place in read_places(screen, name).values()
        )
        assert read_places(screen, names[2]) == {}
        assert here(screen) == ["big.tif"]
    assert here(screen) == []


def test_without_room_for_what_chunks_write_nothing_goes_to_the_ram_disk(
    screen: Screen, small_ram: Path, bucket: Bucket
) -> None:
    """An attempt writes tens of MB: a RAM disk of 1 MB is none for images."""
    screen.fill(2)
    names = in_bucket(screen, bucket, "-t", str(small_ram))
    store = store_in(small_ram)
    with fetching(screen, Room(store, PLENTY, 1, PLENTY)):
        wait_for(lambda: all(is_ready(screen, name) for name in names))
        assert here(screen) == ["f1.tif", "f2.tif"]
        assert list(store.iterdir()) == []


@pytest.mark.parametrize("comes_from", ["bucket", "disk"])
def test_where_the_ram_disk_is_full_after_all_images_go_to_their_own_places(
    screen: Screen,
    bucket: Bucket,
    small_ram: Path,
    monkeypatch: pytest.MonkeyPatch,
    comes_from: str,
) -> None:
    screen.fill(1)
    screen.add("big.tif", 2 << 20)
    screen.write()
    if comes_from == "bucket":
        names = in_bucket(screen, bucket, "-t", str(small_ram), size=2)
    else:
        screen.plan("-q", "-t", str(small_ram), "--chunk-size", "2")
        names = screen.chunks()
    store = store_in(small_ram)
    # others fill it at the same moment
    monkeypatch.setattr(staging, "free_bytes", lambda _: PLENTY)
    with fetching(screen, Room(store, PLENTY, 0)):
        wait_for(lambda: is_ready(screen, names[0]))
        assert read_places(screen, names[0]) == {}
        assert here(screen) == ["big.tif", "f1.tif"]
        # nothing of the big one takes up room
        assert not [p for p in store.rglob("*") if p.is_file() and p.name != "f1.tif"]
    assert here(screen) == ([] if comes_from == "bucket" else ["big.tif", "f1.tif"])
    assert not [p for p in store.rglob("*") if p.is_file()]


def test_where_no_disk_has_room_it_is_73(
    screen: Screen, bucket: Bucket, small_ram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("p q/plate/big.tif", b"x" * (2 << 20))
    screen.rows = [["big.tif", "plate", "P1", "A01"]]
    screen.write()
    monkeypatch.setenv("PATHNAME_BASENAME", str(small_ram / "not yet"))
    plan(screen, bucket)
    with (
        pytest.raises(BpcpError, match="No space left") as caught,
        fetching(screen, Room(None, PLENTY, 2)),
    ):
        pass
    assert caught.value.code == Exit.CANNOT_CREATE
    assert [p for p in small_ram.rglob("*") if p.is_file()] == []


# --- the process -------------------------------------------------------------------------------


def temporaries(screen: Screen) -> list[Path]:
    return list(screen.base.rglob(".bpcp-*"))


def test_killed_the_next_one_goes_on_and_clears_away(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(4)
    names = in_bucket(screen, bucket)
    held = proxy.add("hold", "f3.tif", times=1)
    with started(screen) as process:
        wait_for(held.met.is_set)
        wait_for(lambda: temporaries(screen))
        assert staging.is_fetching(screen.workspace)
        process.kill()
        process.wait()
    held.go.set()
    assert not staging.is_fetching(screen.workspace)
    assert len(temporaries(screen)) == 1
    # done in between by hand: one whose image is here, and the one whose image was on its way
    finish(screen, names[0], names[2])
    rest = [names[1], names[3]]
    with (screen.workspace.fetched).open("a") as file:
        file.write('{"path": "torn by the k')
    proxy.requests.clear()
    with fetching(screen, Room(None, PLENTY, 2), rest):
        wait_for(lambda: all(is_ready(screen, name) for name in rest))
        assert here(screen) == ["f2.tif", "f4.tif"]
        assert temporaries(screen) == []
    assert here(screen) == []
    assert asked_for(proxy) == ["f4.tif"]
    assert staging.fetched(screen.workspace) == {}


def test_killed_with_nothing_left_to_do_all_is_cleared_away(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(2)
    in_bucket(screen, bucket)
    held = proxy.add("hold", "f2.tif")
    with started(screen):
        wait_for(held.met.is_set)
        wait_for(lambda: temporaries(screen))
    (screen.images / "own.tif").write_bytes(b"x")
    staging.clear(screen.workspace, everything=True)
    assert here(screen) == ["own.tif"]
    assert temporaries(screen) == []


def test_killed_its_folder_on_the_ram_disk_goes_at_the_next_start(
    screen: Screen, bucket: Bucket, small_ram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    in_bucket(screen, bucket, "-t", str(small_ram))
    with started(screen):
        wait_for(lambda: staging.stores(screen.workspace))
        (store,) = staging.stores(screen.workspace)
        assert store.parent == small_ram
    assert store.is_dir()
    todo.main([str(screen.workspace.status)])
    assert list(small_ram.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_leaves_nothing_half_done(
    screen: Screen, bucket: Bucket, proxy: Proxy, tmp_path: Path, number: signal.Signals
) -> None:
    """Also where the bucket does not answer, it ends at once."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    screen.fill(2)
    names = in_bucket(screen, bucket, "-t", str(scratch))
    held = proxy.add("hold", "f2.tif")
    with started(screen) as process:
        wait_for(held.met.is_set)
        wait_for(lambda: is_ready(screen, names[0]))
        (store,) = scratch.iterdir()
        assert [p.name for p in store.rglob("*.tif")] == ["f1.tif"]
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert list(scratch.iterdir()) == []
    assert temporaries(screen) == []


def test_told_to_end_what_was_brought_stays_for_the_next_start(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(2)
    names = in_bucket(screen, bucket)
    with started(screen) as process:
        wait_for(lambda: all(is_ready(screen, name) for name in names))
        process.terminate()
        assert process.wait(20) == 0
    assert here(screen) == ["f1.tif", "f2.tif"]
    proxy.requests.clear()
    with fetching(screen, Room(None, PLENTY, 2)) as fetcher:
        # what the first one said of them is still there at first
        wait_for(lambda: fetcher.ahead == set(names))
    assert asked_for(proxy) == []
    assert here(screen) == []


def test_the_process_fetches_what_is_left_within_its_space(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    for i in range(3):
        screen.add(f"f{i}.tif", 1000)
    screen.write()
    names = in_bucket(screen, bucket)
    write_json(screen.workspace.run, {**screen.run_json(), "space": 2048})
    with started(screen) as process:
        wait_for(lambda: is_ready(screen, names[1]))
        threading.Event().wait(0.5)
        assert not is_ready(screen, names[2])
        assert chunk.main([str(screen.workspace.status), names[0]]) == Exit.OK
        wait_for(lambda: is_ready(screen, names[2]))
        assert here(screen) == ["f1.tif", "f2.tif"]
        for name in names[1:]:
            assert chunk.main([str(screen.workspace.status), name]) == Exit.OK
        assert process.wait(20) == 0
    assert here(screen) == []
    assert asked_for(proxy) == ["f0.tif", "f1.tif", "f2.tif"]


# --- for one chunk -----------------------------------------------------------------------------


def test_for_one_chunk_images_come_into_its_own_folder(
    screen: Screen, bucket: Bucket, tmp_path: Path
) -> None:
    screen.fill(3)
    names = in_bucket(screen, bucket, size=3)
    bucket.remove("p q/images/f3.tif")
    screen.images.mkdir()
    old = screen.images / "f1.tif"
    old.write_bytes(b"an old one")
    found = fetch.for_one(screen.workspace, names[0], screen.run_json(), tmp_path / "own")
    assert found.failed == {str(screen.images / "f3.tif"): "missing file"}
    assert {Path(n).name: Path(p).read_bytes() for n, p in found.places.items()} == {
        "f1.tif": b"x" * 8,
        "f2.tif": b"x" * 9,
    }
    assert all(Path(p).is_relative_to(tmp_path / "own") for p in found.places.values())
    assert old.read_bytes() == b"an old one"
    assert here(screen) == ["f1.tif"]


def test_for_one_chunk_what_is_here_is_not_fetched(
    screen: Screen, bucket: Bucket, proxy: Proxy, tmp_path: Path
) -> None:
    screen.fill(2)
    names = in_bucket(screen, bucket, size=2)
    remote: dict[str, Any] = read_json(screen.workspace.chunk(names[0]).remote) or {}
    screen.images.mkdir()
    path = screen.images / "f1.tif"
    path.write_bytes(b"x" * remote[str(path)][0])
    found = fetch.for_one(screen.workspace, names[0], screen.run_json(), tmp_path)
    assert [Path(n).name for n in found.places] == ["f2.tif"]
    assert asked_for(proxy) == ["f2.tif"]
    # older than the bucket's: not the same
    os.utime(path, ns=(0, 0))
    found = fetch.for_one(screen.workspace, names[0], screen.run_json(), tmp_path)
    assert [Path(n).name for n in found.places] == ["f1.tif", "f2.tif"]


def test_a_truncated_image_of_the_bucket_is_named_and_not_kept(
    screen: Screen, bucket: Bucket
) -> None:
    screen.fill(2)
    for row in screen.rows:
        tifffile.imwrite(screen.images / row[0], np.zeros((9, 9), np.uint8))
    bad = screen.images / "f2.tif"
    bad.write_bytes(bad.read_bytes()[:-40])
    bucket.put_tree(screen.images, "p q/images")
    shutil.rmtree(screen.images)
    run = ("-q", "--input", f"{bucket.url}/p q", "--endpoint-url", os.environ["TEST_ENDPOINT"])
    assert planned.main(screen.arguments(*run, "--chunk-size", "2", "--slots", "1")) == Exit.OK
    (name,) = screen.chunks()
    with fetching(screen, Room(None, PLENTY, 1)):
        wait_for(lambda: is_ready(screen, name))
        assert here(screen) == ["f1.tif"]
        found = read_json(screen.workspace.chunk(name).fetched) or {}
    # what run-chunk fails the image set by
    assert list(found["failed"]) == [str(bad)]
    assert found["failed"][str(bad)].startswith("ends at byte")
