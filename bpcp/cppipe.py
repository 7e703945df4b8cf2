r"""The text of a pipeline file, read and changed as CellProfiler reads it.

Up to its third version CellProfiler wrote "All\x3A Across cycles" for "All: Across cycles", and in
Version:4 of the file each value as UTF-16: "\xff\xfeY\x00e\x00s\x00" for "Yes". A module is a line
of its name and attributes, then its settings, up to an empty line; labels are for people.

Source: cellprofiler_core 4.2.8.1, pipeline/_pipeline.py (parse_pipeline, validate_pipeline_file,
setup_modules, setup_module).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
# The module's own switch is the last of its line; a note before it may say the same words.
_ENABLED = re.compile(r"\|enabled:(True|False)(?=\||\])")
_REVISION = re.compile(r"\|variable_revision_number:(\d+)(?=\||\])")
_NUMBER = re.compile(r"\[module_num:(\d+)\|")
_COUNT = "ModuleCount"
# What CellProfiler 4 calls modules of older pipelines; source: constants/modules/__init__.py.
RENAMED: Mapping[str, str] = MappingProxyType({
    "ApplyThreshold": "Threshold", "CalculateImageOverlap": "MeasureImageOverlap",
    "CropObjects": "SaveCroppedObjects", "Dilation": "DilateImage", "Erosion": "ErodeImage",
    "MeasureCorrelation": "MeasureColocalization", "MeasureNeurons": "MeasureObjectSkeleton",
    "NoiseReduction": "ReduceNoise", "ReassignObjectNumbers": "SplitOrMergeObjects",
    "SplitIntoContiguousObjects": "SplitOrMergeObjects",
})  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A module's setting.

    Attributes
    ----------
    label, value : str
        As CellProfiler reads them.
    raw : str
        The value as it is written.
    line : int
        Of the text, 0-based.
    """

    label: str
    value: str
    raw: str
    line: int


@dataclass(frozen=True)
class Block:
    """A module of the text, enabled or not.

    Attributes
    ----------
    name : str
        Today's, where CellProfiler renamed it.
    line : int
        That of its name, 0-based.
    """

    name: str
    attributes: str
    line: int
    settings: list[Setting] = field(default_factory=list)

    @property
    def enabled(self) -> bool:
        """Whether it takes part in a run."""
        flags = _ENABLED.findall(self.attributes)
        return not flags or flags[-1] == "True"

    def switched(self, old: str, new: str) -> str:
        """Give its attributes with its switch turned.

        Raises
        ------
        ValueError
            Where it is not as it was said to be.
        """
        found = list(_ENABLED.finditer(self.attributes))
        if not found or found[-1][1] != old:
            raise ValueError(f"{self.name} has no enabled:{old}")
        start, end = found[-1].span(1)
        return self.attributes[:start] + new + self.attributes[end:]

    @property
    def revision(self) -> int | None:
        """That of its settings; None where the text does not say."""
        found = _REVISION.findall(self.attributes)
        return int(found[-1]) if found else None

    @property
    def number(self) -> int | None:
        """Its 1-based place, as it was written; None where the text does not say."""
        found = _NUMBER.match(self.attributes)
        return int(found[1]) if found else None


class Text:
    """The text of a pipeline file, by lines.

    Attributes
    ----------
    lines : list of str
        With their ends.
    header : dict of str to str
        What stands before the modules: "Version", "DateRevision", "ModuleCount" …
    """

    def __init__(self, text: str) -> None:
        self.lines: list[str] = _LINE.findall(text)
        self.header: dict[str, str] = {}
        self._start = self._end = len(self.lines)
        for at, line in enumerate(self.lines):
            if not line.strip():
                self._start = at + 1
                break
            key, _, value = line.strip().partition(":")
            self.header[key] = value

    def __str__(self) -> str:
        return "".join(self.lines)

    @property
    def count(self) -> int | None:
        """How many modules CellProfiler reads; None where the file does not say."""
        count = self.header.get(_COUNT, "")
        return int(count) if count.strip().isdigit() else None

    @property
    def made_by(self) -> str:
        """The version of the CellProfiler that wrote it, such as "3.1.9"; "" where it is unknown.

        "319" is a version; CellProfiler 2 wrote the time of its last change.
        """
        stamp = self.header.get("DateRevision", "").strip()
        return ".".join(stamp) if stamp.isdigit() and len(stamp) < 6 else ""

    @cached_property
    def every(self) -> list[Block]:
        """All its modules, those that CellProfiler does not read as well."""
        return list(self._blocks())

    @property
    def blocks(self) -> list[Block]:
        """The modules that CellProfiler reads: as many as the header says."""
        return self.every[: self.count]

    def changed(self, line: int, after: str) -> str:
        """Give the text with what stands behind a line's first colon changed."""
        old = self.lines[line]
        head, colon, rest = old.partition(":")
        new = head + colon + after + rest[len(rest.rstrip("\r\n")) :]
        return "".join([*self.lines[:line], new, *self.lines[line + 1 :]])

    def with_module(self, module: str) -> str:
        """Give the text with a module more, behind those that CellProfiler reads."""
        read = len(self.blocks)
        end = self.every[read].line if read < len(self.every) else self._end
        before, behind = "".join(self.lines[:end]), "".join(self.lines[end:])
        more = "\n" + module.strip("\n") + "\n" + ("\n" + behind if behind else "")
        return Text(before.rstrip("\r\n") + "\n" + more)._counting(read + 1)

    def with_fewer(self, count: int) -> str:
        """Give the text, with so many modules fewer counted."""
        return self._counting((self.count or 0) - count)

    def _counting(self, count: int) -> str:
        at = next((i for i, line in enumerate(self.lines) if line.startswith(f"{_COUNT}:")), None)
        # without the line, CellProfiler reads to the end
        return str(self) if at is None else self.changed(at, str(count))

    def _blocks(self) -> Iterator[Block]:
        block: Block | None = None
        for at, line in enumerate(self.lines[self._start :], self._start):
            head, colon, rest = line.strip().partition(":")
            if block is None and rest.startswith("["):
                block = Block(RENAMED.get(head.strip(), head.strip()), rest, at)
            elif block is None:
                # an empty line too many, or the list of images behind the modules
                self._end = at
                return
            elif head or colon:
                block.settings.append(Setting(label(head), value(rest), rest, at))
            else:
                yield block
                block = None
        if block:
            yield block


def decoded(data: bytes) -> str:
    """Give the text of a file.

    Source: pipeline/_pipeline.py (load): what is no UTF-8 is read with all its escapes at once.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("unicode_escape")


def unfolded(text: str) -> str:
    r"""Give the text of a project of CellProfiler 3, which is one line with "\n" for its ends."""
    if "\n" in text or "\\n" not in text:
        return text
    return text.encode().decode("unicode_escape")


def label(text: str) -> str:
    """Give a setting's label without escapes, as CellProfiler 4 writes it."""
    return _unescaped(text) if "\\" in text else text


def value(text: str) -> str:
    """Give a setting as CellProfiler reads it, letters beyond ASCII too."""
    if r"\\\\g<" in text:
        old = r"\x7C\\\\g<" if r"\x7C" in text else r"\\\\g<"
        text = text.replace(old, old.replace(r"\x7C", "|").replace(r"\\\\", "\\"))
    if "\\x" in text:
        text = _unescaped(text)
    return text.replace("\x00", "").strip("ÿþ") if len(text) > 1 else text


def spelled(wanted: str) -> str:
    """Write a value so that CellProfiler reads just that: as it is, or with escapes.

    Raises
    ------
    ValueError
        Where there is no such spelling.
    """
    escaped = "".join(c if " " < c <= "~" and c != "\\" else _escape(c) for c in wanted)
    for text in (wanted, escaped):
        if text == text.rstrip() and text.isprintable() and value(text) == wanted:
            return text
    raise ValueError(f"CellProfiler can't be given: {wanted!r}")


def _escape(letter: str) -> str:
    code = ord(letter)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _unescaped(text: str) -> str:
    with suppress(UnicodeDecodeError):
        return text.encode().decode("unicode_escape")
    return text
