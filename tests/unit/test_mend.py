from __future__ import annotations

import pytest
from conftest import EXPORT, SAVE, load_data, pipeline_text

from bpcp.mend import Mend, mended, unmended

OFF = Mend(3, "enabled", "True", "False", "off")
NOTES = (
    "\nCrop:[module_num:2|notes:['|enabled:True|', 'Crop:[x']|enabled:True|wants_pause:False]\n"
    "    Apply:First\n    Folder:Elsewhere...\\x7C/a b\n    Apply:Second  \n"
)


def text(*modules: str) -> str:
    return pipeline_text(load_data(), *modules)


def change(label: str, old: str, new: str, module: int = 2, occurrence: int = 0) -> Mend:
    return Mend(module, label, old, new, "said", occurrence)


def test_a_setting_is_changed_and_changed_back() -> None:
    before = text(NOTES, SAVE, EXPORT)
    mend = change("Number of digits", "4", "5", module=3)
    after = mended(before, [mend])
    assert after == before.replace("Number of digits:4", "Number of digits:5")
    assert unmended(after, [mend]) == before


def test_only_the_named_occurrence_of_the_named_module_changes() -> None:
    before = text(NOTES, NOTES)
    after = mended(before, [change("Apply", "Second", "Third", module=3, occurrence=1)])
    first, second = after.split("Crop:[module_num:2")[1:]
    assert "Apply:Second" in first and "Apply:Third" not in first
    assert "Apply:Third" in second and "Apply:First" in second


def test_a_module_is_switched_off_though_its_notes_say_the_same() -> None:
    before = text(SAVE, NOTES)
    after = mended(before, [OFF])
    assert "notes:['|enabled:True|', 'Crop:[x']|enabled:False|wants_pause" in after
    assert after.count("enabled:False") == 1
    assert unmended(after, [OFF]) == before


def test_disabled_modules_count() -> None:
    before = text(SAVE.replace("enabled:True", "enabled:False"), SAVE)
    after = mended(before, [change("When to save", "Every cycle", "Last cycle", module=3)])
    assert after.index("Last cycle") > after.index("Every cycle")


def test_old_spellings_and_blanks_at_the_end_of_a_line_are_known() -> None:
    before = text(NOTES)
    mends = [
        change("Folder", "Elsewhere...|/a b", "Default Output Folder|"),
        change("Apply", "Second", "Fourth", occurrence=1),
    ]
    after = mended(before, mends)
    assert "    Folder:Default Output Folder|\n    Apply:Fourth\n" in after
    # as CellProfiler would have written the user's own
    assert "    Folder:Elsewhere...|/a b\n    Apply:Second\n" in unmended(after, mends)


def test_line_ends_of_windows_stay() -> None:
    before = text(SAVE).replace("\n", "\r\n")
    after = mended(before, [change("Number of digits", "4", "5")])
    assert after == before.replace("digits:4", "digits:5")


@pytest.mark.parametrize(
    "mend",
    [
        change("Number of digits", "3", "5"),
        change("Number of digits", "4", "5", module=9),
        change("Number of digits", "4", "5", occurrence=1),
        change("Number of", "digits:4", "5"),
        Mend(2, "enabled", "False", "True", "said"),
    ],
)
def test_what_is_not_there_is_not_changed(mend: Mend) -> None:
    with pytest.raises(ValueError, match=r"no module|has no"):
        mended(text(SAVE), [mend])


def test_a_module_that_knows_no_switch_is_not_switched() -> None:
    with pytest.raises(ValueError, match="has no enabled"):
        mended(text(SAVE, "\nOld:[module_num:3|svn_version:'x']\n    A:b\n"), [OFF])


def test_what_cellprofiler_renamed_stays_mended_and_the_rest_is_taken_back() -> None:
    mends = [change("Number of digits", "4", "5"), change("When to save", "Every cycle", "Never")]
    written = mended(text(SAVE), mends).replace("Number of digits", "Digits")
    back = unmended(written, mends)
    assert "Digits:5" in back and "When to save:Every cycle" in back
