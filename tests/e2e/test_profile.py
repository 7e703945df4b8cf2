"""A profile with the real CellProfiler, and the run that follows it.

No test here judges seconds: machines and their load differ too much for that.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import EXAMPLES, ROOT, Lab

FLY = EXAMPLES / "ExampleFlyLoadData"

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.alone]


def profile(lab: Lab, *options: str, expect: int = 0, **environ: str) -> str:
    done = subprocess.run(
        [
            str(ROOT / "bin" / "bpcp"),
            "profile",
            "-d",
            lab.dataset,
            "-p",
            str(lab.pipeline),
            *options,
        ],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def kept(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((lab.status / "profile.json").read_text())
    return found


def largest_mb(lab: Lab) -> float:
    verdicts = [json.loads(path.read_text()) for path in lab.status.glob("chunks/*/done.json")]
    return max(float(v["cost"]["peak_mb"]) for v in verdicts)


def check_figures(found: dict[str, Any], sets: int) -> None:
    figures, prediction = found["figures"], found["prediction"]
    assert found["image_sets"] == sets
    assert figures["alone_s"] > 0 and figures["set_s"] > 0 and figures["start_s"] > 0.5
    assert 200 < figures["pss_mb"] <= figures["peak_mb"] < 2000
    assert prediction["low_s"] < prediction["wall_s"] < prediction["high_s"]
    heavy = max(found["modules"], key=lambda m: m["wall_s"])
    assert heavy["peak_mb"] > 150
    assert sum(m["wall_s"] for m in found["modules"]) == pytest.approx(
        (figures["alone_s"] + figures["set_s"]) / 2, rel=2
    )


def test_a_profile_and_the_run_that_follows(lab: Lab) -> None:
    said = profile(lab, "--samples", "3")
    found = kept(lab)
    check_figures(found, 12)
    assert "this machine carries " in said and "all 12 image sets, " in said
    assert next(m["name"] for m in found["modules"]) == "LoadData"
    assert {p.name for p in lab.status.glob("profile.*")} == {
        "profile.json", "profile.png", "profile.svg",
    }  # fmt: skip
    assert not list((lab.status / "attempts").iterdir())
    slots = found["prediction"]["slots"]
    lab.run("-P", str(slots))
    assert len(lab.verdicts()) == found["prediction"]["chunks"]
    assert found["prediction"]["peak_mb"] == pytest.approx(largest_mb(lab), rel=0.3)


def test_fly(tmp_path: Path) -> None:
    if not FLY.is_dir():
        pytest.skip("ExampleFlyLoadData is not here: it is not part of the project")
    lab = Lab(tmp_path, "fly", tmp_path / "pipelines" / "ExampleFlyLoadData.cppipe")
    lab.pipeline.parent.mkdir(parents=True)
    shutil.copy(FLY / lab.pipeline.name, lab.pipeline)
    lab.image_list.parent.mkdir(parents=True)
    template = (FLY / "load_data.template.csv").read_text()
    lab.image_list.write_text(template.replace("@IMAGES@", str(EXAMPLES / "ExampleFly" / "images")))
    profile(lab, "--samples", "3")
    found = kept(lab)
    check_figures(found, 96)
    heaviest = max(found["modules"], key=lambda m: m["wall_s"])["name"]
    assert heaviest in ("MeasureImageQuality", "MeasureObjectSizeShape", "MeasureTexture")


def test_a_broken_image_is_named_with_its_log(lab: Lab) -> None:
    lines = lab.image_list.read_text().splitlines()
    header = lines[0].split(",")
    first = dict(zip(header, lines[1].split(","), strict=True))
    at = header.index("FileName_DNA")
    broken = lab.base / "broken.tif"
    broken.write_bytes(os.urandom(3000))
    row = lines[1].split(",")
    row[at], row[header.index("PathName_DNA")] = broken.name, str(broken.parent)
    lab.image_list.write_text("\n".join([lines[0], ",".join(row), *lines[2:]]) + "\n")
    assert first["FileName_DNA"] != broken.name
    said = profile(lab, "--samples", "3", expect=1)
    assert "an image set of the profile failed" in said
    log = Path(said.rpartition("→ see ")[2].strip())
    assert "broken.tif" in log.read_text(errors="replace")
    assert not list((lab.status / "attempts").iterdir())


def test_massif(lab: Lab) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    said = profile(lab, "--massif")
    assert "10 to 500 times slower" in said
    assert "PyObject_Malloc" in said
    assert "cellprofiler -c -r -p" in (lab.status / "profile.massif.txt").read_text()
