# ruff: noqa: S608 -- statements of names that are written here
from __future__ import annotations

import errno
import gzip
import resource
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HOSTILE, refused
from test_database import KINDS, ImageSet, Kinds, execute, make, write_properties
from test_merge import Tree, objects

from bpcp import merge, tables
from bpcp.database import empty as database_batch
from bpcp.database import file as database
from bpcp.database import merge as database_merge
from bpcp.database import once as database_once
from bpcp.database.names import shortened
from bpcp.errors import Exit
from bpcp.restore import DamagedTableError, Restorer, Source
from bpcp.tables import Shape, Summary
from bpcp.workspace import read_json, write_json

NAME, PROPERTIES = "db/Default.db", "db/Default.properties"


class Databases(Tree):
    """A status tree whose chunks hold databases."""

    def chunk(
        self,
        numbers: Sequence[int],
        images: Sequence[ImageSet],
        *,
        kinds: Kinds = KINDS,
        plates: Sequence[str] | None = None,
        channels: str = "1,1",
        output: str = "",
        spoil: Callable[[Path], object] | None = None,
    ) -> Path:
        """Add a chunk; its image sets are numbered from 1. Gives its waiting database."""
        name = self.add(numbers, {"Nuclei.csv": objects((1, 1, 0.5))})
        paths = self.workspace.chunk(name)
        home = paths.tables(1)
        output = output or f"/out/{name}"
        path = make(home / NAME, images, output, kinds=kinds, plates=plates)
        if spoil:
            spoil(path)
        write_properties(
            home / PROPERTIES, f"{output}/db", plates or [i[1] for i in images], channels=channels
        )
        done = read_json(paths.done) or {}
        part = done["parts"][0]
        part["output"] = output
        for file in (NAME, PROPERTIES):
            shape = database.recognise(home / file)
            assert shape is not None
            found = database.judge(home / file, shape, {i[0] for i in images})
            assert found.faults == []
            part["tables"][file] = found.summary.to_json()
        write_json(paths.done, done)
        return path

    def filter_plates(self) -> None:
        """Let the pipeline ask for a filter for each plate."""
        self.workspace.pipeline.write_text(
            "Version:5\n\nExportToDatabase:[module_num:1]\n"
            "    Automatically create a filter for each plate?:Yes\n",
            encoding="utf-8",
        )

    @property
    def made(self) -> Path:
        return self.workspace.analysis / NAME

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.made)) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def tree(tmp_path: Path) -> Databases:
    return Databases(tmp_path / HOSTILE, 5)


def two_across(tree: Databases) -> list[Path]:
    """Two chunks whose image sets lie across each other."""
    return [
        tree.chunk([1, 4], [(1, "P 1", [0.5, 1.5]), (2, "P-2", [2.5])]),
        tree.chunk([2, 3, 5], [(1, "P 1", [3.5]), (2, "P 1", []), (3, "P-2", [4.5, 5.5, 6.5])],
                   channels="1,3"),
    ]  # fmt: skip


def test_rows_stand_as_one_process_wrote_them(tree: Databases) -> None:
    two_across(tree)
    merged = tree.merge()
    assert tree.query("SELECT * FROM MyExpt_Per_Object ORDER BY rowid") == [
        (1, 1, 1, 0.5), (1, 2, 2, 1.5), (2, 1, 1, 3.5), (4, 1, 1, 2.5),
        (5, 1, 1, 4.5), (5, 2, 2, 5.5), (5, 3, 3, 6.5),
    ]  # fmt: skip
    assert tree.query(
        "SELECT ImageNumber, Image_Group_Index, Image_Group_Length, Image_Group_Number,"
        " Image_Metadata_Plate FROM MyExpt_Per_Image ORDER BY rowid"
    ) == [
        (n, n, 5, 1, plate) for n, plate in enumerate(("P 1", "P 1", "P 1", "P-2", "P-2"), 1)
    ]  # fmt: skip
    assert tree.query("SELECT * FROM MyExpt_Per_Relationships ORDER BY rowid")[:6] == [
        (1, 1, 1, 1, 1), (2, 1, 1, 1, 1), (1, 1, 2, 1, 2), (2, 1, 2, 1, 2),
        (1, 2, 1, 2, 1), (2, 2, 1, 2, 1),
    ]  # fmt: skip
    assert tree.query("SELECT COUNT(*) FROM MyExpt_Per_RelationshipsView") == [(14,)]
    assert merged.tables[NAME]["rows"] == 5
    assert merged.tables[NAME]["kind"] == "database"
    assert tree.leftovers() == []
    assert list(tree.workspace.attempts.iterdir()) == []


def test_the_same_chunks_make_the_same_bytes_and_again_nothing(tree: Databases) -> None:
    two_across(tree)
    tree.merge()
    before = tree.made.read_bytes()
    assert not tree.merge().fresh
    tree.made.unlink()
    assert tree.merge().fresh
    assert tree.made.read_bytes() == before


def test_groups_are_those_of_the_whole_list(tree: Databases) -> None:
    write_json(tree.workspace.run, {"group_sizes": [2, 3], "columns": {}, "root": "/"})
    two_across(tree)
    tree.merge()
    assert tree.query(
        "SELECT Image_Group_Number, Image_Group_Index, Image_Group_Length FROM MyExpt_Per_Image"
    ) == [(1, 1, 2), (1, 2, 2), (2, 1, 3), (2, 2, 3), (2, 3, 3)]


def test_groups_are_those_that_the_list_numbers(tree: Databases) -> None:
    listed = [[7, 1], [7, 2], [8, None], [1, 1], [8, None]]
    run = {"group_sizes": [2, 3], "group_numbers": listed, "columns": {}, "root": "/"}
    write_json(tree.workspace.run, run)
    two_across(tree)
    tree.merge()
    assert tree.query(
        "SELECT Image_Group_Number, Image_Group_Index, Image_Group_Length FROM MyExpt_Per_Image"
    ) == [(7, 1, 2), (7, 2, 2), (8, None, 3), (1, 1, 3), (8, None, 3)]


def test_rows_stand_as_image_sets_are_processed(tree: Databases) -> None:
    before = {"group_sizes": [5], "columns": {}, "root": "/"}
    write_json(tree.workspace.run, before)
    two_across(tree)
    tree.merge()
    rows = tree.query("SELECT ImageNumber FROM MyExpt_Per_Object ORDER BY rowid")
    tree.made.unlink()
    write_json(tree.workspace.run, {**before, "processed": [5, 2, 3, 1, 4]})
    tree.merge()
    place = [5, 2, 3, 1, 4].index
    wanted = sorted(rows, key=lambda row: place(row[0]))
    assert wanted != rows
    assert tree.query("SELECT ImageNumber FROM MyExpt_Per_Object ORDER BY rowid") == wanted


def test_rows_are_read_without_sorting_them(tree: Databases) -> None:
    """SQLite would sort a plate's rows in a temporary file."""
    path, _ = two_across(tree)
    with closing(database.open_read_only(path)) as connection:
        (layout,) = database.layouts(database.all_tables(connection))
        assert layout.relationships
        for table, key in (
            (layout.objects[0], "ImageNumber"),
            (layout.relationships, "image_number1"),
        ):
            query = f"EXPLAIN QUERY PLAN {database_merge.scan(table, key)}"
            steps = [row[3] for row in connection.execute(query, (1, 2, 1, 2))]
            assert len(steps) == 1 and "INTEGER PRIMARY KEY" in steps[0]


def test_two_modules_in_one_file(tree: Databases) -> None:
    tree.chunk([2], [(1, "P", [0.5])], spoil=second_module([(1, "P", [1.5, 2.5])]))
    tree.chunk([1, 3], [(1, "P", []), (2, "P", [])], spoil=second_module(
        [(1, "P", []), (2, "P", [3.5])]))  # fmt: skip
    merged = tree.merge()
    assert merged.tables[NAME]["rows"] == 6
    assert tree.query("SELECT * FROM Per_Nuclei") == [(2, 1, 1.5), (2, 2, 2.5), (3, 1, 3.5)]
    assert tree.query("SELECT * FROM MyExpt_Per_Object") == [(2, 1, 1, 0.5)]
    assert tree.query("SELECT * FROM Experiment") == [(1, "It"), (2, "It")]
    places = tree.query(
        "SELECT experiment_id, COUNT(*) FROM Experiment_Properties"
        " WHERE field = 'db_sqlite_file' GROUP BY 1"
    )
    assert places == [(1, 1), (2, 1)]


def second_module(images: Sequence[ImageSet]) -> Callable[[Path], object]:
    return lambda path: make(path, images, prefix="", combined=False)


def test_schema_is_as_it_was_made(tree: Databases) -> None:
    first, _ = two_across(tree)
    tree.merge()
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid"
    with closing(sqlite3.connect(first)) as connection:
        assert tree.query(query) == connection.execute(query).fetchall()
    assert tree.query("PRAGMA integrity_check") == [("ok",)]
    assert tree.query("SELECT * FROM sqlite_sequence") == [("Experiment", 1)]


def test_paths_lead_to_the_result(tree: Databases) -> None:
    two_across(tree)
    tree.merge()
    home = tree.workspace.analysis
    saved = tree.query("SELECT Image_PathName_Saved, Image_URL_Saved FROM MyExpt_Per_Image")
    assert saved[0][0] == f"{home}/saved"
    assert saved[3][1].startswith("file:/") and "/out/" not in saved[3][1]
    assert saved[3][1].endswith("/saved/2.png")
    assert set(tree.query("SELECT Image_PathName_DNA FROM MyExpt_Per_Image")) == {("/in",)}
    ((stored,),) = tree.query(
        "SELECT value FROM Experiment_Properties WHERE field = 'db_sqlite_file'"
    )
    assert stored == str(tree.made).replace('"', '\\"')
    text = (home / PROPERTIES).read_text()
    assert f"\ndb_sqlite_file  = {tree.made}\n" in text


def test_a_name_that_an_address_would_read_otherwise(tmp_path: Path) -> None:
    tree = Databases(tmp_path / "a?mode=x#b%20c", 1)
    tree.chunk([1], [(1, "P", [0.5])])
    tree.merge()
    assert tree.query("SELECT COUNT(*) FROM MyExpt_Per_Object") == [(1,)]


def test_a_mirror_leaves_no_trace(tree: Databases) -> None:
    tree.chunk(
        [1],
        [(1, "P 1", [])],
        spoil=execute("UPDATE MyExpt_Per_Image SET Image_PathName_DNA = '/m/input/data/a',"
                      " Image_FileName_DNA = '/m/input/data/a/1.tif'"),
    )  # fmt: skip
    paths = tree.workspace.chunk("c1")
    done = read_json(paths.done) or {}
    done["parts"][0]["mirror"] = "/m/input"
    write_json(paths.done, done)
    tree.merge()
    assert tree.query("SELECT Image_PathName_DNA, Image_FileName_DNA FROM MyExpt_Per_Image") == [
        ("/data/a", "/data/a/1.tif")
    ]


def test_what_is_written_once(tree: Databases) -> None:
    two_across(tree)
    tree.merge()
    assert tree.query("SELECT * FROM Experiment") == [(1, "It")]
    ((text, first, last, mean),) = tree.query("SELECT * FROM MyExpt_Per_Experiment")
    assert (text, first, last) == (b"\x00\xff", "2026-01-01", "2026-02-01")
    # of 1/8 2/8 (own numbers of the first chunk) and 1/8 2/8 3/8
    assert mean == float(np.mean([0.125, 0.125, 0.25, 0.25, 0.375]))


def test_filters_of_all_plates(tree: Databases) -> None:
    """Each chunk knows its own plates, and those of a row that only keeps its columns' types."""
    tree.filter_plates()
    tree.chunk([2, 3], [(1, "P-2", []), (2, "P 3", [])], plates=["P-2", "P 3", "never run"])
    tree.chunk([1, 4, 5], [(1, "P 1", []), (2, "P-2", []), (3, "P 1", [])])
    tree.merge()
    fields = tree.query(
        "SELECT field, value FROM Experiment_Properties WHERE object_name = 'Object' ORDER BY rowid"
    )
    assert [f for f, _ in fields] == [
        "db_type", "db_sqlite_file",
        "filter_SQL_Plate_P_1", "filter_SQL_Plate_P_2", "filter_SQL_Plate_P_3",
        "check_tables",
    ]  # fmt: skip
    assert fields[3][1] == (
        'SELECT ImageNumber FROM MyExpt_Per_Image WHERE Image_Metadata_Plate = \\"P-2\\"'
    )
    lines = (tree.workspace.analysis / PROPERTIES).read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("filter_SQL_"))
    assert lines[at : at + 3] == [
        f"filter_SQL_Plate_{field} = SELECT ImageNumber FROM MyExpt_Per_Image"
        f' WHERE Image_Metadata_Plate = "{plate}"'
        for field, plate in (("P_1", "P 1"), ("P_2", "P-2"), ("P_3", "P 3"))
    ]
    assert any(line.startswith("filter_SQL_big = ") for line in lines)


def test_properties_are_those_of_the_last_image_set(tree: Databases) -> None:
    two_across(tree)
    tree.merge()
    assert "channels_per_image  = 1,3\n" in (tree.workspace.analysis / PROPERTIES).read_text()


def test_filters_of_a_column_whose_name_was_shortened_stay(tree: Databases) -> None:
    rename = "ALTER TABLE MyExpt_Per_Image RENAME COLUMN Image_Metadata_Plate TO Img_Plt"
    tree.filter_plates()
    tree.chunk([1, 2], [(1, "P 1", []), (2, "P-2", [])], spoil=execute(rename))
    tree.merge()
    rows = tree.query("SELECT field FROM Experiment_Properties WHERE field LIKE 'filter%'")
    assert rows == [("filter_SQL_Plate_P_1",), ("filter_SQL_Plate_P_2",)]
    text = (tree.workspace.analysis / PROPERTIES).read_text()
    assert "filter_SQL_Plate_P_1 = " in text and "filter_SQL_Plate_P_2 = " in text


@pytest.mark.parametrize("automatic", [False, True])
def test_filters_of_the_users_own_stay(tree: Databases, automatic: bool) -> None:
    """Also those that look like CellProfiler's: only their name, or the setting, tells."""
    rename = (
        "UPDATE Experiment_Properties SET field = 'filter_SQL_Plate_mine'"
        " WHERE field = 'filter_SQL_Plate_P_1'"
    )
    if automatic:
        tree.filter_plates()
    tree.chunk([1], [(1, "P 1", [])], spoil=execute(rename) if automatic else None)
    tree.chunk([2], [(1, "P-2", [])])
    tree.merge()
    rows = tree.query("SELECT field FROM Experiment_Properties WHERE field LIKE 'filter%'")
    assert rows == [("filter_SQL_Plate_mine" if automatic else "filter_SQL_Plate_P_1",)]


def test_kinds_of_relationship_are_united(tree: Databases) -> None:
    other = (16, "Child", "Nuclei", "Cells")
    tree.chunk([1], [(1, "P", [0.5])], kinds=KINDS)
    tree.chunk([2], [(1, "P", [1.5])], kinds=[other, KINDS[1]])
    tree.merge()
    assert tree.query("SELECT * FROM MyExpt_Per_RelationshipTypes") == [
        (1, *KINDS[0]), (2, *KINDS[1]), (3, *other),
    ]  # fmt: skip
    assert tree.query("SELECT * FROM MyExpt_Per_Relationships ORDER BY rowid") == [
        (1, 1, 1, 1, 1), (2, 1, 1, 1, 1), (3, 2, 1, 2, 1), (2, 2, 1, 2, 1),
    ]  # fmt: skip


def pack(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    path.unlink()
    return packed


def test_packed_databases_merge_to_the_same_bytes(tree: Databases) -> None:
    waiting = two_across(tree)
    tree.merge()
    before = tree.made.read_bytes()
    for path in waiting:
        pack(path)
        pack(path.with_suffix(".properties"))
    tree.made.unlink()
    tree.merge()
    assert tree.made.read_bytes() == before
    assert list(tree.workspace.attempts.iterdir()) == []


def test_only_one_packed_database_is_unpacked_at_a_time(
    tree: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in (1, 2, 3, 4):
        pack(tree.chunk([n], [(1, "P", [0.5])]))
    most = 0
    real = database.unpacked

    @contextmanager
    def counted(path: Path, scratch: Path) -> Iterator[Path]:
        nonlocal most
        with real(path, scratch) as found:
            most = max(most, len(list(scratch.iterdir())))
            yield found

    monkeypatch.setattr(database, "unpacked", counted)
    tree.merge()
    assert most == 1


def cut_gzip(path: Path) -> None:
    packed = pack(path)
    packed.write_bytes(packed.read_bytes()[:-20])


def overwrite(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"not a database" * 100),
        cut_gzip,
        overwrite,
        execute("DELETE FROM MyExpt_Per_Object WHERE ImageNumber = 1"),
        execute("DELETE FROM MyExpt_Per_Relationships WHERE image_number1 = 1"),
        execute(
            "UPDATE MyExpt_Per_Relationships SET relationship_type_id = 9"
            " WHERE relationship_type_id = 1"
        ),
        execute("UPDATE MyExpt_Per_Object SET ImageNumber = NULL"),
    ],
)
def test_a_damaged_database_lets_its_chunk_run_again(
    tree: Databases, spoil: Callable[[Path], object]
) -> None:
    _, second = two_across(tree)
    spoil(second)
    error = refused(Exit.STOPPED, f"{NAME} of chunk c2 is damaged", tree.merge)
    assert "run the same" in error.todo
    assert not tree.workspace.chunk("c2").done.exists()
    assert tree.workspace.chunk("c1").done.exists()
    assert not tree.made.exists()
    assert tree.leftovers() == []


def test_a_damaged_properties_file_too(tree: Databases) -> None:
    two_across(tree)
    tree.workspace.chunk("c2").tables(1).joinpath(PROPERTIES).unlink()
    refused(Exit.STOPPED, f"{PROPERTIES} of chunk c2 is damaged", tree.merge)


def test_other_columns_are_refused(tree: Databases) -> None:
    tree.chunk([1], [(1, "P", [])])
    tree.chunk(
        [2],
        [(1, "P", [])],
        spoil=execute("ALTER TABLE MyExpt_Per_Image ADD COLUMN Image_Metadata_Site integer"),
    )
    refused(
        Exit.BUG,
        "chunks c1 and c2 made MyExpt_Per_Image with other columns or types",
        tree.merge,
    )


def test_a_table_more_is_refused(tree: Databases) -> None:
    tree.chunk([1], [(1, "P", [])], spoil=execute("CREATE TABLE other (a)"))
    tree.chunk([2], [(1, "P", [])])
    refused(Exit.BUG, "chunks c1 and c2 made other with other columns", tree.merge)


def test_shortened_names_of_groups_are_refused(tree: Databases) -> None:
    rename = "ALTER TABLE MyExpt_Per_Image RENAME COLUMN Image_Group_Number TO Imag_Grp_Nmbr"
    tree.chunk([1], [(1, "P", [])], spoil=execute(rename))
    error = refused(Exit.MALFORMED_INPUT, "has no column Image_Group_Number", tree.merge)
    assert "64" in error.todo


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        ("UPDATE MyExpt_Per_Experiment SET Pipeline_Pipeline = x'01'", "Pipeline_Pipeline is"),
        (
            "ALTER TABLE MyExpt_Per_Image RENAME COLUMN Image_ImageQuality_ThresholdOtsu_DNA TO x",
            "needs the column Image_ImageQuality_ThresholdOtsu_DNA",
        ),
    ],
)
def test_what_is_measured_over_all_image_sets(tree: Databases, spoil: str, what: str) -> None:
    both = "ALTER" in spoil
    tree.chunk([1], [(1, "P", [])], spoil=execute(spoil) if both else None)
    tree.chunk([2], [(1, "P", [])], spoil=execute(spoil))
    refused(Exit.SOME_FAILED, what, tree.merge)


def test_a_chunk_that_failed_altogether_has_none(tree: Databases) -> None:
    tree.chunk([1, 2, 3], [(1, "P", []), (2, "P", [0.5]), (3, "P", [])])
    tree.add([4, 5], {}, failed=2)
    tree.merge()
    assert tree.query("SELECT COUNT(*) FROM MyExpt_Per_Image") == [(3,)]
    assert tree.query("SELECT Image_Group_Length FROM MyExpt_Per_Image")[0] == (5,)


def test_no_room_is_said(tree: Databases) -> None:
    two_across(tree)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        error = refused(Exit.CANNOT_CREATE, f"can't write {tree.made}", tree.merge)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "make room" in error.todo
    assert tree.workspace.chunk("c1").done.exists()
    assert tree.leftovers() == []


def source_of(folder: Path) -> Source:
    summary = Summary(Shape(tables.Kind.DATABASE, "", 0, ()), 1, (), counts={})
    return Source(folder, "/out", 1, (1,), {NAME: summary})


@pytest.mark.parametrize(
    ("trouble", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OSError),
        (OSError(errno.EIO, "Input/output error"), DamagedTableError),
    ],
)
def test_no_room_to_unpack_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: OSError, raised: type[Exception]
) -> None:
    def fail(*_: object) -> Path:
        raise trouble

    monkeypatch.setattr(database, "unpacked", fail)
    source = source_of(tmp_path / "chunks" / "c1" / "tables" / "1")
    job = database_once.Job(NAME, [source], [], Restorer("/a", (1, 2), frozenset()), tmp_path)
    with pytest.raises(raised):
        database_once.read_once(job)


def test_formats_leave_databases_alone(tree: Databases) -> None:
    two_across(tree)
    write_json(tree.workspace.run, {"group_sizes": [5], "columns": {}, "root": "/"})
    made = merge.write_formats(tree.workspace, tree.merge(), ["parquet", "sqlite"])
    assert sorted(p.name for p in made) == ["Nuclei.parquet", "measure.sqlite"]
    with closing(sqlite3.connect(tree.workspace.analysis / "measure.sqlite")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("Nuclei",)]


def test_one_name_for_both_is_refused(tree: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_database_merge.NAME", "measure.sqlite")
    two_across(tree)
    merged = tree.merge()
    before = tree.made.read_bytes()
    refused(
        Exit.BAD_SETTING,
        "measure.sqlite is the pipeline's own database",
        merge.write_formats, tree.workspace, merged, ["sqlite"],
    )  # fmt: skip
    assert tree.made.read_bytes() == before


def test_what_it_says(tree: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    two_across(tree)
    pipeline = tree.workspace.base / "pipelines" / "measure.cppipe"
    assert merge.main(["-d", "plate 1", "-p", str(pipeline)]) == Exit.OK
    assert capsys.readouterr().err == ("merged: 1 tables, 2 objects, a database of 5 image sets\n")


def test_databases_of_a_batch_file_are_put_where_a_process_fills_them(tmp_path: Path) -> None:
    made_in, home, output = tmp_path / HOSTILE, tmp_path / "kept", tmp_path / "output"
    make(made_in / "sub" / "a.db", [(1, "P", [0.5])])
    (made_in / "empty.db").touch()
    execute("CREATE TABLE a (b)")(made_in / "other.db")
    make(home / "old.db", [])
    output.mkdir()
    names = ["sub/a.db", "gone.db", "empty.db", "other.db", "sub/a.db"]
    missing = database_batch.keep_empty(
        made_in, home, names, lambda text: text.replace("\xff", "\xe9")
    )
    assert missing == ["gone.db", "empty.db", "other.db"]
    database_batch.seed(home, output)
    database_batch.seed(tmp_path / "nothing kept", output)
    assert [p.relative_to(output) for p in output.rglob("*.*")] == [Path("sub/a.db")]
    with closing(sqlite3.connect(output / "sub" / "a.db")) as connection:
        for table, rows in (
            ("Image", 0), ("Object", 0), ("Relationships", 0), ("RelationshipTypes", 2),
        ):  # fmt: skip
            query = f"SELECT COUNT(*) FROM MyExpt_Per_{table}"
            assert connection.execute(query).fetchone() == (rows,)
        text = connection.execute("SELECT Pipeline_Pipeline FROM MyExpt_Per_Experiment").fetchone()
        assert text == (b"\x00\xe9",)


def test_columns_of_an_experiment_may_stand_in_any_order(tree: Databases) -> None:
    def turn(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            name = "MyExpt_Per_Experiment"
            columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
            values = connection.execute(f"SELECT * FROM {name}").fetchone()
            connection.execute(f"DROP TABLE {name}")
            lines = ",\n".join(f"{c[1]} {c[2]}" for c in reversed(columns))
            connection.execute(f"CREATE TABLE {name} (\n{lines})")
            connection.execute(f"INSERT INTO {name} VALUES (?, ?, ?, ?)", values[::-1])
            connection.commit()

    tree.chunk([1], [(1, "P", [])])
    tree.chunk([2], [(1, "P", [])], spoil=turn)
    tree.merge()
    ((text, first, last),) = tree.query(
        "SELECT Pipeline_Pipeline, Run_Timestamp, Modification_Timestamp FROM MyExpt_Per_Experiment"
    )
    assert (text, first, last) == (b"\x00\xff", "2026-01-01", "2026-02-01")


# --- names that were shortened --------------------------------------------------------------------


def shorten(path: Path) -> None:
    """Shorten all names to 27 characters, as CellProfiler does."""
    with closing(sqlite3.connect(path)) as connection:
        names = [r[1] for r in connection.execute("PRAGMA table_info(MyExpt_Per_Image)")]
        for name, short in shortened(names, 27).items():
            if name != short:
                connection.execute(f"ALTER TABLE MyExpt_Per_Image RENAME {name} TO {short}")
        # each process measures this over its own image sets
        (column,) = [n for n in shortened(names, 27).values() if "Thrshld" in n]
        connection.execute(
            "UPDATE MyExpt_Per_Experiment SET ImageQuality_ThresholdMeanOtsu_DNA ="
            f" (SELECT AVG({column}) FROM MyExpt_Per_Image)"
        )
        connection.commit()


def test_what_is_measured_over_all_is_found_by_a_shortened_name(tree: Databases) -> None:
    tree.chunk([1, 4], [(1, "P 1", [0.5, 1.5]), (2, "P-2", [2.5])], spoil=shorten)
    tree.chunk([2, 3], [(1, "P 1", [3.5]), (2, "P 1", [])], spoil=shorten)
    tree.merge()
    # ImageNumber / 8 in each chunk, by its own numbers
    assert tree.query("SELECT ImageQuality_ThresholdMeanOtsu_DNA FROM MyExpt_Per_Experiment") == [
        ((1 + 2 + 1 + 2) / 8 / 4,)
    ]


def test_a_shortened_name_that_may_be_another_columns_is_refused(tree: Databases) -> None:
    def other(path: Path) -> None:
        shorten(path)
        execute("UPDATE MyExpt_Per_Experiment SET ImageQuality_ThresholdMeanOtsu_DNA = 7")(path)

    tree.chunk([1, 2], [(1, "P 1", [0.5, 1.5]), (2, "P-2", [2.5])], spoil=other)
    refused(Exit.SOME_FAILED, "ThresholdMeanOtsu_DNA needs the column", tree.merge)


def test_filters_of_plates_are_made_again_by_a_shortened_name(tree: Databases) -> None:
    def short(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            for n in [r[1] for r in connection.execute("PRAGMA table_info(MyExpt_Per_Image)")]:
                if len(n) > 18:
                    connection.execute(
                        f"ALTER TABLE MyExpt_Per_Image RENAME {n} TO {shortened([n], 18)[n]}"
                    )
            connection.execute("UPDATE MyExpt_Per_Experiment SET"
                               " ImageQuality_ThresholdMeanOtsu_DNA = 0.1875")  # fmt: skip
            connection.commit()

    tree.filter_plates()
    tree.chunk([1, 4], [(1, "P 1", [0.5]), (2, "P-2", [2.5])], spoil=short)
    tree.chunk([2, 3], [(1, "P 1", [3.5]), (2, "P 3", [])], spoil=short)
    tree.merge()
    made = (tree.workspace.analysis / PROPERTIES).read_text()
    names = [line.split(" ")[0] for line in made.split("\n") if "filter_SQL_Plate" in line]
    assert names == [f"filter_SQL_Plate_{plate}" for plate in ("P_1", "P_3", "P_2")]
