"""Names from outside, as of a bucket or a state file, stay where they belong."""

from __future__ import annotations

from pathlib import Path

from bpcp.errors import BpcpError, Exit


def is_plain(name: str) -> bool:
    """Tell whether a name below a folder or a bucket can't lead out of it.

    It is relative, and has no empty, `.` or `..` part and no NUL.
    """
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def climbs(path: str) -> bool:
    """Tell whether `..` in a path leads above where it starts, at any of its parts."""
    depth = 0
    for part in path.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False


def strays(address: str) -> bool:
    """Tell whether an s3:// address has a part that is none: a folder would lead elsewhere."""
    return any(part in (".", "..") for part in address.split("/")[3:])


def below(folder: Path, name: object, said_by: Path) -> Path:
    """Join a name from a state file to the folder that it is of.

    Parameters
    ----------
    said_by : Path
        The state file.

    Raises
    ------
    BpcpError
        65 where it would lead out: bpcp does not write such names.
    """
    if isinstance(name, str) and is_plain(name):
        return folder / name
    raise BpcpError(
        Exit.MALFORMED_INPUT,
        f"{said_by}: {name!r} is not below {folder}: somebody changed this file",
        "find out who; then remove the file and run the same command again",
    )
