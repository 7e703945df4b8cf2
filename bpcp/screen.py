"""Draw the images of a synthetic screen whose truth is known.

They only have to be real where it matters to a run of CellProfiler: 16 bit, two channels, uneven
light, camera offset, shot and read noise, nuclei that touch or are cut by the edge of the field, a
dose response, and one field without a cell. All lengths are in pixels and all intensities in
camera counts unless a name says otherwise.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import tifffile

Image = npt.NDArray[np.float64]

CHANNELS = ("DNA", "Cyto")
COMPOUND = "Demostatin"
DOSES_UM = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MAX_ROWS = 16
MAX_SITES = 36

SIDE_PX = 384
# Beyond the field on each side: FFT filters wrap, and what wraps must be cropped away.
MARGIN_PX = 32
CANVAS_PX = SIDE_PX + 2 * MARGIN_PX
# A pixel of 0.6 µm. As a fraction, since releases of tifffile spell a decimal differently.
PIXELS_PER_CM = (50_000, 3)

CELLS_WITHOUT_DRUG = 32.0
CELLS_AT_FULL_EFFECT = 6.0
EC50_UM = 1.0
HILL_SLOPE = 1.3
# A nucleus is wholly inside or clearly cut: one that just grazes the edge would be inside
# for the truth and outside for the pipeline, or the other way round.
INSIDE_BY_PX = 4.0
CUT_BY_PX = 3.0
GAP_PX = 4.0
# Enough that a shape-based declumping is put to the test, as a real plate does.
SISTERS_OVERLAP_PX = 3.5
TOUCHING_SHARE = 0.18

CAMERA_OFFSET = 110.0
BACKGROUND = (190.0, 260.0)
ELECTRONS_PER_COUNT = 0.5
READ_NOISE = 4.0


@dataclass(frozen=True)
class Settings:
    """What decides every byte of a demo.

    Parameters
    ----------
    wells
        Wells of the plate, 1 to 128, filled row by row.
    sites
        Fields of view in each well, 1 to 36.
    seed
        0 or more.
    """

    wells: int = 3 * len(DOSES_UM)
    sites: int = 4
    seed: int = 1


@dataclass(frozen=True)
class Field:
    """One field of view; row, column and site are 1-based."""

    row: int
    column: int
    site: int
    is_empty: bool = False

    @property
    def well(self) -> str:
        return f"{chr(ord('A') + self.row - 1)}{self.column:02d}"

    @property
    def dose_um(self) -> float:
        return DOSES_UM[self.column - 1]

    @property
    def compound(self) -> str:
        return COMPOUND if self.dose_um > 0 else "DMSO"

    def file_name(self, channel: int) -> str:
        """Name the image of a 1-based channel as an Opera Phenix does."""
        return f"r{self.row:02d}c{self.column:02d}f{self.site:02d}p01-ch{channel}sk1fk1fl1.tiff"


@dataclass(frozen=True)
class Cell:
    """One cell: an ellipse for its nucleus and a larger, lobed one for its body.

    Parameters
    ----------
    y, x
        Centre of the nucleus in the field; 0 is the middle of the first pixel.
    major, minor
        Semi-axes of the nucleus.
    angle
        Of the major axis, in radians from x.
    dna, cyto
        Peak counts of the nucleus and of the body.
    spread
        Radius of the body over that of the nucleus.
    """

    y: float
    x: float
    major: float
    minor: float
    angle: float
    dna: float
    cyto: float
    spread: float

    def radius_towards(self, angle: float) -> float:
        """Give the nucleus's radius in a direction (radians from x)."""
        turned = angle - self.angle
        return (
            self.major
            * self.minor
            / math.hypot(self.minor * math.cos(turned), self.major * math.sin(turned))
        )

    def overhang(self) -> float:
        """Give how far the nucleus reaches beyond the field's edge; negative where inside."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        half_width = math.hypot(self.major * cos, self.minor * sin)
        half_height = math.hypot(self.major * sin, self.minor * cos)
        last = SIDE_PX - 1
        return max(
            half_width - self.x,
            self.x + half_width - last,
            half_height - self.y,
            self.y + half_height - last,
        )

    @property
    def is_cut(self) -> bool:
        return self.overhang() > 0

    def is_clear_of_edge(self) -> bool:
        """Say whether no reader could doubt that the nucleus is inside, or that it is cut."""
        overhang = self.overhang()
        return overhang < -INSIDE_BY_PX or CUT_BY_PX < overhang < 2 * self.minor

    def gap_to(self, other: Cell) -> float:
        """Give the free length between two nuclei on the line between their centres."""
        angle = math.atan2(other.y - self.y, other.x - self.x)
        return float(
            math.hypot(other.y - self.y, other.x - self.x)
            - self.radius_towards(angle)
            - other.radius_towards(angle)
        )


@dataclass(frozen=True)
class Truth:
    """What was drawn in a field; means over its nuclei that are not cut, None where none is."""

    nuclei: int
    nuclei_cut: int
    mean_nucleus_area_px: float | None
    mean_cell_area_px: float | None


def fields_of(settings: Settings) -> list[Field]:
    """List the fields of a plate, well by well, in the order of load_data.csv.

    The last field of the highest dose is the empty one, unless it is the only field.
    """
    places = [
        (index // len(DOSES_UM) + 1, index % len(DOSES_UM) + 1, site)
        for index in range(settings.wells)
        for site in range(1, settings.sites + 1)
    ]
    emptied = max(places, key=lambda place: (place[1], place)) if len(places) > 1 else None
    return [Field(*place, is_empty=place == emptied) for place in places]


def drug_effect(dose_um: float) -> float:
    """Give the effect of a dose, 0 to 1, by the Hill equation."""
    if dose_um <= 0:
        return 0.0
    return 1 / (1 + math.pow(EC50_UM / dose_um, HILL_SLOPE))


def grow_cell(rng: np.random.Generator, effect: float) -> Cell:
    """Draw a cell's shape and brightness; its place is not decided yet (0, 0).

    The drug makes nuclei smaller and brighter and bodies shrink around them.
    """
    radius = 11.5 * (1 - 0.2 * effect) * math.exp(rng.normal(0, 0.09))
    stretch = math.sqrt(rng.uniform(1.05, 1.55))
    return Cell(
        y=0.0,
        x=0.0,
        major=radius * stretch,
        minor=radius / stretch,
        angle=rng.uniform(0, math.pi),
        dna=2600 * (1 + 0.7 * effect) * math.exp(rng.normal(0, 0.2)),
        cyto=2100 * (1 - 0.25 * effect) * math.exp(rng.normal(0, 0.22)),
        spread=(2.5 - 0.75 * effect) * math.exp(rng.normal(0, 0.08)),
    )


def moved(cell: Cell, y: float, x: float) -> Cell:
    """Give the same cell at another place."""
    return replace(cell, y=y, x=x)


def place_cells(rng: np.random.Generator, effect: float) -> list[Cell]:
    """Scatter cells over a field and around its edge.

    Parameters
    ----------
    rng
        Decides everything.
    effect
        Of the drug, 0 to 1.

    Returns
    -------
    list of Cell
        Nuclei keep 4 px from one another, but for sisters, which touch or overlap by 3.5 px
        at most; two or more are not cut.
    """
    expected = CELLS_WITHOUT_DRUG + (CELLS_AT_FULL_EFFECT - CELLS_WITHOUT_DRUG) * effect
    wanted = max(2, int(rng.poisson(expected)))
    cells: list[Cell] = []
    # A crowded field ends short of what was wanted rather than never.
    for _ in range(200 * wanted):
        if sum(not cell.is_cut for cell in cells) >= wanted:
            break
        cell = grow_cell(rng, effect)
        sister = None
        if cells and rng.random() < TOUCHING_SHARE:
            sister = cells[int(rng.integers(len(cells)))]
            angle = rng.uniform(0, 2 * math.pi)
            distance = sister.radius_towards(angle) + cell.radius_towards(angle)
            distance += rng.uniform(-SISTERS_OVERLAP_PX, 1.0)
            cell = moved(
                cell, sister.y + distance * math.sin(angle), sister.x + distance * math.cos(angle)
            )
        else:
            cell = moved(cell, *rng.uniform(-10, SIDE_PX + 10, 2))
        others = (other for other in cells if other is not sister)
        if cell.is_clear_of_edge() and all(cell.gap_to(other) >= GAP_PX for other in others):
            cells.append(cell)
    return cells


@lru_cache(maxsize=16)
def blur_kernel(sigma_y: float, sigma_x: float, angle: float = 0.0) -> Image:
    """Give the transfer function of a Gaussian blur whose axes are turned by an angle."""
    fy, fx = np.fft.fftfreq(CANVAS_PX)[:, None], np.fft.rfftfreq(CANVAS_PX)[None, :]
    along = fx * math.cos(angle) + fy * math.sin(angle)
    across = fy * math.cos(angle) - fx * math.sin(angle)
    kernel: Image = np.exp(-2 * (np.pi**2) * ((sigma_x * along) ** 2 + (sigma_y * across) ** 2))
    return kernel


def hazy_lens(sharp_px: float, haze_px: float, haze: float) -> Image:
    """Give the transfer function of a lens that spreads a share of the light, `haze`, widely."""
    lens: Image = blur_kernel(sharp_px, sharp_px) * (1 + haze * blur_kernel(haze_px, haze_px))
    return lens


def filtered(image: Image, kernel: Image) -> Image:
    """Filter an image of the canvas's shape; its edges wrap."""
    return np.fft.irfft2(np.fft.rfft2(image) * kernel, s=image.shape)


def texture(rng: np.random.Generator, kernel: Image) -> Image:
    """Draw smooth noise of the canvas's shape with mean 0 and standard deviation 1."""
    noise = filtered(rng.standard_normal((CANVAS_PX, CANVAS_PX)), kernel)
    normal: Image = (noise - noise.mean()) / noise.std()
    return normal


def wobble(rng: np.random.Generator, theta: Image, depth: float) -> Image:
    """Give the outline's relative radius, about 1, in each direction of `theta` (radians)."""
    outline = np.ones_like(theta)
    for lobes in (2, 3, 4, 5):
        outline += depth / lobes * rng.normal() * np.cos(lobes * theta + rng.uniform(0, 2 * np.pi))
    return np.clip(outline, 1 - 2 * depth, 1 + 2 * depth)


def paint(cells: Sequence[Cell], rng: np.random.Generator) -> tuple[Image, Image, Truth]:
    """Paint the cells as an ideal camera would see them.

    Parameters
    ----------
    cells
        In any order; may be none.
    rng
        Decides outlines and textures.

    Returns
    -------
    dna, cyto : (384, 384) arrays
        Counts above the background, in even light.
    truth : Truth
        What is in them.
    """
    shape = (CANVAS_PX, CANVAS_PX)
    dna: Image = np.zeros(shape)
    cyto: Image = np.zeros(shape)
    owner = np.full(shape, -1)
    nearest = np.ones(shape)
    nucleus_areas: list[int] = []
    chromatin = texture(rng, blur_kernel(1.6, 1.6))
    fibre = texture(rng, blur_kernel(0.9, 7.0, 0.3))
    fibres = (fibre, fibre.T, fibre[::-1], fibre.T[::-1])
    patches = texture(rng, blur_kernel(4.0, 4.0))
    bodies: list[tuple[tuple[slice, slice], Image]] = []

    for index, cell in enumerate(cells):
        reach = math.ceil(1.3 * cell.spread * cell.major) + 2
        centre_y, centre_x = cell.y + MARGIN_PX, cell.x + MARGIN_PX
        window = (
            slice(max(0, int(centre_y) - reach), min(CANVAS_PX, int(centre_y) + reach + 1)),
            slice(max(0, int(centre_x) - reach), min(CANVAS_PX, int(centre_x) + reach + 1)),
        )
        y, x = np.mgrid[window]
        y, x = y - centre_y, x - centre_x
        along = (x * math.cos(cell.angle) + y * math.sin(cell.angle)) / cell.major
        across = (y * math.cos(cell.angle) - x * math.sin(cell.angle)) / cell.minor
        theta = np.arctan2(across, along)
        radius = np.hypot(along, across)

        inner = radius / wobble(rng, theta, 0.035)
        inside = np.clip((1 - inner) * cell.minor + 0.5, 0, 1)
        stain = np.sqrt(np.clip(1.15 - inner**2, 0.3, None)) * (1 + 0.13 * chromatin[window])
        for _ in range(int(rng.integers(1, 4))):
            away, where = 0.6 * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
            distance_squared = ((along - away * math.cos(where)) * cell.major) ** 2 + (
                (across - away * math.sin(where)) * cell.minor
            ) ** 2
            stain *= 1 - rng.uniform(0.2, 0.4) * np.exp(
                -distance_squared / (2 * rng.uniform(1.4, 2.4) ** 2)
            )
        # Sisters overlap by a pixel: the brighter one is in front.
        dna[window] = np.maximum(dna[window], cell.dna * inside * stain)
        nucleus_areas.append(int(np.count_nonzero(inside >= 0.5)))

        outer = radius / (cell.spread * wobble(rng, theta, 0.17))
        closer = outer < nearest[window]
        nearest[window] = np.where(closer, outer, nearest[window])
        owner[window] = np.where(closer, index, owner[window])
        rim = np.exp(-(((outer - 0.92) / 0.06) ** 2))
        glow = 0.22 + 0.75 * np.exp(-((1.6 * outer) ** 2)) + 0.14 * rim
        grain = 0.16 * fibres[index % 4][window] + 0.12 * patches[window]
        grain += 0.08 * chromatin[window]
        glow *= np.clip(1 + grain, 0.25, None)
        bodies.append((window, cell.cyto * glow * (1 - 0.3 * inside)))

    for index, (window, body) in enumerate(bodies):
        mine = owner[window] == index
        cyto[window][mine] = body[mine]

    crop = (slice(MARGIN_PX, -MARGIN_PX), slice(MARGIN_PX, -MARGIN_PX))
    cyto = filtered(cyto, hazy_lens(1.2, 9.0, 0.1))
    dna = filtered(dna, hazy_lens(1.0, 11.0, 0.07)) + 0.015 * cyto
    whole = [index for index, cell in enumerate(cells) if not cell.is_cut]
    cell_areas = np.bincount(owner[crop][owner[crop] >= 0], minlength=len(cells))
    truth = Truth(
        nuclei=len(whole),
        nuclei_cut=len(cells) - len(whole),
        mean_nucleus_area_px=float(np.mean([nucleus_areas[i] for i in whole])) if whole else None,
        mean_cell_area_px=float(np.mean(cell_areas[whole])) if whole else None,
    )
    return dna[crop], cyto[crop], truth


@lru_cache(maxsize=len(CHANNELS))
def shading(channel: int) -> Image:
    """Give the lamp's light over the field, 0.6 to 1; each 1-based channel has its own."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] / SIDE_PX
    centre_y, centre_x = {1: (0.42, 0.58), 2: (0.55, 0.40)}[channel]
    light: Image = 1 - 0.55 * ((y - centre_y) ** 2 + (x - centre_x) ** 2)
    return light


def expose(signal: Image, channel: int, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Take the camera's picture of a signal.

    Parameters
    ----------
    signal : (384, 384) array
        Counts above the background, in even light.
    channel
        1-based.
    rng
        Decides the noise.

    Returns
    -------
    (384, 384) array
        Counts: shading, shot noise, read noise and the camera's offset included.
    """
    light = (np.clip(signal, 0, None) + BACKGROUND[channel - 1]) * shading(channel)
    counts = rng.poisson(light * ELECTRONS_PER_COUNT) / ELECTRONS_PER_COUNT
    counts += CAMERA_OFFSET + READ_NOISE * rng.standard_normal(signal.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


def draw_field(field: Field, seed: int) -> tuple[list[npt.NDArray[np.uint16]], Truth]:
    """Draw the images of a field, one for each channel, and say what is in them.

    A field depends on the seed and on its place alone, never on the size of the plate.
    """
    rng = np.random.default_rng([seed, field.row, field.column, field.site])
    cells = [] if field.is_empty else place_cells(rng, drug_effect(field.dose_um))
    dna, cyto, truth = paint(cells, rng)
    return [expose(dna, 1, rng), expose(cyto, 2, rng)], truth


def tiff_bytes(image: npt.NDArray[np.uint16]) -> bytes:
    """Encode an image as an uncompressed TIFF that says nothing of when or where it was made."""
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        image,
        photometric="minisblack",
        metadata=None,
        software=False,
        resolution=(PIXELS_PER_CM, PIXELS_PER_CM),
        resolutionunit="CENTIMETER",
    )
    return buffer.getvalue()
