"""The caches of this process, as `omnirt_lab.cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from omnirt_lab.executors import close_executors

if TYPE_CHECKING:
    from omnirt_lab.executors.resources import Resources


class Caches:
    """What stays between runs: resident pipelines and text embeddings."""

    def stats(self) -> dict[str, dict[str, Any]]:
        """Calls, hits, entries, bytes and saved nanoseconds, by cache type."""
        resources = _resources()
        return {
            "resident_pipeline": msgspec.to_builtins(resources.residency.stats()),
            "text_embedding": msgspec.to_builtins(resources.text_embeddings.stats()),
        }

    def clear(self) -> None:
        """Forget all embeddings, end child processes, and let go of every resident pipeline that no run is using."""
        close_executors()
        resources = _resources()
        resources.text_embeddings.clear()
        resources.residency.clear()

    def __repr__(self) -> str:
        return f"<Caches {self.stats()}>"


def _resources() -> Resources:
    from omnirt_lab.executors.resources import RESOURCES  # loads torch

    return RESOURCES
