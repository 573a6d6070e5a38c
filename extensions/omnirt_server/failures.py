"""The lab's errors as HTTP answers."""

from __future__ import annotations

from typing import Final

from omnirt_lab.errors import (
    ArtifactNotFoundError,
    InvalidRequestError,
    JobCancelledError,
    JobLostError,
    JobNotFoundError,
    JournalLockedError,
    LabError,
    ModelLoadError,
    PipelineError,
    QueueFullError,
    RunNotFoundError,
    StateDirError,
    UnknownModelError,
)
from omnirt_lab.records.api import ApiError, ErrorBody

STATUS_OF: Final[dict[type[LabError], int]] = {
    InvalidRequestError: 400,
    UnknownModelError: 404,
    JobNotFoundError: 404,
    RunNotFoundError: 404,
    ArtifactNotFoundError: 404,
    JobCancelledError: 409,
    PipelineError: 422,
    ModelLoadError: 422,
    QueueFullError: 429,
    JobLostError: 502,
    JournalLockedError: 503,
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


class TooLargeError(InvalidRequestError):
    """The body is larger than the server takes."""

    code = "too_large"


class ModelNotAllowedError(UnknownModelError):
    """The model is neither allowed by the operator nor published by a notebook."""

    code = "model_not_allowed"


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
