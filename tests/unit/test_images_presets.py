"""Names that instruments wrote, as public projects quote them, and what they must be taken for."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from conftest import ROOT as REPO
from conftest import refused

from bpcp.errors import Exit
from bpcp.images.placer import plate_folder
from bpcp.images.presets import GALLERY, PRESETS, Placer, detect, own
from bpcp.images.record import Image

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


EXAMPLES = [
    (preset.name, path)
    for preset in PRESETS.values()
    for path in preset.examples
    if preset.thumbnail is None or not preset.thumbnail.search(path)
]


@pytest.mark.parametrize(("preset", "path"), EXAMPLES)
def test_detect_finds_the_preset_of_each_example(preset: str, path: str) -> None:
    assert detect(files(path), ROOT, []).name == preset


@pytest.mark.parametrize(("preset", "path"), EXAMPLES)
def test_no_other_preset_takes_an_example(preset: str, path: str) -> None:
    # the gallery's images are of any instrument, and are told by their folders
    others = {one.name for one in PRESETS[preset].includes}
    takes = {name for name in PRESETS if placed(name, path) is not None}
    assert takes - others == {preset}


def test_images_of_two_instruments_are_not_taken_for_those_of_one() -> None:
    firsts = {name: files(PRESETS[name].example)[0] for name in PRESETS if name != "gallery"}
    for (one, first), (other, second) in itertools.combinations(firsts.items(), 2):
        error = refused(
            Exit.MALFORMED_INPUT,
            "what named these images?",
            lambda sample: detect(sample, ROOT, []),
            [first, second] * 4,
        )
        assert f"{one} fits 50%" in str(error) and f"{other} fits 50%" in str(error)


def test_each_preset_names_its_source() -> None:
    assert [preset.name for preset in PRESETS.values() if not preset.sources] == []


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


def test_the_help_names_each_preset() -> None:
    header = (REPO / "bin" / "bpcp-images").read_text(encoding="utf-8")
    listed = header.partition("--preset NAME ")[2].partition("--regex")[0]
    assert re.findall(r"[a-z][\w-]+", listed.partition(":")[2].partition(";")[0]) == list(PRESETS)


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
    assert "--regex" in error.todo and "--preset NAME, of those in bpcp images --help" in error.todo


def test_of_presets_that_fit_the_users_goes_first_and_two_are_not_guessed() -> None:
    twin = replace(PRESETS["imagexpress"], name="twin")
    mine = replace(twin, name="mine", users=True)
    sample = files("p_A01_s1_w1.tif")
    error = refused(
        Exit.MALFORMED_INPUT,
        "several presets: imagexpress and twin",
        lambda: detect(sample, ROOT, [], {**PRESETS, "twin": twin}),
    )
    assert error.todo == "--preset NAME"
    assert detect(sample, ROOT, [], {**PRESETS, "twin": twin, "mine": mine}) is mine


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
    assert plate_folder(folder, GALLERY.between) == plate


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
    for part in ("A01_", "a--", "a - ", "_1", "W0001", "i3t001", "-1_", "x_MMStack_", "Channel"):
        name = part * 200 + "s1_w1"
        for preset in PRESETS.values():
            for pattern in preset.names:
                assert not re.fullmatch(pattern, name)
