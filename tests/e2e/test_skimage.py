"""scikit-image in CellProfiler's environment gives what the version gives that it declares.

Each call of skimage_calls.py, on whatever Python the environment has; on 3.10 and later it is
ami_setup/bpcp_skimage.py that makes it so.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, cellprofiler

from bpcp.cellprofiler import python_version

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
DECLARED = json.loads((HERE / "recorded" / "skimage-0.18.3.json").read_text(encoding="utf-8"))
# modules whose place changed from one version to the next
MOVED = {
    "skimage._shared.filters",
    "skimage.filters._gaussian",
    "skimage.morphology.gray",
    "skimage.morphology.grayreconstruct",
}


# what tells a later version: from 0.19 on, and from 0.20 on
FROM_0_19 = [
    "gaussian, volume", "sauvola", "rescaled to a range", "medial axis", "template",
    "template, named", "resize grey to (3, 5), order 0", "resize single to (10, 9), order 3",
    "resize binary to (3, 5), order 1", "resize colour", "resize mask",
    "resize, beyond the border", "resize integers", "axes, volume, major", "axes, volume, minor",
    "grey of grey", "grey of four channels", "colour of colour", "overlay on colour",
    "float of int16", "float32 of int16",
]  # fmt: skip
FROM_0_20 = [
    "erosion, selem", "dilation, selem", "opening, selem", "closing, selem",
    "white_tophat, selem", "black_tophat, selem", "binary_erosion, selem",
    "binary_dilation, selem", "binary_opening, selem", "binary_closing, selem", "median, selem",
    "reconstruction", "reconstruction by erosion", "gaussian, grey", "gaussian, colour",
    "bilateral, grey", "bilateral, colour", "non-local means, grey", "non-local means, colour",
    "peaks, as a mask", "peaks, below 0", "histogram", "area", "areas of a region",
]  # fmt: skip


def answers(*before: str) -> dict[str, Any]:
    python = Path(cellprofiler()).with_name("python")
    done = subprocess.run(
        [python, *before, HERE / "skimage_calls.py"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    return answers()


@pytest.mark.parametrize("name", DECLARED["calls"])
def test_a_call_gives_what_the_declared_version_gives(name: str, given: dict[str, Any]) -> None:
    expected, found = DECLARED["calls"][name], given["calls"][name]
    assert "error" not in found, found["error"]
    assert (found["type"], found["shape"]) == (expected["type"], expected["shape"])
    assert found["values"] == pytest.approx(expected["values"], rel=1e-12, abs=1e-12)


def test_every_patch_is_called_and_none_is_loaded_at_the_start(given: dict[str, Any]) -> None:
    assert set(given["not called"]) <= MOVED
    assert given["loaded at start"] == []


def test_the_layer_is_part_of_what_a_run_knows_cellprofiler_by(given: dict[str, Any]) -> None:
    known = python_version([cellprofiler()])
    if given["version"].startswith("0.18."):
        assert re.fullmatch(r"3\.\d+", known)
    else:
        layer = hashlib.sha256((ROOT / "ami_setup" / "bpcp_skimage.py").read_bytes()).hexdigest()
        assert re.fullmatch(rf"3\.\d+ with layer {layer[:8]}", known)


def test_the_calls_tell_a_scikit_image_without_the_layer(given: dict[str, Any]) -> None:
    if given["version"].startswith("0.18."):
        pytest.skip("this environment has the declared version itself")
    # the layer's own way out is the version of scikit-image
    lie = "import importlib.metadata as m; m.version = lambda name: '0.18.3'"
    program = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    bare = answers("-c", f"{lie}; {program}")["calls"]
    differ = {name for name, call in DECLARED["calls"].items() if bare[name] != call}
    unlike = FROM_0_19 if given["version"].startswith("0.19.") else FROM_0_19 + FROM_0_20
    assert [name for name in unlike if name not in differ] == []
