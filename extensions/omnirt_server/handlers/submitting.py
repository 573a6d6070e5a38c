"""What the routes have in common that make a job and may wait for it."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado import web

from omnirt_lab.journal import JobRecord
from omnirt_lab.records import GenerateRequest, GenerateResult
from omnirt_server.handlers.base import LabHandler
from omnirt_server.submission import Caller, submit
from omnirt_server.waiting import wait_for_result


class SubmittingHandler(LabHandler):
    """Once there is a job, every answer names it, errors too."""

    _has_client = True
    _job_id: str | None = None
    _waiting: asyncio.Task[Any] | None = None

    def set_default_headers(self) -> None:
        """Name the job. OpenAI's clients would send 409 and 5xx again: the job's failure would make another job."""
        super().set_default_headers()
        if self._job_id is not None:
            self.set_header("Location", f"{self.base_url}v1/jobs/{self._job_id}")
            self.set_header("X-Job-Id", self._job_id)
            self.set_header("X-Should-Retry", "false")

    async def submit(self, request: GenerateRequest, *, priority: int = 0) -> JobRecord:
        """Make the request a job, for the caller that the headers name."""
        headers = self.request.headers
        caller = Caller(traceparent=headers.get("traceparent"), idempotency_key=headers.get("Idempotency-Key"))
        services = self.services
        job = await asyncio.to_thread(
            submit, services.journal, services.limits, request, priority=priority, caller=caller
        )
        self._job_id = job.job_id
        self.set_default_headers()
        return job

    async def wait(self, job: JobRecord) -> GenerateResult:
        """What the job made; the job goes on if the client leaves.

        Raises
        ------
        LabError
            Why it made nothing.
        """
        if not self._has_client:
            raise web.Finish
        self._waiting = asyncio.current_task()
        try:
            return await wait_for_result(self.services, job.job_id)
        except asyncio.CancelledError as gone:
            raise web.Finish from gone
        finally:
            self._waiting = None

    def on_connection_close(self) -> None:
        """Wait no longer for a client that has gone."""
        self._has_client = False
        if self._waiting is not None:
            self._waiting.cancel()
