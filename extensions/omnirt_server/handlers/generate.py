"""The generation API's own shape: a request in, a result or a job out."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_lab.records.api import GenerateBody
from omnirt_server.handlers.submitting import SubmittingHandler
from omnirt_server.views import job_view


class GenerateHandler(SubmittingHandler):
    """`POST /v1/generate`."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Queue a request; answer its result once it is there, or 202 with the job where `async_run` is set."""
        body = self.decode(GenerateBody)
        job = await self.submit(body.to_request(), priority=body.priority)
        if body.async_run:
            self.reply(job_view(job), status=202)
        else:
            self.reply(await self.wait(job))
