"""Tables in a folder for each well, each with the columns of all, also where all are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HOSTILE
from test_merge import OBJECT, Row, Tree

from bpcp.workspace import read_json, write_json

WIDE: Row = ["Count_N", "ImageNumber", "Mean_N_Area", "Metadata_Well"]
NARROW: Row = ["ImageNumber", "Metadata_Well"]


def declare(tree: Tree, *tables: tuple[str, str]) -> None:
    run = read_json(tree.workspace.run) or {}
    run["tables"] = [{"pattern": pattern, "objects": [name]} for pattern, name in tables]
    write_json(tree.workspace.run, run)


def skip_all(tree: Tree, chunk: str, *image_sets: int) -> None:
    done = read_json(tree.workspace.chunk(chunk).done) or {}
    done["parts"][0]["skipped"] = {"FlagImage (QC)": list(image_sets)}
    write_json(tree.workspace.chunk(chunk).done, done)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Three wells of one image set; that of the second was skipped before objects were made."""
    tree = Tree(tmp_path / HOSTILE, 3)
    declare(tree, (r"t/.*/Image\.csv", "Image"), (r"t/.*/N\.csv", "N"))
    tree.add([1], {"t/A/Image.csv": [WIDE, [1, 1, 5, "A"]], "t/A/N.csv": [OBJECT, [1, 1, 5]]})
    skip_all(tree, tree.add([2], {"t/B/Image.csv": [NARROW, [1, "B"]]}), 1)
    tree.add([3], {"t/C/Image.csv": [WIDE, ["0", 1, "nan", "C"]], "t/C/N.csv": [OBJECT]})
    return tree


def test_a_folder_of_skipped_image_sets(tree: Tree) -> None:
    merged = tree.merge()
    assert tree.read("t/B/Image.csv") == [WIDE, ["", "2", "nan", "B"]]
    assert tree.read("t/B/N.csv") == [OBJECT]
    assert merged.tables["t/B/N.csv"]["rows"] == 0
    # those of the others stay as they are
    assert tree.read("t/A/N.csv") == [OBJECT, ["1", "1", "5"]]
    assert tree.read("t/C/N.csv") == [OBJECT]


def test_numbers_are_spelled_alike_in_all_folders(tree: Tree) -> None:
    tree.add([4], {"t/A/N.csv": [OBJECT, [1, 1, 0.5]], "t/A/Image.csv": [WIDE, [1, 1, 0.5, "A"]]})
    tree.merge()
    assert tree.read("t/A/N.csv")[1:] == [["1", "1", "5.0"], ["4", "1", "0.5"]]
    assert tree.read("t/A/Image.csv")[1][2] == "5.0"


def test_a_folder_that_was_not_skipped_is_not_filled(tree: Tree) -> None:
    skip_all(tree, "c2")
    tree.merge()
    assert not (tree.workspace.analysis / "t/B/N.csv").exists()


def test_nothing_is_filled_that_no_export_declares(tree: Tree) -> None:
    declare(tree, (r"t/.*/Image\.csv", "Image"), (r"t/A/N\.csv", "N"))
    tree.merge()
    assert not (tree.workspace.analysis / "t/B/N.csv").exists()


def test_tables_that_two_exports_may_have_written_stay_apart(tree: Tree) -> None:
    declare(tree, (r"t/.*/Image\.csv", "Image"), (r"t/.*/N\.csv", "N"), (r"t/B/.*\.csv", "Image"))
    tree.merge()
    assert tree.read("t/B/Image.csv") == [NARROW, ["2", "B"]]
