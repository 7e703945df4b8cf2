"""What a mode made, in numbers, and how two installations differ in them.

Runs in CellProfiler's own Python, 3.8 or later.
"""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np


def summary(scene: Any, space: Any) -> dict[str, list[float]]:
    """Give numbers that tell of what a module made: measurements, images, objects."""
    from bpcp.probe.drawn import FEATURES, PLATE

    out: dict[str, list[float]] = {}
    kept = scene.measurements
    for name in kept.get_object_names():
        for feature in kept.get_feature_names(name):
            if feature in FEATURES or feature in PLATE or name == "Experiment":
                continue
            values: list[Any] = []
            for number in kept.get_image_numbers():
                found = kept.get_measurement(name, feature, image_set_number=number)
                values += np.ravel(found).tolist() if found is not None else []
            numbers = [float(v) for v in values if isinstance(v, (int, float))]
            out["%s.%s" % (name, feature)] = numbers
    drawn = set(scene.drawing.images())
    for image in scene.measurements.names:
        if image not in drawn:
            pixels = np.asarray(space.image_set.get_image(image).pixel_data)
            out["image %s" % image] = _pixels(pixels)
    for name in space.object_set.get_object_names():
        if name.startswith("Made"):
            labels = space.object_set.get_objects(name).segmented
            out["objects %s" % name] = _pixels(np.asarray(labels))
    return out


def _pixels(pixels: Any) -> list[float]:
    """Give an array's shape and bits, and sums that any change of a pixel shows in."""
    values = pixels.astype(float).ravel()
    weights = 1 + np.arange(values.size) % 97 / 97.0
    sums = [values.sum(), (values * weights).sum(), values.min(), values.max()]
    return [*map(float, pixels.shape), pixels.dtype.itemsize * 8.0, *map(float, sums)]


def compare(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> Iterator[str]:
    """Say which modes gave other values on another installation."""
    for mode in sorted(set(one) | set(other)):
        if mode not in one or mode not in other:
            yield "%s: only in one of them" % mode
            continue
        names = sorted(set(one[mode]) | set(other[mode]))
        for name in names:
            first, second = (np.array(found[mode].get(name, [])) for found in (one, other))
            if first.shape != second.shape:
                yield "%s %s: %s and %s values" % (mode, name, first.size, second.size)
            elif not np.allclose(first, second, tolerance, tolerance * 1e-3, equal_nan=True):
                worst = np.nanmax(np.abs(first - second) / (np.abs(first) + 1e-30))
                yield "%s %s: relative difference %.2g" % (mode, name, worst)
