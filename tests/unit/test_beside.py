from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import EXPORT, HOSTILE, IDENTIFY, Screen, load_data, refused, rows_of
from test_check_pipeline import found, module, piped, rules

from bpcp import beside, cellprofiler, plan
from bpcp.beside import Folder, Places
from bpcp.check.findings import Finding, Severity
from bpcp.check.pipeline import of_pipeline
from bpcp.errors import Exit
from bpcp.pipeline import Kind, Pipeline
from bpcp.settings import Settings, settings_of

IN = "Default Input Folder|"
METADATA = (
    "Extract metadata?:{extract}",
    "Metadata extraction method:Extract from file/folder names",
    "Metadata file location:{folder}",
    "Metadata file name:first.csv",
    "Metadata extraction method:{method}",
    "Metadata file location:{folder}",
    "Metadata file name:doses.csv",
)
CREATE = (
    "CreateBatchFiles",
    "Hidden- in batch mode:Yes",
    "Hidden- default input folder at time of save:{folder}",
)


def metadata(folder: str = IN, extract: str = "Yes", method: str = "Import from file") -> str:
    lines = (line.format(folder=folder, extract=extract, method=method) for line in METADATA)
    return module("Metadata", *lines)


def asked(screen: Screen, *options: str) -> Settings:
    arguments = ["-d", screen.dataset, "-p", str(screen.pipeline), *options]
    return settings_of(plan.parse(arguments), screen.workspace)


def missing(pipe: Pipeline, where: Places) -> list[Finding]:
    wrong = of_pipeline(pipe, None, where)
    return [f for f in wrong if f.code.name == "pipeline-path-missing"]


# --- where folders are ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "there"),
    [
        (IN, "in"),
        ("Default Input Folder sub-folder|a/b", "in/a/b"),
        ("Default input directory sub-folder|a", "in/a"),
        (r"Default Input Folder sub-folder|a/\g<Plate>/b", "in/a"),
        ("Elsewhere...|models", "root/models"),
        ("Elsewhere...|../x", "x"),
        ("Default Output Folder|", None),
        ("(a|b)", None),
    ],
)
def test_folders_are_where_cellprofiler_looks(
    tmp_path: Path, value: str, there: str | None
) -> None:
    where = Places(tmp_path / "root", tmp_path / "in")
    assert where.find(Folder.of(value)) == (tmp_path / there if there else None)
    # an absolute one is what it is
    absolute = Folder.of(f"Elsewhere...|{tmp_path / HOSTILE}")
    assert where.find(absolute) == tmp_path / HOSTILE


def test_the_home_folder_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cellprofiler, "command", lambda: ["cellprofiler"])
    monkeypatch.setattr(cellprofiler, "python_of", lambda argv: "python")
    assert Places(tmp_path).input_folder == tmp_path / "home"
    assert Places(tmp_path, tmp_path / "in").input_folder == tmp_path / "in"
    # the home of a container, nobody knows
    monkeypatch.setattr(cellprofiler, "python_of", lambda argv: None)
    assert Places(tmp_path).input_folder is None


def test_a_batch_file_remembers_its_folder(screen: Screen, tmp_path: Path) -> None:
    settings = asked(screen)
    for folder, expected in ((str(tmp_path), tmp_path), ("/gone", None), ("", None)):
        made = module(CREATE[0], *(line.format(folder=folder) for line in CREATE[1:]))
        pipe = piped(made, EXPORT, kind=Kind.BATCH)
        assert beside.places(pipe, settings).named == expected
    named = replace(settings, input_folder=tmp_path / "in")
    assert beside.places(pipe, named).named == tmp_path / "in"


# --- what is read ---------------------------------------------------------------------------------


def test_files_that_modules_read(tmp_path: Path) -> None:
    models, inputs = tmp_path / f"models {HOSTILE}", tmp_path / "in"
    for folder in (models, inputs):
        folder.mkdir()
        for name in ("a model", "rules.txt", "beside.txt", "load_data.csv"):
            (folder / name).touch()
    pipe = piped(
        module("RunCellpose", f"Location:Elsewhere...|{models}", "Model:a model", "Diameter:30"),
        module("Classify", f"Folder:Elsewhere...|{models.name}", "Rules:rules.txt", "O:gone.txt"),
        module("Flag", f"Folder:{IN}", "Rules:rules.txt"),
        # of another folder, and of none
        module("Crop", "Folder:Default Output Folder|", "File:beside.txt"),
        module("Threshold", "Text:beside.txt"),
        EXPORT,
    )
    # the list that LoadData's settings name is not the one that it reads
    assert beside.files(pipe, Places(tmp_path, inputs)) == [
        models / "a model", models / "rules.txt", inputs / "rules.txt",
    ]  # fmt: skip


def test_a_long_setting_is_no_file(tmp_path: Path) -> None:
    long = ",".join(["AreaShape_Area"] * 30)
    text = module("Classify", f"Folder:Elsewhere...|{tmp_path}", f"Measurements:{long}")
    assert beside.files(piped(text), Places(tmp_path, tmp_path)) == []


def test_what_is_read_is_a_part_of_the_runs_identity(screen: Screen, tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_text("1")
    pipe, settings = piped(rules(IN, "rules.txt"), EXPORT), asked(screen, "-i", str(tmp_path))
    first = beside.identity(pipe, settings)
    (tmp_path / "rules.txt").write_text("2")
    second = beside.identity(pipe, settings)
    assert len(first) == len(second) == 2 and first != second
    # a folder that nobody looks into is no part of it
    assert beside.identity(piped(EXPORT), settings) == []


# --- what the check says --------------------------------------------------------------------------


def test_a_file_that_is_not_in_the_default_input_folder(tmp_path: Path) -> None:
    where, pipe = Places(tmp_path, tmp_path), piped(rules(IN, "r.txt"), EXPORT)
    (finding,) = missing(pipe, where)
    assert (finding.code.severity, finding.code.exit) == (Severity.ERROR, Exit.NO_INPUT)
    assert str(tmp_path / "r.txt") in finding.what and "-i DIR" in finding.remedy
    (tmp_path / "r.txt").touch()
    assert of_pipeline(pipe, None, where) == found(piped(EXPORT), None)


def test_without_a_name_it_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cellprofiler, "command", lambda: ["cellprofiler"])
    monkeypatch.setattr(cellprofiler, "python_of", lambda argv: "python")
    (finding,) = missing(piped(rules(IN, "r.txt"), EXPORT), Places(Path("/data")))
    assert str(tmp_path / "r.txt") in finding.what and "home folder" in finding.what
    assert finding.remedy.startswith("name the folder that holds it: -i DIR")


def test_where_nobody_can_tell_it_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cellprofiler, "command", lambda: ["docker", "run", "cellprofiler"])
    monkeypatch.setattr(cellprofiler, "python_of", lambda argv: None)
    pipe = piped(rules(IN, "r.txt"), EXPORT)
    wrong = of_pipeline(pipe, None, Places(Path("/data")))
    (finding,) = [f for f in wrong if f.code.name == "pipeline-default-input"]
    assert finding.code.severity is Severity.WARNING and "-i DIR" in finding.remedy
    assert missing(pipe, Places(Path("/data"))) == []


def test_a_folder_of_windows_is_called_what_it_is() -> None:
    (finding,) = missing(piped(rules("Elsewhere...|C:\\r", "x"), EXPORT), Places(Path("/data")))
    assert finding.what == "no such file here: C:\\r/x"


def test_a_relative_folder_starts_at_the_root(tmp_path: Path) -> None:
    pipe = piped(rules("Elsewhere...|qc", "r.txt"), EXPORT)
    (finding,) = missing(pipe, Places(tmp_path))
    assert str(tmp_path / "qc" / "r.txt") in finding.what
    (tmp_path / "qc").mkdir()
    (tmp_path / "qc" / "r.txt").touch()
    assert missing(pipe, Places(tmp_path)) == []


def test_a_metadata_file(tmp_path: Path) -> None:
    where = Places(tmp_path, tmp_path)
    (finding,) = missing(piped(metadata(), EXPORT), where)
    # the first way of extracting reads none
    assert str(tmp_path / "doses.csv") in finding.what and "Metadata" in finding.place
    assert missing(piped(metadata(extract="No"), EXPORT), where) == []
    assert missing(piped(metadata(method="Extract from image file headers")), where) == []
    assert missing(piped(metadata("URL|"), EXPORT), where) == []
    # the image sets of a batch file are made already
    assert missing(piped(metadata(), EXPORT, kind=Kind.BATCH), where) == []
    (tmp_path / "doses.csv").touch()
    assert missing(piped(metadata(), EXPORT), where) == []


# --- the option -----------------------------------------------------------------------------------


def test_the_option(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    assert asked(screen).input_folder is None
    for options in (("-i", "in"), ("--input-folder=in/.",), ("-iin",)):
        assert asked(screen, *options).input_folder == tmp_path / "in"
    error = refused(Exit.NO_INPUT, "-i gone: no such folder", asked, screen, "-i", "gone")
    assert not error.todo
    error = refused(Exit.NO_INPUT, "no such folder", asked, screen, "-i", "s3://b/rules")
    assert "--input" in error.todo


def test_each_command_that_makes_settings_takes_it() -> None:
    from bpcp.check import __main__ as check

    for parse in (plan.parse, check.parse):
        args: argparse.Namespace = parse(["-d", "d", "-p", "p", "-i", "x", "--input", "s3://b/p"])
        assert (args.input_folder, args.input) == ("x", "s3://b/p")


def test_cellprofiler_is_told_and_does_not_walk(screen: Screen, tmp_path: Path) -> None:
    screen.fill(2)
    job = cellprofiler.Job(*[Path("/x")] * 2, 1, 2, *[Path("/x")] * 3)
    assert "-i" not in cellprofiler.arguments(job)
    words = cellprofiler.arguments(replace(job, input_folder=tmp_path))
    at = words.index("-i")
    # an empty list of files: otherwise it looks for images in the whole tree
    assert words[at : at + 4] == ["-i", str(tmp_path), "--file-list", os.devnull]
    screen.all("-i", str(tmp_path))
    runs = [json.loads(line) for line in screen.journal.read_text().splitlines()]
    assert {(run["input_folder"], run["file_list"]) for run in runs} == {
        (str(tmp_path), os.devnull)
    }
    assert screen.run_json()["input_folder"] == str(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "lists"), [(["--file-list", "/f"], 1), (["--data-file", "/d"], 1), ([], 1)]
)
def test_where_a_batch_file_is_made_it_does_not_walk_either(
    tmp_path: Path, inputs: list[str], lists: int
) -> None:
    """A project names its files itself; an empty list adds none to them."""
    said = tmp_path / "said"
    stand_in = tmp_path / "cellprofiler"
    stand_in.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{said}'\n")
    stand_in.chmod(0o755)
    argv, path = [str(stand_in)], Path("/x")
    cellprofiler.make_batch_file(argv, path, inputs, path, path, tmp_path, tmp_path / "in")
    words = said.read_text().splitlines()
    assert words[words.index("-i") + 1] == str(tmp_path / "in")
    assert words.count("--file-list") == lists
    cellprofiler.make_batch_file(argv, path, inputs, path, path, tmp_path)
    assert "-i" not in said.read_text().splitlines()


def listed(screen: Screen) -> set[str]:
    files = [screen.workspace.chunk(chunk).images for chunk in screen.chunks()]
    return {row["PathName_DNA"] for file in files for row in rows_of(file)}


def test_images_below_the_default_input_folder(screen: Screen, tmp_path: Path) -> None:
    screen.images_elsewhere = tmp_path / "in" / "plate"
    screen.fill(2)
    for row in screen.rows:
        row[1] = "plate"
    screen.write(load_data(IN), IDENTIFY, EXPORT)
    screen.plan()
    assert listed(screen) == {str(screen.base / "plate")}
    screen.plan("-i", str(tmp_path / "in"))
    assert listed(screen) == {str(tmp_path / "in" / "plate")}
