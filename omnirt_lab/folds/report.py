"""The RunReport as a fold of a job's events.

`state = apply(state, event)` for each event in order; `to_report(state)` at any moment, also while the job runs. States
are frozen: an old one stays valid, and an event costs the same after ten events and after ten thousand.

A second attempt at a job begins its stages, steps, memory and caches afresh; the attempt before it stays in
`backend_timeline` and in `stream_events`. A `stage_end` whose `stage_start` was dropped times nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from omnirt_lab.folds.assembly import to_report
from omnirt_lab.folds.state import STATE_AFTER, Ending, Measured, ReportState
from omnirt_lab.records import (
    AnyEvent,
    BackendSpan,
    CacheHit,
    CacheMiss,
    CacheUse,
    EventMark,
    Eviction,
    JobCancelled,
    JobEnqueued,
    JobFailed,
    JobFinished,
    JobLost,
    JobStarted,
    Memory,
    MemoryKind,
    MemorySample,
    ReportWarning,
    RunReport,
    StageEnd,
    StageError,
    StageStart,
    StageTiming,
    Step,
    StepTiming,
    Warned,
)
from omnirt_lab.units import ms_from_ns

__all__ = ["ReportState", "apply", "fold", "initial", "to_report"]

Number = TypeVar("Number", int, float)

HOST: Final = "cpu"
"""Where a resident-set figure belongs: a process has one, whatever device its stages run on."""


def initial(*, job_id: str | None = None) -> ReportState:
    """The state before the first event.

    Parameters
    ----------
    job_id
        The journal's name for the job; the report shows it only if the job was submitted to a queue.
    """
    return ReportState(job_id=job_id)


def apply(state: ReportState, event: AnyEvent) -> ReportState:
    """The state after `event`.

    Raises
    ------
    ValueError
        If `event` is not the next one of this job: its `seq` is not one more than the last, the first event is not
        `job_enqueued`, or the job has already ended.
    """
    _require_next(state, event)
    last_t_ns = state.last_t_ns
    if not isinstance(event, JobLost):  # whoever noticed wrote it, some time later
        last_t_ns = max(last_t_ns, event.t_ns)
    marks = state.marks
    if not isinstance(event, Step | Memory):
        marks = (EventMark(seq=event.seq, event=event.event, stage=event.stage, t_ns=event.t_ns), marks)
    return _follow(event, replace(state, seq=event.seq, last_t_ns=last_t_ns, marks=marks))


def fold(events: Iterable[AnyEvent], *, job_id: str | None = None) -> RunReport:
    """The report of a job's events: all of them, or those that there are so far.

    Raises
    ------
    ValueError
        If there are none, or they are out of order (see `apply`).
    """
    state = initial(job_id=job_id)
    for event in events:
        state = apply(state, event)
    return to_report(state)


def _require_next(state: ReportState, event: AnyEvent) -> None:
    if event.seq != state.seq + 1:
        raise ValueError(f"{event.event} has seq {event.seq}; the next event of this job has seq {state.seq + 1}")
    if state.ended is not None:
        raise ValueError(f"{event.event}, seq {event.seq}, follows {state.ended.event}, which ended the job")
    if isinstance(event, JobEnqueued) != (state.enqueued is None):
        raise ValueError(f"{event.event} has seq {event.seq}; job_enqueued is the first event, and only that")


@singledispatch
def _follow(event: AnyEvent, state: ReportState) -> ReportState:
    """The state with what this kind of event says."""
    raise TypeError(f"{type(event).__name__} is not in the event vocabulary; it came at seq {state.seq}")


@_follow.register
def _enqueued(event: JobEnqueued, state: ReportState) -> ReportState:
    return replace(state, enqueued=event)


@_follow.register
def _started(event: JobStarted, state: ReportState) -> ReportState:
    assert state.enqueued is not None
    attempts = state.attempts
    if attempts:
        attempts = (*attempts[:-1], replace(attempts[-1], state="lost"))
    attempt = BackendSpan(
        backend=state.enqueued.data.request.backend,
        execution_mode=event.data.execution_mode,
        worker_id=event.data.worker_id,
        attempt=event.data.attempt,
        node=event.data.node,
        start_t_ns=event.t_ns,
        state="running",
    )
    return replace(
        state, started=event, attempts=(*attempts, attempt), resolved=event.data.resolved, measured=Measured()
    )


@_follow.register(JobFinished)
@_follow.register(JobFailed)
@_follow.register(JobCancelled)
@_follow.register(JobLost)
def _ended(event: Ending, state: ReportState) -> ReportState:
    attempts = state.attempts
    if attempts:
        end_t_ns = None if isinstance(event, JobLost) else event.t_ns
        attempts = (*attempts[:-1], replace(attempts[-1], end_t_ns=end_t_ns, state=STATE_AFTER[type(event)]))
    return replace(state, ended=event, attempts=attempts)


@_follow.register
def _stage_started(event: StageStart, state: ReportState) -> ReportState:
    data = event.data
    stage = StageTiming(
        name=event.stage or "unnamed", start_t_ns=event.t_ns, class_name=data.class_name, device=data.device
    )
    return _measured(state, stages=(*state.measured.stages, stage))


@_follow.register
def _stage_ended(event: StageEnd, state: ReportState) -> ReportState:
    data = event.data
    index = _find_open(state, event.stage)
    if index is not None:
        state = _with_stage(state, index, end_t_ns=event.t_ns, peak_bytes=data.peak_bytes, memory_kind=data.memory_kind)
        device = HOST if data.memory_kind == "rss" else state.measured.stages[index].device
        state = _with_reading(state, device, data.memory_kind, data.peak_bytes)
        for other, peak_bytes in data.other_peak_bytes.items():
            state = _with_reading(state, other, data.memory_kind, peak_bytes)
    return state if data.resolved is None else replace(state, resolved=data.resolved)


@_follow.register
def _stage_failed(event: StageError, state: ReportState) -> ReportState:
    index = _find_open(state, event.stage)
    if index is None:
        return state
    return _with_stage(state, index, end_t_ns=event.t_ns, error=event.data.type)


@_follow.register
def _stepped(event: Step, state: ReportState) -> ReportState:
    data = event.data
    step = StepTiming(
        index=data.index,
        start_t_ns=data.start_t_ns,
        end_t_ns=event.t_ns,
        timestep=data.timestep,
        solver_calls=data.solver_calls,
    )
    planned = state.measured.steps_planned if data.total is None else data.total
    return _measured(state, steps=(step, state.measured.steps), steps_planned=planned)


@_follow.register
def _remembered(event: Memory, state: ReportState) -> ReportState:
    data = event.data
    state = _with_reading(state, data.device, data.kind, data.current_bytes)
    measured = state.measured
    if measured.memory_kind != data.kind:
        return state
    if data.is_baseline:
        state = _measured(state, baseline_bytes={**measured.baseline_bytes, data.device: data.current_bytes})
    return _measured(state, samples=(MemorySample(event.t_ns, data.device, data.current_bytes), measured.samples))


@_follow.register
def _hit(event: CacheHit, state: ReportState) -> ReportState:
    data = event.data
    use = _use_of(state, data.cache_type)
    use = replace(
        use,
        calls=use.calls + 1,
        hits=use.hits + 1,
        saved_ms=_sum_known(use.saved_ms, None if data.saved_ns is None else ms_from_ns(data.saved_ns)),
        size_bytes=_sum_known(use.size_bytes, data.size_bytes),
        source_run_id=data.source_run_id or use.source_run_id,
    )
    index = _find_open(state, event.stage)
    if index is not None:
        state = _with_stage(state, index, cache_type=data.cache_type, saved_ns=data.saved_ns)
    return _measured(state, caches={**state.measured.caches, data.cache_type: use})


@_follow.register
def _missed(event: CacheMiss, state: ReportState) -> ReportState:
    use = _use_of(state, event.data.cache_type)
    use = replace(use, calls=use.calls + 1)
    return _measured(state, caches={**state.measured.caches, use.cache_type: use})


@_follow.register
def _warned(event: Warned, state: ReportState) -> ReportState:
    data = event.data
    warning = ReportWarning(code=data.code, message=data.message, hint=data.hint)
    state = replace(state, warnings=(*state.warnings, warning))
    return state if data.eviction is None else _evicted(state, data.eviction)


def _evicted(state: ReportState, eviction: Eviction) -> ReportState:
    use = _use_of(state, eviction.cache_type)
    freed_bytes = _sum_known(use.freed_bytes, eviction.freed_bytes)
    use = replace(use, evictions=use.evictions + 1, freed_bytes=freed_bytes)
    return _measured(state, caches={**state.measured.caches, use.cache_type: use})


def _measured(state: ReportState, **changes: Any) -> ReportState:
    return replace(state, measured=replace(state.measured, **changes))


def _find_open(state: ReportState, name: str | None) -> int | None:
    """Position of the latest open stage of this name."""
    stages = state.measured.stages
    for index in range(len(stages) - 1, -1, -1):
        if stages[index].name == name and stages[index].end_t_ns is None:
            return index
    return None


def _with_stage(state: ReportState, index: int, **changes: Any) -> ReportState:
    stages = state.measured.stages
    return _measured(state, stages=(*stages[:index], replace(stages[index], **changes), *stages[index + 1 :]))


def _with_reading(
    state: ReportState, device: str | None, kind: MemoryKind | None, reading_bytes: int | None
) -> ReportState:
    """The state with its peak raised, if the reading is of the kind that this report counts."""
    if device is None or kind is None or reading_bytes is None:
        return state
    measured = state.measured
    if measured.memory_kind not in (None, kind):
        return state
    peak_bytes = max(reading_bytes, measured.peak_bytes.get(device, 0))
    return _measured(state, memory_kind=kind, peak_bytes={**measured.peak_bytes, device: peak_bytes})


def _use_of(state: ReportState, cache_type: str) -> CacheUse:
    return state.measured.caches.get(cache_type) or CacheUse(cache_type=cache_type, calls=0, hits=0)


def _sum_known(total: Number | None, more: Number | None) -> Number | None:
    """The sum of what is known; None only while nothing is."""
    if more is None:
        return total
    return more if total is None else total + more
