"""Changes of a pipeline's text, and modules to put into it."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

_HEAD = (
    "{name}:[module_num:{number}|svn_version:'Unknown'|variable_revision_number:{revision}"
    "|show_window:False|notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]"
)


@dataclass(frozen=True)
class Added:
    """A module as CellProfiler 4.2.8.1 writes it."""

    name: str
    revision: int
    settings: str

    def set(self, **values: str) -> Added:
        """Give settings other values; a label is named by its words, joined by _."""
        text = self.settings
        for words, value in values.items():
            label = re.escape(words.replace("_", " "))
            text, n = re.subn(
                rf"^({label}[^:]*:).*$", lambda m, v=value: m[1] + v, text, flags=re.MULTILINE
            )
            assert n == 1, words
        return Added(self.name, self.revision, text)


TRACK = Added(
    "TrackObjects",
    7,
    """\
Choose a tracking method:Overlap
Select the objects to track:Nuclei
Select object measurement to use for tracking:None
Maximum pixel distance to consider matches:50
Select display option:Color and Number
Save color-coded image?:No
Name the output image:TrackedCells
Select the movement model:Both
Number of standard deviations for search radius:3.0
Search radius limit, in pixel units (Min,Max):2.0,10.0
Run the second phase of the LAP algorithm?:Yes
Gap closing cost:40
Split alternative cost:40
Merge alternative cost:40
Maximum gap displacement, in pixel units:5
Maximum split score:50
Maximum merge score:50
Maximum temporal gap, in frames:5
Filter objects by lifetime?:No
Filter using a minimum lifetime?:Yes
Minimum lifetime:1
Filter using a maximum lifetime?:No
Maximum lifetime:100
Mitosis alternative cost:80
Maximum mitosis distance, in pixel units:40
Average cell diameter in pixels:35.0
Use advanced configuration parameters:No
Cost of cell to empty matching:15.0
Weight of area difference in function matching cost:25.0
""",
)
CORRECT = Added(
    "CorrectIlluminationCalculate",
    2,
    """\
Select the input image:DNA
Name the output image:IllumDNA
Select how the illumination function is calculated:Regular
Dilate objects in the final averaged image?:No
Dilation radius:1
Block size:60
Rescale the illumination function?:Yes
Calculate function for each image individually, or based on all images?:All: Across cycles
Smoothing method:Gaussian Filter
Method to calculate smoothing filter size:Manually
Approximate object diameter:10
Smoothing filter size:40
Retain the averaged image?:No
Name the averaged image:IllumBlueAvg
Retain the dilated image?:No
Name the dilated image:IllumBlueDilated
Automatically calculate spline parameters?:Yes
Background mode:auto
Number of spline points:5
Background threshold:2.0
Image resampling factor:2.0
Maximum number of iterations:40
Residual value for convergence:0.001
""",
)
APPLY = Added(
    "CorrectIlluminationApply",
    5,
    """\
Select the input image:DNA
Name the output image:CorrDNA
Select the illumination function:Illum_98.mat
Select how the illumination function is applied:Divide
Set output image values less than 0 equal to 0?:Yes
Set output image values greater than 1 equal to 1?:Yes
""",
)
CORRECTED = Added("MeasureImageIntensity", 4, "Select images to measure:CorrDNA\n")
PROJECT = Added(
    "MakeProjection",
    2,
    """\
Select the input image:DNA
Type of projection:Maximum
Name the output image:ProjectionDNA
Frequency:6.0
""",
)
SAVE_LAST = Added(
    "SaveImages",
    16,
    """\
Select the type of image to save:Image
Select the image to save:IllumDNA
Select method for constructing file names:Single name
Select image name for file prefix:None
Enter single file name:OrigBlue
Number of digits:4
Append a suffix to the image file name?:No
Text to append to the image name:
Saved file format:npy
Output file location:Default Output Folder|
Image bit depth:8-bit integer
Overwrite existing files without warning?:No
When to save:Last cycle
Record the file and path information to the saved image?:No
Create subfolders in the output folder?:No
Base image folder:Elsewhere...|
How to save the series:T (Time)
Save with lossless compression?:Yes
""",
)

FLAG = Added(
    "FlagImage",
    5,
    """\
Hidden:1
Hidden:1
Name the flag's category:Metadata
Name the flag:QCFlag
How should measurements be linked?:Flag if any fail
Skip image set if flagged?:Yes
Flag is based on:Whole-image measurement
Select the object to be used for flagging:None
Which measurement?:Metadata_Dirt
Flag images based on low values?:No
Minimum value:0.0
Flag images based on high values?:Yes
Maximum value:0.5
Rules file location:Elsewhere...|
Rules file name:rules.txt
Class number:
Allow fuzzy feature matching?:No
Ignore flag skips on last cycle?:No
""",
)


def _enhanced(name: str, kind: str, size: int, method: str = "Tubeness") -> Added:
    return Added(
        "EnhanceOrSuppressFeatures",
        7,
        f"""\
Select the input image:DNA
Name the output image:{name}
Select the operation:Enhance
Feature size:{size}
Feature type:{kind}
Range of hole sizes:1,10
Smoothing scale:2
Shear angle:0.0
Decay:0.95
Enhancement method:{method}
Speed and accuracy:Fast
Rescale result image:No
""",
    )


# what a later scikit-image refused or computed otherwise, each measured over its whole image
SCIKIT_IMAGE = (
    Added(
        "MeasureGranularity",
        4,
        """\
Select images to measure:DNA
Measure within objects?:Yes
Select objects to measure:Nuclei
Subsampling factor for granularity measurements:0.5
Subsampling factor for background reduction:0.5
Radius of structuring element:5
Range of the granular spectrum:4
""",
    ),
    _enhanced("Speckles", "Speckles", 3),
    _enhanced("Lines", "Neurites", 5, "Line structures"),
    _enhanced("Textures", "Texture", 3),
    Added(
        "ReduceNoise",
        1,
        """\
Select the input image:DNA
Name the output image:Clean
Size:5
Distance:3
Cut-off distance:0.1
""",
    ),
    Added(
        "FindMaxima",
        1,
        """\
Select the input image:DNA
Name the output image:Maxima
Minimum distance between maxima:5
Method for excluding background:Threshold
Specify the minimum intensity of a peak:0.02
Select the image to use as a mask:None
Select the objects to search within:None
""",
    ),
    Added(
        "Resize",
        5,
        """\
Select the input image:DNA
Name the output image:Small
Resizing method:Resize by a fraction or multiple of the original size
X Resizing factor:0.3
Y Resizing factor:0.3
Z Resizing factor:1
Method to specify the dimensions:Manual
Width (x) of the final image:100
Height (y) of the final image:100
# of planes (z) in the final image:10
Select the image with the desired dimensions:None
Interpolation method:Bicubic
Additional image count:0
""",
    ),
    Added(
        "Threshold",
        12,
        """\
Select the input image:DNA
Name the output image:Binary
Threshold strategy:Adaptive
Thresholding method:Sauvola
Threshold smoothing scale:1
Threshold correction factor:1.0
Lower and upper bounds on threshold:0.0,1.0
Manual threshold:0.0
Select the measurement to threshold with:None
Two-class or three-class thresholding?:Two classes
Log transform before thresholding?:No
Assign pixels in the middle intensity class to the foreground or the background?:Foreground
Size of adaptive window:51
Lower outlier fraction:0.05
Upper outlier fraction:0.05
Averaging method:Mean
Variance method:Standard deviation
# of deviations:2.0
Thresholding method:Otsu
""",
    ),
    Added("MedialAxis", 1, "Select the input image:Binary\nName the output image:Axis\n"),
    Added(
        "MeasureImageIntensity",
        4,
        """\
Select images to measure:Speckles, Lines, Textures, Clean, Maxima, Small, Binary, Axis
Measure the intensity only from areas enclosed by objects?:No
Select input object sets:
Calculate custom percentiles:No
Specify percentiles to measure:10,90
""",
    ),
)


@dataclass
class Text:
    """A pipeline's text, and ways to change it."""

    text: str

    def disable(self, *modules: str) -> Text:
        for name in modules:
            self.text, n = re.subn(
                rf"^({name}:\[.*)enabled:True", r"\1enabled:False", self.text, flags=re.MULTILINE
            )
            assert n, name
        return self

    def set(self, module: str, label: str, value: str) -> Text:
        """Give a setting of the first module of a kind another value."""
        head = re.search(rf"^{module}:\[", self.text, flags=re.MULTILINE)
        assert head, module
        before, after = self.text[: head.start()], self.text[head.start() :]
        changed, n = re.subn(
            rf"^(    {re.escape(label)}:).*$",
            lambda m: m[1] + value,
            after,
            count=1,
            flags=re.MULTILINE,
        )
        assert n, label
        self.text = before + changed
        return self

    def _span(self, name: str) -> tuple[int, int]:
        """Give where the first module of a kind begins and ends."""
        found = re.search(rf"^{name}:\[.*\n(?: +.*\n)*", self.text, flags=re.MULTILINE)
        assert found, name
        return found.span()

    def module(self, name: str) -> str:
        """Give the settings of the first module of a kind."""
        start, end = self._span(name)
        return self.text[start:end].partition("\n")[2]

    def replace_module(self, name: str, revision: int, settings: str) -> None:
        """Give the first module of a kind other settings, of another revision."""
        start, end = self._span(name)
        head = self.text[start:end].partition("\n")[0]
        head = re.sub(r"revision_number:\d+", f"revision_number:{revision}", head)
        self.text = self.text[:start] + head + "\n" + settings + self.text[end:]

    def export(self, *tables: tuple[str, str, str]) -> Text:
        """Let ExportToSpreadsheet list its tables: object, whether it shares, file name."""
        self.set("ExportToSpreadsheet", "Export all measurement types?", "No")
        start = self.text.index("    Data to export:")
        self.text = self.text[:start] + "".join(
            f"    Data to export:{name}\n"
            f"    Combine these object measurements with those of the previous object?:{shares}\n"
            f"    File name:{file}\n"
            "    Use the object name for the file name?:No\n"
            for name, shares, file in tables
        )
        return self

    def put(self, behind: str, *modules: Added) -> Text:
        """Put modules behind the first one of a name."""
        start = self.text.index(f"{behind}:[module_num:")
        end = self.text.index("\n\n", start) + 2
        added = ""
        for module in modules:
            head = _HEAD.format(name=module.name, number=0, revision=module.revision)
            lines = "".join(f"    {line}\n" for line in module.settings.splitlines())
            added += f"{head}\n{lines}\n"
        numbers = itertools.count(1)
        self.text = re.sub(
            r"^(\w+:\[module_num:)\d+",
            lambda m: f"{m[1]}{next(numbers)}",
            self.text[:end] + added + self.text[end:],
            flags=re.MULTILINE,
        )
        self.text = re.sub(
            r"^(ModuleCount:)\d+",
            lambda m: f"{m[1]}{next(numbers) - 1}",
            self.text,
            flags=re.MULTILINE,
        )
        return self

    def add(self, *modules: Added) -> Text:
        """Put modules before the last one, ExportToSpreadsheet."""
        start = self.text.index("ExportToSpreadsheet:[module_num:")
        number = int(re.match(r"ExportToSpreadsheet:\[module_num:(\d+)", self.text[start:])[1])
        added = ""
        for i, module in enumerate(modules):
            head = _HEAD.format(name=module.name, number=number + i, revision=module.revision)
            lines = "".join(f"    {line}\n" for line in module.settings.splitlines())
            added += f"{head}\n{lines}\n"
        last = self.text[start:].replace(f"num:{number}|", f"num:{number + len(modules)}|", 1)
        self.text = re.sub(
            r"^ModuleCount:(\d+)",
            lambda m: f"ModuleCount:{int(m[1]) + len(modules)}",
            self.text[:start] + added + last,
            count=1,
            flags=re.MULTILINE,
        )
        return self
