"""Bring images in from S3, and move a run's results and state out to it and back."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bpcp import imagelist
from bpcp.access import Access, add_options
from bpcp.bucket import Bucket
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.s3 import Address
from bpcp.workspace import Workspace, locate, locked, read_json

Say = Callable[[str], None]


def _aloud(words: str) -> None:
    print(words, file=sys.stderr)


def _silently(_: str) -> None:
    pass


def amount(size: float) -> str:
    """Write a number of bytes as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "B" or size >= 100 else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError


def images_in(workspace: Workspace, url: str, access: Access, say: Say) -> None:
    """Fetch all images that the list names and that are not here yet."""
    from concurrent.futures import ThreadPoolExecutor

    from bpcp import fetch, s3
    from bpcp.sources import Source

    root = Path(os.environ.get("PATHNAME_BASENAME") or workspace.base).absolute()
    source = Source(Address.parse(url), access)
    images = imagelist.read(workspace.image_list)
    names = dict.fromkeys(
        name for row in images.rows for _, name in imagelist.files(images.header, row, root)
    )
    listed = source.look(names, root)
    todo = [
        fetch.Want(name, size, mtime_ns, source.find(name, root))
        for name, (size, mtime_ns, _) in listed.items()
        if name.startswith("/")
    ]
    missing = [w for w in todo if not fetch.is_there(w, Path(w.name))]
    total = sum(w.size for w in missing)
    say(f"images: {len(missing):,} of {len(names):,} to fetch, {amount(total)}")
    failed = []
    shows = sys.stderr.isatty() and say is _aloud
    with ThreadPoolExecutor(s3.CONNECTIONS) as pool:
        said = pool.map(lambda w: fetch.bring(w, Path(w.name), source), missing)
        for n, (want, why) in enumerate(zip(missing, said, strict=True), 1):
            if why:
                failed.append(f"{want.name}: {why}")
            if shows and (n % 50 == 0 or n == len(missing)):
                print(f"\r{n:,} of {len(missing):,}", end="", file=sys.stderr)
    if shows and missing:
        say("")
    lacking = [n for n in names if n not in listed and not Path(n).exists()]
    if failed or lacking:
        first = failed[0] if failed else f"{lacking[0]}: neither here nor in {source.input}"
        raise BpcpError(
            Exit.COPY_FAILED if failed else Exit.NO_INPUT,
            f"{len(failed) + len(lacking):,} images could not be had; the first: {first}",
            "mend the list or the bucket; what arrived stays",
        )
    say(f"images: all {len(names):,} are in {root}")


def results_out(bucket: Bucket, say: Say) -> None:
    """Make the bucket the verified copy of what is here."""
    if bucket.is_ahead():
        found = bucket.last_writer() or {}
        raise BpcpError(
            Exit.STOPPED,
            f"{found['host']} went on with this run in {bucket.output} ({found['since']})",
            "bring that back first: bpcp sync in --output, or the run's own command",
        )
    merged = bucket.workspace.merged.is_file()
    files, size = bucket.send_all(complete=merged)
    say(f"sent: {files:,} files, {amount(size)}, verified in {bucket.output}")


def results_in(bucket: Bucket, say: Say, *, only_if_ahead: bool) -> None:
    """Bring results and state back."""
    if not bucket.is_ahead():
        if not only_if_ahead:
            say(f"nothing to bring: {bucket.output} has no other state of this run")
        return
    before = bucket.last_writer() or {}
    say(f"back: from {bucket.output}, last written by {before['host']} ({before['since']})")
    done = bucket.bring_back()
    say(f"back: {done:,} chunks are done")


def main(argv: Sequence[str]) -> int:
    """Move data in or out; `start` is what a run does before it plans."""
    parser = Parser("sync")
    parser.add_argument("direction", choices=("in", "out", "start"))
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("-p", "--pipeline", required=True, type=Path)
    parser.add_argument("--input", default="")
    parser.add_argument("--output", default="")
    add_options(parser)
    parser.add_argument("-q", "--quiet", action="store_true")
    args = parser.parse_args(argv)
    workspace = locate(args.dataset, args.pipeline)
    access = Access.to_read(args)
    if args.no_sign_request and args.direction != "in":
        raise BpcpError(
            Exit.USAGE, "--no-sign-request is for reading: `bpcp sync in`", "leave it out"
        )
    bucket = _bucket(args, workspace, access)
    say = _silently if args.quiet else _aloud
    with locked(workspace):
        if args.direction == "in":
            if not args.input and bucket is None:
                raise BpcpError(
                    Exit.USAGE, "bring what in?", "images: --input URL; results: --output URL"
                )
            if args.input:
                images_in(workspace, args.input, access, say)
            if args.output and bucket:
                results_in(bucket, say, only_if_ahead=False)
        elif bucket is None:
            raise BpcpError(Exit.USAGE, "no place to send to: --output s3://BUCKET/PREFIX")
        elif args.direction == "out":
            results_out(bucket, say)
        else:
            results_in(bucket, say, only_if_ahead=True)
            bucket.sign()
    return Exit.OK


def _bucket(args: argparse.Namespace, workspace: Workspace, access: Access) -> Bucket | None:
    if args.output:
        output = Address.parse(args.output)
        reads = args.direction == "in"
        access = access.decided(output.bucket) if reads else access.to_write()
        return Bucket(workspace, output, access)
    return Bucket.of_run(workspace) if read_json(workspace.run) else None


if __name__ == "__main__":
    run_main("sync", main)
