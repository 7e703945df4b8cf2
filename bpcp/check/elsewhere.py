"""What to do about folders that are not here: which --map would serve, and what else."""

from __future__ import annotations

import os
import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bpcp import folders


def folder_of(name: str, root: Path) -> str:
    """Give a file's folder as messages name it: that of Windows as the list has it.

    Parameters
    ----------
    name : str
        As `imagelist.files` gives it.
    root : Path
        Where relative folders start.
    """
    if other := folders.called(name, root):
        return re.sub(r"[/\\]+[^/\\]*\Z", "", other)
    return os.path.dirname(name)  # noqa: PTH120 -- for each of many files


def remedies(missing: Sequence[str], root: Path) -> dict[str, str]:
    """Say what to do about each of some folders that are not here, as `folder_of` gives them."""
    found: dict[str, str] = {}
    alike: dict[str, list[str]] = defaultdict(list)
    for folder in missing:
        top = _missing_top(folder)
        if folder == str(root) or folder.startswith(f"{root}/"):
            found[folder] = (
                "mount or copy it, or mend the list; PATHNAME_BASENAME is where folders start"
            )
        elif folders.is_windows(folder) or top.count("/") == 1:
            alike[top.casefold()].append(folder)
        else:
            found[folder] = (
                f"mount or copy it, or mend the list; or --map {shlex.quote(top)}=FOLDER, where it"
                " is called FOLDER here"
            )
    for same in alike.values():
        old = shlex.quote(folders.common(same))
        found.update(
            dict.fromkeys(same, f"--map {old}=FOLDER, by what it is called here; or copy it")
        )
    return found


def of_setting(path: str) -> str:
    """Say which --map would serve a folder of a setting that is not here; "" where none would."""
    top = _missing_top(path)
    if not (folders.is_windows(path) or top.count("/") == 1):
        return ""
    return f"; or --map {shlex.quote(path.rstrip(chr(92) + '/'))}=FOLDER"


def _missing_top(folder: str) -> str:
    """Give the uppermost folder that is not here; of Windows, the drive or the server."""
    if folders.is_windows(folder):
        return re.split(r"(?<=[^/\\])[/\\]", folder, maxsplit=1)[0]
    path = Path(folder)
    above = [p for p in (path, *path.parents) if not p.exists()]
    return str(above[-1]) if above else folder
