"""`GET /metrics`."""

from __future__ import annotations

import asyncio
from typing import Final

from jupyter_server.auth.decorator import allow_unauthenticated
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from tornado import web

from omnirt_server.handlers.base import LabHandler

_OPENMETRICS_TYPE: Final = "application/openmetrics-text"


class MetricsHandler(LabHandler):
    """The server's series and the lab's, in place of jupyter_server's own route."""

    @allow_unauthenticated
    async def get(self) -> None:
        """Return them as text, or as OpenMetrics where `Accept` prefers it; 403 as the server's setting says."""
        if self.settings["authenticate_prometheus"] and not self.logged_in:
            raise web.HTTPError(403, "a token is needed, or the setting ServerApp.authenticate_prometheus=False")
        is_openmetrics = prefers_openmetrics(self.request.headers.get("Accept", ""))
        content = await asyncio.to_thread(self.services.metrics.page, is_openmetrics=is_openmetrics)
        self.media_type = OPENMETRICS if is_openmetrics else CONTENT_TYPE_PLAIN_0_0_4
        self.set_header("Vary", "Accept")
        self.finish(content)


def prefers_openmetrics(accept: str) -> bool:
    """Whether an Accept header names OpenMetrics, and names plain text with no higher weight."""
    weights: dict[str, float] = {}
    for choice in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in choice.split(";"))
        weights[media_type] = max(_weight(parameters), weights.get(media_type, 0.0))
    wanted = weights.get(_OPENMETRICS_TYPE, 0.0)
    return wanted > 0 and wanted >= weights.get("text/plain", 0.0)


def _weight(parameters: list[str]) -> float:
    """The `q` of a choice; 1 where there is none, 0 where it is no number."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
