"""Harmony's index, and what the readers of instruments' XML have in common.

recorded/images/harmony5 and harmony7 are small files of the structure of the indexes among the
tests of broadinstitute/pe2loaddata (tests/data/Version5, Version7); what they hold is made up.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from bpcp.errors import BpcpError, Exit
from bpcp.images import index as index_files
from bpcp.images import phenix
from bpcp.images.presets import PRESETS
from bpcp.images.record import Image

(NAMES,) = PRESETS["phenix"].names

RECORDED = Path(__file__).parent / "recorded" / "images"
HARMONY5 = RECORDED / "harmony5" / "Index.idx.xml"
HARMONY7 = RECORDED / "harmony7" / "Index.xml"
HOSTILE = "plate 'ä\"$(x);\n1"

HEAD = '<EvaluationInputData xmlns="http://www.perkinelmer.com/PEHH/HarmonyV5"><Images>\n'
TAIL = "</Images></EvaluationInputData>\n"


def an_image(file: str = "a.tiff", **fields: str | None) -> str:
    """Give an <Image> of one line; a field of None is left out."""
    values: dict[str, str | None] = {
        "URL": file,
        "Row": "1",
        "Col": "1",
        "FieldID": "1",
        "ChannelID": "1",
    }
    values |= fields
    inside = "".join(f"<{k}>{v}</{k}>" for k, v in values.items() if v is not None)
    return f"<Image>{inside}</Image>\n"


def written(folder: Path, *images: str) -> Path:
    path = folder / "Index.idx.xml"
    path.write_text(HEAD + "".join(images) + TAIL, encoding="utf-8")
    return path


def refused(path: Path, folder: str = "") -> BpcpError:
    with pytest.raises(BpcpError) as caught:
        list(phenix.read(path, folder).images)
    assert caught.value.code == Exit.MALFORMED_INPUT
    return caught.value


# --- what an index says


def test_harmony_5_names_the_channel_in_each_image() -> None:
    index = phenix.read(HARMONY5, "s3://bucket/plate/Images/")
    images = list(index.images)
    assert index.channels == {"1": "HOECHST 33342", "2": "Brightfield"}
    assert index.notes == ()
    assert len(images) == 16
    assert images[0] == Image(
        "s3://bucket/plate/Images",
        "r01c01f01p01-ch1sk1fk1fl1.tiff",
        "1",
        "A01",
        "Plate 1",
        "1",
        "1",
        "0",
        (
            ("PositionX", "0"),
            ("PositionY", "0"),
            ("PositionZ", "-6E-06"),
            ("AbsPositionZ", "0.135347300"),
            ("AbsTime", "2023-03-23T14:52:40.42-04:00"),
        ),
    )
    assert {(i.well, i.site, i.z, i.channel) for i in images} == {
        (w, s, z, c) for w in ("A01", "P24") for s in "12" for z in "12" for c in "12"
    }


def test_harmony_7_names_channels_once_in_a_map() -> None:
    index = phenix.read(HARMONY7)
    images = list(index.images)
    # 7 is in the map only
    assert index.channels == {"1": "Alexa 488", "6": "HOECHST 33342"}
    assert [(i.channel, i.t, i.well, i.plate) for i in images] == [
        (channel, t, "B03", "240624_densities_1.1") for t in "12" for channel in "16"
    ]
    assert {i.folder for i in images} == {str(HARMONY7.parent)}


def test_the_images_name_wins_over_the_maps(tmp_path: Path) -> None:
    path = tmp_path / "Index.xml"
    text = HARMONY7.read_text().replace(
        "<ChannelID>6</ChannelID>", "<ChannelID>6</ChannelID><ChannelName>DNA</ChannelName>"
    )
    path.write_text(text)
    assert phenix.read(path).channels == {"1": "Alexa 488", "6": "DNA"}


def test_a_channel_of_two_names_is_said(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        an_image("a.tiff"),
        an_image("b.tiff", FieldID="2", ChannelName="DNA"),
        an_image("c.tiff", FieldID="3", ChannelName="ER"),
    )
    index = phenix.read(path)
    assert index.channels == {"1": "DNA"}
    assert index.notes == ("channel 1 is 'DNA' here, 'ER' there",)


def test_images_lie_beside_the_index_or_where_it_says(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    path = written(folder, an_image("Images\\a b.tiff"), an_image("./ü.tiff", FieldID="2"))
    assert [(i.folder, i.file) for i in phenix.read(path).images] == [
        (f"{folder}/Images", "a b.tiff"),
        (str(folder), "ü.tiff"),
    ]
    assert [i.folder for i in phenix.read(path, "/").images] == ["/Images", "/"]


def test_the_plate_is_its_name_else_its_id(tmp_path: Path) -> None:
    path = tmp_path / "Index.idx.xml"
    path.write_text(HARMONY5.read_text().replace("<Name>Plate 1</Name>", "<Name />"))
    assert {i.plate for i in phenix.read(path).images} == {"BR00100001"}


def test_an_index_says_least(tmp_path: Path) -> None:
    index = phenix.read(written(tmp_path, an_image(FieldID=None)))
    assert list(index.images) == [Image(str(tmp_path), "a.tiff", "1", "A01")]
    assert index.channels == {}


def test_images_that_harmony_did_not_take_are_left_out(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        an_image("a.tiff", State="Ok"),
        an_image("", id="0101K1F2P1R1", FieldID="2", State="Ok"),
        an_image("c.tiff", FieldID="3", State="Error"),
        an_image("d.tiff", FieldID="4", State="Error"),
    )
    index = phenix.read(path)
    assert [i.file for i in index.images] == ["a.tiff"]
    assert index.notes == (
        "1 image left out: Harmony took none, their URL is empty (first: line 3: 0101K1F2P1R1)",
        "2 images left out: Harmony marks them as not Ok (first: line 4: c.tiff, Error)",
    )


def test_two_flim_images_of_a_place_are_no_mistake(tmp_path: Path) -> None:
    path = written(tmp_path, an_image("a.tiff", FlimID="1"), an_image("b.tiff", FlimID="2"))
    assert len(list(phenix.read(path).images)) == 2


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "windows-1252"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "Index.xml"
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n'
    path.write_bytes(f"{head}{HEAD}{an_image('ü.tiff')}{TAIL}".encode(encoding))
    assert [i.file for i in phenix.read(path).images] == ["ü.tiff"]


# --- names and wells


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        (
            "r01c01f01p01-ch1sk1fk1fl1.tiff",
            {"row": "01", "col": "01", "site": "01", "z": "01", "channel": "1", "t": "1"},
        ),
        (
            "R32C48f101p12-ch10sk144fk1fl1.TIF",
            {"row": "32", "col": "48", "site": "101", "z": "12", "channel": "10", "t": "144"},
        ),
    ],
)
def test_names(name: str, groups: dict[str, str]) -> None:
    found = NAMES.fullmatch(name)
    assert found is not None
    assert found.groupdict() == groups


@pytest.mark.parametrize("name", ["r01c01f01p01-ch1.tiff.txt", "A01_s1_w1.tif", "r1c1f1p1-ch1.tif"])
def test_other_names(name: str) -> None:
    assert NAMES.fullmatch(name) is None


@pytest.mark.parametrize(
    ("row", "col", "name"),
    [(1, 1, "A01"), (16, 24, "P24"), (26, 9, "Z09"), (27, 1, "AA01"), (32, 48, "AF48")],
)
def test_wells(row: int, col: int, name: str) -> None:
    assert index_files.well(row, col) == name


@pytest.mark.parametrize(("row", "col"), [(0, 1), (1, 0), (33, 1), (1, 49), (10**9, 1)])
def test_no_such_well(row: int, col: int) -> None:
    with pytest.raises(ValueError, match=f"no plate has row {row}, column {col}"):
        index_files.well(row, col)


# --- what is refused


def test_no_cut_looks_complete(tmp_path: Path) -> None:
    whole = HARMONY5.read_bytes()
    path = tmp_path / "Index.idx.xml"
    for end in range(0, len(whole.rstrip()), 61):
        path.write_bytes(whole[:end])
        error = refused(path)
        line = max(1, whole[:end].count(b"\n") + 1)
        assert str(error) == f"{path}, line {line}: the file ends too early"
        assert error.todo


def test_a_file_that_is_cut_after_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "Index.idx.xml"
    path.write_bytes(HARMONY5.read_bytes())
    index = phenix.read(path)
    path.write_bytes(HARMONY5.read_bytes()[:-5])
    with pytest.raises(BpcpError, match="the file ends too early"):
        list(index.images)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("not XML at all", "line 1: not XML (syntax error)"),
        ("<html>\n</html>", "line 1: <html>; a Harmony index starts with <EvaluationInputData>"),
        ("<EvaluationInputData>\n</b>", "line 2: not XML (mismatched tag)"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "an encoding that is not known"),
        ("<EvaluationInputData/>", "names no images"),
        ("II*\0\b\0\0\0", "line 1: not XML (syntax error)"),
    ],
)
def test_what_is_no_index(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "Index.xml"
    path.write_text(text)
    assert what in str(refused(path))


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd">',
    ],
)
def test_entities_are_never_expanded(tmp_path: Path, doctype: str) -> None:
    path = tmp_path / "Index.xml"
    path.write_text(f'<?xml version="1.0"?>\n{doctype}\n{HEAD}{an_image("&b;.tiff")}{TAIL}')
    assert str(refused(path)) == f"{path}, line 2: a DOCTYPE; a Harmony index has none"


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"URL": None}, "an image without a file name"),
        ({"URL": "../a.tiff"}, "'../a.tiff' names a file outside its folder"),
        ({"URL": "b\\..\\..\\a.tiff"}, "names a file outside its folder"),
        ({"URL": "/etc/passwd"}, "'/etc/passwd' names a file outside its folder"),
        ({"URL": "\\\\host\\a.tiff"}, "names a file outside its folder"),
        ({"URL": "C:\\a.tiff"}, "names a file outside its folder"),
        ({"URL": "file:///a.tiff"}, "'file:///a.tiff' names a file outside its folder"),
        ({"URL": "./"}, "an image without a file name"),
        ({"Row": None}, "an image without Row"),
        ({"Row": "0"}, "no plate has row 0, column 1"),
        ({"Row": "33"}, "no plate has row 33, column 1"),
        ({"Col": "49"}, "no plate has row 1, column 49"),
        ({"Col": "A"}, "Col is 'A', not a number"),
        ({"Col": "-1"}, "Col is '-1', not a number"),
        ({"Col": "²"}, "Col is '²', not a number"),
        ({"Col": "9" * 5000}, "not a number"),
        ({"ChannelID": None}, "an image without ChannelID"),
        ({"PlaneID": "x"}, "PlaneID is 'x', not a number"),
    ],
)
def test_broken_images(tmp_path: Path, fields: dict[str, str | None], what: str) -> None:
    path = written(tmp_path, an_image("first.tiff", FieldID="9"), an_image(**fields))
    error = refused(path)
    assert str(error).startswith(f"{path}, line 3: ")
    assert what in str(error)
    assert error.todo


def test_what_is_said_twice(tmp_path: Path) -> None:
    path = written(tmp_path, an_image("a.tiff"), an_image("a.tiff", FieldID="2"))
    assert str(refused(path)) == f"{path}, line 3: a.tiff again; see line 2"
    path = written(tmp_path, an_image("a.tiff"), an_image("b.tiff"))
    assert "line 3: b.tiff is a second image of A01, site 1, channel 1; see line 2" in str(
        refused(path)
    )
    # all on one line
    path.write_text((HEAD + an_image("a.tiff") * 2 + TAIL).replace("\n", ""))
    assert "line 1: a.tiff again" in str(refused(path))


def test_a_second_plate(tmp_path: Path) -> None:
    path = tmp_path / "Index.idx.xml"
    path.write_text(HARMONY5.read_text().replace("</Plates>", "<Plate/></Plates>"))
    assert "a second plate" in str(refused(path))


def test_pages_of_a_file_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, an_image().replace("<URL>", '<URL BufferNo="3">'))
    assert "page 3 of a.tiff: images that share a file are not supported" in str(refused(path))
    path = written(tmp_path, an_image().replace("<URL>", '<URL BufferNo="0">'))
    assert len(list(phenix.read(path).images)) == 1


def test_errors_name_the_index_where_the_user_has_it(tmp_path: Path) -> None:
    path = written(tmp_path, an_image(Row="x"))
    assert str(refused(path, "s3://bucket/plate/")).startswith(
        "s3://bucket/plate/Index.idx.xml, line 2: "
    )


@pytest.mark.parametrize("name", ["Index.idx.xml", "."])
def test_no_such_index(tmp_path: Path, name: str) -> None:
    with pytest.raises(BpcpError, match="no such file") as caught:
        phenix.read(tmp_path / name)
    assert caught.value.code == Exit.NO_INPUT


# --- large ones


def test_memory_does_not_hold_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_files, "_CHUNK", 1 << 14)

    def peak(number: int) -> int:
        path = written(tmp_path, *(an_image(f"{n}.tiff", FieldID=f"{n}") for n in range(number)))
        images = phenix.read(path).images
        tracemalloc.start()
        try:
            assert sum(1 for _ in images) == number
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(4000) < 1.2 * peak(500)
