"""Draw a small synthetic screen into a workspace, and compare a result with its truth."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.screen import (
    CHANNELS,
    DOSES_UM,
    MAX_ROWS,
    MAX_SITES,
    Field,
    Settings,
    Truth,
    draw_field,
    fields_of,
    tiff_bytes,
)
from bpcp.workspace import Workspace

DATASET = TAG = "demo"
PLATE = "BPCP-DEMO"
IMAGE_FOLDER = Path("images", f"{PLATE}__2026-01-15T09_30_00-Measurement 1", "Images")
TOLERANCE = 0.05


class Key(NamedTuple):
    """The name of an image set: what truth.csv and Image.csv are joined by."""

    plate: str
    well: str
    site: int


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Encode a table as UTF-8 CSV, with the same line ends on every system."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue().encode()


TRUTH_COLUMNS = (
    "Plate",
    "Well",
    "Site",
    "Compound",
    "Dose_uM",
    "Nuclei",
    "Nuclei_Cut",
    "Mean_Nucleus_Area_px",
    "Mean_Cell_Area_px",
)


def truth_row(field: Field, truth: Truth) -> list[object]:
    """Give a field's row of truth.csv."""
    areas = (truth.mean_nucleus_area_px, truth.mean_cell_area_px)
    return [
        PLATE,
        field.well,
        field.site,
        field.compound,
        f"{field.dose_um:g}",
        truth.nuclei,
        truth.nuclei_cut,
        *("" if area is None else f"{area:.1f}" for area in areas),
    ]


def load_data_csv(fields: Sequence[Field], image_folder: Path) -> bytes:
    """Encode the image list that LoadData reads; `image_folder` is absolute."""
    columns = [f"{part}_{name}" for name in CHANNELS for part in ("FileName", "PathName")]
    columns += [f"Metadata_{name}" for name in ("Plate", "Well", "Site", "Compound", "Dose_uM")]
    rows = [
        [
            *(
                part
                for channel in range(1, len(CHANNELS) + 1)
                for part in (field.file_name(channel), str(image_folder))
            ),
            PLATE,
            field.well,
            field.site,
            field.compound,
            f"{field.dose_um:g}",
        ]
        for field in fields
    ]
    return csv_bytes(columns, rows)


@dataclass(frozen=True)
class Demo:
    """The files of a demo in its folder."""

    folder: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder, DATASET, TAG)

    @property
    def marker(self) -> Path:
        return self.folder / "demo.json"

    @property
    def images(self) -> Path:
        return self.folder / IMAGE_FOLDER

    @property
    def image_list(self) -> Path:
        return self.workspace.image_list

    @property
    def pipeline(self) -> Path:
        return self.folder / "pipelines" / f"{TAG}.cppipe"

    @property
    def truth(self) -> Path:
        return self.folder / "truth.csv"

    @property
    def result(self) -> Path:
        return self.workspace.analysis / "Image.csv"

    def run_command(self) -> str:
        """Give the command that analyses the demo, quoted for a shell."""
        script = Path(__file__).parent.parent / "run_analysis_pipeline.sh"
        is_here = script.parent == Path.cwd()
        start = "./" + script.name if is_here else shlex.quote(str(script))
        return f"{start} -d {DATASET} -p {shell_path(self.pipeline)}"

    def command(self, option: str = "") -> str:
        """Give the `bpcp demo` command for this folder, quoted for a shell."""
        return " ".join(filter(None, ["bpcp demo", option, shell_path(self.folder)]))


def shell_path(path: Path) -> str:
    """Quote a path for a shell, so that no program takes it for an option."""
    text = str(path)
    return shlex.quote("./" + text if text.startswith("-") else text)


def settings_in(marker: Path) -> Settings | None:
    """Read what a demo was drawn with; None where the file is not one of ours."""
    try:
        found = json.loads(marker.read_bytes())
        return Settings(**found["bpcp demo"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def write_if_changed(path: Path, data: bytes) -> None:
    """Write a file by renaming, and not at all where it holds these bytes already.

    A file that stays keeps its time, and a run that read it stays up to date.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_bytes() == data:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def claim(demo: Demo, settings: Settings) -> None:
    """Make the demo's folder, or make sure that it is this demo's.

    Raises
    ------
    BpcpError
        73 where the folder holds anything else, or a demo that was drawn otherwise.
    """
    try:
        str(demo.folder.absolute()).encode()
    except UnicodeEncodeError:
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"the folder's name is not UTF-8, which LoadData reads: {os.fsencode(demo.folder)!r}",
            "name another folder",
        ) from None
    demo.folder.mkdir(parents=True, exist_ok=True)
    found = settings_in(demo.marker)
    if found is None and any(demo.folder.iterdir()):
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"{demo.folder} holds other files, and no demo",
            "name a folder that is new or empty",
        )
    if found not in (None, settings):
        options = " ".join(f"--{name} {value}" for name, value in asdict(found).items())
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"{demo.folder} holds a demo drawn with {options}; its results belong to that one",
            f"name another folder, or: {demo.command(options)}",
        )
    marker = json.dumps({"bpcp demo": asdict(settings)}, indent=2) + "\n"
    write_if_changed(demo.marker, marker.encode())


def draw(demo: Demo, settings: Settings) -> list[Truth]:
    """Draw a demo into its folder; truth.csv comes last.

    Raises
    ------
    BpcpError
        73 where the folder cannot be used.
    """
    claim(demo, settings)
    fields = fields_of(settings)
    say(f"drawing {len(fields):,} image sets in {demo.folder}")
    truths: list[Truth] = []
    for field in fields:
        images, truth = draw_field(field, settings.seed)
        for channel, image in enumerate(images, start=1):
            write_if_changed(demo.images / field.file_name(channel), tiff_bytes(image))
        truths.append(truth)
    write_if_changed(demo.image_list, load_data_csv(fields, demo.images.absolute()))
    write_if_changed(demo.pipeline, Path(__file__).with_name("demo.cppipe").read_bytes())
    rows = map(truth_row, fields, truths)
    write_if_changed(demo.truth, csv_bytes(TRUTH_COLUMNS, rows))
    return truths


@dataclass(frozen=True)
class Comparison:
    """Nuclei drawn and counted, by dose in µM, and the image sets that do not match.

    Parameters
    ----------
    by_dose
        Drawn and counted nuclei of each dose, lowest dose first.
    missing
        Image sets that were drawn and have no count.
    unknown
        Image sets that have a count, or several, and were not drawn, or once only.
    """

    by_dose: Mapping[float, tuple[int, int]]
    missing: tuple[Key, ...] = ()
    unknown: tuple[Key, ...] = ()

    @property
    def drawn(self) -> int:
        return sum(drawn for drawn, _ in self.by_dose.values())

    @property
    def counted(self) -> int:
        return sum(counted for _, counted in self.by_dose.values())

    @property
    def is_good(self) -> bool:
        within = abs(self.counted - self.drawn) <= TOLERANCE * self.drawn
        return within and not self.missing and not self.unknown


def compare(
    truth: Mapping[Key, tuple[float, int]], counts: Sequence[tuple[Key, int | None]]
) -> Comparison:
    """Compare what was drawn with what was counted.

    Parameters
    ----------
    truth
        Dose in µM and drawn nuclei of each image set.
    counts
        Counted nuclei of each row of the result; None where the row says nothing.
    """
    times = Counter(key for key, _ in counts)
    counted = dict(counts)
    by_dose: dict[float, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for key, (dose_um, nuclei) in truth.items():
        drawn_so_far, counted_so_far = by_dose[dose_um]
        by_dose[dose_um] = (drawn_so_far + nuclei, counted_so_far + (counted.get(key) or 0))
    return Comparison(
        by_dose=dict(sorted(by_dose.items())),
        missing=tuple(key for key in truth if counted.get(key) is None),
        unknown=tuple(key for key in times if key not in truth or times[key] > 1),
    )


def difference_text(drawn: int, counted: int) -> str:
    """Spell how far a count is from the truth, in %."""
    if drawn == 0:
        return "+0.0 %" if counted == 0 else "none drawn"
    percent = 100 * (counted - drawn) / drawn
    # One nucleus of thousands is a difference, and must not read as none.
    return f"{percent:+.2f} %" if 0 < abs(percent) < 0.05 else f"{percent:+.1f} %"


def table_lines(comparison: Comparison) -> Iterator[str]:
    """Spell a comparison: a line for each dose and one for the whole plate."""
    yield f"{'dose_uM':>8} {'drawn':>7} {'counted':>8} {'difference':>11}"
    for dose_um, (drawn, counted) in comparison.by_dose.items():
        yield f"{dose_um:>8g} {drawn:>7,} {counted:>8,} {difference_text(drawn, counted):>11}"
    drawn, counted = comparison.drawn, comparison.counted
    difference = difference_text(drawn, counted)
    yield f"nuclei: {drawn:,} drawn, {counted:,} counted ({difference})"


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Read some columns of a CSV file.

    Yields
    ------
    row, values
        The row's number (the header is 1) and its values in the order of `columns`.

    Raises
    ------
    BpcpError
        65 where a column is missing, a row is short, or the file is not UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            absent = [column for column in columns if column not in (reader.fieldnames or ())]
            if absent:
                raise BpcpError(Exit.MALFORMED_INPUT, f"{path}: no column {', '.join(absent)}")
            for number, row in enumerate(reader, start=2):
                values: list[str | None] = [row[column] for column in columns]
                if None in values:
                    raise BpcpError(Exit.MALFORMED_INPUT, f"{path}, row {number}: it is cut short")
                yield number, [value for value in values if value is not None]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BpcpError(Exit.MALFORMED_INPUT, f"{path}: {error}") from error


def whole_number(path: Path, row: int, column: str, text: str) -> int:
    """Read a whole number, also one spelled "3.0", as CellProfiler does in a column of floats."""
    try:
        value = float(text)
        if value != int(value):
            raise ValueError
    except (ValueError, OverflowError):
        raise BpcpError(
            Exit.MALFORMED_INPUT, f"{path}, row {row}, {column}: not a whole number: {text!r}"
        ) from None
    return int(value)


def read_truth(path: Path) -> dict[Key, tuple[float, int]]:
    """Read the dose in µM and the drawn nuclei of each image set from truth.csv."""
    truth: dict[Key, tuple[float, int]] = {}
    for row, (plate, well, site, dose, nuclei) in read_table(
        path, ("Plate", "Well", "Site", "Dose_uM", "Nuclei")
    ):
        try:
            dose_um = float(dose)
        except ValueError:
            raise BpcpError(
                Exit.MALFORMED_INPUT, f"{path}, row {row}, Dose_uM: not a number: {dose!r}"
            ) from None
        key = Key(plate, well, whole_number(path, row, "Site", site))
        truth[key] = (dose_um, whole_number(path, row, "Nuclei", nuclei))
    return truth


def read_counts(path: Path) -> list[tuple[Key, int | None]]:
    """Read the nuclei of each row of Image.csv; None where CellProfiler wrote no number."""
    counts: list[tuple[Key, int | None]] = []
    for row, (plate, well, site, nuclei) in read_table(
        path, ("Metadata_Plate", "Metadata_Well", "Metadata_Site", "Count_Nuclei")
    ):
        key = Key(plate, well, whole_number(path, row, "Metadata_Site", site))
        is_blank = nuclei.strip().lower() in ("", "nan")
        counts.append((key, None if is_blank else whole_number(path, row, "Count_Nuclei", nuclei)))
    return counts


def check(demo: Demo) -> Comparison:
    """Compare a demo's result with what was drawn.

    Raises
    ------
    BpcpError
        66 where the demo or its result is missing, 65 where a table is malformed.
    """
    if not demo.truth.is_file():
        raise BpcpError(Exit.NO_INPUT, f"no demo: {demo.truth} is missing", demo.command())
    if not demo.result.is_file():
        raise BpcpError(Exit.NO_INPUT, f"no result: {demo.result} is missing", demo.run_command())
    return compare(read_truth(demo.truth), read_counts(demo.result))


def say(line: str) -> None:
    """Print a line for people."""
    print(line, file=sys.stderr)


def names_of(keys: Sequence[Key], at_most: int = 5) -> str:
    """Name the first image sets of many."""
    names = [f"{key.plate} {key.well} site {key.site}" for key in keys[:at_most]]
    if len(keys) > at_most:
        names.append(f"and {len(keys) - at_most} more")
    return ", ".join(names)


def parse(arguments: Sequence[str]) -> tuple[Demo, Settings | None]:
    """Read the command line; no settings mean --check.

    Raises
    ------
    BpcpError
        64 where the command line is wrong.
    """
    parser = Parser("demo")
    parser.add_argument("--wells", type=int)
    parser.add_argument("--sites", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("folder", metavar="DIR")
    options = parser.parse_args(arguments)
    if not options.folder:
        parser.error("DIR is empty")
    demo = Demo(Path(options.folder))
    limits = {
        "wells": (1, MAX_ROWS * len(DOSES_UM)),
        "sites": (1, MAX_SITES),
        "seed": (0, 2**63 - 1),
    }
    given = {name: getattr(options, name) for name in limits if getattr(options, name) is not None}
    if options.check:
        if given:
            parser.error(f"--check draws nothing and takes no {', '.join(f'--{n}' for n in given)}")
        return demo, None
    for name, value in given.items():
        low, high = limits[name]
        if not low <= value <= high:
            parser.error(f"--{name} {value}: must be {low} to {high}")
    return demo, Settings(**given)


def main(arguments: Sequence[str]) -> int:
    """Draw a demo, or check the result of one; give the exit code."""
    demo, settings = parse(arguments)
    if settings is None:
        comparison = check(demo)
        for line in table_lines(comparison):
            print(line)
        if comparison.missing:
            say(
                f"{len(comparison.missing)} image sets without a count: "
                f"{names_of(comparison.missing)}"
            )
        if comparison.unknown:
            say(
                f"{len(comparison.unknown)} image sets not drawn, or counted more than once: "
                f"{names_of(comparison.unknown)}"
            )
        return Exit.OK if comparison.is_good else Exit.SOME_FAILED
    try:
        truths = draw(demo, settings)
    except PermissionError:
        raise
    except OSError as error:
        raise BpcpError(
            Exit.CANNOT_CREATE,
            f"cannot write {error.filename or demo.folder}: {error.strerror}",
            "name a folder that is new or empty, on a disk with room",
        ) from error
    nuclei = sum(truth.nuclei for truth in truths)
    empty = sum(truth.nuclei + truth.nuclei_cut == 0 for truth in truths)
    say(f"drew {len(truths):,} image sets with {nuclei:,} nuclei ({empty} without any cell)")
    # make goes on by itself
    if "MAKELEVEL" not in os.environ:
        say("next:")
        print(demo.run_command())
        say(f"and then: {demo.command('--check')}")
    return Exit.OK


if __name__ == "__main__":
    run_main("demo", main)
