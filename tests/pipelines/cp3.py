"""Pipelines as CellProfiler 3 wrote them."""

from __future__ import annotations

from collections.abc import Callable

_SPECIAL = ":[]|"


def _value(text: str) -> str:
    """Write what Python 2's string_escape did, with CellProfiler's own marks hidden as well."""
    found = ""
    for letter in text:
        code = ord(letter)
        if letter in _SPECIAL:
            found += f"\\x{code:02X}"
        elif letter in "\\'":
            found += "\\" + letter
        else:
            found += letter if 32 <= code < 127 else f"\\x{code:02x}"
    return found


def _wide(text: str) -> str:
    return _value((b"\xff\xfe" + text.encode("utf-16-le")).decode("latin-1"))


def _written(text: str, version: int, spell: Callable[[str], str]) -> str:
    lines = []
    for line in text.splitlines():
        if line.startswith("Version:"):
            lines.append(f"Version:{version}")
        elif line.startswith("DateRevision:"):
            lines.append("DateRevision:319")
        elif line.startswith("    "):
            label, _, value = line[4:].partition(":")
            lines.append(f"    {_value(label)}:{spell(value)}")
        elif line.endswith("]"):
            name, _, attributes = line.partition(":[")
            inner = attributes[:-1].replace("'", "\\'").replace("[", "\\x5B").replace("]", "\\x5D")
            lines.append(f"{name}:[{inner}]")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def version_4(text: str) -> str:
    """Give a pipeline as CellProfiler 3.1 wrote it: each value an escaped UTF-16 string."""
    return _written(text, 4, _wide)


def escaped(text: str) -> str:
    """Give a pipeline as CellProfiler 2 and 3.0 wrote it."""
    return _written(text, 3, _value)
