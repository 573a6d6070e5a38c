"""From what a pipeline returns to pictures, what looks wrong with them, and the text that goes into their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL.Image import Image

from omnirt_lab.errors import PipelineError
from omnirt_lab.journal import METADATA_KEY, JobRecord
from omnirt_lab.pipelines.environment import environment
from omnirt_lab.records import WarningData

_PICTURE_CHANNELS: Final = (1, 3)


def images_of(output: object) -> list[Image]:
    """The pictures of a pipeline's output; the frames of a video in order, one video after the other.

    Raises
    ------
    PipelineError
        If there are none in it.
    """
    images = find_images(output)
    if not images:
        raise PipelineError(
            f"the pipeline returned a {type(output).__name__} without pictures",
            hint="Call it yourself through lab.observe(pipe): that measures any output.",
        )
    return images


def find_images(output: object) -> list[Image]:
    """The pictures of a pipeline's output, whether PIL, NumPy (N, H, W, C) or torch (N, C, H, W), in 0 to 1.

    Empty for latents, audio and whatever else is no picture.
    """
    return [image for part in _parts(output) for image in _to_pil(part)]


def find_warnings(output: object, images: Sequence[Image]) -> tuple[WarningData, ...]:
    """What looks wrong: values that are no numbers, pictures withheld by the safety checker, pictures all black."""
    flagged = output.get("nsfw_content_detected") if isinstance(output, dict) else None
    return tuple(_warnings(list(_parts(output)), images, flagged if isinstance(flagged, list) else []))


def picture_metadata(job: JobRecord, *, seed: int | None) -> dict[str, str]:
    """The texts for a picture's file: how it was made, as JSON under the journal's key; `seed` is this picture's."""
    facts = {
        "run_id": job.run_id,
        "model": job.request.model,
        "seed": seed,
        "request": msgspec.to_builtins(job.request),
        "packages": environment().packages,
    }
    return {METADATA_KEY: msgspec.json.encode(facts).decode()}


def _warnings(parts: list[Any], images: Sequence[Image], flagged: list[Any]) -> Iterator[WarningData]:
    if any(_has_nan(part) for part in parts):
        yield WarningData(
            code="nan_in_picture",
            message="the pipeline returned values that are no numbers",
            hint="float16 overflows in some VAEs: try dtype='float32' or 'bfloat16'.",
        )
    for index, image in enumerate(images):
        if index < len(flagged) and flagged[index]:
            yield WarningData(
                code="withheld_by_safety_checker",
                message=f"picture {index + 1} was blackened by the model's safety checker",
                hint="Change the prompt or the seed.",
            )
        elif _is_black(image):
            yield WarningData(
                code="black_picture",
                message=f"picture {index + 1} is all black",
                hint="With float16 that is an overflow more often than not: try dtype='float32' or 'bfloat16'.",
            )


def _parts(output: object) -> Iterator[Any]:
    """What an output holds under `images` or `frames`, or first in its tuple; lists of lists flattened."""
    if isinstance(output, dict):  # diffusers' BaseOutput is one
        output = output.get("images", output.get("frames"))
    elif isinstance(output, tuple):
        output = output[0] if output else None
    yield from _flattened(output)


def _flattened(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flattened(item)
    elif value is not None:
        yield value


def _to_pil(part: Any) -> list[Image]:
    if isinstance(part, Image):
        return [part]
    if isinstance(part, torch.Tensor) and part.ndim == 4 and part.shape[1] in _PICTURE_CHANNELS:
        part = VaeImageProcessor.pt_to_numpy(part)
    if isinstance(part, np.ndarray) and part.ndim == 5:  # videos: (N, frames, H, W, C)
        part = part.reshape(-1, *part.shape[2:])
    if not (isinstance(part, np.ndarray) and part.ndim == 4 and part.shape[-1] in _PICTURE_CHANNELS):
        return []
    if not np.issubdtype(part.dtype, np.floating):
        return []
    return list(VaeImageProcessor.numpy_to_pil(np.nan_to_num(part).clip(0, 1)))


def _has_nan(part: Any) -> bool:
    if isinstance(part, torch.Tensor):
        return bool(torch.isnan(part).any())
    return isinstance(part, np.ndarray) and np.issubdtype(part.dtype, np.floating) and bool(np.isnan(part).any())


def _is_black(image: Image) -> bool:
    return image.convert("L").getextrema()[1] == 0
