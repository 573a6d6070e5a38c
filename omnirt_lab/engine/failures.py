"""Reports of jobs that did not succeed become typed errors for whoever waits."""

from __future__ import annotations

from omnirt_lab.errors import JobCancelledError, JobLostError, JobTimeoutError, PipelineError, errors_by_name
from omnirt_lab.records import RunReport


def raise_for(report: RunReport) -> None:
    """Raise what a job that did not succeed means for whoever waits for its result.

    Raises
    ------
    JobCancelledError, JobTimeoutError, JobLostError, PipelineError
        By the report's state; each names the run, whose partial report stays in the history.
    """
    kept = f"Its partial report: omnirt_lab.get_report({report.run_id!r})."
    if report.state == "cancelled" and report.error is not None and report.error.type == JobTimeoutError.__name__:
        raise JobTimeoutError(f"run {report.run_id} took longer than its timeout_s", hint=kept)
    if report.state == "cancelled":
        raise JobCancelledError(f"run {report.run_id} was cancelled", hint=kept)
    if report.state == "lost":
        raise JobLostError(f"run {report.run_id} was lost: its worker {report.worker_id} ended", hint=kept)
    if report.state == "failed":
        raise failure_of(report)


def failure_of(report: RunReport) -> PipelineError:
    """Build the error that a failed run's report describes."""
    error = report.error
    what = f"{error.type}: {error.message}" if error else "no error was recorded"
    where = f" in stage {error.stage}" if error and error.stage else ""
    advice = f"{error.hint} " if error and error.hint else ""
    kind = errors_by_name().get(error.type, PipelineError) if error else PipelineError
    return (kind if issubclass(kind, PipelineError) else PipelineError)(
        f"run {report.run_id} failed{where}: {what}",
        hint=f"{advice}The partial report: omnirt_lab.get_report({report.run_id!r}).",
    )
