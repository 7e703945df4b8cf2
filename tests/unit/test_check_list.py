from __future__ import annotations

import csv
from pathlib import Path

import pytest
from conftest import HOSTILE, refused

from bpcp.check import rows, values
from bpcp.check.findings import Finding, Severity, bad_lines
from bpcp.check.rows import of_list
from bpcp.errors import Exit

GOOD = "FileName_DNA,PathName_DNA,Metadata_Plate,Metadata_Well,Metadata_Site"


def listed(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / HOSTILE / "load_data.csv"
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def found(tmp_path: Path, text: str | bytes, *keys: str) -> list[Finding]:
    findings, images = of_list(listed(tmp_path, text), keys)
    return [*findings, *(rows.backslashes(images) if images else ())]


def table(*lines: str, header: str = GOOD) -> str:
    return "".join(f"{line}\n" for line in (header, *lines))


ONE, TWO = "a.tif,/x,P,A01,1", "b.tif,/x,P,A01,2"

# For each code: a list in which it fires; where, and words of what it says, or its lines.
FIRES: dict[str, tuple[str | bytes, str, str, tuple[int, ...]]] = {
    "list-not-utf8": (table(ONE, "ü.tif,/x,P,A01,2").encode("latin-1"), "line 3", "UTF-8", (3,)),
    "list-unreadable": (table(ONE, "b\0.tif,/x,P,A01,2"), "line 3", "zero byte", (3,)),
    "list-bom": (b"\xef\xbb\xbf" + table(ONE).encode(), "line 1", "byte order mark", (1,)),
    "list-delimiter": (table(ONE).replace(",", ";"), "line 1", "semicolons", (1,)),
    "list-empty": (table(), "load_data.csv", "no rows", ()),
    "list-no-files-column": (
        "Filename_DNA,Metadata_Well\na.tif,A01\n",
        "line 1",
        "Filename_DNA, Metadata_Well",
        (1,),
    ),
    "list-path-without-file": (
        table(f"{ONE},/y", header=f"{GOOD},PathName_ER"),
        "line 1, PathName_ER",
        "no FileName_ER",
        (1,),
    ),
    "list-unnamed-column": (table(f"{ONE},", header=f"{GOOD},"), "line 1", "column 6 of 6", (1,)),
    "list-doubled-column": (
        table(f"{ONE},7", header=f"{GOOD},Metadata_Site"),
        "line 1, Metadata_Site",
        "2 columns",
        (1,),
    ),
    "list-column-name": (
        table(f"{ONE},7", header=f"{GOOD}, Metadata_Dose"),
        "line 1, ' Metadata_Dose'",
        "not take it for Metadata_Dose",
        (1,),
    ),
    "list-short-row": (table(ONE, "b.tif,/x"), "line 3", "2 cells, the header has 5", (3,)),
    "list-long-row": (table(ONE, f"{TWO},5,6"), "line 3", "7 cells", (3,)),
    "list-group-number": (
        "Group_Number,FileName_DNA\n1,a.tif\n,b.tif\n",
        "line 3, Group_Number",
        "'' is no whole number, in line 3; LoadData fails",
        (3,),
    ),
    "list-no-file": (table(ONE, ",/x,P,A01,2"), "line 3, FileName_DNA", "empty", (3,)),
    "list-empty-cell": (
        table(ONE, "b.tif,/x,P,A01,"),
        "Metadata_Site",
        "1 of 2 rows; that makes the whole column text",
        (3,),
    ),
    "list-line-break": (
        table(ONE, '"b.tif,/x,P,A01,2\nc.tif",/x,P,A01,3'),
        "FileName_DNA",
        "line 4",
        (4,),
    ),
    "list-space": (table(ONE, "b.tif ,/x,P,A01,2"), "FileName_DNA", "'b.tif '", (3,)),
    "list-backslash": (
        table(ONE, "b.tif,D:\\plate\\x,P,A01,2"),
        "PathName_DNA",
        "separates no folders",
        (3,),
    ),
    "list-duplicate-image-set": (
        table(ONE, TWO, "a.tif,/x,P,A02,1"),
        "line 4",
        "same files as line 2; they would be measured twice",
        (2, 4),
    ),
    "list-duplicate-metadata": (
        table(ONE, "b.tif,/x,P,A01,1"),
        "line 3",
        "same metadata as line 2, and other files: P A01 1",
        (2, 3),
    ),
    "list-same-file": (
        table(
            "a.tif,/x,a.tif,/x",
            "b.tif,/x,c.tif,/x",
            header="FileName_DNA,PathName_DNA,FileName_ER,PathName_ER",
        ),
        "line 2",
        "DNA and ER are both 'a.tif', in line 2",
        (2,),
    ),
    "list-typed": (
        table("a.tif,/x,P,A01,01", "b.tif,/x,P,A01,02"),
        "line 2, Metadata_Site",
        "'01' is 1, '02' is 2 to CellProfiler",
        (2, 3),
    ),
    "list-typed-code": (
        table("a.tif,/x,1E05,A01,1", "b.tif,/x,20_1,A01,2"),
        "line 2, Metadata_Plate",
        "'1E05' is 100000.0, '20_1' is 201.0",
        (2, 3),
    ),
    "list-merged-values": (
        table("a.tif,/x,07,A01,1", "b.tif,/x,7,A01,2"),
        "line 3, Metadata_Plate",
        "'07', '7' are all 7 to CellProfiler",
        (2, 3),
    ),
    "list-mixed-types": (
        table(ONE, TWO, "c.tif,/x,P,A01,s3"),
        "line 4, Metadata_Site",
        "text, for cells like 's3'; 2 of 3 cells alone would be whole numbers",
        (4,),
    ),
    "list-group-value": (
        table('a.tif,/x,"P=1, left",A01,1'),
        "line 2, Metadata_Plate",
        "comma or an equals sign",
        (2,),
    ),
    "list-address": (
        table("a.tif,s3://lab/../x,P,A01,1"),
        "PathName_DNA",
        "'s3://lab/../x/a.tif' has a part that is . or ..",
        (2,),
    ),
    "list-earlier-run": (
        (
            "FileName_DNA,PathName_DNA,Count_Nuclei,ExecutionTime_01LoadData,ModuleError_01LoadData"
            "\na.tif,/x,3,0.5,0\n"
        ),
        "line 1, Count_Nuclei",
        "Count_Nuclei and 2 more columns",
        (1,),
    ),
}


@pytest.mark.parametrize("code", FIRES)
def test_fires(tmp_path: Path, code: str) -> None:
    text, place, what, lines = FIRES[code]
    findings = [f for f in found(tmp_path, text, "Plate") if f.code.name == code]
    assert [(f.place, f.lines) for f in findings] == [(place, lines)]
    assert what in findings[0].what
    assert findings[0].remedy


def test_one_more_column_is_one(tmp_path: Path) -> None:
    text = "FileName_DNA,PathName_DNA,Count_Nuclei,ModuleError_01LoadData\na.tif,/x,3,0\n"
    (finding,) = (f for f in found(tmp_path, text, "Plate") if f.code.name == "list-earlier-run")
    assert "Count_Nuclei and 1 more column: " in finding.what


@pytest.mark.parametrize(
    ("cells", "warned"), [(("-4E-06", "0.5", "0"), False), (("4E06", "5E06", "1"), True)]
)
def test_positions_and_the_like_are_no_names(
    tmp_path: Path, cells: tuple[str, ...], warned: bool
) -> None:
    header = f"{GOOD},Metadata_PositionZ"
    rows = [f"{i}.tif,/x,P,A0{i},1,{cell}" for i, cell in enumerate(cells)]
    codes = {f.code.name for f in found(tmp_path, table(*rows, header=header))}
    assert ("list-typed-code" in codes) is warned


def test_every_code_fires() -> None:
    assert set(FIRES) == {code.name for code in rows.CODES}
    assert set(values.CODES) < set(rows.CODES)


def test_a_good_list_has_no_findings(tmp_path: Path) -> None:
    path = listed(tmp_path, table(ONE, TWO, "", "c.tif,/y,Q,A01,1").replace("\n", "\r\n"))
    findings, images = of_list(path, ["Plate"])
    assert findings == []
    assert images is not None
    assert images.lines == (2, 3, 5)


def test_all_that_is_wrong_is_listed_at_once(tmp_path: Path) -> None:
    text = table(ONE, "b.tif", TWO, "c.tif,/x", "d.tif,/x,P,A01,3,7", ",,,,", ",/x,P,A02,1")
    findings, images = of_list(listed(tmp_path, text))
    wrong = [(f.code.name, f.place) for f in findings if f.code is not rows.EMPTY_CELL]
    assert wrong[:5] == [
        ("list-short-row", "line 3"),
        ("list-short-row", "line 5"),
        ("list-long-row", "line 6"),
        ("list-no-file", "line 7"),
        ("list-no-file", "line 8, FileName_DNA"),
    ]
    # the good rows can be looked at nevertheless
    assert images is not None
    assert images.lines == (2, 4, 6, 7, 8)
    # and only rows that lack a file can be left out: LoadData refuses a list with a short row
    assert list(bad_lines(findings)) == [7, 8]


def test_columns_that_make_no_list_leave_no_rows(tmp_path: Path) -> None:
    text, *_ = FIRES["list-doubled-column"]
    assert of_list(listed(tmp_path, text))[1] is None


def test_utf16_is_named(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, table(ONE).encode("utf-16"))
    assert finding.code is rows.NOT_UTF8
    assert "UTF-16" in finding.what


def test_a_quote_that_is_not_closed_is_told_of(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, table(ONE, 'b.tif,"/x,P,A01,2', "c.tif,/x,P,A01,3"))
    assert (finding.code, finding.lines) == (rows.SHORT_ROW, (4,))
    assert "close the quote" in finding.remedy


def test_what_the_parser_gives_up_on_is_named_by_its_line(tmp_path: Path) -> None:
    before = csv.field_size_limit(100)
    try:
        (finding,) = found(tmp_path, table(ONE, "b" * 101 + ".tif,/x,P,A01,2"))
    finally:
        csv.field_size_limit(before)
    assert (finding.code, finding.place) == (rows.UNREADABLE, "line 3")


def test_an_empty_file(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, b"")
    assert finding.code is rows.EMPTY


@pytest.mark.parametrize("folder", [False, True])
def test_without_a_list_it_is_66(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "load_data.csv"
    if folder:
        path.mkdir()
    refused(Exit.NO_INPUT, "a folder" if folder else "no image list", of_list, path)


def test_a_url_stands_for_a_file(tmp_path: Path) -> None:
    text = table("a.tif,", ",file:/x/b.tif", ",", header="FileName_DNA,URL_DNA")
    findings = [f for f in found(tmp_path, text) if f.code is rows.NO_FILE]
    assert [f.place for f in findings] == ["line 4"]
    text = table("a.tif,/x,", "b.tif,/x,\t", header="FileName_DNA,Metadata_Well,URL_ER")
    (tmp_path / HOSTILE / "load_data.csv").write_text(text, encoding="utf-8")
    findings, _ = of_list(tmp_path / HOSTILE / "load_data.csv")
    empty = [f.place for f in findings if f.code is rows.NO_FILE]
    assert empty == ["line 2, URL_ER", "line 3, URL_ER"]


def test_frames_of_one_file_are_no_duplicates(tmp_path: Path) -> None:
    header = "FileName_DNA,Frame_DNA,FileName_ER,Frame_ER,Metadata_Site"
    text = table("a.tif,0,a.tif,1,1", "a.tif,2,a.tif,3,2", header=header)
    assert found(tmp_path, text) == []


def test_rows_without_files_are_not_compared(tmp_path: Path) -> None:
    text = table(",/x,,/x,1", ",/x,,/x,2", header="FileName_A,PathName_A,FileName_B,PathName_B,S")
    assert {f.code for f in found(tmp_path, text)} == {rows.NO_FILE}


def test_without_sites_rows_of_a_well_may_be_alike(tmp_path: Path) -> None:
    text = table("a.tif,A01", "b.tif,A01", header="FileName_DNA,Metadata_Well")
    assert found(tmp_path, text) == []


def test_numbers_that_stay_as_they_are_need_no_words(tmp_path: Path) -> None:
    text = table("a.tif,0", "b.tif,-3", header="FileName_DNA,Metadata_Dose")
    assert found(tmp_path, text) == []


def test_a_fraction_makes_all_of_a_column_fractions(tmp_path: Path) -> None:
    text = table("a.tif,0", "b.tif,0.5", "c.tif,1.50", header="FileName_DNA,Metadata_Dose")
    findings = found(tmp_path, text)
    assert [f.code for f in findings] == [values.TYPED, values.MIXED]
    assert "'1.50' is 1.5" in findings[0].what
    assert findings[1].what.startswith("numbers, for cells like '0.5'; 1 of 3 cells alone")


def test_well_columns_are_text_whatever_they_hold(tmp_path: Path) -> None:
    text = table("a.tif,01", "b.tif,1E5", header="FileName_DNA,Metadata_WellColumn")
    assert found(tmp_path, text) == []


@pytest.mark.parametrize("code", rows.CODES, ids=lambda code: code.name)
def test_what_stops_a_run_has_an_exit_code(code: rows.Code) -> None:
    assert code.name.startswith("list-")
    if code.severity is Severity.ERROR:
        assert code.exit is Exit.MALFORMED_INPUT
