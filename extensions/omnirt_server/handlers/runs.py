"""The history: runs, one report, and the files that they made."""

from __future__ import annotations

import asyncio

import msgspec
from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_lab.journal import RunQuery
from omnirt_lab.records.api import RunPage
from omnirt_server.handlers.base import LabHandler, NoQuery
from omnirt_server.queries import RunsQuery


class RunsHandler(LabHandler):
    """`GET /v1/runs`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return the runs that match, newest first."""
        query = msgspec.convert(msgspec.structs.asdict(self.query(RunsQuery)), RunQuery)
        rows = await asyncio.to_thread(self.services.journal.query_runs, query)
        self.reply(RunPage(runs=tuple(rows)))


class RunHandler(LabHandler):
    """`GET /v1/runs/{id}`."""

    @web.authenticated
    @authorized
    async def get(self, run_id: str) -> None:
        """Return the run's report, as far as it has come."""
        self.query(NoQuery)
        self.reply(await asyncio.to_thread(self.services.journal.get_report, run_id))
