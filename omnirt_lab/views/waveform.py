"""A sound as one picture: how far each channel swings over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omnirt_lab.views import palette

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

WIDTH_PX: Final = 384
_LANE_PX: Final = 128
_MARGIN_PX: Final = 6


def waveform_of(samples: npt.NDArray[np.float32]) -> Image:
    """One lane a channel, with the lowest and highest sample of each column of pixels; full scale fills the lane.

    Parameters
    ----------
    samples
        (channels, samples), -1 to 1.
    """
    import numpy as np  # heavy
    from PIL import Image, ImageDraw  # heavy

    channels, count = samples.shape
    picture = Image.new("RGB", (WIDTH_PX, channels * _LANE_PX), palette.CARD)
    draw = ImageDraw.Draw(picture)
    edges = np.linspace(0, count, WIDTH_PX + 1).astype(int)
    swing_px = _LANE_PX / 2 - _MARGIN_PX
    for channel, levels in enumerate(np.clip(np.nan_to_num(samples), -1, 1)):
        middle = (channel + 0.5) * _LANE_PX
        draw.line([(0, middle), (WIDTH_PX, middle)], fill=palette.RULE)
        for x in range(WIDTH_PX):
            column = levels[max(edges[x] - 1, 0) : max(edges[x + 1], edges[x] + 1)]  # from the one before on: one line
            if column.size:
                top, bottom = middle - column.max() * swing_px, middle - column.min() * swing_px
                draw.line([(x, top), (x, bottom)], fill=palette.DENOISE)
    return picture
