from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HOSTILE, refused

from bpcp.errors import Exit
from bpcp.folders import NOWHERE, Moved, moved_of


def test_paths_below_an_old_folder_move_and_others_stay() -> None:
    moved = moved_of(["/lab/images=/data/img", "/scratch=/data/scratch"])
    assert moved.path("/lab/images/p1/a.tif") == "/data/img/p1/a.tif"
    assert moved.path("/lab/images") == "/data/img"
    assert moved.path("/lab/images2/a.tif") == "/lab/images2/a.tif"
    assert moved.path("/scratch/a.tif") == "/data/scratch/a.tif"
    assert moved.path("relative/a.tif") == "relative/a.tif"


def test_the_root_can_move() -> None:
    assert moved_of(["/=/mnt/old"]).path("/lab/a.tif") == "/mnt/old/lab/a.tif"


def test_a_slash_at_the_end_of_either_does_not_count() -> None:
    assert moved_of(["/lab/=/data/"]).path("/lab/a.tif") == "/data/a.tif"


def test_paths_of_windows() -> None:
    moved = moved_of([r"Z:\lab\images=/data"])
    assert moved.path(r"Z:\lab\images\p1\a.tif") == "/data/p1/a.tif"
    assert moved.path(r"Z:\lab\images2\a.tif") == r"Z:\lab\images2\a.tif"


def test_addresses_are_moved_as_the_paths_they_are() -> None:
    moved = Moved((("/lab/my images", f"/data/{HOSTILE}"),))
    there = moved.url("file:/lab/my%20images/a%23.tif")
    assert there.startswith("file:/data/it%27s")
    assert there.endswith("/a%23.tif")
    assert moved.url("file:///lab/my%20images/a.tif").startswith("file:/data/")
    assert moved.url("file:/other/a%20b.tif") == "file:/other/a%20b.tif"
    assert moved.url("s3://lab/my images/a.tif") == "s3://lab/my images/a.tif"


def test_only_folders_and_addresses_are_moved() -> None:
    moved = moved_of(["/lab=/data"])
    assert moved.cell("PathName_DNA", "/lab/a") == "/data/a"
    assert moved.cell("ObjectsPathName_DNA", "/lab/a") == "/data/a"
    assert moved.cell("URL_DNA", "file:/lab/a") == "file:/data/a"
    assert moved.cell("Metadata_Folder", "/lab/a") == "/lab/a"


def test_no_map_moves_nothing() -> None:
    assert moved_of([]) == NOWHERE
    assert NOWHERE.path("/lab/a.tif") == "/lab/a.tif"
    assert NOWHERE.words == []


def test_a_relative_new_folder_is_one_below_the_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert moved_of(["/lab=img"]).words == [f"/lab={tmp_path}/img"]


@pytest.mark.parametrize("option", ["/lab", "=/data", "/lab=", "="])
def test_refuses_what_is_no_map(option: str) -> None:
    assert refused(Exit.USAGE, f"--map {option}: not OLD=NEW", moved_of, [option]).todo


def test_refuses_one_old_folder_in_another() -> None:
    maps = ["/lab/images=/data/a", "/lab=/data/b"]
    refused(Exit.USAGE, "/lab/images lies in /lab", moved_of, maps)
    refused(Exit.USAGE, "/lab lies in /lab", moved_of, ["/lab=/a", "/lab=/b"])
