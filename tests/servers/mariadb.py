"""A MariaDB server of the tests' own, on a loopback port and with a data folder that is temporary.

`ami_setup/install.sh --dev` installs it, where the system's archive offers it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import pytest

_ROOT = "root"


@dataclass(frozen=True)
class MariaDB:
    """A server that runs."""

    folder: Path
    port: int

    @property
    def host(self) -> str:
        """As ExportToDatabase takes it."""
        return f"127.0.0.1:{self.port}"

    def connect(self, database: str | None = None, user: str = _ROOT, password: str = "") -> Any:
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user=user, password=password, database=database,
            charset="utf8", autocommit=True,
        )  # fmt: skip

    def ask(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run a statement as the administrator."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def make(self, database: str, user: str = "", password: str = "", may: str = "ALL") -> None:
        """Make an empty database, and a user for it; what is there goes."""
        self.ask(f"DROP DATABASE IF EXISTS {database}")
        self.ask(f"CREATE DATABASE {database}")
        if user:
            self.ask(f"CREATE OR REPLACE USER {user}@'127.0.0.1' IDENTIFIED BY '{password}'")
            self.ask(f"GRANT {may} ON {database}.* TO {user}@'127.0.0.1'")

    def dump(self, database: str) -> dict[str, tuple[str, list[tuple[Any, ...]]]]:
        """Give how each table and view was made, and its rows in the order of their cells.

        Left out is what may differ between two runs: the columns ExecutionTime_, time stamps, and
        the order of the columns and properties that CellProfiler keeps in a Python set.
        """
        found = {}
        for (name,) in self.ask("SHOW TABLES", database):
            made = self.ask(f"SHOW CREATE TABLE `{name}`", database)[0][1]
            columns = [row[0] for row in self.ask(f"SHOW COLUMNS FROM `{name}`", database)]
            kept = [
                c
                for c in columns
                if "ExecutionTime_" not in c
                and c not in ("Run_Timestamp", "Modification_Timestamp")
            ]
            lines = [line for line in made.split("\n") if "ExecutionTime_" not in line]
            if name.endswith("Per_Experiment"):
                kept, lines = sorted(kept), sorted(line.rstrip(",") for line in lines)
            text = re.sub(r" AUTO_INCREMENT=\d+", "", "\n".join(lines))
            listed = ", ".join(f"`{c}`" for c in kept)
            rows = self.ask(f"SELECT {listed} FROM `{name}`", database)  # noqa: S608
            found[name] = (text, sorted(rows, key=repr))
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, port: int = 0) -> tuple[MariaDB, subprocess.Popen[bytes]]:
    """Start a server; its data folder is made where there is none."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
    tools = {n: shutil.which(n, path=path) for n in ("mariadb-install-db", "mariadbd")}
    if not all(tools.values()):
        pytest.skip("no MariaDB server: ami_setup/install.sh --dev installs mariadb-server-core")
    data = folder / "data"
    user = [f"--user={os.environ.get('USER') or 'root'}"] if os.geteuid() == 0 else []
    if not data.is_dir():
        subprocess.run(
            [
                str(tools["mariadb-install-db"]), "--no-defaults", f"--datadir={data}",
                "--auth-root-authentication-method=normal", "--skip-test-db", *user,
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )  # fmt: skip
    server = MariaDB(folder, port or _free_port())
    # a socket's path has 107 bytes at most, and pytest's folders are deep: this is below `data`
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [
                str(tools["mariadbd"]), "--no-defaults", f"--datadir={data}",
                "--socket=s", f"--port={server.port}",
                "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M",
                "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync",
                "--skip-innodb-doublewrite", "--sync-frm=0", "--skip-log-bin", *user,
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    end = time.monotonic() + 60
    while True:
        try:
            server.connect().close()
            return server, process
        except pymysql.Error:
            said = (folder / "server.log").read_text(errors="replace")[-2000:]
            assert process.poll() is None and time.monotonic() < end, said
            time.sleep(0.1)


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A server for all tests of a session; each makes databases of its own."""
    server, process = start(tmp_path_factory.mktemp("mariadb"))
    yield server
    process.terminate()
    process.wait(timeout=60)
