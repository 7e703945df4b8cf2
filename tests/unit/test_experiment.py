from __future__ import annotations

from bpcp import experiment, mend
from bpcp.mend import Mend

TEXT = """\
CellProfiler Pipeline: http://www.cellprofiler.org
Version:5
ModuleCount:2

LoadData:[module_num:1|enabled:True]
    Process just a range of rows?:Yes

CreateBatchFiles:[module_num:2|enabled:True]
    Output folder path:/lab
"""
MENDS = [
    Mend(1, "Process just a range of rows?", "Yes", "No", ""),
    Mend(2, "enabled", "True", "False", ""),
]


def test_the_users_own_pipeline_is_told_of_whatever_ran() -> None:
    ran = mend.mended(TEXT, MENDS)
    assert ran != TEXT
    run = {"mends": [m.to_json() for m in MENDS], "batch": None}
    assert experiment.own_text(run)(ran) == TEXT


def test_a_batch_files_own_module_is_taken_out_and_the_users_stays() -> None:
    ran = mend.with_create_batch(mend.mended(TEXT, MENDS))
    assert ran.count("CreateBatchFiles:[") == 2
    run = {"mends": [m.to_json() for m in MENDS], "batch": "own"}
    assert experiment.own_text(run)(ran) == TEXT


def test_a_batch_file_of_the_user_shows_as_it_is() -> None:
    assert experiment.own_text({"batch": "given"})(TEXT) == TEXT


def test_taking_out_what_is_not_there_changes_nothing() -> None:
    plain = TEXT[: TEXT.index("CreateBatchFiles")]
    assert mend.without_create_batch(plain) == plain
