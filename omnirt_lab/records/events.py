"""The event vocabulary, closed: fourteen facts about a job, each with its one shape of `data`.

On the wire an event is `{"event": "step", "stage": "denoise", "seq": 7, "t_ns": …, "timestamp_ms": …, "data": {…}}`;
decoding picks the class by `event`. `t_ns` is monotonic with its zero where the job was enqueued, and every duration
comes from it; `timestamp_ms` is the wall clock, for people and logs.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from omnirt_lab.records.base import ExecutionMode, MemoryKind, Record, require
from omnirt_lab.records.facts import (
    Artifact,
    BlockTiming,
    DeviceSpan,
    Environment,
    ErrorInfo,
    Eviction,
    LatentStats,
    ProbeCost,
    Resolved,
)
from omnirt_lab.records.requests import GenerateRequest

TIMEOUT: Final = "timeout"
"""Reason of a cancel: the run took longer than it may."""


class Fact(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A record that leaves defaults out of its JSON: a journal holds very many."""


class JobEnqueuedData(Fact, frozen=True, kw_only=True):
    """The job exists; always the first event."""

    run_id: str

    trace_id: str
    """32 lower-case hex digits; the caller's, where it sent a `traceparent`."""

    parent_span_id: str | None = None
    """16 hex digits of the caller's span."""

    request: GenerateRequest

    priority: int = 0
    """Higher runs first; equal ones in the order of arrival."""

    is_async: bool = False
    """Submitted to a queue, rather than run in the caller's thread."""


class JobStartedData(Fact, frozen=True, kw_only=True):
    """A worker has taken the job."""

    worker_id: str

    execution_mode: ExecutionMode

    environment: Environment

    attempt: int = 1

    node: str | None = None
    """The machine, where the worker runs on a cluster."""

    batch_size: int = 1
    """Requests merged into one pipeline call; pictures of one request do not count. A replay fills the call up with
    copies of itself."""

    batch_group_id: str | None = None

    resolved: Resolved | None = None
    """Known here when the pipeline was at hand, as with an observed one; else `load` ends with it."""


class JobFinishedData(Fact, frozen=True, kw_only=True):
    """The run succeeded."""

    artifacts: tuple[Artifact, ...] = ()

    latent_stats: LatentStats | None = None

    device_spans: tuple[DeviceSpan, ...] = ()
    """Replace the wall-clock times of the same stages."""

    blocks: tuple[BlockTiming, ...] = ()
    """Of a modular pipeline."""

    result_key: str | None = None
    """32 hex digits over all that decides the result, where the result cache was on; a later run is found by it."""

    probe: ProbeCost = msgspec.field(default_factory=ProbeCost)


class JobFailedData(Fact, frozen=True, kw_only=True):
    """The run raised."""

    error: ErrorInfo

    probe: ProbeCost = msgspec.field(default_factory=ProbeCost)


class JobCancelledData(Fact, frozen=True, kw_only=True):
    """The run, or the wait for it, was stopped on purpose."""

    reason: str
    """`requested`, `interrupted` (Ctrl-C) or `timeout`."""

    probe: ProbeCost = msgspec.field(default_factory=ProbeCost)


class JobLostData(Fact, frozen=True, kw_only=True):
    """The worker's lock is free although the job was running; written by whoever noticed."""

    worker_id: str | None = None

    reason: str


class StageStartData(Fact, frozen=True, kw_only=True):
    """A stage began."""

    class_name: str | None = None
    """Class of the component that runs, where the stage is one component's."""

    device: str | None = None


class StageEndData(Fact, frozen=True, kw_only=True):
    """The latest open stage of this name ended."""

    peak_bytes: int | None = None
    """Highest use during the stage, on its device."""

    memory_kind: MemoryKind | None = None

    other_peak_bytes: dict[str, int] = {}
    """Device → the same, of each further device that has components."""

    resolved: Resolved | None = None
    """Only where the stage made it known: the end of `load`."""


class StageErrorData(Fact, frozen=True, kw_only=True):
    """The latest open stage of this name was ended by an exception, an interrupt included."""

    type: str

    message: str


class StepData(Fact, frozen=True, kw_only=True):
    """One denoising step ended, at the event's `t_ns`."""

    index: int
    """From 0."""

    total: int | None = None
    """Steps that the pipeline planned; None where it did not say."""

    start_t_ns: int

    timestep: float | None = None
    """The scheduler's time of this step."""

    solver_calls: int = 1
    """Calls of `scheduler.step` in this step; more than 1 for Heun and its like."""

    def __post_init__(self) -> None:
        require(self.index >= 0, f"step index {self.index} is negative")


class MemoryData(Fact, frozen=True, kw_only=True):
    """One reading of one device's memory."""

    device: str

    kind: MemoryKind

    current_bytes: int

    is_baseline: bool = False
    """Read before the pipeline was called."""


class CacheHitData(Fact, frozen=True, kw_only=True):
    """A cached value stood in for work."""

    cache_type: str
    """`text_embedding`, `resident_pipeline`, …"""

    component: str | None = None

    saved_ns: int | None = None
    """What the work had cost when it was done, less what the hit cost; None where it was never timed."""

    size_bytes: int | None = None

    source_run_id: str | None = None
    """Of `result`: the run that made what this one answers with."""


class CacheMissData(Fact, frozen=True, kw_only=True):
    """The cache was asked and had nothing; the work was done."""

    cache_type: str

    component: str | None = None


class WarningData(Fact, frozen=True, kw_only=True):
    """Something that the user should know and that did not stop the run."""

    code: str
    """A stable slug, such as `sample_thread_late`."""

    message: str

    hint: str | None = None

    eviction: Eviction | None = None
    """Of a `pipeline_evicted`."""


class StageEvent(Fact, frozen=True, kw_only=True, tag_field="event"):
    """One fact about a job, in order."""

    seq: int
    """1, 2, 3 … within its job, no gaps."""

    t_ns: int

    timestamp_ms: int

    stage: str | None = None
    """Lower-case snake; the stage that the fact is about."""

    @property
    def event(self) -> str:
        """The word of the vocabulary, as on the wire."""
        return str(type(self).__struct_config__.tag)


class JobEnqueued(StageEvent, frozen=True, kw_only=True, tag="job_enqueued"):
    data: JobEnqueuedData


class JobStarted(StageEvent, frozen=True, kw_only=True, tag="job_started"):
    data: JobStartedData


class JobFinished(StageEvent, frozen=True, kw_only=True, tag="job_finished"):
    data: JobFinishedData


class JobFailed(StageEvent, frozen=True, kw_only=True, tag="job_failed"):
    data: JobFailedData


class JobCancelled(StageEvent, frozen=True, kw_only=True, tag="job_cancelled"):
    data: JobCancelledData


class JobLost(StageEvent, frozen=True, kw_only=True, tag="job_lost"):
    data: JobLostData


class StageStart(StageEvent, frozen=True, kw_only=True, tag="stage_start"):
    data: StageStartData


class StageEnd(StageEvent, frozen=True, kw_only=True, tag="stage_end"):
    data: StageEndData


class StageError(StageEvent, frozen=True, kw_only=True, tag="stage_error"):
    data: StageErrorData


class Step(StageEvent, frozen=True, kw_only=True, tag="step"):
    data: StepData


class Memory(StageEvent, frozen=True, kw_only=True, tag="memory"):
    data: MemoryData


class CacheHit(StageEvent, frozen=True, kw_only=True, tag="cache_hit"):
    data: CacheHitData


class CacheMiss(StageEvent, frozen=True, kw_only=True, tag="cache_miss"):
    data: CacheMissData


class Warned(StageEvent, frozen=True, kw_only=True, tag="warning"):
    data: WarningData


AnyEvent: TypeAlias = (
    JobEnqueued
    | JobStarted
    | JobFinished
    | JobFailed
    | JobCancelled
    | JobLost
    | StageStart
    | StageEnd
    | StageError
    | Step
    | Memory
    | CacheHit
    | CacheMiss
    | Warned
)

EventData: TypeAlias = (
    JobEnqueuedData
    | JobStartedData
    | JobFinishedData
    | JobFailedData
    | JobCancelledData
    | JobLostData
    | StageStartData
    | StageEndData
    | StageErrorData
    | StepData
    | MemoryData
    | CacheHitData
    | CacheMissData
    | WarningData
)

_EVENT_OF: dict[type[EventData], type[AnyEvent]] = {
    JobEnqueuedData: JobEnqueued,
    JobStartedData: JobStarted,
    JobFinishedData: JobFinished,
    JobFailedData: JobFailed,
    JobCancelledData: JobCancelled,
    JobLostData: JobLost,
    StageStartData: StageStart,
    StageEndData: StageEnd,
    StageErrorData: StageError,
    StepData: Step,
    MemoryData: Memory,
    CacheHitData: CacheHit,
    CacheMissData: CacheMiss,
    WarningData: Warned,
}

TERMINAL_EVENTS = (JobFinished, JobFailed, JobCancelled, JobLost)
"""After one of these a job has no further events; use with isinstance."""

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def make_event(data: EventData, *, seq: int, t_ns: int, timestamp_ms: int, stage: str | None = None) -> AnyEvent:
    """The event that carries this data."""
    return _EVENT_OF[type(data)](seq=seq, t_ns=t_ns, timestamp_ms=timestamp_ms, stage=stage, data=data)  # type: ignore[arg-type]  # the table pairs them


def decode_event(text: bytes | str) -> AnyEvent:
    """Decode one event from JSON.

    Raises
    ------
    msgspec.ValidationError
        If the word is not in the vocabulary or its data has another shape.
    """
    return _decoder.decode(text)
