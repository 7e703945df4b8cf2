"""Pipelines of files, projects and batch files, each against one plain process."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Lab, Plain, cellprofiler
from filelist import of_load_data
from texts import Text

pytestmark = [pytest.mark.slow, pytest.mark.long]

COSTLY = ("MeasureTexture", "MeasureObjectSizeShape", "MeasureObjectIntensity")


def files_of(lab: Lab) -> list[Path]:
    """List the images of the small demo, in an order that nobody would choose."""
    with lab.image_list.open() as file:
        folder = Path(file.read().split("\n")[1].split(",")[1])
    return sorted(folder.glob("*.tiff"), key=lambda p: p.name[::-1])


def with_files(lab: Lab, *group_by: str) -> Lab:
    """Turn the demo's pipeline into one of the other kind, with a list of files."""
    text = Text(of_load_data(lab.pipeline.read_text(), group_by)).disable(*COSTLY)
    lab.pipeline.write_text(text.text)
    lab.file_list.parent.mkdir(parents=True)
    lab.file_list.write_text("".join(f"{path}\n" for path in files_of(lab)))
    shutil.rmtree(lab.image_list.parent)
    return lab


def batch_file(lab: Lab, *options: str) -> tuple[Path, str]:
    done = subprocess.run(
        [
            str(ROOT / "run_batchfile_pipeline.sh"),
            *("-d", lab.dataset, "-p", str(lab.pipeline), *options),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip()), done.stderr


@pytest.mark.parametrize("group_by", [(), ("Row", "Col")])
def test_a_list_of_files_equals_one_process(
    lab: Lab, plain: Callable[..., Plain], group_by: tuple[str, ...]
) -> None:
    with_files(lab, *group_by)
    one = plain(lab, inputs=["--file-list", str(lab.file_list)])
    path, said = batch_file(lab)
    assert path == lab.status / "Batch_data.h5"
    assert "12 image sets" in said and "made" in said
    assert "kept: nothing" in batch_file(lab)[1]
    said = lab.run("--chunk-size", "4")
    assert "12 of 12 image sets" in said
    assert "asking CellProfiler for the image sets" not in said, "it was there already"
    assert len(lab.verdicts()) >= 3
    lab.compare(one.result())


def test_on_a_ram_disk_it_equals_one_process_too(
    lab: Lab, plain: Callable[..., Plain], shm: Path
) -> None:
    with_files(lab, "Row", "Col")
    one = plain(lab, inputs=["--file-list", str(lab.file_list)])
    lab.run("-t", str(shm), "-v")
    lab.compare(one.result())
    assert not any(shm.iterdir())


@pytest.fixture
def shm(tmp_path: Path) -> Iterator[Path]:
    """A folder on the system's own RAM disk: another file system than the images'."""
    folder = Path("/dev/shm") / f"bpcp-test-{os.getpid()}-{tmp_path.name}"  # noqa: S108 -- of its own, and private
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


def test_a_list_that_grew_runs_only_what_is_new(lab: Lab, plain: Callable[..., Plain]) -> None:
    with_files(lab)
    lines = sorted(lab.file_list.read_text().splitlines())
    lab.file_list.write_text("\n".join(lines[:16]) + "\n")
    assert "8 of 8 image sets" in lab.run("--chunk-size", "4")
    before = lab.verdicts()
    lab.file_list.write_text("\n".join(lines) + "\n")
    one = plain(lab, inputs=["--file-list", str(lab.file_list)])
    assert "12 of 12 image sets" in lab.run("--chunk-size", "4")
    assert before.items() <= lab.verdicts().items()
    lab.compare(one.result())


def test_a_project_brings_its_own_list_of_files(lab: Lab, plain: Callable[..., Plain]) -> None:
    with_files(lab, "Row", "Col")
    project = lab.pipeline.with_suffix(".cpproj")
    python = Path(cellprofiler()).with_name("python")
    maker = Path(__file__).with_name("project.py")
    subprocess.run([python, maker, lab.pipeline, lab.file_list, project], check=True)
    lab.pipeline.unlink()
    shutil.rmtree(lab.file_list.parent)
    own = Lab(lab.base, lab.dataset, project)
    one = plain(own, inputs=[])
    assert "12 of 12 image sets" in own.run("--chunk-size", "5")
    own.compare(one.result())


def test_a_batch_file_of_another_machine(
    lab: Lab, plain: Callable[..., Plain], tmp_path: Path
) -> None:
    """Made where the images were; run where they are, by way of --map."""
    with_files(lab, "Row", "Col")
    was, here = tmp_path / "was there", tmp_path / "is here"
    shutil.copytree(files_of_list(lab)[0].parents[2], was)
    move_list(lab, was)
    made = lab.base / "pipelines" / "Batch_data.h5"
    shutil.copyfile(batch_file(lab)[0], made)
    was.rename(here)
    own = Lab(lab.base, lab.dataset, made)
    said = own.run("--chunk-size", "5", expect=66)
    assert "no such folder, for 24 files" in said
    assert "12 of 12 image sets" in own.run("--chunk-size", "5", "--map", f"{was}={here}")
    # one process over the same image sets, in its own folder
    one = plain(Lab(lab.base, lab.dataset, own.status / "images.h5"), inputs=[]).result()
    for folder in (one, own.analysis):
        text = (folder / "Experiment.csv").read_text()
        assert f"Output folder path:{folder}" in text
        (folder / "Experiment.csv").unlink()
    own.compare(one)
    assert f"{here}/" in (own.analysis / "Image.csv").read_text()
    assert f"{was}/" not in (own.analysis / "Image.csv").read_text()


def files_of_list(lab: Lab) -> list[Path]:
    return [Path(line) for line in lab.file_list.read_text().splitlines()]


def move_list(lab: Lab, home: Path) -> None:
    lines = files_of_list(lab)
    old = lines[0].parents[2]
    lab.file_list.write_text("".join(f"{home / path.relative_to(old)}\n" for path in lines))


def test_files_of_which_no_image_set_can_be_made_are_refused(lab: Lab) -> None:
    with_files(lab)
    lab.file_list.write_text("".join(f"{p}\n" for p in files_of_list(lab) if "-ch2" in p.name))
    said = lab.run(expect=65)
    assert "CellProfiler makes no image set of 12 files" in said
    assert "NamesAndTypes" in said
    assert not lab.analysis.exists()
