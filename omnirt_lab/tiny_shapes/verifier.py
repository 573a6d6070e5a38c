"""Reads shape, colour and background back from a picture, so that a score needs no eye.

A picture is read in four steps: the median of its border names the background; connected pixels unlike it are
objects; the median of the largest object names the colour; the template that overlaps it best names the shape.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from omnirt_lab.tiny_shapes.scenes import PALETTE, SHAPES, Triple, draw_mask

Pixels = npt.NDArray[np.float64]

BORDER_PX = 2
UNLIKE = 60.0
"""Least Euclidean distance in sRGB (0 to 255 an axis) between an object's pixel and the background."""

LEAST_OBJECT_PX = 24
LEAST_OVERLAP = 0.7
NEAREST_COLOUR = 70.0
"""Largest sRGB distance at which a colour still has the palette's name."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a picture shows; None where nothing fits."""

    background: str | None
    colour: str | None
    shape: str | None

    overlap: float
    """Intersection over union with the best template, 0 to 1."""

    objects: int
    """Connected regions of at least `LEAST_OBJECT_PX` pixels that differ from the background."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Which parts of a caption a picture got right."""

    background: bool
    colour: bool
    shape: bool

    @property
    def is_right(self) -> bool:
        """All three parts are right."""
        return self.background and self.colour and self.shape


def judge(image: Image.Image, triple: Triple) -> Verdict:
    """Compare the picture with what was asked; a shape among other objects is wrong."""
    reading = read_picture(image)
    return Verdict(
        background=reading.background == triple.background,
        colour=reading.colour == triple.colour,
        shape=reading.shape == triple.shape and reading.objects == 1,
    )


def read_picture(image: Image.Image) -> Reading:
    """Read a square picture of one flat shape on a flat background."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    ground = _border_median(pixels)
    distance = np.linalg.norm(pixels - ground, axis=-1)
    objects = _components(distance > UNLIKE)
    if not objects:
        return Reading(background=_nearest_colour(ground), colour=None, shape=None, overlap=0.0, objects=0)
    region = max(objects, key=np.count_nonzero)
    ink = _ink(pixels, distance, region)
    shape, overlap = _best_shape(_coverage(pixels, ground, ink, region))
    return Reading(
        background=_nearest_colour(ground),
        colour=_nearest_colour(ink),
        shape=shape if overlap >= LEAST_OVERLAP else None,
        overlap=overlap,
        objects=len(objects),
    )


def _border_median(pixels: Pixels) -> Pixels:
    inner = np.zeros(pixels.shape[:2], dtype=bool)
    inner[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = True
    median: Pixels = np.median(pixels[~inner], axis=0)
    return median


def _nearest_colour(rgb: Pixels) -> str | None:
    """Return the palette's name for an sRGB triple, or None where every colour is far."""
    distances = {name: math.dist(rgb, colour) for name, colour in PALETTE.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] <= NEAREST_COLOUR else None


def _ink(pixels: Pixels, distance: Pixels, region: npt.NDArray[np.bool_]) -> Pixels:
    """Return the object's colour: the median of the pixels that differ most, so that soft edges don't count."""
    ink: Pixels = np.median(pixels[region & (distance >= np.median(distance[region]))], axis=0)
    return ink


def _components(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """Return the 8-connected regions of at least `LEAST_OBJECT_PX` pixels."""
    rest = mask.copy()
    regions = []
    while rest.any():
        region = _flood(rest, np.unravel_index(int(rest.argmax()), rest.shape))
        rest &= ~region
        if np.count_nonzero(region) >= LEAST_OBJECT_PX:
            regions.append(region)
    return regions


def _flood(mask: npt.NDArray[np.bool_], start: tuple[np.intp, ...]) -> npt.NDArray[np.bool_]:
    """Grow from one pixel until nothing of the mask touches the region."""
    region = np.zeros_like(mask)
    region[start] = True
    while True:
        rows = region.copy()
        rows[1:] |= region[:-1]
        rows[:-1] |= region[1:]
        grown = rows.copy()
        grown[:, 1:] |= rows[:, :-1]
        grown[:, :-1] |= rows[:, 1:]
        grown &= mask
        if (grown == region).all():
            return region
        region = grown


def _coverage(pixels: Pixels, ground: Pixels, ink: Pixels, region: npt.NDArray[np.bool_]) -> Pixels:
    """Return how much of each pixel the object covers, 0 to 1, from its place between the two colours."""
    axis = ink - ground
    share = (pixels - ground) @ axis / max(float(axis @ axis), 1.0)
    return np.where(_with_rim(region), np.clip(share, 0.0, 1.0), 0.0)


def _with_rim(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the region and one pixel around it, where a soft edge may lie."""
    padded = np.pad(region, 1)
    height, width = region.shape
    shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    rimmed: npt.NDArray[np.bool_] = np.logical_or.reduce(shifted)
    return rimmed


def _best_shape(coverage: Pixels) -> tuple[str, float]:
    """Return the shape whose template of the same area and centre of gravity overlaps best, and the overlap."""
    overlaps = {shape: _overlap(coverage, _template(shape, coverage)) for shape in SHAPES}
    best = max(overlaps, key=overlaps.__getitem__)
    return best, overlaps[best]


def _template(shape: str, coverage: Pixels) -> Pixels:
    side_px = coverage.shape[0]
    unit = _mask(shape, side_px / 4, (side_px / 2, side_px / 2), side_px)
    radius_px = side_px / 4 * math.sqrt(coverage.sum() / unit.sum())
    x, y = _gravity(coverage)
    unit_x, unit_y = _gravity(unit)
    scale = radius_px / (side_px / 4)
    centre = (x - (unit_x - side_px / 2) * scale, y - (unit_y - side_px / 2) * scale)
    return _mask(shape, radius_px, centre, side_px)


def _mask(shape: str, radius_px: float, centre_px: tuple[float, float], side_px: int) -> Pixels:
    return np.asarray(draw_mask(shape, radius_px, centre_px, side_px), dtype=np.float64) / 255


def _gravity(coverage: Pixels) -> tuple[float, float]:
    """Return x and y of the centre of gravity in pixels, from the picture's upper left corner."""
    along = np.arange(coverage.shape[0]) + 0.5
    total = coverage.sum()
    return float((coverage.sum(axis=0) * along).sum() / total), float((coverage.sum(axis=1) * along).sum() / total)


def _overlap(one: Pixels, other: Pixels) -> float:
    """Return the intersection over union of two soft masks."""
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())
