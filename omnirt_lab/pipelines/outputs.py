"""From what a pipeline returns to pictures, videos and sounds, what looks wrong with them, and their files' texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL.Image import Image

from omnirt_lab.errors import PipelineError
from omnirt_lab.journal import METADATA_KEY, JobRecord
from omnirt_lab.pipelines.environment import environment
from omnirt_lab.pipelines.sound import Samples
from omnirt_lab.records import WarningData

_PICTURE_CHANNELS: Final = (1, 3)
_MAX_SOUND_CHANNELS: Final = 8


@dataclass(frozen=True)
class Outputs:
    """What a call has made, each kind in order; a pipeline makes one kind."""

    images: tuple[Image, ...] = ()

    videos: tuple[tuple[Image, ...], ...] = ()
    """The frames of each."""

    sounds: tuple[Samples, ...] = ()

    has_nan: bool = False
    """Whether any value was no number before it was made a colour or a level."""

    @property
    def count(self) -> int:
        """Outputs of any kind."""
        return len(self.images) + len(self.videos) + len(self.sounds)


def outputs_of(output: object) -> Outputs:
    """The pictures, videos or sounds of a pipeline's output.

    Raises
    ------
    PipelineError
        If there are none in it.
    """
    outputs = find_outputs(output)
    if not outputs.count:
        raise PipelineError(
            f"the pipeline returned a {type(output).__name__} without pictures, videos or sounds",
            hint="Call it yourself through lab.observe(pipe): that measures any output.",
        )
    return outputs


def find_outputs(output: object) -> Outputs:
    """The pictures, videos and sounds of a pipeline's output; none for latents and whatever else is none of them.

    Pictures may be PIL, NumPy (N, H, W, C) or torch (N, C, H, W) in 0 to 1, videos lists of lists of PIL, NumPy
    (N, frames, H, W, C) or torch (N, frames, C, H, W), sounds NumPy or torch (N, samples) or (N, channels, samples).
    """
    if isinstance(output, dict):  # diffusers' BaseOutput is one
        if output.get("audios") is not None:
            return _sounds(output["audios"])
        output = output.get("images", output.get("frames"))
    elif isinstance(output, tuple):
        output = output[0] if output else None
    videos = tuple(_videos(output))
    images = () if videos else tuple(image for part in _flattened(output) for image in _to_pil(part))
    return Outputs(images=images, videos=videos, has_nan=any(_has_nan(part) for part in _flattened(output)))


def find_warnings(output: object, outputs: Outputs) -> tuple[WarningData, ...]:
    """What looks wrong: values that are no numbers, pictures that are withheld or black, clipped sounds."""
    flagged = output.get("nsfw_content_detected") if isinstance(output, dict) else None
    return tuple(_warnings(outputs, flagged if isinstance(flagged, list) else []))


def output_metadata(job: JobRecord, *, seed: int | None) -> dict[str, str]:
    """The texts for an output's file: how it was made, as JSON under the journal's key; `seed` is this output's."""
    facts = {
        "run_id": job.run_id,
        "model": job.request.model,
        "seed": seed,
        "request": msgspec.to_builtins(job.request),
        "packages": environment().packages,
    }
    return {METADATA_KEY: msgspec.json.encode(facts).decode()}


def _warnings(outputs: Outputs, flagged: list[Any]) -> Iterator[WarningData]:
    if outputs.has_nan:
        yield WarningData(
            code="nan_in_picture" if not outputs.sounds else "nan_in_sound",
            message="the pipeline returned values that are no numbers",
            hint="float16 overflows in some VAEs: try dtype='float32' or 'bfloat16'.",
        )
    for index, image in enumerate(outputs.images):
        if index < len(flagged) and flagged[index]:
            yield WarningData(
                code="withheld_by_safety_checker",
                message=f"picture {index + 1} was blackened by the model's safety checker",
                hint="Change the prompt or the seed.",
            )
        elif _is_black(image):
            yield _black("picture", index)
    for index, frames in enumerate(outputs.videos):
        if all(map(_is_black, frames)):
            yield _black("video", index)
    for index, samples in enumerate(outputs.sounds):
        beyond = int((np.abs(samples) > 1).sum())
        if beyond:
            yield WarningData(
                code="clipped_sound",
                message=f"{beyond:,} of {samples.size:,} samples of sound {index + 1} are beyond full scale",
                hint="Lower the guidance scale, or take the samples from your own call through lab.observe(pipe).",
            )


def _black(kind: str, index: int) -> WarningData:
    return WarningData(
        code=f"black_{kind}",
        message=f"{kind} {index + 1} is all black",
        hint="With float16 that is an overflow more often than not: try dtype='float32' or 'bfloat16'.",
    )


def _sounds(audios: object) -> Outputs:
    batch = audios.detach().float().cpu().numpy() if isinstance(audios, torch.Tensor) else audios
    sounds: list[Samples] = []
    for sound in batch if isinstance(batch, list | np.ndarray) else []:
        samples = sound.detach().float().cpu().numpy() if isinstance(sound, torch.Tensor) else np.asarray(sound)
        samples = np.atleast_2d(samples).astype(np.float32)
        if samples.ndim == 2 and samples.shape[0] <= _MAX_SOUND_CHANNELS and samples.shape[1]:
            sounds.append(samples)
    return Outputs(sounds=tuple(sounds), has_nan=any(bool(np.isnan(samples).any()) for samples in sounds))


def _videos(value: Any) -> Iterator[tuple[Image, ...]]:
    if isinstance(value, torch.Tensor) and value.ndim == 5:
        value = list(value)
    if isinstance(value, np.ndarray) and value.ndim == 5:
        value = list(value)
    elif not (isinstance(value, list) and value and _is_video(value[0])):
        return
    for video in value:
        frames = tuple(image for part in _flattened(video) for image in _to_pil(part))
        if frames:
            yield frames


def _is_video(value: object) -> bool:
    """Whether the first of a batch is a video: frames in a list, or an array of them, four-dimensional."""
    return isinstance(value, list) or (isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 4)


def _flattened(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flattened(item)
    elif value is not None:
        yield value


def _to_pil(part: Any) -> Sequence[Image]:
    if isinstance(part, Image):
        return [part]
    if isinstance(part, torch.Tensor) and part.ndim == 4 and part.shape[1] in _PICTURE_CHANNELS:
        part = VaeImageProcessor.pt_to_numpy(part)
    if not (isinstance(part, np.ndarray) and part.ndim == 4 and part.shape[-1] in _PICTURE_CHANNELS):
        return []
    if not np.issubdtype(part.dtype, np.floating):
        return []
    images: list[Image] = VaeImageProcessor.numpy_to_pil(np.nan_to_num(part).clip(0, 1))
    return images


def _has_nan(part: Any) -> bool:
    if isinstance(part, torch.Tensor):
        return bool(torch.isnan(part).any())
    return isinstance(part, np.ndarray) and np.issubdtype(part.dtype, np.floating) and bool(np.isnan(part).any())


def _is_black(image: Image) -> bool:
    return image.convert("L").getextrema()[1] == 0
