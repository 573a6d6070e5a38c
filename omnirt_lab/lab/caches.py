"""The caches of this process, as `omnirt_lab.cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from omnirt_lab.engine.remembering import CACHE_TYPE, RESULTS
from omnirt_lab.executors import close_executors, far_cache_figures

if TYPE_CHECKING:
    from omnirt_lab.executors.resources import Resources


class Caches:
    """What stays between runs: resident pipelines, text embeddings, latents of input pictures, and whole results."""

    def stats(self) -> dict[str, dict[str, Any]]:
        """Calls, hits, entries, bytes and saved nanoseconds, by cache type.

        `denoiser_…` are there once such a cache was used. `workers` has the same of each warm child process, by its
        worker's id.
        """
        return {
            **_resources().cache_figures(),
            CACHE_TYPE: msgspec.to_builtins(RESULTS.stats()),
            "workers": far_cache_figures(),
        }

    def clear(self) -> None:
        """Forget all embeddings and latents, end child processes, and let go of every resident pipeline.

        What a run is using stays in memory until it has ended. Results are runs of the history, and stay there.
        """
        close_executors()
        _resources().clear()
        RESULTS.clear()

    def __repr__(self) -> str:
        return f"<Caches {self.stats()}>"


def _resources() -> Resources:
    from omnirt_lab.executors.resources import RESOURCES  # loads torch

    return RESOURCES
