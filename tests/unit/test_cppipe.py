r"""The text of pipeline files, as CellProfiler reads it."""

from __future__ import annotations

import pytest
from conftest import EXPORT, load_data, pipeline_text
from cp3 import escaped, version_4

from bpcp.cppipe import Text, decoded, label, spelled, unfolded, value

# as CellProfiler has it
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Elsewhere...\\x7C/a", "Elsewhere...|/a"),
        ("All\\x3A Across cycles", "All: Across cycles"),
        (r"\\\\g<Plate>_Illum", r"\g<Plate>_Illum"),
        (r"Default Output Folder\x7C\\\\g<Plate>/a", r"Default Output Folder|\g<Plate>/a"),
        # with a bar elsewhere, the backslashes stay doubled
        (r"a\x7Cb/\\\\g<Plate>", r"a|b/\\g<Plate>"),
        (r"\g<Plate>", r"\g<Plate>"),
        (r"\xff\xfeY\x00e\x00s\x00", "Yes"),
        (r"\xff\xfe", ""),
        (r"\xff\xfe\x5B\x00{\x00\'\x00P\x00\'\x00\x3A\x00", "[{'P':"),
        (r"\xff\xfe\\\x00g\x00<\x00W\x00>\x00", r"\g<W>"),
        (r"\xff\xfeE\x00|\x00\xe9\x00", "E|é"),
        ("ü", "ü"),
        ("y", "y"),
        ("\\x7Cü", "|Ã¼"),
        ("C:\\xyz", "C:\\xyz"),
        (" a", " a"),
    ],
)
def test_values(written: str, read: str) -> None:
    assert value(written) == read


@pytest.mark.parametrize(
    "wanted",
    [
        "", "Yes", "Elsewhere...|/a b", r"Default Output Folder sub-folder|\g<Plate>/x",
        r"C:\x86\new", "ü", "日本", "a ", " a", "a\nb", "\U0001f52c", r"\\\\g<W>", "a|b/日\\x",
    ],
)  # fmt: skip
def test_a_value_is_spelled_so_that_it_is_read(wanted: str) -> None:
    written = spelled(wanted)
    assert value(written) == wanted
    assert written == written.rstrip() and "\n" not in written


@pytest.mark.parametrize("wanted", ["ÿes", "thornþ", "a\x00b"])
def test_what_has_no_spelling(wanted: str) -> None:
    with pytest.raises(ValueError, match="can't be given"):
        spelled(wanted)


def test_labels() -> None:
    assert label(r"Hidden\x3A in batch mode") == "Hidden: in batch mode"
    assert label(r"Name the flag\'s category") == "Name the flag's category"
    assert label("Folder") == "Folder"


def test_a_pipeline_of_cellprofiler_3_is_the_same() -> None:
    new = pipeline_text(load_data(keys="Plate"), EXPORT)
    for old in (version_4(new), escaped(new), version_4(new).replace("\n", "\r\n")):
        found = Text(old)
        assert found.blocks
        for one, other in zip(Text(new).blocks, found.blocks, strict=True):
            assert (one.name, one.enabled, one.revision) == (
                other.name, other.enabled, other.revision
            )  # fmt: skip
            assert [(s.label, s.value) for s in one.settings] == [
                (s.label, s.value) for s in other.settings
            ]
    assert Text(version_4(new)).header["Version"] == "4"


def test_a_module_may_end_with_its_switch() -> None:
    # CellProfiler 2 knew no pause
    for state in (True, False):
        text = f"Head:\n\nCrop:[module_num:1|enabled:{state}]\n    A:b\n"
        assert Text(text).blocks[0].enabled is state
    assert Text("Head:\n\nCrop:[module_num:1]\n    A:b\n").blocks[0].enabled


def test_no_more_modules_than_the_header_counts() -> None:
    text = pipeline_text(load_data(), EXPORT).replace("Version:5\n", "Version:5\nModuleCount:1\n")
    found = Text(text)
    assert (found.count, len(found.blocks), len(found.every)) == (1, 1, 2)
    more = Text(found.with_module("\nCrop:[module_num:2]\n    A:b\n"))
    assert more.count == 2
    assert [b.name for b in more.blocks] == ["LoadData", "Crop"]
    assert more.every[2].settings == [
        # two lines and an empty one below
        type(s)(s.label, s.value, s.raw, s.line + 3)
        for s in found.every[1].settings
    ]


def test_without_a_count_every_module_is_read() -> None:
    found = Text(pipeline_text(load_data(), EXPORT))
    assert found.count is None
    more = Text(found.with_module("\nCrop:[module_num:3]\n    A:b\n"))
    assert [b.name for b in more.blocks] == ["LoadData", "ExportToSpreadsheet", "Crop"]


def test_a_module_is_added_before_the_list_of_images() -> None:
    listed = '"Version":"1","PlaneCount":"0"\n"URL","Series","Index","Channel"\n'
    text = pipeline_text(load_data()).replace("Version:5\n", "Version:5\nModuleCount:1\n")
    more = Text(text + "\n" + listed).with_module("\nCrop:[module_num:2]\n    A:b\n")
    assert more.endswith(f"\nCrop:[module_num:2]\n    A:b\n\n{listed}")
    assert [b.name for b in Text(more).blocks] == ["LoadData", "Crop"]


def test_settings_follow_without_a_line_between() -> None:
    # to CellProfiler the second is a setting of the first
    found = Text("Head:\n\nCrop:[module_num:1]\n    A:b\nTile:[module_num:2]\n    C:d\n").blocks
    assert [(b.name, [s.label for s in b.settings]) for b in found] == [
        ("Crop", ["A", "Tile", "C"])
    ]


def test_nothing_is_read_behind_two_empty_lines() -> None:
    found = Text("Head:\n\nCrop:[module_num:1]\n    A:b\n\n\nTile:[module_num:2]\n").every
    assert [b.name for b in found] == ["Crop"]


def test_a_file_that_is_no_utf8_is_read_with_all_its_escapes() -> None:
    assert decoded("Größe".encode()) == "Größe"
    assert decoded(b"Gr\xf6\\xdfe") == "Größe"


def test_a_text_in_one_line() -> None:
    text = version_4(pipeline_text(load_data()))
    folded = text.encode("unicode_escape").decode()
    assert "\n" not in folded
    assert unfolded(folded) == text
    assert unfolded(text) == text
    assert unfolded("no line end") == "no line end"
