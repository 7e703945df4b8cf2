"""Send a run's events to CloudWatch Logs, where the user wants that; a run never waits for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bpcp import s3
from bpcp.access import Access
from bpcp.background import Told, serve
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.workspace import Workspace, of_status

_PAUSE_S = 5.0
_PAUSE_AFTER_FAILURE_S = 60.0
# Lines; older ones are in events.log all the same.
_MOST_WAITING = 20_000
# Of one request: CloudWatch takes 10,000 events and 1 MB, counting 26 bytes more for each.
_MOST_EVENTS = 5_000
_MOST_BYTES = 900_000
_LINE_BYTES = 200_000


class Tail:
    """What is added to events.log from now on."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.events
        try:
            self._at = self._path.stat().st_size
        except FileNotFoundError:
            self._at = 0

    def lines(self) -> list[str]:
        """Read what was added since the last call; whole lines only."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return [line for line in whole.decode(errors="replace").splitlines() if line.strip()]


def entry(line: str) -> dict[str, Any]:
    """Make a log event of a line of events.log; its time is the line's own, where it has one."""
    when = datetime.now(timezone.utc)
    if line.startswith("time="):
        with suppress(ValueError):
            stamp = line.split(" ", 1)[0].removeprefix("time=")
            when = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    text = line.encode()[:_LINE_BYTES].decode(errors="ignore")
    return {"timestamp": int(when.timestamp() * 1000), "message": text}


def batches(lines: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Cut events into requests that CloudWatch takes; in the order of their times, as it asks."""
    found: list[dict[str, Any]] = []
    size = 0
    for event in sorted(map(entry, lines), key=lambda e: int(e["timestamp"])):
        length = len(event["message"].encode()) + 26
        if found and (len(found) == _MOST_EVENTS or size + length > _MOST_BYTES):
            yield found
            found, size = [], 0
        found.append(event)
        size += length
    if found:
        yield found


class Sink:
    """A log stream of its own for each start of a run: `<dataset>/<TAG>/<host>/<time>`."""

    def __init__(self, client: Any, group: str, stream: str) -> None:
        self._client, self._group, self._stream = client, group, stream
        for make, names in (
            (client.create_log_group, {"logGroupName": group}),
            (client.create_log_stream, {"logGroupName": group, "logStreamName": stream}),
        ):
            with suppress(client.exceptions.ResourceAlreadyExistsException):
                make(**names)

    def send(self, lines: Sequence[str]) -> None:
        """Send lines."""
        for events in batches(lines):
            self._client.put_log_events(
                logGroupName=self._group, logStreamName=self._stream, logEvents=events
            )


class Sender:
    """Sends what is new, again and again; what could not be sent waits for the next time."""

    def __init__(self, tail: Tail, client: Any, group: str, stream: str) -> None:
        self._tail, self._client = tail, client
        self._group, self._stream = group, stream
        self._sink: Sink | None = None
        self._waiting: list[str] = []
        self._said = ""

    def _send(self) -> None:
        self._waiting = [*self._waiting, *self._tail.lines()][-_MOST_WAITING:]
        self._sink = self._sink or Sink(self._client, self._group, self._stream)
        self._sink.send(self._waiting)
        self._waiting = []

    def _try(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._send()
        except (BotoCoreError, ClientError) as error:
            if str(error) != self._said:
                self._said = str(error)
                print(f"no logs to CloudWatch: {error}", file=sys.stderr)
            return False
        return True

    def go_on(self) -> None:
        """Send until told to end; then the rest."""
        try:
            while True:
                time.sleep(_PAUSE_S if self._try() else _PAUSE_AFTER_FAILURE_S)
        except Told:
            self._try()


def main(argv: Sequence[str]) -> int:
    """Send events until told to end; what goes wrong is said once, and is no failure of the run."""
    from botocore.exceptions import BotoCoreError

    parser = Parser("run")
    parser.add_argument("run", type=Path)
    parser.add_argument("--group", required=True)
    parser.add_argument("--endpoint-url", default="")
    parser.add_argument("--profile", default="")
    args = parser.parse_args(argv)
    workspace = of_status(args.run)
    tail = Tail(workspace)
    stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    stream = f"{workspace.dataset}/{workspace.tag}/{os.uname().nodename}/{stamp}"
    # a name that CloudWatch takes
    stream = stream.translate(str.maketrans(":*", "__"))[:512]
    try:
        serve()
        client = s3.client(Access(args.endpoint_url, args.profile).checked(), "logs")
        Sender(tail, client, args.group, stream).go_on()
    except (BotoCoreError, BpcpError) as error:
        print(f"no logs to CloudWatch: {error}", file=sys.stderr)
    except Told:
        pass
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
