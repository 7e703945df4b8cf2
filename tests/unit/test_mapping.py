r"""--map as the commands take it: what it fits, what it changes, and which one a remedy names."""

from __future__ import annotations

import shlex
from pathlib import Path

import batchfile
import h5py
import pytest
from conftest import EXPORT, HOSTILE, Screen, load_data
from test_beside import asked, missing
from test_check_pipeline import module, piped, rules

from bpcp import beside, elsewhere, filelist, mapping, pipeline, selection
from bpcp.check import files
from bpcp.check.pipeline import of_pipeline
from bpcp.folders import NOWHERE, moved_of
from bpcp.imagelist import ImageList
from bpcp.pipeline import Pipeline, mended

ROOT = Path("/root of images")


def idle(screen: Screen, *maps: str, pipe: Pipeline | None = None) -> list[str]:
    settings = asked(screen, *(f"--map={m}" for m in maps))
    return mapping.idle(screen.workspace, pipe or piped(EXPORT), settings)


# --- a map that fits nothing ----------------------------------------------------------------------


def test_a_map_that_fits_no_row_is_told(screen: Screen) -> None:
    screen.workspace.image_list.parent.mkdir(parents=True)
    screen.workspace.image_list.write_text(
        "FileName_A,PathName_A,URL_B,FileName_C\n"
        "a.tif,E:\\one,file:///F:/two/b.tif,G:\\three\\c.tif\n"
    )
    assert idle(screen, "e:/ONE=/x", "F:/=/y", r"G:\three=/z") == []
    (said,) = idle(screen, r"E:\on=/x", "F:/two=/y")
    assert said == r"--map 'E:\on' fits no path; the most similar is E:\one"
    # relative folders are below the pipeline's own
    screen.workspace.image_list.write_text("FileName_A,PathName_A\na.tif,p\n")
    pipe = piped(EXPORT, load=load_data(base="Elsewhere...|E:\\base"))
    assert idle(screen, r"E:\base\p=/x", pipe=pipe) == []
    assert len(idle(screen, r"E:\base\q=/x", pipe=pipe)) == 1


def test_a_map_that_fits_no_line_of_a_list_is_told(screen: Screen) -> None:
    screen.workspace.file_list.parent.mkdir(parents=True)
    screen.workspace.file_list.write_text("\n/lab/a.tif\nfile:///E:/b%20c/d.tif\nsub/e.tif\n")
    pipe = piped(EXPORT, load=module("Images"))
    assert idle(screen, "/lab=/x", r"E:\b c=/y", f"{screen.base}/sub=/z", pipe=pipe) == []
    (said,) = idle(screen, "/Lab=/x", r"E:\b c=/y", pipe=pipe)
    assert said.endswith("the most similar is /lab/a.tif")
    screen.workspace.file_list.write_bytes(b"\xff")
    assert idle(screen, "/Lab=/x", pipe=pipe) == []


def test_a_map_that_fits_no_file_of_a_project_a_text_or_a_batch_file_is_told(
    screen: Screen, tmp_path: Path
) -> None:
    listed = '\n"Version":"1","PlaneCount":"1"\n"URL","Series"\n"file:///E:/s/a.tif",,,\n'
    text = f"CellProfiler Pipeline: x\nHasImagePlaneDetails:True\n{module('Images')}{listed}"
    pipe = pipeline.of_text(tmp_path / "x.cppipe", text.encode())
    assert idle(screen, "E:/s=/x", pipe=pipe) == []
    assert len(idle(screen, "E:/t=/x", pipe=pipe)) == 1

    project = batchfile.write(tmp_path / "x.cpproj", batchfile.PIPELINE, {"FileName_A": ["a"]})
    with h5py.File(project, "r+") as file:
        group = file["FileList/Default"]
        for part in filelist._parts("file:///E:/s/a.tif")[:-1]:
            group = group.require_group(filelist._encoded(part))
            group.attrs["Class"] = "Directory"
        filelist._put(group, [b"a.tif"])
    pipe = pipeline.of_text(project, batchfile.PIPELINE.encode(), pipeline.Kind.PROJECT)
    assert idle(screen, "E:/s=/x", pipe=pipe) == []
    assert len(idle(screen, "E:/t=/x", pipe=pipe)) == 1

    made = batchfile.write(tmp_path / "B.h5", batchfile.PIPELINE, {"PathName_A": [r"E:\s"]})
    pipe = pipeline.of_text(made, batchfile.PIPELINE.encode(), pipeline.Kind.BATCH)
    assert idle(screen, "E:/s=/x", pipe=pipe) == []
    assert len(idle(screen, "E:/t=/x", pipe=pipe)) == 1


def test_without_a_map_nothing_is_read(screen: Screen) -> None:
    assert idle(screen) == []


# --- folders of rules and models ------------------------------------------------------------------


def test_files_of_modules_are_looked_for_in_the_new_folder(screen: Screen, tmp_path: Path) -> None:
    here = tmp_path / HOSTILE.replace("\n", "") / "rules"
    here.mkdir(parents=True)
    (here / "r.txt").touch()
    where = beside.places(piped(EXPORT), asked(screen, rf"--map=C:\lab={here.parent}"))
    for spelled in (r"C:\lab\rules", r"c:\\Lab\\rules", "C:/lab/rules"):
        pipe = piped(rules(f"Elsewhere...|{spelled}", "r.txt"), EXPORT)
        (finding,) = missing(pipe, where)
        (mend,) = finding.mends
        assert mend.said.startswith(f"FilterObjects (module 2) reads from {here} instead of ")
        ready = mended(pipe, finding.mends)
        assert missing(ready, where) == []
        assert beside.files(ready, where) == [here / "r.txt"]
        assert idle(screen, rf"C:\lab={here}", pipe=pipe) == []
    # it is not there either
    (finding,) = missing(piped(rules(r"Elsewhere...|C:\lab\rules", "x"), EXPORT), where)
    assert not finding.mends
    assert finding.remedy.endswith(r"; or --map 'C:\lab\rules'=FOLDER")


def test_folders_of_plugins_are_mapped_too(screen: Screen, tmp_path: Path) -> None:
    plugin = module("RunMyModel", r"Folder:Elsewhere...|C:\models")
    for new, mends in ((tmp_path, 1), (tmp_path / "none", 0)):
        where = beside.places(piped(EXPORT), asked(screen, rf"--map=C:\models={new}"))
        found = of_pipeline(piped(plugin, EXPORT), None, where)
        (finding,) = (f for f in found if f.code.name == "pipeline-plugin-path")
        assert len(finding.mends) == mends


def test_a_base_folder_of_another_machine(tmp_path: Path) -> None:
    pipe = piped(EXPORT, load=load_data(base="Elsewhere...|E:\\base"))
    images = ImageList(("FileName_A", "PathName_A"), (("a", "p\\q"), ("b", "F:/x")), (2, 3))
    moved = moved_of(["E:/base=/d", "F:/=/f"])
    based = selection.rebase(images, pipe, tmp_path, moved)
    assert [row[1] for row in moved.rows(based.header, based.rows)] == ["/d/p/q", "/f/x"]
    bare = ImageList(("FileName_A",), (("a",),), (2,))
    based = selection.rebase(bare, pipe, tmp_path, moved)
    assert list(moved.rows(based.header, based.rows)) == [("a", "/d")]


# --- remedies -------------------------------------------------------------------------------------


def test_a_remedy_names_the_map_that_serves() -> None:
    missing = [r"E:\s\p1", r"e:\S\p2", r"F:\x", "//srv/share/a", "/Volumes/lab/p1/a b",
               "/Volumes/lab/p2", "/root of images/p"]  # fmt: skip
    found = elsewhere.remedies(missing, ROOT, NOWHERE)
    start = "name its folder on this machine: --map "
    assert found[missing[0]] == found[missing[1]] == start + r"'E:\s'=FOLDER"
    assert found[missing[2]] == start + r"'F:\x'=FOLDER"
    assert found[missing[3]] == start + "//srv/share/a=FOLDER"
    assert found[missing[4]] == found[missing[5]] == start + "/Volumes/lab=FOLDER"
    assert "--map" not in found[missing[6]] and "PATHNAME_BASENAME" in found[missing[6]]
    # each of them is one that --map takes, and that fits
    for folder in missing[:6]:
        option = shlex.split(found[folder].partition("--map ")[2])[0].replace("FOLDER", "/new")
        assert moved_of([option]).path(folder).startswith("/new")


@pytest.mark.parametrize(
    ("folder", "old"),
    [
        (r"C:\\lab\\rules", r"'C:\lab\rules'"),
        ("C:/rules/", "C:/rules"),
        (r"\\srv\share\r", r"'\\srv\share\r'"),
        ("/Volumes/none here", "'/Volumes/none here'"),
        ("models", ""),
        ("/", ""),
    ],
)
def test_a_remedy_for_a_settings_folder(folder: str, old: str) -> None:
    assert elsewhere.of_setting(folder) == (f"; or --map {old}=FOLDER" if old else "")


def test_bytes_that_are_no_text_stay_in_a_url() -> None:
    assert moved_of(["/lab=/d/\udcff"]).url("file:///lab/a.tif") == "file:///d/%FF/a.tif"


def test_a_folder_beside_others_that_are_here_may_be_elsewhere(tmp_path: Path) -> None:
    folder = f"{tmp_path}/gone away/p1"
    said = elsewhere.remedies([folder], ROOT, NOWHERE)[folder]
    assert said.startswith("mount or copy it, or correct the list; or ")
    assert said.endswith(f" --map '{tmp_path}/gone away'=FOLDER")


def test_a_folder_that_a_map_named_is_not_to_be_mapped_again() -> None:
    said = elsewhere.remedies(["/new/p"], ROOT, moved_of(["/old=/new"]))["/new/p"]
    assert said == "mount or copy it, or correct the folder that --map gives"


@pytest.mark.parametrize(
    ("folder", "shown"),
    [
        (r"E:\s\p", r"E:\s\p"),
        ("E:/s/p", "E:/s/p"),
        (r"\\srv\share\p", r"\\srv\share\p"),
        ("/Volumes/none here/p", "/Volumes/none here/p"),
    ],
)
def test_a_missing_folder_is_called_as_in_the_list(tmp_path: Path, folder: str, shown: str) -> None:
    rows = (("a.tif", folder), ("b.tif", folder))
    images = ImageList(("FileName_A", "PathName_A"), rows, (2, 3))
    (finding,) = (f for f in files.of_files(images, tmp_path)[0] if f.code is files.MISSING)
    assert (finding.place, finding.lines) == (shown, (2, 3))
    assert finding.what == "A: no such folder, for 2 files"
    assert f"--map {shlex.quote(shown)}=FOLDER" in finding.remedy


def test_what_exists_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "E:\\s\\a.tif").write_bytes(b"")
    images = ImageList(("FileName_A",), (("E:\\s\\a.tif",),), (2,))
    found, _ = files.of_files(images, tmp_path)
    assert [f.code for f in found] == [files.EMPTY]
