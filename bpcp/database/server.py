"""The MySQL or MariaDB server that an ExportToDatabase module names: reached, and asked.

Chunks can't write there: each process would make the same tables again. A run's copy of the
pipeline writes SQLite instead, to a file that is called like the server's database, and the merge
loads it once; see `load`.

Host and port are read as CellProfiler reads them. The password is looked for in the environment's
MYSQL_PWD, then in the file that BPCP_MYSQL_DEFAULTS names or ~/.my.cnf (section [client]), then in
the pipeline. It is kept nowhere.

Source: cellprofiler 4.2.8.1, modules/exporttodatabase.py (unpack_hostname, connect_mysql).
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bpcp.errors import BpcpError, Exit
from bpcp.pipeline import Module

# The ending of a SQLite file that waits to be loaded; CellProfiler takes the names of the files
# beside it from what comes before. Of further servers, a number follows.
ENDING = ".mysql"
_WAITING = re.compile(r".+\.mysql\d*")
# What stands for a quote ' in the run's copy: it would break the statements for SQLite.
QUOTE = "_bpcp_quote_"

_PORT = 3306
_TIMEOUT_S = 10
# Where the client library looks for a server on this machine, which it calls localhost.
_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108
_DENIED, _NO_DATABASE, NO_TABLE = (1044, 1045, 1130, 1142, 1227, 1698), 1049, 1146
# Too many connections, shut down, too many errors of this machine, killed; the client's own begin
# with 2000.
_BUSY, _CLIENT = (1040, 1053, 1129, 1203, 1927), range(2000, 3000)


@dataclass(frozen=True)
class Server:
    """A server, and the database in it.

    Attributes
    ----------
    named : str
        The host as the pipeline has it, with its port.
    user, database : str
    password : str
        What the pipeline says; see `password`.
    """

    named: str
    user: str
    database: str
    password: str = field(default="", repr=False)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        named = self.named
        if named.count(":") == 1:
            host, _, port = named.partition(":")
            return host, int(port) if port.isdigit() else _PORT
        found = re.match(r"\[([0-9a-fA-F:]+)\]:(\d+)", named)
        return (found[1], int(found[2])) if found else (named, _PORT)

    def __str__(self) -> str:
        return f"database {self.database} on {self.named}"

    @classmethod
    def of(cls, module: Module, password: str = "") -> Server:
        """Give the one that a module names."""
        return cls(
            module.get("Database host"), module.get("Username"), module.get("Database name"),
            password,
        )  # fmt: skip


def is_waiting(path: str) -> bool:
    """Tell whether a database's file is one that the merge loads into a server."""
    return bool(_WAITING.fullmatch(path))


def waiting_name(server: Server, others: Sequence[Server]) -> str:
    """Name the SQLite file of a server's database.

    Parameters
    ----------
    others : sequence of Server
        Those that modules before it write to.
    """
    alike = dict.fromkeys(s for s in others if s.database == server.database)
    at = list(alike).index(server) if server in alike else len(alike)
    return f"{server.database}{ENDING}{at + 1 if at else ''}"


def password(server: Server) -> str:
    """Give a server's password.

    Raises
    ------
    BpcpError
        66 or 65 where the named defaults file can't be read.
    """
    if "MYSQL_PWD" in os.environ:
        return os.environ["MYSQL_PWD"]
    found = _defaults().get("password")
    return server.password if found is None else found


def _defaults() -> dict[str, str]:
    """Read section [client] of the user's defaults file."""
    named = os.environ.get("BPCP_MYSQL_DEFAULTS")
    path = Path(named) if named else Path.home() / ".my.cnf"
    if not named and not path.is_file():
        return {}
    parser = configparser.RawConfigParser(allow_no_value=True, strict=False)
    try:
        text = path.read_text(encoding="utf-8")
        # what MySQL's own programs take, and configparser does not
        parser.read_string(re.sub(r"^\s*!include.*$", "", text, flags=re.MULTILINE))
    except OSError as error:
        raise BpcpError(
            Exit.NO_INPUT, f"can't read {path}: {error.strerror}", "see BPCP_MYSQL_DEFAULTS"
        ) from error
    except (configparser.Error, UnicodeDecodeError) as error:
        what = str(error).splitlines()[0] if isinstance(error, UnicodeDecodeError) else "its form"
        raise BpcpError(
            Exit.MALFORMED_INPUT, f"{path} is no MySQL defaults file: {what}",
            "[client], and below it: password = …",
        ) from None  # fmt: skip
    section = parser["client"] if parser.has_section("client") else {}
    return {k: _unquoted(v) for k, v in section.items() if v is not None}


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] in "'\"" else value


@contextmanager
def connected(server: Server) -> Iterator[Any]:
    """Connect to a server; what is not committed is rolled back.

    Raises
    ------
    BpcpError
        69 where it can't be reached, or has no such database; 77 where it refuses.
    """
    import pymysql

    host, port = server.address
    own = host == "localhost"
    places = [os.environ.get("MYSQL_UNIX_PORT", ""), *_SOCKETS] if own else []
    socket = next((p for p in places if p and Path(p).is_socket()), None)
    try:
        connection = pymysql.connect(
            host=host, port=port, unix_socket=socket, user=server.user,
            password=password(server), database=server.database, charset="utf8",
            connect_timeout=_TIMEOUT_S, autocommit=False,
            ssl_ca=_defaults().get("ssl-ca"),
        )  # fmt: skip
    except (pymysql.Error, OSError, RuntimeError, ValueError) as error:
        raise refusal(server, error) from None
    try:
        yield connection
    finally:
        with suppress(pymysql.Error, OSError):
            connection.close()


def refusal(server: Server, error: Exception) -> BpcpError:
    """Say why a server can't be used, and what to do."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    words = str(error.args[-1]) if error.args else type(error).__name__
    if code in _DENIED:
        return BpcpError(
            Exit.NO_PERMISSION,
            f"the MySQL server refuses {server.user} for the {server}: {words}",
            "give the password by MYSQL_PWD or ~/.my.cnf, and let the server's administrator"
            f" GRANT ALL ON {server.database}.* to that user",
        )
    if code == _NO_DATABASE:
        return BpcpError(
            Exit.UNAVAILABLE,
            f"the MySQL server has no {server}",
            f"make it, as CellProfiler makes none: CREATE DATABASE {server.database}",
        )
    if code and code not in _BUSY and code not in _CLIENT:
        return BpcpError(
            Exit.CANNOT_CREATE,
            f"the MySQL server does not take what is for the {server}: {words}",
            "see its own words; one CellProfiler process would have been told the same",
        )
    return BpcpError(
        Exit.UNAVAILABLE,
        f"can't reach the MySQL server of the {server} as {server.user}: {words}",
        "is it running, and do 'Database host' (HOST or HOST:PORT) and its firewall allow this"
        " machine?",
    )


def has(cursor: Any, table: str) -> bool:
    """Tell whether a table or view is there."""
    import pymysql

    try:
        cursor.execute(f"SELECT 1 FROM `{table}` LIMIT 0")
    except (pymysql.err.ProgrammingError, pymysql.err.OperationalError) as error:
        if error.args[0] == NO_TABLE:
            return False
        raise
    return True


def prefix_of(module: Module) -> str:
    """Give what stands before the names of a module's tables."""
    wanted = module.get("Add a prefix to table names?") == "Yes"
    return module.get("Table prefix") if wanted else ""


def database_lines(server: Server) -> str:
    """Give what a properties file says of a server; the password is the reader's to fill in."""
    return (
        "db_type      = mysql\ndb_port      = 3306\n"
        f"db_host      = {server.named}\ndb_name      = {server.database}\n"
        f"db_user      = {server.user}\ndb_passwd    = "
    )


def try_out(server: Server, probe: str, columns: int = 1) -> None:
    """Find out whether a server lets its user make, rename and drop tables.

    Parameters
    ----------
    probe : str
        A table of this name, and one with "_" behind it, are made and dropped.
    columns : int
        How many columns it has.

    Raises
    ------
    BpcpError
        69 or 77 where it does not; 73 where a table has too many columns for it.
    """
    import pymysql

    with connected(server) as connection, connection.cursor() as cursor:
        cursor.execute("SET NAMES utf8")
        try:
            cursor.execute(f"DROP TABLE IF EXISTS `{probe}`, `{probe}_`")
            listed = ", ".join(f"c{i} FLOAT" for i in range(columns))
            cursor.execute(f"CREATE TABLE `{probe}` ({listed})")
            cursor.execute(f"RENAME TABLE `{probe}` TO `{probe}_`")
            cursor.execute(f"DROP TABLE `{probe}_`")
        except pymysql.Error as error:
            raise refusal(server, error) from None
