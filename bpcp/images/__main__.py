"""Make load_data.csv from a folder or bucket of images, whatever instrument took them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote

from bpcp.access import Access, add_options
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.images import (
    channels,
    doubled,
    explain,
    illum,
    plates,
    preset_choice,
    propose,
    ready,
    report,
    write,
)
from bpcp.images.place import Placed, drop_projections, place_all
from bpcp.images.placer import Placer, Preset
from bpcp.images.presets import NoPreset, SeveralPresets
from bpcp.images.store import Store
from bpcp.images.ticker import ticking
from bpcp.images.walk import Walk, walk
from bpcp.workspace import Workspace, locate

# enough to tell a preset, few enough to be quick
_SAMPLE = 3000
_STDOUT = Path("-")


def _parser() -> Parser:
    parser = Parser("images")
    parser.add_argument("source")
    parser.add_argument("-d", "--dataset", default="")
    parser.add_argument("-p", "--pipeline", type=Path)
    parser.add_argument("-b", "--base", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--detect", action="store_true")
    how.add_argument("--preset", default="")
    how.add_argument("--regex")
    plate = parser.add_mutually_exclusive_group()
    plate.add_argument("--plate", default="")
    plate.add_argument("--plate-from", choices=["name", "folder"], default="")
    parser.add_argument("--plate-wells", type=int, choices=list(plates.SHAPES), default=0)
    parser.add_argument("--channel", action="append", default=[])
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--incomplete", choices=["fail", "drop"], default="fail")
    parser.add_argument("--illum", default="")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--explain", action="store_true")
    add_options(parser)
    parser.add_argument("-q", "--quiet", action="store_true")
    return parser


def _target(args: argparse.Namespace) -> Path | None:
    """Say where the list goes; None for nowhere."""
    # with --out, a base only says where the user's presets are
    if args.out is not None and (args.dataset or args.pipeline):
        raise BpcpError(Exit.USAGE, "--out and -d both say where to write", "give one of them")
    if args.pipeline is not None and args.base is not None:
        raise BpcpError(Exit.USAGE, "-p and --base both say where to write", "give one of them")
    if args.dataset:
        base = args.base if args.base is not None else Path()
        pipeline = args.pipeline or base / "pipelines" / "any.cppipe"
        return _in_workspace(args, locate(args.dataset, pipeline))
    if args.out is None:
        if args.dry_run:
            return None
        raise BpcpError(
            Exit.USAGE,
            "where to?",
            "-d DATASET [-p PIPELINE | --base DIR], --out FILE, --dry-run, --explain",
        )
    if args.out == _STDOUT:
        if args.illum:
            raise BpcpError(Exit.USAGE, "--illum writes a second file", "--out FILE, not --out -")
        return _STDOUT
    return _writable(args.out)


def _in_workspace(args: argparse.Namespace, workspace: Workspace) -> Path:
    """Give the list's place in a workspace; a mistyped one is not made."""
    if not workspace.base.is_dir():
        given = args.pipeline if args.pipeline is not None else args.base
        raise BpcpError(
            Exit.NO_INPUT,
            f"{'-p' if args.pipeline is not None else '-b'} {given}: no folder {workspace.base}",
            "make it, or mend the name",
        )
    return workspace.image_list


def _writable(out: Path) -> Path:
    """Give the file that --out names; its folder is not made."""
    if out.is_dir():
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"--out {out} is a folder",
            f"name the file: {out / 'load_data.csv'}",
        )
    if not out.parent.is_dir():
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"--out {out}: no folder {out.parent}",
            "make it, or mend the name",
        )
    return out


class _Say:
    """Words for people: on stderr, or on stdout where they are what was asked for."""

    def __init__(self, quiet: bool, explain: bool) -> None:
        self.quiet = quiet
        self.explain = explain

    def __call__(self, text: str) -> None:
        if not self.quiet and self.explain:
            _show(explain.lines_of(text))
        elif not self.quiet:
            print(text, file=sys.stderr)

    def wrong(self, lines: Iterable[str]) -> None:
        """Say what must be known even by who asked for silence."""
        for line in lines:
            print(line, file=sys.stderr)


def _placed(
    args: argparse.Namespace, store: Store, found: Walk, say: _Say
) -> tuple[Placed, Placer]:
    """List the source and place its files."""
    found.thumbnail = store.add_thumbnail
    store.add_files(ticking(found, "files listed"))
    idle = [pattern for pattern in args.exclude if pattern not in found.fitting]
    why = "fits no file: the whole path below SOURCE counts"
    say.wrong(f"--exclude {quote(pattern)} {why}" for pattern in idle)
    if not store.count_files():
        left_out = found.left_out()
        beside = f"; there are {', '.join(left_out)}" if left_out else ""
        raise BpcpError(Exit.NO_INPUT, f"no images in {args.source}{beside}")
    placer = Placer(
        _preset(args, store, found), found.root, args.plate, args.plate_from, args.plate_wells
    )
    placed = Placed()
    try:
        place_all(store, found, placer, placed)
    finally:
        if args.explain:
            sample = () if args.regex is not None else store.sample(_SAMPLE)
            _show(explain.read(store, found, placer, placed, sample, bool(args.preset)))
    if placer.number_kept:
        placed.notes.append(
            f"wells are numbered and no name tells the plate's size: {placer.number_kept} stays;"
            " --plate-wells 96 (6 to 1536) names rows and columns"
        )
    if args.explain:
        say.wrong(placed.notes)
        return placed, placer
    by_index = f", by {report.counted(placed.indexes, 'index file')}" if placed.indexes else ""
    say(f"preset {placer.preset.name}: {placer.preset.what}{by_index}")
    store.sort()
    for image in store.examples():
        say(f"  {report.understood(placer.shown(image.folder, image.file), image)}")
    if left_out := found.left_out():
        say(f"left out: {report.some(left_out)}")
    say.wrong([*placed.notes, *(left.note for left in placed.left_out)])
    return placed, placer


def _preset(args: argparse.Namespace, store: Store, found: Walk) -> Preset:
    """Give the preset that was named, or the one that fits; else say what the names are like."""
    sample = store.sample(_SAMPLE)
    try:
        return preset_choice.preset(args, sample, found)
    except (NoPreset, SeveralPresets) as error:
        first = next(iter(found.presets.values()))
        asked = Placer(first, found.root, args.plate, args.plate_from)
        tried = propose.attempt(store, asked) if isinstance(error, NoPreset) else None
        if args.explain:
            _show(explain.unread(store, found, asked, tried, sample, _command(args)))
        if tried is not None and tried.proposal is not None:
            error.todo += f"\n  proposed, to be confirmed: {tried.proposal.options}"
        raise


def _command(args: argparse.Namespace) -> str:
    """Give the command line of this run, as far as it says what the images are."""
    words = ["bpcp", "images", args.source]
    for option in ("dataset", "pipeline", "base", "out", "endpoint_url", "profile"):
        if value := getattr(args, option):
            words += [f"--{option.replace('_', '-')}", str(value)]
    if args.no_sign_request:
        words.append("--no-sign-request")
    for option in ("plate", "plate_from", "channel", "exclude"):
        value = getattr(args, option)
        for one in value if isinstance(value, list) else [value] if value else []:
            words += [f"--{option.replace('_', '-')}", one]
    if not (args.dataset or args.out):
        words.append("--explain")
    return propose.quoted(words)


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
    sys.stdout.flush()


def _refuse_doubled(store: Store, placer: Placer, placed: Placed) -> None:
    """Refuse places with two files."""
    count, places = store.doubled(report.SHOWN)
    if not count:
        return
    lines = [f"\n    {report.shown(a)}\n      and {report.shown(b)}" for a, b, *_ in places]
    more = f"\n    … and {count - len(places):,} more" if count > len(places) else ""
    raise BpcpError(
        Exit.MALFORMED_INPUT,
        f"{report.counted(count, 'place has', 'places have')} more than one file:"
        f"{''.join(lines)}{more}",
        doubled.remedy(store, placer, placed.channels, places),
    )


def _refuse_incomplete(
    args: argparse.Namespace, store: Store, names: dict[str, str], say: _Say
) -> None:
    """Refuse incomplete image sets, unless they are to be dropped; say what there is."""
    found = report.account(store.sets(), list(names))
    lines = report.troubles(found, names)
    if found.incomplete and args.incomplete == "fail":
        say.wrong(lines)
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{report.counted(found.incomplete, 'incomplete image set')}",
            "--incomplete drop leaves them out; --channel NUMBER= leaves out a channel",
        )
    if found.incomplete == found.sets:
        say.wrong(lines)
        raise BpcpError(Exit.MALFORMED_INPUT, "no image set is complete")
    if lines:
        say.wrong([*lines, f"left out: {report.counted(found.incomplete, 'image set')}"])
    if found.differs:
        say(f"differs between channels, the first one's is taken: {', '.join(found.differs)}")
    say(report.summary(found, names))


def _columns(store: Store, names: dict[str, str]) -> write.Columns:
    wells = store.values("well")
    return write.Columns(
        names,
        wells=wells != [""],
        places=all(plates.row_and_column(well) for well in wells),
        z=len(store.values("z")) > 1,
        t=len(store.values("t")) > 1,
        extra=tuple(store.extra_names()),
    )


def _write(
    args: argparse.Namespace, target: Path, lines: Iterable[Sequence[str]], say: _Say
) -> None:
    if target == _STDOUT:
        write.to_stdout(lines)
        return
    changed = write.save(target, lines, args.overwrite)
    say(f"{'written' if changed else 'unchanged'}: {target}")


def _write_illum(
    args: argparse.Namespace, target: Path, lines: Iterable[Sequence[str]], say: _Say
) -> None:
    functions = illum.look(args.illum, _access(args))
    beside = target.with_name(f"{target.stem}_with_illum.csv")
    changed = write.save(beside, functions.rows(iter(lines)), args.overwrite)
    if functions.missing:
        missing = [report.shown(m) for m in functions.missing]
        number = report.counted(len(missing), "illumination function")
        say.wrong([f"{number} not there yet: {report.some(missing)}"])
    say(f"{'written' if changed else 'unchanged'}: {beside}")


def _access(args: argparse.Namespace) -> Access:
    return Access.to_read(args)


def _take_ready(args: argparse.Namespace, target: Path | None, say: _Say) -> None:
    """Take a list that is there already."""
    for option in ("regex", "preset", "plate", "plate_from", "plate_wells", "channel", "exclude"):
        if getattr(args, option):
            name = option.replace("_", "-")
            raise BpcpError(
                Exit.USAGE, f"--{name} is for images; {args.source} is a list", "leave it out"
            )
    found = ready.read(args.source, _access(args))
    say(f"{report.counted(len(found.rows), 'image set')}: {', '.join(found.header)}")
    if target is None or args.dry_run:
        return
    _write(args, target, ready.lines(found), say)
    if args.illum:
        _write_illum(args, target, ready.lines(found), say)


def main(argv: Sequence[str]) -> int:
    """Run the command; give its exit code."""
    args = _parser().parse_args(argv)
    args.dry_run |= args.explain
    target = _target(args)
    say = _Say(args.quiet, args.explain)
    if ready.is_ready(args.source):
        _take_ready(args, target, say)
        return Exit.OK
    given = channels.requested(args.channel)
    with Store() as store:
        source = walk(args.source, _access(args), args.exclude, preset_choice.presets(args))
        placed, placer = _placed(args, store, source, say)
        seen = store.values("channel")
        names, notes = channels.named(seen, given, placed.channels)
        for note in notes:
            say(note)
        store.drop_channels(set(seen) - set(names))
        left, more = drop_projections(store, placer, last=True)
        say.wrong([*(one.note for one in left), *more])
        store.number_sites()
        _refuse_doubled(store, placer, placed)
        _refuse_incomplete(args, store, names, say)
        if target is None or args.dry_run:
            return Exit.OK
        columns = _columns(store, names)
        _write(args, target, write.rows(store.sets(), columns), say)
        if args.illum:
            _write_illum(args, target, write.rows(store.sets(), columns), say)
    return Exit.OK


if __name__ == "__main__":
    run_main("images", main)
