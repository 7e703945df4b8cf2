from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import batchfile
import pytest
from conftest import EXPORT, HOSTILE, Screen, load_data, pipeline_text, refused

from bpcp import batch, cellprofiler, imagesets, pipeline
from bpcp.errors import BpcpError, Exit
from bpcp.folders import NOWHERE, moved_of
from bpcp.imagelist import ImageList, Type
from bpcp.settings import Settings
from bpcp.workspace import read_json

NAMES = """
NamesAndTypes:[module_num:1|svn_version:'Unknown'|enabled:True|wants_pause:False]
    Assign a name to:All images
"""
HEAD = "CellProfiler Pipeline: http://www.cellprofiler.org\nVersion:5\nDateRevision:4281\n"


class Maker:
    """In CellProfiler's place: makes a batch file of one image set for each file it is given."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.text = ""
        self.input_folder: Path | None = None
        self.lose = False
        self.none = False

    def __call__(
        self,
        argv: Sequence[str],
        program: Path,
        inputs: Sequence[str],
        output: Path,
        tmpdir: Path,
        cwd: Path,
        input_folder: Path | None = None,
    ) -> str:
        self.input_folder = input_folder
        self.text = program.read_text(encoding="utf-8")
        # without a list it reads the program's own
        listed = Path(inputs[1]) if inputs else program
        files = listed.read_text(encoding="utf-8").splitlines()
        files = files if inputs else [line.split('"')[1][7:] for line in files if '"file:' in line]
        self.asked.append(files)
        if self.lose:
            return "ValueError: what went wrong"
        names = files[:0] if self.none else files
        columns: dict[str, Sequence[Any]] = {
            "FileName_DNA": [Path(f).name for f in names],
            "PathName_DNA": [str(Path(f).parent) for f in names],
            "Metadata_Plate": [f"P{i % 2}" for i, _ in enumerate(names)],
        }
        if names:
            batchfile.write(output / batch.NAME, self.text, columns)
        else:
            batchfile.write(output / batch.NAME, self.text, {"FileName_DNA": ["x"]}, empty=True)
        return ""


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    found = Maker()
    monkeypatch.setattr(cellprofiler, "make_batch_file", found)
    monkeypatch.setattr(cellprofiler, "version", lambda argv: "4.2.8.1")
    return found


@pytest.fixture
def plate(screen: Screen) -> Screen:
    screen.pipeline.parent.mkdir(parents=True)
    screen.pipeline.write_text(HEAD + "ModuleCount:1\n" + NAMES)
    names = [f"images/{i}.tif" for i in (1, 2)] + [f"/lab/{HOSTILE}/3.tif", "s3://b/4.tif"]
    lines = "\r\n".join(["", *names, " ", ""])
    screen.workspace.file_list.parent.mkdir(parents=True)
    screen.workspace.file_list.write_text(lines, encoding="utf-8-sig")
    return screen


def settings(screen: Screen, **more: Any) -> Settings:
    plain = Settings(None, (), 2, True, screen.base, None)
    return replace(plain, **more)


def of_run(screen: Screen, **more: Any) -> imagesets.ImageSets:
    pipe = pipeline.read(screen.pipeline)
    return imagesets.of_run(screen.workspace, pipe, settings(screen, **more))


def test_cellprofiler_is_given_the_files_as_the_user_lists_them(
    plate: Screen, maker: Maker
) -> None:
    found = of_run(plate)
    assert maker.asked == [
        [
            f"{plate.base}/images/1.tif",
            f"{plate.base}/images/2.tif",
            f"/lab/{HOSTILE}/3.tif",
            "s3://b/4.tif",
        ]
    ]
    assert "CreateBatchFiles:[module_num:2|" in maker.text
    assert len(found.images.rows) == 4
    assert found.keep is None
    assert found.groups is not None and len(set(found.groups)) == 1


def test_it_is_made_with_the_default_input_folder(
    plate: Screen, maker: Maker, tmp_path: Path
) -> None:
    of_run(plate, input_folder=tmp_path)
    assert maker.input_folder == tmp_path
    # where a module reads from it, another folder makes another one
    text = plate.pipeline.read_text().replace("ModuleCount:1", "ModuleCount:2")
    doses = "    Metadata file location:Default Input Folder|\n    Metadata file name:doses.csv\n"
    plate.pipeline.write_text(f"{text}\nMetadata:[module_num:9|enabled:True|x:1]\n{doses}")
    questions = set()
    for content in ("1", "2", "2"):
        (tmp_path / "doses.csv").write_text(content)
        made = of_run(plate, input_folder=tmp_path).made
        questions.add(made and made.question)
    assert len(questions) == 2


def test_a_pipeline_that_was_saved_with_its_list_needs_no_other(
    plate: Screen, maker: Maker
) -> None:
    plate.workspace.file_list.unlink()
    listed = '"Version":"1","PlaneCount":"2"\n"URL","Series","Index","Channel"\n'
    listed += '"file:///lab/a.tif",,,\n"file:///lab/b.tif",,,\n'
    head = HEAD + "ModuleCount:1\nHasImagePlaneDetails:True\n"
    plate.pipeline.write_text(f"{head}{NAMES}\n{listed}")
    assert len(of_run(plate).images.rows) == 2
    assert maker.asked == [["/lab/a.tif", "/lab/b.tif"]]
    assert maker.text.endswith(f"\n\n{listed}") and "CreateBatchFiles:[module_num:2" in maker.text


@pytest.mark.usefixtures("maker")
def test_a_path_is_mapped_once(plate: Screen) -> None:
    found = of_run(plate, moved=moved_of(["/lab=/lab/new"]))
    folders = [row[found.images.header.index("PathName_DNA")] for row in found.images.rows]
    assert folders[2] == f"/lab/new/{HOSTILE}"


def test_the_list_of_a_pipeline_is_mapped(plate: Screen, maker: Maker) -> None:
    plate.workspace.file_list.unlink()
    listed = '"Version":"1","PlaneCount":"1"\n"URL","Series","Index","Channel"\n'
    listed += '"file:///E:/lab/a.tif",,,\n'
    head = HEAD + "ModuleCount:1\nHasImagePlaneDetails:True\n"
    plate.pipeline.write_text(f"{head}{NAMES}\n{listed}")
    questions = {of_run(plate, moved=moved_of([m])).made for m in (r"E:\lab=/x", r"E:\lab=/y")}
    assert maker.asked == [["/x/a.tif"], ["/y/a.tif"]]
    assert len({made.question for made in questions if made}) == 2


def test_a_batch_file_is_made_once_and_kept(
    plate: Screen, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    first = of_run(plate)
    assert first.made and first.made.home
    assert "asking CellProfiler for the image sets of 4 files" in capsys.readouterr().err
    assert not plate.workspace.status.exists(), "planning writes nothing"
    first.made.keep(plate.workspace)
    again = of_run(plate)
    assert again.made and again.made.path == plate.workspace.batch
    assert again.made.question == first.made.question
    assert len(maker.asked) == 1
    of_run(plate, ask_again=True)
    assert len(maker.asked) == 2


@pytest.mark.parametrize("what", ["list", "pipeline", "version", "map", "file"])
def test_it_is_made_again_where_what_it_depends_on_changed(
    plate: Screen, maker: Maker, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    found = of_run(plate)
    assert found.made
    found.made.keep(plate.workspace)
    more: dict[str, Any] = {}
    if what == "list":
        with plate.workspace.file_list.open("a") as file:
            file.write("more.tif\n")
    elif what == "pipeline":
        plate.pipeline.write_text(plate.pipeline.read_text() + EXPORT)
    elif what == "version":
        monkeypatch.setattr(cellprofiler, "version", lambda argv: "4.2.9")
    elif what == "map":
        more["moved"] = moved_of(["/lab=/data"])
    else:
        # somebody else's, or a damaged one
        with plate.workspace.batch.open("ab") as file:
            file.write(b"x")
    of_run(plate, **more)
    assert len(maker.asked) == 2


def test_a_map_moves_the_files_before_they_are_asked_for(plate: Screen, maker: Maker) -> None:
    of_run(plate, moved=moved_of([f"/lab/{HOSTILE}=/data"]))
    assert maker.asked[0][2] == "/data/3.tif"


def test_plates_can_be_selected(plate: Screen, maker: Maker) -> None:
    path = plate.workspace.selection("platelist")
    path.parent.mkdir(parents=True)
    path.write_text("P1\n")
    found = of_run(plate)
    assert found.keep == [2, 4]
    assert list(found.images.lines) == [2, 4]
    assert found.groups is not None and len(found.groups) == 2
    assert "2 image sets left out" in found.notes[0]


def test_image_sets_can_be_left_out(plate: Screen, maker: Maker) -> None:
    found = imagesets.without(of_run(plate), {1, 3})
    assert found.keep == [2, 4]
    assert found.groups is not None and len(found.groups) == 2


def test_what_is_left_out_of_a_list_no_longer_types_it() -> None:
    header = ("FileName_DNA", "Metadata_Site")
    rows = (("a.tif", "1"), ("b.tif", "x"), ("c.tif", "3"))
    found = imagesets.of_list(ImageList(header, rows, (2, 3, 4)))
    assert found.types == (Type.TEXT, Type.TEXT)
    left = imagesets.without(found, [3])
    assert left.images.lines == (2, 4)
    assert left.types == (Type.TEXT, Type.INTEGER)


def test_a_range_of_rows_is_typed_by_the_whole_list(screen: Screen) -> None:
    screen.header.append("Metadata_Site")
    screen.fill(4)
    for row, site in zip(screen.rows, "x234", strict=True):
        row.append(site)
    screen.write()
    pipe = pipeline.read(screen.pipeline)
    found = imagesets.of_run(screen.workspace, pipe, settings(screen), (2, 3))
    assert found.images.lines == (3, 4)
    assert found.types[-1] is Type.TEXT
    assert len(found.beside) == 4
    assert imagesets.without(found, [3]).types[-1] is Type.TEXT
    call = (imagesets.of_run, screen.workspace, pipe, settings(screen), (5, 9))
    refused(Exit.MALFORMED_INPUT, "no row of the image list is in LoadData's range", *call)


def test_without_a_list_it_is_66(plate: Screen, maker: Maker) -> None:
    plate.workspace.file_list.unlink()
    error = refused(Exit.NO_INPUT, "no list of files", of_run, plate)
    assert "find" in error.todo


def test_an_empty_list_is_65(plate: Screen, maker: Maker) -> None:
    plate.workspace.file_list.write_text("\n \n")
    refused(Exit.MALFORMED_INPUT, "no files in it", of_run, plate)


def test_a_list_that_is_no_text_is_65(plate: Screen, maker: Maker) -> None:
    plate.workspace.file_list.write_bytes(b"a.tif\n\xff\xfe\n")
    refused(Exit.MALFORMED_INPUT, "not UTF-8", of_run, plate)


def test_where_cellprofiler_makes_none_its_reason_is_given(plate: Screen, maker: Maker) -> None:
    maker.lose = True
    error = refused(Exit.MALFORMED_INPUT, "ValueError: what went wrong", of_run, plate)
    assert "NamesAndTypes" in error.todo


def test_a_batch_file_without_image_sets_is_no_image_set(plate: Screen, maker: Maker) -> None:
    maker.none = True
    refused(Exit.MALFORMED_INPUT, "makes no image set of 4 files", of_run, plate)


def test_where_windows_paths_make_no_image_set_the_map_is_named(
    plate: Screen, maker: Maker
) -> None:
    maker.none = True
    for line in (r"E:\lab\p1\a.tif", "file:///E:/lab/p1/a.tif"):
        plate.workspace.file_list.write_text(line)
        error = refused(Exit.MALFORMED_INPUT, "makes no image set of 1 file", of_run, plate)
        assert error.todo.startswith("name its folder on this machine: --map ")
        assert error.todo.rstrip("'").endswith("=FOLDER")
    plate.workspace.file_list.unlink()
    listed = '"URL","Series","Index","Channel"\n"file:///E:/lab/a.tif",,,\n'
    plate.pipeline.write_text(f"{HEAD}ModuleCount:1\nHasImagePlaneDetails:True\n{NAMES}\n{listed}")
    error = refused(Exit.MALFORMED_INPUT, "makes no image set", of_run, plate)
    assert error.todo == "name its folder on this machine: --map E:/lab=FOLDER"


def test_a_full_disk_is_said(plate: Screen, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_run(plate)
    assert found.made

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(imagesets.shutil, "copyfile", full)
    with pytest.raises(BpcpError, match="No space left"):
        found.made.keep(plate.workspace)
    assert read_json(plate.workspace.batch_state) is None


def test_loaddatas_rows_can_be_put_into_a_batch_file(screen: Screen, maker: Maker) -> None:
    screen.fill(2)
    screen.pipeline.write_text(
        pipeline_text(load_data()).replace("Version:5\n", "Version:5\nModuleCount:1\n")
    )
    pipe = pipeline.read(screen.pipeline)
    imagesets.batch_file(screen.workspace, pipe, settings(screen, moved=NOWHERE))
    header, *rows = maker.asked[0]
    assert header.startswith("FileName_DNA,PathName_DNA")
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("numbers", "keys", "wanted"),
    [
        (((1, 1, 2), (1, 2, 2), (2, 1, 1)), "Plate", ""),
        (((1, 1, 3), (1, 2, 3), (1, 3, 3)), "", ""),
        (((7, 1, 2), (7, 2, 2), (8, 1, 1)), "Plate", "image set 1 has Group_Number"),
        (((1, 1, 3), (1, 2, 3), (1, 3, 3)), "Plate", "1, 1, 3, and by the pipeline's own"),
        (((1, 1, 3), (1, 2, 3), (2, 1, 3)), "", "2, 1, 3, and by the pipeline's own"),
    ],
)
def test_groups_of_a_batch_file_that_load_data_csv_numbered(
    screen: Screen, numbers: tuple[tuple[int, int, int], ...], keys: str, wanted: str
) -> None:
    named = ("Group_Number", "Group_Index", "Group_Length")
    columns: dict[str, Sequence[Any]] = {
        "FileName_DNA": ["a.tif", "b.tif", "c.tif"],
        "PathName_DNA": ["/data"] * 3,
        "Metadata_Plate": ["P1", "P1", "P2"],
        **dict(zip(named, zip(*numbers, strict=True), strict=True)),
    }
    text = pipeline_text(load_data(keys=keys), EXPORT) + "    Hidden- in batch mode:No\n"
    screen.base.mkdir(parents=True, exist_ok=True)
    pipe = pipeline.read(batchfile.write(screen.base / batch.NAME, text, columns))
    call = (imagesets.of_run, screen.workspace, pipe, settings(screen))
    if wanted:
        error = refused(Exit.MALFORMED_INPUT, wanted, *call)
        assert "load_data.csv itself" in error.todo
    else:
        assert len(imagesets.of_run(*call[1:]).images.rows) == 3
