from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.request import pathname2url

import pytest
from conftest import HOSTILE, refused, write_csv

from bpcp import compare
from bpcp.errors import Exit

IMAGE = ["ExecutionTime_01LoadData", "ImageNumber", "PathName_Overlay", "URL_DNA", "URL_Overlay"]
NUCLEI = ["ImageNumber", "ObjectNumber", "Area", "X", "Y"]


def result(folder: Path, time_s: float = 0.5, stamp: str = "2026") -> Path:
    home, url = str(folder), "file:" + pathname2url(str(folder))
    write_csv(
        folder / "Image.csv",
        [IMAGE, [time_s, 1, f"{home}/o", "file:/x/a", f"{url}/o/a.png"], [time_s, 2, home, "", ""]],
    )
    write_csv(folder / "Nuclei.csv", [NUCLEI, [1, 1, 0.1234567890123, 1, 2], [1, 2, "nan", 3, 4]])
    write_csv(folder / "Experiment.csv", [["Key", "Value"], ["Run_Timestamp", stamp], ["V", "4"]])
    (folder / "o").mkdir()
    (folder / "o" / "a.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return result(tmp_path / "one"), result(tmp_path / HOSTILE, 0.7, "2027")


def test_times_stamps_and_the_own_folder_may_differ(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([str(p) for p in pair]) == Exit.OK
    assert capsys.readouterr() == ("", "equal: 4 files\n")


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        text = (folder / name).read_bytes().decode()
        assert old in text
        (folder / name).write_bytes(text.replace(old, new, 1).encode())

    return apply


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (
            edit("Nuclei.csv", "0123,", "0124,"),
            "Nuclei.csv, row 1, Area: 0.1234567890123 | 0.1234567890124",
        ),
        (edit("Nuclei.csv", "1,2\r", "1,2.0\r"), "Nuclei.csv, row 1, Y: 2 | 2.0"),
        (edit("Nuclei.csv", "nan", ""), "Nuclei.csv, row 2, Area: nan | "),
        (edit("Nuclei.csv", "1,2,nan,3,4\r\n", ""), "Nuclei.csv, row 2: there | missing"),
        (edit("Nuclei.csv", "X,Y", "Y,X"), "Nuclei.csv, column 4: X | Y"),
        (edit("Nuclei.csv", ",Y\r", "\r"), "Nuclei.csv, column 5: Y | nothing"),
        (edit("Nuclei.csv", ",3,4", ",3"), "Nuclei.csv, row 2: 5 cells | 4 cells"),
        (edit("Nuclei.csv", "ImageNumber", "Number"), "Nuclei.csv, content: "),
        (edit("Image.csv", "file:/x/a", "file:/x/b"), "Image.csv, row 1, URL_DNA: "),
        (edit("Image.csv", '/o",', '/p",'), "Image.csv, row 1, PathName_Overlay: "),
        (edit("Experiment.csv", "V,4", "V,5"), "Experiment.csv, row 2, Value: 4 | 5"),
        (lambda f: (f / "o/a.png").write_bytes(b"\x89PNH"), "o/a.png, content: 4 bytes | 4 bytes"),
        (lambda f: (f / "o/a.png").unlink(), "o/a.png: there | missing"),
        (lambda f: (f / "o/b.png").touch(), "o/b.png: missing | there"),
        (lambda f: write_csv(f / "Nuclei.csv", [["Key", "Value"]]), "kind: object | experiment"),
    ],
)
def test_each_difference_is_noticed(
    pair: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    what: str,
) -> None:
    spoil(pair[1])
    assert compare.main([str(p) for p in pair]) == Exit.SOME_FAILED
    said, told = capsys.readouterr()
    assert what in said
    assert "differ in " in told


def test_both_ways(pair: tuple[Path, Path]) -> None:
    (pair[0] / "o/a.png").unlink()
    assert [str(d) for d in compare.compare(*pair)] == ["o/a.png: missing | there"]


def test_swapped_rows_are_noticed(pair: tuple[Path, Path]) -> None:
    write_csv(pair[1] / "Nuclei.csv", [NUCLEI, [1, 2, "nan", 3, 4], [1, 1, 0.1234567890123, 1, 2]])
    assert {d.where for d in compare.compare(*pair)} >= {"row 1, Area", "row 2, Area"}


def test_only_the_first_differences_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side, shift in (("a", 0), ("b", 1)):
        rows = [[1, k, k + shift] for k in range(1, 31)]
        write_csv(tmp_path / side / "N.csv", [["ImageNumber", "ObjectNumber", "A"], *rows])
    arguments = [str(tmp_path / "a"), str(tmp_path / "b")]
    compare.main(arguments)
    said, told = capsys.readouterr()
    assert said.count("\n") == 20
    assert told == "differ in 30 places, 20 shown\n"
    compare.main(["-q", *arguments])
    assert capsys.readouterr().err == ""


def test_a_missing_folder_is_66(tmp_path: Path) -> None:
    refused(Exit.NO_INPUT, "no folder", compare.main, [str(tmp_path), str(tmp_path / "gone")])


def test_long_cells_are_cut(tmp_path: Path) -> None:
    for side in "ab":
        write_csv(tmp_path / side / "E.csv", [["Key", "Value"], ["P", side * 200]])
    (difference,) = compare.compare(tmp_path / "a", tmp_path / "b")
    assert len(difference.left) == 60


def test_two_empty_folders_are_not_equal(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    arguments = [str(tmp_path / "a"), str(tmp_path / "b")]
    refused(Exit.NO_INPUT, "nothing to compare", compare.main, arguments)


@pytest.mark.parametrize("other", ["of ann", ""])
def test_the_passwords_of_servers_may_differ_and_nothing_else_does(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str], other: str
) -> None:
    """One process writes them into its result, a run of bpcp nowhere."""
    module = "ExportToDatabase:[module_num:9|enabled:True]\n    Username:ann\n    Password:"
    for folder, password in zip(pair, ("s3cret", other), strict=True):
        text = f"Version:5\n\n{module}{password}\n    Name:x\n"
        rows = [["Key", "Value"], ["Pipeline_Pipeline", text]]
        write_csv(folder / "Experiment.csv", rows)
        (folder / "x.properties").write_text(f"db_user      = ann\ndb_passwd    = {password}\n")
    assert compare.main([str(p) for p in pair]) == Exit.OK
    capsys.readouterr()
    edit("x.properties", "= ann", "= bob")(pair[1])
    edit("Experiment.csv", "Name:x", "Name:y")(pair[1])
    assert compare.main([str(p) for p in pair]) == Exit.SOME_FAILED
    said = capsys.readouterr().out
    assert "Experiment.csv, row 1" in said and "ann | " in said
    assert "s3cret" not in said
