"""Files that a pipeline reads beside its images, and where CellProfiler looks for them.

Source: cellprofiler_core 4.2.8.1, setting/text/_directory.py (get_absolute_path),
preferences/__init__.py (get_default_image_directory).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bpcp import cellprofiler
from bpcp.folders import NOWHERE, Moved
from bpcp.pipeline import Kind, Module, Pipeline
from bpcp.publish import sha256
from bpcp.settings import Settings

OUT = "Default Output Folder"
BELOW_OUT = "Default Output Folder sub-folder"
IN = "Default Input Folder"
BELOW_IN = "Default Input Folder sub-folder"
ELSEWHERE = "Elsewhere..."
# What older pipelines call these.
_KINDS = {
    "Absolute path elsewhere": ELSEWHERE,
    "Default output directory sub-folder": BELOW_OUT,
    "Default input directory sub-folder": BELOW_IN,
}
ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]|\\\\(?!g<)")
_AT_SAVE = "Hidden- default input folder at time of save"
# LoadData's own list: a run names it by --data-file, and the setting is never looked at.
_LIST = "Input data file location"


@dataclass(frozen=True)
class Folder:
    """A setting that names a folder.

    Attributes
    ----------
    kind : str
        CellProfiler's word for what it is below: "Elsewhere...", "Default Output Folder" …
    path : str
        The rest, with its metadata tags.
    """

    kind: str
    path: str

    @classmethod
    def of(cls, value: str) -> Folder:
        """Read a setting."""
        kind, _, path = value.partition("|")
        return cls(_KINDS.get(kind, kind), path)

    @property
    def is_within(self) -> bool:
        """Whether it is the default output folder, or below it."""
        return self.kind == OUT or (
            self.kind == BELOW_OUT
            and not ABSOLUTE.match(self.path)
            and ".." not in Path(self.path).parts
        )

    @property
    def is_named(self) -> bool:
        """Whether CellProfiler looks at the rest."""
        return self.kind not in (OUT, IN)

    def __str__(self) -> str:
        return f"{self.kind} {self.path}".rstrip()


@dataclass(frozen=True)
class Places:
    """Where the folders of settings are on this machine.

    Attributes
    ----------
    root : Path
        Where a process is started: relative folders lie below it.
    named : Path or None
        The Default Input Folder that the user names, or that a batch file remembers.
    moved : Moved
        Folders that are elsewhere on this machine.
    """

    root: Path
    named: Path | None = None
    moved: Moved = NOWHERE

    @cached_property
    def input_folder(self) -> Path | None:
        """The Default Input Folder; without a name the home folder, None if that can't be told."""
        if self.named is not None:
            return self.named
        # a container or a wrapper may have another home
        own = cellprofiler.python_of(cellprofiler.command())
        return Path(os.path.abspath(os.path.expanduser("~"))) if own else None  # noqa: PTH100, PTH111

    def find(self, folder: Folder) -> Path | None:
        """Give the folder that CellProfiler reads from; None where that can't be told.

        Metadata have no meaning there: it takes what stands above the first of them.
        """
        if folder.kind == IN:
            return self.input_folder
        if folder.kind not in (BELOW_IN, ELSEWHERE):
            return None
        above = self.input_folder if folder.kind == BELOW_IN else self.root
        path, tag, _ = folder.path.partition(r"\g<")
        path = path.replace("\\\\", "\\")
        if tag:
            path = os.path.split(path)[0]
        if ABSOLUTE.match(path) and not path.startswith("/"):
            # of Windows: it is nowhere here, and should be called what it is
            return Path(path)
        return above and Path(os.path.abspath(above / path))  # noqa: PTH100


def places(pipe: Pipeline, settings: Settings) -> Places:
    """Give the places of a run."""
    named = settings.input_folder
    if named is None and pipe.kind is Kind.BATCH:
        # a batch file remembers it, and CellProfiler goes back to it where it is there
        saved = [m.get(_AT_SAVE) for m in pipe.named("CreateBatchFiles")]
        named = next((Path(name) for name in saved if name and Path(name).is_dir()), None)
    return Places(settings.root, named, settings.moved)


def _folders(module: Module) -> list[Folder]:
    at = (Folder.of(value) for label, value in module.settings if label != _LIST and "|" in value)
    return list(at)


def identity(pipe: Pipeline, settings: Settings) -> list[str]:
    """Give what a run's result depends on beside its images, as texts."""
    named = settings.input_folder
    uses = any(f.kind in (IN, BELOW_IN) for m in pipe.modules for f in _folders(m))
    found = [f"-i {named}"] if named and uses else []
    return found + [f"{path} {sha256(path)}" for path in files(pipe, places(pipe, settings))]


def files(pipe: Pipeline, where: Places) -> list[Path]:
    """List the files that modules read beside the images: models, rules, training sets.

    No table says where plugins name theirs: what follows a folder and is a file there counts.
    """
    found = []
    for module in pipe.modules:
        folder: Path | None = None
        for label, value in module.settings:
            if label == _LIST:
                folder = None
            elif "|" in value:
                folder = where.find(Folder.of(value))
            elif folder and value and os.path.isfile(folder / value):  # noqa: PTH113 -- or too long
                found.append(folder / value)
    return found
