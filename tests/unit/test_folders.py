from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import HOSTILE, refused

from bpcp.errors import Exit
from bpcp.folders import NOWHERE, Moved, called, common, head, lasting, listed, local, moved_of


def test_paths_below_an_old_folder_move_and_others_stay() -> None:
    moved = moved_of(["/lab/images=/data/img", "/scratch=/data/scratch"])
    assert moved.path("/lab/images/p1/a.tif") == "/data/img/p1/a.tif"
    assert moved.path("/lab/images") == "/data/img"
    assert moved.path("/lab/images2/a.tif") == "/lab/images2/a.tif"
    assert moved.path("/scratch/a.tif") == "/data/scratch/a.tif"
    assert moved.path("relative/a.tif") == "relative/a.tif"


def test_the_root_can_move() -> None:
    assert moved_of(["/=/mnt/old"]).path("/lab/a.tif") == "/mnt/old/lab/a.tif"


def test_a_slash_at_the_end_of_either_does_not_count() -> None:
    assert moved_of(["/lab/=/data/"]).path("/lab/a.tif") == "/data/a.tif"


def test_paths_of_windows() -> None:
    moved = moved_of([r"Z:\lab\images=/data"])
    assert moved.path(r"Z:\lab\images\p1\a.tif") == "/data/p1/a.tif"
    assert moved.path(r"Z:\lab\images2\a.tif") == r"Z:\lab\images2\a.tif"


# Spellings of one folder, and of paths below it: what begins them, and what parts their folders.
DRIVE = ["E:/my screen", "e:/My Screen/", "E:\\my screen", "e:\\MY SCREEN\\", "/E:/my screen",
         "file:///E:/my%20screen", "file:/e:/my%20screen/", "file://localhost/E:/my%20screen",
         "FILE:///E:/my%20screen", "E:\\my screen/"]  # fmt: skip
SERVER = ["\\\\srv\\share 1", "//srv/share 1", "//SRV/Share 1/", "\\\\srv\\share 1\\",
          "file://srv/share%201", "file:////srv/share%201", "//srv\\share 1"]  # fmt: skip
MAC = ["/Volumes/lüb", "/Volumes/lüb/", "file:///Volumes/l%C3%BCb", "file:/Volumes/l%C3%BCb/",
       "/Volumes/lu\u0308b", "file:///Volumes/lu%CC%88b", "//Volumes/lüb"]  # fmt: skip
BELOW = ["p 1/a #1.tif", "a.tif", ""]


@pytest.mark.parametrize("spellings", [DRIVE, SERVER, MAC[:-1]])
@pytest.mark.parametrize("new", ["/data/x", "/data/x/", "/data/x\\"])
def test_every_spelling_of_old_fits_every_spelling_of_a_path(
    spellings: list[str], new: str
) -> None:
    for old, spelled, rest in itertools.product(spellings, spellings, BELOW):
        moved = moved_of([f"{old}={new}"])
        is_url = spelled.lower().startswith("file:")
        separator = "\\" if "\\" in spelled else "/"
        below = quote(rest) if is_url else rest.replace("/", separator)
        path = spelled.rstrip("/\\") + separator + below if below else spelled.rstrip("/\\")
        wanted = f"/data/x/{rest}".rstrip("/")
        if is_url:
            assert plain_of(moved.url(path)) == wanted, (old, path)
        else:
            assert moved.path(path) == moved.url(path) == wanted, (old, path)
        assert moved.idle([path]) == []


def plain_of(url: str) -> str:
    assert url.lower().startswith(("file:///data/x", "file:/data/x"))
    return local(url)


def test_two_slashes_are_one_to_linux() -> None:
    assert moved_of(["/Volumes/lüb=/x"]).path(MAC[-1]) == "/x"


@pytest.mark.parametrize(
    ("old", "path"),
    [
        ("/data/a", "/data/ab/x.tif"),
        ("/data/a", "/Data/a/x.tif"),
        ("E:/a", "E:/ab/x.tif"),
        ("E:/a", "F:/a/x.tif"),
        ("E:/a", "/a/x.tif"),
        ("E:/a", "/x/E:/a/x.tif"),
        (r"\\srv\a", r"\\srv\ab\x.tif"),
        (r"\\srv\a", "/srv/a/x.tif"),
        ("/my%20a", "/my a/x.tif"),
        ("/a.b", "/axb/x.tif"),
        ("/a", r"/a\x.tif"),
        ("s3://b", "gs://b/x.tif"),
    ],
)
def test_what_does_not_fit_stays(old: str, path: str) -> None:
    moved = moved_of([f"{old}=/new"])
    assert moved.path(path) == path
    assert moved.url(path) == path
    assert moved.url(f"file://{quote(path)}") == f"file://{quote(path)}"
    (said,) = moved.idle([path])
    assert said == f"--map {shlex.quote(old)} fits no path; the most similar is {path}"


def test_the_longest_counts_in_whatever_order() -> None:
    maps = ["/lab=/b", r"E:\lab=/e", "/lab/images/x=/x", "/lab/images=/a", "E:/=/d"]
    for order in itertools.permutations(maps):
        moved = moved_of(order)
        assert moved.path("/lab/images/x/p/a.tif") == "/x/p/a.tif"
        assert moved.path("/lab/images/p/a.tif") == "/a/p/a.tif"
        assert moved.path("/lab/images2/a.tif") == "/b/images2/a.tif"
        assert moved.path(r"E:\lab\a.tif") == "/e/a.tif"
        assert moved.path(r"E:\lab2\a.tif") == "/d/lab2/a.tif"
        assert moved.idle(["/lab/images/x", "file:///E:/lab/q"]) == []


def test_a_path_is_moved_once() -> None:
    moved = moved_of(["/lab=/lab/new", "/lab/new/x=/y"])
    assert moved.path("/lab/x/a.tif") == "/lab/new/x/a.tif"


def test_urls_keep_their_spelling() -> None:
    moved = Moved((("/lab/my images", f"/data/{HOSTILE}"), (r"E:\a", "/"), ("/c", "/")))
    home = quote(f"/data/{HOSTILE}")
    assert moved.url("file:/lab/my%20images/a%23.tif") == f"file:{home}/a%23.tif"
    assert moved.url("file:///lab/my%20images/a,b%2Cc.tif") == f"file://{home}/a,b%2Cc.tif"
    assert moved.url("file:///E:/a/b%5Cc%20d.tif") == "file:///b/c%20d.tif"
    assert moved.url("file:///E:/a") == "file:///"
    assert moved.url("file:/c/") == "file:/"
    assert moved.url("file:/other/a%20b.tif") == "file:/other/a%20b.tif"
    assert moved.url("s3://lab/my images/a.tif") == "s3://lab/my images/a.tif"


def test_a_files_name_has_slashes_where_its_folder_is_of_windows() -> None:
    header = ("FileName_DNA", "PathName_DNA", "ObjectsFileName_N", "ObjectsPathName_N", "URL_ER")
    moved = moved_of([r"E:\s=/d"])
    rows = [
        (r"p\a.tif", "E:/s", r"q\n.tif", r"e:\S\m", "file:///E:/s/a.tif"),
        (r"p\a.tif", "/here", r"E:\s\n.tif", "", r"E:\s\e.tif"),
    ]
    assert list(moved.rows(header, rows)) == [
        ("p/a.tif", "/d", "q/n.tif", "/d/m", "file:///d/a.tif"),
        (r"p\a.tif", "/here", "/d/n.tif", "", "/d/e.tif"),
    ]


def test_relative_paths_start_at_a_folder_of_this_or_another_machine() -> None:
    moved = moved_of([r"E:\s=/d", "sub=/q"])
    assert moved.below("/root", "p/a.tif") == "/root/p/a.tif"
    assert moved.below("E:/s", r"p\a.tif") == "/d/p/a.tif"
    assert moved.below("/root", r"E:\s\a.tif") == "/d/a.tif"
    assert moved.below("/root", "sub/a.tif") == "/q/a.tif"
    # a file's name that begins so is below its own folder
    row = ("sub/a.tif", "/lab")
    assert list(moved.rows(("FileName_A", "PathName_A"), [row])) == [row]


def test_of_many_paths_the_most_similar_is_named() -> None:
    moved = moved_of(["/Volumes/Lab=/d", r"E:\scren=/d"])
    paths = ["/q/a.tif", "/Volumes/lab/p/a.tif", "/volumes/x/b.tif", "file:///E:/screen/c.tif"]
    lab, scren = moved.idle(paths)
    assert lab.endswith("is /Volumes/lab/p/a.tif") and "--map /Volumes/Lab fits no path" in lab
    assert scren.endswith("is file:///E:/screen/c.tif") and r"--map 'E:\scren'" in scren
    assert moved.idle([]) == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (r"/root/E:\s\a.tif", r"E:\s\a.tif"),
        ("/root/E:/s/a.tif", "E:/s/a.tif"),
        ("/E:/s/a.tif", "E:/s/a.tif"),
        (r"/root/\\srv\s\a.tif", r"\\srv\s\a.tif"),
        ("//srv/s/a.tif", "//srv/s/a.tif"),
        ("/root/p/a.tif", ""),
        ("/Volumes/lab/a.tif", ""),
    ],
)
def test_paths_of_windows_are_called_as_the_list_calls_them(name: str, wanted: str) -> None:
    assert called(name, Path("/root")) == wanted


def test_what_a_map_does_not_change_is_the_same_before_and_after() -> None:
    header = ("FileName_A", "PathName_A", "FileName_B", "URL_C", "URL_D", "Metadata_E")
    moved = moved_of([r"E:\s=/d/x"])
    row = (r"p\a.tif", "E:/s", r"E:\s\b.tif", "file:///E:/s/c%20%2Bd.tif", r"E:\s\d.tif", r"E:\s\e")
    (after,) = moved.rows(header, [row])
    assert after[:4] == ("p/a.tif", "/d/x", "/d/x/b.tif", "file:///d/x/c%20%2Bd.tif")
    wanted = ["p/a.tif", "", "b.tif", "c +d.tif", "d.tif", r"E:\s\e"]
    for cells in (row, after):
        assert [lasting(c, cell) for c, cell in zip(header, cells, strict=True)] == wanted


@pytest.mark.parametrize(
    ("folders", "wanted"),
    [
        ([r"E:\s\p1", r"e:\S\p2"], r"E:\s"),
        (["E:/s"], "E:/s"),
        ([r"\\srv\a\p", r"\\srv\a\q"], r"\\srv\a"),
        (["//srv/a/p", "//srv/a/q"], "//srv/a"),
        (["/Volumes/a/p", "/Volumes/A/p"], "/Volumes"),
        (["/x", "/y"], ""),
    ],
)
def test_the_folder_that_several_have_in_common(folders: list[str], wanted: str) -> None:
    assert common(folders) == wanted


def test_urls_are_paths_as_cellprofiler_takes_them() -> None:
    assert local("file:/a%20b") == local("file:///a%20b") == "/a b"
    assert local("file://data/a") == "//data/a"
    assert local("s3://b/a%20b") == listed("s3://b/a%20b") == "s3://b/a%20b"
    assert local("file://localhost/a%20b") == "//localhost/a b"
    assert listed("FILE://Localhost/a%20b") == listed("file:///a%20b") == "/a b"
    assert [head(u) for u in ("file:/a", "file:///a", "file://a")] == ["file:", "file://", "file:"]


def test_only_folders_and_addresses_are_moved() -> None:
    moved = moved_of(["/lab=/data"])
    assert moved.cell("PathName_DNA", "/lab/a") == "/data/a"
    assert moved.cell("ObjectsPathName_DNA", "/lab/a") == "/data/a"
    assert moved.cell("URL_DNA", "file:/lab/a") == "file:/data/a"
    assert moved.cell("Metadata_Folder", "/lab/a") == "/lab/a"


def test_no_map_moves_nothing() -> None:
    assert moved_of([]) == NOWHERE
    assert NOWHERE.path("/lab/a.tif") == "/lab/a.tif"
    assert NOWHERE.words == []


def test_a_relative_new_folder_is_one_below_the_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert moved_of(["/lab=img"]).words == [f"/lab={tmp_path}/img"]


def test_home_is_home_though_shells_do_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert moved_of(["/lab=~/img"]).words == ["/lab=/home/someone/img"]


@pytest.mark.parametrize("option", ["/lab", "=/data", "/lab=", "=", "\\\\=/data"])
def test_refuses_what_is_no_map(option: str) -> None:
    assert refused(Exit.USAGE, f"--map {option}: not OLD=NEW", moved_of, [option]).todo


def test_refuses_a_folder_that_lost_its_backslash() -> None:
    error = refused(Exit.USAGE, "no / or \\ behind E:", moved_of, ["E:screen=/data"])
    assert error.todo == r"--map 'E:\FOLDER'=/data"


def test_refuses_one_folder_for_two() -> None:
    for pair in (["/lab=/a", "/lab/=/b"], [r"E:\lab=/a", "file:///e:/Lab=/b"]):
        refused(Exit.USAGE, "given twice, for two folders", moved_of, pair)
    assert moved_of(["/lab=/a", "/lab/=/a"]).path("/lab/x") == "/a/x"
    assert moved_of(["/lab=/a", "/Lab=/b"]).path("/Lab/x") == "/b/x"
