"""Changes of a pipeline's text, and modules to put into it."""

from __future__ import annotations

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
