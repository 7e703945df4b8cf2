from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import batchfile
import numpy as np
import pytest
import tifffile
from conftest import EXPORT, FAKE, IDENTIFY, ROOT, SAVE, Screen, load_data, pipeline_text, refused
from policy import forget
from test_check_pipeline import database
from test_saved import NO, SINGLE, saves

from bpcp import imagesets, mend, pipeline
from bpcp.beside import Places
from bpcp.check import __main__ as command
from bpcp.check import all as everything
from bpcp.check import files, rows, servers
from bpcp.check import pipeline as of_pipe
from bpcp.check.all import Asked, Checked
from bpcp.check.findings import (
    Code,
    Finding,
    Severity,
    bad_lines,
    errors,
    exit_of,
    unmended,
    without_bad,
)
from bpcp.check.loading import PLUGIN, UNLOADABLE
from bpcp.check.places import PATH_MISSING
from bpcp.check.progress import Progress
from bpcp.errors import BpcpError, Exit
from bpcp.imagelist import ImageList
from bpcp.mend import Mend
from bpcp.pipeline import Pipeline
from bpcp.probe import answer

PIXELS = np.arange(20 * 16, dtype="uint16").reshape(20, 16)
ERROR = Code("image-x", Severity.ERROR, "it is bad", by_image_set=True)
WHOLE = Code("list-x", Severity.ERROR, "all is bad")
WARNING = Code("list-y", Severity.WARNING, "it is odd")
MEND = Mend(3, "Overwrite", "No", "Yes", "overwriting is on")


@pytest.fixture
def plate(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Six image sets with images that are really such; CellProfiler loads the pipeline."""
    screen.fill(6)
    for row in screen.rows:
        tifffile.imwrite(screen.images / row[0], PIXELS)
    screen.write(load_data(), IDENTIFY, EXPORT)
    monkeypatch.setattr(of_pipe, "loads", lambda *_, **__: [])
    monkeypatch.setattr(of_pipe, "of_pipeline", lambda *_, **__: [])
    return screen


@pytest.fixture
def check(
    plate: Screen, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str], list[str]]]:
    def checked(*more: str) -> tuple[int, list[str], list[str]]:
        code = command.main(plate.arguments(*more))
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return checked


Check = Callable[..., tuple[int, list[str], list[str]]]


def test_a_good_dataset_is_0_and_says_little(check: Check) -> None:
    assert check() == (Exit.OK, [], ["check: 6 image sets, 6 files: all good"])
    assert check("-q") == (Exit.OK, [], [])


def test_a_bad_image_is_named_by_its_line(plate: Screen, check: Check) -> None:
    bad = plate.images / plate.rows[2][0]
    bad.write_bytes(bad.read_bytes()[:500])
    code, out, err = check()
    assert code == Exit.MALFORMED_INPUT
    assert out == [
        "ERROR image-truncated: a file ends before its pixels do",
        f"  line 4: {bad}: DNA: ends at byte 500; strip 1 of 1 goes to 896",
        "  → copy it again from where it comes from",
    ]
    assert err == [
        "check: 6 image sets, 6 files: 1 error",
        "  → 1 image set can't be analysed; --quarantine goes on without",
    ]


@pytest.mark.parametrize("volumes", [False, True])
def test_the_reader_of_images_does_not_judge_volumes(
    plate: Screen, check: Check, monkeypatch: pytest.MonkeyPatch, volumes: bool
) -> None:
    monkeypatch.setattr(Pipeline, "is_3d", volumes)
    monkeypatch.setattr(everything.engine, "unreadable", lambda paths: dict.fromkeys(paths, "no"))
    (plate.images / plate.rows[2][0]).write_bytes(b"no image")
    code, out, _ = check()
    assert code == (Exit.OK if volumes else Exit.MALFORMED_INPUT)
    assert out[0].split(":")[0] == (
        "WARNING image-not-verified" if volumes else "ERROR image-unreadable-header"
    )


def test_missing_files_alone_are_66(plate: Screen, check: Check) -> None:
    (plate.images / plate.rows[0][0]).unlink()
    assert check("-q")[0] == Exit.NO_INPUT
    (plate.images / plate.rows[1][0]).write_bytes(b"")
    assert check("-q")[0] == Exit.MALFORMED_INPUT


def test_quarantine_goes_on_as_long_as_something_is_left(plate: Screen, check: Check) -> None:
    for row in plate.rows[1:]:
        (plate.images / row[0]).unlink()
    code, out, err = check("--quarantine")
    assert code == Exit.OK
    assert out[0] == "ERROR image-missing: a file is not there"
    assert err[-1] == "  5 image sets in quarantine: not analysed"
    (plate.images / plate.rows[0][0]).unlink()
    code, _, err = check("--quarantine")
    assert code == Exit.NO_INPUT
    assert err[-1] == "  no image set is left to analyse"


def test_quarantine_is_for_image_sets_alone(plate: Screen, check: Check) -> None:
    (plate.images / plate.rows[0][0]).unlink()
    plate.rows.append(["short"])
    plate.write()
    assert check("--quarantine", "-q")[0] == Exit.MALFORMED_INPUT


def test_list_and_files_are_told_at_once(plate: Screen, check: Check) -> None:
    (plate.images / plate.rows[0][0]).unlink()
    plate.rows[1].pop()
    plate.rows[2][0] = ""
    plate.write()
    code, out, err = check()
    assert code == Exit.MALFORMED_INPUT
    codes = [line.split(":")[0] for line in out if not line.startswith(" ")]
    assert codes == ["ERROR list-short-row", "ERROR list-no-file", "ERROR image-missing"]
    # the row without a file is not looked for as well
    assert sum(line.startswith("  line") for line in out) == 3
    assert err[0] == "check: 5 image sets, 4 files: 3 errors"


def test_many_findings_are_cut_and_json_has_all(plate: Screen, check: Check) -> None:
    plate.rows = [[f"gone {i}.tif", *plate.rows[0][1:]] for i in range(50)]
    plate.write()
    _, out, _ = check()
    assert sum(": DNA: missing" in line for line in out) == 20
    assert out[-1] == "  and 30 more: --json lists all"
    code, out, err = check("--json")
    found = json.loads("\n".join(out))
    assert len(found["findings"]) == 50
    assert found["findings"][49] == {
        "code": "image-missing",
        "severity": "error",
        "place": str(plate.images / "gone 49.tif"),
        "what": "DNA: missing",
        "remedy": "bring it back, or mend the list",
        "lines": [51],
        "mends": [],
    }
    assert found["bad"]["51"] == f"{plate.images / 'gone 49.tif'}: DNA: missing"
    assert (found["image_sets"], found["files"], found["lines_count"]) == (50, 50, "line")
    assert found["exit"] == code == Exit.NO_INPUT
    assert err[0] == "check: 50 image sets, 50 files: 50 errors"


def test_no_images_leaves_files_alone(plate: Screen, check: Check) -> None:
    (plate.images / plate.rows[0][0]).unlink()
    assert check("--no-images") == (Exit.OK, [], ["check: 6 image sets, 0 files: all good"])


def test_deep_looks_at_pixels(plate: Screen, check: Check) -> None:
    tifffile.imwrite(plate.images / plate.rows[0][0], PIXELS * 0)
    assert check()[1] == []
    code, out, _ = check("--deep")
    assert (code, out[0]) == (
        Exit.OK,
        "WARNING image-flat: all pixels of an image have one value",
    )


def test_lists_of_plates_and_wells_select(plate: Screen, check: Check) -> None:
    (plate.images / plate.rows[0][0]).unlink()
    wells = plate.workspace.selection("welllist")
    wells.parent.mkdir(parents=True)
    wells.write_text("A02\nA03\n")
    assert check()[2] == ["check: 4 image sets, 4 files: all good"]
    assert check("-c", "-q")[0] == Exit.NO_INPUT
    wells.write_text("A02\nH12\n")
    code, out, _ = check()
    assert code == Exit.MALFORMED_INPUT
    assert out[0].startswith("ERROR list-selection: ")
    assert "no Well of the image list is 'H12'" in out[1]


def test_a_base_folder_that_bpcp_has_not(plate: Screen, check: Check) -> None:
    plate.write(load_data(base="Default Output Folder|"), IDENTIFY, EXPORT)
    code, out, _ = check()
    assert code == Exit.MALFORMED_INPUT
    assert out[0].startswith("ERROR list-base-folder: ")


def test_relative_folders_start_at_the_root(
    plate: Screen, check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for row in plate.rows:
        row[1] = "images"
    plate.write()
    assert check("-q")[0] == Exit.OK
    monkeypatch.setenv("PATHNAME_BASENAME", str(tmp_path))
    assert check("-q")[0] == Exit.NO_INPUT
    monkeypatch.setenv("PATHNAME_BASENAME", str(tmp_path / "none"))
    refused(Exit.BAD_SETTING, "PATHNAME_BASENAME", check)


def test_folders_that_are_elsewhere(plate: Screen, check: Check) -> None:
    for row in plate.rows:
        row[1] = "/mnt/old"
    plate.write()
    code, out, _ = check()
    assert code == Exit.NO_INPUT
    assert out[1].startswith("  lines 2-7: /mnt/old: DNA: no such folder, for 6 files")
    assert out[2].endswith("name its folder on this machine: --map /mnt/old=FOLDER")
    assert check("-q", "--map", f"/mnt/old={plate.images}")[0] == Exit.OK


def test_a_map_that_fits_no_path_is_a_warning(plate: Screen, check: Check) -> None:
    _, out, _ = check("--map", "/mnt/old=/x")
    said = f"--map /mnt/old fits no path; the most similar is {plate.images}"
    assert [line for line in out if "most similar" in line] == [f"  --map: {said}"]


def test_backslashes_that_a_map_takes_are_no_warning(plate: Screen, check: Check) -> None:
    for row in plate.rows:
        row[:2] = rf"images\{row[0]}", r"E:\lab"
    plate.write()
    _, out, _ = check()
    assert r"  lines 2-7: E:\lab\images: DNA: no such folder, for 6 files" in out
    assert r"  → name its folder on this machine: --map 'E:\lab\images'=FOLDER" in out
    assert [line for line in out if "list-backslash" in line]
    code, out, err = check("--map", rf"e:\lab={plate.images.parent}")
    assert (code, out) == (Exit.OK, []), err


def test_only_the_rows_that_loaddata_is_set_to_are_looked_at(plate: Screen) -> None:
    (plate.images / plate.rows[0][0]).unlink()
    (plate.images / plate.rows[5][0]).unlink()
    settings = command._settings(command.parse(plate.arguments()), plate.workspace)
    for wanted, lines in (("2,5", []), ("1,2", [2]), ("6,100000", [7]), ("many", [2, 7])):
        text = pipeline_text(load_data(ranged="Yes").replace("1,100000", wanted), EXPORT)
        pipe = pipeline.of_text(plate.pipeline, text.encode())
        checked = everything.run(plate.workspace, pipe, settings)
        assert list(checked.bad) == lines


def with_files(plate: Screen) -> None:
    names = "    Assign a name to:All images\n"
    head = "NamesAndTypes:[module_num:1|svn_version:'Unknown'|enabled:True|wants_pause:False]\n"
    images = head.replace("NamesAndTypes", "Images") + "    Filter images?:No filtering\n"
    plate.write(images, head + names, IDENTIFY, EXPORT)
    plate.workspace.file_list.parent.mkdir(parents=True)
    listed = [str(plate.images / row[0]) for row in plate.rows]
    plate.workspace.file_list.write_text("\n".join(listed))


def test_a_list_of_which_no_image_set_is_known_is_checked_by_its_lines(
    plate: Screen, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_files(plate)
    monkeypatch.setattr(everything, "_found_by_cellprofiler", lambda *_: None)
    listed = plate.workspace.file_list
    there = [str(plate.images / row[0]) for row in plate.rows]
    # of another size, which says nothing where it is not known what is what
    tifffile.imwrite(there[5], PIXELS[:5])
    listed.write_text("\n".join([*there, "", "images/gone.tif", "https://host/a.tif", ""]))
    code, out, err = check()
    assert code == Exit.NO_INPUT
    assert out[1] == f"  line 8: {plate.images}/gone.tif: file: missing"
    assert err[0] == "check: 8 files: 1 error, 1 note"
    listed.write_text("\n")
    code, out, _ = check()
    assert (code, out[0]) == (
        Exit.MALFORMED_INPUT,
        "ERROR list-of-files: the list of files can't be read",
    )


def test_image_sets_that_cellprofiler_makes_of_files_are_checked(
    plate: Screen, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_files(plate)
    (plate.images / plate.rows[2][0]).unlink()
    rows = tuple((str(plate.images), row[0]) for row in plate.rows[:5])
    made = imagesets.of_list(ImageList(("PathName_DNA", "FileName_DNA"), rows, (1, 2, 3, 4, 5)))
    made = replace(made, unused="1 of 6 files are in no image set: f6.tif")
    monkeypatch.setattr(imagesets, "of_run", lambda *_: made)
    code, out, err = check()
    assert code == Exit.NO_INPUT
    assert out[1].startswith(f"  image set 3: {plate.images}/f3.tif: DNA: missing")
    assert "WARNING list-unused-files: files of the list that are in no image set" in out
    assert err[0] == "check: 5 image sets, 5 files: 1 error, 1 warning"


def test_what_cellprofiler_itself_reads_from_a_bucket_is_not_looked_for(
    plate: Screen, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_files(plate)
    urls = [f"s3://no-such-bucket/{name}.tif" for name in ("a", "b c")]
    rows = tuple((url,) for url in urls)
    made = imagesets.of_list(ImageList(("URL_DNA",), rows, (1, 2)))
    monkeypatch.setattr(imagesets, "of_run", lambda *_: made)
    forget()
    assert check()[0] == Exit.OK
    # as a plan asks, which knows of nothing in a bucket
    known = (
        plate.workspace,
        pipeline.read(plate.pipeline),
        command._settings(command.parse(plate.arguments()), plate.workspace),
    )
    checked = everything.run(*known, images=made.images, remote={})
    assert [f.code for f in checked.findings] == [files.NOT_CHECKED]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget()
    code, out, _ = check()
    assert code == Exit.OK
    assert out[:3] == [
        "WARNING list-needs-credentials: CellProfiler itself reads from a bucket",
        f"  filelist.txt: CellProfiler itself reads {urls[0]}, with credentials alone, and there"
        " are none here",
        "  → name the files by paths, and the bucket by --input",
    ]
    forget()


def test_files_of_which_cellprofiler_makes_no_image_set(
    plate: Screen, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_files(plate)

    def none(*_: object) -> None:
        raise BpcpError(Exit.MALFORMED_INPUT, "CellProfiler makes no image set of 6 files", "open")

    monkeypatch.setattr(imagesets, "of_run", none)
    code, out, _ = check()
    assert code == Exit.MALFORMED_INPUT
    assert out[0] == "ERROR list-no-image-set: no image set is left to analyse"
    # which only follows where the pipeline does not load
    missing = Finding(PLUGIN, "module 5, RunCellpose", "no such module", "name the folder")
    monkeypatch.setattr(of_pipe, "loads", lambda *_, **__: [missing])
    code, out, _ = check()
    assert code == Exit.MALFORMED_INPUT
    assert [line.split(":")[0] for line in out if line.startswith("ERROR")] == [
        "ERROR pipeline-plugin-missing"
    ]


def test_a_range_without_any_row_is_an_error(plate: Screen, check: Check) -> None:
    plate.write(load_data(ranged="Yes").replace("1,100000", "50,60"), IDENTIFY, EXPORT)
    code, out, _ = check()
    assert code == Exit.MALFORMED_INPUT
    assert out[0] == "ERROR list-no-image-set: no image set is left to analyse"


def test_images_of_a_bucket_need_not_be_here(
    plate: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bpcp.sources import Source

    first, second = (str(plate.images / row[0]) for row in plate.rows[:2])
    for name in (first, second):
        Path(name).unlink()
    parsed = command.parse(plate.arguments("--input", "s3://screens/one"))
    settings = command._settings(parsed, plate.workspace)
    looked: list[list[str]] = []

    def look(self: Source, names: dict[str, None], root: Path) -> dict[str, tuple[int, int, str]]:
        looked.append(list(names))
        return {first: (640, 0, "")}

    monkeypatch.setattr(Source, "look", look)
    pipe = pipeline.read(plate.pipeline)
    checked = everything.run(plate.workspace, pipe, settings)
    assert len(looked[0]) == 6
    assert [(f.code, f.lines) for f in checked.findings] == [
        (files.MISSING, (3,)),
        (files.NOT_CHECKED, ()),
    ]
    # what the run knows already is not asked for again
    everything.run(plate.workspace, pipe, settings, remote={first: (640, 0, "")})
    assert len(looked) == 1


def test_image_sets_that_are_known_are_taken(plate: Screen) -> None:
    settings = command._settings(command.parse(plate.arguments()), plate.workspace)
    gone = ImageList(("FileName_DNA",), (("gone.tif",),), (7,))
    checked = everything.run(plate.workspace, pipeline.read(plate.pipeline), settings, images=gone)
    assert [(f.code, f.lines) for f in checked.findings] == [(files.MISSING, (7,))]
    assert checked.image_sets == 1


def test_a_missing_file_is_said_once(
    plate: Screen, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CellProfiler can't load a pipeline without its classifier either."""
    gone = Finding(PATH_MISSING, "module 3, ClassifyObjects", "no such file here: /x", "-i DIR")
    unloadable = Finding(UNLOADABLE, "the pipeline", "No such classifier file: /x", "open it")
    monkeypatch.setattr(of_pipe, "of_pipeline", lambda *_: [gone])
    monkeypatch.setattr(of_pipe, "loads", lambda *_, **__: [unloadable])
    code, out, _ = check()
    assert code == Exit.NO_INPUT and "pipeline-unloadable" not in "\n".join(out)
    monkeypatch.setattr(of_pipe, "of_pipeline", lambda *_: [])
    code, out, _ = check()
    assert code == Exit.MALFORMED_INPUT and "pipeline-unloadable" in "\n".join(out)


def test_names_that_are_saved_twice_are_said(
    plate: Screen, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = saves(SINGLE, "Enter single file name:o")
    plate.write(load_data(), IDENTIFY, single, EXPORT)
    code, out, _ = check()
    assert code == Exit.OK and "WARNING pipeline-saved-twice" in out[0]
    assert "5 files of 6" in "\n".join(out)
    # of those that can be analysed
    (plate.images / plate.rows[2][0]).unlink()
    code, out, _ = check()
    assert "4 files of 5" in "\n".join(out)
    plate.write(load_data(), IDENTIFY, single.replace("    Saved", f"    {NO}\n    Saved"), EXPORT)
    code, out, err = check("--quarantine")
    assert code == Exit.OK
    assert "5 image sets in quarantine" in "".join(err)


def test_the_pipeline_is_checked_with_the_list(
    plate: Screen, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def of_pipeline(pipe: Pipeline, images: ImageList | None, _: Places) -> list[Finding]:
        given.append(len(images.rows) if images else 0)
        return [Finding(WHOLE, "module 3, SaveImages", "off", "set it", mends=(MEND,))]

    def loads(pipe: Pipeline, images: ImageList | None, **given: object) -> list[Finding]:
        return [Finding(WARNING, "module 9, Odd", "unknown", "look")]

    monkeypatch.setattr(of_pipe, "of_pipeline", of_pipeline)
    monkeypatch.setattr(of_pipe, "loads", loads)
    code, out, err = check()
    assert (code, given) == (Exit.OK, [6])
    assert out == [
        "MENDED list-x: all is bad",
        "  module 3, SaveImages: off",
        "    mended in a copy: overwriting is on",
        "WARNING list-y: it is odd",
        "  module 9, Odd: unknown",
        "  → look",
    ]
    assert err == ["check: 6 image sets, 6 files: 1 mended, 1 warning"]
    code, out, _ = check("--no-fix")
    assert (code, out[0]) == (Exit.MALFORMED_INPUT, "ERROR list-x: all is bad")
    plate.rows = [["short"]]
    plate.write()
    check("-q")
    assert given[-1] == 0


def test_cellprofiler_is_asked_only_where_wanted(plate: Screen, monkeypatch: object) -> None:
    asked: list[object] = []
    settings = command._settings(command.parse(plate.arguments()), plate.workspace)
    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    monkeypatch.setattr(of_pipe, "loads", lambda pipe, *_, **__: asked.append(pipe) or [])
    pipe = pipeline.read(plate.pipeline)
    everything.run(plate.workspace, pipe, settings, Asked(load=False))
    assert asked == []
    everything.run(plate.workspace, pipe, settings)
    assert asked == [pipe]


def test_without_a_list_it_is_66(plate: Screen, check: Check) -> None:
    plate.workspace.image_list.unlink()
    refused(Exit.NO_INPUT, "no image list", check)


def test_a_wrong_option_is_64(plate: Screen) -> None:
    refused(Exit.USAGE, "--nope", command.main, plate.arguments("--nope"))


def test_progress_is_a_line_that_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("bpcp.check.progress.time.monotonic", lambda: clock[0])
    progress = Progress()
    progress.told(10, 1000)
    assert capsys.readouterr().err == ""
    clock[0] += 2
    progress.told(260, 1000)
    assert capsys.readouterr().err == "\rcheck: 26 % of 1,000 files · ETA 6 s"
    progress.end()
    assert capsys.readouterr().err.strip() == ""


def test_names_stay_on_their_line_and_lines_are_cut() -> None:
    lines = tuple(range(2, 400, 2))
    finding = Finding(ERROR, "/a\nb\x1b[31m", "bad", "mend", lines)
    text = list(command.report([finding], "image set"))
    assert text[1].endswith("…: /a\\nb\\x1b[31m: bad")
    assert text[1].startswith("  image sets 2, 4, 6, ")
    assert len(text[1]) < 100


def test_alike_remedies_are_said_once() -> None:
    findings = [Finding(ERROR, name, "bad", "mend", (3,)) for name in "ab"]
    assert list(command.report([Finding(WARNING, "c", "odd", ""), *findings])) == [
        "ERROR image-x: it is bad",
        "  line 3: a: bad",
        "  line 3: b: bad",
        "  → mend",
        "WARNING list-y: it is odd",
        "  c: odd",
    ]


def test_what_a_finding_means_for_a_run() -> None:
    bad = Finding(ERROR, "a.tif", "empty", "", (7, 3))
    other = Finding(ERROR, "b.tif", "missing", "", (3,))
    mended = Finding(WHOLE, "module 1", "off", "", mends=(MEND,))
    odd = Finding(WARNING, "c", "odd", "", (9,))
    findings = [bad, other, mended, odd]
    assert bad_lines(findings) == {3: "a.tif: empty; b.tif: missing", 7: "a.tif: empty"}
    assert without_bad(findings) == [mended, odd]
    assert exit_of(findings) is Exit.MALFORMED_INPUT
    assert exit_of(without_bad(findings)) is Exit.OK
    assert errors(unmended(findings))[2].place == "module 1"
    # an error that no image set has can't go away with one
    assert without_bad([Finding(ERROR, "a", "b", "")])
    assert Checked(findings, image_sets=2).exit(quarantine=True) is Exit.MALFORMED_INPUT
    assert Checked(findings, image_sets=3).exit(quarantine=True) is Exit.OK
    assert mended.to_json()["mends"] == [MEND.to_json()]


def test_every_code_has_a_section_that_says_how_bad_it_is() -> None:
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    own = page.partition("\n## Image list\n")[2].partition("\n## Pipeline\n")[0]
    sections = re.findall(r"^### `(\S+)`\n\n(\w+)([^.]*)\. ", own, re.MULTILINE)
    assert [name for name, _, _ in sections] == [code.name for code in everything.CODES]
    for code, (_, severity, more) in zip(everything.CODES, sections, strict=True):
        assert severity.lower() == code.severity.name.lower(), code.name
        assert ("by image set" in more) == code.by_image_set, code.name
        assert ("66" in more) == (code.exit is Exit.NO_INPUT), code.name


def test_codes_that_only_a_whole_check_gives_fire_here() -> None:
    here = {everything.SELECTION, everything.BASE_FOLDER, everything.FILE_LIST}
    here |= {everything.NO_IMAGE_SET, everything.MAP, everything.UNUSED, everything.UNSIGNED}
    assert set(everything.CODES) == {*rows.CODES, *files.CODES, *here}
    assert len({code.name for code in everything.CODES}) == len(everything.CODES)


# --- a pipeline by itself -------------------------------------------------------------------------


SAVED = "ER to Default Output Folder sub-folder masks (module 6, SaveImages)"


def alone(
    path: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, list[str], list[str]]:
    code = command.main(["-p", str(path), *more])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


@pytest.fixture
def lone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline that lies anywhere, and that CellProfiler loads."""
    monkeypatch.setattr(of_pipe, "loads", lambda *_, **__: [])
    monkeypatch.setenv("BPCP_CELLPROFILER", str(FAKE))
    rules = "    Rules file location:Elsewhere...|/x\n    Rules file name:rules.txt\n"
    flag = "\nFlagImage:[module_num:2|enabled:True|wants_pause:False]\n    Flag is based on:Rules\n"
    save = SAVE + "    Output file location:Elsewhere...|/y/masks\n"
    save += "    Select the image to save:ER\n"
    smooth = "\nSmooth:[module_num:3|enabled:{}|x:1]\n    Select the input image:DNA\n"
    total = "\nCalculateStatistics:[module_num:3|enabled:True|wants_pause:False]\n"
    path = tmp_path / "a b.cppipe"
    parts = (smooth.format("True"), smooth.format("False"), flag + rules, total, save, EXPORT)
    path.write_text(pipeline_text(load_data(keys="Plate"), *parts))
    return path


def test_by_itself_no_server_is_asked(
    lone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(servers, "try_out", ask)
    # which CellProfiler itself may do without: chunks write SQLite
    lacking = answer.Broken("ExportToDatabase", "2-D", ((("Database type", 0), "MySQL"),), "x")
    monkeypatch.setattr(answer, "of_this", lambda: answer.Answer({}, 1, 1, (lacking,)))
    database = "\nExportToDatabase:[module_num:8|enabled:True|wants_pause:False]\n"
    database += "    Database type:MySQL\n    Database host:nowhere.invalid\n"
    database += "    Name the SQLite database file:a.db\n"
    lone.write_text(lone.read_text() + database)
    _, out, _ = alone(lone, capsys)
    assert any("pipeline-mysql:" in line for line in out)
    assert not any(re.search("mysql-server|module-broken", line) for line in out)


def test_a_pipeline_by_itself(lone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = alone(lone, capsys)
    assert code == Exit.NO_INPUT
    assert out[:6] == [
        "a b.cppipe: a pipeline of 7 modules, 1 of them disabled, made by CellProfiler 4.2.8.1",
        "  the list needs: FileName_DNA, FileName_ER, Metadata_Plate",
        "  groups: Plate",
        "  one process, because of: CalculateStatistics (module 5)",
        "  reads as well: rules.txt from Elsewhere... /x (module 4, FlagImage)",
        f"  writes: *.csv, Experiment.csv, {SAVED}",
    ]
    assert any("writes to masks in the result instead of /y/masks" in line for line in out)
    assert err[0].startswith("check: the pipeline by itself: 1 error, 1 mended")
    assert alone(lone, capsys, "-q")[1][0].startswith("ERROR pipeline-path-missing")


def test_a_pipeline_by_itself_for_programs(lone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = alone(lone, capsys, "--json")
    found = json.loads("\n".join(out))
    assert found["exit"] == code == Exit.NO_INPUT
    assert found["pipeline"] == {
        "file": "a b.cppipe", "kind": "pipeline", "made_by": "4.2.8.1", "modules": 7, "disabled": 1,
        "reads_by": "LoadData", "images": ["DNA", "ER"], "objects": [], "metadata": ["Plate"],
        "groups": ["Plate"], "one_process": ["CalculateStatistics (module 5)"],
        "files": ["rules.txt from Elsewhere... /x (module 4, FlagImage)"],
        "writes": ["*.csv", "Experiment.csv", SAVED],
    }  # fmt: skip


def test_a_list_of_files_is_not_asked_for(lone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = "    Name to assign these images:DNA\n"
    heads = [f"\n{name}:[module_num:1|enabled:True|x:1]\n" for name in ("Images", "NamesAndTypes")]
    saves = "    Enter single file name:\\g<Well>\n"
    saves += "    Output file location:Default Output Folder|\n"
    saved = SAVE.replace("From image filename", "Single name") + saves
    text = pipeline_text(heads[0], heads[1] + names + names, *[saved] * 4)
    lone.write_text(text)
    code, out, _ = alone(lone, capsys)
    assert code == Exit.OK
    assert out[1:5] == [
        "  images, from a list of files: DNA",
        "  metadata that it uses: Metadata_Well",
        "  writes:",
        "    files to Default Output Folder (module 3, SaveImages)",
    ]


def test_what_only_a_plugin_reads_is_wanted(lone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = "\nRunAny:[module_num:2|enabled:True|x:1]\n    Select the input image:DNA\n"
    plugin += "    Name the output image:Clean\n"
    smooth = "\nSmooth:[module_num:3|enabled:True|x:1]\n    Select the input image:{}\n"
    parts = plugin, smooth.format("DNA"), smooth.format("Clean"), EXPORT
    lone.write_text(pipeline_text(load_data(), *parts))
    assert "  the list needs: FileName_DNA" in alone(lone, capsys)[1]


def test_one_name_for_all_is_said_without_a_list(
    lone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = saves(SINGLE, "Enter single file name:o", "Output file location:Elsewhere...|/y")
    lone.write_text(pipeline_text(load_data(), single, EXPORT))
    code, out, _ = alone(lone, capsys)
    assert code == Exit.OK
    assert any("every image set saves y/o.png" in line for line in out)


def test_the_tables_of_a_server_are_no_file(
    lone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything.servers, "of_servers", lambda *_: [])
    served = database(kind="MySQL") + "    Database name:screens\n    Database host:lab\n"
    lone.write_text(pipeline_text(load_data(), served, EXPORT))
    for more in ((), ("--no-fix",)):
        out = alone(lone, capsys, *more)[1]
        writes = next(line for line in out if line.startswith("  writes: "))
        assert "MySQL database screens on lab" in writes


def test_a_pipeline_that_was_cut_off_is_said_once(
    lone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unloadable = Finding(UNLOADABLE, "the pipeline", "CellProfiler can't load it", "correct it")
    monkeypatch.setattr(of_pipe, "loads", lambda *_, **__: [unloadable])
    text = pipeline_text("ModuleCount:2\n", load_data(), EXPORT)
    lone.write_text(text)
    assert "ERROR pipeline-unloadable" in "\n".join(alone(lone, capsys)[1])
    lone.write_text(text[: text.rindex("\nExportToSpreadsheet")])
    out = "\n".join(alone(lone, capsys)[1])
    assert "ERROR pipeline-cut-off" in out and "pipeline-unloadable" not in out


def test_a_batch_file_by_itself_brings_its_image_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_pipe, "loads", lambda *_, **__: [])
    text = "\nImages:[module_num:1|enabled:True|x:1]\n\nNamesAndTypes:"
    text = batchfile.PIPELINE.replace("\nNamesAndTypes:", text).replace("Count:2", "Count:3")
    columns: dict[str, Sequence[object]] = {
        "FileName_DNA": ["gone.tif"], "PathName_DNA": ["/gone"], "URL_DNA": ["file:/gone/gone.tif"],
        "Group_Number": [1], "Group_Index": [1], "Metadata_Plate": ["P"],
    }  # fmt: skip
    path = batchfile.write(
        tmp_path / "Batch_data.h5",
        mend.with_create_batch(text).replace(
            "Hidden- in batch mode:No", "Hidden- in batch mode:Yes"
        ),
        columns,
    )
    code, out, err = alone(path, capsys)
    assert code == Exit.NO_INPUT
    assert out[0].startswith("Batch_data.h5: a batch file of 4 modules")
    assert err[0].startswith("check: 1 image set, 1 file")
