"""What executors of this process share between jobs: resident pipelines, cached embeddings and latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from diffusers import DiffusionPipeline

from omnirt_lab.pipelines.image_latents import ImageLatentCache
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.residency import ResidencyCache
from omnirt_lab.pipelines.sink import CallInterceptor
from omnirt_lab.pipelines.text_embeddings import TextEmbeddingCache


class Resources:
    """Made once a process."""

    def __init__(self) -> None:
        self.residency = ResidencyCache()
        self.text_embeddings = TextEmbeddingCache()
        self.image_latents = ImageLatentCache()

    def probe(self, pipeline: DiffusionPipeline, interceptors: Sequence[CallInterceptor] = ()) -> Probe:
        """A probe that answers encoders from the caches; kept by nobody, as it keeps the pipeline."""
        return Probe(pipeline, interceptors=[self.text_embeddings, self.image_latents, *interceptors])


RESOURCES: Final = Resources()
