r"""The manifest of a result: a line for each file, as `sha256sum` writes it and reads it with -c.

A name that holds a backslash or a line break stands there escaped, and a backslash before the line
says so. Source: GNU coreutils 9.1, src/digest.c (filename_unescape, print_filename).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from bpcp.workspace import Workspace, read_json, write_bytes, write_json

_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
_LINE = re.compile(rb"(\\?)([0-9a-f]{64}) [ *](.+)", re.DOTALL)
_ESCAPE = re.compile(rb"\\([\\nr])")


def line(path: str, sha256: str) -> bytes:
    """Give the line of a file."""
    name = os.fsencode(path)
    escaped = re.sub(rb"[\\\n\r]", lambda found: _ESCAPES[found[0]], name)
    mark = b"\\" if escaped != name else b""
    return mark + sha256.encode() + b"  " + escaped + b"\n"


def read(workspace: Workspace) -> dict[str, str] | None:
    """Read the manifest: SHA-256 by path; None where there is none.

    Raises
    ------
    ValueError
        Where a line is none of a manifest; it says which.
    """
    try:
        content = workspace.manifest.read_bytes()
    except FileNotFoundError:
        return None
    found = {}
    plain = {value[1:]: key for key, value in _ESCAPES.items()}
    for number, text in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        parts = _LINE.fullmatch(text)
        if parts is None:
            raise ValueError(f"line {number} is no line of sha256sum's")
        name = parts[3]
        if parts[1]:
            name = _ESCAPE.sub(lambda escape: plain[escape[1]], name)
        found[os.fsdecode(name)] = parts[2].decode()
    return found


def holds(workspace: Workspace, state: str) -> bool:
    """Tell whether the manifest is of the merge that made the result, rather than of one before."""
    known = read_json(workspace.manifest_state)
    return known is None or known.get("state") == state


def times(workspace: Workspace) -> dict[str, list[object]]:
    """Give size, times and SHA-256 of the saved files as they were when they were last read."""
    found: dict[str, list[object]] = (read_json(workspace.manifest_state) or {}).get("files", {})
    return found


def write(
    workspace: Workspace,
    state: str,
    entries: Mapping[str, str],
    known: Mapping[str, list[object]],
) -> bool:
    """Write the manifest of a result that adds up; where it would be as it is, leave it.

    Parameters
    ----------
    state : str
        Of the merge.
    entries : mapping of str to str
        SHA-256 by path.
    known : mapping of str to list
        As `times` gives it.

    Returns
    -------
    bool
        Whether it was written.
    """
    if is_as(workspace, state, entries, known):
        return False
    content = _content(entries)
    new = content != _there(workspace)
    if not content:
        # sha256sum refuses a manifest of nothing
        workspace.manifest.unlink(missing_ok=True)
    elif new:
        write_bytes(workspace.manifest, content)
    write_json(workspace.manifest_state, {"state": state, "files": dict(known)})
    return bool(content) and new


def is_as(
    workspace: Workspace,
    state: str,
    entries: Mapping[str, str],
    known: Mapping[str, list[object]],
) -> bool:
    """Tell whether `write` would change nothing."""
    about = {"state": state, "files": dict(known)}
    return _there(workspace) == _content(entries) and read_json(workspace.manifest_state) == about


def _there(workspace: Workspace) -> bytes:
    return workspace.manifest.read_bytes() if workspace.manifest.is_file() else b""


def _content(entries: Mapping[str, str]) -> bytes:
    return b"".join(line(path, entries[path]) for path in sorted(entries, key=os.fsencode))
