"""How large a RAM disk is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Screen, refused

from bpcp import ramdisk
from bpcp.errors import Exit
from bpcp.limits import Limits
from bpcp.workspace import write_json

MB = 1 << 20


def limits(free_gb: float) -> Limits:
    return Limits(mem_free_gb=free_gb, cores_seen=8, cores_allowed=8)


def test_auto_takes_what_is_needed() -> None:
    assert ramdisk.size("auto", 500 * MB, 4.8, limits(32)) == (500 * MB, "")


def test_auto_leaves_the_memory_of_the_processes() -> None:
    found, warning = ramdisk.size("auto", 10**12, 4.8, limits(32))
    assert found == pytest.approx(0.8 * (32 - 4.8) * 1e9, abs=1)
    assert warning == ""


def test_without_memory_left_there_is_none() -> None:
    refused(
        Exit.BAD_SETTING, "no memory left for a RAM disk", ramdisk.size, "auto", MB, 5, limits(5)
    )


def test_a_size_is_obeyed_with_a_warning_where_it_is_too_large() -> None:
    assert ramdisk.size("1G", 0, 4.8, limits(32)) == (1024 * MB, "")
    found, warning = ramdisk.size("30G", 0, 4.8, limits(32))
    assert found == 30 * 1024 * MB
    assert "may need more than the 32.0 GB" in warning


@pytest.mark.parametrize("option", ["--ramdisk", "--space"])
@pytest.mark.parametrize("asked", ["big", "-1G", "1 G G", "1P", "0", "1000"])
def test_a_wrong_size_is_refused_before_anything_is_written(
    screen: Screen, option: str, asked: str
) -> None:
    screen.fill(2)
    refused(Exit.USAGE, f"{option} {asked}: not a size", screen.plan, f"{option}={asked}")
    assert not screen.workspace.status.exists()
    screen.plan(f"{option}=1.5G", "-q")


def test_what_slots_can_use(screen: Screen, tmp_path: Path) -> None:
    for i in range(4):
        screen.add(f"f{i}.tif", 3 * MB)
    screen.write()
    screen.plan("-q", "--chunk-size", "2", "--ramdisk", "auto")
    # two chunks of 6 MB, and one's output: as much again, and 64 MB beside it
    expected = 2 * (3 * 6 * MB + 64e6)
    assert ramdisk.wanted(screen.workspace, 2) == pytest.approx(expected, rel=0.01)


def test_the_last_profile_says_what_processes_take(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "2", "--ramdisk", "auto")
    monkeypatch.setattr(ramdisk, "read_limits", lambda: limits(4))
    words = [str(screen.workspace.status), "--slots", "2"]
    assert ramdisk.main(words) == Exit.OK
    assert int(capsys.readouterr().out) >= 64 * MB
    known = {"pipeline_sha256": screen.run_json()["file_sha256"]}
    write_json(screen.workspace.profile, {**known, "prediction": {"process_mb": 2000.0}})
    refused(Exit.BAD_SETTING, "the processes take 4.2 GB", ramdisk.main, words)
