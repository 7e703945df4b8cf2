from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import HOSTILE
from test_database import ImageSet, execute, make, write_properties

from bpcp import compare
from bpcp.errors import Exit

IMAGES: list[ImageSet] = [(1, "P 1", [0.5, 1.25]), (2, "P-2", [2.5])]


def result(folder: Path, date: str = "Fri Nov 20 16:13:02 2026") -> Path:
    make(folder / "Default.db", IMAGES, str(folder))
    write_properties(folder / "Default.properties", str(folder), ["P 1", "P-2"], date=date)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return (
        result(tmp_path / "one"),
        result(tmp_path / HOSTILE, date="Sat Nov  7 01:02:03 2027"),
    )


def said(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> str:
    code = compare.main(["-q", *(str(p) for p in pair)])
    out = capsys.readouterr().out
    assert (code == Exit.OK) == (out == "")
    return out


def test_times_stamps_and_the_own_folder_may_differ(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    execute(
        "UPDATE MyExpt_Per_Image SET Image_ExecutionTime_01LoadData = 7.5",
        "UPDATE MyExpt_Per_Experiment SET Run_Timestamp = 'a', Modification_Timestamp = 'b'",
    )(pair[1] / "Default.db")
    assert said(pair, capsys) == ""


def test_the_same_content_in_other_bytes_is_equal(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    execute("PRAGMA page_size = 8192", "VACUUM")(pair[1] / "Default.db")
    one, other = ((p / "Default.db").read_bytes() for p in pair)
    assert len(one) != len(other)
    assert said(pair, capsys) == ""


def test_columns_of_the_experiment_have_no_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, columns, values in (
        ("a", "x float, y float", "1.5, 2.5"),
        ("b", "y float, x float", "2.5, 1.5"),
        ("c", "y float, x float", "1.5, 2.5"),
    ):
        (tmp_path / name).mkdir()
        execute(
            f"CREATE TABLE Per_Experiment ({columns})",
            f"INSERT INTO Per_Experiment VALUES ({values})",  # noqa: S608
        )(tmp_path / name / "t.db")
    a, b, c = (tmp_path / name for name in "abc")
    assert said((a, b), capsys) == ""
    assert "Per_Experiment, row 1, x: 1.5 | 2.5" in said((a, c), capsys)


def on_database(*statements: str) -> Callable[[Path], object]:
    return lambda folder: execute(*statements)(folder / "Default.db")


def edit(old: str, new: str) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        path = folder / "Default.properties"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return apply


def cut(name: str) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])

    return apply


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (
            on_database("UPDATE MyExpt_Per_Object SET Nuclei_AreaShape_Area = 1.2500000000000002"
                        " WHERE ImageNumber = 1 AND ObjectNumber = 2"),
            "MyExpt_Per_Object, row 2, Nuclei_AreaShape_Area: 1.25 | 1.2500000000000002",
        ),
        (
            on_database("UPDATE MyExpt_Per_Image SET Image_Metadata_Plate = 'P 2'"
                        " WHERE ImageNumber = 1"),
            "MyExpt_Per_Image, row 1, Image_Metadata_Plate: 'P 1' | 'P 2'",
        ),
        (
            on_database("UPDATE MyExpt_Per_Image SET Mean_Nuclei_AreaShape_Area = NULL"
                        " WHERE ImageNumber = 2"),
            "MyExpt_Per_Image, row 2, Mean_Nuclei_AreaShape_Area: 2.5 | NULL",
        ),
        (
            on_database("UPDATE MyExpt_Per_Image SET Image_Metadata_Plate = CAST('P-2' AS BLOB)"
                        " WHERE ImageNumber = 2"),
            "MyExpt_Per_Image, row 2, Image_Metadata_Plate: 'P-2' | b'P-2'",
        ),
        (
            on_database("DELETE FROM MyExpt_Per_Object WHERE ImageNumber = 2"),
            "MyExpt_Per_Object, row 3: there | missing",
        ),
        (
            on_database("DROP VIEW MyExpt_Per_RelationshipsView"),
            "view MyExpt_Per_RelationshipsView: there | missing",
        ),
        (on_database("DROP INDEX MyExpt_Per_I1"), "index MyExpt_Per_I1: there | missing"),
        (
            on_database("DROP VIEW MyExpt_Per_RelationshipsView",
                        "CREATE VIEW MyExpt_Per_RelationshipsView AS SELECT 1"),
            "view MyExpt_Per_RelationshipsView: CREATE VIEW MyExpt_Per_RelationshipsView",
        ),
        (on_database("CREATE TABLE more (a)"), "table more: missing | there"),
        (
            on_database("ALTER TABLE MyExpt_Per_Image RENAME COLUMN Image_Metadata_Plate TO x"),
            "MyExpt_Per_Image, column 8: Image_Metadata_Plate TEXT | x TEXT",
        ),
        (
            on_database("UPDATE MyExpt_Per_Image SET Image_PathName_Saved = '/elsewhere/saved'"
                        " WHERE ImageNumber = 1"),
            "MyExpt_Per_Image, row 1, Image_PathName_Saved: ",
        ),
        (
            on_database("UPDATE MyExpt_Per_Image SET Image_URL_Saved = 'file:/saved/1.png'"
                        " WHERE ImageNumber = 1"),
            "MyExpt_Per_Image, row 1, Image_URL_Saved: ",
        ),
        (
            on_database("UPDATE Experiment_Properties SET value = '/attempt/output/Default.db'"
                        " WHERE field = 'db_sqlite_file'"),
            "Experiment_Properties, row 2, value: ",
        ),
        (
            on_database("UPDATE Experiment_Properties SET value = 'elsewhere/Other.db'"
                        " WHERE field = 'db_sqlite_file'"),
            "Experiment_Properties, row 2, value: ",
        ),
        (
            on_database("UPDATE MyExpt_Per_Experiment SET Pipeline_Pipeline = x'00fe'"),
            r"MyExpt_Per_Experiment, row 1, Pipeline_Pipeline: b'\x00\xff' | b'\x00\xfe'",
        ),
        (cut("Default.db"), "Default.db, content: whole | "),
        (cut("Default.properties"), "Default.properties, line "),
        (edit("channels_per_image  = 1,1", "channels_per_image  = 1,3"), "line 9: channels"),
        (edit("P-2", "P-3"), "filter_SQL_Plate_P_2"),
        (edit("#Sat", "# no date Sat"), "Default.properties, line 1: #Fri"),
        (edit("/Default.db", "/Other.db"), "line 8: db_sqlite_file"),
        (edit("\nprocess_3D = False\n", "\n"), "Default.properties, line "),
        (lambda folder: (folder / "Default.db").unlink(), "Default.db: there | missing"),
        (lambda folder: (folder / "Default.db").write_bytes(b"x"), "Default.db, content: "),
    ],
)  # fmt: skip
def test_a_difference_is_noticed(
    pair: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    what: str,
) -> None:
    spoil(pair[1])
    assert what in said(pair, capsys)


def test_a_changed_type_and_a_changed_key_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = (
        ("a", "n INTEGER, x float, PRIMARY KEY (n)"),
        ("b", "n INTEGER, x varchar(8), PRIMARY KEY (n)"),
        ("c", "n INTEGER, x float, PRIMARY KEY (n, x)"),
        ("d", "n INTEGER, x float, UNIQUE (x), PRIMARY KEY (n)"),
    )
    for name, columns in kinds:
        (tmp_path / name).mkdir()
        execute(f"CREATE TABLE t ({columns})")(tmp_path / name / "t.sqlite")
    a, b, c, d = (tmp_path / name for name, _ in kinds)
    assert "t.sqlite, t, column 2: x float | x varchar(8)" in said((a, b), capsys)
    assert "t.sqlite, t, primary key: n | n, x" in said((a, c), capsys)
    assert "t.sqlite, t, definition: CREATE TABLE t (n INTEGER" in said((a, d), capsys)


def test_an_integer_is_not_a_float(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("a", "1"), ("b", "1.0")):
        (tmp_path / name).mkdir()
        execute("CREATE TABLE t (x)", f"INSERT INTO t VALUES ({value})")(tmp_path / name / "t.db")  # noqa: S608
    assert "t, row 1, x: 1 | 1.0" in said((tmp_path / "a", tmp_path / "b"), capsys)


@pytest.mark.parametrize("start", ["one/", "./", "", "some/one/"])
def test_a_result_that_was_named_by_a_relative_path(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str], start: str
) -> None:
    execute(
        f"UPDATE Experiment_Properties SET value = '{start}Default.db'"  # noqa: S608
        " WHERE field = 'db_sqlite_file'"
    )(pair[0] / "Default.db")
    edit(str(pair[0]) + "/", start)(pair[0])
    assert said(pair, capsys) == ""


def test_an_empty_database_equals_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with closing(sqlite3.connect(tmp_path / name / "t.db")) as connection:
            connection.execute("VACUUM")
            connection.execute("CREATE TABLE t (x)")
    assert said((tmp_path / "a", tmp_path / "b"), capsys) == ""


def test_the_passwords_of_servers_may_differ_in_a_pipelines_text(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def told(folder: Path, password: str, name: str) -> None:
        text = "ExportToDatabase:[module_num:9|enabled:True]\n" + (
            f"    Password:{password}\n    Name:{name}\n"
        )
        column = f"Pipeline_Pipeline = x'{text.encode().hex()}'"
        on_database(f"UPDATE MyExpt_Per_Experiment SET {column}")(folder)  # noqa: S608

    told(pair[0], "s3cret", "x")
    told(pair[1], "", "x")
    assert said(pair, capsys) == ""
    told(pair[1], "", "y")
    assert "Pipeline_Pipeline" in said(pair, capsys)
