from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Screen, refused

from bpcp import slots
from bpcp.errors import Exit
from bpcp.limits import Limits
from bpcp.publish import sha256
from bpcp.slots import Carried, asked, carried, choose, fit
from bpcp.workspace import write_json


@pytest.mark.parametrize(
    ("jobs", "cores", "slots"),
    [
        ("8", 4, 8),
        ("100%", 4, 4),
        ("50%", 5, 2),
        ("10%", 4, 1),
        ("+2", 4, 6),
        ("-1", 4, 3),
        ("-9", 4, 1),
        ("010", 4, 10),
        ("0", 4, slots.NO_LIMIT),
        ("0%", 4, 1),
    ],
)
def test_jobs_as_gnu_parallel_takes_them(jobs: str, cores: int, slots: int) -> None:
    assert asked(jobs, cores) == slots


@pytest.mark.parametrize("jobs", ["", "two", "1.5", "8 ", "%", "+", "1234567", "٣", "8\n"])
def test_what_is_no_number_of_jobs(jobs: str) -> None:
    assert "50%" in refused(Exit.USAGE, "not a number of jobs", asked, jobs, 4).todo


def test_memory_leaves_room_for_what_else_runs() -> None:
    assert fit(10_000, 585) == 15
    assert fit(500, 585) == 1
    assert fit(0, 0) == 1


def roomy(free_gb: float) -> Limits:
    return Limits(mem_free_gb=free_gb, cores_seen=16, cores_allowed=16)


def keep(screen: Screen, process_mb: float) -> str:
    screen.fill(2)
    sha = sha256(screen.pipeline)
    write_json(
        screen.workspace.profile,
        {
            "pipeline_sha256": sha,
            "figures": {"set_s": 1.5},
            "prediction": {"process_mb": process_mb},
        },
    )
    return sha


def test_a_profile_of_this_pipeline_counts_and_no_other(screen: Screen) -> None:
    assert carried(screen.workspace, "x", roomy(8)) is None
    sha = keep(screen, 1985)
    found = carried(screen.workspace, sha, roomy(8))
    assert found == Carried(3, 1985, 1.5, 8)
    assert str(found) == (
        "memory carries 3 processes: 8.0 GB free, 1,985 MB each by the last profile"
    )
    assert carried(screen.workspace, "of another pipeline", roomy(8)) is None


def test_memory_decides_only_where_the_user_named_no_number() -> None:
    three = Carried(3, 1985, 1.5, 8)
    assert choose("", 16, None) == (16, "")
    assert choose("", 2, three) == (2, "")
    assert choose("", 16, three) == (3, f"3 at once, not 16: {three}")
    assert choose("8", 16, three) == (8, f"warning: -P 8, but {three}")
    assert choose("100%", 16, three)[0] == 16
    assert choose("2", 16, three) == (2, "")


def test_command(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slots, "read_limits", lambda: roomy(8))
    keep(screen, 1985)
    assert slots.main(screen.arguments()) == 0
    said = capsys.readouterr()
    assert said.out == "3\n" and said.err.startswith("3 at once, not 16")
    slots.main(screen.arguments("--jobs=8"))
    said = capsys.readouterr()
    assert said.out == "8\n" and said.err.startswith("warning: -P 8")
    slots.main(screen.arguments("-q"))
    assert capsys.readouterr() == ("3\n", "")
    slots.main(["-d", "x", "-p", str(Path("/nowhere/x.cppipe"))])
    assert capsys.readouterr() == ("16\n", "")
