#!/usr/bin/env python3
"""Answer as the instance metadata service of EC2 does (IMDSv2); there is none on these machines.

Usage: metadata.py FILE SECONDS

Prints its address. Once FILE is there, the instance is said to be terminated SECONDS after that.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "a-token"  # noqa: S105 -- nobody's


class Handler(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        good = (
            self.path == "/latest/api/token"
            and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        )
        self._answer(*((200, TOKEN) if good else (400, "")))

    def do_GET(self) -> None:
        file, left_s = Path(sys.argv[1]), float(sys.argv[2])
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._answer(401, "")
        elif self.path == "/latest/meta-data/spot/instance-action" and file.exists():
            began = datetime.fromtimestamp(file.stat().st_mtime, timezone.utc)
            end = (began + timedelta(seconds=left_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._answer(200, json.dumps({"action": "terminate", "time": end}))
        else:
            self._answer(404, "")

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
