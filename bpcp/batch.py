r"""Batch_data.h5: the image sets that CellProfiler makes of a list of files.

A pipeline that reads by Images, Metadata, NamesAndTypes and Groups has no rows to slice: only
CellProfiler knows which files make an image set. So it is asked once, through its own
CreateBatchFiles module, and every process then reads its part of that answer (-f and -l). What
processes read is a copy of it: of the image sets that are run, with the pipeline as its user wrote
it, and with the folders of this machine.

Source: cellprofiler_core 4.2.8.1, utilities/measurement.py (load_measurements),
measurement/_measurements.py (alter_url_post_create_batch), modules/groups.py (prepare_run), and
cellprofiler 4.2.8.1, modules/createbatchfiles.py. That module doubles the backslashes in folders:
"overlays/\g<Plate>" makes a folder of just that name in a run from its file. It keeps the text as
it was under another name, and that is what is run here.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bpcp import ome, staging
from bpcp.cppipe import Text, unfolded
from bpcp.errors import BpcpError, Exit
from bpcp.folders import ADDRESSES, FOLDERS, NOWHERE, Moved
from bpcp.imagelist import ImageList, Row, Type
from bpcp.mend import Mend, mended_further

NAME = "Batch_data.h5"

_PIPELINE, _USER_PIPELINE = "Pipeline_Pipeline", "Pipeline_UserPipeline"
_MAPPINGS = "Path_Mappings"
# an image set as NamesAndTypes packs it, with addresses that only mappings can change
_PACKED = "ImageSet_ImageSet"
_DICTIONARY = "ImageSet_Zip_Dictionary"
_GROUP = ("Group_Number", "Group_Index", "Group_Length")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file, and give it with its last measurements, as CellProfiler takes them."""
    try:
        with h5py.File(path, "r") as file:
            runs = file["Measurements"]
            yield file, runs[max(runs)]
    except (OSError, KeyError, ValueError) as error:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{path}: not a whole CellProfiler batch file or project ({error})",
            "make it anew: ./run_batchfile_pipeline.sh -w, or in CellProfiler",
        ) from error


def _text(run: Any, name: str) -> str:
    """Give an experiment's text; what was written last counts."""
    group = run["Experiment"][name]
    start, end = max(map(tuple, np.atleast_2d(group["index"][()])[:, 1:]))
    value = group["data"][start:end][0]
    return value.decode() if isinstance(value, bytes) else str(value)


def pipeline_text(path: Path) -> str:
    """Give the pipeline in a batch file or project.

    Raises
    ------
    BpcpError
        65 where it holds none.
    """
    with _opened(path) as (_, run):
        return _text(run, _PIPELINE)


def set_pipeline(path: Path, text: str) -> None:
    """Put another pipeline into a project."""
    with h5py.File(path, "r+") as file:
        runs = file["Measurements"]
        _put_text(runs[max(runs)]["Experiment"], _PIPELINE, text)


def in_batch_mode(text: str) -> bool:
    """Tell whether a pipeline's text is of a batch file, rather than of a project."""
    return any(
        # CellProfiler 3 wrote a colon for the first
        (s.label, s.value) in (("Hidden- in batch mode", "Yes"), ("Hidden: in batch mode", "Yes"))
        for block in Text(unfolded(text)).blocks
        for s in block.settings
    )


@dataclass(frozen=True)
class Batch:
    """The image sets of a batch file.

    Attributes
    ----------
    images : ImageList
        One row for each image set, in the order of their ImageNumbers; the columns are what the
        file knows of them (FileName_, PathName_, URL_, Series_, Frame_, Metadata_ …). `lines` are
        ImageNumbers.
    types : tuple of Type
        Of each column.
    groups : list of tuple of str
        The group of each row; one for all where the pipeline does not group.
    numbered : list of tuple of str
        Group_Number, Group_Index and Group_Length of each row; "" where the file lacks one.
    """

    images: ImageList
    types: tuple[Type, ...]
    groups: list[Row]
    numbered: list[Row]


def packing(path: Path) -> str | None:
    """Give the dictionary that image sets are packed by, as Experiment.csv spells it."""
    with _opened(path) as (_, run):
        if _DICTIONARY not in run["Experiment"]:
            return None
        return str(b64encode(run["Experiment"][_DICTIONARY]["data"][()].tobytes()))


def packed(path: Path) -> dict[int, str]:
    """Give each image set as it is packed, as an image table spells it; by ImageNumber."""
    with _opened(path) as (_, run):
        if _PACKED not in run["Image"]:
            return {}
        data, index = (run["Image"][_PACKED][name][()] for name in ("data", "index"))
    return {int(n): str(b64encode(data[start:end].tobytes())) for n, start, end in index}


def count(path: Path) -> int:
    """Count the image sets of a batch file."""
    with _opened(path) as (_, run):
        image = run.get("Image", {})
        return len(image["ImageNumber"]["data"]) if "ImageNumber" in image else 0


def read(path: Path) -> Batch:
    """Read the image sets of a batch file.

    Raises
    ------
    BpcpError
        65 where it is none, or holds no image set.
    """
    with _opened(path) as (_, run):
        image = run.get("Image", {})
        if "ImageNumber" not in image:
            raise BpcpError(Exit.MALFORMED_INPUT, f"{path}: no image sets in it")
        numbers = sorted(int(n) for n in image["ImageNumber"]["data"][()])
        columns: dict[str, tuple[Type, list[str]]] = {}
        for name in sorted(image):
            if name not in ("ImageNumber", _PACKED):
                columns[name] = _column(image[name], numbers)
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{path}: its image sets are not numbered from 1"
            if numbers
            else f"{path}: no image sets in it",
        )
    none = (Type.TEXT, [""] * len(numbers))
    numbered = list(zip(*(columns.pop(name, none)[1] for name in _GROUP), strict=True))
    groups: list[Row] = [row[:1] for row in numbered]
    header = tuple(columns)
    rows = tuple(zip(*(cells for _, cells in columns.values()), strict=True))
    types = tuple(kind for kind, _ in columns.values())
    return Batch(ImageList(header, rows, tuple(numbers)), types, groups, numbered)


def _column(group: Any, numbers: Sequence[int]) -> tuple[Type, list[str]]:
    data: NDArray[Any] = group["data"][()]
    kind = {"i": Type.INTEGER, "u": Type.INTEGER, "f": Type.FLOAT}.get(data.dtype.kind, Type.TEXT)
    places = {int(n): int(start) for n, start, end in group["index"][()] if end > start}
    # most columns repeat a few values, and a million copies of one folder's name are much
    known: dict[Any, str] = {}
    cells = []
    for n in numbers:
        at = places.get(n)
        value = "" if at is None else data[at]
        if value not in known:
            known[value] = value.decode() if isinstance(value, bytes) else str(value)
        cells.append(known[value])
    return kind, cells


def copy(
    source: Path,
    target: Path,
    *,
    keep: Sequence[int] | None = None,
    moved: Moved = NOWHERE,
    own: bool = True,
    mends: Sequence[Mend] = (),
) -> None:
    """Write a batch file to run from.

    Parameters
    ----------
    keep : sequence of int, optional
        The ImageNumbers of the image sets that are run, ascending; they are numbered from 1 in the
        copy, as they would be had CellProfiler never seen the others.
    moved : Moved
        Where its images are on this machine; what bpcp had made names them already.
    own : bool
        Whether bpcp had it made, so that the pipeline is to be as its user wrote it.
    mends : sequence of Mend
        What is changed in the pipeline, where it is not yet.
    """
    moved = NOWHERE if own else moved
    with _opened(source) as (file, run), h5py.File(target, "w") as out:
        for name, item in file.items():
            if name != "Measurements":
                file.copy(item, out, name)
        home = out.create_group("Measurements").create_group(Path(run.name).name)
        for kind in run:
            if kind != "Image":
                run.copy(kind, home)
        experiment = home["Experiment"]
        text = _text(run, _PIPELINE)
        if own:
            text = _text(run, _USER_PIPELINE).replace(
                "\n    Hidden- in batch mode:No", "\n    Hidden- in batch mode:Yes"
            )
        if own or mends:
            _put_text(experiment, _PIPELINE, mended_further(text, mends))
        if moved.maps and _MAPPINGS in experiment:
            _put_text(experiment, _MAPPINGS, ome.unmapped(_text(run, _MAPPINGS)))
        image = home.create_group("Image")
        change = _changes_of(run, moved)
        for name, group in run["Image"].items():
            _copy_column(name, group, image, keep, change(name))
        if keep is not None and _GROUP[0] in image:
            _regroup(image)


def redirect(source: Path, target: Path, mirror: str) -> None:
    """Write a batch file whose images are read in a mirror.

    Parameters
    ----------
    mirror : str
        What is put before every image's path.
    """
    with _opened(source) as (file, run), h5py.File(target, "w") as out:
        for name, item in file.items():
            if name != "Measurements":
                file.copy(item, out, name)
        file.copy(run.parent, out, "Measurements")
        home = out[run.name]
        if _PACKED in home["Image"]:
            known = json.loads(_text(run, _MAPPINGS))
            known["PathMappings"] = [*known["PathMappings"], ["", mirror]]
            _put_text(home["Experiment"], _MAPPINGS, json.dumps(known))
        else:
            # LoadData reads where the columns say
            for name in home["Image"]:
                if name.startswith((*FOLDERS, *ADDRESSES)):
                    data = home["Image"][name]["data"]
                    cells = [staging.rewritten((name,), (v.decode(),), mirror)[0] for v in data[()]]
                    data[()] = np.array([cell.encode() for cell in cells], dtype=object)


def _put_text(experiment: Any, name: str, text: str) -> None:
    dtype = experiment[name]["data"].dtype
    del experiment[name]
    index = np.array([[0, 0, 1]], dtype=np.int64)
    _put(experiment.create_group(name), np.array([text.encode()], dtype=object), dtype, index)


def _put(group: Any, data: NDArray[Any], dtype: Any, index: NDArray[np.int64]) -> None:
    # CellProfiler makes them longer where it measures more
    group.create_dataset("data", data=data, dtype=dtype, maxshape=(None,))
    group.create_dataset("index", data=index, maxshape=(None, 3))


Pieces = list[NDArray[Any]]


def _changes_of(run: Any, moved: Moved) -> Callable[[str], Callable[[Pieces], Pieces] | None]:
    """Say by a column's name how its values, one array for each image set, get to this machine."""
    dictionary = run["Experiment"].get(_DICTIONARY)
    known = dictionary and dictionary["data"][()].tobytes()
    mappings = _text(run, _MAPPINGS) if _MAPPINGS in run["Experiment"] else ""

    def url(old: str) -> str:
        return moved.url(ome.mapped(mappings, old) if mappings else old)

    def unpacked(pieces: Pieces) -> Pieces:
        new = (ome.changed(piece.tobytes(), known, url) for piece in pieces)
        return [np.frombuffer(one, np.uint8) for one in new]

    def cells(name: str, pieces: Pieces) -> Pieces:
        return [
            np.array([moved.cell(name, v.decode()).encode() for v in piece], dtype=object)
            for piece in pieces
        ]

    def change(name: str) -> Callable[[Pieces], Pieces] | None:
        if not moved.maps:
            return None
        if name == _PACKED:
            return unpacked
        return partial(cells, name) if name.startswith((*FOLDERS, *ADDRESSES)) else None

    return change


def _copy_column(
    name: str,
    group: Any,
    image: Any,
    keep: Sequence[int] | None,
    change: Callable[[Pieces], Pieces] | None,
) -> None:
    if keep is None and not change:
        group.copy(group, image, name)
        return
    data, index = group["data"][()], group["index"][()]
    at = {int(n): (int(start), int(end)) for n, start, end in index}
    numbers = [n for n in (sorted(at) if keep is None else keep) if n in at]
    place = {n: n if keep is None else i for i, n in enumerate(keep or numbers, 1)}
    pieces = [data[slice(*at[n])] for n in numbers]
    if change:
        pieces = change(pieces)
    ends = np.cumsum([0, *(len(p) for p in pieces)])
    joined = np.concatenate(pieces) if pieces else data[:0]
    if name == "ImageNumber":
        joined = np.array([place[n] for n in numbers], dtype=data.dtype)
    rows = [(place[n], ends[i], ends[i + 1]) for i, n in enumerate(numbers)]
    index = np.array(rows, dtype=np.int64).reshape(-1, 3)
    _put(image.create_group(name), joined, group["data"].dtype, index)


def _regroup(image: Any) -> None:
    """Give the image sets that are left their places in their groups, and these theirs."""
    before = image[_GROUP[0]]["data"][()]
    _, numbers = np.unique(before, return_inverse=True)
    sizes = np.bincount(numbers)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    values = (numbers + 1, np.arange(len(numbers)) - starts[numbers] + 1, sizes[numbers])
    for name, found in zip(_GROUP, values, strict=True):
        if name in image:
            image[name]["data"][...] = found.astype(before.dtype)
