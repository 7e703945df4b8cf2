from __future__ import annotations

from pathlib import Path

import pytest
from conftest import EXPORT, ROOT, SAVE, load_data, pipeline_text

from bpcp import binding, pipeline
from bpcp.pipeline import Pipeline


def read(folder: Path, *modules: str) -> Pipeline:
    path = folder / "p.cppipe"
    path.write_text(pipeline_text(*modules))
    return pipeline.read(path)


def module(name: str, *settings: str) -> str:
    lines = "".join(f"    {setting}\n" for setting in settings)
    return f"\n{name}:[module_num:9|svn_version:'Unknown'|enabled:True|wants_pause:False]\n{lines}"


def test_nothing_binds_the_demos_image_sets() -> None:
    found = pipeline.read(ROOT / "bpcp" / "demo.cppipe")
    assert binding.aggregators(found) == binding.place_users(found) == []
    assert binding.count_users(found, 10**6) == []


@pytest.mark.parametrize(
    ("name", "setting", "counts"),
    [
        ("TrackObjects", "", True),
        ("MakeProjection", "", True),
        ("CorrectIlluminationCalculate", "Calculate:All: Across cycles", True),
        ("CorrectIlluminationCalculate", "Calculate:All: First cycle", True),
        ("CorrectIlluminationCalculate", "Calculate:Each", False),
        ("Tile", "Tile:Across cycles", True),
        ("Tile", "Tile:Within cycles", False),
        ("SaveImages", "When to save:Last cycle", True),
        ("SaveImages", "When to save:Every cycle", False),
        ("RescaleIntensity", "Method:Minimum of all images", True),
        ("DefineGrid", "Define:Once", True),
        ("CalculateStatistics", "", True),
        ("SaveImages", "Select the type of image to save:Movie/Stack", True),
        ("CorrectIlluminationCalculate", r"Calculate:All\x3A Across cycles", True),
        ("MeasureTexture", "x:First", False),
    ],
)
def test_aggregators(tmp_path: Path, name: str, setting: str, counts: bool) -> None:
    found = binding.aggregators(read(tmp_path, load_data(), module(name, *filter(None, [setting]))))
    assert found == ([f"{name} (module 2)"] if counts else [])


@pytest.mark.parametrize(
    ("name", "setting", "counts"),
    [
        ("LabelImages", "", True),
        ("TrackObjects", "", True),
        ("SaveImages", "Select method:Sequential numbers", True),
        ("SaveImages", r"Text to append:\g<Plate>", False),
        ("CalculateMath", "Measurement:Image|Group_Index", True),
        ("FlagImage", "Measurement:Image|ImageNumber", True),
        ("ExportToSpreadsheet", "Select:Image|ImageNumber", False),
    ],
)
def test_place_users(tmp_path: Path, name: str, setting: str, counts: bool) -> None:
    found = binding.place_users(read(tmp_path, load_data(), module(name, *filter(None, [setting]))))
    assert found == ([f"{name} (module 2)"] if counts else [])


@pytest.mark.parametrize(("image_sets", "counts"), [(9999, False), (10000, True)])
def test_count_users(tmp_path: Path, image_sets: int, counts: bool) -> None:
    saves = module("SaveImages", "Method:Sequential numbers", "Number of digits:4")
    found = binding.count_users(read(tmp_path, load_data(), saves, SAVE), image_sets)
    assert found == (["SaveImages (module 2)"] if counts else [])


def test_some_modules_look_beyond_groups(tmp_path: Path) -> None:
    statistics, project = module("CalculateStatistics"), module("MakeProjection")
    grouped = read(tmp_path, load_data(keys="Plate"), statistics, project)
    assert binding.needing_all(grouped) == ["CalculateStatistics (module 2)"]
    alone = read(tmp_path, load_data(), statistics, project)
    assert len(binding.needing_all(alone)) == 2
    free = read(tmp_path, load_data(keys="Plate"), project, EXPORT)
    assert binding.needing_all(free) == []
