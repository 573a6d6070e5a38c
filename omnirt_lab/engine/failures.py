"""Exceptions become ErrorInfo records for the report, and typed errors for the caller."""

from __future__ import annotations

import traceback

from omnirt_lab.errors import JobCancelledError, JobLostError, LabError, PipelineError
from omnirt_lab.records import ErrorInfo, RunReport

_MAX_TRACEBACK_CHARS = 4_000


def error_info(error: BaseException, *, stage: str | None) -> ErrorInfo:
    """Describe `error` so that it can be stored and shown by another process."""
    text = "".join(traceback.format_exception(error))
    return ErrorInfo(
        type=type(error).__name__,
        message=str(error),
        hint=error.hint if isinstance(error, LabError) else hint_for(error),
        stage=stage,
        traceback=text[-_MAX_TRACEBACK_CHARS:],
    )


def hint_for(error: BaseException) -> str | None:
    """What to try after an exception that is not the lab's own; None where its message says all that is known."""
    text = f"{type(error).__name__}: {error}".lower()
    if "out of memory" in text or isinstance(error, MemoryError):
        return "Make the picture smaller, ask for fewer at a time, or load the model with dtype='float16' on a GPU."
    if "expected all tensors to be on the same device" in text:
        return "Components lie on different devices: see device_placement in the report."
    if isinstance(error, (TypeError, ValueError)):
        return "The pipeline refused an argument: see config_resolved in the report."
    return None


def raise_for(report: RunReport) -> None:
    """Raise what a job that did not succeed means for whoever waits for its result.

    Raises
    ------
    JobCancelledError, JobLostError, PipelineError
        By the report's state; each names the run, whose partial report stays in the history.
    """
    kept = f"Its partial report: omnirt_lab.get_report({report.run_id!r})."
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
    return PipelineError(
        f"run {report.run_id} failed{where}: {what}",
        hint=f"{advice}The partial report: omnirt_lab.get_report({report.run_id!r}).",
    )
