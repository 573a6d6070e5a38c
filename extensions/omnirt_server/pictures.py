"""Pictures that strangers send, as the hosted API's words have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.journal.artifacts import ArtifactStore
from omnirt_lab.journal.pictures import png_of
from omnirt_lab.records import SIDE_MULTIPLE_PX, Artifact

if TYPE_CHECKING:
    from PIL.Image import Image


def mask_of(picture: Image, size: tuple[int, int]) -> Image:
    """From OpenAI's mask, transparent where the picture may change, to ours, which is white there.

    Raises
    ------
    InvalidRequestError
        If it has another size than the picture, or is nowhere transparent.
    """
    if picture.size != size:
        raise InvalidRequestError(
            f"the mask is {picture.width} x {picture.height} pixels and the image {size[0]} x {size[1]}",
            hint="Send a mask of the same size.",
        )
    mask = picture.getchannel("A").point(lambda alpha: 0 if alpha else 255)
    if mask.getbbox() is None:
        raise InvalidRequestError(
            "the mask is nowhere transparent, so nothing would change",
            hint="Make the part transparent that shall change, and send it as PNG or WebP.",
        )
    return mask


def editable_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size, rounded down to what a VAE can hold."""
    width, height = (max(SIDE_MULTIPLE_PX, side // SIDE_MULTIPLE_PX * SIDE_MULTIPLE_PX) for side in size)
    return width, height


def store_picture(artifacts: ArtifactStore, picture: Image) -> Artifact:
    """Keep it as a PNG that has nothing of the upload but its pixels."""
    return artifacts.put_bytes(png_of(picture), "image/png", width_px=picture.width, height_px=picture.height)
