# ruff: noqa: F811 -- fixtures of test_audit
from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import Screen, refused
from test_audit import (  # noqa: F401 -- fixtures
    check_manifest,
    home,
    merged,
    result,
    said,
    the_fault,
)

from bpcp import publish
from bpcp.audit import __main__ as command
from bpcp.audit import all as whole
from bpcp.audit import files, manifest
from bpcp.audit.all import audit, examine
from bpcp.errors import BpcpError, Exit
from bpcp.workspace import hold, read_json, write_json

OVERLAY = "overlays/f3_overlay.png"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the saved files that are read, as they are."""
    seen: list[str] = []

    def sha256(path: Path) -> str:
        seen.append(path.name)
        return publish.sha256(path)

    monkeypatch.setattr(files, "sha256", sha256)
    return seen


# --- saved files ----------------------------------------------------------------------------------


def test_a_saved_image_that_is_gone(merged: Screen) -> None:
    result(merged, OVERLAY).unlink()
    chunk = merged.chunks()[1]
    fault = the_fault(
        merged, file=OVERLAY, chunk=chunk,
        what=f"it is gone (saved by chunk {chunk}, ImageNumber 3-4)",
    )  # fmt: skip
    assert fault.todo.startswith("./run_analysis_pipeline.sh ")
    # what it says mends it
    merged.all("--chunk-size", "2")
    assert audit(merged.workspace).exit_code == Exit.OK


def test_a_saved_image_of_another_size(merged: Screen) -> None:
    result(merged, OVERLAY).write_bytes(b"other")
    fault = the_fault(merged, file=OVERLAY)
    assert fault.what.startswith("it has 5 bytes, 21 were saved (")
    result(merged, OVERLAY).unlink()
    result(merged, OVERLAY).mkdir()
    assert the_fault(merged, file=OVERLAY).what.startswith("it is no file any more")


@pytest.mark.parametrize("quick", [False, True])
def test_a_saved_image_of_the_same_size_changed(
    merged: Screen,
    *,
    quick: bool,
) -> None:
    path = result(merged, OVERLAY)
    assert audit(merged.workspace).manifest == "written"
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    # whoever sets the time back can't set back when the entry changed
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    outcome = audit(merged.workspace, quick=quick)
    assert outcome.exit_code == Exit.SOME_FAILED
    (fault,) = outcome.faults
    assert fault.what.startswith("its content changed since it was saved (SHA-256)")
    assert f"rm '{path}'".replace("it's", "it'\"'\"'s") in fault.todo
    assert check_manifest(merged).returncode == 1
    path.unlink()
    merged.all("--chunk-size", "2")
    assert audit(merged.workspace, quick=quick).exit_code == Exit.OK


def test_a_saved_image_that_cannot_be_read(
    merged: Screen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "sha256", refuse)
    assert "it can't be read: Permission denied" in the_fault(merged).what


def test_the_image_set_of_a_file_where_a_process_had_only_that(screen: Screen) -> None:
    screen.fill(2)
    screen.all("--chunk-size", "1")
    (screen.workspace.analysis / "overlays/f2_overlay.png").unlink()
    the_fault(screen, image_number=2, file="overlays/f2_overlay.png")


# --- quick ----------------------------------------------------------------------------------------


def test_quick_reads_only_what_was_touched(screen: Screen, read: list[str]) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "2")
    screen.run()
    # the verdict is later than what was published, which a quick fake may do within one tick
    for chunk in screen.chunks():
        later = time.time_ns() + 10**9
        os.utime(screen.workspace.chunk(chunk).done, ns=(later, later))
    screen.merge()
    outcome = audit(screen.workspace, quick=True)
    assert (outcome.exit_code, outcome.unread, read) == (Exit.OK, 4, [])
    assert "4 not read again: size and times are unchanged" in said(screen, outcome)
    assert check_manifest(screen).returncode == 0
    # moved away and back: its content is the same, and is read to know
    path = result(screen, OVERLAY)
    path.rename(path.with_name("x"))
    path.with_name("x").rename(path)
    assert audit(screen.workspace, quick=True).unread == 3
    assert read == [path.name]
    # now that is known, too
    assert audit(screen.workspace, quick=True).unread == 4
    assert read == [path.name]
    # without it, all are read
    assert audit(screen.workspace).unread == 0
    assert len(read) == 5


def test_quick_reads_what_came_later_than_the_verdict(
    merged: Screen,
    read: list[str],
) -> None:
    # as after a copy to another machine
    assert audit(merged.workspace, quick=True).exit_code == Exit.OK
    assert len(read) == 8


def test_quick_still_reads_the_tables(merged: Screen) -> None:
    assert audit(merged.workspace, quick=True).exit_code == Exit.OK
    path = result(merged, "Nuclei.csv")
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"0.285714", b"0.385714", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert command.main(merged.arguments("--quick")) == Exit.SOME_FAILED


# --- files of others ------------------------------------------------------------------------------


def test_a_file_that_somebody_added(merged: Screen) -> None:
    names = ["notes.txt", "overlays/a\nb.png", "x/y z/.hidden", "zz"]
    for name in names:
        path = result(merged, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    outcome = audit(merged.workspace)
    assert outcome.exit_code == Exit.OK
    assert outcome.strangers == names
    assert outcome.warnings == [
        "4 files that nobody wrote: notes.txt, 'overlays/a\\nb.png', x/y z/.hidden and 1 more"
    ]
    assert f"warning: {outcome.warnings[0]}" in said(merged, outcome)
    # they are no part of the result
    assert b"notes.txt" not in merged.workspace.manifest.read_bytes()
    assert check_manifest(merged).returncode == 0


# --- the manifest ---------------------------------------------------------------------------------


def test_a_manifest_says_otherwise(merged: Screen) -> None:
    audit(merged.workspace)
    path = merged.workspace.manifest
    good = path.read_bytes()
    line = next(x for x in good.splitlines() if x.endswith(OVERLAY.encode()))
    path.write_bytes(good.replace(line, b"0" * 64 + line[64:]))
    fault = the_fault(merged, file=OVERLAY, what="it is not what stands in the manifest")
    assert "rm " in fault.todo and "bpcp audit -d 'plate 1'" in fault.todo
    path.write_bytes(good + b"0" * 64 + b"  gone.png\n")
    the_fault(merged, file="gone.png", what="it is gone, and stands in the manifest")
    result(merged, "gone.png").write_bytes(b"another")
    the_fault(merged, file="gone.png", what="it is not what stands in the manifest")
    result(merged, "gone.png").unlink()
    result(merged, "gone.png").mkdir()
    assert "can't be read: Is a directory" in the_fault(merged, file="gone.png").what
    result(merged, "gone.png").rmdir()
    path.write_bytes(good[:-3] + b"\nhalf a line")
    assert "is no line of sha256sum's" in the_fault(merged).what
    # as told, it is made anew
    path.unlink()
    assert audit(merged.workspace).manifest == "written"
    assert path.read_bytes() == good


def test_a_table_that_was_changed_together_with_what_the_merge_said(
    merged: Screen,
) -> None:
    audit(merged.workspace)
    path = result(merged, "Nuclei.csv")
    path.write_bytes(path.read_bytes().replace(b"0.285714", b"0.385714", 1))
    known = read_json(merged.workspace.merged) or {}
    known["tables"]["Nuclei.csv"]["sha256"] = publish.sha256(path)
    write_json(merged.workspace.merged, known)
    the_fault(merged, file="Nuclei.csv", what="it is not what stands in the manifest")


def test_the_manifest_of_an_earlier_merge_is_written_anew(merged: Screen) -> None:
    audit(merged.workspace)
    before = merged.workspace.manifest.read_bytes()
    merged.add("f9.tif", 12)
    merged.write()
    merged.all("--chunk-size", "2")
    outcome = audit(merged.workspace)
    assert (outcome.faults, outcome.manifest) == ([], "written")
    after = merged.workspace.manifest.read_bytes()
    assert b"f9_overlay" in after and b"f9_overlay" not in before
    assert check_manifest(merged).returncode == 0


def test_a_result_that_does_not_add_up_keeps_its_manifest(merged: Screen) -> None:
    audit(merged.workspace)
    before = merged.workspace.manifest.read_bytes()
    result(merged, OVERLAY).write_bytes(b"other")
    audit(merged.workspace)
    assert merged.workspace.manifest.read_bytes() == before
    assert check_manifest(merged).returncode == 1


def test_lines_are_read_as_they_were_written(merged: Screen) -> None:
    names = ["a", "b c", "n\nn", "r\rr", "s\\s", "\\n", "\\\\", os.fsdecode(b"\xff\\\n"), " x"]
    entries = {name: f"{i:064x}" for i, name in enumerate(names)}
    assert manifest.write(merged.workspace, "state", entries, {})
    assert manifest.read(merged.workspace) == entries
    assert manifest.line("a\\b\n", "0" * 64) == b"\\" + b"0" * 64 + b"  a\\\\b\\n\n"


def test_who_goes_on_meanwhile_gets_no_manifest(merged: Screen) -> None:
    found = examine(merged.workspace)
    merged.workspace.chunk(merged.chunks()[1]).done.unlink()
    whole.keep_manifest(merged.workspace, found)
    assert not merged.workspace.manifest.exists()
    assert found.outcome.manifest == ""


@pytest.mark.parametrize(
    "error", [BpcpError(Exit.CANNOT_CREATE, "can't write it"), PermissionError(13, "no", "lock")]
)
def test_what_was_found_is_said_where_the_manifest_cannot_be_written(
    merged: Screen,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(manifest, "write", refuse)
    with pytest.raises(type(error)):
        command.main(merged.arguments())
    assert capsys.readouterr().out.startswith("8 image sets: 7 with objects")


def test_another_process_at_work(merged: Screen) -> None:
    with hold(merged.workspace.lock, "this run"):
        refused(Exit.STOPPED, "another process is at work", command.main, merged.arguments())
    assert not merged.workspace.manifest.exists()
    # where there is nothing to write, anybody may look
    audit(merged.workspace)
    with hold(merged.workspace.lock, "this run"):
        assert audit(merged.workspace).manifest == "as before"


def test_nothing_else_is_written(merged: Screen) -> None:
    def state() -> dict[str, int]:
        base = merged.workspace.base
        return {str(p): p.stat().st_mtime_ns for p in base.rglob("*") if p.is_file()}

    before = state()
    audit(merged.workspace)
    new = {Path(p).name for p in state().keys() - before.keys()}
    assert new == {"manifest.sha256", "manifest.json", "lock"} - {
        Path(p).name for p in before if Path(p).parent == merged.workspace.status
    }
    changed = {Path(p).name for p in before if state()[p] != before[p]}
    assert changed <= {"lock"}


# --- how it reads ---------------------------------------------------------------------------------


def test_long_work_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "_LOG_S", 0.02)
    with files.Readers(2000) as readers:
        readers.tell(500)
        time.sleep(0.2)
    words = capsys.readouterr().err.splitlines()
    assert words[0].startswith("audit: 25 % of 2.0 kB · ETA ")


def test_it_is_one_line_on_a_terminal_and_goes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "_QUIET_S", 0.02)
    monkeypatch.setattr(files, "_TERMINAL_S", 0.02)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with files.Readers(2000) as readers:
        time.sleep(0.1)
        readers.tell(500)
        time.sleep(0.2)
    text = capsys.readouterr().err
    assert "\n" not in text
    assert text.startswith("\raudit: 25 %") and text.endswith(" \r")


def test_an_error_in_a_reader_ends_the_others(merged: Screen) -> None:
    started: list[int] = []

    def read(number: int) -> None:
        started.append(number)
        time.sleep(0.01)
        if number == 0:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), files.Readers(1) as readers:
        list(readers.map(read, range(5000)))
    time.sleep(0.1)
    assert len(started) < 500


def test_quick_is_what_a_run_calls(merged: Screen) -> None:
    outcome = audit(merged.workspace, quick=True)
    assert outcome.exit_code == Exit.OK
    shutil.rmtree(merged.workspace.analysis)
    outcome = audit(merged.workspace, quick=True)
    assert outcome.exit_code == Exit.SOME_FAILED
    assert {fault.file for fault in outcome.faults} == {
        "Image.csv", "Nuclei.csv", "Experiment.csv",
        *(f"overlays/f{n}_overlay.png" for n in range(1, 9)),
    }  # fmt: skip
