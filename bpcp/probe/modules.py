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
import glob
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import Any

# run as a file, the folder of the package is not on the path, and its own must not be
if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from bpcp.probe import setups
from bpcp.probe.conditions import Assignment, Run, conditions
from bpcp.probe.modes import Maker, key_of, scratch, text_of

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
                  r"|Cannot cast ufunc"),
    ("AttributeError", r"module '[\w.]+' has no attribute|type object '\w+' has no attribute"
                       r"|`np\.\w+` was a deprecated alias|was removed in the NumPy"),
    (r"_?UFunc\w+Error", r"Cannot cast ufunc"),
    ("ImportError|ModuleNotFoundError", r""),
    ("NameError", r"name '(sqlite3|MySQLdb)' is not defined"),
    ("VisibleDeprecationWarning|ValueError", r"inhomogeneous shape"),
)  # fmt: skip


# --- one run ----------------------------------------------------------------------------------


def _is_of_installation(error: BaseException) -> bool:
    """Tell whether an error is of a kind that the probe's own setting up can't cause."""
    name, text = type(error).__name__, str(error)
    return any(
        re.fullmatch(kind, name) and re.search(says, text) for kind, says in _OF_INSTALLATION
    )


def _where(error: BaseException) -> str:
    """Say where an error comes from: the innermost place that is CellProfiler's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if re.search(r"[/\\]cellprofiler(_core)?[/\\]", f.filename)]
    if not own:
        return ""
    name = re.split(r"[/\\]site-packages[/\\]", own[-1].filename)[-1]
    return "%s:%s" % (name, own[-1].lineno)


def _run(module: Any, drawing: Any, wants_values: bool) -> dict[str, Any]:
    """Run a module over the drawn image sets, from its preparation to its end."""
    import numpy as np
    from cellprofiler_core.workspace import Workspace

    from bpcp.probe.compare import summary
    from bpcp.probe.drawn import IMAGE_SETS, Scene

    count = IMAGE_SETS if module.module_name in setups.OF_SEVERAL else 1

    np.random.seed(0)
    out = os.path.join(scratch(), "out")
    shutil.rmtree(out, ignore_errors=True)
    os.mkdir(out)
    scene = None
    try:
        scene = Scene(drawing, module, scratch())
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
        return {"state": "works", "values": summary(scene, space) if wants_values else {}}
    except Workspace.NoInteractionException:
        return {"state": "asks"}
    except Exception as error:
        state = "broken" if _is_of_installation(error) else "unclear"
        text = " ".join(str(error).split())[:300]
        said = "%s: %s" % (type(error).__name__, text)
        return {"state": state, "error": said, "at": _where(error)}
    finally:
        if scene is not None:
            scene.measurements.close()


# --- a process for each module ----------------------------------------------------------------


def _probe(name: str, volume: bool, skip: int, wants_values: bool, out: Any) -> None:
    """Run the modes of a module from one on, and write a line before and after each."""
    from bpcp.probe.drawn import Drawing

    def say(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    maker, drawing = Maker(name, volume), Drawing(volume)
    for number, path in enumerate(maker.modes()):
        if number < skip:
            continue
        say({"path": path})
        signal.alarm(MODE_TIMEOUT_S)
        module = maker.make(path)
        visible = [[key, text_of(s)] for key, s in maker.visible(module).items()]
        say({"visible": visible, **_run(module, drawing, wants_values)})
        signal.alarm(0)


def _of_module(name: str, volume: bool, wants_values: bool) -> list[dict[str, Any]]:
    """Probe a module on one kind of image, and outlive it where it ends its process."""
    done: list[dict[str, Any]] = []
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
        begun: dict[str, Any] | None = None
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


def probe(names: Sequence[str], wants_values: bool) -> dict[str, Any]:
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

    answer: dict[str, Any] = {"modules": 0, "modes": 0, "works": 0, "asks": 0}
    broken: list[dict[str, Any]] = []
    unclear: list[dict[str, Any]] = []
    skipped = {name: why for name, why in setups.NOT_PROBED.items() if name in names}
    values: dict[str, Any] = {}
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


def _broken(name: str, kind: str, done: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def _ranges(name: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the two ends of a range together, where both do not work."""
    for label, (low, high) in setups.RANGES.get(name, {}).items():
        key = [list(key_of(label)), low]
        for one in [f for f in found if key in f["when"]]:
            rest = [pair for pair in one["when"] if pair != key]
            other = [*rest, [key[0], high]]
            both = [f for f in found if sorted(map(str, f["when"])) == sorted(map(str, other))]
            if both:
                found.remove(both[0])
                one["when"] = [*rest, [key[0], "%s..%s" % (low, high)]]
    return found


# --- the program ------------------------------------------------------------------------------


def identity() -> dict[str, str]:
    """Give the versions that what works depends on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    found["layers"] = _digest(_added())
    found["probe"] = _digest(sorted(glob.glob(os.path.join(os.path.dirname(__file__), "*.py"))))
    return found


def _added() -> list[str]:
    """Give the files that change libraries as Python starts: .pth files and what they import."""
    site = sysconfig.get_paths()["purelib"]
    patterns = ("*.pth", "bpcp_*.py", "sitecustomize.py", "usercustomize.py")
    return sorted(path for p in patterns for path in glob.glob(os.path.join(site, p)))


def _digest(paths: Sequence[str]) -> str:
    kept = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            kept.update(os.path.basename(path).encode() + b"\0" + file.read())
    return kept.hexdigest()[:16]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Run each module of CellProfiler in each mode.")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--values")
    parser.add_argument("--identity", action="store_true")
    parser.add_argument("--compare", nargs=2)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    options = parser.parse_args(argv)
    if options.identity:
        print(json.dumps(identity()))
        return 0
    if options.compare:
        from bpcp.probe.compare import compare

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
    with tempfile.TemporaryDirectory(prefix="bpcp-probe-") as folder:
        os.environ["BPCP_PROBE_SCRATCH"] = folder
        answer = _answer(options, folder)
    answer["seconds"] = round(time.time() - began, 1)
    values = answer.pop("values", None)
    if options.values:
        with open(options.values, "w") as file:
            json.dump(values, file)
    json.dump(answer, out, indent=1)
    out.write("\n")
    out.close()
    return 0


def _answer(options: Any, folder: str) -> dict[str, Any]:
    import cellprofiler_core.preferences as preferences

    preferences.set_headless()
    os.mkdir(os.path.join(folder, "out"))
    preferences.set_temporary_directory(folder)
    preferences.set_default_output_directory(os.path.join(folder, "out"))
    preferences.set_default_image_directory(folder)
    import cellprofiler_core.modules  # noqa: F401 -- fills in what the next line needs
    from cellprofiler_core.utilities.core.modules import fill_modules, get_module_names

    from bpcp.probe.drawn import write_classifier, write_files

    fill_modules()
    write_files(folder)
    try:
        write_classifier(folder, "Nuclei_AreaShape_Area", "tree.model")
        write_classifier(folder, "Image_Intensity_MeanIntensity_Grey", "image_tree.model")
    except Exception:
        traceback.print_exc()
    names = [n for n in get_module_names() if not options.only or n in options.only]
    found = probe(names, bool(options.values))
    return {"format": FORMAT, "identity": identity(), **found}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
