"""What tiny-shapes draws: one flat shape on a flat background, as a record and as a picture."""

import hashlib
import itertools
import math
from random import Random

import msgspec
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")

PALETTE = {
    "red": (214, 40, 40),
    "orange": (247, 140, 20),
    "yellow": (250, 218, 50),
    "green": (40, 160, 70),
    "blue": (40, 90, 220),
    "purple": (140, 60, 190),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
}
"""Colour name to sRGB, 0 to 255."""

SIZES = {"small": (0.19, 0.22), "medium": (0.28, 0.35), "large": (0.38, 0.42)}
"""Size name to the range of the radius, as a share of the picture's side."""

PICTURE_PX = 64
OVERSAMPLING = 4
JITTER = 0.05
"""Largest distance of a centre from the picture's middle along one axis, as a share of the side."""

RING_HOLE = 0.55
MOON_BITE = (0.45, -0.12, 0.85)
"""Centre x, centre y and radius of the disc that is cut from a unit disc to leave a crescent."""

HELD_OUT_SHARE = 10
"""One triple in this many is never trained on."""


class Triple(msgspec.Struct, frozen=True, kw_only=True):
    """What a caption is about, and what a score asks for."""

    shape: str
    colour: str
    background: str


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """One picture before it is drawn."""

    triple: Triple

    size: str

    radius: float
    """Share of the picture's side, 0 to 0.5."""

    centre: tuple[float, float]
    """x and y as shares of the picture's side, from its upper left corner."""

    def __post_init__(self) -> None:
        if self.triple.colour == self.triple.background:
            msg = f"a {self.triple.colour} {self.triple.shape} on its own colour cannot be seen"
            raise ValueError(msg)


def default_background(colour: str) -> str:
    """Return the background of a caption that names none: white, or black behind a white shape."""
    return "black" if colour == "white" else "white"


def is_held_out(triple: Triple) -> bool:
    """Tell whether training must never see the triple; the answer depends on the names alone."""
    name = f"{triple.shape}/{triple.colour}/{triple.background}"
    return hashlib.sha256(name.encode()).digest()[0] % HELD_OUT_SHARE == 0


def all_triples() -> list[Triple]:
    """Return the 448 triples whose colour can be seen on their background, in a fixed order."""
    named = itertools.product(SHAPES, PALETTE, PALETTE)
    return [Triple(shape=s, colour=c, background=b) for s, c, b in named if c != b]


def train_triples() -> list[Triple]:
    """Return the triples that training may draw."""
    return [triple for triple in all_triples() if not is_held_out(triple)]


def held_out_triples() -> list[Triple]:
    """Return the triples that only a score may draw."""
    return [triple for triple in all_triples() if is_held_out(triple)]


def sample_scene(triple: Triple, rng: Random) -> Scene:
    """Place the triple's shape near the middle; half of the scenes have the medium size."""
    size = rng.choice(("small", "medium", "medium", "large"))
    jitter = min(JITTER, 0.47 - SIZES[size][1])
    centre = (0.5 + rng.uniform(-jitter, jitter), 0.5 + rng.uniform(-jitter, jitter))
    return Scene(triple=triple, size=size, radius=rng.uniform(*SIZES[size]), centre=centre)


def draw_mask(shape: str, radius_px: float, centre_px: tuple[float, float], side_px: int) -> Image.Image:
    """Draw the shape in white on black.

    Returns
    -------
    Image
        Mode `L`, `side_px` square, 0 (outside) to 255 (inside), edges box-filtered from four times the size.
    """
    canvas = Image.new("L", (side_px * OVERSAMPLING,) * 2, 0)
    pen = ImageDraw.Draw(canvas)
    x, y, r = (value * OVERSAMPLING for value in (*centre_px, radius_px))
    if shape in ("circle", "ring", "moon"):
        _disc(pen, x, y, r, 255)
    else:
        pen.polygon([(x + r * u, y + r * v) for u, v in _outline(shape)], fill=255)
    if shape == "ring":
        _disc(pen, x, y, r * RING_HOLE, 0)
    if shape == "moon":
        u, v, bite = MOON_BITE
        _disc(pen, x + r * u, y + r * v, r * bite, 0)
    return canvas.reduce(OVERSAMPLING)


def draw_scene(scene: Scene, side_px: int = PICTURE_PX) -> Image.Image:
    """Draw the scene as an RGB picture, `side_px` square."""
    x, y = scene.centre
    mask = draw_mask(scene.triple.shape, scene.radius * side_px, (x * side_px, y * side_px), side_px)
    ink = Image.new("RGB", mask.size, PALETTE[scene.triple.colour])
    return Image.composite(ink, Image.new("RGB", mask.size, PALETTE[scene.triple.background]), mask)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: int) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _outline(shape: str) -> list[tuple[float, float]]:
    """Return the corners of a unit polygon, y down, within the unit circle or close to it."""
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return [(0.0, -0.95), (1.0, 0.8), (-1.0, 0.8)]
    if shape == "star":
        return [_polar(0.45 if corner % 2 else 1.05, corner * math.pi / 5) for corner in range(10)]
    if shape == "heart":
        return [_heart(step * math.tau / 60) for step in range(60)]
    if shape == "cross":
        a, b = 0.34, 1.0
        return [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    msg = f"no shape is called {shape!r}: {', '.join(SHAPES)}"
    raise ValueError(msg)


def _polar(radius: float, angle: float) -> tuple[float, float]:
    """Return the point at `angle` radians clockwise from the top."""
    return radius * math.sin(angle), -radius * math.cos(angle)


def _heart(t: float) -> tuple[float, float]:
    """Return a point of the heart curve (https://mathworld.wolfram.com/HeartCurve.html, eq. 7) in the unit box."""
    x = 16 * math.sin(t) ** 3
    y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return x / 16.5, -(y + 2.5) / 15.5
