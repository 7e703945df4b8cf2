"""Which image sets a run has: the rows of load_data.csv, or what CellProfiler makes of files."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bpcp import (
    batch,
    beside,
    cellprofiler,
    elsewhere,
    filelist,
    folders,
    imagelist,
    mend,
    plugins,
    selection,
)
from bpcp.database import empty
from bpcp.database import file as database
from bpcp.errors import BpcpError, Exit
from bpcp.folders import Moved
from bpcp.imagelist import ImageList, Row, Type
from bpcp.pipeline import Kind, Pipeline
from bpcp.publish import sha256
from bpcp.scratch import own_prefix
from bpcp.settings import Settings
from bpcp.workspace import Workspace, read_json, write_json

_HEADERS = "Extract from image file headers"


@dataclass(frozen=True)
class Made:
    """A batch file.

    Attributes
    ----------
    path : Path
    question : str
        What it was made of; "" where bpcp did not make it.
    home : object or None
        Holds the folder that a new one is in, which goes when nobody holds it any more.
    databases : tuple of str
        Of ExportToDatabase: made with it, and beside it.
    """

    path: Path
    question: str = ""
    home: Any = None
    databases: tuple[str, ...] = ()

    def keep(self, workspace: Workspace) -> None:
        """Keep a new one, for the next time."""
        if not self.question:
            self._keep_given(workspace)
        if self.home is None:
            return
        workspace.status.mkdir(parents=True, exist_ok=True)
        temporary = workspace.batch.with_name(f".{workspace.batch.name}.new")
        try:
            shutil.copyfile(self.path, temporary)
            temporary.replace(workspace.batch)
            empty.keep_empty(
                self.path.parent,
                workspace.databases,
                self.databases,
                mend.without_create_batch,
            )
        except OSError as error:
            raise BpcpError(
                Exit.CANNOT_CREATE, f"can't write {workspace.batch}: {error.strerror}", "make room"
            ) from error
        known = {"question": self.question, "sha256": sha256(workspace.batch)}
        write_json(workspace.batch_state, known)

    def _keep_given(self, workspace: Workspace) -> None:
        """Keep what CellProfiler made with a batch file of the user's own."""
        home = workspace.databases
        missing = empty.keep_empty(self.path.parent, home, self.databases, str)
        if missing:
            raise BpcpError(
                Exit.MALFORMED_INPUT,
                f"{self.path.parent / missing[0]} is not there: ExportToDatabase's tables are made"
                " with the batch file",
                f"put it back beside {self.path.name}, or make both anew",
            )


@dataclass(frozen=True)
class ImageSets:
    """The image sets of a run.

    Attributes
    ----------
    images : ImageList
    types : tuple of Type
        Of each column.
    groups : list of tuple of str, or None
        The group of each row, in the order of the ImageNumbers; None where LoadData sees to it.
    made : Made or None
        The batch file that they stand in.
    keep : list of int or None
        The ImageNumbers in it that are run; None for all.
    notes : list of str
        What the user should know.
    beside : tuple of tuple of str
        Rows by which columns are typed as well, though they are not run.
    unused : str
        What is to be said of files of the list that are in no image set; "" where all are.
    """

    images: ImageList
    types: tuple[Type, ...]
    groups: list[Row] | None = None
    made: Made | None = None
    keep: list[int] | None = None
    notes: list[str] = field(default_factory=list)
    beside: tuple[Row, ...] = ()
    unused: str = ""


def of_run(
    workspace: Workspace,
    pipe: Pipeline,
    settings: Settings,
    rows: tuple[int, int] | None = None,
) -> ImageSets:
    """Give the image sets that a pipeline runs over.

    Parameters
    ----------
    rows : (int, int), optional
        The first and the last row that LoadData is set to process, 1-based.

    Raises
    ------
    BpcpError
        65 where they can't be made, 66 where a list is missing, 69 where CellProfiler is.
    """
    if pipe.reads_list and pipe.kind is not Kind.BATCH:
        images = moved(_list(workspace, pipe, settings), settings.moved)
        images, notes = _selected(images, workspace, settings)
        return _ranged(of_list(images, notes), rows)
    made = (
        Made(pipe.path, databases=_databases(pipe))
        if pipe.kind is Kind.BATCH
        else batch_file(workspace, pipe, settings)
    )
    found = batch.read(made.path)
    if pipe.reads_list:
        _check_groups(made.path, found, pipe)
    # one that bpcp had made names the files of this machine already
    every = found.images if made.question else moved(found.images, settings.moved)
    images, notes = _selected(every, workspace, settings)
    keep = list(images.lines) if len(images.lines) < len(every.lines) else None
    groups = [found.groups[n - 1] for n in images.lines]
    unused = _unused(workspace, pipe, every, settings)
    return ImageSets(images, found.types, groups, made, keep, notes, unused=unused)


def _check_groups(path: Path, found: batch.Batch, pipe: Pipeline) -> None:
    """Refuse a batch file with numbers of groups that came with load_data.csv.

    They say nothing of what the pipeline groups, and can't be made anew from the file.
    """
    images = found.images
    own = imagelist.group_values(images.header, found.types, images.rows, pipe.group_keys)
    sizes = Counter(own)
    ranks = {group: rank for rank, group in enumerate(sorted(sizes), 1)}
    seen: Counter[Row] = Counter()
    for n, (group, given) in enumerate(zip(own, found.numbered, strict=True), 1):
        seen[group] += 1
        wanted = (str(ranks[group]), str(seen[group]), str(sizes[group]))
        if any(a and a != b for a, b in zip(given, wanted, strict=True)):
            raise BpcpError(
                Exit.MALFORMED_INPUT,
                f"{path}: image set {n} has Group_Number, Group_Index and Group_Length"
                f" {', '.join(given)}, and by the pipeline's own groups it is {', '.join(wanted)}:"
                " the numbers came with load_data.csv",
                "run the pipeline with load_data.csv itself; or make the batch file of a list"
                " without these columns",
            )


def _unused(workspace: Workspace, pipe: Pipeline, images: ImageList, settings: Settings) -> str:
    """Say which files of a list are in no image set: the pipeline may pair the others wrongly."""
    if pipe.kind is Kind.BATCH or pipe.reads_list or not workspace.file_list.is_file():
        return ""
    root = settings.root
    used = {name for row in images.rows for _, name in imagelist.files(images.header, row, root)}
    listed = read_files(workspace.file_list, root, settings.moved)
    names = [imagelist.files(("URL_",), (name,), root)[0][1] for name in listed]
    # CreateBatchFiles writes a slash for a backslash
    left = [name for name in names if not used & {name, name.replace("\\", "/")}]
    if not left:
        return ""
    said = (
        f"{len(left):,} of {len(names):,} files are in no image set, such as {Path(left[0]).name}"
    )
    if any(m.get("Image set matching method") == "Order" for m in pipe.named("NamesAndTypes")):
        said += "; they are matched by order, so one file that lacks shifts all behind it"
    return said


def _databases(pipe: Pipeline) -> tuple[str, ...]:
    return tuple(database.path_of(m) for m in pipe.named("ExportToDatabase"))


def in_range(images: ImageList, rows: tuple[int, int]) -> ImageList:
    """Keep the rows that LoadData is set to process: the first and the last, 1-based."""
    # the header is line 1, and empty lines count
    return images.only([i for i, n in enumerate(images.lines) if rows[0] <= n - 1 <= rows[1]])


def _ranged(sets: ImageSets, rows: tuple[int, int] | None) -> ImageSets:
    """Keep a range of rows; LoadData types its columns over all of them."""
    if rows is None:
        return sets
    images = sets.images
    kept = in_range(images, rows)
    if not kept.rows:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"no row of the image list is in LoadData's range, {rows[0]} to {rows[1]}",
            "set 'Process just a range of rows?' to No",
        )
    return replace(sets, images=kept, beside=images.rows)


def without(sets: ImageSets, lines: Collection[int]) -> ImageSets:
    """Leave out image sets, as if the list had never named them.

    Parameters
    ----------
    lines : collection of int
        Their lines in the user's list; in a batch file, their ImageNumbers.
    """
    images = sets.images
    at = [i for i, line in enumerate(images.lines) if line not in lines]
    left = images.only(at)
    if sets.groups is None:
        own = sets if sets.beside else replace(of_list(left), notes=sets.notes)
        return replace(own, images=left)
    groups = [sets.groups[i] for i in at]
    return replace(sets, images=left, groups=groups, keep=list(left.lines))


def of_list(images: ImageList, notes: Sequence[str] = ()) -> ImageSets:
    """Give the image sets that LoadData makes of a list."""
    types = imagelist.column_types(images.header, images.rows)
    return ImageSets(images, types, notes=list(notes))


def _list(workspace: Workspace, pipe: Pipeline, settings: Settings) -> ImageList:
    images = imagelist.read(workspace.image_list)
    base = settings.input_folder or settings.root
    return selection.rebase(images, pipe, base, settings.moved)


def _selected(
    images: ImageList, workspace: Workspace, settings: Settings
) -> tuple[ImageList, list[str]]:
    return selection.select(images, workspace) if settings.use_lists else (images, [])


def moved(images: ImageList, maps: Moved) -> ImageList:
    """Give a list with the folders of this machine."""
    if not maps.maps:
        return images
    return replace(images, rows=tuple(maps.rows(images.header, images.rows)))


def batch_file(workspace: Workspace, pipe: Pipeline, settings: Settings) -> Made:
    """Give the batch file of a pipeline and its files: the one that is there, or a new one.

    Raises
    ------
    BpcpError
        65 where CellProfiler makes none, 66 where a list is missing.
    """
    argv = cellprofiler.command(plugins=settings.plugins)
    source = _source(workspace, pipe, settings)
    parts = [pipe.sha256, cellprofiler.version(argv), *source.parts]
    parts += beside.identity(pipe, settings)
    parts += map(" ".join, plugins.contents(argv).items())
    question = imagelist.digest(parts)
    known = read_json(workspace.batch_state) or {}
    databases = _databases(pipe)
    if (
        not settings.ask_again
        and known.get("question") == question
        and workspace.batch.is_file()
        and known["sha256"] == sha256(workspace.batch)
        and all((workspace.databases / name).is_file() for name in databases)
    ):
        return Made(workspace.batch, question)
    # where attempts work as well, or wherever TMPDIR says
    folder = settings.tmpdir if settings.tmpdir and settings.tmpdir.is_dir() else None
    home = tempfile.TemporaryDirectory(prefix=own_prefix("batch", folder), dir=folder)
    made = _make(argv, pipe, source, settings, Path(home.name))
    return Made(made, question, home, databases)


@dataclass(frozen=True)
class _Source:
    """What a batch file is made of: a list of files, a LoadData list, or a project's own files."""

    what: str
    parts: list[str]
    files: list[str] = field(default_factory=list)
    images: ImageList | None = None


def _source(workspace: Workspace, pipe: Pipeline, settings: Settings) -> _Source:
    if pipe.reads_list:
        images = moved(_list(workspace, pipe, settings), settings.moved)
        parts = [imagelist.row_text(row) for row in (images.header, *images.rows)]
        return _Source(f"{len(images.rows):,} rows", parts, images=images)
    if not workspace.file_list.is_file():
        if pipe.kind is Kind.PROJECT or pipe.lists_files:
            return _Source(
                f"the files of {pipe.path.name}", [sha256(pipe.path), *settings.moved.words]
            )
        raise BpcpError(
            Exit.NO_INPUT,
            f"no list of files: {workspace.file_list}",
            f"a path or URL a line: find /data/plate -name '*.tif' > {workspace.file_list}",
        )
    files = read_files(workspace.file_list, settings.root, settings.moved)
    parts = list(files)
    if any(_HEADERS in value for m in pipe.named("Metadata") for _, value in m.settings):
        # the image sets depend on what is in the files, too
        parts.append(imagelist.fingerprint(("URL_",), [(name,) for name in files], settings.root))
    return _Source(f"{len(files):,} files", parts, files)


def read_files(path: Path, root: Path, moved: Moved) -> list[str]:
    """Read a list of files as CellProfiler does: a path or URL a line.

    Parameters
    ----------
    root : Path
        Where relative paths start.

    Raises
    ------
    BpcpError
        65 where it is empty or can't be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BpcpError(
            Exit.MALFORMED_INPUT, f"{path}: not UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    found = []
    for line in filter(None, (line.strip() for line in lines)):
        if folders.is_url(line):
            found.append(moved.url(line))
        elif imagelist.is_remote(line):
            found.append(line)
        else:
            found.append(moved.below(root, line))
    if not found:
        raise BpcpError(Exit.MALFORMED_INPUT, f"{path}: no files in it")
    return found


def _make(
    argv: Sequence[str], pipe: Pipeline, source: _Source, settings: Settings, home: Path
) -> Path:
    """Let CellProfiler make a batch file in a folder."""
    text = mend.with_create_batch(str(pipe.content))
    output, tmpdir = home / "output", home / "tmp"
    for folder in (output, tmpdir):
        folder.mkdir()
    if pipe.lists_files:
        text = filelist.moved_text(text, settings.moved)
    program = home / "pipeline.cppipe"
    program.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    inputs: list[str] = []
    if source.images:
        imagelist.write(home / "images.csv", source.images.header, source.images.rows)
        inputs = ["--data-file", str(home / "images.csv")]
    elif source.files:
        listed = "\n".join([*source.files, ""])
        (home / "files.txt").write_text(listed, encoding="utf-8", errors="surrogateescape")
        inputs = ["--file-list", str(home / "files.txt")]
    elif pipe.kind is Kind.PROJECT:
        program = home / "project.cpproj"
        shutil.copyfile(pipe.path, program)
        batch.set_pipeline(program, text)
        if settings.moved.maps:
            filelist.move_project(program, settings.moved)
    print(f"batch file: asking CellProfiler for the image sets of {source.what}", file=sys.stderr)
    why = cellprofiler.make_batch_file(
        argv, program, inputs, output, tmpdir, settings.root, settings.input_folder
    )
    made = output / batch.NAME
    if not made.is_file() or not batch.count(made):
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"CellProfiler makes no image set of {source.what} with {pipe.path}"
            + ("" if made.is_file() else f": {why}"),
            elsewhere.of_windows(source.files or _own_files(program, text), settings.root)
            or "open both in CellProfiler: Images and NamesAndTypes show which files are left out",
        )
    return made


def _own_files(program: Path, text: str) -> list[str]:
    """List the files that a program holds itself; its pipeline's text may, too."""
    return filelist.in_project(program) if program.suffix == ".cpproj" else filelist.in_text(text)
