"""Write load_data.csv: as LoadData takes it, whole or not at all, and over nothing unasked."""

from __future__ import annotations

import csv
import filecmp
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bpcp.errors import BpcpError, Exit
from bpcp.images import plates
from bpcp.images.store import ImageSet

_FILE = ("FileName", "PathName")


@dataclass(frozen=True)
class Columns:
    """What stands in each row.

    Attributes
    ----------
    names : dict of str to str
        CellProfiler's name of each channel.
    wells, places, z, t : bool
        Whether there are wells; whether each has a row and a column; whether there are several
        planes and time points.
    extra : tuple of str
        Further metadata.
    """

    names: Mapping[str, str]
    wells: bool
    places: bool
    z: bool
    t: bool
    extra: tuple[str, ...]

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        files = [f"{kind}_{name}" for name in self.names.values() for kind in _FILE]
        return [*files, *(f"Metadata_{name}" for name in (*self._places, *self.extra))]

    @property
    def _places(self) -> list[str]:
        return [
            "Plate",
            *(["Well"] if self.wells else []),
            *(["Row", "Col"] if self.places else []),
            "Site",
            *(["ZPlane"] if self.z else []),
            *(["Timepoint"] if self.t else []),
        ]

    def row(self, found: ImageSet) -> list[str]:
        """Give the row of an image set that has all channels."""
        cells: list[str] = []
        for channel in self.names:
            folder, name = found.files[channel]
            cells += [name, folder]
        cells.append(found.plate)
        if self.wells:
            cells.append(found.well)
        if self.places:
            cells += plates.row_and_column(found.well) or ("", "")
        # instruments leave it out where a well has but one
        cells.append(found.site or "1")
        if self.z:
            cells.append(found.z)
        if self.t:
            cells.append(found.t)
        return [*cells, *(found.extra.get(name, "") for name in self.extra)]


def rows(sets: Iterable[ImageSet], columns: Columns) -> Iterator[list[str]]:
    """Give the header, and a row for each image set that has all channels."""
    yield columns.header
    for image_set in sets:
        if all(channel in image_set.files for channel in columns.names):
            yield columns.row(image_set)


def save(path: Path, lines: Iterable[Sequence[str]], overwrite: bool) -> bool:
    """Write a list; it is there whole or as it was before.

    Returns
    -------
    bool
        Whether it changed; it doesn't where it would be the same.

    Raises
    ------
    BpcpError
        73 where another list is there and may not be overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".bpcp-", suffix=".csv", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            if filecmp.cmp(temporary, path, shallow=False):
                return False
            if not overwrite:
                raise BpcpError(
                    Exit.CANNOT_CREATE,
                    f"{path} is there, with other content",
                    "--overwrite replaces it; --out FILE writes elsewhere",
                )
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return True


def to_stdout(lines: Iterable[Sequence[str]]) -> None:
    """Write a list to stdout."""
    sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
    csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
