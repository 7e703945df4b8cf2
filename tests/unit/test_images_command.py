from __future__ import annotations

import csv
import gzip
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import HOSTILE, ROOT, refused, rows_of
from s3server import Bucket, Proxy, S3Server

from bpcp import imagelist, s3
from bpcp.access import Access
from bpcp.errors import Exit
from bpcp.images import walk as walking
from bpcp.images.__main__ import main
from bpcp.images.channels import cleaned
from bpcp.images.ticker import ticking

GUID = "B9D0B234-C57E-4A13-9664-D2CA89B4E7F8"


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    """A folder of images as ImageXpress writes them, with all that lies beside them."""
    folder = tmp_path / HOSTILE
    for well in ("A01", "A02", "A10"):
        for site in (1, 2, 10):
            for wave in (1, 2):
                touch(folder / "TimePoint_1" / f"P 1_{well}_s{site}_w{wave}{GUID}.tif")
                touch(folder / "TimePoint_1" / f"P 1_{well}_s{site}_w{wave}_thumb{GUID}.tif")
    touch(folder / "TimePoint_1" / "Thumbs.db")
    touch(folder / ".snapshot" / "P 1_A01_s1_w1.tif")
    touch(folder / "._P 1_A01_s1_w1.tif")
    return folder


def touch(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def made(source: Path | str, tmp_path: Path, *more: str) -> list[dict[str, str]]:
    out = tmp_path / "out" / "load_data.csv"
    out.parent.mkdir(exist_ok=True)
    assert main([str(source), "--out", str(out), *more]) == Exit.OK
    return rows_of(out)


def fails(code: Exit, what: str, source: Path | str, *more: str) -> str:
    return refused(code, what, main, [str(source), *more]).todo


# --- what is written -----------------------------------------------------------------------------


def test_a_folder_becomes_a_list(plates: Path, tmp_path: Path) -> None:
    rows = made(plates, tmp_path, "--channel", "1=DNA", "--channel", "w2=Actin")
    assert list(rows[0]) == [
        "FileName_DNA", "PathName_DNA", "FileName_Actin", "PathName_Actin",
        "Metadata_Plate", "Metadata_Well", "Metadata_Row", "Metadata_Col", "Metadata_Site",
    ]  # fmt: skip
    assert [(r["Metadata_Well"], r["Metadata_Site"]) for r in rows] == [
        (well, site) for well in ("A01", "A02", "A10") for site in ("1", "2", "10")
    ]
    assert {(r["Metadata_Plate"], r["Metadata_Row"]) for r in rows} == {("P 1", "A")}
    assert [r["Metadata_Col"] for r in rows[::3]] == ["1", "2", "10"]
    for row in rows:
        place = f"P 1_{row['Metadata_Well']}_s{row['Metadata_Site']}"
        assert row["FileName_DNA"] == f"{place}_w1{GUID}.tif"
        assert row["FileName_Actin"] == f"{place}_w2{GUID}.tif"
        assert row["PathName_DNA"] == row["PathName_Actin"] == str(plates / "TimePoint_1")


def test_the_list_is_one_that_bpcp_reads_and_every_file_is_there(
    plates: Path, tmp_path: Path
) -> None:
    made(plates, tmp_path)
    found = imagelist.read(tmp_path / "out" / "load_data.csv")
    files = [f for row in found.rows for _, f in imagelist.files(found.header, row, Path("/"))]
    assert len(files) == 18
    assert all(Path(f).is_file() for f in files)


def test_what_was_understood_is_said_on_three_examples(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(plates, tmp_path)
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[0] == "preset imagexpress: Molecular Devices ImageXpress, MetaXpress"
    assert all("→ plate P 1, well A" in line for line in lines[1:4])
    assert "left out: 18 thumbnails" in told.err
    assert "9 image sets, 1 plate, 3 wells; channels: w1, w2" in told.err
    assert lines[-1].startswith("written: ")
    main([str(plates), "-q", "-o", str(tmp_path / "quiet.csv")])
    assert capsys.readouterr().err == ""


def examples(capsys: pytest.CaptureFixture[str], source: Path, *more: str) -> list[str]:
    assert main([str(source), "--dry-run", *more]) == Exit.OK
    return [e.strip() for e in capsys.readouterr().err.splitlines() if "→" in e]


def test_the_examples_tell_channels_apart_in_natural_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for well in ("A10", "B02", "A02"):
        for wave in (4, 3, 2, 1):
            touch(tmp_path / "P" / f"P_{well}_s1_w{wave}.tif")
    assert examples(capsys, tmp_path) == [
        f"P/P_{well}_s1_{wave}.tif → plate P, well {well}, site 1, channel {wave}"
        for well, wave in (("A02", "w1"), ("A10", "w2"), ("B02", "w3"))
    ]
    # what one place has, is shown of it
    shown = examples(capsys, tmp_path, "--regex", r"(?P<well>A02)_s(?P<site>1)_(?P<channel>w\d)")
    assert [e.split(" →")[0] for e in shown] == [f"P/P_A02_s1_w{n}.tif" for n in (1, 2, 3)]
    shown = examples(capsys, tmp_path, "--regex", r"(?P<well>A02|B02)_s1_(?P<channel>w[12])")
    assert [e.split(" →")[0] for e in shown] == [
        "P/P_A02_s1_w1.tif", "P/P_B02_s1_w1.tif", "P/P_B02_s1_w2.tif",
    ]  # fmt: skip
    shown = examples(capsys, tmp_path, "--regex", r"(?P<well>A02)_s1_(?P<channel>w1)")
    assert len(shown) == 1


def test_an_example_of_a_place_without_the_channel_is_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("A01_s1_w1", "A02_s1_w1", "A03_s1_w1", "A04_s1_w2"):
        touch(tmp_path / f"P_{name}.tif")
    shown = examples(capsys, tmp_path, "--channel", "2=")
    assert [e.split(" →")[0] for e in shown] == [
        "P_A01_s1_w1.tif", "P_A03_s1_w1.tif", "P_A04_s1_w2.tif",
    ]  # fmt: skip


def test_a_dry_run_writes_nothing(plates: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main([str(plates), "--dry-run", "-d", "x", "--base", str(tmp_path)]) == Exit.OK
    assert sorted(tmp_path.rglob("*")) == before


def test_planes_and_time_points_are_image_sets_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for t in (1, 2, 10):
        for z in (1, 2):
            touch(tmp_path / f"P/TimePoint_{t}/ZStep_{z}/P_A01_s1_w1.tif")
    rows = made(tmp_path / "P", tmp_path)
    assert [(r["Metadata_Timepoint"], r["Metadata_ZPlane"]) for r in rows] == [
        (t, z) for t in ("1", "2", "10") for z in ("1", "2")
    ]
    assert rows[-1]["PathName_w1"].endswith("/P/TimePoint_10/ZStep_2")
    assert (
        "6 image sets, 1 plate, 1 well; 2 z planes, 3 time points: each is an image set of its own;"
        " channels: w1"
    ) in capsys.readouterr().err.splitlines()


def test_projections_beside_planes_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("ZStep_0", "ZStep_1", "ZStep_2"):
        touch(tmp_path / f"P/TimePoint_1/{folder}/P_A01_s1_w1.tif")
    touch(tmp_path / "Q/TimePoint_1/ZStep_0/Q_A01_s1_w1.tif")
    for source, planes in ((tmp_path / "P", ["1", "2"]), (tmp_path / "Q", [""])):
        rows = made(source, tmp_path, "--overwrite")
        assert [r.get("Metadata_ZPlane", "") for r in rows] == planes
        said = "1 projection of z planes that are listed, left out: "
        assert (said in capsys.readouterr().err) is (planes != [""])


def test_images_of_another_acquisition_are_no_projections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("201", "202", "203", "203/ZStep_1", "203/ZStep_2"):
        acquisition, _, step = folder.partition("/")
        touch(tmp_path / f"in/{acquisition}/TimePoint_1/{step}/HTS_A01_s1_w1.tif")
    source = [str(tmp_path / "in"), "-o", str(tmp_path / "a.csv")]
    refused(Exit.MALFORMED_INPUT, "more than one file", main, source)
    rows = made(tmp_path / "in", tmp_path, "--plate-from", "folder")
    assert [(r["Metadata_Plate"], r["Metadata_ZPlane"]) for r in rows] == [
        ("201", ""),
        ("202", ""),
        ("203", "1"),
        ("203", "2"),
    ]
    assert "1 projection of z planes" in capsys.readouterr().err


def test_a_channel_that_is_only_there_as_a_projection_is_not_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("P_A01_s1_w2", "ZStep_1/P_A01_s1_w1", "ZStep_2/P_A01_s1_w1"):
        touch(tmp_path / f"in/P/TimePoint_1/{name}.tif")
    source = [str(tmp_path / "in"), "-o", str(tmp_path / "a.csv")]
    refused(Exit.MALFORMED_INPUT, "incomplete image sets", main, source)
    said = capsys.readouterr().err
    assert "P, A01, site 1, t 1: no w1" in said
    assert main([*source, "--channel", "2="]) == Exit.OK


def test_the_guides_regex_takes_the_projections(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"`--regex '(TimePoint_[^']+)'`", guide)
    for folder in ("", "ZStep_1", "ZStep_2"):
        touch(tmp_path / "in/P/TimePoint_1" / folder / "P_A01_s1_w1.tif")
    (row,) = made(tmp_path / "in", tmp_path, "--regex", pattern)
    assert row["PathName_w1"].endswith("/in/P/TimePoint_1")
    assert (row["Metadata_Plate"], row["Metadata_Well"]) == ("P", "A01")


def test_a_site_that_nobody_wrote_is_the_first(tmp_path: Path) -> None:
    touch(tmp_path / "in/P_B03.TIF")
    (row,) = made(tmp_path / "in", tmp_path)
    assert (row["Metadata_Site"], row["FileName_Image"]) == ("1", "P_B03.TIF")
    assert (row["Metadata_Row"], row["Metadata_Col"]) == ("B", "3")


def test_groups_of_a_regex_become_metadata(tmp_path: Path) -> None:
    touch(tmp_path / "in/slide 7/ctrl_DNA.png")
    touch(tmp_path / "in/slide 10/drug, 1 µM_DNA.png")
    pattern = r"slide (?P<Slide>\d+)/(?P<well>.+)_(?P<channel>[A-Z]+)\.png"
    rows = made(tmp_path / "in", tmp_path, "--regex", pattern, "--plate", "X")
    assert [(r["Metadata_Well"], r["Metadata_Slide"]) for r in rows] == [
        ("ctrl", "7"),
        ("drug, 1 µM", "10"),
    ]
    assert "Metadata_Row" not in rows[0]
    assert {r["Metadata_Plate"] for r in rows} == {"X"}


def test_wells_of_1536_and_many_plates_sort_as_people_count(tmp_path: Path) -> None:
    for plate in ("P2", "P10"):
        for well in ("AA01", "B10", "B09", "Z48"):
            touch(tmp_path / f"in/{plate}_{well}_s1_w1.tif")
    rows = made(tmp_path / "in", tmp_path)
    assert [(r["Metadata_Plate"], r["Metadata_Well"]) for r in rows] == [
        (p, w) for p in ("P2", "P10") for w in ("B09", "B10", "Z48", "AA01")
    ]


def test_plates_of_one_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    for plate in ("A117", "A118"):
        touch(tmp_path / f"in/{plate}/Images/HTS_A01_s1_w1.tif")
    todo = fails(Exit.MALFORMED_INPUT, "A117/Images/HTS_A01", tmp_path / "in", "--dry-run")
    assert "--plate-from folder" in todo
    rows = made(tmp_path / "in", tmp_path, "--plate-from", "folder")
    assert [r["Metadata_Plate"] for r in rows] == ["A117", "A118"]


# --- where it goes -------------------------------------------------------------------------------


def test_the_list_goes_into_the_workspace(
    plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "ü base"
    pipeline = base / "pipelines" / "v2" / "a.cppipe"
    wanted = base / "load_data_csv" / "plate 1" / "load_data.csv"
    base.mkdir()
    main([str(plates), "-d", "plate 1", "-p", str(pipeline)])
    first = wanted.read_bytes()
    assert stat_mode(wanted) == 0o644
    wanted.unlink()
    main([str(plates), "-d", "plate 1", "--base", str(base)])
    assert wanted.read_bytes() == first
    wanted.unlink()
    monkeypatch.chdir(base)
    main([str(plates), "-d", "plate 1"])
    assert wanted.read_bytes() == first
    assert [p.name for p in wanted.parent.iterdir()] == ["load_data.csv"]


def test_folders_that_are_not_there_are_not_made(plates: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    none = tmp_path / "no base"
    for argv in (["-b", str(none)], ["-p", str(none / "pipelines" / "a.cppipe")]):
        todo = fails(Exit.NO_INPUT, f": no folder {none}", plates, "-d", "x", *argv)
        assert todo == "make it, or mend the name"
    fails(Exit.CANNOT_CREATE, f": no folder {none}", plates, "-o", str(none / "x.csv"))
    todo = fails(Exit.CANNOT_CREATE, "is a folder", plates, "-o", str(tmp_path))
    assert todo == f"name the file: {tmp_path}/load_data.csv"
    assert sorted(tmp_path.rglob("*")) == before


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_another_list_is_never_replaced_unasked(plates: Path, tmp_path: Path) -> None:
    out = touch(tmp_path / "load_data.csv", "mine\n")
    todo = fails(Exit.CANNOT_CREATE, "is there, with other content", plates, "-o", str(out))
    assert "--overwrite" in todo
    assert out.read_text() == "mine\n"
    assert sorted(p.name for p in tmp_path.glob("*.csv")) == ["load_data.csv"]
    main([str(plates), "-o", str(out), "--overwrite"])
    assert len(rows_of(out)) == 9


def test_the_same_list_again_changes_nothing(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "load_data.csv"
    main([str(plates), "-o", str(out)])
    before = out.stat()
    main([str(plates), "-o", str(out)])
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "unchanged: " in capsys.readouterr().err


def test_a_list_that_can_not_be_finished_leaves_no_trace(
    plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[list[str]]:
        yield ["FileName_DNA"]
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr("bpcp.images.write.rows", broken)
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="No space"):
        main([str(plates), "-o", str(tmp_path / "out" / "load_data.csv")])
    assert list((tmp_path / "out").iterdir()) == []


def test_stdout_takes_the_list_and_nothing_else(plates: Path) -> None:
    argv = [str(ROOT / "bin" / "bpcp-images"), str(plates), "--out", "-", "--channel", "1=A"]
    done = subprocess.run(argv, capture_output=True, check=True, env={**os.environ, "LANG": "C"})
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
    assert len(rows) == 9
    assert rows[0]["PathName_A"] == str(plates / "TimePoint_1")


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        ([], "where to?"),
        (["-o", "x.csv", "-d", "y"], "--out and -d"),
        (["-o", "x.csv", "-p", "y"], "--out and -d"),
        (["-d", "x", "-p", "y", "--base", "z"], "-p and --base"),
        (["-d", "../x"], "not a name for a dataset"),
        (["-o", "-", "--illum", "x"], "--illum writes a second file"),
        (["--dry-run", "--preset", "nikon"], "imagexpress"),
        (["--dry-run", "--preset", "phenix", "--regex", "x"], "not allowed with"),
        (["--dry-run", "--plate", "x", "--plate-from", "name"], "not allowed with"),
        (["--dry-run", "--channel", "DNA"], "no channel=name"),
        (["--dry-run", "--channel", "1=D NA"], "letters, digits and _"),
        (["--dry-run", "--channel", "1=1A"], "letters, digits and _"),
        (["--dry-run", "--channel", "1=A", "--channel", "1=B"], "given twice"),
        (["--dry-run", "--channel", "1=A", "--channel", "2=A"], "another channel is A already"),
        (["--dry-run", "--channel", "1=w2"], "channels w1 and w2 would both be w2"),
        (["--dry-run", "--channel", "7=A"], "no such channel"),
        (["--dry-run", "--regex", "("], "--regex"),
        (["--dry-run", "--endpoint-url", "ftp://x"], "not a plain"),
    ],
)
def test_a_wrong_command_line_is_64(plates: Path, argv: list[str], what: str) -> None:
    fails(Exit.USAGE, what, plates, *argv)


# --- what is wrong with the images ---------------------------------------------------------------


def test_incomplete_sets_are_listed_and_nothing_is_written(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plates / "TimePoint_1" / f"P 1_A10_s2_w2{GUID}.tif").unlink()
    for site in (1, 2, 10):
        (plates / "TimePoint_1" / f"P 1_A02_s{site}_w1{GUID}.tif").unlink()
    out = tmp_path / "load_data.csv"
    argv = ["-q", "-o", str(out), "--channel", "1=DNA"]
    todo = fails(Exit.MALFORMED_INPUT, "4 incomplete image sets", plates, *argv)
    assert "--incomplete drop" in todo
    assert not out.exists()
    assert capsys.readouterr().err.splitlines() == [
        "4 of 9 image sets lack a channel:",
        "  P 1, A02, site 1, t 1: no DNA",
        "  P 1, A02, site 2, t 1: no DNA",
        "  P 1, A02, site 10, t 1: no DNA",
        "  P 1, A10, site 2, t 1: no w2",
        "channel DNA: none in 1 well: P 1, A02",
    ]
    touch(plates / "TimePoint_1" / f"P 2_B01_s1_w1{GUID}.tif")
    main([str(plates), *argv[1:], "--incomplete", "drop"])
    told = capsys.readouterr().err
    assert "left out: 5 image sets" in told
    # as many as are written
    assert "\n5 image sets, 1 plate, 2 wells; channels: w1=DNA, w2\n" in told
    assert [(r["Metadata_Well"], r["Metadata_Site"]) for r in rows_of(out)] == [
        ("A01", "1"), ("A01", "2"), ("A01", "10"), ("A10", "1"), ("A10", "10"),
    ]  # fmt: skip


def test_many_incomplete_sets_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for site in range(1, 13):
        touch(tmp_path / f"P_A01_s{site}_w{1 + site % 2}.tif")
    fails(Exit.MALFORMED_INPUT, "12 incomplete", tmp_path, "--dry-run")
    assert "… and 7 more" in capsys.readouterr().err
    fails(Exit.MALFORMED_INPUT, "no image set is complete", tmp_path, "--dry-run",
          "--incomplete", "drop")  # fmt: skip


def test_a_channel_that_only_some_wells_have_can_be_left_out(tmp_path: Path) -> None:
    for name in ("P_A01_s1_w1", "P_A02_s1_w1", "P_A02_s1_w2"):
        touch(tmp_path / f"in/{name}.tif")
    rows = made(tmp_path / "in", tmp_path, "--channel", "2=")
    assert [r["FileName_w1"] for r in rows] == ["P_A01_s1_w1.tif", "P_A02_s1_w1.tif"]
    assert "FileName_w2" not in rows[0]
    fails(Exit.MALFORMED_INPUT, "leaves out all", tmp_path / "in", "--dry-run",
          "--channel", "1=", "--channel", "2=")  # fmt: skip


def test_two_files_for_one_place_are_both_named(tmp_path: Path) -> None:
    for i in range(7):
        touch(tmp_path / f"4014/P_A0{i + 1}_s1_w1.tif")
        touch(tmp_path / f"4020/P_A0{i + 1}_s1_w1.tif")
    error = refused(
        Exit.MALFORMED_INPUT, "7 places have more than one file", main, [str(tmp_path), "--dry-run"]
    )
    assert f"{tmp_path}/4014/P_A01_s1_w1.tif" in str(error)
    assert f"{tmp_path}/4020/P_A01_s1_w1.tif" in str(error)
    assert "… and 2 more" in str(error)
    assert error.todo in {
        f"give SOURCE the folder of one of them, {tmp_path}/{folder};"
        " or, if they are of different plates, --plate-from folder"
        for folder in ("4014", "4020")
    }


def doubled_todo(tmp_path: Path, names: list[str], *more: str) -> str:
    for name in names:
        touch(tmp_path / "in" / name)
    return fails(Exit.MALFORMED_INPUT, "more than one file", tmp_path / "in", "--dry-run", *more)


def test_an_expression_without_a_channel_is_said_to_be(tmp_path: Path) -> None:
    names = ["A01_DNA.png", "A01_ER.png"]
    todo = doubled_todo(tmp_path, names, "--regex", r"(?P<well>[A-H]\d+)")
    assert todo == "--regex has no group channel: add (?P<channel>…) where the names tell it"
    touch(tmp_path / "in/b/A01_DNA.png")
    todo = doubled_todo(tmp_path, names, "--regex", r"(?P<well>[A-H]\d+)_(?P<ChannelNumber>[DE])"
                        "(?!R)", "--plate", "S")  # fmt: skip
    assert "no group channel" not in todo


def test_a_plate_that_was_measured_twice_goes_by_its_folder(tmp_path: Path) -> None:
    folders = [f"BR1__2026-01-15T09_30_00-Measurement {n}" for n in (1, 2)]
    names = [f"{folder}/Images/r01c01f01p01-ch1sk1fk1fl1.tiff" for folder in folders]
    todo = doubled_todo(tmp_path, names)
    assert any(
        todo.startswith(f"give SOURCE the folder of one of them, {tmp_path}/in/{f}; or, if")
        for f in folders
    )
    # both are plate BR1
    assert "--plate-from folder" not in todo
    assert todo.endswith(
        "; or, if they are of different plates, list each by itself, with --plate NAME"
    )
    for folder in folders:
        made(tmp_path / "in" / folder, tmp_path, "--plate", folder, "--overwrite")


def test_a_folder_that_is_a_group_of_its_own_tells_no_places_apart(tmp_path: Path) -> None:
    names = [f"{dose}/run/A01_DNA.png" for dose in ("1 µM", "10 µM")]
    pattern = r"(?P<Dose>[^/]+)/run/(?P<well>[A-H]\d+)_(?P<channel>[A-Za-z0-9]+)\.png$"
    todo = doubled_todo(tmp_path, names, "--regex", pattern)
    assert todo.endswith(
        "a group plate in --regex, as in (?P<plate>[^/]+)/ (Dose: a column, tells no places apart)"
    )
    main([str(tmp_path / "in"), "--dry-run", "--regex", pattern.replace("Dose", "plate")])
    todo = doubled_todo(tmp_path, names, "--regex", pattern, "--plate", "S12")
    assert todo.endswith(" (Dose: a column, tells no places apart), without --plate")
    todo = doubled_todo(
        tmp_path, names, "--regex", pattern.replace("Dose", "plate"), "--plate", "S12"
    )
    assert todo.endswith("; or, if they are of different plates, leave out --plate")
    # without a channel both may be the reason
    todo = doubled_todo(tmp_path, names, "--regex", r"(?P<well>A01)")
    assert todo.startswith("--regex has no group channel: ")
    assert "; else give SOURCE the folder of one of them, " in todo


def test_of_a_folder_in_another_the_inner_one_is_advised(tmp_path: Path) -> None:
    names = ["P_A01_s1_w1.tif", "old/P_A01_s1_w1.tif"]
    assert f"one of them, {tmp_path}/in/old; or" in doubled_todo(tmp_path, names)


def test_two_names_of_one_place_in_one_folder(tmp_path: Path) -> None:
    names = ["P_A01_s1_w1.tif", "P_A01_s01_w1.tif"]
    assert doubled_todo(tmp_path, names) == "tell them apart by --regex"
    pattern = r"(?P<well>A01)_.*(?P<channel>w1)"
    todo = doubled_todo(tmp_path, names, "--regex", pattern)
    assert todo == ("tell them apart by a group of --regex: plate, well, site, channel, z or t")


def test_files_that_the_preset_does_not_fit_are_named(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(plates / "over\nview.tif")
    rows = made(plates, tmp_path)
    assert len(rows) == 9
    assert "1 file that the preset does not fit, left out: 'over\\nview.tif'" in (
        capsys.readouterr().err
    )


def test_a_plate_that_the_preset_does_not_fit_is_not_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(1, 41):
        touch(tmp_path / f"in/P1/P1_A01_s{i}_w1.tif")
    touch(tmp_path / "in/P1/P1_A01_montage.tif")
    touch(tmp_path / "in/figures/dose response.png")
    source = [str(tmp_path / "in"), "--dry-run"]
    assert main(source) == Exit.OK
    said = capsys.readouterr().err
    assert "2 files that the preset does not fit, left out" in said
    touch(tmp_path / "in/P2/Nikon A01 field 1.tif")
    error = refused(Exit.MALFORMED_INPUT, "P2 (1 file)", main, source)
    assert "--exclude" in error.todo
    assert main([*source, "--exclude", "P2/*", "--exclude", "P2/N*"]) == Exit.OK
    said = capsys.readouterr().err
    assert "left out: 1 excluded" in said and "fits no file" not in said


def test_a_pattern_that_fits_no_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for well in ("A01", "A02"):
        touch(tmp_path / f"in/P1/P1_{well}_s1_w1.tif")
    source = [str(tmp_path / "in"), "--dry-run", "--quiet"]
    assert main([*source, "--exclude", "*_A02_*", "--exclude", "P1_A01_*"]) == Exit.OK
    said = capsys.readouterr().err.strip()
    assert said == "--exclude 'P1_A01_*' fits no file: the whole path below SOURCE counts"
    # also where something else is wrong, and it may be why
    refused(Exit.NO_INPUT, "2 excluded", main, [*source, "--exclude", "*", "--exclude", "p1/*"])
    assert "--exclude 'p1/*' fits no file" in capsys.readouterr().err


def test_what_is_excluded_in_a_list_of_files_is_a_whole_path(tmp_path: Path) -> None:
    names = [f"/data/P/P_A01_s1_w{i}.tif" for i in (1, 2)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    (row,) = made(tmp_path / "list.txt", tmp_path, "--exclude", "/data/*_w2.tif")
    assert row["FileName_w1"] == "P_A01_s1_w1.tif"
    assert "FileName_w2" not in row


def test_a_preset_that_fits_nothing_is_refused(plates: Path) -> None:
    todo = fails(Exit.MALFORMED_INPUT, "preset phenix fits none of 18", plates, "--dry-run",
                 "--preset", "phenix")  # fmt: skip
    assert "r01c01f01p01-ch7sk1fk1fl1.tiff" in todo
    fails(Exit.MALFORMED_INPUT, "--regex nope(?P<well>) fits none", plates, "--dry-run",
          "--regex", "nope(?P<well>)")  # fmt: skip


def test_nothing_there_is_66(tmp_path: Path) -> None:
    touch(tmp_path / "empty" / "notes.txt")
    fails(Exit.NO_INPUT, "there are 1 .txt, not an image", tmp_path / "empty", "--dry-run")
    fails(Exit.NO_INPUT, "no such folder", tmp_path / "none", "--dry-run")
    fails(Exit.NO_INPUT, "no such list", tmp_path / "none.csv", "--dry-run")


@pytest.mark.parametrize("name", ["P_A01_s1_w1.TIF", "Index.idx.xml", "MeasurementData.mlf"])
def test_one_file_is_no_source(name: str, tmp_path: Path) -> None:
    source = touch(tmp_path / name)
    assert fails(Exit.USAGE, f"{name} is one file", source, "--dry-run").endswith(str(tmp_path))


def test_a_name_that_no_list_can_hold_is_refused(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/P_A01_s1_w1\xff.tif", "wb"):  # noqa: PTH123
        pass
    fails(Exit.MALFORMED_INPUT, "not UTF-8", tmp_path, "--dry-run")


def test_links_in_a_circle_end_and_links_to_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/P_A01_s1_w1.tif")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    rows = made(tmp_path / "in", tmp_path)
    assert [r["PathName_w1"] for r in rows] == [str(tmp_path / "in" / "linked")]


def test_a_folder_that_may_not_be_read_is_not_skipped(
    plates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(folder: str | int) -> object:
        if str(folder).endswith("TimePoint_1"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(walking.os, "scandir", refusing)
    with pytest.raises(PermissionError):
        main([str(plates), "--dry-run"])


# --- channels ------------------------------------------------------------------------------------


def test_names_from_htd_files_and_what_they_become(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    htd = '"HTSInfoFile", Version 1.0\r\n"WaveName1", "HOECHST 33342"\r\n"WaveName2", "Cy5"\r\n'
    touch(plates / "P 1.HTD", htd)
    rows = made(plates, tmp_path)
    assert {"FileName_HOECHST33342", "FileName_Cy5"} < set(rows[0])
    assert "channel w1: 'HOECHST 33342' is HOECHST33342 for CellProfiler" in capsys.readouterr().err
    named = made(plates, tmp_path, "--overwrite", "--channel", "Cy5=Actin")
    assert {"FileName_HOECHST33342", "FileName_Actin"} < set(named[0])
    touch(plates / "other" / "P 2.htd", htd.replace("Cy5", "FITC"))
    todo = fails(Exit.MALFORMED_INPUT, "channel w2 is FITC here, Cy5 there", plates, "--dry-run")
    assert "--channel w2=NAME" in todo
    main([str(plates), "--dry-run", "--channel", "2=Actin"])


def test_two_channels_never_get_one_name(plates: Path) -> None:
    touch(plates / "P 1.HTD", '"WaveName1", "Cy 5"\r\n"WaveName2", "Cy5"\r\n')
    todo = fails(Exit.MALFORMED_INPUT, "channels w1 and w2 would both be Cy5", plates, "--dry-run")
    assert '--channel "w1"=NAME' in todo
    # two that are left out are no name twice
    fails(Exit.MALFORMED_INPUT, "leaves out all", plates, "--dry-run",
          "--channel", "1=", "--channel", "2=")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("1", "Ch1"), ("01", "Ch01"), ("w1", "w1"), ("d0", "d0"), ("", "Image"),
        ("DAPI - DAPI", "DAPI"),
        ("HOECHST 33342", "HOECHST33342"), ("Green - dsRed", "Green_dsRed"),
        ("390 - Blue", "Ch390_Blue"), ("Alexa 488 (ER)", "Alexa488ER"), ("µ", "Image"),
    ],
)  # fmt: skip
def test_names_that_cellprofiler_takes(name: str, wanted: str) -> None:
    assert cleaned(name) == wanted


# --- illumination functions ----------------------------------------------------------------------


def test_illumination_functions_stand_beside_their_images(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    illum = tmp_path / "illum é"
    touch(illum / "P 1" / "P 1_IllumDNA.npy")
    touch(illum / "P 1_IllumActin.npy")
    argv = ["--channel", "1=OrigDNA", "--channel", "2=Actin", "--illum", str(illum)]
    made(plates, tmp_path, *argv)
    rows = rows_of(tmp_path / "out" / "load_data_with_illum.csv")
    assert len(rows) == 9
    for row in rows:
        assert (row["FileName_IllumDNA"], row["PathName_IllumDNA"]) == (
            "P 1_IllumDNA.npy",
            str(illum / "P 1"),
        )
        assert (row["FileName_IllumActin"], row["PathName_IllumActin"]) == (
            "P 1_IllumActin.npy",
            str(illum),
        )
        assert row["FileName_OrigDNA"].endswith(f"_w1{GUID}.tif")
    assert "not there yet" not in capsys.readouterr().err


def test_missing_illumination_functions_are_listed(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(plates, tmp_path, "-q", "--illum", str(tmp_path / "none"))
    told = capsys.readouterr().err
    assert "2 illumination functions not there yet: " in told
    assert f"{tmp_path}/none/P 1/P 1_Illumw1.npy" in told
    rows = rows_of(tmp_path / "out" / "load_data_with_illum.csv")
    assert rows[0]["PathName_Illumw1"] == str(tmp_path / "none" / "P 1")


# --- lists that are there already ----------------------------------------------------------------

LIST = "Image_FileName_DNA,Image_PathName_DNA,Metadata_Plate,Metadata_Site\na b.tif,/x,P1,1\n"


def ready(kind: str, path: Path) -> Path:
    if kind == "csv":
        return touch(path.with_suffix(".csv"), "\ufeff" + LIST)
    if kind == "gz":
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(LIST.encode()))
        return path.with_suffix(".csv.gz")
    table = pa.table(
        {
            "FileName_DNA": ["a b.tif"],
            "PathName_DNA": ["/x"],
            "Metadata_Plate": ["P1"],
            "Metadata_Site": [1],
            "Metadata_Note": pa.array([None], pa.string()),
        }
    )
    pq.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


@pytest.mark.parametrize("kind", ["csv", "gz", "parquet"])
def test_a_ready_list_is_put_in_place(kind: str, tmp_path: Path) -> None:
    source = ready(kind, tmp_path / "it's ready")
    (row,) = made(source, tmp_path, "--illum", str(tmp_path))
    assert row.pop("Metadata_Note", "") == ""
    assert row == {
        "FileName_DNA": "a b.tif",
        "PathName_DNA": "/x",
        "Metadata_Plate": "P1",
        "Metadata_Site": "1",
    }
    (row,) = rows_of(tmp_path / "out" / "load_data_with_illum.csv")
    assert row["FileName_IllumDNA"] == "P1_IllumDNA.npy"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.csv", b"FileName_A,PathName_A\na.tif\n", "x.csv, line 2: 1 cells"),
        (
            "x.csv.gz",
            gzip.compress(b"Metadata_Plate\nP\n", mtime=0),
            "x.csv.gz, line 1: no FileName_ or URL_ column, so no images; the columns are: ",
        ),
        (
            "x.csv.gz",
            gzip.compress(LIST.encode() * 99, mtime=0)[:-20],
            "x.csv.gz: not a whole gzip file",
        ),
        ("x.csv.gz", b"plain", "x.csv.gz: not a whole gzip file"),
        ("x.parquet", b"PAR1", "x.parquet: not a whole Parquet file"),
    ],
)
def test_a_broken_list_is_named(name: str, content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    fails(Exit.MALFORMED_INPUT, what, tmp_path / name, "--dry-run")


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (LIST.replace(",", ";"), ", line 1: cells are separated by semicolons", "with commas"),
        ("", ": nothing in it", "list the image sets"),
        ("FileName_A\n", ": no rows behind the header", "list the image sets"),
        (
            "FileName_A,\n,1\n,2\n",
            ", line 1: column 2 of 2 has no name; CellProfiler fails (and 2 more: bpcp check)",
            "name it",
        ),
    ],
)
def test_a_list_with_errors_is_not_put_in_place(
    content: str, what: str, remedy: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    plain = touch(tmp_path / "the list.csv", content)
    packed = tmp_path / "the list.csv.gz"
    packed.write_bytes(gzip.compress(content.encode()))
    for source in (plain, packed):
        error = refused(Exit.MALFORMED_INPUT, what, main, [str(source), "-o", str(out)])
        assert str(error) == f"{source}{what}"
        assert remedy in error.todo
    assert not out.exists()


def test_a_list_with_warnings_is_put_in_place(tmp_path: Path) -> None:
    # two rows of one site, one with a space
    text = "FileName_A,Metadata_Site\na.tif,1\n b.tif,1\n"
    assert len(made(touch(tmp_path / "x.csv", text), tmp_path)) == 2


def test_what_is_for_images_is_not_for_lists(tmp_path: Path) -> None:
    source = ready("csv", tmp_path / "x")
    fails(Exit.USAGE, "--channel is for images", source, "--dry-run", "--channel", "1=DNA")
    fails(Exit.USAGE, "--plate-from is for images", source, "--dry-run", "--plate-from", "name")
    touch(source, "FileName_DNA\na.tif\n")
    fails(Exit.MALFORMED_INPUT, "--illum needs a column", source, "-o", str(tmp_path / "o"),
          "--illum", str(tmp_path))  # fmt: skip
    touch(source, "FileName_DNA,FileName_IllumDNA,Metadata_Plate\na.tif,i.npy,P\n")
    fails(Exit.MALFORMED_INPUT, "FileName_IllumDNA already", source, "-o", str(tmp_path / "p"),
          "--illum", str(tmp_path))  # fmt: skip


def test_a_file_list_is_a_source(tmp_path: Path) -> None:
    names = [
        "/data/it's/P_A01_s1_w1.tif",
        "file:///data/a%20b/P_A02_s1_w1.tif",
        "relative/P_A03_s1_w1.tif",
        "s3://bucket/x/P_A04_s1_w1.tif",
        "https://example.org/y/P_A05_s1_w1.tif",
        "",
        "/data/notes.txt",
    ]
    source = touch(tmp_path / "filelist.txt", "\r\n".join(names))
    assert [r["PathName_w1"] for r in made(source, tmp_path)] == [
        "/data/it's",
        "/data/a b",
        f"{tmp_path}/relative",
        "s3://bucket/x",
        "https://example.org/y",
    ]


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_an_image_list_by_another_name_is_no_file_list(between: str, tmp_path: Path) -> None:
    source = touch(tmp_path / "list.txt", "\ufeff" + LIST.replace(",", between))
    todo = fails(Exit.MALFORMED_INPUT, f"{source}: this looks like an image list", source,
                 "--dry-run")  # fmt: skip
    assert todo == "call it .csv"


def test_an_image_is_no_header(tmp_path: Path) -> None:
    source = touch(tmp_path / "list.txt", "/a/FileName_1, P_A01_s1_w1.tif\n")
    assert made(source, tmp_path)[0]["PathName_w1"] == "/a"


# --- S3 ------------------------------------------------------------------------------------------


@pytest.fixture
def short_pages(proxy: Proxy) -> Iterator[Proxy]:
    """Let listings through the proxy come in pages of two."""
    events = s3.client(Access(proxy.url, unsigned=False)).meta.events
    pages = ("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 2})
    events.register(*pages)
    yield proxy
    events.unregister(*pages)


def test_a_prefix_is_listed_page_by_page(
    short_pages: Proxy, bucket: Bucket, tmp_path: Path
) -> None:
    for well in ("A01", "A02", "A10"):
        for wave in (1, 2):
            bucket.put(f"lab ü/it's+1/P_{well}_s1_w{wave}.tif", b"")
    for other in ("lab ü/it's+1/", "lab ü/it's+1/notes.txt", "lab ü/.x/P_A01_s1_w1.tif", "lab.tif"):
        bucket.put(other, b"")
    url = f"{bucket.url}/lab ü"
    rows = made(url, tmp_path, "--endpoint-url", short_pages.url)
    assert [r["Metadata_Well"] for r in rows] == ["A01", "A02", "A10"]
    assert {r["PathName_w1"] for r in rows} == {f"{bucket.url}/lab ü/it's+1"}
    assert short_pages.asked("GET", "list-type=2") == 5
    files = imagelist.read(tmp_path / "out" / "load_data.csv")
    (first, *_) = imagelist.files(files.header, files.rows[0], Path("/"))
    assert first[1] == f"{bucket.url}/lab ü/it's+1/P_A01_s1_w1.tif"


def test_buckets_that_are_not_there_or_closed(proxy: Proxy, bucket: Bucket) -> None:
    access = ["--dry-run", "--endpoint-url", proxy.url]
    fails(Exit.NO_INPUT, "no such bucket", "s3://no-such-bucket-here/x", *access)
    fails(Exit.NO_INPUT, "no images in", f"{bucket.url}/x", *access)
    proxy.add("answer", "list-type", status=403, code="AccessDenied")
    assert "s3:ListBucket" in fails(Exit.NO_PERMISSION, bucket.url, f"{bucket.url}/x", *access)
    fails(Exit.USAGE, "not an S3 address", "s3://", *access)


def test_ready_lists_and_illumination_functions_may_be_in_a_bucket(
    server: S3Server, bucket: Bucket, tmp_path: Path
) -> None:
    access = ["--endpoint-url", server.url]
    bucket.put("x/load_data.csv.gz", gzip.compress(LIST.encode()))
    bucket.put("x/illum/P1/P1_IllumDNA.npy", b"")
    made(f"{bucket.url}/x/load_data.csv.gz", tmp_path, "--illum", f"{bucket.url}/x/illum", *access)
    (row,) = rows_of(tmp_path / "out" / "load_data_with_illum.csv")
    assert (row["FileName_DNA"], row["PathName_IllumDNA"]) == (
        "a b.tif",
        f"{bucket.url}/x/illum/P1",
    )
    fails(Exit.NO_INPUT, "none.csv: missing file", f"{bucket.url}/none.csv", "--dry-run", *access)


def test_a_file_list_may_be_in_a_bucket(server: S3Server, bucket: Bucket, tmp_path: Path) -> None:
    access = ["--endpoint-url", server.url]
    names = ["/data/P_A01_s1_w1.tif", "a ü/P_A02_s1_w1.tif", "s3://other/P_A03_s1_w1.tif"]
    bucket.put("x y/FileList.TXT", "\r\n".join(names).encode())
    rows = made(f"S3://{bucket.name}/x y/FileList.TXT", tmp_path, *access)
    assert [r["PathName_w1"] for r in rows] == ["/data", f"{bucket.url}/x y/a ü", "s3://other"]
    bucket.put("x y/list.txt", LIST.encode())
    fails(Exit.MALFORMED_INPUT, f"{bucket.url}/x y/list.txt: this looks like an image list",
          f"{bucket.url}/x y/list.txt", "--dry-run", *access)  # fmt: skip
    fails(Exit.NO_INPUT, "no.txt: missing file", f"{bucket.url}/no.txt", "--dry-run", *access)
    # with a slash at its end it is a folder
    bucket.put("no.txt/P_A01_s1_w1.tif", b"")
    (row,) = made(f"{bucket.url}/no.txt/", tmp_path, "--overwrite", *access)
    assert row["PathName_w1"] == f"{bucket.url}/no.txt"


# --- a million files -----------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_long_listings_are_counted_aloud_and_short_ones_are_not() -> None:
    now = iter(range(10**6))
    out = io.StringIO()
    assert sum(1 for _ in ticking(range(40_000), "files listed", out, lambda: next(now))) == 40_000
    assert out.getvalue().splitlines() == [
        "15,360 files listed",
        "30,720 files listed",
        "40,000 files listed",
    ]
    terminal = Terminal()
    now = iter(range(10**6))
    assert sum(1 for _ in ticking(range(1000), "files", terminal, lambda: next(now))) == 1000
    assert terminal.getvalue() == "\r512 files\r1,000 files\n"
    out = io.StringIO()
    assert list(ticking("ab", "files listed", out, lambda: 0.0)) == ["a", "b"]
    assert out.getvalue() == ""


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    script = tmp_path / "measure.py"
    script.write_text(
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "from bpcp.images import __main__ as command, walk\n"
        "count = int(sys.argv[1])\n"
        "class Many(walk.Walk):\n"
        "    def __iter__(self):\n"
        "        for i in range(count):\n"
        "            plate, i = divmod(i, 384 * 10)\n"
        "            well, i = divmod(i, 10)\n"
        "            row, column = divmod(well, 24)\n"
        "            yield '/d', f'P{plate}_{chr(65 + row)}{column + 1:02d}"
        "_s{i // 2}_w{i % 2}.tif'\n"
        "command.walk = lambda *_: Many('/d')\n"
        "command.main(['/d', '-q', '-o', sys.argv[2]])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n",
        encoding="utf-8",
    )
    peaks = []
    for count in (3840, 3840 * 20):
        argv = [sys.executable, str(script), str(count), str(tmp_path / f"{count}.csv")]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env=env)
        peaks.append(int(done.stdout))
    assert len(rows_of(tmp_path / "76800.csv")) == 38400
    # kB; a list of all names alone would take 10 MB
    assert peaks[1] - peaks[0] < 100_000
