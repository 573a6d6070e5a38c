"""Pictures become artifacts, and artifacts pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal import png_with_metadata
from omnirt_lab.pipelines.outputs import picture_metadata
from omnirt_lab.records import Artifact

if TYPE_CHECKING:
    from omnirt_lab.executors.run_writer import RunWriter


def store_pictures(
    images: Sequence[Image.Image], writer: RunWriter, *, seeds: Sequence[int | None]
) -> tuple[Artifact, ...]:
    """Store each picture as PNG, with what made it embedded unless that is switched off.

    Parameters
    ----------
    seeds
        One a picture, None where the generator was the caller's.
    """
    return tuple(
        writer.artifacts.put_bytes(
            png_with_metadata(image, _text_of(writer, seed)),
            media_type="image/png",
            width_px=image.width,
            height_px=image.height,
            index=index,
            seed=seed,
        )
        for index, (image, seed) in enumerate(zip(images, seeds, strict=True))
    )


def open_picture(content: bytes) -> Image.Image:
    """Decode a stored picture, as RGB."""
    return Image.open(io.BytesIO(content)).convert("RGB")


def _text_of(writer: RunWriter, seed: int | None) -> dict[str, str]:
    return picture_metadata(writer.job, seed=seed) if SETTINGS.current.embed_metadata else {}
