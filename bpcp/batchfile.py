"""run_batchfile_pipeline.sh: make the batch file of a run, keep it, and say what is in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bpcp import background, batch, engine, imagesets, mapping, pipeline
from bpcp.check import servers
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.pipeline import Kind
from bpcp.plan import parse as parse_plan
from bpcp.settings import settings_of
from bpcp.workspace import locate, locked


def main(argv: Sequence[str]) -> int:
    """Make a batch file, or find the one that is there."""
    parser = Parser("run_batchfile_pipeline.sh")
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("-p", "--pipeline", required=True, type=Path)
    parser.add_argument("-t", "--tmpdir")
    parser.add_argument("-w", "--overwrite_batchfile", action="store_true")
    parser.add_argument("--map", action="append", default=[])
    parser.add_argument("-i", "--input-folder", default="")
    parser.add_argument("--plugins-directory", type=Path)
    parser.add_argument("-q", "--quiet", action="store_true")
    args = parser.parse_args(argv)
    workspace = locate(args.dataset, args.pipeline)
    # all other settings of a plan are as they are where nobody asks for them
    settings = settings_of(parse_plan(argv), workspace)
    pipe = engine.read(args.pipeline, settings.plugins)
    if pipe.kind is Kind.BATCH:
        raise BpcpError(
            Exit.USAGE,
            f"{pipe.path} is a batch file already",
            "./run_analysis_pipeline.sh takes it as it is: -p Batch_data.h5",
        )
    if not args.quiet:
        for said in mapping.idle(workspace, pipe, settings):
            print(f"warning: {said}", file=sys.stderr)
    # CellProfiler would make a MySQL server's tables again as it makes the batch file
    mends = [mend for finding in servers.of_types(pipe) for mend in finding.mends]
    pipe = pipeline.mended(pipe, mends)
    with background.tidily(), locked(workspace):
        made = imagesets.batch_file(workspace, pipe, settings)
        found = batch.read(made.path)
        made.keep(workspace)
    if not args.quiet:
        groups = len(set(found.groups))
        count = len(found.images.rows)
        what = f"{count:,} image set{'s' if count != 1 else ''}"
        if pipe.group_keys:
            what += f" in {groups:,} groups by {', '.join(pipe.group_keys)}"
        for mend in mends:
            print(f"            patched: {mend.said}", file=sys.stderr)
        state = "made" if made.home else "kept: nothing that it depends on has changed"
        print(f"batch file: {what}; {state}", file=sys.stderr)
        if pipe.reads_list:
            print("            LoadData needs none: a run reads the list itself", file=sys.stderr)
    print(workspace.batch)
    return Exit.OK


if __name__ == "__main__":
    run_main("run_batchfile_pipeline.sh", main)
