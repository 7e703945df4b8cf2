"""Temporary folders, and those of the dead."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, Screen

from bpcp.scratch import own_prefix, scratch


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "shared; tmp"
    home.mkdir()
    monkeypatch.setenv("TMPDIR", str(home))
    return home


def test_it_is_private_and_gone_at_the_end(tmp: Path) -> None:
    with scratch("asked") as folder:
        assert folder.parent == tmp
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "x").touch()
    assert list(tmp.iterdir()) == []


def killed(tmp: Path) -> Path:
    """Leave a folder behind, as one does who is killed."""
    words = (
        "import os, signal; from bpcp.scratch import scratch\n"
        "with scratch('asked') as f: (f / 'x').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", words], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -9
    (left,) = tmp.iterdir()
    return left


def test_what_the_dead_left_goes_and_what_the_living_have_stays(tmp: Path) -> None:
    left = killed(tmp)
    with scratch("asked") as one:
        assert not left.exists()
        with scratch("asked") as two:
            assert sorted(tmp.iterdir()) == sorted([one, two])
        # of another purpose
        own_prefix("batch", tmp)
        assert list(tmp.iterdir()) == [one]


def test_it_goes_at_the_next_plan_also_where_nothing_is_asked(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(1)
    screen.plan("-q")
    # a process of its own would not know the other one
    monkeypatch.setattr(tempfile, "tempdir", None)
    home = tmp_path / "tmp"
    home.mkdir()
    monkeypatch.setenv("TMPDIR", str(home))
    left = killed(home)
    screen.plan("-q")
    assert not left.exists()


def test_what_somebody_planted_is_let_be(tmp: Path, tmp_path: Path) -> None:
    left = killed(tmp)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").touch()
    link = left.with_name(left.name + "-link")
    link.symlink_to(precious)
    theirs = left.with_name(left.name + "-theirs")
    theirs.mkdir()
    if os.getuid() == 0:
        os.chown(theirs, 65534, 65534)
    own_prefix("asked")
    assert not left.exists()
    assert link.is_symlink()
    assert (precious / "data").exists()
    assert theirs.exists() == (os.getuid() == 0)
