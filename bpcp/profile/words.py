"""A profile in words: what it measured, what this machine carries, and what EC2 would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from bpcp.profile.instances import Catalog, Offer
from bpcp.words import duration
from bpcp.workspace import Json

__all__ = ["choice", "duration", "image_sets", "offers_json", "report", "table"]

# Modules below this share of the time are one line together.
_SHARE = 0.01
# Cores that others kept busy, of all: from here on the figures are those of a busy machine.
_BUSY = 0.1


def image_sets(count: int) -> str:
    """Write "1 image set", "5 image sets"."""
    return f"{count:,} image set{'s' if count != 1 else ''}"


def _processes(count: int) -> str:
    return f"{count:,} process{'es' if count != 1 else ''}"


def choice(rows: Sequence[Json]) -> str:
    """List the image sets that a profile runs in one process alone: TSV with a header."""
    head = "line\tMB\tchosen for\n"
    return head + "".join(f"{r['line']}\t{r['mb']:.1f}\t{r['chosen_for']}\n" for r in rows)


def report(record: Json) -> str:
    """Lay a profile out for people."""
    lines = [*_memory(record), *_time(record), "", *_modules(record["modules"]), ""]
    lines += [_carries(record["machine"], record["prediction"]), _prediction(record)]
    busy = record["others"]
    if busy > _BUSY * record["machine"]["cores"]:
        lines.append(
            f"note: others kept {busy:.1f} of {record['machine']['cores']} cores busy meanwhile;"
            " without them a run is faster"
        )
    lines += [f"note: {note}" for note in record["notes"]]
    return "\n".join([*lines, ""])


def _memory(record: Json) -> list[str]:
    figures, memory = record["figures"], record["memory"]
    grows = figures["growth_mb"]
    group = memory["group_mb"]
    lines = [
        f"memory  {figures['peak_mb']:,.0f} MB the largest process"
        + (f", and {grows:.1f} MB with each further image set" if grows >= 0.05 else "")
    ]
    if figures["together"] > 1 or group:
        lines.append(
            f"        {memory['together_mb']:,.0f} MB {_processes(figures['together'])}"
            f"{' together' if figures['together'] > 1 else ''}"
            + (f"; {group:,.0f} MB with the files that they read and wrote" if group else "")
        )
    return lines


def _time(record: Json) -> list[str]:
    figures = record["figures"]
    many = f", {figures['set_s']:.2f} s with {figures['together']} at once"
    return [
        f"time    {figures['start_s']:.1f} s to start a process",
        f"        {figures['alone_s']:.2f} s an image set alone"
        f"{many if figures['together'] > 1 else ''};"
        f" {figures['end_s']:.2f} s to write its rows at the end",
    ]


def _modules(modules: Sequence[Json]) -> list[str]:
    total = sum(m["wall_s"] for m in modules) or 1.0
    shown = sorted(
        (m for m in modules if m["wall_s"] >= _SHARE * total), key=lambda m: -m["wall_s"]
    )
    width = max((len(m["name"]) for m in shown), default=6)
    lines = [f"  #  {'module':<{width}}       s     %  peak MB"]
    for m in shown:
        peak = f"{m['peak_mb']:,.0f}" if m["peak_mb"] else "–"
        share = 100 * m["wall_s"] / total
        lines.append(
            f"{m['number']:3}  {m['name']:<{width}}  {m['wall_s']:6.2f}  {share:4.0f}  {peak:>7}"
        )
    rest = total - sum(m["wall_s"] for m in shown)
    if left := len(modules) - len(shown):
        lines.append(f"     {f'{left} others':<{width}}  {rest:6.2f}  {100 * rest / total:4.0f}")
    return lines


def _carries(machine: Json, prediction: Json) -> str:
    cores, memory = machine["cores"], machine["carries"]
    room = f"{machine['mem_free_gb']:.1f} GB free, {prediction['process_mb']:,.0f} MB each"
    if memory < cores:
        return f"this machine carries {_processes(memory)}: memory ({room}); it has {cores} cores"
    return (
        f"this machine carries {_processes(cores)}: cores; memory would carry {memory:,} ({room})"
    )


def _prediction(record: Json) -> str:
    p = record["prediction"]
    return (
        f"all {image_sets(record['image_sets'])}, {_processes(p['slots'])} at once:"
        f" {duration(p['wall_s'])} ({duration(p['low_s'])} to {duration(p['high_s'])})\n"
        f"  {p['total_mb'] / 1024:,.1f} GB together, {p['peak_mb']:,.0f} MB the largest process"
    )


def table(catalog: Catalog, offers: Sequence[Offer]) -> str:
    """Lay out what EC2 would take and cost, the cheapest first."""
    lines = [
        "",
        f"EC2 on demand in {catalog.region}, prices of {catalog.date};",
        "a vCPU is taken for a core of this machine, boot and copying are left out",
        f"{'type':<15}{'vCPU':>5}{'GiB':>6}{'NVMe GB':>9}{'at once':>9}  {'limit':<7}"
        f"{'time':>14}{'USD':>9}",
    ]
    for offer in offers:
        i, p = offer.instance, offer.prediction
        lines.append(
            f"{i.type:<15}{i.vcpus:>5}{i.memory_gib:>6g}{i.nvme_gb or '–':>9}{p.slots:>9}"
            f"  {offer.limit:<7}{duration(p.wall_s):>14}{offer.usd:>9.2f}"
        )
    return "\n".join([*lines, ""])


def offers_json(catalog: Catalog, offers: Sequence[Offer]) -> Json:
    """Give the table for programs; all types, the cheapest first."""
    return {
        "region": catalog.region,
        "date": catalog.date,
        "source": catalog.source,
        "types": [
            {
                **asdict(o.instance),
                "at_once": o.prediction.slots,
                "limit": o.limit,
                "wall_s": o.prediction.wall_s,
                "usd": o.usd,
            }
            for o in offers
        ],
    }
