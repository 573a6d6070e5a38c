"""What differs between two pictures, as a picture."""

from __future__ import annotations

import io
from typing import Final, NamedTuple

from PIL import Image, ImageChops

_WHITE: Final = 255


class Difference(NamedTuple):
    """A picture that is black where two pictures agree."""

    png: bytes

    label: str
    """`difference x 12` where it was amplified so that it is seen, else `difference` or `no difference`."""


def difference_png(first: bytes, other: bytes) -> Difference | None:
    """The absolute difference of two encoded pictures; None where their sizes differ.

    Amplified by a whole number, so that its largest value comes near to white.
    """
    with Image.open(io.BytesIO(first)) as one, Image.open(io.BytesIO(other)) as two:
        if one.size != two.size:
            return None
        levels = ImageChops.difference(one.convert("RGB"), two.convert("RGB"))
    largest = max(high for _, high in levels.getextrema())  # type: ignore[misc]  # one pair a band, as it is RGB
    factor = _WHITE // largest if largest else 1
    buffer = io.BytesIO()
    levels.point(lambda level: level * factor).save(buffer, "PNG")
    shown = f"difference x {factor}" if factor > 1 else "difference"
    return Difference(buffer.getvalue(), shown if largest else "no difference")
