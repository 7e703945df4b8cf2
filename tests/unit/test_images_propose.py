"""Names that no preset fits: what is proposed for them, and how it reads them."""

from __future__ import annotations

import itertools
import random
import re
import shlex
import subprocess
import uuid
from collections.abc import Callable, Iterable, Sequence

import pytest
from conftest import HOSTILE

from bpcp.images import propose as proposing
from bpcp.images.presets import PRESETS, Placer
from bpcp.images.propose import Proposal, attempt, propose, quoted
from bpcp.images.record import Image
from bpcp.images.store import Store

ROOT = "/data/screen"
WELLS = ("A01", "A10", "B02", "H12")
SHORT = ("A1", "A10", "B2", "H12")
product = itertools.product


def drawn(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


def asked(root: str = ROOT, plate: str = "") -> Placer:
    return Placer(PRESETS["phenix"], root, plate)


def files(paths: Iterable[str], root: str = ROOT) -> list[tuple[str, str]]:
    return [tuple(f"{root}/{path}".rsplit("/", 1)) for path in paths]  # type: ignore[misc]


def read(paths: Sequence[str], root: str = ROOT) -> tuple[Proposal, list[Image]]:
    """Propose for names, and read them by that."""
    found = propose(files(paths, root), asked(root))
    assert found is not None
    images = [found.placer(asked(root)).place(*file) for file in files(paths, root)]
    assert all(images)
    return found, [image for image in images if image is not None]


def brief(image: Image) -> str:
    return "|".join([image.plate, image.well, image.site, image.channel, image.z, image.t])


# Names as public projects quote them; the last of each, and what it is read as.
STYLES = [
    # Micro-Manager's folder for each position is a well here
    (
        [
            f"{w}/img_channel{c:03}_position{p:03}_time{t:09}_z{z:03}.tif"
            for w, c, p, t, z in product(WELLS, (0, 1), (0, 8), (0, 1), (0, 1))
        ],
        "screen|H12|8|001|1|1",
    ),
    (
        [
            f"img_channel{c:03}_position{p:03}_time{t:09}_z000.tif"
            for c, p, t in product(*[(0, 1)] * 3)
        ],
        "screen||1|001||1",
    ),
    # Keyence: a README on stitching; one prefix for each folder
    (
        [
            f"XY0{x}/Image_XY0{x}_{i:05}_{c}.tif"
            for x, i, c in product((1, 2), (1, 2), ("CH4", "Overlay"))
        ],
        "screen|XY02|2|Overlay||",
    ),
    (
        [
            f"XY0{x}/{before}Image_XY0{x}_{i:05}_CH4.tif"
            for (x, before), i in product(((1, ""), (2, "H2_"), (3, "Sample1_")), (1, 2))
        ],
        "screen|XY03|2|CH4||",
    ),
    # Keyence: CellBaum's configuration
    (
        [
            f"10x_T{t:04}_XY0{x}_{i:05}_Z00{z}_CH{c}.tif"
            for t, x, i, z, c in product((1, 2), (1, 2), (1, 2), (1, 2), (2, 3))
        ],
        "screen|XY02|2|CH3|2|2",
    ),
    # IncuCyte: readers of its exports, by time since the start and by date
    (
        [
            f"R2_MDF_{c}_{w}_{s}_{t}.tif"
            for c, w, s, t in product(("green", "phase"), SHORT, (1, 2), ("00d00h00m", "00d03h00m"))
        ],
        "screen|H12|2|phase||00d03h00m",
    ),
    (
        [
            f"VID558_{w}_{s}_{t}.tif"
            for w, s, t in product(SHORT, (1, 2), ("00d00h00m", "00d03h00m"))
        ],
        "screen|H12|2|||00d03h00m",
    ),
    (
        [
            f"XXXX_{w}_{s}_{t}.tif"
            for w, s, t in product(SHORT, (1, 2), ("2019y12m27d_13h00m", "2019y12m28d_01h00m"))
        ],
        "screen|H12|2|||2019y12m28d_01h00m",
    ),
    (
        [f"{c}/{w}_{s}_00d00h00m.tif" for c, w, s in product(("green", "phase"), SHORT, (1, 2))],
        "screen|H12|2|phase||",
    ),
    # IncuCyte's own folders: Leiden-Cell-Observatory/OMERO_scripts
    (
        [
            f"2505/16/1124/1248/{w}-{s}-{c}.tif"
            for w, s, c in product(SHORT, (1, 2), ("C1", "C2", "Ph"))
        ],
        "1248|H12|2|Ph||",
    ),
    # ScanR: shinyHTM; channels with and without a hyphen
    (
        [
            f"{w}--W{i:05}--P{p:05}--Z00000--T00000--{c}.tif"
            for (i, w), p, c in product(
                enumerate(SHORT), (1, 2), ("488nm", "561nm", "Transmission-CSU")
            )
        ],
        "screen|H12|2|Transmission-CSU||",
    ),
    # Cytation: a converter's README
    (
        [
            f"{w}_{f}Z{z}_{c}_1_001_.tif"
            for w, f, z, c in product(SHORT, (1, 2), (0, 4), ("DAPI", "Bright Field"))
        ],
        "screen|H12|2|Bright Field|4|",
    ),
    # Nikon: a number that counts all files places none
    (
        [
            f"Well{w}_Channel{c}_Seq{i:04}.tif"
            for i, (w, c) in enumerate(product(WELLS, ("DAPI", "GFP")))
        ],
        "screen|H12||GFP||",
    ),
    # Zeiss
    (
        [
            f"{w}/plate1_S{s:05}_T{t:05}_C{c:05}.tiff"
            for w, s, t, c in product(("E01", "E02", "F01"), (1, 2), (1, 9), (1, 2))
        ],
        "plate1|F01|2|C00002||9",
    ),
    # Acquifer: Luxendo/acquifer-Fiji-examples-archive; positions and a clock differ in each file
    (
        [
            f"-{w}--PO01--LO00{s}--CO{c}--SL001--PX32500--X0{23590 + s}--T{n:010}--WE{k:05}.tif"
            for n, (((k, w), s), c) in enumerate(
                product(product(enumerate(("A002", "A003", "B002")), (1, 2)), (4, 6))
            )
        ],
        "screen|B02|2|CO6||",
    ),
    # BBBC005: cells and blur go with the well
    (
        [
            f"SIMCEPImages_{w}_C{1 + 4 * i}_F{1 + i % 3}_s{s:02}_w{c}.TIF"
            for (i, w), s, c in product(enumerate(WELLS), range(1, 6), (1, 2))
        ],
        "screen|H12|5|w2||",
    ),
    # CellProfiler's ExampleSBSImages, BBBC013: row and column apart
    (
        [
            f"Channel{c}-{i + 1:02}-{w[0]}-{w[1:]}.tif"
            for c, (i, w) in product((1, 2), enumerate(("A01", "A02", "B01", "D12")))
        ],
        "screen|D12||2||",
    ),
    # BBBC020: no wells, a folder for each field
    (
        [
            f"jw-{t} {i}/jw-{t} {i}_c{c}.TIF"
            for t, i, c in product(("1h", "30min"), (1, 2, 3), (1, 5))
        ],
        "jw-30min 3|||c5||",
    ),
    # MetaMorph
    (
        [
            f"clone3-1_+BlueLight_w{c}_s{s}_t{t}.TIF"
            for c, s, t in product((1488, 2561), (1, 2), (1, 2))
        ],
        "screen||2|w2561||2",
    ),
    # a course's data: gene, field, stain; one stain is not in words.json
    (
        [
            f"{g}_field{f}_{c}.tif"
            for g, f, c in product(
                ("APEX1", "PIM2", "POLR2B"), (0, 1), ("DAPI", "PCNA", "nascentRNA")
            )
        ],
        "screen|POLR2B|1|nascentRNA||",
    ),
    # by hand
    (
        [
            f"{t}_{r}_{f}_{c}.tif"
            for t, r, f, c in product(
                ("DMSO", "TNF-alpha", "TNF_beta"), (1, 2, 3), (1, 2), ("DAPI", "GFP")
            )
        ],
        "screen|TNF_beta_3|2|GFP||",
    ),
    (
        [
            f"{t}_rep{r}_field{f}_{c}.tif"
            for t, r, f, c in product(("DMSO", "TNF-alpha"), (1, 2, 3), (1, 2), ("DAPI", "GFP"))
        ],
        "screen|TNF-alpha_rep3|2|GFP||",
    ),
    (
        [
            f"Zellen in Öl, {t} {i}/Färbung {c}.tif"
            for t, i, c in product(("Kontrolle", "Wirkstoff"), (1, 2), ("blau", "grün"))
        ],
        "Zellen in Öl, Wirkstoff 2|||grün||",
    ),
    ([f"slide{s}/img{i:03}.jpg" for s, i in product((1, 2), range(5))], "slide2||4|||"),
]


@pytest.mark.parametrize(("paths", "last"), STYLES, ids=[paths[-1] for paths, _ in STYLES])
def test_names_of_public_data_are_read(paths: list[str], last: str) -> None:
    _, images = read(paths)
    assert brief(images[-1]) == last
    assert len({brief(image) for image in images}) == len(paths)


def test_what_is_proposed_says_where_each_part_is() -> None:
    found, _ = read([f"P1_{w} s{s} {c}.tif" for w, s, c in product(WELLS, (1, 2), ("DAPI", "GFP"))])
    assert found.regex == (
        r"(?P<plate>P\d+)_(?P<well>[A-P]\d+) s(?P<site>\d+) (?P<channel>[^/.]+)\.tif$"
    )
    assert found.plate == ""


@pytest.mark.parametrize(
    "paths",
    [
        [f"{uuid.UUID(int=drawn(i).getrandbits(128))}.tif" for i in range(40)],
        [f"{drawn(i).getrandbits(64):016x}.png" for i in range(40)],
        # one well, one site, one channel, two files
        ["a/P_A01_s1_w1.tif", "a/P_A01_s1_w1.tiff"],
        ["Übersicht.tif", "neu.tif", "letzter Versuch.tif"],
    ],
)
def test_nothing_is_proposed_where_nothing_is_consistent(paths: list[str]) -> None:
    assert propose(files(paths), asked()) is None


def test_image_sets_have_to_be_complete() -> None:
    names = [f"x {w} s{s} {c}.tif" for w, s, c in product(WELLS, range(1, 6), ("red", "green"))]
    assert propose(files(names), asked()) is not None
    # half of the sites lack a channel: then these are no channels
    few = [name for name in names if not re.search(r"s[135] red", name)]
    found = propose(files(few), asked())
    assert found is None or "(?P<channel>" not in found.regex


@pytest.mark.parametrize(
    "word", [HOSTILE, "a\nb", "\x1b[31m", "(x) [y] {z} ^$ \\", "ü\u0308 \u202e"]
)
def test_names_that_a_shell_or_a_terminal_could_stumble_over(word: str) -> None:
    paths = [f"{word}/{word} {w}_{c}.tif" for w, c in product(WELLS, ("DAPI", "GFP"))]
    found, images = read(paths, f"/data/{word}")
    assert {image.well for image in images} == set(WELLS)
    assert found.options.isprintable()
    if word.isprintable():
        assert shlex.split(found.options)[:2] == ["--regex", found.regex]


def test_words_are_quoted_for_bash() -> None:
    words = [HOSTILE, "a\nb", "it's \x1b[31m \\ ü", "", "x"]
    text = quoted(words)
    assert text.isprintable()
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {text}"],
        capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.stdout.decode().split("\0")[:-1] == words


# --- what is known of all files ------------------------------------------------------------------


def test_what_differs_is_told_where_nothing_can_be_proposed() -> None:
    with Store() as store:
        store.add_files(files([f"exp {uuid.UUID(int=i << 100)}.tif" for i in range(20)]))
        tried = attempt(store, asked())
        assert tried.proposal is None
        assert tried.varying[0][0] == 20
        assert len(tried.varying[0][1]) == 3
        assert store.count_images() == 0


def test_all_files_are_read_not_only_those_that_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proposing, "_LEARN", 100)
    names = [f"x {w} s{s} {c}.tif" for w, s, c in product(WELLS, range(50), ("DAPI", "GFP"))]
    with Store() as store:
        store.add_files(files(names))
        tried = attempt(store, asked())
        assert tried.proposal is not None
        assert store.count_images() == len(names)
    with Store() as store:
        # of one form with the others, and not looked at
        store.add_files(files([*names, "x H12 sX DAPI.tif"]))
        assert attempt(store, asked()).proposal is None
        assert store.count_images() == 0


def test_a_few_names_of_another_form_are_left_out() -> None:
    names = [f"x {w} s{s} {c}.tif" for w, s, c in product(WELLS, (1, 2), ("DAPI", "GFP"))]
    with Store() as store:
        store.add_files(files([*names, "overview.tif"]))
        tried = attempt(store, asked())
        assert tried.proposal is not None
        assert tried.unread is not None
        assert (tried.unread.count, tried.unread.example) == (1, f"{ROOT}/overview.tif")
    with Store() as store:
        store.add_files(files([*names, "overview.tif", "x 2.tif"]))
        assert attempt(store, asked()).proposal is None


# --- names of any form ---------------------------------------------------------------------------


def template(rng: random.Random) -> list[tuple[str, tuple[str, ...]]]:
    """Names of a form that is drawn, each with plate, well, site, channel, z and t; "" for none."""
    Written = Callable[[int], str]
    none: list[Written | None] = [None]
    separator = rng.choice(["_", "-", " ", "--"])
    plates = rng.choice([[""], ["P1", "P2"], ["plate 7", "plate 12"], ["BR117", "BR118", "BR120"]])
    in_folder = rng.random() < 0.5
    well: Callable[[str, int], str] = rng.choice(
        [
            lambda r, c: f"{r}{c:02}",
            lambda r, c: f"{r}{c}",
            lambda r, c: f"{r.lower()}{c:02}",
            lambda r, c: f"{r}-{c:02}",
            lambda r, c: f"r{ord(r) - 64:02}c{c:02}",
            lambda r, c: f"Well{r}{c:02}",
            lambda r, c: f"well_{r}{c:02}",
        ]
    )
    site: Written | None = rng.choice(
        [
            *none,
            str,
            lambda n: f"s{n}",
            lambda n: f"f{n:02}",
            lambda n: f"F{n:03}",
            lambda n: f"site{n}",
            lambda n: f"field_{n}",
            lambda n: f"xy{n:02}",
        ]
    )
    channels = rng.choice(
        [
            [""],
            ["w1", "w2", "w3"],
            ["ch1", "ch2"],
            ["C01", "C02"],
            ["DAPI", "GFP", "Cy5"],
            ["d0", "d1"],
        ]
    )
    plane: Written | None = rng.choice([*none, *none, lambda n: f"z{n:02}", lambda n: f"Z{n}"])
    time: Written | None = rng.choice(
        [*none, *none, lambda n: f"t{n:03}", lambda n: f"T{n}", lambda n: f"{n:02}d06h00m"]
    )
    order = ["well", "channel", "z", "t"]
    rng.shuffle(order)
    # a number without a word is a site where it is next to its well
    order.insert(order.index("well") + 1 if site is str else rng.randrange(5), "site")
    before = rng.choice(["", "img", "Screen 3", "2024-05-03"]) if in_folder else ""
    found = []
    for p, (r, c), s, ch, z, t in product(
        plates,
        product(rng.choice(["ABC", "BH", "AP"]), rng.choice([(1, 2, 10), (3, 4), (1, 12, 24)])),
        (1, 2, 10) if site else (0,),
        channels,
        (1, 2) if plane else (0,),
        (1, 11) if time else (0,),
    ):
        parts = {
            "well": well(r, c),
            "site": site(s) if site else "",
            "channel": ch,
            "z": plane(z) if plane else "",
            "t": time(t) if time else "",
        }
        words = [before, "" if in_folder else p, *(parts[one] for one in order)]
        name = separator.join(filter(None, words)) + ".tif"
        at = parts["t"] if "d06h" in parts["t"] else str(t or "")
        place = (p, f"{r}{c:02}", str(s or ""), ch, str(z or ""), at)
        found.append((f"{p}/{name}" if in_folder and p else name, place))
    rng.shuffle(found)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_names_of_any_form_are_read_back_into_their_places(seed: int) -> None:
    wanted = template(drawn(seed))
    _, images = read([path for path, _ in wanted])
    for image, (path, place) in zip(images, wanted, strict=True):
        plate = place[0] or image.plate
        assert tuple(brief(image).split("|")) == (plate, *place[1:]), path


def test_a_few_missing_files_do_not_matter() -> None:
    wanted = template(drawn(1))
    paths = [path for path, _ in wanted]
    assert read(paths[3:])[0].regex == read(paths)[0].regex
