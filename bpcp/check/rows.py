"""Check the image list as it stands in its file: its columns, its rows, what it says twice.

`imagelist.read` stops at the first thing that a run can't live with; here all of them are listed.
What LoadData does with each was seen in CellProfiler 4.2.8.1: it fails on a column without a name,
a short row and a PathName_ column without its FileName_; it ignores what stands behind the last
column; of two columns of one name it takes the second.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpcp import imagelist, inside
from bpcp.check import values
from bpcp.check.findings import Code, Finding, Severity
from bpcp.errors import BpcpError, Exit
from bpcp.folders import FILES, FOLDERS
from bpcp.imagelist import ImageList, Row

NOT_UTF8 = Code("list-not-utf8", Severity.ERROR, "the image list is not UTF-8")
UNREADABLE = Code("list-unreadable", Severity.ERROR, "the image list can't be read as CSV")
BOM = Code("list-bom", Severity.NOTE, "the image list begins with a byte order mark")
DELIMITER = Code("list-delimiter", Severity.ERROR, "cells are not separated by commas")
EMPTY = Code("list-empty", Severity.ERROR, "the image list has no image sets")
NO_FILES_COLUMN = Code(
    "list-no-files-column", Severity.ERROR, "no FileName_ or URL_ column, so no images"
)
PATH_WITHOUT_FILE = Code(
    "list-path-without-file", Severity.ERROR, "a PathName_ column without its FileName_ column"
)
UNNAMED_COLUMN = Code("list-unnamed-column", Severity.ERROR, "a column without a name")
DOUBLED_COLUMN = Code("list-doubled-column", Severity.ERROR, "two columns have one name")
COLUMN_NAME = Code(
    "list-column-name", Severity.WARNING, "a column's name is almost one that LoadData knows"
)
SHORT_ROW = Code("list-short-row", Severity.ERROR, "a row has fewer cells than the header")
LONG_ROW = Code("list-long-row", Severity.WARNING, "a row has more cells than the header")
NO_FILE = Code(
    "list-no-file", Severity.ERROR, "a row does not name an image's file", by_image_set=True
)
GROUP_NUMBER = Code(
    "list-group-number", Severity.ERROR, "a Group_ column holds what is no whole number"
)
EMPTY_CELL = Code("list-empty-cell", Severity.WARNING, "metadata are empty in some rows")
LINE_BREAK = Code("list-line-break", Severity.WARNING, "a cell holds a line break")
SPACE = Code("list-space", Severity.WARNING, "cells begin or end with a space")
BACKSLASH = Code("list-backslash", Severity.WARNING, "paths are spelled as on Windows")
ADDRESS = Code("list-address", Severity.ERROR, "an s3:// address leads out of its bucket")
SAME_FILES = Code("list-duplicate-image-set", Severity.WARNING, "several rows name the same files")
SAME_METADATA = Code(
    "list-duplicate-metadata", Severity.WARNING, "several rows have the same metadata"
)
SAME_FILE = Code(
    "list-same-file", Severity.WARNING, "two channels of an image set are the same file"
)

CODES = (
    NOT_UTF8,
    UNREADABLE,
    BOM,
    DELIMITER,
    EMPTY,
    NO_FILES_COLUMN,
    PATH_WITHOUT_FILE,
    UNNAMED_COLUMN,
    DOUBLED_COLUMN,
    COLUMN_NAME,
    SHORT_ROW,
    LONG_ROW,
    NO_FILE,
    GROUP_NUMBER,
    EMPTY_CELL,
    LINE_BREAK,
    SPACE,
    BACKSLASH,
    ADDRESS,
    SAME_FILES,
    SAME_METADATA,
    SAME_FILE,
    *values.CODES,
)

_NAMES = ("FileName_", "URL_", "ObjectsFileName_", "ObjectsURL_")
_KNOWN = (*_NAMES, *FOLDERS, "Metadata_")
_SITES = ("site", "field", "fieldid", "field_id", "fov", "fieldofview")


@dataclass(frozen=True)
class Raw:
    """An image list as it stands in its file.

    Attributes
    ----------
    header : tuple of str
        As LoadData takes the names.
    rows : tuple of tuple of str
        Those that are at least as long as the header, cut to its length.
    lines : tuple of int
        Where each row ends in the file, 1-based.
    """

    header: Row
    rows: tuple[Row, ...]
    lines: tuple[int, ...]

    def at(self, *prefixes: str) -> list[int]:
        """Give the indexes of the columns whose names begin so."""
        return [i for i, name in enumerate(self.header) if name.startswith(prefixes)]


def of_list(path: Path, group_keys: Sequence[str] = ()) -> tuple[list[Finding], ImageList | None]:
    """Check an image list.

    Parameters
    ----------
    group_keys : sequence of str
        The metadata tags by which the pipeline groups.

    Returns
    -------
    list of Finding
    ImageList or None
        Its good rows, for looking at their files; None where its columns make no list.

    Raises
    ------
    BpcpError
        66 where there is none.
    """
    findings: list[Finding] = []
    raw = _read(path, findings)
    if raw is None:
        return findings, None
    findings += _columns(raw)
    if not raw.rows:
        if not any(f.code is SHORT_ROW for f in findings):
            findings.append(
                Finding(EMPTY, path.name, "no rows behind the header", "list the image sets")
            )
        return findings, None
    findings += _cells(raw)
    if {f.code for f in findings} & {NO_FILES_COLUMN, DOUBLED_COLUMN, GROUP_NUMBER}:
        return findings, None
    images = ImageList(raw.header, raw.rows, raw.lines)
    lacking = {line for f in findings if f.code is NO_FILE for line in f.lines}
    findings += _said_twice(images, lacking)
    findings += values.of_values(images, group_keys)
    return findings, images


def _read(path: Path, findings: list[Finding]) -> Raw | None:
    """Read the file, and find what is wrong with its rows; None where there is no header."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        what = "a folder, not an image list" if path.is_dir() else "no image list"
        raise BpcpError(
            Exit.NO_INPUT, f"{what}: {path}", "bpcp images FOLDER -d DATASET makes one"
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        findings.append(_not_utf8(data, error))
        return None
    if data.startswith(b"\xef\xbb\xbf"):
        findings.append(
            Finding(
                BOM,
                "line 1",
                "a spreadsheet's byte order mark, which CellProfiler by itself takes for a part"
                " of the first column's name",
                "nothing for bpcp, which leaves it out; for others save as CSV without BOM",
                (1,),
            )
        )
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        findings.append(_unreadable(line, "a zero byte"))
        return None
    # as `imagelist.read` takes it: any kind of line end
    reader = csv.reader(io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n")))
    rows: list[Row] = []
    lines: list[int] = []
    header: Row = ()
    try:
        header = tuple(imagelist.to_column(name) for name in next(reader, []))
        delimiter = next((d for d in ";\t|" if len(header) == 1 and d in header[0]), "")
        if delimiter:
            named = {";": "semicolons", "\t": "tabs", "|": "bars"}[delimiter]
            findings.append(
                Finding(
                    DELIMITER,
                    "line 1",
                    f"cells are separated by {named}",
                    "save it with commas",
                    (1,),
                )
            )
            return None
        for cells in reader:
            if cells and (wrong := _length(cells, len(header), reader.line_num)):
                findings.append(wrong)
            if cells and len(cells) >= len(header):
                rows.append(tuple(cells[: len(header)]))
                lines.append(reader.line_num)
    except csv.Error as error:
        findings.append(_unreadable(max(reader.line_num, 1), str(error)))
        return None
    if not header:
        findings.append(Finding(EMPTY, path.name, "nothing in it", "list the image sets"))
        return None
    return Raw(header, tuple(rows), tuple(lines))


def _unreadable(line: int, what: str) -> Finding:
    remedy = "mend that line; a quote that is opened and not closed swallows what follows"
    return Finding(UNREADABLE, f"line {line}", what, remedy, (line,))


def _length(cells: Sequence[str], columns: int, line: int) -> Finding | None:
    if len(cells) < columns:
        swallowed = any("\n" in cell for cell in cells)
        return Finding(
            SHORT_ROW,
            f"line {line}",
            f"{len(cells)} cells, the header has {columns}",
            "close the quote that is opened there or in lines above: it swallowed them"
            if swallowed
            else "mend the row; LoadData refuses the whole list",
            (line,),
        )
    if len(cells) > columns:
        return Finding(
            LONG_ROW,
            f"line {line}",
            f"{len(cells)} cells, the header has {columns}; the last are ignored",
            "quote cells that hold a comma: it moves all that follow by one column",
            (line,),
        )
    return None


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> Finding:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Finding(
            NOT_UTF8,
            "line 1",
            'UTF-16, which Excel calls "Unicode Text"',
            'save as "CSV UTF-8"',
            (1,),
        )
    line = data[: error.start].count(b"\n") + 1
    return Finding(
        NOT_UTF8,
        f"line {line}",
        f"byte {error.start + 1:,} of the file is none of UTF-8's",
        'save as "CSV UTF-8"; iconv -f WINDOWS-1252 -t UTF-8 mends what Excel saved as plain CSV',
        (line,),
    )


def _columns(raw: Raw) -> Iterator[Finding]:
    header = raw.header
    for i, name in enumerate(header):
        if not name:
            what = f"column {i + 1} of {len(header)} has no name; CellProfiler fails"
            yield Finding(UNNAMED_COLUMN, "line 1", what, "name it, or delete it", (1,))
    for name in dict.fromkeys(c for c in header if c and header.count(c) > 1):
        what = f"{header.count(name)} columns have this name"
        yield Finding(DOUBLED_COLUMN, f"line 1, {name}", what, "keep one of them", (1,))
    for name in header:
        if meant := _meant(name):
            yield Finding(
                COLUMN_NAME,
                f"line 1, {name!r}",
                f"LoadData does not take it for {meant}",
                f"call it {meant}",
                (1,),
            )
    for prefix, needed in (("PathName_", "FileName_"), ("ObjectsPathName_", "ObjectsFileName_")):
        for i in raw.at(prefix):
            image = header[i].removeprefix(prefix)
            url = needed.replace("FileName_", "URL_")
            if needed + image not in header and url + image not in header:
                yield Finding(
                    PATH_WITHOUT_FILE,
                    f"line 1, {header[i]}",
                    f"there is no {needed}{image}; LoadData fails",
                    "add that column, or delete this one",
                    (1,),
                )
    if not raw.at("FileName_", "URL_"):
        there = ", ".join(header[:12]) + (", …" if len(header) > 12 else "")
        yield Finding(
            NO_FILES_COLUMN,
            "line 1",
            f"the columns are: {there}",
            "name them FileName_<image>",
            (1,),
        )


def _meant(name: str) -> str:
    """Say which name a column's was meant to be; "" where it is good, or none that is known."""
    bare = imagelist.to_column(name.strip())
    for prefix in _KNOWN:
        if bare.lower().startswith(prefix.lower()):
            good = prefix + bare[len(prefix) :]
            return good if good != name else ""
    return ""


def _cells(raw: Raw) -> Iterator[Finding]:
    lines = raw.lines
    yield from _no_files(raw)
    yield from _addresses(raw)
    filled = (tuple(cell or "0" for cell in row) for row in raw.rows)
    types = imagelist.column_types(raw.header, filled)
    for i in raw.at("Metadata_"):
        empty = [line for line, row in zip(lines, raw.rows, strict=True) if not row[i]]
        if empty:
            number = types[i] != imagelist.Type.TEXT and len(empty) < len(raw.rows)
            effect = "; that makes the whole column text to CellProfiler" if number else ""
            yield Finding(
                EMPTY_CELL,
                raw.header[i],
                f"empty in {len(empty):,} of {len(raw.rows):,} rows{effect}",
                "fill it in, or delete the column where nothing uses it",
                tuple(empty),
            )
    for name, at in imagelist.no_integers(raw.header, raw.rows).items():
        cell = raw.rows[at[0]][raw.header.index(name)]
        wrong = [lines[i] for i in at]
        yield Finding(
            GROUP_NUMBER,
            f"line {wrong[0]}, {name}",
            f"{cell!r} is no whole number, in {_rows(wrong)}; LoadData fails",
            "write whole numbers, or delete the column: the pipeline makes its own groups",
            tuple(wrong),
        )
    known = raw.at(*_KNOWN)
    for i, name in enumerate(raw.header):
        broken, spaced = [], []
        example = ""
        for line, row in zip(lines, raw.rows, strict=True):
            cell = row[i]
            if "\n" in cell:
                broken.append(line)
            elif i in known and cell != cell.strip():
                example = example or cell
                spaced.append(line)
        if broken:
            yield Finding(
                LINE_BREAK,
                name,
                f"a cell that goes over several lines, in {_rows(broken)}",
                "see that each quote that is opened there is closed: rows may be swallowed",
                tuple(broken),
            )
        if spaced:
            yield Finding(
                SPACE,
                name,
                f"{example!r} begins or ends with a space, and so {_rows(spaced)}",
                "delete the spaces, unless the files are really called so",
                tuple(spaced),
            )


def backslashes(images: ImageList) -> Iterator[Finding]:
    """Find paths that are of Windows, in a list with the folders of this machine."""
    windows: dict[str, list[int]] = defaultdict(list)
    at = [i for i, name in enumerate(images.header) if name.startswith((*FOLDERS, *FILES))]
    for line, row in zip(images.lines, images.rows, strict=True):
        for i in at:
            if "\\" in row[i]:
                windows[images.header[i]].append(line)
    for name, lines in windows.items():
        yield Finding(
            BACKSLASH,
            name,
            f"\\ separates no folders here, in {_rows(lines)}",
            "write / and the folder's name on this machine, or name it by --map OLD=NEW",
            tuple(lines),
        )


def _addresses(raw: Raw) -> Iterator[Finding]:
    """Find s3:// addresses that could be taken for files outside the run's own folders."""
    at = {name: i for i, name in enumerate(raw.header)}
    for name, i in at.items():
        if not name.startswith((*FOLDERS, "URL_", "ObjectsURL_")):
            continue
        file = at.get(name.replace("PathName_", "FileName_"), i)
        wrong: dict[int, str] = {}
        for line, row in zip(raw.lines, raw.rows, strict=True):
            address = row[i] if file == i else f"{row[i]}/{row[file]}"
            if address.lower().startswith("s3://") and inside.strays(address):
                wrong[line] = address
        if wrong:
            first = next(iter(wrong.values()))
            yield Finding(
                ADDRESS,
                name,
                f"{first!r} has a part that is . or .., in {_rows(list(wrong))}",
                "correct the address",
                tuple(wrong),
            )


def _no_files(raw: Raw) -> Iterator[Finding]:
    """Find rows that lack an image's file; a row of nothing but commas is one finding."""
    remedy = "fill it in, or delete the row; CellProfiler fails on it"
    at = {name: i for i, name in enumerate(raw.header)}
    for line, row in zip(raw.lines, raw.rows, strict=True):
        if not any(row):
            what = "a row of empty cells, as spreadsheets leave them"
            yield Finding(NO_FILE, f"line {line}", what, "delete the row", (line,))
            continue
        for prefix, url in (("FileName_", "URL_"), ("ObjectsFileName_", "ObjectsURL_")):
            for name, i in at.items():
                if not name.startswith((prefix, url)) or row[i].strip():
                    continue
                image = name.split("_", 1)[1]
                other = at.get((url if name.startswith(prefix) else prefix) + image)
                if other is None or (other > i and not row[other].strip()):
                    yield Finding(NO_FILE, f"line {line}, {name}", "empty", remedy, (line,))


def _said_twice(images: ImageList, lacking: Collection[int]) -> Iterator[Finding]:
    """Compare rows with one another, without those that lack a file."""
    header = images.header
    by_files: dict[tuple[str, ...], list[int]] = defaultdict(list)
    by_metadata: dict[tuple[str, ...], list[int]] = defaultdict(list)
    one_file: dict[str, list[tuple[int, str]]] = defaultdict(list)
    tags = [i for i, name in enumerate(header) if name.startswith("Metadata_")]
    # without a column for the site, rows of one well are rightly the same
    complete = any(header[i][9:].lower() in _SITES for i in tags)
    # one file read as several image sets: its frames
    parts = [i for i, name in enumerate(header) if re.match(r"(Objects)?(Series|Frame)_", name)]
    for line, row in zip(images.lines, images.rows, strict=True):
        if line in lacking:
            continue
        files = imagelist.files(header, row, Path("/"))
        key = (*(name for _, name in files), *(row[i] for i in parts))
        by_files[key].append(line)
        if complete:
            by_metadata[tuple(row[i] for i in tags)].append(line)
        if not parts and len({name for _, name in files}) < len(files):
            channels: dict[str, list[str]] = {}
            for channel, name in files:
                channels.setdefault(name, []).append(channel)
            for name, alike in channels.items():
                if len(alike) > 1:
                    one_file[" and ".join(alike)].append((line, name))
    for alike_said, uses in one_file.items():
        yield Finding(
            SAME_FILE,
            f"line {uses[0][0]}",
            f"{alike_said} are both {uses[0][1].rpartition('/')[2]!r}, in"
            f" {_rows([line for line, _ in uses])}",
            "see that each channel has its own file",
            tuple(line for line, _ in uses),
        )
    twice = {tuple(lines) for lines in by_files.values() if len(lines) > 1}
    for lines in sorted(twice):
        yield Finding(
            SAME_FILES,
            f"line {lines[-1]}",
            f"the same files as line {lines[0]}; they would be measured {_times(len(lines))}",
            "delete all rows but one",
            lines,
        )
    for cells, found in by_metadata.items():
        if len(found) > 1 and tuple(found) not in twice:
            named = " ".join(cell for cell in cells if cell)
            yield Finding(
                SAME_METADATA,
                f"line {found[-1]}",
                f"the same metadata as line {found[0]}, and other files: {named}",
                "give each image set its own plate, well and site",
                tuple(found),
            )


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count:,} times"


def _rows(lines: Sequence[int]) -> str:
    return f"line {lines[0]}" if len(lines) == 1 else f"{len(lines):,} rows"
