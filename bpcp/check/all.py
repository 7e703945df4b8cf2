"""Check a run before it starts: its pipeline, its image list, its files, all at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from bpcp import beside, engine, imagelist, imagesets, mapping, saved, selection
from bpcp.access import has_credentials
from bpcp.check import files, rows, saving, servers
from bpcp.check import pipeline as of_pipe
from bpcp.check.findings import (
    Code,
    Finding,
    Severity,
    bad_lines,
    errors,
    exit_of,
    unmended,
    without_bad,
)
from bpcp.check.loading import UNLOADABLE
from bpcp.check.places import PATH_MISSING
from bpcp.check.whole import CUT_OFF
from bpcp.errors import BpcpError, Exit
from bpcp.imagelist import ImageList
from bpcp.pipeline import Kind, Pipeline, mended
from bpcp.probe import answer
from bpcp.settings import Settings
from bpcp.sources import Listed
from bpcp.workspace import Workspace

SELECTION = Code(
    "list-selection", Severity.ERROR, "platelist.txt or welllist.txt does not fit the image list"
)
BASE_FOLDER = Code(
    "list-base-folder", Severity.ERROR, "the pipeline looks for images where bpcp can't have them"
)
FILE_LIST = Code("list-of-files", Severity.ERROR, "the list of files can't be read")
NO_IMAGE_SET = Code("list-no-image-set", Severity.ERROR, "no image set is left to analyse")
MAP = Code("list-map-unused", Severity.WARNING, "a --map fits no path")
UNUSED = Code("list-unused-files", Severity.WARNING, "files of the list that are in no image set")
UNSIGNED = Code(
    "list-needs-credentials", Severity.WARNING, "CellProfiler itself reads from a bucket"
)

CODES = (
    *rows.CODES,
    SELECTION,
    BASE_FOLDER,
    FILE_LIST,
    NO_IMAGE_SET,
    MAP,
    UNUSED,
    UNSIGNED,
    *files.CODES,
)


@dataclass(frozen=True)
class Asked:
    """What a check is to do.

    Attributes
    ----------
    files : bool
        Whether image files are looked at.
    deep : bool
        Whether each of their pixels is decoded.
    mend : bool
        Whether bpcp may mend a copy of the pipeline; what needs it is an error otherwise.
    load : bool
        Whether CellProfiler is asked to load the pipeline.
    alone : bool
        Whether the pipeline is looked at by itself, without a list of its images.
    told : callable, optional
        Told now and then how many of how many files were looked at.
    """

    files: bool = True
    deep: bool = False
    mend: bool = True
    load: bool = True
    alone: bool = False
    told: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes
    ----------
    findings : list of Finding
    image_sets : int
        Those that would run; of a list that can't be read, none are known.
    files : int
        Those that they name, each counted once.
    unit : str
        What the findings' lines count: a "line" of the user's list, or, in a batch file, an
        "image set".
    """

    findings: list[Finding]
    image_sets: int = 0
    files: int = 0
    unit: str = "line"

    @property
    def bad(self) -> dict[int, str]:
        """The image sets that can't be analysed while others can, and why."""
        return bad_lines(self.findings)

    def exit(self, *, quarantine: bool = False) -> Exit:
        """Give the exit code; with `quarantine`, that of going on without the bad image sets."""
        # without any image set left there is nothing to go on with
        if quarantine and len(self.bad) < self.image_sets:
            return exit_of(without_bad(self.findings))
        return exit_of(self.findings)


def run(
    workspace: Workspace,
    pipe: Pipeline,
    settings: Settings,
    asked: Asked | None = None,
    images: ImageList | None = None,
    remote: Listed | None = None,
) -> Checked:
    """Check a run.

    Parameters
    ----------
    images : ImageList, optional
        The image sets that would run, where they are known: folders as they are on this machine.
    remote : Listed, optional
        Those of their files that lie in a bucket, where that is known.

    Raises
    ------
    BpcpError
        66 where there is no list; 69 where CellProfiler is missing; 74 or 77 where a bucket can't
        be reached.
    """
    asked = asked or Asked()
    # a plan asks itself what is saved: it knows what is done as well
    given = images is not None
    findings: list[Finding] = []
    unit = "image set" if pipe.kind is Kind.BATCH or (images and not pipe.reads_list) else "line"
    is_batch = pipe.kind is Kind.BATCH
    if not (given or asked.alone):
        remedy = "see how the paths begin, and in which case; single quotes keep a backslash"
        said = mapping.idle(workspace, pipe, settings)
        findings += [Finding(MAP, "--map", what, remedy) for what in said]
    if pipe.reads_list and not is_batch and not asked.alone:
        found, listed = rows.of_list(workspace.image_list, pipe.group_keys)
        findings += found
        images = images or _prepared(listed, workspace, pipe, settings, findings)
        if images is not None and not given:
            findings += rows.backslashes(images)
        if images is not None and not images.rows:
            what = (
                "no row is left: none is in LoadData's range, or in the lists of plates and wells"
            )
            remedy = "set 'Process just a range of rows?' to No; mend platelist.txt, welllist.txt"
            findings.append(Finding(NO_IMAGE_SET, workspace.image_list.name, what, remedy))
    listing = None
    if not (images or pipe.reads_list or asked.alone):
        listing = _file_list(workspace, settings, findings)
    unread = any(f.code in (FILE_LIST, NO_IMAGE_SET) for f in findings)
    makes_sets = is_batch or not (pipe.reads_list or asked.alone)
    if images is None and not unread and makes_sets:
        images = _found_by_cellprofiler(workspace, pipe, settings, findings)
        unit = "image set" if images else unit
    compared = images is not None
    named = images if compared else listing
    count = 0
    folders = settings.input_folder, settings.plugins
    ask = partial(of_pipe.loads, pipe, images, input_folder=folders[0], plugins=folders[1])
    with ThreadPoolExecutor(1) as pool:
        # beside the files: a start of CellProfiler takes seconds
        loading = pool.submit(ask) if asked.load else None
        findings += of_pipe.of_pipeline(pipe, images, beside.places(pipe, settings))
        if asked.load and (works := answer.of_this()):
            # of what CellProfiler will run: chunks write no MySQL, for one
            ready = mended(pipe, [m for finding in findings for m in finding.mends])
            findings += of_pipe.of_broken(ready, works, settings.plugins)
        if not asked.alone:
            # by itself, a pipeline may be far from the server that the run will reach
            findings += servers.of_servers(pipe, workspace)
        if asked.files and named:
            named = _with_files(named, findings)
            # then CellProfiler reads URLs by itself, and can't be told of another place
            own = _urls(named, settings) if makes_sets else set()
            findings += _unsigned(own, workspace)
            how = _how(named, asked, settings, remote, own, compare=compared)
            if pipe.is_3d:
                # another reader reads volumes, and can't be asked so
                how = replace(how, ask=None)
            found, count = files.of_files(named, settings.root, how)
            findings += found
        if loading:
            # what does not load comes before what follows of it, and after why it does not
            is_cut = any(f.code is CUT_OFF for f in findings)
            unloadable = loading.result()
            if is_cut or any(f.code is PATH_MISSING for f in findings):
                # what CellProfiler can't load is that file, or the end that is missing
                unloadable = [f for f in unloadable if f.code is not UNLOADABLE]
            if errors(unloadable) and not pipe.reads_list:
                # that CellProfiler made no image set only follows
                findings = [f for f in findings if f.code is not NO_IMAGE_SET]
            at = len(findings) if is_cut else 0
            findings[at:at] = unloadable
    if not given and (images is not None or asked.alone):
        findings += _saved(pipe, images, settings, findings)
    if not asked.mend:
        findings = unmended(findings)
    return Checked(findings, len(images.rows) if images else 0, count, unit)


def _saved(
    pipe: Pipeline, images: ImageList | None, settings: Settings, findings: list[Finding]
) -> list[Finding]:
    """Find names that image sets save twice, of those that can be analysed; or of any."""
    if not any(pipe.named(name) for name in saved.MODULES):
        return []
    ready = mended(pipe, [m for finding in findings for m in finding.mends])
    where = beside.places(pipe, settings)
    if images is None:
        return list(saving.of_any_list(ready, where))
    bad = bad_lines(findings)
    good = images.only([i for i, line in enumerate(images.lines) if line not in bad])
    return saving.of_saving(ready, good, where)


def _found_by_cellprofiler(
    workspace: Workspace, pipe: Pipeline, settings: Settings, findings: list[Finding]
) -> ImageList | None:
    """Give the image sets that CellProfiler makes of files; None where the pipeline is at fault."""
    wrong = of_pipe.of_pipeline(pipe, None, beside.places(pipe, settings))
    if errors(wrong):
        return None
    ready = mended(pipe, [m for finding in wrong for m in finding.mends])
    try:
        sets = imagesets.of_run(workspace, ready, settings)
    except BpcpError as error:
        if error.code is not Exit.MALFORMED_INPUT:
            raise
        findings.append(Finding(NO_IMAGE_SET, pipe.path.name, str(error), error.todo))
        return None
    if sets.unused:
        findings.append(
            Finding(
                UNUSED,
                workspace.file_list.name,
                sets.unused,
                "add what lacks, or take them out; CellProfiler's NamesAndTypes shows the pairs",
            )
        )
    return sets.images


def _prepared(
    images: ImageList | None,
    workspace: Workspace,
    pipe: Pipeline,
    settings: Settings,
    findings: list[Finding],
) -> ImageList | None:
    """Give the rows that would run, with the folders of this machine."""
    if images is None:
        return None
    try:
        base = settings.input_folder or settings.root
        images = selection.rebase(images, pipe, base, settings.moved)
    except BpcpError as error:
        findings.append(Finding(BASE_FOLDER, pipe.path.name, str(error), error.todo))
        return None
    images = imagesets.moved(_ranged(images, pipe), settings.moved)
    if settings.use_lists:
        try:
            images, _ = selection.select(images, workspace)
        except BpcpError as error:
            place = str(workspace.selection("platelist").parent)
            findings.append(Finding(SELECTION, place, str(error), error.todo))
    return images


def _ranged(images: ImageList, pipe: Pipeline) -> ImageList:
    """Keep the rows that LoadData is set to; a range that can't be read is told elsewhere."""
    try:
        wanted = of_pipe.row_range(pipe)
    except ValueError:
        return images
    return imagesets.in_range(images, wanted) if wanted else images


def _file_list(
    workspace: Workspace, settings: Settings, findings: list[Finding]
) -> ImageList | None:
    """Give a list of files as an image list, one a row: which make image sets is not known yet."""
    path = workspace.file_list
    if not path.is_file():
        return None
    try:
        names = imagesets.read_files(path, settings.root, settings.moved)
    except BpcpError as error:
        findings.append(Finding(FILE_LIST, path.name, str(error), error.todo or "mend it"))
        return None
    text = path.read_text(encoding="utf-8-sig").split("\n")
    lines = [number for number, line in enumerate(text, 1) if line.strip()]
    # `imagelist.files` takes an address as it is, and one without file: for a path
    return ImageList(("URL_file",), tuple((name,) for name in names), tuple(lines))


def _with_files(images: ImageList, findings: list[Finding]) -> ImageList:
    """Leave out the rows that lack a file's name, which is said already."""
    lacking = {line for f in findings if f.code is rows.NO_FILE for line in f.lines}
    if not lacking:
        return images
    keep = [i for i, line in enumerate(images.lines) if line not in lacking]
    return images.only(keep)


def _urls(images: ImageList, settings: Settings) -> set[str]:
    """List the files that are URLs."""
    named = (imagelist.files(images.header, row, settings.root) for row in images.rows)
    return {name for found in named for _, name in found if imagelist.is_remote(name)}


def _unsigned(urls: set[str], workspace: Workspace) -> list[Finding]:
    """Find out whether CellProfiler can sign what it asks S3 for; it does not ask unsigned.

    Source: generate_presigned_url in cellprofiler_core/utilities/image.py, by boto3's own
    credentials.
    """
    first = next((url for url in sorted(urls) if url.startswith("s3://")), None)
    if first is None or has_credentials():
        return []
    what = f"CellProfiler itself reads {first}, with credentials alone, and there are none here"
    remedy = "name the files by paths, and the bucket by --input"
    return [Finding(UNSIGNED, workspace.file_list.name, what, remedy)]


def _how(
    images: ImageList,
    asked: Asked,
    settings: Settings,
    remote: Listed | None,
    own: set[str],
    *,
    compare: bool,
) -> files.How:
    source, root = settings.source, settings.root
    names = {
        name: None
        for row in images.rows
        for _, name in imagelist.files(images.header, row, root)
        if (source.input or name.lower().startswith("s3://")) and name not in own
    }
    if remote is None:
        remote = source.look(names, root) if names else {}
    return files.How(
        deep=asked.deep,
        told=asked.told,
        compare=compare,
        listed=remote,
        in_bucket=lambda name: name in names and source.find(name, root) is not None,
        ask=engine.unreadable,
        moved=settings.moved,
    )
