"""A RunReport put together from the fold's state, finished or not."""

from __future__ import annotations

from msgspec.structs import replace

from omnirt_lab.errors import JobCancelledError, JobLostError, JobTimeoutError
from omnirt_lab.folds.chain import unwind
from omnirt_lab.folds.clocks import stages_on_device, steps_on_device
from omnirt_lab.folds.state import STATE_AFTER, Measured, ReportState
from omnirt_lab.records import (
    ErrorInfo,
    JobCancelled,
    JobEnqueued,
    JobFailed,
    JobFinished,
    JobLost,
    JobStarted,
    MemoryReport,
    Resolved,
    RunReport,
    StageTiming,
)
from omnirt_lab.records.events import TIMEOUT
from omnirt_lab.units import ms_from_ns


def to_report(state: ReportState) -> RunReport:
    """Everything that the events so far say.

    Stages that no event has ended keep `end_t_ns` None, also after the job's end, and count in no timing: when they
    ended was not measured. A lost job lasts until the last event that its worker wrote.

    Raises
    ------
    ValueError
        Before the first event.
    """
    if state.enqueued is None:
        raise ValueError("a report needs at least the event job_enqueued; there was no event")
    report = _asked(state.enqueued, job_id=state.job_id)
    if state.started is not None:
        report = _taken(report, state, state.started)
    if state.resolved is not None:
        report = _resolved(report, state.resolved)
    report = _measured(report, state.measured, state)
    report = replace(report, warnings=state.warnings, stream_events=unwind(state.marks))
    return _ended(report, state)


def _asked(event: JobEnqueued, *, job_id: str | None) -> RunReport:
    data = event.data
    return RunReport(
        run_id=data.run_id,
        task=data.request.task,
        model=data.request.model,
        backend=data.request.backend,
        state="queued",
        job_id=job_id if data.is_async else None,
        trace_id=data.trace_id,
        parent_span_id=data.parent_span_id,
        enqueued_at_ms=event.timestamp_ms,
        request=data.request,
    )


def _taken(report: RunReport, state: ReportState, event: JobStarted) -> RunReport:
    assert state.enqueued is not None
    return replace(
        report,
        state="running",
        worker_id=event.data.worker_id,
        execution_mode=event.data.execution_mode,
        queue_wait_ms=ms_from_ns(state.attempts[0].start_t_ns - state.enqueued.t_ns),
        duration_ms=ms_from_ns(state.last_t_ns - event.t_ns),
        batch_size=event.data.batch_size,
        batch_group_id=event.data.batch_group_id,
        backend_timeline=state.attempts,
        environment=event.data.environment,
    )


def _resolved(report: RunReport, resolved: Resolved) -> RunReport:
    return replace(
        report,
        device_placement={name: facts.device for name, facts in resolved.components.items() if facts.device},
        config_resolved=resolved.config,
        pipeline_class=resolved.pipeline_class,
        components=resolved.components,
        scheduler_config=resolved.scheduler_config,
        generators=resolved.generators,
    )


def _measured(report: RunReport, measured: Measured, state: ReportState) -> RunReport:
    spans = state.ended.data.device_spans if isinstance(state.ended, JobFinished) else ()
    stages = stages_on_device(measured.stages, spans)
    return replace(
        report,
        timings=_timings(stages, report.queue_wait_ms),
        stages=stages,
        steps=steps_on_device(unwind(measured.steps), spans),
        steps_planned=measured.steps_planned,
        memory=MemoryReport(
            kind=measured.memory_kind,
            peak_bytes=measured.peak_bytes,
            baseline_bytes=measured.baseline_bytes,
            samples=unwind(measured.samples),
        ),
        cache_hits=tuple(use.cache_type for use in measured.caches.values() if use.hits),
        cache_details=tuple(measured.caches.values()),
    )


def _timings(stages: tuple[StageTiming, ...], queue_wait_ms: float | None) -> dict[str, float]:
    sums_ns: dict[str, int] = {}
    for stage in stages:
        if stage.end_t_ns is not None:
            sums_ns[stage.name] = sums_ns.get(stage.name, 0) + stage.end_t_ns - stage.start_t_ns
    queue = {} if queue_wait_ms is None else {"queue_ms": queue_wait_ms}
    return queue | {f"{name}_ms": ms_from_ns(sum_ns) for name, sum_ns in sums_ns.items() if name != "queue"}


def _ended(report: RunReport, state: ReportState) -> RunReport:
    event = state.ended
    if event is None:
        return report
    report = replace(report, state=STATE_AFTER[type(event)], finished_at_ms=event.timestamp_ms)
    match event:
        case JobFinished():
            data = event.data
            return replace(
                report,
                artifacts=data.artifacts,
                result_key=data.result_key,
                latent_stats=data.latent_stats,
                blocks=data.blocks,
                probe=data.probe,
            )
        case JobFailed():
            return replace(report, error=event.data.error, probe=event.data.probe)
        case JobCancelled():
            kind = JobTimeoutError if event.data.reason == TIMEOUT else JobCancelledError
            error = ErrorInfo(type=kind.__name__, message=event.data.reason, stage=_broken_stage(report.stages))
            return replace(report, error=error, probe=event.data.probe)
        case JobLost():
            error = ErrorInfo(type=JobLostError.__name__, message=event.data.reason, stage=_broken_stage(report.stages))
            return replace(report, error=error)


def _broken_stage(stages: tuple[StageTiming, ...]) -> str | None:
    """The innermost stage that did not come to its own end."""
    return next((stage.name for stage in reversed(stages) if stage.error or stage.end_t_ns is None), None)
