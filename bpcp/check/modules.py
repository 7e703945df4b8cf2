"""Facts about CellProfiler's modules: what they read, what binds image sets, where they write.

Source: CellProfiler 4.2.8.1, the modules' create_settings, visible_settings, prepare_group, run,
is_aggregation_module, post_group and post_run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from bpcp.check.readers import (
    ALWAYS,
    IMAGE_READERS,
    OBJECT_READERS,
    Conditions,
    Labels,
    when,
)
from bpcp.pipeline import Module, Pipeline, modules_of

# The modules of CellProfiler 4.2.8.1, and the revision of each one's settings.
REVISIONS: Mapping[str, int] = MappingProxyType({
    "Align": 3, "CalculateMath": 3, "CalculateStatistics": 2, "ClassifyObjects": 4, "Closing": 1,
    "ColorToGray": 4, "CombineObjects": 1, "ConvertImageToObjects": 1, "ConvertObjectsToImage": 1,
    "CorrectIlluminationApply": 5, "CorrectIlluminationCalculate": 2, "CreateBatchFiles": 8,
    "Crop": 3, "DefineGrid": 1, "DilateImage": 1, "DilateObjects": 1, "DisplayDataOnImage": 6,
    "DisplayDensityPlot": 1, "DisplayHistogram": 4, "DisplayPlatemap": 2, "DisplayScatterPlot": 2,
    "EditObjectsManually": 4, "EnhanceEdges": 2, "EnhanceOrSuppressFeatures": 7, "ErodeImage": 1,
    "ErodeObjects": 1, "ExpandOrShrinkObjects": 2, "ExportToDatabase": 28,
    "ExportToSpreadsheet": 13, "FillObjects": 2, "FilterObjects": 10, "FindMaxima": 1,
    "FlagImage": 5, "FlipAndRotate": 2, "GaussianFilter": 1, "GrayToColor": 4, "Groups": 2,
    "IdentifyDeadWorms": 2, "IdentifyObjectsInGrid": 3, "IdentifyObjectsManually": 2,
    "IdentifyPrimaryObjects": 15, "IdentifySecondaryObjects": 10, "IdentifyTertiaryObjects": 3,
    "ImageMath": 5, "Images": 2, "InvertForPrinting": 1, "LabelImages": 1, "LoadData": 6,
    "MakeProjection": 2, "MaskImage": 3, "MaskObjects": 3, "MatchTemplate": 1,
    "MeasureColocalization": 5, "MeasureGranularity": 4, "MeasureImageAreaOccupied": 5,
    "MeasureImageIntensity": 4, "MeasureImageOverlap": 5, "MeasureImageQuality": 6,
    "MeasureImageSkeleton": 1, "MeasureObjectIntensity": 4,
    "MeasureObjectIntensityDistribution": 6, "MeasureObjectNeighbors": 3,
    "MeasureObjectOverlap": 2, "MeasureObjectSizeShape": 3, "MeasureObjectSkeleton": 3,
    "MeasureTexture": 7, "MedialAxis": 1, "MedianFilter": 1, "Metadata": 6, "Morph": 5,
    "MorphologicalSkeleton": 1, "NamesAndTypes": 8, "Opening": 1, "OverlayObjects": 1,
    "OverlayOutlines": 4, "ReduceNoise": 1, "RelateObjects": 5, "RemoveHoles": 1,
    "RescaleIntensity": 3, "Resize": 5, "ResizeObjects": 3, "RunImageJMacro": 1,
    "SaveCroppedObjects": 3, "SaveImages": 16, "ShrinkToObjectCenters": 1, "Smooth": 2,
    "SplitOrMergeObjects": 6, "StraightenWorms": 3, "Threshold": 12, "Tile": 1, "TrackObjects": 7,
    "UnmixColors": 2, "UntangleWorms": 2, "Watershed": 3,
})  # fmt: skip

# Modules that can't process volumes (`volumetric` is False).
FLAT = frozenset({
    "Align", "CalculateStatistics", "ClassifyObjects", "ColorToGray", "CorrectIlluminationApply",
    "CorrectIlluminationCalculate", "Crop", "DefineGrid", "DisplayDataOnImage",
    "DisplayDensityPlot", "DisplayHistogram", "DisplayPlatemap", "DisplayScatterPlot",
    "EditObjectsManually", "EnhanceEdges", "ExpandOrShrinkObjects", "FlipAndRotate", "GrayToColor",
    "IdentifyDeadWorms", "IdentifyObjectsInGrid", "IdentifyObjectsManually",
    "IdentifyPrimaryObjects", "IdentifySecondaryObjects", "IdentifyTertiaryObjects",
    "InvertForPrinting", "LabelImages", "LoadData", "MakeProjection", "MaskObjects",
    "MatchTemplate", "MeasureObjectIntensityDistribution", "MeasureObjectOverlap",
    "MeasureObjectSkeleton", "Morph", "RunImageJMacro", "Smooth", "SplitOrMergeObjects",
    "StraightenWorms", "Tile", "TrackObjects", "UnmixColors", "UntangleWorms",
})  # fmt: skip

# ImageMath renames its settings by their place, and these operations take only the first.
_IMAGE_MATH = re.compile(r"Select the (?:[\w-]+ )?image")
_OF_ONE_IMAGE = (
    "Invert",
    "Log transform (base 2)",
    "Log transform (legacy)",
    "Not",
    "None",
)

# Modules that need all image sets of a group in one process, and the values that make them so; ()
# means always. "All" is what old pipelines say, and CellProfiler takes for one of the two behind.
GROUP_BOUND: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "CorrectIlluminationCalculate": ("All", "All: First cycle", "All: Across cycles"),
    "MakeProjection": (),
    "TrackObjects": (),
    "Tile": ("Across cycles",),
    "SaveImages": ("First cycle", "Last cycle", "Movie", "Movie/Stack"),
    "Crop": ("First",),
    "UntangleWorms": ("Train",),
    "RescaleIntensity": ("Minimum of all images", "Maximum of all images"),
})  # fmt: skip
# Modules that look beyond groups, at all image sets of a process: dose responses over a whole
# experiment, a grid kept from an earlier cycle, a file that each image set appends to.
RUN_BOUND: Mapping[str, tuple[tuple[str, ...], Conditions]] = MappingProxyType({
    "CalculateStatistics": ((), ALWAYS),
    "DefineGrid": (("Once", "Use any previous grid", "Use the first cycle's grid"), ALWAYS),
    "MeasureObjectSkeleton": (
        (),
        when("Export the skeleton graph relationships?", "Yes"),
    ),
})  # fmt: skip

# Modules that ask somebody at the screen, and when.
INTERACTIVE: Mapping[str, Conditions] = MappingProxyType({
    "IdentifyObjectsManually": ALWAYS,
    "EditObjectsManually": ALWAYS,
    "Crop": (
        ("Select the cropping shape", ("Rectangle", "Ellipse")),
        ("Select the cropping method", ("Mouse",)),
    ),
    "DefineGrid": (
        ("Select the method to define the grid", ("Manual",)),
        ("Select the method to define the grid manually", ("Mouse",)),
    ),
    "FlipAndRotate": when("Select method to rotate image", "Use mouse"),
    "StraightenWorms": (
        ("Measure intensity distribution?", ("Yes",)),
        ("Align worms?", ("Flip manually",)),
    ),
})  # fmt: skip

_OUTPUT = "Output file location"
_GRAPH = when("Export the skeleton graph relationships?", "Yes")
_BY_NAME = when("Select method for constructing file names", "Single name", "Sequential numbers")

# The folder that a module writes to.
OUTPUT_FOLDERS: Mapping[str, Labels] = MappingProxyType({
    "SaveImages": {_OUTPUT: ALWAYS},
    "ExportToSpreadsheet": {_OUTPUT: ALWAYS},
    "ExportToDatabase": {_OUTPUT: ALWAYS},
    "CalculateStatistics": {_OUTPUT: when("Create dose-response plots?", "Yes")},
    "SaveCroppedObjects": {"Directory": ALWAYS},
    "MeasureObjectSkeleton": {"File output directory": _GRAPH},
    "UntangleWorms": {
        "Training set file location": when("Train or untangle worms?", "Train"),
    },
})  # fmt: skip

# The text that CellProfiler puts metadata into, where it says so with \g<TAG>.
METADATA_TEXTS: Mapping[str, Labels] = MappingProxyType({
    "SaveImages": {
        _OUTPUT: ALWAYS,
        "Enter single file name": _BY_NAME,
        "Enter file prefix": _BY_NAME,
        "Text to append to the image name": (
            ("Select method for constructing file names", ("From image filename",)),
            ("Append a suffix to the image file name?", ("Yes",)),
        ),
    },
    "ExportToSpreadsheet": {
        _OUTPUT: ALWAYS,
        "File name": (
            ("Export all measurement types?", ("No",)),
            ("Use the object name for the file name?", ("No",)),
        ),
    },
    "SaveCroppedObjects": {"Directory": ALWAYS},
    "MeasureObjectSkeleton": {
        "File output directory": _GRAPH,
        "Vertex file name": _GRAPH,
        "Edge file name": _GRAPH,
    },
})  # fmt: skip

# A measurement of the image that a module goes by; metadata among them are the list's.
MEASUREMENTS_READ: Mapping[str, Labels] = MappingProxyType({
    "CalculateStatistics": {
        "Select the image measurement describing the positive and negative control status": ALWAYS,
        "Select the image measurement describing the treatment dose": ALWAYS,
    },
    "FlagImage": {"Which measurement?": when("Flag is based on", "Whole-image measurement")},
    "RescaleIntensity": {
        "Divisor measurement": when(
            "Rescaling method", "Divide each image by a previously calculated value"
        ),
    },
})  # fmt: skip

_RULES = "Rules or classifier file name"
# A file that a module reads beside the images: its folder's label, its name's, and when.
INPUT_FILES: Mapping[str, tuple[tuple[str, str, Conditions], ...]] = MappingProxyType({
    # a plugin
    "CallBarcodes": (
        (
            "Input data file location",
            "Name of the file",
            when("Do you want to match to an external library of barcodes?", "Yes"),
        ),
    ),
    "ClassifyObjects": (
        (
            "Select the location of the classifier model file",
            _RULES,
            when("Make classification decision based on", "Classifier Model"),
        ),
    ),
    "FilterObjects": (
        (
            "Select the location of the rules or classifier file",
            _RULES,
            when("Select the filtering mode", "Rules", "Classifier"),
        ),
    ),
    "FlagImage": (
        ("Rules file location", "Rules file name", when("Flag is based on", "Rules", "Classifier")),
    ),
    "Metadata": (
        (
            "Metadata file location",
            "Metadata file name",
            (
                ("Extract metadata?", ("Yes",)),
                ("Metadata extraction method", ("Import from file",)),
            ),
        ),
    ),
    "RunImageJMacro": (
        ("Executable directory", "Executable", ALWAYS),
        ("Macro directory", "Macro", ALWAYS),
    ),
    "StraightenWorms": (("Training set file location", "Training set file name", ALWAYS),),
    "UntangleWorms": (
        (
            "Training set file location",
            "Training set file name",
            when("Train or untangle worms?", "Untangle"),
        ),
    ),
})  # fmt: skip


def holds(module: Module, at: int, conditions: Conditions) -> bool:
    """Tell whether the conditions of a module's setting are met.

    Parameters
    ----------
    at : int
        Index of the setting: of repeated settings, the nearest before it counts, as in a module's
        own groups of settings, else the first behind it.
    """
    for label, values in conditions:
        before = [value for name, value in module.settings[: at + 1] if name == label]
        behind = [value for name, value in module.settings[at + 1 :] if name == label]
        near = before[-1] if before else behind[0] if behind else None
        if near not in values:
            return False
    return True


def active(module: Module, labels: Labels) -> Iterator[tuple[int, str]]:
    """Give the settings of some labels that a module looks at: their indexes, and their values."""
    for at, (label, value) in enumerate(module.settings):
        if label in labels and holds(module, at, labels[label]):
            yield at, value


def images_read(module: Module) -> Iterator[str]:
    """Name the images that must be there when a module runs."""
    if module.name == "ImageMath":
        single = module.get("Operation") in _OF_ONE_IMAGE
        at = [i for i, (label, _) in enumerate(module.settings) if _IMAGE_MATH.fullmatch(label)]
        for i in at[:1] if single else at:
            if single or holds(module, i, when("Image or measurement?", "Image")):
                yield module.settings[i][1]
        return
    for _, value in active(module, IMAGE_READERS.get(module.name, {})):
        yield from (name.strip() for name in value.split(","))


def objects_read(module: Module) -> Iterator[str]:
    """Name the objects that must be there when a module runs."""
    for _, value in active(module, OBJECT_READERS.get(module.name, {})):
        yield from (name.strip() for name in value.split(","))


def is_reader(module: Module, label: str) -> bool:
    """Tell whether a setting names what the module reads; every other one may name what it makes.

    No table says what a module makes: a plugin's settings are in none, and a name that is taken
    for made by mistake costs nothing.
    """
    if module.name == "ImageMath":
        return bool(_IMAGE_MATH.fullmatch(label))
    tables = (IMAGE_READERS, OBJECT_READERS)
    return any(label in table.get(module.name, {}) for table in tables)


def is_group_bound(module: Module) -> bool:
    """Tell whether a module needs all image sets of a group in one process."""
    return module.name in GROUP_BOUND and _has(module, GROUP_BOUND[module.name])


def is_run_bound(module: Module) -> bool:
    """Tell whether a module needs all image sets in one process, whatever the groups."""
    if module.name not in RUN_BOUND:
        return False
    values, conditions = RUN_BOUND[module.name]
    return _has(module, values) and holds(module, 0, conditions)


def _has(module: Module, values: tuple[str, ...]) -> bool:
    return not values or any(value in values for _, value in module.settings)


def is_interactive(module: Module) -> bool:
    """Tell whether a module asks somebody at the screen."""
    return module.name in INTERACTIVE and holds(module, 0, INTERACTIVE[module.name])


def skipping_flags(module: Module) -> list[tuple[str, str]]:
    """Give a FlagImage's flags that end the pipeline for an image set: measurement, and name."""
    if module.name != "FlagImage":
        return []
    categories, names, skips = map(
        module.all, ("Name the flag's category", "Name the flag", "Skip image set if flagged?")
    )
    flags = zip(categories, names, skips, strict=False)
    return [(f"{category}_{name}", name) for category, name, skip in flags if skip == "Yes"]


def counts_to_the_last(module: Module) -> bool:
    """Tell whether a module treats the last image set of a group, or of the list, differently."""
    return module.name == "FlagImage" and module.get("Ignore flag skips on last cycle?") == "Yes"


def writes(module: Module) -> bool:
    """Tell whether a module writes files, or tables of a database server."""
    return module.name in OUTPUT_FOLDERS or module.name == "CreateBatchFiles"


def place(module: Module) -> str:
    """Say where a module stands, for a finding."""
    return f"module {module.number}, {module.name}"


def every_module(pipe: Pipeline) -> list[Module]:
    """Give a pipeline's modules, the disabled ones too."""
    return list(modules_of(pipe.content, every=True))
