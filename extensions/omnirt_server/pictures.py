"""Pictures that strangers send: bounded before they are decoded, decoded whole, stored as a PNG of our own making."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Final, TypeVar

from PIL import Image, ImageOps

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.journal.artifacts import ArtifactStore
from omnirt_lab.records import MAX_SIDE_PX, SIDE_MULTIPLE_PX, Artifact
from omnirt_server.limits import Limits

FORMATS: Final = ("PNG", "JPEG", "WEBP")

T = TypeVar("T")


def read_picture(content: bytes, limits: Limits, *, name: str) -> Image.Image:
    """Decode an uploaded picture into RGBA, upright; of an animation, the first one.

    Parameters
    ----------
    name
        Of the field it came in, for the error.

    Raises
    ------
    InvalidRequestError
        If it is too large, of another format, or damaged.
    """
    picture = _decoded(lambda: Image.open(BytesIO(content), formats=FORMATS), name)
    require_pixels(picture.size, limits, name=name)
    return _decoded(lambda: _upright(picture), name)


def require_pixels(size: tuple[int, int], limits: Limits, *, name: str) -> None:
    """Refuse a width and height that would take too much memory."""
    width, height = size
    if width * height > limits.picture_px or max(size) > MAX_SIDE_PX:
        raise InvalidRequestError(
            f"{name} is {width} x {height} pixels; at most {limits.picture_px:,} are taken, and {MAX_SIDE_PX:,} a side",
            hint="Use a smaller picture.",
        )


def opaque(picture: Image.Image) -> Image.Image:
    """The RGBA picture in RGB; what was transparent is white."""
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def mask_of(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
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


def store_picture(artifacts: ArtifactStore, picture: Image.Image) -> Artifact:
    """Keep it as a PNG that has nothing of the upload but its pixels."""
    file = BytesIO()
    picture.save(file, format="PNG")
    return artifacts.put_bytes(file.getvalue(), "image/png", width_px=picture.width, height_px=picture.height)


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    upright = ImageOps.exif_transpose(picture).convert("RGBA")
    upright.info.clear()  # its profiles and texts are not ours to store
    return upright


def _decoded(decode: Callable[[], T], name: str) -> T:
    try:
        return decode()
    except Exception as error:  # decoders raise anything at a hostile file
        raise InvalidRequestError(
            f"{name} cannot be read as PNG, JPEG or WebP: {type(error).__name__}: {error}"[:300],
            hint="Send the whole file of a PNG, JPEG or WebP picture.",
        ) from error
