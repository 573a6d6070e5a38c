"""A report as Jupyter's mime bundle: plotly for a notebook, a PNG for wherever plotly is not drawn, text for the rest.

There is no `text/html` in it: front ends would prefer that to the PNG, and GitHub strips it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, Final

from omnirt_lab.records import RunReport
from omnirt_lab.views.plotly import PICTURE_PX, figure_dict
from omnirt_lab.views.text import report_text

PLOTLY_MIME: Final = "application/vnd.plotly.v1+json"
_CARD_SCALE: Final = 1
"""JupyterLab's plotly renderer shows the PNG, in its own size, until the pointer enters it; metadata does nothing."""

_THUMBNAIL_SCALE: Final = 2
_MAX_PICTURES: Final = 8


def mimebundle(report: RunReport, pictures: Sequence[bytes] = ()) -> dict[str, Any]:
    """What IPython's `display(..., raw=True)` and a notebook file take: the PNG is base64 text.

    Parameters
    ----------
    pictures
        Encoded pictures that the run made, in order.
    """
    from omnirt_lab.views.png import report_png  # Pillow, which nobody needs before a report is shown

    figure = figure_dict(report, [data_uri(picture, PICTURE_PX) for picture in pictures[:_MAX_PICTURES]])
    return {
        PLOTLY_MIME: {**figure, "config": {"displaylogo": False, "responsive": True}},
        "image/png": base64.b64encode(report_png(report, pictures, scale=_CARD_SCALE)).decode(),
        "text/plain": report_text(report),
    }


def data_uri(picture: bytes, side_px: int) -> str:
    """A thumbnail for a figure: small pictures enlarged, pixel by pixel, large ones as JPEG."""
    from omnirt_lab.views.canvas import fit

    image, was_shrunk = fit(picture, side_px * _THUMBNAIL_SCALE)
    media_type = "jpeg" if was_shrunk else "png"
    buffer = io.BytesIO()
    image.save(buffer, media_type, **({"quality": 88} if was_shrunk else {}))
    return f"data:image/{media_type};base64,{base64.b64encode(buffer.getvalue()).decode()}"
