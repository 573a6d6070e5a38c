"""A video as one picture: some of its frames in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from omnirt_lab.views import palette

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_FRAMES: Final = 6
_HEIGHT_PX: Final = 144
_GAP_PX: Final = 4


def strip_of(frames: Sequence[Image]) -> Image:
    """At most six frames from first to last, evenly spaced in time, in two rows from four on; none is enlarged."""
    from PIL import Image  # heavy

    shown = [frames[index] for index in _indices(len(frames))]
    columns = len(shown) if len(shown) < 4 else (len(shown) + 1) // 2
    factor = min(1.0, _HEIGHT_PX / shown[0].height)
    width, height = (max(1, round(side * factor)) for side in shown[0].size)
    rows = -(-len(shown) // columns)
    size = (columns * (width + _GAP_PX) - _GAP_PX, rows * (height + _GAP_PX) - _GAP_PX)
    strip = Image.new("RGB", size, palette.CARD)
    for index, frame in enumerate(shown):
        row, column = divmod(index, columns)
        small = frame.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(small, (column * (width + _GAP_PX), row * (height + _GAP_PX)))
    return strip


def _indices(count: int) -> list[int]:
    if count <= MAX_FRAMES:
        return list(range(count))
    return [round(index * (count - 1) / (MAX_FRAMES - 1)) for index in range(MAX_FRAMES)]
