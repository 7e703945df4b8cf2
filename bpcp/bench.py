"""Measure what bpcp gains and costs: ratios from one run on one machine, never absolute claims."""

from __future__ import annotations

import csv
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpcp import cellprofiler
from bpcp.compare import compare
from bpcp.errors import BpcpError, Exit, Parser, run_main

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Measured:
    """What a command took, with everything that it started.

    Attributes
    ----------
    wall_s, cpu_s : float
        CPU is user and system time of all its processes.
    peak_mb : float
        The largest single process.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def measure(argv: Sequence[str], environ: Mapping[str, str], log: Path) -> Measured:
    """Run a command to its end and measure it, by the operating system's own account.

    Raises
    ------
    BpcpError
        69 where it fails.
    """
    # a process of its own in between: RUSAGE_CHILDREN adds up over all that was ever waited for
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        started = time.monotonic()
        with log.open("wb") as sink:
            code = subprocess.call(
                argv, env=dict(environ), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        numbers = (
            code,
            time.monotonic() - started,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss,
        )
        os.write(writer, " ".join(map(str, numbers)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        failed, wall, cpu, peak = (float(n) for n in file.read().split())
    os.waitpid(child, 0)
    if failed:
        tail = log.read_text(encoding="utf-8", errors="replace")[-500:]
        raise BpcpError(Exit.UNAVAILABLE, f"{argv[0]} failed with {failed:.0f}: {tail}")
    return Measured(wall, cpu, peak / 1024)


def modules_s(image_table: Path) -> float:
    """Add up the ExecutionTime_ columns of an image table, in CPU seconds."""
    with image_table.open(encoding="utf-8", newline="") as file:
        return sum(
            float(value)
            for row in csv.DictReader(file)
            for name, value in row.items()
            if name.startswith("ExecutionTime_") and value
        )


def main(argv: Sequence[str]) -> int:
    """Measure one plain process and bpcp over the same images, and print the ratios."""
    parser = Parser("bench")
    parser.add_argument("--wells", default="24")
    parser.add_argument("--sites", default="4")
    parser.add_argument("-P", "--max-procs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args(argv)
    one_thread = {**os.environ, **cellprofiler.ONE_THREAD}
    with tempfile.TemporaryDirectory(prefix="bpcp-bench-") as name:
        base = Path(name) / "demo"
        log = Path(name) / "log"
        plain = Path(name) / "plain"
        pipeline = base / "pipelines" / "demo.cppipe"
        images = base / "load_data_csv" / "demo" / "load_data.csv"
        drawing = [str(_ROOT / "bin/bpcp"), "demo", "--wells", args.wells, "--sites", args.sites]
        measure([*drawing, str(base)], os.environ, log)
        print("one plain CellProfiler process …", file=sys.stderr)
        one = measure(
            [
                *cellprofiler.command(),
                *("-c", "-r", "-p", str(pipeline), "--data-file", str(images), "-o", str(plain)),
            ],
            one_thread,
            log,
        )
        print(f"bpcp, {args.max_procs} at a time …", file=sys.stderr)
        entry = [str(_ROOT / "run_analysis_pipeline.sh"), "-d", "demo", "-p", str(pipeline)]
        many = measure([*entry, "-P", str(args.max_procs)], os.environ, log)
        result = base / "analysis" / "demo" / "demo"
        differences = list(compare(plain, result))
        with images.open(encoding="utf-8") as file:
            count = sum(1 for _ in file) - 1
        efficiency = modules_s(result / "Image.csv") / (many.wall_s * args.max_procs)
    slots = args.max_procs
    print(
        f"{count} image sets of the demo, {platform.machine()}, {os.cpu_count()} cores, -P {slots}"
    )
    print(f"{'':26}{'one process':>12}{'bpcp':>10}{'ratio':>8}")
    for what, a, b in (
        ("wall, s", one.wall_s, many.wall_s),
        ("CPU, s", one.cpu_s, many.cpu_s),
        ("largest process, MB", one.peak_mb, many.peak_mb),
    ):
        print(f"{what:26}{a:12.1f}{b:10.1f}{b / a:8.2f}")
    print(f"{'speed-up':26}{'':22}{one.wall_s / many.wall_s:8.2f}")
    print(f"{'efficiency':26}{'':22}{efficiency:8.2f}   ExecutionTime_ / (wall × {slots})")
    print(f"{'result':26}{'':22}{'equal' if not differences else 'DIFFERS':>8}")
    return Exit.SOME_FAILED if differences else Exit.OK


if __name__ == "__main__":
    run_main("bench", main)
