"""The closing words of a run: what is done and failed, how long it took, and what comes next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bpcp.errors import Exit, Parser, run_main
from bpcp.words import duration
from bpcp.workspace import Workspace, of_status, read_json, read_plan, verdict


def words(
    workspace: Workspace, wall_s: float, before_s: float, command: str
) -> tuple[list[str], int]:
    """Give the closing lines of a run, and its exit code.

    Parameters
    ----------
    wall_s : float
        How long this start took.
    before_s : float
        CPU seconds of the modules for what was done before it.
    command : str
        What goes on, for a shell.
    """
    from bpcp.status import (
        describe_failures,
        describe_not_analysed,
        describe_skipped,
        gather,
        run_pipeline,
    )

    state = gather(workspace)
    gained = state.modules_s - before_s
    # the modules alone would have kept one process busy for that long
    speed = f", {gained / wall_s:.1f} × one process" if gained > wall_s > 0 else ""
    failed = f", {state.failed:,} failed" if state.failed else ""
    if (halted := read_json(workspace.halted)) and not state.merged:
        # also where none is left without a verdict: some have one of an earlier start
        left = f", {state.left:,} left" if state.left else ""
        return [
            f"given up: {halted['why']}",
            *describe_failures(workspace, state),
            f"  {state.done:,} of {state.total:,} image sets done{failed}{left}",
            f"  → mend that, then: {command}",
        ], Exit.SOME_FAILED
    if state.left:
        why = _given_up(workspace)
        return [
            f"stopped: {state.done:,} of {state.total:,} image sets done{failed},"
            f" {state.left:,} left",
            *describe_failures(workspace, state),
            *([f"  {why[0]}", f"  all that happened: {workspace.events}"] if why else []),
            f"  → {'mend that, then' if why else 'go on with'}: {command}",
        ], why[1] if why else state.exit_code
    if not state.merged:
        return [
            f"stopped: all {state.total:,} image sets are done, but not merged",
            f"  → go on with: {command}",
        ], state.exit_code
    lines = [
        f"done: {state.done:,} of {state.total:,} image sets in {duration(wall_s)}{speed}{failed}",
        *(f"  {skipped}" for skipped in describe_skipped(state.skipped)),
        *describe_failures(workspace, state),
        *describe_not_analysed(state),
    ]
    if state.objects:
        lines.append("  " + ", ".join(f"{n:,} {name}" for name, n in state.objects.items()))
    if state.done:
        lines.append(f"  result: {workspace.analysis}")
    if state.failed:
        words = ["bpcp", "retry", "-d", workspace.dataset, "-p", run_pipeline(workspace)]
        lines.append(f"  → then: {shlex.join(words)}")
    return lines, state.exit_code


def _given_up(workspace: Workspace) -> tuple[str, int] | None:
    """Give the reason and the exit code of the first chunk that could not be run at all."""
    for planned in read_plan(workspace):
        error = read_json(workspace.chunk(planned.id).error)
        if error and verdict(workspace, planned) is None:
            return f"chunk {planned.id}: {error['reason']}", int(error["code"])
    return None


def main(argv: Sequence[str]) -> int:
    """Say how a run ended; with --before, only say what is done already, for a later call."""
    parser = Parser("run")
    parser.add_argument("run", type=Path)
    parser.add_argument("--before", action="store_true")
    parser.add_argument("--wall-s", type=float, default=0)
    parser.add_argument("--before-s", type=float, default=0)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--ran", type=int, default=1)
    parser.add_argument("--go-on", default="")
    parser.add_argument("--audited", type=int, default=0)
    args = parser.parse_args(argv)
    workspace = of_status(args.run)
    if args.before:
        from bpcp.status import gather

        print(gather(workspace).modules_s)
        return 0
    lines, code = words(workspace, args.wall_s, args.before_s, args.go_on)
    if code == Exit.OK and not args.ran:
        lines[0] = (
            f"nothing to do: {lines[0].removeprefix('done: ').split(' in ')[0]} are done already"
        )
    if args.audited == Exit.SOME_FAILED:
        # what does not add up stands above, with what to do
        lines.insert(0, "the result is not as it should be: see the audit above")
    code = code or args.audited
    if not args.quiet or code:
        print("\n".join(lines), file=sys.stderr)
    return code


if __name__ == "__main__":
    run_main("run", main)
