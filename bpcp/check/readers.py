"""Which settings of CellProfiler's modules name an image, or objects, that must be there.

Labels are as CellProfiler 4.2.8.1 writes them into a pipeline. A label that the tables do not know,
as in pipelines of other versions, is left alone: what is not known is not complained about.

Source: made by asking each module, with each of its choices in turn, which settings it shows; a
test asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# A setting counts only where others of its module have one of some values.
Conditions = tuple[tuple[str, tuple[str, ...]], ...]
Labels = Mapping[str, Conditions]

ALWAYS: Conditions = ()


def when(label: str, *values: str) -> Conditions:
    """Give the condition that a setting has one of some values."""
    return ((label, values),)


_INPUT = "Select the input image"
_MEASURED = "Select images to measure"
_GENERATE = "Generate from"

# Settings that name an image which must be there when the module runs.
_IMAGES: dict[str, Labels] = {
    "Align": {
        "Select the first input image": ALWAYS,
        "Select the second input image": ALWAYS,
        "Select the additional image": ALWAYS,
    },
    "CorrectIlluminationApply": {_INPUT: ALWAYS, "Select the illumination function": ALWAYS},
    "Crop": {
        _INPUT: ALWAYS,
        "Select the masking image": when("Select the cropping shape", "Image"),
        "Select the image with a cropping mask": when(
            "Select the cropping shape", "Previous cropping"
        ),
    },
    "DefineGrid": {"Select the image on which to display the grid": ALWAYS},
    "DisplayDataOnImage": {"Select the image on which to display the measurements": ALWAYS},
    "ExportToDatabase": {
        "Select the images for which you want to save thumbnails": when(
            "Write image thumbnails directly to the database?", "Yes"
        ),
    },
    "FindMaxima": {
        _INPUT: ALWAYS,
        "Select the image to use as a mask": when("Method for excluding background", "Mask"),
    },
    "GrayToColor": {
        "Select the image to be colored red": when("Select a color scheme", "RGB"),
        "Select the image to be colored green": when("Select a color scheme", "RGB"),
        "Select the image to be colored blue": when("Select a color scheme", "RGB"),
        "Select the image to be colored cyan": when("Select a color scheme", "CMYK"),
        "Select the image to be colored magenta": when("Select a color scheme", "CMYK"),
        "Select the image to be colored yellow": when("Select a color scheme", "CMYK"),
        "Select the image that determines brightness": when("Select a color scheme", "CMYK"),
        "Image name": when("Select a color scheme", "Composite", "Stack"),
    },
    "InvertForPrinting": {
        "Select the color image": when("Input image type", "Color"),
        **{
            f"Select the {color} image": (
                ("Input image type", ("Grayscale",)),
                (f"Use a {color} image?", ("Yes",)),
            )
            for color in ("red", "green", "blue")
        },
    },
    "MaskImage": {
        _INPUT: ALWAYS,
        "Select image for mask": when("Use objects or an image as a mask?", "Image"),
    },
    "MaskObjects": {
        "Select the masking image": when(
            "Mask using a region defined by other objects or by binary image?", "Image"
        ),
    },
    "MatchTemplate": {"Image": ALWAYS},
    "MeasureImageAreaOccupied": {
        "Select binary images to measure": when(
            "Measure the area occupied by", "Binary Image", "Both"
        ),
    },
    "MeasureImageOverlap": {
        "Select the image to be used as the ground truth basis for calculating the amount of"
        " overlap": ALWAYS,
        "Select the image to be used to test for overlap": ALWAYS,
    },
    "MeasureImageQuality": {
        "Select the images to measure": when("Calculate metrics for which images?", "Select..."),
    },
    "MeasureImageSkeleton": {"Select an image to measure": ALWAYS},
    "MeasureObjectSkeleton": {
        "Select the skeletonized image": ALWAYS,
        "Intensity image": when("Export the skeleton graph relationships?", "Yes"),
    },
    "OverlayObjects": {"Input": ALWAYS},
    "OverlayOutlines": {
        "Select image on which to display outlines": when(
            "Display outlines on a blank image?", "No"
        ),
    },
    "RescaleIntensity": {
        _INPUT: ALWAYS,
        "Select image to match in maximum intensity": when(
            "Rescaling method", "Match the image's maximum to another image's maximum"
        ),
    },
    "Resize": {
        _INPUT: ALWAYS,
        "Select the image with the desired dimensions": (
            ("Resizing method", ("Resize by specifying desired final dimensions",)),
            ("Method to specify the dimensions", ("Image",)),
        ),
        "Select the additional image?": ALWAYS,
    },
    "ResizeObjects": {
        "Select the image with the desired dimensions": when("Method", "Match Image"),
    },
    "RunImageJMacro": {"Select an image to send to your macro": ALWAYS},
    "SaveCroppedObjects": {
        "Image to crop": when("Do you want to save cropped images or object masks?", "Images"),
        "Select image name to use as a prefix": when(
            "Prefix saved crop image name with input image name?", "Yes"
        ),
    },
    "SaveImages": {
        "Select the image to save": ALWAYS,
        "Select image name for file prefix": when(
            "Select method for constructing file names", "From image filename"
        ),
    },
    "SplitOrMergeObjects": {
        "Select the grayscale image to guide merging": (
            ("Operation", ("Merge",)),
            ("Merging method", ("Distance",)),
            ("Merge using a grayscale image?", ("Yes",)),
        ),
    },
    "StraightenWorms": {"Select an input image to straighten": ALWAYS},
    "Tile": {
        "Select an input image": ALWAYS,
        "Select an additional image to tile": when("Tile assembly method", "Within cycles"),
    },
    "UnmixColors": {"Select the input color image": ALWAYS},
    # CellProfiler declares this one as a name that the module gives; it reads it
    "UntangleWorms": {"Select the input binary image": ALWAYS},
    "Watershed": {
        _INPUT: ALWAYS,
        "Markers": when(_GENERATE, "Markers"),
        "Mask": when(_GENERATE, "Markers"),
        "Reference Image": (
            ("Use advanced settings?", ("Yes",)),
            ("Declump method", ("Intensity",)),
        ),
    },
}
IMAGE_READERS: Mapping[str, Labels] = MappingProxyType({
    **{
        module: {_INPUT: ALWAYS}
        for module in (
            "Closing", "ColorToGray", "ConvertImageToObjects", "CorrectIlluminationCalculate",
            "DilateImage", "EnhanceEdges", "EnhanceOrSuppressFeatures", "ErodeImage",
            "FlipAndRotate", "GaussianFilter", "IdentifyDeadWorms", "IdentifyObjectsManually",
            "IdentifyPrimaryObjects", "IdentifySecondaryObjects", "MakeProjection", "MedialAxis",
            "MedianFilter", "Morph", "MorphologicalSkeleton", "Opening", "ReduceNoise",
            "RemoveHoles", "Smooth", "Threshold",
        )
    },
    **{
        module: {_MEASURED: ALWAYS}
        for module in (
            "MeasureColocalization", "MeasureGranularity", "MeasureImageIntensity",
            "MeasureObjectIntensity", "MeasureObjectIntensityDistribution", "MeasureTexture",
        )
    },
    **_IMAGES,
})  # fmt: skip

_OBJECTS = "Select the input objects"
_OBJECT = "Select the input object"
_OBJECTS_MEASURED = "Select objects to measure"

# Settings that name objects which must be there when the module runs.
OBJECT_READERS: Mapping[str, Labels] = MappingProxyType({
    **{
        module: {_OBJECTS: ALWAYS}
        for module in (
            "ConvertObjectsToImage", "ExpandOrShrinkObjects", "IdentifySecondaryObjects",
            "SplitOrMergeObjects",
        )
    },
    **{
        module: {_OBJECT: ALWAYS}
        for module in (
            "DilateObjects", "ErodeObjects", "FillObjects", "ResizeObjects",
            "ShrinkToObjectCenters",
        )
    },
    "CombineObjects": {
        "Select initial object set": ALWAYS,
        "Select object set to combine": ALWAYS,
    },
    "Crop": {"Select the objects": when("Select the cropping shape", "Objects")},
    "FilterObjects": {"Select the objects to filter": ALWAYS},
    "FindMaxima": {
        "Select the objects to search within": when(
            "Method for excluding background", "Within Objects"
        ),
    },
    "IdentifyTertiaryObjects": {
        "Select the larger identified objects": ALWAYS,
        "Select the smaller identified objects": ALWAYS,
    },
    "MaskImage": {"Select object for mask": when("Use objects or an image as a mask?", "Objects")},
    "MaskObjects": {
        "Select objects to be masked": ALWAYS,
        "Select the masking object": when(
            "Mask using a region defined by other objects or by binary image?", "Objects"
        ),
    },
    "MeasureColocalization": {
        _OBJECTS_MEASURED: when(
            "Select where to measure correlation", "Both", "Within objects"
        ),
    },
    "MeasureGranularity": {_OBJECTS_MEASURED: when("Measure within objects?", "Yes")},
    "MeasureImageAreaOccupied": {
        "Select object sets to measure": when("Measure the area occupied by", "Both", "Objects"),
    },
    "MeasureImageIntensity": {
        "Select input object sets": when(
            "Measure the intensity only from areas enclosed by objects?", "Yes"
        ),
    },
    "MeasureObjectIntensity": {_OBJECTS_MEASURED: ALWAYS},
    "MeasureObjectIntensityDistribution": {
        _OBJECTS_MEASURED: ALWAYS,
        "Select objects to use as centers": when(
            "Object to use as center?", "Edges of other objects", "Centers of other objects"
        ),
    },
    "MeasureObjectNeighbors": {
        _OBJECTS_MEASURED: ALWAYS,
        "Select neighboring objects to measure": ALWAYS,
    },
    "MeasureObjectOverlap": {
        "Select the objects to be used as the ground truth basis for calculating the amount of"
        " overlap": ALWAYS,
        "Select the objects to be tested for overlap against the ground truth": ALWAYS,
    },
    "MeasureObjectSizeShape": {"Select object sets to measure": ALWAYS},
    "MeasureObjectSkeleton": {"Select the seed objects": ALWAYS},
    "MeasureTexture": {
        _OBJECTS_MEASURED: when("Measure whole images or objects?", "Objects", "Both"),
    },
    "OverlayObjects": {"Objects": ALWAYS},
    "OverlayOutlines": {"Select objects to display": ALWAYS},
    "RelateObjects": {"Parent objects": ALWAYS, "Child objects": ALWAYS},
    "SaveCroppedObjects": {"Objects": ALWAYS},
    "StraightenWorms": {"Select the input untangled worm objects": ALWAYS},
    "TrackObjects": {"Select the objects to track": ALWAYS},
})  # fmt: skip
