"""Every image file below a folder, an S3 prefix or in a list of files, one after another.

Nothing is kept: a million files take no more memory than ten.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from bpcp import folders
from bpcp.access import Access
from bpcp.errors import BpcpError, Exit
from bpcp.images.presets import PRESETS, Preset
from bpcp.images.remote import fetched, in_bucket
from bpcp.images.report import shown
from bpcp.s3 import Address, objects
from bpcp.scratch import scratch

# What CellProfiler reads and instruments write, one image in each file.
SUFFIXES = frozenset(
    (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".c01", ".dib", ".flex", ".stk")
)
# Of other .xml files in a folder, so many may be an index of a plate by what they hold.
_XML = 20
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
    first : dict of str to str
        The first path of each kind.
    beside : list of (str, str)
        Folder and name of the instruments' index files met so far.
    xml : list of (str, str)
        Folder and name of other .xml files, the first few of each folder: an IN Cell Analyzer's
        index may be among them.
    exclude : sequence of str
        Shell patterns of paths below the root, or of whole paths in a list, to leave out.
    presets : mapping of str to Preset
        They know thumbnails and index files.
    fitting : set of str
        Those of `exclude` that a file's path fitted so far.
    thumbnail : callable
        Takes folder and name of each thumbnail without its mark: A01_s1_w1_thumb.tif is
        A01_s1_w1.tif.
    """

    root: str
    access: Access = field(default_factory=Access)
    listed: str = ""
    exclude: Sequence[str] = ()
    presets: Mapping[str, Preset] = field(default_factory=lambda: PRESETS)
    skipped: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    beside: list[File] = field(default_factory=list)
    xml: list[File] = field(default_factory=list)
    fitting: set[str] = field(default_factory=set)
    thumbnail: Callable[[str, str], None] = lambda *_: None

    def __post_init__(self) -> None:
        """Gather what the presets know."""
        known = self.presets.values()
        # what the user calls so is one of the images that another preset reads
        self._thumbnails = [p.thumbnail for p in known if p.thumbnail and not p.users]
        self._beside = _indexes(self.presets)

    def __iter__(self) -> Iterator[File]:
        """Give each image file: its folder and its name."""
        if in_bucket(self.listed):
            found = _in_remote_list(self.access, self.listed)
        elif self.listed:
            found = _in_list(Path(self.listed), self.listed)
        elif in_bucket(self.root):
            found = self._in_bucket(Address.parse(self.root))
        else:
            found = self._in_folder()
        for folder, name in found:
            if self._is_image(folder, name):
                yield folder, name

    def left_out(self) -> list[str]:
        """Say what was left out: each kind, how often, and the first of it."""
        return [
            f"{number:,} {what} ({shown(self._below(self.first[what]))})"
            for what, number in self.skipped.most_common()
            if number
        ]

    def is_index(self, folder: str, name: str) -> None:
        """Learn that one of `xml` is an index: it is not left out."""
        what = ".xml, not an image"
        self.skipped[what] -= 1
        self.xml.remove((folder, name))
        # the one that is named must be left out
        self.first[what] = min((f"{f}/{n}" for f, n in self.xml), default="")

    def _below(self, path: str) -> str:
        return path.removeprefix(f"{self.root}/") if self.root else path

    def skip(self, what: str, folder: str, name: str) -> bool:
        """Leave out a file; False."""
        self.skipped[what] += 1
        path = f"{folder}/{name}"
        self.first[what] = min(self.first.get(what, path), path)
        return False

    def _in_folder(self) -> Iterator[File]:
        todo = [self.root or "/"]
        # a link to a folder above would never end
        been: set[tuple[int, int]] = set()
        while todo:
            folder = todo.pop()
            with os.scandir(folder) as entries:
                here = os.stat(folder)  # noqa: PTH116 -- a million times
                if (here.st_dev, here.st_ino) in been:
                    self.skip("folders listed already, by another link", *os.path.split(folder))
                    continue
                been.add((here.st_dev, here.st_ino))
                below = []
                for entry in entries:
                    if not _is_folder(entry):
                        yield folder, entry.name
                    elif entry.name.startswith("."):
                        self.skip("hidden", folder, entry.name)
                    else:
                        below.append(entry.path)
                # the first of two links is the same each time
                todo += sorted(below, reverse=True)

    def _in_bucket(self, address: Address) -> Iterator[File]:
        for below, _ in objects(self.access, address):
            folder, _, name = below.rpartition("/")
            where = f"{address}/{folder}".rstrip("/")
            if folder.startswith(".") or "/." in folder:
                self.skip("hidden", where, name)
            else:
                yield where, name

    def _is_image(self, folder: str, name: str) -> bool:
        if name.startswith("."):
            return self.skip("hidden", folder, name)
        if self.exclude:
            path = self._below(f"{folder}/{name}")
            if fits := [pattern for pattern in self.exclude if fnmatchcase(path, pattern)]:
                self.fitting.update(fits)
                return self.skip("excluded", folder, name)
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 -- a million times
        if suffix not in SUFFIXES:
            if any(pattern.fullmatch(name) for pattern in self._beside):
                self.beside.append((folder, name))
                return False
            if suffix == ".xml" and [f for f, _ in self.xml[-_XML:]].count(folder) < _XML:
                self.xml.append((folder, name))
            return self.skip(f"{suffix or 'no suffix'}, not an image", folder, name)
        for pattern in self._thumbnails:
            if mark := pattern.search(name):
                self.thumbnail(folder, name[: mark.start()] + os.path.splitext(name)[1])  # noqa: PTH122
                return self.skip("thumbnails", folder, name)
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


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # a link that leads to itself
        return False


def _indexes(presets: Mapping[str, Preset]) -> list[re.Pattern[str]]:
    """Give what matches the names of files that say where images were taken."""
    both = (pattern for preset in presets.values() for pattern in (preset.index, preset.beside))
    # several presets may read one kind
    return list(dict.fromkeys(filter(None, both)))


def walk(
    source: str,
    access: Access,
    exclude: Sequence[str] = (),
    presets: Mapping[str, Preset] = PRESETS,
) -> Walk:
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
        return Walk(*(("", access, url) if listed else (url, access, "")), exclude, presets)
    path = Path(os.path.abspath(source))  # noqa: PTH100 -- links stay as the user names them
    if path.is_dir():
        return Walk(str(path).rstrip("/"), access, "", exclude, presets)
    if not path.exists():
        raise BpcpError(
            Exit.NO_INPUT,
            f"no such folder: {source}",
            "a folder, s3://BUCKET/PREFIX, load_data.csv[.gz], .parquet or filelist.txt",
        )
    index = any(pattern.fullmatch(path.name) for pattern in _indexes(presets))
    if path.suffix.lower() in SUFFIXES or index:
        raise BpcpError(Exit.USAGE, f"{source} is one file", f"give its folder: {path.parent}")
    return Walk("", access, str(path), exclude, presets)


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
            elif folders.is_windows(line):
                line = line.replace("\\", "/")
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
