"""The caches of this process, as `omnirt_lab.cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from omnirt_lab.executors import close_executors

if TYPE_CHECKING:
    from omnirt_lab.executors.resources import Resources


class Caches:
    """What stays between runs: resident pipelines, text embeddings and latents of input pictures."""

    def stats(self) -> dict[str, dict[str, Any]]:
        """Calls, hits, entries, bytes and saved nanoseconds, by cache type."""
        resources = _resources()
        return {
            "resident_pipeline": msgspec.to_builtins(resources.residency.stats()),
            "text_embedding": msgspec.to_builtins(resources.text_embeddings.stats()),
            "image_latents": msgspec.to_builtins(resources.image_latents.stats()),
        }

    def clear(self) -> None:
        """Forget all embeddings and latents, end child processes, and let go of every resident pipeline.

        What a run is using stays in memory until it has ended.
        """
        close_executors()
        resources = _resources()
        resources.text_embeddings.clear()
        resources.image_latents.clear()
        resources.residency.clear()

    def __repr__(self) -> str:
        return f"<Caches {self.stats()}>"


def _resources() -> Resources:
    from omnirt_lab.executors.resources import RESOURCES  # loads torch

    return RESOURCES
