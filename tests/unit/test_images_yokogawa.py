"""Yokogawa's MeasurementData.mlf, with its .mrf and .mes.

recorded/images/cv8000 and cq3k are small measurements of the structure of those among the tests of
fmi-faim/faim-ipa (resources/CV8000) and fractal-analytics-platform/fractal-uzh-converters
(tests/data/Yokogawa-CQ3K); what they hold is made up.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bpcp.errors import BpcpError, Exit
from bpcp.images import yokogawa
from bpcp.images.presets import PRESETS
from bpcp.images.record import Image

(NAMES,) = PRESETS["yokogawa"].names

RECORDED = Path(__file__).parent / "recorded" / "images"
CV8000 = RECORDED / "cv8000" / "MeasurementData.mlf"
CQ3K = RECORDED / "cq3k" / "MeasurementData.mlf"
MES = "Nuclei & tubulin.mes"
NAMESPACE = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'


def a_record(file: str = "a.tif", **attributes: str | None) -> str:
    """Give a <bts:MeasurementRecord> of one line; an attribute of None is left out."""
    values: dict[str, str | None] = {"Type": "IMG", "Row": "1", "Column": "1", "Ch": "1"}
    values |= attributes
    inside = "".join(f' bts:{k}="{v}"' for k, v in values.items() if v is not None)
    return f"<bts:MeasurementRecord{inside}>{file}</bts:MeasurementRecord>\n"


def written(folder: Path, *records: str) -> Path:
    path = folder / "MeasurementData.mlf"
    text = "".join(records)
    path.write_text(f"<bts:MeasurementData {NAMESPACE}>\n{text}</bts:MeasurementData>\n", "utf-8")
    return path


def copied(folder: Path) -> Path:
    """Copy a measurement."""
    shutil.copytree(CV8000.parent, folder, dirs_exist_ok=True)
    return folder / CV8000.name


def refused(path: Path, folder: str = "") -> BpcpError:
    with pytest.raises(BpcpError) as caught:
        list(yokogawa.read(path, folder).images)
    assert caught.value.code == Exit.MALFORMED_INPUT
    return caught.value


# --- what a measurement says


def test_a_measurement() -> None:
    index = yokogawa.read(CV8000, "s3://bucket/Plate_7")
    images = list(index.images)
    # 3 is in the .mes only
    assert index.channels == {"1": "405", "2": "488"}
    assert index.notes == (
        "1 record left out: errors of the instrument"
        " (first: line 7: AF Error at C14 No. 0 (Plate_7))",
    )
    assert images[0] == Image(
        "s3://bucket/Plate_7",
        "Plate_7_D08_T0001F001L01A01Z01C01.tif",
        "1",
        "D08",
        "Plate_7",
        "1",
        "1",
        "1",
        (
            ("PositionX", "-567.2"),
            ("PositionY", "402.9"),
            ("PositionZ", "3"),
            ("AbsTime", "2023-09-18T13:58:39.001+02:00"),
        ),
    )
    assert {(i.well, i.site, i.z, i.channel) for i in images} == {
        (w, s, z, c) for w in ("D08", "P24") for s in "12" for z in "12" for c in "12"
    }
    assert len(images) == 16


def test_names_and_index_agree() -> None:
    for image in yokogawa.read(CV8000).images:
        found = NAMES.fullmatch(image.file)
        assert found is not None
        assert (found["plate"], found["well"]) == (image.plate, image.well)
        numbers = [str(int(found[group])) for group in ("site", "channel", "z", "t")]
        assert numbers == [image.site, image.channel, image.z, image.t]


def test_images_in_folders_below() -> None:
    index = yokogawa.read(CQ3K, "/data/a plate/")
    assert [(i.folder, i.file) for i in index.images] == [
        ("/data/a plate/Image", "W0029F0001T0001Z001C1.tif"),
        ("/data/a plate/Image", "W0029F0001T0001Z002C1.tif"),
        ("/data/a plate/Projection", "W0029F0001T0001Z000C1.tif"),
    ]


def test_a_projection_among_its_planes_has_no_z() -> None:
    index = yokogawa.read(CQ3K)
    assert [
        (i.well, i.channel, i.z, dict(i.extra).get("ZImageProcessing")) for i in index.images
    ] == [
        ("C05", "1", "1", None),
        ("C05", "1", "2", None),
        ("C05", "1", "", "Maximum"),
    ]
    assert "projections next to their planes: they have no z" in index.notes


def test_projections_alone_keep_their_z(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        a_record("a.tif", ZIndex="1", ZImageProcessing="Maximum"),
        a_record("b.tif", ZIndex="1", Ch="2"),
    )
    index = yokogawa.read(path)
    # or the two channels would make no image set
    assert [i.z for i in index.images] == ["1", "1"]
    assert [note for note in index.notes if "projections" in note] == []


def test_two_projections_of_a_place_are_two_channels(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        a_record("a.tif", ZIndex="1", ZImageProcessing="Maximum"),
        a_record("b.tif", ZIndex="1", ZImageProcessing="Focus"),
    )
    index = yokogawa.read(path)
    assert [(i.channel, i.z) for i in index.images] == [("1 Maximum", "1"), ("1 Focus", "1")]
    assert "taken more than once at a place: channels 1 Focus, 1 Maximum" in index.notes


def test_a_channel_of_two_actions_is_two_channels(tmp_path: Path) -> None:
    path = copied(tmp_path)
    written(
        tmp_path,
        a_record("a.tif", TimelineIndex="1", ActionIndex="1", FieldIndex="1"),
        a_record("b.tif", TimelineIndex="1", ActionIndex="2", FieldIndex="1"),
        a_record("c.tif", TimelineIndex="1", ActionIndex="2", FieldIndex="1", Ch="2"),
    )
    index = yokogawa.read(path)
    assert [i.channel for i in index.images] == ["L01A01C01", "L01A02C01", "2"]
    assert index.channels == {"L01A01C01": "405_L1A1", "L01A02C01": "405_L1A2", "2": "488"}
    assert index.notes == ("taken more than once at a place: channels L01A01C01, L01A02C01",)


def test_two_actions_that_share_no_place_are_one_channel(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        a_record("a.tif", ActionIndex="1", FieldIndex="1"),
        a_record("b.tif", ActionIndex="2", FieldIndex="2"),
    )
    assert [i.channel for i in yokogawa.read(path).images] == ["1", "1"]


def test_another_prefix(tmp_path: Path) -> None:
    path = tmp_path / CV8000.name
    path.write_text(CV8000.read_text().replace("bts:", "y:"))
    assert len(list(yokogawa.read(path).images)) == 16


def test_records_of_other_types_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, a_record(), a_record("b", Type="LOG"), a_record("c", Type=None))
    index = yokogawa.read(path)
    assert len(list(index.images)) == 1
    assert "2 records left out: neither images nor errors (first: line 3: b)" in index.notes


# --- plate and channels


def test_the_plate_is_the_sample_plates_name_else_the_title(tmp_path: Path) -> None:
    path = copied(tmp_path)
    detail = tmp_path / "MeasurementDetail.mrf"
    detail.write_text(detail.read_text().replace('bts:Name="Plate_7"', 'bts:Name=""'))
    assert {i.plate for i in yokogawa.read(path).images} == {"Screen µ"}


def test_no_mrf(tmp_path: Path) -> None:
    path = copied(tmp_path)
    (tmp_path / "MeasurementDetail.mrf").unlink()
    index = yokogawa.read(path)
    assert {i.plate for i in index.images} == {""}
    assert index.channels == {}
    assert index.notes[0].startswith("no MeasurementDetail.mrf: it names the plate")


def test_a_broken_mrf_is_refused(tmp_path: Path) -> None:
    path = copied(tmp_path)
    detail = tmp_path / "MeasurementDetail.mrf"
    detail.write_bytes(detail.read_bytes()[:300])
    assert str(refused(path)) == f"{detail}, line 2: the file ends too early"


@pytest.mark.parametrize("other", ["Nuclei & tubulin.MES", "nuclei & Tubulin.mes"])
def test_a_mes_of_another_case(tmp_path: Path, other: str) -> None:
    path = copied(tmp_path)
    (tmp_path / MES).rename(tmp_path / other)
    index = yokogawa.read(path)
    assert index.channels == {}
    assert index.notes[0] == f"channels without names: no {MES}, but {other}; rename it"
    assert {i.plate for i in index.images} == {"Plate_7"}


def test_no_mes(tmp_path: Path) -> None:
    path = copied(tmp_path)
    (tmp_path / MES).unlink()
    assert yokogawa.read(path).notes[0] == f"channels without names: no {MES}"
    detail = tmp_path / "MeasurementDetail.mrf"
    detail.write_text(detail.read_text().replace("MeasurementSettingFileName", "Other"))
    assert yokogawa.read(path).notes[0] == "channels without names: the .mrf names no .mes"


def test_a_broken_mes(tmp_path: Path) -> None:
    path = copied(tmp_path)
    (tmp_path / MES).write_bytes((tmp_path / MES).read_bytes()[:1200])
    index = yokogawa.read(path, "/data")
    assert index.channels == {}
    assert index.notes[0].startswith(f"channels without names: /data/{MES}, line ")
    assert "the file ends too early" in index.notes[0]


def test_a_mes_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = copied(tmp_path / "in")
    (tmp_path / "in" / MES).rename(tmp_path / "x.mes")
    detail = path.with_name("MeasurementDetail.mrf")
    detail.write_text(detail.read_text().replace("Nuclei &amp; tubulin.mes", "../x.mes"))
    assert yokogawa.read(path).notes[0] == "channels without names: no x.mes"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ((), {"1": "405", "2": "488"}),
        # "Microscope Image" is what Yokogawa's software calls a channel that nobody named
        ((("488", "405"),), {"1": "BP445/45", "2": "BP525/50"}),
        ((("405", ""),), {"1": "BP445/45", "2": "BP525/50"}),
        (
            (("488", "405"), ("BP525/50", "BP445/45")),
            {"1": "405nm BP445/45", "2": "488nm BP445/45"},
        ),
    ],
)
def test_what_names_a_channel(
    tmp_path: Path, changes: tuple[tuple[str, str], ...], names: dict[str, str]
) -> None:
    path = copied(tmp_path)
    text = (tmp_path / MES).read_text()
    for old, new in changes:
        text = text.replace(f'="{old}"', f'="{new}"')
    (tmp_path / MES).write_text(text)
    assert yokogawa.read(path).channels == names


def test_a_fluorophore_names_a_channel_that_has_no_target(tmp_path: Path) -> None:
    path = copied(tmp_path)
    text = (tmp_path / MES).read_text().replace('bts:Target="488"', 'bts:Target="405"')
    for dye in ("Hoechst", "Alexa 488"):
        text = text.replace('bts:Fluorophore=""', f'bts:Fluorophore="{dye}"', 1)
    (tmp_path / MES).write_text(text)
    assert yokogawa.read(path).channels == {"1": "Hoechst", "2": "Alexa 488"}


def test_channels_that_nothing_tells_apart(tmp_path: Path) -> None:
    path = copied(tmp_path)
    text = (tmp_path / MES).read_text()
    for old, new in (("488", "405"), ("BP525/50", "BP445/45")):
        text = text.replace(f'="{old}"', f'="{new}"')
    (tmp_path / MES).write_text(text.replace(">488nm<", ">405nm<"))
    index = yokogawa.read(path)
    assert index.channels == {}
    assert index.notes[0] == f"channels without names: {MES} calls several alike"


# --- names


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        (
            "1053601756_A01_T0001F001L01A06Z01C06.tif",
            ("1053601756", "A01", "0001", "001", "01", "06"),
        ),
        (
            "p_B02\n'ü_AF48_T0010F123L02A01Z12C01.TIF",
            ("p_B02\n'ü", "AF48", "0010", "123", "12", "01"),
        ),
    ],
)
def test_names(name: str, groups: tuple[str, ...]) -> None:
    found = NAMES.fullmatch(name)
    assert found is not None
    assert found.group("plate", "well", "t", "site", "z", "channel") == groups


@pytest.mark.parametrize(
    "name",
    [
        "DC_sCMOS #1_CAM1.tif",
        "SHD_BP445_20x_CAM1.tif",
        "SC_BP445-45_20x v2_M01_CH01.tif",
        "W0029F0001T0001Z001C1.tif",
        "_A01_T0001F001L01A06Z01C06.tif",
        "p_A1_T0001F001L01A06Z01C06.tif",
    ],
)
def test_other_names(name: str) -> None:
    assert NAMES.fullmatch(name) is None


# --- what is refused


def test_no_cut_looks_complete(tmp_path: Path) -> None:
    whole = CV8000.read_bytes()
    path = tmp_path / CV8000.name
    for end in range(0, len(whole.rstrip()), 37):
        path.write_bytes(whole[:end])
        line = whole[:end].count(b"\n") + 1
        assert str(refused(path)) == f"{path}, line {line}: the file ends too early"


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"file": ""}, "an image without a file name"),
        ({"file": "../a.tif"}, "'../a.tif' names a file outside its folder"),
        ({"file": "D:\\a.tif"}, "names a file outside its folder"),
        ({"Row": None}, "an image without Row"),
        ({"Column": "0"}, "no plate has row 1, column 0"),
        ({"Row": "40"}, "no plate has row 40, column 1"),
        ({"Ch": "x"}, "Ch is 'x', not a number"),
        ({"FieldIndex": "1.5"}, "FieldIndex is '1.5', not a number"),
    ],
)
def test_broken_records(tmp_path: Path, attributes: dict[str, str], what: str) -> None:
    path = written(tmp_path, a_record("first.tif", FieldIndex="9"), a_record(**attributes))
    error = refused(path)
    assert str(error).startswith(f"{path}, line 3: ")
    assert what in str(error)


def test_what_is_said_twice(tmp_path: Path) -> None:
    path = written(tmp_path, a_record("a.tif"), a_record("a.tif", FieldIndex="2"))
    assert str(refused(path)) == f"{path}, line 3: a.tif again; see line 2"
    path = written(tmp_path, a_record("a.tif"), a_record("b.tif"))
    assert "b.tif is a second image of A01, channel 1; see line 2" in str(refused(path))


def test_what_is_no_mlf(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert "names no images" in str(refused(path))
    path = written(tmp_path, a_record("AF Error", Type="ERR"))
    assert "names no images" in str(refused(path))
    path.write_text("<!DOCTYPE a>\n<a/>")
    assert "line 1: a DOCTYPE; a MeasurementData.mlf has none" in str(refused(path))
    path.write_text("<a/>")
    assert "<a>; a MeasurementData.mlf starts with <MeasurementData>" in str(refused(path))
