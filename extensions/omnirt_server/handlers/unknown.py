"""Addresses below `/v1/` that are no routes."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_server.handlers.base import LabHandler


class UnknownHandler(LabHandler):
    """Answers 404 in the API's own shape, where the server would send a page."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Say that there is nothing."""
        raise web.HTTPError(404, "there is no such route; /openapi.json lists those that there are")

    head = post = put = patch = delete = get
