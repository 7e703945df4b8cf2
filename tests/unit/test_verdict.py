from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_csv

from bpcp.chunk.verdict import Declared, Expected, Ran, Verdict, judge

IMAGE = ["Count_Nuclei", "ExecutionTime_01LoadData", "ImageNumber", "ModuleError_01LoadData"]
NUCLEI = ["ImageNumber", "ObjectNumber", "Area"]
EXPECTED = [
    Expected(r"Image\.csv", ("Image",)),
    Expected(r"Nuclei\.csv", ("Nuclei",)),
    Expected(r"Experiment\.csv", ("Experiment",)),
]
Rows = list[list[object]]


def good() -> tuple[Rows, Rows]:
    images: Rows = [["2.0", 0.25, 4, 0], ["nan", 0.5, 5, 0], ["1", 0.25, 6, "0.0"]]
    return images, [[4, 1, 0.5], [4, 2, 1.5], [6, 1, 2.5]]


def write(output: Path, images: Rows, nuclei: Rows) -> Path:
    write_csv(output / "Image.csv", [IMAGE, *images])
    write_csv(output / "Nuclei.csv", [NUCLEI, *nuclei])
    write_csv(output / "Experiment.csv", [["Key", "Value"], ["a", "b"]])
    (output / "overlays").mkdir()
    (output / "overlays" / "a.png").write_bytes(b"png")
    return output


DECLARED = Declared(
    tuple(EXPECTED), frozenset({"01LoadData", "02FlagImage"}), {2: {"Metadata_QC": "QC"}}, 4
)


def judged(output: Path, said: str = "Complete") -> Verdict:
    return judge(output, DECLARED, Ran(4, 6, said))


def test_a_good_attempt(tmp_path: Path) -> None:
    found = judged(write(tmp_path, *good()))
    assert found.faults == []
    assert set(found.tables) == {"Image.csv", "Nuclei.csv", "Experiment.csv"}
    assert found.files == ["overlays/a.png"]
    assert found.objects == {"Nuclei": 3}
    assert found.modules_s == 1.0


@pytest.mark.parametrize(
    ("said", "what"), [("Failure", "CellProfiler said Failure"), ("", "ended before it was done")]
)
def test_what_cellprofiler_said(tmp_path: Path, said: str, what: str) -> None:
    assert what in judged(write(tmp_path, *good()), said).faults[0]


def test_nothing_written(tmp_path: Path) -> None:
    assert judged(tmp_path).faults == ["CellProfiler wrote nothing"]


def change_images(change: Callable[[Rows], object]) -> Callable[[Path], object]:
    def apply(output: Path) -> None:
        images, _ = good()
        change(images)
        write_csv(output / "Image.csv", [IMAGE, *images])

    return apply


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda o: (o / "Nuclei.csv").unlink(), "no table of Nuclei"),
        (lambda o: (o / "Experiment.csv").unlink(), "no table of Experiment"),
        (lambda o: (o / "Nuclei.csv").write_bytes(b""), "Nuclei.csv is empty"),
        (lambda o: (o / "overlays" / "a.png").write_bytes(b""), "overlays/a.png is empty"),
        (
            lambda o: (o / "Nuclei.csv").write_bytes((o / "Nuclei.csv").read_bytes()[:-4]),
            "Nuclei.csv ends in the middle of a line",
        ),
        (
            lambda o: (o / "Nuclei.csv").write_text("ImageNumber,ObjectNumber\n4\n"),
            "Nuclei.csv, row 1: 1 cells",
        ),
        (
            lambda o: write_csv(o / "Nuclei.csv", [NUCLEI, ["x", 1, 1]]),
            "invalid literal for int",
        ),
        (change_images(lambda i: i[1].__setitem__(3, 1)), "image set 5: 01LoadData failed"),
        (change_images(lambda i: i[1].__setitem__(3, "")), "5: 01LoadData did not finish"),
        (
            change_images(lambda i: i.__setitem__(1, ["", "", 5, ""])),
            "image set 5 is blank in Image.csv",
        ),
        (change_images(lambda i: i.pop(1)), "Image.csv lacks 1 image sets, the first is 5"),
        (change_images(lambda i: i.append(i[1])), "Image.csv has 1 rows twice"),
        (
            change_images(lambda i: i.append([0, 0, 7, 0])),
            "Image.csv has rows of image set 7, which was not asked for",
        ),
        (
            change_images(lambda i: i[0].__setitem__(0, "3.0")),
            "image set 4: Count_Nuclei is 3.0, its table has 2 rows",
        ),
        (
            change_images(lambda i: i[0].__setitem__(0, "")),
            "image set 4: Count_Nuclei is blank, its table has 2 rows",
        ),
        (
            lambda o: write_csv(o / "Nuclei.csv", [NUCLEI, *good()[1], [9, 1, 1]]),
            "Nuclei.csv has rows of image set 9",
        ),
    ],
)
def test_each_fault_fires(tmp_path: Path, spoil: Callable[[Path], object], what: str) -> None:
    spoil(write(tmp_path, *good()))
    faults = judged(tmp_path).faults
    assert any(what in fault for fault in faults), faults


def test_tables_in_a_folder_for_each_plate(tmp_path: Path) -> None:
    images, nuclei = good()
    for plate, number in (("P 1", 4), ("P 2", 5), ("P 2", 6)):
        folder = tmp_path / plate
        if not folder.exists():
            write_csv(folder / "Image.csv", [IMAGE, *(r for r in images if r[2] == number)])
            write_csv(folder / "Nuclei.csv", [NUCLEI, *(r for r in nuclei if r[0] == number)])
        else:
            write_csv(folder / "Image.csv", [IMAGE, *images[1:]])
            write_csv(folder / "Nuclei.csv", [NUCLEI, *nuclei[2:]])
    expected = (Expected(r".*/Image\.csv", ("Image",)), Expected(r".*/Nuclei\.csv", ("Nuclei",)))
    declared, ran = Declared(expected), Ran(4, 6, "Complete")
    found = judge(tmp_path, declared, ran)
    assert found.faults == []
    assert found.objects == {"Nuclei": 3}
    (tmp_path / "P 2" / "Image.csv").unlink()
    assert "Image.csv lacks 2 image sets, the first is 5" in judge(tmp_path, declared, ran).faults


def test_exports_into_several_folders(tmp_path: Path) -> None:
    """Each export is counted by itself, whatever its tables are called."""
    images, nuclei = good()
    for folder in ("a", "b"):
        write_csv(tmp_path / folder / "Image.csv", [IMAGE, *images])
        write_csv(tmp_path / folder / "Nuclei.csv", [NUCLEI, *nuclei])
    for well, own in (("A01", images[:1]), ("A02", images[1:])):
        write_csv(tmp_path / "c" / f"{well}.csv", [IMAGE, *own])
    expected = [
        Expected(pattern, (name,))
        for name in ("Image", "Nuclei")
        for pattern in (rf"a/{name}\.csv", rf"b/{name}\.csv")
    ]
    expected.append(Expected(r"c/.*\.csv", ("Image",)))
    assert judge(tmp_path, Declared(expected), Ran(4, 6, "Complete")).faults == []
    write_csv(tmp_path / "b" / "Image.csv", [IMAGE, *images[1:]])
    write_csv(tmp_path / "c" / "A01.csv", [IMAGE, *images[:2]])
    assert judge(tmp_path, Declared(expected), Ran(4, 6, "Complete")).faults == [
        "Image.csv lacks 1 image sets, the first is 4",
        "A01.csv has 1 rows twice",
    ]


def test_exports_by_different_metadata_may_be_of_one_pattern(tmp_path: Path) -> None:
    images, _ = good()
    write_csv(tmp_path / "P1" / "Image.csv", [IMAGE, *images])
    for well, own in (("A01", images[:1]), ("A02", images[1:])):
        write_csv(tmp_path / well / "Image.csv", [IMAGE, *own])
    expected = [Expected(r".*/Image\.csv", ("Image",))] * 2
    assert judge(tmp_path, Declared(expected), Ran(4, 6, "Complete")).faults == []
    found = judge(tmp_path, Declared(expected[1:]), Ran(4, 6, "Complete"))
    assert found.faults == ["Image.csv has 3 rows twice"]


@pytest.mark.parametrize("objects", ["Cells", "Image"])
def test_of_two_exports_to_one_name_the_later_stays(tmp_path: Path, objects: str) -> None:
    """What was written over is not counted."""
    images, nuclei = good()
    write_csv(tmp_path / "Image.csv", [IMAGE, *images])
    later = [IMAGE, *images] if objects == "Image" else [NUCLEI, *nuclei, [6, 2, 1]]
    write_csv(tmp_path / "t.csv", later)
    expected = [
        Expected(r"Image\.csv", ("Image",)),
        Expected(r"t\.csv", ("Nuclei",)),
        Expected(r"t\.csv", (objects,)),
    ]
    assert judge(tmp_path, Declared(expected), Ran(4, 6, "Complete")).faults == []


def test_relationships_may_point_to_other_image_sets(tmp_path: Path) -> None:
    write(tmp_path, *good())
    write_csv(
        tmp_path / "r.csv",
        [
            ["Module", "Module Number", "Relationship", "First Object Name", "First Image Number",
             "First Object Number", "Second Object Name", "Second Image Number",
             "Second Object Number"],
            ["TrackObjects", 5, "Parent", "Nuclei", 3, 1, "Nuclei", 4, 1],
        ],
    )  # fmt: skip
    assert judged(tmp_path).faults == []
