# ruff: noqa: S608 -- statements of names that are written here
from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.request import pathname2url

import pytest
from conftest import HOSTILE

from bpcp.cellprofiler import Course
from bpcp.chunk.verdict import Declared, Expected, Ran, Verdict, judge
from bpcp.database import file as database
from bpcp.database.width import widths
from bpcp.pipeline import Module
from bpcp.tables import BrokenTableError, Kind

# An image set: its number, its plate, and the areas of its nuclei.
ImageSet = tuple[int, str, Sequence[float]]
Kinds = Sequence[tuple[int, str, str, str]]

KINDS: Kinds = ((14, "Neighbors", "Nuclei", "Nuclei"), (15, "Parent", "Cells", "Nuclei"))
PROPERTIES = """#{date}
# ==============================================
#
# CellProfiler Analyst 3.0 properties file
#
# ==============================================
db_type         = sqlite
db_sqlite_file  = {file}
channels_per_image  = {channels}

group_SQL_Well = SELECT ImageNumber, Image_Metadata_Well FROM {prefix}Per_Image
{filters}
filter_SQL_big = SELECT ImageNumber FROM {prefix}Per_Image WHERE Image_Count_Nuclei > 2


process_3D = False

    """


def plate_filters(prefix: str, plates: Sequence[str]) -> list[tuple[str, str]]:
    return [
        (
            f"filter_SQL_Plate_{plate.replace(' ', '_').replace('-', '_')}",
            f'SELECT ImageNumber FROM {prefix}Per_Image WHERE Image_Metadata_Plate = "{plate}"',
        )
        for plate in plates
    ]


def make(
    path: Path,
    images: Sequence[ImageSet],
    output: str = "/out",
    *,
    prefix: str = "MyExpt_",
    combined: bool = True,
    kinds: Kinds = KINDS,
    own_first: int = 1,
    plates: Sequence[str] | None = None,
) -> Path:
    """Make a database as ExportToDatabase would: its statements, in its order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    p = f"{prefix}Per_"
    with closing(sqlite3.connect(path)) as db:
        objects = f"{p}Object" if combined else f"{p}Nuclei"
        number = "ObjectNumber INTEGER,\nNuclei_Number_Object_Number integer" if combined else (
            "Nuclei_Number_Object_Number integer"
        )  # fmt: skip
        key = "ObjectNumber" if combined else "Nuclei_Number_Object_Number"
        db.execute(
            f"CREATE TABLE {objects} (\nImageNumber INTEGER\n,{number},"
            f"\nNuclei_AreaShape_Area float,\nPRIMARY KEY (ImageNumber, {key}) )"
        )
        db.execute(
            f"CREATE TABLE {p}Image (\nImageNumber INTEGER,\nImage_Count_Nuclei integer,"
            "\nImage_ExecutionTime_01LoadData float,\nImage_FileName_DNA TEXT,"
            "\nImage_Group_Index integer,\nImage_Group_Length integer,"
            "\nImage_Group_Number integer,\nImage_ImageQuality_ThresholdOtsu_DNA float,"
            "\nImage_Metadata_Plate TEXT,\nImage_PathName_DNA TEXT,\nImage_PathName_Saved TEXT,"
            "\nImage_URL_Saved TEXT,\nMean_Nuclei_AreaShape_Area float,"
            "\nPRIMARY KEY (ImageNumber) )"
        )
        db.execute(
            "CREATE TABLE IF NOT EXISTS Experiment (\n    experiment_id integer primary key"
            " AUTOINCREMENT,\n    name text)"
        )
        db.execute(
            "CREATE TABLE IF NOT EXISTS Experiment_Properties (\n    experiment_id integer not"
            " null,\n    object_name text not null,\n    field text not null,\n    value longtext,"
            "\n    constraint pk primary key (experiment_id, object_name, field))"
        )
        experiment = db.execute("INSERT INTO Experiment (name) VALUES ('It')").lastrowid
        given = plates if plates is not None else list(dict.fromkeys(i[1] for i in images))
        fields = [
            ("db_type", "sqlite"),
            ("db_sqlite_file", f"{output}/{path.name}".replace("\\", "\\\\").replace('"', '\\"')),
            *((f, v.replace('"', '\\"')) for f, v in plate_filters(prefix, given)),
            ("check_tables", "no"),
        ]
        db.executemany(
            "INSERT INTO Experiment_Properties VALUES (?, 'Object', ?, ?)",
            [(experiment, *f) for f in fields],
        )
        db.execute(
            f"CREATE TABLE {p}Experiment (\nPipeline_Pipeline longblob,\nRun_Timestamp TEXT,"
            "\nModification_Timestamp TEXT,\nImageQuality_ThresholdMeanOtsu_DNA float)"
        )
        first = images[0][0] if images else 0
        db.execute(
            f"INSERT INTO {p}Experiment VALUES (x'00ff', ?, ?, ?)",
            (f"2026-01-0{first}", f"2026-02-0{first}", float(first)),
        )
        db.execute(
            f"CREATE TABLE {p}RelationshipTypes (relationship_type_id integer primary key,"
            " module_number integer, relationship varchar(255), object_name1 varchar(255),"
            " object_name2 varchar(255))"
        )
        db.executemany(
            f"INSERT INTO {p}RelationshipTypes VALUES (?, ?, ?, ?, ?)",
            [(i, *kind) for i, kind in enumerate(kinds, 1)],
        )
        db.execute(
            f"CREATE TABLE {p}Relationships (relationship_type_id integer, image_number1 integer,"
            " object_number1 integer, image_number2 integer, object_number2 integer,"
            f" CONSTRAINT {p}Unique UNIQUE (relationship_type_id, image_number1, object_number1,"
            " image_number2, object_number2))"
        )
        db.execute(f"CREATE INDEX {p}I1 ON {p}Relationships (image_number1, object_number1)")
        db.execute(
            f"CREATE VIEW {p}RelationshipsView AS SELECT T.relationship, R.image_number1 FROM"
            f" {p}RelationshipTypes T JOIN {p}Relationships R"
            " ON T.relationship_type_id = R.relationship_type_id"
        )
        for n, plate, areas in images:
            for i, area in enumerate(areas, 1):
                own = (i, i) if combined else (i,)
                marks = ", ".join("?" * (len(own) + 2))
                db.execute(f"INSERT INTO {objects} VALUES ({marks})", (n, *own, area))
                for kind in range(1, len(kinds) + 1):
                    db.execute(
                        f"INSERT INTO {p}Relationships VALUES (?, ?, ?, ?, ?)", (kind, n, i, n, i)
                    )
            mean = sum(areas) / len(areas) if areas else None
            db.execute(
                f"INSERT INTO {p}Image VALUES (?, ?, 0.25, ?, ?, ?, 1, ?, ?, '/in', ?, ?, ?)",
                (
                    n, len(areas), f"{n}.tif", n - own_first + 1, len(images), n / 8, plate,
                    f"{output}/saved", f"file:{pathname2url(output)}/saved/{n}.png", mean,
                ),
            )  # fmt: skip
        db.commit()
    return path


def write_properties(
    path: Path,
    output: str = "/out",
    plates: Sequence[str] = ("P 1",),
    *,
    prefix: str = "MyExpt_",
    channels: str = "1,1",
    date: str = "Fri Nov 20 16:13:02 2026",
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        PROPERTIES.format(
            date=date,
            file=f"{output}/Default.db",
            prefix=prefix,
            channels=channels,
            filters="".join(f"{f} = {v}\n" for f, v in plate_filters(prefix, plates)),
        )
    )
    return path


def execute(*statements: str) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()

    return apply


GOOD: list[ImageSet] = [(4, "P 1", [0.5, 1.5]), (5, "P 1", []), (6, "P-2", [2.5])]
EXPECTED = [
    Expected(r"Default\.db", (database.DATABASE,)),
    Expected(r"Default\.properties", (database.PROPERTIES,)),
]


def judged(output: Path) -> Verdict:
    return judge(output, Declared(tuple(EXPECTED)), Ran(4, 6, "Complete"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / HOSTILE
    make(folder / "Default.db", GOOD)
    write_properties(folder / "Default.properties")
    (folder / "Default.workspace").write_text("CellProfiler Analyst workflow\n")
    return folder


def test_a_good_database(output: Path) -> None:
    found = judged(output)
    assert found.faults == []
    assert {n: s.shape.kind for n, s in found.tables.items()} == {
        "Default.db": Kind.DATABASE,
        "Default.properties": Kind.PROPERTIES,
    }
    assert found.files == ["Default.workspace"]
    assert found.objects == {"Nuclei": 3}
    assert found.modules_s == 0.75
    summary = found.tables["Default.db"]
    assert summary.rows == 3
    assert summary.counts["MyExpt_Per_Object"] == 3
    assert summary.counts["MyExpt_Per_Relationships"] == 6
    assert type(summary).from_json(summary.to_json()).counts == summary.counts


def test_image_sets_that_were_skipped_before_it_have_no_row(output: Path) -> None:
    (output / "Default.db").unlink()
    make(output / "Default.db", GOOD[1:])
    for reached, faults in (
        ({4: 2, 5: 9, 6: 9}, []),
        ({4: 9, 5: 2, 6: 9}, ["MyExpt_Per_Image of Default.db lacks 1 image sets, the first is 4"]),
        ({4: 2, 5: 2, 6: 9}, []),
    ):
        ran = Ran(4, 6, "Complete", Course(reached), 9)
        assert judge(output, Declared(tuple(EXPECTED), last_module=9), ran).faults == faults


def test_where_all_are_skipped_a_database_has_no_rows(output: Path) -> None:
    (output / "Default.db").unlink()
    make(output / "Default.db", [])
    ran = Ran(4, 6, "Complete", Course({4: 2, 5: 2, 6: 2}), 9)
    found = judge(output, Declared(tuple(EXPECTED), last_module=9), ran)
    assert found.faults == []
    assert found.tables["Default.db"].rows == 0


def test_a_table_for_each_kind_of_object_and_no_prefix(tmp_path: Path) -> None:
    make(tmp_path / "Default.db", GOOD, prefix="", combined=False)
    write_properties(tmp_path / "Default.properties")
    found = judged(tmp_path)
    assert found.faults == []
    assert found.objects == {"Nuclei": 3}


def test_a_row_more_than_were_counted(tmp_path: Path) -> None:
    path = make(tmp_path / "Default.db", GOOD, combined=False)
    write_properties(tmp_path / "Default.properties")
    execute("UPDATE MyExpt_Per_Image SET Image_Count_Nuclei = NULL WHERE ImageNumber = 6")(path)
    assert judged(tmp_path).faults == [
        "image set 6: Image_Count_Nuclei is 0, MyExpt_Per_Nuclei has 1 rows"
    ]


@pytest.mark.parametrize(
    ("column", "is_one"),
    [
        ("Image_ExecutionTime_01LoadData", True),
        ("ExecutionTime_14MeasureObjectNeighbors", True),
        # as CellProfiler shortened it to 17, 19 and 21 characters
        ("Image_ExctT_02IPO", True),
        ("Image_ExctnTm_01LdD", True),
        ("Image_ExectnTm_01LdDt", True),
        ("Image_Intensity_MeanIntensity_DNA", False),
        ("Image_Metadata_ExecutionTime", False),
        ("Mean_Nuclei_AreaShape_Extent", False),
    ],
)
def test_which_columns_are_times(column: str, is_one: bool) -> None:
    assert database.is_time(column) == is_one


def test_two_modules_write_one_file(output: Path) -> None:
    make(output / "Default.db", GOOD[:2], prefix="", combined=False)
    assert judged(output).faults == ["Per_Image of Default.db lacks 1 image sets, the first is 6"]
    with closing(database.open_read_only(output / "Default.db")) as connection:
        found = {x.prefix: x for x in database.layouts(database.all_tables(connection))}
    assert [t.name for t in found[""].objects] == ["Per_Nuclei"]
    assert [t.name for t in found["MyExpt_"].objects] == ["MyExpt_Per_Object"]


def test_single_table_of_several_kinds_has_as_many_rows_as_the_most_frequent(
    output: Path,
) -> None:
    execute(
        "ALTER TABLE MyExpt_Per_Object ADD COLUMN Spots_Number_Object_Number integer",
        "ALTER TABLE MyExpt_Per_Image ADD COLUMN Image_Count_Spots integer",
        "UPDATE MyExpt_Per_Image SET Image_Count_Spots = Image_Count_Nuclei - (ImageNumber = 4)",
    )(output / "Default.db")
    found = judged(output)
    assert found.faults == []
    assert found.objects == {"Nuclei": 3, "Spots": 2}


def cut(share: float) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

    return apply


def beside(end: str) -> Callable[[Path], object]:
    return lambda path: path.with_name(path.name + end).write_bytes(b"x")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (
            execute("DELETE FROM MyExpt_Per_Image WHERE ImageNumber > 4"),
            "MyExpt_Per_Image of Default.db lacks 2 image sets, the first is 5",
        ),
        (
            execute("UPDATE MyExpt_Per_Image SET ImageNumber = 7 WHERE ImageNumber = 6"),
            "MyExpt_Per_Image of Default.db has a row of image set 7, which was not asked for",
        ),
        (
            execute("UPDATE MyExpt_Per_Object SET ImageNumber = 9 WHERE ImageNumber = 6"),
            "MyExpt_Per_Object of Default.db has rows of image set 9, which was not asked for",
        ),
        (
            execute("DELETE FROM MyExpt_Per_Object WHERE ObjectNumber = 2"),
            "image set 4: Image_Count_Nuclei is 2, MyExpt_Per_Object has 1 rows",
        ),
        (
            execute(
                "DELETE FROM MyExpt_Per_Image WHERE ImageNumber = 5",
                "INSERT INTO MyExpt_Per_Image (ImageNumber, Image_Group_Index) VALUES (5, 2)",
            ),
            "image set 5 is blank in MyExpt_Per_Image of Default.db",
        ),
        (
            execute("DELETE FROM MyExpt_Per_Experiment"),
            "MyExpt_Per_Experiment of Default.db has 0 rows, not one",
        ),
        (cut(0.5), "Default.db is damaged: "),
        (cut(0.02), "Default.db is damaged: "),
        (cut(0), "Default.db is empty"),
        (beside("-journal"), "Default.db was not closed: Default.db-journal is beside it"),
        (beside("-wal"), "Default.db was not closed: Default.db-wal is beside it"),
        (lambda path: path.unlink(), "no SQLite database"),
        (
            lambda path: path.with_suffix(".properties").unlink(),
            "no properties file",
        ),
        (
            lambda path: cut(0.9)(path.with_suffix(".properties")),
            "Default.properties was not written to its end",
        ),
    ],
)  # fmt: skip
def test_what_is_not_whole(output: Path, spoil: Callable[[Path], object], what: str) -> None:
    spoil(output / "Default.db")
    assert any(fault.startswith(what) for fault in judged(output).faults), judged(output).faults


def test_a_damaged_page_is_found(output: Path) -> None:
    path = output / "Default.db"
    data = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'MyExpt_Per_Relationships'"
        page = db.execute(query).fetchone()[0]
    at = (page - 1) * 4096
    data[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(bytes(data))
    assert any("Default.db is damaged" in fault for fault in judged(output).faults)


def test_other_databases_and_properties_are_files_like_any(output: Path) -> None:
    execute("CREATE TABLE a (b)")(output / "model.sqlite")
    (output / "log4j.properties").write_text("log4j.rootLogger=INFO\n")
    found = judged(output)
    assert found.faults == []
    assert found.files == ["Default.workspace", "log4j.properties", "model.sqlite"]


def test_a_file_that_only_begins_like_one(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"SQLite format 3\0" + b"\1" * 200)
    with pytest.raises(BrokenTableError, match=r"x\.db is damaged"):
        database.recognise(path)


KEEPING = "Create one table per object, a single object table or a single object view?"


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        ({}, ["Default DB.db", "Default DB.properties"]),
        (
            {"Add a prefix to table names?": "Yes", "Table prefix": "My_"},
            ["Default DB.db", "Default DB_My.properties"],
        ),
        (
            {"Output file location": "Default Output Folder sub-folder|./a/b.c"},
            ["a/b.c/Default DB.db", "a/b.c/Default DB.properties"],
        ),
        (
            {KEEPING: "One table per object type",
             "Export measurements for all objects to the database?": "Select..."},
            ["Default DB.db", "Default DB_Cells.properties"],
        ),
        ({KEEPING: "One table per object type"}, ["Default DB.db"]),
        ({"Create a CellProfiler Analyst properties file?": "No"}, ["Default DB.db"]),
    ],
)  # fmt: skip
def test_what_a_module_declares(settings: dict[str, str], paths: list[str]) -> None:
    all_settings = {
        "Database type": "SQLite",
        "Output file location": "Default Output Folder|",
        "Create a CellProfiler Analyst properties file?": "Yes",
        "Name the SQLite database file": "Default DB.db",
        "Export measurements for all objects to the database?": "All",
        KEEPING: "Single object table",
        **settings,
    }
    found = database.declared(Module("ExportToDatabase", 3, tuple(all_settings.items())))
    assert len(found) == len(paths)
    for declared, path in zip(found, paths, strict=True):
        assert re.fullmatch(declared["pattern"], path)
        assert not re.fullmatch(declared["pattern"], path.replace(".", "x"))
    assert [d["objects"] for d in found] == [[database.DATABASE], [database.PROPERTIES]][
        : len(paths)
    ]


# --- how wide tables get --------------------------------------------------------------------------

MEASURED = [
    ("Image", "Count_Nuclei"), ("Image", "ModuleError_01LoadData"),
    ("Image", "ExecutionTime_01LoadData"), ("Image", "Count_Nuclei"),
    ("Nuclei", "Number_Object_Number"), ("Nuclei", "AreaShape_Area"), ("Nuclei", "Parent_Cells"),
    ("Cells", "Number_Object_Number"), ("Cells", "AreaShape_Area"), ("Experiment", "Run_Timestamp"),
]  # fmt: skip
EXPORTED = "Export measurements for all objects to the database?"
MEANS, MEDIANS = (
    f"Calculate the per-image {kind} values of object measurements?" for kind in ("mean", "median")
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"Per_Image": 3, "Per_Object": 7}),
        ({MEANS: "Yes", MEDIANS: "Yes"}, {"Per_Image": 3 + 2 * 3, "Per_Object": 7}),
        (
            {database.KEEPING: "One table per object type", MEANS: "Yes"},
            {"Per_Image": 6, "Per_Nuclei": 4, "Per_Cells": 3},
        ),
        (
            {
                database.KEEPING: "Single object view", EXPORTED: "Select...", MEANS: "Yes",
                "Select the objects": "Cells, Others",
            },
            {"Per_Image": 4, "Per_Object": 4, "Per_Cells": 3},
        ),
        ({EXPORTED: "None", MEANS: "Yes"}, {"Per_Image": 3}),
    ],
)  # fmt: skip
def test_columns_are_counted_from_what_cellprofiler_measures(
    settings: dict[str, str], expected: dict[str, int]
) -> None:
    known = {EXPORTED: "All", database.KEEPING: "Single object table", **settings}
    assert widths(Module("ExportToDatabase", 9, tuple(known.items())), MEASURED) == expected
