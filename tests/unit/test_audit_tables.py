# ruff: noqa: F811 -- fixtures of test_audit
from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from batchfile import PIPELINE
from batchfile import write as write_batch
from conftest import HOSTILE, Screen, write_csv
from test_audit import home, merged, result  # noqa: F401 -- fixtures
from test_database_merge import NAME, PROPERTIES, Databases, second_module, two_across
from test_merge import Row, Tree, objects

from bpcp import imagelist
from bpcp.audit import count
from bpcp.audit.all import audit
from bpcp.audit.outcome import Outcome
from bpcp.errors import Exit
from bpcp.publish import sha256
from bpcp.tables import Kind
from bpcp.workspace import Planned, read_json, read_plan, write_json, write_plan


def completed(tree: Tree, tables: Sequence[tuple[str, str]] = ()) -> Outcome:
    """Give a tree what a plan leaves and these tests have no use for; merge and audit it."""
    run = read_json(tree.workspace.run) or {}
    run["tables"] = [{"pattern": p, "objects": [o]} for p, o in tables]
    write_json(tree.workspace.run, run)
    for planned in read_plan(tree.workspace):
        paths = tree.workspace.chunk(planned.id)
        rows = [(f"/in/{n}.tif",) for n in planned.image_numbers]
        imagelist.write(paths.images, ("URL_DNA",), rows)
        done = read_json(paths.done) or {}
        done["inputs"] = [imagelist.fingerprint(("URL_DNA",), [row], Path("/")) for row in rows]
        write_json(paths.done, done)
    tree.merge()
    return audit(tree.workspace)


def words(outcome: Outcome) -> list[str]:
    return [fault.words for fault in outcome.faults]


# --- databases ------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Databases:
    tree = Databases(tmp_path / HOSTILE, 5)
    two_across(tree)
    return tree


def change(tree: Databases, *statements: str) -> list[str]:
    with closing(sqlite3.connect(tree.made)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    outcome = audit(tree.workspace)
    assert outcome.exit_code == Exit.SOME_FAILED
    assert outcome.manifest == ""
    assert {fault.file for fault in outcome.faults} == {NAME}
    assert "bpcp merge" in outcome.faults[0].todo
    return words(outcome)


def test_a_database_that_adds_up(tree: Databases) -> None:
    outcome = completed(tree)
    assert outcome.faults == []
    assert (outcome.with_objects, outcome.with_none) == (4, 1)
    assert outcome.objects == {"Nuclei": 7}
    assert outcome.tables == 3
    assert outcome.manifest == "written"
    listed = tree.workspace.manifest.read_text()
    assert NAME in listed and PROPERTIES in listed


def test_a_database_with_a_row_of_an_object_removed(tree: Databases) -> None:
    completed(tree)
    gone = "DELETE FROM MyExpt_Per_Object WHERE ImageNumber = 5 AND ObjectNumber = 2"
    assert change(tree, gone) == [
        f"{NAME}, MyExpt_Per_Object: 6 rows, the chunks wrote 7",
        f"{NAME}, ImageNumber 5: Image_Count_Nuclei is 3, MyExpt_Per_Object has"
        " 2 rows",
    ]  # fmt: skip


def test_a_database_with_a_row_of_an_image_set_removed(tree: Databases) -> None:
    completed(tree)
    found = change(tree, "DELETE FROM MyExpt_Per_Image WHERE ImageNumber = 2")
    assert f"{NAME}, MyExpt_Per_Image: 4 rows, the chunks wrote 5" in found
    assert any(
        "MyExpt_Per_Image of Default.db lacks 1 image sets, the first is 2" in w for w in found
    )


def test_a_database_with_a_relationship_removed(tree: Databases) -> None:
    completed(tree)
    assert change(tree, "DELETE FROM MyExpt_Per_Relationships WHERE rowid = 3") == [
        f"{NAME}, MyExpt_Per_Relationships: 13 rows, the chunks wrote 14"
    ]


def test_a_database_with_a_foreign_row(tree: Databases) -> None:
    completed(tree)
    found = change(tree, "INSERT INTO MyExpt_Per_Object VALUES (9, 1, 1, 0.5)")
    assert (
        f"{NAME}, MyExpt_Per_Object, ImageNumber 9:"
        " a row of an image set that is not part of the run" in found
    )


def test_a_database_with_a_changed_cell(tree: Databases) -> None:
    completed(tree)
    assert change(tree, "UPDATE MyExpt_Per_Object SET Nuclei_AreaShape_Area = 9") == [
        f"{NAME}: it is not what the merge wrote (SHA-256)"
    ]


@pytest.mark.parametrize("content", [b"", b"not a database", None])
def test_a_database_that_is_none_any_more(tree: Databases, content: bytes | None) -> None:
    completed(tree)
    if content is None:
        whole = tree.made.read_bytes()
        content = whole[: len(whole) // 2]
    tree.made.write_bytes(content)
    outcome = audit(tree.workspace)
    assert outcome.exit_code == Exit.SOME_FAILED
    assert outcome.faults[0].file == NAME


def test_a_changed_properties_file(tree: Databases) -> None:
    completed(tree)
    path = tree.workspace.analysis / PROPERTIES
    path.write_text(path.read_text() + "# mine\n")
    assert words(audit(tree.workspace)) == [
        f"{PROPERTIES}: it is not what the merge wrote (SHA-256)"
    ]


def test_two_modules_in_one_database(tmp_path: Path) -> None:
    tree = Databases(tmp_path / HOSTILE, 3)
    tree.chunk([2], [(1, "P", [0.5])], spoil=second_module([(1, "P", [1.5])]))
    tree.chunk([1, 3], [(1, "P", []), (2, "P", [])], spoil=second_module(
        [(1, "P", []), (2, "P", [])]))  # fmt: skip
    outcome = completed(tree)
    assert outcome.faults == []
    assert (outcome.with_objects, outcome.with_none) == (1, 2)


# --- tables in folders, tables of several objects, relationships ----------------------------------


@pytest.fixture
def plain(tmp_path: Path) -> Tree:
    return Tree(tmp_path / HOSTILE, 4)


def images(*rows: tuple[int, int]) -> list[Row]:
    return [["ImageNumber", "Count_N"], *(list(r) for r in rows)]


def test_image_sets_by_folder(plain: Tree) -> None:
    for plate, numbers in (("P 1", [1, 3]), ("P 2", [2, 4])):
        plain.add(
            numbers,
            {
                f"{plate}/Image.csv": images((1, 1), (2, 0)),
                f"{plate}/N.csv": objects((1, 1, 5)),
            },
        )
    outcome = completed(plain, [(r"[^/]*/N\.csv", "N")])
    assert outcome.faults == []
    assert outcome.objects == {"N": 2}
    assert (outcome.with_objects, outcome.with_none) == (2, 2)
    path = plain.workspace.analysis / "P 2/Image.csv"
    path.write_bytes(path.read_bytes().replace(b"0,4\r\n", b"0,1\r\n"))
    assert words(audit(plain.workspace)) == [
        "P 2/Image.csv, row 2, ImageNumber 1: a row of an image set whose chunk wrote none there",
        "Image.csv, ImageNumber 1: 2 rows of it, in several folders",
        "Image.csv, ImageNumber 4: no row of this image set",
        "P 2/Image.csv, row 1, ImageNumber 2: 1 row of ImageNumber 2,4, chunk c2 wrote 2",
    ]


def test_a_column_that_only_some_chunks_have(plain: Tree) -> None:
    plain.add([1], {"Image.csv": [["B", "ImageNumber"], [1, 1]]})
    plain.add([2], {"Image.csv": [["A", "B", "ImageNumber"], [0.5, 2, 1]]})
    outcome = completed(plain)
    assert outcome.faults == []
    assert not outcome.counts_objects
    assert outcome.with_objects == 2


def test_counts_that_are_no_numbers(plain: Tree) -> None:
    rows: list[Row] = [["ImageNumber", "Count_N"], [1, "nan"], [2, ""], [3, 1.0]]
    plain.add([1, 2, 3], {"Image.csv": rows, "N.csv": objects((3, 1, 5))})
    outcome = completed(plain, [(r"N\.csv", "N")])
    assert outcome.faults == []
    assert (outcome.with_objects, outcome.with_none) == (1, 2)
    path = plain.workspace.analysis / "Image.csv"
    path.write_bytes(path.read_bytes().replace(b"\r\n,2\r\n", b"\r\nmany,2\r\n"))
    assert "Image.csv, row 2, ImageNumber 2: Count_N is 'many'" in words(audit(plain.workspace))


def test_a_table_of_several_objects(plain: Tree) -> None:
    head: list[Row] = [["Image", "Image", "N"], ["ImageNumber", "ObjectNumber", "Area"]]
    plain.add([1, 2], {"all.csv": [*head, [1, 1, 2], [1, 2, 3], [2, 1, 4]]})
    assert completed(plain).faults == []
    path = plain.workspace.analysis / "all.csv"
    path.write_bytes(path.read_bytes().replace(b"1,2,3\r\n", b""))
    assert words(audit(plain.workspace)) == [
        "all.csv: 2 rows, the merge wrote 3",
        "all.csv, row 1, ImageNumber 1: 2 rows of ImageNumber 1-2, chunk c1 wrote 3",
    ]


def test_relationships(plain: Tree) -> None:
    head: Row = [
        "Module", "Module Number", "Relationship",
        "First Object Name", "First Image Number", "First Object Number",
        "Second Object Name", "Second Image Number", "Second Object Number",
    ]  # fmt: skip
    rows: list[Row] = [["T", 3, "Parent", "N", n, 1, "N", n, 2] for n in (1, 1, 2)]
    plain.add([1, 2], {"R.csv": [head, *rows]})
    plain.add([3, 4], {"R.csv": [head, *rows]})
    assert completed(plain).faults == []
    path = plain.workspace.analysis / "R.csv"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"T,3,Parent,N,3,1,N,3,2\r\n", b"", 1))
    assert words(audit(plain.workspace)) == [
        "R.csv: 5 rows, the merge wrote 6",
        "R.csv, row 4, ImageNumber 3: 2 rows of ImageNumber 3-4, chunk c2 wrote 3",
    ]
    path.write_bytes(good.replace(b"N,4,1,N,4,2", b"N,4,1,N,4,9"))
    assert words(audit(plain.workspace)) == [
        "R.csv, row 6, ImageNumber 4: Second Object Number is '9', the chunk wrote '2'"
    ]


def test_quoted_cells_and_two_folders_of_one_object(plain: Tree) -> None:
    tall: list[Row] = [
        ["ImageNumber", "ObjectNumber", "T"], [1, 1, 'a "b"\r\n,c'], [1, 2, "\n"], [2, 1, "d"]
    ]  # fmt: skip
    plain.add([1, 2], {"Image.csv": images((1, 2), (2, 1)), "N.csv": tall, "other/N.csv": tall})
    tables = [(r"N\.csv", "N"), (r"other/N\.csv", "N")]
    outcome = completed(plain, tables)
    assert outcome.faults == []
    assert outcome.objects == {"N": 3}
    path = plain.workspace.analysis / "other/N.csv"
    path.write_bytes(path.read_bytes().replace(b"2,1,d", b"2,1,e"))
    assert words(audit(plain.workspace)) == [
        "other/N.csv, row 3, ImageNumber 2: T is 'e', the chunk wrote 'd'"
    ]


def test_exports_in_several_folders(plain: Tree) -> None:
    """Each is counted by itself: in two folders, by metadata, and where one wrote over another."""
    cells: list[Row] = [["ImageNumber", "ObjectNumber", "T"], [1, 1, 1]]
    for number, well in ((1, "A01"), (2, "A02")):
        table = images((1, 1)) if number == 1 else images((1, 0))
        plain.add([number], {f"{f}/Image.csv": table for f in ("a", "b", well)})
    plain.add([3], {"a/Image.csv": images((1, 1)), "b/Image.csv": images((1, 1)), "t.csv": cells})
    tables = [(r"a/Image\.csv", "Image"), (r"b/Image\.csv", "Image"), (r".*/Image\.csv", "Image")]
    outcome = completed(plain, [*tables, (r"t\.csv", "N"), (r"t\.csv", "Other")])
    assert [str(fault.what) for fault in outcome.faults] == ["no row of this image set"]
    assert outcome.objects == {"Other": 1}


def test_image_sets_of_a_batch_file(plain: Tree) -> None:
    plain.add([1, 2], {"Image.csv": images((1, 1), (2, 0))})
    run = read_json(plain.workspace.run) or {}
    run |= {"batch": "own", "image_list": str(plain.workspace.file_list), "image_sets": 2}
    write_json(plain.workspace.run, run)
    plain.planned[0] = Planned("c1", "dc1", [1, 2], [1, 2])
    write_plan(plain.workspace, plain.planned)
    for path in (plain.workspace.batch, plain.workspace.whole_batch):
        write_batch(path, PIPELINE, {"URL_DNA": ["/in/1.tif", "/in/2.tif"]})
    assert completed(plain).faults == []
    plain.workspace.batch.unlink()
    more = [f"file:/in/{n}.tif" for n in (1, 2, 3)]
    write_batch(plain.workspace.batch, PIPELINE, {"URL_DNA": more})
    assert words(audit(plain.workspace)) == ["image set 3 is in no chunk"]
    plain.workspace.batch.write_bytes(b"none")
    outcome = audit(plain.workspace)
    assert outcome.faults == []
    assert "not a whole CellProfiler batch file" in outcome.warnings[0]


# --- other formats --------------------------------------------------------------------------------


def with_formats(screen: Screen) -> Outcome:
    screen.merge("--format", "parquet", "--format", "sqlite")
    outcome = audit(screen.workspace)
    assert outcome.faults == []
    return outcome


def test_other_formats_add_up(merged: Screen) -> None:
    outcome = with_formats(merged)
    assert outcome.tables == 7
    assert outcome.strangers == []
    listed = merged.workspace.manifest.read_text()
    assert "Nuclei.parquet" in listed and "measure.sqlite" in listed


def without_a_row(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def deleted(statement: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
            connection.commit()

    return spoil


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


NOT_WRITTEN = "it is not what the merge wrote (SHA-256)"


@pytest.mark.parametrize(
    ("name", "spoil", "faults"),
    [
        ("Nuclei.parquet", Path.unlink, ["it is gone"]),
        ("measure.sqlite", Path.unlink, ["it is gone"]),
        (
            "Nuclei.parquet",
            without_a_row,
            [NOT_WRITTEN, "21 rows, Nuclei.csv has 22", "0 rows of this image set, Nuclei.csv"],
        ),
        (
            "measure.sqlite",
            deleted("DELETE FROM Nuclei WHERE ImageNumber = 8"),
            [NOT_WRITTEN, "21 rows, Nuclei.csv has 22", "0 rows of this image set, Nuclei.csv"],
        ),
        ("measure.sqlite", deleted("UPDATE Nuclei SET AreaShape_Area = 1"), [NOT_WRITTEN]),
        ("Image.parquet", truncated, [NOT_WRITTEN, "it can't be read: not a whole Parquet file"]),
        ("measure.sqlite", truncated, [NOT_WRITTEN]),
    ],
)  # fmt: skip
def test_other_formats_that_were_damaged(
    merged: Screen,
    name: str,
    spoil: Callable[[Path], None],
    faults: list[str],
) -> None:
    with_formats(merged)
    spoil(result(merged, name))
    outcome = audit(merged.workspace)
    assert outcome.exit_code == Exit.SOME_FAILED
    assert {fault.file for fault in outcome.faults} == {name}
    for wanted in faults:
        assert any(fault.what.startswith(wanted) for fault in outcome.faults), words(outcome)
    kind = name.partition(".")[2]
    assert outcome.faults[0].todo.endswith(f"--format {kind}")
    # what it says mends it
    merged.merge("--format", kind)
    assert audit(merged.workspace).faults == []


def test_other_formats_are_not_to_blame_for_their_table(merged: Screen) -> None:
    with_formats(merged)
    path = result(merged, "Nuclei.csv")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert {fault.file for fault in audit(merged.workspace).faults} == {"Nuclei.csv"}
    merged.merge()
    assert audit(merged.workspace).faults == []


def test_formats_that_were_written_before_their_checksums_were(
    merged: Screen,
) -> None:
    with_formats(merged)
    known = read_json(merged.workspace.merged) or {}
    del known["other_contents"]
    write_json(merged.workspace.merged, known)
    assert audit(merged.workspace).faults == []


# --- reading --------------------------------------------------------------------------------------


def test_blocks_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[list[object]] = [["ImageNumber", "ObjectNumber", "T"]]
    for n in range(1, 40):
        rows += [[n, k, ('x\n"y"' if k % 3 else "z") * k] for k in range(1, 5)]
    path = write_csv(tmp_path / "N.csv", rows)
    for block in (1, 2, 3, 7, 64, 1 << 20):
        monkeypatch.setattr(count, "_BLOCK", block)
        told: list[int] = []
        found = count.text(path, Kind.OBJECT, told.append)
        assert (found.rows, found.breaks, found.gaps) == (156, [], [])
        assert found.by_image == dict.fromkeys(range(1, 40), 4)
        assert found.sha256 == sha256(path)
        assert sum(told) == path.stat().st_size


def test_a_quote_that_is_never_closed_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count, "_BLOCK", 100)
    monkeypatch.setattr(count, "_LONGEST", 1000)
    rows = [["ImageNumber", "ObjectNumber", "A"], *([1, k, k] for k in range(1, 900))]
    path = write_csv(tmp_path / "N.csv", rows)
    path.write_bytes(path.read_bytes().replace(b"1,3,3", b'1,3,"3'))
    found = count.text(path, Kind.OBJECT, lambda _: None)
    assert found.sha256 == sha256(path)
    assert found.breaks[-1].what == "it ends in the middle of this row"


def test_only_the_first_breaks_are_kept(tmp_path: Path) -> None:
    rows = [["ImageNumber", "ObjectNumber", "A"], *([1, 1] for _ in range(1000))]
    path = write_csv(tmp_path / "N.csv", rows)
    found = count.text(path, Kind.OBJECT, lambda _: None)
    assert (found.rows, len(found.breaks)) == (1000, 100)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "N.csv"
    path.write_bytes(b'ImageNumber,ObjectNumber,T\r\n1,1,\xff\r\n1,2,"\xfe,"\r\n')
    found = count.text(path, Kind.OBJECT, lambda _: None)
    assert (found.rows, found.breaks) == (2, [])
