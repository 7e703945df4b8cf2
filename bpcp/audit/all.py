"""The whole audit: what a run calls at its end, and `bpcp audit` at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from bpcp import merge
from bpcp.audit import manifest
from bpcp.audit.compare import Tables, compare, other_formats
from bpcp.audit.files import Known, Look, Readers, Saved, look, saved_of, strangers
from bpcp.audit.image_sets import account
from bpcp.audit.outcome import Fault, Outcome, Remedies, named
from bpcp.publish import sha256
from bpcp.workspace import Json, Workspace, locked, read_json, read_plan


def audit(workspace: Workspace, *, quick: bool = False) -> Outcome:
    """Find out whether a result adds up; where it does, leave its manifest.

    Parameters
    ----------
    quick : bool
        Whether saved files that nothing touched since they were read last are not read again.
        Tables always are.

    Raises
    ------
    BpcpError
        66 where nothing is planned; 73 where the manifest can't be written, 75 where another
        process is at work on the run.
    """
    found = examine(workspace, quick=quick)
    keep_manifest(workspace, found)
    return found.outcome


@dataclass
class Examined:
    """What an audit read.

    Attributes
    ----------
    outcome : Outcome
    state : str
        Of the merge that the result is of.
    entries : dict of str to str
        SHA-256 of each file of the result, by path.
    times : dict of str to list
        What the manifest keeps of saved files, see `manifest.times`.
    """

    outcome: Outcome = field(default_factory=Outcome)
    state: str = ""
    entries: dict[str, str] = field(default_factory=dict)
    times: dict[str, list[object]] = field(default_factory=dict)


def examine(workspace: Workspace, *, quick: bool = False) -> Examined:
    """Read all of a result, and write nothing; see `audit`."""
    found = Examined()
    outcome = found.outcome
    known = account(workspace, outcome)
    merged = read_json(workspace.merged) or {}
    found.state = merge.state_of(workspace, known.plan)
    outcome.merged = not outcome.left and _is_merged(merged, found.state)
    if not outcome.merged:
        if not outcome.left:
            outcome.waits.append("the result does not hold all that the chunks wrote")
        return found
    saved = saved_of(workspace, known)
    tables = Tables(workspace, known, merge.sources(workspace, known.plan), merged["tables"])
    sizes = [t["size"] for t in merged["tables"].values()] + [s.size for s in saved.values()]
    keep = Known(workspace, manifest.times(workspace), quick=quick)
    with Readers(sum(sizes)) as readers:

        def see(one: Saved) -> Look:
            seen = look(workspace.analysis, one, keep)
            readers.tell(one.size)
            return seen

        # the largest first, so that none is left for the end
        paths = sorted(merged["tables"], key=lambda p: -int(merged["tables"][p]["size"]))
        reading = readers.map(partial(tables.read, tell=readers.tell), paths)
        looks = readers.map(see, saved.values())
        for _ in reading:
            pass
        for one, seen in zip(saved.values(), looks, strict=True):
            _take(workspace, found, one, seen)
    found.entries.update({path: content.sha256 for path, content in tables.found.items()})
    compare(tables, outcome)
    others: dict[str, str] = {}
    outcome.faults += other_formats(tables, merged, others)
    found.entries.update(others)
    _count_files(workspace, found, tables, saved, others)
    expected = {*merged["tables"], *saved, *merged.get("other_formats", [])}
    if strange := strangers(workspace.analysis, expected):
        files = "file" if len(strange) == 1 else "files"
        outcome.warnings.append(f"{len(strange):,} {files} that nobody wrote: {named(strange)}")
        outcome.strangers = strange
    outcome.faults += _other_than_manifest(workspace, found)
    return found


def _is_merged(merged: Json, state: str) -> bool:
    # a merge that was ended before it came to the other formats
    ended_early = bool(merged.get("formats")) and "other_formats" not in merged
    return merged.get("state") == state and not ended_early


def _take(workspace: Workspace, found: Examined, one: Saved, seen: Look) -> None:
    """Note what a look at a saved file found."""
    if seen.what:
        remedies = Remedies(workspace)
        todo = remedies.run if seen.rerun else remedies.run_without(workspace.analysis / one.path)
        found.outcome.faults.append(
            Fault(
                f"{seen.what} ({one.origin})", todo, one.path,
                image_number=one.numbers[0] if len(one.numbers) == 1 else None, chunk=one.chunk,
            )
        )  # fmt: skip
        return
    found.entries[one.path] = one.sha256
    found.times[one.path] = [*seen.times, one.sha256]
    found.outcome.unread += not seen.read


def _count_files(
    workspace: Workspace,
    found: Examined,
    tables: Tables,
    saved: dict[str, Saved],
    others: dict[str, str],
) -> None:
    outcome = found.outcome
    outcome.tables, outcome.saved = len(tables.merged) + len(others), len(saved)
    outcome.size = sum(s.size for s in saved.values())
    outcome.size += sum(content.size for content in tables.found.values())
    outcome.size += sum((workspace.analysis / path).stat().st_size for path in others)


def _other_than_manifest(workspace: Workspace, found: Examined) -> list[Fault]:
    """Compare the result with the manifest that an audit left; one of an earlier merge is old."""
    again = f"if it is right as it is: rm {workspace.manifest}, then {Remedies(workspace).audit}"
    try:
        known = manifest.read(workspace)
    except ValueError as error:
        return [Fault(f"{workspace.manifest}: {error}", again)]
    if known is None or not manifest.holds(workspace, found.state):
        return []
    faulty = {fault.file for fault in found.outcome.faults}
    faults = []
    for path, content in known.items():
        if path in faulty or found.entries.get(path) == content:
            continue
        what = "it is not what stands in the manifest"
        if path not in found.entries:
            # of no chunk any more; it may still be what it was
            try:
                if sha256(workspace.analysis / path) == content:
                    continue
            except (FileNotFoundError, NotADirectoryError):
                what = "it is gone, and stands in the manifest"
            except OSError as error:
                what = f"it stands in the manifest, and can't be read: {error.strerror}"
        faults.append(Fault(what, again, path))
    return faults


def keep_manifest(workspace: Workspace, found: Examined) -> None:
    """Write the manifest of a result that adds up.

    Raises
    ------
    BpcpError
        73 where it can't be written, 75 where another process is at work on the run.
    """
    if found.outcome.exit_code:
        return
    if manifest.is_as(workspace, found.state, found.entries, found.times):
        # also for whoever may only read
        found.outcome.manifest = "as before" if found.entries else ""
        return
    with locked(workspace):
        if merge.state_of(workspace, read_plan(workspace)) != found.state:
            # somebody went on with the run while it was read
            return
        new = manifest.write(workspace, found.state, found.entries, found.times)
    if found.entries:
        found.outcome.manifest = "written" if new else "as before"
