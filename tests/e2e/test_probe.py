"""Each module of the real CellProfiler, run once in each of its modes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Lab, cellprofiler
from texts import Added, Text

pytestmark = [pytest.mark.slow, pytest.mark.long]

PROBE = ROOT / "bpcp" / "probe" / "modules.py"
# Environments of CellProfiler beside the installed one, as install.sh --venv makes them.
OTHERS = [Path(name) for name in os.environ.get("BPCP_TEST_VENVS", "").split(":") if name]
# Modes that CellProfiler 4.2.8.1 does not offer or that fail in its own code, with the libraries
# that it declares too.
OWN_FAULTS = {
    "CorrectIlluminationCalculate",  # "All: First cycle", which runs the modules before it
    "ImageMath",  # a measurement as the first operand
    "MeasureObjectNeighbors",  # a volume as a picture
    "Morph",  # openlines of a binary image
    "SaveCroppedObjects",  # a volume as PNG
    "SaveImages",  # movies, which need Java; volumes as PNG or JPEG
    "TrackObjects",  # by measurements
}
GRANULARITY = Added(
    "MeasureGranularity",
    4,
    """\
Select images to measure:DNA
Measure within objects?:No
Select objects to measure:
Subsampling factor for granularity measurements:0.25
Subsampling factor for background reduction:0.25
Radius of structuring element:5
Range of the granular spectrum:3
""",
)
# A scikit-image that has forgotten an argument's name, as 0.20 has.
FORGETFUL = """\
import skimage.morphology as m
def forgetful(name):
    true = getattr(m, name)
    def f(image, footprint=None, out=None):
        return true(image, footprint)
    f.__name__ = name
    setattr(m, name, f)
forgetful("erosion")
"""


def environments() -> list[Path]:
    found = [Path(cellprofiler()).parent / "python"]
    return found + [folder / "cellprofiler" / "bin" / "python" for folder in OTHERS]


def probed(python: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [str(python), str(PROBE), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def answer_of(python: Path) -> dict[str, Any]:
    """Give what the probe says of an environment: what its installation kept, if that holds."""
    kept = python.parent.parent / "bpcp-probe.json"
    if kept.is_file():
        answer: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if answer["identity"] == probed(python, "--identity"):
            return answer
    return probed(python)


@pytest.mark.parametrize("python", environments(), ids=str)
def test_every_module_works_in_every_mode(python: Path) -> None:
    answer = answer_of(python)
    assert answer["broken"] == []
    assert {mode["module"] for mode in answer["unclear"]} <= OWN_FAULTS
    names = subprocess.run(
        [
            str(python),
            "-c",
            "import cellprofiler_core.preferences as p; p.set_headless()\n"
            "from cellprofiler_core.utilities.core import modules as m; m.fill_modules()\n"
            "print(*m.get_module_names())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert answer["modules"] + len(answer["skipped"]) == len(names)
    assert answer["modes"] > 800
    assert answer["works"] > 0.9 * answer["modes"]


def test_a_module_that_a_library_breaks_is_refused(lab: Lab, tmp_path: Path) -> None:
    """A CellProfiler that the user brings, whose scikit-image is another."""
    real = Path(cellprofiler()).parent / "python"
    (tmp_path / "forgetful").mkdir()
    (tmp_path / "forgetful" / "sitecustomize.py").write_text(FORGETFUL)
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\nPYTHONPATH='{tmp_path}/forgetful' exec '{real}' \"$@\"\n")
    python.chmod(0o755)
    lab.pipeline.write_text(Text(lab.pipeline.read_text()).add(GRANULARITY).text)
    environ = {
        "BPCP_CELLPROFILER": f"{python} -m cellprofiler",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    check = [
        str(ROOT / "bin" / "bpcp"), "check", "--json", "--no-images",
        "-d", lab.dataset, "-p", str(lab.pipeline),
    ]  # fmt: skip
    for saying in ("trying each module", ""):
        done = subprocess.run(
            check,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert done.returncode == 65, done.stderr
        # the second time it is known
        assert ("trying each module" in done.stderr) == bool(saying)
        found = json.loads(done.stdout)["findings"]
        (broken,) = [f for f in found if f["severity"] == "error"]
        assert broken["code"] == "pipeline-module-broken"
        assert broken["place"].endswith("MeasureGranularity")
        assert "unexpected keyword argument 'selem'" in broken["what"]
    # a run's start says so as well
    said = lab.run(expect=65, **environ)
    assert "MeasureGranularity: it does not work on this CellProfiler" in said
    # CellProfiler is the judge: it does fail
    done = subprocess.run(
        [
            str(python), "-m", "cellprofiler", "-c", "-r", "-p", str(lab.pipeline),
            "--data-file", str(lab.image_list), "-l", "1", "-o", str(tmp_path / "plain"),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert "unexpected keyword argument 'selem'" in done.stderr
    # and doctor names it
    doctor = subprocess.run(
        [str(ROOT / "bin" / "bpcp"), "doctor", str(tmp_path)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "does not work: MeasureGranularity" in doctor.stdout
