"""Time `bpcp check` on a screen of small TIFF files that are really there.

Usage: check.py [IMAGE_SETS]

Makes IMAGE_SETS (3,456) image sets of 5 channels in TMPDIR, 128 × 128 pixels of 16 bit each,
checks them with `--json`, prints image sets, files, seconds, CPU seconds, cores and peak memory,
and removes what it made. CellProfiler's own start is in the figure: the files are looked at
meanwhile.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

ROOT = Path(__file__).parents[2]
CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
PIPELINE = ROOT / "bpcp" / "demo.cppipe"


def make(base: Path, image_sets: int) -> None:
    """Write the workspace; every file is its own, as a microscope's are."""
    pixels = np.random.default_rng(0).integers(100, 4000, (128, 128), dtype="uint16")
    header = [f"{kind}_{name}" for name in CHANNELS for kind in ("FileName", "PathName")]
    # the demo's pipeline calls its second channel so
    header = [name.replace("ER", "Cyto") for name in header]
    rows = []
    for number in range(image_sets):
        plate, well, site = number // 3456, number % 3456 // 9, number % 9 + 1
        folder = base / "images" / f"plate {plate + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        cells: list[str] = []
        for channel in CHANNELS:
            file = folder / f"w{well + 1:03d} s{site} {channel}.tif"
            tifffile.imwrite(file, pixels)
            cells += [file.name, str(folder)]
        name = f"{chr(ord('A') + well // 24)}{well % 24 + 1:02d}"
        rows.append([*cells, f"plate {plate + 1}", name, site])
    listed = base / "load_data_csv" / "screen" / "load_data.csv"
    listed.parent.mkdir(parents=True)
    with listed.open("w", newline="", encoding="utf-8") as file:
        header += ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
        csv.writer(file).writerows([header, *rows])
    (base / "pipelines").mkdir()
    shutil.copy(PIPELINE, base / "pipelines" / "screen.cppipe")


def main() -> int:
    image_sets = int(sys.argv[1]) if len(sys.argv) > 1 else 3456
    with tempfile.TemporaryDirectory(prefix="bpcp-check-") as name:
        base = Path(name)
        make(base, image_sets)
        command = [ROOT / "bin" / "bpcp", "check", "-d", "screen", "--json"]
        for more in ([], ["--deep"]):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.monotonic()
            done = subprocess.run(
                [*command, "-p", base / "pipelines" / "screen.cppipe", *more],
                capture_output=True,
                text=True,
                check=False,
            )
            wall = time.monotonic() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if done.returncode != 0:
                sys.stderr.write(done.stdout + done.stderr)
                return 1
            found = json.loads(done.stdout)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(
                f"check {' '.join(more):<7}{found['image_sets']:,} image sets,"
                f" {found['files']:,} files: {wall:.1f} s, {cpu:.1f} CPU-s on"
                f" {len(os.sched_getaffinity(0))} cores, largest process"
                f" {after.ru_maxrss / 1000:.0f} MB"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
