"""Try each module of a CellProfiler, and keep the answer: the end of an installation."""

from __future__ import annotations

from collections.abc import Sequence

from bpcp import cellprofiler
from bpcp.errors import run_main
from bpcp.probe import answer


def main(argv: Sequence[str]) -> int:
    """Say in a line what does not work."""
    found = answer.of_command(list(argv) or cellprofiler.command(), installing=True)
    if found is None:
        print("CellProfiler's modules could not be tried")
        return 0
    print(f"{found.modules} modules in {found.modes} modes: {answer.summary(found)}")
    return 0


if __name__ == "__main__":
    run_main("probe", main)
