"""Videos as MP4 (H.264), by PyAV, which is an extra of the installation. Loads no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omnirt_lab.errors import InvalidRequestError, NotAvailableError

if TYPE_CHECKING:
    from PIL.Image import Image

Frames: TypeAlias = npt.NDArray[np.uint8]
"""(frames, height, width, 3), 0 to 255."""

_CRF: Final = "18"
"""x264's constant quality, at which hardly anybody sees a loss."""


def require_video() -> None:
    """Refuse what needs video where PyAV is not installed.

    Raises
    ------
    NotAvailableError
        Saying what to install.
    """
    if find_spec("av") is None:
        raise NotAvailableError(
            "videos need the package av (PyAV), which is not installed", hint="pip install 'omnirt-lab[video]'"
        )


def encode_mp4(frames: Sequence[Image], *, fps: float, text: Mapping[str, str]) -> bytes:
    """The frames as H.264 in an MP4 that browsers play; it loses a little.

    Parameters
    ----------
    text
        What goes into the file's metadata, by key.

    Raises
    ------
    NotAvailableError
        If PyAV is not installed.
    """
    require_video()
    import av  # an extra

    width, height = frames[0].size
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(text)
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": _CRF})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"  # halved colour needs even sides
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def decode_mp4(content: bytes) -> Frames:
    """The frames of a video file.

    Raises
    ------
    NotAvailableError
        If PyAV is not installed.
    InvalidRequestError
        If it is no video.
    """
    require_video()
    import av  # an extra

    try:
        with av.open(io.BytesIO(content), "r") as container:
            frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
            return np.stack(frames)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise InvalidRequestError(f"this is no video: {error}", hint="Give a video that the lab has made.") from error
