"""What a merge leaves in MySQL servers: the databases that it made, loaded once each."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from bpcp import pipeline
from bpcp.database import wells
from bpcp.database.load import Load, Target, targets, temporary_of
from bpcp.database.server import Server, connected, has, is_waiting
from bpcp.errors import BpcpError
from bpcp.publish import sha256
from bpcp.restore import Source
from bpcp.tables import Kind
from bpcp.workspace import Json, Workspace, read_json, write_json


def targets_of(workspace: Workspace) -> dict[str, Target]:
    """Give the servers of a run, by the SQLite file that is loaded into each."""
    if not workspace.pipeline.is_file():
        return {}
    pipe = pipeline.read(workspace.pipeline)
    user = (read_json(workspace.run) or {}).get("pipeline", "")

    def password(number: int) -> str:
        # the user may have moved the file since, and gives it in the environment anyway
        with suppress(BpcpError):
            return pipeline.password_of(Path(user), number)
        return ""

    return targets(pipe, password)


def servers_of(workspace: Workspace, found: Sequence[Source]) -> dict[str, Server]:
    """Give the server of each database of chunks that waits for one, by its path."""
    if not any(is_waiting(path) for source in found[:1] for path in source.summaries):
        return {}
    return {path: target.server for path, target in targets_of(workspace).items()}


def send(workspace: Workspace, tables: dict[str, Json]) -> dict[str, str]:
    """Load what the merge made for servers, and take it out of the result.

    Parameters
    ----------
    tables : dict of str to dict
        What the merge wrote, by path, as merged.json has it: the SQLite files go, and what else
        one process would have written comes in.

    Returns
    -------
    dict of str to str
        By the SQLite file, what was loaded.

    Raises
    ------
    BpcpError
        As `Load.run`; the merge can be done again then.
    """
    waiting = [path for path in tables if is_waiting(path)]
    found = targets_of(workspace) if waiting else {}
    said: dict[str, str] = {}
    for path in waiting:
        file, target = workspace.analysis / path, found[path]
        try:
            for module in target.modules:
                if wells.kinds(module):
                    script = Path(path).with_name(wells.NAME)
                    tables[str(script)] = _write(workspace, script, wells.script(module, file))
            known = read_json(workspace.loaded) or {}
            keep = partial(_keep, workspace, path)
            temporary = temporary_of(workspace.analysis)
            rows = Load(target, known.get(path, {}), temporary, keep).run(file)
        except BpcpError as error:
            words = ["bpcp", "merge", "-d", workspace.dataset, "-p"]
            words.append(str((read_json(workspace.run) or {}).get("pipeline", "FILE")))
            again = f"nothing is lost: when that is put right, {shlex.join(words)}"
            raise BpcpError(error.code, str(error), "; ".join([error.todo, again])) from None
        finally:
            # the chunks have what it is made of
            file.unlink(missing_ok=True)
        del tables[path]
        said[path] = f"loaded {rows:,} image sets into the {target.server}"
    return said


def _keep(workspace: Workspace, path: str, record: dict[str, Any]) -> None:
    write_json(workspace.loaded, {**(read_json(workspace.loaded) or {}), path: record})


def _write(workspace: Workspace, path: Path, text: str) -> Json:
    target = workspace.analysis / path
    temporary = target.with_name(f".{target.name}.merging")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)
    return {
        "rows": 1, "columns": {}, "kind": Kind.PROPERTIES.value, "size": target.stat().st_size,
        "sha256": sha256(target),
    }  # fmt: skip


def is_there(workspace: Workspace, loaded: list[str]) -> bool:
    """Tell whether servers still have what was loaded; yes where they can't be asked."""
    found = targets_of(workspace) if loaded else {}
    known = read_json(workspace.loaded) or {}
    with suppress(BpcpError):
        for path in loaded:
            if path not in found:
                return False
            with connected(found[path].server) as connection, connection.cursor() as cursor:
                prefixes = known.get(path, {}).get("stamps", {})
                if not all(has(cursor, f"{prefix}Per_Image") for prefix in prefixes):
                    return False
    return True
