"""Where images lie around their index, plates in several folders, and what is left out."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import HOSTILE, refused, rows_of
from s3server import Bucket, S3Server

from bpcp.errors import Exit
from bpcp.images import index as index_files
from bpcp.images import yokogawa
from bpcp.images.__main__ import main

FLEX = "flex_r01c01f{f:02d}p01-ch{c}t01.tiff"
PLAIN = "r01c01f{f:02d}p01-ch{c}sk1fk1fl1.tiff"
MEASURED = "P7__2026-01-15T09_30_00-Measurement 1"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def made(source: Path | str, tmp_path: Path, *more: str) -> list[dict[str, str]]:
    out = tmp_path / "out.csv"
    assert main([str(source), "--out", str(out), "--overwrite", *more]) == Exit.OK
    return rows_of(out)


def fails(what: str, source: Path | str, *more: str) -> str:
    return refused(Exit.MALFORMED_INPUT, what, main, [str(source), "--dry-run", *more]).todo


def harmony(path: Path, url: str, channels: str = "12") -> None:
    """Write an index of two fields; {f} and {c} of its URLs are field and channel."""
    images = "".join(
        f"<Image><URL>{url.format(f=f, c=c)}</URL><Row>1</Row><Col>1</Col><FieldID>{f}</FieldID>"
        f"<PlaneID>1</PlaneID><TimepointID>0</TimepointID><ChannelID>{c}</ChannelID>"
        f'<ChannelName>Dye {c}</ChannelName><PositionX Unit="m">{f}E-06</PositionX></Image>\n'
        for f in (1, 2)
        for c in channels
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<EvaluationInputData xmlns="43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7">'
        f"<Images>\n{images}</Images></EvaluationInputData>\n",
        encoding="utf-8",
    )


def names(form: str, channels: str = "12") -> list[str]:
    return [form.format(f=f, c=c) for f in (1, 2) for c in channels]


# --- images in a folder below their index


@pytest.mark.parametrize("form", [FLEX, PLAIN])
@pytest.mark.parametrize(
    ("index", "url", "images"),
    [
        ("Images/Index.xml", "", "Images"),
        ("Index.idx.xml", "", "Images"),
        ("Index.idx.xml", "Images/", "Images"),
        ("Index.idx.xml", "Images\\", "Images"),
        ("Index.xml", "", "images/flex"),
        ("Images/Index.xml", "", "Images/flex"),
        ("Index.xml", "r01c01/", "Images/r01c01"),
        ("Index.xml", "", "."),
    ],
)
def test_images_lie_beside_their_index_or_below(
    form: str, index: str, url: str, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / HOSTILE / MEASURED
    harmony(folder / index, url + form)
    touch(folder / images, *names(form))
    rows = made(tmp_path / HOSTILE, tmp_path)
    assert [(r["Metadata_Site"], r["Metadata_PositionX"]) for r in rows] == [
        ("1", "1E-06"),
        ("2", "2E-06"),
    ]
    assert {r["PathName_Dye1"] for r in rows} == {str(folder / images)}
    assert {r["Metadata_Plate"] for r in rows} == {"P7"}
    assert "not there" not in capsys.readouterr().err


def test_names_of_harmony_7_need_no_index(tmp_path: Path) -> None:
    touch(tmp_path / "in" / MEASURED / "Images", *names(FLEX))
    rows = made(tmp_path / "in", tmp_path)
    assert [(r["Metadata_Plate"], r["FileName_Ch2"]) for r in rows] == [
        ("P7", FLEX.format(f=f, c=2)) for f in (1, 2)
    ]


def test_of_two_folders_images_is_the_one_that_an_index_means(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    harmony(folder / "Index.xml", PLAIN)
    touch(folder / "Images", *names(PLAIN))
    touch(folder / "old", *names(PLAIN))
    rows = made(folder, tmp_path)
    assert {(r["Metadata_Plate"], r["PathName_Dye1"]) for r in rows} == {
        ("in", str(folder / "Images")),
        ("old", str(folder / "old")),
    }


def test_where_two_folders_may_be_meant_none_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    harmony(folder / "Index.xml", PLAIN)
    for plate in ("P1", "P2"):
        touch(folder / plate / "Images", *names(PLAIN))
    rows = made(folder, tmp_path)
    assert [r["Metadata_Plate"] for r in rows] == ["P1", "P1", "P2", "P2"]
    assert "4 images in the index, but not there" in capsys.readouterr().err


def test_an_index_beside_the_images_goes_before_one_above(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in" / MEASURED
    harmony(folder / "Index.xml", PLAIN)
    harmony(folder / "Images/Index.idx.xml", PLAIN.replace("{f", "{f"))
    touch(folder / "Images", *names(PLAIN))
    assert len(made(tmp_path / "in", tmp_path)) == 2
    said = capsys.readouterr().err
    assert "4 images that another index names, too, taken once: " in said
    assert "not there" not in said


def test_nothing_outside_an_indexs_folder_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harmony(tmp_path / "in/P1/Index.xml", PLAIN)
    # a folder of which its name is a part, and the folder above
    for folder in ("in/P10/Images", "in/other"):
        touch(tmp_path / folder, *names(PLAIN))
    rows = made(tmp_path / "in", tmp_path)
    assert {r["Metadata_Plate"] for r in rows} == {"P10", "other"}
    assert "4 images in the index, but not there" in capsys.readouterr().err
    harmony(tmp_path / "in/P1/Index.xml", "../other/" + PLAIN)
    fails("names a file outside its folder", tmp_path / "in")


def test_images_below_an_index_in_a_bucket(
    server: S3Server, bucket: Bucket, tmp_path: Path
) -> None:
    harmony(tmp_path / "Index.xml", PLAIN)
    bucket.put(f"{MEASURED}/Index.xml", (tmp_path / "Index.xml").read_bytes())
    for name in names(PLAIN):
        bucket.put(f"{MEASURED}/Images/{name}", b"")
    rows = made(f"s3://{bucket.name}", tmp_path, "--endpoint-url", server.url)
    assert rows[0]["PathName_Dye1"] == f"s3://{bucket.name}/{MEASURED}/Images"
    assert rows[0]["Metadata_PositionX"] == "1E-06"


def test_images_of_yokogawa_below_their_index(tmp_path: Path) -> None:
    recorded = Path(__file__).parent / "recorded" / "images" / "cv8000"
    folder = tmp_path / "in"
    shutil.copytree(recorded, folder)
    for image in yokogawa.read(folder / "MeasurementData.mlf").images:
        touch(folder / "a/b", image.file)
    rows = made(folder, tmp_path)
    assert {text for r in rows for name, text in r.items() if name.startswith("PathName")} == {
        str(folder / "a/b")
    }
    assert "Metadata_PositionX" in rows[0]


# --- IN Cell Analyzer 1000


def stack(path: Path, wells: str = "1", head: str = "") -> None:
    images = "".join(
        f'<Image filename="A - {w}(fld 1 wv D{c} - D{c}).tif"><Well><Row number="1"/>'
        f'<Column number="{w}"/></Well><Identifier field_index="0" wave_index="{c}"/>'
        f'<PlatePosition_um x="7.5" y="8"/></Image>\n'
        for w in wells
        for c in (0, 1)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}<ImageStack><Images>{images}</Images></ImageStack>", encoding="utf-8")
    touch(path.parent, *(f"A - {w}(fld 1 wv D{c} - D{c}).tif" for w in wells for c in (0, 1)))


@pytest.mark.parametrize("suffix", [".xml", ".XML", ".xdce"])
def test_an_image_stack_in_an_xml_is_read(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / HOSTILE
    head = '<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>\n'
    stack(folder / f"Plate 3{suffix}", head=head)
    (folder / "a.txt").touch()
    (folder / "notes.xml").write_text("<Notes><ImageStack/></Notes>")
    (folder / "broken.xml").write_text("no XML, <ImageStack>")
    (folder / "empty.xml").write_text("")
    (row,) = made(folder, tmp_path)
    assert (row["Metadata_Plate"], row["Metadata_PositionX"]) == ("Plate 3", "7.5")
    said = capsys.readouterr().err
    assert "by 1 index file" in said
    assert "left out: 3 .xml, not an image (broken.xml), 1 .txt, not an image (a.txt)" in said


def test_other_xml_files_make_no_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack(tmp_path / "in/P.xml")
    (tmp_path / "in/P.xml").write_text("<Notes/>")
    (row,) = made(tmp_path / "in", tmp_path)
    assert row["Metadata_Plate"] == "in" and "Metadata_PositionX" not in row
    assert "1 .xml, not an image (P.xml)" in capsys.readouterr().err


def test_an_image_stack_in_a_bucket(server: S3Server, bucket: Bucket, tmp_path: Path) -> None:
    stack(tmp_path / "P 3.xml")
    for path in [*tmp_path.iterdir(), tmp_path / "P 3.xml"]:
        bucket.put(f"s/{path.name}", path.read_bytes())
    bucket.put("s/a.xml", b"<a/>")
    (row,) = made(f"s3://{bucket.name}", tmp_path, "--endpoint-url", server.url)
    assert (row["Metadata_Plate"], row["Metadata_PositionX"]) == ("P 3", "7.5")


def test_an_image_stack_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    stack(tmp_path / "in/P.xml")
    text = (tmp_path / "in/P.xml").read_text()
    (tmp_path / "in/P.xml").write_text(text[: len(text) // 2])
    fails("P.xml, line 2: the file ends too early", tmp_path / "in")


def test_a_folder_may_hold_several_plates_of_an_in_cell(tmp_path: Path) -> None:
    stack(tmp_path / "in/P1.xdce", "12")
    stack(tmp_path / "in/P2.xdce", "34")
    rows = made(tmp_path / "in", tmp_path)
    assert [(r["Metadata_Plate"], r["Metadata_Well"]) for r in rows] == [
        ("P1", "A01"),
        ("P1", "A02"),
        ("P2", "A03"),
        ("P2", "A04"),
    ]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\xef\xbb\xbf<?xml version='1.0'?><!-- x --><a:Root xmlns:a='b'><c/></a:Root>", "Root"),
        ('<?xml version="1.0" encoding="utf-16"?><Root/>'.encode("utf-16"), "Root"),
        (b"<Root", ""),
        (b"", ""),
        (b"\x00\xff", ""),
        (b'<?xml version="1.0" encoding="none-such"?><Root/>', ""),
        (b"<Root>" + b"<a/>" * 100_000, "Root"),
    ],
)
def test_the_outermost_element(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    assert index_files.root(tmp_path / "a.xml") == name


# --- a plate in several folders


@pytest.mark.parametrize(
    "folders",
    [
        # BBBC022
        ["BBBC022_v1_images_{p}w1", "BBBC022_v1_images_{p}w2"],
        ["{p}_w1", "{p}_w2"],
        ["{p} ch01", "{p} ch02"],
        ["{p}-Channel 1", "{p}-Channel 2"],
        ["w1_{p}", "w2_{p}"],
        ["{p}/w1", "{p}/w2"],
        ["{p}/W1/TimePoint_1", "{p}/W2/TimePoint_1"],
    ],
)
def test_folders_for_each_channel_are_one_plate(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for plate in ("20585", "20586"):
        for channel, folder in enumerate(folders, 1):
            for well in ("A01", "A02"):
                name = f"IXMtest_{well}_s1_w{channel}.tif"
                touch(tmp_path / HOSTILE / folder.format(p=plate), name)
    source = tmp_path / HOSTILE
    todo = fails("4 places have more than one file", source)
    # what is advised gives the list
    assert todo.endswith("if they are of different plates, --plate-from folder")
    rows = made(source, tmp_path, "--plate-from", "folder")
    plates = [r["Metadata_Plate"] for r in rows]
    wanted = re.sub(r"[ _-]?(?:w|ch0|Channel )1_?|/.*", "", folders[0], flags=re.IGNORECASE)
    assert plates == [wanted.format(p=p) for p in ("20585", "20585", "20586", "20586")]
    said = capsys.readouterr().err
    assert "4 folders that hold parts of a plate, taken together as 2 plates: " in said


@pytest.mark.parametrize(
    ("files", "plates"),
    [
        # sites, time points, planes; and two of them
        (["P1_s1/A01_s1_w1", "P1_s2/A01_s2_w1"], ["P1"]),
        (["P1/field 1/A01_s1_w1", "P1/field 2/A01_s2_w1"], ["P1"]),
        (["P1_t1/x_t1_A01_s1_w1", "P1_t2/x_t2_A01_s1_w1"], ["P1"]),
        (["P1_z1/A01_s1_w1_z1", "P1_z2/A01_s1_w1_z2"], ["P1"]),
        ([f"P1/s{s}/w{w}/A01_s{s}_w{w}" for s in (1, 2) for w in (1, 2)], ["P1"]),
        ([f"P1/w{w}/s{s}/A01_s{s}_w{w}" for s in (1, 2) for w in (1, 2)], ["P1"]),
        ([f"P1_w{w}_s{s}/A01_s{s}_w{w}" for s in (1, 2) for w in (1, 2)], ["P1"]),
        # plates with numbers that look like channels, sites and the like
        ([f"P1_w{p}/A01_s1_w{w}" for p in (1, 2) for w in (1, 2)], ["P1_w1", "P1_w2"]),
        ([f"run_s{p}/A01_s1_w{w}" for p in (1, 2) for w in (1, 2)], ["run_s1", "run_s2"]),
        (["w1/A01_s1_w1"], ["w1"]),
        (["P1_w1/A01_s1_w1"], ["P1_w1"]),
        # one of a name is there already
        (["P1/A01_s1_w1", "P1_s1/A02_s1_w1", "P1_s2/A02_s2_w1"], ["P1", "P1_s1", "P1_s2"]),
    ],
)
def test_folders_are_taken_together_only_where_their_images_say_so(
    files: list[str], plates: list[str], tmp_path: Path
) -> None:
    touch(tmp_path / "in", *(f"{name}.tif" for name in files))
    rows = made(tmp_path / "in", tmp_path, "--plate-from", "folder")
    assert sorted({r["Metadata_Plate"] for r in rows}) == plates
    assert sum(len([k for k in r if k.startswith("FileName")]) for r in rows) == len(files)


def test_folders_that_are_called_as_their_channels(tmp_path: Path) -> None:
    for plate in ("P1", "P2"):
        for channel, dye in (("w1", "DAPI"), ("w2", "GFP")):
            folder = tmp_path / "in" / plate / dye
            touch(folder, f"x_A01_s1_{channel}.tif")
            (folder / "x.HTD").write_text(f'"WaveName{channel[1]}", "{dye}"\n')
    assert fails("more than one", tmp_path / "in").endswith("--plate-from folder")
    rows = made(tmp_path / "in", tmp_path, "--plate-from", "folder")
    assert [r["Metadata_Plate"] for r in rows] == ["P1", "P2"]
    assert rows[0]["PathName_GFP"] == str(tmp_path / "in/P1/GFP")
    # by the names of files
    regex = r"(?P<well>A01)_(?P<channel>[A-Z]+)\.png"
    for plate in ("P1", "P2"):
        touch(tmp_path / "re" / plate, "DAPI/A01_DAPI.png", "GFP/A01_GFP.png")
    assert [r["Metadata_Plate"] for r in made(tmp_path / "re", tmp_path, "--regex", regex)] == [
        "P1",
        "P2",
    ]


def applied(todo: str) -> list[list[str]]:
    """Give what an advice says to add to a command, each way by itself."""
    ways = re.findall(r"SOURCE the folder of one of them, ([^;]+)", todo)
    words = [["SOURCE", way] for way in ways]
    for option in re.findall(r"--(?:exclude '[^']+'|plate-from folder)", todo):
        words.append(shlex.split(option))
    return words


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        (["201/A_A01_s1_w1", "202/A_A01_s1_w1"], False),
        (["201/A_A01_s1_w1", "202/A_A01_s1_w1"], True),
        ([f"{p}w{w}/A_A01_s1_w{w}" for p in (1, 2) for w in (1, 2)], False),
        ([f"{p}w{w}/A_A01_s1_w{w}" for p in (1, 2) for w in (1, 2)], True),
        (["P/A_A01_s1_w1", "P/old [1]/A_A01_s1_w1"], True),
        (["P/A_A01_s1_w1", "P/old [1]/A_A01_s1_w1"], False),
        (["P/a/A_A01_s1_w1", "P/a/A_A01_s1_w2", "P/b/A_A01_s1_w1"], False),
        ([f"{p}/TimePoint_1/{z}A_A01_s1_w1" for p in (1, 2) for z in ("", "ZStep_1/")], False),
    ],
)
def test_what_is_advised_for_two_files_of_a_place_gives_a_list(
    files: list[str], listed: bool, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    touch(source, *(f"{name}.tif" for name in files))
    if listed:
        source = tmp_path / "list.txt"
        source.write_text("".join(f"{tmp_path}/in/{name}.tif\n" for name in files))
    ways = applied(fails("more than one file", source))
    assert ways
    for way in ways:
        words = [way[1]] if way[0] == "SOURCE" else [str(source), *way]
        assert made(words[0], tmp_path, *words[1:])


# --- what is left out


def test_a_channel_without_planes_keeps_all_projections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = "P/TimePoint_1"
    touch(
        tmp_path / "in",
        *(f"{folder}/ZStep_{z}/P_A01_s1_w1.tif" for z in (0, 1, 2)),
        f"{folder}/ZStep_0/P_A01_s1_w2.tif",
    )
    fails("incomplete image sets", tmp_path / "in")
    said = capsys.readouterr().err
    assert "channel w2 has no z planes in P, other channels have: --channel w2= lists" in said
    # both ways that are told
    rows = made(tmp_path / "in", tmp_path, "--channel", "w2=")
    assert [r["Metadata_ZPlane"] for r in rows] == ["1", "2"]
    assert "1 projection of z planes that are listed, left out: " in capsys.readouterr().err
    (row,) = made(tmp_path / "in", tmp_path, "--incomplete", "drop")
    assert {row["PathName_w1"], row["PathName_w2"]} == {str(tmp_path / "in" / folder / "ZStep_0")}


def test_a_well_without_planes_keeps_its_projection_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for well, steps in (("A01", (0, 1, 2)), ("A02", (0,))):
        touch(tmp_path / "in", *(f"TimePoint_1/ZStep_{z}/P_{well}_s1_w1.tif" for z in steps))
    rows = made(tmp_path / "in", tmp_path)
    assert [(r["Metadata_Well"], r["Metadata_ZPlane"]) for r in rows] == [
        ("A01", "1"),
        ("A01", "2"),
        ("A02", ""),
    ]
    said = capsys.readouterr().err
    path = f"{tmp_path}/in/TimePoint_1/ZStep_0/P_{{}}_s1_w1.tif"
    assert f"1 projection of z planes that are listed, left out: {path.format('A01')}" in said
    stays = "1 image without a z plane, beside planes of other places or channels, listed: "
    assert stays + path.format("A02") in said


def test_what_is_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(
        tmp_path / "in",
        "P/P_A01_s1_w1.tif",
        "P/P_A01_s1_w1_thumb.tif",
        "P/.trash\n/P_A02_s1_w1.tif",
        "P/notes.xml",
    )
    made(tmp_path / "in", tmp_path, "--exclude", "*.xml")
    (said,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("left out")]
    assert set(said.removeprefix("left out: ").split(", ")) == {
        "1 thumbnails (P/P_A01_s1_w1_thumb.tif)",
        "1 hidden ('P/.trash\\n')",
        "1 excluded (P/notes.xml)",
    }


def test_hidden_folders_of_a_bucket_are_named(
    server: S3Server, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("P/P_A01_s1_w1.tif", "P/.old/P_A01_s1_w1.tif", ".old/P_A01_s1_w1.tif"):
        bucket.put(name, b"")
    assert len(made(f"s3://{bucket.name}", tmp_path, "--endpoint-url", server.url)) == 1
    assert "2 hidden (.old/P_A01_s1_w1.tif)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        ("P2/P2_A01_s1_w1_thumb", "well A01 in P2, channel w1 in P2"),
        ("P1/P1_A02_s1_w1_thumb", "well A02 in P1"),
        ("P1/P1_A01_s1_w3_thumbB9D0B234-C57E-4A13-9664-D2CA89B4E7F8", "channel w3 in P1"),
        ("P1/thumbs/P1_A01_s1_w3_thumb", "channel w3 in P1/thumbs"),
    ],
)
def test_what_is_there_as_a_thumbnail_alone_is_refused(
    lost: str, what: str, tmp_path: Path
) -> None:
    touch(tmp_path / "in/P1", "P1_A01_s1_w1.tif", "P1_A01_s1_w2.tif")
    touch(tmp_path / "in/P1", "P1_A01_s2_w1_thumb.tif", "thumbs/P1_A01_s1_w1_thumb.tif")
    # w3 is no part of w30
    touch(tmp_path / "in/P1", "P1_A01_s1_w30B9D0B234-C57E-4A13-9664-D2CA89B4E7F8.tif")
    assert len(made(tmp_path / "in", tmp_path)) == 1
    touch(tmp_path / "in", f"{lost}.tif")
    todo = fails(f"there are thumbnails, but no images of {what}", tmp_path / "in")
    assert "--exclude" in todo
    assert len(made(tmp_path / "in", tmp_path, "--exclude", f"{lost}.tif")) == 1


def test_a_channel_that_an_index_does_not_name_is_not_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in/Images"
    harmony(folder / "Index.xml", PLAIN)
    touch(folder, *names(PLAIN))
    # another field of channels that it names is left out, and named
    touch(folder, PLAIN.format(f=3, c=1))
    assert len(made(tmp_path / "in", tmp_path)) == 2
    assert "1 file not in the index, left out: " in capsys.readouterr().err
    touch(folder, PLAIN.format(f=1, c=5))
    fails("2 files not in the index, and so nothing of channel 5: ", tmp_path / "in")
    assert len(made(tmp_path / "in", tmp_path, "--exclude", "*-ch5*")) == 2


def test_a_file_that_a_list_names_twice_is_taken_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "list.txt"
    path.write_text("/d/P_A01_s1_w1.tif\n/d/P_A02_s1_w1.tif\n/d/P_A01_s1_w1.tif\n")
    assert len(made(path, tmp_path)) == 2
    said = "1 file that the list names again, taken once: /d/P_A01_s1_w1.tif"
    assert said in capsys.readouterr().err
    # of an index above its images, too
    harmony(tmp_path / "P/Index.xml", PLAIN)
    touch(tmp_path / "P/Images", *names(PLAIN))
    path.write_text("P/Index.xml\n" + "".join(f"P/Images/{n}\n" * 2 for n in names(PLAIN)))
    assert [r["Metadata_PositionX"] for r in made(path, tmp_path)] == ["1E-06", "2E-06"]
