"""The processes of a profile: their image sets, their folders, and whether all went well."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bpcp import cellprofiler, engine, imagelist, pipeline, plan
from bpcp.chunk.verdict import Declared, Ran, judge
from bpcp.cut import Cut, chunks_of, order
from bpcp.database import empty
from bpcp.errors import BpcpError, Exit
from bpcp.imagesets import ImageSets
from bpcp.mend import Mend
from bpcp.profile.measure import Observed, Work, observe
from bpcp.profile.samples import Candidate, candidates
from bpcp.settings import Settings, settings_of
from bpcp.vet import vet
from bpcp.workspace import Workspace, locate


@dataclass(frozen=True)
class Subject:
    """What is profiled.

    Attributes
    ----------
    sets : ImageSets
    cut : Cut
        The image sets in the order of their ImageNumbers.
    there : list of Candidate
        Those whose files are there, or an even part of them.
    lacking : int
        How many of those looked at lack a file.
    """

    workspace: Workspace
    pipe: pipeline.Pipeline
    settings: Settings
    sets: ImageSets
    mends: list[Mend]
    cut: Cut
    there: list[Candidate]
    lacking: int

    def sizes(self, slots: int) -> list[int]:
        """Give the image sets of each chunk that a run with so many slots would be cut into."""
        settings = replace(self.settings, slots=slots)
        return [len(places) for places in plan.places_of(self.pipe, settings, self.cut, [])[0]]


@dataclass(frozen=True)
class Bench:
    """Where the processes of a profile work, and what with."""

    subject: Subject
    command: Sequence[str]
    declared: Declared
    folder: Path

    def work(self, number: int, chosen: Sequence[Candidate]) -> Work:
        """Lay out the folder of a process, 1-based, and give what it is to do."""
        cut = self.subject.cut
        places = [c.place for c in chosen]
        whole, keys = cut.batched, self.subject.pipe.group_keys
        chunk = next(iter(chunks_of(cut, [places], whole=whole, recipe="", keys=keys)))
        home = self.folder / str(number)
        for name in ("output", "tmp"):
            (home / name).mkdir(parents=True)
        empty.seed(self.subject.workspace.databases, home / "output")
        made = self.subject.sets.made
        if made:
            from bpcp import batch

            program, image_list = home / "images.h5", None
            maps = self.subject.settings.moved
            own = bool(made.question)
            batch.copy(
                made.path,
                program,
                keep=sorted(chunk.lines),
                moved=maps,
                own=own,
                mends=self.subject.mends,
            )
        else:
            program, image_list = home / "pipeline.cppipe", home / "images.csv"
            program.write_bytes(self.subject.pipe.text)
            rows = [*chunk.rows, *filter(None, [chunk.witness])]
            imagelist.write(image_list, cut.images.header, rows)
        log = self.subject.workspace.attempt_log("profile", number)
        log.parent.mkdir(parents=True, exist_ok=True)
        job = cellprofiler.Job(
            program,
            image_list,
            1,
            len(places),
            home / "output",
            home / "tmp",
            home / "done",
            self.subject.settings.input_folder,
        )
        return Work(job, log)

    def observe(self, works: Sequence[Work]) -> tuple[Observed, float]:
        """Run processes side by side; give also the seconds of the check for an image set.

        Raises
        ------
        BpcpError
            1 where what they wrote is not good.
        """
        seen = observe(works, self.command, self.subject.settings.root, self.subject.settings.gpus)
        began = time.monotonic()
        for work in works:
            job = work.job
            said = job.done_file.read_text("utf-8").strip() if job.done_file.is_file() else ""
            course = cellprofiler.course_of(work.log)
            ran = Ran(job.first, job.last, said, course, self.declared.last_module)
            faults = judge(job.output, self.declared, ran).faults
            if faults:
                raise BpcpError(
                    Exit.SOME_FAILED,
                    f"an image set of the profile failed: {faults[0]}",
                    f"see {work.log}",
                )
            shutil.rmtree(job.output.parent)
        return seen, (time.monotonic() - began) / sum(w.job.last for w in works)


def subject_of(argv: Sequence[str]) -> Subject:
    """Read what is profiled.

    Parameters
    ----------
    argv : sequence of str
        As for `bpcp plan`.

    Raises
    ------
    BpcpError
        As `bpcp plan`; 66 where no image is on this machine.
    """
    args = plan.parse(argv)
    workspace = locate(args.dataset, args.pipeline)
    # only what it draws is read, and it says itself what of that is missing
    settings = replace(settings_of(args, workspace), check=False)
    given = engine.read(args.pipeline, settings.plugins)
    vetted = vet(workspace, given, settings)
    pipe, sets = vetted.pipe, vetted.sets
    if sets.made:
        sets.made.keep(workspace)
    cut = order(sets, pipe, settings.group_by)
    there, lacking = candidates(cut.images, settings.root)
    return Subject(workspace, pipe, settings, sets, vetted.mends, cut, there, lacking)


@contextmanager
def bench(subject: Subject, command: Sequence[str], declared: Declared) -> Iterator[Bench]:
    """Make a private folder where a run would have its own; gone at every end."""
    home = subject.settings.tmpdir or subject.workspace.attempts
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bpcp-profile-", dir=home))
    try:
        yield Bench(subject, command, declared, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
