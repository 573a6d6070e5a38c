"""Pictures from outside: bounded before they are decoded, decoded whole, stored as PNG of our own making."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Final, TypeVar

from omnirt_lab.errors import InvalidRequestError, LabError
from omnirt_lab.records import MAX_SIDE_PX

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS: Final = ("PNG", "JPEG", "WEBP")

MAX_PICTURE_PX: Final = 4096 * 4096
"""A picture of this size takes 64 MiB once it is decoded."""

T = TypeVar("T")


def decode_picture(content: bytes, *, name: str, max_px: int = MAX_PICTURE_PX) -> Image:
    """Decode a PNG, JPEG or WebP file into RGBA, upright; of an animation, the first picture.

    Parameters
    ----------
    name
        What the picture is to the caller, for the error.

    Raises
    ------
    InvalidRequestError
        If it is too large, of another format, or damaged.
    """
    from PIL import Image  # heavy

    picture = _decoded(lambda: Image.open(BytesIO(content), formats=FORMATS), name)
    require_pixels(picture.size, name=name, max_px=max_px)
    return _decoded(lambda: _loaded(picture), name)


def require_pixels(size: tuple[int, int], *, name: str, max_px: int = MAX_PICTURE_PX) -> None:
    """Refuse a width and height that would take too much memory, and a picture without pixels."""
    width, height = size
    if width * height > max_px or max(size) > MAX_SIDE_PX:
        raise InvalidRequestError(
            f"{name} is {width} x {height} pixels; at most {max_px:,} are taken, and {MAX_SIDE_PX:,} a side",
            hint="Use a smaller picture.",
        )
    if not width * height:
        raise InvalidRequestError(f"{name} is {width} x {height} pixels", hint="Give a picture that has some.")


def upright(picture: Image) -> Image:
    """The picture in RGBA, turned as its camera says, without the profiles and texts that it came with.

    Of 16 bits a level the upper eight are kept; Pillow would clip them.

    Raises
    ------
    InvalidRequestError
        For a mode whose range of values is not known.
    """
    import numpy as np  # heavy
    from PIL import Image, ImageOps  # heavy

    turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I;16"):
        turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    if turned.mode in ("I", "F"):
        raise InvalidRequestError(
            f"the picture has mode {turned.mode!r}, whose range nobody knows", hint="Give it as mode 'L' or 'RGB'."
        )
    turned = turned.convert("RGBA")
    turned.info.clear()
    return turned


def opaque(picture: Image) -> Image:
    """The RGBA picture in RGB; what was transparent is white."""
    from PIL import Image  # heavy

    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def png_of(picture: Image) -> bytes:
    """The picture as a PNG that has nothing but its pixels, so that equal pixels are one artifact."""
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _loaded(picture: Image) -> Image:
    picture.load()
    return upright(picture)


def _decoded(decode: Callable[[], T], name: str) -> T:
    try:
        return decode()
    except LabError:
        raise
    except Exception as error:  # decoders raise anything at a hostile file
        raise InvalidRequestError(
            f"{name} cannot be read as PNG, JPEG or WebP: {type(error).__name__}: {error}"[:300],
            hint="Give the whole file of a PNG, JPEG or WebP picture.",
        ) from error
