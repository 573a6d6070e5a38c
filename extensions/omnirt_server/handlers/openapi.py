"""The contract."""

from __future__ import annotations

import asyncio
from functools import cache

import msgspec
from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_server.contract import contract
from omnirt_server.handlers.base import LabHandler, NoQuery
from omnirt_server.limits import Limits


class ContractHandler(LabHandler):
    """`GET /openapi.json`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return the document, which says what this server takes and answers."""
        self.query(NoQuery)
        is_metrics_open = not self.settings["authenticate_prometheus"]
        self.finish(await asyncio.to_thread(_encoded, self.services.limits, self.base_url, is_metrics_open))


@cache
def _encoded(limits: Limits, base_url: str, is_metrics_open: bool) -> bytes:
    return msgspec.json.encode(contract(limits, base_url=base_url, is_metrics_open=is_metrics_open))
