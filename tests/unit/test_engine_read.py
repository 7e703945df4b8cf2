"""A pipeline with its settings as the installed CellProfiler reads them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from conftest import HOSTILE, load_data, pipeline_text

from bpcp import engine, pipeline
from bpcp.check.pipeline import of_pipeline
from bpcp.errors import Exit
from bpcp.pipeline import Pipeline

HEAD = "module_num:{}|svn_version:'Unknown'|variable_revision_number:{}|enabled:True|a:1"
OLD = f"\nMeasureObjectIntensity:[{HEAD.format(2, 3)}]\n    Hidden:1\n    Select an image:ER\n"
NEW = f"\nMeasureObjectIntensity:[{HEAD.format(2, 4)}]\n    Select images to measure:ER\n"
EXPORT = f"\nExportToSpreadsheet:[{HEAD.format(3, 13)}]\n    Add a prefix to file names?:No\n"
WHOLE = EXPORT + "    Export all measurement types?:Yes\n    File name:x\n"
# Answers what the file beside it holds, and notes what it was given.
PYTHON = """\
#!/usr/bin/env python3
import os, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
shutil.copy(sys.argv[3], here / "seen")
assert sys.argv[1] == "-c" and os.environ["PYTHONHASHSEED"] == "0"
if (here / "answer").exists():
    shutil.copy(here / "answer", sys.argv[4])
"""


def text(*modules: str) -> str:
    load = load_data().replace("enabled:", "variable_revision_number:6|enabled:")
    count = f"ModuleCount:{len(modules) + 1}"
    return pipeline_text(load, *modules).replace("Version:5", f"Version:5\n{count}")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CellProfiler with a Python of its own beside it."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    (folder / "python").write_text(PYTHON, encoding="utf-8")
    (folder / "cellprofiler").write_bytes(b"#!" + os.fsencode(folder) + b"/python\n")
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("BPCP_CELLPROFILER", str(folder / "cellprofiler"))
    return folder


def read(home: Path, written: str, answer: str | None = None) -> Pipeline:
    path = home / "p.cppipe"
    path.write_text(written, encoding="utf-8")
    if answer is not None:
        (home / "answer").write_text(answer, encoding="utf-8")
    return engine.read(path)


def codes(pipe: Pipeline) -> list[str]:
    return [f.code.name for f in of_pipeline(pipe, None)]


def test_a_pipeline_of_today_is_taken_as_it_is(home: Path) -> None:
    pipe = read(home, text(NEW, WHOLE), text(WHOLE))
    assert pipe.text.decode() == text(NEW, WHOLE) and pipe.written is pipe.content
    assert not (home / "seen").exists()


def test_an_old_one_is_what_cellprofiler_makes_of_it(home: Path) -> None:
    pipe = read(home, text(OLD, WHOLE), text(NEW, WHOLE))
    assert (home / "seen").read_text() == text(OLD, WHOLE)
    assert pipe.text.decode() == text(NEW, WHOLE)
    assert pipe.modules[1].get("Select images to measure") == "ER"
    assert str(pipe.written) == text(OLD, WHOLE) and str(pipeline.mended(pipe, []).written)


def test_what_does_not_load_stays_as_it_is(home: Path) -> None:
    pipe = read(home, text(OLD, WHOLE))
    assert (home / "seen").exists() and pipe.text.decode() == text(OLD, WHOLE)


def test_a_cellprofiler_of_an_unknown_python_is_not_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "cellprofiler").write_text("#!/bin/sh\n")
    assert read(home, text(OLD, WHOLE), text(NEW, WHOLE)).text.decode() == text(OLD, WHOLE)
    monkeypatch.setenv("BPCP_CELLPROFILER", "/gone/cellprofiler")
    with pytest.raises(engine.BpcpError) as caught:
        read(home, text(OLD, WHOLE))
    assert caught.value.code is Exit.UNAVAILABLE


def test_what_the_file_says_is_told_of_the_file(home: Path) -> None:
    less = text(OLD, WHOLE).replace("ModuleCount:3", "ModuleCount:2")
    pipe = read(home, less, text(NEW))
    assert "pipeline-module-count" in codes(pipe)
    assert [m.name for m in pipe.modules] == ["LoadData", "MeasureObjectIntensity"]


def test_a_last_module_that_was_cut_off(home: Path) -> None:
    cut = text(NEW, EXPORT + "    Export all measurement types?:Ye").rstrip("\n")
    pipe = read(home, cut, text(NEW, WHOLE))
    assert codes(pipe) == ["pipeline-cut-off"]
    (finding,) = of_pipeline(pipe, None)
    assert "its last module, ExportToSpreadsheet, has 2 of 3 settings" in finding.what
    assert "ModuleCount" not in finding.remedy


@pytest.mark.parametrize("end", ["", "\n"])
def test_fewer_settings_are_not_enough(home: Path, end: str) -> None:
    """Some modules got settings without a new revision."""
    whole = text(NEW, WHOLE).rstrip("\n") + end
    assert "pipeline-cut-off" not in codes(read(home, whole, text(NEW, WHOLE)))
    fewer = text(OLD, EXPORT)
    assert "pipeline-cut-off" not in codes(read(home, fewer, text(NEW, WHOLE)))


@pytest.mark.parametrize("end", ["    ", "\t", "\n    "])
def test_blanks_behind_the_last_line(home: Path, end: str) -> None:
    pipe = read(home, text(NEW, WHOLE) + end, text(NEW, WHOLE))
    assert "pipeline-cut-off" not in codes(pipe)


def test_a_last_line_that_is_no_setting(home: Path) -> None:
    pipe = read(home, text(NEW, EXPORT + "    Export all"))
    (finding,) = of_pipeline(pipe, None)
    assert finding.code.name == "pipeline-cut-off" and "just 'Export all'" in finding.what
