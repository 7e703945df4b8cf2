from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import EXPORT, IDENTIFY, PROJECT, load_data, pipeline_text

from bpcp import cut, imagesets, pipeline
from bpcp.cut import Chunk, Cut
from bpcp.imagelist import ImageList, Row

HEADER = ("FileName_DNA", "Metadata_Plate", "Metadata_Well")


def images(*wells: str, plate: str = "P1") -> ImageList:
    rows = tuple((f"{i}.tif", plate, well) for i, well in enumerate(wells))
    return ImageList(HEADER, rows, tuple(range(2, len(rows) + 2)))


def read(folder: Path, *modules: str) -> pipeline.Pipeline:
    path = folder / "p.cppipe"
    path.write_text(pipeline_text(*(modules or (load_data(), IDENTIFY, EXPORT))))
    return pipeline.read(path)


@pytest.fixture
def plain(tmp_path: Path) -> pipeline.Pipeline:
    return read(tmp_path)


def ordered(found: ImageList, pipe: pipeline.Pipeline, group_by: Sequence[str]) -> Cut:
    return cut.order(imagesets.of_list(found), pipe, group_by)


def made(pipe: pipeline.Pipeline, found: ImageList, size: int, *group_by: str) -> list[Chunk]:
    own = ordered(found, pipe, group_by)
    return list(
        cut.chunks_of(own, cut.boundaries(own, [], size, 2, one_each=False), False, "recipe")
    )


def again(own: Cut, kept: Sequence[Chunk], size: int, one_each: bool = False) -> list[Chunk]:
    places = cut.boundaries(own, [c.rows for c in kept], size, 2, one_each=one_each)
    return list(cut.chunks_of(own, places, False, "recipe"))


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([], 4, []),
        ([2, 2, 2], 4, [[0, 1], [2]]),
        ([5, 1, 3], 4, [[0], [1, 2]]),
        ([3, 9, 1, 1], 4, [[0], [1], [2, 3]]),
        ([2, 2], 1, [[0], [1]]),
    ],
)
def test_pack_never_splits_a_group(sizes: list[int], limit: int, expected: list[list[int]]) -> None:
    assert cut.pack(sizes, limit) == expected


@pytest.mark.parametrize(("n", "limit", "count"), [(10, 4, 0), (97, 24, 4), (5, 100, 2), (3, 1, 8)])
def test_pack_is_even_where_nothing_is_grouped(n: int, limit: int, count: int) -> None:
    found = cut.pack([1] * n, limit, count)
    sizes = [len(chunk) for chunk in found]
    assert [i for chunk in found for i in chunk] == list(range(n))
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= limit
    assert len(found) == min(n, max(count, -(-n // limit)))


@pytest.mark.parametrize(
    ("image_sets", "slots"), [(1, 8), (24, 2), (384, 8), (3456, 96), (100, 96), (25, 1)]
)
def test_each_slot_gets_the_same_number_of_chunks(image_sets: int, slots: int) -> None:
    count = cut.even_count(image_sets, slots)
    assert 1 <= count <= image_sets
    assert count % slots == 0 or count == image_sets
    assert image_sets / count < 2 * cut.CHUNK_SIZE


def test_chunks_hold_each_image_set_once(plain: pipeline.Pipeline) -> None:
    found = made(plain, images(*["A01"] * 7), 3)
    assert [n for c in found for n in c.image_numbers] == [1, 2, 3, 4, 5, 6, 7]
    assert max(len(c.rows) for c in found) <= 3
    assert [line for c in found for line in c.lines] == [2, 3, 4, 5, 6, 7, 8]


def test_groups_of_the_pipeline_are_numbered_and_kept_together(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(keys="Well"), EXPORT)
    found = made(pipe, images("A02", "A01", "A02", "A01", "A10"), 3)
    assert [[r[2] for r in c.rows] for c in found] == [["A01", "A01"], ["A02", "A02", "A10"]]
    assert [c.lines for c in found] == [[3, 5], [2, 4, 6]]
    # they stand in one chunk, but where one fails, it fails alone
    assert [c.units for c in found] == [[(1, 1), (2, 2)], [(1, 1), (2, 2), (3, 3)]]


def test_groups_that_are_aggregated_can_not_be_parted(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(keys="Well"), PROJECT, EXPORT)
    found = made(pipe, images("A02", "A01", "A02", "A01", "A10"), 3)
    assert [c.lines for c in found] == [[3, 5], [2, 4, 6]]
    assert [c.units for c in found] == [[(1, 2)], [(1, 2), (3, 3)]]


def test_an_aggregator_without_groups_holds_everything_together(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(), "\nTrackObjects:[module_num:2|enabled:True]\n", EXPORT)
    (only,) = made(pipe, images("A01", "A02", "A03"), 1)
    assert only.units == [(1, 3)]


def test_asked_groups_stay_together_but_can_be_parted_when_one_fails(
    plain: pipeline.Pipeline,
) -> None:
    found = made(plain, images("B", "A", "B", "A"), 2, "Well")
    assert [c.image_numbers for c in found] == [[1, 3], [2, 4]]
    assert found[0].units == [(1, 1), (2, 2)]


def test_one_chunk_for_each_value(plain: pipeline.Pipeline) -> None:
    own = ordered(images("B", "A", "B", "C"), plain, ["Well"])
    found = again(own, [], 100, one_each=True)
    assert [{r[2] for r in c.rows} for c in found] == [{"B"}, {"A"}, {"C"}]


def test_the_pipelines_groups_win_over_asked_ones_across_them(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(keys="Well"), PROJECT, EXPORT)
    found = images("A", "B", "A", "B")
    rows = tuple((r[0], f"P{i % 3}", r[2]) for i, r in enumerate(found.rows))
    own = ordered(replace(found, rows=rows), pipe, ["Plate"])
    assert own.groups == own.bonds


def test_asked_groups_may_hold_several_of_the_pipelines(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(keys="Well"), PROJECT, EXPORT)
    own = ordered(images("B", "A", "B"), pipe, ["Plate"])
    assert own.groups == [("P1",)] * 3
    (only,) = again(own, [], 1, one_each=True)
    assert only.units == [(1, 1), (2, 3)]


def kept_ids(before: Sequence[Chunk], after: Sequence[Chunk]) -> set[str]:
    return {c.id for c in before} & {c.id for c in after}


def without(found: ImageList, *places: int) -> ImageList:
    rows = tuple(r for i, r in enumerate(found.rows) if i not in places)
    return ImageList(found.header, rows, tuple(range(2, len(rows) + 2)))


def test_a_list_that_grew_keeps_its_chunks(plain: pipeline.Pipeline) -> None:
    small, large = images(*"abcdef"), images(*"abcdefgh")
    before = made(plain, small, 3)
    after = again(ordered(large, plain, []), before, 3)
    assert {c.digest for c in before} < {c.digest for c in after}
    assert sorted(n for c in after for n in c.image_numbers) == list(range(1, 9))


def test_a_list_that_shrank_keeps_the_chunks_without_the_gap(plain: pipeline.Pipeline) -> None:
    found = images(*"abcdef")
    before = made(plain, found, 2)
    after = again(ordered(without(found, 2), plain, []), before, 2)
    assert kept_ids(before, after) == {before[0].id, before[2].id}
    assert sorted(n for c in after for n in c.image_numbers) == [1, 2, 3, 4, 5]


def test_a_sorted_list_keeps_its_chunks(plain: pipeline.Pipeline) -> None:
    found = images(*"abcdef")
    before = made(plain, found, 2)
    turned = replace(found, rows=(*found.rows[4:], *found.rows[:4]))
    after = again(ordered(turned, plain, []), before, 2)
    assert {c.digest for c in before} == {c.digest for c in after}
    assert [c.image_numbers for c in after] == [[1, 2], [3, 4], [5, 6]]


def test_a_row_in_front_does_not_change_what_a_chunk_is_called(plain: pipeline.Pipeline) -> None:
    found = images(*"abcd")
    before = made(plain, found, 2)
    longer = replace(found, rows=(("new.tif", "P1", "z"), *found.rows), lines=tuple(range(2, 7)))
    after = again(ordered(longer, plain, []), before, 2)
    assert kept_ids(before, after) == {c.id for c in before}


def test_duplicate_rows_make_chunks_of_their_own(plain: pipeline.Pipeline) -> None:
    row: Row = ("a.tif", "P1", "A01")
    found = ImageList(HEADER, (row,) * 4, (2, 3, 4, 5))
    before = made(plain, found, 2)
    assert [c.image_numbers for c in before] == [[1, 2], [3, 4]]
    assert before[1].id == before[0].id + "-2"
    after = again(ordered(found, plain, []), before, 2)
    assert [(c.id, c.image_numbers) for c in after] == [(c.id, c.image_numbers) for c in before]
    fewer = again(ordered(without(found, 3), plain, []), before, 2)
    assert [c.image_numbers for c in fewer] == [[1, 2], [3]]


def test_a_group_that_grew_is_cut_anew(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(keys="Well"), EXPORT)
    before = made(pipe, images("A", "A", "B"), 2)
    after = again(ordered(images("A", "A", "B", "B"), pipe, []), before, 2)
    assert kept_ids(before, after) == {before[0].id}
    assert [len(c.rows) for c in after] == [2, 2]


def test_old_chunks_that_mix_values_are_not_kept_where_each_gets_its_own(
    plain: pipeline.Pipeline,
) -> None:
    found = images("A", "A", "B", "B")
    before = made(plain, found, 4)
    after = again(ordered(found, plain, ["Well"]), before, 4, one_each=True)
    assert [[r[2] for r in c.rows] for c in after] == [["A", "A"], ["B", "B"]]


def test_the_digest_depends_on_rows_types_and_recipe(plain: pipeline.Pipeline) -> None:
    own, wider = (ordered(images("1", "2", third), plain, []) for third in "3x")
    (first,) = cut.chunks_of(own, [[0, 1]], False, "recipe")
    (recipe,) = cut.chunks_of(own, [[0, 1]], False, "other")
    (typed,) = cut.chunks_of(wider, [[0, 1]], False, "recipe")
    assert first.rows == typed.rows
    assert first.id == recipe.id
    assert len({first.digest, recipe.digest, typed.digest}) == 3


def test_a_chunk_of_the_whole_list_depends_on_all_of_it(plain: pipeline.Pipeline) -> None:
    own = ordered(images(*"abcd"), plain, [])
    changed = ordered(images(*"abcx"), plain, [])
    first, second = cut.chunks_of(own, [[0, 1], [2, 3]], True, "recipe")
    other, _ = cut.chunks_of(changed, [[0, 1], [2, 3]], True, "recipe")
    assert second.units == [(3, 3), (4, 4)]
    assert first.digest != other.digest
    assert first.witness is None


def test_a_chunk_brings_the_witness_it_needs(plain: pipeline.Pipeline) -> None:
    first, second = made(plain, images("1", "2", "A", "3"), 2)
    assert first.witness == ("1.tif", "P1", "A")
    assert second.witness is None


def test_a_witness_in_the_middle_of_the_groups_is_noticed(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(keys="Well"), EXPORT)
    found = ImageList(
        (*HEADER, "Metadata_Note"),
        (("a", "P", "A", "1"), ("b", "P", "B", "1"), ("c", "P", "C", "x")),
        (2, 3, 4),
    )
    own = ordered(found, pipe, [])
    (first, _) = cut.chunks_of(own, [[0, 1], [2]], False, "recipe")
    # made without regard to groups, it carries the last row's well, and so would join its group
    assert first.witness == ("b", "P", "B", "x")
    assert not cut.witness_is_apart(own, first, ["Well"])
    assert cut.witness_is_apart(own, first, [])
    apart = replace(first, witness=("b", "P", "Z", "x"))
    assert cut.witness_is_apart(own, apart, ["Well"])
    (minded, _) = cut.chunks_of(own, [[0, 1], [2]], False, "recipe", ["Well"])
    assert minded.witness == ("b", "P", "B~", "x")
    assert cut.witness_is_apart(own, minded, ["Well"])


def test_contiguous_cuts_at_gaps() -> None:
    alone = [(str(i),) for i in range(5)]
    assert cut.contiguous([[0, 1, 4], [2, 3]], alone) == [[0, 1], [2, 3], [4]]


def test_contiguous_parts_no_bond() -> None:
    bonds = [("A",), ("B",), ("A",), ("C",), ("B",), ("D",)]
    assert cut.contiguous([[0, 2], [1, 4], [3], [5]], bonds) == [[0, 1, 2, 3, 4], [5]]
    assert cut.units_of(bonds) == [(1, 5), (6, 6)]


GROUPED = ("Group_Number", "Group_Index", *HEADER)


def numbered(*rows: tuple[str, str, str], header: Sequence[str] = GROUPED) -> ImageList:
    """Give a list that brings Group_ columns: number, index and plate of each row."""
    named = ("Group_Number", "Group_Index", "Metadata_Plate", "FileName_DNA", "Metadata_Well")
    cells = [dict(zip(named, (*row, f"{i}.tif", "A01"), strict=True)) for i, row in enumerate(rows)]
    own = tuple(tuple(cell[name] for name in header) for cell in cells)
    return ImageList(tuple(header), own, tuple(range(2, len(rows) + 2)))


def test_a_list_that_numbers_its_groups_numbers_its_image_sets(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(keys="Plate"), PROJECT, EXPORT)
    found = numbered(("7", "1", "P2"), ("7", "2", "P1"), ("8", "1", "P2"), ("8", "2", "P3"))
    own = ordered(found, pipe, [])
    assert own.images.lines == (2, 3, 4, 5)
    assert cut.listed_groups(own) == [(7, 1), (7, 2), (8, 1), (8, 2)]
    assert cut.processed(own) == [2, 1, 3, 4]
    # of P1, P2 and P3
    assert cut.group_sizes(own) == [1, 2, 1]
    places = cut.boundaries(own, [], 1, 2, one_each=False)
    assert [c.image_numbers for c in cut.chunks_of(own, places, False, "r")] == [[1, 3], [2], [4]]
    assert cut.contiguous(places, own.bonds) == [[0, 1, 2], [3]]


def test_a_list_without_an_index_leaves_it_to_the_first_image_set(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(keys="Plate"), EXPORT)
    header = ("Group_Number", *HEADER)
    own = ordered(numbered(("7", "", "P2"), ("7", "", "P1"), header=header), pipe, [])
    assert cut.listed_groups(own) == [(7, None), (1, 1)]


@pytest.mark.parametrize("header", [HEADER, ("Group_Index", *HEADER), ("Group_Index", *HEADER)])
def test_without_a_group_number_the_groups_are_the_pipelines(
    tmp_path: Path, header: Sequence[str]
) -> None:
    pipe = read(tmp_path, load_data(keys="Plate"), EXPORT)
    own = ordered(numbered(("", "9", "P2"), ("", "8", "P1"), header=header), pipe, [])
    assert own.images.lines == (3, 2)
    assert cut.listed_groups(own) is None
    assert cut.processed(own) is None
    assert cut.group_sizes(own) == [1, 1]


def test_a_witness_behind_listed_groups_is_apart(tmp_path: Path) -> None:
    pipe = read(tmp_path, load_data(keys="Plate"), EXPORT)
    found = numbered(("1", "1", "P2"), ("1", "2", "P1"), ("1", "3", "3"))
    own = replace(ordered(found, pipe, []), own=[("P2",), ("P1",), ("3",)])
    chunk = replace(
        next(cut.chunks_of(own, [[0, 1], [2]], False, "r", ["Plate"])),
        witness=("1", "3", "3.tif", "P3", "A01"),
    )
    assert cut.witness_is_apart(own, chunk, ["Plate"])


@pytest.mark.parametrize(("image_sets", "slots"), [(96, 2), (288, 2), (3456, 64), (3456, 192)])
def test_the_first_chunks_are_small_where_images_come_from_afar(
    image_sets: int, slots: int
) -> None:
    sizes = cut.ramped(image_sets, slots)
    assert sum(sizes) == image_sets
    first, rest = sizes[:slots], sizes[slots:]
    assert max(first) <= min(rest) / 2
    assert max(rest) - min(rest) <= 1
    assert len(rest) % slots == 0


@pytest.mark.parametrize(("image_sets", "slots"), [(0, 2), (12, 2), (20, 64)])
def test_few_image_sets_are_not_worth_small_first_chunks(image_sets: int, slots: int) -> None:
    assert cut.ramped(image_sets, slots) == []


def in_a_batch(found: ImageList, groups: Sequence[str]) -> imagesets.ImageSets:
    of_list = imagesets.of_list(found)
    return replace(of_list, groups=[(group,) for group in groups])


def test_image_sets_of_a_batch_file_keep_their_numbers_and_groups(plain: pipeline.Pipeline) -> None:
    own = cut.order(in_a_batch(images("C", "B", "A", "A"), ["1", "1", "2", "2"]), plain, [])
    assert [row[2] for row in own.images.rows] == ["C", "B", "A", "A"]
    assert own.own == [("1",), ("1",), ("2",), ("2",)]
    assert own.batched
    assert len(set(own.groups)) == 4, "the pipeline itself groups nothing"


def test_a_chunk_of_a_batch_file_depends_on_its_rows_their_numbers_and_groups(
    plain: pipeline.Pipeline,
) -> None:
    def digests(wells: str, groups: str) -> list[str]:
        own = cut.order(in_a_batch(images(*wells), groups), plain, [])
        places = [[0, 1], [2, 3]]
        return [c.digest for c in cut.chunks_of(own, places, whole=True, recipe="")]

    before = digests("ABCD", "1122")
    assert digests("ABCX", "1122")[0] == before[0], "what others hold does not reach a process"
    assert digests("ABCX", "1122")[1] != before[1]
    assert digests("ABCD", "1133")[0] == before[0]
    assert digests("ABCD", "1133")[1] != before[1]
    assert len({*before}) == 2
