"""What is looked at before image sets that failed are tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Screen, refused
from PIL import Image

from bpcp.errors import Exit
from bpcp.run import retry, todo
from bpcp.workspace import read_json, write_json


def good(path: Path, shade: int = 7) -> None:
    Image.new("L", (8, 8), shade).save(path, "TIFF")


def with_bad(screen: Screen, *numbers: int) -> str:
    """Plan four image sets in one chunk, of which the check found some bad; run them."""
    screen.fill(4)
    for row in screen.rows:
        good(Path(row[1], row[0]))
    screen.plan("-q", "--chunk-size", "4")
    (chunk,) = screen.chunks()
    bad = {str(n): "a truncated TIFF" for n in numbers}
    write_json(screen.workspace.chunk(chunk).bad, bad)
    screen.run()
    assert [f["image_set"] for f in screen.verdicts()[0]["failed"]] == list(numbers)
    screen.ran()
    return chunk


def test_a_mended_file_is_tried_again(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    with_bad(screen, 2, 3)
    good(screen.images / "f2.tif", 9)
    assert retry.main([str(screen.workspace.status)]) == Exit.OK
    said = capsys.readouterr().err
    assert said == "retry: 2 image sets that failed, the files of 1 were mended\n"
    screen.run()
    assert screen.ran() == [["f2.tif"]]
    assert screen.failed() == ["f3.tif"]


def test_what_was_changed_and_is_bad_still_fails_for_what_it_is_now(screen: Screen) -> None:
    chunk = with_bad(screen, 2)
    (screen.images / "f2.tif").write_bytes(b"")
    retry.main([str(screen.workspace.status), "-q"])
    assert read_json(screen.workspace.chunk(chunk).bad) == {"2": "an empty file"}


def test_without_failures_there_is_nothing_to_retry(screen: Screen) -> None:
    screen.fill(2)
    screen.all()
    arguments = [str(screen.workspace.status)]
    assert (
        "bpcp status"
        in refused(Exit.NO_INPUT, "no image set has failed", retry.main, arguments).todo
    )


def test_only_chunks_that_failed_are_listed(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(3)
    screen.plan("-q", "--chunk-size", "1")
    monkeypatch.setenv("FAKE_MODE", "exception")
    monkeypatch.setenv("FAKE_AT", "f2.tif")
    screen.run()
    # one is left as well, which is for the whole run
    screen.workspace.chunk(screen.chunks()[2]).done.unlink()
    capsys.readouterr()
    todo.main([str(screen.workspace.status), "--failed"])
    assert capsys.readouterr().out.split() == [screen.chunks()[1]]
    # what never ran comes first
    assert todo.left(screen.workspace) == [screen.chunks()[2], screen.chunks()[1]]
