"""The general executor: calls the diffusers pipeline's own `__call__`, with the probe around it."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec.structs import replace

from omnirt_lab.executors.export import Export
from omnirt_lab.executors.observed import own_class
from omnirt_lab.executors.resources import RESOURCES, Resources
from omnirt_lab.executors.timed_stage import timed_stage
from omnirt_lab.pipelines.adapters import use_adapters
from omnirt_lab.pipelines.call_arguments import (
    call_arguments,
    find_sample_rate_hz,
    frame_rate,
    parameters_of,
    seeded_generators,
)
from omnirt_lab.pipelines.call_plan import merge_preset, plan_call, settings_of
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.denoiser_caches import CacheCounter, cache_settings, use_denoiser_cache
from omnirt_lab.pipelines.environment import environment
from omnirt_lab.pipelines.input_pictures import InputPictures, fitted
from omnirt_lab.pipelines.outputs import find_warnings, outputs_of
from omnirt_lab.pipelines.resolution import resolve
from omnirt_lab.pipelines.scheduler_locks import scheduler_lock
from omnirt_lab.pipelines.schedulers import use_scheduler
from omnirt_lab.pipelines.setup import Setup
from omnirt_lab.pipelines.vae_settings import use_vae_settings, vae_settings_in_effect
from omnirt_lab.records import (
    VIDEO_TASKS,
    Artifact,
    CacheHitData,
    CacheMissData,
    Eviction,
    GenerateRequest,
    JobFinishedData,
    JobStartedData,
    ProbeCost,
    Resolved,
    WarningData,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from omnirt_lab.executors.run_writer import RunWriter
    from omnirt_lab.pipelines.catalog import ModelSource
    from omnirt_lab.pipelines.previews import PreviewViewer
    from omnirt_lab.pipelines.probe import Probe, Reading
    from omnirt_lab.pipelines.residency import Resident
    from omnirt_lab.pipelines.sink import CallInterceptor
    from omnirt_lab.pipelines.sites import AnyPipeline

MAX_DRAWN_SEED: Final = 2**32
"""Small enough to be typed again, and exact in JavaScript."""


class Made(NamedTuple):
    """What a call has come to, before anything is stored."""

    output: object
    fps: float
    """Of its videos."""
    sample_rate_hz: int | None
    """Of its sounds."""
    finished: JobFinishedData
    """Without the artifacts."""


class LegacyCallExecutor:
    """Runs requests one after the other on resident pipelines."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def check(self, request: GenerateRequest) -> None:
        """Check the request against the model's files and its pipeline's signature; no weights are loaded."""
        plan_call(get_model(request.model), request)

    def begin(
        self, request: GenerateRequest, writer: RunWriter, *, attempt: int = 1, node: str | None = None
    ) -> LegacyCall:
        """Take the job; `node` is the machine, where this process belongs to a cluster."""
        return LegacyCall(request, writer, self._resources, attempt=attempt, node=node)


class LegacyCall:
    """One job: 1. `load` makes the pipeline and its arguments, 2. the probe watches the call, 3. `export` stores."""

    def __init__(
        self,
        request: GenerateRequest,
        writer: RunWriter,
        resources: Resources,
        *,
        attempt: int = 1,
        node: str | None = None,
    ) -> None:
        self._request = request
        self._writer = writer
        self._resources = resources
        self._attempt = attempt
        self._node = node
        self._viewer: PreviewViewer | None = writer
        self._rows = 1
        """Requests in the call."""
        self._reading: Reading | None = None
        self._from_preset: frozenset[str] = frozenset()
        wanted = request.config.seed
        self._seed = secrets.randbelow(MAX_DRAWN_SEED) if wanted is None else wanted

    @property
    def cost(self) -> ProbeCost:
        """What the probe cost; its defaults if the job ended before the call."""
        return ProbeCost() if self._reading is None else self._reading.cost

    def run(self) -> JobFinishedData:
        """Load, call, export."""
        return self._stored(self._make())

    def _stored(self, made: Made) -> JobFinishedData:
        with timed_stage(self._writer, "export"):
            artifacts = self._export(made)
        return replace(made.finished, artifacts=artifacts)

    def _make(self) -> Made:
        """Load and call."""
        self._writer.emit(self._started())
        with ExitStack() as stack:
            pipeline, arguments = self._load(stack)
            counter = self._begin_caching(stack, pipeline, arguments)
            probe = self._probe(pipeline, () if counter is None else (counter,))
            watching = probe.watch(
                self._writer, should_stop=self._writer.is_cancel_requested, viewer=self._viewer, rows=self._rows
            )
            with watching as self._reading:
                output = self._call(pipeline, arguments)
        if counter is not None:
            self._resources.denoiser_caches.add(counter)
            self._warn(counter.warnings())
        finished = JobFinishedData(
            latent_stats=self._reading.latent_stats,
            device_spans=self._reading.device_spans,
            probe=self._reading.cost,
        )
        return Made(output, frame_rate(pipeline, self._request), find_sample_rate_hz(pipeline), finished)

    def _started(self) -> JobStartedData:
        return JobStartedData(
            worker_id=self._writer.worker_id,
            execution_mode=self._request.config.execution_mode,  # `subprocess`, `ray`: for them this makes the call
            environment=environment(),
            attempt=self._attempt,
            node=self._node,
        )

    def _export(self, made: Made) -> tuple[Artifact, ...]:
        outputs = outputs_of(made.output)
        self._warn(find_warnings(made.output, outputs))
        export = Export(
            self._writer,
            seeds=range(self._seed, self._seed + outputs.count),
            fps=made.fps,
            sample_rate_hz=made.sample_rate_hz,
        )
        return export.store(outputs)

    def _load(self, stack: ExitStack) -> tuple[AnyPipeline, dict[str, Any]]:
        """Make everything ready that the call needs; what must be undone afterwards goes on `stack`."""
        with timed_stage(self._writer, "load") as end:
            pipeline = self._find_pipeline(stack)
            request, config = self._request, self._request.config
            stack.enter_context(scheduler_lock(pipeline.scheduler))
            stack.enter_context(use_scheduler(pipeline, config.scheduler))
            self._warn(stack.enter_context(use_adapters(self._adaptable(pipeline), request.adapters)))
            self._warn(stack.enter_context(use_vae_settings(pipeline, config, optional=self._from_preset)))
            generators = seeded_generators(self._seed, config.num_images)
            given = self._input_pictures(pipeline)
            arguments = call_arguments(
                pipeline, request, generators=generators, image=given.image, mask=given.mask, size=given.size
            )
            end.resolved = self._resolved(pipeline, arguments)
        return pipeline, arguments

    def _begin_caching(self, stack: ExitStack, pipeline: AnyPipeline, arguments: dict[str, Any]) -> CacheCounter | None:
        steps = _steps_of(pipeline, arguments)
        return stack.enter_context(use_denoiser_cache(pipeline, self._request.config, steps=steps))

    def _find_pipeline(self, stack: ExitStack) -> AnyPipeline:
        """The pipeline, which stays this run's until the stack ends; from here on the request has its preset in it."""
        source = get_model(self._request.model)
        plan = merge_preset(source, self._request)
        self._request, self._from_preset = plan.request, plan.from_preset
        return self._resident(stack, source)

    def _resident(self, stack: ExitStack, source: ModelSource) -> AnyPipeline:
        config = self._request.config
        self._resources.require_memory(source, self._request, rows=self._rows)
        using = self._resources.residency.use(
            source,
            task=self._request.task,
            dtype=config.dtype,
            device=config.device,
            setup=Setup.of(config),
            on_eviction=self._report_eviction,
        )
        resident = stack.enter_context(using)
        self._report_residency(resident)
        self._warn(resident.warnings)
        return resident.pipeline

    def _probe(self, pipeline: AnyPipeline, interceptors: Sequence[CallInterceptor]) -> Probe:
        return self._resources.probe(pipeline, interceptors)

    def _adaptable(self, pipeline: AnyPipeline) -> AnyPipeline:
        """What adapters are loaded into."""
        return pipeline

    def _call(self, pipeline: AnyPipeline, arguments: dict[str, Any]) -> object:
        return own_class(pipeline).__call__(pipeline, **arguments)

    def _input_pictures(self, pipeline: AnyPipeline) -> InputPictures:
        image, mask = (
            None if sha256 is None else self._writer.artifacts.read(sha256)
            for sha256 in (self._request.inputs.image, self._request.inputs.mask)
        )
        given = fitted(pipeline, self._request, image=image, mask=mask)
        self._warn(given.warnings)
        return given

    def _resolved(self, pipeline: AnyPipeline, arguments: dict[str, Any]) -> Resolved:
        resolved, config = resolve(pipeline, arguments), self._request.config
        settings = settings_of(config) | vae_settings_in_effect(pipeline, config)
        if config.denoiser_cache is not None:
            settings["denoiser_cache"] = cache_settings(config, steps=_steps_of(pipeline, arguments))
        if self._request.task in VIDEO_TASKS:
            settings["fps"] = frame_rate(pipeline, self._request)
        return replace(resolved, config={**resolved.config, **settings}) if settings else resolved

    def _warn(self, warnings: Iterable[WarningData]) -> None:
        for warning in warnings:
            self._writer.emit(warning)

    def _report_residency(self, resident: Resident) -> None:
        if not resident.is_kept:
            return
        if resident.loaded_now:
            self._writer.emit(CacheMissData(cache_type="resident_pipeline"), stage="load")
        else:
            hit = CacheHitData(
                cache_type="resident_pipeline", saved_ns=resident.load_ns, size_bytes=resident.size_bytes
            )
            self._writer.emit(hit, stage="load")

    def _report_eviction(self, eviction: Eviction) -> None:
        self._writer.emit(eviction_warning(eviction))


def eviction_warning(eviction: Eviction) -> WarningData:
    """What the run that needed the room says of the model that had to go."""
    measured = ""
    if eviction.before_bytes is not None and eviction.after_bytes is not None:
        kind = "resident memory" if eviction.memory_kind == "rss" else "allocated memory"
        measured = f"; the process's {kind} went from {eviction.before_bytes:,} to {eviction.after_bytes:,} bytes"
    return WarningData(
        code="pipeline_evicted",
        message=f"{eviction.name} was let go to make room: it held {eviction.size_bytes:,} bytes on {eviction.device}"
        + measured,
        hint="lab.configure(resident_pipeline_bytes=…) gives resident pipelines more room on each device.",
        eviction=eviction,
    )


def _steps_of(pipeline: AnyPipeline, arguments: dict[str, Any]) -> int:
    """Denoising steps that the call will make; 1 for a pipeline whose call has no number of them."""
    steps = arguments.get("num_inference_steps")
    if steps is None:
        parameter = parameters_of(pipeline).get("num_inference_steps")
        steps = None if parameter is None else parameter.default
    return steps if isinstance(steps, int) else 1


EXECUTOR: Final = LegacyCallExecutor(RESOURCES)
