"""Call scikit-image as CellProfiler 4.2.8 does; print what it gives, as JSON.

Run by the Python of CellProfiler's environment, by test_skimage.py. Each name below is one call;
recorded/skimage-0.18.3.json is what the version gives that CellProfiler declares, made on
Python 3.9: `.venv/cellprofiler/bin/python tests/e2e/skimage_calls.py`.
"""

# ruff: noqa: E402 -- what is loaded before scikit-image is looked at first
import sys

at_start = sorted(sys.modules)

import json
import tempfile
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
import bpcp_skimage
import numpy as np
import skimage
import skimage.color
import skimage.exposure
import skimage.feature
import skimage.filters
import skimage.filters.thresholding
import skimage.io
import skimage.measure
import skimage.morphology
import skimage.restoration
import skimage.transform
import skimage.util
import tifffile

from_integers = np.arange(56).reshape(7, 8) * 37 % 53
grey = from_integers / 52
single = grey.astype(np.float32)
binary = grey > 0.5
colour = np.dstack([grey, grey[::-1], grey.T.reshape(7, 8)])
volume = np.arange(120).reshape(4, 5, 6) * 37 % 53 / 52
labels = np.zeros((7, 8), dtype=int)
labels[1:4, 1:6], labels[5:, 6:] = 1, 2
solids = np.zeros((6, 7, 8), dtype=int)
solids[1:4, 1:6, 1:8], solids[5, :3, :3] = 1, 2
rows, columns = np.mgrid[:60, :70]
blobs = np.sin(rows / 5) + np.cos(columns / 7) + np.sin((rows + columns) / 11) > 0
disk = skimage.morphology.disk(1)
ball = skimage.morphology.ball(1)

morphology, filters, color = skimage.morphology, skimage.filters, skimage.color
restoration, transform, measure = skimage.restoration, skimage.transform, skimage.measure
eroded = morphology.erosion(single, disk)


def resized(image, shape, order, mode="symmetric", **others):
    return transform.resize(image, np.array(shape), order=order, mode=mode, **others)


def peaks(image, **others):
    return skimage.feature.peak_local_max(image, min_distance=1, **others)


def compressed():
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.tiff")
        skimage.io.imsave(str(path), (grey * 255).astype(np.uint8), compress=6)
        with tifffile.TiffFile(path) as file:
            return [int(file.pages[0].compression), int(file.asarray().sum())]


table = measure.regionprops_table
calls = {
    **{
        f"{name}, selem": lambda name=name: getattr(morphology, name)(grey, selem=disk)
        for name in ("erosion", "dilation", "opening", "closing", "white_tophat", "black_tophat")
    },
    **{
        f"binary_{name}, selem": lambda name=name: getattr(morphology, f"binary_{name}")(
            binary, selem=disk
        )
        for name in ("erosion", "dilation", "opening", "closing")
    },
    "median, selem": lambda: filters.median(grey, selem=disk),
    "reconstruction": lambda: morphology.reconstruction(eroded, single, selem=disk),
    "reconstruction by erosion": lambda: morphology.reconstruction(
        seed=single + 1, mask=single, method="erosion"
    ),
    "gaussian, grey": lambda: filters.gaussian(grey, 1, mode="constant", multichannel=False),
    "gaussian, colour": lambda: filters.gaussian(colour, 1, multichannel=True),
    "gaussian, unsaid": lambda: filters.gaussian(colour, sigma=1),
    "gaussian, volume": lambda: filters.gaussian(image=volume, sigma=1, multichannel=None),
    "bilateral, grey": lambda: restoration.denoise_bilateral(
        image=grey, multichannel=False, sigma_color=0.2, sigma_spatial=1
    ),
    "bilateral, colour": lambda: restoration.denoise_bilateral(
        image=colour, multichannel=True, sigma_color=0.2, sigma_spatial=1
    ),
    "non-local means, grey": lambda: (
        restoration.denoise_nl_means(
            image=grey, multichannel=False, patch_size=3, patch_distance=2, h=0.1
        ).shape
    ),
    "non-local means, colour": lambda: (
        restoration.denoise_nl_means(
            image=colour, multichannel=True, patch_size=3, patch_distance=2, h=0.1
        ).shape
    ),
    "peaks": lambda: peaks(grey),
    "peaks, as a mask": lambda: peaks(grey, threshold_abs=0.6, indices=False),
    "peaks, below 0": lambda: peaks(grey - 2, exclude_border=False),
    "histogram": lambda: filters.thresholding._validate_image_histogram(single, None, 4)[0],
    "otsu": lambda: filters.threshold_otsu(single),
    "li, integers": lambda: filters.threshold_li(from_integers.astype(np.int32) * 100),
    "li": lambda: filters.threshold_li(grey, tolerance=1e-5),
    "sauvola": lambda: filters.threshold_sauvola(single, window_size=3),
    "rescaled to a range": lambda: skimage.exposure.rescale_intensity(
        single, in_range=(0.1, 0.8), out_range=(0.0, 1.0)
    ),
    "rescaled to its type": lambda: skimage.exposure.rescale_intensity(single),
    "medial axis": lambda: morphology.medial_axis(blobs),
    "template": lambda: skimage.feature.match_template(single, single[2:5, 2:5], pad_input=True),
    "template, named": lambda: skimage.feature.match_template(
        image=single, template=single[2:5, 2:5]
    ),
    **{
        f"resize {kind} to {shape}, order {order}": lambda i=image, s=shape, o=order: resized(
            i, s, o
        )
        for kind, image in (("grey", grey), ("single", single), ("binary", binary))
        for shape in ((3, 5), (10, 9), (1, 1))
        for order in (0, 1, 3)
    },
    "resize colour": lambda: resized(colour, (5, 5, 3), 1),
    "resize volume": lambda: resized(volume, (3, 4, 9), 1),
    "resize volume, nearest": lambda: resized(volume, (8, 3, 4), 0),
    "resize mask": lambda: resized(binary, (9, 5), 0, mode="constant"),
    "resize, beyond the border": lambda: resized(grey + 1, (11, 12), 3, mode="constant"),
    "resize integers": lambda: resized(from_integers, (4, 4), 0, "edge", preserve_range=True),
    "resize, order unsaid": lambda: resized(grey, (4, 4), None),
    "resize colour, size alone": lambda: resized(colour, (4, 4), 1),
    "resize grey to a volume": lambda: resized(grey, (4, 4, 1), 1),
    "resize, own sigma": lambda: resized(grey, (4, 4), 1, anti_aliasing_sigma=0).shape,
    "area": lambda: table(labels, properties=["area"])["area"],
    "areas of a region": lambda: [
        region[name]
        for region in measure.regionprops(labels)
        for name in ("area", "bbox_area", "convex_area", "filled_area")
    ],
    "axes, plane": lambda: table(labels, properties=["major_axis_length"])["major_axis_length"],
    "axes, volume, major": lambda: table(solids, properties=["major_axis_length"])[
        "major_axis_length"
    ],
    "axes, volume, minor": lambda: table(solids, properties=["minor_axis_length"])[
        "minor_axis_length"
    ],
    "grey of grey": lambda: color.rgb2gray(grey),
    "grey of colour": lambda: color.rgb2gray(colour),
    "grey of four channels": lambda: color.rgb2gray(np.dstack([colour, grey])),
    "colour of grey": lambda: color.gray2rgb(grey),
    "colour of colour": lambda: color.gray2rgb(colour),
    **{
        f"overlay on {kind}": lambda image=image: color.label2rgb(
            labels, image=image, colors=[(1, 0, 0), (0, 1, 0)], alpha=0.7, bg_label=0
        )
        for kind, image in (("grey", grey), ("colour", colour))
    },
    **{
        f"float of {kind}": lambda kind=kind: skimage.img_as_float(
            np.array([np.iinfo(kind).min, -5, 0, 7, np.iinfo(kind).max], dtype=kind)
        )
        for kind in ("int8", "int16", "int32", "int64", "uint16")
    },
    "float32 of int16": lambda: skimage.util.img_as_float32(np.array([-5, 0, 7], dtype=np.int16)),
    "tiff, compress": compressed,
}


def answer(call):
    try:
        given = np.asarray(call())
    except Exception as error:  # it is the answer
        return {"error": f"{type(error).__name__}: {error}"}
    values = given.astype(float).ravel()
    # enough to tell any change of a value or a place
    weights = np.sqrt(np.arange(2, values.size + 2))
    return {
        "type": str(given.dtype),
        "shape": given.shape,
        "values": [values[0], values[-1], values.sum(), float((values * weights).sum())],
    }


answers = {name: answer(call) for name, call in calls.items()}
heading = {
    "version": skimage.__version__,
    "loaded at start": [name for name in ("numpy", "skimage") if name in at_start],
    "not called": sorted(set(bpcp_skimage.PATCHES) - set(sys.modules)),
}
lines = [f"  {json.dumps(name)}: {json.dumps(given)}" for name, given in answers.items()]
print(json.dumps(heading)[:-1] + ', "calls": {\n' + ",\n".join(lines) + "\n}}")
