from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import EXPORT, FAKE, HOSTILE, IDENTIFY, SAVE, Screen, load_data, refused, rows_of

from bpcp.audit import __main__ as command
from bpcp.audit.all import audit
from bpcp.audit.outcome import Fault, Outcome, lines
from bpcp.errors import Exit
from bpcp.publish import sha256
from bpcp.workspace import Json, read_json, write_json

# image n of Screen.fill has 8 + (n - 1) bytes, and so n modulo 7 nuclei
CHUNK = ("--chunk-size", "2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture
def merged(home: Path, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Eight image sets in four chunks: 1 to 6 nuclei, none, and 1; made once, and put back."""
    monkeypatch.setenv("BPCP_CELLPROFILER", str(FAKE))
    base, kept = home / HOSTILE, home / "kept"
    screen = Screen(base, home / "journal")
    if not kept.exists():
        screen.fill(8)
        screen.all(*CHUNK)
        shutil.copytree(base, kept)
    shutil.rmtree(base)
    shutil.copytree(kept, base)
    screen.rows = [[*row.values()] for row in rows_of(screen.workspace.image_list)]
    return screen


def result(screen: Screen, name: str) -> Path:
    return screen.workspace.analysis / name


def cut_lines(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(change(content)))


def said(screen: Screen, outcome: Outcome) -> str:
    return "\n".join(lines(screen.workspace, outcome))


def the_fault(screen: Screen, **wanted: object) -> Fault:
    """Audit, and give the first fault, which must be so."""
    outcome = audit(screen.workspace)
    assert outcome.exit_code == Exit.SOME_FAILED
    assert outcome.manifest == ""
    first = outcome.faults[0]
    assert {name: getattr(first, name) for name in wanted} == wanted
    assert first.todo
    assert first.words in said(screen, outcome)
    return first


def check_manifest(screen: Screen) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sha256sum", "-c", "--strict", str(screen.workspace.manifest)],
        cwd=screen.workspace.analysis, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


# --- what adds up ---------------------------------------------------------------------------------


def test_a_clean_result_adds_up_and_leaves_a_manifest(
    merged: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(merged.arguments()) == Exit.OK
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "8 image sets: 7 with objects, 1 with none"
    assert out[1] == "22 Nuclei"
    assert out[2].startswith("3 tables, 8 saved files, ")
    assert out[3].startswith("manifest written: cd ")
    assert len(out) == 4
    checked = subprocess.run(
        ["bash", "-c", out[3].partition(": ")[2]], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK\n") == 11
    # again, it is there already
    before = merged.workspace.manifest.stat()
    assert audit(merged.workspace).manifest == "as before"
    assert merged.workspace.manifest.stat() == before


def test_nothing_is_planned(screen: Screen) -> None:
    refused(Exit.NO_INPUT, "nothing is planned", command.main, screen.arguments())


def test_failed_and_quarantined_image_sets_are_accounted_for(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(6)
    (screen.images / "f3.tif").unlink()
    monkeypatch.setenv("FAKE_MODE", "exception")
    monkeypatch.setenv("FAKE_AT", "f5.tif")
    screen.all(*CHUNK)
    # as --quarantine leaves it: the list names one more, which is not run
    screen.add("bad.tif", 3)
    screen.write()
    run = screen.run_json()
    run["not_analysed"] = [{"line": 8, "image_set": {"Well": "A01"}, "reason": "no TIFF"}]
    write_json(screen.workspace.run, run)
    assert command.main(screen.arguments("--json")) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert found["image_sets"] == {
        "total": 7, "with_objects": 4, "with_none": 0, "skipped": 0, "failed": 2, "not_analysed": 1,
        "left": 0, "objects_counted": True,
    }  # fmt: skip
    assert found["adds_up"] is True
    assert [(f["image_number"], f["line"]) for f in found["failed"]] == [(3, 4), (5, 6)]
    assert found["failed"][0]["reason"] == "missing file"
    assert found["not_analysed"][0]["reason"] == "no TIFF"
    words = said(screen, audit(screen.workspace)).splitlines()
    assert words[0] == "7 image sets: 4 with objects, 2 failed, 1 not analysed (quarantine)"
    assert check_manifest(screen).returncode == 0


def test_a_result_without_any_image_set_done_has_no_manifest(screen: Screen) -> None:
    screen.fill(2)
    for image in screen.images.iterdir():
        image.unlink()
    screen.plan("-q")
    screen.run()
    screen.merge()
    outcome = audit(screen.workspace)
    assert (outcome.exit_code, outcome.failed, outcome.manifest) == (Exit.OK, 2, "")
    assert not screen.workspace.manifest.exists()


def test_without_an_export_there_is_nothing_to_count(screen: Screen) -> None:
    screen.fill(2)
    screen.write(load_data(), IDENTIFY, SAVE, EXPORT)
    screen.all()
    outcome = audit(screen.workspace)
    outcome.counts_objects = False
    outcome.with_objects, outcome.with_none = 2, 0
    assert said(screen, outcome).startswith("2 image sets: 2 done\n")


def test_hostile_names_in_the_manifest(screen: Screen) -> None:
    names = ["-", "a b.tif", "back\\slash", "line\nbreak", "c\rr", "ü'\"$(x);`y`", "# *"]
    for i, name in enumerate(names):
        screen.add(f"{name}{i}.tif", 8 + i)
    screen.write()
    screen.all(*CHUNK)
    # CellProfiler's list is text; the files of a result may be of any bytes
    odd = os.fsdecode(b"\xff not UTF-8\\")
    path = result(screen, odd)
    path.write_bytes(b"saved")
    chunk = screen.workspace.chunk(screen.chunks()[0])
    done = read_json(chunk.done) or {}
    content = {"path": odd, "size": 5, "sha256": sha256(path)}
    done["parts"][0]["files"].append(content)
    write_json(chunk.done, done)
    outcome = audit(screen.workspace)
    assert outcome.faults == []
    assert outcome.manifest == "written"
    checked = subprocess.run(
        ["sha256sum", "-c", "--strict", "--quiet", str(screen.workspace.manifest)],
        cwd=screen.workspace.analysis, capture_output=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    own = subprocess.run(
        ["sha256sum", "--", odd, "Image.csv"],
        cwd=screen.workspace.analysis, capture_output=True, check=True,
    )  # fmt: skip
    for line in own.stdout.splitlines():
        assert line in screen.workspace.manifest.read_bytes()
    # and back
    assert audit(screen.workspace).manifest == "as before"
    path.write_bytes(b"other")
    assert audit(screen.workspace).faults[0].file == odd


# --- what is left to do ---------------------------------------------------------------------------


def test_before_and_between(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(4)
    screen.plan("-q", *CHUNK)
    assert command.main(screen.arguments()) == Exit.STOPPED
    out = capsys.readouterr().out
    assert out.startswith("4 image sets: 4 left to run\n")
    assert "./run_analysis_pipeline.sh -d 'plate 1' -p " in out
    screen.run()
    assert command.main(screen.arguments()) == Exit.STOPPED
    out = capsys.readouterr().out
    assert out.startswith("4 image sets: 4 done, not merged\n")
    assert "→ bpcp merge -d 'plate 1' -p " in out
    assert not screen.workspace.manifest.exists()


def test_a_verdict_that_was_removed(merged: Screen) -> None:
    merged.workspace.chunk(merged.chunks()[1]).done.unlink()
    outcome = audit(merged.workspace)
    assert (outcome.exit_code, outcome.left) == (Exit.STOPPED, 2)
    words = said(merged, outcome)
    assert words.startswith("8 image sets: 6 done, 2 left to run\n")
    assert f"chunk {merged.chunks()[1]}, ImageNumber 3-4: no verdict" in words


def test_a_verdict_of_another_digest(merged: Screen) -> None:
    merged.pipeline.write_text(merged.pipeline.read_text().replace("Nuclei", "Nuclei\n    More:1"))
    merged.plan("-q", *CHUNK)
    outcome = audit(merged.workspace)
    assert (outcome.exit_code, outcome.left) == (Exit.STOPPED, 8)
    assert "its verdict is of another list, pipeline or CellProfiler" in said(merged, outcome)


def test_a_merge_of_other_verdicts(merged: Screen) -> None:
    path = merged.workspace.chunk(merged.chunks()[1]).done
    done = read_json(path) or {}
    write_json(path, {**done, "finished": "2100-01-01T00:00:00Z"})
    outcome = audit(merged.workspace)
    assert (outcome.exit_code, outcome.left, outcome.merged) == (Exit.STOPPED, 0, False)


def test_other_formats_that_a_merge_did_not_come_to(merged: Screen) -> None:
    known = read_json(merged.workspace.merged) or {}
    write_json(merged.workspace.merged, {**known, "formats": ["parquet"]})
    assert audit(merged.workspace).exit_code == Exit.STOPPED


# --- damaged tables -------------------------------------------------------------------------------


def test_a_deleted_table(merged: Screen) -> None:
    result(merged, "Nuclei.csv").unlink()
    fault = the_fault(merged, file="Nuclei.csv", what="it is gone")
    assert fault.todo == shlex.join(["bpcp", "merge", "-d", "plate 1", "-p", str(merged.pipeline)])
    # what it says mends it
    merged.merge()
    assert audit(merged.workspace).exit_code == Exit.OK


def test_a_table_that_is_a_folder(merged: Screen) -> None:
    result(merged, "Nuclei.csv").unlink()
    result(merged, "Nuclei.csv").mkdir()
    the_fault(merged, file="Nuclei.csv", what="it can't be read: Is a directory")


def test_a_table_cut_in_the_middle_of_a_row(merged: Screen) -> None:
    path = result(merged, "Nuclei.csv")
    path.write_bytes(path.read_bytes()[:-5])
    outcome = audit(merged.workspace)
    assert outcome.exit_code == Exit.SOME_FAILED
    words = [fault.words for fault in outcome.faults]
    assert "Nuclei.csv, row 22: it ends in the middle of this row" in words
    assert "Nuclei.csv, ImageNumber 8: 0 rows of this image set, Count_Nuclei is 1" in words


def test_a_table_cut_at_the_end_of_a_row(merged: Screen) -> None:
    cut_lines(result(merged, "Nuclei.csv"), lambda rows: rows[:13])
    outcome = audit(merged.workspace)
    words = [fault.words for fault in outcome.faults]
    assert words == [
        "Nuclei.csv: 12 rows, the merge wrote 22",
        "Nuclei.csv, ImageNumber 5: 2 rows of this image set, Count_Nuclei is 5",
        "Nuclei.csv, ImageNumber 6: 0 rows of this image set, Count_Nuclei is 6",
        "Nuclei.csv, ImageNumber 8: 0 rows of this image set, Count_Nuclei is 1",
    ]
    assert outcome.exit_code == Exit.SOME_FAILED


def test_an_image_table_cut_at_the_end_of_a_row(merged: Screen) -> None:
    cut_lines(result(merged, "Image.csv"), lambda rows: rows[:-1])
    outcome = audit(merged.workspace)
    words = [fault.words for fault in outcome.faults]
    assert words == [
        "Image.csv: 7 rows, the merge wrote 8",
        "Image.csv, ImageNumber 8: no row of this image set",
    ]


def test_a_table_cut_to_its_header_or_to_nothing(merged: Screen) -> None:
    path = result(merged, "Nuclei.csv")
    cut_lines(path, lambda rows: rows[:1])
    the_fault(merged, file="Nuclei.csv", what="0 rows, the merge wrote 22")
    path.write_bytes(b"")
    the_fault(
        merged, file="Nuclei.csv",
        what="its header is not that of the table that the merge wrote",
    )  # fmt: skip


def test_a_row_removed(merged: Screen) -> None:
    cut_lines(result(merged, "Nuclei.csv"), lambda rows: [*rows[:5], *rows[6:]])
    outcome = audit(merged.workspace)
    assert [fault.words for fault in outcome.faults] == [
        "Nuclei.csv: 21 rows, the merge wrote 22",
        "Nuclei.csv, row 5, ImageNumber 3: 2 rows of this image set, Count_Nuclei is 3:"
        " ObjectNumber 2 is missing before it",
    ]


def test_a_duplicated_row(merged: Screen) -> None:
    cut_lines(result(merged, "Nuclei.csv"), lambda rows: [*rows[:6], rows[5], *rows[6:]])
    outcome = audit(merged.workspace)
    assert [fault.words for fault in outcome.faults] == [
        "Nuclei.csv: 23 rows, the merge wrote 22",
        "Nuclei.csv, row 6, ImageNumber 3: 4 rows of this image set, Count_Nuclei is 3:"
        " ObjectNumber 2 stands there again",
    ]


def test_a_row_removed_and_another_one_doubled(merged: Screen) -> None:
    cut_lines(result(merged, "Nuclei.csv"), lambda rows: [*rows[:5], rows[4], *rows[6:]])
    the_fault(
        merged, file="Nuclei.csv", row=5, image_number=3,
        what="ObjectNumber 1 stands there again",
    )  # fmt: skip


def test_a_duplicated_image_row(merged: Screen) -> None:
    cut_lines(result(merged, "Image.csv"), lambda rows: [*rows, rows[3]])
    outcome = audit(merged.workspace)
    assert [fault.words for fault in outcome.faults] == [
        "Image.csv: 9 rows, the merge wrote 8",
        "Image.csv, row 9, ImageNumber 3: its image set has a row already",
    ]


@pytest.mark.parametrize("number", [b"99", b"7"])
def test_a_row_of_a_foreign_image_set(merged: Screen, number: bytes) -> None:
    cut_lines(
        result(merged, "Nuclei.csv"),
        lambda rows: [*rows, number + rows[-1][1:]],
    )
    outcome = audit(merged.workspace)
    words = [fault.words for fault in outcome.faults]
    assert words[0] == "Nuclei.csv: 23 rows, the merge wrote 22"
    if number == b"99":
        assert words[1] == (
            "Nuclei.csv, row 23, ImageNumber 99: a row of an image set that is not part of the run"
        )
    else:
        assert words[1] == "Nuclei.csv, ImageNumber 7: 1 row of this image set, Count_Nuclei is 0"


def test_a_row_of_an_image_set_that_failed(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.fill(3)
    (screen.images / "f2.tif").unlink()
    screen.all()
    assert audit(screen.workspace).exit_code == Exit.OK
    cut_lines(result(screen, "Nuclei.csv"), lambda rows: [*rows, b"2" + rows[-1][1:]])
    outcome = audit(screen.workspace)
    assert outcome.faults[1].words == (
        "Nuclei.csv, row 5, ImageNumber 2: a row of an image set that failed"
    )


def test_a_changed_cell(merged: Screen) -> None:
    path = result(merged, "Nuclei.csv")
    cut_lines(path, lambda rows: [*rows[:5], rows[5].replace(b"0.285714", b"0.385714"), *rows[6:]])
    the_fault(
        merged, file="Nuclei.csv", row=5, image_number=3,
        what="AreaShape_Area is '0.3857142857142857', the chunk wrote '0.2857142857142857'",
    )  # fmt: skip


def test_a_changed_cell_where_the_chunks_tables_are_gone(merged: Screen) -> None:
    path = result(merged, "Nuclei.csv")
    path.write_bytes(path.read_bytes().replace(b"0.285714", b"0.385714", 1))
    shutil.rmtree(merged.workspace.chunk(merged.chunks()[0]).all_tables)
    the_fault(merged, file="Nuclei.csv", what="it is not what the merge wrote (SHA-256)")
    warned = audit(merged.workspace).warnings
    assert warned == [
        f"chunk {merged.chunks()[0]}: its own tables are gone; the next run runs it again"
    ]


def test_a_changed_image_cell_with_quotes(merged: Screen) -> None:
    path = result(merged, "Image.csv")
    path.write_bytes(path.read_bytes().replace(b"P1", b'"P\n1"', 1))
    the_fault(
        merged, file="Image.csv", row=1, image_number=1,
        what="Metadata_Plate is 'P\\n1', the chunk wrote 'P1'",
    )  # fmt: skip


def test_a_changed_experiment_table(merged: Screen) -> None:
    path = result(merged, "Experiment.csv")
    path.write_bytes(path.read_bytes().replace(b"4.2.8.1", b"4.2.8.2", 1))
    the_fault(merged, file="Experiment.csv", row=1, image_number=None)
    cut_lines(path, lambda rows: rows[:-1])
    the_fault(merged, file="Experiment.csv")


def test_a_changed_header_and_a_line_behind_the_last(merged: Screen) -> None:
    path = result(merged, "Nuclei.csv")
    good = path.read_bytes()
    path.write_bytes(good.replace(b"AreaShape_Area", b"AreaShape_Areo", 1))
    the_fault(merged, what="its columns are not those that the merge wrote")
    path.write_bytes(good.replace(b"ImageNumber,", b'"ImageNumber",', 1))
    the_fault(merged, what="its header was changed")
    path.write_bytes(good + b"\r\n")
    the_fault(merged, what="23 rows, the merge wrote 22")
    path.write_bytes(good.replace(b"\r\n2,1,", b"\r\n2,1,,", 1))
    the_fault(merged, row=2, what="7 cells, the header has 6")
    path.write_bytes(good.replace(b"\r\n2,1,", b"\r\nx,1,", 1))
    the_fault(merged, row=2, what="its first cells are no ImageNumber and ObjectNumber")
    path.write_bytes(good.replace(b"\r\n2,1,", b'\r\n2,1,"', 1))
    assert "it ends in the middle of this row" in said(merged, audit(merged.workspace))


def test_what_the_merge_did_wrong_is_seen_in_spite_of_a_right_checksum(merged: Screen) -> None:
    path = result(merged, "Nuclei.csv")
    cut_lines(path, lambda rows: rows[:-1])
    known = read_json(merged.workspace.merged) or {}
    known["tables"]["Nuclei.csv"].update(sha256=sha256(path), size=path.stat().st_size, rows=21)
    write_json(merged.workspace.merged, known)
    the_fault(
        merged, file="Nuclei.csv", image_number=8,
        what="0 rows of this image set, Count_Nuclei is 1",
    )  # fmt: skip


def test_rows_that_a_chunk_did_not_write(merged: Screen) -> None:
    # without counts in an image table, what the chunks said is all there is to go by
    run = merged.run_json()
    run["tables"] = [t for t in run["tables"] if t["objects"] != ["Nuclei"]]
    write_json(merged.workspace.run, run)
    cut_lines(result(merged, "Nuclei.csv"), lambda rows: rows[:-1])
    outcome = audit(merged.workspace)
    assert [fault.words for fault in outcome.faults] == [
        "Nuclei.csv: 21 rows, the merge wrote 22",
        f"Nuclei.csv, ImageNumber 7: 0 rows of ImageNumber 7-8, chunk {merged.chunks()[3]} wrote 1",
    ]


def test_objects_that_the_chunks_did_not_count(merged: Screen) -> None:
    path = merged.workspace.chunk(merged.chunks()[0]).done
    done = read_json(path) or {}
    done["parts"][0]["objects"]["Nuclei"] += 2
    write_json(path, done)
    the_fault(merged, what="22 Nuclei, the chunks counted 24")


def test_many_faults_are_cut(merged: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    cut_lines(result(merged, "Nuclei.csv"), lambda rows: rows[:1])
    for image in (merged.workspace.analysis / "overlays").iterdir():
        image.unlink()
    assert command.main(merged.arguments()) == Exit.SOME_FAILED
    out = capsys.readouterr().out.splitlines()
    assert "does not add up: 16 faults" in out
    assert sum(line.startswith("  overlays/") or line.startswith("  Nuclei") for line in out) == 10
    assert out[-1] == "  … and 6 more: bpcp audit --json"
    # of the table, not only what is wrong with it as a whole
    assert "  Nuclei.csv: 0 rows, the merge wrote 22" in out
    assert sum(line.startswith("    → ") for line in out) == 2
    assert command.main(merged.arguments("--json")) == Exit.SOME_FAILED
    found = json.loads(capsys.readouterr().out)
    assert len(found["faults"]) == 16
    assert found["adds_up"] is False


# --- stale chunks ---------------------------------------------------------------------------------


def test_an_image_that_changed_since(merged: Screen) -> None:
    (merged.images / "f3.tif").write_bytes(b"y" * 30)
    fault = the_fault(merged, image_number=3, chunk=merged.chunks()[1], file="")
    assert fault.what == (
        f"{merged.images}/f3.tif changed since it was analysed (line 4 of load_data.csv)"
    )
    assert fault.todo.startswith("./run_analysis_pipeline.sh -d 'plate 1' -p ")


def test_an_image_that_is_gone_is_none(merged: Screen) -> None:
    (merged.images / "f3.tif").unlink()
    assert audit(merged.workspace).exit_code == Exit.OK


def test_a_chunk_that_is_not_given_what_was_planned(merged: Screen) -> None:
    paths = merged.workspace.chunk(merged.chunks()[1])
    chunk = read_json(paths.chunk) or {}
    write_json(paths.chunk, {**chunk, "digest": "other"})
    the_fault(merged, what=f"chunk {paths.id} is not given what was planned")
    write_json(paths.chunk, chunk)
    paths.images.unlink()
    assert "no image list" in the_fault(merged, chunk=paths.id).what


def test_another_pipeline_in_the_place_of_the_planned_one(merged: Screen) -> None:
    merged.workspace.pipeline.write_text("CellProfiler Pipeline: other")
    fault = the_fault(merged, chunk=merged.chunks()[0])
    assert "is not the pipeline of chunk" in fault.what


# --- image sets -----------------------------------------------------------------------------------


def test_an_image_set_that_is_in_no_chunk(merged: Screen) -> None:
    merged.add("f9.tif", 12)
    merged.write()
    the_fault(merged, what="line 10 of load_data.csv is in no chunk")
    assert len(audit(merged.workspace).faults) == 1


def test_an_image_set_that_the_list_no_longer_names(merged: Screen) -> None:
    del merged.rows[2]
    merged.write()
    the_fault(
        merged,
        what="1 image set of the run no longer in the list: the first was line 4 of load_data.csv",
    )


def test_an_image_set_that_is_another_one_now(merged: Screen) -> None:
    merged.rows[2][3] = "H12"
    merged.write()
    outcome = audit(merged.workspace)
    assert [fault.what for fault in outcome.faults] == [
        "line 4 of load_data.csv is in no chunk",
        "1 image set of the run no longer in the list: the first was line 4 of load_data.csv",
    ]


def test_a_list_in_another_order(merged: Screen) -> None:
    merged.rows.reverse()
    merged.write()
    the_fault(merged, what="the order of the list changed, and with it the ImageNumbers")


def test_a_list_that_is_gone_is_a_warning(merged: Screen) -> None:
    merged.workspace.image_list.unlink()
    outcome = audit(merged.workspace)
    assert outcome.exit_code == Exit.OK
    assert outcome.warnings[0].startswith("the image sets are not compared with the list: no image")


def test_folders_that_are_elsewhere_on_this_machine_make_no_other_list(screen: Screen) -> None:
    screen.fill(3)
    for row in screen.rows:
        row[1] = "/microscope"
    screen.write()
    screen.all("--map", f"/microscope={screen.images}")
    assert audit(screen.workspace).faults == []


def test_plates_that_were_not_asked_for(screen: Screen) -> None:
    screen.fill(3)
    screen.add("p2.tif", 9, plate="P2")
    screen.write()
    plates = screen.workspace.selection("platelist")
    plates.parent.mkdir(parents=True)
    plates.write_text("P1\n")
    screen.all()
    assert audit(screen.workspace).exit_code == Exit.OK
    # with -c, all are run; and a list that names no plate of it is no reason to stop
    plates.write_text("P9\n")
    outcome = audit(screen.workspace)
    assert [f.what for f in outcome.faults] == ["line 5 of load_data.csv is in no chunk"]


def test_rows_out_of_loaddatas_range(screen: Screen) -> None:
    screen.fill(4)
    ranged = load_data(ranged="Yes").replace("1,100000", "2,3")
    screen.write(ranged, IDENTIFY, SAVE, EXPORT)
    screen.all()
    outcome = audit(screen.workspace)
    assert (outcome.total, outcome.faults) == (2, [])


def test_a_chunk_that_the_plan_lost(merged: Screen) -> None:
    plan = read_json(merged.workspace.plan) or {}
    del plan["chunks"][1]
    write_json(merged.workspace.plan, plan)
    outcome = audit(merged.workspace)
    assert [f.words for f in outcome.faults] == [
        "ImageNumber 3: 2 image sets are in no chunk (3-4)",
        "line 4 of load_data.csv is in no chunk",
        "line 5 of load_data.csv is in no chunk",
    ]
    assert outcome.exit_code == Exit.SOME_FAILED


def test_a_chunk_that_is_planned_twice(merged: Screen) -> None:
    plan = read_json(merged.workspace.plan) or {}
    plan["chunks"].append(plan["chunks"][1])
    write_json(merged.workspace.plan, plan)
    the_fault(merged, image_number=3, what="2 image sets are in two chunks (3-4)")


def spoilt(screen: Screen, change: Callable[[Json], object]) -> Fault:
    path = screen.workspace.chunk(screen.chunks()[1]).done
    done = read_json(path) or {}
    change(done)
    write_json(path, done)
    fault = the_fault(screen, chunk=screen.chunks()[1])
    assert fault.todo
    return fault


def test_image_sets_that_a_verdict_does_not_name_once(merged: Screen) -> None:
    good = merged.workspace.chunk(merged.chunks()[1]).done.read_bytes()

    def forget(done: Json) -> None:
        done["parts"][0]["last"] = done["parts"][0]["first"]

    def repeat(done: Json) -> None:
        done["failed"] = [{"image_set": done["parts"][0]["first"], "reason": "x", "log": None}]

    def beyond(done: Json) -> None:
        done["parts"][0]["last"] += 1

    def speechless(done: Json) -> None:
        forget(done)
        done["failed"] = [{"image_set": done["parts"][0]["last"] + 1, "log": None}]

    for change, number, words in (
        (forget, 4, "has neither a result of it nor a reason"),
        (repeat, 3, "2 verdicts of chunk"),
        (beyond, None, "has verdicts on image sets that are not its own: 3"),
        (speechless, 4, "without a reason"),
    ):
        fault = spoilt(merged, change)
        assert words in fault.what
        assert fault.image_number == number
        merged.workspace.chunk(merged.chunks()[1]).done.write_bytes(good)
