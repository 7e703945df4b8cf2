"""Bad image files: found before the run, failed by name, or left out."""

from __future__ import annotations

import csv
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import ROOT, Lab, Plain
from texts import Text

pytestmark = pytest.mark.slow

COSTLY = ("MeasureTexture", "MeasureObjectSizeShape", "MeasureObjectIntensity")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(5000))


def missing(path: Path) -> None:
    path.unlink()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere.tiff"))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[int, tuple[Callable[[Path], None], str]] = {
    2: (truncated, "image-truncated"),
    4: (empty, "image-empty"),
    5: (random_bytes, "image-unreadable-header"),
    7: (missing, "image-missing"),
    10: (dangling, "image-dangling-link"),
    12: (folder, "image-not-a-file"),
}
WRONG_SIZE = 9
# its width is a floating-point number, which bpcp does not read and CellProfiler does
STRANGE = 11


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def damaged(lab: Lab, tmp_path: Path) -> Lab:
    """Twelve image sets with images of their own, six of them bad."""
    rows = rows_of(lab.image_list)
    images = tmp_path / "images"
    images.mkdir()
    for row in rows:
        for channel in ("DNA", "Cyto"):
            source = Path(row[f"PathName_{channel}"]) / row[f"FileName_{channel}"]
            (images / source.name).write_bytes(source.read_bytes())
            row[f"PathName_{channel}"] = str(images)
    write(lab, rows)
    lab.pipeline.write_text(Text(lab.pipeline.read_text()).disable(*COSTLY).text)
    for number, (damage, _) in DAMAGE.items():
        damage(images / rows[number - 1]["FileName_DNA"])
    return lab


def write(lab: Lab, rows: list[dict[str, str]]) -> None:
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def check(lab: Lab, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(ROOT / "bin" / "bpcp"),
            *("check", "-d", lab.dataset, "-p", str(lab.pipeline), *options),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_bad_image_is_found_and_named_by_its_row(damaged: Lab) -> None:
    row = rows_of(damaged.image_list)[WRONG_SIZE - 1]
    smaller = Path(row["PathName_Cyto"]) / row["FileName_Cyto"]
    tifffile.imwrite(smaller, tifffile.imread(smaller)[:-7])
    row = rows_of(damaged.image_list)[STRANGE - 1]
    strange = Path(row["PathName_Cyto"]) / row["FileName_Cyto"]
    tifffile.imwrite(strange, tifffile.imread(strange), metadata=None)
    with tifffile.TiffFile(strange) as tif:
        width = tif.pages.first.tags["ImageWidth"]
    with strange.open("r+b") as file:
        file.seek(width.offset)
        file.write(struct.pack("<HHIf", 256, 11, 1, width.value))
    done = check(damaged, "--json")
    assert done.returncode == 65, done.stderr
    found = json.loads(done.stdout)["findings"]
    lines = {f["code"]: f["lines"] for f in found if f["code"].startswith("image-")}
    wanted = {code: [number + 1] for number, (_, code) in DAMAGE.items()}
    assert {code: lines.get(code) for code in wanted} == wanted
    assert lines["image-size-differs"] == [WRONG_SIZE + 1]
    assert lines["image-not-verified"] == [STRANGE + 1]
    said = check(damaged, "--quarantine")
    assert said.returncode == 0
    assert f"{len(DAMAGE)} image sets in quarantine" in said.stderr


def test_a_run_fails_the_bad_ones_by_name_and_analyses_the_rest(
    damaged: Lab, plain: Callable[..., Plain]
) -> None:
    rows = rows_of(damaged.image_list)
    said = damaged.run("--chunk-size", "4", expect=1)
    assert f"{len(DAMAGE)} image sets will fail" in said
    state = json.loads(status(damaged, "--json", expect=1))
    assert {f["line"] for f in state["failed"]} == {n + 1 for n in DAMAGE}
    reasons = {f["line"]: f["reason"] for f in state["failed"]}
    assert "ends at byte" in reasons[3]
    assert "no TIFF file" in reasons[6]
    good = [n for n in range(1, 13) if n not in DAMAGE]
    assert [int(r["ImageNumber"]) for r in rows_of(damaged.analysis / "Image.csv")] == good
    # what is there is what a clean run over the others would have given
    write(damaged, [rows[n - 1] for n in good])
    clean = rows_of(plain(damaged).result() / "Image.csv")
    ours = rows_of(damaged.analysis / "Image.csv")
    counts = [{k: v for k, v in r.items() if k.startswith(("Count_", "Intensity_"))} for r in ours]
    assert counts == [{k: clean[i][k] for k in c} for i, c in enumerate(counts)]
    assert counts[0]


def test_quarantine_is_as_if_the_bad_ones_were_never_listed(
    damaged: Lab, plain: Callable[..., Plain]
) -> None:
    rows = rows_of(damaged.image_list)
    said = damaged.run("--chunk-size", "3", "--quarantine")
    assert "6 of 6 image sets" in said
    assert f"not analysed, in quarantine: {len(DAMAGE)}" in said
    words = status(damaged)
    for number in DAMAGE:
        assert f"line {number + 1} of load_data.csv" in words
    write(damaged, [row for n, row in enumerate(rows, 1) if n not in DAMAGE])
    damaged.compare(plain(damaged).result())


def status(lab: Lab, *options: str, expect: int = 0) -> str:
    done = subprocess.run(
        [
            str(ROOT / "bin" / "bpcp"),
            *("status", "-d", lab.dataset, "-p", str(lab.pipeline), *options),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout


def test_a_check_writes_nothing_where_the_pipeline_would(lab: Lab, tmp_path: Path) -> None:
    """CellProfiler makes the tables of exporting modules anew even where it is only asked."""
    kept = tmp_path / "results of last year"
    kept.mkdir()
    (kept / "Experiment.csv").write_text("precious")
    text = Text(lab.pipeline.read_text())
    text.set("ExportToSpreadsheet", "Output file location", f"Elsewhere...|{kept}")
    lab.pipeline.write_text(text.text)
    for options in ((), ("--no-fix",)):
        done = check(lab, *options)
        assert "pipeline-output-elsewhere" in done.stdout
        assert [p.name for p in kept.iterdir()] == ["Experiment.csv"]
        assert (kept / "Experiment.csv").read_text() == "precious"
