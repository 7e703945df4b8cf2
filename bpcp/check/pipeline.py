"""What a pipeline would do wrong, or slowly, in many processes: found before the first one starts.

What can be put right without changing a result is put right in the copy that a run uses, and said;
`Finding.mends` holds how. The user's file is never touched.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from bpcp import binding, imagelist
from bpcp.beside import Places
from bpcp.check import (
    broken,
    code,
    databases,
    loading,
    names,
    places,
    saving,
    servers,
    skipping,
    spreadsheets,
    whole,
)
from bpcp.check.broken import of_broken
from bpcp.check.databases import of_folder
from bpcp.check.findings import Code, Finding, Severity
from bpcp.check.loading import loads
from bpcp.check.modules import (
    FLAT,
    counts_to_the_last,
    every_module,
    is_group_bound,
    is_interactive,
    is_run_bound,
    place,
)
from bpcp.check.places import mends_of
from bpcp.database.file import type_of
from bpcp.errors import BpcpError
from bpcp.imagelist import ImageList
from bpcp.mend import Mend
from bpcp.pipeline import Kind, Module, Pipeline
from bpcp.workspace import to_ranges

__all__ = ["CODES", "loads", "of_broken", "of_folder", "of_pipeline", "row_range"]

NO_LOADER = Code("pipeline-no-loader", Severity.ERROR, "the pipeline reads no images")
MANY_LOADERS = Code("pipeline-many-loaders", Severity.ERROR, "the pipeline has several LoadData")
ROW_RANGE = Code(
    "pipeline-row-range", Severity.ERROR, "LoadData processes just a range of the list's rows"
)
BATCH_FILES = Code(
    "pipeline-create-batch-files",
    Severity.ERROR,
    "CreateBatchFiles is on: CellProfiler would write a batch file and analyse nothing",
)
INTERACTIVE = Code(
    "pipeline-interactive", Severity.ERROR, "a module asks somebody at the screen, and nobody is"
)
VOLUMES = Code(
    "pipeline-volumes",
    Severity.ERROR,
    "the pipeline processes volumes, and has modules that can't",
)
DATABASE = Code(
    "pipeline-database", Severity.NOTE, "each process writes a SQLite file, and bpcp makes one"
)
AGGREGATES = Code(
    "pipeline-aggregates", Severity.WARNING, "a module needs all image sets in one process"
)
GROUPS = Code("pipeline-groups", Severity.NOTE, "a module needs its group in one process")
CROP_FIRST = Code(
    "pipeline-crop-first",
    Severity.WARNING,
    "Crop takes the first cycle's pattern, which the coordinates give for each cycle alike",
)
DIGITS = Code(
    "pipeline-sequential-digits",
    Severity.WARNING,
    "file names are numbered with as many digits as the list needs",
)
NUMBERS = Code(
    "pipeline-image-numbers",
    Severity.NOTE,
    "an image set's number reaches more than the tables, so each process reads the whole list",
)
OVERWRITE = Code(
    "pipeline-overwrite-no", Severity.NOTE, "overwriting is off, and an earlier result stops no run"
)
PREFIX = Code("pipeline-prefix", Severity.NOTE, "the tables' names begin with a prefix")
NO_TABLES = Code(
    "pipeline-no-tables", Severity.NOTE, "no tables are exported, so little can be checked"
)
CODES: tuple[Code, ...] = (
    *code.CODES, *whole.CODES, NO_LOADER, MANY_LOADERS, *loading.CODES, *broken.CODES, ROW_RANGE,
    BATCH_FILES, INTERACTIVE, VOLUMES, *names.CODES, *places.CODES, *saving.CODES,
    *spreadsheets.CODES, DATABASE, *databases.CODES, *servers.CODES, AGGREGATES, CROP_FIRST,
    GROUPS, DIGITS, NUMBERS, *skipping.CODES, OVERWRITE, PREFIX, NO_TABLES,
)  # fmt: skip

_PLACE = re.compile(r"module (\d+), (\w+)")
# More places than these are named by their modules' numbers alone.
_SEVERAL = 3
_RANGED = "Process just a range of rows?"
_ROWS = "Rows to process"
_OVERWRITE = ("Overwrite existing files without warning?", "Overwrite without warning?")
_NEVER = ("No", "Never", "Data only")
_CROP_CYCLE = "Apply which cycle's cropping pattern?"
_METHOD = "Select method for constructing file names"
_SEQUENTIAL = "Sequential numbers"
_DIGITS = "Number of digits"


def of_pipeline(
    pipe: Pipeline, images: ImageList | None, where: Places | None = None
) -> list[Finding]:
    """Find what is to be said about a pipeline, without starting CellProfiler.

    Parameters
    ----------
    images : ImageList or None
        The list that it is to run on; None where there is none yet.
    where : Places, optional
        Where the run looks for files beside the images.

    Returns
    -------
    list of Finding
        The worst first, and in the pipeline's order.
    """
    found = [*code.of_code(pipe), *whole.of_whole(pipe)]
    if not pipe.written.every:
        return found
    is_cut = any(f.code is whole.CUT_OFF for f in found)
    found += [
        *_loaders(pipe),
        *_row_range(pipe),
        *_batch_files(pipe),
        *_interactive(pipe),
        *_volumes(pipe),
        *names.of_names(pipe, images),
        *places.of_places(pipe, where),
        *spreadsheets.of_spreadsheets(pipe),
        *_exports(pipe),
        *([] if is_cut else _results(pipe)),
        *databases.of_databases(pipe),
        *servers.of_types(pipe),
        *_together(pipe, images),
        *_digits(pipe, images),
        *_numbers(pipe),
        *skipping.of_skipping(pipe),
        *_overwriting(pipe),
    ]
    return sorted(_alike(found), key=lambda f: -f.code.severity)


def _alike(found: Iterable[Finding]) -> list[Finding]:
    """Say once what is to be said of several modules in the same words."""
    said: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in found:
        said.setdefault((finding.code.name, finding.what, finding.remedy), []).append(finding)
    return [
        replace(
            alike[0],
            place=_places([f.place for f in alike]),
            mends=tuple(m for f in alike for m in f.mends) if all(f.mends for f in alike) else (),
        )
        for alike in said.values()
    ]


def _places(places: Sequence[str]) -> str:
    """Name several places: "module 2, Crop; module 5, Tile", or "modules 2, 4-9, Crop"."""
    found = [_PLACE.fullmatch(one) for one in places]
    if len(places) <= _SEVERAL or None in found:
        return "; ".join(places)
    numbers: dict[str, list[int]] = {}
    for match in filter(None, found):
        numbers.setdefault(match[2], []).append(int(match[1]))
    lists = ((to_ranges(sorted(set(at))).replace(",", ", "), name) for name, at in numbers.items())
    return "; ".join(f"module{'s' if ',' in n or '-' in n else ''} {n}, {m}" for n, m in lists)


def row_range(pipe: Pipeline) -> tuple[int, int] | None:
    """Give the rows that LoadData is set to process: the first and the last, both included.

    Returns
    -------
    tuple of (int, int), or None
        1-based, the header left out, an empty line counted; None where it takes all. The types of
        the columns are still those of the whole list.

    Source: cellprofiler_core 4.2.8.1, modules/loaddata.py (prepare_run, get_measurement_columns).
    """
    for load in pipe.named("LoadData"):
        if load.get(_RANGED) == "Yes":
            first, _, last = load.get(_ROWS, "1,100000").partition(",")
            return int(first), int(last)
    return None


def _loaders(pipe: Pipeline) -> Iterator[Finding]:
    loaders = pipe.named("LoadData")
    if not loaders and not (pipe.named("Images") and pipe.named("NamesAndTypes")):
        yield Finding(
            NO_LOADER,
            str(pipe.path),
            "neither LoadData nor Images and NamesAndTypes, so it reads no images",
            "let it begin with LoadData, or with Images, Metadata, NamesAndTypes and Groups",
        )
    if len(loaders) > 1:
        numbers = ", ".join(str(m.number) for m in loaders)
        yield Finding(
            MANY_LOADERS, str(pipe.path), f"modules {numbers} are LoadData", "keep one of them"
        )


def _row_range(pipe: Pipeline) -> Iterator[Finding]:
    if pipe.kind is Kind.BATCH:
        # its image sets are those rows already
        return
    try:
        rows = row_range(pipe)
    except ValueError:
        rows = (0, 0)
    if rows is None:
        return
    load = next(m for m in pipe.named("LoadData") if m.get(_RANGED) == "Yes")
    remedy = f"set '{_RANGED}' to No, and keep those rows in load_data.csv"
    what = f"LoadData processes just rows {rows[0]} to {rows[1]}"
    if not 1 <= rows[0] <= rows[1]:
        what = f"LoadData processes just a range of rows, which is none: {load.get(_ROWS)}"
        yield Finding(ROW_RANGE, place(load), what, remedy)
        return
    said = f"{what}: bpcp takes these rows of the list"
    mend = Mend(load.number, _RANGED, "Yes", "No", said)
    yield Finding(ROW_RANGE, place(load), what, remedy, mends=mends_of(pipe, mend))


def _batch_files(pipe: Pipeline) -> Iterator[Finding]:
    if pipe.kind is Kind.BATCH:
        return
    for module in pipe.named("CreateBatchFiles"):
        said = f"CreateBatchFiles (module {module.number}) is off: bpcp makes the chunks"
        yield Finding(
            BATCH_FILES,
            place(module),
            "it is on: each process would write a batch file and analyse nothing",
            "disable it",
            mends=mends_of(pipe, Mend(module.number, "enabled", "True", "False", said)),
        )


def _interactive(pipe: Pipeline) -> Iterator[Finding]:
    for module in filter(is_interactive, pipe.modules):
        yield Finding(
            INTERACTIVE,
            place(module),
            "it waits for somebody at the screen, and a run has none",
            "choose a method that needs no mouse, or disable it",
        )


def _volumes(pipe: Pipeline) -> Iterator[Finding]:
    """Find modules that keep CellProfiler from a 3-D pipeline, those included that are disabled.

    Source: cellprofiler_core 4.2.8.1, pipeline/_pipeline.py (prepare_run).
    """
    if not pipe.is_3d:
        return
    for module in every_module(pipe):
        if module.name in FLAT:
            yield Finding(
                VOLUMES,
                place(module),
                "it can't process the volumes that NamesAndTypes makes; CellProfiler would analyse"
                " nothing and not say why, even where the module is disabled",
                "delete it, or set 'Process as 3D?' to No",
            )


def _exports(pipe: Pipeline) -> Iterator[Finding]:
    spreadsheets, databases = pipe.named("ExportToSpreadsheet"), pipe.named("ExportToDatabase")
    for module in spreadsheets:
        prefix = module.get("Filename prefix")
        if module.get("Add a prefix to file names?") == "Yes" and prefix:
            yield Finding(
                PREFIX,
                place(module),
                f"tables are called {prefix}Image.csv and so on; CytoTable and other tools look"
                " for Image.csv",
                "set 'Add a prefix to file names?' to No, if such a tool comes next",
            )
    for module in databases:
        if type_of(module) == "SQLite":
            yield Finding(
                DATABASE,
                place(module),
                "each process writes a SQLite file of its own, and bpcp makes one of them",
                "",
            )


def _results(pipe: Pipeline) -> Iterator[Finding]:
    if nothing := list(whole.of_output(pipe)):
        yield from nothing
    elif not pipe.named("ExportToSpreadsheet") and not pipe.named("ExportToDatabase"):
        yield Finding(
            NO_TABLES,
            str(pipe.path),
            "it exports no tables, so bpcp can't count what an image set gave: only that files"
            " came out, and that CellProfiler said no word of failure",
            "add ExportToSpreadsheet, if it measures anything",
        )


def _together(pipe: Pipeline, images: ImageList | None) -> Iterator[Finding]:
    for module in pipe.modules:
        if mends := _every_cycle(pipe, module):
            yield Finding(
                CROP_FIRST,
                place(module),
                "it takes the first cycle's pattern, so a group, or the whole list, needs one"
                " process; its coordinates make the same pattern for each cycle",
                f"set '{_CROP_CYCLE}' to Every",
                mends=mends,
            )
            continue
        alone = is_run_bound(module)
        if alone or (is_group_bound(module) and not pipe.group_keys):
            yield Finding(
                AGGREGATES,
                place(module),
                "it needs all image sets in one process: the whole list is one chunk, which takes"
                " as long as without bpcp, and its memory",
                "move it to a pipeline of its own, so that the rest runs on all cores"
                + ("" if alone else "; or group the images, if plates or wells are enough for it"),
            )
        elif is_group_bound(module):
            yield Finding(
                GROUPS,
                place(module),
                f"it needs all image sets of a group in one process; the groups are by"
                f" {', '.join(pipe.group_keys)}{_sizes(pipe, images)}",
                "nothing, if there are more groups than cores",
            )


def _every_cycle(pipe: Pipeline, module: Module) -> tuple[Mend, ...]:
    """Free a Crop from the first cycle where that changes nothing.

    By coordinates, its pattern is made of these and of the image's size, and it is made anew where
    the size is another; other images and objects are looked at in each cycle anyway.

    Source: CellProfiler 4.2.8.1, modules/crop.py (run).
    """
    if module.name != "Crop" or module.get(_CROP_CYCLE) != "First" or is_interactive(module):
        return ()
    said = f"Crop (module {module.number}) makes its pattern in every cycle, which is the same one"
    return mends_of(pipe, Mend(module.number, _CROP_CYCLE, "First", "Every", said))


def _sizes(pipe: Pipeline, images: ImageList | None) -> str:
    if images is None:
        return ""
    try:
        types = imagelist.column_types(images.header, images.rows)
        groups = imagelist.group_values(images.header, types, images.rows, pipe.group_keys)
    except BpcpError:
        # names.METADATA says it
        return ""
    sizes = Counter(groups)
    return f": {len(sizes):,} of them, the largest of {max(sizes.values()):,} image sets"


def _is_numbered(module: Module) -> bool:
    return module.name == "SaveImages" and module.get(_METHOD) == _SEQUENTIAL


def _digits(pipe: Pipeline, images: ImageList | None) -> Iterator[Finding]:
    count = len(images.rows) if images else 0
    needed = math.ceil(math.log10(count + 1))
    for module in filter(_is_numbered, pipe.modules):
        digits = module.get(_DIGITS, "4")
        if not digits.isdigit() or int(digits) >= needed:
            continue
        said = f"SaveImages (module {module.number}) numbers its files with {needed} digits"
        mend = Mend(module.number, _DIGITS, digits, str(needed), f"{said}, as for the whole list")
        yield Finding(
            DIGITS,
            place(module),
            f"{count:,} image sets need {needed} digits in its file names, and it is set to"
            f" {digits}: one process that knows them all would take {needed}",
            f"set '{_DIGITS}' to {needed}; else the whole list is one chunk",
            mends=mends_of(pipe, mend),
        )


def _numbers(pipe: Pipeline) -> Iterator[Finding]:
    by_text = set(binding.place_users(pipe))
    for module in pipe.modules:
        if f"{module.name} (module {module.number})" not in by_text:
            continue
        how = "it names files by" if _is_numbered(module) else "it uses"
        if counts_to_the_last(module):
            how = "it looks for the last image set by"
        yield Finding(
            NUMBERS,
            place(module),
            f"{how} the image set's number, so each process reads the whole list: some seconds"
            " more from 10,000 rows on",
            "nothing; or name by metadata, for shorter starts",
        )


def _overwriting(pipe: Pipeline) -> Iterator[Finding]:
    for module in pipe.modules:
        if module.name == "ExportToDatabase" and type_of(module) != "SQLite":
            # there it decides about the server's tables; see `servers`
            continue
        if any(key in _OVERWRITE and value in _NEVER for key, value in module.settings):
            yield Finding(
                OVERWRITE,
                place(module),
                "overwriting is off; each process starts in an empty folder, so no earlier result"
                " stops it, and a new result takes the place of the old one",
                "keep an old result by another name, if it is to stay",
            )
