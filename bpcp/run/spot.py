"""Watch for the notice that a spot instance will be taken away, and tell the run.

The instance metadata service says so two minutes ahead. It is asked by IMDSv2: with a token that
only a process on this machine can get. Source: Amazon EC2 user guide, "Spot Instance interruption
notices"; `spot/instance-action` is 404 until there is one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from bpcp.background import Told, serve
from bpcp.errors import Exit, Parser, run_main

SERVICE = "http://169.254.169.254"
# The address of the service, and whether to ask it at all: the names that AWS's own tools know.
ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
DISABLED = "AWS_EC2_METADATA_DISABLED"
_LOOK_S = 5.0
_TOKEN_TTL_S = 21600
# Before the end, so long is left for sending what is done.
FLUSH_S = 50.0


@dataclass(frozen=True)
class Notice:
    """That the instance will be taken away.

    Attributes
    ----------
    action : str
        "terminate", "stop" or "hibernate".
    left_s : float
        Seconds until then.
    """

    action: str
    left_s: float


class Metadata:
    """The instance metadata service."""

    def __init__(self, endpoint: str, timeout_s: float = 2.0) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._timeout_s = timeout_s
        self._token = ""
        self._token_ends = 0.0

    def _ask(self, path: str, method: str, headers: Mapping[str, str]) -> str:
        request = urllib.request.Request(  # noqa: S310 -- http, an address of the user's choice
            f"{self._endpoint}{path}", method=method, headers=dict(headers)
        )
        with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
            return str(answer.read().decode())

    def get(self, path: str) -> str | None:
        """Ask for a piece of metadata; None where there is none."""
        if time.monotonic() > self._token_ends:
            ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_S)}
            self._token = self._ask("/latest/api/token", "PUT", ttl)
            self._token_ends = time.monotonic() + _TOKEN_TTL_S / 2
        try:
            token = {"X-aws-ec2-metadata-token": self._token}
            return self._ask(f"/latest/meta-data/{path}", "GET", token)
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self._token_ends = 0.0
            if error.code in (401, 404):
                return None
            raise

    def notice(
        self, now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    ) -> Notice | None:
        """Ask whether the instance will be taken away."""
        text = self.get("spot/instance-action")
        if text is None:
            return None
        found = json.loads(text)
        end = datetime.fromisoformat(found["time"].replace("Z", "+00:00"))
        return Notice(found["action"], (end - now()).total_seconds())


def endpoint(
    environ: Mapping[str, str] = os.environ, vendor: Path = Path("/sys/class/dmi/id/sys_vendor")
) -> str | None:
    """Give the address of the metadata service; None where this is no EC2 instance."""
    if environ.get(DISABLED, "").lower() == "true":
        return None
    if environ.get(ENDPOINT):
        return environ[ENDPOINT]
    try:
        return SERVICE if "Amazon EC2" in vendor.read_text(encoding="utf-8") else None
    except OSError:
        return None


def watch(metadata: Metadata, drain: Callable[[Notice], None], end: Callable[[], None]) -> None:
    """Wait for a notice; then tell the run to start nothing new, and, in time, to end."""
    while True:
        # also before the first look: a GNU parallel that is told before it listens leaves a process
        time.sleep(_LOOK_S)
        try:
            notice = metadata.notice()
        except (OSError, ValueError, KeyError):
            notice = None  # a service that is away for a moment; nothing depends on one answer
        if notice is not None:
            break
    drain(notice)
    time.sleep(max(0.0, notice.left_s - FLUSH_S))
    end()


def main(argv: Sequence[str]) -> int:
    """Watch; tell the process that is named by SIGUSR1 to drain, and by SIGUSR2 to end."""
    parser = Parser("run")
    parser.add_argument("run_pid", type=int)
    args = parser.parse_args(argv)
    address = endpoint()
    if address is None:
        return Exit.OK

    def drain(notice: Notice) -> None:
        print(
            f"\nspot notice: this instance will {notice.action} in {notice.left_s:.0f} s;"
            " no new chunks, those that run have until shortly before",
            file=sys.stderr,
        )
        os.kill(args.run_pid, signal.SIGUSR1)

    try:
        serve()
        watch(Metadata(address), drain, lambda: os.kill(args.run_pid, signal.SIGUSR2))
    except Told:
        pass
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
