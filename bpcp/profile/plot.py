"""Draw memory over time: one process, then as many as a run starts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpcp.profile.measure import Observed, Process
from bpcp.workspace import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by any reader, also in grey; after Okabe and Ito.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#999999"


def draw(alone: Process, seen: Observed, target: Path) -> list[Path]:
    """Draw what was seen, as SVG and as PNG.

    Parameters
    ----------
    alone : Process
        Drawn by itself, with its image sets marked and the module at its peak named.
    seen : Observed
        Drawn as a sum, and each process under it.
    target : Path
        Where, without a suffix.

    Returns
    -------
    list of Path
        What was written.
    """
    # only here: it takes half a second and leaves a cache of fonts
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # the same input gives the same bytes; text stays text
    mpl.rcParams.update({"svg.hashsalt": "bpcp", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(8, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1)
    _draw_one(top, alone)
    _draw_all(bottom, seen)
    written = []
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], dpi=150, metadata=metadata)
        path = target.with_name(target.name + suffix)
        write_bytes(path, buffer.getvalue())
        written.append(path)
    return written


def _draw_one(axes: Axes, process: Process) -> None:
    times, mb = _columns(process.points)
    for end_s in process.ends:
        axes.axvline(end_s, color=_GREY, linewidth=0.5)
    axes.plot(times, mb, color=_BLUE)
    if mb:
        top = max(range(len(mb)), key=mb.__getitem__)
        at = times[top]
        module = next((s.module for s in process.steps if s.end_s - s.wall_s <= at <= s.end_s), "")
        axes.plot([at], [mb[top]], "o", color=_ORANGE)
        axes.annotate(
            f"{mb[top]:,.0f} MB {module}".strip(),
            (at, mb[top]),
            xytext=(0, 6),
            textcoords="offset points",
            ha="right" if top > len(mb) / 2 else "left",
        )
    axes.set(title="one process alone; lines end its image sets", ylabel="MB (PSS)")
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)


def _draw_all(axes: Axes, seen: Observed) -> None:
    for process in seen.processes:
        axes.plot(*_columns(process.points), color=_GREY, linewidth=0.7)
    axes.plot(*_columns(seen.total), color=_BLUE)
    axes.set(
        title=f"{len(seen.processes)} at once: all together, and each",
        xlabel="seconds",
        ylabel="MB (PSS)",
    )
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [at for at, _ in points], [mb for _, mb in points]
