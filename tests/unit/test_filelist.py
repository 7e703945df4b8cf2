from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from bpcp import filelist
from bpcp.folders import moved_of

URLS = [
    "file:///E:/my%20screen/p1/b.tif",
    "file:///E:/my%20screen/p1/a.tif",
    "file:///E:/my%20screen/(index)/index",
    "file:///E:/top.tif",
    "file:/Volumes/lab/data/m.tif",
    "file://server/share/s.tif",
    "http://there/x/w.tif",
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a list, written the way `move_project` writes; see the e2e tests."""
    path = tmp_path / "x.cpproj"
    with h5py.File(path, "w") as file:
        home = file.create_group("FileList/Default")
        home.attrs["Class"] = b"FileListGroup"
        for url in URLS:
            group: h5py.Group = home
            *above, name = filelist._parts(url)
            for part in above:
                group = group.require_group(filelist._encoded(part))
                group.attrs["Class"] = "Directory"
            names = [n for n in filelist._texts(group) if n is not None]
            known = filelist._texts(group["metadata"]) if "metadata" in group else []
            for own in ("index", "data"):
                for where in (group, group.require_group("metadata")):
                    if own in where:
                        del where[own]
            filelist._put(group, [*names, name.encode()])
            metadata = f"<OME>{name}</OME>".encode() if "b.tif" in url else None
            filelist._put(group["metadata"], [*known, metadata])
    return path


def known(path: Path) -> dict[str, bytes | None]:
    with h5py.File(path) as file:
        return dict(filelist._entries(filelist._home(file)))


def test_a_projects_list_is_read(project: Path) -> None:
    assert sorted(filelist.in_project(project)) == sorted(URLS)


def test_a_projects_list_names_the_files_of_this_machine(project: Path) -> None:
    maps = [r"E:\my screen=/data/ü (x)", "/Volumes/lab=/v", r"\\server\share=/v/data", "E:/=/e"]
    filelist.move_project(project, moved_of(maps))
    home = "file:///data/%C3%BC%20%28x%29"
    assert known(project) == {
        f"{home}/p1/a.tif": None,
        f"{home}/p1/b.tif": b"<OME>b.tif</OME>",
        f"{home}/(index)/index": None,
        "file:///e/top.tif": None,
        "file:/v/data/m.tif": None,
        "file:///v/data/s.tif": None,
        "http://there/x/w.tif": None,
    }
    with h5py.File(project) as file:
        assert list(file["FileList/Default/file"]) == [r"\2f\2f\2fdata", r"\2f\2f\2fe",
                                                      r"\2f\2f\2fv", r"\2fv"]  # fmt: skip


def test_a_map_that_fits_nothing_changes_nothing(project: Path) -> None:
    before = known(project)
    filelist.move_project(project, moved_of(["/none=/x"]))
    assert known(project) == before


def test_a_file_without_a_list_has_none(tmp_path: Path) -> None:
    path = tmp_path / "x.cpproj"
    h5py.File(path, "w").close()
    assert filelist.in_project(path) == []
    filelist.move_project(path, moved_of(["/a=/b"]))


def test_a_file_directly_below_the_slashes_of_a_url() -> None:
    assert filelist._parts("file:///a.tif") == ["file", "///", "a.tif"]
    assert filelist._parts("http://a/b.tif") == ["http", "//a", "b.tif"]


@pytest.mark.parametrize("part", ["index", "data", "metadata", "///E:", "a b(ü)%20", r"a\b"])
def test_names_of_groups_can_be_read_back(part: str) -> None:
    key = filelist._encoded(part)
    assert filelist._decoded(key) == part and "/" not in key
    assert key not in ("index", "data", "metadata")


def test_a_pipelines_list_names_the_files_of_this_machine() -> None:
    text = (
        'CellProfiler Pipeline\nHasImagePlaneDetails:True\n\nImages:[]\n    "x":"file:///E:/s"\n\n'
        '"Version":"1","PlaneCount":"2"\n"URL","Series","Index","Channel"\n'
        '"file:///E:/s/a%20b.tif",,,\n"http://x/y.tif",,,\n'
    )
    assert filelist.in_text(text) == ["file:///E:/s/a%20b.tif", "http://x/y.tif"]
    moved = filelist.moved_text(text, moved_of([r"E:\s=/d"]))
    assert moved == text.replace('"file:///E:/s/a%20b.tif"', '"file:///d/a%20b.tif"')
    assert filelist.in_text("CellProfiler Pipeline\n") == []
