"""Read presets from a file: bpcp/images/presets.toml, or the user's own; its head says the form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli

from bpcp.errors import BpcpError, Exit
from bpcp.images import htd, incell_xdce, phenix, yokogawa
from bpcp.images.placer import PARTS, PLACES, Placer, Preset, group
from bpcp.images.record import Index
from bpcp.images.report import placed

READERS: dict[str, Callable[[Path, str], Index]] = {
    "phenix": phenix.read,
    "yokogawa": yokogawa.read,
    "incell": incell_xdce.read,
}
# of indexes that only name channels
_NAMERS: dict[str, Callable[[Path], dict[str, str]]] = {"htd": htd.channels}
_TYPES: dict[str, type] = {
    "instruments": str,
    "names": list,
    "names_of": list,
    "folder": str,
    "needs_folder": bool,
    "between": str,
    "plate_from": str,
    "numbered": str,
    "projection": str,
    "thumbnail": str,
    "index": str,
    "reader": str,
    "reads": str,
    "beside": str,
    "holds": str,
    "export": str,
    "sources": list,
    "examples": dict,
}
_CALLED = {str: "a text", list: "a list of texts", bool: "true or false", dict: "a table of texts"}
_CHOICES = {
    "plate_from": ("name", "folder"),
    "numbered": ("by row", "by column"),
    "reader": (*READERS, *_NAMERS),
}
_NAME = re.compile(r"[A-Za-z0-9_-]+")
# One of each pair asks for the other.
_PAIRS = (("row", "col"), ("row0", "col0"), ("x", "y"))
_HOW = 'docs/images.md, "Your own presets", shows the form'


def read(path: Path, known: Mapping[str, Preset], users: bool = False) -> dict[str, Preset]:
    """Read the presets of a file and check them by their examples.

    Parameters
    ----------
    path : Path
        TOML.
    known : mapping of str to Preset
        Whose names are taken, and which `names_of` may name.
    users : bool
        Whether it is the user's own.

    Returns
    -------
    dict of str to Preset
        In the file's order.

    Raises
    ------
    BpcpError
        65, naming file, preset and key, where one is malformed or an example doesn't read as it
        says.
    """
    try:
        tables = tomli.loads(path.read_text(encoding="utf-8-sig"))
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BpcpError(Exit.MALFORMED_INPUT, f"{path}: not TOML: {error}", _HOW) from None
    found: dict[str, Preset] = {}
    for name, table in tables.items():
        where = _Where(path, name)
        if not isinstance(table, dict):
            raise where.wrong("", "stands before the first [NAME]", "put it below a [NAME]")
        if not _NAME.fullmatch(name) or name == "regex":
            raise where.wrong("", "no name for a preset", "letters, digits, - and _")
        if name in known:
            raise where.wrong("", "the name is taken", "choose another one")
        preset = _preset(where, table, {**known, **found}, users)
        _check(where, preset, table["examples"])
        found[name] = preset
    return found


class _Where:
    """Where a mistake is, for people."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def wrong(self, key: str, what: str, todo: str = _HOW) -> BpcpError:
        where = f"{key}: " if key else ""
        return BpcpError(
            Exit.MALFORMED_INPUT, f"{self.path}: preset {self.name}: {where}{what}", todo
        )

    def pattern(self, key: str, text: str) -> re.Pattern[str]:
        try:
            return re.compile(text, re.DOTALL)
        except re.error as error:
            raise self.wrong(key, f"{error}: {text}", "correct the regular expression") from None


def _checked(where: _Where, table: dict[str, Any]) -> None:
    """Check keys, types and choices."""
    for key, value in table.items():
        if key not in _TYPES:
            raise where.wrong(key, "no such key", f"there are: {', '.join(_TYPES)}")
        inner = value.values() if isinstance(value, dict) else value
        good = isinstance(value, _TYPES[key]) and (
            not isinstance(value, (list, dict)) or all(isinstance(v, str) for v in inner)
        )
        if not good:
            raise where.wrong(key, f"not {_CALLED[_TYPES[key]]}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise where.wrong(key, f"no {value!r}", f"one of: {', '.join(_CHOICES[key])}")
    for key in ("instruments", "examples"):
        if not table.get(key):
            raise where.wrong(key, "is missing")
    if not table.get("names") and not table.get("names_of"):
        raise where.wrong("names", "is missing")
    for one, other in (("index", "reader"), ("reader", "index"), ("holds", "export")):
        if one in table and other not in table:
            raise where.wrong(other, f"is missing beside {one}")


def _preset(
    where: _Where, table: dict[str, Any], known: Mapping[str, Preset], users: bool
) -> Preset:
    _checked(where, table)
    patterns = {
        key: where.pattern(key, table[key])
        for key in ("folder", "between", "projection", "thumbnail", "index", "beside")
        if key in table
    }
    names = []
    for i, text in enumerate(table.get("names", []), 1):
        key = f"names, number {i}"
        names.append(where.pattern(key, text))
        _groups(where, key, [names[-1], patterns.get("folder")], table)
    includes = []
    for other in table.get("names_of", []):
        if other not in known:
            raise where.wrong("names_of", f"no preset {other!r}", f"one of: {', '.join(known)}")
        includes.append(known[other])
    reader = table.get("reader", "")
    between = [patterns["between"]] if "between" in patterns else []
    return Preset(
        where.name,
        table["instruments"],
        tuple(table["examples"]),
        (*names, *(pattern for one in includes for pattern in one.names)),
        folder=patterns.get("folder"),
        needs_folder=table.get("needs_folder", False),
        between=(*between, *(pattern for one in includes for pattern in one.between)),
        projection=patterns.get("projection"),
        thumbnail=patterns.get("thumbnail"),
        index=patterns.get("index"),
        beside=patterns.get("beside"),
        reads=table.get("reads", ""),
        read=READERS.get(reader),
        channels=_NAMERS.get(reader),
        plate_from=table.get("plate_from", "name"),
        numbered=table.get("numbered", ""),
        holds=table.get("holds", ""),
        export=table.get("export", ""),
        includes=tuple(includes),
        users=users,
        sources=tuple(table.get("sources", ())),
    )


def _groups(
    where: _Where, key: str, patterns: list[re.Pattern[str] | None], table: dict[str, Any]
) -> None:
    """Check that the groups of a name and its folder go together."""
    found = {group(name) for pattern in patterns if pattern for name in pattern.groupindex}
    if not found & {*PLACES, *PARTS}:
        raise where.wrong(key, "none of its groups has a known name", _HOW)
    for pair in _PAIRS:
        if len(found & set(pair)) == 1:
            one, other = sorted(pair, key=lambda name: name not in found)
            raise where.wrong(key, f"a group {one}, but none {other}")
    if "well_number" in found and "numbered" not in table:
        raise where.wrong("numbered", "is missing beside the group well_number")


def _check(where: _Where, preset: Preset, examples: dict[str, str]) -> None:
    """Check that examples read as they say, and that there is one for each of the names."""
    placer = Placer(preset, "")
    fitting = set()
    for path, wanted in examples.items():
        folder, _, name = path.rpartition("/")
        folder = f"/{folder.lstrip('/')}"
        image = placer.place(folder, name)
        if preset.thumbnail is not None and preset.thumbnail.search(name):
            reads = "thumbnail"
        elif image is None:
            reads = "nothing"
        else:
            kind = "projection: " if placer.is_projection(folder, name) else ""
            reads = kind + placed(image)
            fitting.add(next(p for p in preset.names if p.fullmatch(name)))
        if reads != wanted:
            raise where.wrong(
                "examples",
                f"{path!r} reads as {reads!r}, not as {wanted!r}",
                "correct the example, or the expression that reads it",
            )
    own = len(preset.names) - sum(len(one.names) for one in preset.includes)
    for i, pattern in enumerate(preset.names[:own], 1):
        if pattern not in fitting:
            raise where.wrong("examples", f"none for number {i} of the names", "add one")
