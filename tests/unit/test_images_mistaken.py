"""Names that could be taken for others: nothing wrong is listed, and nothing is lost unsaid."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from conftest import ROOT as REPO
from conftest import refused

from bpcp.errors import Exit
from bpcp.images import presetfile
from bpcp.images.__main__ import main
from bpcp.images.presets import PRESETS

MINE = """
[mine]
instruments = "x"
names = ['(?P<well>[A-H]\\d\\d)-(?P<channel>w\\d)\\.tif']
thumbnail = '_w2'
[mine.examples]
"P/A01-w1.tif" = "plate P, well A01, channel w1"
"P/A01_w2.tif" = "thumbnail"
"""


def touch(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def listed(source: Path, *options: str | Path) -> list[dict[str, str]]:
    out = source.parent / "list.csv"
    assert main([str(source), "-o", str(out), "--overwrite", *map(str, options)]) == Exit.OK
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def plates(rows: list[dict[str, str]]) -> list[str]:
    return sorted({row["Metadata_Plate"] for row in rows})


@pytest.mark.parametrize("name", ["{}_{}.tif", "P1_{}_{}_s1.tif", "{}Calc_{}_1_00d00h00m.tif"])
def test_stains_are_no_plates(tmp_path: Path, name: str) -> None:
    wells = ("A01", "B02")
    if "Calc" in name:
        name = name.replace("Calc", "_Calc")
    images = touch(tmp_path / "s", *(name.format(c, w) for c in ("DAPI", "GFP") for w in wells))
    error = refused(Exit.MALFORMED_INPUT, "plates are called like stains", lambda: listed(images))
    assert "(?P<channel>DAPI|GFP)" in error.todo
    rows = listed(images, "--regex", r"(?P<channel>DAPI|GFP)_(?:Calc_)?(?P<well>[A-P]\d\d)")
    assert len(rows) == 2 and plates(rows) == ["s"]


def test_plates_of_one_channel_are_plates(tmp_path: Path) -> None:
    images = touch(
        tmp_path / "s", *(f"{p}_{w}.tif" for p in ("DAPI_1", "DAPI_2") for w in ("A01", "B02"))
    )
    assert plates(listed(images)) == ["DAPI_1", "DAPI_2"]


def test_a_barcode_of_eight_digits_is_a_plate_and_a_date_is_none(tmp_path: Path) -> None:
    name = "Images/r01c0{}f01p01-ch1sk1fk1fl1.tiff"
    images = touch(tmp_path / "s", f"12345678/{name.format(1)}", f"20261301/{name.format(2)}")
    assert plates(listed(images)) == ["12345678", "20261301"]
    images = touch(tmp_path / "t", f"P1/20261128/{name.format(1)}")
    assert plates(listed(images)) == ["P1"]


@pytest.mark.parametrize("start", ["E:\\screen\\P1", "E:/screen/P1", "\\\\server\\share\\P1"])
def test_a_list_from_windows_keeps_its_folders(tmp_path: Path, start: str) -> None:
    separator = "\\" if "\\" in start else "/"
    source = tmp_path / "files.txt"
    names = [f"{start}{separator}P1_A01_s1_w{wave}.tif" for wave in (1, 2)]
    source.write_text("\n".join(names), encoding="utf-8")
    (row,) = listed(source)
    assert row["PathName_w1"] == start.replace("\\", "/")
    assert (row["FileName_w1"], row["Metadata_Plate"]) == ("P1_A01_s1_w1.tif", "P1")


def test_no_site_and_site_1_are_one_place(tmp_path: Path) -> None:
    images = touch(tmp_path / "s", "P1_A01_w1.tif", "P1_A01_s1_w1.tif", "P1_A02_s1_w1.tif")
    refused(Exit.MALFORMED_INPUT, "1 place has more than one file", lambda: listed(images))


def test_channels_that_one_plate_names_for_all_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = touch(tmp_path / "s", *(f"P{p}/P{p}_A01_s1_w1.tif" for p in (1, 2)))
    htd = '"HTSInfoFile", Version 1.0\n"NWavelengths", 1\n"WaveName1", "DAPI"\n"EndFile"\n'
    (images / "P1" / "P1.HTD").write_text(htd, encoding="utf-8")
    assert "FileName_DAPI" in listed(images, "-q")[0]
    assert "channels of all 2 plates are called as" in capsys.readouterr().err
    (images / "P2" / "P2.HTD").write_text(htd, encoding="utf-8")
    listed(images)
    assert "no such file" not in capsys.readouterr().err


def test_a_folder_that_two_links_lead_to_is_listed_once_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path / "store", "P1_A01_s1_w1.tif")
    images = tmp_path / "s"
    images.mkdir()
    for name in ("b", "a", "c"):
        (images / name).symlink_to(tmp_path / "store")
    (images / "loop").symlink_to(images / "loop")
    (row,) = listed(images)
    assert row["PathName_w1"] == str(images / "a")
    assert "2 folders listed already, by another link (b)" in capsys.readouterr().err


def test_a_thumbnail_of_the_users_preset_is_an_image_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "presets.toml").write_text(MINE, encoding="utf-8-sig")
    images = touch(tmp_path / "s", *(f"P1_A01_s1_w{wave}.tif" for wave in (1, 2)))
    (row,) = listed(images, "--base", tmp_path)
    assert row["FileName_w2"] == "P1_A01_s1_w2.tif"
    mine = touch(tmp_path / "m", "A01-w1.tif", "A01-w2.tif", "A01_w2.tif")
    (row,) = listed(mine, "--base", tmp_path)
    assert row["FileName_w2"] == "A01-w2.tif"
    assert capsys.readouterr().err.count("1 thumbnails (A01_w2.tif)") == 1


def test_the_projections_of_the_guides_preset_are_no_plate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (REPO / "docs" / "images.md").read_text(encoding="utf-8")
    text = re.search(r"(?m)(^    \[our-confocal\]\n(?:^(?:    .*)?\n)+)", guide)
    assert text is not None
    (tmp_path / "presets.toml").write_text(re.sub("(?m)^    ", "", text[1]), encoding="utf-8")
    planes = [f"S12/A01-3-z{z}-{c}.tif" for z in (1, 2) for c in ("DAPI", "GFP")]
    flat = [f"S12/MIP/A01-3-{c}.tif" for c in ("DAPI", "GFP")]
    rows = listed(touch(tmp_path / "s", *planes, *flat), "--base", tmp_path)
    assert [row["Metadata_ZPlane"] for row in rows] == ["1", "2"] and plates(rows) == ["S12"]
    assert "2 projections of z planes that are listed, left out" in capsys.readouterr().err


def test_a_folder_of_another_instrument_is_not_lost(tmp_path: Path) -> None:
    many = [f"IX/P1_{row}{col:02}_s1_w1.tif" for row in "ABCD" for col in range(1, 13)]
    images = touch(tmp_path / "s", *many, *(f"CQ/W000{n}F0001T0001Z001C1.tif" for n in (1, 2)))
    refused(Exit.MALFORMED_INPUT, "CQ (2 files)", lambda: listed(images))
    assert len(listed(images, "--exclude", "CQ/*")) == 48


@pytest.mark.parametrize("names", [("IMG_0001.tif",), ("only.png",)])
def test_a_single_image_is_refused_plainly(tmp_path: Path, names: tuple[str, ...]) -> None:
    images = touch(tmp_path / "s", *names)
    refused(
        Exit.MALFORMED_INPUT,
        "what named these images?",
        lambda: main([str(images), "--explain"]),
    )


def test_a_proposal_that_begins_with_a_dash_can_be_given(tmp_path: Path) -> None:
    names = [f"Maus-{w}-{c}.tif" for w in ("A1", "A2", "B1", "B2") for c in ("DAPI", "GFP")]
    images = touch(tmp_path / "s", *names)
    error = refused(Exit.MALFORMED_INPUT, "what named", lambda: listed(images))
    proposed = re.search(r"confirmed: '?--regex=(-.*?)'?$", error.todo)
    assert proposed, error.todo
    assert len(listed(images, f"--regex={proposed[1]}")) == 4


def test_a_well_number_that_is_none_is_an_error_of_the_preset(tmp_path: Path) -> None:
    text = MINE.replace("<well>", "<well_number>")
    text = text.replace("\nthumbnail", "\nnumbered = 'by row'\nthumbnail")
    path = tmp_path / "presets.toml"
    path.write_text(text, encoding="utf-8")
    refused(Exit.MALFORMED_INPUT, "preset mine", lambda: presetfile.read(path, PRESETS, users=True))


def test_images_of_two_instruments_are_to_be_listed_apart(tmp_path: Path) -> None:
    places = range(1, 9)
    images = touch(
        tmp_path / "s",
        *(f"IX/P1_A{n:02}_s1_w1.tif" for n in places),
        *(f"PH/r01c{n:02}f01p01-ch1sk1fk1fl1.tiff" for n in places),
    )
    error = refused(Exit.MALFORMED_INPUT, "fits 50%", lambda: listed(images))
    assert error.todo.startswith("images of several instruments: list their folders one by one")


def a_plate(folder: Path, *more: str) -> Path:
    wells = [f"P1_{row}{col:02}_s1_w1.tif" for row in "ABCDEFGH" for col in range(1, 13)]
    return touch(folder, *(w for w in wells if "_H12_" not in w), *more)


@pytest.mark.parametrize("well", ["H-12", "H 12", "H12"])
def test_a_well_that_is_spelled_otherwise_is_not_lost(tmp_path: Path, well: str) -> None:
    images = a_plate(tmp_path / "s", f"P1_{well}_s1_w1 (1).tif")
    error = refused(Exit.MALFORMED_INPUT, "fits no file of well H12", lambda: listed(images))
    assert "--exclude" in error.todo
    assert len(listed(images, "--exclude", "* (1).tif")) == 95


@pytest.mark.parametrize(
    "name",
    [
        "overview P1.tif",  # the plate
        "A01 overlay.tif",  # of a well that is listed
        "P1 of Q9.tif",  # no well of this plate
        "notes.tif",
    ],
)
def test_other_files_beside_a_plate_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    images = a_plate(tmp_path / "s", name)
    assert len(listed(images)) == 95
    assert f"1 file that the preset does not fit, left out: {name}" in capsys.readouterr().err
