"""Which modules are plugins, and where to get each.

Source: the folders of these repositories in November 2026; of a module that stands in several
folders, the one that fits CellProfiler 4 best counts.
"""

from __future__ import annotations

from pathlib import Path

_COLLECTION = "https://github.com/CellProfiler/CellProfiler-plugins"
_IMC = "https://github.com/BodenmillerGroup/ImcPluginsCP"

# By repository and folder, each module as pipelines name it; its file has that name in small
# letters, or the one behind the colon.
_SOURCES: tuple[tuple[str, str, str], ...] = (
    (
        _COLLECTION,
        "active_plugins",
        "AddNoise BoxObjects CalculateMoments CallBarcodes CompensateColors"
        " ConvertOutlinesToObjects DeclumpObjects DistanceTransform EnforceObjectsOneToOne"
        " EnhancedMeasureTexture FilterObjects_StringMatch Gaussian_BySlice HistogramEqualization"
        " HistogramMatching MaskTopAndBottomZ:masktopbottomz PixelShuffle RescaleIntensitySlicewise"
        " RunCellpose Runilastik RunImageJScript RunOmnipose RunStarDist RunVISTA2D"
        " VarianceTransform",
    ),
    (
        _IMC,
        "plugins",
        "ClipRange CorrectSpilloverApply CorrectSpilloverMeasurements CropImage ExportVarCsv"
        " MaskToBinstack MeasureImageIntensityMultichannel MeasureObjectIntensityMultichannel"
        " SaveObjectCrops SmoothMultichannel StackImages SummarizeStack TransformBinary",
    ),
    (
        _COLLECTION,
        "unmaintained_plugins/CellProfiler4_autoconverted",
        "ActiveContourModel BlobDetection CalculateHistogram ConstrainObjects DoGNet EdgeDetection"
        " ExportToCellH5 GammaCorrection IdentifyLinearObjects IdentifyNucleus:nucleaizer"
        " IdentifyYeastCells ImageGradient LaplacianOfGaussian MeasureImageFocus"
        " MeasurePopulationContext MeasureRadialEntropy MeasureTrackQuality MergeObjects Predict"
        " RandomWalkerAlgorithm RescaleMeanSD RescaleModePercentile RunImageJ Save16BitPngs"
        " SeedObjects ShollAnalysis SpectralAnalysis TestAllThresholds TopHatTransform"
        " TransformFilters Transforms",
    ),
    # gone from the repository: older versions of it have these
    (
        _COLLECTION,
        "",
        "BrightfieldProjectChannels CalculateGini Cellcast ExportToOmeroTable MeasureRWCperObj"
        " Noise2Void RollingBall RunDeepProfiler SaveImagesToOmero",
    ),
)
_FILES = {
    name.casefold(): (repository, folder, f"{file or name.casefold()}.py")
    for repository, folder, names in _SOURCES
    for name, _, file in (entry.partition(":") for entry in names.split())
}


def source_of(module: str) -> str:
    """Say where to get a plugin: its file, and the repository; "" where it is not known."""
    if module.casefold() not in _FILES:
        return ""
    repository, folder, file = _FILES[module.casefold()]
    return f"{folder}/{file} from {repository}" if folder else f"{file} from an older {repository}"


def below(folder: Path, module: str) -> Path | None:
    """Find a plugin in the folders of a folder, where CellProfiler does not look."""
    # CellProfiler asks that a file have the name of the class in it, as most modules do
    _, _, file = _FILES.get(module.casefold(), ("", "", f"{module.casefold()}.py"))
    return next((p for p in sorted(folder.glob("*/*.py")) if p.name.casefold() == file), None)
