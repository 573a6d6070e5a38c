"""The events of all jobs, counted: what `/metrics` shows.

Counts live as long as the journal, so the state can be put away and taken up again. It is bounded: names beyond a
limit count as `other`, and what is kept of a job goes when the job ends. Durations count when their job has ended,
because only then is the device's own clock known; so they are the report's, but what jobs did in one call counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import singledispatch
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from omnirt_lab.folds.clocks import stages_on_device, steps_on_device
from omnirt_lab.folds.histogram import STAGE_BOUNDS_S, STEP_BOUNDS_S, Exemplar, Histogram, observe
from omnirt_lab.folds.series_state import FORMAT, ActiveJob, Count, JobLabels, MemoryLabels, SeriesState
from omnirt_lab.folds.shared_calls import time_of
from omnirt_lab.folds.state import STATE_AFTER, Ending
from omnirt_lab.records import (
    TERMINAL_EVENTS,
    AnyEvent,
    CacheHit,
    CacheMiss,
    JobCancelled,
    JobEnqueued,
    JobFailed,
    JobFinished,
    JobLost,
    JobStarted,
    JobState,
    Memory,
    MemoryKind,
    StageEnd,
    StageError,
    StageStart,
    StageTiming,
    Step,
    StepTiming,
    Warned,
)
from omnirt_lab.units import NS_PER_MS, s_from_ns

__all__ = [
    "FORMAT", "ActiveJob", "Count", "Entry", "JobLabels", "MemoryLabels", "SeriesState",
    "apply", "decode", "encode", "forget", "peak_bytes", "running",
]  # fmt: skip

MAX_NAMES: Final = {"model": 100, "stage": 50, "cache": 20, "device": 32}
"""Distinct values of a label; the first ones keep theirs."""

OTHER: Final = "other"
"""What all further names count as."""

MAX_NAME_CHARS: Final = 120

MAX_TIMINGS: Final = 10_000
"""Stages, and steps, that are kept of a running job; what comes after them is not counted."""

HOST: Final = "cpu"
"""Where a resident-set figure belongs, whatever device the stage ran on."""

Entry: TypeAlias = tuple[str, AnyEvent]
"""Job id and event."""


Key = TypeVar("Key", str, tuple[str, str])


_decoder: Final = msgspec.msgpack.Decoder(SeriesState)


def apply(state: SeriesState, entries: Iterable[Entry]) -> SeriesState:
    """The state after these events of any jobs, in the journal's order.

    Events of a job whose beginning is not known are passed over. A call copies the tables, so batches are cheaper.
    """
    tally = _copy(state)
    for job_id, event in entries:
        if isinstance(event, JobEnqueued):
            job = _enqueue(event, job_id, tally)
        elif job_id in tally.active:
            job = _follow(event, tally.active[job_id], tally)
        else:
            continue
        tally.active[job_id] = job
        if isinstance(event, TERMINAL_EVENTS):
            _leave(tally, job_id)
    return tally


def forget(state: SeriesState, job_ids: Collection[str]) -> SeriesState:
    """The state without these active jobs, which have gone without an end that could be read."""
    tally = _copy(state)
    for job_id in job_ids:
        _leave(tally, job_id)
    return tally


def running(state: SeriesState) -> int:
    """Jobs that a worker has taken and that have not ended."""
    return sum(job.started_t_ns is not None for job in state.active.values())


def peak_bytes(state: SeriesState) -> dict[MemoryLabels, int]:
    """The highest reading of the jobs that run; where none has a reading, of the one that ended last."""
    peaks: dict[MemoryLabels, int] = {}
    for job in state.active.values():
        for labels, reading_bytes in job.peak_bytes.items():
            peaks[labels] = max(reading_bytes, peaks.get(labels, 0))
    return state.last_peak_bytes | peaks


def encode(state: SeriesState) -> bytes:
    """The state as MessagePack."""
    return msgspec.msgpack.encode(state)


def decode(content: bytes) -> SeriesState | None:
    """The state that was encoded; None if it is of another format."""
    try:
        state = _decoder.decode(content)
    except msgspec.DecodeError:
        return None
    return state if state.format == FORMAT else None


def _copy(state: SeriesState) -> SeriesState:
    tables = {name: dict(value) for name, value in msgspec.structs.asdict(state).items() if isinstance(value, dict)}
    return replace(state, **tables)


def _leave(tally: SeriesState, job_id: str) -> None:
    """Keep nothing of the job, nor of its group when it is the last of it."""
    job = tally.active.pop(job_id, None)
    group_id = None if job is None else job.batch_group_id
    if group_id is not None and all(other.batch_group_id != group_id for other in tally.active.values()):
        tally.shared.pop(group_id, None)


def _enqueue(event: JobEnqueued, job_id: str, tally: SeriesState) -> ActiveJob:
    request = event.data.request
    job = ActiveJob(
        job_id=job_id,
        trace_id=event.data.trace_id,
        task=request.task,
        model=_bounded(tally, "model", request.model),
        execution_mode=request.config.execution_mode,
    )
    _count_job(tally, job, "queued", event)
    return job


@singledispatch
def _follow(event: AnyEvent, job: ActiveJob, tally: SeriesState) -> ActiveJob:  # noqa: ARG001  # the kinds differ
    """The job after this event, which is counted."""
    return job


@_follow.register
def _started(event: JobStarted, job: ActiveJob, tally: SeriesState) -> ActiveJob:
    is_first = job.started_t_ns is None
    job = replace(
        job,
        execution_mode=event.data.execution_mode,
        started_t_ns=event.t_ns,
        stages=(),  # of an attempt that was lost; the report leaves them out too
        steps=(),
        peak_bytes={},
        batch_group_id=event.data.batch_group_id,
    )
    if is_first:
        _count_job(tally, job, "running", event)
        _observe(tally.stages, ("queue", job.model), STAGE_BOUNDS_S, event.t_ns, job, event)
    return job


@_follow.register(JobFinished)
@_follow.register(JobFailed)
@_follow.register(JobCancelled)
@_follow.register(JobLost)
def _ended(event: Ending, job: ActiveJob, tally: SeriesState) -> ActiveJob:
    _count_job(tally, job, STATE_AFTER[type(event)], event)
    _count_times(event, job, tally)
    if isinstance(event, JobFinished) and job.started_t_ns is not None:
        _observe(tally.job_durations, job.model, STAGE_BOUNDS_S, event.t_ns - job.started_t_ns, job, event)
    if not isinstance(event, JobLost):
        tally.events_dropped += max(0, event.data.probe.events_dropped)
    tally.last_peak_bytes.update(job.peak_bytes)
    return job


def _count_times(event: Ending, job: ActiveJob, tally: SeriesState) -> None:
    """Count the job's stages and steps, those left out that one of its group has shown."""
    spans = event.data.device_spans if isinstance(event, JobFinished) else ()
    counted = tally.shared.get(job.batch_group_id or "", frozenset())
    for measured, stage in zip(job.stages, stages_on_device(job.stages, spans), strict=True):
        if stage.end_t_ns is not None and stage.name != "queue" and time_of(measured) not in counted:
            name = _bounded(tally, "stage", stage.name)
            took_ns = stage.end_t_ns - stage.start_t_ns
            _observe(tally.stages, (name, job.model), STAGE_BOUNDS_S, took_ns, job, event)
    for taken, step in zip(job.steps, steps_on_device(job.steps, spans), strict=True):
        if time_of(taken) not in counted:
            _observe(tally.steps, job.model, STEP_BOUNDS_S, step.end_t_ns - step.start_t_ns, job, event)
    if job.batch_group_id is not None:
        tally.shared[job.batch_group_id] = counted | {*map(time_of, job.stages), *map(time_of, job.steps)}


@_follow.register
def _stage_started(event: StageStart, job: ActiveJob, tally: SeriesState) -> ActiveJob:  # noqa: ARG001  # as above
    if len(job.stages) >= MAX_TIMINGS:
        return job
    stage = StageTiming(name=event.stage or "unnamed", start_t_ns=event.t_ns, device=event.data.device)
    return replace(job, stages=(*job.stages, stage))


@_follow.register
def _stage_ended(event: StageEnd, job: ActiveJob, tally: SeriesState) -> ActiveJob:
    index = _find_open(job, event.stage)
    if index is None:
        return job
    data, device = event.data, job.stages[index].device
    if data.memory_kind == "rss":
        device = HOST
    job = _with_stage(job, index, end_t_ns=event.t_ns)
    job = _with_reading(tally, job, device, data.memory_kind, data.peak_bytes)
    for other, peak_bytes in data.other_peak_bytes.items():
        job = _with_reading(tally, job, other, data.memory_kind, peak_bytes)
    return job


@_follow.register
def _stage_failed(event: StageError, job: ActiveJob, tally: SeriesState) -> ActiveJob:  # noqa: ARG001  # as above
    index = _find_open(job, event.stage)
    return job if index is None else _with_stage(job, index, end_t_ns=event.t_ns)


@_follow.register
def _stepped(event: Step, job: ActiveJob, tally: SeriesState) -> ActiveJob:  # noqa: ARG001  # as above
    if len(job.steps) >= MAX_TIMINGS:
        return job
    step = StepTiming(index=event.data.index, start_t_ns=event.data.start_t_ns, end_t_ns=event.t_ns)
    return replace(job, steps=(*job.steps, step))


@_follow.register
def _remembered(event: Memory, job: ActiveJob, tally: SeriesState) -> ActiveJob:
    return _with_reading(tally, job, event.data.device, event.data.kind, event.data.current_bytes)


@_follow.register
def _hit(event: CacheHit, job: ActiveJob, tally: SeriesState) -> ActiveJob:
    data = event.data
    name = _bounded(tally, "cache", data.cache_type)
    _add(tally.cache_requests, name, 1)
    _add(tally.cache_hits, name, 1)
    _add(tally.cache_saved_ns, name, max(0, data.saved_ns or 0))
    index = _find_open(job, event.stage)
    return job if index is None else _with_stage(job, index, cache_type=data.cache_type)


@_follow.register
def _missed(event: CacheMiss, job: ActiveJob, tally: SeriesState) -> ActiveJob:
    name = _bounded(tally, "cache", event.data.cache_type)
    _add(tally.cache_requests, name, 1)
    _add(tally.cache_hits, name, 0)  # so that a share of hits can be drawn before the first one
    _add(tally.cache_saved_ns, name, 0)
    return job


@_follow.register
def _warned(event: Warned, job: ActiveJob, tally: SeriesState) -> ActiveJob:
    eviction = event.data.eviction
    if eviction is not None:
        name = _bounded(tally, "cache", eviction.cache_type)
        _add(tally.cache_evictions, name, 1)
        _add(tally.cache_freed_bytes, name, eviction.freed_bytes or 0)
    return job


def _count_job(tally: SeriesState, job: ActiveJob, state: JobState, event: AnyEvent) -> None:
    labels = (job.task, job.model, job.execution_mode, state)
    before = tally.jobs.get(labels)
    tally.jobs[labels] = Count(1 if before is None else before.value + 1, _exemplar(job, event, value=1.0))


def _observe(
    table: dict[Key, Histogram], key: Key, bounds_s: tuple[float, ...], took_ns: int, job: ActiveJob, event: AnyEvent
) -> None:
    took_ns = max(0, took_ns)  # a device's clock is its own; a sum must not fall
    exemplar = _exemplar(job, event, value=s_from_ns(took_ns))
    table[key] = observe(table.get(key), bounds_s, exemplar, ns=took_ns)


def _exemplar(job: ActiveJob, event: AnyEvent, *, value: float) -> Exemplar:
    return Exemplar(value, job.trace_id, job.job_id, s_from_ns(event.timestamp_ms * NS_PER_MS))


def _add(table: dict[str, int], key: str, more: int) -> None:
    table[key] = table.get(key, 0) + more


def _bounded(tally: SeriesState, kind: str, name: str) -> str:
    """The name as a label: its own while there are few, else `other`."""
    name = name[:MAX_NAME_CHARS]
    known = tally.names.get(kind, ())
    if name in known:
        return name
    if len(known) >= MAX_NAMES[kind]:
        return OTHER
    tally.names[kind] = (*known, name)
    return name


def _find_open(job: ActiveJob, stage: str | None) -> int | None:
    """Position of the latest open stage of this name."""
    for index in range(len(job.stages) - 1, -1, -1):
        if job.stages[index].name == stage and job.stages[index].end_t_ns is None:
            return index
    return None


def _with_stage(job: ActiveJob, index: int, **changes: Any) -> ActiveJob:
    stages = job.stages
    return replace(job, stages=(*stages[:index], replace(stages[index], **changes), *stages[index + 1 :]))


def _with_reading(
    tally: SeriesState, job: ActiveJob, device: str | None, kind: MemoryKind | None, reading_bytes: int | None
) -> ActiveJob:
    if device is None or kind is None or reading_bytes is None:
        return job
    labels = (kind, _bounded(tally, "device", device))
    peak = max(reading_bytes, job.peak_bytes.get(labels, 0))
    return replace(job, peak_bytes={**job.peak_bytes, labels: peak})
