from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import EXPORT, HOSTILE, IDENTIFY, load_data, pipeline_text

from bpcp import cellprofiler, imagelist, pipeline
from bpcp.check import loading, modules, readers
from bpcp.check.findings import Finding, errors
from bpcp.check.pipeline import loads
from bpcp.errors import BpcpError, Exit
from bpcp.imagelist import ImageList
from bpcp.pipeline import Module, Pipeline

HEADER = ("FileName_DNA", "PathName_DNA", "Metadata_Site")
IMAGES = ImageList(HEADER, (("a.tif", "/x", "1"), ("b.tif", "/x", "x1")), (2, 3))
# What CellProfiler 4.2.8.1 wrote to stderr where it met a module that it does not have.
TRACEBACK = """\
Failed to load pipeline
Traceback (most recent call last):
  File "utilities/core/modules/__init__.py", line 175, in get_module_class
    raise ValueError({said!r})
ValueError: {said}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "__main__.py", line 699, in callback
    raise ValueError("Failed to load %s" % options.pipeline_filename)
ValueError: Failed to load x.cppipe
"""
# What it wrote before that of what it goes on without: a plugin, or mysqlclient.
LEFT_OUT = """\
{head}
Traceback (most recent call last):
  File "utilities/core/modules/__init__.py", line 71, in add_module
    import {package}
ModuleNotFoundError: No module named '{package}'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "x.py", line 3, in <module>
    raise ImportError("no {package}")
ImportError: no {package}
"""
MYSQL = LEFT_OUT.format(head="MySQL could not be loaded.", package="MySQLdb")
PLUGINS = "".join(
    LEFT_OUT.format(head=head, package=package)
    for head, package in (("Could not load runcellpose", "cellpose"), ("Failed to load Odd", "odd"))
)
PLUGINS += "could not load these modules: odd,runcellpose\n"
FAKE = """\
#!/usr/bin/env python3
import pathlib, shutil, sys
here = pathlib.Path(__file__).parent
if "--version" in sys.argv:
    print({version!r})
    sys.exit()
for option in ("-p", "--data-file"):
    if option in sys.argv:
        shutil.copy(sys.argv[sys.argv.index(option) + 1], here / ("saw" + option))
if {stderr!r}:
    sys.stderr.write({stderr!r})
    sys.exit(1)
print("--- begin measurements ---", "Object,Feature,Type", "Image,Count_Nuclei,integer",
      "--- end measurements ---", sep="\\n")
"""


def piped(*parts: str, load: str | None = None, head: str = "DateRevision:4281") -> Pipeline:
    text = pipeline_text(load_data() if load is None else load, *parts)
    text = text.replace("DateRevision:4281", head)
    return pipeline.of_text(Path(f"/p/{HOSTILE}.cppipe"), text.encode())


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a CellProfiler that says something, and give the folder where it notes what it saw."""

    def made(stderr: str = "", version: str = "4.2.8.1") -> Path:
        folder = tmp_path / HOSTILE
        folder.mkdir()
        path = folder / "cellprofiler"
        path.write_text(FAKE.format(version=version, stderr=stderr), encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("BPCP_CELLPROFILER", str(path))
        return folder

    return made


def lacking(name: str, said: str = "Could not find the {} module") -> str:
    return TRACEBACK.format(said=said.format(name))


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding


def strange(name: str, flags: str = "enabled:True") -> str:
    return (
        f"\n{name}:[module_num:2|variable_revision_number:1|{flags}|wants_pause:False]\n    A:b\n"
    )


DATABASE = "\nExportToDatabase:[module_num:3|enabled:True|wants_pause:False]\n    A:b\n"


def test_tables_that_are_too_wide_are_counted_in_what_it_measures(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer()
    wide = DATABASE.replace("A:b", "Database type:SQLite")
    assert loads(piped(IDENTIFY, wide), IMAGES) == []
    measured = [("Image", f"Feature_{i}") for i in range(2000)]
    monkeypatch.setattr(loading.engine, "measurements", lambda *_: measured)
    found = only(loads(piped(IDENTIFY, wide), IMAGES))
    assert found.code.name == "pipeline-database-columns" and "Per_Image 2,001" in found.what


def test_a_pipeline_that_loads_is_asked_about_without_what_it_writes(answer: Any) -> None:
    """CellProfiler would make the tables of exporting modules anew where it is only asked."""
    folder = answer()
    pipe = piped(IDENTIFY, DATABASE, EXPORT)
    assert loads(pipe, IMAGES) == []
    seen = (folder / "saw-p").read_text()
    assert [m.name for m in pipeline.of_text(Path("x"), seen.encode()).modules] == [
        "LoadData", "IdentifyPrimaryObjects",
    ]  # fmt: skip
    # one row, and one that keeps the column of sites text
    listed = imagelist.read(folder / "saw--data-file")
    assert (listed.header, listed.rows) == (HEADER, (IMAGES.rows[0], ("a.tif", "/x", "x1")))


def test_a_pipeline_without_load_data_or_list_is_given_none(answer: Any) -> None:
    folder = answer()
    assert loads(piped(EXPORT, load="\nImages:[module_num:1|enabled:True|x:1]\n"), IMAGES) == []
    assert loads(piped(EXPORT), None) == []
    assert not (folder / "saw--data-file").exists()


def test_a_misspelled_module(answer: Any) -> None:
    answer(lacking("MeasureTextures"))
    finding = only(loads(piped(strange("MeasureTextures"), EXPORT), IMAGES))
    assert finding.code.name == "pipeline-unknown-module" and errors([finding])
    assert finding.place == "module 2, MeasureTextures"
    assert "MeasureTexture," in finding.remedy and "--plugins-directory" in finding.remedy


def test_a_disabled_module_counts_too(answer: Any) -> None:
    answer(lacking("MeasureTextures"))
    pipe = piped(strange("MeasureTextures", flags="enabled:False"), EXPORT)
    finding = only(loads(pipe, IMAGES))
    assert "disabled or not" in finding.what and "; delete it" in finding.remedy


def test_a_plugin(answer: Any) -> None:
    answer(lacking("RunCellpose"))
    finding = only(loads(piped(strange("RunCellpose"), EXPORT), IMAGES))
    assert finding.code.name == "pipeline-plugin-missing"
    assert "fetch active_plugins/runcellpose.py from https://github.com/" in finding.remedy
    assert finding.remedy.endswith("name its folder: --plugins-directory DIR")


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        ("", "CellProfiler/CellProfiler-plugins into {0}"),
        # a clone of the whole repository
        ("active_plugins/runcellpose.py", "looks into one folder: --plugins-directory {0}/active_"),
    ],
)
def test_a_plugin_that_the_folder_lacks(
    answer: Any, tmp_path: Path, file: str, remedy: str
) -> None:
    answer(lacking("RunCellpose"))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    if file:
        (tmp_path / file).write_text("")
    found = loads(piped(strange("RunCellpose"), EXPORT), IMAGES, plugins=tmp_path)
    assert only(found).code.name == "pipeline-plugin-missing"
    assert remedy.format(tmp_path) in only(found).remedy


def test_a_plugin_of_ones_own_in_a_deeper_folder(answer: Any, tmp_path: Path) -> None:
    answer(lacking("CallStripes"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "callstripes.py").write_text("")
    found = loads(piped(strange("CallStripes"), EXPORT), IMAGES, plugins=tmp_path)
    assert only(found).code.name == "pipeline-plugin-missing"
    assert f"--plugins-directory {tmp_path}/mine" in only(found).remedy


def test_a_plugin_of_ones_own_that_is_called_otherwise(answer: Any, tmp_path: Path) -> None:
    answer(lacking("CallStripes"))
    (tmp_path / "stripes.py").write_text("")
    found = loads(piped(strange("CallStripes"), EXPORT), IMAGES, plugins=tmp_path)
    assert only(found).remedy.endswith(f"if it is a plugin: put callstripes.py into {tmp_path}")


def test_a_module_of_the_past(answer: Any) -> None:
    said = "The {} module no longer exists. You can find similar functionality in: LoadData"
    answer(lacking("LoadImages", said))
    finding = only(loads(piped(strange("LoadImages"), EXPORT), IMAGES))
    assert finding.code.name == "pipeline-unknown-module"
    assert finding.what.endswith("similar functionality in: LoadData")


@pytest.mark.parametrize(
    ("parts", "remedy"),
    [((strange("RunCellpose"),), "RunCellpose; is what these need"), ((), "open it in")],
)
def test_what_else_it_says_is_passed_on(answer: Any, parts: tuple[str, ...], remedy: str) -> None:
    answer("ModuleNotFoundError: No module named 'cellpose'\n")
    finding = only(loads(piped(*parts, EXPORT), IMAGES))
    assert finding.code.name == "pipeline-unloadable"
    assert finding.what.endswith("No module named 'cellpose'") and remedy in finding.remedy


FAILED = """\
Failed to load pipeline
Traceback (most recent call last):
  File "/x/cellprofiler_core/pipeline/_pipeline.py", line 543, in setup_modules
    module = self.setup_module(
  File "/x/cellprofiler/modules/saveimages.py", line 974, in upgrade_settings
    raise NotImplementedError(
NotImplementedError: {}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "__main__.py", line 699, in callback
ValueError: Failed to load x.cppipe
"""


def saves(kind: str, flags: str = "enabled:True") -> str:
    head = f"\nSaveImages:[module_num:2|variable_revision_number:11|{flags}|wants_pause:False]\n"
    return f"{head}    Saved file format:{kind}\n    Type:Objects\n"


@pytest.mark.parametrize(
    ("said", "what", "remedy"),
    [
        ("Unsupported file format: mat", "saves no .mat files", "format' to npy"),
        ("Unsupported file format: bmp", "saves no .bmp files", "format' to png"),
        ("Unsupported image type: Objects. Use <i>x</i>", "no objects as", "ConvertObjectsToImage"),
        ("Something else", "can't load it: NotImplementedError: Something else", "open it in"),
    ],
)
def test_a_setting_that_is_no_longer_known(answer: Any, said: str, what: str, remedy: str) -> None:
    answer(MYSQL + FAILED.format(said))
    kind = said.rpartition(": ")[2]
    modules = (saves(kind), saves("tiff"), saves(kind, "enabled:False"))
    finding = only(loads(piped(*modules, EXPORT), IMAGES))
    assert finding.code.name == "pipeline-unloadable" and errors([finding])
    # every one that it concerns, though CellProfiler stops at the first; else those it may be
    numbers = "2, 4" if "format" in said else "2, 3, 4"
    assert finding.place == f"modules {numbers}, SaveImages"
    assert what in finding.what and remedy in finding.remedy


def test_a_plugin_that_reads_no_settings_of_an_older_one(answer: Any) -> None:
    """Its assertion has no words; the module is named by the plugin's file."""
    plugin = FAILED.replace("/x/cellprofiler/modules/saveimages.py", "/my plugins/callbarcodes.py")
    answer(plugin.replace("NotImplementedError: {}", "AssertionError"))
    finding = only(loads(piped(strange("CallBarcodes"), EXPORT), IMAGES))
    assert finding.code.name == "pipeline-unloadable" and finding.place == "module 2, CallBarcodes"
    assert finding.what == "CellProfiler can't load it: AssertionError"


@pytest.mark.parametrize("before", [MYSQL, PLUGINS, MYSQL + PLUGINS])
def test_what_it_goes_on_without_hides_nothing(answer: Any, before: str) -> None:
    answer(before + lacking("MeasureTextures"))
    finding = only(loads(piped(strange("MeasureTextures"), EXPORT), IMAGES))
    assert finding.code.name == "pipeline-unknown-module"
    assert finding.place == "module 2, MeasureTextures"


@pytest.mark.parametrize(
    ("stderr", "cause"),
    [
        # what follows "Failed to load pipeline"
        (
            "ValueError: said by the way\n"
            + MYSQL
            + lacking("", "Invalid format for setting: x{}"),
            "ValueError: Invalid format for setting: x",
        ),
        # an end that no line announces
        (
            MYSQL + "Traceback (most recent call last):\n  x\nh5py.errors.OpenError: gone\n",
            "h5py.errors.OpenError: gone",
        ),
        (PLUGINS, "ModuleNotFoundError: No module named 'cellpose'"),
        ("Picked up JAVA_TOOL_OPTIONS: x\nkilled\n", "killed"),
    ],
)
def test_the_error_that_counts(answer: Any, stderr: str, cause: str) -> None:
    answer(stderr)
    finding = only(loads(piped(EXPORT), IMAGES))
    assert finding.code.name == "pipeline-unloadable"
    assert finding.what == f"CellProfiler can't load it: {cause}"


@pytest.mark.parametrize(("flags", "ending"), [("True", "CellProfiler"), ("False", "delete it")])
def test_a_plugin_that_is_there_and_does_not_load(answer: Any, flags: str, ending: str) -> None:
    answer(MYSQL + PLUGINS + lacking("RunCellpose"))
    finding = only(loads(piped(strange("RunCellpose", f"enabled:{flags}"), EXPORT), IMAGES))
    assert finding.code.name == "pipeline-plugin-missing"
    assert finding.what.endswith("does not load: ModuleNotFoundError: No module named 'cellpose'")
    assert finding.remedy.startswith("install") and finding.remedy.endswith(ending)


def test_no_cellprofiler_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPCP_CELLPROFILER", "/gone/cellprofiler")
    with pytest.raises(BpcpError) as caught:
        loads(piped(EXPORT), IMAGES)
    assert caught.value.code is Exit.UNAVAILABLE


@pytest.mark.parametrize(
    ("head", "version", "is_newer"),
    [
        ("DateRevision:500", "4.2.8.1", True),
        ("DateRevision:4281", "4.2.8.1", False),
        ("DateRevision:4281", "4.2.5", True),
        # CellProfiler itself takes 428 for less than 4281, and 4281 for more than 500
        ("DateRevision:428", "4.2.8.1", False),
        ("DateRevision:4281", "5.0.0", False),
        ("DateRevision:300", "4.2.8.1", False),
        ("DateRevision:20140123174418", "4.2.8.1", False),
        ("", "4.2.8.1", False),
    ],
)
def test_newer_than_what_is_installed(answer: Any, head: str, version: str, is_newer: bool) -> None:
    answer(version=version)
    found = loads(piped(EXPORT, head=head), IMAGES)
    assert [f.code.name for f in found] == (["pipeline-newer"] if is_newer else [])
    assert not errors(found)


@pytest.mark.parametrize(
    ("revision", "version", "is_newer"),
    [("17", "4.2.8.1", True), ("16", "4.2.8.1", False), ("17", "5.0.0", False)],
)
def test_a_module_of_a_newer_revision(
    answer: Any, revision: str, version: str, is_newer: bool
) -> None:
    answer()
    saves = f"\nSaveImages:[module_num:2|variable_revision_number:{revision}|enabled:True|a:1]\n"
    found = loads(piped(saves, EXPORT), IMAGES, version)
    assert [f.code.name for f in found] == (["pipeline-newer"] if is_newer else [])
    assert all(f.place == "module 2, SaveImages" and "knows 16" in f.what for f in found)


# --- the tables, against CellProfiler itself ------------------------------------------------------

# Sets the choices of each module at random, and says which of its settings it shows then.
SHOWN = """\
import json, logging, random
logging.disable(logging.CRITICAL)
from cellprofiler_core.preferences import set_headless
set_headless()
import cellprofiler_core.modules
from cellprofiler_core.module import Module
from cellprofiler_core.utilities.core.modules import fill_modules
fill_modules()
from cellprofiler_core.constants.modules import all_modules
random.seed(1)
KINDS = {"ImageSubscriber": "image", "ImageListSubscriber": "image",
         "ImageNameSubscriberMultiChoice": "image", "LabelSubscriber": "objects",
         "LabelListSubscriber": "objects"}
answer = {}
for name, made in all_modules.items():
    module = made()
    asked = []
    for _ in range(60):
        for setting in module.settings():
            kind = type(setting).__name__
            try:
                if kind == "Choice":
                    setting.value = random.choice(setting.choices)
                elif kind == "Binary":
                    setting.value = random.choice(["Yes", "No"])
            except Exception:
                pass
        try:
            shown = {id(s) for s in module.visible_settings()}
        except Exception:
            continue
        asked.append([
            [s.text, s.value_text if hasattr(s, "value_text") else str(s.value),
             next((KINDS[c.__name__] for c in type(s).__mro__ if c.__name__ in KINDS), ""),
             id(s) in shown]
            for s in module.settings()
        ])
    binds = made.is_aggregation_module is not Module.is_aggregation_module
    answer[name] = {"revision": module.variable_revision_number, "binds": binds, "asked": asked,
                    "flat": not module.volumetric()}
print("ANSWER" + json.dumps(answer))
"""
# What is shown by rules that the tables do not have; then they say too little, never too much.
_LEFT_OUT = {
    "CalculateMath", "ClassifyObjects", "DisplayDensityPlot", "DisplayHistogram",
    "DisplayPlatemap", "DisplayScatterPlot", "EditObjectsManually", "ExportToDatabase",
    "ExportToSpreadsheet", "FlagImage", "IdentifyObjectsInGrid", "ImageMath",
}  # fmt: skip
_LEFT_OUT_LABELS = {
    "Select the image to display when drawing",
    "Select the objects that contain the filtered objects",
    "Select the previously identified objects",
    "Select the input objects",
}


@pytest.mark.slow
def test_the_tables_say_what_cellprofiler_says() -> None:
    python = cellprofiler.python_of(cellprofiler.command())
    if python is None:
        pytest.skip("the CellProfiler in use does not say on which Python it runs")
    if cellprofiler.version(cellprofiler.command()) != "4.2.8.1":
        pytest.skip("the tables are of 4.2.8.1")
    done = subprocess.run(
        [python, "-c", SHOWN],
        env=cellprofiler.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answer = json.loads(done.stdout.rpartition("ANSWER")[2])
    assert {name: said["revision"] for name, said in answer.items()} == dict(modules.REVISIONS)
    bound = {name for name, said in answer.items() if said["binds"]}
    assert bound == set(modules.GROUP_BOUND) - {"Crop"}
    assert {name for name, said in answer.items() if said["flat"]} == modules.FLAT
    looked_at = 0
    for name, said in answer.items():
        for settings in said["asked"]:
            module = Module(name, 1, tuple((label, value) for label, value, _, _ in settings))
            for at, (label, _, kind, is_shown) in enumerate(settings):
                table = readers.IMAGE_READERS if kind == "image" else readers.OBJECT_READERS
                conditions = table.get(name, {}).get(label)
                if conditions is None:
                    is_left_out = name in _LEFT_OUT or label in _LEFT_OUT_LABELS
                    assert not kind or is_left_out, f"{name}: {label}"
                elif kind:
                    looked_at += 1
                    assert modules.holds(module, at, conditions) == is_shown, f"{name}: {label}"
    assert looked_at > 3000
