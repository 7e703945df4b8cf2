"""Events to CloudWatch Logs, at a stand-in (moto): AWS can't be reached from here."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError
from conftest import Screen
from moto.server import ThreadedMotoServer

from bpcp import s3
from bpcp.access import Access
from bpcp.run import cloudwatch

ROOT = Path(__file__).resolve().parents[2]
GROUP = "/bpcp/events"


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


def start(screen: Screen, url: str, group: str = GROUP) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "bpcp.run.cloudwatch", str(screen.workspace.status),
            "--group", group, "--endpoint-url", url,
        ],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_new_events_arrive_with_their_own_times(screen: Screen, aws: str) -> None:
    screen.fill(2)
    screen.plan("-q")
    events = screen.workspace.events
    events.parent.mkdir(parents=True, exist_ok=True)
    events.write_text("time=2026-11-20T09:00:00Z event=of_an_earlier_start\n")
    process = start(screen, aws)
    client = s3.client(Access(endpoint_url=aws), "logs")

    def streams() -> list[str]:
        try:
            found = client.describe_log_streams(logGroupName=GROUP)["logStreams"]
        except client.exceptions.ResourceNotFoundException:
            return []
        return [stream["logStreamName"] for stream in found]

    end = time.monotonic() + 60
    while not streams():
        assert time.monotonic() < end
        time.sleep(0.1)
    now = int(time.time()) // 60 * 60
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    with events.open("a") as file:
        file.write(f"time={stamp} event=start slots=2\nperl: a warning\ntime=torn")
    # told to end, it sends the rest; what is no whole line is not sent
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    (stream,) = streams()
    assert stream.startswith("plate 1/measure/")
    found = client.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)
    got = [(e["timestamp"], e["message"]) for e in found["events"]]
    assert [message for _, message in got] == [
        f"time={stamp} event=start slots=2",
        "perl: a warning",
    ]
    assert got[0][0] == now * 1000


def test_what_goes_wrong_is_said_and_is_no_failure(screen: Screen) -> None:
    screen.fill(2)
    screen.plan("-q")
    # nobody listens there
    process = start(screen, "http://127.0.0.1:9")
    assert process.stderr
    said = process.stderr.readline()
    assert said.startswith("no logs to CloudWatch: Could not connect")
    process.send_signal(signal.SIGTERM)
    # the same is not said again
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_what_could_not_be_sent_is_sent_later(tmp_path: Path) -> None:
    class Lines:
        def lines(self) -> list[str]:
            return ["one"]

    class Flaky:
        """Fails once; nothing that moto can be made to do."""

        class exceptions:
            ResourceAlreadyExistsException = KeyError

        def __init__(self) -> None:
            self.sent: list[str] = []
            self.calls = 0

        def create_log_group(self, **_: str) -> None: ...
        def create_log_stream(self, **_: str) -> None: ...

        def put_log_events(self, logEvents: list[dict[str, str]], **_: object) -> None:
            self.calls += 1
            if self.calls == 1:
                raise EndpointConnectionError(endpoint_url="x")
            self.sent += [e["message"] for e in logEvents]

    client = Flaky()
    sender = cloudwatch.Sender(Lines(), client, "g", "s")  # type: ignore[arg-type]
    assert not sender._try()
    assert sender._try()
    assert client.sent == ["one", "one"]


def test_requests_stay_within_what_cloudwatch_takes() -> None:
    lines = [f"time=2026-11-20T10:00:{i % 60:02d}Z n={i} {'ü' * 300}" for i in range(6000)]
    found = list(cloudwatch.batches(lines))
    assert sum(map(len, found)) == 6000
    for batch in found:
        assert len(batch) <= 10_000
        assert sum(len(e["message"].encode()) + 26 for e in batch) <= 1_048_576
        times = [e["timestamp"] for e in batch]
        assert times == sorted(times)
    (huge,) = cloudwatch.batches(["ü" * 300_000])
    assert len(huge[0]["message"].encode()) <= 256_000
