"""Presets of the user's own: a file alone adds one, and a malformed file is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HOSTILE, refused, rows_of
from conftest import ROOT as REPO

from bpcp.errors import Exit
from bpcp.images import __main__ as command
from bpcp.images import presetfile
from bpcp.images.presets import PRESETS, with_users

GOOD = """
[floor-2]
instruments = "the confocal on the second floor"
names = ['(?P<well>[A-H]\\d\\d)-(?P<site>\\d)-(?P<channel>\\w+)\\.tif']
plate_from = "folder"
[floor-2.examples]
"S12/A01-3-DAPI.tif" = "plate S12, well A01, site 3, channel DAPI"
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    source = tmp_path / HOSTILE / "S 12"
    source.mkdir(parents=True)
    for well, channel in (("A01", "DAPI"), ("A01", "GFP"), ("B02", "DAPI"), ("B02", "GFP")):
        (source / f"{well}-3-{channel}.tif").touch()
    return source.parent


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base" / "pipelines").mkdir(parents=True)
    return tmp_path / "base"


def written(base: Path, text: str) -> Path:
    path = base / "presets.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("named", [[], ["--preset", "floor-2"]])
@pytest.mark.parametrize("where", ["base", "pipeline", "here"])
def test_a_file_alone_adds_a_preset(
    images: Path,
    base: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    named: list[str],
) -> None:
    written(base, GOOD)
    out = base / "list.csv"
    if where == "here":
        monkeypatch.chdir(base)
        argv = ["-o", str(out)]
    else:
        out = base / "load_data_csv" / "d" / "load_data.csv"
        pipeline = base / "pipelines" / "any.cppipe"
        argv = ["-d", "d", *(["-b", str(base)] if where == "base" else ["-p", str(pipeline)])]
    assert command.main([str(images), *argv, *named]) == 0
    assert "preset floor-2: the confocal on the second floor" in capsys.readouterr().err
    rows = rows_of(out)
    assert [row["Metadata_Well"] for row in rows] == ["A01", "B02"]
    assert {row["Metadata_Plate"] for row in rows} == {"S 12"}
    assert rows[0]["FileName_GFP"] == "A01-3-GFP.tif"


def test_without_the_file_there_is_no_such_preset(images: Path, base: Path) -> None:
    error = refused(
        Exit.USAGE,
        "--preset floor-2: no such preset; there are imagexpress, phenix",
        lambda: command.main([str(images), "-d", "d", "-b", str(base), "--preset", "floor-2"]),
    )
    assert str(base / "presets.toml") in error.todo


def test_the_users_projections_thumbnails_and_index_files_are_known(
    base: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(
        base,
        GOOD.replace(
            'plate_from = "folder"',
            "plate_from = 'folder'\nthumbnail = '_small\\.tif$'\nprojection = '/MIP/'"
            "\nindex = 'names\\.htd2'\nreader = 'htd'",
        )
        + "'S12/MIP/A01-3-DAPI.tif' = 'projection: plate MIP, well A01, site 3, channel DAPI'\n"
        "'S12/A01-3-DAPI_small.tif' = 'thumbnail'\n",
    )
    (images / "S 12" / "names.htd2").write_text('"WaveName1", "x"\n')
    (images / "S 12" / "A01-3-DAPI_small.tif").touch()
    command.main([str(images), "-d", "d", "-b", str(base)])
    told = capsys.readouterr().err
    assert "left out: 1 thumbnails" in told
    assert "htd2" not in told


def test_the_example_of_the_guide_is_one(tmp_path: Path) -> None:
    guide = (REPO / "docs" / "images.md").read_text(encoding="utf-8")
    text = re.search(r"(?m)(^    \[our-confocal\]\n(?:^(?:    .*)?\n)+)", guide)
    assert text is not None
    found = presetfile.read(written(tmp_path, re.sub("(?m)^    ", "", text[1])), PRESETS)
    assert list(found) == ["our-confocal"]


def changed(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (changed('"folder"', "folder"), "not TOML"),
        (changed("[floor-2]\n", ""), "instruments: stands before the first"),
        (changed("floor-2", "regex"), "preset regex: no name for a preset"),
        (changed("[floor-2", "['a b'"), "preset a b: no name for a preset"),
        (changed("floor-2", "phenix"), "preset phenix: the name is taken"),
        (changed("plate_from", "plates_from"), "plates_from: no such key"),
        (changed("names = [", "names = [1, "), "names: not a list of texts"),
        (changed('plate_from = "folder"', "plate_from = 1"), "plate_from: not a text"),
        (changed("plate_from =", "needs_folder ="), "needs_folder: not true or false"),
        (changed('"plate S12, well', '1 # "'), "examples: not a table of texts"),
        (changed('"folder"', '"path"'), "plate_from: no 'path'"),
        (changed("plate_from =", "reader ="), "reader: no 'folder'"),
        (changed('plate_from = "folder"', "index = 'x'"), "reader: is missing beside index"),
        (changed('plate_from = "folder"', "reader = 'htd'"), "index: is missing beside reader"),
        (changed('plate_from = "folder"', "holds = 'x'"), "export: is missing beside holds"),
        (changed('instruments = "the', '# "the'), "instruments: is missing"),
        (changed("names = [", "sources = ["), "names: is missing"),
        (changed('"S12/A01', '#"S12/A01'), "examples: is missing"),
        (changed("[floor-2.examples]", "[floor-2.examples]\n[x]"), "examples: is missing"),
        (changed("(?P<well>", "(?P<well"), "names, number 1: bad character in group name"),
        (changed('"folder"', "\"folder\"\nbetween = '('"), "between: missing )"),
        (changed("<channel>", "<row>"), "names, number 1: a group row, but none col"),
        (changed("<channel>", "<y>"), "names, number 1: a group y, but none x"),
        (changed("<well>", "<well_number>"), "numbered: is missing beside the group well_number"),
        (
            lambda text: re.sub("<[a-z]+>", lambda m: f"<My{m[0][1:]}", text),
            "number 1: none of its groups has a known name",
        ),
        (changed("'(?P", "'x', '(?P<well>y)', '(?P"), "number 1: none of its groups"),
        (changed("'(?P", "'(?P<well>y)', '(?P"), "examples: none for number 1 of the names"),
        (changed("site 3", "site 4"), "site 3, channel DAPI', not as 'plate S12, well A01, site 4"),
        (changed("A01-3-DAPI.tif", "A01.tif"), "'S12/A01.tif' reads as 'nothing'"),
        (changed('"folder"', "\"folder\"\nnames_of = ['x']"), "names_of: no preset 'x'"),
    ],
)
def test_a_malformed_file_is_refused(
    tmp_path: Path, change: Callable[[str], str], what: str
) -> None:
    path = written(tmp_path, change(GOOD))
    error = refused(Exit.MALFORMED_INPUT, what, with_users, tmp_path)
    assert str(error).startswith(f"{path}: ")
    assert error.todo


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "presets.toml").write_bytes(GOOD.encode() + b"# \xff")
    refused(Exit.MALFORMED_INPUT, "not TOML", with_users, tmp_path)


# --- what instruments need beside their names -----------------------------------------------------


def listed(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "what", "todo"),
    [
        ("001001000.flex", "preset flex, Opera, Operetta (.flex): each .flex file holds", "TIFF"),
        ("a_1_MMStack_Pos0.ome.tif", "preset micromanager-stacks", "separate image files"),
    ],
)
def test_files_of_many_images_are_refused(tmp_path: Path, name: str, what: str, todo: str) -> None:
    source = listed(tmp_path / "p", name)
    error = refused(Exit.MALFORMED_INPUT, what, command.main, [str(source), "--dry-run"])
    assert todo in error.todo


WELLS = [f"W{well:04d}F0001T0001Z001C1.tif" for well in (1, 14, 96)]


@pytest.mark.parametrize(
    ("argv", "wells"),
    [
        ([], ["W0001", "W0014", "W0096"]),
        (["--plate-wells", "96"], ["A01", "B02", "H12"]),
        (["--plate-wells", "384"], ["A01", "A14", "D24"]),
        (["--plate-wells", "1536"], ["A01", "A14", "B48"]),
    ],
)
def test_numbered_wells_are_named_where_the_plate_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], wells: list[str]
) -> None:
    source = listed(tmp_path / "p" / "Image", *WELLS)
    out = tmp_path / "list.csv"
    command.main([str(source), "-o", str(out), *argv])
    rows = rows_of(out)
    assert [row["Metadata_Well"] for row in rows] == wells
    assert ("Metadata_Row" in rows[0]) == bool(argv)
    told = capsys.readouterr().err
    assert ("no name tells the plate's size: W0001 stays; --plate-wells 96" in told) != bool(argv)


def test_a_plate_that_is_too_small_is_refused(tmp_path: Path) -> None:
    source = listed(tmp_path / "p", *WELLS)
    argv = [str(source), "--dry-run", "--plate-wells", "48"]
    refused(Exit.USAGE, f"--plate-wells 48: {WELLS[2]!r} is well 96", command.main, argv)


def test_plate_wells_are_for_numbered_wells(tmp_path: Path) -> None:
    source = listed(tmp_path / "p", "p_A01_s1_w1.tif")
    argv = [str(source), "--dry-run", "--plate-wells", "96"]
    refused(Exit.USAGE, "those of imagexpress do not", command.main, argv)
    refused(Exit.USAGE, "invalid choice: 97", command.main, [*argv[:3], "97"])


def test_projections_beside_their_planes_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planes = [f"Image/W0001F0001T0001Z00{z}C1.tif" for z in (1, 2)]
    source = listed(tmp_path / "p", *planes, "Projection/W0001F0001T0001Z000C1.tif")
    out = tmp_path / "list.csv"
    command.main([str(source), "-o", str(out)])
    assert [row["Metadata_ZPlane"] for row in rows_of(out)] == ["1", "2"]
    assert "1 projection of z planes that are listed, left out" in capsys.readouterr().err
