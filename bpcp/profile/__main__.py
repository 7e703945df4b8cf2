"""Measure a few image sets before launch, and predict the whole run from them.

First one process has the machine to itself: that shows what it needs, module by module. Then as
many run side by side as a run would start and memory carries, for image sets take longer where all
cores are busy.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from bpcp import __version__, binding, cellprofiler, plan
from bpcp.chunk.verdict import Declared
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.limits import Limits, read_limits
from bpcp.profile import instances, massif, words
from bpcp.profile.figures import Figures, fold, modules, predict
from bpcp.profile.samples import Candidate, deal, different, draw
from bpcp.profile.trial import Subject, bench, subject_of
from bpcp.publish import sha256
from bpcp.slots import NO_LIMIT, asked, fit, free_mb, known
from bpcp.workspace import Json, locked, write_json, write_text

SAMPLES = 5
# Side by side, more image sets make the mean better known; as many as this time allows.
_TOGETHER_S = 60.0
_MOST_SAMPLES = 12


class Stopped(BaseException):
    """The process was told to end."""


def profile(subject: Subject, jobs: str, samples: int, tell: Callable[[str], None]) -> Json:
    """Measure, predict, and write it down.

    Parameters
    ----------
    jobs : str
        As -P; "" for one on each core.
    samples : int
        Image sets that one process runs alone.

    Returns
    -------
    dict
        What was written to profile.json.
    """
    tell("asking CellProfiler about the pipeline")
    began = time.monotonic()
    planned = plan.make(subject.workspace, subject.pipe, subject.settings)
    plan_s = time.monotonic() - began
    limits = read_limits()
    slots = min(asked(jobs or "100%", limits.cores), subject.settings.gpus or NO_LIMIT)
    chosen = different(subject.cut.images, subject.there, samples)
    command = planned.run["cellprofiler"]["command"]
    with bench(subject, command, Declared.of(planned.run)) as here:
        tell(f"{words.image_sets(len(chosen))}, one process alone")
        first, check_s = here.observe([here.work(1, [c for c, _ in chosen])])
        alone = first.processes[0]
        each_s = alone.wall_s / len(chosen)  # with its share of the start
        carries = fit(free_mb(limits), alone.peak_mb)
        # a run may be asked for any number; that more than two on a core are slow is known
        together = min(slots, carries, len(subject.sizes(slots)), 2 * limits.cores)
        seen = first
        if together > 1:
            each = max(samples, min(_MOST_SAMPLES, int(_TOGETHER_S / each_s)))
            hands = deal(draw(subject.there, each * together), together, each)
            tell(
                f"{together} processes at once, {words.image_sets(len(hands[0]))} each:"
                f" about {words.duration(each_s * len(hands[0]))} or more"
            )
            seen, check_s = here.observe([here.work(i, own) for i, own in enumerate(hands, 2)])
    figures = fold(alone, seen, check_s, plan_s)
    record = _record(subject, planned.run, figures, limits, slots)
    record["ran"] = _rows(subject, chosen)
    record["modules"] = [asdict(m) for m in modules([alone, *seen.processes])]
    record["memory"] = {
        "alone_mb": alone.peak_mb,
        "together_mb": max((mb for _, mb in seen.total), default=0.0),
        "group_mb": seen.group_mb,
    }
    record["others"] = max(first.others, seen.others)
    tell("drawing")
    from bpcp.profile.plot import draw as plot

    target = subject.workspace.profile
    record["plots"] = [str(p) for p in plot(alone, seen, target.with_suffix(""))]
    write_json(target, _rounded(record))
    return record


def _record(subject: Subject, run: Json, figures: Figures, limits: Limits, slots: int) -> Json:
    """Give what is kept, with the prediction for this machine."""
    # what memory carries depends on the chunks, and they on how many run at once
    while True:
        sizes = subject.sizes(slots)
        carries = fit(free_mb(limits), figures.process_mb(sizes))
        if carries >= slots:
            break
        slots = carries
    return {
        "bpcp": __version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dataset": subject.workspace.dataset,
        "pipeline": str(subject.pipe.path),
        "pipeline_sha256": sha256(subject.pipe.path),
        "cellprofiler": run["cellprofiler"]["version"],
        "image_sets": sum(sizes),
        "machine": {"cores": limits.cores, "mem_free_gb": limits.mem_free_gb, "carries": carries},
        "figures": asdict(figures),
        "prediction": asdict(predict(figures, sizes, slots)),
        "notes": list(_notes(subject, run)),
    }


def _notes(subject: Subject, run: Json) -> Iterator[str]:
    if subject.lacking:
        yield (
            f"{subject.lacking:,} of the image sets looked at lack a file and were left out;"
            " a run names them"
        )
    if run["reads_whole_list"] and not run.get("batch"):
        yield "each process of a run reads the whole list: its start takes longer than measured"
    if names := binding.aggregators(subject.pipe):
        yield f"{', '.join(names)} needs whole groups: expect more memory than parts of them took"
    if Path(run["cellprofiler"]["command"][0]).name in ("docker", "podman"):
        yield "CellProfiler runs in a container: its memory is not seen here"


def _rows(subject: Subject, chosen: Sequence[tuple[Candidate, str]]) -> list[Json]:
    lines = subject.cut.images.lines
    return [
        {"line": lines[c.place], "mb": round(c.size / 1e6, 3), "chosen_for": why}
        for c, why in chosen
    ]


def _rounded(value: object) -> Json:
    """Give a record without digits that were not measured."""
    return dict(json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.6g}")))


def _massif(subject: Subject, as_json: bool, tell: Callable[[str], None]) -> None:
    """Run the smallest image set under massif, and keep and print what it says."""
    massif.tools()
    smallest = min(subject.there, key=lambda c: (c.size, c.place))
    command = cellprofiler.command(plugins=subject.settings.plugins)
    found = known(subject.workspace, sha256(subject.pipe.path))
    low, high = massif.SLOWER
    alone_s = found["figures"]["start_s"] + found["figures"]["alone_s"] if found else 0.0
    times = f": {words.duration(low * alone_s)} to {words.duration(high * alone_s)}"
    tell(
        f"one image set under valgrind, {low} to {high} times slower than by itself"
        f"{times if found else ''}"
    )
    with bench(subject, command, Declared()) as here:
        work = here.work(1, [smallest])
        files = massif.run(work.job, command, here.folder, work.log)
        printed = [massif.print_out(path) for path in files]
    # the JVM's helpers, which end before they allocate anything, are no news
    found_in = [massif.read(text) for text in printed if massif.has_peak(text)]
    summaries = [s for s in found_in if s.peak_mb >= 1]
    kept = subject.workspace.profile.with_suffix(".massif.txt")
    write_text(kept, "\n".join(printed))
    if as_json:
        print(json.dumps([asdict(s) for s in summaries], ensure_ascii=False, indent=1))
    else:
        print(massif.as_text(summaries), end="")
        print(f"all of it: {kept}")


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the options; what is not a profile's own is as for `bpcp plan`."""
    parser = Parser("profile")
    parser.add_argument("-P", "--max-procs", default="")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--all-types", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("--massif", action="store_true")
    parser.add_argument("--refresh-prices", action="store_true")
    parser.add_argument("--region", default="us-east-1")
    args, rest = parser.parse_known_args(argv)
    if args.samples < 1:
        raise BpcpError(Exit.USAGE, f"--samples {args.samples}: at least 1")
    asked(args.max_procs or "1", 1)
    return args, rest


def _refresh(region: str, argv: Sequence[str]) -> None:
    parser = Parser("profile")
    parser.add_argument("--profile", default="")
    parser.add_argument("--endpoint-url", default="")
    args = parser.parse_args(argv)
    options = [
        *(["--profile", args.profile] if args.profile else []),
        *(["--endpoint-url", args.endpoint_url] if args.endpoint_url else []),
    ]
    catalog = instances.refresh(region, options)
    print(f"{len(catalog.types)} instance types in {region}: {instances.own_file()}")


def main(argv: Sequence[str]) -> int:
    """Profile a dataset and a pipeline, or bring the prices up to date."""
    args, rest = _parse(argv)
    if args.refresh_prices:
        _refresh(args.region, rest)
        return Exit.OK
    catalog = instances.load()
    subject = subject_of(rest)
    if args.dry_run:
        chosen = different(subject.cut.images, subject.there, args.samples)
        print(words.choice(_rows(subject, chosen)), end="")
        return Exit.OK

    def tell(text: str) -> None:
        if not args.quiet:
            print(f"profile: {text} …", file=sys.stderr, flush=True)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with locked(subject.workspace):
            if args.massif:
                _massif(subject, args.json, tell)
                return Exit.OK
            record = profile(subject, args.max_procs, args.samples, tell)
    except Stopped as stopped:
        return 128 + int(stopped.args[0])
    figures = Figures(**record["figures"])
    offers = instances.offers(catalog, figures, subject.sizes)
    if args.json:
        shown = _rounded({**record, "instances": words.offers_json(catalog, offers)})
        print(json.dumps(shown, ensure_ascii=False, indent=1))
        return Exit.OK
    print(words.report(record), end="")
    print(
        words.table(catalog, offers if args.all_types else instances.worth_showing(offers)), end=""
    )
    print(f"kept: {subject.workspace.profile}, beside it the plot (.svg, .png)")
    return Exit.OK


if __name__ == "__main__":
    run_main("profile", main)
