"""Calls of pipelines that the lab did not load: watched, and otherwise untouched."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from diffusers import DiffusionPipeline

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.executors.export import store_pictures
from omnirt_lab.executors.resources import RESOURCES
from omnirt_lab.executors.timed_stage import timed_stage
from omnirt_lab.pipelines.environment import environment
from omnirt_lab.pipelines.outputs import find_images
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.resolution import resolve
from omnirt_lab.pipelines.scheduler_locks import scheduler_lock
from omnirt_lab.records import Artifact, JobFinishedData, JobStartedData, ProbeCost, WarningData

if TYPE_CHECKING:
    from omnirt_lab.journal import JobWriter
    from omnirt_lab.pipelines.probe import Reading

Call: TypeAlias = Callable[[Mapping[str, Any]], Any]
OnCall: TypeAlias = Callable[["OwnCall"], Any]

_OWN_CLASSES: WeakKeyDictionary[DiffusionPipeline, type[DiffusionPipeline]] = WeakKeyDictionary()
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


def attach(pipeline: DiffusionPipeline, on_call: OnCall) -> None:
    """Let `on_call` stand where the pipeline's own call stood.

    A call is looked up on the class, so the object gets a subclass of its own that looks like the original.
    """
    detach(pipeline)
    original = type(pipeline)

    @functools.wraps(original.__call__)
    def watched(self: DiffusionPipeline, *args: Any, **kwargs: Any) -> Any:
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
        self._reading: Reading | None = None
        self.output: Any = None

    @property
    def cost(self) -> ProbeCost:
        """What the probe cost; its defaults if the job ended before the call."""
        return ProbeCost() if self._reading is None else self._reading.cost

    def run(self) -> JobFinishedData:
        """Call, then store the pictures that came out."""
        pipeline, writer = self._call.pipeline, self._writer
        with scheduler_lock(pipeline.scheduler):
            writer.emit(
                JobStartedData(
                    worker_id=writer.worker_id,
                    execution_mode="legacy_call",
                    environment=environment(),
                    resolved=resolve(pipeline, self._call.arguments()),
                )
            )
            with self._probe.watch(writer, should_stop=writer.is_cancel_requested) as self._reading:
                self.output = self._call()
        return JobFinishedData(
            artifacts=self._kept_pictures(),
            latent_stats=self._reading.latent_stats,
            device_spans=self._reading.device_spans,
            probe=self._reading.cost,
        )

    def _kept_pictures(self) -> tuple[Artifact, ...]:
        images = find_images(self.output) if self._keep_pictures else []
        if not images:
            return ()
        try:
            with timed_stage(self._writer, "export"):
                return store_pictures(images, self._writer, seeds=[None] * len(images))
        except OSError as error:  # the caller still gets the output
            self._writer.emit(WarningData(code="pictures_not_kept", message=str(error), hint="Free some disk space."))
            return ()
