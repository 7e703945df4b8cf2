"""Modules of a pipeline that do not work on the CellProfiler in use, as the probe found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.modules import place
from bpcp.pipeline import Module, Pipeline
from bpcp.probe.answer import Answer, Broken

BROKEN = Code(
    "pipeline-module-broken",
    Severity.ERROR,
    "a module does not work, as it is set, on the CellProfiler in use",
)
CODES = (BROKEN,)

_REMEDY = (
    "install CellProfiler with the libraries that it declares: ami_setup/install.sh --python"
    " python3.9, or set the module otherwise"
)


def of_broken(
    pipe: Pipeline, answer: Answer | None, plugins: Path | None = None
) -> Iterator[Finding]:
    """Find the enabled modules that fail with the settings that they have.

    Parameters
    ----------
    answer : Answer or None
        What the probe found; None, where it could not ask, claims nothing.
    plugins : Path, optional
        A folder of plugins: one that is called like a module takes its place.
    """
    if answer is None:
        return
    kinds = ("any", "3-D" if pipe.is_3d else "2-D")
    replaced = {path.stem.casefold() for path in plugins.glob("*.py")} if plugins else set()
    for module in pipe.modules:
        if module.name.casefold() in replaced:
            continue
        for broken in answer.broken:
            if broken.module != module.name or broken.kind not in kinds:
                continue
            if not _is_set_so(module, broken):
                continue
            how = f" with '{broken.settings()}'" if broken.when else ""
            yield Finding(
                BROKEN,
                place(module),
                f"it does not work{how} on this CellProfiler ({answer.runs_on()}): {broken.error}",
                _REMEDY,
            )
            break


def _is_set_so(module: Module, broken: Broken) -> bool:
    for (label, at), value in broken.when:
        values = module.all(label)
        if len(values) <= at or not _is(values[at], value):
            return False
    return True


def _is(found: str, value: str) -> bool:
    """Compare a value with another, or with a range of numbers."""
    low, dots, high = value.partition("..")
    if not dots:
        return found == value
    try:
        return float(low) <= float(found) <= float(high)
    except ValueError:
        return False
