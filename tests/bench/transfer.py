#!/usr/bin/env python3
"""Measure what S3 and a RAM disk cost or gain: ratios to the same run on local files.

Usage: transfer.py [--wells N] [--sites N] [-P N]

Draws the demo and runs it three times: on local files; from and to a real S3 server on loopback
(s3rver), throttled so that all images take half as long to arrive as the local run took; and on a
RAM disk. Results are compared. The server and the throttle take their share of the same cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "servers")]

import s3server  # noqa: E402

from bpcp.bench import Measured, measure  # noqa: E402
from bpcp.compare import compare  # noqa: E402


def workspace(drawn: Path, base: Path) -> Path:
    """Copy a demo's list and pipeline, with images relative to the root; give the pipeline."""
    for folder in ("pipelines", "load_data_csv"):
        shutil.copytree(drawn / folder, base / folder)
    images = base / "load_data_csv" / "demo" / "load_data.csv"
    images.write_text(images.read_text().replace(f"{drawn}/", ""))
    return base / "pipelines" / "demo.cppipe"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wells", default="48")
    parser.add_argument("--sites", default="4")
    parser.add_argument("-P", "--max-procs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bpcp-bench-") as name:
        top = Path(name)
        log = top / "log"
        drawing = [str(ROOT / "bin/bpcp"), "demo", "--wells", args.wells, "--sites", args.sites]
        measure([*drawing, str(top / "drawn")], os.environ, log)
        rooted = {**os.environ, "PATHNAME_BASENAME": str(top / "drawn")}
        size = sum(p.stat().st_size for p in (top / "drawn" / "images").rglob("*.tif*"))

        def run(kind: str, environ: dict[str, str], *options: str) -> Measured:
            print(f"{kind} …", file=sys.stderr)
            pipeline = workspace(top / "drawn", top / kind)
            entry = [str(ROOT / "run_analysis_pipeline.sh"), "-d", "demo", "-p", str(pipeline)]
            return measure([*entry, "-P", str(args.max_procs), *options], environ, log)

        def result(kind: str) -> Path:
            return top / kind / "analysis" / "demo" / "demo"

        local = run("local", rooted)
        with s3server.running(top / "s3") as server, s3server.before(server) as proxy:
            bucket = server.bucket()
            bucket.put_tree(top / "drawn" / "images", "in/images")
            transfer_s = local.wall_s / 2
            proxy.bytes_per_s = size / transfer_s
            s3 = run(
                "s3",
                {**os.environ, **s3server.environment(top)},
                *("--input", f"{bucket.url}/in", "--output", f"{bucket.url}/out"),
                *("--endpoint-url", proxy.url),
            )
            complete = "verified in" in log.read_text()
        ram = run("ram", rooted, "--ramdisk", "auto")
        count = sum(1 for _ in (top / "local/load_data_csv/demo/load_data.csv").open()) - 1
        differ = [k for k in ("s3", "ram") if list(compare(result("local"), result(k)))]
    print(
        f"{count} image sets of the demo, {size / 1e6:.0f} MB, {platform.machine()},"
        f" {os.cpu_count()} cores, -P {args.max_procs}; images take {transfer_s:.0f} s to arrive"
    )
    print(f"{'':26}{'local':>10}{'S3':>10}{'ratio':>8}{'RAM disk':>10}{'ratio':>8}")
    for what, a, b, c in (
        ("wall, s", local.wall_s, s3.wall_s, ram.wall_s),
        ("CPU, s", local.cpu_s, s3.cpu_s, ram.cpu_s),
    ):
        print(f"{what:26}{a:10.1f}{b:10.1f}{b / a:8.2f}{c:10.1f}{c / a:8.2f}")
    said = ["DIFFERS" if kind in differ else "equal" for kind in ("s3", "ram")]
    print(f"{'result':26}{'':10}{said[0]:>10}{'':8}{said[1]:>10}")
    print(f"{'bucket':26}{'':10}{'verified' if complete else 'NOT VERIFIED':>10}")
    return 1 if differ or not complete else 0


if __name__ == "__main__":
    sys.exit(main())
