"""What executors of this process share between jobs: resident pipelines, cached embeddings and latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from diffusers import DiffusionPipeline

from omnirt_lab.executors.messages import CacheFigures
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.pipelines.call_arguments import call_parameters
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.denoiser_caches import DenoiserCacheFigures
from omnirt_lab.pipelines.image_latents import ImageLatentCache
from omnirt_lab.pipelines.loading import get_pipeline_class, resolve_placement
from omnirt_lab.pipelines.memory_check import require_memory
from omnirt_lab.pipelines.memory_estimate import Plan
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.residency import CACHE_TYPE as RESIDENT_PIPELINE
from omnirt_lab.pipelines.residency import ResidencyCache
from omnirt_lab.pipelines.sink import CallInterceptor
from omnirt_lab.pipelines.text_embeddings import TextEmbeddingCache
from omnirt_lab.records import GenerateRequest, Record


class Resources:
    """Made once a process."""

    def __init__(self) -> None:
        self._residency = ResidencyCache()
        self._text_embeddings = TextEmbeddingCache()
        self._image_latents = ImageLatentCache()
        self.denoiser_caches = DenoiserCacheFigures()

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

    def memory_plan(self, source: ModelSource, request: GenerateRequest, *, rows: int = 1) -> Plan:
        """What decides how much memory a run of this request takes, whose preset is merged."""
        config, by_blocks = request.config, source.blocks_class is not None
        resident: dict[str, int] = {}
        for model in self.residency.stats().models:
            for device, held in model.held_bytes.items():
                resident[device] = resident.get(device, 0) + held
        return Plan(
            source=source,
            config=config,
            device=resolve_placement(config.dtype, config.device).device,
            accepted={} if by_blocks else call_parameters(get_pipeline_class(source, request.task)),
            rows=rows,
            resident_bytes=resident,
        )

    def require_memory(self, source: ModelSource, request: GenerateRequest, *, rows: int = 1) -> None:
        """Refuse a run that certainly does not fit, unless the settings say not to.

        Raises
        ------
        NotEnoughMemoryError
            Saying what would fit.
        """
        if SETTINGS.current.memory_check:
            require_memory(self.memory_plan(source, request, rows=rows))

    def cache_figures(self) -> CacheFigures:
        """What each cache has done and holds, by its type."""
        stats: dict[str, Record] = {
            RESIDENT_PIPELINE: self.residency.stats(),
            self.text_embeddings.cache_type: self.text_embeddings.stats(),
            self.image_latents.cache_type: self.image_latents.stats(),
            **self.denoiser_caches.stats(),
        }
        return {cache_type: msgspec.to_builtins(figures) for cache_type, figures in stats.items()}

    def clear(self) -> None:
        """Forget everything; what a run is using stays in memory until it has ended."""
        self._text_embeddings.clear()
        self._image_latents.clear()
        self.denoiser_caches.clear()
        self._residency.clear()

    def probe(self, pipeline: DiffusionPipeline, interceptors: Sequence[CallInterceptor] = ()) -> Probe:
        """A probe that answers encoders from the caches; kept by nobody, as it keeps the pipeline."""
        return Probe(pipeline, interceptors=[self.text_embeddings, self.image_latents, *interceptors])


RESOURCES: Final = Resources()
