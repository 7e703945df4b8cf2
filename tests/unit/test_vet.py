from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import EXPORT, IDENTIFY, SAVE, Screen, load_data, refused

from bpcp import pipeline, vet
from bpcp.errors import BpcpError, Exit
from bpcp.settings import Settings
from bpcp.vet import Vetted

BATCH_FILES = "\nCreateBatchFiles:[module_num:5|enabled:True|wants_pause:False]\n"
FLAG = """
FlagImage:[module_num:5|enabled:True|wants_pause:False]
    Flag is based on:Rules
    Rules file location:Default Input Folder|
    Rules file name:rules.txt
"""
GCT = EXPORT.replace("GCT file?:No", "GCT file?:Yes")
ELSEWHERE = SAVE + "    Output file location:Default Input Folder|\n"


def vetted(screen: Screen, *modules: str, **more: Any) -> Vetted:
    screen.fill(4)
    screen.write(*modules)
    settings = Settings(None, (), 2, True, screen.base, None)
    return vet.vet(screen.workspace, pipeline.read(screen.pipeline), replace(settings, **more))


def test_what_is_well_stays_as_it_is(screen: Screen) -> None:
    found = vetted(screen, load_data(), IDENTIFY, SAVE, EXPORT)
    assert found.pipe.text == screen.pipeline.read_bytes()
    assert found.mends == [] and found.notes == []


def test_a_copy_is_mended_and_it_is_said(screen: Screen) -> None:
    found = vetted(screen, load_data(ranged="Yes"), IDENTIFY, EXPORT, BATCH_FILES)
    assert [m.name for m in found.pipe.modules] == [
        "LoadData", "IdentifyPrimaryObjects", "ExportToSpreadsheet",
    ]  # fmt: skip
    assert b"range of rows?:No" in found.pipe.text
    assert b"range of rows?:Yes" in screen.pipeline.read_bytes()
    assert found.notes == [
        "mended: LoadData processes just rows 1 to 100000: bpcp takes these rows of the list",
        "mended: CreateBatchFiles (module 4) is off: bpcp makes the chunks",
    ]


def test_the_rows_of_a_range_are_those_that_run(screen: Screen) -> None:
    ranged = load_data(ranged="Yes").replace("Rows to process:1,100000", "Rows to process:2,3")
    assert vetted(screen, ranged, IDENTIFY, EXPORT).sets.images.lines == (3, 4)


def test_without_mending_what_needs_it_is_refused(screen: Screen) -> None:
    call = (vetted, screen, load_data(ranged="Yes"), IDENTIFY, EXPORT)
    with pytest.raises(BpcpError, match="LoadData processes just rows") as caught:
        vetted(*call[1:], mend=False)  # type: ignore[arg-type]
    assert caught.value.code is Exit.MALFORMED_INPUT
    assert caught.value.todo


def test_the_first_of_several_errors_is_told_and_the_others_counted(screen: Screen) -> None:
    error = refused(
        Exit.MALFORMED_INPUT, "and 1 more: bpcp check", vetted, screen,
        load_data(), ELSEWHERE, GCT,
    )  # fmt: skip
    assert str(screen.pipeline) in str(error)


def test_warnings_are_told(screen: Screen) -> None:
    found = vetted(screen, load_data(), IDENTIFY, FLAG, EXPORT)
    assert [note.partition(", which")[0] for note in found.notes] == [
        "warning: module 3, FlagImage: it reads rules.txt from the Default Input Folder"
    ]


def test_image_sets_can_be_left_out_but_not_all(screen: Screen) -> None:
    found = vetted(screen, load_data(), IDENTIFY, EXPORT)
    assert vet.without(found, [2, 5]).sets.images.lines == (3, 4)
    refused(Exit.MALFORMED_INPUT, "no image set is left", vet.without, found, [2, 3, 4, 5])


def test_a_quote_in_the_folder_of_a_database_is_refused(screen: Screen, tmp_path: Path) -> None:
    database = """
ExportToDatabase:[module_num:5|enabled:True|wants_pause:False]
    Database type:SQLite
    Name the SQLite database file:a.db
    Maximum # of characters in a column name:64
    Output file location:Default Output Folder|
"""
    call = (screen, load_data(), IDENTIFY, database)
    error = refused(Exit.MALFORMED_INPUT, "quote", vetted, *call)
    assert "-t" in error.todo
    plain = tmp_path / "plain"
    plain.mkdir()
    assert vetted(*call, tmpdir=plain).pipe.named("ExportToDatabase")
