from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import HOSTILE, ROOT, refused

from bpcp import workspace
from bpcp.errors import BpcpError, Exit, run_main
from bpcp.workspace import Planned, locate, locked, of_status, read_json, write_json

HOLD = """
import sys, time
from pathlib import Path
from bpcp.workspace import locate, locked
with locked(locate("d", Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("path", "base", "tag"),
    [
        ("b/pipelines/demo.cppipe", "b", "demo"),
        ("b/pipelines/2026/a b.v2.cppipe", "b", "a b"),
        ("b/other/demo.cppipe", "b", "demo"),
        ("pipelines/b/pipelines/x.cppipe", "pipelines/b", "x"),
        ("b/pipelines/../pipelines/demo", "b", "demo"),
    ],
)
def test_locate(tmp_path: Path, path: str, base: str, tag: str) -> None:
    found = locate("plate 1", tmp_path / path)
    assert (found.base, found.tag) == (tmp_path / base, tag)
    assert found.image_list == tmp_path / base / "load_data_csv/plate 1/load_data.csv"
    assert found.analysis == tmp_path / base / "analysis/plate 1" / tag
    assert found.attempt_log("c1", 2) == tmp_path / base / "log/plate 1" / tag / "c1.2.log"


def test_a_link_to_a_pipeline_counts_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/p.cppipe").touch()
    (tmp_path / "mine/pipelines").mkdir(parents=True)
    link = tmp_path / "mine/pipelines/p.cppipe"
    link.symlink_to(tmp_path / "shared/p.cppipe")
    assert locate("d", link).base == tmp_path / "mine"


def test_relative_to_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("d", Path("pipelines/x.cppipe")).base == tmp_path


@pytest.mark.parametrize("dataset", ["", ".", "..", "a/b", "/", "a\nb", "a\0b", "../../etc"])
def test_refuses_names_that_cannot_name_a_folder(tmp_path: Path, dataset: str) -> None:
    error = refused(Exit.USAGE, "not a name for a dataset", locate, dataset, tmp_path / "p.cppipe")
    assert "load_data_csv/" in error.todo


@pytest.mark.parametrize("dataset", [HOSTILE, "-d", "~", "$HOME", "a b", "ü", "*"])
def test_takes_all_other_names(tmp_path: Path, dataset: str) -> None:
    assert locate(dataset, tmp_path / "p.cppipe").analysis.parent.name == dataset


def test_refuses_a_pipeline_without_a_name(tmp_path: Path) -> None:
    refused(Exit.USAGE, "not a name for a pipeline", locate, "d", tmp_path / ".cppipe")


def test_of_status_is_the_way_back(tmp_path: Path) -> None:
    found = locate(HOSTILE, tmp_path / HOSTILE / "pipelines/p.cppipe")
    write_json(found.run, {})
    assert of_status(found.status) == found
    refused(Exit.NO_INPUT, "no run in", of_status, found.status.parent)


def test_a_pipeline_that_was_saved_with_its_list_needs_no_other(tmp_path: Path) -> None:
    pipeline = tmp_path / "pipelines" / "p.cppipe"
    pipeline.parent.mkdir()
    for lists in ("False", "True"):
        pipeline.write_text(f"CellProfiler Pipeline: x\nHasImagePlaneDetails:{lists}\n\n")
        if lists == "True":
            assert workspace.main(["d", str(pipeline)]) == Exit.OK
        else:
            refused(Exit.NO_INPUT, "no image list", workspace.main, ["d", str(pipeline)])


@pytest.mark.parametrize("folder", ["two\nlines", HOSTILE, os.fsdecode(b"\xff")])
def test_main_prints_paths_for_a_script(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], folder: str
) -> None:
    pipeline = tmp_path / folder / "pipelines" / "p.cppipe"
    found = locate("d", pipeline)
    refused(Exit.NO_INPUT, "no pipeline", workspace.main, ["d", str(pipeline)])
    for path in (pipeline, found.image_list):
        path.parent.mkdir(parents=True)
        path.touch()
    refused(Exit.NO_INPUT, "no image list", workspace.main, ["other", str(pipeline)])
    assert workspace.main(["d", str(pipeline)]) == Exit.OK
    sys.stdout.flush()
    paths = capfdbinary.readouterr().out.split(b"\0")
    own = (
        found.status, found.log, found.lock, found.joblog, found.events, found.fetching,
        found.ramdisk,
    )  # fmt: skip
    assert paths == [*map(os.fsencode, own), b""]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([5], "5"),
        ([1, 2, 3, 7], "1-3,7"),
        ([3, 2, 1], "3,2,1"),
        ([2, 4, 5, 1, 2], "2,4-5,1-2"),
    ],
)
def test_ranges_round_trip(numbers: list[int], text: str) -> None:
    assert workspace.to_ranges(numbers) == text
    assert workspace.from_ranges(text) == numbers


def test_plan_round_trip(tmp_path: Path) -> None:
    found = locate("d", tmp_path / "pipelines/p.cppipe")
    refused(Exit.NO_INPUT, "nothing is planned", workspace.read_plan, found)
    chunks = [Planned("a", "1", [3, 4, 9], [2, 7, 8]), Planned("b", "2", [1], [3])]
    workspace.write_plan(found, chunks)
    assert workspace.read_plan(found) == chunks


def test_json_is_written_whole_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.json"
    write_json(path, {"name": HOSTILE})
    assert read_json(path) == {"name": HOSTILE}
    assert HOSTILE.split('"')[0] in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]
    os.umask(mask := os.umask(0))
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_verdicts_have_in_common_is_there_once(tmp_path: Path) -> None:
    """Thousands of them, of thousands of columns each, are read by the plan and the merge."""
    said = {"parts": [{"header": ["Area", "Count"], "spellings": ["float", 3]}]}
    for name in ("a", "b"):
        write_json(tmp_path / name, said)
    one, two = (read_json(tmp_path / name) for name in ("a", "b"))
    assert one == two == said
    assert one is not None
    assert two is not None
    assert one["parts"][0]["header"] is two["parts"][0]["header"]
    # what makes no sense is left as it is
    assert one["parts"][0]["spellings"] is not two["parts"][0]["spellings"]


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"name": os.fsdecode(b"\xff")})
    assert path.read_bytes() == b'{\n "name": "\xff"\n}\n'
    assert read_json(path) == {"name": os.fsdecode(b"\xff")}


@pytest.mark.parametrize("text", [b"", b'{"a": 1', b"[1]", b"\xff"])
def test_a_torn_state_file_is_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    assert read_json(path) is None


def test_a_missing_state_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_json(tmp_path / "gone.json") is None
    assert read_json(tmp_path / "file" / "a.json") is None


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"good": True})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error = refused(Exit.CANNOT_CREATE, "No space left on device", write_json, path, {"new": 1})
    assert "make room" in error.todo
    assert read_json(path) == {"good": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_73(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(Exit.CANNOT_CREATE, "can't write", write_json, tmp_path / "file" / "a.json", {})


def test_a_held_lock_names_its_holder(tmp_path: Path) -> None:
    pipeline = tmp_path / "pipelines" / "p.cppipe"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(pipeline)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BpcpError) as caught, locked(locate("d", pipeline), wait_s=0):
            pass
        assert caught.value.code == Exit.STOPPED
        assert f"process {holder.pid} on {os.uname().nodename}, since 20" in str(caught.value)
    finally:
        holder.kill()
        holder.wait()
    started = time.monotonic()
    with locked(locate("d", pipeline), wait_s=0):
        held = locate("d", pipeline).lock.read_text()
    assert held.startswith(f"pid={os.getpid()} ")
    assert held.count("\n") == 1
    assert time.monotonic() - started < 1


def test_the_lock_of_an_entry_script_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = locate("d", tmp_path / "pipelines" / "p.cppipe")
    other = locate("other", tmp_path / "pipelines" / "p.cppipe")
    with locked(here):
        monkeypatch.setenv(workspace.LOCK_HELD, str(here.lock))
        with locked(here, wait_s=0):
            pass
        with locked(other, wait_s=0):
            assert other.lock.read_text()
        monkeypatch.delenv(workspace.LOCK_HELD)
        with pytest.raises(BpcpError), locked(here, wait_s=0):
            pass


def test_a_lock_that_cannot_be_made_is_73(tmp_path: Path) -> None:
    (tmp_path / "status").touch()

    def lock(_: Sequence[str]) -> int:
        with locked(locate("d", tmp_path / "pipelines/p.cppipe")):
            return Exit.OK

    with pytest.raises(SystemExit) as caught:
        run_main("plan", lock)
    assert caught.value.code == Exit.CANNOT_CREATE


def test_a_verdict_counts_for_its_digest_only(tmp_path: Path) -> None:
    found = locate("d", tmp_path / "pipelines/p.cppipe")
    assert workspace.verdict(found, Planned("c", "1", [1], [2])) is None
    write_json(found.chunk("c").done, {"digest": "1"})
    assert workspace.verdict(found, Planned("c", "1", [1], [2])) == {"digest": "1"}
    assert workspace.verdict(found, Planned("c", "2", [1], [2])) is None
    found.chunk("c").done.write_text(json.dumps({"digest": "1"})[:-3])
    assert workspace.verdict(found, Planned("c", "1", [1], [2])) is None
