"""What a pipeline says that matters for cutting and checking a run.

It is CellProfiler's own text (Version:5), alone in a .cppipe file or inside a project or a batch
file: a module's line starts at the margin and ends in a bracket of attributes; its settings follow,
indented, as `label:value`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.mend import Mend, plain
from bpcp.mend import mended as mended_text

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MODULE = re.compile(r"^(?P<name>\w+):\[(?P<attributes>.*)\]\s*$")
# A database server's password, of each ExportToDatabase.
_PASSWORD = re.compile(
    rb"(^ExportToDatabase:\[[^\n]*\n(?:[ \t][^\n]*\n)*?[ \t]+Password:)[^\r\n]+", re.MULTILINE
)
_ENABLED = re.compile(r"\|enabled:(True|False)\|")
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
    """

    path: str
    objects: tuple[str, ...]

    def pattern(self) -> str:
        """Give a regular expression for the paths that the tags may make."""
        out, end = [], 0
        for tag in TAG.finditer(self.path):
            out += [re.escape(self.path[end : tag.start()]), ".*"]
            end = tag.end()
        return "".join([*out, re.escape(self.path[end:])])


@dataclass(frozen=True)
class Pipeline:
    """A pipeline file, read.

    Attributes
    ----------
    path : Path
        A .cppipe file, a project (.cpproj), or a batch file.
    text : bytes
        The pipeline's text in it, without the passwords of database servers: it goes into the
        run's state, and CellProfiler writes it into the result.
    modules : tuple of Module
        The enabled ones.
    """

    path: Path
    text: bytes = field(repr=False)
    modules: tuple[Module, ...]
    kind: Kind = Kind.TEXT

    @property
    def sha256(self) -> str:
        """The digest of its text."""
        return hashlib.sha256(self.text).hexdigest()

    def files(self) -> list[Path]:
        """List the files that modules read beside the images: models, rules, training sets."""
        found = []
        for module in self.modules:
            folder = None
            for _, value in module.settings:
                kind, bar, name = value.partition("|")
                if bar:
                    folder = Path(name) if kind == "Elsewhere..." else None
                elif folder and value and os.path.isfile(folder / value):  # noqa: PTH113 -- or too long a name
                    found.append(folder / value)
        return found

    def named(self, name: str) -> list[Module]:
        """List the enabled modules of a kind."""
        return [m for m in self.modules if m.name == name]

    @property
    def reads_list(self) -> bool:
        """Whether it reads by LoadData; otherwise CellProfiler finds image sets among files."""
        return bool(self.named("LoadData"))

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
            folder = _output_folder(module)
            prefix = (
                module.get("Filename prefix") if _yes(module, "Add a prefix to file names?") else ""
            )
            extension = (
                "csv" if module.get("Select the column delimiter").startswith("Comma") else "txt"
            )
            if _yes(module, "Export all measurement types?"):
                yield Table(f"{folder}{prefix}*.{extension}", ())
                # this one knows no metadata: its folder ends where the first tag begins
                above = folder[: tag.start()] if (tag := TAG.search(folder)) else folder
                above = above[: above.rfind("/") + 1]
                yield Table(f"{above}{prefix}Experiment.{extension}", ("Experiment",))
                continue
            yield from _named_tables(module, folder + prefix, extension)


def _named_tables(module: Module, start: str, extension: str) -> Iterator[Table]:
    """Give the tables that a module lists one by one; objects may share the one before."""
    tables: list[Table] = []
    for name, shares, file, automatic in zip(
        module.all("Data to export"),
        module.all("Combine these object measurements with those of the previous object?"),
        module.all("File name"),
        module.all("Use the object name for the file name?"),
        strict=True,
    ):
        if tables and shares == "Yes" and all(map(_is_objects, (name, tables[-1].objects[-1]))):
            tables[-1] = Table(tables[-1].path, (*tables[-1].objects, name))
        else:
            path = start + (f"{name}.{extension}" if automatic == "Yes" else file)
            tables.append(Table(path, (name,)))
    yield from tables


def _is_objects(name: str) -> bool:
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
        return re.sub(r"^(\./|\.$)", "", folder).rstrip("/") + "/"
    raise BpcpError(
        Exit.MALFORMED_INPUT,
        f"ExportToSpreadsheet (module {module.number}) writes to: {kind} {folder}".rstrip(),
        "set its Output file location to Default Output Folder, or a sub-folder of it",
    )


def read(path: Path) -> Pipeline:
    """Read a pipeline file: .cppipe, .cpproj, or a batch file.

    Raises
    ------
    BpcpError
        66 where it is missing; 65 where it is no pipeline.
    """
    return of_text(path, *_read(path))


def password_of(path: Path, number: int) -> str:
    """Give the password in a pipeline file's ExportToDatabase module; "" where it has none.

    Raises
    ------
    BpcpError
        As `read`.
    """
    data, _ = _read(path)
    modules = modules_in(data.decode("utf-8", "replace").splitlines())
    return next((m.get("Password") for m in modules if m.number == number), "")


def without_passwords(text: bytes) -> bytes:
    """Give a pipeline's text without the passwords of database servers."""
    return _PASSWORD.sub(rb"\1", text)


def _read(path: Path) -> tuple[bytes, Kind]:
    kind = Kind.TEXT
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
        data, kind = text.encode(), Kind.BATCH if batch.in_batch_mode(text) else Kind.PROJECT
    if not data.startswith(b"CellProfiler Pipeline:"):
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"not a CellProfiler pipeline (.cppipe, .cpproj, Batch_data.h5): {path}",
        )
    return data, kind


def of_text(path: Path, text: bytes, kind: Kind) -> Pipeline:
    """Give a pipeline of a text."""
    text = without_passwords(text)
    lines = text.decode("utf-8", "replace").splitlines()
    return Pipeline(path, text, tuple(modules_in(lines)), kind)


def mended(pipe: Pipeline, mends: Sequence[Mend]) -> Pipeline:
    """Give a pipeline with some settings changed, as `mend.mended` does."""
    if not mends:
        return pipe
    text = mended_text(pipe.text.decode("utf-8", "surrogateescape"), mends)
    return of_text(pipe.path, text.encode("utf-8", "surrogateescape"), pipe.kind)


def modules_in(lines: Sequence[str]) -> Iterator[Module]:
    """Give the enabled modules of a pipeline's lines, with settings as CellProfiler reads them."""
    number, name, enabled = 0, "", False
    settings: list[tuple[str, str]] = []
    for line in [*lines, "End:[]"]:
        head = _MODULE.match(line)
        if head:
            if name and enabled:
                yield Module(name, number, tuple(settings))
            number, name, settings = number + 1, head["name"], []
            flags = _ENABLED.findall(head["attributes"])
            enabled = not flags or flags[-1] == "True"
        elif name and line.startswith(" ") and ":" in line:
            label, _, value = line.strip().partition(":")
            settings.append((label, plain(value)))


def _neighbours(path: Path) -> str:
    there = sorted(p.name for p in path.parent.glob("*.cpp*")) if path.parent.is_dir() else []
    return (
        f"in {path.parent}: {', '.join(there)}" if there else f"{path.parent} holds no .cppipe file"
    )
