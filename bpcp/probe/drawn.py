"""What the probe draws for a module to work on: images, objects, measurements, files.

Runs in CellProfiler's own Python, 3.8 or later, and needs what CellProfiler itself needs.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import numpy as np
from cellprofiler_core.image import Image, ImageSetList
from cellprofiler_core.measurement import Measurements
from cellprofiler_core.object import Objects, ObjectSet
from cellprofiler_core.pipeline import Pipeline
from cellprofiler_core.workspace import Workspace

# The spots of a grid of 3 rows and 3 columns, 26 pixels apart.
_SIDE, _STEP, _FIRST = 80, 26, 14
_PLANES, _SIDE_3D = 7, 40
IMAGE_SETS = 2
PLATE = {
    "Metadata_Plate": "P1",
    "Metadata_Well": "A01",
    "Metadata_WellRow": "A",
    "Metadata_WellCol": "01",
    "Metadata_Site": "1",
    "FileName_Grey": "grey.tif",
    "Frame_Grey": 0,
    "Series_Grey": 0,
    "Scaling_Grey": 255.0,
    "MD5Digest_Grey": "0" * 32,
    "Intensity_MeanIntensity_Grey": 0.3,
    "Threshold_FinalThreshold_Nuclei": 0.4,
    "Math_Dose": 1.0,
}
EXPERIMENT = ("CellProfiler_Version", "Run_Timestamp", "Modification_Timestamp")
FEATURES = (
    "AreaShape_Area",
    "Intensity_MeanIntensity_Grey",
    "Location_Center_X",
    "Location_Center_Y",
    "Number_Object_Number",
)
_WORM_MODEL = (
    '<?xml version="1.0" ?><training-data xmlns="http://www.cellprofiler.org/linked_files/schemas/'
    'UntangleWorms.xsd"><version>428</version><min-area>100</min-area><max-area>800</max-area>'
    "<cost-threshold>200</cost-threshold><num-control-points>7</num-control-points>"
    "<max-radius>6</max-radius><max-skel-length>90</max-skel-length>"
    "<min-path-length>30</min-path-length><max-path-length>90</max-path-length>"
    "<median-worm-area>400</median-worm-area><overlap-weight>5</overlap-weight>"
    "<leftover-weight>10</leftover-weight><training-set-size>3</training-set-size><mean-angles>"
    + "".join("<value>%d</value>" % v for v in (0, 0, 0, 0, 0, 60))
    + "</mean-angles><radii-from-training>"
    + "<value>3</value>" * 7
    + "</radii-from-training><inv-angles-covariance-matrix>"
    + "".join(
        "<values>" + "".join("<value>%d</value>" % (r == c) for c in range(6)) + "</values>"
        for r in range(6)
    )
    + "</inv-angles-covariance-matrix></training-data>"
)


class Drawing:
    """The pixels and the labels of one field of view, flat or as a volume."""

    def __init__(self, volume: bool = False) -> None:
        self.volume = volume
        random = np.random.RandomState(0)
        nuclei = _volume_labels() if volume else _flat_labels()
        self.nuclei = nuclei
        self.cells = _grown(nuclei, 3)
        self.spots = np.where(_grown(nuclei, -3) > 0, nuclei, 0)
        brightness = np.array([0.0, *(0.4 + 0.05 * (np.arange(nuclei.max()) % 7))])
        soft = _blurred(brightness[nuclei]) + 0.3 * _blurred(brightness[self.cells])
        noise = 0.02 * random.uniform(size=nuclei.shape)
        self.grey = np.clip(0.08 + 0.7 * soft + noise, 0, 1).astype(np.float32)
        self.grey2 = np.clip(0.05 + 0.9 * soft**2 + noise[::-1], 0, 1).astype(np.float32)
        self.binary = nuclei > 0
        self.skeleton = np.zeros(nuclei.shape, bool)
        # lines that start in the objects and branch between them
        self.skeleton[..., _FIRST, 2:-2] = True
        self.skeleton[..., 4:-4, self.skeleton.shape[-1] // 2] = True
        ramp = np.linspace(0.6, 1.0, nuclei.shape[-1]) + np.zeros(nuclei.shape)
        self.illumination = ramp.astype(np.float32)
        self.worms = None if volume else _worms()

    def images(self) -> dict[str, Any]:
        """Give the images by name."""
        shape = {"dimensions": 3} if self.volume else {}
        images = {
            "Grey": Image(self.grey, scale=255.0, file_name="grey.tif", **shape),
            "Grey2": Image(self.grey2, scale=255.0, **shape),
            "Binary": Image(self.binary, **shape),
            "Skeleton": Image(self.skeleton, **shape),
            "Illum": Image(self.illumination, **shape),
            "Labels": Image(self.nuclei.astype(np.uint16), convert=False, **shape),
        }
        if self.worms is not None:
            images["Colour"] = Image(
                np.dstack([self.grey, self.grey2, self.illumination]), scale=255.0
            )
            images["Worms"] = Image(self.worms > 0)
        return images

    def objects(self) -> dict[str, Any]:
        """Give the objects by name; Cells are the parents of Nuclei."""
        parent = self.images()["Grey"]
        found = {}
        drawn = {"Nuclei": self.nuclei, "Cells": self.cells, "Spots": self.spots}
        if self.worms is not None:
            drawn["Worms"] = self.worms
        for name, labels in drawn.items():
            found[name] = Objects()
            found[name].segmented = labels.astype(np.int32)
            found[name].parent_image = parent
        return found


class Scene:
    """A pipeline of one module, in the middle of a run over drawn image sets."""

    def __init__(self, drawing: Drawing, module: Any, scratch: str) -> None:
        self.drawing, self.module, self.scratch = drawing, module, scratch
        self.pipeline = _Pipeline()
        self.pipeline.set_volumetric(drawing.volume)
        module.set_module_num(1)
        self.pipeline.add_module(module)
        self.image_set_list = ImageSetList()
        # writing them takes longer than what most modules do: it is done once
        measured = os.path.join(scratch, "measured_%dd.h5" % (3 if drawing.volume else 2))
        if not os.path.exists(measured):
            self.measurements = Measurements(filename=measured, mode="w")
            for name in EXPERIMENT:
                self.measurements.add_experiment_measurement(name, "2026")
            for number in range(1, IMAGE_SETS + 1):
                self._measure(number)
            self.measurements.close()
        copy = os.path.join(scratch, "measured.h5")
        shutil.copyfile(measured, copy)
        self.measurements = Measurements(1, copy, mode="a")

    def at(self, number: int) -> Any:
        """Go to an image set, 1-based, and give the workspace for it."""
        kept = self.measurements
        kept.next_image_set(number)
        kept.clear_cache()
        del kept.providers[:]
        for name, image in self.drawing.images().items():
            kept.add(name, image)
        objects = ObjectSet()
        for name, found in self.drawing.objects().items():
            objects.add_objects(found, name)
        space = Workspace(self.pipeline, self.module, kept, objects, kept, self.image_set_list)
        space.set_grids({} if self.drawing.volume else {"Grid": _grid()})
        return space

    def _measure(self, number: int) -> None:
        """Write the measurements that earlier modules would have made."""
        kept = self.measurements
        values = dict(PLATE, PathName_Grey=self.scratch, Math_Dose=float(number))
        values.update(URL_Grey="file:" + os.path.join(self.scratch, "grey.tif"))
        values.update(Group_Number=1, Group_Index=number)
        if number > 1:
            values["Metadata_Well"], values["Metadata_WellCol"] = "A02", "02"
        for name, objects in self.drawing.objects().items():
            labels = objects.segmented
            count = int(labels.max())
            at = _centres(labels)
            columns = {
                "AreaShape_Area": np.bincount(labels.ravel(), minlength=count + 1)[1:],
                "Intensity_MeanIntensity_Grey": np.linspace(0.2, 0.8, count),
                "Location_Center_X": at[-1],
                "Location_Center_Y": at[-2],
                "Number_Object_Number": np.arange(1, count + 1),
                "Parent_Cells": np.arange(1, count + 1),
            }
            if self.drawing.volume:
                columns["Location_Center_Z"] = at[0]
            for feature, column in columns.items():
                if not feature.startswith(("Parent", "Number")):
                    column = column.astype(float)
                kept.add_measurement(name, feature, column, image_set_number=number)
            values["Count_" + name] = count
        for feature, value in values.items():
            kept.add_measurement("Image", feature, value, image_set_number=number)


class _Pipeline(Pipeline):  # type: ignore[misc]  # no types are known where bpcp is checked
    """A pipeline whose columns are those that a scene holds, and the module's."""

    def get_measurement_columns(self, terminating_module: Any = None) -> Any:
        columns = [("Image", name, _column_type(value)) for name, value in PLATE.items()]
        columns += [("Experiment", name, "varchar(255)") for name in EXPERIMENT]
        columns += [("Image", name, "varchar(255)") for name in ("PathName_Grey", "URL_Grey")]
        columns += [("Image", name, "integer") for name in ("Group_Number", "Group_Index")]
        for name in ("Nuclei", "Cells", "Spots"):
            columns.append(("Image", "Count_" + name, "integer"))
            columns += [(name, feature, "float") for feature in FEATURES]
        for module in self.modules():
            if module is not terminating_module:
                columns += list(module.get_measurement_columns(self))
        return columns

    def get_provider_dictionary(self, groupname: Any, module: Any = None) -> Any:
        # whoever provides the drawn images is before the module: itself will do
        return {"Grey": [(self.modules()[0], None)]}


def write_files(folder: str) -> None:
    """Write the files that modules read."""
    from PIL import Image as Picture

    pixels = (255 * Drawing().grey).astype(np.uint8)
    Picture.fromarray(pixels).save(os.path.join(folder, "grey.tif"))
    Picture.fromarray(pixels[6:22, 6:22]).save(os.path.join(folder, "template.png"))
    with open(os.path.join(folder, "rules.txt"), "w") as file:
        for limit in ("100.0", "130.0"):
            file.write("IF (Nuclei_AreaShape_Area > %s, [0.7, -0.7], [-0.7, 0.7])\n" % limit)
    with open(os.path.join(folder, "image_rules.txt"), "w") as file:
        file.write("IF (Image_Intensity_MeanIntensity_Grey > 0.1, [0.7, -0.7], [-0.7, 0.7])\n")
    with open(os.path.join(folder, "worms.xml"), "w") as file:
        file.write(_WORM_MODEL)


def write_classifier(folder: str, feature: str, name: str) -> None:
    """Write a model as CellProfiler Analyst does: the classifier, its bins, its name, features."""
    import joblib
    from sklearn.tree import DecisionTreeClassifier

    values = np.linspace(0, 200, 20)[:, np.newaxis]
    model = DecisionTreeClassifier(random_state=0).fit(values, np.arange(20) // 10)
    joblib.dump((model, ["Small", "Large"], "Tree", [feature]), os.path.join(folder, name))


def _column_type(value: Any) -> str:
    if isinstance(value, str):
        return "varchar(255)"
    return "integer" if isinstance(value, int) else "float"


def _flat_labels() -> Any:
    """Draw nine round spots of somewhat different sizes, one of them with a hole."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    labels = np.zeros((_SIDE, _SIDE), np.int32)
    for n in range(9):
        cy, cx = _FIRST + _STEP * (n // 3), _FIRST + _STEP * (n % 3)
        labels[(y - cy) ** 2 + 1.3 * (x - cx) ** 2 <= (6 + n % 3) ** 2] = n + 1
    labels[_FIRST + _STEP, _FIRST + _STEP] = 0
    return labels


def _volume_labels() -> Any:
    z, y, x = np.mgrid[:_PLANES, :_SIDE_3D, :_SIDE_3D]
    labels = np.zeros(z.shape, np.int32)
    for n in range(4):
        cy, cx = 11 + 18 * (n // 2), 11 + 18 * (n % 2)
        labels[4 * (z - 3) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= (5 + n % 2) ** 2] = n + 1
    return labels


def _worms() -> Any:
    """Draw three bent worms that do not touch."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    drawn = np.zeros((_SIDE, _SIDE), np.int32)
    for n in range(3):
        line = 15 + 25 * n + 3 * np.sin(x / (8.0 + n))
        across = 3 - (np.abs(x - 40) > 25)
        drawn[(np.abs(y - line) <= across) & (np.abs(x - 40) < 31)] = n + 1
    return drawn


def _grown(labels: Any, by: int) -> Any:
    """Grow each object by some pixels, or shrink it, by shifts alone."""
    out = labels.copy()
    for _ in range(abs(by)):
        for axis in range(labels.ndim - 2, labels.ndim):
            for shift in (1, -1):
                moved = np.roll(out, shift, axis)
                out = np.where(out == 0, moved, out) if by > 0 else np.where(moved == 0, 0, out)
    return out


def _blurred(pixels: Any) -> Any:
    out = pixels.astype(float)
    for _ in range(2):
        for axis in range(pixels.ndim - 2, pixels.ndim):
            out = (np.roll(out, 1, axis) + 2 * out + np.roll(out, -1, axis)) / 4
    return out


def _centres(labels: Any) -> Any:
    places = np.nonzero(labels)
    counts = np.maximum(1, np.bincount(labels[places], minlength=labels.max() + 1)[1:])
    return [np.bincount(labels[places], p, labels.max() + 1)[1:] / counts for p in places]


def _grid() -> Any:
    """Give the grid of the nine spots, as DefineGrid would."""
    from cellprofiler.modules.definegrid import DefineGrid

    module = DefineGrid()
    module.grid_rows.value, module.grid_columns.value = 3, 3
    last = _FIRST + 2 * _STEP
    return module.build_grid_info(_FIRST, _FIRST, 1, 1, last, last, 3, 3, (_SIDE, _SIDE))
