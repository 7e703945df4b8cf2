"""Lists of files that projects and pipelines hold themselves, and where these are here.

Source: cellprofiler_core 4.2.8.1, utilities/hdf5_dict.py (HDF5FileList, VStringArray),
utilities/core/pipeline.py (read_file_list).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np

from bpcp.folders import Moved

_LISTS, _LIST, _DIRECTORY = "FileList", "FileListGroup", "Directory"
_INDEX, _DATA = "VStringArrayIndex", "VStringArrayData"
# Begins and ends before it: no text, as CellProfiler writes that.
_NONE = (np.iinfo(np.int32).max, 0)
_PLAIN = re.compile("[A-Za-z0-9%=._+-]")
# Behind a pipeline's modules: two lines of headers, and a URL a line.
_IN_TEXT = re.compile(r'(\n"URL",[^\n]*\n)(.*)', re.DOTALL)
_URL = re.compile(r'^"((?:[^"\\\n]|\\.)+)"', re.MULTILINE)


def in_text(text: str) -> list[str]:
    """List the URLs of a pipeline that was saved with its list of files."""
    found = _IN_TEXT.search(text)
    return _URL.findall(found[2]) if found else []


def moved_text(text: str, moved: Moved) -> str:
    """Give such a pipeline with the files of this machine."""
    return _IN_TEXT.sub(
        lambda found: found[1] + _URL.sub(lambda url: f'"{moved.url(url[1])}"', found[2]), text
    )


def in_project(path: Path) -> list[str]:
    """List the URLs of a project's own list; none where it has none."""
    with h5py.File(path, "r") as file:
        home = _home(file)
        return [url for url, _ in _entries(home)] if home else []


def move_project(path: Path, moved: Moved) -> None:
    """Give a project's own list the files of this machine; what it knows of each stays with it."""
    with h5py.File(path, "r+") as file:
        home = _home(file)
        if not home:
            return
        folders: dict[tuple[str, ...], dict[str, bytes | None]] = defaultdict(dict)
        for url, known in _entries(home):
            *above, name = _parts(moved.url(url))
            folders[tuple(above)][name] = known
        for key in [key for key in home if _is(home[key], _DIRECTORY)]:
            del home[key]
        for place, files in folders.items():
            group: Any = home
            for part in place:
                group = group.require_group(_encoded(part))
                group.attrs["Class"] = _DIRECTORY
            names = sorted(files)
            group.attrs["Timestamp"] = 0.0
            _put(group, [name.encode() for name in names])
            _put(group.require_group("metadata"), [files[name] for name in names])


def _home(file: Any) -> Any:
    """Give the group of a file's list; None where it has none."""
    lists = file.get(_LISTS, {})
    return next((lists[key] for key in lists if _is(lists[key], _LIST)), None)


def _is(item: Any, kind: str) -> bool:
    # CellProfiler 3 wrote bytes
    found = item.attrs.get("Class")
    return (found.decode() if isinstance(found, bytes) else found) == kind


def _entries(home: Any) -> Iterator[tuple[str, bytes | None]]:
    """Give each URL, and what CellProfiler read of its file's metadata."""
    for scheme in home:
        if _is(home[scheme], _DIRECTORY):
            yield from _below(home[scheme], f"{_decoded(scheme)}:")


def _below(group: Any, above: str) -> Iterator[tuple[str, bytes | None]]:
    names = _texts(group)
    known = _texts(group["metadata"]) if "metadata" in group else []
    for name, one in zip(names, [*known, *(None for _ in names[len(known) :])], strict=False):
        if name is not None:
            yield above + name.decode(), one
    for key in group:
        item = group[key]
        if isinstance(item, h5py.Group) and _is(item, _DIRECTORY):
            part = _decoded(key)
            yield from _below(item, above + part + ("" if part.endswith("/") else "/"))


def _parts(url: str) -> list[str]:
    """Cut a URL as CellProfiler does; slashes at its beginning belong to the first folder."""
    scheme = urlsplit(url).scheme
    path = url[len(scheme) + 1 :]
    bare = path.lstrip("/")
    start = path[: len(path) - len(bare)]
    parts = [part for part in bare.split("/") if part]
    if len(parts) == 1 and start:
        return [scheme, start, *parts]
    return [scheme, start + parts[0], *parts[1:]]


def _encoded(part: str) -> str:
    if part in ("index", "data", "metadata"):
        return rf"\{ord(part[0]):02x}{part[1:]}"
    return "".join(c if _PLAIN.match(c) else rf"\{ord(c):02x}" for c in part)


def _decoded(key: str) -> str:
    first, *others = key.split("\\")
    return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in others)


def _texts(group: Any) -> list[bytes | None]:
    if "index" not in group or not _is(group["index"], _INDEX):
        return []
    data = group["data"][()].tobytes()
    return [None if a > b else data[a:b] for a, b in group["index"][()]]


def _put(group: Any, texts: list[bytes | None]) -> None:
    ends = np.cumsum([len(text or b"") for text in texts]).tolist()
    index = [
        _NONE if text is None else (end - len(text), end)
        for text, end in zip(texts, ends, strict=True)
    ]
    joined = b"".join(text or b"" for text in texts)
    data = np.frombuffer(joined, "S1") if joined else np.empty(0, "S1")
    made = group.create_dataset(
        "index", data=np.array(index, np.int32).reshape(-1, 2), chunks=(256, 2), maxshape=(None, 2)
    )
    made.attrs["Class"] = _INDEX
    made = group.create_dataset("data", data=data, dtype="S1", chunks=(32768,), maxshape=(None,))
    made.attrs["Class"] = _DATA
