"""The policy of an instance that runs: each call that a run makes is allowed, and nothing else.

The calls are recorded at a proxy before a real S3 server, and, for CloudWatch Logs, in the client
before a stand-in (moto): AWS itself can't be reached from where these tests run. They are then held
against the policy with the rules of IAM that it uses: actions, resources, and the s3:prefix of
listings.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from conftest import Screen
from moto.server import ThreadedMotoServer
from s3server import Bucket as There
from s3server import Proxy

from bpcp import s3, sync
from bpcp.access import Access
from bpcp.bucket import Bucket
from bpcp.errors import BpcpError
from bpcp.run import cloudwatch
from bpcp.s3 import Address

POLICY = Path(__file__).resolve().parents[2] / "ami_setup" / "iam" / "run-instance.json"

Call = tuple[str, str, str]  # action, resource, prefix of a listing


def statements(**places: str) -> list[dict[str, Any]]:
    text = POLICY.read_text()
    # the longer names first: one may be a part of another
    for name in sorted(places, key=len, reverse=True):
        text = text.replace(name, places[name])
    found: list[dict[str, Any]] = json.loads(text)["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allows(statement: dict[str, Any], call: Call) -> bool:
    action, resource, prefix = call
    assert statement["Effect"] == "Allow"
    wanted = {"s3:prefix": prefix}
    return (
        action in listed(statement["Action"])
        and any(fnmatch.fnmatchcase(resource, r) for r in listed(statement["Resource"]))
        and all(
            kind == "StringLike"
            and any(fnmatch.fnmatchcase(wanted[key], p) for p in listed(patterns))
            for kind, condition in statement.get("Condition", {}).items()
            for key, patterns in condition.items()
        )
    )


def call_of(method: str, path: str) -> Call:
    """Name the S3 action that a request is, as the service reference of IAM has it."""
    target, _, query = path.partition("?")
    bucket, _, key = target.lstrip("/").partition("/")
    asked = parse_qs(query, keep_blank_values=True)
    if not key:
        assert method == "GET" and asked.get("list-type") == ["2"], path
        return "s3:ListBucket", f"arn:aws:s3:::{bucket}", asked.get("prefix", [""])[0]
    action = {
        "GET": "s3:GetObject",
        "HEAD": "s3:GetObject",
        "PUT": "s3:PutObject",
        "POST": "s3:PutObject",
        "DELETE": "s3:AbortMultipartUpload" if "uploadId" in asked else "s3:DeleteObject",
    }[method]
    return action, f"arn:aws:s3:::{bucket}/{key}", ""


@pytest.fixture
def calls_to_s3(screen: Screen, bucket: There, proxy: Proxy) -> list[Call]:
    """Do all that a run does with S3, and give the calls that it made."""
    screen.fill(4)
    bucket.put_tree(screen.images, "in/images")
    options = ("--input", f"{bucket.url}/in", "--output", f"{bucket.url}/out")
    options = (*options, "--endpoint-url", proxy.url)
    for row in screen.rows:
        row[1] = "images"
    screen.write()
    for image in screen.images.iterdir():
        image.unlink()
    place = Bucket(
        screen.workspace, Address.parse(f"{bucket.url}/out"), Access(endpoint_url=proxy.url)
    )
    output = ("--output", f"{bucket.url}/out", "--endpoint-url", proxy.url)
    sync.main(["start", *screen.arguments(), *output])
    screen.plan("-q", *options)
    screen.run()
    place.send_finished()
    screen.merge()
    # a file in parts, also one that fails; one that the run no longer has; one of another ETag
    large = screen.workspace.analysis / "large.bin"
    large.write_bytes(b"x" * (9 << 20))
    bucket.put("out/analysis/plate 1/measure/gone.csv", b"x")
    place.send_all(complete=True)
    (screen.workspace.analysis / "odd.bin").write_bytes(b"1234")
    bucket.put("out/analysis/plate 1/measure/odd.bin", b"4321")
    with pytest.raises(BpcpError):
        place.verify()
    large.write_bytes(b"y" * (9 << 20))
    proxy.add("answer", "partNumber=2", status=403, code="AccessDenied")
    with pytest.raises(BpcpError):
        place.send_all(complete=True)
    proxy.heal()
    place.workspace.writer.unlink()
    place.bring_back()
    sync.main(["in", *screen.arguments(), *options])
    return [call_of(*request) for request in proxy.requests]


def test_what_a_run_asks_of_s3_is_allowed_and_nothing_else(
    calls_to_s3: list[Call], bucket: There
) -> None:
    policy = statements(
        INPUT_BUCKET=bucket.name, INPUT_PREFIX="in", OUTPUT_BUCKET=bucket.name, OUTPUT_PREFIX="out"
    )
    about_s3 = [s for s in policy if listed(s["Action"])[0].startswith("s3:")]
    refused = {c for c in calls_to_s3 if not any(allows(s, c) for s in about_s3)}
    assert refused == set()
    used = {(s["Sid"], c[0]) for s in about_s3 for c in calls_to_s3 if allows(s, c)}
    assert used == {(s["Sid"], action) for s in about_s3 for action in listed(s["Action"])}


def test_a_call_outside_of_its_place_is_refused(bucket: There) -> None:
    policy = statements(
        INPUT_BUCKET=bucket.name, INPUT_PREFIX="in", OUTPUT_BUCKET=bucket.name, OUTPUT_PREFIX="out"
    )
    for call in (
        ("s3:PutObject", f"arn:aws:s3:::{bucket.name}/in/images/a.tif", ""),
        ("s3:DeleteObject", f"arn:aws:s3:::{bucket.name}/in/images/a.tif", ""),
        ("s3:GetObject", f"arn:aws:s3:::{bucket.name}/elsewhere/a.tif", ""),
        ("s3:ListBucket", f"arn:aws:s3:::{bucket.name}", "elsewhere/"),
        ("s3:ListBucket", f"arn:aws:s3:::{bucket.name}", ""),
        ("s3:PutBucketPolicy", f"arn:aws:s3:::{bucket.name}", ""),
    ):
        assert not any(allows(statement, call) for statement in policy), call


@pytest.fixture(scope="module")
def aws_stand_in() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


def test_what_goes_to_cloudwatch_is_allowed_and_nothing_else(
    aws_stand_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    client = s3.client(Access(endpoint_url=aws_stand_in), "logs")
    used: set[str] = set()
    client.meta.events.register(
        "before-call.logs", lambda model, **_: used.add(f"logs:{model.name}")
    )
    for _ in range(2):  # the second time the group is there
        sink = cloudwatch.Sink(client, "/bpcp/lab", "plate 1/measure/host/now")
        sink.send(["time=2026-11-20T10:00:00Z event=start"])
    about_logs = [s for s in statements() if listed(s["Action"])[0].startswith("logs:")]
    assert {a for s in about_logs for a in listed(s["Action"])} == used
    assert all("LOG_GROUP" in r for s in about_logs for r in listed(s["Resource"]))
