"""Real runs: the real CellProfiler, the real GNU parallel, real TIFFs, real processes killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from policy import gate, no_credentials  # noqa: F401 -- fixtures
from s3server import bucket, close_off, one_proxy, proxy, server  # noqa: F401 -- fixtures

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT.parent / "shared" / "examples"
# bpcp gives every process one library thread; so does the process that it is compared with
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def cellprofiler() -> str:
    """Give the CellProfiler that install.sh made."""
    venv = Path(os.environ.get("BPCP_VENV", ROOT / ".venv"))
    return str(venv / "cellprofiler" / "bin" / "cellprofiler")


@dataclass(frozen=True)
class Lab:
    """A workspace and what a user does in it."""

    base: Path
    dataset: str
    pipeline: Path

    @property
    def tag(self) -> str:
        return self.pipeline.name.split(".")[0]

    @property
    def file_list(self) -> Path:
        return self.base / "filelist" / self.dataset / "filelist.txt"

    @property
    def image_list(self) -> Path:
        return self.base / "load_data_csv" / self.dataset / "load_data.csv"

    @property
    def analysis(self) -> Path:
        return self.base / "analysis" / self.dataset / self.tag

    @property
    def status(self) -> Path:
        return self.base / "status" / self.dataset / self.tag

    def command(self, *options: str) -> list[str]:
        return [
            str(ROOT / "run_analysis_pipeline.sh"),
            "-d",
            self.dataset,
            "-p",
            str(self.pipeline),
            *options,
        ]

    def run(self, *options: str, expect: int = 0, **environ: str) -> str:
        """Run the entry script to its end; return what it says."""
        done = subprocess.run(
            self.command(*options),
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stderr

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the entry script, as the leader of a session of its own."""
        log = (self.base / "start.log").open("ab")
        return subprocess.Popen(
            self.command(*options),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def verdicts(self) -> dict[str, float]:
        """Give the chunks that are done, and when each was said to be."""
        return {p.parent.name: p.stat().st_mtime for p in self.status.glob("chunks/*/done.json")}

    def compare(self, other: Path, *, expect: int = 0) -> str:
        """Compare the result with another folder, by bpcp's own tested comparison."""
        done = subprocess.run(
            [str(ROOT / "bin" / "bpcp"), "compare", str(other), str(self.analysis)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(autouse=True)
def own_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep every test away from its user's buckets."""
    close_off(monkeypatch, tmp_path)


class Plain:
    """One plain CellProfiler process over everything; it works while tests do other things."""

    def __init__(
        self, pipeline: Path, inputs: Sequence[str], output: Path, cwd: Path | None = None
    ) -> None:
        self.output = output
        self.log = output.with_suffix(".log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    cellprofiler(), "-c", "-r", "-p", str(pipeline), *inputs, "-o", str(output),
                ],
                cwd=cwd,
                env={**os.environ, **ONE_THREAD},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def result(self) -> Path:
        """Wait for it and give its output folder."""
        code = self._process.wait(timeout=900)
        assert code == 0 and any(self.output.iterdir()), self.log.read_text(errors="replace")[
            -3000:
        ]
        return self.output

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Plain]]:
    """Start plain processes, and end those that no test waited for."""
    started: list[Plain] = []

    def start(lab: Lab, cwd: Path | None = None, inputs: Sequence[str] | None = None) -> Plain:
        listed = ["--data-file", str(lab.image_list)] if inputs is None else inputs
        output = tmp_path_factory.mktemp("plain") / lab.tag
        output.mkdir()
        started.append(Plain(lab.pipeline, listed, output, cwd))
        return started[-1]

    yield start
    for process in started:
        process.end()


def draw(base: Path, *options: str) -> Lab:
    """Draw a demo screen."""
    subprocess.run(
        [str(ROOT / "bin" / "bpcp"), "demo", *options, str(base)], check=True, capture_output=True
    )
    return Lab(base, "demo", base / "pipelines" / "demo.cppipe")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The demo as `make demo` draws it: 96 image sets."""
    return draw(tmp_path_factory.mktemp("demo") / "lab")


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A smaller one, 12 image sets; tests copy it."""
    return draw(tmp_path_factory.mktemp("small") / "lab", "--wells", "6", "--sites", "2")


@pytest.fixture
def lab(small_demo: Lab, tmp_path: Path) -> Lab:
    """A workspace of its own over the small demo's images."""
    base = tmp_path / "lab"
    for folder in ("pipelines", "load_data_csv"):
        shutil.copytree(small_demo.base / folder, base / folder)
    return Lab(base, "demo", base / "pipelines" / "demo.cppipe")


def descendants(pid: int) -> dict[int, str]:
    """Give the command lines of all processes below one, by their ids."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[child] = b" ".join(words).decode(errors="replace")
            todo.append(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], object], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def kill_one(started: subprocess.Popen[bytes], wanted: str) -> None:
    """SIGKILL the entry script itself, or the first process below it whose command line fits."""
    below = descendants(started.pid)
    if wanted == "entry":
        os.kill(started.pid, signal.SIGKILL)
        return
    fits = [pid for pid, words in below.items() if wanted in words]
    assert fits, f"no {wanted} among {below}"
    os.kill(min(fits), signal.SIGKILL)
