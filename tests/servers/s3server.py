"""The S3 server that tests run against, and a proxy before it that fails as networks fail.

Both listen on loopback only. `ami_setup/install.sh --dev` installs the server, s3rver; it keeps
what it is given as plain files, so it can be killed and started again. The fixtures are for any
conftest.py to import.
"""

from __future__ import annotations

import http.client
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(os.environ.get("BPCP_VENV") or ROOT / ".venv")
KEY = "S3RVER"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def environment(folder: Path) -> dict[str, str]:
    """Give the environment for clients: dummy keys, and nothing of the user's own.

    Parameters
    ----------
    folder : Path
        For the AWS CLI's configuration; nothing is there.
    """
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws-credentials"),
        "AWS_PAGER": "",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def is_foreign(name: str) -> bool:
    """Tell whether a variable could lead a client elsewhere, or to somebody's keys."""
    return name.startswith("AWS_") or name.lower() in _PROXIES


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class S3Server:
    """An s3rver over a folder; it ends with whoever started it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    def start(self) -> S3Server:
        """Start it, and wait until it answers."""
        script = VENV / "servers" / "node_modules" / "s3rver" / "bin" / "s3rver.js"
        assert script.is_file(), f"{script} is missing: ami_setup/install.sh --dev"
        # what bears its name may be a script that starts it, and would be killed in its stead
        node = subprocess.run(
            [VENV / "bpcp" / "bin" / "node", "-p", "process.execPath"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "KILL", "--",
                    # it encrypts its marks between the pages of a listing by DES
                    node, "--openssl-legacy-provider", str(script),
                    "-d", str(self.folder), "-a", "127.0.0.1", "-p", str(self.port),
                    "--silent", "--no-vhost-buckets",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, f"s3rver ended: see {log.name}"
            assert time.monotonic() < end, "s3rver does not answer"
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it, as a power cut would; `start` brings it back with all that it had."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @cached_property
    def client(self) -> Any:
        """Tests' own way to it, past the proxy."""
        import botocore.session

        return botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=KEY,
        )

    def bucket(self) -> Bucket:
        """Make a new bucket."""
        made = Bucket(f"screen-{next(self._names)}", self.client)
        made.client.create_bucket(Bucket=made.name)
        return made


@dataclass(frozen=True)
class Bucket:
    """A bucket, and what a test does to it behind bpcp's back."""

    name: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def put_tree(self, folder: Path, prefix: str = "") -> None:
        """Put all files below a folder under a prefix."""
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            self.put(f"{prefix}/{name}" if prefix else name, path.read_bytes())


@dataclass
class Fault:
    """Something that goes wrong with requests whose path holds `where`, so many times.

    Attributes
    ----------
    kind : str
        "answer": `status` and `code` instead of what the server says. "cut": the connection ends
        behind `after` bytes of the body. "damage": the body's last byte is another one. "hold":
        behind half of the body nothing more comes before `go` is set.
    """

    kind: str
    where: str = ""
    times: float = float("inf")
    status: int = 0
    code: str = ""
    after: int = 0
    go: threading.Event = field(default_factory=threading.Event)
    # set once a request met it
    met: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Stands before an S3 server, passes everything on, and does harm where it is told to.

    Attributes
    ----------
    requests : list of (str, str)
        Method and path, decoded, of each request so far.
    bytes_per_s : float or None
        The bandwidth of all answers together.
    """

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.requests: list[tuple[str, str]] = []
        self.bytes_per_s: float | None = None
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._next = 0.0
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        for fault in self._faults:
            fault.go.set()
        self._http.shutdown()
        self._http.server_close()

    def add(self, kind: str, where: str = "", **more: Any) -> Fault:
        """Let something go wrong from now on; see Fault."""
        fault = Fault(kind, where, **more)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.bytes_per_s = None
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.go.set()

    def asked(self, method: str, where: str) -> int:
        """Count the requests so far whose path holds `where`."""
        return sum(m == method and where in path for m, path in list(self.requests))

    def refusal(self, method: str, path: str, authorization: str) -> Fault | None:
        """Say how a request is refused for who makes it; this proxy refuses nobody."""

    def _take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            for fault in self._faults:
                if fault.where in path and fault.times > 0:
                    fault.times -= 1
                    fault.met.set()
                    return fault
        return None

    def _wait_for_bandwidth(self, size: int) -> None:
        if self.bytes_per_s:
            with self._lock:
                start = max(self._next, time.monotonic())
                self._next = start + size / self.bytes_per_s
            time.sleep(max(0.0, self._next - time.monotonic()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path)
        fault = self.proxy._take(self.command, path)
        fault = fault or self.proxy.refusal(self.command, path, self.headers["Authorization"] or "")
        if fault and fault.kind == "answer":
            self._refuse(fault)
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("expect",)}
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.server.port, timeout=60)
        try:
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            data = answer.read()
        except OSError:
            self.close_connection = True  # as if the server itself had gone
            return
        finally:
            upstream.close()
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self._send(data, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _refuse(self, fault: Fault) -> None:
        data = f"<Error><Code>{fault.code}</Code><Message>so be it</Message></Error>".encode()
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _send(self, data: bytes, fault: Fault | None) -> None:
        if fault and fault.kind == "damage" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if fault and fault.kind == "cut":
            self.wfile.write(data[: fault.after])
            self.close_connection = True
            return
        if fault and fault.kind == "hold":
            half = len(data) // 2
            self.wfile.write(data[:half])
            self.wfile.flush()
            fault.go.wait()
            data = data[half:]
        for start in range(0, len(data), 1 << 14):
            block = data[start : start + (1 << 14)]
            self.proxy._wait_for_bandwidth(len(block))
            self.wfile.write(block)

    def handle(self) -> None:
        # the client may go away: that is what some tests are about
        with suppress(OSError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """Run a server for as long as the block."""
    server = S3Server(folder)
    try:
        yield server.start()
    finally:
        server.kill()


@contextmanager
def before(server: S3Server) -> Iterator[Proxy]:
    """Put a proxy before a server for as long as the block."""
    proxy = Proxy(server)
    try:
        yield proxy
    finally:
        proxy.close()


def close_off(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep clients of a test away from its user's keys and settings, and from the network."""
    for name in list(os.environ):
        if is_foreign(name):
            monkeypatch.delenv(name)
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server; each test has a bucket of its own in it."""
    with running(tmp_path_factory.mktemp("s3") / "data") as found:
        yield found


@pytest.fixture
def bucket(server: S3Server) -> Bucket:
    return server.bucket()


@pytest.fixture(scope="session")
def one_proxy(server: S3Server) -> Iterator[Proxy]:
    with before(server) as found:
        yield found


@pytest.fixture
def proxy(one_proxy: Proxy) -> Iterator[Proxy]:
    """What stands before the server, so that something can go wrong; nothing does so far."""
    one_proxy.requests.clear()
    yield one_proxy
    one_proxy.heal()


def wait_for(met: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
