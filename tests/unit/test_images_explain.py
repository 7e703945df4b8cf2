"""What --explain says, of a source that is understood and of one that is not."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from conftest import HOSTILE, refused

from bpcp.errors import BpcpError, Exit
from bpcp.images.__main__ import main
from bpcp.images.explain import cut, width

GUID = "B9D0B234-C57E-4A13-9664-D2CA89B4E7F8"


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("", encoding="utf-8")
    return path


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    folder = tmp_path / HOSTILE
    for plate, well, wave in itertools.product(("P1", "P2"), ("A01", "H12"), (1, 2)):
        for at in (
            f"TimePoint_1/{plate}_{well}_s1_w{wave}{GUID}.tif",
            f"x{plate}_{well}_w{wave}.tif",
        ):
            touch(folder / plate / at)
        touch(folder / plate / f"{plate}_{well}_s1_w{wave}_thumb{GUID}.tif")
    touch(folder / ".hidden.tif")
    touch(folder / "Thumbs.db")
    touch(folder / "overlays" / "o.png")
    return folder


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    folder = tmp_path / "by hand"
    for what, site, stain in itertools.product(("DMSO", "it's ü"), (1, 2), ("DAPI", "GFP")):
        touch(folder / f"{what}_{site}_{stain}.tif")
    return folder


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


def told(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> list[str]:
    """Give the lines that a call prints on stdout; it has to succeed."""
    assert main([str(a) for a in argv]) == Exit.OK
    out = capsys.readouterr().out.splitlines()
    assert all(width(line) <= int(os.environ["COLUMNS"]) for line in out)
    return out


def test_one_table_says_how_names_are_read_and_what_is_left_out(
    plates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(plates.rglob("*"))
    name = f"TimePoint_1/P1_A01_s1_w1{GUID}"
    lines = told(capsys, plates, "--explain", "--exclude", "overlays/*")
    assert lines == [
        "preset imagexpress: Molecular Devices ImageXpress, MetaXpress",
        "  16 of 16 names fit",
        "",
        "files  plate  well  site  channel  t  example",
        f"    8  P1     A01   1     w1       1  {cut(f'P1/{name}.tif', 42)}",
        "    8  xP1    A01         w1          P1/xP1_A01_w1.tif",
        f"    8  left out: thumbnails           {cut(f'P1/P1_A01_s1_w1_thumb{GUID}.tif', 42)}",
        "    1  left out: .db, not an image    Thumbs.db",
        "    1  left out: excluded             overlays/o.png",
        "    1  left out: hidden               .hidden.tif",
        "8 image sets, 4 plates, 8 wells; channels: w1, w2",
    ]  # fmt: skip
    assert sorted(plates.rglob("*")) == before


def test_the_table_is_wider_where_the_screen_is(
    plates: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("40", "60", "160"):
        monkeypatch.setenv("COLUMNS", columns)
        text = "\n".join(told(capsys, plates, "--explain"))
        assert (f"P1/TimePoint_1/P1_A01_s1_w1{GUID}.tif" in text) == (columns == "160")


def test_it_says_by_which_evidence_a_preset_was_taken(
    plates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regex = r"(?P<plate>[^/]+)_(?P<well>[A-P]\d\d)_.*(?P<channel>w\d)"
    assert told(capsys, plates, "--explain", "--regex", regex)[1] == "  given by --regex"
    lines = told(capsys, plates, "--explain", "--preset", "imagexpress")
    assert lines[1] == "  given by --preset; 16 of 17 names fit"
    for well in ("A01", "H12"):
        touch(plates / "P1" / f"r01c0{well[-1]}f01p01-ch1sk1fk1fl1.tiff")
    lines = told(capsys, plates, "--explain", "--preset", "imagexpress", "--exclude", "over*")
    assert lines[1:3] == [
        "  given by --preset; 16 of 18 names fit",
        "  other presets fit in part: phenix 11%",
    ]
    assert "    2  left out: imagexpress does not fit" in "\n".join(lines)


def test_the_index_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(__file__).parent / "recorded"
    indexes = sorted(folder.rglob("Index*.xml")) or sorted(folder.rglob("*.xdce"))
    assert indexes
    home = tmp_path / "P1"
    text = indexes[0].read_text(encoding="utf-8")
    touch(home / indexes[0].name).write_text(text, encoding="utf-8")
    names = {w for w in text.replace("<", ">").split(">") if w.endswith((".tiff", ".tif"))}
    for name in names:
        touch(home / name)
    lines = told(capsys, tmp_path, "--explain", "--incomplete", "drop")
    assert f"; index P1/{indexes[0].name}" in lines[1]


def test_hostile_names_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for well in ("A01", "A02"):
        touch(tmp_path / "a\x1b[31m\nb" / f"漢字\u202e_{well}_s1_w1.tif")
    text = "\n".join(told(capsys, tmp_path, "--explain"))
    assert text.replace("\n", "").isprintable()
    assert "\\x1b" in text


def test_many_forms_and_kinds_fit_on_a_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        touch(tmp_path / f"P{'-x' * number}_A{number + 1:02}_s1_w1.tif")
        touch(tmp_path / f"note.x{number}")
    lines = told(capsys, tmp_path, "--explain", "--plate-from", "folder")
    assert len(lines) <= 24
    assert "25  in 25 more forms" in "\n".join(lines)
    assert "25  left out: 25 more kinds" in "\n".join(lines)


def test_an_error_ends_it_as_it_ends_the_command(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table comes first, then the same error."""
    for name in ("cells_A01_1.tif", "cells_B01_1.tif"):
        touch(plates / "other" / name)
    argv = [str(plates), "--preset", "imagexpress"]
    real = refused(Exit.MALFORMED_INPUT, "", main, [*argv, "-o", str(tmp_path / "l.csv")])
    capsys.readouterr()
    shown = refused(Exit.MALFORMED_INPUT, "", main, [*argv, "--explain"])
    assert (str(shown), shown.todo) == (str(real), real.todo)
    assert "    3  left out: imagexpress does not fit" in capsys.readouterr().out


def test_several_presets_that_fit_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bpcp.images import presets

    touch(tmp_path / "P" / "P_A01_s1_w1.tif")
    both = {**presets.PRESETS, "copy": presets.PRESETS["imagexpress"]}
    monkeypatch.setattr(presets, "PRESETS", both)
    refused(Exit.MALFORMED_INPUT, "several presets", main, [str(tmp_path), "--explain"])
    out = capsys.readouterr().out
    assert out.startswith("several presets fit\n  presets fit in part: imagexpress 100%")
    assert "P/P_A01_s1_w1.tif" in out


# --- names that no preset fits -------------------------------------------------------------------


def test_a_proposal_is_shown_and_never_used(
    unknown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "l.csv"
    argv = [str(unknown), "--channel", "DAPI=DNA"]
    error = refused(
        Exit.MALFORMED_INPUT, "what named these images?", main, [*argv, "--explain", "-o", str(out)]
    )
    regex = r"'(?P<well>[^/_]+)_(?P<site>\d+)_(?P<channel>[^/.]+)\.tif$'"
    assert error.todo.endswith(f"\n  proposed, to be confirmed: --regex {regex}")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "no preset fits",
        "",
        "files  plate    well  site  channel  example",
        "    8  by hand  DMSO  1     DAPI     DMSO_1_DAPI.tif",
        "",
        "A proposal made from the names; confirm its reading, or change it:",
        "  DMSO_1_DAPI.tif → plate by hand, well DMSO, site 1, channel DAPI",
        "  it's ü_1_GFP.tif → plate by hand, well it's ü, site 1, channel GFP",
        "  it's ü_2_DAPI.tif → plate by hand, well it's ü, site 2, channel DAPI",
        "  4 image sets, 1 plate, 2 wells; channels: DAPI, GFP",
        f"  bpcp images {str(unknown)!r} --out {out} --channel DAPI=DNA \\",
        f"    --regex {regex}",
    ]
    assert not out.exists()
    assert refused(Exit.MALFORMED_INPUT, "what named", main, [*argv, "-o", str(out)]).todo == (
        error.todo
    )
    assert not out.exists()
    assert main([*argv, "-o", str(out), "--regex", regex.strip("'")]) == Exit.OK
    assert out.read_text(encoding="utf-8").count("\n") == 5


def test_what_varies_is_said_where_nothing_can_be_proposed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Übersicht", "neu", "neu besser", "x\ty"):
        touch(tmp_path / f"{name}.tif")
    error = refused(Exit.MALFORMED_INPUT, "what named", main, [str(tmp_path), "--explain"])
    assert "proposed" not in error.todo
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "  4 values: neu, neu besser, 'x\\ty', …"


def test_names_that_the_proposal_does_not_fit_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for well, stain in itertools.product(range(1, 9), ("DAPI", "GFP")):
        touch(tmp_path / f"x A{well} {stain}.tif")
    touch(tmp_path / "overview.tif")
    refused(Exit.MALFORMED_INPUT, "what named", main, [str(tmp_path), "--explain"])
    assert "    1  left out: the proposal does not fit  overview.tif" in capsys.readouterr().out


def test_presets_that_fit_part_of_the_names_are_named(
    unknown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(unknown / "P_A01_s1_w1.tif")
    refused(Exit.MALFORMED_INPUT, "imagexpress fits 11%", main, [str(unknown), "--explain"])
    assert "  presets fit in part: imagexpress 11%" in capsys.readouterr().out


def test_no_folder_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BpcpError) as caught:
        main([str(tmp_path / "nothing"), "--explain"])
    assert caught.value.code == Exit.NO_INPUT
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "room", "wanted"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "ab…efg"),
        ("漢字漢字", 8, "漢字漢字"),
        ("漢字漢字x", 8, "漢…漢字x"),
        ("u\u0308u\u0308", 2, "u\u0308u\u0308"),
        ("abc", 1, "…"),
    ],
)
def test_texts_are_cut_in_their_middle(text: str, room: int, wanted: str) -> None:
    assert cut(text, room) == wanted
    assert width(wanted) <= room


def test_names_that_differ_in_numbers_alone_are_one_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row, col, site, channel in itertools.product((1, 2), (1, 2, 11), (1, 2), (1, 2)):
        at = f"P7/Images/r{row:02}c{col:02}f{site:02}p01-ch{channel}sk1fk1fl1.tiff"
        touch(tmp_path / at)
    lines = told(capsys, tmp_path, "--explain")
    (form,) = [line for line in lines if line.startswith("   ")]
    assert form.startswith("   24  P7     A01   1     1        1  1  P7/Images/r01c01f01")
