"""A folder of CellProfiler plugins: is it one, and what is in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bpcp.cellprofiler import PLUGINS_DIRECTORY
from bpcp.errors import BpcpError, Exit
from bpcp.publish import sha256

# Where CellProfiler looks: beside each other, and not into what begins with _.
_PLUGIN = "[!_]*.py"


def checked(folder: Path) -> Path:
    """Give the absolute path of a folder that --plugins-directory names.

    Raises
    ------
    BpcpError
        66 where it is no folder, or has no plugin.
    """
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise BpcpError(Exit.NO_INPUT, f"{PLUGINS_DIRECTORY} {folder}: {what}")
    if next(folder.glob(_PLUGIN), None) is None:
        below = next(iter(sorted(folder.glob(f"*/{_PLUGIN}"))), None)
        raise BpcpError(
            Exit.NO_INPUT,
            f"{PLUGINS_DIRECTORY} {folder}: no plugin in it, which would be a .py file",
            f"perhaps: {PLUGINS_DIRECTORY} {below.parent}" if below else "",
        )
    return folder.resolve()


def contents(argv: Sequence[str]) -> dict[str, str]:
    """Give the SHA-256 of each file in the plugins' folder that a CellProfiler command names.

    Returns
    -------
    dict of str to str
        By path in the folder, those included that plugins may read; empty where the command names
        no folder, or one in a container.
    """
    home = _named_in(argv)
    found, seen = {}, set()
    for folder, folders, files in os.walk(home or os.devnull, followlinks=True):
        # links may lead in a circle
        seen.add(os.path.realpath(folder))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith((".", "__pycache__"))
            and os.path.realpath(Path(folder, name)) not in seen
        )
        for path in (Path(folder, name) for name in files if not name.startswith(".")):
            try:
                digest = sha256(path)
            except OSError as error:
                # a plugin can't read it either
                digest = str(error.strerror)
            found[os.path.relpath(path, home)] = digest
    return dict(sorted(found.items()))


def _named_in(argv: Sequence[str]) -> str | None:
    """Give the folder that a command names: the last, as CellProfiler does."""
    named = None
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        option, _, value = word.partition("=")
        if option == PLUGINS_DIRECTORY:
            named = value or after
    return named
