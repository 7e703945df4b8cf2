"""What is analysed in all rounds: a small drawn screen, and what one plain process makes of it."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from marked import MARK

DATASET = TAG = "demo"
CHANNELS = ("DNA", "Cyto")
# bpcp gives every process one library thread; so does the process that it is compared with
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_TRASH = b"these bytes are no image\n" * 400


@dataclass(frozen=True)
class Product:
    """The checkout under test."""

    root: Path
    venv: Path

    def environment(self, mark: str, tmpdir: Path) -> dict[str, str]:
        """Give the environment of a start: with its mark, away from its user's keys and network."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "BPCP_"))}
        return {
            **kept,
            MARK: mark,
            "BPCP_VENV": str(self.venv),
            "TMPDIR": str(tmpdir),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def script(self) -> Path:
        return self.root / "run_analysis_pipeline.sh"

    def says(self, word: str) -> bool:
        """Tell whether the entry script's help knows an option."""
        return f"{word} " in self.ask(str(self.script), "--help").stdout

    def has(self, command: str) -> bool:
        """Tell whether there is a command `bpcp COMMAND`."""
        return (self.root / "bin" / f"bpcp-{command}").exists()

    def bpcp(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of bpcp, undisturbed."""
        return self.ask(str(self.root / "bin" / "bpcp"), *words)

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            env={**os.environ, "BPCP_VENV": str(self.venv)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@dataclass(frozen=True)
class Screen:
    """A drawn screen whose images stay at one place, so that every result names the same paths.

    Attributes
    ----------
    base : Path
        Its workspace; rounds have copies of all of it but the images.
    whole : Path
        A copy of the images that nobody touches.
    clean : Path
        What one plain CellProfiler process made of it.
    """

    base: Path
    whole: Path
    clean: Path
    rows: tuple[Mapping[str, str], ...]

    def image(self, image_set: int, channel: str) -> Path:
        """Give an image's file; image sets count from 1."""
        row = self.rows[image_set - 1]
        return Path(row[f"PathName_{channel}"], row[f"FileName_{channel}"])

    def spoil(self, image_set: int, way: str) -> Path:
        """Harm an image as `way` says: "cut", "bytes" or "gone"; give its file."""
        path = self.image(image_set, CHANNELS[image_set % 2])
        if way == "gone":
            path.unlink()
        elif way == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.write_bytes(_TRASH)
        return path

    def put_back(self, path: Path, *, old_time: bool) -> None:
        """Put an image back, in one step, as a copy that is moved to its place would come."""
        source = self.whole / path.name
        arriving = self.base / f"{path.name}.arriving"
        (shutil.copy2 if old_time else shutil.copyfile)(source, arriving)
        arriving.replace(path)

    def mend(self) -> list[str]:
        """Put all images back, with their old times; name the files that do not belong there."""
        folder = self.image(1, CHANNELS[0]).parent
        own = {p.name for p in self.whole.iterdir()}
        strange = [p for p in folder.iterdir() if p.name not in own]
        for path in strange:
            path.unlink()
        for source in self.whole.iterdir():
            self.put_back(folder / source.name, old_time=True)
        return sorted(p.name for p in strange)

    def copy_to(self, base: Path) -> Path:
        """Make a workspace over the same images; give its pipeline."""
        for folder in ("pipelines", "load_data_csv"):
            shutil.copytree(self.base / folder, base / folder)
        return base / "pipelines" / f"{TAG}.cppipe"


def draw(product: Product, work: Path, wells: int, mark: str) -> Screen:
    """Draw the screen, and let one plain process analyse it.

    Raises
    ------
    RuntimeError
        Where one of both fails: there is nothing to compare with.
    """
    base, clean, whole = work / "screen", work / "clean", work / "whole"
    words = ["demo", "--wells", str(wells), "--sites", "2", str(base)]
    drawn = product.bpcp(*words)
    if drawn.returncode:
        raise RuntimeError(f"bpcp demo: {drawn.stderr}")
    image_list = base / "load_data_csv" / DATASET / "load_data.csv"
    with image_list.open(newline="") as file:
        rows = tuple(csv.DictReader(file))
    screen = Screen(base, whole, clean, rows)
    shutil.copytree(screen.image(1, CHANNELS[0]).parent, whole)
    clean.mkdir()
    tmpdir = work / "tmp"
    tmpdir.mkdir()
    with (work / "clean.log").open("wb") as log:
        done = subprocess.run(
            [
                str(product.venv / "cellprofiler" / "bin" / "cellprofiler"), "-c", "-r",
                "-p", str(base / "pipelines" / f"{TAG}.cppipe"), "--data-file", str(image_list),
                "-o", str(clean),
            ],
            env={**product.environment(mark, tmpdir), **_ONE_THREAD},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=600,
            check=False,
        )  # fmt: skip
    if done.returncode or not (clean / "Image.csv").is_file():
        raise RuntimeError(f"one plain process failed: {work / 'clean.log'}")
    return screen
