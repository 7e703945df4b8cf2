"""A folder of plugins: each CellProfiler is given it, and its content is part of a run."""

from __future__ import annotations

import json
import os
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
from conftest import EXPORT, FAKE, IDENTIFY, SAVE, Screen, load_data, refused

from bpcp import cellprofiler, plan, plugins
from bpcp.check import __main__ as check
from bpcp.check.plugins import below, source_of
from bpcp.errors import Exit
from bpcp.profile import __main__ as profile
from bpcp.run import todo

# Notes what it was given and in what environment, and goes on as the fake.
WATCHED = """\
#!/usr/bin/env python3
import json, os, sys
names = ("HOME", "CELLPOSE_LOCAL_MODELS_PATH", "CUDA_VISIBLE_DEVICES")
with open({journal!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], {{n: os.environ.get(n) for n in names}}]) + "\\n")
os.execv({fake!r}, [{fake!r}, *sys.argv[1:]])
"""
IMAGES = "\nImages:[module_num:1|enabled:True|wants_pause:False]\n    A:b\n"
NAMES = "\nNamesAndTypes:[module_num:2|enabled:True|wants_pause:False]\n    A:b\n"


@pytest.fixture
def watched(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give what each CellProfiler was started with so far: arguments, some of its environment."""
    journal, path = tmp_path / "started", tmp_path / "cellprofiler"
    path.write_text(WATCHED.format(journal=str(journal), fake=str(FAKE)), encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("BPCP_CELLPROFILER", str(path))
    screen.fill(4)
    return lambda: [json.loads(line) for line in journal.read_text().splitlines()]


@pytest.fixture
def folder(screen: Screen) -> Path:
    made = screen.base / "my plugins"
    (made / "tables").mkdir(parents=True)
    (made / "callstripes.py").write_text("class CallStripes: ...\n")
    (made / "tables" / "colours.csv").write_text("red\n")
    return made


def again(screen: Screen, folder: Path) -> int:
    screen.plan("--chunk-size", "2", "--plugins-directory", str(folder))
    return len(todo.left(screen.workspace))


def test_each_cellprofiler_is_given_the_folder(
    screen: Screen, folder: Path, watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also relative, as a user types it; and models that plugins keep at home are found."""
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", "/models")
    monkeypatch.chdir(screen.base)
    saving: list[list[str]] = []
    monkeypatch.setattr(cellprofiler, "saved", lambda argv, *_: saving.append(argv))
    option = ["--plugins-directory", "my plugins"]
    assert check.main([*screen.arguments("--no-images"), *option]) == Exit.OK
    screen.all("--chunk-size", "2", *option)
    assert profile.main(screen.arguments("-q", "--samples", "2", *option)) == Exit.OK
    # the one that saves an old pipeline again starts in a folder of its own
    assert len(saving) >= 3
    assert all(argv[-2:] == ["--plugins-directory", str(folder)] for argv in saving)
    started = watched()
    kinds = {"--version": 0, "--measurements": 0, "-r": 0}
    for argv, environ in started:
        assert argv[:2] == ["--plugins-directory", str(folder)], argv
        assert environ == {
            "HOME": os.environ["HOME"],
            "CELLPOSE_LOCAL_MODELS_PATH": "/models",
            "CUDA_VISIBLE_DEVICES": None,
        }
        kinds[next(kind for kind in kinds if kind in argv)] += 1
    assert all(kinds.values()), kinds
    assert screen.run_json()["cellprofiler"]["plugins"].keys() == {
        "callstripes.py", "tables/colours.csv",
    }  # fmt: skip


def test_the_one_that_makes_a_batch_file_is_given_it_too(
    screen: Screen, folder: Path, watched: Any
) -> None:
    screen.write("ModuleCount:4\n", IMAGES, NAMES, IDENTIFY, EXPORT)
    listed = screen.workspace.file_list
    listed.parent.mkdir(parents=True)
    listed.write_text("/a.tif\n")
    # the fake makes none
    refused(Exit.MALFORMED_INPUT, "no image set", screen.plan, "--plugins-directory", str(folder))
    (argv,) = [argv for argv, _ in watched() if "--file-list" in argv]
    assert argv[:2] == ["--plugins-directory", str(folder)]


def test_a_plugin_that_changed_runs_all_again(
    screen: Screen, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2", "--plugins-directory", str(folder))
    assert again(screen, folder) == 0
    # what Python makes beside a plugin, and what version control keeps there, is none of it
    for name in ("__pycache__/callstripes.cpython-311.pyc", ".git/HEAD", ".callstripes.py.swp"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    # nor does it matter where the folder is
    folder = folder.rename(folder.with_name("moved"))
    capsys.readouterr()
    assert again(screen, folder) == 0
    assert "again" not in capsys.readouterr().err

    (folder / "callstripes.py").write_text("class CallStripes: threshold = 2\n")
    (folder / "tables" / "colours.csv").write_text("blue\n")
    for i in range(2):
        (folder / f"new{i}.py").write_text("")
    assert again(screen, folder) == 2
    said = capsys.readouterr().err
    assert "plugins changed (callstripes.py, new0.py, new1.py and 1 more): every image" in said
    screen.run()
    assert again(screen, folder) == 0
    # without plugins it is another run
    capsys.readouterr()
    screen.plan("--chunk-size", "2")
    assert "plugins changed" in capsys.readouterr().err
    assert len(todo.left(screen.workspace)) == 2


def test_a_folder_that_the_command_names_counts_as_well(
    screen: Screen,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen.fill(4)
    words = [str(FAKE), "--plugins-directory", str(folder)]
    monkeypatch.setenv("BPCP_CELLPROFILER", shlex.join(words))
    screen.all("--chunk-size", "2")
    (folder / "callstripes.py").write_text("")
    capsys.readouterr()
    screen.plan("--chunk-size", "2")
    assert "plugins changed (callstripes.py)" in capsys.readouterr().err
    # the option's own stands behind it, and counts
    words = [str(FAKE), "--plugins-directory=/else/where"]
    monkeypatch.setenv("BPCP_CELLPROFILER", shlex.join(words))
    command = cellprofiler.command(plugins=folder / "tables")
    assert plugins.contents(command).keys() == {"colours.csv"}


def test_a_folder_of_a_container_is_not_looked_into() -> None:
    assert plugins.contents(["docker", "run", "cp", "--plugins-directory", "/in/there"]) == {}
    assert plugins.contents(["cellprofiler", "--plugins-directory"]) == {}


def test_links_are_followed_and_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "plugins", tmp_path / "elsewhere"
    for path in (home, elsewhere):
        path.mkdir()
    (elsewhere / "bridge.py").write_text("")
    (home / "shared").symlink_to(elsewhere)
    (home / "shared" / "back").symlink_to(home)
    (home / "gone.py").symlink_to("nowhere")
    found = plugins.contents(["cellprofiler", "--plugins-directory", str(home)])
    assert found.keys() == {"gone.py", "shared/bridge.py"}
    assert found["gone.py"] == "No such file or directory"


@pytest.mark.parametrize(
    ("name", "what", "todo"),
    [
        ("missing", "no such folder", ""),
        ("my plugins/callstripes.py", "not a folder", ""),
        ("my plugins/tables", "no plugin in it", ""),
        (".", "no plugin in it", "perhaps: --plugins-directory {}/my plugins"),
    ],
)
def test_what_is_no_folder_of_plugins_is_66(
    screen: Screen, folder: Path, name: str, what: str, todo: str
) -> None:
    screen.fill(2)
    # CellProfiler takes what begins with _ for no plugin
    (folder / "tables" / "_helpers.py").write_text("")
    named = f"{folder.parent}/{name}"
    error = refused(Exit.NO_INPUT, what, screen.plan, "--plugins-directory", named)
    assert error.todo == todo.format(Path(named))
    refused(Exit.NO_INPUT, what, check.main, [*screen.arguments(), "--plugins-directory", named])


def test_a_pipeline_may_be_planned_without_a_word_of_plugins(screen: Screen) -> None:
    """Runs that were planned before there was the option stay as they are."""
    screen.fill(2)
    screen.write(load_data(), IDENTIFY, SAVE, EXPORT)
    screen.all()
    run = screen.run_json()
    del run["cellprofiler"]["plugins"]
    screen.workspace.run.write_text(json.dumps(run))
    screen.plan()
    assert todo.left(screen.workspace) == []


def test_where_plugins_are_to_be_had(tmp_path: Path) -> None:
    assert source_of("RunCellpose") == (
        "active_plugins/runcellpose.py from https://github.com/CellProfiler/CellProfiler-plugins"
    )
    # not called as its module
    assert source_of("MaskTopAndBottomZ").startswith("active_plugins/masktopbottomz.py from ")
    assert source_of("SummarizeStack") == (
        "plugins/summarizestack.py from https://github.com/BodenmillerGroup/ImcPluginsCP"
    )
    assert source_of("RollingBall").startswith("rollingball.py from an older https://")
    assert source_of("MeasureTexture") == ""
    (tmp_path / "active").mkdir()
    (tmp_path / "active" / "RunCellpose.py").write_text("")
    assert below(tmp_path, "RunCellpose") == tmp_path / "active" / "RunCellpose.py"
    assert below(tmp_path, "RunStarDist") is None
    assert plan.parse(["-d", "x", "-p", "y"]).plugins_directory is None
