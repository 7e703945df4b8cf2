"""Names that a shell would love to run: they go through, and harm nothing."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Lab, Plain

pytestmark = pytest.mark.slow

HOSTILE = 'it\'s "a"; $(touch x) & `touch y` ü *'


def test_hostile_names_run_through(
    small_demo: Lab, plain: Callable[[Lab], Plain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / HOSTILE
    lab = Lab(base, f"set {HOSTILE}", base / "pipelines" / "demo.cppipe")
    lab.pipeline.parent.mkdir(parents=True)
    shutil.copy(small_demo.pipeline, lab.pipeline)
    with small_demo.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))[:4]
    images = base / "images" / HOSTILE
    images.mkdir(parents=True)
    for i, row in enumerate(rows):
        # '/' is all that a file's name can't hold, and a well is part of the name of no file
        row["Metadata_Well"] = f"{HOSTILE} {i % 2}"
        for channel in ("DNA", "Cyto"):
            source = Path(row[f"PathName_{channel}"], row[f"FileName_{channel}"])
            shutil.copy(source, images / f"{HOSTILE} {source.name}")
            row[f"FileName_{channel}"] = f"{HOSTILE} {source.name}"
            row[f"PathName_{channel}"] = str(images)
    lab.image_list.parent.mkdir(parents=True)
    with lab.image_list.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    one = plain(lab)
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    temporary = tmp_path / f"tmp {HOSTILE}"
    temporary.mkdir()

    said = lab.run("-t", str(temporary), "--group-by", "Well", "--format", "sqlite")

    assert "4 of 4 image sets" in said
    (lab.analysis / "demo.sqlite").unlink()
    lab.compare(one.result())
    assert not list(tmp_path.rglob("x")) and not list(tmp_path.rglob("y"))
    assert not list(cwd.iterdir()) and not list(temporary.iterdir())
