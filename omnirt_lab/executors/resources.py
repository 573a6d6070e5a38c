"""What executors of this process share between jobs: resident pipelines, cached embeddings and latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from diffusers import DiffusionPipeline

from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.pipelines.image_latents import ImageLatentCache
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.residency import ResidencyCache
from omnirt_lab.pipelines.sink import CallInterceptor
from omnirt_lab.pipelines.text_embeddings import TextEmbeddingCache


class Resources:
    """Made once a process."""

    def __init__(self) -> None:
        self._residency = ResidencyCache()
        self._text_embeddings = TextEmbeddingCache()
        self._image_latents = ImageLatentCache()

    @property
    def residency(self) -> ResidencyCache:
        """The pipelines in memory; on or off, and with as much room, as the settings say now."""
        self._residency.is_enabled = SETTINGS.current.resident_pipeline_cache
        self._residency.budget_bytes = SETTINGS.current.resident_pipeline_bytes
        return self._residency

    @property
    def text_embeddings(self) -> TextEmbeddingCache:
        """What texts were encoded to; likewise."""
        self._text_embeddings.is_enabled = SETTINGS.current.text_embedding_cache
        return self._text_embeddings

    @property
    def image_latents(self) -> ImageLatentCache:
        """What input pictures were encoded to; likewise."""
        self._image_latents.is_enabled = SETTINGS.current.image_latent_cache
        return self._image_latents

    def probe(self, pipeline: DiffusionPipeline, interceptors: Sequence[CallInterceptor] = ()) -> Probe:
        """A probe that answers encoders from the caches; kept by nobody, as it keeps the pipeline."""
        return Probe(pipeline, interceptors=[self.text_embeddings, self.image_latents, *interceptors])


RESOURCES: Final = Resources()
