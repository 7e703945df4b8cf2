from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import FAKE, ROOT, Screen, refused

from bpcp.cellprofiler import Job
from bpcp.errors import BpcpError, Exit
from bpcp.limits import Limits
from bpcp.profile import __main__ as profile
from bpcp.profile import measure, trial, words
from bpcp.profile.measure import Observed, Work, observe
from bpcp.workspace import Json, hold, read_json

CORES = 2


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "read_limits", lambda: limits(8))
    monkeypatch.setattr(profile, "_MOST_SAMPLES", 3)


def limits(free_gb: float) -> Limits:
    return Limits(mem_free_gb=free_gb, cores_seen=CORES, cores_allowed=CORES)


def measured(screen: Screen, *more: str) -> Json:
    assert profile.main(screen.arguments("--samples", "3", *more)) == 0
    found = read_json(screen.workspace.profile)
    assert found is not None
    return found


def names(screen: Screen) -> set[str]:
    return {str(p.relative_to(screen.base)) for p in screen.base.rglob("*") if p.is_file()}


def test_what_is_measured_and_kept(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(8)
    found = measured(screen)
    alone, *together = screen.ran()
    assert len(alone) == 3 and {"f1.tif", "f8.tif"} <= set(alone)
    assert sorted(map(len, together)) == [3, 3]
    assert not set(together[0]) & set(together[1])
    assert found["image_sets"] == 8 and found["figures"]["together"] == 2
    assert [m["name"] for m in found["modules"]] == [
        "LoadData", "IdentifyPrimaryObjects", "SaveImages", "ExportToSpreadsheet",
    ]  # fmt: skip
    # a process inherits the mark of who started it until its exec; here that is all of pytest
    own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert 5 < found["figures"]["pss_mb"] <= found["figures"]["peak_mb"] < 300 + own_mb
    assert found["prediction"]["slots"] == 2
    assert found["machine"]["carries"] > 2
    for suffix in (".svg", ".png"):
        assert screen.workspace.profile.with_suffix(suffix).stat().st_size > 1000
    said = capsys.readouterr()
    assert "this machine carries 2 processes: cores; memory would carry " in said.out
    assert "all 8 image sets, 2 processes at once: " in said.out
    assert "EC2 on demand in us-east-1" in said.out
    assert "profile: 3 image sets, one process alone …\n" in said.err


def test_nothing_else_is_left(screen: Screen) -> None:
    screen.fill(4)
    before = names(screen)
    measured(screen)
    left = names(screen) - before
    run = screen.workspace.status.relative_to(screen.base)
    log = screen.workspace.log.relative_to(screen.base)
    assert left == {
        *(f"{run}/{name}" for name in ("lock", "profile.json", "profile.svg", "profile.png")),
        *(f"{log}/profile.{i}.log" for i in (1, 2, 3)),
    }
    assert list(screen.workspace.attempts.iterdir()) == []
    assert not list(Path(os.environ["TMPDIR"]).iterdir())


def test_a_run_goes_on_from_there(screen: Screen) -> None:
    screen.fill(4)
    measured(screen)
    assert screen.all().done == 4


def test_json_holds_all_types(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.fill(4)
    kept = measured(screen, "--json", "-q")
    said = capsys.readouterr()
    assert said.err == ""
    shown = json.loads(said.out)
    types = shown.pop("instances")["types"]
    assert shown == kept
    assert len(types) > 100
    assert [t["usd"] for t in types] == sorted(t["usd"] for t in types)


def test_dry_run_lists_and_writes_nothing(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(8)
    before = names(screen)
    assert profile.main(screen.arguments("--dry-run", "--samples", "3")) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "line\tMB\tchosen for"
    assert [row.split("\t")[0] for row in rows] == ["2", "5", "9"]
    assert rows[0].endswith("\tsmallest, first well") and rows[1].endswith("\tmedian")
    assert names(screen) == before and screen.ran() == []


def test_one_slot_needs_no_second_start(screen: Screen) -> None:
    screen.fill(4)
    found = measured(screen, "-P", "1")
    assert len(screen.ran()) == 1
    assert found["figures"]["together"] == 1 and found["prediction"]["slots"] == 1


def test_little_memory_carries_fewer(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.fill(4)
    monkeypatch.setattr(profile, "read_limits", lambda: limits(1.0))
    found = measured(screen)
    assert len(screen.ran()) == 1
    assert found["machine"]["carries"] == 1 and found["prediction"]["slots"] == 1
    assert "this machine carries 1 process: memory (1.0 GB free" in capsys.readouterr().out


def test_an_image_set_that_fails_is_told_with_its_log(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.fill(4)
    monkeypatch.setenv("FAKE_MODE", "exception")
    monkeypatch.setenv("FAKE_AT", "f4.tif")
    error = refused(Exit.SOME_FAILED, "of the profile failed", measured, screen)
    log = Path(error.todo.removeprefix("see "))
    assert "ValueError: could not convert" in log.read_text()
    assert not screen.workspace.profile.exists()
    assert list(screen.workspace.attempts.iterdir()) == []


def test_files_that_are_missing(screen: Screen) -> None:
    screen.fill(4)
    (screen.images / "f2.tif").unlink()
    found = measured(screen)
    assert found["notes"] == [
        "1 of the image sets looked at lack a file and were left out; a run names them"
    ]
    assert not any("f2.tif" in given for given in screen.ran())
    for path in screen.images.iterdir():
        path.unlink()
    refused(Exit.NO_INPUT, "f1.tif", measured, screen)


def test_images_in_a_bucket(screen: Screen) -> None:
    screen.header = ["FileName_DNA", "URL_DNA", "Metadata_Well"]
    screen.rows = [["a.tif", "s3://plates/a.tif", "A01"]]
    screen.write()
    refused(Exit.NO_INPUT, "s3://plates/a.tif", measured, screen)


def test_groups_and_types_are_those_of_the_whole_list(screen: Screen) -> None:
    from conftest import EXPORT, IDENTIFY, load_data

    screen.header.append("Metadata_Site")
    for i in range(6):
        screen.add(f"f{i}.tif", 8 + i, well=f"A{6 - i:02d}").append(f"{i:02d}" if i else "A")
    screen.write(load_data(keys="Well"), IDENTIFY, EXPORT)
    found = measured(screen)
    assert found["image_sets"] == 6
    assert all(given == sorted(given, reverse=True) for given in screen.ran())


def test_a_run_that_is_at_work_is_not_disturbed(screen: Screen) -> None:
    screen.fill(4)
    screen.workspace.status.mkdir(parents=True)
    with hold(screen.workspace.lock, "this run"):
        error = refused(Exit.STOPPED, "at work on this run", measured, screen)
    assert "the lock goes with it" in error.todo and screen.ran() == []


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["-P", "some"], "not a number of jobs"),
        (["--samples", "0"], "--samples 0: at least 1"),
        (["--chunk-size", "0"], "at least 1"),
        (["--no-such"], "--no-such"),
    ],
)
def test_wrong_command_lines(screen: Screen, more: list[str], what: str) -> None:
    screen.fill(2)
    refused(Exit.USAGE, what, profile.main, screen.arguments(*more))


def test_chunks_are_those_that_the_run_is_cut_into(screen: Screen) -> None:
    screen.fill(8)
    assert measured(screen, "--chunk-size", "1")["prediction"]["chunks"] == 8
    assert measured(screen, "--group-by", "Well")["prediction"]["chunks"] == 4


def test_what_a_figure_can_not_say_is_noted(screen: Screen) -> None:
    from conftest import EXPORT, IDENTIFY, PROJECT, load_data

    screen.fill(4)
    screen.write(load_data(keys="Well"), IDENTIFY, PROJECT, EXPORT)
    subject = trial.subject_of(screen.arguments())
    run = {"reads_whole_list": True, "cellprofiler": {"command": ["/usr/bin/docker", "run", "cp"]}}
    whole, groups, container = profile._notes(subject, run)
    assert "reads the whole list" in whole
    assert groups.startswith("MakeProjection (module 3) needs whole groups")
    assert "its memory is not seen" in container


@pytest.fixture
def started(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """Start a profile whose CellProfiler hangs."""
    screen.fill(4)
    code = "import sys; from bpcp.errors import run_main\n"
    code += "from bpcp.profile import __main__ as profile\n"
    code += "run_main('profile', profile.main)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *screen.arguments()],
        cwd=ROOT,
        env={**os.environ, "FAKE_MODE": "slow", "FAKE_SLEEP": "60"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not screen.journal.exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_told_to_end_it_leaves_nothing(
    screen: Screen, started: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    pid = int(json.loads(screen.journal.read_text())["pid"])
    started.send_signal(number)
    _, said = started.communicate(timeout=30)
    assert started.returncode == code and "Traceback" not in said
    assert not Path(f"/proc/{pid}").exists()
    assert list(screen.workspace.attempts.iterdir()) == []
    assert not screen.workspace.profile.exists()


def test_killed_it_takes_cellprofiler_along(screen: Screen, started: subprocess.Popen[str]) -> None:
    pid = int(json.loads(screen.journal.read_text())["pid"])
    started.kill()
    started.communicate(timeout=30)
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    # its folder goes with the next run, as that of any attempt
    assert list(screen.workspace.attempts.iterdir())
    assert screen.all().done == 4
    assert list(screen.workspace.attempts.iterdir()) == []


# --- sampling ---------------------------------------------------------------------------------


def watch(tmp_path: Path, code: str, many: int = 1) -> Observed:
    """Watch a Python program, as if it were CellProfiler."""
    works = []
    for i in range(many):
        home = tmp_path / str(i)
        home.mkdir()
        job = Job(home, home, 1, 1, home, home, home)
        works.append(Work(job, home / "log"))
    return observe(works, [sys.executable, "-c", code], tmp_path)


def test_memory_of_children_counts(tmp_path: Path) -> None:
    child = "import time; x = bytearray(b'x') * 300_000_000; time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    seen = watch(tmp_path, parent, many=2)
    for process in seen.processes:
        # beyond what pytest itself has: a process inherits that mark until its exec
        own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert 286 < process.peak_mb < max(350, own_mb + 50) and process.code == 0
    assert max(mb for _, mb in seen.total) > 1.5 * 76
    if seen.group_mb is not None:
        assert seen.group_mb > 150


def test_a_peak_between_two_samples_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_INTERVAL_S", 2.0)
    code = "import time; time.sleep(.5); x = bytearray(b'x') * 80_000_000; del x; time.sleep(.2)"
    (process,) = watch(tmp_path, code).processes
    assert max(mb for _, mb in process.points) < 50 < 76 < process.peak_mb


def test_lines_of_the_log_become_steps(tmp_path: Path) -> None:
    line = "Mon: Image # {}, module {} # {}: CPU_time = 0.01 secs, Wall_time = {} secs"
    lines = [
        line.format(1, "LoadData", 1, "0.10"),
        line.format(1, "Crop", 2, "0.20"),
        "Image # 1, of another kind",
    ]
    code = f"import time; print({chr(10).join(lines)!r}, flush=True); time.sleep(.3); print('Im')"
    (process,) = watch(tmp_path, code).processes
    first, second = process.steps
    assert (first.image_set, first.module, first.number, first.wall_s) == (1, "LoadData", 1, 0.1)
    assert second.end_s - first.end_s == pytest.approx(0.2)
    assert second.end_s <= process.wall_s


def test_what_others_do_is_seen(tmp_path: Path) -> None:
    spin = "import time; e = time.monotonic() + 3\nwhile time.monotonic() < e: pass"
    other = subprocess.Popen([sys.executable, "-c", spin])
    seen = watch(tmp_path, "import time; time.sleep(1)")
    other.kill()
    other.wait()
    assert seen.others > 0.3


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    job = Job(tmp_path, tmp_path, 1, 1, tmp_path, tmp_path, tmp_path)
    seen = observe([Work(job, tmp_path / "log")], ["/nowhere/cellprofiler"], tmp_path)
    assert seen.processes[0].code != 0


# --- words ------------------------------------------------------------------------------------


def record(**changes: Any) -> Json:
    found: Json = {
        "image_sets": 3456,
        "machine": {"cores": 16, "mem_free_gb": 60.0, "carries": 84},
        "figures": {
            "together": 16, "start_s": 3.21, "set_s": 5.9, "alone_s": 4.2, "end_s": 0.31,
            "peak_mb": 812.4, "growth_mb": 2.34,
        },
        "memory": {"together_mb": 9876.0, "group_mb": 10234.0},
        "modules": [
            {"number": 1, "name": "LoadData", "wall_s": 0.5, "peak_mb": 300.0},
            {"number": 2, "name": "Crop", "wall_s": 0.001, "peak_mb": None},
            {"number": 3, "name": "MeasureTexture", "wall_s": 4.5, "peak_mb": None},
        ],
        "prediction": {
            "slots": 16, "wall_s": 1400.0, "low_s": 1300.0, "high_s": 1500.0,
            "peak_mb": 840.0, "process_mb": 680.0, "total_mb": 10240.0,
        },
        "others": 0.2,
        "notes": [],
    }  # fmt: skip
    return {**found, **changes}


def test_words() -> None:
    assert words.report(record()) == (
        "memory  812 MB the largest process, and 2.3 MB with each further image set\n"
        "        9,876 MB 16 processes together; 10,234 MB with the files that they read and"
        " wrote\n"
        "time    3.2 s to start a process\n"
        "        4.20 s an image set alone, 5.90 s with 16 at once; 0.31 s to write its rows at"
        " the end\n"
        "\n"
        "  #  module               s     %  peak MB\n"
        "  3  MeasureTexture    4.50    90        –\n"
        "  1  LoadData          0.50    10      300\n"
        "     1 others          0.00     0\n"
        "\n"
        "this machine carries 16 processes: cores; memory would carry 84"
        " (60.0 GB free, 680 MB each)\n"
        "all 3,456 image sets, 16 processes at once: 23 min 20 s (21 min 40 s to 25 min 00 s)\n"
        "  10.0 GB together, 840 MB the largest process\n"
    )


def test_others_at_work_are_told() -> None:
    said = words.report(record(others=4.0, notes=["n"]))
    assert "note: others kept 4.0 of 16 cores busy meanwhile" in said
    assert said.endswith("note: n\n")


def test_fake_is_what_ran(screen: Screen) -> None:
    """The tests above would prove nothing if another CellProfiler were found."""
    screen.fill(2)
    with pytest.raises(BpcpError):
        trial.subject_of(["-d", "none", "-p", str(screen.pipeline)])
    assert os.environ["BPCP_CELLPROFILER"] == str(FAKE)
