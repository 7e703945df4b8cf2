"""Image files that change behind the check, or under an attempt's hands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Screen
from PIL import Image

from bpcp import plan
from bpcp.chunk import isolate
from bpcp.workspace import Json, read_json, write_json


def good(path: Path, shade: int = 7) -> None:
    Image.new("L", (20, 20), shade).save(path, "TIFF")


def checked(screen: Screen, count: int = 3) -> None:
    """Plan real images in one chunk, as a run that checks does."""
    screen.fill(count)
    for row in screen.rows:
        good(Path(row[1], row[0]))
    plan.main(screen.arguments("-q", "--slots", "2", "--chunk-size", str(count)))


def reasons(verdict: Json) -> list[tuple[int, str, str]]:
    return [(f["image_set"], f["kind"], f["reason"]) for f in verdict["failed"]]


def cut(path: Path) -> None:
    """Truncate a file, and give it its old time."""
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-100])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_what_is_as_the_check_saw_it_is_not_looked_at_again(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(screen)
    monkeypatch.setattr("bpcp.check.look.look", None)
    (verdict,) = screen.run()
    assert verdict["failed"] == []


def test_an_image_cut_off_behind_the_check_fails_by_name(screen: Screen) -> None:
    checked(screen)
    image = screen.images / "f2.tif"
    image.write_bytes(image.read_bytes()[:-100])
    (verdict,) = screen.run()
    ((number, kind, reason),) = reasons(verdict)
    assert (number, kind) == (2, "unreadable-image")
    assert "TIFF" in reason or "ends" in reason
    assert verdict["failed"][0]["file"] == str(image)
    assert screen.ran() == [["f1.tif"], ["f3.tif"]]


def test_without_the_check_nothing_is_looked_at(screen: Screen) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2")
    (screen.images / "f2.tif").write_bytes(b"II*\0 no image")
    (verdict,) = screen.run()
    assert verdict["failed"] == []


def while_it_runs(monkeypatch: pytest.MonkeyPatch, *harm: Callable[[], object]) -> None:
    """Do something at the end of each attempt, before it is judged any further."""
    left = list(harm)
    diagnosed = isolate.Images.changed

    def changed(images: isolate.Images, first: int, last: int) -> list[int]:
        if left:
            left.pop(0)()
        return diagnosed(images, first, last)

    monkeypatch.setattr(isolate.Images, "changed", changed)


def test_an_image_that_changes_while_it_is_read_is_read_again(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(screen)
    while_it_runs(monkeypatch, lambda: good(screen.images / "f2.tif", 9))
    (verdict,) = screen.run()
    assert verdict["failed"] == []
    assert screen.ran() == [["f1.tif", "f2.tif", "f3.tif"]] * 2
    # what is written down is what was read
    plan.main(screen.arguments("-q", "--slots", "2", "--chunk-size", "3"))
    assert screen.run() == []


def test_an_image_cut_off_while_it_is_read_fails_though_its_time_is_the_old_one(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(screen)
    while_it_runs(monkeypatch, lambda: cut(screen.images / "f2.tif"))
    (verdict,) = screen.run()
    assert [r[:2] for r in reasons(verdict)] == [(2, "unreadable-image")]
    assert [(p["first"], p["last"]) for p in verdict["parts"]] == [(1, 1), (3, 3)]


def test_one_that_changes_again_and_again_has_failed(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(screen)
    image = screen.images / "f2.tif"
    while_it_runs(monkeypatch, lambda: good(image, 8), lambda: good(image, 9))
    (verdict,) = screen.run()
    assert reasons(verdict) == [
        (2, "image-changed", "its files changed while they were read, twice")
    ]


def test_a_list_that_a_power_cut_emptied_is_written_anew(screen: Screen) -> None:
    checked(screen)
    paths = screen.workspace.chunk(screen.chunks()[0])
    paths.images.write_bytes(b"")
    plan.main(screen.arguments("-q", "--slots", "2", "--chunk-size", "3"))
    (verdict,) = screen.run()
    assert verdict["failed"] == []


def test_what_the_check_saw_is_kept_for_what_is_left(screen: Screen) -> None:
    checked(screen)
    paths = screen.workspace.chunk(screen.chunks()[0])
    seen = (read_json(paths.checked) or {})["rows"]
    assert len(set(seen)) == 3
    (verdict,) = screen.run()
    assert verdict["inputs"] == seen
    write_json(paths.checked, {"rows": []})
    # all of it is done and was looked at: nothing is looked at, and nothing is kept
    plan.main(screen.arguments("-q", "--slots", "2", "--chunk-size", "3"))
    assert not paths.checked.exists()


def test_a_file_that_is_whole_by_the_time_it_is_read_passes(screen: Screen) -> None:
    """It was still being copied when the check looked."""
    screen.fill(2)
    for row in screen.rows:
        good(Path(row[1], row[0]))
    image = screen.images / "f2.tif"
    whole = image.read_bytes()
    image.write_bytes(whole[:-100])
    plan.main(screen.arguments("-q", "--slots", "2", "--chunk-size", "2"))
    (chunk,) = screen.chunks()
    assert (read_json(screen.workspace.chunk(chunk).bad) or {}).keys() == {"2"}
    image.write_bytes(whole)
    (verdict,) = screen.run()
    assert verdict["failed"] == []


def test_a_new_link_to_a_file_costs_one_more_attempt_and_no_image_set(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(screen)
    image = screen.images / "f2.tif"
    touches = [lambda n=n: os.link(image, image.with_name(f"backup{n}")) for n in range(3)]
    while_it_runs(monkeypatch, *touches)
    (verdict,) = screen.run()
    assert (verdict["failed"], verdict["cost"]["attempts"]) == ([], 2)
