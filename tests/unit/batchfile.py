"""A batch file as CellProfiler writes it, only smaller."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

TEXT = h5py.special_dtype(vlen=bytes)
PIPELINE = """\
CellProfiler Pipeline: http://www.cellprofiler.org
Version:5
DateRevision:4281
GitHash:
ModuleCount:2
HasImagePlaneDetails:False

NamesAndTypes:[module_num:1|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Assign a name to:All images

SaveImages:[module_num:2|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Output file location:Default Output Folder sub-folder|out/\\g<Plate>
"""


def put(group: h5py.Group, name: str, values: Sequence[object], first: int = 1) -> None:
    text = isinstance(values[0], str | bytes)
    cells = [v.encode() if isinstance(v, str) else v for v in values]
    data = np.array(cells, dtype=object if text else np.int32)
    own = group.create_group(name)
    own.create_dataset("data", data=data, dtype=TEXT if text else None, maxshape=(None,))
    index = [(i + first, i, i + 1) for i in range(len(values))]
    own.create_dataset("index", data=np.array(index, dtype=np.int64), maxshape=(None, 3))


def packed(group: h5py.Group, blobs: Sequence[bytes]) -> None:
    own = group.create_group("ImageSet_ImageSet")
    own.create_dataset("data", data=np.frombuffer(b"".join(blobs), dtype=np.uint8))
    ends = np.cumsum([0, *map(len, blobs)])
    index = [(i + 1, ends[i], ends[i + 1]) for i in range(len(blobs))]
    own.create_dataset("index", data=np.array(index, dtype=np.int64))


# What CellProfiler packs image sets with: pieces of their text.
DICTIONARY = b'<?xml version="1.0" encoding="UTF-8"?><OME><Image ID="DNA"><UUID FileName="file:/lab'


def pack(url: str) -> bytes:
    """Pack an image set of one file."""
    packer = zlib.compressobj(zdict=DICTIONARY)
    text = f'<OME><Image ID="DNA"><UUID FileName="{url}"/></Image></OME>'
    return packer.compress(text.encode()) + packer.flush()


def unpack(blob: bytes) -> str:
    """Give the text of a packed image set."""
    return zlib.decompressobj(zdict=DICTIONARY).decompress(blob).decode()


def write(
    path: Path,
    text: str,
    columns: Mapping[str, Sequence[object]],
    *,
    mappings: Sequence[tuple[str, str]] = (("", ""),),
    folders_escaped: bool = True,
    empty: bool = False,
    windows: bool = False,
    urls: Sequence[str] = (),
) -> Path:
    """Write a batch file; the columns are those of its image sets.

    Parameters
    ----------
    text : str
        The pipeline as its user wrote it, with CreateBatchFiles not in batch mode.
    folders_escaped : bool
        Whether backslashes are doubled in the pipeline that runs, as CellProfiler does.
    empty : bool
        Whether it holds no image set.
    windows : bool
        Whether it was made on Windows.
    urls : sequence of str
        Those that are packed, one for each image set; without, nothing true is.
    """
    count = len(next(iter(columns.values())))
    runs = text.replace("Hidden- in batch mode:No", "Hidden- in batch mode:Yes")
    if folders_escaped:
        runs = runs.replace("\\", "\\\\")
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([1])
        files = file.create_group("FileList/Default")
        files.attrs["Class"] = "FileListGroup"
        run = file.create_group("Measurements/2026-01-15-09-30-00")
        experiment = run.create_group("Experiment")
        put(experiment, "Pipeline_Pipeline", [runs], first=0)
        put(experiment, "Pipeline_UserPipeline", [text], first=0)
        known = {
            "CaseSensitive": not windows,
            "LocalSeparator": "\\" if windows else "/",
            "PathMappings": mappings,
            "Url2PathnamePackageName": "nturl2path" if windows else "urllib.request",
        }
        put(experiment, "Path_Mappings", [json.dumps(known)], first=0)
        if empty:
            return path
        image = run.create_group("Image")
        put(image, "ImageNumber", list(range(1, count + 1)))
        packed(image, [pack(url) for url in urls] or [b"set %d;" % i for i in range(1, count + 1)])
        if urls:
            own = experiment.create_group("ImageSet_Zip_Dictionary")
            own.create_dataset("data", data=np.frombuffer(DICTIONARY, dtype=np.uint8))
        for name, values in columns.items():
            put(image, name, values)
    return path
