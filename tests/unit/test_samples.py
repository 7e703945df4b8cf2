from __future__ import annotations

from pathlib import Path

import pytest
from conftest import refused

from bpcp.errors import Exit
from bpcp.imagelist import ImageList
from bpcp.profile import samples
from bpcp.profile.samples import Candidate, candidates, deal, different, draw

HEADER = ("FileName_DNA", "PathName_DNA", "Metadata_Well")


def images(names: list[str], wells: list[str] | None = None) -> ImageList:
    wells = wells or [f"A{i + 1:02d}" for i in range(len(names))]
    rows = tuple((name, "", well) for name, well in zip(names, wells, strict=True))
    return ImageList(HEADER, rows, tuple(range(2, len(rows) + 2)))


def draw_files(folder: Path, sizes: list[int]) -> ImageList:
    for i, size in enumerate(sizes):
        (folder / f"{i}.tif").write_bytes(b"x" * size)
    return images([f"{i}.tif" for i in range(len(sizes))])


def test_sizes_of_files_that_are_there(tmp_path: Path) -> None:
    found, lacking = candidates(draw_files(tmp_path, [3, 0, 5]), tmp_path)
    assert found == [Candidate(0, 3), Candidate(1, 0), Candidate(2, 5)]
    assert lacking == 0


def test_an_image_set_without_its_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "b.tif").write_bytes(b"x")
    assert candidates(images(["a.tif", "b.tif"]), tmp_path) == ([Candidate(1, 1)], 1)


def test_no_file_at_all_is_refused_and_one_named(tmp_path: Path) -> None:
    error = refused(Exit.NO_INPUT, "a.tif", candidates, images(["a.tif", "b.tif"]), tmp_path)
    assert "mounted" in error.todo


@pytest.mark.parametrize("where", ["s3://plates/a.tif", "https://x.org/a.tif"])
def test_images_elsewhere_are_refused(tmp_path: Path, where: str) -> None:
    error = refused(Exit.NO_INPUT, where, candidates, images([where]), tmp_path)
    assert "line 2 " in str(error) and "copy" in error.todo


def test_a_long_list_is_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "LOOK_AT", 3)
    found, _ = candidates(draw_files(tmp_path, [1] * 9), tmp_path)
    assert [c.place for c in found] == [0, 4, 8]


def test_they_differ_in_size_and_place() -> None:
    there = [Candidate(i, size) for i, size in enumerate([5, 9, 7, 1, 6, 3, 8])]
    found = different(images(["x"] * 7), there, 5)
    assert [(c.place, why) for c, why in found] == [
        (0, "first well"),
        (1, "largest"),
        (3, "smallest"),
        (4, "median"),
        (6, "last well"),
    ]


def test_wells_not_lines_make_first_and_last() -> None:
    there = [Candidate(i, 1) for i in range(4)]
    chosen = different(images(["x"] * 4, ["C01", "A01", "D01", "B01"]), there, 5)
    wells = {c.place: why.split(", ")[-1] for c, why in chosen if "well" in why}
    assert wells == {1: "first well", 2: "last well"}


def test_where_all_are_alike_others_are_added() -> None:
    there = [Candidate(i, 1) for i in range(96)]
    found = different(images(["x"] * 96), there, 5)
    assert len(found) == 5
    assert sum(why == "between" for _, why in found) == 2
    assert [why for c, why in found if c.place == 0] == ["smallest, first well"]


def test_no_more_than_there_are_or_were_asked_for() -> None:
    assert different(images(["x"]), [Candidate(0, 1)], 5) == [
        (Candidate(0, 1), "largest, smallest, median, first well, last well")
    ]
    there = [Candidate(i, i) for i in range(9)]
    assert [why for _, why in different(images(["x"] * 9), there, 1)] == ["largest, last well"]


def test_a_draw_takes_each_layer_once_and_always_the_same() -> None:
    there = [Candidate(i, i % 10) for i in range(100)]
    found = draw(there, 10)
    assert sorted(c.size for c in found) == list(range(10))
    assert found == draw(there, 10)
    assert len(draw(there, 1000)) == 100


def test_a_draw_does_not_fall_in_step_with_a_plate() -> None:
    # 6 sites for each well: a fixed step of 6 would always meet the same one
    there = [Candidate(i, 1) for i in range(96)]
    assert len({c.place % 6 for c in draw(there, 16)}) > 3


def test_hands_differ_while_there_is_enough() -> None:
    there = [Candidate(i, 1) for i in range(6)]
    hands = deal(there, 2, 3)
    assert [[c.place for c in hand] for hand in hands] == [[0, 1, 2], [3, 4, 5]]
    scarce = deal(there[:2], 3, 5)
    assert [[c.place for c in hand] for hand in scarce] == [[0, 1]] * 3
