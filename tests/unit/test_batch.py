from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import batchfile
import h5py
import numpy as np
import pytest
from conftest import HOSTILE, refused
from cp3 import version_4

from bpcp import batch, mend, pipeline
from bpcp.cppipe import Text
from bpcp.errors import Exit
from bpcp.folders import moved_of
from bpcp.imagelist import Type
from bpcp.pipeline import Kind

TEXT = mend.with_create_batch(batchfile.PIPELINE)
GROUPS = {
    "Group_Number": [1, 1, 2, 3, 3],
    "Group_Index": [1, 2, 1, 1, 2],
    "Group_Length": [2, 2, 1, 2, 2],
}
COLUMNS: dict[str, Sequence[object]] = {
    "FileName_DNA": ["a.tif", "b.tif", "c.tif", f"{HOSTILE}.tif", "e.tif"],
    "PathName_DNA": ["/lab/p1", "/lab/p1", "/lab/p2", "/lab/p2", "/other"],
    "URL_DNA": [f"file:/lab/{n}%20x.tif" for n in "abcd"] + ["file:/other/e.tif"],
    "Series_DNA": [0, 0, 1, 0, 0],
    "Metadata_Site": ["01", "02", "01", "A", "01"],
}


def made(folder: Path, **columns: Sequence[object]) -> Path:
    return batchfile.write(folder / batch.NAME, TEXT, {**COLUMNS, **columns})


def experiment(path: Path, name: str) -> str:
    with h5py.File(path) as file:
        (run,) = file["Measurements"].values()
        value: bytes = run["Experiment"][name]["data"][-1]
    return value.decode()


def column(path: Path, name: str) -> list[Any]:
    """Read a column as CellProfiler does: by its index."""
    with h5py.File(path) as file:
        (run,) = file["Measurements"].values()
        group = run["Image"][name]
        index = sorted(map(tuple, group["index"][()]))
        assert [number for number, _, _ in index] == list(range(1, len(index) + 1))
        found = [group["data"][start:end] for _, start, end in index]
    return [v[0] if len(v) == 1 else v.tobytes() for v in found]


def test_the_module_is_added_and_taken_away_again() -> None:
    assert "ModuleCount:3\n" in TEXT
    assert TEXT.count("CreateBatchFiles:[module_num:3|") == 1
    assert mend.without_create_batch(TEXT) == batchfile.PIPELINE


def test_a_text_without_a_count_of_modules_needs_none() -> None:
    text = batchfile.PIPELINE.replace("ModuleCount:2\n", "")
    found = Text(mend.with_create_batch(text))
    assert found.count is None
    assert found.blocks[-1].name == "CreateBatchFiles" and len(found.blocks) == 3


def test_a_batch_file_of_cellprofiler_3_is_one() -> None:
    for state, runs in (("Yes", True), ("No", False)):
        text = TEXT.replace("Hidden- in batch mode:No", f"Hidden- in batch mode:{state}")
        old = version_4(text).replace("Hidden- in", "Hidden\\x3A in")
        assert batch.in_batch_mode(old) is runs
        assert batch.in_batch_mode(old.encode("unicode_escape").decode()) is runs


def test_image_sets_are_rows_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = batch.read(made(tmp_path))
    assert found.images.header == tuple(sorted(COLUMNS))
    assert found.images.lines == (1, 2, 3, 4, 5)
    at = found.images.column("FileName_DNA")
    assert [row[at] for row in found.images.rows] == COLUMNS["FileName_DNA"]
    kinds = dict(zip(found.images.header, found.types, strict=True))
    assert kinds["Series_DNA"] is Type.INTEGER
    assert kinds["Metadata_Site"] is Type.TEXT
    assert len(set(found.groups)) == 1


def test_groups_are_those_that_cellprofiler_numbered(tmp_path: Path) -> None:
    found = batch.read(made(tmp_path, **GROUPS))
    assert found.groups == [("1",), ("1",), ("2",), ("3",), ("3",)]
    assert "Group_Number" not in found.images.header


def test_a_pipeline_is_read_from_it(tmp_path: Path) -> None:
    found = pipeline.read(made(tmp_path))
    assert found.kind is Kind.BATCH
    assert [m.name for m in found.modules] == ["NamesAndTypes", "SaveImages", "CreateBatchFiles"]


def test_a_project_is_told_from_a_batch_file(tmp_path: Path) -> None:
    path = made(tmp_path)
    batch.set_pipeline(path, batchfile.PIPELINE)
    found = pipeline.read(path)
    assert found.kind is Kind.PROJECT
    assert found.text.decode() == batchfile.PIPELINE


def test_the_copy_runs_the_users_own_pipeline(tmp_path: Path) -> None:
    source = made(tmp_path)
    assert "out/\\\\g<Plate>" in batch.pipeline_text(source), "as CellProfiler leaves it"
    batch.copy(source, tmp_path / "images.h5")
    text = batch.pipeline_text(tmp_path / "images.h5")
    assert text == TEXT.replace("in batch mode:No", "in batch mode:Yes")
    batch.copy(source, tmp_path / "given.h5", own=False)
    assert batch.pipeline_text(tmp_path / "given.h5") == batch.pipeline_text(source)


def test_the_copy_holds_the_image_sets_that_are_run_and_numbers_them_anew(tmp_path: Path) -> None:
    source = made(tmp_path, **GROUPS)
    batch.copy(source, tmp_path / "images.h5", keep=[2, 4, 5])
    copy = tmp_path / "images.h5"
    assert column(copy, "ImageNumber") == [1, 2, 3]
    assert column(copy, "ImageSet_ImageSet") == [b"set 2;", b"set 4;", b"set 5;"]
    assert column(copy, "FileName_DNA") == [b"b.tif", f"{HOSTILE}.tif".encode(), b"e.tif"]
    assert column(copy, "Group_Number") == [1, 2, 2]
    assert column(copy, "Group_Index") == [1, 1, 2]
    assert column(copy, "Group_Length") == [1, 2, 2]
    assert [row[0] for row in batch.read(copy).images.rows] == [
        "b.tif", f"{HOSTILE}.tif", "e.tif",
    ]  # fmt: skip


def test_cellprofiler_can_make_the_copys_columns_longer(tmp_path: Path) -> None:
    batch.copy(made(tmp_path), tmp_path / "images.h5", keep=[1, 3])
    with h5py.File(tmp_path / "images.h5") as file:
        (run,) = file["Measurements"].values()
        for group in (*run["Image"].values(), run["Experiment"]["Pipeline_Pipeline"]):
            assert group["data"].maxshape == (None,)
            assert group["index"].maxshape == (None, 3)


URLS = [f"file:/lab/{n}%20x.tif" for n in "abcd"] + ["file:/other/e.tif"]


def test_the_copy_names_the_folders_of_this_machine(tmp_path: Path) -> None:
    source = batchfile.write(tmp_path / batch.NAME, TEXT, COLUMNS, urls=URLS)
    moved = moved_of([f"/lab=/data/{HOSTILE}"])
    batch.copy(source, tmp_path / "images.h5", moved=moved, own=False, keep=[1, 5])
    copy = tmp_path / "images.h5"
    assert column(copy, "PathName_DNA") == [f"/data/{HOSTILE}/p1".encode(), b"/other"]
    assert column(copy, "URL_DNA")[0].startswith(b"file:/data/it%27s")
    first, other = packed(copy)
    assert 'FileName="file:/data/it%27s' in first and '/a%20x.tif"/></Image>' in first
    assert 'FileName="file:/other/e.tif"' in other
    assert json.loads(experiment(copy, "Path_Mappings"))["PathMappings"] == []


def packed(path: Path) -> list[str]:
    return [batchfile.unpack(bytes(blob)) for blob in column(path, "ImageSet_ImageSet")]


def test_what_bpcp_had_made_names_the_files_of_this_machine_already(tmp_path: Path) -> None:
    source = batchfile.write(tmp_path / batch.NAME, TEXT, COLUMNS, urls=URLS)
    batch.copy(source, tmp_path / "images.h5", moved=moved_of(["/lab=/lab/new"]))
    assert column(tmp_path / "images.h5", "PathName_DNA")[0] == b"/lab/p1"
    assert 'FileName="file:/lab/a%20x.tif"' in packed(tmp_path / "images.h5")[0]


def test_maps_go_on_where_the_files_own_end(tmp_path: Path) -> None:
    files = ["file:/laptop/a.tif", "file:/x/b.tif", "file:/lab/c.tif", "file:/q/d.tif", "s3://e"]
    own = [("/laptop", "/lab"), ("/x", "/y")]
    source = batchfile.write(tmp_path / batch.NAME, TEXT, COLUMNS, mappings=own, urls=files)
    batch.copy(source, tmp_path / "images.h5", moved=moved_of(["/lab=/data"]), own=False)
    found = [text.split('FileName="')[1].split('"')[0] for text in packed(tmp_path / "images.h5")]
    assert found == [
        "file:/data/a.tif", "file:/y/b.tif", "file:/data/c.tif", "file:/q/d.tif", "s3://e",
    ]  # fmt: skip


def test_a_batch_file_of_windows_gets_the_folders_of_this_machine(tmp_path: Path) -> None:
    names = [f"{n} x.tif" for n in "abcde"]
    columns = {
        "FileName_DNA": names,
        "PathName_DNA": ["E:/Screen/p1"] * 3 + [r"e:\screen\p1", r"\\server\s\p2"],
        "URL_DNA": [f"file:///E:/Screen/p1/{n}%20x.tif" for n in "abcd"] + ["file://server/s/p2/e"],
    }
    source = batchfile.write(
        tmp_path / batch.NAME, TEXT, columns, windows=True, urls=columns["URL_DNA"]
    )
    moved = moved_of([r"E:\screen=/data", r"\\server\s=/mnt/s"])
    batch.copy(source, tmp_path / "images.h5", moved=moved, own=False)
    copy = tmp_path / "images.h5"
    assert column(copy, "PathName_DNA") == [b"/data/p1"] * 4 + [b"/mnt/s/p2"]
    assert column(copy, "URL_DNA")[0] == b"file:///data/p1/a%20x.tif"
    assert 'FileName="file:///data/p1/a%20x.tif"' in packed(copy)[0]
    assert 'FileName="file:///mnt/s/p2/e"' in packed(copy)[4]


def test_a_mirror_is_one_more_mapping_and_the_columns_stay(tmp_path: Path) -> None:
    source = made(tmp_path)
    batch.redirect(source, tmp_path / "images.h5", f"/ram/{HOSTILE}")
    copy = tmp_path / "images.h5"
    mappings = json.loads(experiment(copy, "Path_Mappings"))["PathMappings"]
    assert mappings == [["", ""], ["", f"/ram/{HOSTILE}"]]
    assert column(copy, "PathName_DNA") == column(source, "PathName_DNA")


def test_loaddatas_columns_name_the_mirror_themselves(tmp_path: Path) -> None:
    source = made(tmp_path)
    with h5py.File(source, "r+") as file:
        (run,) = file["Measurements"].values()
        del run["Image"]["ImageSet_ImageSet"]
    batch.redirect(source, tmp_path / "images.h5", "/ram/m")
    assert column(tmp_path / "images.h5", "PathName_DNA")[0] == b"/ram/m/lab/p1"
    assert column(tmp_path / "images.h5", "URL_DNA")[0] == b"file:/ram/m/lab/a%20x.tif"


def test_what_is_no_batch_file_is_refused(tmp_path: Path) -> None:
    whole = made(tmp_path).read_bytes()
    for content in (whole[:3000], whole[: len(whole) // 2], b"\x89HDF\r\n\x1a\n", b"x"):
        path = tmp_path / "broken.h5"
        path.write_bytes(content)
        assert refused(Exit.MALFORMED_INPUT, "broken.h5: not a whole", batch.read, path).todo


@pytest.mark.parametrize("numbers", [[2, 3], [1, 3], [0, 1]])
def test_image_sets_that_are_not_numbered_from_1_are_refused(
    tmp_path: Path, numbers: list[int]
) -> None:
    path = batchfile.write(tmp_path / batch.NAME, TEXT, {"FileName_DNA": ["a", "b"]})
    with h5py.File(path, "r+") as file:
        (run,) = file["Measurements"].values()
        run["Image"]["ImageNumber"]["data"][...] = numbers
    refused(Exit.MALFORMED_INPUT, "not numbered from 1", batch.read, path)


def test_a_file_without_image_sets_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path)
    with h5py.File(path, "r+") as file:
        (run,) = file["Measurements"].values()
        del run["Image"]
    refused(Exit.MALFORMED_INPUT, "no image sets in it", batch.read, path)


def test_the_dictionary_is_spelled_as_in_an_experiment_table(tmp_path: Path) -> None:
    path = made(tmp_path)
    assert batch.packing(path) is None
    with h5py.File(path, "r+") as file:
        (run,) = file["Measurements"].values()
        own = run["Experiment"].create_group("ImageSet_Zip_Dictionary")
        own.create_dataset("data", data=np.frombuffer(b"<?xml", dtype=np.uint8))
    assert batch.packing(path) == "b'PD94bWw='"


def test_packed_image_sets_are_spelled_as_in_an_image_table(tmp_path: Path) -> None:
    assert batch.packed(made(tmp_path))[2] == "b'c2V0IDI7'"
