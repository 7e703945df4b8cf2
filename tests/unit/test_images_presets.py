"""Names that instruments wrote, as public projects quote them, and what they must be taken for."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT as REPO
from conftest import refused

from bpcp.errors import Exit
from bpcp.images.presets import GALLERY, PRESETS, Placer, detect, own, plate_folder
from bpcp.images.record import Image

GUID = "B9D0B234-C57E-4A13-9664-D2CA89B4E7F8"
ROOT = "/data/screen"


def files(*paths: str, root: str = ROOT) -> list[tuple[str, str]]:
    return [tuple(f"{root}/{path}".rsplit("/", 1)) for path in paths]  # type: ignore[misc]


def placed(preset: str, path: str, root: str = ROOT) -> Image | None:
    return Placer(PRESETS[preset], root).place(*files(path, root=root)[0])


def brief(image: Image | None) -> str:
    assert image is not None
    return "|".join(
        [image.plate, image.well, image.site, image.channel, image.z, image.t]
        + [f"{name}={text}" for name, text in image.extra]
    )


NAMES = [
    # ImageXpress: plate-inspector's README
    (
        "imagexpress",
        "180706_A01_s5_w1B9D0B234-C57E-4A13-9664-D2CA89B4E7F8.tif",
        "180706|A01|5|w1||",
    ),
    # ImageXpressR's README; the plate's name has a space
    (
        "imagexpress",
        "HCC15691/2015-07-31/4014/val screen_B02_s1_w2D1E11FCC-8DCD-42F5-B2BD-B270F2E9223D.tif",
        "val screen|B02|1|w2||",
    ),
    # JUMP source 8: the GUID begins with a digit
    ("imagexpress", "HTS_A01_s1_w52C47F0FB-BD5E-465A-8A92-9E2ED9E72A12.tif", "HTS|A01|1|w5||"),
    ("imagexpress", "P/TimePoint_2/ZStep_3/plate_P24_s10_w1.TIF", "plate|P24|10|w1|3|2"),
    ("imagexpress", "P/TimePoint_2/ZStep_0/plate_P24_s10_w1.TIF", "plate|P24|10|w1||2"),
    ("imagexpress", "P/TimePoint_1/A01_s1_w2_z4.tif", "P|A01|1|w2|4|1"),
    # one site, one wavelength: MetaXpress leaves both out (wrmXpress, "Data organization")
    ("imagexpress", "P/TimePoint_1/20210819-p01-NJW_A01.TIF", "20210819-p01-NJW|A01||||1"),
    ("imagexpress", "x_AF48_s1_w1.tif", "x|AF48|1|w1||"),
    # ImageXpress HCS.ai: fractal-uzh-converters
    ("imagexpress", "experiment/timepoint1/Cells_v2_t1_C05_s0_w0_z1.tif", "Cells_v2|C05|0|w0|1|1"),
    ("imagexpress", f"a_b_c_B03_s1_w1{GUID}.tif", "a_b_c|B03|1|w1||"),
    # Phenix: JUMP sources 3 and 4
    (
        "phenix",
        "BR5867a3__2022-04-29T01_02_16-Measurement 1/Images/r01c01f01p01-ch3sk1fk1fl1.tiff",
        "BR5867a3|A01|1|3|1|1",
    ),
    ("phenix", "P7/Images/r16c24f09p03-ch10sk2fk1fl1.tiff", "P7|P24|9|10|3|2"),
    # Harmony 7, and images exported with their illumination corrected: scPortrait's reader
    ("phenix", "P7/Images/r01c02f03p04-ch5t06.tiff", "P7|A02|3|5|4|6"),
    ("phenix", "P7/Images/flex/flex_r01c02f03p04-ch5t06.tiff", "P7|A02|3|5|4|6"),
    ("phenix", "P7/Images/flex/flex_r01c02f03p04-ch5sk6fk1fl1.tiff", "P7|A02|3|5|4|6"),
    # Yokogawa: JUMP sources 2 and 5
    ("yokogawa", "1053601756/1053601756_A01_T0001F001L01A06Z01C06.tif", "1053601756|A01|1|{C}|1|1"),
    ("yokogawa", "P01_ADMJUM001_A01_T0001F001L01A06Z01C06.tif", "P01_ADMJUM001|A01|1|{C}|1|1"),
    # InCell
    ("incell", "Plate 17/A - 01(fld 1 wv DAPI - DAPI).tif", "Plate 17|A01|1|DAPI - DAPI||"),
    ("incell", "p/A - 1(fld 1 wv Cy5 - Cy5).tif", "p|A01|1|Cy5 - Cy5||"),
    ("incell", "p/H - 12(fld 1 z 1- time 1 - 0 ms).tif", "p|H12|1||1|1"),
    ("incell", "p/N - 6(fld 1- time 1 - 22858 ms).tif", "p|N06|1|||1"),
    ("incell", "p/F - 001(fld 01 wv TL-Brightfield - DAPI).tif", "p|F01|1|TL-Brightfield - DAPI||"),
    ("incell", "p/A - 01(fld 1 wv Green - dsRed z 3).tif", "p|A01|1|Green - dsRed|3|"),
    ("incell", "p/B - 02(fld 01 wv Blue - FITC - time 01 - 0 ms).tif", "p|B02|1|Blue - FITC||1"),
    ("incell", "p/B - 4(fld 1 wv CFP - CFP- time 3 - 600000 ms).tif", "p|B04|1|CFP - CFP||3"),
    # Cellomics
    (
        "cellomics",
        "MFGTMP-PC_170319090001/MFGTMP-PC_170319090001_A01f00d0.C01",
        "MFGTMP-PC_170319090001|A01|0|d0||",
    ),
    ("cellomics", "MFGTMP_140206180002_A01f00d0.TIF", "MFGTMP_140206180002|A01|0|d0||"),
    ("cellomics", "AS_09125_050116030001_D03f00d2.tif", "AS_09125_050116030001|D03|0|d2||"),
    ("cellomics", "x_H12f013d1.DIB", "x|H12|13|d1||"),
    # the Gallery's folders, with each of the instruments that JUMP's sources used
    (
        "gallery",
        "cpg0016-jump/source_4/images/2021_04_26_Batch1/images/"
        "BR00117035__2021-05-02T16_02_51-Measurement1/Images/r01c01f01p01-ch7sk1fk1fl1.tiff",
        "BR00117035|A01|1|7|1|1|Source=source_4|Batch=2021_04_26_Batch1",
    ),
    (
        "gallery",
        "source_8/images/J1/images/A1170383/Images/"
        "HTS_A01_s1_w33EFC51B3-6F57-4273-AFE3-BAA0781C8ACF.tif",
        "A1170383|A01|1|w3|||Batch=J1",
    ),
    (
        "gallery",
        "images/20210607_Batch_2/images/1053601756/1053601756_A01_T0001F001L01A06Z01C06.tif",
        "1053601756|A01|1|{C}|1|1|Batch=20210607_Batch_2",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("preset", "path", "wanted"), NAMES)
def test_a_name_that_an_instrument_wrote_is_read(preset: str, path: str, wanted: str) -> None:
    image = placed(preset, path)
    assert image is not None
    assert brief(image) == wanted.replace("{C}", image.channel)
    if "{C}" in wanted:
        assert int(image.channel) == 6
    assert f"{image.folder}/{image.file}" == f"{ROOT}/{path}"


@pytest.mark.parametrize(("preset", "path", "wanted"), NAMES)
def test_detect_finds_the_preset_of_each_name(preset: str, path: str, wanted: str) -> None:
    del wanted
    assert detect(files(path), ROOT, []).name == preset


@pytest.mark.parametrize(
    "name",
    [
        "plate_A01_s1_w1_thumb62D4A363-7C7E-40D0-8A9E-55EC6681574D.tif",
        "plate_A01_s1_w1-copy.tif",
        "plate_A00x_s1_w1.tif",
        "r01c01f01p01.tiff",
        "r40c01f01p01-ch1sk1fk1fl1.tiff",
        "overview.tif",
        "A01.csv",
        "MFGTMP_1_A01f00.TIF",
    ],
)
def test_other_names_fit_no_preset(name: str) -> None:
    assert [p for p in PRESETS if placed(p, f"images/b/images/p/{name}") is not None] == []


def test_each_preset_reads_its_own_example() -> None:
    for preset in PRESETS.values():
        assert brief(placed(preset.name, preset.example))


def test_the_guide_and_the_help_know_each_preset() -> None:
    guide = (REPO / "docs" / "images.md").read_text(encoding="utf-8")
    header = (REPO / "bin" / "bpcp-images").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in guide.splitlines() if line.startswith("| `")][1:]
    assert [row[0].strip("| `") for row in rows] == list(PRESETS)
    for name, row in zip(PRESETS, rows, strict=True):
        example = re.findall("`([^`]+)`", row[2])[0]
        assert brief(placed(name, example))
        assert re.search(rf"^# +(?:--preset NAME +)?{name} ", header, re.MULTILINE)


def test_a_source_inside_the_gallery_is_still_the_gallery() -> None:
    root = "s3://cellpainting-gallery/cpg0016-jump/source_9/images/20210824-Run5/images"
    path = "GR00003381/Images/r01c01f01p01-ch5sk1fk1fl1.tiff"
    assert detect(files(path, root=root), root, []) is GALLERY
    assert brief(placed("gallery", path, root)) == (
        "GR00003381|A01|1|5|1|1|Source=source_9|Batch=20210824-Run5"
    )


def test_nine_of_ten_are_enough_and_eight_are_not() -> None:
    good = [f"p_A01_s{i}_w1.tif" for i in range(1, 10)]
    assert detect(files(*good, "overview.tif"), ROOT, []).name == "imagexpress"
    error = refused(
        Exit.MALFORMED_INPUT,
        "imagexpress fits 80%",
        lambda: detect(files(*good[:8], "overview.tif", "x y.tif"), ROOT, []),
    )
    assert "'p_A01_s1_w1.tif'" in str(error) and "'x y.tif'" in str(error)
    assert "--regex" in error.todo and "--preset imagexpress|phenix" in error.todo


def test_names_of_two_presets_are_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = own(r"_(?P<well>A01)_s(?P<site>\d)")
    monkeypatch.setitem(PRESETS, "twin", twin)
    error = refused(
        Exit.MALFORMED_INPUT,
        "several presets: imagexpress and regex",
        lambda: detect(files("p_A01_s1_w1.tif"), ROOT, []),
    )
    assert error.todo == "--preset NAME"


def test_an_index_decides_where_names_do_not() -> None:
    beside = [(ROOT, "MeasurementData.mlf")]
    assert detect(files("renamed 1.tif"), ROOT, beside).name == "yokogawa"
    refused(
        Exit.MALFORMED_INPUT,
        "no preset fits any",
        lambda: detect(files("renamed 1.tif"), ROOT, [*beside, (ROOT, "Index.idx.xml")]),
    )


def test_hostile_names_are_shown_without_their_newlines() -> None:
    name = "it's\n$(touch x) \x1b[2J.tif"
    error = refused(Exit.MALFORMED_INPUT, "fits any", lambda: detect(files(name), ROOT, []))
    assert repr(name) in str(error)
    assert "\x1b" not in str(error)


# --- --regex -------------------------------------------------------------------------------------


def mine(pattern: str, path: str, **more: str) -> Image | None:
    return Placer(own(pattern), ROOT, **more).place(*files(path)[0])


def test_a_regex_reads_the_path_below_the_source() -> None:
    pattern = (
        r"^(?P<plate>[^/]+)/(?P<Dose>[^/]+)/"
        r"r(?P<row>\d+)c(?P<col>\d+)-(?P<site>\d+)-(?P<channel>\w+)"
    )
    image = mine(pattern, "P 1/10 µM/r2c3-04-DNA.tif")
    assert brief(image) == "P 1|B03|4|DNA|||Dose=10 µM"
    assert mine(pattern, "elsewhere/r2c3-04-DNA.tif") is None


def test_a_regex_may_be_the_one_of_a_metadata_module() -> None:
    pattern = r"(?P<Plate>.*)_(?P<Well>[A-P][0-9]{2})_s(?P<Site>[0-9])_w(?P<ChannelNumber>[0-9])"
    assert brief(mine(pattern, "P1_A01_s3_w2.tif")) == "P1|A01|3|2||"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("A1", "A01"), ("a01", "A01"), ("B - 3", "B03"), ("AA7", "AA07"), ("ctrl 7", "ctrl 7")],
)
def test_wells_are_written_in_one_way(written: str, wanted: str) -> None:
    image = mine(r"^(?P<well>.+)_(?P<channel>\d)\.tif$", f"{written}_1.tif")
    assert image is not None
    assert image.well == wanted


def test_rows_are_letters_or_numbers() -> None:
    pattern = r"(?P<row>\w+)-(?P<col>\d+)\.tif"
    wells = [mine(pattern, f"{row}-5.tif") for row in ("1", "16", "27", "32", "C", "AF")]
    assert [w.well if w else None for w in wells] == ["A05", "P05", "AA05", "AF05", "C05", "AF05"]
    assert mine(pattern, "33-5.tif") is None
    assert mine(pattern, "A-0.tif") is None


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("(?P<well>", "unterminated"),
        (r"(\d)", "none of its groups"),
        (r"(?P<Dose>\d)", "none of its groups"),
        (r"(?P<row>\d)", "a group row, but none col"),
        (r"(?P<site>\d)(?P<col>\d)", "a group col, but none row"),
    ],
)
def test_a_regex_that_can_not_do_is_refused(pattern: str, what: str) -> None:
    error = refused(Exit.USAGE, what, own, pattern)
    assert "named groups" in error.todo


# --- plates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "plate"),
    [
        ("/data/P1", "P1"),
        ("/data/P1/Images", "P1"),
        ("/data/P1/Image", "P1"),
        ("/data/P1/Projection", "P1"),
        ("/data/P1/Projections", "P1"),
        ("/data/P1/TimePoint_1/ZStep_2", "P1"),
        ("/data/BR00117035__2021-05-02T16_02_51-Measurement 1/Images", "BR00117035"),
        ("/data/BR00117035__2021-05-02T16_02_51-Measurement1", "BR00117035"),
        ("s3://bucket/P1/Images", "P1"),
        ("/data/HCC15691/2015-07-31", "HCC15691"),
        ("/Images", "Images"),
        ("/", ""),
    ],
)
def test_the_folder_that_stands_for_the_plate(folder: str, plate: str) -> None:
    assert plate_folder(folder) == plate


def test_the_user_says_where_plates_are_named() -> None:
    path = files("A1170383/Images/HTS_A01_s1_w1.tif")[0]
    preset = PRESETS["imagexpress"]
    plates = [
        placer.place(*path)
        for placer in (
            Placer(preset, ROOT),
            Placer(preset, ROOT, plate_from="folder"),
            Placer(preset, ROOT, plate="mine"),
        )
    ]
    assert [p.plate if p else None for p in plates] == ["HTS", "A1170383", "mine"]


def test_an_index_gives_the_plate_unless_the_folder_must() -> None:
    folder = f"{ROOT}/BR1__2021-05-02T16_02_51-Measurement 1/Images"
    image = Image(folder, "a.tiff", "1", "A01", "X")
    assert Placer(PRESETS["phenix"], ROOT).indexed(image, folder).plate == "X"
    assert (
        Placer(PRESETS["phenix"], ROOT, plate_from="folder").indexed(image, folder).plate == "BR1"
    )
    assert Placer(PRESETS["phenix"], ROOT, plate="mine").indexed(image, folder).plate == "mine"
    nameless = Image(f"{folder}/Projection", "a.tiff", "1", "A01")
    assert Placer(PRESETS["phenix"], ROOT).indexed(nameless, folder).plate == "BR1"
    gallery = "s3://b/images/B7/images/BR2/Images"
    there = Image(gallery, "a.tiff", "1", "A01", "X", extra=(("Z", "1"),))
    found = Placer(GALLERY, "s3://b").indexed(there, gallery)
    assert (found.plate, found.extra) == ("BR2", (("Batch", "B7"), ("Z", "1")))


def test_no_preset_takes_long_for_a_long_name() -> None:
    # a name on which an expression could go back and forth for ever
    name = "A01_" * 200 + "s1_w1"
    for preset in PRESETS.values():
        for pattern in preset.names:
            assert not re.fullmatch(pattern, name)
