"""Every image file below a folder, an S3 prefix or in a list of files, one after another.

Nothing is kept: a million files take no more memory than ten.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from bpcp import folders
from bpcp.errors import BpcpError, Exit
from bpcp.images.remote import fetched, in_bucket
from bpcp.s3 import Access, Address, objects
from bpcp.scratch import scratch

# What CellProfiler reads and instruments write, one image in each file.
SUFFIXES = frozenset(
    (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".c01", ".dib", ".flex", ".stk")
)
# Files that say where images were taken; which of them are read, presets.py says.
_BESIDE = re.compile(
    r"(?:.*\.(?:mlf|mes|mrf|xdce|htd)|index(?:\.idx|\.ref)?\.xml)", re.IGNORECASE | re.DOTALL
)
_THUMBNAIL = re.compile(r"_thumb[0-9A-F-]*\.[a-z]+$", re.IGNORECASE)
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)

# A folder as it stands in PathName_, and a name in it.
File = tuple[str, str]


@dataclass
class Walk:
    """A way through a source.

    Attributes
    ----------
    root : str
        Where it starts: an absolute folder, s3://bucket/prefix, or "" for a list of files.
    listed : str
        The list of files, or "": an absolute path or an s3:// address.
    skipped : counter of str
        What was left out so far, by kind.
    beside : list of (str, str)
        Folder and name of the instruments' index files met so far.
    exclude : sequence of str
        Shell patterns of paths below the root, or of whole paths in a list, to leave out.
    fitting : set of str
        Those of them that a file's path fitted so far.
    """

    root: str
    access: Access = field(default_factory=Access)
    listed: str = ""
    exclude: Sequence[str] = ()
    skipped: Counter[str] = field(default_factory=Counter)
    beside: list[File] = field(default_factory=list)
    fitting: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[File]:
        """Give each image file: its folder and its name."""
        if in_bucket(self.listed):
            found = _in_remote_list(self.access, self.listed)
        elif self.listed:
            found = _in_list(Path(self.listed), self.listed)
        elif in_bucket(self.root):
            found = _in_bucket(self.access, Address.parse(self.root))
        else:
            found = _in_folder(self.root)
        for folder, name in found:
            if self._is_image(folder, name):
                yield folder, name

    def _is_image(self, folder: str, name: str) -> bool:
        if name.startswith("."):
            self.skipped["hidden"] += 1
            return False
        if self.exclude:
            path = f"{folder}/{name}"
            path = path.removeprefix(f"{self.root}/") if self.root else path
            if fits := [pattern for pattern in self.exclude if fnmatchcase(path, pattern)]:
                self.fitting.update(fits)
                self.skipped["excluded"] += 1
                return False
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 -- a million times
        if suffix not in SUFFIXES:
            if _BESIDE.fullmatch(name):
                self.beside.append((folder, name))
            else:
                self.skipped[f"{suffix or 'no suffix'}, not an image"] += 1
            return False
        if "_thumb" in name and _THUMBNAIL.search(name):
            self.skipped["thumbnails"] += 1
            return False
        try:
            f"{folder}{name}".encode()
        except UnicodeEncodeError:
            where = os.fsencode(f"{folder}/{name}")
            raise BpcpError(
                Exit.MALFORMED_INPUT,
                f"not UTF-8, so no list can name it: {where!r}",
                "rename the file or folder, for example by convmv",
            ) from None
        return True


def walk(source: str, access: Access, exclude: Sequence[str] = ()) -> Walk:
    """Start on a folder, an s3:// prefix or a list of files.

    Raises
    ------
    BpcpError
        66 where it is not there; 64 for an address that is none, or a single image or index.
    """
    if in_bucket(source):
        url = str(Address.parse(source))
        # with a slash at its end it is a folder
        listed = source.lower().endswith(".txt")
        return Walk(*(("", access, url) if listed else (url, access, "")), exclude=exclude)
    path = Path(os.path.abspath(source))  # noqa: PTH100 -- links stay as the user names them
    if path.is_dir():
        return Walk(str(path).rstrip("/"), access, exclude=exclude)
    if not path.exists():
        raise BpcpError(
            Exit.NO_INPUT,
            f"no such folder: {source}",
            "a folder, s3://BUCKET/PREFIX, load_data.csv[.gz], .parquet or filelist.txt",
        )
    if path.suffix.lower() in SUFFIXES or _BESIDE.fullmatch(path.name):
        raise BpcpError(Exit.USAGE, f"{source} is one file", f"give its folder: {path.parent}")
    return Walk("", access, str(path), exclude)


def _in_folder(root: str) -> Iterator[File]:
    todo = [root or "/"]
    # a link to a folder above would never end
    been: set[tuple[int, int]] = set()
    while todo:
        folder = todo.pop()
        with os.scandir(folder) as entries:
            here = os.stat(folder)  # noqa: PTH116 -- a million times
            if (here.st_dev, here.st_ino) in been:
                continue
            been.add((here.st_dev, here.st_ino))
            for entry in entries:
                if entry.is_dir():
                    if not entry.name.startswith("."):
                        todo.append(entry.path)
                else:
                    yield folder, entry.name


def _in_bucket(access: Access, address: Address) -> Iterator[File]:
    for below, _ in objects(access, address):
        folder, _, name = below.rpartition("/")
        if not _is_hidden(folder):
            yield f"{address}/{folder}".rstrip("/"), name


def _is_hidden(folder: str) -> bool:
    return folder.startswith(".") or "/." in folder


def _in_list(path: Path, named: str) -> Iterator[File]:
    """Read a file list as CellProfiler's: a path or URL a line; file: URLs are paths.

    Paths that are not absolute start where the list lies, by `named`, its path or address.
    """
    home = named.rpartition("/")[0] or "/"
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        for number, raw in enumerate(lines):
            line = raw.rstrip("\r\n")
            if not number and _is_header(line):
                raise BpcpError(
                    Exit.MALFORMED_INPUT, f"{named}: this looks like an image list", "call it .csv"
                )
            if not line.strip():
                continue
            if folders.is_url(line):
                line = folders.listed(line)
            elif not _URL.match(line):
                line = os.path.join(home, line)  # noqa: PTH118 -- a million times
            folder, _, name = line.rpartition("/")
            yield folder or "/", name


def _in_remote_list(access: Access, url: str) -> Iterator[File]:
    with scratch("images") as folder:
        path = fetched(access, url, folder / "list")
        yield from _in_list(path, url)


def _is_header(line: str) -> bool:
    """Tell whether a line is the header of a CSV rather than an image's path."""
    if "FileName_" not in line or not re.search("[,;\t]", line):
        return False
    return os.path.splitext(line.strip())[1].lower() not in SUFFIXES  # noqa: PTH122 -- a million times
