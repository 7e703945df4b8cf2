"""A run's results and state in a bucket: sent as chunks finish, verified, and brought back.

Below an output address lies what lies below <base>:

    s3://bucket/prefix/analysis/<dataset>/<TAG>/
    s3://bucket/prefix/status/<dataset>/<TAG>/
    s3://bucket/prefix/log/<dataset>/<TAG>/

What a chunk made is sent before its verdict is, so a verdict in the bucket never promises what is
not there. Whole trees are moved by `aws s3 sync`.
"""

from __future__ import annotations

import fnmatch
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpcp import s3
from bpcp.access import Access
from bpcp.errors import BpcpError, Exit
from bpcp.s3 import Address, GoneError
from bpcp.workspace import LOCAL_ONLY, Json, Workspace, read_json, read_plan, verdict, write_json

# The chunks' tables go up as they are written; when they are compressed here, after the merge,
# that is no reason to send them again.
_TABLES = "chunks/*/tables/*"
# Grows while the rest is verified.
_EVENTS = "events.log"


@dataclass(frozen=True)
class Bucket:
    """The place of one run in a bucket."""

    workspace: Workspace
    output: Address
    access: Access

    @classmethod
    def of_run(cls, workspace: Workspace) -> Bucket | None:
        """Give a run's bucket, as it was planned; None where it has none."""
        found = (read_json(workspace.run) or {}).get("output")
        if not found:
            return None
        return cls(workspace, Address.parse(found["url"]), Access.from_json(found))

    @property
    def trees(self) -> dict[Path, Address]:
        """The folders that are kept in the bucket, results first, and their addresses."""
        base = self.workspace.base
        return {
            folder: self.output.below(folder.relative_to(base).as_posix())
            for folder in (self.workspace.analysis, self.workspace.log, self.workspace.status)
        }

    def address(self, path: Path) -> tuple[Address, str]:
        """Give a file's place: the address of its tree, and its name in there."""
        for folder, address in self.trees.items():
            if path.is_relative_to(folder):
                return address, path.relative_to(folder).as_posix()
        raise ValueError(path)

    # --- as chunks finish ---------------------------------------------------------------------

    def send_finished(self) -> list[str]:
        """Send what chunks made that finished since the last call; give their ids.

        Raises
        ------
        BpcpError
            74 where the bucket can't be reached, or has something else in the end.
        """
        known = self.uploaded()
        fresh: Json = {
            planned.id: [planned.digest, done["finished"]]
            for planned in read_plan(self.workspace)
            if (done := verdict(self.workspace, planned))
            and known.get(planned.id) != [planned.digest, done["finished"]]
        }
        if not fresh:
            return []
        made: list[Path] = []
        for chunk_id in fresh:
            made += self._made_by(chunk_id)
        self._send(made)
        self._verify_tables(fresh)
        self._send(
            [
                *(self.workspace.chunk(chunk_id).done for chunk_id in fresh),
                *self._about_the_run(),
            ]
        )
        self._note({**known, **fresh})
        return list(fresh)

    def _made_by(self, chunk_id: str) -> list[Path]:
        paths = self.workspace.chunk(chunk_id)
        done = read_json(paths.done) or {"parts": []}
        files = [self.workspace.analysis / f["path"] for p in done["parts"] for f in p["files"]]
        tables = [path for path in paths.all_tables.rglob("*") if path.is_file()]
        # the merge may find that one of these should be in the result
        replaced = paths.replaced.rglob("*")
        logs = self.workspace.log.glob(f"{chunk_id}.*.log")
        given = (paths.chunk, paths.images, paths.remote)
        return [p for p in (*files, *replaced, *tables, *logs, *given) if p.is_file()]

    def _about_the_run(self) -> list[Path]:
        here = self.workspace
        found = (here.pipeline, here.plan, here.run, here.whole_list, here.events, here.writer)
        return [path for path in found if path.is_file()]

    def _send(self, files: Iterable[Path]) -> None:
        """Send files, whichever they are, in one go: through a tree of links to them."""
        outbox = self.workspace.outbox
        shutil.rmtree(outbox, ignore_errors=True)
        try:
            # chunks may have saved files of one name
            for path in dict.fromkeys(files):
                link = outbox / path.relative_to(self.workspace.base)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
            s3.aws(self.access, ["cp", str(outbox), str(self.output), "--recursive", *s3.SILENT])
        finally:
            shutil.rmtree(outbox, ignore_errors=True)

    def _verify_tables(self, chunk_ids: Iterable[str]) -> None:
        for chunk_id in chunk_ids:
            folder = self.workspace.chunk(chunk_id).all_tables
            if folder.is_dir():
                address, name = self.address(folder)
                self._compare(folder, address.below(name), ())

    def uploaded(self) -> Json:
        """Give the chunks whose results are in this bucket, with digest and time."""
        found = read_json(self.workspace.uploaded) or {}
        return dict(found["chunks"]) if found.get("output") == str(self.output) else {}

    def _note(self, chunks: Json) -> None:
        write_json(self.workspace.uploaded, {"output": str(self.output), "chunks": chunks})

    # --- the whole ----------------------------------------------------------------------------

    def send_all(self, *, complete: bool) -> tuple[int, int]:
        """Make the bucket the copy of what is here, and verify it.

        Parameters
        ----------
        complete : bool
            Whether the run is merged; then what it no longer has goes from the bucket as well.

        Returns
        -------
        files, bytes : int
            What was found to be there.

        Raises
        ------
        BpcpError
            74 where something is not there, or not the same, after a second try.
        """
        self.send_finished()
        for again in (False, True):
            for folder, address in self.trees.items():
                words = ["sync", str(folder), str(address), *_but(self._skipped(folder))]
                if complete:
                    words.append("--delete")
                if folder.is_dir():
                    s3.aws(self.access, [*words, *s3.SILENT])
            try:
                return self.verify()
            except BpcpError:
                if again:
                    raise
        raise AssertionError

    def verify(self) -> tuple[int, int]:
        """Compare the bucket with what is here: names, sizes, checksums where S3 gives them.

        Raises
        ------
        BpcpError
            74 where they differ; the message names the first file.
        """
        files = size = 0
        for folder, address in self.trees.items():
            if folder.is_dir():
                found = self._compare(folder, address, self._skipped(folder))
                files, size = files + found[0], size + found[1]
        return files, size

    def _skipped(self, folder: Path) -> tuple[str, ...]:
        if folder == self.workspace.status:
            return (*LOCAL_ONLY, _TABLES)
        return (".*", "*/.*")

    def _compare(self, folder: Path, address: Address, skipped: Sequence[str]) -> tuple[int, int]:
        there = s3.listing(self.access, address)
        files = size = 0
        for name, path in _tree(folder, skipped):
            if name == _EVENTS:
                continue
            remote = there.get(name)
            if remote is None or not s3.is_same(self.access, address, name, remote, path):
                what = "is not there" if remote is None else "is another file"
                raise BpcpError(
                    Exit.COPY_FAILED, f"{address}/{name} {what}", "run the same command again"
                )
            files, size = files + 1, size + remote.size
        return files, size

    # --- back ---------------------------------------------------------------------------------

    def last_writer(self) -> Json | None:
        """Read who last wrote to the bucket; None where nobody did."""
        address, name = self.address(self.workspace.writer)
        # asked for one that is not there, S3 says "forbidden" to who may not list the whole bucket
        if name not in s3.listing(self.access, address, "/"):
            return None
        aside = self.workspace.writer.with_name(".writer.remote")
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            s3.fetch(self.access, address.bucket, address.key(name), aside)
            return read_json(aside)
        except GoneError as error:
            raise BpcpError(
                Exit.NO_PERMISSION, f"{address}/{name}: {error}", "see ami_setup/iam"
            ) from None
        finally:
            aside.unlink(missing_ok=True)

    def is_ahead(self) -> bool:
        """Tell whether somebody else went on with this run in the bucket."""
        found = self.last_writer()
        return found is not None and found != read_json(self.workspace.writer)

    def bring_back(self) -> int:
        """Bring results and state back from the bucket; give the number of chunks that are done.

        Raises
        ------
        BpcpError
            74 where something did not arrive as it is in the bucket.
        """
        for folder, address in self.trees.items():
            skipped = [p for p in self._skipped(folder) if p != _TABLES]
            for again in (False, True):
                # whatever is newer: what the last writer left is how it is
                words = ["sync", str(address), str(folder), "--exact-timestamps", *_but(skipped)]
                s3.aws(self.access, [*words, *s3.SILENT])
                damaged = self._damaged(folder, address, skipped)
                if not damaged:
                    break
                for name in damaged:
                    # of the same size and time: it would not be fetched again
                    (folder / name).unlink(missing_ok=True)
                if again:
                    raise BpcpError(
                        Exit.COPY_FAILED, f"{address}/{damaged[0]} did not arrive", "try again"
                    )
        done = {
            p.id: [p.digest, found["finished"]]
            for p in (read_plan(self.workspace) if self.workspace.plan.is_file() else ())
            if (found := verdict(self.workspace, p))
        }
        self._note(done)
        return len(done)

    def _damaged(self, folder: Path, address: Address, skipped: Sequence[str]) -> list[str]:
        """List what did not arrive as it is in the bucket."""
        return [
            name
            for name, remote in s3.listing(self.access, address).items()
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in skipped)
            and not (
                (folder / name).is_file()
                and s3.is_same(self.access, address, name, remote, folder / name)
            )
        ]

    def sign(self) -> None:
        """Write down, here and in the bucket, that this machine is at work on the run."""
        mark = {
            "host": os.uname().nodename,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            # tells two starts apart
            "start": secrets.token_hex(8),
        }
        write_json(self.workspace.writer, mark)
        self._send([self.workspace.writer])


def _but(patterns: Sequence[str]) -> list[str]:
    return [word for pattern in patterns for word in ("--exclude", pattern)]


def _tree(folder: Path, skipped: Sequence[str]) -> list[tuple[str, Path]]:
    """List the files below a folder, by name, as the AWS CLI's filters would leave them."""
    found = []
    for home, _, names in os.walk(folder, followlinks=False):
        for file in names:
            path = Path(home) / file
            name = path.relative_to(folder).as_posix()
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in skipped):
                found.append((name, path))
    return sorted(found)
