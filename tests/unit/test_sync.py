"""bpcp sync, and a run's place in a bucket, at a real S3 server on loopback."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from conftest import Screen, refused, rows_of
from s3server import Bucket as There
from s3server import Proxy
from test_saving import two_plates

from bpcp import bucket as bucket_module
from bpcp import merge, s3, sync
from bpcp.access import Access
from bpcp.bucket import Bucket
from bpcp.chunk import __main__ as chunk
from bpcp.errors import Exit
from bpcp.s3 import Address
from bpcp.workspace import Workspace, locate, read_plan, verdict


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPCP_PATIENCE_S", "2")


@pytest.fixture
def place(screen: Screen, bucket: There, proxy: Proxy) -> Bucket:
    """The place of a run in a bucket; four image sets in two chunks are planned."""
    screen.fill(4)
    screen.plan(
        "-q", "--chunk-size", "2", "--output", f"{bucket.url}/out", "--endpoint-url", proxy.url
    )
    found = Bucket.of_run(screen.workspace)
    assert found is not None
    return found


def elsewhere(screen: Screen, place: Bucket, tmp_path: Path) -> Bucket:
    """Give the same run's place, as a machine sees it that has other paths and no state."""
    pipeline = tmp_path / "another machine" / "pipelines" / screen.pipeline.name
    pipeline.parent.mkdir(parents=True)
    pipeline.write_bytes(screen.pipeline.read_bytes())
    return Bucket(locate(screen.dataset, pipeline), place.output, place.access)


def keys(bucket: There, below: str = "") -> set[str]:
    pages = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=f"out/{below}")
    return {item["Key"][len(f"out/{below}") :] for item in pages.get("Contents", ())}


def local(workspace: Workspace, name: str) -> list[str]:
    return [str(p) for p in workspace.base.rglob(name)]


def test_what_a_chunk_made_goes_before_its_verdict(
    screen: Screen, place: Bucket, bucket: There, proxy: Proxy
) -> None:
    screen.run()
    assert place.send_finished() == screen.chunks()
    order = [path for method, path in proxy.requests if method == "PUT"]
    verdicts = [i for i, path in enumerate(order) if path.endswith("/done.json")]
    made = [
        i
        for i, path in enumerate(order)
        if "/tables/" in path or "overlays" in path or ".log" in path
    ]
    assert verdicts and made
    assert max(made) < min(verdicts)
    assert place.send_finished() == []
    assert "outbox" not in {p.name for p in screen.workspace.status.iterdir()}


def test_files_of_one_name_go_on_a_fresh_machine(
    screen: Screen, place: Bucket, tmp_path: Path
) -> None:
    screen.rows.clear()
    two_plates(screen)
    options = ("--output", str(place.output), "--endpoint-url", place.access.endpoint_url)
    screen.plan("-q", "-w", "--chunk-size", "2", *options)
    # the later plate is done first
    for chunk_id in reversed(screen.chunks()):
        chunk.run_chunk(chunk.load(screen.workspace, chunk_id))
    place.send_finished()
    other = elsewhere(screen, place, tmp_path)
    assert other.bring_back() == 2
    merge.merge(other.workspace)
    saved = other.workspace.analysis / "overlays"
    assert (saved / "a_overlay.png").read_bytes() == b"overlay of " + b"x" * 11
    assert (saved / "b_overlay.png").read_bytes() == b"overlay of " + b"x" * 12


def test_nothing_of_this_machine_alone_is_sent(
    screen: Screen, place: Bucket, bucket: There
) -> None:
    screen.run()
    screen.merge()
    names = ("lock", "fetching", "fetched.log", "uploaded.json", "attempts/x", "fetched/y")
    for name in (*names, "turn-here", "gpu-0-here"):
        path = screen.workspace.status / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    place.send_all(complete=True)
    sent = keys(bucket, "status/plate 1/measure/")
    assert {"run.json", "plan.json", "merged.json", "pipeline.cppipe"} <= sent
    own = ("lock", "fetch", "uploaded", "attempts", "turn", "gpu", ".")
    assert not [k for k in sent if k.startswith(own)]
    assert not [k for k in sent if k.endswith(("/lock", "running.json"))]


def test_a_verdict_is_not_sent_where_the_tables_did_not_arrive(
    screen: Screen, place: Bucket, bucket: There, proxy: Proxy
) -> None:
    screen.run()
    proxy.add("answer", "Nuclei.csv", status=503, code="SlowDown")
    refused(Exit.COPY_FAILED, "aws s3 cp", place.send_finished)
    assert not [k for k in keys(bucket) if k.endswith("done.json")]
    assert place.uploaded() == {}
    proxy.heal()
    assert len(place.send_finished()) == 2


def test_the_whole_is_sent_and_verified_and_what_is_gone_goes(
    screen: Screen, place: Bucket, bucket: There
) -> None:
    screen.run()
    screen.merge()
    bucket.put("out/analysis/plate 1/measure/stale.csv", b"x")
    bucket.put("out/analysis/plate 2/measure/of another run.csv", b"x")
    files, size = place.send_all(complete=True)
    assert files > 5 and size > 100
    analysis = screen.workspace.analysis
    here = {p.relative_to(analysis).as_posix() for p in analysis.rglob("*") if p.is_file()}
    assert keys(bucket, "analysis/plate 1/measure/") == here
    assert keys(bucket, "analysis/plate 2/") == {"measure/of another run.csv"}


def test_a_run_that_is_not_merged_takes_nothing_away(
    screen: Screen, place: Bucket, bucket: There
) -> None:
    bucket.put("out/analysis/plate 1/measure/Image.csv", b"of an earlier run")
    screen.run()
    place.send_all(complete=False)
    assert bucket.get("out/analysis/plate 1/measure/Image.csv") == b"of an earlier run"


@pytest.mark.parametrize("harm", ["missing", "other", "short"])
def test_verifying_finds_what_is_not_the_same(
    screen: Screen, place: Bucket, bucket: There, harm: str
) -> None:
    screen.run()
    screen.merge()
    place.send_all(complete=True)
    key = "out/analysis/plate 1/measure/Image.csv"
    data = bucket.get(key)
    if harm == "missing":
        bucket.remove(key)
    else:
        bucket.put(key, b"x" * len(data) if harm == "other" else data[:-1])
    error = refused(Exit.COPY_FAILED, "Image.csv is", place.verify)
    assert ("is not there" in str(error)) == (harm == "missing")


def test_another_machine_goes_on(
    screen: Screen, place: Bucket, bucket: There, tmp_path: Path
) -> None:
    place.sign()
    screen.run()
    place.send_finished()
    other = elsewhere(screen, place, tmp_path)
    assert other.is_ahead()
    assert other.bring_back() == 2
    assert [verdict(other.workspace, p) is not None for p in read_plan(other.workspace)] == [
        True
    ] * 2
    assert len(local(other.workspace, "Image.csv")) == len(local(screen.workspace, "Image.csv"))
    # what came from there is not sent there again
    assert other.send_finished() == []
    assert not other.is_ahead()
    other.sign()
    assert place.is_ahead()


def test_a_machine_that_was_overtaken_sends_nothing(
    screen: Screen, place: Bucket, tmp_path: Path
) -> None:
    place.sign()
    other = elsewhere(screen, place, tmp_path)
    other.sign()
    error = refused(Exit.STOPPED, "went on with this run", sync.main, ["out", *screen.arguments()])
    assert "bring that back first" in error.todo


def test_what_comes_back_is_verified(
    screen: Screen, place: Bucket, bucket: There, proxy: Proxy, tmp_path: Path
) -> None:
    place.sign()
    screen.run()
    screen.merge()
    place.send_all(complete=True)
    other = elsewhere(screen, place, tmp_path)
    fault = proxy.add("damage", "measure/Image.csv", times=1)
    assert other.bring_back() == 2
    assert fault.met.is_set()
    assert rows_of(other.workspace.analysis / "Image.csv") == screen.table("Image.csv")
    third = elsewhere(screen, place, tmp_path / "third")
    proxy.add("damage", "measure/Image.csv")
    refused(Exit.COPY_FAILED, "Image.csv did not arrive", third.bring_back)
    assert not (third.workspace.analysis / "Image.csv").exists()


def test_images_in(
    screen: Screen, bucket: There, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(3)
    bucket.put_tree(screen.images, "in/images")
    for name in ("f1.tif", "f2.tif"):
        (screen.images / name).unlink()
    # a bucket counts whole seconds: the file that is here must not seem older than its object
    later = time.time() + 5
    for path in screen.images.iterdir():
        os.utime(path, (later, later))
    options = ["--input", f"{bucket.url}/in", "--endpoint-url", proxy.url]
    sync.main(["in", *screen.arguments(), *options])
    assert "images: 2 of 3 to fetch" in capsys.readouterr().err
    assert [p.stat().st_size for p in sorted(screen.images.iterdir())] == [8, 9, 10]
    bucket.remove("in/images/f1.tif")
    (screen.images / "f1.tif").unlink()
    arguments = ["in", *screen.arguments(), *options, "-q"]
    refused(Exit.NO_INPUT, "f1.tif: neither here nor in", sync.main, arguments)
    assert capsys.readouterr().err == ""


def test_what_is_asked_for_must_be_said(screen: Screen) -> None:
    screen.fill(2)
    refused(Exit.USAGE, "bring what in?", sync.main, ["in", *screen.arguments()])
    refused(Exit.USAGE, "no place to send to", sync.main, ["out", *screen.arguments()])
    for words in (["--output", "/data"], ["--output", "s3://"], ["--output", "https://x/y"]):
        refused(Exit.USAGE, "not an S3 address", sync.main, ["out", *screen.arguments(), *words])


def test_no_secret_is_written_down(screen: Screen, place: Bucket) -> None:
    place.sign()
    screen.run()
    screen.merge()
    place.send_all(complete=True)
    for path in screen.base.rglob("*"):
        if path.is_file():
            assert b"S3RVER" not in path.read_bytes(), path
    said = json.loads(screen.workspace.run.read_text())["output"]
    assert set(said) == {"url", "endpoint_url", "profile", "unsigned"}


def test_amounts_as_people_read_them() -> None:
    found = [sync.amount(n) for n in (0, 999, 1234, 123_456, 1_500_000, 2_500_000_000_000)]
    assert found == ["0 B", "999 B", "1.2 kB", "123 kB", "1.5 MB", "2,500 GB"]


def test_the_place_of_a_file_outside_of_the_run_is_a_mistake(place: Bucket) -> None:
    with pytest.raises(ValueError):
        place.address(Path("/etc/passwd"))
    assert bucket_module.Bucket(place.workspace, Address.parse("s3://bucket"), Access()).address(
        place.workspace.plan
    ) == (Address("bucket", "status/plate 1/measure"), "plan.json")
    assert s3.CONNECTIONS > 1
