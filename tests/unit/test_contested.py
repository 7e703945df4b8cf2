from __future__ import annotations

from pathlib import Path

import pytest
from conftest import EXPORT, Screen, load_data, pipeline_text, refused, rows_of
from test_merge import Tree, objects
from test_saved import NO, saves
from test_saving import two_plates

from bpcp import contested, imagelist, merge, publish, stale
from bpcp.audit import all as audit
from bpcp.errors import Exit
from bpcp.workspace import read_json, read_plan, write_json

N = {"N.csv": objects()}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    found = Tree(tmp_path / "lab", 9)
    pipe(found)
    return found


def pipe(tree: Tree, *settings: str) -> None:
    tree.workspace.pipeline.write_text(pipeline_text(load_data(), saves(*settings), EXPORT))


def found_lost(tree: Tree) -> list[str]:
    """Name the chunks that a plan would run again."""
    for planned in tree.planned:
        paths = tree.workspace.chunk(planned.id)
        imagelist.write(paths.images, ("URL_DNA",), [("s3://b/a.tif",)])
        write_json(paths.done, {**(read_json(paths.done) or {}), "inputs": []})
    changed, lost = stale.find(tree.workspace, read_plan(tree.workspace), {"root": "/"}, {})
    assert changed == []
    return lost


def there(tree: Tree, name: str = "o.png") -> bytes:
    return (tree.workspace.analysis / name).read_bytes()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_last_image_sets_file_stays_whoever_finishes_last(
    tree: Tree, order: tuple[int, ...]
) -> None:
    numbers = ([1, 2, 3], [4, 5, 6], [7, 8, 9])
    for chunk in order:
        tree.add(numbers[chunk], N, {"a/o.png": b"of %d" % chunk})
    tree.merge()
    assert there(tree, "a/o.png") == b"of 2"
    # again: it is as it should be
    assert not tree.merge().fresh
    assert there(tree, "a/o.png") == b"of 2"


def test_the_first_stays_where_nothing_may_be_overwritten(tree: Tree) -> None:
    pipe(tree, NO)
    tree.add([1, 2], N, {"o.png": b"one"})
    tree.add([3], N, {"o.png": b"two"})
    tree.merge()
    assert there(tree) == b"one"


def test_chunks_that_lie_across_each_other_are_told_apart_by_names(tree: Tree) -> None:
    header = ("FileName_DNA",)
    # image sets 1, 2, 5 and 3, 4: o.png is of 1 and 4, p.png of 5 and 3
    for chunk, numbers, files in (("c1", [1, 2, 5], "oxp"), ("c2", [3, 4], "po")):
        tree.add(numbers, N, {f"{n}.png": f"{n} of {chunk}".encode() for n in "op"})
        listed = [(f"{name}.tif",) for name in files]
        imagelist.write(tree.workspace.chunk(chunk).images, header, listed)
    write_json(
        tree.workspace.run,
        {"group_sizes": [5], "columns": {"FileName_DNA": "TEXT"}, "root": "/", "image_sets": 5},
    )
    tree.merge()
    assert there(tree, "o.png") == b"o of c2"
    assert there(tree, "p.png") == b"p of c1"


@pytest.mark.parametrize(
    ("processed", "untold", "told"),
    [(None, b"2", b"2"), ([2, 4, 1, 3], b"1", b"1"), ([1, 2, 4, 3], b"1", b"2")],
)
def test_image_sets_are_saved_as_they_are_processed(
    tree: Tree, processed: list[int] | None, untold: bytes, told: bytes
) -> None:
    """Where the list numbers its groups, that is not the order of the ImageNumbers."""
    run = {"group_sizes": [2, 2], "columns": {"FileName_DNA": "TEXT"}, "root": "/"}
    write_json(tree.workspace.run, {**run, "image_sets": 4, "processed": processed})
    # the list tells who saves o.png, and nothing of a.png
    for chunk, numbers, files, content in (
        ("c1", [1, 3], "ox", b"1"),
        ("c2", [2, 4], "yo", b"2"),
    ):
        tree.add(numbers, N, {"a.png": content, "o.png": content})
        listed = [(f"{name}.tif",) for name in files]
        imagelist.write(tree.workspace.chunk(chunk).images, ("FileName_DNA",), listed)
    tree.merge()
    assert (there(tree, "a.png"), there(tree, "o.png")) == (untold, told)


def test_a_file_that_is_nowhere_any_more_is_made_again(tree: Tree) -> None:
    tree.add([2], N, {"o.png": b"the last"})
    tree.add([1], N, {"o.png": b"first"})
    kept = tree.workspace.chunk("c2").replaced / "o.png"
    assert kept.read_bytes() == b"the last"
    kept.unlink()
    assert found_lost(tree) == ["c1"]
    refused(Exit.STOPPED, "o.png of chunk c1 is gone", tree.merge)
    assert not tree.workspace.chunk("c1").done.exists()
    assert tree.workspace.chunk("c2").done.exists()


def test_no_chunk_is_lost_whose_file_another_ones_took_the_place_of(tree: Tree) -> None:
    for numbers, content in (([1], b"one"), ([2], b"and two"), ([3], b"three")):
        tree.add(numbers, N, {"o.png": content})
    for _ in range(2):
        assert found_lost(tree) == []
        tree.merge()
    # by hand
    (tree.workspace.analysis / "o.png").unlink()
    assert found_lost(tree) == ["c3"]


def test_what_stays_of_a_chunk_that_is_gone_makes_room(tree: Tree) -> None:
    tree.add([1], N, {"o.png": b"one"})
    (tree.workspace.analysis / "o.png").rename(tree.workspace.analysis / "x")
    kept = tree.workspace.chunk("c1").replaced
    kept.mkdir()
    (tree.workspace.analysis / "x").rename(kept / "o.png")
    # of the same size as that of a chunk that is no more
    (tree.workspace.analysis / "o.png").write_bytes(b"two")
    write_json(
        tree.workspace.superseded, {"o.png": publish.sha256(tree.workspace.analysis / "o.png")}
    )
    tree.merge()
    assert there(tree) == b"one"


def test_a_full_disk_is_said(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.add([2], N, {"o.png": b"the last"})
    tree.add([1], N, {"o.png": b"first"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contested, "put_back", full)
    refused(Exit.CANNOT_CREATE, "No space left on device", tree.merge)
    monkeypatch.undo()
    tree.merge()
    assert there(tree) == b"the last"


def test_killed_while_it_is_put_back_loses_nothing(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.add([2], N, {"o.png": b"the last"})
    tree.add([1], N, {"o.png": b"first"})

    class KilledError(Exception):
        pass

    moved = publish.move

    def killed(source: Path, target: Path, incoming: Path) -> None:
        moved(source, target, incoming)
        raise KilledError

    monkeypatch.setattr(publish, "move", killed)
    with pytest.raises(KilledError):
        tree.merge()
    monkeypatch.undo()
    assert found_lost(tree) == []
    tree.merge()
    assert there(tree) == b"the last"


# --- in a run -------------------------------------------------------------------------------------


def overlays(screen: Screen) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (screen.workspace.analysis / "overlays").iterdir()}


def test_a_run_is_one_process_at_any_chunk_size(screen: Screen) -> None:
    # the second plate's
    expected = {
        "a_overlay.png": b"overlay of " + b"x" * 11,
        "b_overlay.png": b"overlay of " + b"x" * 12,
    }
    two_plates(screen)
    for size in ("4", "3", "2", "1"):
        screen.plan("-q", "-w", "--chunk-size", size)
        screen.run()
        merge.main(screen.arguments("-q"))
        assert overlays(screen) == expected
        found = audit.audit(screen.workspace)
        assert (found.faults, found.warnings) == ([], [])
    # nothing is left to do
    screen.ran()
    screen.plan("-q", "--chunk-size", "1")
    screen.run()
    assert screen.ran() == []


def test_a_list_that_gains_an_earlier_plate_where_nothing_may_be_overwritten(
    screen: Screen,
) -> None:
    two_plates(screen, NO)
    first, screen.rows = screen.rows[:2], screen.rows[2:]
    screen.write()
    assert screen.all("--chunk-size", "2").failures == []
    assert overlays(screen)["a_overlay.png"] == b"overlay of " + b"x" * 11
    screen.rows = [*first, *screen.rows]
    screen.write()
    # what was done is wrong now: one process would have failed there
    assert [f["line"] for f in screen.all("--chunk-size", "2").failures] == [4, 5]
    assert overlays(screen)["a_overlay.png"] == b"overlay of " + b"x" * 8
    assert [row["ImageNumber"] for row in screen.table("Image.csv")] == ["1", "2"]
    assert audit.audit(screen.workspace).faults == []


def test_a_list_that_loses_the_later_plate(screen: Screen) -> None:
    two_plates(screen)
    screen.all("--chunk-size", "2")
    del screen.rows[2:]
    screen.write()
    for _ in range(2):
        screen.plan("-q", "--chunk-size", "2")
        screen.run()
    screen.merge()
    assert overlays(screen)["a_overlay.png"] == b"overlay of " + b"x" * 8
    assert len(rows_of(screen.workspace.analysis / "Image.csv")) == 2
