"""A run as a trace: one root span for the job, a child for each stage, the steps under `denoise`.

Ids are drawn from the run's own, so that every process that makes the trace makes the same one. The trace id is the
report's, and the root's parent is the caller's span, where it sent a `traceparent`. For a job that runs, the trace is
as far as its report has come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from omnirt_lab.folds import attributes
from omnirt_lab.folds import report as report_fold
from omnirt_lab.records import TERMINAL_STATES, AnyEvent, RunReport, StageTiming, StepTiming
from omnirt_lab.records.trace import Trace, TraceSpan

MAX_STEPS: Final = 200
"""Steps that get a span; of a run with more, the first ones."""

DENOISE: Final = "denoise"
QUEUE: Final = "queue"


def fold(events: Iterable[AnyEvent], *, job_id: str) -> Trace:
    """The trace of a job's events, all of them or those that there are so far."""
    return of_report(report_fold.fold(events, job_id=job_id), job_id=job_id)


def of_report(report: RunReport, *, job_id: str | None, has_texts: bool = False) -> Trace:
    """The trace of a run, finished or not.

    Parameters
    ----------
    has_texts
        Put the prompts and the error's message into it.
    """
    stages = tuple(_stages(report))
    last_t_ns = _last(report, stages)
    root = _root(report, job_id=job_id, last_t_ns=last_t_ns, has_texts=has_texts)
    parents = [_denoise_of(step, stages) for step in report.steps]
    left_out = Counter(parents[MAX_STEPS:])
    spans = [root]
    for index, stage in enumerate(stages):
        message = _message(report, has_texts=has_texts) if stage.error else None
        spans.append(_stage_span(report, index, stage, root, message=message, steps_left_out=left_out[index]))
    for position, (step, parent) in enumerate(zip(report.steps[:MAX_STEPS], parents, strict=False)):
        over = root if parent is None else spans[1 + parent]
        spans.append(_step_span(report, position, step, over))
    return Trace(
        trace_id=report.trace_id,
        run_id=report.run_id,
        job_id=job_id,
        state=report.state,
        enqueued_at_ms=report.enqueued_at_ms,
        last_t_ns=last_t_ns,
        spans=tuple(spans),
        steps_left_out=left_out.total(),
    )


def _stages(report: RunReport) -> Iterator[StageTiming]:
    """The wait for a worker, and what the run itself timed."""
    if report.backend_timeline:
        yield StageTiming(name=QUEUE, start_t_ns=0, end_t_ns=report.backend_timeline[0].start_t_ns)
    elif report.state == "queued":
        yield StageTiming(name=QUEUE, start_t_ns=0)
    yield from (stage for stage in report.stages if stage.name != QUEUE)


def _last(report: RunReport, stages: tuple[StageTiming, ...]) -> int:
    """When a lost job was found to be lost says nothing about the run."""
    moments = [mark.t_ns for mark in report.stream_events if mark.event != "job_lost"]
    moments += [stage.end_t_ns for stage in stages if stage.end_t_ns is not None]
    moments += [step.end_t_ns for step in report.steps]
    moments += [sample.t_ns for sample in report.memory.samples]
    return max(moments, default=0)


def _root(report: RunReport, *, job_id: str | None, last_t_ns: int, has_texts: bool) -> TraceSpan:
    return TraceSpan(
        span_id=_span_id(report, "job"),
        parent_span_id=report.parent_span_id,
        name=f"{attributes.OPERATION} {report.model}",
        kind="job",
        start_t_ns=0,
        end_t_ns=last_t_ns if report.state in TERMINAL_STATES else None,
        is_error=report.state in ("failed", "lost"),
        message=_message(report, has_texts=has_texts),
        attributes=attributes.of_run(report, job_id=job_id, has_texts=has_texts),
    )


def _stage_span(
    report: RunReport, index: int, stage: StageTiming, root: TraceSpan, *, message: str | None, steps_left_out: int
) -> TraceSpan:
    return TraceSpan(
        span_id=_span_id(report, f"stage/{index}"),
        parent_span_id=root.span_id,
        name=stage.name,
        kind="stage",
        start_t_ns=stage.start_t_ns,
        end_t_ns=stage.end_t_ns,
        is_error=stage.error is not None,
        message=message,
        attributes=attributes.of_stage(stage, steps_left_out=steps_left_out),
    )


def _step_span(report: RunReport, position: int, step: StepTiming, parent: TraceSpan) -> TraceSpan:
    return TraceSpan(
        span_id=_span_id(report, f"step/{position}"),
        parent_span_id=parent.span_id,
        name=f"step {step.index}",
        kind="step",
        start_t_ns=step.start_t_ns,
        end_t_ns=step.end_t_ns,
        attributes=attributes.of_step(step),
    )


def _denoise_of(step: StepTiming, stages: tuple[StageTiming, ...]) -> int | None:
    """Position of the stage that the step is a part of: the latest `denoise` that had begun."""
    found = [index for index, stage in enumerate(stages) if stage.name == DENOISE]
    begun = [index for index in found if stages[index].start_t_ns <= step.start_t_ns]
    return max(begun, key=lambda index: stages[index].start_t_ns) if begun else next(iter(found), None)


def _message(report: RunReport, *, has_texts: bool) -> str | None:
    return report.error.message if has_texts and report.error is not None else None


def _span_id(report: RunReport, path: str) -> str:
    """Drawn from the run's id too: runs that continue one caller's trace share its id."""
    return blake2b(f"{report.trace_id}/{report.run_id}/{path}".encode(), digest_size=8).hexdigest()
