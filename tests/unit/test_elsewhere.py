"""Runs whose images lie in a bucket, or on another disk than the one that chunks work on."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import EXPORT, SAVE, Screen, load_data, refused
from s3server import Bucket, Proxy

from bpcp import fetch, imagelist, staging
from bpcp.chunk import __main__ as chunk
from bpcp.errors import Exit
from bpcp.run import todo
from bpcp.workspace import Json, hold, read_json, write_json

PREFIX = "p q/ü"
LABEL = "\nLabelImages:[module_num:2|enabled:True]\n"


def at(bucket: Bucket, proxy: Proxy) -> list[str]:
    return ["--input", f"{bucket.url}/{PREFIX}", "--endpoint-url", proxy.url]


def into_bucket(screen: Screen, bucket: Bucket) -> None:
    """Move a screen's images into the bucket."""
    bucket.put_tree(screen.images, f"{PREFIX}/images")
    shutil.rmtree(screen.images)


def afresh(screen: Screen) -> None:
    """Forget all that was done."""
    for name in ("analysis", "status", "log"):
        shutil.rmtree(screen.base / name)
    screen.ran()


def tables(screen: Screen) -> dict[str, list[dict[str, str]]]:
    """Give the tables of the result, without what no two runs have in common."""
    found = {}
    for name in ("Image.csv", "Nuclei.csv"):
        found[name] = [
            {k: v for k, v in row.items() if not k.startswith("ExecutionTime")}
            for row in screen.table(name)
        ]
    return found


def reasons(screen: Screen) -> list[tuple[str, str]]:
    return [(Path(f["file"]).name, f["reason"]) for v in screen.verdicts() for f in v["failed"]]


def outputs(screen: Screen) -> list[Path]:
    """Give the folders that CellProfiler was told to write to, since the last call."""
    lines = screen.journal.read_text(encoding="utf-8").splitlines()
    screen.journal.unlink()
    return [Path(json.loads(line)["output"]) for line in lines]


# --- plan --------------------------------------------------------------------------------------


def test_a_plan_says_what_lies_in_the_bucket(screen: Screen, bucket: Bucket, proxy: Proxy) -> None:
    screen.fill(4)
    into_bucket(screen, bucket)
    bucket.remove(f"{PREFIX}/images/f4.tif")
    screen.plan("-q", "--chunk-size", "2", *at(bucket, proxy))
    run = screen.run_json()
    assert (run["fetches"], run["stages"]) == (True, False)
    assert run["source"] == {
        "input": f"{bucket.url}/{PREFIX}", "endpoint_url": proxy.url, "profile": "",
        "unsigned": False,
    }  # fmt: skip
    known = [read_json(screen.workspace.chunk(name).remote) or {} for name in screen.chunks()]
    assert [{Path(n).name: size for n, (size, _, _) in k.items()} for k in known] == [
        {"f1.tif": 8, "f2.tif": 9},
        {"f3.tif": 10},
    ]


def test_a_plan_without_a_bucket_fetches_nothing(screen: Screen) -> None:
    screen.fill(2)
    screen.plan("-q")
    run = screen.run_json()
    assert (run["fetches"], run["stages"]) == (False, False)
    assert not screen.workspace.chunk(screen.chunks()[0]).remote.exists()


def test_a_bucket_without_any_of_the_files_is_refused(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(2)
    into_bucket(screen, bucket)
    wrong = ["--input", f"{bucket.url}/elsewhere", "--endpoint-url", proxy.url]
    what = f"{bucket.url}/elsewhere holds none of the 2 files that the image list names"
    error = refused(Exit.NO_INPUT, what, screen.plan, "-q", *wrong)
    assert f"{bucket.url}/elsewhere/images/f1.tif" in error.todo
    assert not screen.workspace.run.exists()
    # with some of them here, it is not
    screen.images.mkdir()
    (screen.images / "f1.tif").write_bytes(b"x")
    assert screen.plan("-q", *wrong) == Exit.OK


@pytest.mark.parametrize(
    ("options", "code", "what"),
    [
        (["--input", "bucket/x"], Exit.USAGE, "not an S3 address: bucket/x"),
        (["--input", "s3://bucket/x", "--endpoint-url", "http://u:secret1@127.0.0.1:1"],
         Exit.USAGE, "--endpoint-url http://…@127.0.0.1:1"),
        (["--input", "s3://bucket/x", "--profile", "nobody"], Exit.BAD_SETTING, "nobody"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_refused(
    screen: Screen, options: list[str], code: Exit, what: str
) -> None:
    screen.fill(1)
    error = refused(code, what, screen.plan, "-q", *options)
    assert "secret1" not in str(error)


def test_a_bucket_that_is_not_there_or_not_allowed_is_named(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(1)
    nowhere = ["--input", "s3://no-such-bucket/x", "--endpoint-url", proxy.url]
    refused(Exit.NO_INPUT, "no such bucket", screen.plan, "-q", *nowhere)
    proxy.add("answer", bucket.name, status=403, code="AccessDenied")
    refused(Exit.NO_PERMISSION, bucket.url, screen.plan, "-q", *at(bucket, proxy))


# --- the promise -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "modules"), [("absolute", (load_data(), LABEL, SAVE, EXPORT)), ("relative", ())]
)
def test_the_result_is_the_one_of_images_that_were_here(
    screen: Screen, bucket: Bucket, proxy: Proxy, folder: str, modules: tuple[str, ...]
) -> None:
    screen.fill(5)
    if folder == "relative":
        for row in screen.rows:
            row[1] = "images"
    screen.write(*modules)
    screen.all("--chunk-size", "2")
    assert screen.run_json()["reads_whole_list"] == bool(modules)
    here = tables(screen)
    assert len(here["Image.csv"]) == 5
    into_bucket(screen, bucket)
    afresh(screen)
    assert screen.all("--chunk-size", "2", *at(bucket, proxy)).done == 5
    assert tables(screen) == here
    # nothing stays behind
    assert not screen.images.exists()
    assert list(screen.workspace.attempts.iterdir()) == []


def test_addresses_in_the_list_come_back_in_the_tables(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.header += ["FileName_RNA", "PathName_RNA"]
    screen.add("here.tif", 9).extend(["a b %20.tif", f"{bucket.url}/x y"])
    screen.add("here 2.tif", 10).extend([f"{bucket.url}/x y/c.tif", ""])
    screen.write()
    for key in ("x y/a b %20.tif", "x y/c.tif"):
        bucket.put(key, b"123")
    assert screen.all("--endpoint-url", proxy.url).done == 2
    rows = screen.table("Image.csv")
    assert [[r["FileName_RNA"], r["PathName_RNA"]] for r in rows] == [
        ["a b %20.tif", f"{bucket.url}/x y"],
        [f"{bucket.url}/x y/c.tif", ""],
    ]
    assert [r["URL_RNA"] for r in rows] == [
        f"{bucket.url}/x y/a b %20.tif", f"{bucket.url}/x y/c.tif",
    ]  # fmt: skip
    assert {r["PathName_DNA"] for r in rows} == {str(screen.images)}


def test_where_nobody_fetches_ahead_a_chunk_brings_its_images_by_itself(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(2)
    into_bucket(screen, bucket)
    screen.plan("-q", "--chunk-size", "1", *at(bucket, proxy))
    first, _ = screen.chunks()
    assert chunk.main([str(screen.workspace.status), first]) == Exit.OK
    assert screen.ran() == [["f1.tif"]]
    assert [proxy.asked("GET", f"images/f{n}.tif") for n in (1, 2)] == [1, 0]
    assert list(screen.workspace.attempts.iterdir()) == []
    assert not screen.images.exists()


def test_what_can_not_be_had_fails_with_its_reason(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    screen.fill(5)
    into_bucket(screen, bucket)
    bucket.remove(f"{PREFIX}/images/f1.tif")
    bucket.put(f"{PREFIX}/images/f5.tif", b"")
    screen.plan("-q", "--chunk-size", "5", *at(bucket, proxy))
    bucket.remove(f"{PREFIX}/images/f2.tif")
    proxy.add("answer", "images/f3.tif", status=403, code="AccessDenied")
    screen.run()
    assert reasons(screen) == [
        ("f1.tif", "missing file"),
        ("f2.tif", "missing file"),
        ("f3.tif", "no permission to read it"),
        ("f5.tif", "empty file"),
    ]
    assert {f["file"] for v in screen.verdicts() for f in v["failed"]} == {
        str(screen.images / f"f{n}.tif") for n in (1, 2, 3, 5)
    }
    assert screen.ran() == [["f4.tif"]]
    # mended, they alone run again
    proxy.heal()
    for n in (1, 2, 5):
        bucket.put(f"{PREFIX}/images/f{n}.tif", b"12345")
    screen.plan("-q", "--chunk-size", "5", *at(bucket, proxy))
    screen.run()
    assert reasons(screen) == []
    assert screen.ran() == [["f1.tif", "f2.tif", "f3.tif"], ["f5.tif"]]


def test_an_address_in_the_list_with_nothing_behind_it_is_a_missing_file(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    bucket.put("a.tif", b"123")
    screen.header = ["FileName_DNA", "PathName_DNA"]
    screen.rows = [["a.tif", bucket.url], ["gone.tif", bucket.url]]
    screen.write()
    assert screen.all("--endpoint-url", proxy.url).done == 1
    assert reasons(screen) == [("gone.tif", "missing file")]


def test_a_bucket_that_stays_away_is_no_failed_image_set(
    screen: Screen, bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    into_bucket(screen, bucket)
    screen.plan("-q", *at(bucket, proxy))
    monkeypatch.setenv("BPCP_PATIENCE_S", "0")
    proxy.add("answer", "images/", status=400, code="Trouble")
    (name,) = screen.chunks()
    arguments = [str(screen.workspace.status), name]
    refused(Exit.COPY_FAILED, "images/f1.tif", chunk.main, arguments)
    assert screen.verdicts() == []
    error = read_json(screen.workspace.chunk(name).error)
    assert error is not None
    assert error["code"] == Exit.COPY_FAILED
    assert list(screen.workspace.attempts.iterdir()) == []
    proxy.heal()
    assert chunk.main(arguments) == Exit.OK


# --- waiting for who fetches ahead -------------------------------------------------------------


@contextmanager
def running(screen: Screen, name: str) -> Iterator[threading.Thread]:
    thread = threading.Thread(
        target=lambda: chunk.run_chunk(chunk.load(screen.workspace, name)), daemon=True
    )
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive()


def put_ready(screen: Screen, store: Path, name: str, **changed: object) -> Path:
    """Say that a chunk's images are in a store, as who fetches does; and put them there."""
    paths = screen.workspace.chunk(name)
    known: Json = read_json(paths.remote) or {}
    places = {image: staging.in_mirror(str(store), image) for image in known}
    for image, place in places.items():
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_bytes(b"x" * known[image][0])
    given: Json = read_json(paths.chunk) or {}
    write_json(
        paths.fetched, {"digest": given["digest"], "places": places, "failed": {}, **changed}
    )
    return Path(next(iter(places.values())))


@pytest.fixture
def remote_chunk(screen: Screen, bucket: Bucket, proxy: Proxy) -> str:
    screen.fill(2)
    into_bucket(screen, bucket)
    screen.plan("-q", "--chunk-size", "2", *at(bucket, proxy))
    return screen.chunks()[0]


def test_a_chunk_waits_while_somebody_fetches_and_goes_on_when_its_images_are_there(
    screen: Screen, remote_chunk: str, proxy: Proxy, tmp_path: Path
) -> None:
    with (
        hold(screen.workspace.fetching, "it"),
        running(screen, remote_chunk) as thread,
    ):
        thread.join(0.7)
        assert thread.is_alive()
        assert screen.ran() == []
        put_ready(screen, tmp_path / "store", remote_chunk)
        thread.join(60)
    screen.merge()
    assert [r["PathName_DNA"] for r in screen.table("Image.csv")] == [str(screen.images)] * 2
    assert proxy.asked("GET", "images/f") == 0


def test_a_chunk_goes_on_by_itself_when_who_fetches_is_gone(
    screen: Screen, remote_chunk: str, proxy: Proxy
) -> None:
    with hold(screen.workspace.fetching, "it"):
        thread = threading.Thread(target=screen.run, daemon=True)
        thread.start()
        thread.join(0.7)
        assert thread.is_alive()
        assert proxy.asked("GET", "images/f") == 0
    thread.join(60)
    assert screen.ran() == [["f1.tif", "f2.tif"]]
    assert proxy.asked("GET", "images/f") == 2


@pytest.mark.parametrize("spoil", ["digest", "place", "mark"])
def test_images_of_another_plan_or_that_are_gone_do_not_count(
    screen: Screen, remote_chunk: str, proxy: Proxy, tmp_path: Path, spoil: str
) -> None:
    changed = {"digest": "of yesterday"} if spoil == "digest" else {}
    place = put_ready(screen, tmp_path / "store", remote_chunk, **changed)
    if spoil == "place":
        place.unlink()
    if spoil == "mark":
        screen.workspace.chunk(remote_chunk).fetched.write_text("{")
    (verdict,) = screen.run()
    assert verdict["failed"] == []
    assert proxy.asked("GET", "images/f") == 2


def test_what_was_not_to_be_had_by_who_fetches_fails_with_its_reason(
    screen: Screen, remote_chunk: str, tmp_path: Path
) -> None:
    gone = str(screen.images / "f1.tif")
    put_ready(screen, tmp_path / "store", remote_chunk, failed={gone: "no permission to read it"})
    screen.run()
    assert reasons(screen) == [("f1.tif", "no permission to read it")]
    assert screen.ran() == [["f2.tif"]]


# --- room where -t points to -------------------------------------------------------------------


def test_where_the_ram_disk_has_too_little_room_attempts_work_on_disk(
    screen: Screen, small_ram: Path
) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2", "-t", str(small_ram))
    (verdict,) = screen.run()
    assert verdict["failed"] == []
    assert verdict["cost"]["attempts"] == 1
    (output,) = outputs(screen)
    assert output.is_relative_to(screen.workspace.attempts)
    assert list(small_ram.iterdir()) == []


def test_without_the_ram_disk_that_only_a_whole_run_has_attempts_work_on_disk(
    screen: Screen,
) -> None:
    screen.fill(2)
    screen.plan("-q", "--ramdisk", "auto")
    assert not screen.workspace.ramdisk.exists()
    assert [v["failed"] for v in screen.run()] == [[], []]
    assert fetch.room(screen.workspace, screen.run_json(), 2).store is None


def test_what_fails_for_want_of_room_is_repeated_on_disk(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch ü"
    scratch.mkdir()
    screen.fill(3)
    screen.plan("-q", "--chunk-size", "3", "-t", str(scratch))
    monkeypatch.setenv("FAKE_FULL", str(scratch))
    (verdict,) = screen.run()
    assert verdict["failed"] == []
    assert verdict["cost"]["attempts"] == 2
    first, second = outputs(screen)
    assert first.is_relative_to(scratch)
    assert second.is_relative_to(screen.workspace.attempts)
    screen.merge()
    home = str(screen.workspace.analysis / "overlays")
    assert {r["PathName_Overlay"] for r in screen.table("Image.csv")} == {home}
    assert list(scratch.iterdir()) == []


def test_where_the_disk_is_full_as_well_that_is_the_reason(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    screen.fill(1)
    screen.plan("-q", "-t", str(scratch))
    monkeypatch.setenv("FAKE_FULL", str(tmp_path))
    (verdict,) = screen.run()
    (failed,) = verdict["failed"]
    assert "No space left on device" in failed["reason"]
    assert failed["kind"] == "disk-full"
    # there, here, and three more times, for there seems to be room
    assert verdict["cost"]["attempts"] == 5


def test_without_a_ram_disk_a_full_disk_is_tried_a_few_times(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    screen.plan("-q")
    monkeypatch.setenv("FAKE_FULL", str(tmp_path))
    (verdict,) = screen.run()
    assert "No space left on device" in verdict["failed"][0]["reason"]
    assert verdict["cost"]["attempts"] == 4


def test_images_that_were_copied_to_a_ram_disk_are_read_there(
    screen: Screen, small_ram: Path
) -> None:
    screen.fill(2)
    screen.all()
    here = tables(screen)
    afresh(screen)
    screen.plan("-q", "--chunk-size", "2", "-t", str(small_ram))
    (name,) = screen.chunks()
    write_json(screen.workspace.chunk(name).remote, {})
    places = {}
    for n, size in ((1, 8), (2, 9)):
        image = str(screen.images / f"f{n}.tif")
        places[image] = staging.in_mirror(str(small_ram / "bpcp-images-x"), image)
        Path(places[image]).parent.mkdir(parents=True, exist_ok=True)
        Path(places[image]).write_bytes(b"x" * size)
    given: Json = read_json(screen.workspace.chunk(name).chunk) or {}
    write_json(
        screen.workspace.chunk(name).fetched,
        {"digest": given["digest"], "places": places, "failed": {}},
    )
    # what is read is the copy: the original says so by being another
    original = screen.images / "f1.tif"
    stat = original.stat()
    original.write_bytes(b"y" * 8)
    os.utime(original, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    screen.run()
    screen.merge()
    assert tables(screen) == here


# --- what changed since ------------------------------------------------------------------------


def test_a_fingerprint_knows_a_file_by_its_name_below_the_root() -> None:
    header = ("FileName_DNA", "PathName_DNA")

    def taken(root: str, row: tuple[str, str], *known: object) -> str:
        name = imagelist.files(header, row, Path(root))[0][1]
        return imagelist.fingerprint(header, [row], Path(root), {name: known})

    one = taken("/root 1", ("a.tif", "p"), 5, 10**18, "etag")
    assert taken("/root 2/x", ("a.tif", "p"), 5, 10**18, "etag") == one
    assert taken("/root 2", ("a.tif", "/root 2/p"), 5, 10**18, "etag") == one
    assert taken("/root 2", ("a.tif", "/root 1/p"), 5, 10**18, "etag") != one
    assert taken("/root 1", ("a.tif", "p"), 6, 10**18, "etag") != one
    assert taken("/root 1", ("a.tif", "p"), 5, 10**18 + 1, "etag") != one
    assert taken("/root 1", ("b.tif", "p"), 5, 10**18, "etag") != one


def test_on_another_machine_with_another_root_nothing_runs_again(
    screen: Screen,
    bucket: Bucket,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen.fill(3)
    for row in screen.rows:
        row[1] = "images"
    screen.write()
    into_bucket(screen, bucket)
    assert screen.all(*at(bucket, proxy)).done == 3
    screen.ran()
    monkeypatch.setenv("PATHNAME_BASENAME", str(tmp_path / "fresh; machine"))
    screen.plan("-q", *at(bucket, proxy))
    assert todo.left(screen.workspace) == []


def change(bucket: Bucket) -> None:
    bucket.put(f"{PREFIX}/images/f3.tif", b"12")


def remove(bucket: Bucket) -> None:
    bucket.remove(f"{PREFIX}/images/f3.tif")


@pytest.mark.parametrize(("action", "again"), [(change, True), (remove, False)])
def test_the_chunk_of_an_object_that_changed_runs_again(
    screen: Screen,
    bucket: Bucket,
    proxy: Proxy,
    capsys: pytest.CaptureFixture[str],
    action: Callable[[Bucket], None],
    again: bool,
) -> None:
    screen.fill(4)
    into_bucket(screen, bucket)
    assert screen.all("--chunk-size", "2", *at(bucket, proxy)).done == 4
    screen.ran()
    action(bucket)
    capsys.readouterr()
    screen.plan("--chunk-size", "2", *at(bucket, proxy))
    said = capsys.readouterr().err
    assert ("images changed: 1 chunks run again" in said) == again
    screen.run()
    assert screen.ran() == ([["f3.tif", "f4.tif"]] if again else [])
    screen.merge()
    counts = [float(r["Count_Nuclei"]) for r in screen.table("Image.csv")]
    assert counts == [1, 2, 2 if again else 3, 4]


def test_the_same_images_here_or_in_the_bucket_are_told_apart_by_their_time_only(
    screen: Screen, bucket: Bucket, proxy: Proxy
) -> None:
    """A file that `aws s3 sync` brought has the object's time: no reason to run again."""
    screen.fill(2)
    into_bucket(screen, bucket)
    assert screen.all(*at(bucket, proxy)).done == 2
    known: Json = {}
    for name in screen.chunks():
        known |= read_json(screen.workspace.chunk(name).remote) or {}
    screen.images.mkdir()
    for name, (size, mtime_ns, _) in known.items():
        Path(name).write_bytes(b"x" * size)
        os.utime(name, ns=(mtime_ns, mtime_ns))
    screen.plan("-q")
    assert not screen.run_json()["fetches"]
    assert todo.left(screen.workspace) == []
