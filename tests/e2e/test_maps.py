"""Lists, projects and batch files of other machines, each against one process that needs no map."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import Lab, Plain, cellprofiler
from filelist import of_load_data
from test_batch import COSTLY, batch_file, files_of
from texts import Text

from bpcp import ome

pytestmark = [pytest.mark.slow, pytest.mark.long]

HERE = "is here/it's Größe"
# How a folder begins elsewhere, and how it is named to --map.
WINDOWS, SERVER, MAC = "E:\\Screen 1", "\\\\server\\share", "/Volumes/lab é"


@pytest.fixture
def moved(lab: Lab, tmp_path: Path) -> Lab:
    """The small demo without its costly modules, its images in a folder of a hard name."""
    lab.pipeline.write_text(Text(lab.pipeline.read_text()).disable(*COSTLY, "SaveImages").text)
    shutil.copytree(files_of(lab)[0].parents[2], tmp_path / HERE)
    return lab


def images(folder: Path) -> list[Path]:
    return sorted((folder / HERE).rglob("*.tiff"))


def elsewhere(path: Path, folder: Path, start: str) -> str:
    """Give a file's path as another machine has it."""
    below = str(path.relative_to(folder / HERE))
    return f"{start}\\{below}".replace("/", "\\") if "\\" in start else f"{start}/{below}"


def url_elsewhere(path: Path, folder: Path, start: str) -> str:
    """Give a file's URL as CellProfiler on that machine writes it."""
    own = start.lstrip("\\").replace("\\", "/")
    own = own.replace(" ", "%20").replace("é", "%C3%A9")
    own = own if "\\\\" in start else f"/{own.lstrip('/')}"
    return f"file://{own}" + path.as_uri().removeprefix((folder / HERE).as_uri())


def with_list(lab: Lab, lines: list[str]) -> Lab:
    """Let CellProfiler find the image sets among files."""
    if "LoadData:" in (text := lab.pipeline.read_text()):
        lab.pipeline.write_text(of_load_data(text, ("Row", "Col")))
    lab.file_list.parent.mkdir(parents=True, exist_ok=True)
    lab.file_list.write_text("".join(f"{line}\n" for line in lines))
    return lab


@pytest.mark.parametrize("start", [WINDOWS, MAC])
def test_lists_of_paths_and_of_urls(
    moved: Lab, plain: Callable[..., Plain], tmp_path: Path, start: str
) -> None:
    files = images(tmp_path)
    with_list(moved, [elsewhere(path, tmp_path, start) for path in files])
    # the pipeline finds no metadata in a name that holds all folders
    said = moved.run("--map", f"{start}x=/q", expect=65 if "\\" in start else 66)
    assert "fits no path; the most similar is" in said
    assert "--map " in said.partition("→")[2], "the remedy names it"
    assert "12 of 12 image sets" in moved.run("--map", f"{start}={tmp_path / HERE}")
    with_list(moved, [str(path) for path in files])
    moved.compare(plain(moved, inputs=["--file-list", str(moved.file_list)]).result())

    with_list(moved, [url_elsewhere(path, tmp_path, start) for path in files])
    assert "12 of 12 image sets" in moved.run("--map", f"{start}={tmp_path / HERE}")
    with_list(moved, [path.as_uri() for path in files])
    moved.compare(plain(moved, inputs=["--file-list", str(moved.file_list)]).result())


@pytest.mark.parametrize("start", [WINDOWS, MAC])
def test_a_projects_own_list(
    moved: Lab, plain: Callable[..., Plain], tmp_path: Path, start: str
) -> None:
    files = images(tmp_path)
    projects = []
    for folder, lines in (
        ("there", [url_elsewhere(path, tmp_path, start) for path in files]),
        ("here", [path.as_uri() for path in files]),
    ):
        with_list(moved, lines)
        projects.append(moved.base / "pipelines" / folder / "own.cpproj")
        projects[-1].parent.mkdir()
        python = Path(cellprofiler()).with_name("python")
        maker = Path(__file__).with_name("project.py")
        subprocess.run([python, maker, moved.pipeline, moved.file_list, projects[-1]], check=True)
    shutil.rmtree(moved.file_list.parent)
    there, here = (Lab(moved.base, moved.dataset, project) for project in projects)
    one = plain(here, inputs=[])
    assert "12 of 12 image sets" in there.run(
        "--chunk-size", "5", "--map", f"{start}={tmp_path / HERE}"
    )
    there.compare(one.result())


@pytest.mark.parametrize("start", [WINDOWS, MAC])
def test_a_batch_file(moved: Lab, plain: Callable[..., Plain], tmp_path: Path, start: str) -> None:
    files = images(tmp_path)
    with_list(moved, [path.as_uri() for path in files])
    here = moved.base / "pipelines" / "here" / "Batch_data.h5"
    there = moved.base / "pipelines" / "there" / "Batch_data.h5"
    for copy in (here, there):
        copy.parent.mkdir()
        shutil.copyfile(batch_file(moved)[0], copy)
    send_away(there, tmp_path, start)
    shutil.rmtree(moved.file_list.parent)
    one = plain(Lab(moved.base, moved.dataset, here), inputs=[])
    own = Lab(moved.base, moved.dataset, there)
    assert "--map " in own.run("--chunk-size", "5", expect=66).partition("→")[2]
    said = own.run("--chunk-size", "5", "--map", f"{start}={tmp_path / HERE}")
    assert "12 of 12 image sets" in said
    # what is of the machine that it was made on stays: its mappings, for one
    for folder in (one.result(), own.analysis):
        (folder / "Experiment.csv").unlink()
    own.compare(one.output)


def send_away(path: Path, folder: Path, start: str) -> None:
    """Let a batch file name its images as one of another machine does."""
    home = str(folder / HERE)

    def there(url: str) -> str:
        return url_elsewhere(Path(folder / HERE), folder, start).removesuffix("/.") + (
            url.removeprefix(Path(home).as_uri())
        )

    with h5py.File(path, "r+") as file:
        (run,) = file["Measurements"].values()
        dictionary = run["Experiment"]["ImageSet_Zip_Dictionary"]["data"][()].tobytes()
        for name, column in run["Image"].items():
            if name.startswith("URL_"):
                change(column, lambda cell: there(cell.decode()).encode())
            elif name.startswith("PathName_"):
                slashes = start.replace("\\", "/")
                change(column, lambda cell: cell.replace(home.encode(), slashes.encode()))  # noqa: B023 -- at once
        packed = run["Image"]["ImageSet_ImageSet"]
        index, data = packed["index"][()], packed["data"][()].tobytes()
        blobs = [ome.changed(data[a:b], dictionary, there) for _, a, b in sorted(map(tuple, index))]
        ends = np.cumsum([0, *map(len, blobs)])
        del packed["data"], packed["index"]
        packed["data"] = np.frombuffer(b"".join(blobs), np.uint8)
        packed["index"] = [(i + 1, ends[i], ends[i + 1]) for i in range(len(blobs))]


def change(column: Any, how: Callable[[bytes], bytes]) -> None:
    cells = [how(cell) for cell in column["data"][()]]
    column["data"][()] = np.array(cells, dtype=object)


@pytest.mark.parametrize("start", [WINDOWS, SERVER, MAC])
def test_load_data(moved: Lab, plain: Callable[..., Plain], tmp_path: Path, start: str) -> None:
    with moved.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    old = files_of(moved)[0].parents[2]
    separator = "\\" if "\\" in start else "/"
    for away in (False, True):
        written = []
        for row in rows:
            new = dict(row)
            for name in (name for name in row if name.startswith("PathName_")):
                path = tmp_path / HERE / Path(row[name]).relative_to(old)
                file_name = name.replace("Path", "File")
                # the file's name holds a folder, as some programs write it
                new[file_name] = (separator if away else "/").join([path.name, row[file_name]])
                new[name] = (elsewhere if away else lambda p, *_: str(p))(
                    path.parent, tmp_path, start
                )
            written.append(new)
        with moved.image_list.open("w", newline="") as file:
            writer = csv.DictWriter(file, written[0])
            writer.writeheader()
            writer.writerows(written)
        if not away:
            one = plain(moved).result()
    assert "12 of 12 image sets" in moved.run("--map", f"{start}={tmp_path / HERE}")
    moved.compare(one)


def test_what_cellprofiler_makes_of_backslashes(
    moved: Lab, plain: Callable[..., Plain], tmp_path: Path
) -> None:
    """They are letters to it on Linux: a warning at most where a file is called so."""
    odd = tmp_path / HERE / "p1\\images"
    odd.mkdir()
    with moved.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in (name for name in row if name.startswith("PathName_")):
            file_name = row[name.replace("Path", "File")]
            (odd / f"x\\{file_name}").symlink_to(Path(row[name]) / file_name)
            row[name], row[name.replace("Path", "File")] = str(odd), f"x\\{file_name}"
    with moved.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    one = plain(moved)
    assert "12 of 12 image sets" in moved.run()
    moved.compare(one.result())
