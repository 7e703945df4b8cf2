"""CellProfiler's public examples, as published, each against one plain process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import EXAMPLES, Lab, Plain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(
        not EXAMPLES.is_dir(), reason="CellProfiler's examples are not beside this checkout"
    ),
]


def example(base: Path, name: str, copies: int) -> Lab:
    """Lay out an example with so many copies of its image sets."""
    source = EXAMPLES / name
    images = base / "images"
    images.mkdir(parents=True)
    lines = []
    for copy in range(1, copies + 1):
        for path in sorted((source / "images").iterdir()):
            target = images / f"{copy}{path.name}"
            shutil.copyfile(path, target)
            lines.append(f"{target}\n")
    lab = Lab(base, name, base / "pipelines" / f"{name}.cppipe")
    lab.pipeline.parent.mkdir()
    shutil.copyfile(source / f"{name}.cppipe", lab.pipeline)
    lab.file_list.parent.mkdir(parents=True)
    lab.file_list.write_text("".join(lines))
    return lab


@pytest.mark.parametrize(
    ("name", "copies", "image_sets"),
    # ExampleFly's Crop takes the pattern of the first cycle
    [("ExampleFly", 2, 6), ("ExampleHuman", 4, 4), ("ExampleSpeckles", 4, 4)],
)
def test_equals_one_process(
    tmp_path: Path, plain: Callable[..., Plain], name: str, copies: int, image_sets: int
) -> None:
    lab = example(tmp_path / "lab", name, copies)
    one = plain(lab, inputs=["--file-list", str(lab.file_list)])
    said = lab.run("--chunk-size", "2")
    assert f"{image_sets} of {image_sets} image sets" in said
    assert len(lab.verdicts()) == image_sets // 2
    lab.compare(one.result())
