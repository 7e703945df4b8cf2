"""Temporary folders that are gone also when whoever made them was killed: at the next one's start.

They are private, and nobody can guess their names. Who made one is in its name, so that a later
process knows the ones of the dead; a link or a folder that somebody else planted is none of them.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bpcp import processes


def is_ours(folder: Path, prefix: str) -> bool:
    """Tell whether a folder in a place that others can write is one that bpcp made.

    It has our kind of name, belongs to this user, and is no link that somebody planted.
    """
    try:
        found = folder.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and folder.name.startswith(prefix)
    )


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Have a temporary folder where TMPDIR says; `name` tells people what it is for."""
    with tempfile.TemporaryDirectory(prefix=own_prefix(name)) as made:
        yield Path(made)


def own_prefix(name: str, at: Path | None = None) -> str:
    """Give how the names of this process's temporary folders begin; those of the dead are removed.

    Parameters
    ----------
    at : Path, optional
        Where; else where TMPDIR says.
    """
    sweep(name, at)
    return f"{_prefix(name)}{os.getpid()}-"


def sweep(name: str, at: Path | None = None) -> None:
    """Remove the temporary folders for a purpose that dead processes of this machine left."""
    prefix = _prefix(name)
    for folder in _listed(at or Path(tempfile.gettempdir()), prefix):
        pid = folder.name[len(prefix) :].partition("-")[0]
        if pid.isdigit() and not processes.is_alive(int(pid)) and is_ours(folder, prefix):
            shutil.rmtree(folder, ignore_errors=True)


def _prefix(name: str) -> str:
    host = re.sub(r"\W", "_", os.uname().nodename)
    return f"bpcp-{name}-{host}-"


def _listed(home: Path, prefix: str) -> list[Path]:
    # a /tmp may hold a hundred thousand names, and one that can't be listed is no reason to fail
    with suppress(OSError):
        return [home / n for n in os.listdir(home) if n.startswith(prefix)]  # noqa: PTH208
    return []
