"""Send the results of chunks to the bucket as they finish, beside a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bpcp.background import Told, serve
from bpcp.bucket import Bucket
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.workspace import of_status

# Between two rounds; each costs two starts of the AWS CLI: half a second of a core.
_PAUSE_S = 20.0
# Of the time, at most, that sending may take.
_SHARE = 0.2


def main(argv: Sequence[str]) -> int:
    """Send what finishes, until told to end; then send the rest."""
    parser = Parser("run")
    parser.add_argument("run", type=Path)
    args = parser.parse_args(argv)
    bucket = Bucket.of_run(of_status(args.run))
    if bucket is None:
        return Exit.OK
    said = ""
    try:
        serve()
        while True:
            began = time.monotonic()
            try:
                bucket.send_finished()
                said = ""
            except BpcpError as error:
                # the run goes on; what could not be sent is sent later
                if str(error) != said:
                    said = str(error)
                    print(f"not sent yet: {said}", file=sys.stderr)
            took = time.monotonic() - began
            time.sleep(max(_PAUSE_S, took / _SHARE))
    except Told:
        bucket.send_finished()
    return Exit.OK


if __name__ == "__main__":
    run_main("run", main)
