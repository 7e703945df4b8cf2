"""Public buckets without credentials, at a stand-in for AWS's policies before a real S3 server."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT, Screen, refused, rows_of
from policy import Gate, forget, strangers_keys
from s3server import VENV, Bucket

from bpcp import s3, sync
from bpcp.access import Access
from bpcp.bucket import Bucket as Place
from bpcp.check import __main__ as check
from bpcp.errors import Exit
from bpcp.images import __main__ as images
from bpcp.s3 import Address, NotPublicError
from bpcp.workspace import locate

PREFIX = "p q/ü"
NAMES = [f"BR1_{well}_s1_w{n}.tif" for well in ("A01", "A02") for n in (1, 2)]
without_credentials = pytest.mark.usefixtures("no_credentials")


@pytest.fixture
def public(bucket: Bucket, gate: Gate) -> Bucket:
    """A bucket that everybody may read."""
    gate.public.add(bucket.name)
    return bucket


def line(*buckets: Bucket) -> str:
    names = ", ".join(bucket.url for bucket in buckets)
    return f"no AWS credentials: reading {names} unsigned, as public buckets allow\n"


def at(bucket: Bucket, gate: Gate, *more: str) -> list[str]:
    return ["--input", f"{bucket.url}/{PREFIX}", "--endpoint-url", gate.url, *more]


def into(bucket: Bucket, screen: Screen) -> None:
    """Move a screen's images into a bucket."""
    bucket.put_tree(screen.images, f"{PREFIX}/images")
    for path in screen.images.iterdir():
        path.unlink()


# --- signed or unsigned ------------------------------------------------------------------------


@without_credentials
def test_without_credentials_reading_is_unsigned_and_that_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = Access("http://127.0.0.1:1").decided("a-bucket", "b-bucket")
    assert first == Access("http://127.0.0.1:1", unsigned=True)
    assert first.options[-1] == "--no-sign-request"
    assert Access().decided("b-bucket").unsigned
    said = capsys.readouterr().err
    assert said == (
        "no AWS credentials: reading s3://a-bucket, s3://b-bucket unsigned, as public buckets"
        " allow\n"
    )
    assert Access(quiet=True).decided("c-bucket").unsigned
    assert capsys.readouterr().err == ""


def test_with_credentials_reading_is_signed_unless_asked_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    forget()
    assert Access().decided("a-bucket") == Access(unsigned=False)
    assert Access(unsigned=True).decided("a-bucket").unsigned
    assert Access(unsigned=True).to_write().decided("a-bucket").unsigned is False
    assert capsys.readouterr().err == ""


@without_credentials
def test_writing_needs_credentials() -> None:
    error = refused(Exit.BAD_SETTING, "s3://a-bucket: no AWS credentials",
                    Access().to_write().decided, "a-bucket")  # fmt: skip
    assert "`aws configure`" in error.todo


def test_what_earlier_versions_wrote_down_is_signed() -> None:
    assert Access.from_json({"endpoint_url": "", "profile": ""}).unsigned is False
    for unsigned in (True, False, None):
        found = Access("http://127.0.0.1:1", "lab", unsigned)
        assert Access.from_json(found.to_json()) == found


@without_credentials
@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        # a session by `aws sso login` that is no longer there
        ("[profile lab]\nsso_start_url = https://127.0.0.1:1/start\nsso_region = us-east-1\n"
         "sso_account_id = 123456789012\nsso_role_name = reader\n", Exit.NO_PERMISSION, "SSO"),
        ("[profile lab]\nsso_session = ours\nsso_account_id = 123456789012\nsso_role_name = r\n"
         "[sso-session ours]\nsso_start_url = https://127.0.0.1:1/start\nsso_region = us-east-1\n",
         Exit.NO_PERMISSION, "SSO"),
        ("[profile lab]\naws_access_key_id = half\n", Exit.BAD_SETTING, "Partial credentials"),
        ("[profile lab]\ncredential_process = false\n", Exit.BAD_SETTING, "custom-process"),
        ("", Exit.BAD_SETTING, "lab"),
    ],
)  # fmt: skip
def test_credentials_that_are_not_good_are_no_reason_to_go_on_without(
    public: Bucket, gate: Gate, monkeypatch: pytest.MonkeyPatch, config: str, code: Exit, words: str
) -> None:  # fmt: skip
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(config)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    began = time.monotonic()
    refused(code, words, s3.listing, Access(gate.url), Address(public.name))
    assert time.monotonic() < began + 10
    assert gate.requests == []
    if config:
        assert s3.listing(Access(gate.url, unsigned=True), Address(public.name)) == {}


# --- an instance's role ------------------------------------------------------------------------


class Role(BaseHTTPRequestHandler):
    """Answers as an instance's metadata service with a role does."""

    def do_PUT(self) -> None:
        self._answer("a-token")

    def do_GET(self) -> None:
        role = self.path.rpartition("/security-credentials/")[2]
        keys = (
            '{"Code": "Success", "AccessKeyId": "S3RVER", "SecretAccessKey": "S3RVER",'
            ' "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}'
        )
        self._answer(keys if role else "reader")

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Role)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("no_credentials", "role")
@pytest.mark.parametrize("disabled", [False, True])
def test_an_instance_s_role_is_asked_for_first(
    monkeypatch: pytest.MonkeyPatch, disabled: bool
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", str(disabled).lower())
    assert Access(quiet=True).decided("a-bucket").unsigned is disabled


@without_credentials
def test_a_metadata_service_that_does_not_answer_is_soon_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}/"
        )
        began = time.monotonic()
        assert Access(quiet=True).decided("a-bucket").unsigned
        first = time.monotonic() - began
        assert 1 < first < 6
        # and not waited for again
        assert Access(quiet=True).decided("b-bucket").unsigned
        assert time.monotonic() - began < first + 0.5


# --- bpcp images -------------------------------------------------------------------------------


def listed(bucket: Bucket, gate: Gate, tmp_path: Path, *more: str) -> list[dict[str, str]]:
    """Make a list of a bucket's images."""
    for name in NAMES:
        bucket.put(f"{PREFIX}/{name}", b"x")
    out = tmp_path / "load_data.csv"
    arguments = [f"{bucket.url}/{PREFIX}", "--out", str(out), "--endpoint-url", gate.url]
    assert images.main([*arguments, *more]) == Exit.OK
    return rows_of(out)


@without_credentials
def test_a_list_of_a_public_bucket(
    public: Bucket, gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    rows = listed(public, gate, tmp_path)
    assert [r["FileName_w1"] for r in rows] == NAMES[::2]
    assert capsys.readouterr().err.count(line(public)) == 1
    assert gate.requests and not gate.signed
    listed(public, gate, tmp_path, "-q", "--overwrite")
    assert capsys.readouterr().err == ""


def test_keys_that_the_bucket_refuses_and_the_option(
    public: Bucket, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    strangers_keys(monkeypatch)
    error = refused(Exit.NO_PERMISSION, "InvalidAccessKeyId", listed, public, gate, tmp_path)
    assert error.todo.endswith("; for a public bucket, --no-sign-request")
    assert len(gate.requests) == len(gate.signed) == 1
    assert len(listed(public, gate, tmp_path, "--no-sign-request")) == 2
    assert len(gate.signed) == 1
    said = capsys.readouterr().err + str(error) + error.todo
    assert "no AWS credentials" not in said and "STRANGER" not in said
    forget()


@without_credentials
def test_a_bucket_that_is_not_public_is_asked_once(
    bucket: Bucket, gate: Gate, tmp_path: Path
) -> None:  # fmt: skip
    error = refused(Exit.BAD_SETTING, f"{bucket.url}/{PREFIX}: no permission without credentials",
                    listed, bucket, gate, tmp_path)  # fmt: skip
    assert "--profile NAME" in error.todo
    assert len(gate.requests) == 1
    assert not (tmp_path / "load_data.csv").exists()


@without_credentials
def test_an_object_that_is_not_public(public: Bucket, gate: Gate, tmp_path: Path) -> None:
    public.put("x/list.txt", b"/data/P_A01_s1_w1.tif")
    gate.secret.add("list.txt")
    url = f"{public.url}/x/list.txt"
    refused(Exit.BAD_SETTING, f"{url}: no permission without credentials",
            images.main, [url, "--dry-run", "--endpoint-url", gate.url])  # fmt: skip
    with pytest.raises(NotPublicError, match="without credentials"):
        s3.fetch(Access(gate.url), public.name, "x/list.txt", tmp_path / "list.txt")
    assert len(gate.requests) == 2
    assert list(tmp_path.iterdir()) == []


# --- a run -------------------------------------------------------------------------------------


@without_credentials
def test_a_run_of_a_public_bucket_s_images(
    screen: Screen, public: Bucket, gate: Gate, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    screen.fill(4)
    into(public, screen)
    gate.secret.add("f2.tif")
    screen.plan("--chunk-size", "2", *at(public, gate))
    assert capsys.readouterr().err.count(line(public)) == 1
    assert screen.run_json()["source"]["unsigned"] is True
    # what the plan found out holds for the chunks
    strangers_keys(monkeypatch)
    screen.run()
    screen.merge()
    assert [float(r["Count_Nuclei"]) for r in screen.table("Image.csv")] == [1, 3, 4]
    (failed,) = (f for v in screen.verdicts() for f in v["failed"])
    assert failed["reason"].endswith("no permission to read it without credentials")
    assert not gate.signed


@without_credentials
def test_addresses_in_the_list_are_read_unsigned_too(
    screen: Screen, public: Bucket, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    screen.fill(2)
    into(public, screen)
    for row in screen.rows:
        row[1] = f"{public.url}/{PREFIX}/images"
    screen.write()
    options = ["--endpoint-url", gate.url]
    found = check.main(screen.arguments("--json", *options))
    assert capsys.readouterr().err.count(line(public)) == 1
    assert found == check.main(screen.arguments("-q", "--no-sign-request", *options))
    assert "no AWS" not in capsys.readouterr().err
    assert screen.all(*options).done == 2
    assert not gate.signed


def test_what_is_planned_signed_is_not_read_unsigned_later(
    screen: Screen, public: Bucket, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    forget()
    screen.fill(2)
    into(public, screen)
    screen.plan("-q", *at(public, gate))
    assert screen.run_json()["source"]["unsigned"] is False
    asked = len(gate.requests)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    forget()
    refused(Exit.BAD_SETTING, f"{public.url}: no AWS credentials", screen.run)
    assert len(gate.requests) == asked
    forget()


def test_the_option_is_for_the_input_alone(screen: Screen, public: Bucket, gate: Gate) -> None:
    screen.fill(1)
    into(public, screen)
    screen.plan("-q", *at(public, gate, "--no-sign-request", "--output", f"{public.url}/out"))
    place = Place.of_run(screen.workspace)
    assert place is not None
    assert gate.signed == []
    place.sign()
    assert gate.signed
    # who may not list it with these keys is told of the option for images, not for results
    gate.add("answer", "list-type", status=403, code="AccessDenied")
    error = refused(Exit.NO_PERMISSION, "no permission", place.is_ahead)
    assert "--no-sign-request" not in error.todo


@without_credentials
def test_a_run_without_credentials_is_refused_an_output(
    screen: Screen, public: Bucket, gate: Gate
) -> None:  # fmt: skip
    screen.fill(1)
    into(public, screen)
    for more in ((), ("--no-sign-request",)):
        done = subprocess.run(
            [ROOT / "run_analysis_pipeline.sh", *screen.arguments(), "--output", "s3://private/out",
             *at(public, gate, *more)],
            env={**os.environ, "BPCP_VENV": str(VENV)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == Exit.BAD_SETTING
        assert "s3://private: no AWS credentials" in done.stderr
    assert gate.requests == []
    assert not screen.workspace.run.exists()


# --- bpcp sync ---------------------------------------------------------------------------------


@without_credentials
def test_images_and_results_come_in_unsigned(
    screen: Screen, public: Bucket, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    screen.fill(2)
    into(public, screen)
    sync.main(["in", *screen.arguments(), *at(public, gate)])
    assert line(public) in capsys.readouterr().err
    assert len(list(screen.images.iterdir())) == 2
    output = ["--output", f"{public.url}/out", "--endpoint-url", gate.url]
    for direction in ("start", "out"):
        refused(Exit.BAD_SETTING, f"{public.url}: no AWS credentials",
                sync.main, [direction, *screen.arguments(), *output])  # fmt: skip
        refused(Exit.USAGE, "--no-sign-request is for reading", sync.main,
                [direction, *screen.arguments(), *output, "--no-sign-request"])  # fmt: skip
    assert not gate.signed
    # the owner's results, brought to another machine
    with monkeypatch.context() as owner:
        owner.setenv("AWS_ACCESS_KEY_ID", "S3RVER")
        owner.setenv("AWS_SECRET_ACCESS_KEY", "S3RVER")
        forget()
        screen.all()
        sync.main(["start", *screen.arguments(), *output])
        sync.main(["out", *screen.arguments(), *output])
    forget()
    gate.signed.clear()
    pipeline = tmp_path / "other" / "pipelines" / screen.pipeline.name
    pipeline.parent.mkdir(parents=True)
    pipeline.write_bytes(screen.pipeline.read_bytes())
    sync.main(["in", "-d", screen.dataset, "-p", str(pipeline), *output])
    there = locate(screen.dataset, pipeline).analysis
    assert rows_of(there / "Image.csv") == screen.table("Image.csv")
    assert not gate.signed


# --- regions -----------------------------------------------------------------------------------


@without_credentials
def test_a_bucket_in_another_region_is_found_unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.awsrequest import AWSResponse

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    hosts = []

    def answer(request: Any, **_: object) -> AWSResponse:
        hosts.append(request.url.partition("?")[0])
        assert "Authorization" not in request.headers
        if "eu-west-1" in request.url:
            code, body = 301, "<Error><Code>PermanentRedirect</Code></Error>"
        else:
            code, body = 200, "<ListBucketResult><Name>a-bucket</Name></ListBucketResult>"
        raw = SimpleNamespace(stream=lambda *_, **__: iter([body.encode()]))
        return AWSResponse(request.url, code, {"x-amz-bucket-region": "us-west-2"}, raw)

    access = Access(quiet=True)
    s3.client(access.decided("a-bucket")).meta.events.register("before-send.s3", answer)
    assert s3.listing(access, Address("a-bucket")) == {}
    assert hosts == [
        "https://a-bucket.s3.eu-west-1.amazonaws.com/",
        "https://a-bucket.s3.us-west-2.amazonaws.com/",
    ]
