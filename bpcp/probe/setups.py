"""What a module needs beyond the common setting up, and which of its modes are looked at.

The settings are called by their labels; "label#1" is the second one with that label. {scratch} is
the folder of the files that the probe draws.

Source: CellProfiler 4.2.8.1, the modules' create_settings and run.
"""

from __future__ import annotations

FOLDER = "Elsewhere...|{scratch}"
OUTPUT_FOLDER = "Elsewhere...|{scratch}/out"

# Why a module is not probed.
NOT_PROBED = {
    "CreateBatchFiles": "it writes a batch file of a whole pipeline",
    "EditObjectsManually": "it asks somebody at the screen",
    "Groups": "it is part of every run that reads a list of files",
    "IdentifyObjectsManually": "it asks somebody at the screen",
    "Images": "it is part of every run that reads a list of files",
    "LoadData": "it is part of every run that reads a list of images",
    "Metadata": "it is part of every run that reads a list of files",
    "NamesAndTypes": "it is part of every run that reads a list of files",
    "RunImageJMacro": "it needs ImageJ",
}

# What puts image sets together, or compares them.
OF_SEVERAL = frozenset(
    {
        "CalculateStatistics",
        "CorrectIlluminationCalculate",
        "ExportToDatabase",
        "ExportToSpreadsheet",
        "LabelImages",
        "MakeProjection",
        "RescaleIntensity",
        "SaveImages",
        "Tile",
        "TrackObjects",
    }
)

# What works on measurements alone: of volumes, its base is enough.
ON_MEASUREMENTS = frozenset(
    {"CalculateMath", "ExportToDatabase", "ExportToSpreadsheet", "FilterObjects", "FlagImage"}
)

_WINDOW = {"Size of adaptive window": "20"}

# Settings from which the others are varied one at a time.
BASE: dict[str, dict[str, str]] = {
    "CalculateMath": {
        "Select the first operand measurement": "Intensity_MeanIntensity_Grey",
        "Select the second operand measurement": "Intensity_MeanIntensity_Grey",
    },
    "CalculateStatistics": {
        "Select the image measurement describing the positive and negative control status": (
            "Math_Dose"
        ),
        "Select the image measurement describing the treatment dose": "Math_Dose",
    },
    "ClassifyObjects": {
        "Select the measurement to classify by": "AreaShape_Area",
        "Upper threshold": "200",
        "Select the second measurement": "AreaShape_Area",
        "Rules or classifier file name": "tree.model",
        "Select a class": "Small",
    },
    "ColorToGray": {"Select the input image": "Colour"},
    "CombineObjects": {"Select object set to combine": "Cells"},
    "ConvertImageToObjects": {"Select the input image": "Labels"},
    "CorrectIlluminationApply": {"Select the illumination function": "Illum"},
    "CorrectIlluminationCalculate": {"Block size": "20"},
    "Crop": {
        "Coordinates of ellipse center": "40,40",
        "Ellipse radius, X direction": "20",
        "Ellipse radius, Y direction": "20",
        "Select the masking image": "Binary",
    },
    "DefineGrid": {
        "Number of rows": "3",
        "Number of columns": "3",
        "Select the image on which to display the grid": "Grey",
        "Select the image to display when drawing": "Grey",
        "Select the method to define the grid manually": "Coordinates",
        "Coordinates of the first cell": "14,14",
        "Coordinates of the second cell": "66,66",
        "Row number of the second cell": "3",
        "Column number of the second cell": "3",
    },
    "ExportToDatabase": {
        "Overwrite without warning?": "Data and schema",
        "Select an image to include": "Grey",
        "Select the plate metadata": "Plate",
    },
    "ExportToSpreadsheet": {"Overwrite existing files without warning?": "Yes"},
    "FillObjects": {"Minimum hole size": "3"},
    "FilterObjects": {
        "Select the measurement to filter by": "AreaShape_Area",
        "Maximum value": "150",
        "Select the objects that contain the filtered objects": "Cells",
    },
    "FlagImage": {"Which measurement?": "Intensity_MeanIntensity_Grey"},
    "FlipAndRotate": {"Enter angle of rotation": "20"},
    "IdentifyDeadWorms": {
        "Select the input image": "Worms",
        "Worm width": "6",
        "Worm length": "50",
        "Number of angles": "8",
    },
    "IdentifyPrimaryObjects": _WINDOW,
    "IdentifySecondaryObjects": {
        "Number of pixels by which to expand the primary objects": "3",
        **_WINDOW,
    },
    "IdentifyTertiaryObjects": {"Select the larger identified objects": "Cells"},
    "InvertForPrinting": {"Select the color image": "Colour"},
    "MaskImage": {"Select image for mask": "Binary"},
    "MaskObjects": {
        "Select objects to be masked": "Cells",
        "Select the masking image": "Binary",
    },
    "MatchTemplate": {"Template": "{scratch}/template.png"},
    "MeasureColocalization": {"Select objects to measure": "Nuclei, Cells"},
    "MeasureGranularity": {
        "Subsampling factor for granularity measurements": "0.5",
        "Subsampling factor for background reduction": "0.5",
        "Radius of structuring element": "5",
        "Range of the granular spectrum": "4",
    },
    "MeasureImageAreaOccupied": {"Select binary images to measure": "Binary"},
    "MeasureImageOverlap": {
        "Select the image to be used as the ground truth basis for calculating the amount of"
        " overlap": "Binary",
        "Select the image to be used to test for overlap": "Skeleton",
        "Maximum # of points": "8",
    },
    "MeasureImageSkeleton": {"Select an image to measure": "Skeleton"},
    "MeasureObjectNeighbors": {"Select neighboring objects to measure": "Cells"},
    "MeasureObjectOverlap": {
        "Select the objects to be tested for overlap against the ground truth": "Cells",
        "Maximum # of points": "8",
    },
    "MeasureObjectSkeleton": {
        "Select the skeletonized image": "Skeleton",
        "Intensity image": "Grey",
    },
    "MeasureTexture": {
        "Select images to measure": "Grey",
        "Enter how many gray levels to measure the texture at": "16",
    },
    "MedialAxis": {"Select the input image": "Binary"},
    "Morph": {"Select the input image": "Binary"},
    "MorphologicalSkeleton": {"Select the input image": "Binary"},
    "ReduceNoise": {"Size": "3", "Distance": "3"},
    "RelateObjects": {
        "Parent objects": "Cells",
        "Child objects": "Nuclei",
        "Parent name": "Nuclei",
    },
    "RemoveHoles": {"Select the input image": "Binary"},
    "RescaleIntensity": {
        "Select image to match in maximum intensity": "Grey2",
        "Divisor measurement": "Intensity_MeanIntensity_Grey",
        "Divisor value": "2",
    },
    "Resize": {"Select the image with the desired dimensions": "Grey2"},
    "SaveImages": {"Overwrite existing files without warning?": "Yes"},
    "SplitOrMergeObjects": {"Select the parent object": "Cells"},
    "StraightenWorms": {
        "Select the input untangled worm objects": "Worms",
        "Worm width": "8",
        "Training set file name": "worms.xml",
        "Alignment image": "Grey",
    },
    "Threshold": _WINDOW,
    "Tile": {"Final number of rows": "1", "Final number of columns": "2"},
    "UnmixColors": {"Select the input color image": "Colour"},
    "UntangleWorms": {
        "Select the input binary image": "Worms",
        "Training set file name": "worms.xml",
        "Number of control points": "7",
    },
    "Watershed": {"Select the input image": "Binary"},
}

# What a choice needs set beside it.
WITH: dict[str, dict[tuple[str, str], dict[str, str]]] = {
    "ClassifyObjects": {
        ("Make classification decision based on", "Classifier Model"): {
            "Select the object to be classified": "Nuclei"
        },
    },
    "FilterObjects": {
        ("Select the filtering mode", "Rules"): {"Rules or classifier file name": "rules.txt"},
        ("Select the filtering mode", "Classifiers"): {
            "Rules or classifier file name": "tree.model",
            "Class number": "Small",
            "Class name": "Small",
        },
    },
    "FlagImage": {
        ("Flag is based on", "Rules"): {"Rules file name": "image_rules.txt"},
        ("Flag is based on", "Classifier"): {"Rules file name": "image_tree.model"},
    },
    "UntangleWorms": {
        ("Train or untangle worms?", "Train"): {"Training set file name": "trained.xml"}
    },
}

# Settings of which each pair of values may take a way of its own.
PAIRS: dict[str, list[tuple[str, str]]] = {
    "SaveImages": [("Saved file format", "Image bit depth")],
    "Resize": [("Resizing method", "Interpolation method")],
    "Threshold": [("Threshold strategy", "Log transform before thresholding?")],
}

# Numbers that choose the way, too: ranges from one value to the other, both of which are run.
RANGES: dict[str, dict[str, tuple[str, str]]] = {
    "EnhanceOrSuppressFeatures": {"Feature size": ("2", "6")},
}

# Choices that are left at what they are: colours and fonts, what CellProfiler Analyst shows, and
# what needs a server.
LEFT = frozenset(
    {
        "Channel color",
        "Database type",
        "Font",
        "Font weight",
        "Select the color map",
        "Select the measurement display tool",
        "Select the plate type",
        "Type of measurement to plot on the X-axis",
        "Type of measurement to plot on the Y-axis",
    }
)
