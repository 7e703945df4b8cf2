"""ExportToDatabase to MySQL: a real server, tables made as CellProfiler makes them."""

from __future__ import annotations

import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import EXPORT, IDENTIFY, Screen, load_data, refused
from mariadb import MariaDB, mariadb  # noqa: F401 -- a fixture
from test_database import make

from bpcp import merge, pipeline, vet
from bpcp.check import servers
from bpcp.check.findings import errors
from bpcp.database import server as of_server
from bpcp.database import wells
from bpcp.database.file import KEEPING, all_tables, layouts, open_read_only
from bpcp.database.load import Load, Target
from bpcp.database.names import shortened
from bpcp.database.server import Server, is_waiting, password, try_out, waiting_name
from bpcp.errors import Exit
from bpcp.mend import mended, unmended
from bpcp.pipeline import Kind, Module
from bpcp.probe import answer
from bpcp.settings import Settings
from bpcp.workspace import write_json

SECRET = "s3cret"  # noqa: S105 -- of a server that ends with the tests
SETTINGS = {
    "Database type": "MySQL",
    "Database name": "screen",
    "Add a prefix to table names?": "Yes",
    "Table prefix": "MyExpt_",
    "Output file location": "Default Output Folder|",
    "Create a CellProfiler Analyst properties file?": "Yes",
    "Database host": "127.0.0.1",
    "Username": "ann",
    "Password": "",
    "Name the SQLite database file": "DefaultDB.db",
    "Export measurements for all objects to the database?": "All",
    "Select the objects": "",
    KEEPING: "Single object table",
    "Experiment name": "It",
    "Overwrite without warning?": "Never",
}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep the user's own passwords away."""
    for name in ("MYSQL_PWD", "BPCP_MYSQL_DEFAULTS", "MYSQL_UNIX_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def db(mariadb: MariaDB) -> MariaDB:  # noqa: F811
    mariadb.make("screen", "ann", SECRET)
    return mariadb


def module(number: int = 9, **changes: str) -> Module:
    """Give a module; a setting is named by its label."""
    assert set(changes) <= set(SETTINGS) | {"Image name"}
    return Module("ExportToDatabase", number, tuple({**SETTINGS, **changes}.items()))


def text_of(*modules: Module) -> str:
    return "".join(
        f"\nExportToDatabase:[module_num:{m.number}|enabled:True|wants_pause:False]\n"
        + "".join(f"    {label}:{value}\n" for label, value in m.settings)
        for m in modules
    )


def server_of(db: MariaDB, **changes: Any) -> Server:
    return replace(Server(db.host, "ann", "screen", SECRET), **changes)


# --- who, where, and by which password ------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("192.168.1.10", ("192.168.1.10", 3306)),
        ("db.example.org:3307", ("db.example.org", 3307)),
        ("9001:db8::7334", ("9001:db8::7334", 3306)),
        ("[9001:db8::7334]:3308", ("9001:db8::7334", 3308)),
        ("localhost", ("localhost", 3306)),
    ],
)
def test_host_and_port_are_read_as_cellprofiler_reads_them(
    named: str, address: tuple[str, int]
) -> None:
    assert Server(named, "u", "d").address == address


def test_the_password_of_the_environment_comes_first_and_the_pipelines_last(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server("h", "u", "d", "of the pipeline")
    assert password(server) == "of the pipeline"
    (home / ".my.cnf").write_text(
        '!includedir /etc/mysql/conf.d/\n[client]\nuser = x\npassword = "o\'f # home"\n'
        "skip-ssl\n[mysqld]\npassword = no\n"
    )
    assert password(server) == "o'f # home"
    named = home / "other.cnf"
    named.write_text("[client]\npassword=%(x)s\n")
    monkeypatch.setenv("BPCP_MYSQL_DEFAULTS", str(named))
    assert password(server) == "%(x)s"
    named.write_text("[mysqld]\npassword=no\n")
    assert password(server) == "of the pipeline"
    monkeypatch.setenv("MYSQL_PWD", "of the environment")
    assert password(server) == "of the environment"
    monkeypatch.delenv("MYSQL_PWD")
    named.write_text("password=no section\n")
    assert "no section" not in str(refused(Exit.MALFORMED_INPUT, str(named), password, server))
    named.unlink()
    refused(Exit.NO_INPUT, str(named), password, server)


def test_a_password_is_in_no_text_that_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "x.cppipe"
    lines = load_data() + text_of(module(Password=SECRET), module(10, Password="other"))  # noqa: S106
    plugin = "\nRunOmero:[module_num:11|enabled:True]\n    Password:kept\n"
    for end in ("\n", "\r\n"):
        head = f"CellProfiler Pipeline: http://www.cellprofiler.org{end}Version:5{end}"
        file.write_bytes((head + (lines + plugin).replace("\n", end)).encode())
        pipe = pipeline.read(file)
        assert SECRET.encode() not in pipe.text and b"Password:other" not in pipe.text
        assert b"Password:kept" in pipe.text
        assert len(pipe.text) == file.stat().st_size - len(SECRET) - len("other")
        assert [m.get("Password") for m in pipe.modules] == ["", "", "", "kept"]
        assert pipeline.password_of(file, 2) == SECRET
        assert pipeline.password_of(file, 3) == "other"
        assert pipeline.password_of(file, 1) == ""
    assert SECRET not in repr(Server("h", "u", "d", SECRET))


# --- the run's copy -------------------------------------------------------------------------------


def piped(*modules: Module, kind: Kind = Kind.TEXT) -> pipeline.Pipeline:
    text = "CellProfiler Pipeline: x\nVersion:5\n" + load_data() + text_of(*modules)
    return pipeline.of_text(Path("/p/x.cppipe"), text.encode(), kind)


def test_chunks_write_sqlite_and_the_result_tells_of_the_users_own_pipeline() -> None:
    other = {"Database host": "127.0.0.2"}
    pipe = piped(
        module(2), module(3, **{"Table prefix": "Second_"}), module(4, **other),
        module(5, **{"Experiment name": "Ann's", "Database name": "x"}), module(6, **other),
        module(7, **{"Database type": "MySQL / CSV"}),
    )  # fmt: skip
    found = list(servers.of_types(pipe))
    assert [f.code.name for f in found] == ["pipeline-mysql"] * 5
    assert not errors(found)
    mends = [m for f in found for m in f.mends]
    text = mended(pipe.text.decode(), mends)
    ready = pipeline.of_text(pipe.path, text.encode(), pipe.kind).named("ExportToDatabase")
    assert [m.get("Database type") for m in ready] == ["SQLite"] * 5 + ["MySQL / CSV"]
    names = [m.get("Name the SQLite database file") for m in ready]
    assert names == [
        "screen.mysql", "screen.mysql", "screen.mysql2", "x.mysql", "screen.mysql2", "DefaultDB.db",
    ]  # fmt: skip
    assert list(map(is_waiting, names)) == [True] * 5 + [False]
    assert "'" not in ready[3].get("Experiment name")
    assert unmended(text, mends) == pipe.text.decode()


@pytest.mark.parametrize(
    ("changes", "kind", "remedy"),
    [
        ({"Database type": "Oracle"}, Kind.TEXT, "SQLite"),
        ({}, Kind.BATCH, "run the pipeline that it was made of"),
    ],
)
def test_what_can_not_be_patched_is_an_error(
    changes: dict[str, str], kind: Kind, remedy: str
) -> None:
    (finding,) = servers.of_types(piped(module(**changes), kind=kind))
    assert errors([finding]) and remedy in finding.remedy


def test_settings_that_are_too_old_are_an_error() -> None:
    old = Module("ExportToDatabase", 2, (("Database type", "MySQL"),))
    (finding,) = servers.of_types(piped(old))
    assert errors([finding]) and "save it again" in finding.remedy


# --- is there a server, and will it take the tables -----------------------------------------------


def screened(screen: Screen, db: MariaDB, **changes: str) -> pipeline.Pipeline:
    changes = {"Database host": db.host, "Password": SECRET, **changes}
    screen.fill(4)
    screen.write(load_data(), IDENTIFY, EXPORT, text_of(module(**changes)))
    return pipeline.read(screen.pipeline)


def vetted(screen: Screen, pipe: pipeline.Pipeline) -> vet.Vetted:
    # a quote in the folder where processes work would break SQLite's statements
    settings = Settings(None, (), 2, True, screen.base, Path(tempfile.gettempdir()))
    return vet.vet(screen.workspace, pipe, settings)


def test_a_cellprofiler_without_mysqlclient_will_do(
    screen: Screen, db: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = screened(screen, db)
    for kind in ("MySQL", "SQLite"):
        lacking = answer.Broken("ExportToDatabase", "2-D", ((("Database type", 0), kind),), "x")
        found = answer.Answer({}, 1, 1, (lacking,))
        monkeypatch.setattr(answer, "of_this", lambda found=found: found)
        if kind == "MySQL":
            assert vetted(screen, pipe).mends
        else:
            refused(Exit.MALFORMED_INPUT, "does not work with", vetted, screen, pipe)


# on a port where nothing listens
DOWN = {"Database host": "127.0.0.1:{port}"}


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_takes_tables_is_left_as_it_was(screen: Screen, db: MariaDB) -> None:
    found = vetted(screen, screened(screen, db))
    assert [m.get("Database type") for m in found.pipe.named("ExportToDatabase")] == ["SQLite"]
    assert any("loads the merged tables into MySQL" in note for note in found.notes)
    assert db.ask("SHOW TABLES", "screen") == []


@pytest.mark.parametrize(
    ("changes", "code", "exit_code", "what"),
    [
        (DOWN, "pipeline-mysql-server", Exit.UNAVAILABLE, "can't reach"),
        ({"Password": "wr0ng"}, "pipeline-mysql-refused", Exit.NO_PERMISSION, "refuses ann"),
        ({"Username": "nobody"}, "pipeline-mysql-refused", Exit.NO_PERMISSION, "refuses nobody"),
        ({"Database name": "other"}, "pipeline-mysql-refused", Exit.NO_PERMISSION, "refuses ann"),
    ],
)
def test_a_server_that_does_not_is_known_before_the_run(
    screen: Screen,
    db: MariaDB,
    changes: dict[str, str],
    code: str,
    exit_code: Exit,
    what: str,
) -> None:
    changes = {k: v.format(port=closed_port()) for k, v in changes.items()}
    pipe = screened(screen, db, **changes)
    (finding,) = servers.of_servers(pipe, screen.workspace)
    assert finding.code.name == code and finding.code.exit is exit_code
    assert what in finding.what and finding.remedy
    error = refused(exit_code, what, vetted, screen, pipe)
    assert "wr0ng" not in str(error) + str(error.todo) and SECRET not in str(error)


def test_a_database_that_is_missing_and_a_user_who_may_only_read(db: MariaDB) -> None:
    error = refused(Exit.UNAVAILABLE, "has no database gone", try_out,
                    server_of(db, database="gone", user="root", password=""), "p")  # fmt: skip
    assert "CREATE DATABASE gone" in error.todo
    db.make("screen", "reader", SECRET, may="SELECT, CREATE")
    refused(Exit.NO_PERMISSION, "refuses reader", try_out, server_of(db, user="reader"), "p")


def test_tables_that_are_too_wide_for_the_server_are_known_before_the_run(
    screen: Screen, db: MariaDB
) -> None:
    pipe = vetted(screen, screened(screen, db)).pipe
    (number,) = [str(m.number) for m in pipe.named("ExportToDatabase")]
    for widths in ({}, {number: {"Per_Image": 3}}, {number: {"Per_Image": 1000}}):
        servers.try_widths(pipe, widths, screen.workspace)
    call = (servers.try_widths, pipe, {number: {"Per_Image": 1100}}, screen.workspace)
    refused(Exit.CANNOT_CREATE, "Too many columns", *call)
    assert db.ask("SHOW TABLES", "screen") == []


def test_the_servers_socket_stands_for_localhost(
    db: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.ask("CREATE OR REPLACE USER own@localhost IDENTIFIED BY ''")
    db.ask("GRANT ALL ON screen.* TO own@localhost")
    # the path of a socket has 107 bytes at most
    monkeypatch.chdir(db.folder / "data")
    monkeypatch.setenv("MYSQL_UNIX_PORT", "s")
    try_out(Server("localhost:1", "own", "screen"), "p")
    monkeypatch.setattr(of_server, "_SOCKETS", ())
    monkeypatch.delenv("MYSQL_UNIX_PORT")
    refused(Exit.UNAVAILABLE, "can't reach", try_out, Server("localhost:1", "own", "screen"), "p")


def test_tables_that_must_not_be_overwritten_are_known_before_the_run(
    screen: Screen, db: MariaDB
) -> None:
    pipe = screened(screen, db)
    db.ask("CREATE TABLE MyExpt_Per_Image (ImageNumber INTEGER)", "screen")
    (finding,) = servers.of_servers(pipe, screen.workspace)
    assert finding.code.name == "pipeline-mysql-tables"
    assert finding.code.exit is Exit.CANNOT_CREATE and "MyExpt_Per_Image" in finding.what
    over = screened(screen, db, **{"Overwrite without warning?": "Data only"})
    assert servers.of_servers(over, screen.workspace) == []
    # those that an earlier load of this run made are its own
    db.ask("CREATE TABLE MyExpt_Per_Experiment (Run_Timestamp TEXT)", "screen")
    db.ask("INSERT INTO MyExpt_Per_Experiment VALUES ('2026-01-01')", "screen")
    where = str(server_of(db))
    for stamp, count in (("2026-01-02", 1), ("2026-01-01", 0)):
        known = {"screen.mysql": {"server": where, "stamps": {"MyExpt_": stamp}}}
        write_json(screen.workspace.loaded, known)
        assert len(servers.of_servers(pipe, screen.workspace)) == count


# --- the load -------------------------------------------------------------------------------------

FOREIGN = (
    "CREATE TABLE MyExpt_Per_Relationships ( relationship_type_id integer, image_number1 integer,"
    " object_number1 integer, image_number2 integer, object_number2 integer ,CONSTRAINT"
    " MyExpt_Per_RRTypeIdFK FOREIGN KEY ( relationship_type_id )  REFERENCES"
    " MyExpt_Per_RelationshipTypes ( relationship_type_id ) ,CONSTRAINT"
    " MyExpt_Per_RelationshipUnique UNIQUE ( relationship_type_id, image_number1, object_number1,"
    " image_number2, object_number2 ))"
)
INDEX = (
    "CREATE INDEX MyExpt_Per_IRelationships1 ON MyExpt_Per_Relationships ( image_number1,"
    " object_number1, relationship_type_id )"
)
IMAGES = [(1, "P 1", [0.1, 1.5]), (2, "P-2", []), (3, "Ü\\", [16777217.0])]


def sqlite(path: Path, images: Any = IMAGES, stamp: str = "2026-01-01") -> Path:
    """Make a database with relationships as CellProfiler makes them."""
    make(path, images)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT * FROM MyExpt_Per_Relationships").fetchall()
        connection.execute("DROP VIEW MyExpt_Per_RelationshipsView")
        connection.execute("DROP TABLE MyExpt_Per_Relationships")
        connection.execute(FOREIGN)
        connection.execute(INDEX)
        connection.execute(
            "CREATE VIEW MyExpt_Per_RelationshipsView AS SELECT T.relationship, R.image_number1"
            " FROM MyExpt_Per_RelationshipTypes T JOIN MyExpt_Per_Relationships R ON"
            "  T.relationship_type_id = R.relationship_type_id"
        )
        connection.executemany("INSERT INTO MyExpt_Per_Relationships VALUES (?,?,?,?,?)", rows)
        connection.execute("UPDATE MyExpt_Per_Experiment SET Run_Timestamp = ?", (stamp,))
        connection.commit()
    return path


class Loads:
    """Loads of one run, which know of each other by the run's state."""

    def __init__(self, db: MariaDB, overwrite: str = "Never") -> None:
        self.db = db
        self.known: dict[str, Any] = {}
        one = module(**{"Overwrite without warning?": overwrite, "Database host": db.host})
        self.target = Target(server_of(db), (one,))

    def load(self, path: Path) -> int:
        return Load(self.target, self.known, "bpcp_0a_", self._keep).run(path)

    def _keep(self, record: dict[str, Any]) -> None:
        self.known = {**record}

    def ask(self, what: str) -> list[tuple[Any, ...]]:
        return self.db.ask(what, "screen")

    @property
    def tables(self) -> set[str]:
        return {name for (name,) in self.ask("SHOW TABLES")}


TABLES = {
    "Experiment", "Experiment_Properties", "MyExpt_Per_Image", "MyExpt_Per_Object",
    "MyExpt_Per_Experiment", "MyExpt_Per_RelationshipTypes", "MyExpt_Per_Relationships",
    "MyExpt_Per_RelationshipsView",
}  # fmt: skip


@pytest.fixture
def loads(db: MariaDB) -> Loads:
    return Loads(db)


def test_tables_are_those_that_cellprofiler_makes_for_mysql(loads: Loads, tmp_path: Path) -> None:
    assert loads.load(sqlite(tmp_path / "screen.mysql")) == 3
    assert loads.tables == TABLES
    columns = {row[0]: row[1] for row in loads.ask("SHOW COLUMNS FROM MyExpt_Per_Image")}
    assert columns["Image_Count_Nuclei"] == "int(11)"
    assert columns["Image_Metadata_Plate"] == "text"
    assert columns["Mean_Nuclei_AreaShape_Area"] == "float"
    keys = loads.ask("SHOW KEYS FROM MyExpt_Per_Object")
    assert [(k[2], k[4]) for k in keys] == [("PRIMARY", "ImageNumber"), ("PRIMARY", "ObjectNumber")]
    (made,) = [row[1] for row in loads.ask("SHOW CREATE TABLE MyExpt_Per_Relationships")]
    assert "CONSTRAINT `MyExpt_Per_RRTypeIdFK` FOREIGN KEY (`relationship_type_id`)" in made
    assert "REFERENCES `MyExpt_Per_RelationshipTypes`" in made
    assert "KEY `MyExpt_Per_IRelationships1` (`image_number1`" in made
    (made,) = [row[1] for row in loads.ask("SHOW CREATE TABLE Experiment")]
    assert "AUTO_INCREMENT" in made
    (made,) = [row[1] for row in loads.ask("SHOW CREATE TABLE Experiment_Properties")]
    assert "(`experiment_id`,`object_name`(200),`field`(200))" in made
    # a float of MySQL has 24 bits; NULL stays NULL, and text what it is
    assert loads.ask("SELECT Nuclei_AreaShape_Area FROM MyExpt_Per_Object ORDER BY 1") == [
        (0.1,), (1.5,), (16777200.0,),
    ]  # fmt: skip
    assert loads.ask(
        "SELECT Image_Metadata_Plate, Mean_Nuclei_AreaShape_Area IS NULL FROM MyExpt_Per_Image"
    ) == [("P 1", 0), ("P-2", 1), ("Ü\\", 0)]
    assert loads.ask("SELECT COUNT(*) FROM MyExpt_Per_RelationshipsView") == [(6,)]
    found = dict(loads.ask("SELECT field, value FROM Experiment_Properties"))
    plate = 'SELECT ImageNumber FROM MyExpt_Per_Image WHERE Image_Metadata_Plate = "P 1"'
    assert found["filter_SQL_Plate_P_1"] == plate
    assert "db_sqlite_file" not in found
    assert {k: v for k, v in found.items() if k.startswith("db_")} == {
        "db_type": "mysql", "db_port": "3306", "db_host": loads.db.host, "db_name": "screen",
        "db_user": "ann", "db_passwd": "",
    }  # fmt: skip


def test_a_load_again_replaces_what_it_made_whatever_the_setting(
    loads: Loads, tmp_path: Path
) -> None:
    loads.load(sqlite(tmp_path / "1.mysql"))
    before = loads.db.dump("screen")
    loads.load(tmp_path / "1.mysql")
    assert loads.db.dump("screen") == before
    # other image sets, of a run that went on
    loads.load(sqlite(tmp_path / "2.mysql", [*IMAGES, (4, "P 1", [2.5])], "2026-01-01"))
    assert loads.ask("SELECT COUNT(*) FROM MyExpt_Per_Image") == [(4,)]
    assert loads.ask("SELECT experiment_id, name FROM Experiment") == [(1, "It")]


def test_never_leaves_the_tables_of_others(loads: Loads, tmp_path: Path) -> None:
    path = sqlite(tmp_path / "1.mysql")
    loads.load(path)
    loads.known = {}
    before = loads.db.dump("screen")
    error = refused(Exit.CANNOT_CREATE, "MyExpt_Per_Image, MyExpt_Per_Object", loads.load, path)
    assert "Data and schema" in error.todo
    assert loads.db.dump("screen") == before and loads.tables == TABLES


def test_data_and_schema_makes_all_again_and_adds_an_experiment(
    db: MariaDB, tmp_path: Path
) -> None:
    loads = Loads(db, "Data and schema")
    loads.load(sqlite(tmp_path / "1.mysql"))
    loads.ask("DROP TABLE MyExpt_Per_Object")
    loads.ask("CREATE VIEW MyExpt_Per_Object AS SELECT ImageNumber FROM MyExpt_Per_Image")
    loads.ask("CREATE TABLE Another (a INTEGER)")
    loads.known = {}
    loads.load(sqlite(tmp_path / "2.mysql", IMAGES[:1]))
    assert loads.tables == {*TABLES, "Another"}
    assert loads.ask("SELECT COUNT(*) FROM MyExpt_Per_Object") == [(2,)]
    assert loads.ask("SELECT experiment_id FROM Experiment") == [(1,), (2,)]
    loads.load(tmp_path / "2.mysql")
    assert loads.ask("SELECT experiment_id FROM Experiment") == [(1,), (2,)]


def test_data_only_keeps_the_tables_and_replaces_image_sets_by_number(
    db: MariaDB, tmp_path: Path
) -> None:
    loads = Loads(db, "Data only")
    loads.load(sqlite(tmp_path / "1.mysql"))
    loads.known = {}
    loads.ask("ALTER TABLE MyExpt_Per_Image ADD own INTEGER")
    newer = sqlite(tmp_path / "2.mysql", [(2, "new", [9.0]), (4, "P 4", [2.5])], "2026-03-03")
    with closing(sqlite3.connect(newer)) as connection:
        # the server has other numbers for these kinds
        connection.execute("UPDATE MyExpt_Per_RelationshipTypes SET relationship_type_id = 9 - "
                           "relationship_type_id")  # fmt: skip
        connection.execute("UPDATE MyExpt_Per_Relationships SET relationship_type_id = 9 - "
                           "relationship_type_id")  # fmt: skip
        connection.execute(
            "INSERT INTO MyExpt_Per_RelationshipTypes VALUES (1, 20, 'New', 'a', 'b')"
        )
        connection.execute("INSERT INTO MyExpt_Per_Relationships VALUES (1, 4, 1, 4, 1)")
        connection.commit()
    for _ in range(2):
        assert loads.load(newer) == 2
        assert loads.ask("SELECT ImageNumber, Image_Metadata_Plate FROM MyExpt_Per_Image") == [
            (1, "P 1"), (2, "new"), (3, "Ü\\"), (4, "P 4"),
        ]  # fmt: skip
        assert loads.ask("SELECT COUNT(*) FROM MyExpt_Per_Object") == [(5,)]
        assert loads.ask(
            "SELECT relationship, COUNT(*) FROM MyExpt_Per_RelationshipsView GROUP BY 1 ORDER BY 1"
        ) == [("Neighbors", 5), ("New", 1), ("Parent", 5)]
        stamps = "SELECT Run_Timestamp, Modification_Timestamp FROM MyExpt_Per_Experiment"
        assert loads.ask(stamps) == [("2026-01-01", "2026-02-02")]
        assert loads.ask("SELECT experiment_id FROM Experiment") == [(1,)]
        assert "own" in [row[0] for row in loads.ask("SHOW COLUMNS FROM MyExpt_Per_Image")]


@pytest.mark.parametrize("at", ["fill", "rename", "describe", "image sets"])
def test_a_load_that_is_killed_never_looks_complete_and_the_next_one_is_whole(
    db: MariaDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    loads = Loads(db, "Data only" if at == "image sets" else "Never")
    path = sqlite(tmp_path / "1.mysql")
    if at == "image sets":
        loads.load(path)
        loads.known = {}
        loads.ask("UPDATE MyExpt_Per_Image SET Image_Metadata_Plate = 'old'")
    before = db.dump("screen")

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> Iterator[Any]:
        raise Killed

    if at == "fill":
        real = Load._fill

        def half(self: Load, source: Any, cursor: Any, table: Any, sql: str) -> None:
            if table.name.endswith("Relationships"):
                raise Killed
            real(self, source, cursor, table, sql)

        monkeypatch.setattr(Load, "_fill", half)
    elif at == "rename":
        monkeypatch.setattr(Load, "_put_in_place", killed)
    elif at == "describe":
        monkeypatch.setattr(Load, "_describe", killed)
    else:
        monkeypatch.setattr(Load, "_types", killed)
    with pytest.raises(Killed):
        loads.load(path)
    if at == "describe":
        # the tables are whole, and known to be this run's
        assert loads.ask("SELECT * FROM Experiment") == []
    elif at == "image sets":
        assert db.dump("screen") == before
    else:
        assert "MyExpt_Per_Image" not in loads.tables
    monkeypatch.undo()
    assert loads.load(path) == 3
    assert loads.tables == TABLES
    assert loads.ask("SELECT experiment_id FROM Experiment") == [(1,)]


def test_what_the_server_does_not_take_is_said_and_nothing_is_there(
    loads: Loads, tmp_path: Path
) -> None:
    path = sqlite(tmp_path / "1.mysql", [(1, "P", [1e300])])
    refused(Exit.CANNOT_CREATE, "Out of range value for column", loads.load, path)
    assert not loads.tables & TABLES
    loads.target = Target(server_of(loads.db, named=f"127.0.0.1:{closed_port()}"), ())
    refused(Exit.UNAVAILABLE, "can't reach", loads.load, path)


# --- a merge --------------------------------------------------------------------------------------


def test_a_merge_leaves_the_database_in_the_server_and_not_in_the_result(
    db: MariaDB, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import test_database_merge
    from test_database_merge import NAME, PROPERTIES, Databases

    monkeypatch.setattr(test_database_merge, "NAME", "db/screen.mysql")
    monkeypatch.setattr(test_database_merge, "PROPERTIES", "db/screen_MyExpt.properties")
    tree = Databases(tmp_path / "base", 3)
    first = tree.chunk([1, 3], [(1, "P 1", [0.5, 1.5]), (2, "P-2", [2.5])])
    tree.chunk([2], [(1, "P 1", [3.5])])
    for file in tree.workspace.chunks.rglob("*.properties"):
        file.write_text(file.read_text().replace("Default.db", "screen.mysql"))
    assert first.name == "screen.mysql" and (first.name, "") != (NAME, PROPERTIES)
    copy = module(1, **{
        "Database type": "SQLite", "Name the SQLite database file": "screen.mysql",
        "Output file location": "Default Output Folder sub-folder|db", "Database host": db.host,
        "Experiment name": "Ann_bpcp_quote_s",
    })  # fmt: skip
    well = "    Calculate the per-well mean values of object measurements?:Yes\n"
    text = "CellProfiler Pipeline: x\nVersion:5\n" + text_of(copy) + well
    tree.workspace.pipeline.write_text(text)
    user = tmp_path / "user.cppipe"
    user.write_text(text.replace("Password:", "Password:wr0ng"))
    run = {"group_sizes": [3], "columns": {}, "root": "/", "pipeline": str(user)}
    write_json(tree.workspace.run, run)
    analysis = tree.workspace.analysis

    error = refused(Exit.NO_PERMISSION, "refuses ann", merge.merge, tree.workspace)
    assert f"bpcp merge -d 'plate 1' -p {user}" in error.todo
    assert not list(analysis.rglob("*.mysql")) and not tree.workspace.merged.exists()
    monkeypatch.setenv("MYSQL_PWD", SECRET)
    merged = merge.merge(tree.workspace)
    assert merged.fresh and list(merged.loaded.values()) == [
        f"loaded 3 image sets into the database screen on {db.host}"
    ]
    assert not list(analysis.rglob("*.mysql"))
    assert db.ask("SELECT ImageNumber FROM MyExpt_Per_Image", "screen") == [(1,), (2,), (3,)]
    assert db.ask("SELECT name FROM Experiment", "screen") == [("Ann's",)]
    said = (analysis / "db" / "screen_MyExpt.properties").read_text()
    assert f"\ndb_type      = mysql\ndb_port      = 3306\ndb_host      = {db.host}\n" in said
    assert "sqlite" not in said and "\ndb_passwd    = \n" in said
    script = analysis / "db" / "SQL__Per_Well_SETUP.SQL"
    assert script.read_text().startswith("USE screen;\nCREATE TABLE MyExpt_Per_Well_avg AS")
    assert "db/SQL__Per_Well_SETUP.SQL" in merged.tables and "db/screen.mysql" not in merged.tables
    for file in tree.workspace.base.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    # again, nothing; where somebody dropped it, again all
    assert not merge.merge(tree.workspace).fresh
    db.ask("DROP TABLE MyExpt_Per_Image", "screen")
    assert merge.merge(tree.workspace).fresh
    assert db.ask("SELECT COUNT(*) FROM MyExpt_Per_Image", "screen") == [(3,)]
    # a server that is down does not undo what is merged
    monkeypatch.setenv("MYSQL_PWD", "wr0ng")
    assert not merge.merge(tree.workspace).fresh


def test_names_of_files_of_servers() -> None:
    a, b, c = Server("h", "u", "d"), Server("h2", "u", "d"), Server("h", "u", "e")
    assert waiting_name(a, []) == "d.mysql"
    assert waiting_name(b, [a, c]) == "d.mysql2"
    assert waiting_name(a, [a, b, c]) == "d.mysql"
    assert waiting_name(c, [a, b]) == "e.mysql"


# --- wells ----------------------------------------------------------------------------------------


def test_names_are_shortened_as_cellprofiler_shortens_them() -> None:
    """Expected values are those of its ColumnNameMapping."""
    expected = {
        "avg_Cells_AreaShape_Area": "avg_Cells_AreaShape_Area",
        "avg_Nuclei_Neighbors_SecondClosestObjectNumber_Expanded_And_More_Than_64": (
            "avg_Nuclei_Neighbors_SecondClosestObjctNmbr_Expndd_And_Mr_Thn_64"
        ),
        # without its vowels it would be the one before
        "avg_Nuclei_Neighbors_SecondClosestObjectNumbr_Expanded_And_More_Than_64": (
            "avg_Nuclei_Neigbrs_SecondosestObectNumbr_Expanded_And_More_Than4"
        ),
        "avg_" + "AEIOU_" * 15: "avg_" + "AEIOU_" * 9 + "______",
        "avg999" + "x" * 80: "vg999" + "x" * 59,
    }
    assert shortened(expected) == expected


def test_a_script_for_each_form(tmp_path: Path) -> None:
    for combined in (True, False):
        path = make(tmp_path / f"{combined}.db", IMAGES, combined=combined)
        means = "Calculate the per-well mean values of object measurements?"
        one = Module("ExportToDatabase", 1, tuple({
            **SETTINGS, means: "Yes",
            KEEPING: "Single object table" if combined else "Single object view",
        }.items()))  # fmt: skip
        text = wells.script(one, path)
        with closing(open_read_only(path)) as connection:
            (layout,) = layouts(all_tables(connection))
        name, short = layout.objects[0].name, "OT" if combined else "OT1"
        assert f"JOIN {name} {short} ON IT.ImageNumber = {short}.ImageNumber\n" in text
        assert f"avg({short}.Nuclei_AreaShape_Area) as avg_Nuclei_AreaShape_Area,\n" in text
        assert "ExecutionTime" not in text and "avg(IT.Image_Metadata" not in text
        assert "avg(OT.ObjectNumber)" not in text and "Mean_" not in text
