"""Run each module of a CellProfiler once in each of its modes, and say which do not work.

This file is a program for CellProfiler's own Python, 3.8 or later:

    python bpcp/probe/modules.py [--only MODULE ...] [--values FILE] > answer.json

It finds modules, settings and choices in CellProfiler's own registry, so that a plugin or another
version is probed as well. From settings that work, each choice takes each of its values, one at a
time, and the choices that this makes visible take each of theirs. Each module runs in a process of
its own. What fails counts as the installation's fault only where the kind of the error says so;
any other failure may come from the probe's own setting up, and says nothing of the installation.

--values FILE also writes what each mode measured, for a comparison of two installations:

    python bpcp/probe/modules.py --compare FILE FILE [--tolerance 1e-6]
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import platform
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from importlib import metadata
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

# run as a file, the folder of the package is not on the path, and its own must not be
sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from bpcp.probe import setups
from bpcp.probe.conditions import Assignment, Key, Run, conditions

FORMAT = 1
MODE_TIMEOUT_S = 60
LIBRARIES = (
    "cellprofiler", "cellprofiler-core", "numpy", "scipy", "scikit-image", "scikit-learn",
    "centrosome", "mahotas", "matplotlib", "h5py", "pillow", "tifffile", "imageio",
)  # fmt: skip

# What an error says where a library is another than the one that its caller was written for.
_OF_INSTALLATION = (
    ("TypeError", r"unexpected keyword argument|positional arguments?\b|invalid keyword argument"
                  r"|cannot be interpreted as an integer|[Ii]nteger (argument )?expected"
                  r"|slice indices must be integers|required (positional|keyword-only) argument"
                  r"|is an invalid keyword|_RepeatedSplits|Cannot cast ufunc|metaclass"),
    ("AttributeError", r"module '[\w.]+' has no attribute|type object '\w+' has no attribute"
                       r"|`np\.\w+` was a deprecated alias|was removed in the NumPy"),
    ("UFuncTypeError|_UFuncOutputCastingError|UFuncOutputCastingError", r"Cannot cast ufunc"),
    ("ImportError|ModuleNotFoundError", r""),
    ("NameError", r"name '(sqlite3|MySQLdb)' is not defined"),
    ("VisibleDeprecationWarning|ValueError", r"inhomogeneous shape"),
)  # fmt: skip

Path = Tuple[Tuple[Key, str], ...]


# --- modes ------------------------------------------------------------------------------------


def _kinds(setting: Any) -> List[str]:
    return [kind.__name__ for kind in type(setting).__mro__]


def _keyed(module: Any) -> List[Tuple[Key, Any]]:
    """Give a module's settings by label and count."""
    seen: Dict[str, int] = {}
    out = []
    for setting in module.settings():
        label = setting.text
        out.append(((label, seen.get(label, 0)), setting))
        seen[label] = seen.get(label, 0) + 1
    return out


def _values(setting: Any, volume: bool) -> List[str]:
    """Give the values of a setting that chooses what a module does; none for any other."""
    kinds = _kinds(setting)
    if setting.text in setups.LOOKS or "Colormap" in kinds:
        return []
    if "Binary" in kinds:
        return ["Yes", "No"]
    if "StructuringElement" in kinds:
        shapes = ("Ball", "Cube", "Octahedron") if volume else ("Diamond", "Disk", "Octagon",
                                                                  "Square", "Star")
        return [shape + ",2" for shape in shapes if shape != "Octagon"]
    if "Choice" in kinds:
        return [str(value) for value in setting.choices]
    return []


def _text(setting: Any) -> str:
    return str(setting.value_text)


def _put(module: Any, values: Dict[Key, str], scratch: str) -> None:
    for key, setting in _keyed(module):
        if key in values:
            setting.value = re.sub(
                r"^\{([\w.]+\.\w+)\}$", lambda m: os.path.join(scratch, m[1]), values[key]
            ).replace("{scratch}", scratch)


def _key(label: str) -> Key:
    name, _, at = label.partition("#")
    return (name, int(at)) if at.isdigit() else (label, 0)


def _fill(module: Any, volume: bool) -> None:
    """Name the drawn images, objects and measurements wherever a module reads one."""
    made = 0
    for setting in module.settings():
        kinds = _kinds(setting)
        value = None
        if "ImageListSubscriber" in kinds:
            value = "Grey, Grey2"
        elif "LabelListSubscriber" in kinds:
            value = "Nuclei"
        elif "GridSubscriber" in kinds:
            value = "Grid"
        elif "LabelSubscriber" in kinds:
            value = "Nuclei"
        elif "Subscriber" in kinds and any("Image" in kind for kind in kinds):
            value = "Grey"
        elif "Measurement" in kinds and not setting.text.startswith("Select your"):
            value = "Intensity_MeanIntensity_Grey"
        elif "Directory" in kinds:
            value = setups.FOLDER
        elif "StructuringElement" in kinds:
            value = "Ball,1" if volume else "Disk,1"
        elif "Name" in kinds or "ImageName" in kinds or "LabelName" in kinds:
            made += 1
            value = "Made%d" % made
        if value is not None:
            setting.value = value
            if value == setups.FOLDER:
                setting.value = value.replace("{scratch}", _scratch())


def _scratch() -> str:
    return os.environ["BPCP_PROBE_SCRATCH"]


class Maker:
    """Makes a module in one of its modes."""

    def __init__(self, name: str, volume: bool) -> None:
        self.name, self.volume = name, volume

    def make(self, path: Path = ()) -> Any:
        from cellprofiler_core.utilities.core.modules import instantiate_module

        module = instantiate_module(self.name)
        _fill(module, self.volume)
        base = setups.BASE.get(self.name, {})
        _put(module, {_key(label): value for label, value in base.items()}, _scratch())
        for key, value in path:
            _put(module, {key: value}, _scratch())
            beside = setups.WITH.get(self.name, {}).get((key[0], value), {})
            _put(module, {_key(label): text for label, text in beside.items()}, _scratch())
        return module

    def visible(self, module: Any) -> Dict[Key, Any]:
        """Give the settings that a module looks at, of those that choose what it does."""
        shown = {id(setting) for setting in module.visible_settings()}
        ranged = setups.RANGES.get(self.name, {})
        return {
            key: setting
            for key, setting in _keyed(module)
            if id(setting) in shown and (_values(setting, self.volume) or key[0] in ranged)
        }

    def modes(self) -> Iterator[Path]:
        """Give the modes: the base, then what differs from it."""
        base = self.make()
        yield ()
        if self.volume and self.name in setups.ON_MEASUREMENTS:
            return
        yield from self._varied((), {}, self.visible(base))
        for one, other in setups.PAIRS.get(self.name, []):
            settings = self.visible(base)
            first, second = (settings.get((label, 0)) for label in (one, other))
            if first is None or second is None:
                continue
            for value, text in itertools.product(*(_values(s, self.volume) for s in (first, second))):
                if value != _text(first) and text != _text(second):
                    yield ((one, 0), value), ((other, 0), text)

    def _varied(self, path: Path, before: Dict[Key, Any], now: Dict[Key, Any]) -> Iterator[Path]:
        for key, setting in now.items():
            if key in before:
                continue
            ends = setups.RANGES.get(self.name, {}).get(key[0])
            values = list(ends) if ends else _values(setting, self.volume)
            for value in values:
                if value == _text(setting):
                    continue
                further = (*path, (key, value))
                yield further
                module = self.make(further)
                yield from self._varied(further, now, self.visible(module))


# --- one run ----------------------------------------------------------------------------------


def _is_of_installation(error: BaseException) -> bool:
    """Tell whether an error is of a kind that the probe's own setting up can't cause."""
    name, text = type(error).__name__, str(error)
    return any(re.fullmatch(kind, name) and re.search(says, text) for kind, says in _OF_INSTALLATION)


def _where(error: BaseException) -> str:
    """Say where an error comes from: the innermost place that is CellProfiler's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if re.search(r"[/\\]cellprofiler(_core)?[/\\]", f.filename)]
    if not own:
        return ""
    name = re.split(r"[/\\]site-packages[/\\]", own[-1].filename)[-1]
    return "%s:%s" % (name, own[-1].lineno)


def _run(module: Any, drawing: Any, wants_values: bool) -> Dict[str, Any]:
    """Run a module over the drawn image sets, from its preparation to its end."""
    import numpy as np

    from bpcp.probe.drawn import IMAGE_SETS, AskedAtScreen, Scene

    count = IMAGE_SETS if module.module_name in setups.OF_SEVERAL else 1

    np.random.seed(0)
    scene = None
    try:
        scene = Scene(drawing, module, _scratch())
        space = scene.at(1)
        numbers = list(range(1, count + 1))
        if not module.prepare_run(space):
            return {"state": "unclear", "error": "prepare_run gave up"}
        module.prepare_group(space, {}, numbers)
        for number in numbers:
            space = scene.at(number)
            module.run(space)
        module.post_group(space, {})
        module.post_run(space)
        return {"state": "works", "values": _summary(scene, space) if wants_values else {}}
    except AskedAtScreen:
        return {"state": "asks"}
    except Exception as error:
        state = "broken" if _is_of_installation(error) else "unclear"
        text = " ".join(str(error).split())[:300]
        said = "%s: %s" % (type(error).__name__, text)
        return {"state": state, "error": said, "at": _where(error)}
    finally:
        if scene is not None:
            scene.measurements.close()


def _summary(scene: Any, space: Any) -> Dict[str, List[float]]:
    """Give numbers that tell of what a module made: measurements, images, objects."""
    import numpy as np

    from bpcp.probe.drawn import FEATURES, PLATE

    out: Dict[str, List[float]] = {}
    kept = scene.measurements
    for name in kept.get_object_names():
        for feature in kept.get_feature_names(name):
            if feature in FEATURES or feature in PLATE or name == "Experiment":
                continue
            values = []
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


def _pixels(pixels: Any) -> List[float]:
    """Give an array's shape and bits, and sums that any change of a pixel shows in."""
    import numpy as np

    values = pixels.astype(float).ravel()
    weights = 1 + np.arange(values.size) % 97 / 97.0
    sums = [values.sum(), (values * weights).sum(), values.min(), values.max()]
    return [*map(float, pixels.shape), pixels.dtype.itemsize * 8.0, *map(float, sums)]


# --- a process for each module ----------------------------------------------------------------


def _probe(name: str, volume: bool, skip: int, wants_values: bool, out: Any) -> None:
    """Run the modes of a module from one on, and write a line before and after each."""
    from bpcp.probe.drawn import Drawing

    def say(line: Dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    maker, drawing = Maker(name, volume), Drawing(volume)
    for number, path in enumerate(maker.modes()):
        if number < skip:
            continue
        say({"path": path})
        signal.alarm(MODE_TIMEOUT_S)
        module = maker.make(path)
        visible = [[key, _text(s)] for key, s in maker.visible(module).items()]
        say({"visible": visible, **_run(module, drawing, wants_values)})
        signal.alarm(0)


def _of_module(name: str, volume: bool, wants_values: bool) -> List[Dict[str, Any]]:
    """Probe a module on one kind of image, and outlive it where it ends its process."""
    done: List[Dict[str, Any]] = []
    while True:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            code = 1
            try:
                with os.fdopen(write, "w") as out:
                    _probe(name, volume, len(done), wants_values, out)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(write)
        begun: Optional[Dict[str, Any]] = None
        with os.fdopen(read) as lines:
            for line in lines:
                found = json.loads(line)
                if begun is None:
                    begun = found
                else:
                    done.append({**begun, **found})
                    begun = None
        _, status = os.waitpid(child, 0)
        if status == 0:
            return done
        if begun is None:
            return [*done, {"path": [], "state": "unclear", "error": "could not be set up"}]
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            said = "ended by signal %d (%s)" % (number, signal.Signals(number).name)
            slow = number in (signal.SIGALRM, signal.SIGKILL, signal.SIGTERM)
            done.append({**begun, "state": "unclear" if slow else "broken", "error": said})
        else:
            done.append({**begun, "state": "unclear", "error": "could not be set up"})


def probe(names: Sequence[str], wants_values: bool) -> Dict[str, Any]:
    """Probe modules.

    Returns
    -------
    dict
        modules, modes: how many were run; broken: a list of module, kind ("2-D" or "3-D"),
        when (pairs of [label, count] and value; none: always), error, at; unclear: failures that
        say nothing of the installation; skipped: reasons by module; values: by mode.
    """
    from cellprofiler_core.constants.modules import badmodules
    from cellprofiler_core.utilities.core.modules import instantiate_module

    answer: Dict[str, Any] = {"modules": 0, "modes": 0, "works": 0, "asks": 0}
    broken: List[Dict[str, Any]] = []
    unclear: List[Dict[str, Any]] = []
    skipped = {name: why for name, why in setups.NOT_PROBED.items() if name in names}
    values: Dict[str, Any] = {}
    for mod, error in badmodules:
        broken.append(
            {
                "module": mod.rsplit(".", 1)[-1],
                "kind": "any",
                "when": [],
                "error": "%s: %s" % (type(error).__name__, error),
                "at": _where(error),
            }
        )
    for name in names:
        if name in skipped:
            continue
        answer["modules"] += 1
        kinds = [False, True] if instantiate_module(name).volumetric() else [False]
        for volume in kinds:
            kind = "3-D" if volume else "2-D"
            done = _of_module(name, volume, wants_values)
            t_ = os.times(); print("%-30s %s %3d modes %.2f s" % (name, kind, len(done), t_.children_user + t_.children_system), file=sys.stderr, flush=True)
            answer["modes"] += len(done)
            for mode in done:
                said = {"module": name, "kind": kind, "settings": mode["path"]}
                if mode["state"] in ("works", "asks"):
                    answer[mode["state"]] += 1
                if mode["state"] == "unclear":
                    unclear.append({**said, "error": mode["error"], "at": mode.get("at", "")})
                if mode.get("values"):
                    values[json.dumps([name, kind, mode["path"]])] = mode["values"]
            broken += _broken(name, kind, done)
    return {
        **answer,
        "broken": broken,
        "unclear": unclear,
        "skipped": skipped,
        **({"values": values} if wants_values else {}),
    }


def _broken(name: str, kind: str, done: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Say with which settings a module does not work."""
    runs, errors = [], []
    for mode in done:
        if mode["state"] not in ("works", "broken") or "visible" not in mode:
            # a crash has no list of them
            continue
        visible: Assignment = {(key[0], key[1]): value for key, value in mode["visible"]}
        runs.append(Run(visible, mode["state"] == "works"))
        errors.append(mode)
    out = []
    for condition in conditions(runs):
        first = next(
            mode
            for run, mode in zip(runs, errors)
            if not run.works and all(run.visible.get(k) == v for k, v in condition.items())
        )
        when = [[list(key), value] for key, value in condition.items()]
        said = {"module": name, "kind": kind, "when": when}
        out.append({**said, "error": first["error"], "at": first.get("at", "")})
    return _ranges(name, out)


def _ranges(name: str, found: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Put the two ends of a range together, where both do not work."""
    for label, (low, high) in setups.RANGES.get(name, {}).items():
        key = [list(_key(label)), low]
        for one in [f for f in found if key in f["when"]]:
            rest = [pair for pair in one["when"] if pair != key]
            other = [*rest, [key[0], high]]
            both = [f for f in found if sorted(map(str, f["when"])) == sorted(map(str, other))]
            if both:
                found.remove(both[0])
                one["when"] = [*rest, [key[0], "%s..%s" % (low, high)]]
    return found


# --- the program ------------------------------------------------------------------------------


def identity() -> Dict[str, str]:
    """Give the versions that what works depends on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def compare(one: Dict[str, Any], other: Dict[str, Any], tolerance: float) -> Iterator[str]:
    """Say which modes gave other values on another installation."""
    import numpy as np

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


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Run each module of CellProfiler in each mode.")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--values")
    parser.add_argument("--compare", nargs=2)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    options = parser.parse_args(argv)
    if options.compare:
        with open(options.compare[0]) as one, open(options.compare[1]) as other:
            lines = list(compare(json.load(one), json.load(other), options.tolerance))
        print("\n".join(lines) or "the same")
        return 1 if lines else 0
    if options.values:
        open(options.values, "w").close()
    began = time.time()
    # what libraries print must not be in the answer
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("MPLBACKEND", "Agg")
    with tempfile.TemporaryDirectory(prefix="bpcp-probe-") as scratch:
        os.environ["BPCP_PROBE_SCRATCH"] = scratch
        answer = _answer(options, scratch)
    answer["seconds"] = round(time.time() - began, 1)
    values = answer.pop("values", None)
    if options.values:
        with open(options.values, "w") as file:
            json.dump(values, file)
    json.dump(answer, out, indent=1)
    out.write("\n")
    out.close()
    return 0


def _answer(options: Any, scratch: str) -> Dict[str, Any]:
    import cellprofiler_core.preferences as preferences

    preferences.set_headless()
    preferences.set_temporary_directory(scratch)
    preferences.set_default_output_directory(scratch)
    preferences.set_default_image_directory(scratch)
    import cellprofiler_core.modules  # noqa: F401 -- fills in what the next line needs
    from cellprofiler_core.utilities.core.modules import fill_modules, get_module_names

    from bpcp.probe.drawn import write_classifier, write_files

    fill_modules()
    write_files(scratch)
    try:
        write_classifier(scratch, "Nuclei_AreaShape_Area", "tree.model")
        write_classifier(scratch, "Image_Intensity_MeanIntensity_Grey", "image_tree.model")
    except Exception:
        traceback.print_exc()
    names = [n for n in get_module_names() if not options.only or n in options.only]
    found = probe(names, bool(options.values))
    return {"format": FORMAT, "identity": identity(), **found}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
