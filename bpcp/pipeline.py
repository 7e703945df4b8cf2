"""What a pipeline says that matters for cutting and checking a run.

It is CellProfiler's own text, alone in a .cppipe file or inside a project or a batch file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from pathlib import Path

from bpcp import cppipe
from bpcp.errors import BpcpError, Exit
from bpcp.mend import Mend
from bpcp.mend import mended as mended_text

_HDF5 = b"\x89HDF\r\n\x1a\n"
# A database server's password, of each ExportToDatabase.
_PASSWORD = re.compile(
    rb"(^ExportToDatabase:\[[^\n]*\n(?:[ \t][^\n]*\n)*?[ \t]+Password:)[^\r\n]+", re.MULTILINE
)
TAG = re.compile(r"\\g<(.+?)>|\(\?<(.+?)>\)")


@dataclass(frozen=True)
class Module:
    """One enabled module: its name, its 1-based place, and its settings in order."""

    name: str
    number: int
    settings: tuple[tuple[str, str], ...]

    def get(self, label: str, default: str = "") -> str:
        """Give the first setting with this label."""
        return next((value for key, value in self.settings if key == label), default)

    def all(self, label: str) -> list[str]:
        """Give all settings with this label, in order."""
        return [value for key, value in self.settings if key == label]


class Kind(str, Enum):
    """What a pipeline file is."""

    TEXT = "pipeline"
    PROJECT = "project"
    BATCH = "batch file"


@dataclass(frozen=True)
class Table:
    """A table that ExportToSpreadsheet will write.

    Attributes
    ----------
    path : str
        Where, relative to the default output folder, with CellProfiler's metadata tags in it.
    objects : tuple of str
        Whose measurements: "Image", "Experiment", "Object relationships", or object names; empty
        where the pipeline leaves it to CellProfiler ("all measurement types").
    nulls : bool
        Whether nothing stands where a number is not one, instead of "nan".
    """

    path: str
    objects: tuple[str, ...]
    nulls: bool = False

    def pattern(self) -> str:
        """Give a regular expression for the paths that the tags may make."""
        out, end = [], 0
        for tag in TAG.finditer(self.path):
            out += [_literal(self.path[end : tag.start()]), ".*"]
            end = tag.end()
        return "".join([*out, _literal(self.path[end:])])


def _literal(text: str) -> str:
    """Give a regular expression for what no tag fills; two backslashes are one to CellProfiler."""
    return re.escape(text.replace("\\\\", "\\"))


@dataclass(frozen=True)
class Pipeline:
    """A pipeline file, read.

    Attributes
    ----------
    path : Path
        A .cppipe file, a project (.cpproj), or a batch file.
    text : bytes
        The pipeline's text in it, as CellProfiler can read it, without the passwords of database
        servers: it goes into the run's state, and CellProfiler writes it into the result.
    modules : tuple of Module
        The enabled ones.
    folded : bool
        Whether the text in the file is one line, as in projects of CellProfiler 3.
    own : cppipe.Text or None
        The text as it is in the file, where `text` is what CellProfiler makes of that.
    """

    path: Path
    text: bytes = field(repr=False)
    modules: tuple[Module, ...]
    kind: Kind = Kind.TEXT
    folded: bool = False
    own: cppipe.Text | None = field(default=None, repr=False, compare=False)

    @cached_property
    def content(self) -> cppipe.Text:
        """Its text, by modules, also those that are disabled or that CellProfiler does not read."""
        return cppipe.Text(self.text.decode("utf-8", "surrogateescape"))

    @property
    def written(self) -> cppipe.Text:
        """The text as it is in the file, in lines."""
        return self.own or self.content

    @property
    def sha256(self) -> str:
        """The digest of its text."""
        return hashlib.sha256(self.text).hexdigest()

    def named(self, name: str) -> list[Module]:
        """List the enabled modules of a kind."""
        return [m for m in self.modules if m.name == name]

    @property
    def reads_list(self) -> bool:
        """Whether it reads by LoadData; otherwise CellProfiler finds image sets among files."""
        return bool(self.named("LoadData"))

    @property
    def lists_files(self) -> bool:
        """Whether a list of images stands behind its modules ("saved with the file list")."""
        return self.content.header.get("HasImagePlaneDetails", "").strip() == "True"

    @property
    def group_keys(self) -> tuple[str, ...]:
        """The metadata tags by which LoadData or Groups groups; empty where it does not."""
        for load in self.named("LoadData"):
            if load.get("Group images by metadata?") == "Yes":
                tags = load.get("Select metadata tags for grouping").split(",")
                return tuple(tag.strip() for tag in tags if tag.strip())
        for groups in self.named("Groups"):
            if groups.get("Do you want to group your images?") == "Yes":
                return tuple(groups.all("Metadata category"))
        return ()

    @property
    def is_3d(self) -> bool:
        """Whether NamesAndTypes makes volumes; LoadData makes none."""
        return any(m.get("Process as 3D?") == "Yes" for m in self.named("NamesAndTypes"))

    @property
    def image_base(self) -> str:
        """LoadData's "Base image location": the kind of folder, and behind "|" its name."""
        return next(
            (m.get("Base image location", "None|") for m in self.named("LoadData")), "None|"
        )

    def follows_folders(self) -> bool:
        """Tell whether files go to folders named after those of the images."""
        return any(
            m.get("Create subfolders in the output folder?", "No") == "Yes"
            for m in self.named("SaveImages")
        )

    def tables(self) -> Iterator[Table]:
        """Give what each ExportToSpreadsheet will write.

        Raises
        ------
        BpcpError
            65 where one writes to a fixed folder: chunks would overwrite each other there.
        """
        for module in self.named("ExportToSpreadsheet"):
            yield from tables_of(module)


def tables_of(module: Module) -> Iterator[Table]:
    """Give what an ExportToSpreadsheet will write; see `Pipeline.tables`."""
    folder = _output_folder(module)
    prefix = module.get("Filename prefix") if _yes(module, "Add a prefix to file names?") else ""
    extension = "csv" if module.get("Select the column delimiter").startswith("Comma") else "txt"
    if not _yes(module, "Export all measurement types?"):
        yield from _named_tables(module, folder + prefix, extension)
        return
    nulls = module.get("Representation of Nan/Inf") == "Null"
    yield Table(f"{folder}{prefix}*.{extension}", (), nulls)
    # this one knows no metadata: its folder ends above the first tag of the newer kind
    above, tag, _ = folder.partition("\\g<")
    above = above[: above.rfind("/") + 1] if tag else folder
    yield Table(f"{above}{prefix}Experiment.{extension}", ("Experiment",))


def _named_tables(module: Module, start: str, extension: str) -> Iterator[Table]:
    """Give the tables that a module lists one by one; objects may share the one before."""
    nulls = module.get("Representation of Nan/Inf") == "Null"
    tables: list[Table] = []
    for name, shares, file, automatic in zip(
        module.all("Data to export"),
        module.all("Combine these object measurements with those of the previous object?"),
        module.all("File name"),
        module.all("Use the object name for the file name?"),
        # a file that was cut off lacks some
        strict=False,
    ):
        if tables and shares == "Yes" and all(map(is_objects, (name, tables[-1].objects[-1]))):
            tables[-1] = Table(tables[-1].path, (*tables[-1].objects, name), nulls)
        else:
            path = _joined(start + (f"{name}.{extension}" if automatic == "Yes" else file))
            tables.append(Table(path, (name,), nulls))
    yield from tables


def _joined(path: str) -> str:
    """Give a path without the folders that are none: "./a//b/" is "a/b/"."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/".join(parts) + ("/" if parts and path.endswith("/") else "")


def is_objects(name: str) -> bool:
    """Tell whether a table of ExportToSpreadsheet is one of objects."""
    return name not in ("Image", "Experiment", "Object relationships")


def _yes(module: Module, label: str) -> bool:
    return module.get(label) == "Yes"


def _output_folder(module: Module) -> str:
    kind, _, folder = module.get("Output file location").partition("|")
    if kind == "Default Output Folder":
        return ""
    if (
        kind == "Default Output Folder sub-folder"
        and not folder.startswith("/")
        and ".." not in Path(folder).parts
    ):
        return _joined(folder + "/")
    raise BpcpError(
        Exit.MALFORMED_INPUT,
        f"ExportToSpreadsheet (module {module.number}) writes to: {kind} {folder}".rstrip(),
        "set its 'Output file location' to Default Output Folder, or a sub-folder of it",
    )


def read(path: Path) -> Pipeline:
    """Read a pipeline file: .cppipe, .cpproj, or a batch file.

    Raises
    ------
    BpcpError
        66 where it is missing; 65 where it is no pipeline.
    """
    text, kind, folded = _read(path)
    return replace(of_text(path, text.encode("utf-8", "surrogateescape"), kind), folded=folded)


def password_of(path: Path, number: int) -> str:
    """Give the password in a pipeline file's ExportToDatabase module; "" where it has none.

    Raises
    ------
    BpcpError
        As `read`.
    """
    modules = modules_of(cppipe.Text(_read(path)[0]))
    return next((m.get("Password") for m in modules if m.number == number), "")


def without_passwords(text: bytes) -> bytes:
    """Give a pipeline's text without the passwords of database servers."""
    return _PASSWORD.sub(rb"\1", text)


def _read(path: Path) -> tuple[str, Kind, bool]:
    """Give a pipeline's text, what the file is, and whether the text in it is one line."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BpcpError(Exit.NO_INPUT, f"no pipeline: {path}", _neighbours(path)) from None
    except IsADirectoryError:
        raise BpcpError(
            Exit.NO_INPUT, f"a folder, not a pipeline: {path}", _neighbours(path / "x")
        ) from None
    if data.startswith(_HDF5):
        from bpcp import batch

        text = batch.pipeline_text(path)
        kind = Kind.BATCH if batch.in_batch_mode(text) else Kind.PROJECT
    else:
        text, kind = cppipe.decoded(data), Kind.TEXT
    if not text.startswith("CellProfiler Pipeline:"):
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"not a CellProfiler pipeline (.cppipe, .cpproj, Batch_data.h5): {path}",
            "open it in CellProfiler, and export the pipeline as a .cppipe file"
            if path.suffix == ".json"
            else "",
        )
    whole = cppipe.unfolded(text)
    return whole, kind, whole != text


def of_text(path: Path, text: bytes, kind: Kind = Kind.TEXT) -> Pipeline:
    """Give a pipeline of a text."""
    text = without_passwords(text)
    content = cppipe.Text(text.decode("utf-8", "surrogateescape"))
    return Pipeline(path, text, tuple(modules_of(content)), kind)


def mended(pipe: Pipeline, mends: Sequence[Mend]) -> Pipeline:
    """Give a pipeline with some settings changed, as `mend.mended` does."""
    if not mends:
        return pipe
    text = mended_text(str(pipe.content), mends)
    changed = of_text(pipe.path, text.encode("utf-8", "surrogateescape"), pipe.kind)
    return replace(changed, own=pipe.own)


def modules_of(text: cppipe.Text, *, every: bool = False) -> Iterator[Module]:
    """Give the modules that CellProfiler reads: the enabled ones, or every one."""
    for number, block in enumerate(text.blocks, 1):
        if every or block.enabled:
            yield Module(block.name, number, tuple((s.label, s.value) for s in block.settings))


def _neighbours(path: Path) -> str:
    there = sorted(p.name for p in path.parent.glob("*.cpp*")) if path.parent.is_dir() else []
    return (
        f"in {path.parent}: {', '.join(there)}" if there else f"{path.parent} holds no .cppipe file"
    )
