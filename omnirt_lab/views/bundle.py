"""A report as Jupyter's mime bundle: plotly for a notebook, a PNG for wherever plotly is not drawn, text for the rest.

There is no `text/html` in it: front ends would prefer that to the PNG, and GitHub strips it.
"""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from omnirt_lab.records import RunReport
from omnirt_lab.views.plotly import PICTURE_PX, figure_dict
from omnirt_lab.views.text import report_text

PLOTLY_MIME: Final = "application/vnd.plotly.v1+json"
_SCALE: Final = 2
_MAX_PICTURES: Final = 8
_IHDR_SIZE_AT: Final = 16
"""Of a PNG's width and height, two big-endian 32-bit integers behind the first chunk's head (PNG 1.2, 4.1.1)."""


def mimebundle(report: RunReport, pictures: Sequence[bytes] = ()) -> dict[str, Any]:
    """What IPython's `display(..., raw=True)` and a notebook file take: the PNG is base64 text.

    Parameters
    ----------
    pictures
        Encoded pictures that the run made, in order.
    """
    from omnirt_lab.views.png import report_png  # Pillow, which nobody needs before a report is shown

    figure = figure_dict(report, [_data_uri(picture) for picture in pictures[:_MAX_PICTURES]])
    return {
        PLOTLY_MIME: {**figure, "config": {"displaylogo": False, "responsive": True}},
        "image/png": base64.b64encode(report_png(report, pictures, scale=_SCALE)).decode(),
        "text/plain": report_text(report),
    }


def display_metadata(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """The PNG's size in layout pixels, so that front ends do not show it twice as large."""
    head = base64.b64decode(bundle["image/png"][:64])
    width_px, height_px = struct.unpack_from(">II", head, _IHDR_SIZE_AT)
    return {"image/png": {"width": width_px // _SCALE, "height": height_px // _SCALE}}


def _data_uri(picture: bytes) -> str:
    """A thumbnail for the figure: small pictures enlarged, pixel by pixel, large ones as JPEG."""
    from omnirt_lab.views.canvas import fit

    image, was_shrunk = fit(picture, PICTURE_PX * _SCALE)
    media_type = "jpeg" if was_shrunk else "png"
    buffer = io.BytesIO()
    image.save(buffer, media_type, **({"quality": 88} if was_shrunk else {}))
    return f"data:image/{media_type};base64,{base64.b64encode(buffer.getvalue()).decode()}"
