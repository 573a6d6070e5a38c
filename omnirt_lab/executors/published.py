"""Runs requests on a pipeline that its owner has published: theirs, as it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.executors.legacy_call import LegacyCall
from omnirt_lab.executors.observed import OwnCall, attach, detach, is_observed, require_pipeline
from omnirt_lab.executors.resources import RESOURCES
from omnirt_lab.pipelines.call_plan import SETTINGS
from omnirt_lab.pipelines.denoiser_caches import check_denoiser_cache
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.scheduler_locks import scheduler_lock

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from omnirt_lab.journal import JobWriter
    from omnirt_lab.pipelines.sink import CallInterceptor


class PublishedCall(LegacyCall):
    """One job on the owner's pipeline. Nothing is loaded or moved, and no cache stands between."""

    def __init__(self, pipeline: DiffusionPipeline, writer: JobWriter) -> None:
        super().__init__(writer.job.request, writer, RESOURCES)
        self._pipeline = pipeline

    def _find_pipeline(self) -> DiffusionPipeline:
        config = self._request.config
        for name in SETTINGS:
            if getattr(config, name) is not None:
                raise InvalidRequestError(
                    f"{self._request.model!r} is a published pipeline, which keeps its own {name}",
                    hint=f"Leave {name} out.",
                )
        if config.execution_mode != "legacy_call":
            raise InvalidRequestError(
                f"{self._request.model!r} is a published pipeline, which cannot be run by {config.execution_mode}",
                hint="Leave execution_mode out.",
            )
        check_denoiser_cache(config, type(self._pipeline))
        return self._pipeline

    def _probe(self, pipeline: DiffusionPipeline, interceptors: Sequence[CallInterceptor]) -> Probe:
        return Probe(pipeline, interceptors=interceptors)


@contextmanager
def guarded(pipeline: DiffusionPipeline) -> Iterator[None]:
    """In the block the owner's own calls wait for a job that runs on the pipeline; observed ones do so anyway.

    Raises
    ------
    InvalidRequestError
        If it is no diffusers pipeline.
    """
    require_pipeline(pipeline)
    if is_observed(pipeline):
        yield
        return
    attach(pipeline, _call_alone)
    guard = type(pipeline)
    try:
        yield
    finally:
        if type(pipeline) is guard:  # nobody has observed it since
            detach(pipeline)


def _call_alone(call: OwnCall) -> Any:
    with scheduler_lock(getattr(call.pipeline, "scheduler", call.pipeline)):
        return call()
