"""What the user asked of a run, checked: every option of `bpcp plan` that a run is made by."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from bpcp import gpus, plugins
from bpcp.access import Access
from bpcp.errors import BpcpError, Exit
from bpcp.failure import RETRIES, STALL_MIN
from bpcp.folders import NOWHERE, Moved, moved_of
from bpcp.limits import read_limits, to_bytes
from bpcp.s3 import Address
from bpcp.sources import Source
from bpcp.workspace import Json, Workspace


@dataclass(frozen=True)
class Settings:
    """What the user asked for.

    Attributes
    ----------
    chunk_size : int or None
        Image sets in a chunk; None leaves it to bpcp.
    group_by : tuple of str
        Metadata tags whose values a chunk must not mix.
    slots : int
        How many processes will run at once, for an even cut.
    use_lists : bool
        Whether metadata/<dataset>/{platelist,welllist}.txt select what is run.
    root : Path
        Where relative image folders start.
    tmpdir : Path or None
        Where attempts work; None is inside the run's own folder.
    ask_again : bool
        Whether to ask CellProfiler again what it said about this pipeline before.
    source : Source
        Where images come from that are not on this machine.
    output : dict or None
        The bucket that results go to, as `bucket.Bucket` reads it.
    ramdisk : str
        The size of the RAM disk that `tmpdir` will be, or "auto"; "" is none. It is made after
        the plan.
    mend : bool
        Whether the run's copy of the pipeline may be mended.
    check : bool
        Whether all image files are looked at before the first process starts.
    quarantine : bool
        Whether image sets that can't be analysed are left out.
    moved : Moved
        Folders of the image list that are elsewhere on this machine.
    input_folder : Path or None
        CellProfiler's Default Input Folder; None leaves it to CellProfiler.
    space : int or None
        Bytes that images may take at once that were fetched; None leaves it to bpcp.
    retries : int
        How often what may pass is tried again.
    stall_min : float
        Minutes without a sign of life after which a CellProfiler is ended.
    plugins : Path or None
        A folder of plugins that CellProfiler is given.
    gpus : int or None
        How many GPUs attempts share, one attempt each; None where bpcp has no say in that.
    """

    chunk_size: int | None
    group_by: tuple[str, ...]
    slots: int
    use_lists: bool
    root: Path
    tmpdir: Path | None
    ask_again: bool = False
    source: Source = field(default_factory=Source)
    output: Json | None = None
    ramdisk: str = ""
    mend: bool = True
    check: bool = True
    quarantine: bool = False
    moved: Moved = NOWHERE
    input_folder: Path | None = None
    space: int | None = None
    retries: int = RETRIES
    stall_min: float = STALL_MIN
    plugins: Path | None = None
    gpus: int | None = None


def settings_of(args: argparse.Namespace, workspace: Workspace) -> Settings:
    if args.quarantine and args.no_check:
        raise BpcpError(
            Exit.USAGE, "--quarantine and --no-check exclude each other", "bpcp help check"
        )
    if args.retries < 0:
        raise BpcpError(Exit.USAGE, f"--retries {args.retries}: 0 or more")
    # not: NaN compares with nothing
    if not 0 < args.stall_min < math.inf:
        raise BpcpError(Exit.USAGE, f"--stall-min {args.stall_min:g}: minutes, more than 0")
    if args.chunk_size is not None and args.chunk_size < 1:
        raise BpcpError(Exit.USAGE, f"--chunk-size {args.chunk_size}: at least 1")
    group_by = tuple(k.removeprefix("Metadata_") for k in args.group_by.split(",") if k)
    if args.group_by_plate:
        if group_by:
            raise BpcpError(
                Exit.USAGE, "-k and --group-by exclude each other", "-k is --group-by Plate"
            )
        group_by = ("Plate",)
    if args.tmpdir is not None and not (
        args.tmpdir.is_dir() and os.access(args.tmpdir, os.W_OK | os.X_OK)
    ):
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"-t {args.tmpdir}: not a folder that can be written",
            "make it, or name another",
        )
    root = os.environ.get("PATHNAME_BASENAME")
    access = Access.to_read(args)
    source = Source(Address.parse(args.input) if args.input else None, access)
    if root and not Path(root).is_dir() and not source.input:
        raise BpcpError(Exit.BAD_SETTING, f"PATHNAME_BASENAME is not a folder: {root}")
    cores = read_limits().cores
    shared = _gpus(args.gpus)
    # "no limit" is no reason to cut a plate into thousands of chunks
    slots = args.slots if 0 < args.slots <= 1000 else cores
    return Settings(
        chunk_size=args.chunk_size,
        group_by=group_by,
        slots=min(slots, shared or slots),
        use_lists=not args.create_groups_from_data_file,
        root=Path(root).resolve() if root else workspace.base,
        tmpdir=workspace.ramdisk if args.ramdisk else args.tmpdir and args.tmpdir.resolve(),
        ramdisk=_size("--ramdisk", args.ramdisk),
        mend=not args.no_fix,
        check=not args.no_check,
        quarantine=args.quarantine,
        moved=moved_of(args.map),
        input_folder=_input_folder(args.input_folder),
        space=to_bytes(_size("--space", args.space)) if args.space else None,
        retries=args.retries,
        stall_min=args.stall_min,
        plugins=args.plugins_directory and plugins.checked(args.plugins_directory),
        gpus=shared,
        ask_again=args.overwrite_batchfile,
        source=source,
        output={"url": str(Address.parse(args.output)), **access.to_write().to_json()}
        if args.output
        else None,
    )


def _input_folder(asked: str) -> Path | None:
    if not asked:
        return None
    if not Path(asked).is_dir():
        todo = "images in a bucket are named by --input" if "://" in asked else ""
        raise BpcpError(Exit.NO_INPUT, f"-i {asked}: no such folder", todo)
    # as CellProfiler would spell it in paths
    return Path(os.path.abspath(asked))  # noqa: PTH100


def _gpus(asked: int | None) -> int | None:
    """Give a number of GPUs, checked against those that this process may use, if it is told."""
    if asked is None:
        return None
    if asked < 1:
        raise BpcpError(Exit.USAGE, f"--gpus {asked}: at least 1")
    if len(there := gpus.devices(asked)) < asked:
        raise BpcpError(
            Exit.BAD_SETTING,
            f"--gpus {asked}, but {gpus.VISIBLE} names {len(there)}: {','.join(there) or 'none'}",
            f"--gpus {len(there)}, or unset {gpus.VISIBLE}" if there else f"unset {gpus.VISIBLE}",
        )
    return asked


def _size(option: str, asked: str) -> str:
    """Give a size, or "auto" where --ramdisk may be that, as it was asked for."""
    if asked and not (asked == "auto" and option == "--ramdisk"):
        try:
            enough = to_bytes(asked) >= 1 << 20
        except ValueError:
            enough = False
        if not enough:
            good = "auto, 8G, 500M" if option == "--ramdisk" else "200G, 1.5T"
            raise BpcpError(Exit.USAGE, f"{option} {asked}: not a size, or less than 1 MB", good)
    return asked
