"""What the probe of all modules found: kept, read, and held against pipelines."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import load_data, pipeline_text

from bpcp import pipeline
from bpcp.check.broken import of_broken
from bpcp.errors import BpcpError, Exit
from bpcp.pipeline import Pipeline
from bpcp.probe import answer
from bpcp.probe.conditions import Run, conditions
from bpcp.probe.modules import _is_of_installation

RECORDED = Path(__file__).with_name("recorded") / "probe-skimage-0.20.json"
LONG_AGO: dict[str, str] = {"python": "3.8.0"}


def recorded() -> answer.Answer:
    """Give what the probe said of CellProfiler 4.2.8.1 with scikit-image 0.20."""
    return answer.of_json(json.loads(RECORDED.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "name", ["compare", "conditions", "drawn", "modes", "modules", "setups", "__init__"]
)
def test_what_runs_in_cellprofilers_python_is_of_3_8(name: str) -> None:
    path = Path(answer.__file__).with_name(f"{name}.py")
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


# --- conditions -------------------------------------------------------------------------------


def run(works: bool, **visible: str) -> Run:
    return Run({(label, 0): value for label, value in visible.items()}, works)


def test_all_works() -> None:
    assert conditions([run(True, a="1"), run(True, a="2")]) == []


def test_nothing_works() -> None:
    assert conditions([run(False, a="1"), run(False, a="2")]) == [{}]


def test_the_value_that_fails_is_found_whichever_is_the_base() -> None:
    for base in ("1", "2", "3"):
        runs = [run(base != "2", a=base, b="x"), run(base != "2", a=base, b="y")]
        runs += [run(a != "2", a=a, b="x") for a in "123" if a != base]
        assert conditions(runs) == [{("a", 0): "2"}]


def test_a_value_counts_only_where_the_module_looks_at_it() -> None:
    # c is looked at with a=2 alone: a pipeline may well hold c=n beside a=1, and work
    runs = [run(True, a="1"), run(True, a="2", c="m"), run(False, a="2", c="n")]
    assert conditions(runs) == [{("a", 0): "2", ("c", 0): "n"}]


def test_what_hides_a_setting_is_told_from_what_merely_differs() -> None:
    # with op=off the module looks at size and not at kind: that size fails says nothing of it
    runs = [run(True, op="on", kind="x", size="9"), run(True, op="off", size="9")]
    runs += [run(False, op="on", kind="x", size="2"), run(True, op="on", kind="y", size="9")]
    runs += [run(True, op="on", kind="y", size="2")]
    expected = {("op", 0): "on", ("kind", 0): "x", ("size", 0): "2"}
    assert conditions(runs) == [expected]


def test_all_that_a_value_shows_fails_with_it() -> None:
    runs = [run(True, a="1"), run(False, a="2", c="m"), run(False, a="2", c="n")]
    assert conditions(runs) == [{("a", 0): "2"}]


def test_two_values_that_fail_together() -> None:
    runs = [run(True, a="1", b="1"), run(True, a="2", b="1"), run(True, a="1", b="2")]
    assert conditions([*runs, run(False, a="2", b="2")]) == [{("a", 0): "2", ("b", 0): "2"}]


# --- whose fault ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        TypeError("erosion() got an unexpected keyword argument 'selem'"),
        TypeError("'numpy.float64' object cannot be interpreted as an integer"),
        AttributeError("module 'numpy' has no attribute 'bool'"),
        ImportError("cannot import name 'x' from 'y'"),
        ModuleNotFoundError("No module named 'sklearn'"),
        NameError("name 'sqlite3' is not defined"),
    ],
)
def test_errors_of_an_installation(error: Exception) -> None:
    assert _is_of_installation(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("The Grey image is missing from the pipeline."),
        AttributeError("'NoneType' object has no attribute 'shape'"),
        KeyError("Nuclei"),
        AssertionError("Feature Parent_None for Nuclei does not exist"),
        TypeError("unsupported operand type(s) for +: 'int' and 'NoneType'"),
        ValueError("Adaptive window cannot exceed 50% of an image dimension."),
    ],
)
def test_errors_that_the_probe_may_have_caused(error: Exception) -> None:
    assert not _is_of_installation(error)


# --- pipelines --------------------------------------------------------------------------------


def piped(*modules: str) -> Pipeline:
    text = pipeline_text(load_data(), *modules)
    return pipeline.of_text(Path("/p/x.cppipe"), text.encode())


def module(name: str, *settings: str, enabled: bool = True) -> str:
    lines = "".join(f"    {setting}\n" for setting in settings)
    return f"\n{name}:[module_num:2|enabled:{enabled}|wants_pause:False]\n{lines}"


def enhance(*settings: str) -> str:
    return module("EnhanceOrSuppressFeatures", "Select the operation:Enhance", *settings)


def test_a_module_that_fails_always() -> None:
    (finding,) = of_broken(piped(module("MeasureGranularity")), recorded())
    assert finding.code.name == "pipeline-module-broken"
    assert finding.place == "module 2, MeasureGranularity"
    assert "erosion() got an unexpected keyword argument 'selem'" in finding.what
    assert "Python 3.11" in finding.what
    assert "scikit-image 0.20.0" in finding.what
    assert "--python python3.9" in finding.remedy


def test_only_the_settings_that_fail() -> None:
    texture = piped(enhance("Feature size:10", "Feature type:Texture"))
    (finding,) = of_broken(texture, recorded())
    assert "Feature type: Texture" in finding.what
    suppress = module(
        "EnhanceOrSuppressFeatures",
        "Select the operation:Suppress",
        "Feature size:4",
        "Feature type:Speckles",
    )
    assert list(of_broken(piped(suppress), recorded())) == []
    for works in ("Circles", "Dark holes", "DIC"):
        # Slow fails, with speckles; left over from an earlier choice it is not looked at
        settings = ("Feature size:10", f"Feature type:{works}", "Speed and accuracy:Slow")
        assert list(of_broken(piped(enhance(*settings)), recorded())) == []


@pytest.mark.parametrize(("size", "count"), [("2", 1), ("4", 1), ("6", 1), ("7", 0), ("x", 0)])
def test_a_range_of_numbers(size: str, count: int) -> None:
    speckles = enhance(f"Feature size:{size}", "Feature type:Speckles", "Speed and accuracy:Fast")
    assert len(list(of_broken(piped(speckles), recorded()))) == count


def test_a_disabled_module_is_left_alone() -> None:
    assert list(of_broken(piped(module("MeasureGranularity", enabled=False)), recorded())) == []


def test_a_volume_is_another_matter() -> None:
    only = answer.Broken("MedianFilter", "3-D", (), "TypeError: x")
    known = answer.Answer(LONG_AGO, 1, 1, (only,))
    flat = piped(module("MedianFilter"))
    solid = piped(module("NamesAndTypes", "Process as 3D?:Yes"), module("MedianFilter"))
    assert list(of_broken(flat, known)) == []
    assert [f.place for f in of_broken(solid, known)] == ["module 3, MedianFilter"]


def test_a_plugin_of_the_same_name_takes_a_modules_place(tmp_path: Path) -> None:
    pipe = piped(module("MeasureGranularity"))
    (tmp_path / "other.py").touch()
    assert len(list(of_broken(pipe, recorded(), tmp_path))) == 1
    (tmp_path / "measuregranularity.py").touch()
    assert list(of_broken(pipe, recorded(), tmp_path)) == []


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    assert list(of_broken(piped(module("MeasureGranularity")), None)) == []


# --- asking and keeping -----------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the command of a CellProfiler whose probe is a stand-in that counts its runs."""
    folder = tmp_path / "a b" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    command = folder / "cellprofiler"
    command.write_text(f"#!{folder}/python\n")
    command.chmod(0o755)
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, sys\n"
        f"here = {str(tmp_path)!r}\n"
        "versions = {'python': open(here + '/version').read()}\n"
        "if '--identity' in sys.argv:\n"
        "    print(json.dumps(versions)); sys.exit()\n"
        "open(here + '/runs', 'a').write('x')\n"
        "if os.path.exists(here + '/fails'): sys.exit(1)\n"
        "print(json.dumps(dict(identity=versions, modules=3, modes=9, broken=[])))\n"
    )
    (tmp_path / "version").write_text("3.9.1")
    monkeypatch.setattr(answer, "PROGRAM", program)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return command


def runs(tmp_path: Path) -> int:
    counted = tmp_path / "runs"
    return len(counted.read_text()) if counted.exists() else 0


def test_it_is_asked_once_for_each_identity(environment: Path, tmp_path: Path) -> None:
    first = answer.of_command([str(environment)])
    assert first == answer.Answer({"python": "3.9.1"}, 3, 9, ())
    assert answer.of_command([str(environment)]) == first
    assert runs(tmp_path) == 1
    (tmp_path / "version").write_text("3.9.2")
    assert answer.of_command([str(environment)]) != first
    assert runs(tmp_path) == 2


def test_an_installer_keeps_it_beside_the_environment(
    environment: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    known = answer.of_command([str(environment)], installing=True)
    beside = environment.parent.parent / answer.NAME
    assert json.loads(beside.read_text())["modules"] == 3
    assert beside.stat().st_mode & 0o777 == 0o644
    assert answer.of_command([str(environment)]) == known
    assert runs(tmp_path) == 1
    assert not (tmp_path / "cache").exists()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"identity": {"python": "3.9.1"}}'])
def test_an_answer_that_is_cut_off_is_asked_for_again(
    environment: Path, tmp_path: Path, text: str
) -> None:
    (environment.parent.parent / answer.NAME).write_text(text)
    known = answer.of_command([str(environment)])
    assert (known is None) == ("identity" in text)
    assert runs(tmp_path) == ("identity" not in text)


def test_a_probe_that_fails_claims_nothing(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "fails").touch()
    assert answer.of_command([str(environment)]) is None


def test_a_cache_that_can_not_be_written(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert answer.of_command([str(environment)]) is not None


def test_a_container_and_a_missing_one_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer.of_command(["docker", "run", "cellprofiler"]) is None

    def none() -> list[str]:
        raise BpcpError(Exit.UNAVAILABLE, "CellProfiler is not installed")

    monkeypatch.setattr(answer.cellprofiler, "command", none)
    assert answer.of_this() is None


def test_the_summary_names_what_does_not_work() -> None:
    said = answer.summary(recorded(), 100)
    assert "MeasureGranularity;" in said
    assert "Feature type: Texture" in said
    only = answer.Broken("MedianFilter", "3-D", (), "TypeError: x")
    known: Any = answer.Answer(LONG_AGO, 1, 1, (only,))
    assert answer.summary(known) == "does not work: MedianFilter in 3-D"
    assert answer.summary(answer.Answer(LONG_AGO, 1, 1, ())) == "all work"
