r"""Paths from other machines: how they are spelled, and what they are called here (--map OLD=NEW).

A folder of Windows is spelled `E:\screen`, `E:/screen` or, in a URL, `file:///E:/screen`; one of a
server `\\server\share`, `//server/share`, `file://server/share` or `file:////server/share`. Each
spelling of OLD fits each spelling of a path, in large and small letters: to Windows they are one
folder. A folder of a Mac or of Linux is spelled as such, or `file:/Volumes/lab`,
`file:///Volumes/lab`, and its letters count; "ö" may be one character or, from a Mac, two.

Source: Python's nturl2path (pathname2url), by which CellProfiler on Windows writes URLs.
"""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from urllib.parse import quote, unquote

from bpcp.errors import BpcpError, Exit

FOLDERS = ("PathName_", "ObjectsPathName_")
ADDRESSES = ("URL_", "ObjectsURL_")
FILES = ("FileName_", "ObjectsFileName_")

_DRIVE = re.compile(r"[/\\]*([A-Za-z]:)(?![^/\\])")
# Three slashes begin a file: URL's path of no server.
_SERVER = re.compile(r"(?:\\{2,}|/{2}|/{4,})(?=[^/\\])")
_SEPARATORS = re.compile(r"[/\\]+")
# Where the rest of a URL may begin: at a separator, or at its end.
_CUTS = re.compile(r"[/\\%]|\Z")
_HOST = re.compile("//localhost(?=/)", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Tell whether a path is a file: URL."""
    return path[:5].lower() == "file:"


def plain(path: str) -> str:
    """Give the path in a file: URL, as CellProfiler takes it; other paths stay."""
    return unquote(path[5:]) if is_url(path) else path


def local(url: str) -> str:
    """Give the path on this machine that a file: URL names to CellProfiler; other URLs stay."""
    return re.sub("^/{3,}", "/", plain(url)) if is_url(url) else url


def listed(url: str) -> str:
    """Give the path that a file: URL names to other programs, of this machine by "localhost"."""
    return _HOST.sub("", local(url)) if is_url(url) else url


def head(url: str) -> str:
    """Give what stands before the path in a file: URL of this machine."""
    return url[:7] if url[5:8] == "///" else url[:5]


def is_windows(path: str) -> bool:
    """Tell whether a path has a drive's letter or a server, as Windows writes it."""
    return bool(_DRIVE.match(path) or _SERVER.match(path))


def called(name: str, root: Path) -> str:
    """Give a path of Windows as a list has it; "" where it is none.

    Parameters
    ----------
    name : str
        As `imagelist.files` gives it: what Linux does not know to be absolute lies below `root`.
    """
    own = name.removeprefix(f"{root}/")
    if not is_windows(own):
        return ""
    own = own.lstrip("/") if _DRIVE.match(own) else own
    return own.replace("/", "\\") if "\\" in own else own


def lasting(column: str, cell: str) -> str:
    """Give what a column's cell holds that --map does not change: of files, their names."""
    if column.startswith(FOLDERS):
        return ""
    if column.startswith(ADDRESSES):
        return _SEPARATORS.split(unquote(cell))[-1]
    if column.startswith(FILES):
        parts = _SEPARATORS.split(cell)
        return parts[-1] if cell.startswith("/") or is_windows(cell) else "/".join(parts)
    return cell


def common(folders: Sequence[str]) -> str:
    """Give the folder that all folders of one machine are, or lie in; "" where there is none."""
    first = folders[0]
    separator = "\\" if "\\" in first else "/"
    parts = [_SEPARATORS.split(f) if is_windows(f) else f.split("/") for f in folders]
    same = 0
    for names in zip(*parts, strict=False):
        if len({name.casefold() if is_windows(first) else name for name in names}) > 1:
            break
        same += 1
    start = separator if _SERVER.match(first) else ""
    return start + separator.join(parts[0][:same]) if any(parts[0][:same]) else ""


@dataclass(frozen=True)
class _Rule:
    """One --map: a pattern for the beginnings of paths, how long it is, and what stands for it."""

    begins: re.Pattern[str]
    parts: int
    windows: bool
    new: str

    @classmethod
    def of(cls, old: str, new: str) -> _Rule:
        path = _HOST.sub("", plain(old))
        drive, server = _DRIVE.match(path), _SERVER.match(path)
        windows = bool(drive or server or "\\" in path)
        separator = r"[/\\]+" if windows else "/+"
        top = ""
        if drive:
            top, path = rf"[/\\]*{drive[1]}", path[drive.end() :]
        elif server:
            top = r"(?:[/\\]{2}|[/\\]{4,})"
        elif path.startswith("/"):
            top = "/+"
        parts = [_any_form(part) for part in re.split(separator, path) if part]
        if drive:
            parts.insert(0, top)
            top = ""
        if not parts:
            # the root: all of an absolute path is below it
            return cls(re.compile("(?=/)"), 0, windows, new)
        end = r"(?![^/\\])" if windows else "(?![^/])"
        pattern = top + separator.join(parts) + end
        return cls(re.compile(pattern, re.IGNORECASE if windows else 0), len(parts), windows, new)

    def here(self, path: str) -> str | None:
        """Give what a path is called here; None where it does not begin so."""
        found = self.begins.match(path)
        if not found:
            return None
        rest = path[found.end() :]
        if self.windows:
            rest = _SEPARATORS.sub("/", rest)
        return self.new.rstrip("/") + rest or "/"


def _any_form(name: str) -> str:
    forms = dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))])
    return f"(?:{'|'.join(map(re.escape, forms))})"


@dataclass(frozen=True)
class Moved:
    """Folders that are elsewhere on this machine.

    Attributes
    ----------
    maps : tuple of (str, str)
        What a path begins with, and what it begins with here.
    """

    maps: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> list[str]:
        """The maps as they were asked for."""
        return [f"{old}={new}" for old, new in self.maps]

    @cached_property
    def _rules(self) -> list[_Rule]:
        """The longest first: it is the one that counts."""
        return sorted((_Rule.of(old, new) for old, new in self.maps), key=lambda r: -r.parts)

    def _applied(self, path: str) -> tuple[str, bool]:
        """Give a path of this machine, and whether it was one of Windows."""
        for rule in self._rules:
            if (here := rule.here(path)) is not None:
                return here, rule.windows
        return path, False

    def path(self, path: str) -> str:
        """Give a path of this machine."""
        return self._applied(path)[0]

    def below(self, base: str | os.PathLike[str], path: str) -> str:
        """Give a path of this machine; a relative one starts at a folder, also of another machine.

        Joined as CellProfiler does, for which a path with a drive's letter is relative.
        """
        here = self.path(path)
        return self.path(os.path.join(base, path)) if here == path else here  # noqa: PTH118

    def url(self, url: str) -> str:
        """Give a file's address on this machine, spelled as it was; it may be a path."""
        if not is_url(url):
            return self.path(url)
        own = _HOST.sub("", plain(url))
        for rule in self._rules:
            if found := rule.begins.match(own):
                rest = own[found.end() :]
                ends = (url[at.start() :] for at in _CUTS.finditer(url, 5))
                tail = next((end for end in ends if unquote(end) == rest), quote(rest))
                if rule.windows:
                    tail = re.sub(r"(?:[/\\]|%5C)+", "/", tail, flags=re.IGNORECASE)
                top = url[:7] if url[5:7] == "//" else url[:5]
                return top + (quote(os.fsencode(rule.new)).rstrip("/") + tail or "/")
        return url

    def cell(self, column: str, cell: str) -> str:
        """Give what a column holds on this machine."""
        if column.startswith(FOLDERS):
            return self.path(cell)
        return self.url(cell) if column.startswith(ADDRESSES) else cell

    def rows(
        self, header: Sequence[str], rows: Iterable[Sequence[str]]
    ) -> Iterator[tuple[str, ...]]:
        """Give rows of an image list with the folders of this machine.

        A file's name that parts folders by backslashes has slashes, where its folder was moved.
        """
        at = {name: i for i, name in enumerate(header)}
        changes = [
            (i, name, at.get(name.replace("FileName_", "PathName_", 1)))
            for name, i in at.items()
            if name.startswith((*FOLDERS, *ADDRESSES, *FILES))
        ]
        # most rows name one of a few folders
        known: dict[str, str] = {}
        for row in rows:
            cells = list(row)
            for i, name, folder in changes:
                cell = row[i]
                if name.startswith(FILES):
                    whole = cell.startswith("/") or is_windows(cell)
                    cells[i], done = self._applied(cell) if whole else (cell, False)
                    if not done and "\\" in cell and folder is not None:
                        done = self._applied(row[folder])[1]
                        cells[i] = _SEPARATORS.sub("/", cell) if done else cells[i]
                elif name.startswith(ADDRESSES):
                    cells[i] = self.url(cell)
                else:
                    if cell not in known:
                        known[cell] = self.path(cell)
                    cells[i] = known[cell]
            yield tuple(cells)

    def idle(self, paths: Iterable[str]) -> list[str]:
        """Say which maps fit none of the paths and URLs, each with the most similar of these."""
        left = {old: _Rule.of(old, new) for old, new in self.maps}
        shown: dict[str, str] = {}
        for path in paths:
            own = _HOST.sub("", plain(path))
            left = {old: rule for old, rule in left.items() if not rule.begins.match(own)}
            if not left:
                break
            shown.setdefault(own.rpartition("\\" if "\\" in own else "/")[0], path)
        if not shown:
            return []
        return [
            f"--map {shlex.quote(old)} fits no path; the most similar is"
            f" {max(shown.values(), key=lambda path: _alike(path, old))}"
            for old in left
        ]


def _alike(path: str, old: str) -> int:
    """Count the letters that two paths have in common from their beginning, whatever their case."""
    a, b = (_SEPARATORS.sub("/", plain(p)).lstrip("/").casefold() for p in (path, old))
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


NOWHERE = Moved()


def moved_of(options: Sequence[str]) -> Moved:
    """Read --map OLD=NEW.

    Raises
    ------
    BpcpError
        64 where one can't be read, or one OLD is named twice.
    """
    maps: list[tuple[str, str]] = []
    known: dict[tuple[str, int], str] = {}
    for option in options:
        old, equals, new = option.partition("=")
        if not equals or not old or not new or not old.strip("\\"):
            raise BpcpError(
                Exit.USAGE, f"--map {option}: not OLD=NEW", "--map /old/images=/data/images"
            )
        if re.match(r"[A-Za-z]:[^/\\]", old):
            raise BpcpError(
                Exit.USAGE,
                f"--map {option}: no / or \\ behind {old[:2]}; a shell takes a backslash away that"
                " is not in quotes",
                rf"--map '{old[:2]}\FOLDER'={new}",
            )
        old = old.rstrip("/\\") or "/"
        new = os.path.expanduser(new.rstrip("\\") or "/")  # noqa: PTH111 -- shells do not, behind "="
        maps.append((old, os.path.abspath(new)))  # noqa: PTH100 -- a link counts where it lies
        rule = _Rule.of(*maps[-1])
        key = (rule.begins.pattern.lower() if rule.windows else rule.begins.pattern, rule.parts)
        if known.setdefault(key, maps[-1][1]) != maps[-1][1]:
            raise BpcpError(
                Exit.USAGE, f"--map {old}: it is given twice, for two folders", "give it once"
            )
    return Moved(tuple(maps))
