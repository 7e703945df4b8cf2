from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from urllib.request import pathname2url

import pytest
from conftest import HOSTILE, Screen

from bpcp import imagelist, staging
from bpcp.scratch import is_ours
from bpcp.staging import Inputs
from bpcp.workspace import hold

MIRROR = f"/tmp/100% {HOSTILE}%20/bpcp-1+x/input"  # noqa: S108
NAMES = [
    "a.tif",
    "a b.tif",
    "it's; $(touch x) `y`.tif",
    'q"q&r?s#t.tif',
    "100%.tif",
    "%20%25.tif",
    "a+b=c@d:e.tif",
    "ü 日本.tif",
    "new\nline.tif",
    "-p\\*.tif",
    "s3:.tif",
]
FOLDERS = ["/data", f"/data/{HOSTILE}", "/", "/100%25/a%20b"]
Form = Callable[[str, str], dict[str, str]]
FORMS: list[Form] = [
    lambda folder, name: {"PathName_DNA": folder, "FileName_DNA": name},
    lambda folder, name: {"PathName_DNA": "rel/ü %", "FileName_DNA": name},
    lambda folder, name: {"PathName_DNA": "", "FileName_DNA": str(Path(folder, name))},
    lambda folder, name: {"PathName_DNA": folder, "FileName_DNA": f"sub/{name}"},
    lambda folder, name: {"PathName_DNA": f"s3://bucket{folder}", "FileName_DNA": name},
    lambda folder, name: {"PathName_DNA": "", "FileName_DNA": f"s3://bucket{folder}/{name}"},
    lambda folder, name: {"URL_DNA": "file:" + pathname2url(str(Path(folder, name)))},
    lambda folder, name: {"URL_DNA": "file://" + pathname2url(str(Path(folder, name)))},
    lambda folder, name: {"URL_DNA": f"file:{Path(folder, name)}"},
    lambda folder, name: {"URL_DNA": f"s3://bucket{folder}/{name}"},
    lambda folder, name: {"URL_DNA": str(Path(folder, name))},
    lambda folder, name: {"URL_DNA": f"https://example.org{folder}/{name}"},
    lambda folder, name: {"ObjectsPathName_Nuclei": folder, "ObjectsFileName_Nuclei": name},
    lambda folder, name: {"ObjectsURL_Nuclei": f"s3://bucket{folder}/{name}"},
    lambda folder, name: {"Metadata_Folder": folder, "FileName_DNA": name},
]


def rows_of(form: Form) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Give a header and a row for each folder and name, as the form writes them."""
    made = [form(folder, name) for folder, name in itertools.product(FOLDERS, NAMES)]
    return [(tuple(cells), tuple(cells.values())) for cells in made]


@pytest.mark.parametrize("form", FORMS)
def test_the_mirror_leaves_no_trace(form: Form) -> None:
    for header, row in rows_of(form):
        moved = staging.rewritten(header, row, MIRROR)
        assert tuple(staging.restored(cell, MIRROR) for cell in moved) == row


@pytest.mark.parametrize("form", FORMS)
def test_a_row_that_was_moved_names_the_files_links_in_the_mirror(form: Form) -> None:
    """What a row names must be found where `mirror` puts its link, whatever way it is written."""
    root = Path("/data/root")
    for header, row in rows_of(form):
        moved = staging.rewritten(header, row, MIRROR)
        # CellProfiler is started in the mirror of the root
        theirs = imagelist.files(header, moved, Path(f"{MIRROR}{root}"))
        for (_, name), (_, found) in zip(imagelist.files(header, row, root), theirs, strict=True):
            if name.startswith(("/", "s3://")):
                assert Path(found) == Path(staging.in_mirror(MIRROR, name))
            else:
                assert found == name


def test_cells_that_name_no_place_stay() -> None:
    header = ("Metadata_Path", "FileName_DNA", "PathName_DNA", "URL_DNA")
    row = ("/data/x", "a.tif", "", "")
    assert staging.rewritten(header, row, MIRROR) == row
    for cell in ("", "0.5", "nan", "/data/other", "file:/data/a.tif", "https://x/a", "s3://b/a"):
        assert staging.restored(cell, MIRROR) == cell


@pytest.mark.parametrize("head", ["file:", "file://"])
def test_an_address_that_cellprofiler_spelled_anew_is_restored(head: str) -> None:
    moved = head + pathname2url(f"{MIRROR}/data/a b/ü.tif")
    assert staging.restored(moved, MIRROR) == head + pathname2url("/data/a b/ü.tif")
    moved = head + pathname2url(f"{MIRROR}/s3:/bucket/a b/ü.tif")
    assert staging.restored(moved, MIRROR) == "s3://bucket/a b/ü.tif"


@pytest.mark.parametrize("cell", ["S3://bucket/a.tif", "FILE:/data/a.tif", "File:///data/a.tif"])
def test_capitals_in_an_address_are_kept(cell: str) -> None:
    (moved,) = staging.rewritten(("URL_DNA",), (cell,), MIRROR)
    assert moved != cell
    assert staging.restored(moved, MIRROR) == cell


# --- the mirror --------------------------------------------------------------------------------


def test_a_mirror_of_links(tmp_path: Path) -> None:
    root, store = tmp_path / HOSTILE, tmp_path / "store"
    header = ("FileName_DNA", "PathName_DNA", "URL_RNA")
    here, there, remote = root / "p 1" / "a.tif", root / "p 1" / "b.tif", "s3://bucket/x y/c.tif"
    places = {
        str(there): staging.in_mirror(str(store), str(there)),
        remote: staging.in_mirror(str(store), remote),
    }
    for path, data in (
        (here, b"a"),
        (Path(places[str(there)]), b"b"),
        (Path(places[remote]), b"c"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    rows = [
        ("a.tif", "p 1", remote),
        ("b.tif", str(root / "p 1"), "https://example.org/x.tif"),
        ("gone.tif", "p 1", "s3://bucket/not/fetched.tif"),
    ]
    folder = tmp_path / "input"
    staging.mirror(folder, header, rows, Inputs(places), root)
    links = {p.relative_to(folder): p.readlink() for p in folder.rglob("*") if p.is_symlink()}
    inside = Path(str(root).lstrip("/")) / "p 1"
    assert links == {
        inside / "a.tif": here,
        inside / "b.tif": Path(places[str(there)]),
        inside / "gone.tif": root / "p 1" / "gone.tif",
        Path("s3:/bucket/x y/c.tif"): Path(places[remote]),
    }
    for row, data in ((rows[0], b"a"), (rows[1], b"b")):
        moved = staging.rewritten(header, row, str(folder))
        name = imagelist.files(header, moved, Path(f"{folder}{root}"))[0][1]
        assert Path(name).read_bytes() == data
    # CellProfiler is started there, also where no image lies
    staging.mirror(tmp_path / "other", header, [], Inputs(), root)
    assert (tmp_path / "other" / str(root).lstrip("/")).is_dir()


# --- what may be removed -----------------------------------------------------------------------


def test_only_folders_that_bpcp_made_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bpcp-images-x"
    folder.mkdir()
    assert is_ours(folder, staging.STORE_PREFIX)
    assert not is_ours(tmp_path / "bpcp-images-gone", staging.STORE_PREFIX)
    (tmp_path / "bpcp-images-link").symlink_to(folder)
    assert not is_ours(tmp_path / "bpcp-images-link", staging.STORE_PREFIX)
    (tmp_path / "bpcp-images-file").touch()
    assert not is_ours(tmp_path / "bpcp-images-file", staging.STORE_PREFIX)
    (tmp_path / "images").mkdir()
    assert not is_ours(tmp_path / "images", staging.STORE_PREFIX)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert not is_ours(folder, staging.STORE_PREFIX)


def test_a_fetched_file_is_removed_only_as_it_was_fetched(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"

    def there(data: bytes, mtime_ns: int) -> bool:
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(mtime_ns, mtime_ns))
        staging.remove(str(path), 3, 10**18)
        return path.exists()

    assert not there(b"123", 10**18)
    assert there(b"1234", 10**18)
    assert there(b"123", 10**18 + 1)
    path.rename(tmp_path / "own")
    os.utime(tmp_path / "own", ns=(10**18, 10**18))
    path.symlink_to("own")
    staging.remove(str(path), 3, 10**18)
    assert path.is_symlink()
    staging.remove(str(tmp_path / "gone"), 3, 10**18)


def noted(screen: Screen, *entries: dict[str, object] | str) -> None:
    lines = [e if isinstance(e, str) else json.dumps(e) for e in entries]
    screen.workspace.status.mkdir(parents=True, exist_ok=True)
    screen.workspace.fetched.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_what_was_fetched_is_read_back(screen: Screen) -> None:
    assert staging.fetched(screen.workspace) == {}
    noted(
        screen,
        {"store": "/nowhere/bpcp-images-x"},
        {"path": "/a", "size": 1, "mtime_ns": 2},
        '{"path": "/torn", "si',
        {"path": "/b", "size": 3, "mtime_ns": 4},
        {"gone": "/a"},
        {"gone": "/never was"},
        {"path": "/b", "size": 5, "mtime_ns": 6},
    )
    assert staging.fetched(screen.workspace) == {"/b": (5, 6)}


def left_by_a_dead_one(screen: Screen, tmp_path: Path) -> dict[str, Path]:
    """Make what a fetcher that was killed leaves, and what is not its own beside it."""
    made = {
        "store": tmp_path / "ram" / "bpcp-images-1",
        "other": tmp_path / "ram" / "bpcp-images-2",
        "link": tmp_path / "ram" / "bpcp-images-3",
        "fetched": screen.images / "f1.tif",
        "changed": screen.images / "f2.tif",
        "own": screen.images / "own.tif",
        "addressed": screen.workspace.store / "s3:" / "bucket" / "a.tif",
    }
    for name, path in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in ("store", "other"):
            path.mkdir()
            (path / "a.tif").write_bytes(b"xxx")
        elif name == "link":
            path.symlink_to(made["other"])
        else:
            path.write_bytes(b"changed" if name == "changed" else b"xxx")
            os.utime(path, ns=(10**18, 10**18))
    noted(
        screen,
        {"store": str(made["store"])},
        {"store": str(made["link"])},
        *(
            {"path": str(made[name]), "size": 3, "mtime_ns": 10**18}
            for name in ("fetched", "changed", "addressed")
        ),
    )
    return made


def test_at_the_next_start_only_ram_is_cleared(screen: Screen, tmp_path: Path) -> None:
    made = left_by_a_dead_one(screen, tmp_path)
    assert staging.stores(screen.workspace) == [made["store"]]
    staging.clear(screen.workspace, everything=False)
    assert {name for name, path in made.items() if not path.exists()} == {"store"}
    assert str(made["fetched"]) in staging.fetched(screen.workspace)


def test_when_nothing_is_left_to_do_all_that_was_fetched_is_cleared(
    screen: Screen, tmp_path: Path
) -> None:
    made = left_by_a_dead_one(screen, tmp_path)
    staging.clear(screen.workspace, everything=True)
    gone = {name for name, path in made.items() if not path.exists()}
    assert gone == {"store", "fetched", "addressed"}
    assert made["changed"].read_bytes() == b"changed"
    assert not screen.workspace.fetched.exists()
    assert not screen.workspace.store.exists()


def test_nothing_is_cleared_while_somebody_fetches(screen: Screen, tmp_path: Path) -> None:
    made = left_by_a_dead_one(screen, tmp_path)
    assert not staging.is_fetching(screen.workspace)
    with hold(screen.workspace.fetching, "it"):
        assert staging.is_fetching(screen.workspace)
        staging.clear(screen.workspace, everything=True)
    assert all(path.exists() for path in made.values())
    # the lock counts, not the file
    assert not staging.is_fetching(screen.workspace)


def test_a_lock_is_held_by_whoever_inherited_it(screen: Screen) -> None:
    screen.workspace.status.mkdir(parents=True)
    handle = os.open(screen.workspace.fetching, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    heir = os.dup(handle)
    os.close(handle)
    assert staging.is_fetching(screen.workspace)
    os.close(heir)
    assert not staging.is_fetching(screen.workspace)


# --- room --------------------------------------------------------------------------------------


def test_the_space_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "a" / "b" / "y").write_bytes(b"12345")
    (tmp_path / "a" / "dead").symlink_to("nowhere")
    assert staging.space_of(tmp_path) == 8 + len("nowhere")
    assert staging.space_of(tmp_path / "gone") == 0
