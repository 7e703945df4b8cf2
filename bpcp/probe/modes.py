"""The modes of a module: the values of its settings that choose what it does.

Runs in CellProfiler's own Python, 3.8 or later.
"""

from __future__ import annotations

import itertools
import os
from typing import Any, Iterator, Tuple

from bpcp.probe import setups
from bpcp.probe.conditions import Key

# Settings and values that differ from the base, in the order in which they are set.
Path = Tuple[Tuple[Key, str], ...]


def kinds_of(setting: Any) -> list[str]:
    return [kind.__name__ for kind in type(setting).__mro__]


def keyed(module: Any) -> list[tuple[Key, Any]]:
    """Give a module's settings by label and count."""
    seen: dict[str, int] = {}
    out = []
    for setting in module.settings():
        label = setting.text
        out.append(((label, seen.get(label, 0)), setting))
        seen[label] = seen.get(label, 0) + 1
    return out


def values_of(setting: Any, volume: bool) -> list[str]:
    """Give the values of a setting that chooses what a module does; none for any other."""
    kinds = kinds_of(setting)
    if setting.text in setups.LEFT or "Colormap" in kinds:
        return []
    if "Binary" in kinds:
        return ["Yes", "No"]
    if "StructuringElement" in kinds:
        flat, solid = ("Diamond", "Disk", "Square", "Star"), ("Ball", "Cube", "Octahedron")
        return [shape + ",2" for shape in (solid if volume else flat)]
    if "Choice" in kinds:
        # "None" stands alone where the choices are of a pipeline's images, objects or metadata
        choices = [str(value) for value in setting.choices]
        return [] if choices == ["None"] else choices
    return []


def text_of(setting: Any) -> str:
    """Give a setting's value as a pipeline's text has it."""
    return str(setting.value_text)


def put(module: Any, values: dict[Key, str]) -> None:
    """Set settings to values as `setups` writes them."""
    for key, setting in keyed(module):
        if key in values:
            setting.value = values[key].replace("{scratch}", scratch())


def key_of(label: str) -> Key:
    name, _, at = label.partition("#")
    return (name, int(at)) if at.isdigit() else (label, 0)


def fill(module: Any, volume: bool) -> None:
    """Name the drawn images, objects and measurements wherever a module reads one."""
    made = 0
    for setting in module.settings():
        kinds = kinds_of(setting)
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
            writes = "utput" in setting.text or setting.text == "Directory"
            value = setups.OUTPUT_FOLDER if writes else setups.FOLDER
        elif "StructuringElement" in kinds:
            value = "Ball,1" if volume else "Disk,1"
        elif "Name" in kinds or "ImageName" in kinds or "LabelName" in kinds:
            made += 1
            value = "Made%d" % made
        if value is not None:
            setting.value = value.replace("{scratch}", scratch())


def scratch() -> str:
    """Give the folder of the files that modules read; "out" in it is for what they write."""
    return os.environ["BPCP_PROBE_SCRATCH"]


class Maker:
    """Makes a module in one of its modes."""

    def __init__(self, name: str, volume: bool) -> None:
        self.name, self.volume = name, volume

    def make(self, path: Path = ()) -> Any:
        from cellprofiler_core.utilities.core.modules import instantiate_module

        module = instantiate_module(self.name)
        fill(module, self.volume)
        base = setups.BASE.get(self.name, {})
        put(module, {key_of(label): value for label, value in base.items()})
        for key, value in path:
            put(module, {key: value})
            beside = setups.WITH.get(self.name, {}).get((key[0], value), {})
            put(module, {key_of(label): text for label, text in beside.items()})
        return module

    def visible(self, module: Any) -> dict[Key, Any]:
        """Give the settings that a module looks at, of those that choose what it does."""
        shown = {id(setting) for setting in module.visible_settings()}
        ranged = setups.RANGES.get(self.name, {})
        return {
            key: setting
            for key, setting in keyed(module)
            if id(setting) in shown and (values_of(setting, self.volume) or key[0] in ranged)
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
            values = (values_of(setting, self.volume) for setting in (first, second))
            for value, text in itertools.product(*values):
                if value != text_of(first) and text != text_of(second):
                    yield ((one, 0), value), ((other, 0), text)

    def _varied(self, path: Path, before: dict[Key, Any], now: dict[Key, Any]) -> Iterator[Path]:
        for key, setting in now.items():
            if key in before:
                continue
            ends = setups.RANGES.get(self.name, {}).get(key[0])
            values = list(ends) if ends else values_of(setting, self.volume)
            for value in values:
                if value == text_of(setting):
                    continue
                further = (*path, (key, value))
                yield further
                module = self.make(further)
                yield from self._varied(further, now, self.visible(module))
