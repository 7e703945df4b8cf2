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
from bpcp.workspace import ChunkPaths


def file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if not p.is_dir())


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on another file system, where this machine has one."""
    shm = Path("/dev/shm")  # noqa: S108
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=shm, prefix="bpcp-test-") as name:
        yield Path(name)


@pytest.fixture
def paths(tmp_path: Path) -> ChunkPaths:
    found = ChunkPaths(tmp_path / "chunks" / "c1")
    found.folder.mkdir(parents=True)
    return found


def test_publishes_a_file(tmp_path: Path, paths: ChunkPaths) -> None:
    name = f"plate {HOSTILE}/a.png"
    file(tmp_path / "out" / name, b"png")
    found = publish.publish(name, tmp_path / "out", tmp_path / "analysis", paths)
    assert found == {"path": name, "size": 3, "sha256": hashlib.sha256(b"png").hexdigest()}
    assert tree(tmp_path) == [tmp_path / "analysis" / name]
    assert (tmp_path / "analysis" / name).read_bytes() == b"png"
    # a copy of it that somebody edits must not be the same file
    assert (tmp_path / "analysis" / name).stat().st_nlink == 1


def test_same_content_replaces_nothing(tmp_path: Path, paths: ChunkPaths) -> None:
    file(tmp_path / "analysis/a", b"1")
    file(tmp_path / "out/a", b"1")
    publish.publish("a", tmp_path / "out", tmp_path / "analysis", paths)
    assert tree(tmp_path) == [tmp_path / "analysis/a"]


def test_other_content_is_kept(tmp_path: Path, paths: ChunkPaths) -> None:
    file(tmp_path / "analysis/s/a", b"old")
    file(tmp_path / "out/s/a", b"new")
    publish.publish("s/a", tmp_path / "out", tmp_path / "analysis", paths)
    assert (tmp_path / "analysis/s/a").read_bytes() == b"new"
    assert (paths.replaced / "s/a").read_bytes() == b"old"
    assert len(tree(tmp_path)) == 2


def test_two_chunks_that_write_one_name_at_once_keep_both(
    tmp_path: Path, paths: ChunkPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    file(tmp_path / "out/a", b"second")
    linking = os.link
    others = [b"first", b"another"]

    def later(source: Path, target: Path, **options: bool) -> None:
        # others are a moment earlier, each time after this one has looked around
        if others:
            file(target, others.pop(0))
        linking(source, target, **options)

    monkeypatch.setattr(publish.os, "link", later)
    publish.publish("a", tmp_path / "out", tmp_path / "analysis", paths)
    assert (tmp_path / "analysis/a").read_bytes() == b"second"
    assert (paths.replaced / "a").read_bytes() == b"first"
    assert (paths.replaced / "a.2").read_bytes() == b"another"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_file_system_without_links(
    tmp_path: Path, paths: ChunkPaths, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(publish.os, "link", refuse)
    file(tmp_path / "out/a", b"new")
    publish.publish("a", tmp_path / "out", tmp_path / "analysis", paths)
    assert tree(tmp_path) == [tmp_path / "analysis/a"]


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path, paths: ChunkPaths) -> None:
    victim = file(tmp_path / "victim", b"mine")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis/a").symlink_to(victim)
    file(tmp_path / "out/a", b"new")
    publish.publish("a", tmp_path / "out", tmp_path / "analysis", paths)
    assert victim.read_bytes() == b"mine"
    assert not (tmp_path / "analysis/a").is_symlink()
    # a link is nobody's result: it is not worth keeping
    assert not paths.replaced.exists()


def test_publishes_from_another_file_system(
    tmp_path: Path, paths: ChunkPaths, elsewhere: Path
) -> None:
    file(tmp_path / "analysis/a", b"old")
    file(elsewhere / "out/a", b"new").chmod(0o640)
    publish.publish("a", elsewhere / "out", tmp_path / "analysis", paths)
    assert (tmp_path / "analysis/a").read_bytes() == b"new"
    assert (tmp_path / "analysis/a").stat().st_mode & 0o777 == 0o640
    assert (paths.replaced / "a").read_bytes() == b"old"
    assert tree(elsewhere) == []
    assert len(tree(tmp_path)) == 2


def test_publishes_into_another_file_system(
    tmp_path: Path, paths: ChunkPaths, elsewhere: Path
) -> None:
    """A folder analysis/ that is a mount, or a link to another disk."""
    file(elsewhere / "a", b"old")
    file(tmp_path / "out/a", b"new")
    (tmp_path / "analysis").symlink_to(elsewhere)
    publish.publish("a", tmp_path / "out", tmp_path / "analysis", paths)
    assert (elsewhere / "a").read_bytes() == b"new"
    assert (paths.replaced / "a").read_bytes() == b"old"


def test_moves_across_file_systems(tmp_path: Path, paths: ChunkPaths, elsewhere: Path) -> None:
    target = file(tmp_path / "a", b"old")
    move(file(elsewhere / "a", b"new"), target, paths.incoming)
    assert target.read_bytes() == b"new"
    assert tree(elsewhere) == []
    assert tree(tmp_path) == [target]


def test_a_move_that_fails_half_way_leaves_nothing_beside_the_target(
    tmp_path: Path, paths: ChunkPaths, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = file(elsewhere / "out/a", b"new"), file(tmp_path / "analysis/a", b"old")

    def full(_: Path, to: str) -> None:
        Path(to).write_bytes(b"ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publish.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        move(source, target, paths.incoming)
    assert source.read_bytes() == b"new"
    assert tree(tmp_path / "analysis") == [target]
    assert target.read_bytes() == b"old"
    # what is half-made lies where nobody looks, and where the chunk clears away
    assert all(paths.incoming in p.parents for p in tree(tmp_path) if p != target)


def test_other_errors_of_a_rename_are_passed_on(tmp_path: Path, paths: ChunkPaths) -> None:
    source = file(tmp_path / "out/a", b"new")
    (tmp_path / "analysis/a").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        move(source, tmp_path / "analysis/a", paths.incoming)
    assert source.exists()
