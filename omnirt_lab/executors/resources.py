"""What executors of this process share between jobs: resident pipelines, cached embeddings, built probes."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from diffusers import DiffusionPipeline

from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.residency import ResidencyCache
from omnirt_lab.pipelines.text_embeddings import TextEmbeddingCache


class Resources:
    """Made once a process."""

    def __init__(self) -> None:
        self.residency = ResidencyCache()
        self.text_embeddings = TextEmbeddingCache()
        self._probes: WeakKeyDictionary[DiffusionPipeline, Probe] = WeakKeyDictionary()

    def probe(self, pipeline: DiffusionPipeline) -> Probe:
        """The probe of a pipeline that the lab loaded, built when it is first asked for."""
        probe = self._probes.get(pipeline)
        if probe is None:
            probe = self._probes[pipeline] = Probe(pipeline, interceptors=[self.text_embeddings])
        return probe


RESOURCES: Final = Resources()
