"""What every handler does alike: who may ask, what is decoded, how errors are answered."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping, Sequence
from http.client import responses
from typing import Any, TypeVar

import msgspec
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from tornado import web

from omnirt_lab.errors import InvalidRequestError, LabError, TooLargeError
from omnirt_lab.records import Artifact, Record
from omnirt_lab.records.api import ApiError, ErrorBody
from omnirt_server.failures import body_of, status_of, type_of
from omnirt_server.handlers.route import LabRoute

T = TypeVar("T")


class LabHandler(LabRoute, APIHandler):
    """A route of the API. Methods carry `@web.authenticated` and, below it, `@authorized`."""

    media_type = "application/json"

    async def prepare(self, **kwargs: Any) -> None:
        """Refuse what is too large, before anything reads it."""
        await super().prepare(**kwargs)
        limit = self.services.limits.body_bytes
        size = max(len(self.request.body), int(self.request.headers.get("Content-Length") or 0))
        if size > limit:
            raise TooLargeError(f"the body has {size:,} bytes; at most {limit:,} are taken", hint="Send less at once.")

    def get_login_url(self) -> str:
        """Answer 401 where a page would send people to log in."""
        self.set_header("WWW-Authenticate", "Bearer")
        raise web.HTTPError(401, "a token is needed")

    def decode(self, kind: type[T]) -> T:
        """The body as a record.

        Raises
        ------
        InvalidRequestError
            If it is no JSON or has another shape; it names the field.
        """
        try:
            return msgspec.json.decode(self.request.body or b"{}", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestError(
                f"the body is not what this route takes: {error}", hint="See /openapi.json for its shape."
            ) from error

    def query(self, kind: type[T]) -> T:
        """The arguments after `?` as a record.

        Raises
        ------
        InvalidRequestError
            If one is unknown to it, has no meaning or stands there twice.
        """
        arguments = {name: values for name, values in self.request.query_arguments.items() if name != "token"}
        return fields_of(arguments, kind, what="query")

    def reply(self, value: object, *, status: int = 200) -> None:
        """Answer with a record as JSON."""
        self.set_status(status)
        self.media_type = "application/json"
        self.finish(msgspec.json.encode(value))

    def finish(self, *args: Any, **kwargs: Any) -> Future[None]:
        """End the answer, which is of `media_type`."""
        done: Future[None] = super().finish(*args, set_content_type=self.media_type, **kwargs)
        return done

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Answer an error of ours with its own status."""
        error = _exception_of(kwargs)
        super().send_error(status_of(error) if isinstance(error, LabError) else status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """The one shape of every error."""
        error = _exception_of(kwargs)
        if isinstance(error, LabError):
            body = body_of(error)
        else:
            body = _body_of_status(status_code, error if isinstance(error, web.HTTPError) else None)
        if status_code == 429:
            self.set_header("Retry-After", "1")
        if status_code == 405:
            self.set_header("Allow", ", ".join(methods_of(type(self))))
        self.reply(body, status=status_code)


def _exception_of(kwargs: dict[str, Any]) -> BaseException | None:
    error: BaseException | None = kwargs["exc_info"][1] if "exc_info" in kwargs else None
    return error


def _body_of_status(status: int, error: web.HTTPError | None) -> ErrorBody:
    phrase = responses.get(status, "Unknown error")
    message = (error.log_message if error is not None else None) or phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_")
    return ErrorBody(error=ApiError(message=message, type=type_of(status), code=code))


def methods_of(handler: type[web.RequestHandler]) -> list[str]:
    """The HTTP methods that a route answers."""
    unimplemented = web.RequestHandler._unimplemented_method  # noqa: SLF001  # tornado's own mark of those that it lacks
    return [name for name in handler.SUPPORTED_METHODS if getattr(handler, name.lower()) is not unimplemented]


def fields_of(arguments: Mapping[str, Sequence[bytes]], kind: type[T], *, what: str) -> T:
    """The named values of a query or a form as a record.

    Raises
    ------
    InvalidRequestError
        If one is unknown to it, has no meaning or stands there twice.
    """
    hint = "See /openapi.json for what it takes."
    given = {name: values[-1].decode("utf-8", "replace") for name, values in arguments.items()}
    if twice := [name for name, values in arguments.items() if len(values) > 1]:
        raise InvalidRequestError(f"the {what} has {min(twice)[:80]!r} more than once", hint=hint)
    try:
        record = msgspec.convert(given, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the {what} is not what this route takes: {error}", hint=hint) from error
    if nulls := [name for name in given if getattr(record, name) is None]:
        raise InvalidRequestError(f"the {what} has null as {min(nulls)!r}", hint="Leave it out instead.")
    return record


def artifact_url(handler: JupyterHandler, artifact: Artifact) -> str:
    """Where the file is, by the address that the client used for this server."""
    request = handler.request
    return f"{request.protocol}://{request.host}{handler.base_url}v1/artifacts/{artifact.sha256}"


class NoQuery(Record, frozen=True, forbid_unknown_fields=True):
    """The query of a route that takes none."""
