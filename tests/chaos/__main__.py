"""The chaos bench: real runs of the real CellProfiler, harmed at random, must come out equal.

    make chaos SEED=7 ROUNDS=50      fifty rounds; each is drawn from the seed and its number
    make chaos SEED=7 ROUND=12       the twelfth of them again

Each round starts a run over a small drawn screen, kills, stops, fills, spoils, doubles or cuts the
power of it, and then starts the plain same command until it is done, four times at most. The result
must be what one plain CellProfiler process makes of the same images, or, where an image was left
bad, that without its image set, which must be named; nothing may live on or be left behind.

Root, with loop devices, gives all kinds of harm; without, disks are not filled and a power cut only
kills. Exit status: 0 where nothing at all is wrong, else 1; 2 where the bench itself can't work.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

import disk
import marked
import screen
from judge import Fault
from rounds import Bench, Outcome, Round
from schedule import Schedule, draw

OWN = Path(__file__).resolve().parents[2]
_WELLS = 4


def options(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", help="what all is drawn from (default: a new one)")
    parser.add_argument("--rounds", type=int, default=6, help="how many (default: 6)")
    parser.add_argument("--round", type=int, help="only this one")
    parser.add_argument("--product", type=Path, help="the checkout under test (default: this one)")
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--timeout-s", type=float, default=180, help="for each start")
    args = parser.parse_args(argv)
    if args.seed is None:
        args.seed = str(random.randrange(10**6))  # noqa: S311
    if args.product is None:
        args.product = Path(os.environ.get("BPCP_CHAOS_PRODUCT", OWN))
    return args


def product_of(root: Path) -> screen.Product:
    """Give the checkout under test, and the environments that it uses."""
    root = root.resolve()
    venv = os.environ.get("BPCP_VENV")
    return screen.Product(root, Path(venv) if venv else root / ".venv")


def ready(args: argparse.Namespace, work: Path) -> Bench:
    """Draw the screen, analyse it with one plain process, and once undisturbed by the product.

    Raises
    ------
    RuntimeError
        Where one of these fails.
    """
    product = product_of(args.product)
    mark = f"{args.seed}-{os.getpid()}"
    began = time.monotonic()
    drawn = screen.draw(product, work, _WELLS, mark)
    stall = "0.2" if product.says("--stall-min") else ""
    bench = Bench(product, drawn, work, mark, args.timeout_s, 0, 0, stall_min=stall)
    told(f"{len(drawn.rows)} image sets by one plain process: {time.monotonic() - began:.0f} s")
    undisturbed = Round(bench, 0, Schedule("folder", "", ())).play()
    told(undisturbed.line())
    if undisturbed.problems:
        said = "\n  ".join(map(str, undisturbed.problems))
        raise RuntimeError(f"an undisturbed run is not equal to one plain process:\n  {said}")
    # with a watchdog, it has its time, and the run as long as it takes twice
    run_s = undisturbed.first_s
    patience_s = (1.0 if not stall else 2.0) * run_s + 60 * float(stall or 0)
    return replace(bench, run_s=run_s, patience_s=min(patience_s, args.timeout_s / 2))


def told(line: str) -> None:
    """Say a line at once, also into a pipe."""
    print(line, flush=True)


def again(args: argparse.Namespace, number: int) -> str:
    """Give the command that plays one round again."""
    return f"make chaos SEED={args.seed} ROUND={number}"


def table(outcomes: Sequence[Outcome]) -> str:
    """Lay out all rounds, a line for each."""
    rows = [("round", "kinds", "disk", "-t", "starts", "restarts", "s", "verdict")]
    for o in outcomes:
        kinds = " ".join(h.kind.value for h in o.schedule.harms)
        rows.append(
            (
                str(o.number), kinds, o.schedule.disk, o.schedule.tmpdir or "-",
                str(len(o.endings)), str(o.restarts), f"{o.seconds:.0f}", o.verdict,
            )
        )  # fmt: skip
    wide = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(r, wide, strict=True)).rstrip() for r in rows
    )


def totals(outcomes: Sequence[Outcome]) -> str:
    """Count what is wrong over all rounds; the four that matter most are always said."""
    found = {f: sum(p.fault is f for o in outcomes for p in o.problems) for f in Fault}
    always = (Fault.LOST, Fault.DOUBLED, Fault.WRONG, Fault.ORPHAN)
    words = [f"{n} {f.value}" for f, n in found.items() if n or f in always]
    restarts = [o.restarts for o in outcomes] or [0]
    words.append(f"restarts: most {max(restarts)}, mean {statistics.mean(restarts):.1f}")
    return f"{len(outcomes)} rounds: {', '.join(words)}"


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str]) -> int:
    """Play the rounds, and say what came of them."""
    args = options(argv)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    # what is ended by SIGSEGV or SIGQUIT leaves no core files
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    why = disk.missing()
    told(f"chaos: seed {args.seed}, {args.product}")
    if why:
        told(f"NO DISKS OF ITS OWN ({why}): nothing is filled, and a power cut only kills")
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bpcp-chaos-", dir=args.work)).resolve()
    numbers = [args.round] if args.round else range(1, args.rounds + 1)
    outcomes: list[Outcome] = []
    try:
        bench = ready(args, work)
        for number in numbers:
            drawn = draw(args.seed, number, len(bench.screen.rows), root=not why)
            outcomes.append(outcome := Round(bench, number, drawn).play())
            told(outcome.line())
            if outcome.problems:
                for problem in outcome.problems:
                    told(f"    {problem}")
                told(f"    kept: {work / 'rounds' / str(number)}")
                told(f"    again: {again(args, number)}")
    except RuntimeError as error:
        told(f"chaos: {error}")
        return 2
    finally:
        marked.end_all(f"{args.seed}-{os.getpid()}")
        if outcomes:
            told("")
            told(table(outcomes))
            told(totals(outcomes))
        if outcomes and not any(o.problems for o in outcomes):
            shutil.rmtree(work, ignore_errors=True)
    return 1 if any(o.problems for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
