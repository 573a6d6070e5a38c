"""What a call has made becomes artifacts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace
from PIL import Image

from omnirt_lab.errors import PipelineError
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal import png_with_metadata
from omnirt_lab.pipelines.outputs import Outputs, output_metadata
from omnirt_lab.pipelines.sound import Samples, encode_wav
from omnirt_lab.pipelines.video import encode_mp4
from omnirt_lab.records import Artifact
from omnirt_lab.views.strip import strip_of
from omnirt_lab.views.waveform import waveform_of

if TYPE_CHECKING:
    from omnirt_lab.executors.run_writer import RunWriter


class Export:
    """Stores the outputs of one job; what made them is written into the files unless that is switched off.

    Parameters
    ----------
    seeds
        One an output, None where the generator was the caller's.
    fps
        Frames a second of its videos.
    sample_rate_hz
        Of its sounds.
    """

    def __init__(
        self, writer: RunWriter, *, seeds: Sequence[int | None], fps: float, sample_rate_hz: int | None
    ) -> None:
        self._writer = writer
        self._seeds = seeds
        self._fps = fps
        self._sample_rate_hz = sample_rate_hz

    def store(self, outputs: Outputs) -> tuple[Artifact, ...]:
        """Store each picture as PNG, each video as MP4, each sound as WAV, the latter two with a PNG to look at.

        Raises
        ------
        NotAvailableError
            If there are videos and no encoder.
        PipelineError
            If there are sounds and nobody knows their sampling rate.
        StateDirError
            If the disk is full or cannot be written.
        """
        pictures = [self._picture(image, index) for index, image in enumerate(outputs.images)]
        videos = [self._video(frames, index) for index, frames in enumerate(outputs.videos)]
        sounds = [self._sound(samples, index) for index, samples in enumerate(outputs.sounds)]
        return (*pictures, *videos, *sounds)

    def _picture(self, image: Image.Image, index: int) -> Artifact:
        return self._writer.artifacts.put_bytes(
            png_with_metadata(image, self._text(index)),
            media_type="image/png",
            width_px=image.width,
            height_px=image.height,
            index=index,
            seed=self._seeds[index],
        )

    def _video(self, frames: Sequence[Image.Image], index: int) -> Artifact:
        raw = hashlib.sha256()
        for frame in frames:
            raw.update(frame.convert("RGB").tobytes())
        stored = self._writer.artifacts.put_bytes(
            encode_mp4(frames, fps=self._fps, text=self._text(index)),
            media_type="video/mp4",
            width_px=frames[0].width,
            height_px=frames[0].height,
            index=index,
            seed=self._seeds[index],
        )
        return replace(
            stored,
            preview_sha256=self._preview(strip_of(frames), index),
            raw_sha256=raw.hexdigest(),
            frame_count=len(frames),
            fps=self._fps,
            duration_s=len(frames) / self._fps,
        )

    def _sound(self, samples: Samples, index: int) -> Artifact:
        if self._sample_rate_hz is None:
            raise PipelineError(
                "the pipeline does not say how many samples of its sound make a second",
                hint="Take them from your own call through lab.observe(pipe).",
            )
        stored = self._writer.artifacts.put_bytes(
            encode_wav(samples, sample_rate_hz=self._sample_rate_hz),
            media_type="audio/wav",
            index=index,
            seed=self._seeds[index],
        )
        return replace(
            stored,
            preview_sha256=self._preview(waveform_of(samples), index),
            raw_sha256=hashlib.sha256(samples.tobytes()).hexdigest(),
            sample_rate_hz=self._sample_rate_hz,
            duration_s=samples.shape[1] / self._sample_rate_hz,
        )

    def _preview(self, image: Image.Image, index: int) -> str:
        content = png_with_metadata(image, self._text(index))
        return self._writer.artifacts.put_bytes(content, media_type="image/png").sha256

    def _text(self, index: int) -> dict[str, str]:
        seed = self._seeds[index]
        return output_metadata(self._writer.job, seed=seed) if SETTINGS.current.embed_metadata else {}
