"""The generation API's own shape: a request in, a result or a job out."""

from __future__ import annotations

import asyncio

from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_lab.journal import JobRecord
from omnirt_lab.records.api import GenerateBody
from omnirt_server.handlers.base import LabHandler
from omnirt_server.submission import Caller, submit
from omnirt_server.views import job_view, result_of


class GenerateHandler(LabHandler):
    """`POST /v1/generate`."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Queue a request; wait for its result, or answer 202 with the job where `async_run` is set."""
        body = self.decode(GenerateBody)
        job = await self.submit(body)
        self.set_header("Location", f"{self.base_url}v1/jobs/{job.job_id}")
        self.set_header("X-Job-Id", job.job_id)
        if body.async_run:
            self.reply(job_view(job), status=202)
            return
        await self.services.feed.wait_for_end(job.job_id)
        ended = await asyncio.to_thread(self.services.journal.get_job, job.job_id)
        self.reply(await asyncio.to_thread(result_of, self.services.journal, ended))

    async def submit(self, body: GenerateBody) -> JobRecord:
        """Make the body a job."""
        headers = self.request.headers
        caller = Caller(traceparent=headers.get("traceparent"), idempotency_key=headers.get("Idempotency-Key"))
        services = self.services
        return await asyncio.to_thread(
            submit, services.journal, services.limits, body.to_request(), priority=body.priority, caller=caller
        )
