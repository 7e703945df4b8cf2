"""Image sets that the pipeline itself skips: done, counted by what skipped them, and by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import EXPORT, IDENTIFY, SAVE, Screen, load_data, write_csv

from bpcp import status
from bpcp.audit import __main__ as audit
from bpcp.audit.all import audit as audited
from bpcp.cellprofiler import Course, course_of
from bpcp.chunk import learned
from bpcp.chunk.verdict import Declared, Expected, Ran, Verdict, judge
from bpcp.database import file as database
from bpcp.errors import Exit
from bpcp.run import closing
from bpcp.tables import Spelling
from bpcp.workspace import Json, read_json

FLAG = """
FlagImage:[module_num:2|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Hidden:1
    Hidden:1
    Name the flag's category:Metadata
    Name the flag:QCFlag
    How should measurements be linked?:Flag if any fail
    Skip image set if flagged?:{skips}
    Ignore flag skips on last cycle?:No
"""
MODULES = (load_data(), FLAG.format(skips="Yes"), IDENTIFY, SAVE, EXPORT)
QC = "FlagImage (QCFlag)"

# --- what a log says ------------------------------------------------------------------------------

LINE = "Sat Nov 28 12:39:16 2026: Image # {}, module {} # {}: CPU_time = 0.01 secs, Wall_time = 0.0"
# as CellProfiler 4.2.8.1 wrote it, paths shortened
UNCOUNTED = """\
Failed to complete post_run processing for module ExportToSpreadsheet.
Traceback (most recent call last):
  File "cellprofiler_core/pipeline/_pipeline.py", line 1535, in post_run
    module.post_run(workspace)
  File "cellprofiler_core/utilities/hdf5_dict.py", line 435, in __getitem__
    assert feature_exists, "Feature {} for {} does not exist".format(
AssertionError: Feature Count_My Nuclei for Image does not exist
"""


def log(path: Path, *reached: tuple[int, int], more: str = "") -> Course:
    lines = [LINE.format(n, f"M{m}", m) for n, last in reached for m in range(1, last + 1)]
    path.write_text("\n".join([*lines, more]))
    return course_of(path)


def test_how_far_each_image_set_came(tmp_path: Path) -> None:
    assert log(tmp_path / "log", (4, 3), (5, 1), (6, 3)).reached == {4: 3, 5: 1, 6: 3}


def test_one_in_which_a_module_failed_was_not_skipped(tmp_path: Path) -> None:
    failed = f"Error detected during run of module M2\n{LINE.format(5, 'M2', 2)}"
    assert log(tmp_path / "log", (4, 3), (5, 1), more=failed).reached == {4: 3}


def test_objects_that_were_never_counted(tmp_path: Path) -> None:
    assert log(tmp_path / "log", (1, 1), more=UNCOUNTED).uncounted == ("My Nuclei",)


def test_another_error_at_the_end_is_none_of_these(tmp_path: Path) -> None:
    other = "Failed to complete post_run processing for module ExportToSpreadsheet.\nOSError: full"
    assert log(tmp_path / "log", (1, 1), more=f"{UNCOUNTED}{other}").uncounted == ()


def test_no_log_says_nothing(tmp_path: Path) -> None:
    assert course_of(tmp_path / "none") == Course()


# --- the verdict on one process -------------------------------------------------------------------

LAST = 6
IMAGE = [
    "Count_Nuclei", "ImageNumber", "Metadata_Dark", "Metadata_QCFlag", "ModuleError_01LoadData",
    "ModuleError_02FlagImage", "ModuleError_03IdentifyPrimaryObjects",
]  # fmt: skip
DECLARED = Declared(
    (
        Expected(r"Image\.csv", ("Image",)),
        Expected(r"Nuclei\.csv", ("Nuclei",)),
        Expected(r"Both\.csv", ("Nuclei", "Cells")),
        Expected(r"Object\ relationships\.csv", ("Object relationships",)),
    ),
    frozenset({"01LoadData", "02FlagImage", "03IdentifyPrimaryObjects", "04Blur"}),
    {2: {"Metadata_QCFlag": "QCFlag", "Metadata_Dark": "Dark"}},
    LAST,
)
ONLY_NUCLEI = Declared(DECLARED.tables[:2], DECLARED.modules, DECLARED.flags, LAST)
THROUGH = [2, 4, 0, 0, 0, 0, 0]
SKIPPED: list[object] = ["", 5, 0, 1, 0, 0, ""]


def judged(
    output: Path,
    rows: Sequence[Sequence[object]],
    reached: dict[int, int],
    said: str = "Complete",
    declared: Declared = ONLY_NUCLEI,
    uncounted: tuple[str, ...] = (),
    columns: Sequence[str] = IMAGE,
) -> Verdict:
    write_csv(output / "Image.csv", [columns, *rows])
    ran = Ran(4, 5, said, Course(reached, uncounted), declared.last_module)
    return judge(output, declared, ran)


def nuclei(output: Path) -> None:
    header = ["ImageNumber", "ObjectNumber", "Area"]
    write_csv(output / "Nuclei.csv", [header, [4, 1, 0.5], [4, 2, 1.5]])


def test_a_skipped_image_set_is_done(tmp_path: Path) -> None:
    nuclei(tmp_path)
    found = judged(tmp_path, [THROUGH, SKIPPED], {4: LAST, 5: 2})
    assert found.faults == []
    assert found.skipped == {QC: [5]}
    assert found.objects == {"Nuclei": 2}


def test_without_the_log_it_is_not_known_to_be_one(tmp_path: Path) -> None:
    nuclei(tmp_path)
    found = judged(tmp_path, [THROUGH, SKIPPED], {})
    assert found.faults == ["image set 5: 03IdentifyPrimaryObjects did not finish"]
    assert found.skipped == {}


@pytest.mark.parametrize(
    ("at", "what"),
    [(4, "01LoadData failed"), (5, "02FlagImage failed")],
)
def test_a_module_before_the_flag_must_be_good(tmp_path: Path, at: int, what: str) -> None:
    nuclei(tmp_path)
    row = [*SKIPPED[:at], 1, *SKIPPED[at + 1 :]]
    assert judged(tmp_path, [THROUGH, row], {4: LAST, 5: 2}).faults == [f"image set 5: {what}"]


def test_objects_that_it_has_must_be_there(tmp_path: Path) -> None:
    nuclei(tmp_path)
    found = judged(tmp_path, [THROUGH, [3, *SKIPPED[1:]]], {4: LAST, 5: 2})
    assert found.faults == ["image set 5: Count_Nuclei is 3, its table has 0 rows"]


@pytest.mark.parametrize(
    ("dark", "flag", "by"),
    [
        (1, 0, "FlagImage (Dark)"),
        ("1.0", 1, "FlagImage (QCFlag, Dark)"),
        # where no flag is said to be raised, all that may be are named
        ("", "", "FlagImage (QCFlag, Dark)"),
    ],
)
def test_the_flag_is_named(tmp_path: Path, dark: object, flag: object, by: str) -> None:
    nuclei(tmp_path)
    row = ["", 5, dark, flag, 0, 0, ""]
    assert judged(tmp_path, [THROUGH, row], {4: LAST, 5: 2}).skipped == {by: [5]}


def test_flags_that_are_not_exported_are_named_by_the_pipeline(tmp_path: Path) -> None:
    nuclei(tmp_path)
    rows = [[2, 4], ["", 5]]
    found = judged(tmp_path, rows, {4: LAST, 5: 2}, columns=["Count_Nuclei", "ImageNumber"])
    assert found.faults == []
    assert found.skipped == {"FlagImage (QCFlag, Dark)": [5]}


@pytest.mark.parametrize(("module", "by"), [(4, "Blur"), (5, "module 5")])
def test_other_modules_that_skip_are_named_too(tmp_path: Path, module: int, by: str) -> None:
    nuclei(tmp_path)
    row = [0, 5, 0, 0, 0, 0, 0]
    assert judged(tmp_path, [THROUGH, row], {4: LAST, 5: module}).skipped == {by: [5]}


ALL: list[list[object]] = [["P", 4, 0, 1], ["P", 5, 1, 1]]
NARROW = ["Metadata_Plate", "ImageNumber", "Metadata_Dark", "Metadata_QCFlag"]


def test_where_all_are_skipped_nothing_behind_is_written(tmp_path: Path) -> None:
    found = judged(tmp_path, ALL, {4: 2, 5: 2}, columns=NARROW, declared=DECLARED)
    assert found.faults == []
    assert found.skipped == {QC: [4], "FlagImage (QCFlag, Dark)": [5]}
    assert found.objects == {"Nuclei": 0}


def test_where_one_is_not_skipped_the_tables_must_be_there(tmp_path: Path) -> None:
    found = judged(tmp_path, ALL, {4: 2, 5: LAST}, columns=NARROW, declared=DECLARED)
    assert found.faults[:3] == [
        "no table of Nuclei",
        "no table of Nuclei and Cells",
        "no table of Object relationships",
    ]


def test_of_all_skipped_ones_the_image_table_must_be_there(tmp_path: Path) -> None:
    nuclei(tmp_path)
    ran = Ran(4, 5, "Complete", Course({4: 2, 5: 2}), LAST)
    assert judge(tmp_path, ONLY_NUCLEI, ran).faults == ["no table of Image"]
    judged(tmp_path, ALL[:1], {4: 2, 5: 2}, columns=NARROW)
    assert judge(tmp_path, ONLY_NUCLEI, ran).faults == [
        "Image.csv lacks 1 image sets, the first is 5"
    ]


def test_a_failure_for_want_of_anything_to_count_is_none(tmp_path: Path) -> None:
    """CellProfiler ends so where it lists tables of objects that none of its image sets has."""
    reached, lists = {4: 2, 5: 2}, ("Nuclei",)
    found = judged(tmp_path, ALL, reached, "Failure", uncounted=lists, columns=NARROW)
    assert found.faults == []
    assert found.skipped == {QC: [4], "FlagImage (QCFlag, Dark)": [5]}


@pytest.mark.parametrize(
    ("reached", "uncounted", "said"),
    [
        ({4: 2, 5: 2}, (), "Failure"),
        ({4: 2, 5: LAST}, ("Nuclei",), "Failure"),
        ({4: 2}, ("Nuclei",), "Failure"),
        ({4: 2, 5: 2}, ("Nuclei",), ""),
    ],
)
def test_any_other_failure_is_one(
    tmp_path: Path, reached: dict[int, int], uncounted: tuple[str, ...], said: str
) -> None:
    nuclei(tmp_path)
    found = judged(tmp_path, ALL, reached, said, uncounted=uncounted, columns=NARROW)
    assert found.faults[0].startswith("CellProfiler ")
    assert found.skipped == {}


@pytest.mark.parametrize(
    ("reached", "said"), [({4: LAST, 5: 2}, "Complete"), ({4: 2, 5: 2}, "Failure")]
)
def test_without_an_image_table(tmp_path: Path, reached: dict[int, int], said: str) -> None:
    """Only objects are exported: what was skipped is known all the same."""
    declared = Declared(DECLARED.tables[1:2], DECLARED.modules, DECLARED.flags, LAST)
    write_csv(tmp_path / "Nuclei.csv", [["ImageNumber", "ObjectNumber", "Area"]])
    found = judge(tmp_path, declared, Ran(4, 5, said, Course(reached, ("Nuclei",)), LAST))
    assert found.faults == []
    by = {"FlagImage (QCFlag, Dark)": [n for n, module in reached.items() if module == 2]}
    assert found.skipped == by


def test_a_pipeline_without_tables_may_write_nothing(tmp_path: Path) -> None:
    declared = Declared(last_module=LAST)
    for reached, faults in (
        ({4: 2, 5: 2}, []),
        ({4: LAST, 5: 2}, []),
        ({4: 2}, ["CellProfiler wrote nothing"]),
    ):
        ran = Ran(4, 5, "Complete", Course(reached), LAST)
        assert judge(tmp_path, declared, ran).faults == faults


@pytest.mark.parametrize(("flag", "how"), [(3, Spelling.BLANK), (LAST, Spelling.FLOAT)])
def test_what_was_not_measured_of_objects_is_no_number(
    tmp_path: Path, flag: int, how: Spelling
) -> None:
    """CellProfiler writes nan for it; a nan that was measured makes the column one of floats."""
    rows = [[4, 1, 7, "nan"], [5, 1, 8, "nan"]]
    write_csv(tmp_path / "Nuclei.csv", [["ImageNumber", "ObjectNumber", "Area", "Parent"], *rows])
    images = [[1, n, 0, 1, 0, 0, 0] for n in (4, 5)]
    found = judged(tmp_path, images, {4: flag, 5: flag})
    assert found.faults == []
    assert found.tables["Nuclei.csv"].spellings[2:] == (Spelling.INTEGER, how)


@pytest.mark.parametrize(
    ("said", "faults"), [("Failure", []), ("Complete", [f"no {database.PROPERTIES}"])]
)
def test_it_may_end_before_the_properties_are_written(
    tmp_path: Path, said: str, faults: list[str]
) -> None:
    properties = Expected(r"db\.properties", (database.PROPERTIES,))
    declared = Declared((*ONLY_NUCLEI.tables, properties), DECLARED.modules, {}, LAST)
    reached, lists = {4: 2, 5: 2}, ("Nuclei",)
    found = judged(tmp_path, ALL, reached, said, declared, uncounted=lists, columns=NARROW)
    assert found.faults == faults


def test_a_table_without_the_flags_does_not_hide_them(tmp_path: Path) -> None:
    nuclei(tmp_path)
    write_csv(tmp_path / "z" / "Counts.csv", [["Count_Nuclei", "ImageNumber"], [2, 4], ["", 5]])
    found = judged(tmp_path, [THROUGH, SKIPPED], {4: LAST, 5: 2})
    assert (found.faults, found.skipped) == ([], {QC: [5]})


# --- what an image table need not say -------------------------------------------------------------


def test_columns_of_an_earlier_run_say_nothing_of_this_one(tmp_path: Path) -> None:
    nuclei(tmp_path)
    columns = [*IMAGE, "ModuleError_07MeasureImageQuality", "Count_Old", "ExecutionTime_07Old"]
    rows = [[*THROUGH, 1, 7, "long"], [0, 5, 0, 0, 0, 0, 0, "", 7, ""]]
    found = judged(tmp_path, rows, {4: LAST, 5: LAST}, columns=columns)
    assert found.faults == []
    assert found.modules_s == 0


def test_nor_of_what_a_skipped_image_set_did_not_come_to(tmp_path: Path) -> None:
    nuclei(tmp_path)
    # the list's own column, which only a module behind the flag would have overwritten
    found = judged(tmp_path, [THROUGH, [*SKIPPED[:-1], 1]], {4: LAST, 5: 2})
    assert found.faults == []


def test_an_image_table_of_numbers_alone(tmp_path: Path) -> None:
    nuclei(tmp_path)
    found = judged(tmp_path, [[4], [5]], {4: LAST, 5: LAST}, columns=["ImageNumber"])
    assert found.faults == []
    assert found.tables["Image.csv"].rows == 2


@pytest.mark.parametrize(
    ("reached", "faults"),
    [({5: LAST}, []), ({}, ["image set 5 is blank in Image.csv"])],
)
def test_chosen_measurements_may_be_blank(
    tmp_path: Path, reached: dict[int, int], faults: list[str]
) -> None:
    nuclei(tmp_path)
    columns = ["ImageNumber", "Metadata_Comment"]
    found = judged(tmp_path, [[4, "x"], [5, ""]], {4: LAST, **reached}, columns=columns)
    assert found.faults == faults


# --- a run ----------------------------------------------------------------------------------------


@pytest.fixture
def flagged(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Six image sets, 1 to 6 nuclei; the first two, and the fourth, are flagged."""
    screen.fill(6)
    screen.write(*MODULES)
    monkeypatch.setenv("FAKE_SKIP", "f1.tif/f2.tif/f4.tif")
    return screen


def test_chunks_that_are_skipped_in_part_and_as_a_whole(flagged: Screen) -> None:
    state = flagged.all("--chunk-size", "2")
    assert (state.done, state.failed, state.left) == (6, 0, 0)
    assert state.skipped == {QC: 3}
    assert state.exit_code == Exit.OK
    assert state.objects == {"Nuclei": 3 + 5 + 6}
    rows = flagged.table("Image.csv")
    assert [r["Metadata_QCFlag"] for r in rows] == ["1", "1", "0", "1", "0", "0"]
    assert [r["Count_Nuclei"] for r in rows] == ["", "", "3.0", "", "5.0", "6.0"]
    assert [r["FileName_DNA"] for r in rows] == [f"f{n}.tif" for n in range(1, 7)]
    assert {r["ImageNumber"] for r in flagged.table("Nuclei.csv")} == {"3", "5", "6"}
    parts = [part for done in flagged.verdicts() for part in done["parts"]]
    assert [part["skipped"] for part in parts] == [{QC: [1, 2]}, {QC: [2]}, {}]


def test_any_chunk_size_gives_the_same_tables(
    flagged: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = []
    for size in ("6", "2", "1"):
        flagged.all("--chunk-size", size, "-w")
        images = [
            {k: v for k, v in row.items() if not k.startswith("ExecutionTime_")}
            for row in flagged.table("Image.csv")
        ]
        tables.append((images, flagged.table("Nuclei.csv")))
    assert tables[0] == tables[1] == tables[2]


def test_status_and_closing_words(flagged: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    flagged.all("--chunk-size", "2")
    assert status.main(flagged.arguments()) == Exit.OK
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "6 of 6 image sets done, 3 skipped by FlagImage (QCFlag)"
    assert status.main(flagged.arguments("--json")) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert found["image_sets"]["skipped"] == 3
    assert found["skipped"] == {QC: 3}
    assert closing.main([str(flagged.workspace.status), "--wall-s", "60"]) == Exit.OK
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("done: 6 of 6 image sets in 1 min")
    assert said[1] == "  3 skipped by FlagImage (QCFlag)"


def test_the_audit_counts_them(flagged: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    flagged.add("f7.tif", 7)
    flagged.add("f8.tif", 8)
    flagged.write()
    (flagged.images / "f8.tif").unlink()
    flagged.all("--chunk-size", "2")
    assert audit.main(flagged.arguments()) == Exit.OK
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        "8 image sets: 3 with objects, 1 with none, 3 skipped by FlagImage (QCFlag), 1 failed"
    )
    assert audit.main(flagged.arguments("--json")) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    counts = found["image_sets"]
    assert counts["skipped"] == 3
    assert counts["total"] == sum(
        counts[name] for name in ("with_objects", "with_none", "skipped", "failed", "left")
    )
    assert found["skipped"] == {QC: 3}


def test_a_row_of_a_skipped_image_set_that_is_gone(flagged: Screen) -> None:
    flagged.all("--chunk-size", "2")
    path = flagged.workspace.analysis / "Image.csv"
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*kept[:2], *kept[3:]]))
    assert any(
        fault.what == "no row of this image set" and fault.image_number == 2
        for fault in audited(flagged.workspace).faults
    )


def test_a_run_of_which_all_are_skipped(flagged: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SKIP", "/".join(f"f{n}.tif" for n in range(1, 7)))
    state = flagged.all("--chunk-size", "2")
    assert (state.done, state.skipped, state.exit_code) == (6, {QC: 6}, Exit.OK)
    assert len(flagged.table("Image.csv")) == 6
    assert not (flagged.workspace.analysis / "Nuclei.csv").exists()
    outcome = audited(flagged.workspace)
    assert outcome.exit_code == Exit.OK
    assert (outcome.with_objects, outcome.with_none, outcome.skipped) == (0, 0, {QC: 6})


def test_a_failure_beside_skipped_ones_is_named(
    flagged: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "module-error")
    monkeypatch.setenv("FAKE_AT", "f3.tif")
    state = flagged.all("--chunk-size", "6")
    assert (state.done, state.failed, state.skipped) == (5, 1, {QC: 3})
    assert flagged.failed() == ["f3.tif"]


def test_an_event_names_them(flagged: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    from bpcp.chunk import __main__ as chunk

    flagged.plan("-q", "--chunk-size", "2")
    first = flagged.chunks()[0]
    assert chunk.main([str(flagged.workspace.status), first]) == Exit.OK
    assert " done=2 failed=0 skipped=2 attempts=1 " in capsys.readouterr().out


def test_they_teach_nothing_of_time_and_memory(flagged: Screen) -> None:
    def done(chunk_id: str) -> Json:
        found = read_json(flagged.workspace.chunk(chunk_id).done)
        assert found is not None
        return found

    flagged.plan("-q", "--chunk-size", "2")
    run = flagged.run_json()
    flagged.run()
    limit, memory = (
        learned.time_limit(flagged.workspace, 1, 0),
        learned.process_mb(flagged.workspace, run),
    )
    in_part, whole = flagged.chunks()[1:]
    # of two image sets one was skipped: all of the time was for the other
    walls = [done(in_part)["parts"][0]["cost"]["wall_s"], done(whole)["parts"][0]["cost"]["wall_s"]]
    assert limit == pytest.approx(10 * max(walls[0], walls[1] / 2))
    assert memory <= max(done(c)["cost"]["peak_mb"] for c in (in_part, whole))
    for chunk_id in (in_part, whole):
        flagged.workspace.chunk(chunk_id).done.unlink()
    assert learned.time_limit(flagged.workspace, 1, 0) is None


# --- what is planned ------------------------------------------------------------------------------


def test_the_plan_says_what_may_skip_and_what_is_measured(flagged: Screen) -> None:
    flagged.plan("-q")
    run = flagged.run_json()
    assert run["skips"] == [{"module": 2, "measurement": "Metadata_QCFlag", "flag": "QCFlag"}]
    # ExportToSpreadsheet measures nothing of itself, nor does any module behind it
    assert run["modules"] == [
        "01LoadData", "02FlagImage", "03IdentifyPrimaryObjects", "04SaveImages",
    ]  # fmt: skip


def test_a_flag_that_does_not_skip(flagged: Screen) -> None:
    flagged.write(load_data(), FLAG.format(skips="No"), IDENTIFY, SAVE, EXPORT)
    flagged.plan("-q")
    assert flagged.run_json()["skips"] == []
