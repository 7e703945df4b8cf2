"""bpcp audit: expected against observed, image set by image set, row by row, file by file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bpcp.audit.all import examine, keep_manifest
from bpcp.audit.outcome import lines, to_json
from bpcp.errors import BpcpError, Parser, run_main
from bpcp.workspace import locate


def main(argv: Sequence[str]) -> int:
    """Say whether a result adds up."""
    parser = Parser("audit")
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("-p", "--pipeline", required=True, type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    args = parser.parse_args(argv)
    workspace = locate(args.dataset, args.pipeline)
    found = examine(workspace, quick=args.quick)
    failure: BpcpError | OSError | None = None
    try:
        keep_manifest(workspace, found)
    except (BpcpError, OSError) as error:
        # what was found must not be lost over it
        failure = error
    # a name that is no text must not end an audit; this is always a text stream
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if args.json:
        json.dump(to_json(workspace, found.outcome), sys.stdout, indent=1, ensure_ascii=False)
        print()
    elif found.outcome.exit_code or not args.quiet:
        print("\n".join(lines(workspace, found.outcome)))
    if failure:
        sys.stdout.flush()
        raise failure
    return found.outcome.exit_code


if __name__ == "__main__":
    run_main("audit", main)
