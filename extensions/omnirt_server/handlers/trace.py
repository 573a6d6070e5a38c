"""`GET /v1/jobs/{id}/trace`."""

from __future__ import annotations

import asyncio

import msgspec
from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_lab.export import chrome
from omnirt_lab.folds import trace as trace_fold
from omnirt_lab.journal import Journal
from omnirt_server.handlers.base import LabHandler
from omnirt_server.queries import TraceQuery


class TraceHandler(LabHandler):
    """A job's spans, as far as it has come."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Return the trace, without the prompts."""
        query = self.query(TraceQuery)
        content = await asyncio.to_thread(_encoded, self.services.journal, job_id, query)
        self.finish(content)


def _encoded(journal: Journal, job_id: str, query: TraceQuery) -> bytes:
    report = journal.get_report(journal.get_job(job_id).run_id)
    trace = trace_fold.of_report(report, job_id=job_id)
    match query.format:
        case "omnirt":
            return msgspec.json.encode(trace)
        case "chrome":
            return chrome.encode(report, trace)
        case "otlp":
            from omnirt_lab.export import otlp  # OpenTelemetry is heavy, and most servers are never asked for it

            return otlp.encode(trace)
