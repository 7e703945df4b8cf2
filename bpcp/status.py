"""Say how far a run is, from its state alone: at any time, by anybody, while it runs or not."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpcp import imagelist, processes
from bpcp.cellprofiler import finished_in
from bpcp.chunk import admission
from bpcp.errors import Exit, Parser, run_main
from bpcp.failure import kind_of
from bpcp.merge import state_of
from bpcp.workspace import Json, Planned, Workspace, locate, read_json, read_plan, verdict

_MOST_SHOWN = 10


@dataclass
class State:
    """How far a run is; image sets unless it says chunks.

    Attributes
    ----------
    total, done, failed : int
    under_way : int
        Of chunks that are at work: decided since they were started, or finished within an attempt;
        without a verdict yet, but worth an ETA.
    chunks, chunks_done, chunks_running : int
        `chunks_done` counts a chunk with failed image sets too: nothing of it is left to try.
    failures : list of dict
        For each failed image set: `image_number`, `line` (in load_data.csv), `image_set` (its
        metadata), `kind`, `reason`, `module`, `remedy`, `file`, `log`, `last_lines` (of the log).
    objects : dict of str to int
    attempts : int
    modules_s : float
        CPU seconds that the modules took for what is done.
    merged : bool
        Whether the result holds all that is done.
    not_analysed : list of dict
        For each image set in quarantine: `line`, `place`, `image_set`, `reason`.
    skipped : dict of str to int
        Of those that are done: how many the pipeline itself skipped, by what did it, as in
        `verdict.Verdict`.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    under_way: int = 0
    chunks: int = 0
    chunks_done: int = 0
    chunks_running: int = 0
    failures: list[Json] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    modules_s: float = 0.0
    merged: bool = False
    not_analysed: list[Json] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Image sets that have no verdict yet."""
        return self.total - self.done - self.failed

    @property
    def exit_code(self) -> Exit:
        """0 all done and merged, 1 some failed, 75 there is something left to do."""
        if self.left or not self.merged:
            return Exit.STOPPED
        return Exit.SOME_FAILED if self.failed else Exit.OK


def gather(workspace: Workspace) -> State:
    """Read a run's state.

    Raises
    ------
    BpcpError
        66 where nothing is planned.
    """
    plan = read_plan(workspace)
    run = read_json(workspace.run) or {}
    state = State(total=sum(len(p.image_numbers) for p in plan), chunks=len(plan))
    state.not_analysed = [
        {**f, "place": _place(run, f["line"])} for f in run.get("not_analysed", [])
    ]
    for planned in plan:
        done = verdict(workspace, planned)
        running = read_json(workspace.chunk(planned.id).running)
        at_work = bool(running and processes.is_alive(int(running["pid"])))
        if running and at_work:
            state.chunks_running += 1
            finished = finished_in(running["log"], int(run["last_module"]))[1]
            state.under_way += int(running["decided"]) + finished
        if done is None:
            continue
        state.chunks_done += 1
        state.attempts += int(done["cost"]["attempts"])
        state.done += len(planned.image_numbers) - len(done["failed"])
        # those that are tried again just now have not failed again yet
        state.failed += 0 if at_work else len(done["failed"])
        for part in done["parts"]:
            state.modules_s += part["modules_s"]
            for name, count in part["objects"].items():
                state.objects[name] = state.objects.get(name, 0) + count
            for by, numbers in part.get("skipped", {}).items():
                state.skipped[by] = state.skipped.get(by, 0) + len(numbers)
        if done["failed"] and not at_work:
            state.failures += _failures(workspace, planned, done["failed"])
    state.failures.sort(key=lambda f: int(f["image_number"]))
    merged = read_json(workspace.merged) or {}
    state.merged = merged.get("state") == state_of(workspace, plan) and all(
        (workspace.analysis / path).is_file() for path in merged["tables"]
    )
    return state


def _failures(workspace: Workspace, planned: Planned, failed: Sequence[Json]) -> list[Json]:
    paths = workspace.chunk(planned.id)
    images = imagelist.read(paths.images)
    run = read_json(workspace.run) or {}
    first = paths.first
    found = []
    for f in failed:
        at = int(f["image_set"]) - first
        row = dict(zip(images.header, images.rows[at], strict=True))
        named = {k[9:]: row[k] for k in row if k.startswith("Metadata_")}
        found.append(
            {
                "image_number": planned.image_numbers[at],
                "line": planned.lines[at],
                "place": _place(run, planned.lines[at]),
                "image_set": named,
                "reason": f["reason"]
                + (
                    f", {_place(run, planned.lines[int(f['with']) - first])}" if "with" in f else ""
                ),
                "kind": kind_of(f).value,
                "module": f.get("module"),
                "remedy": kind_of(f).remedy,
                "file": f.get("file"),
                "chunk": planned.id,
                "log": f["log"],
                "last_lines": f.get("last_lines", []),
            }
        )
    return found


def _place(run: Json, line: int) -> str:
    """Say where the user finds an image set: a line of the list, or its number in a batch file."""
    return f"image set {line}" if run.get("batch") else f"line {line} of load_data.csv"


def to_json(workspace: Workspace, state: State) -> Json:
    """Give a run's state for programs."""
    return {
        "dataset": workspace.dataset,
        "pipeline": workspace.tag,
        "image_sets": {
            "total": state.total,
            "done": state.done,
            "failed": state.failed,
            "left": state.left,
            "under_way": state.under_way,
            "not_analysed": len(state.not_analysed),
            "skipped": sum(state.skipped.values()),
        },
        "chunks": {
            "total": state.chunks,
            "done": state.chunks_done,
            "running": state.chunks_running,
            "left": state.chunks - state.chunks_done - state.chunks_running,
        },
        "skipped": state.skipped,
        "objects": state.objects,
        "attempts": state.attempts,
        "modules_s": round(state.modules_s, 1),
        "merged": state.merged,
        "failed": state.failures,
        "not_analysed": state.not_analysed,
        "result": str(workspace.analysis),
        "log": str(workspace.log),
    }


def describe_failures(workspace: Workspace, state: State, most: int = _MOST_SHOWN) -> list[str]:
    """Name the failed image sets: their row, what they are, the reason, and where to look."""
    lines = []
    for f in state.failures[:most]:
        lines.append(f"  {_words(f)}")
        if f["file"]:
            lines.append(f"      {f['file']}")
        elif f["log"]:
            lines.append(f"      log: {f['log']}")
    if len(state.failures) > most:
        lines.append(f"  … and {len(state.failures) - most} more: bpcp status --json")
    remedies = dict.fromkeys(f["remedy"] for f in state.failures)
    return [*lines, *(f"  → {remedy}" for remedy in remedies)]


def describe_skipped(skipped: Mapping[str, int]) -> list[str]:
    """Count the image sets that the pipeline skipped, by what did it."""
    return [f"{count:,} skipped by {by}" for by, count in sorted(skipped.items())]


def describe_not_analysed(state: State, most: int = _MOST_SHOWN) -> list[str]:
    """Name the image sets in quarantine."""
    if not state.not_analysed:
        return []
    lines = [f"not analysed, in quarantine: {len(state.not_analysed):,}"]
    lines += [f"  {_words(f)}" for f in state.not_analysed[:most]]
    if len(state.not_analysed) > most:
        lines.append(f"  … and {len(state.not_analysed) - most} more: bpcp status --json")
    return lines


def _words(found: Json) -> str:
    """Name an image set: where it stands, what it is, and what is wrong with it."""
    known = found["image_set"]
    named = [str(known[k]) for k in ("Plate", "Well", "Site") if k in known]
    what = f" ({' '.join(named)})" if named else ""
    return f"{found['place']}{what}: {found['reason']}"


def run_pipeline(workspace: Workspace) -> str:
    """Give the pipeline file of a run, as the user named it."""
    return str((read_json(workspace.run) or {}).get("pipeline", "PIPELINE"))


def lines(workspace: Workspace, state: State) -> list[str]:
    """Give a run's state for people."""
    done = f"{state.done:,} of {state.total:,} image sets done"
    counted = ((state.failed, "failed"), (state.left, "left"), (state.under_way, "under way"))
    rest = [f"{n:,} {what}" for n, what in counted if n]
    out = [", ".join([done, *describe_skipped(state.skipped), *rest])]
    running = f", {state.chunks_running} running" if state.chunks_running else ""
    out.append(f"{state.chunks_done:,} of {state.chunks:,} chunks done{running}")
    if state.chunks_running and (waits := admission.waits_for(workspace)):
        out.append(f"the next chunk waits for {waits}")
    if state.failures:
        out += ["failed:", *describe_failures(workspace, state)]
    out += describe_not_analysed(state)
    if not state.left and not state.merged:
        words = ["bpcp", "merge", "-d", workspace.dataset, "-p", run_pipeline(workspace)]
        out.append(f"not merged yet: {shlex.join(words)}")
    if state.merged:
        out.append(f"result: {workspace.analysis}")
    return out


def main(argv: Sequence[str]) -> int:
    """Say how far a run is."""
    parser = Parser("status")
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("-p", "--pipeline", required=True, type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    workspace = locate(args.dataset, args.pipeline)
    state = gather(workspace)
    if args.json:
        json.dump(to_json(workspace, state), sys.stdout, indent=1, ensure_ascii=False)
        print()
    else:
        print("\n".join(lines(workspace, state)))
    return state.exit_code


if __name__ == "__main__":
    run_main("status", main)
