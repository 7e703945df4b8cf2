from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import EXPORT, HOSTILE, ROOT, load_data, pipeline_text, refused

from bpcp import pipeline
from bpcp.errors import Exit
from bpcp.pipeline import Pipeline, Table


def written(folder: Path, *modules: str) -> Path:
    path = folder / "p.cppipe"
    path.write_text(pipeline_text(*modules), encoding="utf-8")
    return path


def read(folder: Path, *modules: str) -> Pipeline:
    return pipeline.read(written(folder, *modules))


def module(name: str, *settings: str, flags: str = "enabled:True") -> str:
    lines = "".join(f"    {setting}\n" for setting in settings)
    return f"\n{name}:[module_num:9|svn_version:'Unknown'|{flags}|wants_pause:False]\n{lines}"


def test_the_demos_pipeline() -> None:
    found = pipeline.read(ROOT / "bpcp" / "demo.cppipe")
    assert [m.number for m in found.modules] == list(range(1, 15))
    assert found.modules[-1].name == "ExportToSpreadsheet"
    assert found.group_keys == ()
    assert found.image_base == "None|"
    assert list(found.tables()) == [Table("*.csv", ()), Table("Experiment.csv", ("Experiment",))]
    assert re.fullmatch("[0-9a-f]{64}", found.sha256)


def test_settings_keep_colons_and_order(tmp_path: Path) -> None:
    found = read(tmp_path, load_data(), module("Crop", "A:1:2", "B:", "A:x"))
    assert found.modules[1].settings == (("A", "1:2"), ("B", ""), ("A", "x"))
    assert found.modules[1].get("A") == "1:2"
    assert found.modules[1].all("A") == ["1:2", "x"]
    assert found.modules[1].get("C", "none") == "none"


def test_group_keys(tmp_path: Path) -> None:
    assert read(tmp_path, load_data(keys="Plate, Well")).group_keys == ("Plate", "Well")
    text = load_data(keys="Plate").replace("by metadata?:Yes", "by metadata?:No")
    assert read(tmp_path, text).group_keys == ()


def test_disabled_modules_do_not_count_but_keep_their_numbers(tmp_path: Path) -> None:
    off = "enabled:False"
    found = read(
        tmp_path,
        load_data(),
        module("LoadData", flags=off),
        module("TrackObjects", flags=off),
        module("ExportToDatabase", flags=off),
        EXPORT,
    )
    assert [(m.name, m.number) for m in found.modules] == [
        ("LoadData", 1),
        ("ExportToSpreadsheet", 5),
    ]


def test_a_note_that_says_disabled_does_not_disable(tmp_path: Path) -> None:
    found = read(
        tmp_path, load_data(), module("Crop", flags="notes:['|enabled:False|']|enabled:True")
    )
    assert [m.name for m in found.modules] == ["LoadData", "Crop"]


def test_line_ends_of_windows(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert pipeline.read(path).named("LoadData")[0].get("Rescale intensities?") == "Yes"


def test_groups_of_the_other_kind_of_pipeline(tmp_path: Path) -> None:
    names = module("NamesAndTypes", "Assign a name to:All images")
    groups = module(
        "Groups",
        "Do you want to group your images?:Yes",
        "Metadata category:Plate",
        "Metadata category:Well",
    )
    found = read(tmp_path, names, groups)
    assert not found.reads_list
    assert found.group_keys == ("Plate", "Well")
    assert found.image_base == "None|"
    none = module("Groups", "Do you want to group your images?:No", "Metadata category:Plate")
    assert read(tmp_path, names, none).group_keys == ()


def export(*tables: tuple[str, str, str, str], **settings: str) -> str:
    text = EXPORT.split("    Data to export")[0].replace(
        "Export all measurement types?:Yes", "Export all measurement types?:No"
    )
    for label, value in settings.items():
        spelled = label.replace("_", " ")
        text = re.sub(rf"(    {spelled}[^:]*):.*", lambda m, v=value: f"{m[1]}:{v}", text)
    for name, shares, file, automatic in tables:
        text += (
            f"    Data to export:{name}\n"
            "    Combine these object measurements with those of the previous object?:"
            f"{shares}\n    File name:{file}\n"
            f"    Use the object name for the file name?:{automatic}\n"
        )
    return text


def tables(folder: Path, text: str) -> list[Table]:
    return list(read(folder, load_data(), text).tables())


def test_tables_named_one_by_one(tmp_path: Path) -> None:
    text = export(
        ("Image", "No", "DATA.csv", "Yes"),
        ("Nuclei", "No", "my nuclei.csv", "No"),
        ("Experiment", "No", "DATA.csv", "Yes"),
        ("Object relationships", "No", "r.csv", "No"),
    )
    assert tables(tmp_path, text) == [
        Table("Image.csv", ("Image",)),
        Table("my nuclei.csv", ("Nuclei",)),
        Table("Experiment.csv", ("Experiment",)),
        Table("r.csv", ("Object relationships",)),
    ]


def test_objects_may_share_a_table(tmp_path: Path) -> None:
    text = export(
        ("Image", "No", "", "Yes"),
        ("Nuclei", "Yes", "all.csv", "No"),
        ("Cells", "Yes", "", "Yes"),
        ("Cytoplasm", "No", "", "Yes"),
    )
    assert tables(tmp_path, text) == [
        Table("Image.csv", ("Image",)),
        Table("all.csv", ("Nuclei", "Cells")),
        Table("Cytoplasm.csv", ("Cytoplasm",)),
    ]


def test_prefix_delimiter_and_subfolder(tmp_path: Path) -> None:
    text = export(
        ("Nuclei", "No", "", "Yes"),
        Select_the_column_delimiter="Tab",
        Output_file_location=r"Default Output Folder sub-folder|./tables/\g<Plate>",
        Add_a_prefix="Yes",
    )
    (found,) = tables(tmp_path, text)
    assert found.path == r"tables/\g<Plate>/MyExpt_Nuclei.txt"
    assert re.fullmatch(found.pattern(), "tables/Plate (1)/MyExpt_Nuclei.txt")
    assert not re.fullmatch(found.pattern(), "tables/P1/MyExpt_NucleiXtxt")


@pytest.mark.parametrize(
    ("folder", "of_objects", "of_experiment"),
    [
        ("Default Output Folder|", "", ""),
        ("Default Output Folder sub-folder|a/b", "a/b/", "a/b/"),
        (r"Default Output Folder sub-folder|\g<Plate>", r"\g<Plate>/", ""),
        (r"Default Output Folder sub-folder|a/p\g<Plate>/b", r"a/p\g<Plate>/b/", "a/"),
    ],
)
def test_tables_of_everything(
    tmp_path: Path, folder: str, of_objects: str, of_experiment: str
) -> None:
    text = export(
        Export_all_measurement_types="Yes", Add_a_prefix="Yes", Output_file_location=folder
    )
    assert tables(tmp_path, text) == [
        Table(f"{of_objects}MyExpt_*.csv", ()),
        Table(f"{of_experiment}MyExpt_Experiment.csv", ("Experiment",)),
    ]


@pytest.mark.parametrize(
    "place",
    [
        "Elsewhere...|/data",
        "Default Input Folder|",
        "Default Output Folder sub-folder|../data",
        "Default Output Folder sub-folder|a/../../data",
        "Default Output Folder sub-folder|/data",
    ],
)
def test_refuses_tables_elsewhere(tmp_path: Path, place: str) -> None:
    found = read(tmp_path, load_data(), export(Output_file_location=place))
    what = f"writes to: {place.replace('|', ' ')}".rstrip()
    error = refused(Exit.MALFORMED_INPUT, what, list, found.tables())
    assert "Default Output Folder" in error.todo


def test_refuses_what_is_no_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "p.cppipe"
    for content in (b"", b"\x89HDF\r\n", b"{}\n"):
        path.write_bytes(content)
        error = refused(Exit.MALFORMED_INPUT, "not a CellProfiler pipeline", pipeline.read, path)
        assert not error.todo
    as_json = path.with_suffix(".json")
    as_json.write_text("{}")
    error = refused(Exit.MALFORMED_INPUT, "not a CellProfiler pipeline", pipeline.read, as_json)
    assert "export the pipeline as a .cppipe file" in error.todo


def test_a_missing_pipeline_lists_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / f"{HOSTILE}.cppipe").touch()
    error = refused(Exit.NO_INPUT, "no pipeline", pipeline.read, tmp_path / "gone.cppipe")
    assert f"{HOSTILE}.cppipe" in error.todo
    error = refused(Exit.NO_INPUT, "a folder, not a pipeline", pipeline.read, tmp_path)
    assert f"{HOSTILE}.cppipe" in error.todo
    error = refused(Exit.NO_INPUT, "no pipeline", pipeline.read, tmp_path / "no" / "gone.cppipe")
    assert "holds no .cppipe file" in error.todo


@pytest.mark.parametrize(
    ("folder", "file", "path", "of_all"),
    [
        (r"./a//b/.", "./x//i.csv", "a/b/x/i.csv", "a/b/Experiment.csv"),
        (r"t/x\g<Plate>/y", "i.csv", r"t/x\g<Plate>/y/i.csv", "t/Experiment.csv"),
        # the newer kind of tag ends the folder of what has no metadata, the older one does not
        (r"t/(?<Plate>)x", "i.csv", r"t/(?<Plate>)x/i.csv", r"t/(?<Plate>)x/Experiment.csv"),
    ],
)
def test_folders_of_tables(tmp_path: Path, folder: str, file: str, path: str, of_all: str) -> None:
    place = f"Default Output Folder sub-folder|{folder}"
    one = export(("Image", "No", file, "No"), Output_file_location=place)
    assert [t.path for t in tables(tmp_path, one)] == [path]
    every = export(Output_file_location=place, Export_all_measurement_types="Yes")
    assert [t.path for t in tables(tmp_path, every)][1] == of_all


def test_two_backslashes_are_one() -> None:
    assert Table(r"a\\b/\g<Plate>.csv", ("Image",)).pattern() == r"a\\b/.*\.csv"
