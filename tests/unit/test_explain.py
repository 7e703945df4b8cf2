from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import EXPORT, IDENTIFY, PROJECT, load_data, pipeline_text

from bpcp import cut, explain, imagesets, pipeline, plan
from bpcp.imagelist import ImageList
from bpcp.settings import Settings

HEADER = ("FileName_DNA", "Metadata_Plate", "Metadata_Site")


def settings(size: int | None = None, *group_by: str) -> Settings:
    return Settings(size, group_by, 2, True, Path("/"), None)


def listed(*cells: tuple[str, str]) -> ImageList:
    rows = tuple((f"{i}.tif", *own) for i, own in enumerate(cells))
    return ImageList(HEADER, rows, tuple(range(2, len(rows) + 2)))


def pipe(folder: Path, *modules: str) -> pipeline.Pipeline:
    path = folder / "p.cppipe"
    path.write_text(pipeline_text(*modules))
    return pipeline.read(path)


PLATES = (("B", "1"), ("A", "1"), ("B", "2"), ("C", "1"))


@pytest.mark.parametrize(
    ("keys", "asked", "group_by", "words"),
    [
        ("", None, (), "size: about 24, the same number of chunks for each process"),
        ("", 7, (), "size: 7 as asked"),
        ("", None, ("Plate",), "size: one chunk for each Plate"),
        ("", 7, ("Plate",), "size: 3 groups of 1-2 by Plate, never parted; 7 as asked"),
        ("Plate", 2, (), "size: 3 groups of 1-2 by Plate, never parted; 2 as asked"),
        ("Plate", 2, ("Site",), "size: 3 groups of 1-2 by Plate, never parted; the pipeline's"
         " groups lie across Site, and decide; 2 as asked"),
    ],
)  # fmt: skip
def test_why_chunks_are_as_large_as_they_are(
    tmp_path: Path, keys: str, asked: int | None, group_by: Sequence[str], words: str
) -> None:
    own = pipe(tmp_path, load_data(keys=keys), IDENTIFY, EXPORT)
    found = cut.order(imagesets.of_list(listed(*PLATES)), own, group_by)
    assert explain.size(found, own, settings(asked, *group_by)) == words
    assert plan.places_of(own, settings(asked, *group_by), found, [])[1] == words


def test_one_process_is_explained_by_the_module_that_needs_it(tmp_path: Path) -> None:
    own = pipe(tmp_path, load_data(), PROJECT, EXPORT)
    found = cut.order(imagesets.of_list(listed(*PLATES)), own, ["Plate"])
    places, why = plan.places_of(own, settings(None, "Plate"), found, [])
    assert places == [[0, 1, 2, 3]]
    assert why.startswith("one process: MakeProjection (module 2) needs all image sets")


def chunks(found: cut.Cut, size: int) -> list[cut.Chunk]:
    places = [list(range(i, min(i + size, 4))) for i in range(0, 4, size)]
    return list(cut.chunks_of(found, places, whole=False, recipe=""))


def test_what_a_process_reads(tmp_path: Path) -> None:
    own = pipe(tmp_path)
    plain = cut.order(imagesets.of_list(listed(*PLATES)), own, [])
    assert explain.reading(plain, chunks(plain, 2), False, None) == (
        "reads: each process its own rows"
    )
    assert explain.reading(plain, [], True, None).endswith("image sets of the batch file")
    assert explain.reading(plain, [], False, ["LabelImages (module 3)"]) == (
        "reads: each process the whole list, for LabelImages (module 3) uses image sets' numbers"
    )
    assert "typed otherwise" in explain.reading(plain, [], False, [])


def test_the_row_that_keeps_a_columns_type_is_explained(tmp_path: Path) -> None:
    own = pipe(tmp_path)
    mixed = cut.order(imagesets.of_list(listed(*PLATES[:3], ("C", "x"))), own, [])
    words = explain.reading(mixed, chunks(mixed, 2), False, None)
    assert "1 chunk with one row more" in words
    assert "keeps the type of Metadata_Site" in words


def test_a_chunk_is_named_by_its_first_image_set(tmp_path: Path) -> None:
    found = cut.order(imagesets.of_list(listed(*PLATES)), pipe(tmp_path), [])
    assert explain.label(HEADER, chunks(found, 2)[1]) == "B 2"
    assert explain.label(("FileName_DNA", "X", "Y"), chunks(found, 2)[1]) == "line 4"
