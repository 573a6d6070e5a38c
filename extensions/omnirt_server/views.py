"""Jobs as the API shows them."""

from __future__ import annotations

from omnirt_lab.journal import JobRecord, Journal
from omnirt_lab.records import GenerateResult
from omnirt_lab.records.api import JobView


def job_view(job: JobRecord, *, result: GenerateResult | None = None) -> JobView:
    """A job, and what came of it where that was read too."""
    return JobView(
        job_id=job.job_id,
        run_id=job.run_id,
        trace_id=job.trace_id,
        state=job.state,
        task=job.request.task,
        model=job.request.model,
        prompt=job.request.inputs.prompt,
        priority=job.priority,
        is_async=job.is_async,
        cancel_requested=job.cancel_requested,
        worker_id=job.worker_id,
        enqueued_at_ms=job.enqueued_at_ms,
        started_at_ms=job.started_at_ms,
        ended_at_ms=job.ended_at_ms,
        result=result,
    )


def result_of(journal: Journal, job: JobRecord) -> GenerateResult | None:
    """What an ended job came to; None before that."""
    if not job.is_ended:
        return None
    report = journal.get_report(job.run_id)
    return GenerateResult(outputs=report.artifacts, metadata=report)
