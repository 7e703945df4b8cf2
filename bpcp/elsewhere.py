"""What to do about folders that are not here: which --map would serve, and what else."""

from __future__ import annotations

import os
import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bpcp import folders
from bpcp.folders import Moved


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


def remedies(missing: Sequence[str], root: Path, moved: Moved) -> dict[str, str]:
    """Say what to do about each of some folders that are not here, as `folder_of` gives them."""
    mapped = tuple(f"{new}/" for _, new in moved.maps)
    found: dict[str, str] = {}
    alike: dict[str, list[str]] = defaultdict(list)
    for folder in missing:
        top = _missing_top(folder)
        if f"{folder}/".startswith(mapped):
            found[folder] = "mount or copy it, or correct the folder that --map gives"
        elif folder == str(root) or folder.startswith(f"{root}/"):
            found[folder] = (
                "mount or copy it, or correct the list; PATHNAME_BASENAME is where folders start"
            )
        elif folders.is_windows(folder) or top.count("/") == 1:
            alike[top.casefold()].append(folder)
        else:
            found[folder] = (
                "mount or copy it, or correct the list; or name its folder on this machine:"
                f" --map {shlex.quote(top)}=FOLDER"
            )
    for same in alike.values():
        old = shlex.quote(folders.common(same))
        found.update(dict.fromkeys(same, f"name its folder on this machine: --map {old}=FOLDER"))
    return found


def of_windows(names: Sequence[str], root: Path) -> str:
    """Say which --map would serve the paths and URLs of Windows among some; "" for none."""
    found = dict.fromkeys(
        folder_of(path, root) for path in map(folders.local, names) if folders.called(path, root)
    )
    return next(iter(remedies(list(found), root, folders.NOWHERE).values()), "")


def of_setting(path: str) -> str:
    """Say which --map would serve a folder of a setting that is not here; "" where none would."""
    # two backslashes are one to CellProfiler
    path = re.sub(r"(?<=[^\\])\\+", lambda _: "\\", path).rstrip("/\\")
    top = _missing_top(path)
    if not (folders.is_windows(path) or top.count("/") == 1):
        return ""
    return f"; or --map {shlex.quote(path)}=FOLDER"


def _missing_top(folder: str) -> str:
    """Give the uppermost folder that is not here; of Windows, the drive or the server."""
    if folders.is_windows(folder):
        return re.split(r"(?<=[^/\\])[/\\]", folder, maxsplit=1)[0]
    path = Path(folder)
    above = [p for p in (path, *path.parents) if not p.exists()]
    return str(above[-1]) if above else folder
