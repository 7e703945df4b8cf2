from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import Screen

from bpcp.run import todo
from bpcp.workspace import hold, write_json


@pytest.fixture
def planned(screen: Screen) -> Screen:
    screen.fill(6)
    screen.plan("-q", "--chunk-size", "2")
    return screen


def says_it_runs(screen: Screen, folder: Path) -> Path:
    """Write down an attempt of the first chunk, as one that was killed leaves it."""
    path = screen.workspace.chunk(screen.chunks()[0]).running
    write_json(path, {"pid": 1, "folder": str(folder), "log": "x"})
    return path


def own_name(screen: Screen) -> str:
    return f"{screen.workspace.attempt_prefix}{screen.chunks()[0]}-0123"


def test_left_are_those_without_a_verdict_and_those_with_failures(planned: Screen) -> None:
    assert todo.left(planned.workspace) == planned.chunks()
    (planned.images / "f3.tif").unlink()
    planned.run()
    assert todo.left(planned.workspace) == [planned.chunks()[1]]
    planned.workspace.chunk(planned.chunks()[0]).done.write_text("{")
    assert todo.left(planned.workspace) == planned.chunks()[:2]


def test_main_prints_them(planned: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    assert todo.main([str(planned.workspace.status)]) == 0
    assert capsys.readouterr().out.split() == planned.chunks()
    planned.run()
    todo.main([str(planned.workspace.status)])
    assert capsys.readouterr().out == ""


def test_a_dead_attempts_folder_is_removed_where_it_worked(planned: Screen, tmp_path: Path) -> None:
    folder = tmp_path / "scratch" / own_name(planned)
    (folder / "output").mkdir(parents=True)
    (folder / "output" / "a.png").touch()
    running = says_it_runs(planned, folder)
    assert todo.clear_leftovers(planned.workspace) == [folder]
    assert not folder.exists()
    assert not running.exists()
    assert folder.parent.is_dir()


def test_whatever_lies_among_the_runs_own_attempts_is_removed(planned: Screen) -> None:
    folder = planned.workspace.attempts / "bpcp-0123-xyz"
    (folder / "tmp").mkdir(parents=True)
    assert todo.clear_leftovers(planned.workspace) == [folder]
    assert not folder.exists()


def test_a_link_is_not_followed(planned: Screen, tmp_path: Path) -> None:
    victim = tmp_path / "bpcp-victim"
    victim.mkdir()
    (victim / "thesis.doc").touch()
    link = tmp_path / own_name(planned)
    link.symlink_to(victim)
    running = says_it_runs(planned, link)
    assert todo.clear_leftovers(planned.workspace) == []
    assert (victim / "thesis.doc").exists()
    assert not running.exists()


def test_a_link_among_the_attempts_is_not_followed(planned: Screen, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.doc").touch()
    planned.workspace.attempts.mkdir()
    (planned.workspace.attempts / "bpcp-1").symlink_to(victim)
    todo.clear_leftovers(planned.workspace)
    assert (victim / "thesis.doc").exists()


def test_the_users_own_folders_are_left_alone_where_attempts_is_a_link(
    planned: Screen, tmp_path: Path
) -> None:
    """Some send attempts to a fast disk by a link, where other things are, too."""
    thesis = tmp_path / "fast" / "thesis"
    thesis.mkdir(parents=True)
    planned.workspace.attempts.symlink_to(tmp_path / "fast")
    ours = tmp_path / "fast" / own_name(planned)
    ours.mkdir()
    says_it_runs(planned, ours)
    assert [path.name for path in todo.clear_leftovers(planned.workspace)] == [ours.name]
    assert thesis.is_dir() and not ours.exists()


def test_strays_among_the_chunks_are_left_alone(planned: Screen) -> None:
    chunks = planned.workspace.chunks
    (chunks / ".DS_Store").write_bytes(b"x")
    (chunks / "thesis").mkdir()
    (chunks / "thesis" / "one.doc").touch()
    assert todo.left(planned.workspace) == planned.chunks()
    assert todo.main([str(planned.workspace.status), "--tables"]) == 0
    planned.plan("-q", "--chunk-size", "3")
    planned.run()
    assert todo.left(planned.workspace) == []
    assert (chunks / "thesis" / "one.doc").exists() and (chunks / ".DS_Store").exists()


def test_a_foreign_name_is_left_alone(planned: Screen, tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    says_it_runs(planned, folder)
    assert todo.clear_leftovers(planned.workspace) == []
    assert folder.is_dir()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a folder away")
def test_a_folder_of_somebody_else_is_left_alone(planned: Screen, tmp_path: Path) -> None:
    folder = tmp_path / "bpcp-0123-xyz"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    says_it_runs(planned, folder)
    assert todo.clear_leftovers(planned.workspace) == []
    assert folder.is_dir()


def test_a_folder_that_is_gone_already(planned: Screen, tmp_path: Path) -> None:
    running = says_it_runs(planned, tmp_path / "bpcp-gone")
    assert todo.clear_leftovers(planned.workspace) == []
    assert not running.exists()


def test_what_no_record_names_goes_from_where_the_run_works(
    planned: Screen, tmp_path: Path
) -> None:
    """A power cut may leave the folder, and not the record of it."""
    scratch = tmp_path / "scratch; ü"
    scratch.mkdir()
    planned.plan("-q", "-t", str(scratch))
    folder = scratch / own_name(planned)
    folder.mkdir()
    other = scratch / f"bpcp-ffffffffffff-{planned.chunks()[0]}-0123"
    other.mkdir()
    (scratch / own_name(planned).replace("0123", "4567")).symlink_to(tmp_path)
    assert todo.clear_leftovers(planned.workspace) == [folder]
    # another run's, and a link
    assert len(list(scratch.iterdir())) == 2


def test_what_somebody_elses_is_called_like_ours_is_left_alone(
    planned: Screen, tmp_path: Path
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can play another user")
    planned.plan("-q", "-t", str(tmp_path))
    folder = tmp_path / own_name(planned)
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    says_it_runs(planned, folder)
    assert todo.clear_leftovers(planned.workspace) == []
    assert folder.is_dir()


def test_half_written_state_goes(planned: Screen) -> None:
    paths = planned.workspace.chunk(planned.chunks()[1])
    half = paths.folder / ".done.json.x1y2"
    half.write_text("{")
    with hold(paths.lock, "it"):
        todo.clear_leftovers(planned.workspace)
        assert half.exists()
    todo.clear_leftovers(planned.workspace)
    assert not half.exists()
    assert paths.chunk.exists()


def test_nonsense_in_a_record_is_no_reason_to_stop(planned: Screen) -> None:
    paths = planned.workspace.chunk(planned.chunks()[0])
    paths.running.write_text('{"folder": 7}')
    assert todo.clear_leftovers(planned.workspace) == []
    assert not paths.running.exists()


def test_images_of_a_chunk_that_somebody_runs_by_hand_stay(planned: Screen) -> None:
    """While it fetches them, and between two attempts, no record says that it runs."""
    chunk = planned.chunks()[0]
    folder = planned.workspace.attempts / f"{planned.workspace.attempt_prefix}{chunk}-images-x1"
    folder.mkdir(parents=True)
    with hold(planned.workspace.chunk(chunk).lock, "it"):
        assert todo.clear_leftovers(planned.workspace) == []
    assert todo.clear_leftovers(planned.workspace) == [folder]
