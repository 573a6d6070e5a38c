"""What HTTP routes and WebSockets have in common."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web

from omnirt_lab.errors import LabError
from omnirt_server.failures import status_of
from omnirt_server.services import Services
from omnirt_server.settings import SERVICES_KEY

if TYPE_CHECKING:
    from logging import Logger

    from tornado.httputil import HTTPServerRequest


class LabRoute(ExtensionHandlerMixin):
    """A route of the lab's: what it may ask for, and what of it is logged."""

    auth_resource = "omnirt"

    request: HTTPServerRequest
    settings: dict[str, Any]

    if TYPE_CHECKING:
        log: Logger

    @property
    def services(self) -> Services:
        """What all handlers share."""
        services: Services = self.settings[SERVICES_KEY]
        return services

    def log_exception(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Log a refusal in one line, and what should not be with its traceback; no query, where a token may stand."""
        status = _status_of(error)
        if status < 500:
            self.log.info("%d %s %s: %s", status, self.request.method, self.request.path, error)
        else:
            exc_info = None if kind is None or error is None else (kind, error, trace)
            self.log.error("%d %s %s", status, self.request.method, self.request.path, exc_info=exc_info)


def _status_of(error: BaseException | None) -> int:
    if isinstance(error, LabError):
        return status_of(error)
    return error.status_code if isinstance(error, web.HTTPError) else 500
