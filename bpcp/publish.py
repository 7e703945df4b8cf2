"""Bring an attempt's files to where they belong: by rename, so that none is ever there in half."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from bpcp.workspace import Json


def sha256(path: Path) -> str:
    """Give a file's SHA-256, as hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def move(source: Path, target: Path) -> None:
    """Move a file, over one that is there; across file systems under a temporary name first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _flush(source)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        handle, name = tempfile.mkstemp(prefix=".bpcp-", dir=target.parent)
        os.close(handle)
        try:
            shutil.copy2(source, name)
            _flush(Path(name))
            Path(name).replace(target)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        source.unlink()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(name: str, output: Path, analysis: Path, replaced: Path) -> Json:
    """Put one of an attempt's files where one process would have left it.

    A file of other content that stands there is kept in `replaced`: two chunks may have written
    one name, which only the merge, knowing all chunks, can tell.

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
    if target.is_file() and not target.is_symlink() and sha256(target) != found["sha256"]:
        move(target, replaced / name)
    move(source, target)
    return found
