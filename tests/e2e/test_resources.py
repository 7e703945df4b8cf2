"""Too little memory, a full disk, a small RAM disk: a run waits or goes elsewhere; never wrong."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Lab, Plain, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.alone]

_MB = 1024**2


@pytest.fixture(scope="module")
def clean(small_demo: Lab, plain: Callable[[Lab], Plain]) -> Plain:
    return plain(small_demo)


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group that holds little memory: v1's, or v2's where that may be shared out."""
    top = Path("/sys/fs/cgroup")
    for folder, limit in (
        (top / "memory" / f"bpcp-test-{os.getpid()}", "memory.limit_in_bytes"),
        (top / f"bpcp-test-{os.getpid()}", "memory.max"),
    ):
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(1500 * _MB))
        except OSError:
            folder.rmdir()
            continue
        break
    else:
        pytest.skip("no control group for memory can be made here: only root can")
    yield folder
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            folder.rmdir()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"still there: {(folder / 'cgroup.procs').read_text()}")


def mounted(at: Path, size: str) -> None:
    at.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no RAM disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB."""
    at = tmp_path / "small disk"
    mounted(at, "64m")
    yield at
    subprocess.run(["umount", "-l", str(at)], check=True)


def test_memory_for_two_of_eight(lab: Lab, clean: Plain, small_memory: Path) -> None:
    def enter() -> None:
        (small_memory / "cgroup.procs").write_text(str(os.getpid()))

    started = subprocess.run(
        lab.command("-P", "8", "--chunk-size", "1"),
        preexec_fn=enter,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert started.returncode == 0, started.stderr
    assert "12 of 12 image sets" in started.stderr
    lab.compare(clean.result())


def test_a_ram_disk_that_is_too_small(lab: Lab, clean: Plain, small_disk: Path) -> None:
    said = lab.run("-t", str(small_disk), "--chunk-size", "4")
    assert "12 of 12 image sets" in said
    lab.compare(clean.result())
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_is_waited_for_and_said(small_demo: Lab, clean: Plain, tmp_path: Path) -> None:
    base = tmp_path / "lab"
    mounted(base, "400m")
    try:
        for folder in ("pipelines", "load_data_csv"):
            subprocess.run(["cp", "-r", str(small_demo.base / folder), str(base)], check=True)
        lab = Lab(base, "demo", base / "pipelines" / "demo.cppipe")
        log = tmp_path / "said"
        with log.open("wb") as sink:
            started = subprocess.Popen(
                lab.command("--chunk-size", "2", "-P", "2"),
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            )  # fmt: skip
        wait_for(lambda: len(lab.verdicts()) >= 1)
        filler = base / "filler"
        with filler.open("wb") as file:
            while True:
                try:
                    file.write(b"x" * _MB)
                    file.flush()
                except OSError:
                    break
        wait_for(lambda: "the next chunk waits for room: " in log.read_text(), timeout_s=120)
        assert started.poll() is None
        filler.unlink()
        assert started.wait(timeout=300) == 0, log.read_text()
        assert "12 of 12 image sets" in log.read_text()
        lab.compare(clean.result())
    finally:
        subprocess.run(["umount", "-l", str(base)], check=True)
