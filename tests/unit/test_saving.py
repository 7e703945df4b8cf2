from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import EXPORT, IDENTIFY, Screen, load_data, refused
from test_check_pipeline import module, piped
from test_saved import NO, SINGLE, saves

from bpcp import plan
from bpcp.beside import Places
from bpcp.check.findings import Finding, bad_lines, errors
from bpcp.check.saving import OVERWRITTEN, REFUSED, of_any_list, of_saving
from bpcp.errors import Exit
from bpcp.imagelist import ImageList, Row
from bpcp.pipeline import Kind, Pipeline
from bpcp.workspace import read_json

HEADER = ("FileName_DNA", "PathName_DNA", "Metadata_Plate", "Metadata_Well")


def rows(*names: str) -> ImageList:
    """Give image sets of some files: "P2/a.tif" is of plate P2."""
    found: list[Row] = []
    for n, name in enumerate(names):
        plate, file = name.split("/")
        found.append((file, f"/x/{plate}", plate, f"A{n:02d}"))
    return ImageList(HEADER, tuple(found), tuple(range(2, len(found) + 2)))


def findings(pipe: Pipeline, images: ImageList) -> list[Finding]:
    return of_saving(pipe, images, Places(Path("/x")))


def test_names_that_differ() -> None:
    images = rows("P1/a.tif", "P1/b.tif", "P2/c.tif")
    assert findings(piped(saves(), EXPORT), images) == []
    assert findings(piped(EXPORT), rows("P1/a.tif", "P2/a.tif")) == []


def test_two_plates_of_one_spelling() -> None:
    images = rows("P1/a.tif", "P1/b.tif", "P2/a.tif", "P2/b.tif")
    (finding,) = findings(piped(saves(), EXPORT), images)
    assert finding.code is OVERWRITTEN and finding.place == "module 2, SaveImages"
    assert finding.what == (
        "line 2 (Plate P1, Well A00) and line 4 (Plate P2, Well A02) both save a.png; the later"
        " one's stays: 2 files of 4 will be overwritten"
    )
    # those whose files are lost
    assert finding.lines == (2, 3)
    apart = saves(r"Output file location:Default Output Folder sub-folder|\g<Plate>")
    assert findings(piped(apart, EXPORT), images) == []


def test_a_single_name() -> None:
    images = rows(*(f"P1/{n}.tif" for n in range(8)))
    (finding,) = findings(piped(saves(SINGLE, "Enter single file name:o"), EXPORT), images)
    assert "7 files of 8" in finding.what and finding.lines == tuple(range(2, 9))
    # a movie, or a last cycle, is saved once for each group
    for once in ("When to save:Last cycle", "Select the type of image to save:Movie/Stack"):
        pipe = piped(saves(SINGLE, "Enter single file name:o", once), EXPORT)
        assert findings(pipe, images) == []


def test_one_name_whatever_the_list_holds() -> None:
    def alone(*settings: str) -> list[Finding]:
        return list(of_any_list(piped(saves(*settings), EXPORT), Places(Path("/x"))))

    one = (SINGLE, "Enter single file name:o")
    (finding,) = alone(*one)
    assert finding.code is OVERWRITTEN and finding.place == "module 2, SaveImages"
    assert finding.what == "every image set saves o.png, and only the last one's stays"
    (finding,) = alone(*one, NO)
    assert finding.code is OVERWRITTEN and "the second one fails" in finding.what
    # only a list tells
    assert alone() == alone(SINGLE, r"Enter single file name:\g<Well>") == []
    plates = r"Output file location:Default Output Folder sub-folder|\g<Plate>"
    assert alone(*one, plates) == alone(*one, "When to save:Last cycle") == []
    numbered = "Select method for constructing file names:Sequential numbers"
    assert alone(numbered, "Enter file prefix:o") == []


def test_a_name_for_each_group() -> None:
    images = rows("P2/a.tif", "P1/b.tif", "P2/c.tif", "P1/d.tif")
    last = saves("When to save:Last cycle")
    assert findings(piped(last, EXPORT, load=load_data(keys="Plate")), images) == []
    one = saves(SINGLE, "Enter single file name:o", "When to save:First cycle")
    (finding,) = findings(piped(one, EXPORT, load=load_data(keys="Plate")), images)
    # the groups come in their own order, not in that of the list
    assert "line 3 (Plate P1, Well A01) and line 2 (Plate P2, Well A00)" in finding.what


def test_two_modules_of_one_name() -> None:
    images = rows("P1/a.tif", "P1/b.tif")
    (finding,) = findings(piped(saves(), saves(), EXPORT), images)
    assert "line 2 (Plate P1, Well A00) saves a.png here and by module 2" in finding.what
    assert "2 files of 4" in finding.what


def test_across_modules() -> None:
    by_well = saves(SINGLE, r"Enter single file name:\g<Well>")
    (finding,) = findings(piped(by_well, saves(), EXPORT), rows("P1/A01.tif", "P1/b.tif"))
    assert (
        "line 2 (Plate P1, Well A00) and line 3 (Plate P1, Well A01) both save A01" in finding.what
    )
    assert "(module 3 and this one)" in finding.what


def test_what_must_not_be_overwritten_fails() -> None:
    images = rows("P1/a.tif", "P1/b.tif", "P2/a.tif", "P3/a.tif")
    found = findings(piped(saves(NO), EXPORT), images)
    assert [f.code for f in found] == [REFUSED, REFUSED] and errors(found) == found
    assert sorted(bad_lines(found)) == [4, 5]
    # also the third would meet the file of the first
    assert all("saves a.png" not in f.what and "line 2 (Plate P1" in f.what for f in found)


def test_an_image_set_that_fails_leaves_nothing() -> None:
    images = rows("P1/a.tif", "P2/a.tif", "P1/A01.tif")
    by_well = saves(SINGLE, r"Enter single file name:\g<Well>")
    found = findings(piped(by_well, saves(NO), EXPORT), images)
    # the second would have saved A01.png before it failed
    assert sorted(bad_lines(found)) == [3] and [f.code for f in found] == [REFUSED]


@pytest.mark.parametrize(
    "before",
    [module("FlagImage", "Skip image set if flagged?:Yes"), module("RunPlugin", "x:1")],
)
def test_where_the_first_may_be_skipped_nothing_is_certain(before: str) -> None:
    images = rows("P1/a.tif", "P2/a.tif")
    (finding,) = findings(piped(before, saves(NO), EXPORT), images)
    assert finding.code is OVERWRITTEN and not errors([finding])
    assert "unless one of them is skipped before" in finding.what
    assert finding.what.endswith("keeps the earlier one's file; up to 1 of them")
    (finding,) = findings(piped(before, saves(), EXPORT), images)
    assert finding.what.endswith("up to 1 file of 2 will be overwritten")
    pipe = piped(saves(NO), before, EXPORT)
    assert [f.code for f in findings(pipe, images)] == [REFUSED]


def test_image_sets_of_a_batch_file_are_in_order() -> None:
    images = rows("P2/a.tif", "P1/a.tif")
    groups = module("Groups", "Do you want to group your images?:Yes", "Metadata category:Plate")
    load = "\nImages:[module_num:1|enabled:True|x:1]\n"
    pipe = piped(groups, saves(), EXPORT, load=load, kind=Kind.BATCH)
    (finding,) = findings(pipe, images)
    assert finding.what.startswith("image set 2 (Plate P2, Well A00) and image set 3")


def test_a_list_without_the_groups_is_told_elsewhere() -> None:
    pipe = piped(saves(), EXPORT, load=load_data(keys="Gone"))
    assert findings(pipe, rows("P1/a.tif", "P2/a.tif")) == []


def test_a_long_list_is_quick() -> None:
    images = rows(*(f"P{n % 2}/{n // 2}.tif" for n in range(100_000)))
    (finding,) = findings(piped(saves(), EXPORT), images)
    assert "50,000 files of 100,000" in finding.what


def test_the_codes_names_are_a_contract() -> None:
    names = [code.name for code in (OVERWRITTEN, REFUSED)]
    assert names == ["pipeline-saved-twice", "pipeline-overwrite-refused"]


# --- in a run -------------------------------------------------------------------------------------


def two_plates(screen: Screen, *settings: str) -> None:
    """Two plates whose files have the same names, in folders of their own."""
    for plate in ("P1", "P2"):
        screen.images_elsewhere = screen.base / plate
        for i, name in enumerate(("a.tif", "b.tif")):
            screen.add(name, 8 + i + 3 * (plate == "P2"), plate=plate, well=f"A0{i + 1}")
    saver = saves(*settings, "Saved file format:png")
    screen.write(load_data(), IDENTIFY, saver, EXPORT)


def test_the_plan_warns(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    two_plates(screen)
    assert screen.plan("--chunk-size", "2") == Exit.OK
    said = capsys.readouterr().err
    assert "warning: module 3, SaveImages: line 2 (Plate P1, Well A01) and line 4" in said
    assert "2 files of 4 will be overwritten" in said


def test_image_sets_that_must_not_overwrite_fail_by_name(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    two_plates(screen, NO)
    state = screen.all("--chunk-size", "2")
    assert screen.failed() == ["a.tif", "b.tif"]
    assert [f["line"] for f in state.failures] == [4, 5]
    assert all("it would save" in f["reason"] for f in state.failures)
    # CellProfiler never saw them
    assert sorted(name for names in screen.ran() for name in names) == ["a.tif", "b.tif"]
    screen.plan("--chunk-size", "2")
    assert "saved before: 2 image sets will fail" in capsys.readouterr().err
    # and at the next start they fail again
    screen.run()
    assert screen.ran() == [] and screen.failed() == ["a.tif", "b.tif"]
    verdicts = [v for v in screen.verdicts() if v["failed"]]
    assert {f["kind"] for v in verdicts for f in v["failed"]} == {"module-error"}
    # a pipeline that may write over them analyses them
    screen.rows.clear()
    two_plates(screen)
    assert screen.all("--chunk-size", "2").failures == []


def test_quarantine_leaves_them_out(screen: Screen) -> None:
    two_plates(screen, NO)
    for row in screen.rows:
        tifffile.imwrite(Path(row[1]) / row[0], np.zeros((20, 16), "uint16") + 7)
    plan.main(screen.arguments("--slots", "2", "--quarantine", "-q"))
    run = read_json(screen.workspace.run) or {}
    assert run["image_sets"] == 2
    assert [entry["line"] for entry in run["not_analysed"]] == [4, 5]


def test_where_none_is_left_nothing_runs(screen: Screen) -> None:
    screen.fill(1)
    screen.write(load_data(), IDENTIFY, saves(NO), saves(NO), EXPORT)
    refused(Exit.MALFORMED_INPUT, "which module 3 saved before", screen.plan)
