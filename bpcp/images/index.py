"""Read an instrument's index: an XML file that says of each image where it was taken.

What such files have in common is here, how each maker's is read in phenix.py, yokogawa.py and
incell_xdce.py. They may be large, cut off or edited: records are given as they come, every error
names its line, and nothing outside the images' folder is ever named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from xml.parsers import expat

from bpcp.errors import BpcpError, Exit
from bpcp.images import plates
from bpcp.images.record import Image
from bpcp.images.report import counted

_CHUNK = 1 << 20
_BEGINNING = 1 << 16
_EARLY_END = (
    expat.errors.XML_ERROR_NO_ELEMENTS,
    expat.errors.XML_ERROR_UNCLOSED_TOKEN,
    expat.errors.XML_ERROR_PARTIAL_CHAR,
    expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
)
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://")
AGAIN = "copy it from the instrument again"


class _Found(Exception):
    pass


def root(path: Path) -> str:
    """Give the outermost element of an XML file without its namespace; "" where there is none.

    No more of the file is read than its beginning.
    """
    name = ""

    def start(found: str, _: dict[str, str]) -> None:
        nonlocal name
        name = found.rpartition(":")[2]
        raise _Found

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    try:
        with path.open("rb") as file:
            parser.Parse(file.read(_BEGINNING), False)
    except (_Found, expat.ExpatError, LookupError, ValueError, FileNotFoundError):
        pass
    return name


def well(row: int, col: int) -> str:
    """Name a well: (1, 1) is "A01", (27, 1) is "AA01".

    Parameters
    ----------
    row, col : int
        1-based; up to 32 rows and 48 columns.

    Raises
    ------
    ValueError
        Where no plate has such a well.
    """
    name = plates.well_of(str(row), str(col)) if col <= plates.COLUMNS else ""
    if not name:
        raise ValueError(f"no plate has row {row}, column {col}")
    return name


@dataclass(frozen=True)
class Shape:
    """What an instrument's XML is known by, and what is read of it.

    Attributes
    ----------
    name : str
        What the user calls such a file: "a Harmony index".
    root : str
        The outermost element, without its namespace.
    records : mapping of str to frozenset of str
        "Parent/Element" of each kind of record, and what is taken of it: "" is its own text, "@a"
        its attribute, "Child" and "Child@a" those of any element below it, without namespaces.
    """

    name: str
    root: str
    records: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an XML file.

    Attributes
    ----------
    kind : str
        "Parent/Element"; "" for the outermost element, which has attributes only.
    line : int
        Where it starts, 1-based.
    values : dict of str to str
        What there was of what its Shape asks for, without white space around it.
    """

    kind: str
    line: int
    values: dict[str, str] = field(repr=False)


class _Locals(dict[str, str]):
    """Names without their namespace's prefix; the same few names come millions of times."""

    def __missing__(self, name: str) -> str:
        short = self[name] = name.rpartition(":")[2]
        return short


def _parser(index: IndexFile, shape: Shape, found: list[Record]) -> expat.XMLParserType:
    """Make a parser that puts records into a list.

    expat itself, for its line numbers, and because it can let text that nobody asked for pass
    without a call: that is most of an index.
    """
    local = _Locals()
    outside: list[str] = []
    record: Record | None = None
    values: dict[str, str] = {}
    wanted: frozenset[str] = frozenset()
    attributed: frozenset[str] = frozenset()
    depth = 0
    text: list[str] = []
    leaf: str | None = None

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        name = local[name]
        if record is None:
            start_outside(name, attributes)
            return
        depth += 1
        if name in attributed:
            for key, value in attributes.items():
                if (full := f"{name}@{local[key]}") in wanted:
                    values.setdefault(full, value.strip())
        if name in wanted:
            listen(name)

    def start_outside(name: str, attributes: dict[str, str]) -> None:
        nonlocal record, values, wanted, attributed
        line = parser.CurrentLineNumber
        own = {f"@{local[key]}": value.strip() for key, value in attributes.items()}
        if not outside:
            if name != shape.root:
                what = f"<{name}>; {shape.name} starts with <{shape.root}>"
                raise index.wrong(line, what, "name the file that the instrument wrote")
            found.append(Record("", line, own))
        elif (kind := f"{outside[-1]}/{name}") in shape.records:
            wanted = shape.records[kind]
            attributed = frozenset(key.partition("@")[0] for key in wanted if "@" in key)
            values = {key: value for key, value in own.items() if key in wanted}
            record = Record(kind, line, values)
            if "" in wanted:
                listen("")
            return
        outside.append(name)

    def listen(key: str) -> None:
        nonlocal leaf
        text.clear()
        leaf = key
        parser.CharacterDataHandler = text.append

    def end(_: str) -> None:
        nonlocal record, depth, leaf
        if record is None:
            outside.pop()
            return
        if leaf is not None:
            values.setdefault(leaf, "".join(text).strip())
            leaf = None
            parser.CharacterDataHandler = None
        if depth:
            depth -= 1
        else:
            found.append(record)
            record = None

    def doctype(*_: object) -> None:
        # only there can entities be declared that grow without bounds or fetch other files
        raise index.wrong(parser.CurrentLineNumber, f"a DOCTYPE; {shape.name} has none")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    return parser


@dataclass(frozen=True)
class IndexFile:
    """An instrument's XML file, and where the images that it names lie.

    Attributes
    ----------
    path : Path
        The file, or a local copy of it.
    told : str
        Where the images lie, as it will stand in PathName_; "" for beside the file.
    """

    path: Path
    told: str = ""

    @cached_property
    def folder(self) -> str:
        """Where the images lie."""
        return self.told or str(self.path.absolute().parent)

    @property
    def shown(self) -> str:
        """What to call the file: where its user has it, not where a copy of it lies."""
        return f"{self.told.rstrip('/')}/{self.path.name}" if self.told else str(self.path)

    def wrong(self, line: int, what: str, todo: str = AGAIN) -> BpcpError:
        """Give the error that says what is wrong in a line, 1-based."""
        return BpcpError(Exit.MALFORMED_INPUT, f"{self.shown}, line {line}: {what}", todo)

    def records(self, shape: Shape) -> Iterator[Record]:
        """Give the records as they come; memory does not grow with the file.

        Yields
        ------
        Record
            First the outermost element, then those that the shape asks for, in the file's order.

        Raises
        ------
        BpcpError
            66 where the file is missing; 65, naming the line, where it is cut off, not XML, not of
            this shape, or has a DOCTYPE.
        """
        found: list[Record] = []
        parser = _parser(self, shape, found)
        try:
            with self.path.open("rb") as file:
                chunk = b"?"
                while chunk:
                    chunk = file.read(_CHUNK)
                    self._feed(parser, chunk)
                    yield from found
                    found.clear()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise BpcpError(
                Exit.NO_INPUT, f"no such file: {self.shown}", f"name {shape.name}, the file itself"
            ) from None

    def _feed(self, parser: expat.XMLParserType, chunk: bytes) -> None:
        """Parse a chunk, the empty one being the last."""
        try:
            parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            what = "the file ends too early" if what in _EARLY_END else f"not XML ({what})"
            raise self.wrong(error.lineno, what) from None
        except (LookupError, ValueError) as error:
            what = f"an encoding that is not known ({error})"
            raise self.wrong(parser.CurrentLineNumber, what) from None

    def whole(self, record: Record, key: str, default: str | None = None) -> str:
        """Give a record's whole number without padding: "01" is "1".

        Raises
        ------
        BpcpError
            65 where it is none, or missing without a default.
        """
        text = record.values.get(key, "")
        if text.isdecimal() and text.isascii() and len(text) < 10:
            return str(int(text))
        if text or default is None:
            called = key.replace("@", " ").strip()
            says = f"{called} is {text[:40]!r}, not a number"
            what = says if text else f"an image without {called}"
            raise self.wrong(record.line, what)
        return default

    def well(self, record: Record, row: str, col: str) -> str:
        """Name the well of a record's row and column.

        Raises
        ------
        BpcpError
            65 where they are missing or on no plate.
        """
        try:
            return well(int(self.whole(record, row)), int(self.whole(record, col)))
        except ValueError as error:
            raise self.wrong(record.line, str(error)) from None

    def place(self, record: Record, key: str) -> tuple[str, str]:
        """Give folder and name of the file that a record names, in or below the images' folder.

        Instruments run Windows, so a backslash parts folders, too.

        Raises
        ------
        BpcpError
            65 where there is no name, or one that leads out of the folder.
        """
        name = record.values.get(key, "")
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
        if not parts:
            raise self.wrong(record.line, "an image without a file name")
        if ".." in parts or _ABSOLUTE.match(name):
            raise self.wrong(
                record.line,
                f"{name!r} names a file outside its folder",
                "instruments name images relative to their index",
            )
        return "/".join([self.folder.rstrip("/"), *parts[:-1]]) or "/", parts[-1]


class Once:
    """What an index has said so far, to find what it says twice."""

    def __init__(self, index: IndexFile) -> None:
        self._index = index
        self._lines: dict[str, int] = {}

    def add(self, record: Record, key: str, image: Image, *place: str) -> None:
        """Remember an image by its file and by its place.

        Parameters
        ----------
        key : str
            What of the record names the file.
        place : str
            What tells images of one plate apart where well, site, channel, z and t don't.

        Raises
        ------
        BpcpError
            65 where its file or its place has come before.
        """
        lines, file = self._lines, record.values[key]
        where = "|".join((image.well, image.site, image.channel, image.z, image.t, *place))
        if file in lines:
            what = f"{image.file} again; see line {lines[file]}"
        elif where in lines:
            what = f"{image.file} is a second image of {spoken(image)}; see line {lines[where]}"
        else:
            lines[file] = lines[where] = record.line
            return
        raise self._index.wrong(record.line, what)


def spoken(image: Image) -> str:
    """Say where an image was taken, for people."""
    named = (("site", image.site), ("channel", image.channel), ("z", image.z), ("t", image.t))
    return ", ".join([image.well, *(f"{what} {value}" for what, value in named if value)])


@dataclass
class Left:
    """Records that are left out for one reason: how many, and the first."""

    reason: str
    what: str = "image"
    count: int = 0
    first: str = ""

    def out(self, record: Record, what: str) -> None:
        """Count a record."""
        self.count += 1
        self.first = self.first or f"line {record.line}: {what}"

    def note(self) -> list[str]:
        """Say it, where there is something to say."""
        if not self.count:
            return []
        number = counted(self.count, self.what)
        return [f"{number} left out: {self.reason} (first: {self.first})"]
