from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import EXPORT, HOSTILE, IDENTIFY, ROOT, SAVE, load_data, pipeline_text
from cp3 import escaped, version_4

from bpcp import binding, pipeline
from bpcp.check.databases import of_widths
from bpcp.check.findings import Finding, Severity, errors, unmended
from bpcp.check.pipeline import CODES, of_folder, of_pipeline, row_range
from bpcp.errors import Exit
from bpcp.imagelist import ImageList
from bpcp.mend import mended
from bpcp.mend import unmended as unmended_text
from bpcp.pipeline import Kind, Pipeline

HEADER = ("FileName_DNA", "PathName_DNA", "Metadata_Plate", "Metadata_Well")
IMAGES = ImageList(HEADER, (("a.tif", "/x", "P1", "A01"), ("b.tif", "/x", "P2", "A01")), (2, 3))
# as CellProfiler has it
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")
FOLDER = "Default Output Folder sub-folder|"


def module(name: str, *settings: str, flags: str = "enabled:True") -> str:
    lines = "".join(f"    {setting}\n" for setting in settings)
    return f"\n{name}:[module_num:9|svn_version:'Unknown'|{flags}|wants_pause:False]\n{lines}"


def piped(*modules: str, load: str | None = None, kind: Kind = Kind.TEXT) -> Pipeline:
    text = pipeline_text(load_data() if load is None else load, *modules)
    return pipeline.of_text(Path("/p/x.cppipe"), text.encode(), kind)


def found(pipe: Pipeline, images: ImageList | None = IMAGES) -> list[Finding]:
    return of_pipeline(pipe, images)


def only(code: str, pipe: Pipeline, images: ImageList | None = IMAGES) -> Finding:
    (finding,) = [f for f in found(pipe, images) if f.code.name == code]
    return finding


def codes(pipe: Pipeline, images: ImageList | None = IMAGES) -> list[str]:
    return [f.code.name for f in found(pipe, images)]


def after_mending(pipe: Pipeline, finding: Finding) -> Pipeline:
    text = mended(pipe.text.decode(), finding.mends)
    assert unmended_text(text, finding.mends) == pipe.text.decode()
    return pipeline.of_text(pipe.path, text.encode())


# --- volumes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("volumes", "count"), [("Yes", 1), ("No", 0)])
def test_modules_that_can_not_process_volumes(volumes: str, count: int) -> None:
    """CellProfiler looks at the disabled ones too."""
    names = module("Images") + module("NamesAndTypes", f"Process as 3D?:{volumes}")
    parts = [module("Smooth"), module("Tile", flags="enabled:False"), module("Threshold"), EXPORT]
    wrong = [f for f in found(piped(*parts, load=names), None) if f.code.name == "pipeline-volumes"]
    assert len(wrong) == count
    for finding in wrong:
        assert errors(wrong) and finding.place == "module 3, Smooth; module 4, Tile"


# --- all codes ------------------------------------------------------------------------------------


def test_each_code_has_a_section_in_the_docs_and_a_test_that_names_it() -> None:
    docs = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8").split("## Pipeline")[1]
    tests = Path(__file__).read_text(encoding="utf-8")
    for other in ("code", "loading", "probe", "saving", "mysql"):
        name = f"test_check_{other}.py" if other in ("code", "loading") else f"test_{other}.py"
        tests += Path(__file__).with_name(name).read_text(encoding="utf-8")
    names = [code.name for code in CODES]
    assert len(set(names)) == len(names)
    sections = re.findall(r"^### `(pipeline-.*)`$", docs, re.MULTILINE)
    assert sorted(sections) == sorted(names)
    for name in names:
        assert re.fullmatch(r"pipeline(-[a-z]+)+", name)
        assert f'"{name}"' in tests


def test_the_demo_and_the_first_examples_are_without_findings() -> None:
    demo = pipeline.read(ROOT / "bpcp" / "demo.cppipe")
    header = ("FileName_DNA", "FileName_Cyto", "Metadata_Plate")
    images = ImageList(header, (("a", "b", "P"),), (2,))
    assert found(demo, images) == found(demo, None) == []


def test_a_plain_pipeline_has_none() -> None:
    assert codes(piped(IDENTIFY, SAVE, EXPORT)) == []


def test_the_worst_comes_first() -> None:
    pipe = piped(SAVE.replace("Every", "Last"), module("IdentifyObjectsManually"))
    severities = [f.code.severity for f in found(pipe)]
    assert severities == [Severity.ERROR, Severity.WARNING, Severity.NOTE]


# --- what it reads by -----------------------------------------------------------------------------


def test_a_pipeline_that_reads_nothing() -> None:
    finding = only("pipeline-no-loader", piped(EXPORT, load=""))
    assert "LoadData" in finding.remedy and errors([finding])
    half = piped(module("NamesAndTypes"), EXPORT, load="")
    assert "pipeline-no-loader" in codes(half)
    whole = piped(module("Images"), module("NamesAndTypes"), EXPORT, load="")
    assert codes(whole) == []


def test_several_load_data() -> None:
    finding = only("pipeline-many-loaders", piped(load_data(), EXPORT))
    assert "modules 1, 2" in finding.what
    off = load_data().replace("enabled:True", "enabled:False")
    assert codes(piped(off, EXPORT)) == []


def test_a_range_of_rows_is_taken_over() -> None:
    pipe = piped(EXPORT, load=load_data(ranged="Yes").replace("1,100000", "3,7"))
    finding = only("pipeline-row-range", pipe)
    assert row_range(pipe) == (3, 7)
    assert "rows 3 to 7" in finding.what and not errors([finding])
    assert row_range(after_mending(pipe, finding)) is None
    assert row_range(piped(EXPORT)) is None


@pytest.mark.parametrize("rows", ["3,7", "7,3", "x"])
def test_a_batch_file_holds_just_those_rows_already(rows: str) -> None:
    load = load_data(ranged="Yes").replace("1,100000", rows)
    assert "pipeline-row-range" in codes(piped(EXPORT, load=load))
    assert codes(piped(EXPORT, load=load, kind=Kind.BATCH)) == []


@pytest.mark.parametrize("rows", ["7,3", "0,3", "x"])
def test_a_range_of_no_rows_stops_a_run(rows: str) -> None:
    pipe = piped(EXPORT, load=load_data(ranged="Yes").replace("1,100000", rows))
    assert errors([only("pipeline-row-range", pipe)])


CREATE = module("CreateBatchFiles", "Hidden- in batch mode:No")


def test_create_batch_files_is_switched_off() -> None:
    pipe = piped(EXPORT, CREATE)
    finding = only("pipeline-create-batch-files", pipe)
    assert not errors([finding])
    after = after_mending(pipe, finding)
    assert [m.name for m in after.modules] == ["LoadData", "ExportToSpreadsheet"]
    assert codes(piped(EXPORT, CREATE.replace("enabled:True", "enabled:False"))) == []
    assert codes(piped(EXPORT, CREATE, kind=Kind.BATCH)) == []


def test_what_cannot_be_mended_stops_a_run() -> None:
    finding = only("pipeline-create-batch-files", piped(module("CreateBatchFiles", flags="x:1")))
    assert errors([finding])


# --- somebody at the screen -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "asks"),
    [
        ("IdentifyObjectsManually", (), True),
        ("EditObjectsManually", (), True),
        (
            "Crop",
            ("Select the cropping shape:Ellipse", "Select the cropping method:Mouse"),
            True,
        ),
        ("Crop", ("Select the cropping shape:Image", "Select the cropping method:Mouse"), False),
        ("FlipAndRotate", ("Select method to rotate image:Use mouse",), True),
        ("FlipAndRotate", ("Select method to rotate image:Enter angle",), False),
        ("SplitOrMergeObjects", (), False),
    ],
)
def test_modules_that_ask(name: str, settings: tuple[str, ...], asks: bool) -> None:
    assert ("pipeline-interactive" in codes(piped(module(name, *settings), EXPORT))) is asks


# --- names ----------------------------------------------------------------------------------------


def wants(image: str, *more: str) -> str:
    return module("Smooth", f"Select the input image:{image}", *more)


def test_a_missing_channel() -> None:
    finding = only("pipeline-missing-channel", piped(wants("Mito"), wants("Mito"), EXPORT))
    assert finding.place == "module 2, Smooth"
    assert "the image Mito (as module 3 does)" in finding.what
    assert "the list has DNA" in finding.remedy and "FileName_Mito" in finding.remedy
    assert finding.code.exit is Exit.MALFORMED_INPUT
    assert codes(piped(wants("DNA"), EXPORT)) == []
    # without a list nobody knows
    assert codes(piped(wants("Mito"), EXPORT), None) == []


def test_a_channel_of_another_spelling_is_named() -> None:
    assert "is it DNA?" in only("pipeline-missing-channel", piped(wants("dna"), EXPORT)).remedy


def test_a_url_column_gives_a_channel_and_a_folder_alone_does_not() -> None:
    images = ImageList(("URL_DNA", "PathName_RNA"), (("x", "y"),), (2,))
    assert codes(piped(wants("DNA"), EXPORT), images) == []
    assert "pipeline-missing-channel" in codes(piped(wants("RNA"), EXPORT), images)


def test_load_data_that_loads_no_images_gives_none() -> None:
    load = load_data() + "    Load images based on this data?:No\n"
    finding = only("pipeline-missing-channel", piped(wants("DNA"), EXPORT, load=load))
    assert "Load images based on this data?" in finding.remedy


def test_earlier_modules_give_images_and_later_or_disabled_ones_do_not() -> None:
    makes = wants("DNA", "Name the output image:Smooth DNA")
    uses = wants("Smooth DNA")
    assert codes(piped(makes, uses, EXPORT)) == []
    finding = only("pipeline-missing-channel", piped(uses, makes, EXPORT))
    assert "move Smooth (module 3), which makes it" in finding.remedy
    off = makes.replace("enabled:True", "enabled:False")
    finding = only("pipeline-missing-channel", piped(off, uses, EXPORT))
    assert finding.remedy == "Smooth (module 2), which makes it, is disabled"


def test_what_a_plugin_names_counts_as_made() -> None:
    plugin = module("RunSomething", "Anything at all:Probabilities")
    assert codes(piped(plugin, wants("Probabilities"), EXPORT)) == []


def test_names_and_types_gives_images_without_a_list() -> None:
    load = module("Images") + module("NamesAndTypes", "Name to assign these images:DNA")
    assert codes(piped(wants("DNA"), EXPORT, load=load), None) == []
    assert "pipeline-missing-channel" in codes(piped(wants("RNA"), EXPORT, load=load), None)


@pytest.mark.parametrize(
    ("name", "settings", "is_missing"),
    [
        ("MaskImage", ("Use objects or an image as a mask?:Image",), True),
        ("MaskImage", ("Use objects or an image as a mask?:Objects",), False),
        ("MaskImage", (), False),
    ],
)
def test_a_setting_counts_only_where_its_module_looks_at_it(
    name: str, settings: tuple[str, ...], is_missing: bool
) -> None:
    pipe = piped(module(name, "Select image for mask:Old", *settings), EXPORT)
    assert ("pipeline-missing-channel" in codes(pipe)) is is_missing


def test_of_repeated_conditions_the_nearest_counts() -> None:
    pairs = ("Objects to keep:x", "Select objects to use as centers:Gone")
    other = "Object to use as center?:Edges of other objects"
    own = "Object to use as center?:These objects"
    spread = "MeasureObjectIntensityDistribution"
    assert "pipeline-missing-object" in codes(piped(module(spread, own, other, *pairs), EXPORT))
    assert codes(piped(module(spread, other, own, *pairs), EXPORT)) == []


@pytest.mark.parametrize("blank", ["", "None", "Leave blank", "Leave this black", "Do not use"])
def test_a_blank_is_no_name(blank: str) -> None:
    assert codes(piped(wants(blank), EXPORT)) == []


def test_lists_of_channels() -> None:
    pipe = piped(module("MeasureImageIntensity", "Select images to measure:DNA, RNA, ER"), EXPORT)
    missing = [f.what for f in found(pipe)]
    assert len(missing) == 2
    assert "RNA" in missing[0] and "ER" in missing[1]


@pytest.mark.parametrize(
    ("operation", "second", "is_missing"),
    [("Add", "Image", True), ("Add", "Measurement", False), ("Invert", "Image", False)],
)
def test_image_math(operation: str, second: str, is_missing: bool) -> None:
    pipe = piped(
        module(
            "ImageMath",
            f"Operation:{operation}",
            "Image or measurement?:Image",
            "Select the first image:DNA",
            f"Image or measurement?:{second}",
            "Select the second image:Gone",
        ),
        EXPORT,
    )
    assert ("pipeline-missing-channel" in codes(pipe)) is is_missing


def test_missing_objects() -> None:
    measures = module("MeasureObjectSizeShape", "Select object sets to measure:Nuclei, Cells")
    finding = only("pipeline-missing-object", piped(IDENTIFY, measures, EXPORT))
    assert "the objects Cells" in finding.what and "ObjectsFileName_Cells" in finding.remedy
    images = ImageList((*HEADER, "ObjectsFileName_Cells"), ((*IMAGES.rows[0], "c.tif"),), (2,))
    assert codes(piped(IDENTIFY, measures, EXPORT), images) == []


def saved(*settings: str) -> str:
    return module("SaveImages", "Select method for constructing file names:x", *settings)


@pytest.mark.parametrize(
    ("text", "is_missing"),
    [
        (rf"Output file location:{FOLDER}\g<Plate>/\g<Nope>", True),
        (rf"Output file location:{FOLDER}(?<Nope>)", True),
        (rf"Output file location:{FOLDER}\g<Plate>", False),
        # CellProfiler fills these from the files
        (rf"Output file location:{FOLDER}\g<Frame>", False),
        # it appends no suffix
        (r"Text to append to the image name:\g<Nope>", False),
    ],
)
def test_missing_metadata_in_names(text: str, is_missing: bool) -> None:
    pipe = piped(saved(text), EXPORT)
    assert ("pipeline-missing-metadata" in codes(pipe)) is is_missing
    assert codes(pipe, None) == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("FlagImage", ["Flag is based on:{}", "Which measurement?:Metadata_Site"]),
        ("RescaleIntensity", ["Rescaling method:{}", "Divisor measurement:Metadata_Site"]),
    ],
)
def test_metadata_that_a_module_goes_by(name: str, settings: list[str]) -> None:
    on = {
        "FlagImage": "Whole-image measurement",
        "RescaleIntensity": "Divide each image by a previously calculated value",
    }[name]
    used = module(name, *(line.format(on) for line in settings))
    finding = only("pipeline-missing-metadata", piped(used, EXPORT))
    assert finding.what == "it goes by the metadata Site, which the image list does not have"
    assert errors([finding]) and name in finding.place
    # in another mode it does not look at it
    unused = module(name, *(line.format("Rules") for line in settings))
    assert "pipeline-missing-metadata" not in codes(piped(unused, EXPORT))
    # here it is, or an earlier module makes it
    listed = ImageList((*HEADER, "Metadata_Site"), (("a.tif", "/x", "P1", "A01", "1"),), (2,))
    assert "pipeline-missing-metadata" not in codes(piped(used, EXPORT), listed)
    made = module("LabelImages")
    assert "pipeline-missing-metadata" not in codes(piped(made, used, EXPORT))
    plain = used.replace("Metadata_Site", "Intensity_MeanIntensity_DNA")
    assert "pipeline-missing-metadata" not in codes(piped(plain, EXPORT))


def test_missing_metadata_of_groups() -> None:
    finding = only("pipeline-missing-metadata", piped(EXPORT, load=load_data(keys="Plate, wel")))
    assert finding.place == "module 1, LoadData"
    assert "it has Plate, Well: is it Well?" in finding.remedy
    assert codes(piped(EXPORT, load=load_data(keys="Plate, Well"))) == []


def test_a_well_may_be_made_of_row_and_column() -> None:
    header = ("FileName_DNA", "Metadata_WellRow", "Metadata_WellColumn")
    images = ImageList(header, (("a", "A", "1"),), (2,))
    assert codes(piped(EXPORT, load=load_data(keys="Well")), images) == []


def test_modules_give_metadata_too() -> None:
    text = rf"Output file location:{FOLDER}\g<QCFlag>"
    flags = module("FlagImage", "Name the flag:QCFlag")
    assert codes(piped(flags, saved(text), EXPORT)) == []
    assert "pipeline-missing-metadata" in codes(piped(saved(text), flags, EXPORT))
    labels = module("LabelImages")
    site = rf"Output file location:{FOLDER}\g<SiteNumber>"
    assert "pipeline-missing-metadata" not in codes(piped(labels, saved(site), EXPORT))


# --- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "new"),
    [
        ("Elsewhere...|/data/masks", f"{FOLDER}masks"),
        ("Elsewhere...\\x7C/data/masks/", f"{FOLDER}masks"),
        (f"Elsewhere...|/data/{HOSTILE}".replace("\n", ""), f"{FOLDER}{HOSTILE}"),
        (r"Elsewhere...|/data/out/\g<Plate>/masks", rf"{FOLDER}out/\g<Plate>/masks"),
        (r"Elsewhere...|/\g<Plate>", rf"{FOLDER}\g<Plate>"),
        (r"Elsewhere...|D:\screens\masks", f"{FOLDER}masks"),
        ("Elsewhere...|masks", f"{FOLDER}masks"),
        ("Elsewhere...|.", "Default Output Folder|"),
        ("Absolute path elsewhere|/data/masks", f"{FOLDER}masks"),
        ("Default Output Folder sub-folder|../masks", f"{FOLDER}masks"),
        ("Default Output Folder sub-folder|a/../../masks", f"{FOLDER}masks"),
        ("Default Output Folder sub-folder|/data/masks", f"{FOLDER}masks"),
    ],
)
def test_what_is_written_elsewhere_goes_into_the_result(place: str, new: str) -> None:
    pipe = piped(saved(f"Output file location:{place}"), EXPORT)
    finding = only("pipeline-output-elsewhere", pipe)
    assert [m.new for m in finding.mends] == [new] and not errors([finding])
    text = mended(pipe.text.decode(), finding.mends)
    after = pipeline.of_text(pipe.path, text.encode())
    assert "pipeline-output-elsewhere" not in codes(after)


@pytest.mark.parametrize(
    "place",
    [
        "Default Output Folder|",
        "Default Output Folder",
        "Default Output Folder|None",
        rf"{FOLDER}./a..b/\g<Plate>",
    ],
)
def test_what_is_written_into_the_result_stays(place: str) -> None:
    assert codes(piped(saved(f"Output file location:{place}"), EXPORT)) == []


@pytest.mark.parametrize("place", ["Same folder as image|", "Default Input Folder|", "URL|s3://x"])
def test_beside_the_images_nothing_is_written(place: str) -> None:
    finding = only(
        "pipeline-output-elsewhere", piped(saved(f"Output file location:{place}"), EXPORT)
    )
    assert errors([finding]) and place.partition("|")[0] in finding.what
    assert "Default Output Folder" in finding.remedy


def test_two_folders_of_one_name_stay_two_and_one_stays_one() -> None:
    pipe = piped(
        saved(f"Output file location:{FOLDER}masks"),
        saved("Output file location:Elsewhere...|/a/masks"),
        saved("Output file location:Elsewhere...|/b/masks"),
        saved("Output file location:Elsewhere...|/a/masks"),
        saved("Output file location:Elsewhere...|/masks"),
        EXPORT,
    )
    mends = {m.module: m.new for f in found(pipe) for m in f.mends}
    assert [mends[number].removeprefix(FOLDER) for number in sorted(mends)] == [
        "a_masks",
        "b_masks",
        "a_masks",
        "masks_",
    ]


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (EXPORT.replace("Default Output Folder|", "Elsewhere...|/data"), True),
        (module("SaveCroppedObjects", "Directory:Elsewhere...|/data"), True),
        (
            module(
                "MeasureObjectSkeleton",
                "Export the skeleton graph relationships?:No",
                "File output directory:Elsewhere...|/data",
            ),
            False,
        ),
    ],
)
def test_other_modules_that_write(text: str, counts: bool) -> None:
    assert ("pipeline-output-elsewhere" in codes(piped(text))) is counts


@pytest.mark.parametrize(
    ("place", "tag"),
    [
        (r"overlays/\\g<Plate>/\\g<Well>", r"\g<Plate>"),
        (r"\\g<Plate>/masks", r"\g<Plate>"),
        # one backslash behind a real one
        (r"a\\\g<Plate>", ""),
        # as CellProfiler 3 wrote a tag
        (r"a\\\\g<Plate>", ""),
        (r"overlays/\g<Plate>", ""),
        ("overlays/(?<Plate>)", ""),
    ],
)
def test_metadata_that_a_batch_file_made_plain_text(place: str, tag: str) -> None:
    text = saved(f"Output file location:{FOLDER}{place}")
    assert codes(piped(text, EXPORT)) == []
    pipe = piped(text, EXPORT, kind=Kind.BATCH)
    if not tag:
        assert codes(pipe) == []
        return
    finding = only("pipeline-batch-escaped", pipe)
    assert codes(pipe) == ["pipeline-batch-escaped"]
    assert finding.place == "module 2, SaveImages" and finding.code.severity is Severity.WARNING
    assert finding.what.endswith(f"called {tag}") and "run_batchfile_pipeline" in finding.remedy


def test_a_folder_of_a_batch_file_that_is_mended_has_its_metadata_again() -> None:
    text = saved(r"Output file location:Elsewhere...|/data/out/\\g<Plate>/masks")
    pipe = piped(text, EXPORT, kind=Kind.BATCH)
    assert codes(pipe) == ["pipeline-output-elsewhere"]
    mends = only("pipeline-output-elsewhere", pipe).mends
    assert [m.new for m in mends] == [rf"{FOLDER}out/\g<Plate>/masks"]


def rules(folder: str, file: str, mode: str = "Rules") -> str:
    return module(
        "FilterObjects",
        f"Select the filtering mode:{mode}",
        f"Select the location of the rules or classifier file:{folder}",
        f"Rules or classifier file name:{file}",
    )


def test_a_file_that_is_not_here(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE.replace("\n", "")
    folder.mkdir()
    (folder / "rules.txt").touch()
    there = rules(f"Elsewhere...|{folder}", "rules.txt")
    assert codes(piped(there, EXPORT)) == []
    finding = only("pipeline-path-missing", piped(rules(f"Elsewhere...|{folder}", "x"), EXPORT))
    assert finding.what.endswith(str(folder / "x")) and finding.code.exit is Exit.NO_INPUT
    assert finding.place == "module 2, FilterObjects"
    # the mode that needs no file
    measured = rules("Elsewhere...|/gone", "x", "Measurements")
    assert codes(piped(measured, EXPORT)) == []


def test_files_of_windows_and_templates_are_not_here_either() -> None:
    assert "pipeline-path-missing" in codes(piped(rules(r"Elsewhere...|C:\r", "x"), EXPORT))
    template = module("MatchTemplate", "Template:/gone/template.png")
    assert "pipeline-path-missing" in codes(piped(template, EXPORT))
    # where this one starts only a run knows
    assert codes(piped(rules("Elsewhere...|r", "x"), EXPORT)) == []


def test_a_file_in_the_default_input_folder() -> None:
    finding = only("pipeline-default-input", piped(rules("Default Input Folder|", "r.txt"), EXPORT))
    assert "reads r.txt from the Default Input Folder" in finding.what
    assert finding.code.severity is Severity.WARNING


@pytest.mark.parametrize("folder", ["Default Output Folder|", f"{FOLDER}../qc"])
def test_a_file_in_the_output_folder_is_never_there(folder: str) -> None:
    finding = only("pipeline-reads-output", piped(rules(folder, "r.txt"), EXPORT))
    assert errors([finding]) and "reads r.txt" in finding.what
    assert codes(piped(rules(folder, "r.txt", "Measurements"), EXPORT)) == []


def test_a_folder_of_a_plugin(tmp_path: Path) -> None:
    gone = module("RunCellpose", "Location:Elsewhere...|/gone/models")
    assert only("pipeline-plugin-path", piped(gone, EXPORT)).what.endswith("/gone/models")
    here = module("RunCellpose", f"Location:Elsewhere...|{tmp_path}")
    assert codes(piped(here, EXPORT)) == []
    # of CellProfiler's own modules the settings are known
    stale = module("SaveImages", "Base image folder:Elsewhere...|/gone")
    assert codes(piped(stale, EXPORT)) == []


# --- what it exports ------------------------------------------------------------------------------


def test_a_gene_pattern_file() -> None:
    gct = EXPORT.replace("GCT file?:No", "GCT file?:Yes")
    finding = only("pipeline-gct", piped(gct))
    assert errors([finding]) and "GCT" in finding.remedy


def test_a_gene_pattern_file_that_is_not_written() -> None:
    """It is made beside an image table, and here is none."""
    gct = EXPORT.replace("GCT file?:No", "GCT file?:Yes")
    gct = gct.replace("Export all measurement types?:Yes", "Export all measurement types?:No")
    assert codes(piped(gct.replace("Data to export:Do not use", "Data to export:Nuclei"))) == []
    only("pipeline-gct", piped(gct.replace("Data to export:Do not use", "Data to export:Image")))


@pytest.mark.parametrize(
    ("delimiter", "found"),
    [("Tab", []), ("^", []), ("", ["pipeline-delimiter"]), ("||", ["pipeline-delimiter"])],
)
def test_a_delimiter(delimiter: str, found: list[str]) -> None:
    """CellProfiler 4.2.8.1 says at the end: "delimiter" must be a 1-character string."""
    assert codes(piped(EXPORT.replace('Comma (",")', delimiter))) == found


@pytest.mark.parametrize(
    ("file", "prefix", "found"),
    [
        ("below/a.csv", "No", []),
        ("/data/a.csv", "No", ["pipeline-output-elsewhere"]),
        ("../a.csv", "No", ["pipeline-output-elsewhere"]),
        ("b/../../a.csv", "Yes", ["pipeline-output-elsewhere", "pipeline-prefix"]),
        ("/data/a.csv", "Yes", ["pipeline-prefix"]),
    ],
)
def test_a_table_outside_its_folder(file: str, prefix: str, found: list[str]) -> None:
    named = EXPORT.replace("types?:Yes", "types?:No")
    named = named.replace("File name:DATA.csv", f"File name:{file}")
    named = named.replace("for the file name?:Yes", "for the file name?:No")
    named = named.replace("prefix to file names?:No", f"prefix to file names?:{prefix}")
    named = named.replace("Data to export:Do not use", "Data to export:Image")
    assert codes(piped(named)) == found


def test_a_prefix() -> None:
    prefixed = EXPORT.replace("Add a prefix to file names?:No", "Add a prefix to file names?:Yes")
    finding = only("pipeline-prefix", piped(prefixed))
    assert "MyExpt_Image.csv" in finding.what and not finding.mends
    blank = prefixed.replace("Filename prefix:MyExpt_", "Filename prefix:")
    assert codes(piped(blank)) == []


def test_databases() -> None:
    assert codes(piped(module("ExportToDatabase", "Database type:SQLite"))) == ["pipeline-database"]
    # which CellProfiler 4 makes SQLite of
    csv = piped(module("ExportToDatabase", "Database type:MySQL / CSV"))
    assert codes(csv) == ["pipeline-database"]
    assert errors([only("pipeline-mysql", piped(module("ExportToDatabase", "Database type:X")))])


def database(kind: str = "SQLite", **settings: str) -> str:
    """Give ExportToDatabase; a setting is named by the first word of its label."""
    labels = {
        "maximum": ("Maximum # of characters in a column name", "64"),
        "output": ("Output file location", "Default Output Folder|"),
        "name": ("Name the SQLite database file", "DefaultDB.db"),
        "experiment": ("Experiment name", "MyExpt"),
        "export": ("Export measurements for all objects to the database?", "All"),
        "create": (
            "Create one table per object, a single object table or a single object view?",
            "Single object table",
        ),
        "chosen": ("Select the objects", ""),
    }
    lines = (f"{label}:{settings.pop(name, value)}" for name, (label, value) in labels.items())
    made = module("ExportToDatabase", f"Database type:{kind}", *lines)
    assert not settings
    return made


CHOSEN = {"export": "Select...", "chosen": "Cells,Nuclei"}
PER_OBJECT = {"create": "One table per object type"}


@pytest.mark.parametrize(("length", "is_short"), [("17", True), ("10", True), ("18", False)])
def test_names_of_columns_that_are_shortened(length: str, is_short: bool) -> None:
    pipe = piped(database(maximum=length))
    assert codes(pipe)[:-1] == (["pipeline-database-names"] if is_short else [])
    if is_short:
        finding = only("pipeline-database-names", pipe)
        assert errors([finding]) and f"have {length} characters" in finding.what
        assert finding.code.exit is Exit.MALFORMED_INPUT and finding.remedy.endswith("to 64")


@pytest.mark.parametrize(
    ("settings", "longest", "is_short"),
    [
        ({"create": "Single object table"}, "18", False),
        ({"create": "One table per object type", "export": "None"}, "18", False),
        ({"create": "One table per object type"}, "21", True),
        # of which names nobody knows yet
        ({"create": "Single object view"}, "22", False),
        ({"create": "Single object view", **CHOSEN}, "26", True),
        ({"create": "Single object view", **CHOSEN}, "27", False),
    ],
)
def test_keys_of_tables_that_cellprofiler_does_not_shorten(
    settings: dict[str, str], longest: str, is_short: bool
) -> None:
    pipe = piped(database(**settings, maximum=longest))
    assert codes(pipe)[:-1] == (["pipeline-database-names"] if is_short else [])
    if is_short:
        assert "shortens the column but not its key" in only("pipeline-database-names", pipe).what


def test_tables_of_more_columns_than_sqlite_takes() -> None:
    pipe = piped(database(), database(kind="MySQL"), EXPORT)
    at_most = {"2": {"Per_Image": 2000, "Per_Object": 10}, "3": {}}
    assert list(of_widths(pipe, at_most)) == [] == list(of_widths(pipe, {}))
    more = {"2": {"Per_Image": 2001, "Per_Object": 10}, "3": {"Per_Object": 5115}}
    found = list(of_widths(pipe, more))
    assert [f.code.name for f in found] == ["pipeline-database-columns"] * 2 and errors(found)
    assert "Per_Image 2,001" in found[0].what and "Per_Object 5,115" in found[1].what


@pytest.mark.parametrize(
    ("place", "is_wrong"),
    [
        (rf"{FOLDER}a/\g<Plate>", True),
        (f"{FOLDER}a(?<Plate>)", True),
        (r"Elsewhere...|/data/\g<Plate>", True),
        # CellProfiler does not look behind this
        (r"Default Output Folder|\g<Plate>", False),
        (f"{FOLDER}a b/c..d", False),
    ],
)
def test_metadata_in_the_folder_of_a_database(place: str, is_wrong: bool) -> None:
    pipe = piped(database(output=place))
    assert ("pipeline-database-folder" in codes(pipe)) is is_wrong
    if is_wrong:
        finding = only("pipeline-database-folder", pipe)
        assert errors([finding]) and "without metadata" in finding.remedy


def test_a_folder_elsewhere_is_mended_for_a_database_too() -> None:
    pipe = piped(database(output="Elsewhere...|/data/base"))
    finding = only("pipeline-output-elsewhere", pipe)
    assert codes(after_mending(pipe, finding)) == ["pipeline-database"]
    # and its metadata are wrong before and after
    tagged = piped(database(output=r"Elsewhere...|/data/\g<Plate>"))
    after = after_mending(tagged, only("pipeline-output-elsewhere", tagged))
    assert codes(after) == ["pipeline-database-folder", "pipeline-database"]


@pytest.mark.parametrize(
    ("name", "is_wrong"),
    [("/data/x.db", True), ("a/../../x.db", True), ("..", True), ("a/x..db", False)],
)
def test_a_database_that_leaves_the_output_folder(name: str, is_wrong: bool) -> None:
    pipe = piped(database(name=name))
    assert codes(pipe)[:-1] == (["pipeline-database-folder"] if is_wrong else [])
    if is_wrong:
        assert only("pipeline-database-folder", pipe).what.endswith(f"folder: {name}")


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"experiment": "Ann's"}, "Experiment name"),
        ({"experiment": "Ann's", **PER_OBJECT}, "Experiment name"),
        ({"name": "Ann's.db"}, "Name the SQLite database file"),
        ({"output": f"{FOLDER}Ann's"}, "Output file location"),
        ({"name": "Ann's.db", "export": "Select...", **PER_OBJECT}, "Name the SQLite"),
        # the path is in no statement then
        ({"name": "Ann's.db", **PER_OBJECT}, ""),
        ({"output": "Default Output Folder|Ann's"}, ""),
        ({"name": 'x "y".db'}, ""),
    ],
)
def test_quotes_that_break_a_statement(settings: dict[str, str], label: str) -> None:
    pipe = piped(database(**settings))
    assert codes(pipe)[:-1] == (["pipeline-database-quote"] if label else [])
    if label:
        finding = only("pipeline-database-quote", pipe)
        assert errors([finding]) and label in finding.what
    # its tables are made by then
    batch = piped(database(**settings), kind=Kind.BATCH)
    assert codes(batch) == ["pipeline-database"]


def test_a_quote_in_the_folder_where_processes_work(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE
    pipe = piped(database(), database(), database(kind="MySQL"), EXPORT)
    (finding,) = of_folder(pipe, folder)
    assert finding.code.name == "pipeline-database-quote" and errors([finding])
    # of MySQL, too: its processes write SQLite
    assert finding.place == ", ExportToDatabase; ".join(
        ("module 2", "module 3", "module 4, ExportToDatabase")
    )
    assert finding.what.endswith(str(folder)) and "-t" in finding.remedy
    assert of_folder(pipe, tmp_path / HOSTILE.replace("'", "")) == []
    for other in (
        piped(EXPORT),
        piped(database(**PER_OBJECT)),
        piped(database(kind="MySQL", **PER_OBJECT)),
        piped(database(), kind=Kind.BATCH),
    ):
        assert of_folder(other, folder) == []


def test_what_matters_for_a_database_server() -> None:
    """The file's name is not used, and quotes are seen to; the rest is as for SQLite."""
    right = {"name": "../x's.db", "experiment": "Ann's", "kind": "MySQL"}
    assert codes(piped(database(**right))) == ["pipeline-mysql"]
    wrong = {"maximum": "10", "output": rf"{FOLDER}\g<Plate>", **right}
    assert sorted(codes(piped(database(**wrong)))) == [
        "pipeline-database-folder", "pipeline-database-names", "pipeline-mysql",
    ]  # fmt: skip


def test_no_tables() -> None:
    assert codes(piped(SAVE)) == ["pipeline-no-tables"]
    assert codes(piped(SAVE, EXPORT)) == []


def test_many_modules_are_named_by_their_numbers() -> None:
    off = "Overwrite existing files without warning?:No"
    many = [module("SaveImages", off) for _ in range(4)]
    pipe = piped(*many, module("SaveImages"), many[0], module("ExportToSpreadsheet", off))
    place = only("pipeline-overwrite-no", pipe).place
    assert place == "modules 2-5, 7, SaveImages; module 8, ExportToSpreadsheet"
    few = only("pipeline-overwrite-no", piped(*many[:3])).place
    assert few == "module 2, SaveImages; module 3, SaveImages; module 4, SaveImages"


def test_overwriting_off_is_said_once() -> None:
    no = SAVE + "    Overwrite existing files without warning?:No\n"
    finding = only("pipeline-overwrite-no", piped(no, no, EXPORT))
    assert finding.place == "module 2, SaveImages; module 3, SaveImages"
    assert finding.code.severity is Severity.NOTE
    assert codes(piped(no.replace("warning?:No", "warning?:Yes"), EXPORT)) == []


def test_overwriting_off_is_another_matter_on_a_server() -> None:
    off = SAVE + "    Overwrite existing files without warning?:No\n"
    never = "    Overwrite without warning?:Never\n"
    served, own = (database(kind=kind) + never for kind in ("MySQL", "SQLite"))
    finding = only("pipeline-overwrite-no", piped(off, served, EXPORT))
    assert finding.place == "module 2, SaveImages"
    finding = only("pipeline-overwrite-no", piped(off, own, EXPORT))
    assert finding.place == "module 2, SaveImages; module 3, ExportToDatabase"


# --- what must stay together ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "setting", "counts"),
    [
        ("TrackObjects", "", True),
        ("CorrectIlluminationCalculate", "Calculate:All: Across cycles", True),
        ("CorrectIlluminationCalculate", "Calculate:All", True),
        ("CorrectIlluminationCalculate", "Calculate:All\\x3A Across cycles", True),
        ("CorrectIlluminationCalculate", "Calculate:Each", False),
        ("SaveImages", "Select the type of image to save:Movie/Stack", True),
        ("SaveImages", "Select the type of image to save:Mask", False),
        ("CalculateStatistics", "", True),
        ("DefineGrid", "Use a previous grid if gridding fails?:Use any previous grid", True),
        ("DefineGrid", "Use a previous grid if gridding fails?:No", False),
        ("MeasureObjectSkeleton", "Export the skeleton graph relationships?:Yes", True),
        ("MeasureObjectSkeleton", "Export the skeleton graph relationships?:No", False),
    ],
)
def test_one_process(name: str, setting: str, counts: bool) -> None:
    pipe = piped(module(name, *filter(None, [setting])), EXPORT)
    assert ("pipeline-aggregates" in codes(pipe)) is counts


def test_groups_make_it_a_note() -> None:
    pipe = piped(module("TrackObjects"), EXPORT, load=load_data(keys="Plate"))
    finding = only("pipeline-groups", pipe)
    assert finding.what.endswith("by Plate: 2 of them, the largest of 1 image sets")
    assert only("pipeline-groups", pipe, None).what.endswith("by Plate")
    assert "pipeline-aggregates" not in codes(pipe)
    # beyond any group
    statistics = piped(module("CalculateStatistics"), EXPORT, load=load_data(keys="Plate"))
    assert "pipeline-aggregates" in codes(statistics)


CROP = ("Select the cropping shape:Rectangle", "Apply which cycle's cropping pattern?:First")


def test_a_crop_by_coordinates_is_freed_from_the_first_cycle() -> None:
    pipe = piped(module("Crop", "Select the cropping method:Coordinates", *CROP), EXPORT)
    finding = only("pipeline-crop-first", pipe)
    assert "pipeline-aggregates" not in codes(pipe)
    assert codes(after_mending(pipe, finding)) == []
    assert binding.aggregators(after_mending(pipe, finding)) == []
    mouse = piped(module("Crop", "Select the cropping method:Mouse", *CROP), EXPORT)
    assert codes(mouse) == ["pipeline-interactive", "pipeline-aggregates"]


# --- numbers --------------------------------------------------------------------------------------


def many(count: int) -> ImageList:
    return ImageList(HEADER, IMAGES.rows[:1] * count, tuple(range(2, count + 2)))


SEQUENTIAL = SAVE.replace("From image filename", "Sequential numbers")


def test_file_names_get_as_many_digits_as_the_whole_list_needs() -> None:
    pipe = piped(SEQUENTIAL, EXPORT)
    assert "pipeline-sequential-digits" not in codes(pipe, many(9_999))
    assert "pipeline-sequential-digits" not in codes(pipe, None)
    finding = only("pipeline-sequential-digits", pipe, many(10_000))
    assert finding.mends[0].new == "5"
    after = after_mending(pipe, finding)
    assert binding.count_users(after, 10_000) == []
    assert "pipeline-sequential-digits" not in codes(after, many(10_000))


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (SEQUENTIAL, "it names files by"),
        (module("LabelImages"), "it uses"),
        (module("CalculateMath", "Measurement:Image|Group_Index"), "it uses"),
        (module("FlagImage", "Ignore flag skips on last cycle?:Yes"), "it looks for the last"),
        (SAVE, ""),
        (module("FlagImage", "Ignore flag skips on last cycle?:No"), ""),
    ],
)
def test_image_numbers(text: str, how: str) -> None:
    pipe = piped(text, EXPORT)
    if not how:
        assert "pipeline-image-numbers" not in codes(pipe)
        return
    assert only("pipeline-image-numbers", pipe).what.startswith(how)


# --- tables of image sets that may be skipped -----------------------------------------------------

FLAG = module(
    "FlagImage", "Name the flag's category:Metadata", "Name the flag:QC",
    "Skip image set if flagged?:Yes",
)  # fmt: skip


def listed(*tables: str) -> str:
    """List tables: a name, with "+" where it shares the one before, and its file where named."""
    text = EXPORT.partition("    Data to export:")[0].replace("types?:Yes", "types?:No")
    for table in tables:
        name, _, file = table.removeprefix("+").partition("=")
        text += (
            f"    Data to export:{name}\n"
            "    Combine these object measurements with those of the previous object?:"
            f"{'Yes' if table.startswith('+') else 'No'}\n"
            f"    File name:{file or 'DATA.csv'}\n"
            f"    Use the object name for the file name?:{'No' if file else 'Yes'}\n"
        )
    return text


CELLS = module("IdentifySecondaryObjects", "Select the input objects:Nuclei", "Name:Cells")


@pytest.mark.parametrize(
    ("tables", "ordered"),
    [
        (("Nuclei", "Image"), ["Image", "Nuclei"]),
        (("Cells", "Nuclei=n.csv", "Experiment"), ["Experiment", "Nuclei=n.csv", "Cells"]),
        # what shares a table stays together, and begins one
        (("Nuclei", "+Cells", "Image", "Nuclei=n"), ["Image", "Nuclei=n", "Nuclei", "+Cells"]),
        (("+Cells", "Nuclei"), ["Nuclei", "Cells"]),
    ],
)  # fmt: skip
def test_tables_are_written_in_the_order_in_which_they_are_measured(
    tables: tuple[str, ...], ordered: list[str]
) -> None:
    pipe = piped(FLAG, IDENTIFY, CELLS, listed(*tables))
    finding = only("pipeline-export-order", pipe)
    after = after_mending(pipe, finding)
    assert after.text == piped(FLAG, IDENTIFY, CELLS, listed(*ordered)).text
    assert "pipeline-export-order" not in codes(after)
    assert {m.said for m in finding.mends} == {
        "ExportToSpreadsheet (module 5) writes its tables in the order in which they are measured"
    }


@pytest.mark.parametrize(
    "modules",
    [
        # in order as it is
        (FLAG, IDENTIFY, CELLS, listed("Image", "Experiment", "Nuclei", "+Cells", "Cells=c.csv")),
        # CellProfiler's own order
        (FLAG, IDENTIFY, EXPORT),
        # nothing skips
        (FLAG.replace("flagged?:Yes", "flagged?:No"), IDENTIFY, listed("Nuclei", "Image")),
        (FLAG.replace("enabled:True", "x:1|enabled:False"), IDENTIFY, listed("Nuclei", "Image")),
        # the last one's file stays
        (FLAG, IDENTIFY, listed("Nuclei=a.csv", "Image=a.csv")),
    ],
)
def test_their_order_stays(modules: tuple[str, ...]) -> None:
    assert "pipeline-export-order" not in codes(piped(*modules))


QUALITY = module("MeasureImageQuality", "Calculate thresholds?:Yes")


def test_means_over_image_sets_that_may_all_be_skipped() -> None:
    finding = only("pipeline-means-behind-flag", piped(FLAG, QUALITY, EXPORT))
    assert finding.code.severity is Severity.WARNING
    assert (finding.place, "module 2, FlagImage" in finding.what) == (
        "module 3, MeasureImageQuality",
        True,
    )


@pytest.mark.parametrize(
    "modules", [(QUALITY, FLAG), (FLAG, QUALITY.replace("?:Yes", "?:No")), (QUALITY,)]
)
def test_means_over_image_sets_that_are_there(modules: tuple[str, ...]) -> None:
    assert "pipeline-means-behind-flag" not in codes(piped(*modules, EXPORT))


# --- the file as a whole --------------------------------------------------------------------------


def counted(count: int, *modules: str) -> Pipeline:
    parts = [re.sub(r"module_num:\d+", f"module_num:{n}", m) for n, m in enumerate(modules, 1)]
    text = pipeline_text(*parts).replace("Version:5\n", f"Version:5\nModuleCount:{count}\n")
    return pipeline.of_text(Path("/p/x.cppipe"), text.encode())


@pytest.mark.parametrize("modules", [(load_data(), IDENTIFY), (load_data(), IDENTIFY, EXPORT)])
def test_a_file_that_was_cut_off(modules: tuple[str, ...]) -> None:
    pipe = counted(5, *modules)
    finding = only("pipeline-cut-off", pipe)
    assert f"ModuleCount says 5, the file has {len(modules)} modules" in finding.what
    assert f"ModuleCount:{len(modules)}" in finding.remedy and errors([finding])
    # what follows of it is not said as well
    assert codes(pipe) == ["pipeline-cut-off"]
    assert "pipeline-cut-off" not in codes(counted(len(modules), *modules))


def test_a_file_without_any_module() -> None:
    for text in ("CellProfiler Pipeline: http\nVersion:5\nModuleCou", pipeline_text("\n")):
        pipe = pipeline.of_text(Path("/p/x.cppipe"), text.encode())
        assert codes(pipe) == ["pipeline-cut-off"]
        assert "before its first module" in only("pipeline-cut-off", pipe).what


def test_modules_that_somebody_removed() -> None:
    text = counted(4, load_data(), IDENTIFY, SAVE, EXPORT).text.decode()
    left = text.replace(text[text.index("\nSaveImages") : text.index("\nExportTo")], "")
    pipe = pipeline.of_text(Path("/p/x.cppipe"), left.encode())
    finding = only("pipeline-module-count", pipe)
    assert "ModuleCount says 4, the file has 3" in finding.what and not errors([finding])
    assert [m.name for m in pipe.modules][-1] == "ExportToSpreadsheet"
    assert codes(pipe) == ["pipeline-module-count"]


def test_no_more_modules_count_than_the_header_says() -> None:
    pipe = counted(2, load_data(), SAVE, IDENTIFY, *[EXPORT] * 6)
    finding = only("pipeline-module-count", pipe)
    assert "reads the first 2 of 9 modules" in finding.what
    assert "3, IdentifyPrimaryObjects; 4, ExportToSpreadsheet" in finding.what
    assert finding.what.endswith("and 2 more")
    assert codes(pipe) == ["pipeline-module-count", "pipeline-no-tables"]


def test_a_pipeline_that_writes_nothing() -> None:
    off = EXPORT.replace("enabled:True", "enabled:False")
    for pipe in (piped(IDENTIFY), piped(IDENTIFY, off), counted(2, load_data(), IDENTIFY, EXPORT)):
        finding = only("pipeline-no-output", pipe)
        assert errors([finding]) and "pipeline-no-tables" not in codes(pipe)
        assert ("write ModuleCount:3" in finding.remedy) is (pipe.content.count == 2)
    # nobody knows what a plugin or a macro does
    for name in ("RunCellpose", "RunImageJMacro"):
        assert codes(piped(module(name))) == ["pipeline-no-tables"]


def test_a_project_of_cellprofiler_3_gets_its_lines(tmp_path: Path) -> None:
    text = version_4(pipeline_text())
    path = tmp_path / "p.cppipe"
    path.write_text(text.encode("unicode_escape").decode())
    pipe = pipeline.read(path)
    finding = only("pipeline-one-line", pipe)
    assert not errors([finding]) and errors(unmended([finding]))
    ready = pipeline.mended(pipe, finding.mends)
    assert ready.text.decode() == text and codes(ready) == codes(piped(IDENTIFY, SAVE, EXPORT))
    assert unmended_text(text, finding.mends) == text


def test_many_missing_channels_are_said_once() -> None:
    pipe = piped(*(wants(f"Cycle{n}") for n in range(1, 8)), wants("Cycle1"), EXPORT)
    finding = only("pipeline-missing-channel", pipe)
    assert finding.place == "module 2, Smooth, and 7 more"
    assert "7 images are wanted" in finding.what and "Cycle5 and 2 more" in finding.what
    assert "FileName_Cycle1" in finding.remedy and "the list has DNA" in finding.remedy


# --- as CellProfiler 3 wrote it -------------------------------------------------------------------


@pytest.mark.parametrize("old", [version_4, escaped])
def test_an_old_pipeline_has_the_same_findings_and_mends(old: Callable[[str], str]) -> None:
    save = module("SaveImages", r"Output file location:Elsewhere...|/data/\g<Plate>/it's: [1]")
    load = load_data(ranged="Yes", keys="Plate").replace("1,100000", "3,7")
    new = piped(IDENTIFY, save, EXPORT, load=load)
    pipe = pipeline.of_text(new.path, old(new.text.decode()).encode())
    assert pipe.modules == new.modules
    assert found(pipe) == found(new)
    mends = [m for f in found(pipe) for m in f.mends]
    assert {m.label for m in mends} == {"Process just a range of rows?", "Output file location"}
    ready = pipeline.mended(pipe, mends)
    assert ready.modules == pipeline.mended(new, mends).modules
    assert not [m for f in found(ready) for m in f.mends]


def test_modules_have_todays_names() -> None:
    graph = "Export the skeleton graph relationships?:Yes"
    pipe = piped(module("MeasureNeurons", graph), EXPORT)
    assert pipe.modules[1].name == "MeasureObjectSkeleton"
    assert binding.needing_all(pipe) == ["MeasureObjectSkeleton (module 2)"]
