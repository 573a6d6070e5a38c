"""The picture that a running job predicts."""

from __future__ import annotations

import asyncio

from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_lab.errors import PreviewNotFoundError
from omnirt_lab.journal import Journal, Preview
from omnirt_server.handlers.base import LabHandler, NoQuery


class PreviewHandler(LabHandler):
    """`GET /v1/jobs/{id}/preview`: the latest one; it goes when the job ends."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Return the picture; 404 where the job has none now."""
        self.query(NoQuery)
        preview = await asyncio.to_thread(_get_preview, self.services.journal, job_id)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-OmniRT-Step", str(preview.step))
        self.media_type = preview.media_type
        self.finish(preview.content)

    def set_default_headers(self) -> None:
        """Let nobody keep the picture, nor that there is none."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    def compute_etag(self) -> None:
        """None: nobody is to keep it."""


def _get_preview(journal: Journal, job_id: str) -> Preview:
    preview = journal.find_preview(job_id)
    if preview is None:
        state = journal.get_job(job_id).state
        raise PreviewNotFoundError(
            f"job {job_id} is {state} and has no preview",
            hint="Only a running job has one, and only where its run is long enough for it; ask again later, or see "
            f"the finished pictures in /v1/jobs/{job_id}.",
        )
    return preview
