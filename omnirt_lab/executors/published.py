"""Runs requests on a pipeline that its owner has published: theirs, as it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.executors.batched_call import SECOND, BatchedCall, Row
from omnirt_lab.executors.legacy_call import LegacyCall
from omnirt_lab.executors.modular import ModularCall
from omnirt_lab.executors.observed import OwnCall, attach, detach, is_observed, own_class, require_pipeline
from omnirt_lab.executors.resources import RESOURCES
from omnirt_lab.pipelines.batching import is_batched_by_rows
from omnirt_lab.pipelines.call_arguments import call_parameters, named_arguments
from omnirt_lab.pipelines.call_plan import SETTINGS
from omnirt_lab.pipelines.denoiser_caches import check_denoiser_cache
from omnirt_lab.pipelines.modular_plan import require_no_denoiser_cache
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.scheduler_locks import scheduler_lock

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from omnirt_lab.journal import JobWriter
    from omnirt_lab.pipelines.sink import CallInterceptor
    from omnirt_lab.pipelines.sites import AnyPipeline
    from omnirt_lab.records import ExecutionMode, GenerateRequest

_MODES: Final[tuple[ExecutionMode, ...]] = ("legacy_call", "modular")


class PublishedCall(LegacyCall):
    """One job on the owner's pipeline. Nothing is loaded or moved, and no cache stands between."""

    def __init__(self, pipeline: DiffusionPipeline, writer: JobWriter, *, attempt: int = 1) -> None:
        super().__init__(writer.job.request, writer, RESOURCES, attempt=attempt)
        self._pipeline = pipeline

    def _find_pipeline(self, stack: ExitStack) -> DiffusionPipeline:  # noqa: ARG002  # it stays its owner's
        _require_as_it_stands(self._request)
        check_denoiser_cache(self._request.config, type(self._pipeline))
        return self._pipeline

    def _probe(self, pipeline: AnyPipeline, interceptors: Sequence[CallInterceptor]) -> Probe:
        return Probe(pipeline, interceptors=interceptors)


class PublishedRow(Row):
    """One job's part in a shared call of the owner's pipeline."""

    def __init__(self, pipeline: DiffusionPipeline, writer: JobWriter) -> None:
        super().__init__(writer)
        self._pipeline = pipeline

    def alone(self) -> PublishedCall:
        """The job in a call of its own, as its second attempt."""
        return PublishedCall(self._pipeline, self.writer, attempt=SECOND)


class PublishedBatchedCall(BatchedCall):
    """One call of the owner's pipeline for several jobs, whose requests have the same `shape_of`."""

    def __init__(self, pipeline: DiffusionPipeline, writers: Sequence[JobWriter]) -> None:
        self._pipeline = pipeline  # before the rows, which are made for it
        super().__init__(writers)

    def _row(self, writer: JobWriter) -> PublishedRow:
        return PublishedRow(self._pipeline, writer)

    def _find_pipeline(self, stack: ExitStack) -> DiffusionPipeline:  # noqa: ARG002  # as below
        return self._pipeline

    def _probe(self, pipeline: AnyPipeline, interceptors: Sequence[CallInterceptor]) -> Probe:
        return Probe(pipeline, interceptors=interceptors)


class PublishedModularCall(ModularCall):
    """One job by blocks, on the components of the owner's pipeline."""

    def __init__(self, pipeline: DiffusionPipeline, writer: JobWriter) -> None:
        super().__init__(writer.job.request, writer, RESOURCES)
        self._pipeline = pipeline

    def _hold(self, stack: ExitStack) -> DiffusionPipeline:  # noqa: ARG002  # it stays its owner's
        _require_as_it_stands(self._request)
        require_no_denoiser_cache(self._request)
        return self._pipeline

    def _probe(self, pipeline: AnyPipeline, interceptors: Sequence[CallInterceptor]) -> Probe:
        return Probe(pipeline, interceptors=interceptors)


def published_call(pipeline: DiffusionPipeline, writer: JobWriter) -> PublishedCall | PublishedModularCall:
    """The execution of the writer's job."""
    by_blocks = writer.job.request.config.execution_mode == "modular"
    return PublishedModularCall(pipeline, writer) if by_blocks else PublishedCall(pipeline, writer)


def takes_company(pipeline: DiffusionPipeline, request: GenerateRequest) -> bool:
    """Whether the pipeline may run the request in one call with others of its shape.

    Raises
    ------
    InvalidRequestError
        If it cannot run it at all.
    """
    _require_as_it_stands(request)
    pipeline_class = own_class(pipeline)
    named_arguments(pipeline_class.__name__, call_parameters(pipeline_class), request)
    return is_batched_by_rows(pipeline_class)


def _require_as_it_stands(request: GenerateRequest) -> None:
    for name in SETTINGS:
        if getattr(request.config, name) is not None:
            raise InvalidRequestError(
                f"{request.model!r} is a published pipeline, which keeps its own {name}", hint=f"Leave {name} out."
            )
    if request.config.result_cache:
        raise InvalidRequestError(
            f"{request.model!r} is a published pipeline, whose owner may change it between two runs",
            hint="Leave result_cache out.",
        )
    if request.config.timeout_s is not None:
        raise InvalidRequestError(
            f"{request.model!r} is a published pipeline, and its owner's process is not killed for timeout_s",
            hint="Leave timeout_s out, and cancel the job.",
        )
    if request.config.execution_mode not in _MODES:
        raise InvalidRequestError(
            f"{request.model!r} is a published pipeline, which cannot be run by {request.config.execution_mode}",
            hint="Leave execution_mode out.",
        )


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
