"""The server's error answers as the lab's own exceptions."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec

from omnirt_lab.errors import InvalidRequestError, LabError
from omnirt_lab.records.api import ApiError, ErrorBody


class AuthenticationError(LabError):
    """The server does not know the token, or does not let its owner do this."""

    code = "not_authenticated"


class ServerError(LabError):
    """The server answered an error that is none of the lab's own; `status` is its HTTP status."""

    code = "server_error"

    def __init__(self, message: str, *, hint: str, status: int) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ServerUnreachableError(LabError, ConnectionError):
    """There is no answer: nothing listens there, the connection broke, or it took too long."""

    code = "server_unreachable"


_UNKNOWN: Final = "See the server's log."
_WHERE_IT_IS: Final = "Pass the token that the server printed when it started: Client(url, token=…)."


def error_of(status: int, content: bytes) -> LabError:
    """The exception that an answer with this status and body stands for, chosen by the error's `code`."""
    error = _decoded(status, content)
    hint = error.hint or _UNKNOWN
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return AuthenticationError(f"the server refused: {error.message}", hint=error.hint or _WHERE_IT_IS)
    kind = _kinds(LabError).get(error.code)
    if kind is None and status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        kind = InvalidRequestError
    if kind is None or issubclass(kind, ServerError):
        return ServerError(f"the server answered {status}: {error.message}", hint=hint, status=status)
    return kind(error.message, hint=hint)


def _decoded(status: int, content: bytes) -> ApiError:
    try:
        return msgspec.json.decode(content, type=ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError):  # a proxy between answers pages of its own
        known = status in HTTPStatus.__members__.values()
        return ApiError(message=HTTPStatus(status).phrase if known else f"status {status}", type="", code="")


def _kinds(base: type[LabError]) -> dict[str, type[LabError]]:
    """`base` and what is derived from it, by code."""
    kinds: dict[str, type[LabError]] = {}
    for kind in base.__subclasses__():
        kinds |= _kinds(kind)
    return kinds | {base.code: base}
