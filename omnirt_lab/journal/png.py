"""Pictures that say how they were made: text inside a PNG, as iTXt."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnirt_lab.errors import InvalidRequestError

if TYPE_CHECKING:
    from PIL.Image import Image

METADATA_KEY: Final = "omnirt"
"""Key of the JSON with the run's request, seed, model and versions."""


def png_with_metadata(image: Image, text: Mapping[str, str]) -> bytes:
    """The picture as PNG with these texts (any Unicode) in it; the pixels are not changed by them."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in text.items():
        info.add_itxt(key, value)
    file = BytesIO()
    image.save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def read_png_metadata(source: Path | bytes) -> dict[str, str]:
    """The texts inside a PNG; empty where it has none.

    Raises
    ------
    InvalidRequestError
        If it is no PNG.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=["PNG"]) as image:
            image.load()  # texts may stand behind the pixels
            return {
                key: str(text) for key, text in image.info.items() if isinstance(key, str) and isinstance(text, str)
            }
    except UnidentifiedImageError as error:
        raise InvalidRequestError(f"this is no PNG: {error}", hint="Give a picture that the lab has made.") from error
