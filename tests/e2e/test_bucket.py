"""Images from S3, results to S3, and the RAM disk, with the real CellProfiler and a real S3 server.

The server, s3rver, listens on loopback: AWS itself can't be reached from where these tests run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3server
from conftest import ROOT, Lab, Plain, descendants, is_alive, wait_for
from policy import Gate
from s3server import Bucket, Proxy, S3Server

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3server.running(tmp_path_factory.mktemp("s3") / "data") as found:
        yield found


@pytest.fixture
def proxy(server: S3Server) -> Iterator[Proxy]:
    with s3server.before(server) as found:
        yield found


@pytest.fixture(scope="module")
def bucket(server: S3Server, small_demo: Lab) -> Bucket:
    made = server.bucket()
    made.put_tree(small_demo.base / "images", "in/images")
    return made


@pytest.fixture(autouse=True)
def own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in filter(s3server.is_foreign, list(os.environ)):
        monkeypatch.delenv(name)
    for name, value in s3server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)


def relative(small_demo: Lab, base: Path) -> Lab:
    """Give a workspace whose list names its images relative to the root."""
    for folder in ("pipelines", "load_data_csv"):
        shutil.copytree(small_demo.base / folder, base / folder)
    lab = Lab(base, "demo", base / "pipelines" / "demo.cppipe")
    text = lab.image_list.read_text()
    lab.image_list.write_text(text.replace(f"{small_demo.base}/", ""))
    return lab


@pytest.fixture(scope="module")
def one_process(
    small_demo: Lab, tmp_path_factory: pytest.TempPathFactory, plain: Callable[..., Plain]
) -> Plain:
    """Start one plain process over the same list, in the folder that the images are in."""
    lab = relative(small_demo, tmp_path_factory.mktemp("relative") / "lab")
    (lab.base / "images").symlink_to(small_demo.base / "images")
    return plain(lab, cwd=lab.base)


def holds_secret(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if s3server.KEY.encode() in path.read_bytes()]


def same_as_bucket(lab: Lab, bucket: Bucket, prefix: str) -> None:
    """Assert that the bucket has the result, file by file, and nothing beside it."""
    below = f"{prefix}/analysis/demo/{lab.tag}/"
    pages = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=below)
    there = {item["Key"][len(below) :] for item in pages["Contents"]}
    here = {p.relative_to(lab.analysis).as_posix() for p in lab.analysis.rglob("*") if p.is_file()}
    assert there == here
    for name in here:
        assert bucket.get(below + name) == (lab.analysis / name).read_bytes()


def test_a_bucket_in_and_a_bucket_out_while_the_server_is_away(
    small_demo: Lab,
    one_process: Plain,
    server: S3Server,
    proxy: Proxy,
    bucket: Bucket,
    tmp_path: Path,
) -> None:
    lab = relative(small_demo, tmp_path / "lab")
    # 24 images of 0.3 MB: they arrive over some 15 s
    proxy.bytes_per_s = 0.5e6
    options = (
        "--input", f"{bucket.url}/in", "--output", f"{bucket.url}/out",
        "--endpoint-url", proxy.url, "--chunk-size", "3",
    )  # fmt: skip
    started = lab.start(*options)
    shown: list[str] = []

    def look() -> None:
        while started.poll() is None:
            shown.extend(descendants(started.pid).values())
            time.sleep(0.5)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        wait_for(lambda: proxy.asked("GET", ".tiff") > 8)
        server.kill()
        time.sleep(20)
        server.start()
        assert started.wait(timeout=600) == 0, (lab.base / "start.log").read_text()
    finally:
        watcher.join()
    said = (lab.base / "start.log").read_text()
    assert "verified in" in said
    lab.compare(one_process.result())
    same_as_bucket(lab, bucket, "out")
    # each image was fetched, whole, once; what was asked while the server was away, again
    assert not list((lab.base / "images").rglob("*.tiff"))
    assert shown
    assert not [words for words in shown if s3server.KEY in words]
    assert holds_secret(lab.base) == []


def test_a_fresh_machine_goes_on_from_the_bucket(
    small_demo: Lab, one_process: Plain, server: S3Server, bucket: Bucket, tmp_path: Path
) -> None:
    options = (
        "--input", f"{bucket.url}/in", "--output", f"{bucket.url}/taken over",
        "--endpoint-url", server.url, "--chunk-size", "2", "--ramdisk", "auto",
    )  # fmt: skip
    first = relative(small_demo, tmp_path / "first")
    started = first.start(*options)
    uploaded = first.status / "uploaded.json"
    wait_for(lambda: uploaded.is_file() and uploaded.read_text().count("Z") >= 3, 300)
    processes = descendants(started.pid)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    wait_for(lambda: not any(map(is_alive, processes)), 60)
    assert not (first.status / "ramdisk").exists()

    second = relative(small_demo, tmp_path / "somewhere else" / "second")
    said = second.run(*options)
    assert "back: from" in said
    done = re.search(r"back: (\d+) chunks are done", said)
    assert done and int(done[1]) >= 3
    events = (second.base / "log" / "demo" / second.tag / "events.log").read_text()
    # the first machine's events came back too; of its chunks none ran again
    ran = [word for word in events.split() if word.startswith("chunk=")]
    assert len(ran) == len(set(ran)) == 6
    second.compare(one_process.result())
    same_as_bucket(second, bucket, "taken over")


def test_a_ram_disk_leaves_no_trace(small_demo: Lab, one_process: Plain, tmp_path: Path) -> None:
    lab = relative(small_demo, tmp_path / "lab")
    ram = lab.status / "ramdisk"
    environ = {"PATHNAME_BASENAME": str(small_demo.base)}
    peak = 0.0
    started = subprocess.Popen(
        lab.command("--ramdisk", "300M", "--chunk-size", "3"),
        env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while started.poll() is None:
        if ram.exists():
            found = os.statvfs(ram)
            if os.path.ismount(ram):
                peak = max(peak, 1 - found.f_bfree / found.f_blocks)
        time.sleep(0.1)
    assert started.returncode == 0
    if os.geteuid() == 0:
        assert 0 < peak < 1
    assert not ram.exists()
    lab.compare(one_process.result())
    assert "ramdisk" not in (lab.analysis / "Image.csv").read_text()


def test_a_public_bucket_without_credentials(
    small_demo: Lab,
    plain: Callable[..., Plain],
    server: S3Server,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What decides who may read is a stand-in for AWS: it refuses strangers' keys, too."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    for name in keys:
        monkeypatch.delenv(name)
    gate = Gate(server)
    gate.public.add(bucket.name)
    lab = relative(small_demo, tmp_path / "lab")
    said = f"no AWS credentials: reading {bucket.url} unsigned, as public buckets allow"
    at = ("--endpoint-url", gate.url)
    try:
        done = subprocess.run(
            [ROOT / "bin" / "bpcp", "images", f"{bucket.url}/in/images", "--channel", "1=DNA",
             "--channel", "2=Cyto", "-d", "demo", "--base", lab.base, "--overwrite", *at],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said in done.stderr
        # as the plain process reads them, too
        text = lab.image_list.read_text()
        assert text.count(f"{bucket.url}/in/images/") == 2 * 12
        lab.image_list.write_text(text.replace(f"{bucket.url}/in/", ""))
        here = tmp_path / "here"
        here.mkdir()
        (here / "images").symlink_to(small_demo.base / "images")
        one = plain(lab, cwd=here)
        options = ("--input", f"{bucket.url}/in", *at, "--chunk-size", "3")
        assert lab.run(*options).count(said) == 1
        lab.compare(one.result())
        assert gate.signed == []

        # keys that nobody knows are refused, and with the option they are not used
        for name in keys:
            monkeypatch.setenv(name, "STRANGER")
        assert "--no-sign-request" in lab.run(*options, expect=77)
        gate.signed.clear()
        assert said not in lab.run(*options, "--no-sign-request")
        assert gate.signed == []
    finally:
        gate.close()
