"""Index files of instruments, with their images around them, become lists."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HOSTILE, refused, rows_of
from s3server import Bucket, S3Server

from bpcp.errors import Exit
from bpcp.images import incell_xdce, phenix, yokogawa
from bpcp.images.__main__ import main
from bpcp.images.record import Index

RECORDED = Path(__file__).parent / "recorded" / "images"
READERS: dict[str, tuple[str, Callable[[Path, str], Index]]] = {
    "harmony5": ("Index.idx.xml", phenix.read),
    "harmony7": ("Index.xml", phenix.read),
    "cv8000": ("MeasurementData.mlf", yokogawa.read),
    "cq3k": ("MeasurementData.mlf", yokogawa.read),
    "incell": ("Plate 17.xdce", incell_xdce.read),
}


def measured(kind: str, folder: Path) -> Path:
    """Lay out a measurement: its index, and an empty file for each image that it names."""
    shutil.copytree(RECORDED / kind, folder)
    name, read = READERS[kind]
    for image in read(folder / name, str(folder)).images:
        path = Path(image.folder) / image.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def made(source: Path | str, tmp_path: Path, *more: str) -> list[dict[str, str]]:
    out = tmp_path / "out.csv"
    assert main([str(source), "--out", str(out), *more]) == Exit.OK
    return rows_of(out)


def test_harmony_with_positions_and_names_of_channels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = measured("harmony5", tmp_path / HOSTILE / "Images")
    rows = made(tmp_path / HOSTILE, tmp_path)
    places = [(r["Metadata_Well"], r["Metadata_Site"], r["Metadata_ZPlane"]) for r in rows]
    assert places == [(w, s, z) for w in ("A01", "P24") for s in "12" for z in "12"]
    assert rows[2] == {
        "FileName_HOECHST33342": "r01c01f02p01-ch1sk1fk1fl1.tiff",
        "PathName_HOECHST33342": str(folder),
        "FileName_Brightfield": "r01c01f02p01-ch2sk1fk1fl1.tiff",
        "PathName_Brightfield": str(folder),
        "Metadata_Plate": "Plate 1",
        "Metadata_Well": "A01",
        "Metadata_Row": "A",
        "Metadata_Col": "1",
        "Metadata_Site": "2",
        "Metadata_ZPlane": "1",
        "Metadata_PositionX": "-0.000322907",
        "Metadata_PositionY": "-0.000322907",
        "Metadata_PositionZ": "-6E-06",
        "Metadata_AbsPositionZ": "0.135347304",
        "Metadata_AbsTime": "2023-03-23T14:52:44.42-04:00",
    }
    told = capsys.readouterr().err
    assert "by 1 index file" in told
    assert "channel 1: 'HOECHST 33342' is HOECHST33342 for CellProfiler" in told
    assert "differs between channels, the first one's is taken: AbsPositionZ, AbsTime" in told


def test_harmony_7_with_time_points(tmp_path: Path) -> None:
    rows = made(measured("harmony7", tmp_path / "m"), tmp_path, "--channel", "6=DNA")
    assert [r["Metadata_Timepoint"] for r in rows] == ["1", "2"]
    assert rows[1]["FileName_Alexa488"] == "r02c03f01p01-ch1sk2fk1fl1.tiff"
    assert rows[1]["FileName_DNA"] == "r02c03f01p01-ch6sk2fk1fl1.tiff"
    assert {r["Metadata_Plate"] for r in rows} == {"240624_densities_1.1"}


def test_yokogawa_with_the_setting_beside_it(tmp_path: Path) -> None:
    rows = made(measured("cv8000", tmp_path / "m"), tmp_path)
    assert [(r["Metadata_Well"], r["Metadata_Site"], r["Metadata_ZPlane"]) for r in rows] == [
        (w, s, z) for w in ("D08", "P24") for s in "12" for z in "12"
    ]
    assert rows[0]["FileName_Ch405"] == "Plate_7_D08_T0001F001L01A01Z01C01.tif"
    assert rows[0]["FileName_Ch488"] == "Plate_7_D08_T0001F001L01A02Z01C02.tif"
    assert (rows[0]["Metadata_PositionX"], rows[0]["Metadata_Plate"]) == ("-567.2", "Plate_7")


def test_yokogawa_with_folders_below_and_a_projection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = measured("cq3k", tmp_path / "AP7")
    rows = made(folder, tmp_path, "--channel", "1=DNA")
    assert [(r["Metadata_ZPlane"], r["PathName_DNA"]) for r in rows] == [
        ("1", f"{folder}/Image"),
        ("2", f"{folder}/Image"),
    ]
    assert {(r["Metadata_Plate"], r["Metadata_Well"]) for r in rows} == {("AP7", "C05")}
    assert "1 projection of z planes that are listed, left out: " in capsys.readouterr().err


@pytest.mark.parametrize("layer", ["", "Image", "Projection"])
def test_without_a_detail_file_the_plate_is_its_folder(layer: str, tmp_path: Path) -> None:
    folder = measured("cq3k", tmp_path / "AP 9" / layer)
    assert not (folder / "MeasurementDetail.mrf").exists()
    rows = made(tmp_path / "AP 9", tmp_path, "--channel", "1=DNA")
    assert [(r["Metadata_Plate"], r["Metadata_ZPlane"]) for r in rows] == [
        ("AP 9", "1"),
        ("AP 9", "2"),
    ]


def test_incell(tmp_path: Path) -> None:
    rows = made(measured("incell", tmp_path / "m"), tmp_path)
    assert len(rows) == 8
    assert rows[-1]["FileName_UV_DAPI"] == "B - 12(fld 2 wv UV - DAPI z 2).tif"
    assert rows[-1]["FileName_Green_dsRed"] == "B - 12(fld 2 wv Green - dsRed z 2).tif"
    assert (rows[-1]["Metadata_Plate"], rows[-1]["Metadata_Col"]) == ("Plate 17", "12")


@pytest.mark.parametrize("kind", list(READERS))
def test_each_measurement_is_the_same_from_a_bucket(
    kind: str, server: S3Server, bucket: Bucket, tmp_path: Path
) -> None:
    folder = measured(kind, tmp_path / "a b")
    here = made(folder, tmp_path)
    bucket.put_tree(folder, "ü/a b")
    there = made(f"{bucket.url}/ü", tmp_path, "--overwrite", "--endpoint-url", server.url)
    for row in here:
        for name in row:
            if name.startswith("PathName_"):
                row[name] = row[name].replace(str(folder), f"{bucket.url}/ü/a b")
    assert there == here


def archived(plate: Path) -> Path:
    """Lay out a Harmony 7 measurement whose index lies above the folder that its URLs name."""
    index = measured("harmony7", plate) / "Index.xml"
    (plate / "Images").mkdir()
    for image in plate.glob("*.tiff"):
        image.rename(plate / "Images" / image.name)
    index.write_text(index.read_text().replace("<URL>", "<URL>Images/"))
    return index


def test_indexes_above_the_folders_of_their_images(
    server: S3Server, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / HOSTILE
    archived(source / "P 1")
    archived(source / "P 2")
    rows = made(source, tmp_path, "--plate-from", "folder")
    assert [(r["Metadata_Plate"], r["PathName_Alexa488"]) for r in rows] == [
        (plate, f"{source}/{plate}/Images") for plate in ("P 1", "P 1", "P 2", "P 2")
    ]
    assert {r["Metadata_PositionX"] for r in rows} == {"0"}
    told = capsys.readouterr().err
    assert "by 2 index files" in told
    assert "not there" not in told and "left out" not in told
    bucket.put_tree(source, "x")
    more = ("--overwrite", "--plate-from", "folder", "--endpoint-url", server.url)
    there = made(f"{bucket.url}/x", tmp_path, *more)
    assert [r["PathName_Alexa488"] for r in there] == [
        f"{bucket.url}/x/{plate}/Images" for plate in ("P 1", "P 1", "P 2", "P 2")
    ]


def test_an_index_never_names_what_lies_above_it(tmp_path: Path) -> None:
    archived(tmp_path / "s" / "P1")
    index = archived(tmp_path / "s" / "P2")
    index.write_text(index.read_text().replace("<URL>Images/", "<URL>../P1/Images/"))
    error = refused(
        Exit.MALFORMED_INPUT, "names a file outside", main, [str(tmp_path / "s"), "--dry-run"]
    )
    assert f"{index}, line 62: '../P1/Images/r02c03f01p01-ch1sk1fk1fl1.tiff'" in str(error)


def test_what_the_index_and_the_folder_do_not_share_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = measured("harmony5", tmp_path / "m")
    (folder / "r16c24f02p02-ch2sk1fk1fl1.tiff").unlink()
    (folder / "r16c24f09p02-ch2sk1fk1fl1.tiff").touch()
    error = refused(Exit.MALFORMED_INPUT, "1 incomplete", main, [str(folder), "--dry-run"])
    assert "--incomplete drop" in error.todo
    told = capsys.readouterr().err
    assert f"1 image in the index, but not there: {folder}/r16c24f02p02-ch2sk1fk1fl1.tiff" in told
    assert f"1 file not in the index, left out: {folder}/r16c24f09p02-ch2sk1fk1fl1.tiff" in told
    assert "Plate 1, P24, site 2, t 0, z 2: no Brightfield" in told
    assert len(made(folder, tmp_path, "--incomplete", "drop")) == 7


def test_a_well_that_the_index_does_not_name_is_not_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = measured("harmony5", tmp_path / "m")
    for channel in (1, 2):
        (folder / f"r03c03f01p01-ch{channel}sk1fk1fl1.tiff").touch()
    source = [str(folder), "--dry-run"]
    error = refused(Exit.MALFORMED_INPUT, "2 files not in the index", main, source)
    assert "nothing of well C03" in str(error)
    assert "--exclude" in error.todo
    assert main([*source, "--exclude", "r03c03*"]) == Exit.OK
    assert "left out: 2 excluded" in capsys.readouterr().err


def test_the_gallerys_folders_name_the_plate_of_an_index(tmp_path: Path) -> None:
    plate = tmp_path / "images/2020_11_04_B1/images/BR1__2020-11-08T19_57_47-Measurement1/Images"
    plate.parent.mkdir(parents=True)
    measured("harmony7", plate)
    rows = made(tmp_path / "images", tmp_path)
    assert {(r["Metadata_Plate"], r["Metadata_Batch"]) for r in rows} == {("BR1", "2020_11_04_B1")}
    assert "Metadata_PositionX" in rows[0]


def test_plates_with_and_without_an_index(tmp_path: Path) -> None:
    measured("harmony7", tmp_path / "s" / "P1")
    (tmp_path / "s" / "P2").mkdir()
    for channel in (1, 6):
        (tmp_path / "s" / "P2" / f"r01c01f01p01-ch{channel}sk1fk1fl1.tiff").touch()
    rows = made(tmp_path / "s", tmp_path)
    assert [(r["Metadata_Plate"], r["Metadata_PositionX"]) for r in rows] == [
        ("240624_densities_1.1", "0"),
        ("240624_densities_1.1", "0"),
        ("P2", ""),
    ]


def test_of_two_indexes_in_a_folder_one_is_read(tmp_path: Path) -> None:
    folder = measured("harmony5", tmp_path / "m")
    (folder / "Index.xml").write_text("<not an index", encoding="utf-8")
    assert len(made(folder, tmp_path)) == 8


def test_a_broken_index_is_an_error_and_never_skipped(tmp_path: Path) -> None:
    folder = measured("harmony5", tmp_path / "m")
    whole = (folder / "Index.idx.xml").read_bytes()
    (folder / "Index.idx.xml").write_bytes(whole[: len(whole) // 2])
    refused(Exit.MALFORMED_INPUT, "Index.idx.xml", main, [str(folder), "--dry-run"])
