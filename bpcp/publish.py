"""Bring an attempt's files to where they belong: by rename, so that none is ever there in half."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from bpcp.workspace import ChunkPaths, Json


def sha256(path: Path) -> str:
    """Give a file's SHA-256, as hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def move(source: Path, target: Path, incoming: Path) -> None:
    """Move a file, over one that is there.

    Parameters
    ----------
    incoming : Path
        A folder on the file system of the target, through which a file from another one comes; so
        that whatever is killed leaves nothing half-made beside the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _arrived(source, incoming).replace(target)


def _arrived(source: Path, incoming: Path) -> Path:
    """Bring a file onto the file system of `incoming`, if it is not there, and flush it."""
    if source.stat().st_dev != incoming.parent.stat().st_dev:
        incoming.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=incoming)
        os.close(handle)
        shutil.copyfile(source, name)
        Path(name).chmod(source.stat().st_mode & 0o777)
        _flush(Path(name))
        # only now: a network's disk says as late as this that it is full
        source.unlink()
        return Path(name)
    _flush(source)
    return source


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(name: str, output: Path, analysis: Path, paths: ChunkPaths) -> Json:
    """Put one of an attempt's files where one process would have left it.

    A file of other content that stands there is kept in the chunk's `replaced`: two chunks may have
    written one name, also at the same moment; which of them stays, the merge knows.

    Parameters
    ----------
    name : str
        Relative to `output`, and so to `analysis`.

    Returns
    -------
    dict
        `path`, `size` in bytes and `sha256` of what was published.
    """
    source, target = output / name, analysis / name
    found = {"path": name, "size": source.stat().st_size, "sha256": sha256(source)}
    target.parent.mkdir(parents=True, exist_ok=True)
    source = _arrived(source, _doorstep(analysis, paths))
    while True:
        try:
            # unlike a rename, this fails where another chunk put a file there a moment ago
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            if target.is_symlink() or sha256(target) == found["sha256"]:
                source.replace(target)
                return found
            move(target, _free(paths.replaced / name), paths.incoming)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            # a file system without hard links
            source.replace(target)
            return found
        else:
            source.unlink()
            return found


def put_back(kept: Path, name: str, analysis: Path, paths: ChunkPaths) -> None:
    """Put a file of a chunk that another chunk's took the place of into the result again.

    The other one is kept in turn. Whatever is killed, neither is lost.

    Parameters
    ----------
    kept : Path
        Where it is, in some chunk's `replaced`.
    name : str
        Relative to `analysis`.
    paths : ChunkPaths
        Of the chunk that made it.
    """
    target, incoming = analysis / name, _doorstep(analysis, paths)
    target.parent.mkdir(parents=True, exist_ok=True)
    incoming.mkdir(exist_ok=True)
    handle, arrived = tempfile.mkstemp(dir=incoming)
    os.close(handle)
    shutil.copyfile(kept, arrived)
    Path(arrived).chmod(kept.stat().st_mode & 0o777)
    _flush(Path(arrived))
    if target.exists():
        move(target, _free(paths.replaced / name), paths.incoming)
    Path(arrived).replace(target)
    kept.unlink()
    clear(analysis, paths)


def _doorstep(analysis: Path, paths: ChunkPaths) -> Path:
    """Give the folder through which files come to the result: on the file system of the result."""
    if analysis.stat().st_dev == paths.folder.stat().st_dev:
        return paths.incoming
    return analysis / f".bpcp-{paths.id}"


def _free(path: Path) -> Path:
    """Give a path that is not taken."""
    n, free = 1, path
    while free.exists():
        n += 1
        free = path.with_name(f"{path.name}.{n}")
    return free


def clear(analysis: Path, paths: ChunkPaths) -> None:
    """Remove what was on its way when an attempt was killed."""
    for folder in (paths.incoming, analysis / f".bpcp-{paths.id}"):
        shutil.rmtree(folder, ignore_errors=True)
