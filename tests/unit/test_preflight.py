from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Screen, refused

from bpcp import plan, status
from bpcp.errors import Exit
from bpcp.workspace import read_json


@pytest.fixture
def plate(screen: Screen) -> Screen:
    """Six image sets with real images."""
    screen.fill(6, group=1)
    for i in range(6):
        image = np.full((8, 9 + 7 * 3), i, dtype=np.uint8)
        tifffile.imwrite(screen.images / f"f{i + 1}.tif", image)
    return screen


def planned(screen: Screen, *more: str) -> int:
    return plan.main(screen.arguments("--slots", "2", "--chunk-size", "2", *more))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_good_images_are_no_news(plate: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(plate) == Exit.OK
    assert "images" not in said(capsys).replace("image sets", "")
    assert not list(plate.workspace.chunks.glob("*/bad.json"))


def test_a_truncated_image_fails_with_its_reason_and_the_rest_runs(
    plate: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(plate.images / "f3.tif")
    assert planned(plate) == Exit.OK
    words = said(capsys)
    assert "bad images: 1 image set will fail (--quarantine leaves them out)" in words
    assert "line 4: " in words
    plate.run()
    found = status.gather(plate.workspace)
    assert (found.done, found.failed) == (5, 1)
    assert found.failures[0]["line"] == 4
    assert "f3.tif" in found.failures[0]["reason"]
    assert [own for own in plate.ran() if "f4.tif" in own] == [["f4.tif"]]


def test_once_it_is_mended_it_runs(plate: Screen) -> None:
    whole = (plate.images / "f3.tif").read_bytes()
    cut_off(plate.images / "f3.tif")
    planned(plate, "-q")
    plate.run()
    plate.ran()
    (plate.images / "f3.tif").write_bytes(whole)
    planned(plate, "-q")
    assert not any(read_json(p) for p in plate.workspace.chunks.glob("*/bad.json"))
    plate.run()
    assert plate.ran() == [["f3.tif"]]
    assert status.gather(plate.workspace).done == 6


def test_quarantine_leaves_them_out_and_keeps_them_in_the_status(
    plate: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(plate.images / "f3.tif")
    (plate.images / "f5.tif").unlink()
    assert planned(plate, "--quarantine") == Exit.OK
    assert "quarantine: 2 image sets not analysed: bpcp status" in said(capsys)
    plate.run()
    plate.merge()
    found = status.gather(plate.workspace)
    assert (found.total, found.done, found.exit_code) == (4, 4, Exit.OK)
    assert [f["line"] for f in found.not_analysed] == [4, 6]
    assert found.not_analysed[1]["image_set"]["Well"] == "A05"
    assert [r["ImageNumber"] for r in plate.table("Image.csv")] == ["1", "2", "3", "4"]
    status.main(plate.arguments())
    out = capsys.readouterr().out
    assert "not analysed, in quarantine: 2\n  line 4 of load_data.csv (P1 A03): " in out
    status.main(plate.arguments("--json"))
    counts = json.loads(capsys.readouterr().out)["image_sets"]
    assert counts["not_analysed"] == 2


def test_what_is_done_is_not_looked_at_again(
    plate: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(plate, "-q")
    plate.run()
    looked: list[object] = []
    monkeypatch.setattr("bpcp.check.all.run", lambda *asked: looked.append(asked))
    assert planned(plate, "-q") == Exit.OK
    assert looked == []
    assert len(list(plate.workspace.chunks.glob("*/done.json"))) == 3


def test_without_any_good_image_set_nothing_starts(plate: Screen) -> None:
    for path in plate.images.iterdir():
        path.unlink()
    error = refused(Exit.NO_INPUT, "f1.tif", planned, plate, "-q")
    assert "and 5 more: bpcp check" in str(error)
    assert not plate.workspace.run.exists()


def test_what_was_done_and_is_cut_off_since_is_looked_at_again(
    plate: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its chunk runs again; it must not be measured without a word."""
    planned(plate)
    plate.run()
    said(capsys)
    cut_off(plate.images / "f3.tif")
    planned(plate)
    assert "bad images: 1 image set will fail" in said(capsys)
    plate.run()
    assert plate.failed() == ["f3.tif"]


def test_a_chunk_whose_saved_file_is_gone_is_looked_at_again(
    plate: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(plate)
    plate.run()
    said(capsys)
    saved = next(plate.workspace.analysis.rglob("f1_overlay.png"))
    saved.unlink()
    cut_off(plate.images / "f1.tif")
    planned(plate)
    assert "bad images: 1 image set will fail" in said(capsys)


def test_without_the_check_nothing_is_looked_at(plate: Screen) -> None:
    cut_off(plate.images / "f3.tif")
    assert planned(plate, "--no-check", "-q") == Exit.OK
    assert not list(plate.workspace.chunks.glob("*/bad.json"))


def test_quarantine_needs_the_check(plate: Screen) -> None:
    refused(Exit.USAGE, "exclude each other", planned, plate, "--no-check", "--quarantine")


def test_what_was_measured_without_a_check_is_taken_back_where_it_was_bad(
    plate: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(plate.images / "f3.tif")
    planned(plate, "--no-check", "-q")
    plate.run()
    assert status.gather(plate.workspace).done == 6
    planned(plate)
    words = said(capsys)
    assert "image sets that fail now were measured before: 1 chunks run again" in words
    plate.ran()
    plate.run()
    found = status.gather(plate.workspace)
    assert (found.done, found.failed) == (5, 1)
    assert plate.ran() == [["f4.tif"]]


def test_what_is_gone_since_stays_in_the_result(plate: Screen) -> None:
    planned(plate, "--no-check", "-q")
    plate.run()
    (plate.images / "f3.tif").unlink()
    planned(plate, "-q")
    plate.run()
    assert status.gather(plate.workspace).done == 6


def test_warnings_of_the_check_reach_the_run(
    plate: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    other = np.zeros((8, 30), dtype=np.uint16)
    tifffile.imwrite(plate.images / "f5.tif", other)
    planned(plate)
    words = said(capsys)
    assert "1 warning: bpcp check says more" in words
    assert "f5.tif" in words
