from __future__ import annotations

import csv
import gzip
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import HOSTILE, Screen, refused, write_csv

from bpcp import merge, tables
from bpcp.errors import Exit
from bpcp.publish import publish, sha256
from bpcp.workspace import (
    Json,
    Planned,
    Workspace,
    locate,
    read_json,
    read_plan,
    verdict,
    write_json,
    write_plan,
)

Row = list[object]
OBJECT: Row = ["ImageNumber", "ObjectNumber", "Area"]
RELATIONSHIP: Row = [
    "Module", "Module Number", "Relationship",
    "First Object Name", "First Image Number", "First Object Number",
    "Second Object Name", "Second Image Number", "Second Object Number",
]  # fmt: skip


class Tree:
    """A status tree, made by hand: chunks with tables that CellProfiler might have written."""

    def __init__(self, base: Path, image_sets: int) -> None:
        self.workspace: Workspace = locate("plate 1", base / "pipelines" / "measure.cppipe")
        self.planned: list[Planned] = []
        self.image_sets = image_sets
        write_json(
            self.workspace.run,
            {"group_sizes": [image_sets], "columns": {"Metadata_Site": "INTEGER"}, "root": "/"},
        )

    def add(
        self,
        numbers: Sequence[int],
        found: Mapping[str, Sequence[Row]],
        files: Mapping[str, bytes] | None = None,
        failed: int = 0,
    ) -> str:
        name = f"c{len(self.planned) + 1}"
        paths = self.workspace.chunk(name)
        summaries, published = {}, []
        for path, rows in found.items():
            file = write_csv(paths.tables(1) / path, rows)
            shape = tables.recognise(file)
            assert shape is not None
            summaries[path] = tables.summarise(file, shape).to_json()
        for path, content in (files or {}).items():
            output = paths.folder / "output"
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            (output / path).write_bytes(content)
            published.append(publish(path, output, self.workspace.analysis, paths))
        part: Json = {
            "part": 1, "first": 1, "last": len(numbers) - failed, "output": f"/out/{name}",
            "mirror": "",
            "tables": summaries, "files": published, "objects": {}, "modules_s": 1.0,
        }  # fmt: skip
        write_json(paths.chunk, {"id": name, "digest": f"d{name}", "first": 1})
        write_json(
            paths.done,
            {
                "chunk": name, "digest": f"d{name}", "parts": [part] if summaries else [],
                "failed": [{"image_set": len(numbers)}] * failed,
                "cost": {"attempts": 1}, "finished": f"at {len(self.planned)}",
            },
        )  # fmt: skip
        self.planned.append(Planned(name, f"d{name}", numbers, [n + 1 for n in numbers]))
        write_plan(self.workspace, self.planned)
        return name

    def merge(self) -> merge.Merged:
        return merge.merge(self.workspace)

    def read(self, name: str) -> list[list[str]]:
        with (self.workspace.analysis / name).open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))

    def leftovers(self) -> list[Path]:
        return list(self.workspace.analysis.rglob(".*"))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / HOSTILE, 6)


def objects(*rows: tuple[int, int, object]) -> list[Row]:
    return [OBJECT, *(list(r) for r in rows)]


def test_chunks_that_lie_across_each_other(tree: Tree) -> None:
    tree.add([1, 4], {"N.csv": objects((1, 1, "a"), (1, 2, "b"), (2, 1, "c"))})
    tree.add([2, 3, 6], {"N.csv": objects((1, 1, "d"), (3, 1, "e"))})
    tree.add([5], {"N.csv": objects((1, 1, "f"))})
    merged = tree.merge()
    expected = [
        ["1", "1", "a"],
        ["1", "2", "b"],
        ["2", "1", "d"],
        ["4", "1", "c"],
        ["5", "1", "f"],
        ["6", "1", "e"],
    ]
    assert tree.read("N.csv")[1:] == expected
    assert merged.tables["N.csv"]["rows"] == 6
    assert merged.fresh
    assert tree.leftovers() == []


def test_lines_end_as_cellprofiler_ends_them(tree: Tree) -> None:
    tree.add([1], {"N.csv": objects((1, 1, 2))})
    tree.add([2], {"N.csv": objects((1, 1, "x"))})
    tree.merge()
    text = (tree.workspace.analysis / "N.csv").read_bytes()
    assert text == b"ImageNumber,ObjectNumber,Area\r\n1,1,2\r\n2,1,x\r\n"


def test_columns_that_a_chunk_lacks(tree: Tree) -> None:
    tree.add([1], {"Image.csv": [["B", "ImageNumber"], [1, 1]]})
    tree.add([2], {"Image.csv": [["A", "B", "ImageNumber"], [0.5, 2, 1]]})
    tree.merge()
    assert tree.read("Image.csv") == [["A", "B", "ImageNumber"], ["", "1", "1"], ["0.5", "2", "2"]]


def test_two_lines_of_header(tree: Tree) -> None:
    head: list[Row] = [["Image", "Image", "N"], ["ImageNumber", "ObjectNumber", "Area"]]
    tree.add([1], {"all.csv": [*head, [1, 1, 2]]})
    tree.add([2], {"all.csv": [*head, [1, 1, 2.5]]})
    tree.merge()
    assert tree.read("all.csv") == [*head, ["1", "1", "2.0"], ["2", "1", "2.5"]]


def test_a_table_that_only_some_chunks_have(tree: Tree) -> None:
    tree.add([1, 3], {"P 1/Image.csv": [["ImageNumber", "Q"], [1, 1], [2, 2]]})
    tree.add([2], {"P ü/Image.csv": [["ImageNumber", "Q"], [1, 3]]})
    tree.merge()
    assert tree.read("P 1/Image.csv")[1:] == [["1", "1"], ["3", "2"]]
    assert tree.read("P ü/Image.csv")[1:] == [["2", "3"]]


def test_relationships_are_grouped_by_kind(tree: Tree) -> None:
    def related(kind: str, first: int, second: int) -> Row:
        return ["Track", 5, kind, "N", first, 1, "N", second, 1]

    tree.add([1, 2], {"r.csv": [RELATIONSHIP, related("Parent", 1, 2), related("Neighbour", 1, 1)]})
    tree.add([3, 4], {"r.csv": [RELATIONSHIP, related("Neighbour", 2, 2), related("Parent", 1, 2)]})
    tree.merge()
    assert [(r[2], r[4], r[7]) for r in tree.read("r.csv")[1:]] == [
        ("Parent", "1", "2"), ("Parent", "3", "4"),
        ("Neighbour", "1", "1"), ("Neighbour", "4", "4"),
    ]  # fmt: skip


def experiment(first: str, last: str, *more: Row) -> list[Row]:
    stamps: list[Row] = [["Run_Timestamp", first], ["Modification_Timestamp", last]]
    return [["Key", "Value"], ["Pipeline_Pipeline", "a\n    b:1"], *stamps, *more]


def test_relationships_stand_as_image_sets_are_processed(tree: Tree) -> None:
    for number in (1, 2, 3):
        row: Row = ["TrackObjects", 5, "Parent", "N", 1, 1, "N", 1, 2]
        tree.add([number], {"R.csv": [RELATIONSHIP, row]})
    run = read_json(tree.workspace.run) or {}
    write_json(tree.workspace.run, {**run, "processed": [2, 3, 1]})
    tree.merge()
    assert [row[4] for row in tree.read("R.csv")[1:]] == ["2", "3", "1"]


def test_what_the_last_group_left_in_the_experiment(tree: Tree) -> None:
    tracks: Row = ["TrackObjects_OriginalNumberOfTracks", 7]
    tree.add([1, 6], {"E.csv": experiment("1", "2", tracks)})
    tree.add([2, 3], {"E.csv": experiment("1", "2", [tracks[0], 9])})
    tree.merge()
    assert ["TrackObjects_OriginalNumberOfTracks", "7"] in tree.read("E.csv")


def test_experiment_spans_all_chunks(tree: Tree) -> None:
    tree.add([1], {"Experiment.csv": experiment("2026-01-02", "2026-01-03")})
    tree.add([2], {"Experiment.csv": experiment("2026-01-01", "2026-01-05")})
    tree.merge()
    assert tree.read("Experiment.csv") == [
        ["Key", "Value"],
        ["Pipeline_Pipeline", "a\n    b:1"],
        ["Run_Timestamp", "2026-01-01"],
        ["Modification_Timestamp", "2026-01-05"],
    ]


def test_each_export_has_its_experiment(tree: Tree) -> None:
    """Two exports into folders of their own; a third goes where the first image set says."""
    declared = [r"a/Experiment\.csv", r"b/Experiment\.csv", r".*/Experiment\.csv"]
    tables_json = [{"pattern": p, "objects": ["Experiment"]} for p in declared]
    run = read_json(tree.workspace.run) or {}
    write_json(tree.workspace.run, {**run, "tables": tables_json})
    for i, plate in enumerate(("P1", "P2"), 1):
        own = {f"{folder}/Experiment.csv": experiment("1", f"{i}") for folder in ("a", "b", plate)}
        tree.add([i], own)
    assert sorted(tree.merge().tables) == [f"{f}/Experiment.csv" for f in ("P1", "a", "b")]
    assert tree.read("P1/Experiment.csv")[-1] == tree.read("b/Experiment.csv")[-1]


def quality(values: Sequence[float], key: str = "Mean") -> dict[str, list[Row]]:
    column = "ImageQuality_ThresholdOtsu_DNA_2W"
    images: list[Row] = [["ImageNumber", column], *([i, v] for i, v in enumerate(values, 1))]
    own: Row = [f"ImageQuality_Threshold{key}Otsu_DNA_2W", values[0]]
    return {"Image.csv": images, "Experiment.csv": experiment("1", "2", own)}


@pytest.mark.parametrize(("key", "of"), [("Mean", np.mean), ("Median", np.median), ("Std", np.std)])
def test_means_over_all_image_sets_are_made_anew(tree: Tree, key: str, of: object) -> None:
    assert callable(of)
    tree.add([1, 2], quality([0.1, 0.4], key))
    tree.add([3], quality([0.25], key))
    tree.merge()
    assert tree.read("Experiment.csv")[-1][1] == str(float(of([0.1, 0.4, 0.25])))


def test_means_without_an_image_table_are_refused(tree: Tree) -> None:
    tree.add([1], {"Experiment.csv": quality([0.1])["Experiment.csv"]})
    refused(Exit.SOME_FAILED, "ImageQuality_ThresholdMean needs the column", tree.merge)


def test_other_measures_over_all_image_sets_are_refused(tree: Tree) -> None:
    for number, score in ((1, 0.5), (2, 0.6)):
        tree.add([number], {"Experiment.csv": experiment("1", "2", ["Zfactor_N", score])})
    refused(Exit.SOME_FAILED, "Zfactor_N is measured over all image sets", tree.merge)
    assert tree.leftovers() == []


def test_one_name_with_one_content_is_fine(tree: Tree) -> None:
    tree.add([1], {"N.csv": objects()}, {"o.png": b"one"})
    tree.add([2], {"N.csv": objects()}, {"o.png": b"one"})
    assert tree.merge().fresh


def test_an_undone_chunk_stops_the_merge(tree: Tree) -> None:
    tree.add([1], {"N.csv": objects()})
    tree.add([2], {"N.csv": objects()})
    tree.workspace.chunk("c2").done.unlink()
    refused(Exit.STOPPED, "1 of 2 chunks are not done", tree.merge)
    assert not tree.workspace.analysis.exists()


def test_a_verdict_for_another_digest_does_not_count(tree: Tree) -> None:
    name = tree.add([1], {"N.csv": objects()})
    write_plan(tree.workspace, [Planned(name, "new", [1], [2])])
    refused(Exit.STOPPED, "1 of 1 chunks are not done", tree.merge)


def test_failed_image_sets_are_missing_and_the_others_keep_their_numbers(tree: Tree) -> None:
    tree.add([1, 2], {"N.csv": objects((1, 1, 5))}, failed=1)
    tree.add([3], {"N.csv": objects((1, 1, 6))})
    tree.merge()
    assert tree.read("N.csv")[1:] == [["1", "1", "5"], ["3", "1", "6"]]


def test_a_second_merge_does_nothing(tree: Tree) -> None:
    tree.add([1], {"N.csv": objects((1, 1, 5))})
    tree.merge()
    before = (tree.workspace.analysis / "N.csv").stat()
    assert not tree.merge().fresh
    assert (tree.workspace.analysis / "N.csv").stat() == before


@pytest.mark.parametrize("text", [None, "ImageNumber,ObjectNumber,Area\r\n1,1,6\r\n", "short"])
def test_a_table_that_is_gone_or_changed_is_made_again(tree: Tree, text: str | None) -> None:
    tree.add([1], {"N.csv": objects((1, 1, 5))})
    tree.merge()
    table = tree.workspace.analysis / "N.csv"
    good = table.read_bytes()
    table.unlink()
    if text is not None:
        table.write_text(text)
    assert tree.merge().fresh
    assert table.read_bytes() == good


def test_packed_tables_are_merged_too(tree: Tree) -> None:
    name = tree.add([1], {"N.csv": objects((1, 1, 5))})
    table = tree.workspace.chunk(name).tables(1) / "N.csv"
    table.with_name("N.csv.gz").write_bytes(gzip.compress(table.read_bytes()))
    table.unlink()
    tree.merge()
    assert tree.read("N.csv")[1:] == [["1", "1", "5"]]


def test_superseded_files_go_unless_somebody_changed_them(tree: Tree) -> None:
    tree.add([1], {"N.csv": objects()}, {"old.png": b"1", "mine.png": b"2", "same.png": b"3"})
    done = read_json(tree.workspace.chunk("c1").done)
    assert done is not None
    stale = {f["path"]: f["sha256"] for f in done["parts"][0]["files"]}
    (tree.workspace.analysis / "mine.png").write_bytes(b"changed by hand")
    (tree.workspace.analysis / "notes.txt").write_text("by hand")
    done["parts"][0]["files"] = [f for f in done["parts"][0]["files"] if f["path"] == "same.png"]
    write_json(tree.workspace.chunk("c1").done, done)
    write_json(tree.workspace.superseded, {**stale, "gone.png": "0"})
    assert tree.merge().removed == ["old.png"]
    left = {p.name for p in tree.workspace.analysis.iterdir()}
    assert left == {"N.csv", "mine.png", "same.png", "notes.txt"}
    assert not tree.workspace.superseded.exists()


@pytest.mark.parametrize("name", ["../../thesis", "/{}/thesis", "a/../../../thesis", "", ".", 7])
@pytest.mark.parametrize("which", ["superseded", "other_formats", "tables"])
def test_state_that_names_a_file_elsewhere_is_refused(
    tree: Tree, tmp_path: Path, name: object, which: str
) -> None:
    """It may come from a bucket that others write to."""
    thesis = tree.workspace.analysis.parents[1] / "thesis"
    thesis.parent.mkdir(parents=True, exist_ok=True)
    thesis.write_text("years")
    tree.add([1], {"N.csv": objects((1, 1, 5))})
    name = name.format(thesis.parent) if isinstance(name, str) else name
    known = {"sha256": sha256(thesis)}
    if which == "superseded":
        write_json(tree.workspace.superseded, {str(name): known["sha256"]})
    elif which == "other_formats":
        write_json(tree.workspace.merged, {"state": "x", "other_formats": [name]})
    else:
        write_json(tree.workspace.merged, {"state": "x", "tables": {str(name): known}})
    if name == 7 and which != "other_formats":
        tree.merge()
    else:
        said = f"{which}.json" if which == "superseded" else "json"
        refused(Exit.MALFORMED_INPUT, said, tree.merge)
    assert thesis.read_text() == "years"


def test_of_other_formats_only_such_files_go(tree: Tree) -> None:
    tree.add([1], {"N.csv": objects((1, 1, 5))})
    tree.workspace.analysis.mkdir(parents=True, exist_ok=True)
    for name in ("notes.txt", "N.parquet", "x.sqlite"):
        (tree.workspace.analysis / name).touch()
    names = ["notes.txt", "N.parquet", "x.sqlite"]
    write_json(tree.workspace.merged, {"state": "x", "other_formats": names})
    tree.merge()
    assert {p.name for p in tree.workspace.analysis.iterdir()} == {"N.csv", "notes.txt"}


def test_a_table_that_no_chunk_makes_any_more_goes(tree: Tree) -> None:
    tree.add([1], {"N.csv": objects(), "Old.csv": objects()})
    tree.merge()
    shutil.rmtree(tree.workspace.chunks)
    tree.planned.clear()
    tree.add([1, 2], {"N.csv": objects((1, 1, 5))})
    assert tree.merge().removed == ["Old.csv"]
    assert not (tree.workspace.analysis / "Old.csv").exists()


def test_many_chunks_at_once(tree: Tree) -> None:
    for number in range(1, 7):
        tree.add([number], {"N.csv": objects(*((1, k, number) for k in range(1, number)))})
    merged = tree.merge()
    assert merged.tables["N.csv"]["rows"] == 15
    assert [r[0] for r in tree.read("N.csv")[1:]] == [
        str(n) for n in range(1, 7) for _ in range(1, n)
    ]


def test_a_result_that_cannot_be_written_is_73(tree: Tree) -> None:
    tree.add([1], {"N.csv": objects()})
    tree.workspace.analysis.parent.mkdir(parents=True)
    tree.workspace.analysis.write_text("a file where a folder should be")
    refused(Exit.CANNOT_CREATE, "can't write", tree.merge)


@pytest.mark.parametrize("damage", ["cut", "empty", "empty archive", "no archive", "rows", "line"])
@pytest.mark.parametrize("value", [6, "six"])
def test_a_damaged_table_drops_its_chunk_only(tree: Tree, damage: str, value: object) -> None:
    # numbers are merged as lines, text as cells
    tree.add([1], {"N.csv": objects((1, 1, 5))})
    name = tree.add([2, 3], {"N.csv": objects((1, 1, 5), *((2, k, value) for k in range(1, 99)))})
    table = tree.workspace.chunk(name).tables(1) / "N.csv"
    text = table.read_bytes()
    packed = table.with_name("N.csv.gz")
    if damage == "empty":
        table.write_bytes(b"")
    elif damage == "rows":
        table.write_bytes(text[: text.index(b"\n", len(text) // 2) + 1])
    elif damage == "line":
        table.write_bytes(text.replace(b"\r\n2,50,", b"\r\n\r\n2,50,"))
    else:
        table.unlink()
        whole = gzip.compress(text)
        content = {"cut": whole[:-40], "empty archive": b"", "no archive": b"\0" * 99}
        packed.write_bytes(content[damage])
    error = refused(Exit.STOPPED, f"N.csv of chunk {name} is damaged", tree.merge)
    assert "that chunk runs anew" in error.todo
    assert not tree.workspace.chunk(name).done.exists()
    assert tree.workspace.chunk("c1").done.exists()
    assert not (tree.workspace.analysis / "N.csv").exists()
    assert tree.leftovers() == []


def test_after_a_damaged_table_only_its_chunk_runs_again(screen: Screen) -> None:
    screen.fill(4)
    screen.plan("-q", "--chunk-size", "2")
    screen.run()
    screen.ran()
    table = screen.workspace.chunk(screen.chunks()[1]).tables(1) / "Nuclei.csv"
    table.write_bytes(b"")
    refused(Exit.STOPPED, "damaged", screen.merge)
    assert screen.all("--chunk-size", "2").merged
    assert screen.ran() == [["f3.tif", "f4.tif"]]
    assert len(screen.table("Nuclei.csv")) == 1 + 2 + 3 + 4


def test_a_row_of_another_chunks_image_set_is_a_bug(tree: Tree) -> None:
    tree.add([1], {"N.csv": objects((1, 1, 5), (2, 1, 5))})
    refused(Exit.BUG, "a row of image set 2, which is not its own", tree.merge)


def test_what_one_process_would_have_written(screen: Screen) -> None:
    screen.fill(7)
    screen.all("--chunk-size", "100")
    one = {p.name: p.read_text() for p in screen.workspace.analysis.glob("[IN]*.csv")}
    screen.ran()
    # what is done stays, unless it is asked for anew
    assert screen.all("--chunk-size", "2").chunks == 1
    assert screen.ran() == []
    shutil.rmtree(screen.workspace.status)
    shutil.rmtree(screen.workspace.analysis)
    assert screen.all("--chunk-size", "2").chunks == 4
    many = {p.name: p.read_text() for p in screen.workspace.analysis.glob("[IN]*.csv")}
    assert many["Nuclei.csv"] == one["Nuclei.csv"]

    def without_times(text: str) -> list[dict[str, str]]:
        rows = list(csv.DictReader(text.splitlines()))
        return [{k: v for k, v in r.items() if not k.startswith("Execution")} for r in rows]

    assert without_times(many["Image.csv"]) == without_times(one["Image.csv"])


def test_verdicts_are_read_from_the_plan(screen: Screen) -> None:
    screen.fill(3)
    screen.all("--chunk-size", "1")
    plan = read_plan(screen.workspace)
    assert [s.numbers for s in merge.sources(screen.workspace, plan)] == [(1,), (2,), (3,)]
    assert all(verdict(screen.workspace, p) for p in plan)
