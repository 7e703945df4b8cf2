"""Python code in a pipeline file, which CellProfiler would run when it loads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import EXPORT, FAKE, Screen, load_data, pipeline_text, refused

from bpcp import engine, pipeline
from bpcp.check import __main__ as command
from bpcp.check.pipeline import of_pipeline
from bpcp.errors import Exit

HEAD = "module_num:2|svn_version:'Unknown'|{}|enabled:True|wants_pause:False"
CALL = "__import__('os').system('touch pwned')"
STATE = "batch_state:array({}, dtype={})"
NOTES = "variable_revision_number:1|notes:{}|batch_state:array([], dtype=uint8)"


def piped(attributes: str, *settings: str, name: str = "Smooth") -> pipeline.Pipeline:
    lines = "".join(f"    {setting}\n" for setting in settings)
    module = f"\n{name}:[{HEAD.format(attributes)}]\n{lines}"
    text = pipeline_text(load_data(), module, EXPORT)
    return pipeline.of_text(Path("/p/x.cppipe"), text.encode())


def said(pipe: pipeline.Pipeline) -> list[str]:
    return [
        f"{f.place}: {f.what}" for f in of_pipeline(pipe, None) if f.code.name == "pipeline-code"
    ]


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        (f"notes:{CALL}", "notes"),
        (f"notes:[{CALL}]", "notes"),
        ("notes:f\"{open('pwned', 'w')}\"", "notes"),
        # what a Python older than CellProfiler's can't read
        ('notes:[f"{f"{1}"}" if]', "notes"),
        # with its letters hidden by escapes
        (r"notes:\x5f\x5fimport\x5f\x5f('os').system('touch pwned')", "notes"),
        # beyond ASCII, CellProfiler drops the signs instead
        (f"notes:\\{CALL} or 'é'", "notes"),
        (f"show_window:{CALL}", "show_window"),
        (f"show_window:[x for x in {CALL}]", "show_window"),
        (f"svn_version:'a' if {CALL} else 'b'", "svn_version"),
        ("show_window:array", "show_window"),
        (STATE.format(CALL, "uint8"), "batch_state"),
        (STATE.format("[]", CALL), "batch_state"),
        ("batch_state:array.fromfile('/etc/passwd')", "batch_state"),
        ("batch_state:array([], open('x', 'w'), dtype=uint8)", "batch_state"),
        ("batch_state:array([], dtype=uint8, like=open('x', 'w'))", "batch_state"),
        (f"notes:['a|b']|more:{CALL}", "more"),
    ],
)
def test_an_attribute_that_is_code(attributes: str, name: str) -> None:
    (what,) = said(piped(attributes))
    assert what.startswith("module 2, Smooth: line ")
    assert f": {name} is Python code, which CellProfiler would run: " in what


@pytest.mark.parametrize(
    "attributes",
    [
        "notes:[]|batch_state:array([], dtype=uint8)|variable_revision_number:2",
        STATE.format("[1, 2, 255]", "'|S1'"),
        NOTES.format("['Smooth it.', \"Ann's way | or another\"]"),
        # what Python can't read is text to CellProfiler
        "notes:['it's so', \"half]",
        "notes:['µm and é']|show_window:False",
        r"notes:['C:\x5cdata', 'tab\tx']",
        "notes:[u'old', -1, 1.5, None, ('a', b'c')]",
    ],
)
def test_what_is_no_code(attributes: str) -> None:
    assert said(piped(attributes)) == []


@pytest.mark.parametrize(
    ("name", "label"),
    [("NamesAndTypes", "Match metadata"), ("Metadata", "Match file and image metadata")],
)
def test_how_metadata_are_matched(name: str, label: str) -> None:
    """No builtins are there for it, and it reaches them by the classes of any object."""
    classes = "().__class__.__base__.__subclasses__()"
    (what,) = said(piped("variable_revision_number:1", f"{label}:{classes}", name=name))
    assert what.startswith("module 2, ") and classes in what
    good = "[{'DNA': 'Plate', 'Actin': None}]"
    assert said(piped("variable_revision_number:1", f"{label}:{good}", name=name)) == []
    assert said(piped("variable_revision_number:1", f"{label}:", name=name)) == []


def test_a_module_that_is_off_is_loaded_too_and_a_long_one_is_cut() -> None:
    text = str(piped(f"notes:{CALL + ' ' * 99 + '+ 1'}").content)
    off = pipeline.of_text(
        Path("x.cppipe"), text.replace("enabled:True|wants", "enabled:False|wants").encode()
    )
    (what,) = said(off)
    assert what.endswith(('…"', "…'")) and len(what) < 200


@pytest.fixture
def strange(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A pipeline with code, and a CellProfiler that leaves a trace where it is asked."""
    screen.fill(2)
    screen.write(load_data(), f"\nSmooth:[{HEAD.format('notes:' + CALL)}]\n", EXPORT)
    traced = tmp_path / "traced"
    traced.write_text(f"#!/bin/sh\n: >'{tmp_path}/asked'\nexec '{FAKE}' \"$@\"\n", encoding="utf-8")
    traced.chmod(0o755)
    monkeypatch.setenv("BPCP_CELLPROFILER", str(traced))
    return screen


def test_nothing_loads_it(
    strange: Screen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["-d", strange.workspace.dataset, "-p", str(strange.pipeline)]
    assert command.main([*where, "--no-images"]) == Exit.MALFORMED_INPUT
    assert "ERROR pipeline-code" in capsys.readouterr().out
    assert command.main(["-p", str(strange.pipeline)]) == Exit.MALFORMED_INPUT
    assert "__import__" in capsys.readouterr().out
    error = refused(Exit.MALFORMED_INPUT, "module 2, Smooth", engine.read, strange.pipeline)
    assert "trust" in error.todo
    assert not (tmp_path / "asked").exists()
