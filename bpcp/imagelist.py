"""load_data.csv as CellProfiler's LoadData reads it: types, groups and ImageNumbers.

LoadData gives each column one type, from all rows of the CSV that it is handed, and numbers the
image sets by the sorted groups. Both depend on the whole list; a chunk is handed only its rows.
What is worked out here lets a chunk be read as a part of the whole.

Source: cellprofiler_core 4.2.8.1, modules/loaddata.py (get_measurement_columns, prepare_run),
utilities/core/modules/load_data.py (get_loaddata_type), measurement (get_groupings).
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from bpcp import folders
from bpcp.errors import BpcpError, Exit

_INT32 = range(-(2**31), 2**31)
_TEXT_PREFIXES = ("PathName", "FileName", "URL", "ObjectsFileName", "ObjectsPathName", "ObjectsURL")
_FILE_COLUMNS = (
    ("FileName_", "PathName_", "URL_"),
    ("ObjectsFileName_", "ObjectsPathName_", "ObjectsURL_"),
)
# What LoadData takes for whole numbers whatever a list says; source: pipeline/_pipeline.py
# (get_measurement_columns).
GROUP_COLUMNS = ("Group_Number", "Group_Index", "Group_Length")
_ROW_TAGS = ("wellrow", "well_row", "row")
_COLUMN_TAGS = ("wellcol", "well_col", "wellcolumn", "well_column", "column", "col")
_REMOTE = re.compile(r"^(https?|ftp|s3|gs|omero|omero-3d):", re.IGNORECASE)
# A row's cells joined by what no cell of a text file holds.
_SEPARATOR = "\x1f"


class Type(IntEnum):
    """What LoadData takes a cell or a column for; a column has the widest type of its cells."""

    INTEGER = 0
    FLOAT = 1
    TEXT = 2


Row = tuple[str, ...]


@dataclass(frozen=True)
class ImageList:
    """An image list: a header, and a row for each image set.

    Attributes
    ----------
    header : tuple of str
        Column names as LoadData takes them ("Image_FileName_DNA" is "FileName_DNA").
    rows : tuple of tuple of str
        One for each image set, in the order of the file, each as long as the header.
    lines : tuple of int
        Where each row stands in the file, 1-based, the header being line 1.
    """

    header: Row
    rows: tuple[Row, ...]
    lines: tuple[int, ...]

    def only(self, keep: Sequence[int]) -> ImageList:
        """Keep some rows, by their indexes."""
        return ImageList(
            self.header, tuple(self.rows[i] for i in keep), tuple(self.lines[i] for i in keep)
        )

    def column(self, name: str) -> int:
        """Give the index of a column.

        Raises
        ------
        BpcpError
            65 where it is missing; the message lists what there is.
        """
        try:
            return self.header.index(name)
        except ValueError:
            there = ", ".join(c[9:] for c in self.header if c.startswith("Metadata_"))
            raise BpcpError(
                Exit.MALFORMED_INPUT,
                f"the image list has no column {name}",
                f"it has Metadata_ columns for: {there or 'nothing'}",
            ) from None


def read(path: Path) -> ImageList:
    """Read a LoadData CSV.

    Raises
    ------
    BpcpError
        66 where it is missing, 65 where it is empty or a row is short.
    """
    try:
        # Excel marks its files with a BOM; LoadData would take it for a part of the first name.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BpcpError(
            Exit.NO_INPUT, f"no image list: {path}", "bpcp images FOLDER -d DATASET makes one"
        ) from None
    except UnicodeDecodeError as error:
        raise BpcpError(
            Exit.MALFORMED_INPUT, f"{path}: not UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    reader = csv.reader(io.StringIO(text))
    header = tuple(to_column(name) for name in next(reader, []))
    rows: list[Row] = []
    lines: list[int] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) < len(header):
            raise BpcpError(
                Exit.MALFORMED_INPUT,
                f"{path}, line {reader.line_num}: {len(cells)} cells, the header has {len(header)}",
                "mend that row; LoadData refuses the whole list",
            )
        rows.append(tuple(cells[: len(header)]))
        lines.append(reader.line_num)
    if not rows:
        raise BpcpError(Exit.MALFORMED_INPUT, f"{path}: no image sets in it")
    if not any(c.startswith(("FileName_", "URL_")) for c in header):
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{path}: no FileName_ or URL_ column, so it names no images",
            f"its columns are: {', '.join(header)}",
        )
    doubled = sorted({c for c in header if header.count(c) > 1})
    if doubled:
        raise BpcpError(Exit.MALFORMED_INPUT, f"{path}: two columns are named {doubled[0]}")
    for name, wrong in no_integers(header, rows).items():
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{path}, line {lines[wrong[0]]}: {name} is {rows[wrong[0]][header.index(name)]!r},"
            " and LoadData takes only whole numbers there",
            "write whole numbers, or delete the column",
        )
    return ImageList(header, tuple(rows), tuple(lines))


def no_integers(header: Row, rows: Sequence[Row]) -> dict[str, list[int]]:
    """Give the indexes of the rows whose Group_ columns make LoadData fail, by column."""
    found: dict[str, list[int]] = {}
    for at, name in enumerate(header):
        for i, row in enumerate(rows if name in GROUP_COLUMNS else ()):
            try:
                int(row[at])
            except ValueError:
                found.setdefault(name, []).append(i)
    return found


def to_column(name: str) -> str:
    """Give a column's name as LoadData takes it: "Image_FileName_DNA" is "FileName_DNA"."""
    if name.startswith(tuple(f"Image_{prefix}_" for prefix in _TEXT_PREFIXES)):
        return name[len("Image_") :]
    return name


def write(path: Path, header: Row, rows: Iterable[Row]) -> None:
    """Write a LoadData CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def cell_type(cell: str) -> Type:
    """Give the type that LoadData sees in one cell; integers beyond 32 bits are text to it."""
    try:
        return Type.INTEGER if int(cell) in _INT32 else Type.TEXT
    except ValueError:
        pass
    try:
        float(cell)
    except ValueError:
        return Type.TEXT
    return Type.FLOAT


def column_types(header: Row, rows: Iterable[Row]) -> tuple[Type, ...]:
    """Give each column's type over the rows, as LoadData would; length as the header."""
    types = [_named_type(name) for name in header]
    open_columns = [
        i for i, t in enumerate(types) if t != Type.TEXT and header[i] not in GROUP_COLUMNS
    ]
    seen: list[set[str]] = [set() for _ in header]
    for row in rows:
        for i in open_columns:
            cell = row[i]
            if cell not in seen[i]:
                seen[i].add(cell)
                types[i] = max(types[i], cell_type(cell))
    return tuple(types)


def _named_type(name: str) -> Type:
    if name.startswith(_TEXT_PREFIXES):
        return Type.TEXT
    if name.startswith("Metadata_") and name.split("_")[1].lower() in _COLUMN_TAGS:
        return Type.TEXT
    return Type.INTEGER


def shown(cell: str, kind: Type) -> str:
    """Give a cell as CellProfiler writes it once typed: "04" is 4 in a column of integers."""
    if kind == Type.INTEGER:
        return str(int(cell))
    if kind == Type.FLOAT:
        return str(float(cell))
    return cell


def group_values(
    header: Row, types: Sequence[Type], rows: Sequence[Row], keys: Sequence[str]
) -> list[Row]:
    """Give each row's group: the values of the keys as CellProfiler compares them.

    Parameters
    ----------
    keys : sequence of str
        Metadata tags without "Metadata_"; none puts all rows into one group.

    Returns
    -------
    list of tuple of str
        As long as `rows`; equal tuples are one group, and groups sort by them as text.

    Raises
    ------
    BpcpError
        65 where the list lacks a key.
    """
    readers = [_key_columns(header, key) for key in keys]
    return [
        tuple(
            "".join(shown(row[i], types[i]) if len(at) == 1 else row[i] for i in at)
            for at in readers
        )
        for row in rows
    ]


def _key_columns(header: Row, key: str) -> tuple[int, ...]:
    name = f"Metadata_{key}"
    if name not in header and key == "Well":
        # LoadData joins a well's row and column where there is no well
        tags = {c[9:].lower(): i for i, c in enumerate(header) if c.startswith("Metadata_")}
        row = [i for tag, i in tags.items() if tag in _ROW_TAGS]
        column = [i for tag, i in tags.items() if tag in _COLUMN_TAGS]
        if row and column:
            return (row[-1], column[-1])
    return (ImageList(header, (), ()).column(name),)


def numbering(groups: Sequence[Row], header: Row = ()) -> list[int]:
    """Give the rows in the order of their ImageNumbers.

    Returns
    -------
    list of int
        Indexes of rows, 0-based: the row at place k has ImageNumber k + 1. CellProfiler numbers by
        the sorted groups, and in the order of the file within each; by the file alone where it has
        a column Group_Number. Source: pipeline/_pipeline.py (prepare_run).
    """
    if GROUP_COLUMNS[0] in header:
        return list(range(len(groups)))
    return sorted(range(len(groups)), key=lambda i: groups[i])


def witness_row(
    header: Row,
    types: Sequence[Type],
    whole: Sequence[Row],
    part: Sequence[Row],
    keys: Sequence[str] = (),
) -> Row | None:
    """Make a row which, put behind a part's rows, lets LoadData type them as in the whole list.

    Each of its cells is the part's own last one, or, where the part alone would be typed more
    narrowly, one from the whole list that widens it. It is never processed.

    Parameters
    ----------
    keys : sequence of str
        The metadata tags by which CellProfiler groups: the row makes a group of its own, and the
        last one, so that it neither joins another nor comes between.

    Returns
    -------
    tuple of str, or None
        None where the part needs none.
    """
    narrow = column_types(header, part)
    if tuple(types) == narrow:
        return None
    cells = list(part[-1])
    for i, (wide, own) in enumerate(zip(types, narrow, strict=True)):
        if wide != own:
            cells[i] = next(row[i] for row in whole if cell_type(row[i]) == wide)
    if keys:
        at = _key_columns(header, keys[0])[0]
        last = {Type.INTEGER: "999999999", Type.FLOAT: "999999999.5"}
        # groups sort by their values as text
        cells[at] = last.get(types[at]) or max(row[at] for row in (*part, cells)) + "~"
    return tuple(cells)


def files(header: Row, row: Row, root: Path) -> list[tuple[str, str]]:
    """List the files that a row names.

    Parameters
    ----------
    root : Path
        Where relative folders start.

    Returns
    -------
    list of (str, str)
        The name of the image or object, and an absolute path, or a URL where it isn't a file.
    """
    found: list[tuple[str, str]] = []
    at = {name: i for i, name in enumerate(header)}
    for file_prefix, path_prefix, url_prefix in _FILE_COLUMNS:
        names = dict.fromkeys(
            c.split("_", 1)[1] for c in header if c.startswith((file_prefix, url_prefix))
        )
        for name in names:
            url = row[at[url_prefix + name]] if url_prefix + name in at else ""
            if url:
                found.append((name, folders.local(url)))
                continue
            folder = row[at[path_prefix + name]] if path_prefix + name in at else ""
            file = row[at[file_prefix + name]] if file_prefix + name in at else ""
            joined = os.path.join(folder, file)  # noqa: PTH118 -- may be a URL
            found.append((name, joined if _REMOTE.match(joined) else str(root / joined)))
    return found


def fingerprint(
    header: Row, rows: Sequence[Row], root: Path, remote: Mapping[str, Sequence[Any]] | None = None
) -> str:
    """Give what tells that the image files of some rows are still the same: names, sizes, times.

    Parameters
    ----------
    remote : mapping of str to sequence, optional
        Size in bytes and time in ns of the files that come from a bucket, by what `files` calls
        them; these need not be here.
    """
    found = []
    below = f"{root}/"
    for row in rows:
        for _, name in files(header, row, root):
            # a fresh machine may have another root
            short = name.removeprefix(below)
            if remote and name in remote:
                size, mtime_ns = remote[name][:2]
                found.append(f"{short} {size} {mtime_ns}")
                continue
            try:
                stat = Path(name).stat()
                found.append(f"{short} {stat.st_size} {stat.st_mtime_ns}")
            except (OSError, ValueError):
                found.append(short)
    return digest(found)


def is_remote(path: str) -> bool:
    """Tell whether what `files` gave is a URL that only CellProfiler can fetch."""
    return bool(_REMOTE.match(path))


def digest(parts: Iterable[str]) -> str:
    """Give the SHA-256 of some texts, as hex; where they are cut counts."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        total.update(b"%d:" % len(data))
        total.update(data)
    return total.hexdigest()


def row_text(row: Row) -> str:
    """Give a row as one text, for comparing and digesting."""
    return _SEPARATOR.join(row)
