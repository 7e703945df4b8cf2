from __future__ import annotations

import json
import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.request import pathname2url

import pytest
from conftest import EXPORT, HOSTILE, IDENTIFY, SAVE, Screen, load_data, refused, rows_of

from bpcp import cellprofiler, plan, settings
from bpcp.chunk import __main__ as chunk
from bpcp.errors import Exit
from bpcp.run import todo
from bpcp.workspace import locked, read_plan, write_json


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_a_plan(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(10)
    assert screen.plan("--chunk-size", "4") == Exit.OK
    assert said(capsys).splitlines() == [
        "plan: 10 image sets in 3 chunks of 3-4, 2 at a time",
        "      size: 4 as asked",
        "      reads: each process its own rows",
    ]
    chunks = read_plan(screen.workspace)
    assert sorted(n for c in chunks for n in c.image_numbers) == list(range(1, 11))
    assert [n + 1 for c in chunks for n in c.image_numbers] == [n for c in chunks for n in c.lines]
    run = screen.run_json()
    assert run["cellprofiler"]["version"] == "4.2.8.1"
    assert run["cellprofiler"]["objects"] == ["Experiment", "Image", "Nuclei"]
    assert [t["objects"] for t in run["tables"]] == [["Image"], ["Nuclei"], ["Experiment"]]
    assert run["last_module"] == 4
    assert screen.workspace.pipeline.read_bytes() == screen.pipeline.read_bytes()


def test_the_usual_cut_is_even_over_the_slots(screen: Screen) -> None:
    screen.fill(10)
    screen.plan("-q")
    assert [len(c.image_numbers) for c in read_plan(screen.workspace)] == [5, 5]


def test_dry_run_writes_nothing(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(4)
    before = tree(screen.base)
    assert screen.plan("--dry-run", "--chunk-size", "2") == Exit.OK
    assert tree(screen.base) == before
    out, err = capsys.readouterr()
    assert err.startswith("plan: 4 image sets in 2 chunks of 2")
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["chunk", "image_sets", "first", "last", "first_row", "state"]
    assert [r[1:] for r in rows[1:]] == [
        ["2", "1", "2", "P1 A01", "to do"],
        ["2", "3", "4", "P1 A02", "to do"],
    ]


def test_dry_run_knows_what_is_done(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    screen.add("new.tif", 9)
    screen.write()
    capsys.readouterr()
    screen.plan("--dry-run", "--chunk-size", "2")
    out, err = capsys.readouterr()
    assert [line.rsplit("\t")[-1] for line in out.splitlines()[1:]] == ["done", "done", "to do"]
    assert "2 of 3 chunks are done already" in err


def test_planned_again_nothing_changes(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    before = {p: p.stat().st_mtime_ns for p in screen.workspace.chunks.rglob("*") if p.is_file()}
    screen.ran()
    screen.plan("--chunk-size", "2")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert todo.left(screen.workspace) == []
    assert "2 of 2 chunks are done already" in said(capsys)


def test_a_changed_pipeline_says_why_all_runs_again(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    screen.write(load_data(), IDENTIFY, SAVE, EXPORT + "\n")
    screen.plan("--chunk-size", "2")
    assert "the pipeline changed: every image set runs again" in said(capsys)
    assert len(todo.left(screen.workspace)) == 2


def test_another_version_says_why_all_runs_again(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    monkeypatch.setenv("FAKE_VERSION", "4.2.9")
    screen.plan("--chunk-size", "2")
    words = "CellProfiler changed from 4.2.8.1 to 4.2.9: every image set runs again"
    assert words in said(capsys)
    assert len(todo.left(screen.workspace)) == 2


def test_a_changed_image_runs_its_chunk_again(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    screen.ran()
    (screen.images / "f3.tif").write_bytes(b"x" * 13)
    screen.plan("--chunk-size", "2")
    assert "images changed: 1 chunks run again" in said(capsys)
    screen.run()
    screen.merge()
    assert screen.ran() == [["f3.tif", "f4.tif"]]
    assert [r["Count_Nuclei"] for r in screen.table("Image.csv")] == ["1.0", "2.0", "6.0", "4.0"]


def test_the_result_of_images_that_are_gone_stays(screen: Screen) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    screen.ran()
    for name in ("f1.tif", "f3.tif"):
        (screen.images / name).unlink()
    screen.all("--chunk-size", "2")
    assert screen.ran() == []
    counts = [r["Count_Nuclei"] for r in screen.table("Image.csv")]
    assert counts == ["1.0", "2.0", "3.0", "4.0"]


@pytest.mark.parametrize("lost", ["overlays/f3_overlay.png", "tables"])
def test_a_chunk_whose_files_are_gone_runs_again(
    screen: Screen, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    screen.ran()
    if lost == "tables":
        gone = next(screen.workspace.chunk(screen.chunks()[1]).all_tables.rglob("Nuclei.csv"))
    else:
        gone = screen.workspace.analysis / lost
    gone.unlink()
    screen.plan("--chunk-size", "2")
    assert "saved files are gone or changed: 1 chunks run again" in said(capsys)
    screen.run()
    assert screen.ran() == [["f3.tif", "f4.tif"]]
    assert gone.is_file()


def test_an_image_that_changed_beside_one_that_failed_runs_again(screen: Screen) -> None:
    screen.fill(3)
    (screen.images / "f2.tif").unlink()
    screen.all("--chunk-size", "3")
    screen.ran()
    (screen.images / "f1.tif").write_bytes(b"x" * 13)
    (screen.images / "f2.tif").write_bytes(b"x" * 9)
    screen.all("--chunk-size", "3")
    assert [r["Count_Nuclei"] for r in screen.table("Image.csv")] == ["6.0", "2.0", "3.0"]


def test_mending_what_failed_runs_nothing_else_again(screen: Screen) -> None:
    screen.fill(3)
    (screen.images / "f2.tif").unlink()
    screen.all("--chunk-size", "3")
    screen.ran()
    (screen.images / "f2.tif").write_bytes(b"x" * 9)
    assert screen.all("--chunk-size", "3").done == 3
    assert screen.ran() == [["f2.tif"]]
    screen.all("--chunk-size", "3")
    assert screen.ran() == []


def test_files_of_what_is_no_longer_asked_for_are_cleared(screen: Screen) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    del screen.rows[3]
    screen.write()
    screen.all("--chunk-size", "2")
    overlays = screen.workspace.analysis / "overlays"
    assert {p.name for p in overlays.iterdir()} == {f"f{i}_overlay.png" for i in (1, 2, 3)}
    assert len(screen.table("Image.csv")) == 3


def test_a_list_that_grew_runs_what_is_new(screen: Screen) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    screen.ran()
    screen.rows.insert(0, screen.add("0.tif", 12))
    del screen.rows[-1]
    screen.write()
    screen.all("--chunk-size", "2")
    assert screen.ran() == [["0.tif"]]
    found = [(r["ImageNumber"], r["FileName_DNA"]) for r in screen.table("Image.csv")]
    assert found == [("1", "0.tif"), *((str(i + 1), f"f{i}.tif") for i in range(1, 5))]


def test_asked_to_cut_otherwise_what_is_done_stays(screen: Screen) -> None:
    screen.fill(6)
    screen.plan("-q", "--chunk-size", "3")
    first = screen.chunks()[0]
    chunk.run_chunk(chunk.load(screen.workspace, first))
    screen.plan("-q", "--chunk-size", "1")
    assert screen.chunks()[0] == first
    assert [len(c.image_numbers) for c in read_plan(screen.workspace)] == [3, 1, 1, 1]


def test_a_chunk_that_is_gone_takes_its_dead_attempt_along(screen: Screen, tmp_path: Path) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "4")
    folder = tmp_path / "ram disk" / f"{screen.workspace.attempt_prefix}dead"
    folder.mkdir(parents=True)
    running = {"pid": 1, "folder": str(folder), "log": "x"}
    write_json(screen.workspace.chunk(screen.chunks()[0]).running, running)
    screen.plan("-q", "--chunk-size", "2")
    todo.clear_leftovers(screen.workspace)
    assert not folder.exists()


def select(screen: Screen, name: str, text: str) -> None:
    path = screen.workspace.selection(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def images(screen: Screen) -> list[str]:
    lines = [line for p in read_plan(screen.workspace) for line in p.lines]
    return [screen.rows[line - 2][0] for line in lines]


@pytest.fixture
def plates(screen: Screen) -> Screen:
    for i, (plate, well) in enumerate((("007", "A01"), ("7", "A02"), ("8", "A01"), ("9", "ü;"))):
        screen.add(f"{i}.tif", 9, plate, well)
    screen.write()
    return screen


@pytest.mark.parametrize(
    ("lists", "left"),
    [
        ({"platelist": "8\n"}, ["2.tif"]),
        ({"platelist": "9\n\n8"}, ["2.tif", "3.tif"]),
        ({"platelist": "007\n"}, ["0.tif"]),
        ({"platelist": "7\n"}, ["0.tif", "1.tif"]),
        ({"welllist": "A01\n"}, ["0.tif", "2.tif"]),
        ({"welllist": "ü;\n"}, ["3.tif"]),
        ({"platelist": "8\n9\n", "welllist": "A01\n"}, ["2.tif"]),
    ],
)
def test_lists_select_what_runs(
    plates: Screen, lists: dict[str, str], left: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in lists.items():
        select(plates, name, text)
    plates.plan()
    assert images(plates) == left
    assert f"image sets left out by {next(iter(lists))}.txt (all: -c)" in said(capsys)
    plates.plan("-c")
    assert len(images(plates)) == 4


def test_lists_that_windows_wrote(plates: Screen) -> None:
    select(plates, "platelist", "\ufeff8\r\n9\r\n")
    plates.plan("-q")
    assert images(plates) == ["2.tif", "3.tif"]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("platelist", "8\nP9\n", "no Plate of the image list is 'P9'"),
        ("welllist", "H12\n", "no Well of the image list is 'H12'"),
        ("platelist", "\n\n", "is empty"),
        ("platelist", "", "is empty"),
    ],
)
def test_lists_that_select_nothing_are_65(plates: Screen, name: str, text: str, what: str) -> None:
    select(plates, name, text)
    error = refused(Exit.MALFORMED_INPUT, what, plates.plan)
    assert "-c" in error.todo
    assert plates.plan("-q", "-c") == Exit.OK


def test_one_chunk_for_each_plate(plates: Screen) -> None:
    plates.plan("-q", "-k")
    assert [c.lines for c in read_plan(plates.workspace)] == [[2, 3], [4], [5]]
    plates.plan("-q", "--group-by", "Metadata_Well")
    assert [c.lines for c in read_plan(plates.workspace)] == [[2, 4], [3], [5]]


def test_a_column_of_the_whole_list_is_typed_alike_in_each_chunk(screen: Screen) -> None:
    for i, plate in enumerate(("01", "2", "A")):
        screen.add(f"{i}.tif", 9, plate)
    screen.write()
    screen.all("--chunk-size", "1")
    assert [r["Metadata_Plate"] for r in screen.table("Image.csv")] == ["01", "2", "A"]
    first = screen.workspace.chunk(screen.chunks()[0]).images
    assert [r["Metadata_Plate"] for r in rows_of(first)] == ["01", "A"]


def test_a_grouped_pipeline_is_numbered_as_one_process_would(screen: Screen) -> None:
    for i, well in enumerate(("A02", "A01", "A02", "A01", "A10")):
        screen.add(f"{i}.tif", 9, well=well)
    screen.write(load_data(keys="Well"), IDENTIFY, SAVE, EXPORT)
    screen.all("--chunk-size", "2")
    found = screen.table("Image.csv")
    names = ("ImageNumber", "Metadata_Well", "Group_Number", "Group_Index", "Group_Length")
    assert [" ".join(r[n] for n in names) for r in found] == [
        "1 A01 1 1 2", "2 A01 1 2 2", "3 A02 2 1 2", "4 A02 2 2 2", "5 A10 3 1 1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wells", "reads"),
    [
        ("A A B C", "each process its own rows; 1 chunk with one row more"),
        ("1 1 8 9", "each process its own rows; 2 chunks with one row more"),
        # the one well that the witness takes for its own
        ("1 1 999999999 12", "each process the whole list, for a part of it would be"),
    ],
)
def test_a_witness_makes_a_group_of_its_own(
    screen: Screen, capsys: pytest.CaptureFixture[str], wells: str, reads: str
) -> None:
    for i, (plate, well) in enumerate(zip("123x", wells.split(), strict=True)):
        screen.add(f"{i}.tif", 9, plate, well)
    screen.write(load_data(keys="Well"), IDENTIFY, SAVE, EXPORT)
    screen.plan("--chunk-size", "2" if wells == "A A B C" else "1")
    assert reads in said(capsys)
    screen.run()
    screen.merge()
    found = screen.table("Image.csv")
    assert sorted(r["Metadata_Plate"] for r in found) == ["1", "2", "3", "x"]
    assert [r["Group_Length"] for r in found] == ["2", "2", "1", "1"]


def test_sequential_names_read_the_whole_list(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(5)
    sequential = SAVE.replace("From image filename", "Sequential numbers")
    screen.write(load_data(), IDENTIFY, sequential, EXPORT)
    screen.plan("--chunk-size", "2")
    assert "SaveImages (module 3) uses image sets' numbers" in said(capsys)
    screen.run()
    screen.merge()
    assert [r["ImageNumber"] for r in screen.table("Image.csv")] == list("12345")
    one = SAVE.replace("From image filename", "Sequential numbers").replace("digits:4", "digits:0")
    screen.write(load_data(), IDENTIFY, one, EXPORT)
    screen.plan("--chunk-size", "2")
    assert "mended: SaveImages (module 3) numbers its files with 1 digits" in said(capsys)
    assert b"Number of digits:1\n" in screen.workspace.pipeline.read_bytes()
    assert b"Number of digits:0\n" in screen.pipeline.read_bytes()
    assert len(screen.chunks()) == 3
    screen.plan("--chunk-size", "2", "--no-fix")
    assert "one process: SaveImages (module 3) names files by the number" in said(capsys)
    assert len(screen.chunks()) == 1


def test_an_aggregator_runs_in_one_process(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(5)
    screen.write(load_data(), "\nTrackObjects:[module_num:2|enabled:True]\n", EXPORT)
    screen.plan("--chunk-size", "2")
    assert "one process: TrackObjects (module 2) needs all image sets" in said(capsys)
    assert len(screen.chunks()) == 1


def relative(screen: Screen, folder: str) -> None:
    screen.fill(2)
    for row in screen.rows:
        row[1] = folder
    screen.write()


def test_relative_folders_start_at_the_workspace(screen: Screen) -> None:
    relative(screen, "images")
    assert screen.all().done == 2


def test_relative_folders_start_at_pathname_basename(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relative(screen, "images")
    shutil.move(screen.images, tmp_path / f"{HOSTILE} 2" / "images")
    monkeypatch.setenv("PATHNAME_BASENAME", str(tmp_path / f"{HOSTILE} 2"))
    assert screen.all().done == 2
    monkeypatch.setenv("PATHNAME_BASENAME", str(tmp_path / "gone"))
    refused(Exit.BAD_SETTING, "PATHNAME_BASENAME is not a folder", screen.plan)


def test_another_pathname_basename_runs_again(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relative(screen, "images")
    screen.all()
    shutil.copytree(screen.images, tmp_path / "copy" / "images")
    before = {p.digest for p in read_plan(screen.workspace)}
    monkeypatch.setenv("PATHNAME_BASENAME", str(tmp_path / "copy"))
    screen.plan("-q")
    assert before.isdisjoint(p.digest for p in read_plan(screen.workspace))
    assert len(todo.left(screen.workspace)) == len(screen.chunks())


@pytest.mark.parametrize(
    ("base", "folder"),
    [
        ("Default Input Folder|", "images"),
        ("Default Input Folder sub-folder|images", "."),
        ("Elsewhere...|{base}", "images"),
        ("None|", "images"),
    ],
)
def test_image_folders_below_the_default_input_folder(
    screen: Screen, base: str, folder: str
) -> None:
    relative(screen, folder)
    screen.write(load_data(base=base.format(base=screen.base)), IDENTIFY, SAVE, EXPORT)
    assert screen.all().done == 2


def test_no_folder_column_at_all(screen: Screen) -> None:
    screen.fill(2)
    screen.header.remove("PathName_DNA")
    for row in screen.rows:
        del row[1]
    base = "Default Input Folder sub-folder|images"
    screen.write(load_data(base=base), IDENTIFY, SAVE, EXPORT)
    assert screen.all().done == 2


def test_refuses_a_base_that_it_cannot_give(screen: Screen) -> None:
    screen.fill(1)
    screen.write(load_data(base="Default Output Folder|"), EXPORT)
    refused(Exit.MALFORMED_INPUT, "Base image location is Default Output Folder", screen.plan)


def test_urls_of_files(screen: Screen) -> None:
    screen.fill(2)
    screen.header[1] = "URL_DNA"
    for row in screen.rows:
        row[1] = "file:" + pathname2url(str(screen.images / row[0]))
    screen.write()
    screen.plan("-q")
    (screen.images / "f2.tif").unlink()
    verdicts = screen.run()
    failed = [f for v in verdicts for f in v["failed"]]
    assert [(f["reason"], f["file"]) for f in failed if f["reason"] == "missing file"] == [
        ("missing file", str(screen.images / "f2.tif"))
    ]


@pytest.mark.parametrize(
    ("options", "code", "what"),
    [
        (["--chunk-size", "0"], Exit.USAGE, "--chunk-size 0: at least 1"),
        (["--chunk-size", "many"], Exit.USAGE, "invalid int value: 'many'"),
        (["-k", "--group-by", "Well"], Exit.USAGE, "-k and --group-by exclude each other"),
        (["--group-by", "Dose"], Exit.MALFORMED_INPUT, "no column Metadata_Dose"),
        (["-t", "/no/such/folder"], Exit.CANNOT_CREATE, "not a folder that can be written"),
    ],
)
def test_refuses_options(screen: Screen, options: list[str], code: Exit, what: str) -> None:
    screen.fill(1)
    refused(code, what, screen.plan, *options)
    assert not screen.workspace.plan.exists()


def test_refuses_an_unknown_module(screen: Screen) -> None:
    screen.fill(1)
    screen.write(load_data(), "\nMeasureNoSuch:[module_num:2|enabled:True]\n", EXPORT)
    refused(Exit.MALFORMED_INPUT, "Could not find the MeasureNoSuch module", screen.plan)
    assert not screen.workspace.plan.exists()


def test_a_table_too_wide_for_sqlite_is_65_before_the_run(screen: Screen) -> None:
    screen.fill(1)
    screen.header += [f"Metadata_x{i}" for i in range(2000)]
    screen.rows = [row + ["v"] * 2000 for row in screen.rows]
    screen.write()
    error = refused(Exit.MALFORMED_INPUT, "and SQLite takes 2,000", screen.plan, "--format=sqlite")
    assert "--format parquet" in error.todo
    assert not screen.workspace.plan.exists()
    assert screen.plan("--format=parquet", "-q") == Exit.OK
    # also where CellProfiler was asked before, and by an earlier bpcp, which did not ask this
    refused(Exit.MALFORMED_INPUT, "Image.csv has 2,0", screen.plan, "--format=sqlite")
    run = screen.run_json()
    del run["cellprofiler"]["widest"], run["cellprofiler"]["widths"]
    write_json(screen.workspace.run, run)
    refused(Exit.MALFORMED_INPUT, "Image.csv has 2,0", screen.plan, "--format=sqlite")


def test_cellprofiler_is_asked_once_for_a_pipeline(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen.fill(1)
    screen.plan("-q")
    asked = tmp_path / "asked"
    counting = tmp_path / "counting cellprofiler"
    fake = os.environ["BPCP_CELLPROFILER"]
    counting.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>"{asked}"\nexec "{fake}" "$@"\n')
    counting.chmod(0o755)
    monkeypatch.setenv("BPCP_CELLPROFILER", str(counting))
    screen.plan("-q")
    assert asked.read_text() == "--version\n"
    screen.plan("-q", "-w")
    assert asked.read_text().count("--measurements") == 1
    assert screen.run_json()["cellprofiler"]["command"] == [str(counting)]


def test_a_plan_in_use_is_75(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.fill(1)
    monkeypatch.setattr(plan, "locked", lambda w: locked(w, wait_s=0))
    with locked(screen.workspace):
        refused(Exit.STOPPED, f"process {os.getpid()} on ", screen.plan)


def test_the_state_is_plain_files(screen: Screen) -> None:
    screen.fill(3)
    screen.all("--chunk-size", "3")
    (name,) = screen.chunks()
    status = tree(screen.workspace.status)
    assert {"run.json", "plan.json", "pipeline.cppipe", "merged.json", "lock"} <= status
    assert {f"chunks/{name}/{n}" for n in ("chunk.json", "images.csv", "done.json")} <= status
    given = json.loads((screen.workspace.chunks / name / "chunk.json").read_text())
    assert given["units"] == [[1, 1], [2, 2], [3, 3]]
    assert not any(Path(p).name.startswith(".") for p in status)


def test_a_file_that_the_pipeline_reads_changed(
    screen: Screen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    (tmp_path / "model").write_bytes(b"1")
    reads = f"    Folder:Elsewhere...|{tmp_path}\n    Model:model\n"
    screen.write(load_data(), IDENTIFY + reads, SAVE, EXPORT)
    screen.all("--chunk-size", "2")
    screen.plan("--chunk-size", "2")
    assert "every image set runs again" not in said(capsys)
    assert todo.left(screen.workspace) == []
    (tmp_path / "model").write_bytes(b"2")
    screen.plan("--chunk-size", "2")
    assert "a file that the pipeline reads, or the root of the images, changed" in said(capsys)
    assert len(todo.left(screen.workspace)) == 2


def test_another_python_of_the_same_cellprofiler_runs_all_again(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    monkeypatch.setattr(cellprofiler, "python_version", lambda argv: "3.9")
    screen.all("--chunk-size", "2")
    monkeypatch.setattr(cellprofiler, "python_version", lambda argv: "3.11")
    capsys.readouterr()
    screen.plan("--chunk-size", "2")
    words = "CellProfiler changed from 4.2.8.1 on Python 3.9 to 4.2.8.1 on Python 3.11: every"
    assert words in said(capsys)
    assert len(todo.left(screen.workspace)) == 2


def test_two_pipelines_of_one_name_are_73(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(2)
    screen.all()
    other = screen.pipeline.with_name("measure.cppipe")
    other.write_text(screen.pipeline.read_text() + "\n")
    arguments = ["-d", screen.dataset, "-p", str(other), "--no-check"]
    error = refused(Exit.CANNOT_CREATE, str(screen.pipeline), plan.main, arguments)
    assert str(other) in str(error)
    assert todo.left(screen.workspace) == []
    assert plan.main([*arguments, "-w"]) == Exit.OK
    assert "the pipeline changed: every image set runs again" in said(capsys)
    assert screen.run_json()["pipeline"] == str(other)
    assert len(todo.left(screen.workspace)) == len(screen.chunks())


def test_a_column_of_another_type_says_why_all_runs_again(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        screen.add(f"{i}.tif", 9, plate=str(i))
    screen.write()
    screen.all("--chunk-size", "2")
    screen.rows[3][2] = "3b"
    screen.write()
    capsys.readouterr()
    screen.plan("--chunk-size", "2")
    found = said(capsys)
    assert "Metadata_Plate is text now, was integer: every image set runs again" in found
    assert "the image list changed: 1 image sets new, 1 gone" in found
    assert len(todo.left(screen.workspace)) == 2


def test_another_column_says_why_all_runs_again(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(2)
    screen.all()
    screen.header.append("Metadata_Dose")
    for row in screen.rows:
        row.append("1")
    screen.write()
    capsys.readouterr()
    screen.plan()
    words = "the columns of the image list changed: every image set runs again"
    assert words in said(capsys)
    assert len(todo.left(screen.workspace)) == len(screen.chunks())


def test_rows_that_came_and_went_are_counted(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    screen.add("new.tif", 9)
    # a duplicate counts too
    screen.rows.append(screen.rows[0])
    del screen.rows[1]
    screen.write()
    capsys.readouterr()
    screen.plan("--chunk-size", "2")
    assert "the image list changed: 2 image sets new, 1 gone" in said(capsys)
    screen.plan("--chunk-size", "2")
    assert "changed" not in said(capsys)


def test_dry_run_knows_what_would_run_again(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "2")
    (screen.images / "f3.tif").write_bytes(b"x" * 13)
    capsys.readouterr()
    screen.plan("--dry-run", "--chunk-size", "2")
    states = [line.rsplit("\t")[-1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert states == ["done", "to do"]
    # it only says so
    assert todo.left(screen.workspace) == []


def test_asked_to_cut_otherwise_and_anew_what_is_done_goes(screen: Screen) -> None:
    screen.fill(4)
    screen.all("--chunk-size", "4")
    screen.plan("-q", "--chunk-size", "2")
    assert [len(c.image_numbers) for c in read_plan(screen.workspace)] == [4]
    screen.plan("-q", "-w", "--chunk-size", "1")
    assert [len(c.image_numbers) for c in read_plan(screen.workspace)] == [1, 1, 1, 1]
    assert len(todo.left(screen.workspace)) == 4


@pytest.mark.parametrize("slots", ["0", "100000"])
def test_no_limit_of_processes_is_no_reason_for_tiny_chunks(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, slots: str
) -> None:
    limits = replace(settings.read_limits(), cores_seen=2, cores_allowed=2)
    monkeypatch.setattr(settings, "read_limits", lambda: limits)
    screen.fill(10)
    plan.main(screen.arguments("-q", "--slots", slots, "--no-check"))
    assert [len(c.image_numbers) for c in read_plan(screen.workspace)] == [5, 5]


@pytest.mark.parametrize("left", ["pipeline", "chunk", "run", "no pipeline"])
def test_a_plan_that_was_killed_half_way_is_not_run(screen: Screen, left: str) -> None:
    screen.fill(2)
    screen.plan("-q", "--chunk-size", "2")
    (name,) = screen.chunks()
    path = {
        "chunk": screen.workspace.chunk(name).chunk,
        "run": screen.workspace.run,
    }.get(left, screen.workspace.pipeline)
    before = path.read_bytes()
    screen.write(load_data(), IDENTIFY, SAVE, EXPORT + "\n")
    screen.plan("-q", "--chunk-size", "2")
    if left == "no pipeline":
        path.unlink()
    else:
        path.write_bytes(before)
    what = f"chunk {name} and the pipeline in"
    refused(Exit.STOPPED, what, chunk.load, screen.workspace, name)
    screen.plan("-q", "--chunk-size", "2")
    assert chunk.load(screen.workspace, name)


def test_a_cellprofiler_that_is_killed_while_it_is_asked_says_nothing_of_the_pipeline(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the kernel kills it where memory is short; the pipeline may be right."""
    screen.fill(2)
    killed = tmp_path / "killed"
    real = os.environ["BPCP_CELLPROFILER"]
    killed.write_text(
        "#!/bin/bash\n"
        'for word in "$@"; do [[ $word != --measurements ]] || kill -KILL $$; done\n'
        f'exec {real} "$@"\n'
    )
    killed.chmod(0o755)
    monkeypatch.setenv("BPCP_CELLPROFILER", shlex.quote(str(killed)))
    what = "CellProfiler was ended by SIGKILL while it loaded the pipeline"
    refused(Exit.STOPPED, what, screen.plan, "-q")
