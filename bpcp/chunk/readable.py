"""Whether a chunk's image files can be read, and are still what they were when it was started.

The check looks at all files before a run. A file may be cut off behind it, or be copied anew while
CellProfiler reads it: what is not as the check saw it is looked at again, and what changed under an
attempt's hands makes it worth nothing.

This is part of every chunk, so it imports nothing heavy, unless a file has to be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bpcp import failure, imagelist
from bpcp.chunk.attempt import Task
from bpcp.failure import Failure, Kind
from bpcp.imagelist import Row
from bpcp.staging import Inputs
from bpcp.workspace import read_json

_IN_PLACE = Inputs()
# What tells that a file is the same, and untouched: size, and the times of content and of inode.
State = tuple[int, int, int] | None


def unreadable(
    header: Row, row: Row, root: Path, inputs: Inputs = _IN_PLACE, *, reads_s3: bool = False
) -> Failure | None:
    """Say which file of an image set is missing or empty, if one is.

    Parameters
    ----------
    reads_s3 : bool
        Whether CellProfiler itself reads what lies in a bucket.
    """
    for name, path in imagelist.files(header, row, root):
        if path in inputs.failed:
            return failure.of_file(inputs.failed[path], path, name)
        place = inputs.find(path)
        if imagelist.is_remote(place):
            if place.lower().startswith("s3://") and not reads_s3:
                return failure.of_file("missing file", path, name)
            continue
        try:
            size = Path(place).stat().st_size
        except OSError as error:
            what = (
                "missing file"
                if isinstance(error, FileNotFoundError)
                else f"unreadable file ({error.strerror})"
            )
            return failure.of_file(what, path, name)
        if size == 0:
            return failure.of_file("empty file", path, name)
    return None


class Images:
    """The image files of a chunk, as they were when they were looked at last.

    Attributes
    ----------
    prints : list of str
        For each image set, what `imagelist.fingerprint` says of its files.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.prints = [self._print(row) for row in task.rows]
        self._states = [self._state(row) for row in task.rows]
        # image sets that were only touched, once: a new link to a file does that as well
        self._touched: set[int] = set()
        self._bad = read_json(task.paths.bad) or {}
        self._checked: Sequence[str | None] = (read_json(task.paths.checked) or {}).get("rows", [])

    def at_hand(self, task: Task) -> None:
        """Know where the images are, once they were fetched."""
        self._task = task
        self._states = [self._state(row) for row in task.rows]

    def _print(self, row: Row) -> str:
        task = self._task
        return imagelist.fingerprint(task.header, [row], task.root, task.remote)

    def _places(self, row: Row) -> list[tuple[str, str, str]]:
        task = self._task
        found = imagelist.files(task.header, row, task.root)
        return [
            (image, name, place)
            for image, name in found
            if not imagelist.is_remote(place := task.inputs.find(name))
        ]

    def _state(self, row: Row) -> list[State]:
        found: list[State] = []
        for _, _, place in self._places(row):
            try:
                stat = Path(place).stat()
                found.append((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
            except (OSError, ValueError):
                found.append(None)
        return found

    def fault(self, number: int) -> Failure | None:
        """Say why an image set can't be analysed, by its files and by what others saved."""
        task, at = self._task, number - self._task.first
        row = task.rows[at]
        if why := task.chunk.get("refused", {}).get(str(number)):
            return Failure(Kind.MODULE, why, more={"module": "SaveImages"})
        from_batch = bool(task.run.get("batch"))
        found = unreadable(task.header, row, task.root, task.inputs, reads_s3=from_batch)
        if found:
            # what is wrong now, rather than what was when the check looked
            return found
        as_checked = at < len(self._checked) and self._checked[at] == self.prints[at]
        as_checked = as_checked and number not in self._touched
        if str(number) in self._bad and (as_checked or not self._checked):
            return failure.of_file(self._bad[str(number)])
        return None if as_checked or not task.run.get("checked") else self._look(row)

    def _look(self, row: Row) -> Failure | None:
        from bpcp.check.look import look

        for image, name, place in self._places(row):
            # what came from a bucket was looked at as it came
            if name not in self._task.remote and (found := look(place)).certain:
                return failure.of_file(found.said, name, image)
        return None

    def changed(self, first: int, last: int) -> list[int]:
        """List the image sets of a range whose files changed since they were looked at last.

        They count as looked at now.
        """
        found = []
        for number in range(first, last + 1):
            at = number - self._task.first
            row = self._task.rows[at]
            before, now = self._states[at], self._state(row)
            if now == before:
                continue
            self._states[at], self.prints[at] = now, self._print(row)
            if _content(now) == _content(before):
                # perhaps changed and given its old time; to read it twice is enough to be sure
                if number in self._touched:
                    continue
                self._touched.add(number)
            found.append(number)
        return found


def _content(states: list[State]) -> list[tuple[int, int] | None]:
    return [state and state[:2] for state in states]
