"""Where a chunk's images are while it runs, and how CellProfiler is made to read them there.

Images that come from a bucket, or from a slower disk, are brought by `fetch`, ahead of the chunks
that need them. An attempt then sees them in a mirror: a folder of links that is laid out like the
file system itself, `<mirror>/data/plate1/a.tif` for `/data/plate1/a.tif` and
`<mirror>/s3:/bucket/a.tif` for `s3://bucket/a.tif`. The mirror's name, put before a path, is all
that staging changes in an image list; taken away again, it leaves no trace in a table.

This is part of every chunk, so it imports nothing heavy.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bpcp import folders, imagelist, inside
from bpcp.errors import BpcpError, Exit
from bpcp.imagelist import Row
from bpcp.scratch import is_ours
from bpcp.workspace import ChunkPaths, Workspace, hold, read_json

# What stands for "s3://" in a mirror, in small or large letters.
_S3 = "/s3:/"
STORE_PREFIX = "bpcp-images-"


@dataclass(frozen=True)
class Inputs:
    """Where the images of a chunk are.

    Attributes
    ----------
    places : dict of str to str
        By what `imagelist.files` calls them; those that are where the list says are left out.
    failed : dict of str to str
        Those that could not be had, and why.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> str:
        """Say where an image is."""
        return self.places.get(name, name)


def in_mirror(mirror: str, name: str) -> str:
    """Give the name of an image in a mirror.

    Parameters
    ----------
    name : str
        As `imagelist.files` gives it: an absolute path, or an s3:// address.

    Raises
    ------
    BpcpError
        65 where it would lead out of the mirror.
    """
    remote = name.lower().startswith("s3://")
    if "\0" in name or (inside.strays(name) if remote else inside.climbs(name)):
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{name!r} leads out of {'its bucket' if remote else 'all folders'}",
            "correct the image list: an address or a folder without ..",
        )
    return mirror + (f"/{name[:3]}/{name[5:]}" if name.lower().startswith("s3://") else name)


def _out_of_mirror(rest: str) -> str:
    return f"{rest[1:4]}//{rest[5:]}" if rest[:5].lower() == _S3 else rest or "/"


def _quoted(path: str) -> str:
    # CellProfiler takes a URL's last part for the file's name as it stands: as little as possible
    return path.replace("%", "%25")


def rewritten(header: Row, row: Row, mirror: str) -> Row:
    """Give a row of an image list with its folders and addresses moved into a mirror.

    Relative folders stay: the process is started in the mirror of their root.
    """
    return tuple(
        _moved(name, cell, mirror) if cell else cell for name, cell in zip(header, row, strict=True)
    )


def _moved(column: str, cell: str, mirror: str) -> str:
    if column.startswith(("URL_", "ObjectsURL_")):
        if folders.is_url(cell):
            head = folders.head(cell)
            return head + _quoted(mirror) + cell[len(head) :]
        if cell.lower().startswith("s3://"):
            return f"file:{_quoted(in_mirror(mirror, cell))}"
        return _moved("PathName_", cell, mirror)
    if column.startswith(("PathName_", "ObjectsPathName_", "FileName_", "ObjectsFileName_")) and (
        cell.startswith("/") or cell.lower().startswith("s3://")
    ):
        return in_mirror(mirror, cell)
    return cell


def restored(cell: str, mirror: str) -> str:
    """Give a cell of a table as it would be without the mirror."""
    if cell.startswith(mirror):
        return _out_of_mirror(cell[len(mirror) :])
    if not folders.is_url(cell):
        return cell
    from urllib.parse import unquote
    from urllib.request import pathname2url

    head = folders.head(cell)
    for own in (_quoted(mirror), pathname2url(mirror)):
        if cell[len(head) :].startswith(own):
            rest = cell[len(head + own) :]
            plain = unquote(rest)
            return _out_of_mirror(plain) if plain[:5].lower() == _S3 else head + rest
    return cell


def mirror(folder: Path, header: Row, rows: Sequence[Row], inputs: Inputs, root: Path) -> None:
    """Make a mirror of the images of some rows, as links to where they are."""
    (folder / str(root).lstrip("/")).mkdir(parents=True, exist_ok=True)
    for row in rows:
        for _, name in imagelist.files(header, row, root):
            if imagelist.is_remote(name) and name not in inputs.places:
                continue  # CellProfiler's own business
            link = Path(in_mirror(str(folder), name))
            link.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                link.symlink_to(inputs.find(name))


# --- waiting for images -----------------------------------------------------------------------


def is_fetching(workspace: Workspace) -> bool:
    """Tell whether somebody fetches images ahead."""
    if not workspace.fetching.exists():
        return False
    try:
        with hold(workspace.fetching, "it"):
            return False
    except BpcpError:
        return True


def ready(paths: ChunkPaths, digest: str) -> Inputs | None:
    """Give a chunk's images where all of them are there, or were found not to be had."""
    found = read_json(paths.fetched)
    if found is None or found["digest"] != digest:
        return None
    if not all(Path(place).exists() for place in found["places"].values()):
        return None
    return Inputs(found["places"], found["failed"])


def await_images(workspace: Workspace, paths: ChunkPaths, digest: str) -> Inputs | None:
    """Wait for a chunk's images; None where nobody is about to bring them."""
    while True:
        fetching = is_fetching(workspace)
        # in this order: what is ready at the end of the one who fetches counts
        if (found := ready(paths, digest)) is not None or not fetching:
            return found
        time.sleep(0.2)


# --- room -------------------------------------------------------------------------------------


def free_bytes(folder: Path) -> int:
    """Give the room on a folder's file system."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def space_of(folder: Path) -> int:
    """Give the bytes of all files below a folder; those that go meanwhile count nothing."""
    total = 0
    for home, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(home) / name).lstat().st_size
    return total


# --- what was fetched, and may go -------------------------------------------------------------


def fetched(workspace: Workspace) -> dict[str, tuple[int, int]]:
    """Read which files were fetched and not removed yet: size in bytes, time in ns."""
    found: dict[str, tuple[int, int]] = {}
    with suppress(FileNotFoundError), workspace.fetched.open(encoding="utf-8") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # torn by a kill; its file was not yet in place
            if "size" in entry:
                found[entry["path"]] = (entry["size"], entry["mtime_ns"])
            elif "gone" in entry:
                found.pop(entry["gone"], None)
    return found


def end_line(workspace: Workspace) -> None:
    """Begin a line: a kill may have torn the last one, and what follows on it would be lost."""
    with workspace.fetched.open("a", encoding="utf-8") as file:
        file.write("\n")


def temporary(workspace: Workspace, place: str) -> Path:
    """Say what a file is called while the run's fetcher brings it; so the next one knows, too."""
    own = imagelist.digest([str(workspace.status), place])[:16]
    return Path(place).with_name(f".bpcp-{own}")


def is_as_fetched(path: str, size: int, mtime_ns: int) -> bool:
    """Tell whether a file is there, and still the one that was fetched."""
    try:
        found = Path(path).lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and (found.st_size, found.st_mtime_ns) == (size, mtime_ns)


def remove(path: str, size: int, mtime_ns: int) -> None:
    """Remove a fetched file, if it is still the one that was fetched."""
    if is_as_fetched(path, size, mtime_ns):
        with suppress(OSError):
            Path(path).unlink()


def stores(workspace: Workspace) -> list[Path]:
    """List the folders on RAM disks that images were fetched to, as far as they are still ours."""
    found = []
    with suppress(FileNotFoundError), workspace.fetched.open(encoding="utf-8") as file:
        for line in file:
            with suppress(ValueError):
                if store := json.loads(line).get("store"):
                    found.append(Path(store))
    return [path for path in found if is_ours(path, STORE_PREFIX)]


def clear(workspace: Workspace, *, everything: bool) -> None:
    """Clear away what was fetched by one that is dead.

    Parameters
    ----------
    everything : bool
        Also the files below the images' own root, which the next start could still use.
    """
    if not workspace.fetched.exists() or is_fetching(workspace):
        return
    for store in stores(workspace):
        shutil.rmtree(store, ignore_errors=True)
    if everything:
        for path, (size, mtime_ns) in fetched(workspace).items():
            remove(path, size, mtime_ns)
            temporary(workspace, path).unlink(missing_ok=True)
        shutil.rmtree(workspace.store, ignore_errors=True)
        workspace.fetched.unlink(missing_ok=True)
