"""A drawing surface in layout pixels, over Pillow: text that fits, bars, hatches, curves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

from PIL import Image, ImageDraw, ImageFont

Weight = Literal["regular", "bold"]

_BOLD_STROKE: Final = 0.022
"""Stroke, as a part of the font size, that makes the one built-in weight read as a heavier one."""

_OTHER_FONTS: Final = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf", "segoeui.ttf")
"""Looked for on the system when the built-in font, little more than ASCII, lacks a character."""

_HATCH_STEP: Final = 5
_TRANSPARENT: Final = 0
_COLOURS: Final = 256
_COMPRESS_LEVEL: Final = 6

Font = ImageFont.FreeTypeFont


class Canvas:
    """A card of the given size. All lengths are layout pixels; `scale` of them make one in the picture."""

    def __init__(self, width: int, height: int, *, scale: int, background: str) -> None:
        self.width, self.height, self.scale = width, height, scale
        self._image = Image.new("RGB", (width * scale, height * scale), background)
        self._draw = ImageDraw.Draw(self._image)
        self._has_photo = False

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int,
        colour: str,
        weight: Weight = "regular",
        anchor: str = "ls",
        part_of: str | None = None,
    ) -> None:
        """One line of text.

        Parameters
        ----------
        anchor
            As Pillow names it; `ls` is the left end of the baseline.
        part_of
            The whole text that this is a line of: all its lines have one font.
        """
        font = find_font(text if part_of is None else part_of, size * self.scale)
        stroke = size * self.scale * _BOLD_STROKE if weight == "bold" else 0
        at = (x * self.scale, y * self.scale)
        self._draw.text(at, text, font=font, fill=colour, anchor=anchor, stroke_width=stroke)

    def bar(self, x0: float, y0: float, x1: float, y1: float, *, colour: str, outline: str | None = None) -> None:
        """A filled rectangle, at least one layout pixel wide so that a short stage is still seen."""
        box = self._box(x0, y0, max(x1, x0 + 1), y1)
        self._draw.rectangle(box, fill=colour, outline=outline, width=self.scale if outline else 0)

    def hatch(self, x0: float, y0: float, x1: float, y1: float, *, colour: str, background: str) -> None:
        """A rectangle of diagonal lines."""
        left, top, right, bottom = self._box(x0, y0, max(x1, x0 + 4), y1)
        tile = Image.new("RGB", (right - left + 1, bottom - top + 1), background)
        draw = ImageDraw.Draw(tile)
        for x in range(-tile.height, tile.width, _HATCH_STEP * self.scale):
            draw.line([(x, tile.height), (x + tile.height, 0)], fill=colour, width=self.scale)
        draw.rectangle([0, 0, tile.width - 1, tile.height - 1], outline=colour, width=self.scale)
        self._image.paste(tile, (left, top))

    def line(self, points: Sequence[tuple[float, float]], *, colour: str, width: float = 1) -> None:
        """A line through the points."""
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * self.scale), joint="curve")

    def area(self, points: Sequence[tuple[float, float]], *, colour: str) -> None:
        """A filled polygon."""
        self._draw.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=colour)

    def pill(self, x1: float, y0: float, text: str, *, size: int, colour: str) -> None:
        """Text in an outlined capsule whose right end is at `x1`."""
        width, height = text_width(text, size) + size * 1.5, size * 1.9
        self._draw.rounded_rectangle(
            self._box(x1 - width, y0, x1, y0 + height),
            radius=height / 2 * self.scale,
            outline=colour,
            width=self.scale,
        )
        self.text(x1 - width / 2, y0 + height / 2, text, size=size, colour=colour, anchor="mm")

    def picture(self, png: bytes, x: float, y: float, side: float, *, frame: str) -> None:
        """A picture inside a square, framed; small ones are enlarged without smoothing, so that pixels stay pixels."""
        image, was_shrunk = fit(png, round(side * self.scale))
        self._has_photo |= was_shrunk
        left, top = round(x * self.scale), round(y * self.scale)
        self._image.paste(image, (left, top))
        self._draw.rectangle([left, top, left + image.width - 1, top + image.height - 1], outline=frame, width=1)

    def to_png(self, *, radius: int, border: str) -> bytes:
        """The card as a PNG, with a border and round corners that are transparent outside.

        A third of the size and of the time in 256 colours; in all of them if a picture had to shrink, as photos do.
        """
        corner = radius * self.scale
        box = (0, 0, self._image.width - 1, self._image.height - 1)
        self._draw.rounded_rectangle(box, radius=corner, outline=border, width=self.scale)
        mask = Image.new("L", self._image.size, _TRANSPARENT)
        ImageDraw.Draw(mask).rounded_rectangle(box, radius=corner, fill=255)
        self._image.putalpha(mask)
        image = self._image
        if not self._has_photo:
            image = image.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=_COMPRESS_LEVEL)
        return buffer.getvalue()

    def _box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[int, int, int, int]:
        """Pillow's box: its right and lower edges belong to it."""
        left, top = round(x0 * self.scale), round(y0 * self.scale)
        return (
            left,
            top,
            max(round(x1 * self.scale) - 1, left),
            max(round(y1 * self.scale) - 1, top),
        )


def fit(encoded: bytes, side_px: int) -> tuple[Image.Image, bool]:
    """The picture in RGB with its longer side `side_px` long, and whether it had to shrink for that.

    Enlarged without smoothing, so that pixels stay pixels.
    """
    with Image.open(io.BytesIO(encoded)) as source:
        image = source.convert("RGB")
    factor = side_px / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    if factor < 1:
        return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0), True
    return image.resize(size, Image.Resampling.NEAREST), False


def fit_png(encoded: bytes, side_px: int) -> bytes:
    """What `fit` gives, as a PNG."""
    buffer = io.BytesIO()
    fit(encoded, side_px)[0].save(buffer, "PNG", compress_level=_COMPRESS_LEVEL)
    return buffer.getvalue()


def text_width(text: str, size: int, *, part_of: str | None = None) -> float:
    """Layout pixels that a line of text takes."""
    return find_font(text if part_of is None else part_of, size).getlength(text)


def wrap(text: str, size: int, width: float, *, max_lines: int) -> list[str]:
    """The text in lines that fit; what `max_lines` cannot hold is cut with an ellipsis."""
    lines, line = [], ""
    for word in text.split(" "):
        rest = f"{line} {word}" if line else word
        while text_width(rest, size, part_of=text) > width:
            fitting = line or rest[: _fitting(rest, size, width, text)]
            lines.append(fitting)
            rest = rest[len(fitting) :].lstrip(" ")
            line = ""
        line = rest
    lines = [line for line in (*lines, line) if line]
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], clip(" ".join(lines[max_lines - 1 :]), size, width, part_of=text)]
    return lines


def clip(text: str, size: int, width: float, *, part_of: str | None = None) -> str:
    """The text, cut with an ellipsis where it would be wider than `width`."""
    whole = text if part_of is None else part_of
    if text_width(text, size, part_of=whole) <= width:
        return text
    return text[: _fitting(text, size, width - text_width("…", size, part_of=whole), whole)] + "…"


def _fitting(text: str, size: int, width: float, whole: str) -> int:
    """How many characters fit, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle], size, part_of=whole) <= width else (low, middle - 1)
    return low


def find_font(text: str, size: int) -> Font:
    """The built-in font, or the system's that lacks fewest characters of this text; what it lacks is drawn as a box."""
    return _font(_face_for(frozenset(text)), size) or _built_in(size)


@lru_cache(maxsize=64)
def _face_for(characters: frozenset[str]) -> str | None:
    best, fewest = None, _missing(None, characters)
    for name in _OTHER_FONTS if fewest else ():
        missing = _missing(name, characters)
        if missing < fewest:
            best, fewest = name, missing
    return best


def _missing(face: str | None, characters: frozenset[str]) -> int:
    return sum(not _has_glyph(face, character) for character in characters)


@lru_cache(maxsize=4096)
def _has_glyph(face: str | None, character: str) -> bool:
    font = _font(face, 20)
    if font is None:
        return False
    return character.isspace() or bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


@lru_cache(maxsize=64)
def _font(face: str | None, size: int) -> Font | None:
    if face is None:
        return _built_in(size)
    try:
        return ImageFont.truetype(face, size)
    except OSError:  # this system does not have it
        return None


@lru_cache(maxsize=16)
def _built_in(size: int) -> Font:
    font = ImageFont.load_default(size=size)
    assert isinstance(font, Font), "Pillow was built without FreeType"
    return font
