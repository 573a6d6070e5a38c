"""Calls of pipelines that the lab did not load: watched, and otherwise untouched."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

from diffusers import DiffusionPipeline

from omnirt_lab.errors import InvalidRequestError, PipelineBusyError
from omnirt_lab.executors.export import Export
from omnirt_lab.executors.resources import RESOURCES
from omnirt_lab.executors.timed_stage import timed_stage
from omnirt_lab.pipelines.call_arguments import find_sample_rate_hz, frame_rate
from omnirt_lab.pipelines.environment import environment
from omnirt_lab.pipelines.outputs import find_outputs
from omnirt_lab.pipelines.probe import Probe, Reading
from omnirt_lab.pipelines.resolution import resolve
from omnirt_lab.pipelines.scheduler_locks import scheduler_lock
from omnirt_lab.records import Artifact, JobFinishedData, JobStartedData, ProbeCost, Resolved, WarningData

if TYPE_CHECKING:
    from omnirt_lab.journal import JobWriter

OnCall: TypeAlias = Callable[["OwnCall"], Any]

_OWN_CLASSES: weakref.WeakKeyDictionary[DiffusionPipeline, type[DiffusionPipeline]] = weakref.WeakKeyDictionary()
"""Observed pipeline → the class that it had before."""


class OwnCall:
    """One call as its caller made it; calling this does what the pipeline would have done unwatched."""

    def __init__(self, pipeline: DiffusionPipeline, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.pipeline = pipeline
        self._args = args
        self._kwargs = kwargs
        self._function = own_class(pipeline).__call__

    def __call__(self) -> Any:
        """Call the pipeline's own function."""
        return self._function(self.pipeline, *self._args, **self._kwargs)

    def arguments(self) -> dict[str, Any]:
        """The arguments by name, without defaults.

        Raises
        ------
        TypeError
            If they do not fit the pipeline's signature; the call itself would say so too.
        """
        bound = inspect.signature(self._function).bind(self.pipeline, *self._args, **self._kwargs)
        named = dict(bound.arguments)
        del named["self"]
        named.update(named.pop("kwargs", {}))
        return named


def require_pipeline(candidate: object) -> None:
    """Refuse what is no diffusers pipeline.

    Raises
    ------
    InvalidRequestError
        Naming what it is instead.
    """
    if not isinstance(candidate, DiffusionPipeline):
        raise InvalidRequestError(
            f"observe() takes a diffusers pipeline, not {type(candidate).__name__}",
            hint="Pass the DiffusionPipeline object itself, such as StableDiffusionPipeline.from_pretrained(...).",
        )


def own_class(pipeline: DiffusionPipeline) -> type[DiffusionPipeline]:
    """The pipeline's class, as if it were not observed."""
    return _OWN_CLASSES.get(pipeline, type(pipeline))


def is_observed(pipeline: DiffusionPipeline) -> bool:
    """Whether something stands in the place of its own call."""
    return pipeline in _OWN_CLASSES


def attach(pipeline: DiffusionPipeline, on_call: OnCall) -> None:
    """Let `on_call` stand where the pipeline's own call stood.

    A call is looked up on the class, so the object gets a subclass of its own that looks like the original.
    """
    detach(pipeline)
    original, observed = type(pipeline), weakref.ref(pipeline)

    @functools.wraps(original.__call__)
    def watched(self: DiffusionPipeline, *args: Any, **kwargs: Any) -> Any:
        if self is not observed():  # a copy, or made by the class's from_pipe: nobody asked to watch it
            return original.__call__(self, *args, **kwargs)
        return on_call(OwnCall(self, args, kwargs))

    names = {"__call__": watched, "__module__": original.__module__, "__qualname__": original.__qualname__}
    _OWN_CLASSES[pipeline] = original
    pipeline.__class__ = type(original.__name__, (original,), {**names, "__doc__": original.__doc__})


def detach(pipeline: DiffusionPipeline) -> None:
    """Give the pipeline its own class back."""
    original = _OWN_CLASSES.pop(pipeline, None)
    if original is not None:
        pipeline.__class__ = original


def probe_for(pipeline: DiffusionPipeline, *, cache_text_embeddings: bool) -> Probe:
    """Build the probe that will watch the pipeline's calls."""
    return Probe(pipeline, interceptors=[RESOURCES.text_embeddings] if cache_text_embeddings else [])


class ObservedCall:
    """One watched call; its `output` is what the caller gets, whatever becomes of the report."""

    def __init__(self, call: OwnCall, writer: JobWriter, probe: Probe, *, keep_pictures: bool) -> None:
        self._call = call
        self._writer = writer
        self._probe = probe
        self._keep_pictures = keep_pictures
        self._reading = Reading()
        self.output: Any = None

    @property
    def cost(self) -> ProbeCost:
        """What the probe cost; its defaults if the job ended before the call."""
        return self._reading.cost

    def run(self) -> JobFinishedData:
        """Describe the call, make it, then store the pictures that came out."""
        pipeline, writer = self._call.pipeline, self._writer
        with scheduler_lock(getattr(pipeline, "scheduler", pipeline)):
            writer.emit(
                JobStartedData(worker_id=writer.worker_id, execution_mode="legacy_call", environment=environment())
            )
            with timed_stage(writer, "describe") as end:
                end.resolved = self._resolved()
            with ExitStack() as stack:
                self._begin_watching(stack)
                self.output = self._call()
        return JobFinishedData(
            artifacts=self._kept_pictures(),
            latent_stats=self._reading.latent_stats,
            device_spans=self._reading.device_spans,
            probe=self._reading.cost,
        )

    def _resolved(self) -> Resolved | None:
        try:
            return resolve(self._call.pipeline, self._call.arguments())
        except Exception as error:  # noqa: BLE001  # watching a call must never break it
            self._warn("call_not_described", error)
            return None

    def _begin_watching(self, stack: ExitStack) -> None:
        """Have the probe watch the call, unless it watches an outer one on the same parts already."""
        try:
            watching = self._probe.watch(
                self._writer, should_stop=self._writer.is_cancel_requested, viewer=self._writer
            )
            self._reading = stack.enter_context(watching)
        except PipelineBusyError as error:
            self._warn("call_not_measured", error)

    def _warn(self, code: str, error: Exception) -> None:
        self._writer.emit(WarningData(code=code, message=f"{type(error).__name__}: {error}"))

    def _kept_pictures(self) -> tuple[Artifact, ...]:
        if not self._keep_pictures:
            return ()
        try:
            with timed_stage(self._writer, "export"):
                outputs = find_outputs(self.output)
                export = Export(
                    self._writer,
                    seeds=[None] * outputs.count,
                    fps=frame_rate(self._call.pipeline, self._writer.job.request),
                    sample_rate_hz=find_sample_rate_hz(self._call.pipeline),
                )
                return export.store(outputs)
        except Exception as error:  # noqa: BLE001  # the caller still gets the output
            self._warn("pictures_not_kept", error)
            return ()
