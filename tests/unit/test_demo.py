from __future__ import annotations

import csv
import json
import os
import shlex
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bpcp import demo, screen
from bpcp.demo import Comparison, Demo, Key
from bpcp.errors import BpcpError, Exit, run_main
from bpcp.screen import Cell, Field, Settings

SMALL = ["--wells", "2", "--sites", "2"]
HOSTILE = 'it\'s "a" $(touch x); `touch y` & ü\t-d é\n*'


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_result(
    folder: Path, change: Callable[[list[dict[str, str]]], None] = lambda rows: None
) -> None:
    rows = [
        {
            "ImageNumber": str(number),
            "Count_Nuclei": f"{row['Nuclei']}.0",
            "Metadata_Plate": row["Plate"],
            "Metadata_Well": row["Well"],
            "Metadata_Site": row["Site"],
        }
        for number, row in enumerate(rows_of(folder / "truth.csv"), start=1)
    ]
    change(rows)
    result = folder / "analysis" / "demo" / "demo" / "Image.csv"
    result.parent.mkdir(parents=True, exist_ok=True)
    with result.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def refusal(arguments: list[str]) -> BpcpError:
    with pytest.raises(BpcpError) as caught:
        demo.main(arguments)
    return caught.value


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "demo"
    assert demo.main([*SMALL, str(folder)]) == Exit.OK
    return folder


@pytest.fixture
def demo_folder(drawn: Path, tmp_path: Path) -> Path:
    """A demo of which only the tables are there."""
    folder = tmp_path / "demo"
    folder.mkdir()
    for name in ("truth.csv", "demo.json"):
        (folder / name).write_bytes((drawn / name).read_bytes())
    return folder


# Drawing


def test_same_options_draw_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    demo.main([*SMALL, str(again)])
    first, second = contents(drawn), contents(again)
    image_list = "load_data_csv/demo/load_data.csv"
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == [image_list]
    assert first[image_list].replace(bytes(drawn), bytes(again)) == second[image_list]


def test_a_field_does_not_depend_on_the_size_of_the_plate(drawn: Path, tmp_path: Path) -> None:
    demo.main(["--wells", "1", "--sites", "1", str(tmp_path / "one")])
    name = demo.IMAGE_FOLDER / "r01c01f01p01-ch1sk1fk1fl1.tiff"
    assert (tmp_path / "one" / name).read_bytes() == (drawn / name).read_bytes()


def test_another_seed_draws_other_cells() -> None:
    field = Field(1, 1, 1)
    assert not np.array_equal(screen.draw_field(field, 1)[0][0], screen.draw_field(field, 2)[0][0])


def test_images_are_plain_16_bit_tiff_without_time_stamps(drawn: Path) -> None:
    paths = sorted((drawn / demo.IMAGE_FOLDER).iterdir())
    assert len(paths) == 2 * 2 * 2
    for path in paths:
        with tifffile.TiffFile(path) as tiff:
            (page,) = tiff.pages
            assert isinstance(page, tifffile.TiffPage)
            assert (page.shape, page.dtype) == ((384, 384), np.dtype(np.uint16))
            assert page.compression == tifffile.COMPRESSION.NONE
            assert page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
            assert not {"DateTime", "Software", "ImageDescription"} & {t.name for t in page.tags}
            assert page.tags["XResolution"].value == page.tags["YResolution"].value == (50_000, 3)
            image = page.asarray()
        # A dark frame's offset below, and far from saturated above.
        assert 150 < np.percentile(image, 1) < 500
        assert image.max() < 20_000


def test_load_data_csv_names_every_image(drawn: Path) -> None:
    rows = rows_of(drawn / "load_data_csv" / "demo" / "load_data.csv")
    assert list(rows[0]) == [
        "FileName_DNA",
        "PathName_DNA",
        "FileName_Cyto",
        "PathName_Cyto",
        "Metadata_Plate",
        "Metadata_Well",
        "Metadata_Site",
        "Metadata_Compound",
        "Metadata_Dose_uM",
    ]
    listed = {
        Path(row[f"PathName_{name}"], row[f"FileName_{name}"])
        for row in rows
        for name in screen.CHANNELS
    }
    assert all(path.is_absolute() for path in listed)
    assert listed == set((drawn / demo.IMAGE_FOLDER).iterdir())
    assert [(row["Metadata_Well"], row["Metadata_Site"]) for row in rows] == [
        ("A01", "1"),
        ("A01", "2"),
        ("A02", "1"),
        ("A02", "2"),
    ]
    assert [row["Metadata_Dose_uM"] for row in rows] == ["0", "0", "0.03", "0.03"]
    assert [row["Metadata_Compound"] for row in rows] == ["DMSO"] * 2 + ["Demostatin"] * 2


def test_truth_has_the_rows_of_load_data_csv(drawn: Path) -> None:
    truth = rows_of(drawn / "truth.csv")
    assert list(truth[0]) == list(demo.TRUTH_COLUMNS)
    names = ("Plate", "Well", "Site", "Compound", "Dose_uM")
    assert [[row[name] for name in names] for row in truth] == [
        [row[f"Metadata_{name}"] for name in names]
        for row in rows_of(drawn / "load_data_csv" / "demo" / "load_data.csv")
    ]
    assert [row["Nuclei"] == "0" for row in truth] == [False, False, False, True]
    assert truth[-1]["Mean_Nucleus_Area_px"] == truth[-1]["Mean_Cell_Area_px"] == ""


def test_bright_area_in_the_images_is_that_of_the_drawn_nuclei(drawn: Path) -> None:
    for row in rows_of(drawn / "truth.csv"):
        field = Field(1, int(row["Well"][1:]), int(row["Site"]))
        image = tifffile.imread(drawn / demo.IMAGE_FOLDER / field.file_name(1))
        bright = np.count_nonzero(image > 1000)
        whole = int(row["Nuclei"]) * float(row["Mean_Nucleus_Area_px"] or 0)
        cut = int(row["Nuclei_Cut"]) * float(row["Mean_Nucleus_Area_px"] or 0)
        assert 0.85 * whole <= bright <= 1.15 * (whole + cut)


def test_default_plate_has_96_fields_and_one_is_empty() -> None:
    fields = screen.fields_of(Settings())
    assert len(fields) == len({(field.well, field.site) for field in fields}) == 96
    assert [(f.well, f.site) for f in fields if f.is_empty] == [("C08", 4)]
    assert {field.dose_um for field in fields} == set(screen.DOSES_UM)


@pytest.mark.parametrize(
    ("wells", "sites", "emptied"),
    [(1, 1, []), (1, 2, ["A01"]), (9, 1, ["A08"]), (128, 1, ["P08"])],
)
def test_one_field_is_empty_unless_it_is_the_only_one(
    wells: int, sites: int, emptied: list[str]
) -> None:
    fields = screen.fields_of(Settings(wells=wells, sites=sites))
    assert [field.well for field in fields if field.is_empty] == emptied


def test_the_drug_works() -> None:
    effects = [screen.drug_effect(dose) for dose in screen.DOSES_UM]
    assert effects == sorted(effects)
    assert effects[0] == 0
    assert screen.drug_effect(screen.EC50_UM) == 0.5
    rng = np.random.default_rng(0)
    untreated, treated = (
        sum(len(screen.place_cells(rng, effect)) for _ in range(10)) for effect in (0, effects[-1])
    )
    assert untreated > 3 * treated


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_no_nucleus_is_doubtful(effect: float) -> None:
    for seed in range(10):
        cells = screen.place_cells(np.random.default_rng(seed), effect)
        assert sum(not cell.is_cut for cell in cells) >= 2
        for index, cell in enumerate(cells):
            assert not -screen.INSIDE_BY_PX <= cell.overhang() <= screen.CUT_BY_PX
            for other in cells[index + 1 :]:
                assert cell.gap_to(other) >= -screen.SISTERS_OVERLAP_PX - 1e-9


def test_overhang_and_gap_of_known_ellipses() -> None:
    lying = Cell(y=50, x=15, major=20, minor=10, angle=0, dna=1, cyto=1, spread=2)
    assert lying.overhang() == pytest.approx(5)
    assert lying.is_cut
    standing = replace(lying, angle=np.pi / 2)
    assert standing.overhang() == pytest.approx(-5)
    assert standing.is_clear_of_edge()
    assert not replace(standing, x=11).is_clear_of_edge()
    assert lying.gap_to(replace(lying, x=60)) == pytest.approx(5)
    assert lying.gap_to(replace(lying, y=80)) == pytest.approx(10)


def test_painting_no_cell_leaves_the_dark() -> None:
    dna, cyto, truth = screen.paint([], np.random.default_rng(0))
    assert dna.shape == cyto.shape == (384, 384)
    assert np.abs(dna).max() == np.abs(cyto).max() == 0
    assert truth == screen.Truth(0, 0, None, None)


def test_redrawing_touches_only_what_is_missing_or_changed(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    arguments = ["--wells", "1", "--sites", "2", str(folder)]
    demo.main(arguments)
    before = contents(folder)
    kept = folder / demo.IMAGE_FOLDER / "r01c01f01p01-ch1sk1fk1fl1.tiff"
    broken = folder / demo.IMAGE_FOLDER / "r01c01f01p01-ch2sk1fk1fl1.tiff"
    os.utime(kept, ns=(1, 1))
    broken.write_bytes(b"half")
    (folder / "truth.csv").unlink()
    result = folder / "analysis" / "demo" / "demo" / "Image.csv"
    result.parent.mkdir(parents=True)
    result.write_text("the user's result")
    assert demo.main(arguments) == Exit.OK
    assert kept.stat().st_mtime_ns == 1
    assert result.read_text() == "the user's result"
    result.unlink()
    assert contents(folder) == before


def test_an_interrupted_drawing_is_taken_up_again(tmp_path: Path) -> None:
    settings = Settings(wells=1, sites=1)
    demo.claim(Demo(tmp_path / "demo"), settings)
    assert demo.main(["--wells", "1", "--sites", "1", str(tmp_path / "demo")]) == Exit.OK


def test_says_what_was_drawn_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(demo.__file__).parent.parent)
    monkeypatch.delenv("MAKELEVEL", raising=False)
    folder = tmp_path / "a demo"
    demo.main(["--wells", "1", "--sites", "2", str(folder)])
    nuclei = sum(int(row["Nuclei"]) for row in rows_of(folder / "truth.csv"))
    out, err = capsys.readouterr()
    assert out == f"./run_analysis_pipeline.sh -d demo -p '{folder}/pipelines/demo.cppipe'\n"
    assert f"drew 2 image sets with {nuclei} nuclei (1 without any cell)" in err
    assert f"bpcp demo --check '{folder}'" in err
    # make goes on by itself, so there it says no more than what it did
    monkeypatch.setenv("MAKELEVEL", "1")
    demo.main(["--wells", "1", "--sites", "2", str(folder)])
    out, err = capsys.readouterr()
    assert out == "" and "drew 2 image sets" in err and "next" not in err


# Folders


def test_hostile_folder_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAKELEVEL", raising=False)
    demo.main(["--wells", "1", "--sites", "1", "--", "-" + HOSTILE])
    folder = tmp_path / ("-" + HOSTILE)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    (row,) = rows_of(folder / "load_data_csv" / "demo" / "load_data.csv")
    assert Path(row["PathName_DNA"], row["FileName_DNA"]).is_file()
    printed = capsys.readouterr().out
    words = shlex.split(printed)
    assert words[-2:] == ["-p", f"./-{HOSTILE}/pipelines/demo.cppipe"]
    # A shell, too, must read the very words.
    shell = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {printed}"], capture_output=True, check=True, timeout=10
    )
    assert shell.stdout.decode().split("\0")[:-1] == words
    write_result(folder)
    assert demo.main(["--check", "--", "-" + HOSTILE]) == Exit.OK


@pytest.mark.parametrize(
    "files",
    [{"data.tif": ""}, {"demo.json": "not JSON"}, {"demo.json": '{"seed": 1}'}, {".hidden": ""}],
)
def test_refuses_a_foreign_folder(tmp_path: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    error = refusal([str(tmp_path)])
    assert error.code == Exit.CANNOT_CREATE
    assert "holds other files" in str(error)
    assert contents(tmp_path) == before


def test_draws_into_an_empty_folder(tmp_path: Path) -> None:
    assert demo.main(["--wells", "1", "--sites", "1", str(tmp_path)]) == Exit.OK


def test_refuses_to_draw_over_another_demo(drawn: Path) -> None:
    before = contents(drawn)
    error = refusal(["--wells", "3", "--sites", "2", str(drawn)])
    assert error.code == Exit.CANNOT_CREATE
    assert "--wells 2 --sites 2 --seed 1" in error.todo
    assert contents(drawn) == before


def test_refuses_a_marker_with_a_list_in_it(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps([1]))
    assert refusal([str(tmp_path)]).code == Exit.CANNOT_CREATE


@pytest.mark.parametrize("below", ["", "deeper"])
def test_refuses_a_folder_that_is_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    error = refusal([str(tmp_path / "file" / below)])
    assert error.code == Exit.CANNOT_CREATE
    assert str(tmp_path / "file") in str(error)


def test_refuses_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    error = refusal([folder])
    assert error.code == Exit.CANNOT_CREATE
    assert "UTF-8" in str(error)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_a_matter_of_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setattr("sys.argv", ["demo", str(tmp_path / "demo")])
    user = os.geteuid()
    # root may write everywhere, nobody may not
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(SystemExit) as caught:
            run_main("demo", demo.main)
    finally:
        os.seteuid(user)
    assert caught.value.code == Exit.NO_PERMISSION


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    error = refusal([str(tmp_path / "demo")])
    assert error.code == Exit.CANNOT_CREATE
    assert "No space left" in str(error)


# Command line


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [""],
        ["--bogus", "x"],
        ["a", "b"],
        ["--wells", "0", "x"],
        ["--wells", "129", "x"],
        ["--sites", "0", "x"],
        ["--sites", "37", "x"],
        ["--seed", "-1", "x"],
        ["--seed", "one", "x"],
        ["--check"],
        ["--check", "--seed", "1", "x"],
    ],
)
def test_wrong_command_lines(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "draw", lambda *_: pytest.fail("drew"))
    assert refusal(arguments).code == Exit.USAGE


# --check


def test_check_prints_each_dose_and_the_total(
    demo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(demo_folder)
    assert demo.main(["--check", str(demo_folder)]) == Exit.OK
    nuclei = [int(row["Nuclei"]) for row in rows_of(demo_folder / "truth.csv")]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["dose_uM", "drawn", "counted", "difference"]
    assert lines[1].split() == ["0", str(sum(nuclei[:2])), str(sum(nuclei[:2])), "+0.0", "%"]
    assert lines[2].split() == ["0.03", str(nuclei[2]), str(nuclei[2]), "+0.0", "%"]
    assert lines[3] == f"nuclei: {sum(nuclei)} drawn, {sum(nuclei)} counted (+0.0 %)"


@pytest.mark.parametrize(
    ("counted", "is_good"), [(1000, True), (950, True), (949, False), (1050, True), (1051, False)]
)
def test_five_percent_is_the_limit(counted: int, is_good: bool) -> None:
    key = Key("P", "A01", 1)
    comparison = demo.compare({key: (0.0, 1000)}, [(key, counted)])
    assert comparison.is_good is is_good


def test_no_nucleus_drawn() -> None:
    key = Key("P", "A01", 1)
    assert demo.compare({key: (0.0, 0)}, [(key, 0)]).is_good
    assert not demo.compare({key: (0.0, 0)}, [(key, 1)]).is_good


def test_a_count_that_is_far_off_fails(
    demo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def halve(rows: list[dict[str, str]]) -> None:
        rows[0]["Count_Nuclei"] = str(float(rows[0]["Count_Nuclei"]) // 2)

    write_result(demo_folder, halve)
    assert demo.main(["--check", str(demo_folder)]) == Exit.SOME_FAILED
    assert "-" in capsys.readouterr().out.splitlines()[-1].split("(")[1]


@pytest.mark.parametrize("blank", ["", "nan", "NaN"])
def test_a_count_that_is_blank_fails(
    demo_folder: Path, capsys: pytest.CaptureFixture[str], blank: str
) -> None:
    # the empty field: its count alone could not be missed in the total
    write_result(demo_folder, lambda rows: rows[-1].update(Count_Nuclei=blank))
    assert demo.main(["--check", str(demo_folder)]) == Exit.SOME_FAILED
    assert "BPCP-DEMO A02 site 2" in capsys.readouterr().err


def test_a_missing_row_fails(demo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def drop_last(rows: list[dict[str, str]]) -> None:
        del rows[-1]

    write_result(demo_folder, drop_last)
    assert demo.main(["--check", str(demo_folder)]) == Exit.SOME_FAILED
    assert "1 image sets without a count: BPCP-DEMO A02 site 2" in capsys.readouterr().err


@pytest.mark.parametrize("well", ["A02", "H12"])
def test_a_row_too_many_fails(
    demo_folder: Path, capsys: pytest.CaptureFixture[str], well: str
) -> None:
    write_result(demo_folder, lambda rows: rows.append({**rows[-1], "Metadata_Well": well}))
    assert demo.main(["--check", str(demo_folder)]) == Exit.SOME_FAILED
    assert f"BPCP-DEMO {well} site 2" in capsys.readouterr().err


def test_names_of_many_are_cut_short() -> None:
    text = demo.names_of([Key("P", "A01", site) for site in range(1, 9)])
    assert text.endswith("P A01 site 5, and 3 more")


@pytest.mark.parametrize(
    ("drawn", "counted", "text"),
    [
        (2613, 2598, "-0.6 %"),
        (2028, 2027, "-0.05 %"),
        (10_000, 9_999, "-0.01 %"),
        (10, 12, "+20.0 %"),
        (10, 10, "+0.0 %"),
        (0, 0, "+0.0 %"),
        (0, 3, "none drawn"),
    ],
)
def test_differences_are_spelled_in_percent(drawn: int, counted: int, text: str) -> None:
    assert demo.difference_text(drawn, counted) == text


def test_thousands_are_spelled_with_commas() -> None:
    *_, total = demo.table_lines(Comparison({1.0: (2613, 2598)}))
    assert total == "nuclei: 2,613 drawn, 2,598 counted (-0.6 %)"


def test_check_without_a_result_says_how_to_make_one(
    demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(demo.__file__).parent.parent)
    error = refusal(["--check", str(demo_folder)])
    assert error.code == Exit.NO_INPUT
    assert error.todo == (
        f"./run_analysis_pipeline.sh -d demo -p {demo_folder}/pipelines/demo.cppipe"
    )


def test_check_without_a_demo_says_how_to_draw_one(tmp_path: Path) -> None:
    error = refusal(["--check", str(tmp_path / "x y")])
    assert error.code == Exit.NO_INPUT
    assert error.todo == f"bpcp demo '{tmp_path}/x y'"


@pytest.mark.parametrize(
    ("column", "text"),
    [("Count_Nuclei", "many"), ("Count_Nuclei", "2.5"), ("Count_Nuclei", "inf")],
)
def test_a_malformed_count_is_named(demo_folder: Path, column: str, text: str) -> None:
    write_result(demo_folder, lambda rows: rows[1].update({column: text}))
    error = refusal(["--check", str(demo_folder)])
    assert error.code == Exit.MALFORMED_INPUT
    assert f"row 3, {column}" in str(error)


def test_a_malformed_dose_is_named(demo_folder: Path) -> None:
    write_result(demo_folder)
    truth = demo_folder / "truth.csv"
    truth.write_text(truth.read_text().replace("Demostatin,0.03", "Demostatin,low", 1))
    error = refusal(["--check", str(demo_folder)])
    assert error.code == Exit.MALFORMED_INPUT
    assert "row 4, Dose_uM" in str(error)


def test_a_short_row_a_missing_column_and_bytes_are_named(demo_folder: Path) -> None:
    write_result(demo_folder)
    result = demo_folder / "analysis" / "demo" / "demo" / "Image.csv"
    whole = result.read_bytes()
    for data, message in [
        (whole[:-12], "row 5: it is cut short"),
        (whole.replace(b"Count_Nuclei", b"Count_Cells"), "no column Count_Nuclei"),
        (b"", "no column Metadata_Plate, Metadata_Well"),
        (whole.replace(b"DEMO", b"\xff\xfe"), "decode"),
    ]:
        result.write_bytes(data)
        error = refusal(["--check", str(demo_folder)])
        assert error.code == Exit.MALFORMED_INPUT
        assert message in str(error)


# The pipeline


def test_the_pipeline_reads_and_writes_what_the_demo_needs(drawn: Path) -> None:
    text = (drawn / "pipelines" / "demo.cppipe").read_text()
    assert text.startswith("CellProfiler Pipeline: http://www.cellprofiler.org\nVersion:5\n")
    modules = [line.split(":")[0] for line in text.splitlines() if "[module_num:" in line]
    assert f"ModuleCount:{len(modules)}\n" in text
    assert modules[0] == "LoadData"
    assert modules[-2:] == ["SaveImages", "ExportToSpreadsheet"]
    for setting in (
        "Group images by metadata?:No",
        "Discard objects touching the border of the image?:Yes",
        "Record the file and path information to the saved image?:Yes",
        "Export all measurement types?:Yes",
        "Add a prefix to file names?:No",
    ):
        assert f"    {setting}\n" in text


def test_tiff_bytes_are_little_more_than_the_pixels() -> None:
    image = np.arange(384 * 384, dtype=np.uint16).reshape(384, 384)
    data = screen.tiff_bytes(image)
    assert data[:4] == struct.pack("<2sH", b"II", 42)
    assert image.astype("<u2").tobytes() in data
    assert len(data) < image.nbytes + 1024
