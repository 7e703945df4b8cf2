"""ExportToDatabase to MySQL: what the merge loads is what one process writes into the server."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Lab, Plain, wait_for
from mariadb import MariaDB, mariadb  # noqa: F401 -- a fixture
from test_database_matrix import (
    ALL,
    EACH,
    EXPERIMENT,
    FILTER,
    KEEPING,
    NAME,
    OVERWRITE,
    VIEW,
    WELLS,
    Combination,
    add_all,
)
from test_variants import COSTLY
from texts import Text

pytestmark = [pytest.mark.slow, pytest.mark.long]

SECRET = "s3cret-of-ann"  # noqa: S105 -- of a server that ends with the tests
QUOTED = {
    key: value.replace("Image_Metadata_Site = 1", "Image_Metadata_Well = 'A01'")
    for key, value in FILTER.items()
}
MODULES: dict[str, Combination] = {
    "again": (
        {NAME: "Again_", KEEPING: VIEW, OVERWRITE: "Data and schema", EXPERIMENT: "Bob's \"one\"",
         **WELLS},
        QUOTED,
    ),
    "kept": ({NAME: "Kept_", KEEPING: EACH, OVERWRITE: "Data only"}, {}),
    "new": ({NAME: "New_", OVERWRITE: "Never"}, {}),
    "images": ({NAME: "Images_", ALL: "None", OVERWRITE: "Never", **WELLS}, {}),
}  # fmt: skip


def copy(db: MariaDB, source: str, target: str) -> None:
    """Make a database as another one is; without views."""
    db.make(target)
    for name, kind in db.ask("SHOW FULL TABLES", source):
        if kind == "BASE TABLE":
            db.ask(f"CREATE TABLE {target}.{name} LIKE {source}.{name}")
            db.ask(f"INSERT INTO {target}.{name} SELECT * FROM {source}.{name}")  # noqa: S608


def write(lab: Lab, rows: list[dict[str, str]]) -> None:
    with lab.image_list.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def bpcp(lab: Lab, command: str, password: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "bin" / "bpcp"), command, "-d", lab.dataset, "-p", str(lab.pipeline), *options],
        env={**os.environ, "MYSQL_PWD": password},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_equals_one_process(
    lab: Lab,
    plain: Callable[[Lab], Plain],
    mariadb: MariaDB,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    db = mariadb
    db.make("screen", "ann")
    pipeline = Text(lab.pipeline.read_text()).disable(*COSTLY)
    named = {
        "Database type": "MySQL", "Database name": "screen", "Database host": db.host,
        "Username": "ann",
    }  # fmt: skip
    add_all(pipeline, MODULES, **named)
    lab.pipeline.write_text(pipeline.text)
    with lab.image_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # what an earlier process left there, of which each module does something else
    write(lab, [{**row, "Metadata_Plate": "old"} for row in rows[2:5]])
    plain(lab).result()
    for table in ("Image", "Object", "Experiment", "Relationships", "RelationshipTypes"):
        db.ask(f"DROP TABLE New_Per_{table}", "screen")
    db.ask("DROP TABLE Images_Per_Image", "screen")
    copy(db, "screen", "earlier")

    write(lab, rows)
    copy(db, "earlier", "screen")
    one = plain(lab).result()
    expected = db.dump("screen")
    copy(db, "earlier", "screen")
    db.ask(f"ALTER USER ann@'127.0.0.1' IDENTIFIED BY '{SECRET}'")

    assert "refuses ann" in lab.run("--chunk-size", "5", expect=77, MYSQL_PWD="wr0ng")  # noqa: S106
    assert not lab.verdicts()
    checked = bpcp(lab, "check", "wr0ng", "--no-images")
    assert checked.returncode == 77 and "pipeline-mysql-refused" in checked.stdout
    said = lab.run("--chunk-size", "5", MYSQL_PWD=SECRET)
    assert "12 of 12 image sets" in said and "loaded 48 image sets" in said
    assert len(lab.verdicts()) == 3
    lab.compare(one)
    found = db.dump("screen")
    assert set(found) == set(expected)
    for name, (made, table) in expected.items():
        assert found[name][0] == made, name
        home = [
            tuple(c.replace(str(one), str(lab.analysis)) if isinstance(c, str) else c for c in row)
            for row in table
        ]
        assert found[name][1] == home, name
    for file in lab.base.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file

    # a server that went away before the load: nothing is lost, and it can be done again
    (lab.status / "merged.json").unlink()
    done = bpcp(lab, "merge", "wr0ng")
    assert done.returncode == 77 and "bpcp merge -d demo" in done.stderr
    assert (lab.analysis / "Image.csv").is_file()
    assert bpcp(lab, "merge", SECRET).returncode == 0
    again = db.dump("screen")
    assert again["New_Per_Image"] == found["New_Per_Image"]
    assert again["Experiment"] == found["Experiment"]
    assert "nothing to do" in lab.run("--chunk-size", "5", MYSQL_PWD=SECRET)
    lab.compare(one)

    # Ctrl-C in the middle of the load: what the server has stays, and the next merge loads again
    (lab.status / "merged.json").unlink()
    with mariadb.connect("screen") as keeper, keeper.cursor() as lock:
        # what the load puts in place last, and what no check touches
        lock.execute("LOCK TABLES New_Per_Image WRITE")
        monkeypatch.setenv("MYSQL_PWD", SECRET)
        started = lab.start("--chunk-size", "5")
        wait_for(
            lambda: (
                ("ann", "Waiting for table metadata lock")
                in {(row[1], row[6]) for row in db.ask("SHOW PROCESSLIST")}
            )
        )
        os.killpg(started.pid, signal.SIGINT)
        assert started.wait(timeout=60) == 75
        assert "stopped\n  → go on with: " in (lab.base / "start.log").read_text()
        lock.execute("UNLOCK TABLES")
    assert db.dump("screen") == again
    assert "loaded 48 image sets" in lab.run("--chunk-size", "5", MYSQL_PWD=SECRET)
    assert db.dump("screen")["New_Per_Image"] == found["New_Per_Image"]
    lab.compare(one)
