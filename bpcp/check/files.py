"""Check the image files of a list: each once, on all cores, named by the rows that use it."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bpcp import elsewhere, imagelist
from bpcp.check import faults, look
from bpcp.check.faults import Looked
from bpcp.check.findings import Code, Finding, Severity
from bpcp.errors import BpcpError, Exit
from bpcp.folders import NOWHERE, Moved
from bpcp.imagelist import ImageList
from bpcp.limits import read_limits


def _error(fault: str, summary: str, code: Exit) -> Code:
    return Code(f"image-{fault}", Severity.ERROR, summary, code, by_image_set=True)


MISSING = _error(faults.MISSING, "a file is not there", Exit.NO_INPUT)
DANGLING = _error(faults.DANGLING, "a link leads nowhere", Exit.NO_INPUT)
NOT_A_FILE = _error(faults.NOT_A_FILE, "a folder in a file's place", Exit.NO_INPUT)
NO_PERMISSION = _error(faults.NO_PERMISSION, "a file may not be read", Exit.NO_INPUT)
UNREADABLE = _error(faults.UNREADABLE, "the disk does not give a file", Exit.NO_INPUT)
EMPTY = _error(faults.EMPTY, "a file is empty", Exit.MALFORMED_INPUT)
BAD_HEADER = _error(
    faults.BAD_HEADER, "a file is not the image that its name says", Exit.MALFORMED_INPUT
)
TRUNCATED = _error(faults.TRUNCATED, "a file ends before its pixels do", Exit.MALFORMED_INPUT)
LOOP = _error(faults.LOOP, "a TIFF's directories lead in a circle", Exit.MALFORMED_INPUT)
DECODE = _error(faults.DECODE, "pixels can't be decoded", Exit.MALFORMED_INPUT)
UNUSUAL = _error(
    faults.UNUSUAL, "a kind of file that CellProfiler can't read", Exit.MALFORMED_INPUT
)
SIZE = Code("image-size-differs", Severity.WARNING, "images of a channel differ in size")
DEPTH = Code("image-depth-differs", Severity.WARNING, "images of a channel differ in depth")
SET_SIZE = Code(
    "image-set-size-differs", Severity.WARNING, "channels of an image set differ in size"
)
ODD_HEADER = Code("image-odd-header", Severity.WARNING, "a header names what is not in the file")
HOLE = Code("image-hole", Severity.WARNING, "a part of a file was never written")
FLAT = Code("image-flat", Severity.WARNING, "all pixels of an image have one value")
NOT_CHECKED = Code("image-not-checked", Severity.NOTE, "images that were not looked into")
NOT_VERIFIED = Code(
    "image-not-verified", Severity.WARNING, "bpcp can't read a file that CellProfiler may read"
)

CODES = (
    MISSING,
    DANGLING,
    NOT_A_FILE,
    NO_PERMISSION,
    UNREADABLE,
    EMPTY,
    BAD_HEADER,
    TRUNCATED,
    LOOP,
    DECODE,
    UNUSUAL,
    SIZE,
    DEPTH,
    SET_SIZE,
    ODD_HEADER,
    HOLE,
    FLAT,
    NOT_CHECKED,
    NOT_VERIFIED,
)

_COMPARE = "nothing, where its source is the same; else copy it again"
_AGAIN = "copy it again from where it comes from"
_FAULTS = {
    faults.DANGLING: (DANGLING, "restore the file that it points to, or correct the link"),
    faults.NOT_A_FILE: (NOT_A_FILE, "correct the name in the list"),
    faults.NO_PERMISSION: (NO_PERMISSION, "chmod a+r; or ask its owner"),
    faults.UNREADABLE: (UNREADABLE, "see that the disk is mounted and well"),
    faults.EMPTY: (EMPTY, _AGAIN),
    faults.BAD_HEADER: (BAD_HEADER, f"{_AGAIN}; give it the name of what it is"),
    faults.TRUNCATED: (TRUNCATED, _AGAIN),
    faults.LOOP: (LOOP, _AGAIN),
    faults.DECODE: (DECODE, _AGAIN),
    faults.UNUSUAL: (UNUSUAL, "save it with another compression or depth"),
}
# So many files are looked at in less time than other processes take to start.
_ALONE = 300
_BATCH = 64
_DEEP_BATCH = 8
# More files than this with one oddity of their headers are their camera's.
_CAMERA = 20
# Kinds of files of which CellProfiler is asked about one each: all in one start, 3 s.
_KINDS = 50
_NUMBERS = re.compile(r"\d[\d,]*")

# Size in bytes first, of files that lie in a bucket; as `sources.Listed`.
Listed = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class How:
    """How files are looked at.

    Attributes
    ----------
    deep : bool
        Whether every pixel is decoded.
    workers : int
        Processes; 0 leaves it to the machine's cores.
    told : callable, optional
        Told now and then how many of how many files were looked at.
    listed : Listed
        Files that lie in a bucket, by what `imagelist.files` calls them.
    in_bucket : callable, optional
        Tells whether a file that is not here would lie in a bucket.
    compare : bool
        Whether sizes and depths should agree; not where a list does not say what is what.
    ask : callable, optional
        Asks CellProfiler's own reader about files, as `engine.unreadable` does.
    moved : Moved
        Folders that are elsewhere on this machine; the list names them as they are here.
    """

    deep: bool = False
    workers: int = 0
    told: Callable[[int, int], None] | None = None
    listed: Listed = field(default_factory=dict)
    in_bucket: Callable[[str], bool] | None = None
    compare: bool = True
    ask: Callable[[Sequence[str]], Mapping[str, str] | None] | None = None
    moved: Moved = NOWHERE


@dataclass
class _Used:
    """Where a file is used: channels, and indexes of rows."""

    channels: dict[str, None] = field(default_factory=dict)
    rows: dict[int, None] = field(default_factory=dict)


def of_files(images: ImageList, root: Path, how: How | None = None) -> tuple[list[Finding], int]:
    """Check the files that a list names.

    Parameters
    ----------
    root : Path
        Where relative folders start.

    Returns
    -------
    list of Finding
        Errors have the lines of all image sets that need the file.
    int
        How many files the list names, each counted once.
    """
    how = how or How()
    used: dict[str, _Used] = {}
    for i, row in enumerate(images.rows):
        for channel, name in imagelist.files(images.header, row, root):
            use = used.setdefault(name, _Used())
            use.channels[channel] = None
            use.rows[i] = None
    findings: list[Finding] = []
    here = []
    not_checked: Counter[str] = Counter()
    for name, use in used.items():
        if name in how.listed:
            if how.listed[name][0] == 0:
                findings.append(_finding(EMPTY, name, "an empty file", _AGAIN, use, images))
            not_checked["in a bucket"] += 1
        elif how.in_bucket and how.in_bucket(name) and not os.path.exists(name):  # noqa: PTH110 -- for each of many files
            findings.append(
                _finding(
                    MISSING,
                    name,
                    "not in the bucket",
                    "mend the name, or copy it there",
                    use,
                    images,
                )
            )
        elif imagelist.is_remote(name):
            not_checked["reached by a URL"] += 1
        else:
            here.append(name)
    looked = dict(zip(here, _look_at(here, how), strict=True))
    unsure = {name: seen for name, seen in looked.items() if seen.fault in faults.UNSURE}
    findings += _second_opinion(unsure, how, used, images)
    certain = {n: seen for n, seen in looked.items() if seen.certain}
    findings += _faults(certain, used, images, root, how)
    odd: dict[str, list[str]] = defaultdict(list)
    for name, seen in looked.items():
        if not seen.fault and not seen.kind:
            ending = os.path.splitext(name)[1]  # noqa: PTH122 -- for each of many files
            not_checked[f"called *{ending}" if ending else "whose names have no ending"] += 1
        for said in seen.warnings:
            odd[said].append(name)
        if seen.hole:
            what = f"{seen.hole:,} of its bytes were never written, and read as zeros"
            findings.append(_finding(HOLE, name, what, _COMPARE, used[name], images))
        if seen.flat:
            what = "all pixels have one value"
            remedy = "look at it: an empty well, a closed shutter, a lost file?"
            findings.append(_finding(FLAT, name, what, remedy, used[name], images))
    findings += _odd_headers(odd, used, images)
    if how.compare:
        findings += _differing(images, root, looked)
    for what, count in not_checked.items():
        files = "1 file" if count == 1 else f"{count:,} files"
        findings.append(Finding(NOT_CHECKED, what, f"{files} {what}: not looked into", ""))
    return findings, len(used)


def _finding(
    code: Code, name: str, said: str, remedy: str, use: _Used, images: ImageList
) -> Finding:
    lines = tuple(sorted(images.lines[i] for i in use.rows))
    return Finding(code, name, f"{', '.join(use.channels)}: {said}", remedy, lines)


def _look_at(names: Sequence[str], how: How) -> Iterator[Looked]:
    """Look at files, in their order."""
    size = _DEEP_BATCH if how.deep else _BATCH
    batches = [names[i : i + size] for i in range(0, len(names), size)]
    work = partial(_look_at_batch, deep=how.deep)
    done = 0

    def counted(found: Iterable[list[Looked]]) -> Iterator[Looked]:
        nonlocal done
        for batch in found:
            done += len(batch)
            if how.told:
                how.told(done, len(names))
            yield from batch

    workers = min(how.workers or read_limits().cores, len(batches))
    if workers < 2 or (len(names) <= _ALONE and not how.deep):
        yield from counted(map(work, batches))
        return
    # spawned: a fork would copy whatever threads the caller has, at some point of their work
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_ready) as pool:
        try:
            yield from counted(pool.map(work, batches))
        except BrokenProcessPool:
            raise BpcpError(
                Exit.STOPPED,
                f"a process that looks at images was killed, {done:,} files of {len(names):,} on",
                "was memory full? Run it again, or without --deep",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _ready() -> None:
    """Make a process one that ends with its parent, whatever ends that."""
    # Ctrl-C reaches all of a terminal's processes; the parent sees to its own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent:
            parent.join()
        os._exit(Exit.STOPPED)

    threading.Thread(target=watch, daemon=True).start()


def _look_at_batch(names: Sequence[str], *, deep: bool) -> list[Looked]:
    return [look.look(name, deep=deep) for name in names]


def _second_opinion(
    unsure: Mapping[str, Looked], how: How, used: Mapping[str, _Used], images: ImageList
) -> Iterator[Finding]:
    """Let CellProfiler's own reader open one file of each kind that ours can't read.

    What it can't read either is an error, for all files of the kind; the rest is a warning.
    """
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, seen in unsure.items():
        exact = seen.said if seen.fault == faults.UNUSUAL else _NUMBERS.sub("", seen.said)
        kinds[seen.fault, exact].append(name)
    asked = [names[0] for names in kinds.values()][:_KINDS]
    answers = how.ask(asked) if how.ask and asked else None
    for (fault, _), names in kinds.items():
        first, code = names[0], _FAULTS[fault][0]
        if answers and (why := answers.get(first)):
            for name in names:
                said = f"{unsure[name].said}; CellProfiler: {why}" if name == first else ""
                said = said or f"{unsure[name].said}; CellProfiler can't read {first!r} either"
                yield _finding(code, name, said, _FAULTS[fault][1], used[name], images)
            continue
        verdict = "CellProfiler was not asked"
        if answers is not None and first in asked:
            if fault == faults.UNUSUAL:
                continue
            verdict = f"CellProfiler reads {'it' if len(names) == 1 else 'the first of them'}"
        unchecked = "" if fault == faults.UNUSUAL else ", and is not checked for truncation"
        every = _Used()
        for name in names:
            every.channels.update(used[name].channels)
            every.rows.update(used[name].rows)
        place = first if len(names) == 1 else f"{first} and {len(names) - 1:,} more"
        yield _finding(
            NOT_VERIFIED,
            place,
            f"{unsure[first].said}; {verdict}, so it runs{unchecked}",
            "see that the files are whole: compare their sizes with the source's",
            every,
            images,
        )


def _faults(
    looked: Mapping[str, Looked],
    used: Mapping[str, _Used],
    images: ImageList,
    root: Path,
    how: How,
) -> Iterator[Finding]:
    """Name each bad file; a folder that is not there is one finding for all its files."""
    there = _Folders()
    folders: dict[str, _Used] = defaultdict(_Used)
    lacking: Counter[str] = Counter()
    for name, seen in looked.items():
        if not seen.fault:
            continue
        folder = elsewhere.folder_of(name, root)
        if seen.fault != faults.MISSING:
            code, remedy = _FAULTS[seen.fault]
            yield _finding(code, name, seen.said, remedy, used[name], images)
        elif (names := there.names(folder)) is not None:
            near = names.get(_plain(os.path.basename(name)), "")  # noqa: PTH119 -- for each of many files
            said = f"missing; there is {near!r}" if near else "missing"
            remedy = "mend the name in the list" if near else "bring it back, or mend the list"
            yield _finding(MISSING, name, said, remedy, used[name], images)
        else:
            lacking[folder] += 1
            folders[folder].channels.update(used[name].channels)
            folders[folder].rows.update(used[name].rows)
    remedies = elsewhere.remedies(list(folders), root, how.moved)
    for folder, use in folders.items():
        files = "1 file" if lacking[folder] == 1 else f"{lacking[folder]:,} files"
        what = f"no such folder, for {files}"
        yield _finding(MISSING, folder, what, remedies[folder], use, images)


def _odd_headers(
    odd: Mapping[str, Sequence[str]], used: Mapping[str, _Used], images: ImageList
) -> Iterator[Finding]:
    """Name files with odd headers; those of a camera that writes all so are one finding."""
    for said, names in odd.items():
        if len(names) <= _CAMERA:
            for name in names:
                yield _finding(ODD_HEADER, name, said, _COMPARE, used[name], images)
            continue
        every = _Used()
        for name in names:
            every.channels.update(used[name].channels)
            every.rows.update(used[name].rows)
        what = f"{said}, as {names[0]!r} has it"
        yield _finding(ODD_HEADER, f"{len(names):,} files", what, _COMPARE, every, images)


class _Folders:
    """What is in folders, read once."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, str] | None] = {}

    def names(self, folder: str) -> dict[str, str] | None:
        """Give the names in a folder, by what they are without what lists get wrong."""
        if folder not in self._names:
            try:
                self._names[folder] = {_plain(n): n for n in os.listdir(folder)}  # noqa: PTH208 -- for each of many files
            except OSError:
                self._names[folder] = None
        return self._names[folder]


def _plain(name: str) -> str:
    """Give a name without what lists get wrong: case, spaces at its ends, %20, a Mac's umlauts."""
    return unicodedata.normalize("NFC", unquote(name)).strip().casefold()


def _differing(images: ImageList, root: Path, looked: Mapping[str, Looked]) -> Iterator[Finding]:
    """Compare sizes and depths: within each channel, then the channels of each image set."""
    by_channel: dict[str, dict[int, str]] = defaultdict(dict)
    sets: list[dict[str, tuple[int, ...]]] = []
    for i, row in enumerate(images.rows):
        sizes = {}
        for channel, name in imagelist.files(images.header, row, root):
            seen = looked.get(name)
            if seen and seen.size:
                by_channel[channel][i] = name
                sizes[channel] = seen.size[:2]
        sets.append(sizes)
    odd: set[int] = set()
    for channel, names in by_channel.items():
        sizes_said = {i: _size_said(looked[name]) for i, name in names.items()}
        found = list(_odd_ones(SIZE, channel, names, sizes_said, images))
        odd.update(line for finding in found for line in finding.lines)
        yield from found
        depths = {i: looked[name].depth for i, name in names.items()}
        yield from _odd_ones(DEPTH, channel, names, depths, images)
    patterns: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = defaultdict(list)
    for i, sizes in enumerate(sets):
        # a row with one odd image was named already
        if len(set(sizes.values())) > 1 and images.lines[i] not in odd:
            patterns[tuple(sizes.items())].append(images.lines[i])
    for pattern, lines in patterns.items():
        yield Finding(
            SET_SIZE,
            _sets(len(lines), len(images.rows)),
            ", ".join(f"{channel} {h} × {w}" for channel, (h, w) in pattern),
            "nothing, where the pipeline crops or resizes; else see that they belong together",
            tuple(lines),
        )


def _odd_ones(
    code: Code,
    channel: str,
    names: Mapping[int, str],
    said: Mapping[int, str],
    images: ImageList,
) -> Iterator[Finding]:
    """Give what is not as in most image sets.

    Parameters
    ----------
    names, said : mapping of int to str
        By rows' indexes: the channel's file, and what is compared of it.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for i, what in said.items():
        rows[what].append(i)
    usual = max(rows, key=lambda what: len(rows[what]))
    for what, found in rows.items():
        if what != usual:
            yield Finding(
                code,
                names[found[0]] if len(found) == 1 else channel,
                f"{channel}: {what}, and {usual} in {_sets(len(rows[usual]), len(images.rows))}",
                "see that they belong to this list, and were made with the same settings",
                tuple(images.lines[i] for i in found),
            )


def _sets(count: int, of_all: int) -> str:
    if count == of_all:
        return f"all {count:,} image sets"
    return f"{count:,} image set{'s' if count != 1 else ''}"


def _size_said(seen: Looked) -> str:
    height, width, samples, pages = seen.size
    text = f"{height} × {width} pixels"
    if samples > 1:
        text += f" of {samples} colours"
    return text + (f", {pages} pages" if pages > 1 else "")
