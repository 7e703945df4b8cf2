"""Check a dataset and a pipeline, and say what was found."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpcp.access import add_options
from bpcp.check.findings import Finding, errors
from bpcp.errors import Parser, run_main
from bpcp.workspace import Workspace, locate, to_ranges

if TYPE_CHECKING:
    from bpcp.check.all import Checked
    from bpcp.settings import Settings

# So many of a code are shown; more would hide the others.
_SHOWN = 20
_LINES_WIDTH = 60
# Of a pipeline by itself; nothing of that name is read.
_NO_DATASET = "none"
# The worst first; what bpcp mends needs no doing, but should be read.
_WORDS = ("error", "mended", "warning", "note")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("check")
    parser.add_argument("-d", "--dataset")
    parser.add_argument("-p", "--pipeline", required=True, type=Path)
    parser.add_argument("-c", "--create_groups_from_data_file", action="store_true")
    parser.add_argument("--map", action="append", default=[])
    parser.add_argument("-i", "--input-folder", default="")
    parser.add_argument("--plugins-directory", type=Path)
    parser.add_argument("--input", default="")
    add_options(parser)
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--no-images", action="store_true")
    parser.add_argument("--no-fix", action="store_true")
    parser.add_argument("--quarantine", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    return parser.parse_args(argv)


def _settings(args: argparse.Namespace, workspace: Workspace) -> Settings:
    """Give what a run would be asked for by the options that a check has as well."""
    from bpcp import plan
    from bpcp.settings import settings_of

    shared = [f"--dataset={args.dataset or _NO_DATASET}", f"--pipeline={args.pipeline}"]
    shared += ["-c"] if args.create_groups_from_data_file or not args.dataset else []
    shared += [f"--map={moved}" for moved in args.map]
    shared += ["--no-sign-request"] if args.no_sign_request else []
    shared += ["-q"] if args.quiet else []
    for name in ("input_folder", "plugins_directory", "input", "endpoint_url", "profile"):
        if value := getattr(args, name):
            shared.append(f"--{name.replace('_', '-')}={value}")
    return settings_of(plan.parse(shared), workspace)


def report(findings: Iterable[Finding], unit: str = "line") -> Iterator[str]:
    """Write findings for people: the worst first, those of a code together.

    Parameters
    ----------
    unit : str
        What the findings' lines count, in the singular.
    """
    groups: dict[tuple[int, str], list[Finding]] = {}
    for finding in findings:
        rank = _WORDS.index(_word(finding))
        groups.setdefault((rank, finding.code.name), []).append(finding)
    for _, found in sorted(groups.items(), key=lambda item: item[0][0]):
        yield f"{_word(found[0]).upper()} {found[0].code.name}: {found[0].code.summary}"
        by_remedy: dict[str, list[Finding]] = {}
        for finding in found[:_SHOWN]:
            by_remedy.setdefault(finding.remedy, []).append(finding)
        for remedy, alike in by_remedy.items():
            for finding in alike:
                yield f"  {_plain(_where(finding, unit))}: {_plain(finding.what)}"
                said = dict.fromkeys(_plain(m.said) for m in finding.mends)
                yield from (f"    mended in a copy: {what}" for what in said)
            if remedy and not alike[0].mends:
                yield f"  → {_plain(remedy)}"
        if len(found) > _SHOWN:
            yield f"  and {len(found) - _SHOWN:,} more: --json lists all"


def _word(finding: Finding) -> str:
    if finding.mends:
        return "mended"
    return finding.code.severity.name.lower()


def _where(finding: Finding, unit: str) -> str:
    if not finding.lines or finding.place.startswith(("line ", "lines ")):
        return finding.place
    ranges = to_ranges(finding.lines).replace(",", ", ")
    if len(ranges) > _LINES_WIDTH:
        ranges = f"{ranges[: ranges.rindex(',', 0, _LINES_WIDTH)]}, …"
    return f"{unit}{'s' if len(finding.lines) > 1 else ''} {ranges}: {finding.place}"


def _plain(text: str) -> str:
    """Write a name so that it stays on its line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def summary(checked: Checked, *, alone: bool = False) -> str:
    """Say in a line what was looked at, and what was found."""
    looked_at = [_count(checked.files, "file")]
    if alone and not checked.image_sets:
        looked_at = ["the pipeline by itself"]
    elif checked.image_sets or not checked.files:
        looked_at.insert(0, _count(checked.image_sets, "image set"))
    counts = Counter(_word(f) for f in checked.findings)
    words = [
        f"{counts[word]:,} mended" if word == "mended" else _count(counts[word], word)
        for word in _WORDS
        if counts[word]
    ]
    return f"check: {', '.join(looked_at)}: {', '.join(words) or 'all good'}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _quarantine(checked: Checked, *, wanted: bool) -> str:
    """Say what becomes of the bad image sets; "" where there are none."""
    bad = len(checked.bad)
    if not bad:
        return ""
    if bad >= checked.image_sets:
        return "  no image set is left to analyse" if wanted else ""
    if wanted:
        return f"  {_count(bad, 'image set')} in quarantine: not analysed"
    return f"  → {_count(bad, 'image set')} can't be analysed; --quarantine goes on without"


def main(argv: Sequence[str]) -> int:
    """Check a dataset and a pipeline."""
    # this file is read again by each process that looks at images, which need none of these
    from bpcp import engine, pipeline
    from bpcp.check import about
    from bpcp.check.all import Asked, run
    from bpcp.check.code import of_code
    from bpcp.check.progress import Progress

    args = parse(argv)
    workspace = locate(args.dataset or _NO_DATASET, args.pipeline)
    settings = _settings(args, workspace)
    pipe = pipeline.read(args.pipeline.absolute())
    may_load = not any(of_code(pipe))
    if may_load:
        pipe = engine.read(args.pipeline, settings.plugins)
    progress = Progress()
    shows = sys.stderr.isatty() and not args.quiet
    asked = Asked(
        files=not args.no_images,
        deep=args.deep,
        mend=not args.no_fix,
        load=may_load,
        alone=not args.dataset,
        told=progress.told if shows else None,
    )
    try:
        checked = run(workspace, pipe, settings, asked)
    finally:
        progress.end()
    code = checked.exit(quarantine=args.quarantine)
    # by itself, it is told as a run takes it
    mends = [m for finding in checked.findings for m in finding.mends] if asked.alone else []
    ready = pipeline.mended(pipe, mends)
    for stream in (sys.stdout, sys.stderr):
        # a name that is no text must not end a check; these two are always text streams
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if args.json:
        found = {
            "pipeline": about.of_file(ready),
            "image_sets": checked.image_sets,
            "files": checked.files,
            "lines_count": checked.unit,
            "exit": int(code),
            "bad": {str(line): why for line, why in checked.bad.items()},
            "findings": [finding.to_json() for finding in checked.findings],
        }
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        findings = errors(checked.findings) if args.quiet else checked.findings
        if asked.alone and not args.quiet:
            for line in about.words(about.of_file(ready)):
                print(_plain(line))
        for line in report(findings, checked.unit):
            print(line)
    if not args.quiet:
        sys.stdout.flush()
        print(summary(checked, alone=asked.alone), file=sys.stderr)
        if words := _quarantine(checked, wanted=args.quarantine):
            print(words, file=sys.stderr)
    return code


if __name__ == "__main__":
    run_main("check", main)
