"""Choose how the images are named: by a preset, or by the user's regular expression."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images.placer import Preset
from bpcp.images.presets import USERS_FILE, detect, own, with_users
from bpcp.images.walk import Walk
from bpcp.workspace import locate


def presets(args: argparse.Namespace) -> dict[str, Preset]:
    """Give the presets that there are: the workspace's own, and bpcp's."""
    base = args.base if args.base is not None else Path()
    if args.pipeline is not None:
        base = locate("any", args.pipeline).base
    found = with_users(base)
    if args.preset and args.preset not in found:
        raise BpcpError(
            Exit.USAGE,
            f"--preset {args.preset}: no such preset; there are {', '.join(found)}",
            f"one of these, or your own, in {base / USERS_FILE}",
        )
    return found


def preset(args: argparse.Namespace, sample: Sequence[tuple[str, str]], found: Walk) -> Preset:
    """Give the preset that the user named, or the one that fits a sample of files.

    Raises
    ------
    BpcpError
        65 where none fits, or its files hold several images each; 64 where --plate-wells is not
        for its names.
    """
    if args.regex is not None:
        chosen = own(args.regex)
    elif args.preset:
        chosen = found.presets[args.preset]
    else:
        chosen = detect(sample, found.root, found.beside, found.presets)
    if chosen.holds:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"preset {chosen.name}, {chosen.what}: {chosen.holds}; an image list names"
            " files of one image each",
            chosen.export,
        )
    if args.plate_wells and "well_number" not in chosen.groups:
        raise BpcpError(
            Exit.USAGE,
            f"--plate-wells is for names that number wells; those of {chosen.name} do not",
            "leave it out",
        )
    return chosen
