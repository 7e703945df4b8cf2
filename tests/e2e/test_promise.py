"""The promise: the folder that one CellProfiler process would have written."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import EXAMPLES, ROOT, Lab, Plain

FLY = EXAMPLES / "ExampleFlyLoadData"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def demo_plain(demo: Lab, plain: Callable[[Lab], Plain]) -> Plain:
    return plain(demo)


@pytest.fixture(scope="session")
def fly(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    if not FLY.is_dir():
        pytest.skip("ExampleFlyLoadData is not here: it is not part of the project")
    base = tmp_path_factory.mktemp("fly") / "lab"
    lab = Lab(base, "fly", base / "pipelines" / "ExampleFlyLoadData.cppipe")
    lab.pipeline.parent.mkdir(parents=True)
    lab.pipeline.write_bytes((FLY / "ExampleFlyLoadData.cppipe").read_bytes())
    template = (FLY / "load_data.template.csv").read_text()
    rows = template.replace("@IMAGES@", str(EXAMPLES / "ExampleFly" / "images")).splitlines()
    lab.image_list.parent.mkdir(parents=True)
    lab.image_list.write_text("\n".join(rows[:13]) + "\n")
    return lab


@pytest.fixture(scope="session")
def fly_plain(fly: Lab, plain: Callable[[Lab], Plain]) -> Plain:
    return plain(fly)


def test_demo_equals_one_process_and_its_truth(demo: Lab, demo_plain: Plain) -> None:
    said = demo.run()
    assert re.search(r"done: 96 of 96 image sets in ", said)
    demo.compare(demo_plain.result())
    checked = subprocess.run(
        [str(ROOT / "bin" / "bpcp"), "demo", "--check", str(demo.base)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_again_does_nothing(demo: Lab) -> None:
    before = demo.verdicts()
    assert len(before) > 1
    written = {p: p.stat().st_mtime_ns for p in demo.analysis.rglob("*")}
    assert "nothing to do: 96 of 96 image sets are done already" in demo.run()
    assert demo.verdicts() == before
    assert {p: p.stat().st_mtime_ns for p in demo.analysis.rglob("*")} == written


@pytest.mark.parametrize(
    ("chunks", "options"), [(12, ("--chunk-size", "1")), (5, ("-P", "5")), (2, ("-P", "2"))]
)
def test_fly_in_chunks_equals_one_process(
    fly: Lab, fly_plain: Plain, chunks: int, options: tuple[str, ...], tmp_path: Path
) -> None:
    base = tmp_path / "lab"
    base.mkdir()
    for folder in ("pipelines", "load_data_csv"):
        (base / folder).symlink_to(fly.base / folder)
    lab = Lab(base, "fly", base / "pipelines" / fly.pipeline.name)
    lab.run(*options)
    assert len(lab.verdicts()) == chunks
    lab.compare(fly_plain.result())
