from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HOSTILE

from bpcp import publish
from bpcp.publish import move


def file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on another file system, where this machine has one."""
    shm = Path("/dev/shm")  # noqa: S108
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=shm, prefix="bpcp-test-") as name:
        yield Path(name)


def test_publishes_a_file(tmp_path: Path) -> None:
    name = f"plate {HOSTILE}/a.png"
    file(tmp_path / "out" / name, b"png")
    found = publish.publish(name, tmp_path / "out", tmp_path / "analysis", tmp_path / "replaced")
    assert found == {"path": name, "size": 3, "sha256": hashlib.sha256(b"png").hexdigest()}
    assert (tmp_path / "analysis" / name).read_bytes() == b"png"
    assert not (tmp_path / "out" / name).exists()
    assert not (tmp_path / "replaced").exists()


def test_same_content_replaces_nothing(tmp_path: Path) -> None:
    file(tmp_path / "analysis/a", b"1")
    file(tmp_path / "out/a", b"1")
    publish.publish("a", tmp_path / "out", tmp_path / "analysis", tmp_path / "replaced")
    assert not (tmp_path / "replaced").exists()


def test_other_content_is_kept(tmp_path: Path) -> None:
    file(tmp_path / "analysis/s/a", b"old")
    file(tmp_path / "out/s/a", b"new")
    publish.publish("s/a", tmp_path / "out", tmp_path / "analysis", tmp_path / "replaced")
    assert (tmp_path / "analysis/s/a").read_bytes() == b"new"
    assert (tmp_path / "replaced/s/a").read_bytes() == b"old"


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = file(tmp_path / "victim", b"mine")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis/a").symlink_to(victim)
    file(tmp_path / "out/a", b"new")
    publish.publish("a", tmp_path / "out", tmp_path / "analysis", tmp_path / "replaced")
    assert victim.read_bytes() == b"mine"
    assert not (tmp_path / "analysis/a").is_symlink()
    # a link is nobody's result: it is not worth keeping
    assert not (tmp_path / "replaced").exists()


def test_moves_across_file_systems(tmp_path: Path, elsewhere: Path) -> None:
    target = file(tmp_path / "a", b"old")
    move(file(elsewhere / "a", b"new"), target)
    assert target.read_bytes() == b"new"
    assert list(elsewhere.iterdir()) == []
    assert list(tmp_path.iterdir()) == [target]


def test_a_move_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = file(tmp_path / "out/a", b"new"), file(tmp_path / "analysis/a", b"old")

    def another_device(self: Path, to: Path) -> Path:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def full(a: object, b: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", another_device)
    monkeypatch.setattr(publish.shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left"):
        move(source, target)
    assert source.read_bytes() == b"new"
    assert list((tmp_path / "analysis").iterdir()) == [target]
    assert target.read_bytes() == b"old"


def test_other_errors_of_a_rename_are_passed_on(tmp_path: Path) -> None:
    source = file(tmp_path / "out/a", b"new")
    (tmp_path / "analysis/a").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        move(source, tmp_path / "analysis/a")
    assert source.exists()
