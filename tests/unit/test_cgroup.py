from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bpcp import cgroup
from bpcp.cgroup import Group, group


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Make a process in a control group of v1, on a plain file system."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("4:memory:/job\n1:cpu:/\n0::/\n")
    folder = tmp_path / "cgroup" / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.max_usage_in_bytes").write_text("1\n")
    return folder


def test_none_without_control_groups(tmp_path: Path) -> None:
    with group(tmp_path, tmp_path) as found:
        assert found is None


def test_none_where_memory_is_not_counted_inside(own: Path, tmp_path: Path) -> None:
    # as in cgroup v2 where the group above does not pass its controllers on
    with group(tmp_path / "proc", tmp_path / "cgroup") as found:
        assert found is None
    assert [p.name for p in own.iterdir()] == ["memory.max_usage_in_bytes"]


def test_none_where_none_may_be_made(own: Path, tmp_path: Path) -> None:
    taken = own / f"bpcp-{os.getpid()}"
    taken.mkdir()
    with group(tmp_path / "proc", tmp_path / "cgroup") as found:
        assert found is None
    assert taken.is_dir()


def test_none_where_the_groups_do_not_count_memory(own: Path, tmp_path: Path) -> None:
    (own / "memory.max_usage_in_bytes").unlink()
    with group(tmp_path / "proc", tmp_path / "cgroup") as found:
        assert found is None
    assert list(own.iterdir()) == []


def test_a_peak_that_can_not_be_read(tmp_path: Path) -> None:
    found = Group(tmp_path, tmp_path / "memory.peak")
    assert found.peak_mb() is None
    (tmp_path / "memory.peak").write_text("max\n")
    assert found.peak_mb() is None
    (tmp_path / "memory.peak").write_text(f"{3 * 1024**2}\n")
    assert found.peak_mb() == 3


def test_a_process_that_has_ended_does_not_join(tmp_path: Path) -> None:
    Group(tmp_path / "gone", tmp_path).add(1)


def test_a_group_that_stays_busy_is_left(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup.time, "sleep", lambda _: None)
    cgroup._remove(own)
    assert own.is_dir()
    cgroup._remove(own / "not there")


def test_the_kernel_counts_what_joins() -> None:
    with group() as found:
        if found is None:
            pytest.skip("no control group can be made here")
        code = "input(); x = bytearray(b'x') * 60_000_000"
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        found.add(process.pid)
        process.communicate(b"\n")
        peak = found.peak_mb()
        assert peak is not None and 57 < peak < 200
    assert not found.folder.exists()
