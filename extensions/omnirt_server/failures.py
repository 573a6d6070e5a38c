"""The lab's errors as HTTP answers."""

from __future__ import annotations

from typing import Final, Self

from omnirt_lab.errors import (
    ArtifactNotFoundError,
    ClusterUnreachableError,
    InvalidRequestError,
    JobCancelledError,
    JobLostError,
    JobNotFoundError,
    JobTimeoutError,
    JournalLockedError,
    LabError,
    ModelLoadError,
    PipelineError,
    PreviewNotFoundError,
    QueueFullError,
    RunnerUnavailableError,
    RunNotFoundError,
    StateDirError,
    TooLargeError,
    UnknownModelError,
)
from omnirt_lab.records import RunReport
from omnirt_lab.records.api import ApiError, ErrorBody

STATUS_OF: Final[dict[type[LabError], int]] = {
    InvalidRequestError: 400,
    UnknownModelError: 404,
    JobNotFoundError: 404,
    RunNotFoundError: 404,
    ArtifactNotFoundError: 404,
    PreviewNotFoundError: 404,
    JobCancelledError: 409,
    PipelineError: 422,
    ModelLoadError: 422,
    QueueFullError: 429,
    JobLostError: 502,
    JobTimeoutError: 504,
    JournalLockedError: 503,
    RunnerUnavailableError: 503,
    ClusterUnreachableError: 503,
    StateDirError: 507,
}
"""Of an error's nearest class; 500 for the others."""

_TYPE_OF: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    416: "invalid_request_error",
    422: "generation_error",
    429: "rate_limit_error",
}


class InvalidMessageError(InvalidRequestError):
    """A WebSocket message that was not understood."""

    code = "invalid_message"

    @classmethod
    def of(cls, error: Exception, *, hint: str) -> Self:
        """For what the decoder says; it may quote the message, which may be long."""
        return cls(f"the message was not understood: {error}"[:500], hint=hint)


def error_of(report: RunReport) -> LabError:
    """Why a run that ended without success did, as the error that its worker raised.

    What is no error of ours, such as a pipeline's RuntimeError, is a PipelineError.
    """
    if report.error is not None and report.error.type == JobTimeoutError.__name__:
        return JobTimeoutError(
            f"the job {report.job_id} took longer than its timeout_s", hint="Give it more time, or ask for less."
        )
    if report.state == "cancelled":
        return JobCancelledError(
            f"the job {report.job_id} was cancelled", hint="Send the request again to have it after all."
        )
    if report.error is None:
        return PipelineError(
            f"the job {report.job_id} is {report.state}, and its report does not say why",
            hint=f"See its events: /v1/jobs/{report.job_id}/events.",
        )
    kind = _kinds(LabError).get(report.error.type)
    message = report.error.message if kind else f"{report.error.type}: {report.error.message}"
    hint = report.error.hint or f"Its report says where: /v1/runs/{report.run_id}."
    return (kind or PipelineError)(message, hint=hint)


def _kinds(base: type[LabError]) -> dict[str, type[LabError]]:
    """`base` and what is derived from it, by class name."""
    kinds = {base.__name__: base}
    for kind in base.__subclasses__():
        kinds |= _kinds(kind)
    return kinds


def status_of(error: LabError) -> int:
    """The HTTP status that says what `error` says."""
    if isinstance(error, TooLargeError):
        return 413
    return next((STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF), 500)


def type_of(status: int) -> str:
    """OpenAI's word for an error of this status."""
    return _TYPE_OF.get(status, "server_error" if status >= 500 else "invalid_request_error")


def body_of(error: LabError, *, param: str | None = None) -> ErrorBody:
    """What the answer to a request that failed so says."""
    return ErrorBody(
        error=ApiError(
            message=str(error), type=type_of(status_of(error)), code=error.code, param=param, hint=error.hint
        )
    )
