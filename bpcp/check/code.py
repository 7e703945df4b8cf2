"""Code in a pipeline file: CellProfiler evaluates some of its text as Python when it loads it.

Source: cellprofiler_core 4.2.8.1, pipeline/_pipeline.py (setup_module evaluates each attribute of
a module) and setting/_joiner.py (parse evaluates how metadata are matched, without builtins, which
keeps nobody out).
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress

from bpcp.check.findings import Code, Finding, Severity
from bpcp.cppipe import Block
from bpcp.errors import BpcpError, Exit
from bpcp.pipeline import Pipeline

CODE = Code(
    "pipeline-code",
    Severity.ERROR,
    "CellProfiler would run text of the pipeline file as Python code when it loads it",
)
CODES = (CODE,)

# Formatted strings, which a newer Python may read where this one can't.
_FORMATTED = re.compile(r"""(?i)\b(?:f|rf|fr)['"]""")
_NOTES = re.compile(r"\|notes:\[.*?\]\|")
_EVALUATED = {
    "NamesAndTypes": "Match metadata",
    "Metadata": "Match file and image metadata",
}
_SHOWN = 80


def of_code(pipe: Pipeline) -> Iterator[Finding]:
    """Find what CellProfiler would run, in modules that are disabled too: it loads them all."""
    for number, block in enumerate(pipe.written.blocks, 1):
        for name, text in _evaluated(block):
            if not _is_literal(text, is_note=name == "notes"):
                shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
                yield Finding(
                    CODE,
                    f"module {number}, {block.name}",
                    f"line {block.line + 1}: {name} is Python code, which CellProfiler would run:"
                    f" {shown!r}",
                    "do not open this file in CellProfiler unless you trust who made it; a value"
                    " that is no code belongs there",
                )


def refuse_code(pipe: Pipeline) -> None:
    """Refuse a pipeline that CellProfiler may not load.

    Raises
    ------
    BpcpError
        65 where loading it would run code of the file.
    """
    for finding in of_code(pipe):
        raise BpcpError(
            Exit.MALFORMED_INPUT, f"{pipe.path}: {finding.place}, {finding.what}", finding.remedy
        )


def _evaluated(block: Block) -> Iterator[tuple[str, str]]:
    """Give what CellProfiler evaluates of a module: the attribute or setting, and its text."""
    for attribute in _attributes(block.attributes.replace("dtype='|S", "dtype='S")):
        if attribute.isascii():
            # what can't be decoded, CellProfiler can't load either
            with suppress(UnicodeDecodeError):
                attribute = attribute.encode().decode("unicode_escape")
        else:
            attribute = attribute.replace("\\", "")
        name, colon, text = attribute.partition(":")
        if colon:
            yield name, text
    label = _EVALUATED.get(block.name)
    for setting in block.settings:
        if setting.label == label:
            yield f"{label!r}", setting.value


def _attributes(text: str) -> list[str]:
    """Split a module's attributes as CellProfiler does: a note may hold the sign between them."""
    notes = list(_NOTES.finditer(text))
    if len(notes) != 1:
        return text[1:-1].split("|")
    start, end = notes[0].span()
    return [*text[1:start].split("|"), text[start + 1 : end - 1], *text[end:-1].split("|")]


def _is_literal(text: str, *, is_note: bool) -> bool:
    try:
        with warnings.catch_warnings():
            # of a backslash in a note
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(" \t"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Python can't run it; of a note, CellProfiler then takes the text
        return not _FORMATTED.search(text)
    if isinstance(tree, ast.Call) and not is_note:
        return _is_array(tree)
    return _is_constant(tree)


def _is_constant(tree: ast.expr) -> bool:
    with suppress(ValueError, TypeError, RecursionError, MemoryError):
        ast.literal_eval(tree)
        return True
    return False


def _is_array(tree: ast.Call) -> bool:
    """Tell whether it is what CellProfiler writes of its batch state: array([], dtype=uint8)."""
    kinds = [k.value for k in tree.keywords if k.arg == "dtype"]
    return (
        isinstance(tree.func, ast.Name)
        and tree.func.id == "array"
        and len(tree.args) == 1
        and len(kinds) == len(tree.keywords)
        and _is_constant(tree.args[0])
        and all(_is_constant(k) or (isinstance(k, ast.Name) and k.id == "uint8") for k in kinds)
    )
