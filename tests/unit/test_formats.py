from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import HOSTILE, Screen, refused, write_csv

from bpcp import formats, tables
from bpcp.errors import Exit
from bpcp.workspace import Json, Workspace, locate, read_json, write_json

HEADER = [
    "ImageNumber",
    "ObjectNumber",
    "Metadata_Plate",
    "Metadata_Dose",
    "Area",
    "Count",
    "Empty",
]
ROWS = [
    ["1", "1", "007", "1", "0.1", "3", ""],
    ["1", "2", "007", "1", "nan", "nan", ""],
    ["2", "1", 'a "b"\nü', "0.5", "1e-300", "", ""],
    ["2", "2", "", "2", "", "12345678901", ""],
    ["3", "1", "P", "2", "-inf", "-5", ""],
]
COLUMNS = {"Metadata_Plate": "TEXT", "Metadata_Dose": "FLOAT"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = locate("d", tmp_path / HOSTILE / "pipelines" / "my run.cppipe")
    write_json(found.run, {"columns": COLUMNS})
    return found


def merged(
    workspace: Workspace, path: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> dict[str, Json]:
    file = write_csv(workspace.analysis / path, [header, *rows])
    shape = tables.recognise(file)
    assert shape is not None
    spellings = tables.summarise(file, shape).spellings
    names = [name.replace("\t", "_") for name in shape.header]
    columns = {n: s.value for n, s in zip(names, spellings, strict=True)}
    return {path: {"rows": len(rows), "columns": columns, "kind": shape.kind.value}}


def test_parquet_round_trip(workspace: Workspace) -> None:
    found = merged(workspace, "s/Nuclei.csv", HEADER, ROWS)
    (path,) = formats.write(workspace, found, ["parquet"])
    assert path == workspace.analysis / "s" / "Nuclei.parquet"
    table = pq.read_table(path)
    assert table.column_names == HEADER
    columns = table.to_pydict()
    assert columns["ImageNumber"] == [1, 1, 2, 2, 3]
    assert columns["Metadata_Plate"] == ["007", "007", 'a "b"\nü', "", "P"]
    assert columns["Metadata_Dose"] == [1.0, 1.0, 0.5, 2.0, 2.0]
    area = columns["Area"]
    assert math.isnan(area[1])
    assert area[:1] + area[2:] == [0.1, 1e-300, None, -math.inf]
    assert columns["Count"] == [3, None, None, 12345678901, -5]
    assert table.schema.field("Count").type == pa.int64()
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_text_that_looks_like_numbers_stays_text(workspace: Workspace) -> None:
    rows = [["1", "1", "007", "1", "1", "1", ""]]
    found = merged(workspace, "N.csv", HEADER, rows)
    assert found["N.csv"]["columns"]["Metadata_Plate"] == "integer"
    (parquet, sqlite) = formats.write(workspace, found, ["sqlite", "parquet"])
    assert pq.read_table(parquet).to_pydict()["Metadata_Plate"] == ["007"]
    with sqlite3.connect(sqlite) as database:
        assert database.execute("SELECT Metadata_Plate FROM N").fetchall() == [("007",)]


def test_sqlite_round_trip(workspace: Workspace) -> None:
    found = {
        **merged(workspace, "s/Nuclei.csv", HEADER, ROWS),
        **merged(workspace, "Experiment.csv", ["Key", "Value"], [["V", "4.2"], ["T", "x"]]),
    }
    (path,) = formats.write(workspace, found, ["sqlite"])
    assert path == workspace.analysis / "my run.sqlite"
    with sqlite3.connect(path) as database:
        rows = database.execute('SELECT * FROM "s/Nuclei"').fetchall()
        kinds = database.execute('SELECT DISTINCT typeof("Area") FROM "s/Nuclei"').fetchall()
        values = database.execute("SELECT * FROM Experiment").fetchall()
    assert rows == [
        (1, 1, "007", 1.0, 0.1, 3, ""),
        (1, 2, "007", 1.0, None, None, ""),
        (2, 1, 'a "b"\nü', 0.5, 1e-300, None, ""),
        (2, 2, "", 2.0, None, 12345678901, ""),
        (3, 1, "P", 2.0, -math.inf, -5, ""),
    ]
    assert {k for (k,) in kinds} == {"real", "null"}
    assert values == [("V", "4.2"), ("T", "x")]
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_names_of_tables_and_columns_are_quoted(workspace: Workspace) -> None:
    name = 'a"; DROP TABLE x; --.csv'
    header = ["ImageNumber", "ObjectNumber", 'q"uo;te']
    (path,) = formats.write(
        workspace, merged(workspace, name, header, [["1", "1", "2"]]), ["sqlite"]
    )
    with sqlite3.connect(path) as database:
        assert database.execute('SELECT "q""uo;te" FROM "a""; DROP TABLE x; --"').fetchall() == [
            (2,)
        ]


def test_more_rows_than_a_batch(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_BATCH_ROWS", 2)
    (path,) = formats.write(workspace, merged(workspace, "N.csv", HEADER, ROWS), ["parquet"])
    assert pq.read_table(path).num_rows == 5


def test_two_lines_of_header_become_one(workspace: Workspace) -> None:
    header, names = ["Image", "Image", "N"], ["ImageNumber", "ObjectNumber", "Area"]
    found = merged(workspace, "all.csv", header, [names, ["1", "1", "0.5"]])
    (path,) = formats.write(workspace, found, ["parquet"])
    assert pq.read_table(path).to_pydict() == {
        "Image_ImageNumber": [1], "Image_ObjectNumber": [1], "N_Area": [0.5],
    }  # fmt: skip


def test_a_table_without_rows(workspace: Workspace) -> None:
    (path,) = formats.write(workspace, merged(workspace, "N.csv", HEADER, []), ["parquet"])
    assert pq.read_table(path).num_rows == 0


def test_sqlite_has_a_limit_of_columns(workspace: Workspace) -> None:
    header = ["ImageNumber", "ObjectNumber", *(f"F{i}" for i in range(2000))]
    found = merged(workspace, "N.csv", header, [])
    what = "2,002 columns"
    error = refused(Exit.MALFORMED_INPUT, what, formats.write, workspace, found, ["sqlite"])
    assert "parquet" in error.todo
    assert [p.name for p in workspace.analysis.iterdir()] == ["N.csv"]


def test_tables_of_one_name_but_for_its_end(workspace: Workspace) -> None:
    found = {
        **merged(workspace, "t.csv", HEADER, ROWS),
        **merged(workspace, "t.txt", HEADER, ROWS[:1]),
        **merged(workspace, "u.csv", HEADER, ROWS),
    }
    made = formats.write(workspace, found, ["parquet", "sqlite"])
    names = ["t.csv.parquet", "t.txt.parquet", "u.parquet", "my run.sqlite"]
    assert [p.name for p in made] == names
    with closing(sqlite3.connect(made[-1])) as database:
        listed = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    assert listed == {"t.csv", "t.txt", "u"}
    assert pq.read_table(made[1]).num_rows == 1


def test_what_is_measured_over_a_column_of_the_list(workspace: Workspace) -> None:
    """The list said whole numbers, or a fraction; what was measured is what it is."""
    listed = {"Count_N": "INTEGER", "Width_DNA": "FLOAT", "MD5Digest_DNA": "INTEGER"}
    write_json(workspace.run, {"columns": listed})
    header = ["ImageNumber", "Count_N", "Width_DNA", "MD5Digest_DNA"]
    found = merged(workspace, "Image.csv", header, [["1", "2.5", "96", "ab0"]])
    (path,) = formats.write(workspace, found, ["parquet"])
    assert pq.read_table(path).to_pylist() == [
        {"ImageNumber": 1, "Count_N": 2.5, "Width_DNA": 96.0, "MD5Digest_DNA": "ab0"}
    ]


def test_through_the_merge(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.rows, screen.header[2] = [], "Metadata_Site"
    for i, site in enumerate(("007", "x", "")):
        screen.add(f"{i}.tif", 9, site)
    screen.write()
    screen.plan("-q", "--chunk-size", "1")
    screen.run()
    screen.merge("--format", "parquet", "--format", "csv", "--format", "sqlite")
    found = pq.read_table(screen.workspace.analysis / "Image.parquet").to_pydict()
    assert found["Metadata_Site"] == ["007", "x", ""]
    assert found["ImageNumber"] == [1, 2, 3]
    names = {p.name for p in screen.workspace.analysis.glob("*.*")}
    assert names == {
        "Image.csv", "Image.parquet", "Nuclei.csv", "Nuclei.parquet",
        "Experiment.csv", "Experiment.parquet", "measure.sqlite",
    }  # fmt: skip


def test_failed_image_sets_are_missing_here_too(screen: Screen) -> None:
    screen.fill(3)
    (screen.images / "f2.tif").unlink()
    screen.plan("-q")
    screen.run()
    screen.merge("--format", "parquet")
    found = pq.read_table(screen.workspace.analysis / "Image.parquet").to_pydict()
    assert found["ImageNumber"] == [1, 3]


def test_other_formats_follow_the_tables(screen: Screen) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "1")
    screen.run()
    screen.merge("--format", "parquet", "--format", "sqlite")
    analysis = screen.workspace.analysis
    before = (analysis / "Image.parquet").stat().st_mtime_ns
    # nothing changed: nothing is written
    screen.merge()
    assert (analysis / "Image.parquet").stat().st_mtime_ns == before

    screen.add("new.tif", 9)
    screen.write()
    screen.plan("-q", "--chunk-size", "1")
    screen.run()
    # they were asked for before
    screen.merge()
    assert pq.read_table(analysis / "Image.parquet").num_rows == 3
    with sqlite3.connect(analysis / "measure.sqlite") as database:
        assert database.execute("SELECT COUNT(*) FROM Image").fetchall() == [(3,)]


def test_other_formats_of_a_vanished_table_go(screen: Screen) -> None:
    screen.fill(1)
    screen.plan("-q")
    screen.run()
    screen.merge("--format", "parquet")
    analysis = screen.workspace.analysis
    assert (analysis / "Nuclei.parquet").is_file()
    done = screen.workspace.chunk(screen.chunks()[0]).done
    verdict = read_json(done)
    assert verdict is not None
    for part in verdict["parts"]:
        del part["tables"]["Nuclei.csv"]
    write_json(done, {**verdict, "finished": "later"})
    screen.merge()
    names = {p.name for p in analysis.glob("*.*")}
    assert names == {"Image.csv", "Image.parquet", "Experiment.csv", "Experiment.parquet"}


def test_columns_that_differ_only_in_case(workspace: Workspace) -> None:
    header = ["ImageNumber", "ObjectNumber", "dna", "DNA", "Dna"]
    found = merged(workspace, "N.csv", header, [["1", "1", "2", "3", "4"]])
    (path,) = formats.write(workspace, found, ["sqlite"])
    with sqlite3.connect(path) as database:
        cursor = database.execute("SELECT * FROM N")
        assert cursor.fetchall() == [(1, 1, 2, 3, 4)]
        names = [column[0] for column in cursor.description]
    assert names == ["ImageNumber", "ObjectNumber", "dna", "DNA_2", "Dna_3"]


def test_a_column_may_be_called_as_another_would_be(workspace: Workspace) -> None:
    header = ["ImageNumber", "ObjectNumber", "dna", "DNA", "DNA_2"]
    found = merged(workspace, "N.csv", header, [["1", "1", "2", "3", "4"]])
    (path,) = formats.write(workspace, found, ["sqlite"])
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT * FROM N").fetchall() == [(1, 1, 2, 3, 4)]
