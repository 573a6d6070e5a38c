"""The RunReport: everything that is known of one run, made once by `folds.report`."""

from __future__ import annotations

from typing import Final

import msgspec

from omnirt_lab.records.base import Clock, ExecutionMode, JobState, Json, MemoryKind, Record
from omnirt_lab.records.facts import (
    Artifact,
    BlockTiming,
    ComponentFacts,
    Environment,
    ErrorInfo,
    GeneratorFacts,
    LatentStats,
    ProbeCost,
)
from omnirt_lab.records.requests import GenerateRequest

SCHEMA_VERSION: Final = "1.0.0"


class StageTiming(Record, frozen=True, kw_only=True):
    """One timed part of a run. Stages do not overlap, except where a pipeline runs components side by side."""

    name: str

    start_t_ns: int
    """Since the job was enqueued, as all `t_ns`."""

    end_t_ns: int | None = None
    """None for a stage that was open when the worker was lost, or still is."""

    clock: Clock = "wall"

    class_name: str | None = None

    device: str | None = None

    peak_bytes: int | None = None

    memory_kind: MemoryKind | None = None

    error: str | None = None
    """Class name of the exception that ended it."""

    cache_type: str | None = None
    """Set when a cached value stood in for the whole stage."""

    saved_ns: int | None = None


class StepTiming(Record, frozen=True, kw_only=True):
    """One denoising step."""

    index: int

    start_t_ns: int

    end_t_ns: int

    timestep: float | None = None

    solver_calls: int = 1

    clock: Clock = "wall"


class MemorySample(Record, frozen=True, array_like=True):
    """One point of the memory curve; `[t_ns, device, bytes]` in JSON."""

    t_ns: int

    device: str

    bytes: int


class MemoryReport(Record, frozen=True, kw_only=True):
    """Memory over the run. `kind` says what every figure here counts: a process's RSS is never called VRAM."""

    kind: MemoryKind | None = None
    """None when nothing was measured."""

    peak_bytes: dict[str, int] = {}
    """Device → highest reading."""

    baseline_bytes: dict[str, int] = {}
    """Device → reading before the pipeline was called."""

    samples: tuple[MemorySample, ...] = ()


class CacheUse(Record, frozen=True, kw_only=True):
    """How one cache did in this run."""

    cache_type: str

    calls: int

    hits: int

    saved_ms: float | None = None
    """Sum over the hits whose saving is known."""

    size_bytes: int | None = None
    """Bytes of the cached values that were used."""

    source_run_id: str | None = None
    """Of `result`: the run that made what this one has answered with."""

    evictions: int = 0
    """Values that had to go in this run to make room."""

    freed_bytes: int | None = None
    """By these, as measured; None without a reading."""


class BackendSpan(Record, frozen=True, kw_only=True):
    """One attempt of one worker at the job."""

    backend: str

    execution_mode: ExecutionMode

    worker_id: str

    attempt: int

    node: str | None = None
    """The machine, where the worker ran on a cluster."""

    start_t_ns: int

    end_t_ns: int | None = None

    state: JobState


class EventMark(Record, frozen=True, array_like=True):
    """One event without its data; `[seq, event, stage, t_ns]` in JSON."""

    seq: int

    event: str

    stage: str | None

    t_ns: int


class ReportWarning(Record, frozen=True, kw_only=True):
    """A warning that the run gave."""

    code: str

    message: str

    hint: str | None = None


class RunReport(Record, frozen=True, kw_only=True):
    """One run: where its time and memory went, and what a replay needs.

    Readers ignore fields that they don't know; a field is never renamed or re-typed within 1.x. What could not be
    measured is None.
    """

    schema_version: str = SCHEMA_VERSION

    run_id: str

    task: str

    model: str

    backend: str

    state: JobState

    job_id: str | None = None
    """Only for a job that was submitted; None for one that ran in the caller's thread."""

    trace_id: str
    """32 hex digits, the W3C trace that the run's spans belong to."""

    parent_span_id: str | None = None

    worker_id: str | None = None

    execution_mode: ExecutionMode | None = None
    """None before a worker took the job."""

    enqueued_at_ms: int
    """Wall clock, milliseconds since 1970."""

    finished_at_ms: int | None = None

    queue_wait_ms: float | None = None
    """From enqueued to taken by a worker."""

    duration_ms: float | None = None
    """From taken by a worker to the last event; None before that."""

    timings: dict[str, float] = {}
    """`<stage>_ms` → milliseconds, summed over the stages of that name; `queue_ms` included."""

    stages: tuple[StageTiming, ...] = ()

    steps: tuple[StepTiming, ...] = ()

    steps_planned: int | None = None

    blocks: tuple[BlockTiming, ...] = ()
    """Of a modular run that succeeded, in order; they cut the same time as `stages` in another way."""

    memory: MemoryReport = msgspec.field(default_factory=MemoryReport)

    cache_hits: tuple[str, ...] = ()
    """Types of the caches that had at least one hit."""

    cache_details: tuple[CacheUse, ...] = ()

    device_placement: dict[str, str] = {}
    """Component → device, for every component that has weights."""

    batch_size: int | None = None

    batch_group_id: str | None = None

    backend_timeline: tuple[BackendSpan, ...] = ()

    request: GenerateRequest

    config_resolved: dict[str, Json] = {}

    pipeline_class: str | None = None

    components: dict[str, ComponentFacts] = {}

    scheduler_config: dict[str, Json] = {}

    generators: tuple[GeneratorFacts, ...] | None = None

    environment: Environment | None = None

    artifacts: tuple[Artifact, ...] = ()

    result_key: str | None = None
    """Equal keys mean the same result; None where the result cache was off, and where another run made the result."""

    latent_stats: LatentStats | None = None

    error: ErrorInfo | None = None

    warnings: tuple[ReportWarning, ...] = ()

    stream_events: tuple[EventMark, ...] = ()
    """The job's events in order, steps and memory readings left out: those stand in `steps` and `memory`."""

    probe: ProbeCost = msgspec.field(default_factory=ProbeCost)


class GenerateResult(Record, frozen=True, kw_only=True):
    """What a finished job answers."""

    outputs: tuple[Artifact, ...]

    metadata: RunReport

    @property
    def report(self) -> RunReport:
        """The same object as `metadata`."""
        return self.metadata
