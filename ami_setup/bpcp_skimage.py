"""Let scikit-image 0.19 and later give what 0.18.3 gives, the version that CellProfiler declares.

0.18.3 has no build for Python 3.10 and later. ami_setup/install.sh puts this file and a line that
imports it into CellProfiler's environment; no file of CellProfiler or of scikit-image is changed.
At the start of a Python it registers itself and loads nothing; when a module of scikit-image that
is listed at the end is imported, its functions get back

- the arguments that CellProfiler passes and that are gone: `selem`, `multichannel`, `indices`;
- the values and types of 0.18.3, where later versions give others without a word.

The new names (`footprint`, `channel_axis`) are taken as well. With scikit-image 0.18 itself it does
nothing. docs/cellprofiler.md lists what each patch is worth;
tests/e2e/test_skimage.py tests each.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys


def _wrap(module, name, before):
    """Let `before`, which gets and returns the arguments, stand before each call."""
    function = getattr(module, name)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        args, kwargs = before(args, kwargs)
        return function(*args, **kwargs)

    setattr(module, name, wrapper)


def _selem(args, kwargs):
    if "selem" in kwargs:
        kwargs["footprint"] = kwargs.pop("selem")
    return args, kwargs


def _multichannel(args, kwargs):
    if "multichannel" in kwargs:
        kwargs["channel_axis"] = -1 if kwargs.pop("multichannel") else None
    return args, kwargs


def _float64(image):
    import numpy

    image = numpy.asarray(image)
    return image.astype(numpy.float64) if image.dtype.kind == "f" else image


def _morphology(module):
    for name in ("erosion", "dilation", "opening", "closing", "white_tophat", "black_tophat"):
        _wrap(module, name, _selem)


def _binary(module):
    for name in ("binary_erosion", "binary_dilation", "binary_opening", "binary_closing"):
        _wrap(module, name, _selem)


def _median(module):
    _wrap(module, "median", _selem)


def _reconstruction(module):
    def before(args, kwargs):
        # computed in the type of the mask; MeasureGranularity is 2e-6 off in float32
        if "mask" in kwargs:
            kwargs["mask"] = _float64(kwargs["mask"])
        elif len(args) > 1:
            args = (args[0], _float64(args[1]), *args[2:])
        return _selem(args, kwargs)

    _wrap(module, "reconstruction", before)


def _gaussian(module):
    if module.gaussian.__module__ != module.__name__:
        return  # where it is defined it is patched

    def before(args, kwargs):
        image = args[0] if args else kwargs["image"]
        if kwargs.get("multichannel", False) is None:
            del kwargs["multichannel"]
        if "multichannel" not in kwargs and "channel_axis" not in kwargs:
            # an image of three planes is taken for a colour image
            kwargs["multichannel"] = image.ndim == 3 and image.shape[-1] == 3
        return _multichannel(args, kwargs)

    _wrap(module, "gaussian", before)


def _thresholds(module):
    import numpy

    histogram, mean_std, li = (
        module._validate_image_histogram,
        module._mean_std,
        module.threshold_li,
    )

    def in_float64(*args, **kwargs):
        # float32 cannot count more than 2**24 pixels
        counts, centers = histogram(*args, **kwargs)
        return counts.astype(numpy.float64), centers

    @functools.wraps(li)
    def threshold_li(image, **kwargs):
        # of integers, later versions take a histogram of 256 bins
        image = numpy.asarray(image)
        return li(image.astype(numpy.float64) if image.dtype.kind in "iu" else image, **kwargs)

    module._validate_image_histogram = in_float64
    module._mean_std = lambda image, w: mean_std(_float64(image), w)
    module.threshold_li = threshold_li


def _rescale(module):
    output_dtype = module._output_dtype

    def float64_for_a_range(dtype_or_range, *image_dtype):
        if isinstance(dtype_or_range, (list, tuple)):
            return float
        return output_dtype(dtype_or_range, *image_dtype)

    module._output_dtype = float64_for_a_range


def _medial_axis(module):
    import numpy

    class Seeded(numpy.random.Generator):
        """Break ties as 0.18.3 does; later versions break them otherwise at each call."""

        def permutation(self, x):
            return numpy.random.RandomState(0).permutation(x)

    name = "random_state" if "random_state" in _parameters(module.medial_axis) else "rng"

    def before(args, kwargs):
        kwargs.setdefault(name, Seeded(numpy.random.PCG64(0)))
        return args, kwargs

    _wrap(module, "medial_axis", before)


def _parameters(function):
    import inspect

    return inspect.signature(inspect.unwrap(function)).parameters


def _match_template(module):
    def before(args, kwargs):
        if args:
            return (_float64(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "image": _float64(kwargs["image"])}

    _wrap(module, "match_template", before)


def _peaks(module):
    import types

    import numpy

    ndimage, peak_local_max = module.ndi, module.peak_local_max

    def maximum_filter(image, footprint, mode):
        # beyond the border is 0: a pixel at the border that is below 0 is no peak
        return ndimage.maximum_filter(image, footprint=footprint, mode="constant")

    @functools.wraps(peak_local_max)
    def peaks(image, *args, indices=True, **kwargs):
        found = peak_local_max(image, *args, **kwargs)
        if indices:
            return found
        mask = numpy.zeros(numpy.shape(image), dtype=bool)
        mask[tuple(found.T)] = True
        return mask

    module.ndi = types.SimpleNamespace(**{**vars(ndimage), "maximum_filter": maximum_filter})
    module.peak_local_max = peaks


def _bilateral(module):
    _wrap(module, "denoise_bilateral", _multichannel)


def _non_local_means(module):
    # 0.19 corrected the weight of a pixel's own patch; that is in compiled code and stays
    _wrap(module, "denoise_nl_means", _multichannel)


def _tiff(module):
    import tifffile

    if "compression" not in _parameters(tifffile.imwrite):
        return

    def before(args, kwargs):
        level = kwargs.pop("compress", None)
        if level:
            kwargs.update(compression="zlib", compressionargs={"level": level})
        return args, kwargs

    _wrap(module, "imsave", before)


def _regions(module):
    from math import sqrt

    import numpy

    regions = module.RegionProperties

    def whole(get):
        # later versions multiply by the area of a pixel, which is 1 unless the caller says so
        def area(self):
            value = get(self)
            return numpy.int64(value) if getattr(self, "_pixel_area", 1) == 1 else value

        return property(area)

    for name in ("area", "area_bbox", "area_convex", "area_filled"):
        setattr(regions, name, whole(getattr(regions, name).fget))
        module.COL_DTYPES[name] = int

    # later versions take another formula for volumes, which fails for flat ones
    regions.axis_major_length = property(lambda self: 4 * sqrt(self.inertia_tensor_eigvals[0]))
    regions.axis_minor_length = property(lambda self: 4 * sqrt(self.inertia_tensor_eigvals[-1]))


def _colours(module):
    import numpy

    rgb2gray, gray2rgb = module.rgb2gray, module.gray2rgb

    @functools.wraps(rgb2gray)
    def to_gray(rgb, **kwargs):
        rgb = numpy.asanyarray(rgb)
        if kwargs or rgb.ndim < 2:
            return rgb2gray(rgb, **kwargs)
        # grey stays as it is; of four channels and more the first three are taken
        return numpy.ascontiguousarray(rgb) if rgb.ndim == 2 else rgb2gray(rgb[..., :3])

    @functools.wraps(gray2rgb)
    def to_rgb(image, **kwargs):
        colour = numpy.squeeze(image).ndim == 3 and image.shape[2] in (3, 4)
        return image if colour and not kwargs else gray2rgb(image, **kwargs)

    module.rgb2gray, module.gray2rgb = to_gray, to_rgb


def _overlay(module):
    from skimage.color import rgb2gray

    def before(args, kwargs):
        # beneath the colours lies the grey image, of a colour image too
        image = kwargs.get("image")
        label = args[0] if args else kwargs["label"]
        if image is not None and "saturation" not in kwargs and image.ndim > label.ndim:
            kwargs["image"] = rgb2gray(image)
        return args, kwargs

    _wrap(module, "label2rgb", before)


def _integers(module):
    import numpy

    convert = module._convert

    @functools.wraps(convert)
    def symmetric(image, dtype, *args, **kwargs):
        image = numpy.asarray(image)
        if image.dtype.kind != "i" or not numpy.issubdtype(dtype, numpy.floating):
            return convert(image, dtype, *args, **kwargs)
        # the whole range, lowest to highest, becomes -1 to 1
        limits = numpy.iinfo(image.dtype)
        target = numpy.dtype(numpy.float64 if dtype is numpy.floating else dtype)
        wide = target if target.itemsize >= image.dtype.itemsize else numpy.float64
        image = numpy.add(image, 0.5, dtype=wide)
        image *= 2 / (int(limits.max) - int(limits.min))
        return numpy.asarray(image, target)

    module._convert = symmetric


def _resize(module):
    import numpy
    from scipy import ndimage

    latest = module.resize
    modes = {"constant": "constant", "edge": "nearest", "symmetric": "reflect"}
    modes.update(reflect="mirror", wrap="wrap")

    def default_order(dtype, order):
        # binary images are interpolated too
        return (0 if dtype.kind == "b" else 1) if order is None else order

    def map_plane(plane, matrix, shape, order, mode, cval):
        kind = "float32_t" if plane.dtype == numpy.float32 else "float64_t"
        return numpy.asarray(
            module._warp_fast[kind](
                plane, matrix, output_shape=shape, order=order, mode=mode, cval=cval
            )
        )

    def matrix_for(sizes, shape, factors):
        (rows, cols), affine = shape[:2], module.AffineTransform
        if rows == 1 and cols == 1:
            return affine(translation=(sizes[1] / 2.0 - 0.5, sizes[0] / 2.0 - 0.5)).params
        corners = numpy.array([[1, 1], [1, rows], [cols, rows]]) - 1
        transform = affine()
        transform.estimate(corners, factors[1::-1] * (corners + 0.5) - 0.5)
        transform.params[2] = (0, 0, 1)
        transform.params[0, 1] = transform.params[1, 0] = 0
        return transform.params

    @functools.wraps(latest)
    def resize(
        image,
        output_shape,
        order=None,
        mode="reflect",
        cval=0,
        clip=True,
        preserve_range=False,
        anti_aliasing=None,
        anti_aliasing_sigma=None,
    ):
        shape = tuple(int(size) for size in output_shape)
        if anti_aliasing_sigma is not None or mode not in modes or len(shape) < image.ndim - 1:
            rest = (order, mode, cval, clip, preserve_range, anti_aliasing, anti_aliasing_sigma)
            return latest(image, output_shape, *rest)
        if len(shape) > image.ndim:
            image = image.reshape(image.shape + (1,) * (len(shape) - image.ndim))
        elif len(shape) < image.ndim:
            shape += image.shape[-1:]
        sizes = image.shape
        factors = numpy.asarray(sizes, dtype=float) / numpy.asarray(shape, dtype=float)
        order = default_order(image.dtype, order)
        if anti_aliasing or (anti_aliasing is None and image.dtype.kind != "b"):
            # integers stay integers
            sigma = numpy.maximum(0, (factors - 1) / 2)
            image = ndimage.gaussian_filter(image, sigma, cval=cval, mode=modes[mode])
        image = module.convert_to_float(image, preserve_range)
        flat = len(shape) == 2 or (len(shape) == 3 and shape[2] == sizes[2])
        if flat and order in (0, 1, 3):
            matrix = matrix_for(sizes, shape, factors).astype(image.dtype)
            if len(shape) == 2:
                out = map_plane(image, matrix, shape, order, mode, cval)
            else:
                planes = (image[..., index] for index in range(sizes[2]))
                out = numpy.dstack(
                    [map_plane(plane, matrix, shape, order, mode, cval) for plane in planes]
                )
        else:
            axes = [f * (numpy.arange(n) + 0.5) - 0.5 for f, n in zip(factors, shape, strict=True)]
            grid = numpy.array(numpy.meshgrid(*axes, indexing="ij"))
            out = ndimage.map_coordinates(image, grid, order=order, mode=modes[mode], cval=cval)
        if clip and order != 0:
            low, high = image.min(), image.max()
            beyond = out == cval if mode == "constant" and not low <= cval <= high else None
            numpy.clip(out, low, high, out=out)
            if beyond is not None:
                out[beyond] = cval
        return out

    module.resize = resize


PATCHES = {
    "skimage._shared.filters": _gaussian,
    "skimage.color.colorconv": _colours,
    "skimage.color.colorlabel": _overlay,
    "skimage.exposure.exposure": _rescale,
    "skimage.feature.peak": _peaks,
    "skimage.feature.template": _match_template,
    "skimage.filters._gaussian": _gaussian,
    "skimage.filters._median": _median,
    "skimage.filters.thresholding": _thresholds,
    "skimage.io._plugins.tifffile_plugin": _tiff,
    "skimage.measure._regionprops": _regions,
    "skimage.morphology._skeletonize": _medial_axis,
    "skimage.morphology.binary": _binary,
    "skimage.morphology.gray": _morphology,
    "skimage.morphology.grayreconstruct": _reconstruction,
    "skimage.restoration._denoise": _bilateral,
    "skimage.restoration.non_local_means": _non_local_means,
    "skimage.transform._warps": _resize,
    "skimage.util.dtype": _integers,
}


def _is_declared():
    from importlib.metadata import version

    return version("scikit-image").startswith("0.18.")


def identity():
    """Tell one state of this file from another; "" where it changes nothing."""
    import hashlib

    if _is_declared():
        return ""
    with open(__file__, "rb") as file:  # noqa: PTH123 -- pathlib would be loaded for it
        return hashlib.sha256(file.read()).hexdigest()[:8]


class _Finder:
    """Find a listed module where it is, and let its patch follow its own code."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or _is_declared():
            return spec
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            PATCHES[name](module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder)
