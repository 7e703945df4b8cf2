from __future__ import annotations

import csv
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from policy import gate, no_credentials  # noqa: F401 -- fixtures
from s3server import bucket, close_off, one_proxy, proxy, server  # noqa: F401 -- fixtures

from bpcp import merge, plan, status
from bpcp.chunk import __main__ as chunk
from bpcp.errors import BpcpError, Exit
from bpcp.run import todo
from bpcp.workspace import Json, Workspace, locate, read_json, read_plan, verdict

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "fakes" / "cellprofiler"
HOSTILE = 'it\'s; $(touch x) & "ü" `y` -p'

LOAD_DATA = """
LoadData:[module_num:1|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Input data file location:Default Input Folder|
    Name of the file:load_data.csv
    Base image location:{base}
    Process just a range of rows?:{ranged}
    Rows to process:1,100000
    Group images by metadata?:{grouped}
    Select metadata tags for grouping:{keys}
    Rescale intensities?:Yes
"""
IDENTIFY = """
IdentifyPrimaryObjects:[module_num:2|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Name the primary objects to be identified:Nuclei
"""
SAVE = """
SaveImages:[module_num:3|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Select method for constructing file names:From image filename
    Number of digits:4
    When to save:Every cycle
"""
PROJECT = """
MakeProjection:[module_num:3|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Select the input image:DNA
"""
EXPORT = """
ExportToSpreadsheet:[module_num:4|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Select the column delimiter:Comma (",")
    Output file location:Default Output Folder|
    Create a GenePattern GCT file?:No
    Export all measurement types?:Yes
    Add a prefix to file names?:No
    Filename prefix:MyExpt_
    Data to export:Do not use
    Combine these object measurements with those of the previous object?:No
    File name:DATA.csv
    Use the object name for the file name?:Yes
"""


def load_data(base: str = "None|", ranged: str = "No", keys: str = "") -> str:
    return LOAD_DATA.format(base=base, ranged=ranged, keys=keys, grouped="Yes" if keys else "No")


def pipeline_text(*modules: str) -> str:
    head = "CellProfiler Pipeline: http://www.cellprofiler.org\nVersion:5\nDateRevision:4281\n"
    return head + "".join(modules or (load_data(), IDENTIFY, SAVE, EXPORT))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(code: Exit, what: str, call: object, *arguments: object) -> BpcpError:
    """Assert that a call is refused with an exit code, and that the message names `what`."""
    assert callable(call)
    with pytest.raises(BpcpError) as caught:
        call(*arguments)
    assert caught.value.code == code
    assert what in str(caught.value)
    return caught.value


@dataclass
class Screen:
    """A workspace with tiny images; an image of n bytes has n modulo 7 nuclei (see the fake)."""

    base: Path
    journal: Path
    dataset: str = "plate 1"
    header: list[str] = field(
        default_factory=lambda: ["FileName_DNA", "PathName_DNA", "Metadata_Plate", "Metadata_Well"]
    )
    rows: list[list[str]] = field(default_factory=list)
    images_elsewhere: Path | None = None

    @property
    def pipeline(self) -> Path:
        return self.base / "pipelines" / "measure.v2.cppipe"

    @property
    def images(self) -> Path:
        return self.images_elsewhere or self.base / "images"

    @property
    def workspace(self) -> Workspace:
        return locate(self.dataset, self.pipeline)

    def add(self, name: str, size: int, plate: str = "P1", well: str = "A01") -> list[str]:
        self.images.mkdir(parents=True, exist_ok=True)
        (self.images / name).write_bytes(b"x" * size)
        self.rows.append([name, str(self.images), plate, well])
        return self.rows[-1]

    def fill(self, count: int, group: int = 2) -> None:
        for i in range(count):
            self.add(f"f{i + 1}.tif", 8 + i, well=f"A{i // group + 1:02d}")
        self.write()

    def write(self, *modules: str) -> None:
        path = self.workspace.image_list
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self.header, *self.rows])
        if modules or not self.pipeline.exists():
            self.pipeline.parent.mkdir(parents=True, exist_ok=True)
            self.pipeline.write_text(pipeline_text(*modules), encoding="utf-8")

    def arguments(self, *more: str) -> list[str]:
        return ["-d", self.dataset, "-p", str(self.pipeline), *more]

    def plan(self, *more: str) -> int:
        # its images are bytes that only the fake can read
        return plan.main(self.arguments("--slots", "2", "--no-check", *more))

    def run(self) -> list[Json]:
        ids = todo.left(self.workspace)
        todo.clear_leftovers(self.workspace)
        return [chunk.run_chunk(chunk.load(self.workspace, chunk_id)) for chunk_id in ids]

    def merge(self, *more: str) -> int:
        return merge.main(self.arguments("-q", *more))

    def all(self, *more: str) -> status.State:
        self.plan("-q", *more)
        self.run()
        self.merge()
        return status.gather(self.workspace)

    def table(self, name: str) -> list[dict[str, str]]:
        return rows_of(self.workspace.analysis / name)

    def chunks(self) -> list[str]:
        return [p.id for p in read_plan(self.workspace)]

    def verdicts(self) -> list[Json]:
        return [v for p in read_plan(self.workspace) if (v := verdict(self.workspace, p))]

    def failed(self) -> list[str]:
        """Name the images of the image sets that failed, in the order of the list."""
        lines = [f["line"] for f in status.gather(self.workspace).failures]
        return [self.rows[line - 2][0] for line in lines]

    def ran(self) -> list[list[str]]:
        """Give what each CellProfiler process was given since the last call: its image files."""
        if not self.journal.exists():
            return []
        lines = self.journal.read_text(encoding="utf-8").splitlines()
        self.journal.unlink()
        return [json.loads(line)["images"] for line in lines]

    def run_json(self) -> Json:
        found = read_json(self.workspace.run)
        assert found is not None
        return found


@pytest.fixture(autouse=True)
def own_folders(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Keep every test away from the home, the temporary folder and the settings of its user."""
    for name in list(os.environ):
        if name.startswith(("BPCP_", "FAKE_", "PATHNAME_")):
            monkeypatch.delenv(name)
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
    close_off(monkeypatch, Path(os.environ["HOME"]))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    tempfile.tempdir = None


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Screen:
    journal = tmp_path / "journal"
    monkeypatch.setenv("BPCP_CELLPROFILER", str(FAKE))
    monkeypatch.setenv("FAKE_JOURNAL", str(journal))
    return Screen(tmp_path / HOSTILE, journal)


@pytest.fixture
def small_ram(tmp_path: Path) -> Iterator[Path]:
    """A RAM disk of 1 MB."""
    folder = tmp_path / "small ram"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no RAM disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def write_csv(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path
