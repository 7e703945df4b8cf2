"""The bench can fail: each judge fires on a damaged result, a process or a folder left over.

Whole rounds are played against a product that is a few lines of bash and does one thing wrong.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import judge
import marked
import pytest
import rounds
from disk import Disk, missing, mounts_below
from judge import Fault
from marked import MARK, Process
from rounds import Bench, Outcome, Round
from schedule import Harm, Kind, Schedule, draw, victims
from screen import Product, Screen

ROOT = Path(__file__).resolve().parents[2]
REAL = Product(ROOT, Path(os.environ.get("BPCP_VENV", ROOT / ".venv")))


def _write(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """A result of three image sets, the second without objects, as CellProfiler would spell it."""
    folder = tmp_path / "clean 'é" / "demo"
    image = [["Count_Nuclei", "FileName_Overlay", "ImageNumber", "PathName_Overlay"]]
    nuclei = [["ImageNumber", "ObjectNumber", "AreaShape_Area"]]
    for number, count in ((1, 2), (2, 0), (3, 1)):
        image.append([f"{count}.0", f"{number}.png", str(number), f"{folder}/overlays"])
        nuclei += [[str(number), str(i + 1), f"{10.5 + i}"] for i in range(count)]
        (folder / "overlays").mkdir(parents=True, exist_ok=True)
        (folder / "overlays" / f"{number}.png").write_bytes(b"pixels of %d" % number)
    _write(folder / "Image.csv", image)
    _write(folder / "Nuclei.csv", nuclei)
    _write(folder / "Experiment.csv", [["Key", "Value"], ["CellProfiler_Version", "4.2.8.1"]])
    return folder


@pytest.fixture
def result(clean: Path, tmp_path: Path) -> Path:
    """An equal one, elsewhere."""
    folder = tmp_path / "result"
    shutil.copytree(clean, folder)
    text = (folder / "Image.csv").read_text().replace(str(clean), str(folder))
    (folder / "Image.csv").write_text(text)
    return folder


def _compare(left: Path, right: Path) -> tuple[int, str]:
    done = REAL.bpcp("compare", "-q", str(left), str(right))
    return done.returncode, done.stdout or done.stderr


def _faults(problems: list[judge.Problem]) -> list[Fault]:
    return [p.fault for p in problems]


def test_an_equal_result_is_equal(clean: Path, result: Path) -> None:
    assert judge.counted(clean, result) == []
    assert judge.equal(_compare, clean, result) == []
    assert judge.tables(clean)["Nuclei.csv"] == Counter({1: 2, 3: 1})


def test_a_lost_row(clean: Path, result: Path) -> None:
    rows = _rows(result / "Nuclei.csv")
    _write(result / "Nuclei.csv", rows[:-1])
    found = judge.counted(clean, result)
    assert _faults(found) == [Fault.LOST]
    assert "Nuclei.csv: rows: 1 of image set 3" in str(found[0])


def test_a_doubled_row(clean: Path, result: Path) -> None:
    rows = _rows(result / "Image.csv")
    _write(result / "Image.csv", [*rows, rows[2]])
    found = judge.counted(clean, result)
    assert _faults(found) == [Fault.DOUBLED]
    assert "Image.csv: rows: 1 of image set 2" in str(found[0])


def test_a_row_that_is_cut_off(clean: Path, result: Path) -> None:
    text = (result / "Nuclei.csv").read_text()
    (result / "Nuclei.csv").write_text(text[: text.rindex(",")])
    assert Fault.LOST in _faults(judge.counted(clean, result))


@pytest.mark.parametrize("name", ["Nuclei.csv", "overlays/2.png"])
def test_a_lost_file(clean: Path, result: Path, name: str) -> None:
    (result / name).unlink()
    found = judge.counted(clean, result)
    assert _faults(found) == [Fault.LOST] and name in str(found[0])


def test_a_changed_value(clean: Path, result: Path) -> None:
    text = (result / "Nuclei.csv").read_text()
    (result / "Nuclei.csv").write_text(text.replace("11.5", "11.6"))
    assert judge.counted(clean, result) == []
    assert _faults(judge.equal(_compare, clean, result)) == [Fault.WRONG]


def test_a_changed_image_and_a_strange_file(clean: Path, result: Path) -> None:
    (result / "overlays" / "1.png").write_bytes(b"other pixels")
    (result / ".Image.csv.merging").write_text("half")
    said = [str(p) for p in judge.equal(_compare, clean, result)]
    assert any("1.png" in s for s in said) and any(".merging" in s for s in said)


def test_beside_a_failed_image_set(clean: Path, result: Path, tmp_path: Path) -> None:
    """What failed must be absent; all else is judged as ever."""
    assert _faults(judge.counted(clean, result, {3})) == [Fault.DOUBLED] * 2
    for name in ("Image.csv", "Nuclei.csv"):
        header, *rows = _rows(result / name)
        _write(result / name, [header, *(r for r in rows if r[header.index("ImageNumber")] != "3")])
    (result / "overlays" / "3.png").unlink()
    assert judge.counted(clean, result, {3}) == []
    assert judge.equal(_compare, clean, result, {3}, tmp_path / "scratch") == []
    assert _faults(judge.counted(clean, result, {2}))[0] is Fault.LOST
    text = (result / "Nuclei.csv").read_text()
    (result / "Nuclei.csv").write_text(text.replace("10.5", "10.6"))
    found = judge.equal(_compare, clean, result, {3}, tmp_path / "scratch")
    assert _faults(found) == [Fault.WRONG]


def test_who_failed_and_why() -> None:
    expected = {4: "missing file"}
    assert judge.named({4: "missing file"}, expected) == []
    assert judge.named({}, expected, may=[4]) == []
    for failed, said in (
        ({}, "did not fail"),
        ({4: "CellProfiler was ended by SIGKILL"}, "does not say"),
        ({4: "missing file", 5: "empty file"}, "nobody harmed it"),
    ):
        found = judge.named(failed, expected)
        assert _faults(found) == [Fault.NAMED] and said in str(found[0])


def test_what_is_left_behind(tmp_path: Path) -> None:
    places = [tmp_path / "t", tmp_path / "not there"]
    places[0].mkdir()
    assert judge.left_behind(places, [], []) == []
    (places[0] / "bpcp-1-x").mkdir()
    found = judge.left_behind(places, ["/lab/ramdisk"], ["bpcp-ram-x"])
    assert _faults(found) == [Fault.LEFT] * 3
    (tmp_path / "chunks").mkdir()
    (tmp_path / "chunks" / ".done.json.k3").write_text("{")
    assert judge.hidden(tmp_path) == [tmp_path / "chunks" / ".done.json.k3"]


# --- processes ----------------------------------------------------------------------------------


@pytest.fixture
def mark() -> Iterator[str]:
    own = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield own
    marked.end_all(own)


def _spawn(mark: str, script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["bash", "-c", script], env={**os.environ, MARK: mark}, start_new_session=True
    )


def _until(condition: object, timeout_s: float = 10) -> None:
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_an_orphan_is_found_and_nobody_else_is_ended(mark: str) -> None:
    """Also one in a session of its own, and a shell that only forked."""
    other = _spawn(f"{mark}x", "sleep 60")
    entry = _spawn(f"{mark}/1", "setsid sleep 61 & (while sleep 0.1; do :; done) & wait")
    _until(lambda: {p.role for p in marked.found(mark, below=True)} >= {"sleep", "shell"})
    entry.kill()
    entry.wait()
    left = marked.await_none(lambda: marked.found(f"{mark}/1"), patience_s=0.3)
    assert {"sleep", "shell"} <= {p.role for p in left}
    assert not marked.send(other.pid, signal.SIGKILL, mark)
    assert marked.end_all(mark) == []
    assert other.poll() is None
    marked.end_all(f"{mark}x")
    other.wait()


def test_roles() -> None:
    assert marked.role_of(["perl", "/usr/bin/parallel", "bpcp.chunk"]) == ("parallel",) * 2
    python = ["/venv/bin/python", "-I", "-c", "import runpy", "/root of bpcp.x"]
    assert marked.role_of([*python, "bpcp.chunk", "run"]) == ("run-chunk", "run-chunk")
    assert marked.role_of([*python, "bpcp.fetch", "run"]) == ("fetch", "helper")
    assert marked.role_of([*python, "bpcp.run.guard", "x"]) == ("guard", "helper")
    assert marked.role_of(["python3.9", "/v/bin/cellprofiler", "-c"]) == ("CellProfiler",) * 2
    assert marked.role_of(["/bin/bash", "run_analysis_pipeline.sh"]) == ("shell", "shell")
    assert marked.role_of(["cat"]) == ("cat", "other")


def test_who_is_hit() -> None:
    living = [Process(i, g, g, "S", "") for i, g in enumerate(["shell", "helper", "helper"])]
    harm = Harm(0.5, Kind.KILL, aim=("entry", "helper", "shell"), place=0.5, count=2)
    assert [p.pid for p in victims(harm, living)] == [2, 1]
    assert victims(harm, []) == []


def test_rounds_are_drawn_from_their_seed() -> None:
    drawn = [draw("7", n, 8, root=True) for n in range(1, 61)]
    assert drawn == [draw("7", n, 8, root=True) for n in range(1, 61)]
    assert drawn[0] != draw("8", 1, 8, root=True)
    for six in (drawn[i : i + 6] for i in range(0, 60, 6)):
        assert {h.kind for s in six for h in s.harms} == set(Kind)
    for schedule in drawn:
        kinds = [h.kind for h in schedule.harms]
        assert kinds.count(Kind.SPOIL) <= 1
        assert schedule.disk != "folder" or Kind.POWER not in kinds
        for harm in schedule.harms:
            if harm.kind is Kind.FILL:
                assert harm.way == "workspace" or schedule.tmpdir == "tmpfs"
    for n in range(1, 61):
        plain = draw("7", n, 8, root=False)
        assert plain.disk == "folder" and plain.tmpdir in ("", "folder")
        assert Kind.FILL not in {h.kind for h in plain.harms}


# --- whole rounds, of a product that is made up ---------------------------------------------------

_ENTRY = """#!/usr/bin/env bash
base=$(dirname "$(dirname "$4")")
result=$base/analysis/demo/demo
finish() {
  rm -rf "$result"; mkdir -p "$result"
  cp -r "$CLEAN"/. "$result"
  sed -i "s|$CLEAN|$result|" "$result/Image.csv"
}
"""
_BPCP = """#!/usr/bin/env bash
case $1 in
  compare) exec "$REAL" "$@" ;;
  status) cat "$FAILED" ;;
esac
"""


@pytest.fixture
def made_up(
    tmp_path: Path, clean: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """A bench over a product whose entry script a test writes."""
    root, base, images = tmp_path / "product", tmp_path / "screen", tmp_path / "images"
    for folder in (root / "bin", base / "pipelines", base / "load_data_csv", images):
        folder.mkdir(parents=True)
    rows = [
        {f"{k}_{c}": str(images) if k == "PathName" else f"{n}{c}.tif"
         for c in ("DNA", "Cyto") for k in ("PathName", "FileName")}
        for n in (1, 2, 3)
    ]  # fmt: skip
    for row in rows:
        for channel in ("DNA", "Cyto"):
            (images / row[f"FileName_{channel}"]).write_bytes(b"pixels" * 100)
    shutil.copytree(images, tmp_path / "whole")
    (base / "pipelines" / "demo.cppipe").write_text("CellProfiler Pipeline")
    (root / "bin" / "bpcp").write_text(_BPCP)
    (root / "bin" / "bpcp").chmod(0o755)
    (tmp_path / "failed.json").write_text('{"failed": []}')
    monkeypatch.setenv("CLEAN", str(clean))
    monkeypatch.setenv("REAL", str(ROOT / "bin" / "bpcp"))
    monkeypatch.setenv("FAILED", str(tmp_path / "failed.json"))
    monkeypatch.setattr(rounds, "ORPHANS_S", 0.5)
    screen = Screen(base, tmp_path / "whole", clean, tuple(rows))
    yield Bench(
        Product(root, REAL.venv), screen, tmp_path, mark, timeout_s=5, patience_s=1, run_s=1
    )


def _play(bench: Bench, script: str, *harms: Harm) -> Outcome:
    entry = bench.product.script
    entry.write_text(_ENTRY + script)
    entry.chmod(0o755)
    found = Round(bench, 1, Schedule("folder", "", harms)).play()
    assert marked.found(bench.mark, below=True) == []
    assert mounts_below(bench.work) == []
    return found


def test_a_good_product_passes(made_up: Bench) -> None:
    found = _play(made_up, "finish")
    assert (found.problems, found.restarts, found.endings) == ([], 0, ["0"])
    assert not (made_up.work / "rounds" / "1").exists()


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ('finish; sed -i 2d "$result/Nuclei.csv"', Fault.LOST),
        ('finish; sed -i 2p "$result/Nuclei.csv"', Fault.DOUBLED),
        ('finish; sed -i s/11.5/11.6/ "$result/Nuclei.csv"', Fault.WRONG),
        ("finish; sleep 60 &", Fault.ORPHAN),
        ('finish; touch "$TMPDIR/left"', Fault.LEFT),
        ('finish; touch "$base/core"', Fault.LEFT),
        ('finish; mkdir -p "$base/status/demo/demo/attempts/bpcp-x"', Fault.LEFT),
        ("exit 75", Fault.ENDLESS),
        ("finish; exit 1", Fault.NAMED),
    ],
)
def test_a_bad_product_fails(made_up: Bench, script: str, fault: Fault) -> None:
    found = _play(made_up, script)
    assert fault in _faults(found.problems), found.line()
    assert (made_up.work / "rounds" / "1" / "starts.log").is_file()
    assert found.restarts == {Fault.ENDLESS: 4, Fault.NAMED: 1}.get(fault, 0)


def test_one_that_hangs(made_up: Bench) -> None:
    found = _play(replace(made_up, timeout_s=1, most_restarts=0), "exec sleep 60")
    assert {Fault.HUNG, Fault.ENDLESS} == set(_faults(found.problems))
    assert found.seconds < 10


def test_two_at_once(made_up: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    harm = Harm(0.2, Kind.TWICE)
    refuses = 'exec 9>>"$base/lock"; flock -n 9 || exit 75; sleep 2; finish; rm "$base/lock"'
    assert _play(made_up, refuses, harm).problems == []
    lets_in = "sleep 1; finish; exec sleep 1"
    once = "if [[ $BPCP_CHAOS == */2 ]]; then finish; exit 0; fi; sleep 3; finish"
    monkeypatch.setattr(rounds, "_REFUSED_S", 0.4)
    for script in (lets_in, once):
        shutil.rmtree(made_up.work / "rounds", ignore_errors=True)
        assert Fault.SECOND in _faults(_play(made_up, script, harm).problems)


def test_a_stopped_one_is_killed_by_hand_and_goes_on(made_up: Bench) -> None:
    stop = Harm(0.3, Kind.STOP, signal=signal.SIGSTOP, aim=("entry",))
    found = _play(made_up, "if [[ $BPCP_CHAOS == */1 ]]; then exec sleep 60; fi; finish", stop)
    assert found.problems == []
    assert found.endings == ["-9 (stopped, and so killed by hand)", "0"]
    assert found.restarts == 1


def test_killed_and_done_too_early(made_up: Bench) -> None:
    """What says that it is done, and is not, is judged there and then, not after a restart."""
    kill = Harm(0.3, Kind.KILL, signal=signal.SIGTERM, aim=("entry",))
    script = """trap "exit 0" TERM
    if [[ $BPCP_CHAOS == */1 ]]; then
      for i in {1..20}; do sleep 0.1; done
    fi
    finish"""
    found = _play(made_up, script, kill)
    assert Fault.LOST in _faults(found.problems)


def test_a_bad_image_must_be_named(made_up: Bench) -> None:
    spoil = Harm(0.1, Kind.SPOIL, way="gone", image_set=3)
    back = replace(spoil, for_s=0.2)
    slow = "sleep 0.5; finish; "
    # gone for good, and done before: it may be there
    assert _play(made_up, slow, spoil).problems == []
    cut = _play(made_up, slow, replace(spoil, way="cut"))
    assert _faults(cut.problems) == [Fault.NAMED] and "did not fail" in str(cut.problems[0])
    shutil.rmtree(made_up.work / "rounds")
    named = {"failed": [{"image_number": 3, "reason": "missing file"}]}
    (made_up.work / "failed.json").write_text(json.dumps(named))
    drops = slow + 'sed -i /^3,/d "$result/Nuclei.csv"; sed -i /3.png/d "$result/Image.csv"; '
    drops += 'rm "$result/overlays/3.png"; exit 1'
    assert _play(made_up, drops, spoil).problems == []
    # and when it is back, it must not be named any more
    assert Fault.NAMED in _faults(_play(made_up, drops, back).problems)
    # all images are as they were, for the next round
    assert len(list((made_up.work / "images").iterdir())) == 6
    assert {p.stat().st_size for p in (made_up.work / "images").iterdir()} == {600}


# --- disks --------------------------------------------------------------------------------------


@pytest.mark.skipif(bool(missing()), reason="disks can't be mounted here")
@pytest.mark.parametrize("late", [False, True])
def test_a_power_cut_keeps_what_was_flushed_and_nothing_else(tmp_path: Path, late: bool) -> None:
    disk = Disk(tmp_path / "di sk", tmp_path / "image", late)
    disk.make()
    try:
        (disk.place / "old").write_text("old")
        disk.flush()
        (disk.place / "lost").write_text("x" * 100_000)
        with (disk.place / "flushed").open("w") as file:
            file.write("y" * 1000)
            file.flush()
            os.fsync(file.fileno())
        (disk.place / "new").write_text("new")
        (disk.place / "new").replace(disk.place / "old")
        disk.cut_power()
        with pytest.raises(OSError, match="Input/output"):
            (disk.place / "late").write_text("z")
        disk.power_on()
        sizes = {p.name: p.stat().st_size for p in disk.place.iterdir() if p.is_file()}
        assert sizes["flushed"] == 1000 and (disk.place / "old").read_text() == "old"
        assert not sizes.get("lost") and "late" not in sizes and "new" not in sizes
        assert disk.fill() > 100 << 20
        with pytest.raises(OSError, match="No space"):
            (disk.place / "more").write_text("z" * 100_000)
        disk.free()
        (disk.place / "more").write_text("z" * 100_000)
    finally:
        disk.remove()
    assert mounts_below(tmp_path) == [] and not disk.image.exists()  # type: ignore[union-attr]
