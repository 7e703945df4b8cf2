"""The .xdce of IN Cell Analyzers.

recorded/images/incell is a small file of the structure that Bio-Formats' InCellReader.java and
unige-biochem/bioformats-to-incarta (ImageXpressLayout.java) describe; what it holds is made up.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bpcp.errors import BpcpError, Exit
from bpcp.images import incell_xdce
from bpcp.images.presets import PRESETS
from bpcp.images.record import Image

(NAMES,) = PRESETS["incell"].names

RECORDED = Path(__file__).parent / "recorded" / "images" / "incell" / "Plate 17.xdce"
GROUPS = ("plate", "row", "col", "site", "channel", "z", "t")


def an_image(
    file: str | None = "a.tif", row: str = "1", col: str = "1", field: str = "0", wave: str = "0"
) -> str:
    """Give an <Image> of one line; without a file name for None."""
    named = "" if file is None else f' filename="{file}"'
    return (
        f'<Image{named}><Well label="?"><Row number="{row}"/><Column number="{col}"/></Well>'
        f'<Identifier field_index="{field}" wave_index="{wave}"/></Image>\n'
    )


def written(folder: Path, *images: str) -> Path:
    path = folder / "a plate.xdce"
    text = "".join(images)
    path.write_text(f"<ImageStack><Images>\n{text}</Images></ImageStack>\n", encoding="utf-8")
    return path


def refused(path: Path, folder: str = "") -> BpcpError:
    with pytest.raises(BpcpError) as caught:
        list(incell_xdce.read(path, folder).images)
    assert caught.value.code == Exit.MALFORMED_INPUT
    return caught.value


# --- what a file says


def test_a_plate() -> None:
    index = incell_xdce.read(RECORDED, "/data/Plate 17")
    images = list(index.images)
    # the third wave is computed from the others
    assert index.channels == {"1": "UV - DAPI", "2": "Green - dsRed"}
    assert index.notes == ()
    assert images[0] == Image(
        "/data/Plate 17",
        "A - 01(fld 1 wv UV - DAPI z 1).tif",
        "1",
        "A01",
        "Plate 17",
        "1",
        "1",
        "1",
        (("PositionX", "14380.0"), ("PositionY", "11240.5"), ("PositionZ", "8491.5")),
    )
    assert {(i.well, i.site, i.z, i.channel) for i in images} == {
        (w, s, z, c) for w in ("A01", "B12") for s in "12" for z in "12" for c in "12"
    }
    assert len(images) == 16


def test_names_and_index_agree() -> None:
    index = incell_xdce.read(RECORDED)
    for image in index.images:
        found = NAMES.fullmatch(image.file)
        assert found is not None
        assert f"{found['row']}{found['col']}" == image.well
        assert (found["site"], found["z"]) == (image.site, image.z)
        assert found["channel"] == index.channels[image.channel]


def test_the_plates_id_wins_over_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "a.b.xdce"
    path.write_bytes(RECORDED.read_bytes())
    # not "96 well, clear bottom", which is the kind of plate
    assert {i.plate for i in incell_xdce.read(path).images} == {"a.b"}
    path.write_bytes(RECORDED.read_bytes().replace(b"<ImageStack>", b'<ImageStack PlateID="P 1">'))
    assert {i.plate for i in incell_xdce.read(path).images} == {"P 1"}


def test_channels_are_named_by_the_images_where_no_wavelengths_are(tmp_path: Path) -> None:
    filters = '<EmissionFilter name="DAPI"/><ExcitationFilter name="UV"/></Image>'
    path = written(tmp_path, an_image(wave="3").replace("</Image>", filters))
    assert incell_xdce.read(path).channels == {"4": "UV - DAPI"}
    path = written(tmp_path, an_image(wave="3"))
    assert incell_xdce.read(path).channels == {}


def test_least(tmp_path: Path) -> None:
    path = written(tmp_path, an_image("Images\\a 'ü.tif", row="32", col="48"))
    assert list(incell_xdce.read(path).images) == [
        Image(f"{tmp_path}/Images", "a 'ü.tif", "1", "AF48", "a plate", "1")
    ]


# --- names


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("A - 01(fld 1 wv DAPI - DAPI).tif", "-|A|01|1|DAPI - DAPI|-|-"),
        ("A - 01(fld 1 wv Green - dsRed z 3).tif", "-|A|01|1|Green - dsRed|3|-"),
        ("A - 01(fld 01 wv UV - DAPI time 1 - 0 ms).tif", "-|A|01|01|UV - DAPI|-|1"),
        ("A - 01(fld 1 wv UV - DAPI z 3 time 2 - 2636ms).tif", "-|A|01|1|UV - DAPI|3|2"),
        ("A - 13(fld 2).tif", "-|A|13|2|-|-|-"),
        ("D - 05(wv TL-Brightfield - Cy3).tif", "-|D|05|-|TL-Brightfield - Cy3|-|-"),
        ("P1_\nHA_B - 01(fld 01 wv 390 - Blue).tif", "P1_\nHA|B|01|01|390 - Blue|-|-"),
        ("A_01_f2_c1_xUV_mDAPI_z3_t2.tif", "-|A|01|2|1|3|2"),
        ("F - 001(fld 01 wv TL-Brightfield - DAPI).tif", "-|F|001|01|TL-Brightfield - DAPI|-|-"),
        ("H - 12(fld 1 z 1- time 1 - 0 ms).tif", "-|H|12|1|-|1|1"),
        ("N - 6(fld 1- time 1 - 22858 ms).tif", "-|N|6|1|-|-|1"),
        ("B - 4(fld 1 wv CFP - CFP- time 3 - 600000 ms).tif", "-|B|4|1|CFP - CFP|-|3"),
        ("B - 02(fld 01 wv Blue - FITC - time 01 - 0 ms).tif", "-|B|02|01|Blue - FITC|-|01"),
        ("B - 02(fld 1 wv UV - DAPI z 3- time 2 - 9 ms).tif", "-|B|02|1|UV - DAPI|3|2"),
        ("AF - 48(fld 1 wv Cy5 - Cy5).TIFF", "-|AF|48|1|Cy5 - Cy5|-|-"),
    ],
)
def test_names(name: str, groups: str) -> None:
    found = NAMES.fullmatch(name)
    assert found is not None
    assert "|".join(group or "-" for group in found.group(*GROUPS)) == groups


@pytest.mark.parametrize(
    "name",
    [
        "p_A01_s1_w1.tif",
        "A - 01.tif",
        "A_01_f2_c1.tif",
        "A - 01(fld 1 wv DAPI - DAPI).jpg",
        "p_A01_T0001F001L01A01Z01C01.tif",
    ],
)
def test_other_names(name: str) -> None:
    assert NAMES.fullmatch(name) is None


# --- what is refused


def test_no_cut_looks_complete(tmp_path: Path) -> None:
    whole = RECORDED.read_bytes()
    path = tmp_path / RECORDED.name
    for end in range(0, len(whole.rstrip()), 61):
        path.write_bytes(whole[:end])
        line = whole[:end].count(b"\n") + 1
        assert str(refused(path)) == f"{path}, line {line}: the file ends too early"


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (an_image(None), "an image without a file name"),
        (an_image(""), "an image without a file name"),
        (an_image("..\\a.tif"), "names a file outside its folder"),
        (an_image("/a.tif"), "'/a.tif' names a file outside its folder"),
        (an_image(row="0"), "no plate has row 0, column 1"),
        (an_image(col="x"), "Column number is 'x', not a number"),
        (an_image(wave=""), "an image without Identifier wave_index"),
        (an_image(field="-1"), "Identifier field_index is '-1', not a number"),
        ("<Image filename='a.tif'/>", "an image without Identifier wave_index"),
    ],
)
def test_broken_images(tmp_path: Path, image: str, what: str) -> None:
    path = written(tmp_path, an_image("first.tif", field="9"), image)
    error = refused(path)
    assert str(error).startswith(f"{path}, line 3: ")
    assert what in str(error)


def test_what_is_said_twice(tmp_path: Path) -> None:
    path = written(tmp_path, an_image("a.tif"), an_image("a.tif", field="1"))
    assert str(refused(path)) == f"{path}, line 3: a.tif again; see line 2"
    path = written(tmp_path, an_image("a.tif"), an_image("b.tif"))
    assert "b.tif is a second image of A01, site 1, channel 1; see line 2" in str(refused(path))


def test_what_is_no_xdce(tmp_path: Path) -> None:
    assert "names no images" in str(refused(written(tmp_path)))
    path = tmp_path / "a.xdce"
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]>\n<ImageStack>&b;</ImageStack>')
    assert "line 1: a DOCTYPE; an .xdce has none" in str(refused(path))
    path.write_text("<OME/>")
    assert "<OME>; an .xdce starts with <ImageStack>" in str(refused(path))
