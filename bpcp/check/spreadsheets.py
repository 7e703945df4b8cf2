"""What ExportToSpreadsheet is set to, and can't do, or can't be merged.

Source: CellProfiler 4.2.8.1, modules/exporttospreadsheet.py (delimiter_char, make_full_filename,
run_objects).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import place
from bpcp.check.places import OUTPUT_ELSEWHERE
from bpcp.pipeline import Module, Pipeline

GCT = Code("pipeline-gct", Severity.ERROR, "a GenePattern file, which bpcp can't merge")
DELIMITER = Code(
    "pipeline-delimiter", Severity.ERROR, "what stands between the cells of a table is no character"
)
CODES = (GCT, DELIMITER)

_DELIMITER = "Select the column delimiter"
_GCT = "Create a GenePattern GCT file?"
_ALL = "Export all measurement types?"
_NAMED = ('Comma (",")', "Tab")


def of_spreadsheets(pipe: Pipeline) -> Iterator[Finding]:
    """Find exports that fail at the end of a process, or whose files a run can't have."""
    for module in pipe.named("ExportToSpreadsheet"):
        exports_all = module.get(_ALL) == "Yes"
        if module.get(_GCT) == "Yes" and (exports_all or "Image" in module.all("Data to export")):
            yield Finding(
                GCT,
                place(module),
                "it writes a GenePattern file, which bpcp can't merge",
                f"set '{_GCT}' to No",
            )
        delimiter = module.get(_DELIMITER, _NAMED[0])
        if delimiter not in _NAMED and len(delimiter) != 1:
            yield Finding(
                DELIMITER,
                place(module),
                f"its '{_DELIMITER}' is {delimiter!r}: CellProfiler takes one character (and no"
                " space), and fails when all image sets are measured",
                f"set it to {_NAMED[0]}, Tab, or one character",
            )
        if not exports_all:
            yield from _elsewhere(module)


def _elsewhere(module: Module) -> Iterator[Finding]:
    prefixed = module.get("Add a prefix to file names?") == "Yes"
    prefix = module.get("Filename prefix") if prefixed else ""
    automatic = module.all("Use the object name for the file name?")
    for name, own in zip(module.all("File name"), automatic, strict=False):
        path = prefix + name
        if own != "Yes" and (path.startswith("/") or ".." in Path(path).parts):
            yield Finding(
                OUTPUT_ELSEWHERE,
                place(module),
                f"it writes outside its output file location: {path}",
                "give the file a name without a folder, and name the folder in its Output file"
                " location",
            )
