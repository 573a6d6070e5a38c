"""Jobs: the list, one with its result, and cancelling it."""

from __future__ import annotations

import asyncio

from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_lab.journal import JobRecord, Journal
from omnirt_lab.records.api import JobPage, JobView
from omnirt_server.handlers.base import LabHandler, NoQuery
from omnirt_server.queries import JobsQuery
from omnirt_server.views import job_view, result_of


class JobsHandler(LabHandler):
    """`GET /v1/jobs`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return a page of jobs, the latest first."""
        self.reply(await asyncio.to_thread(_page, self.services.journal, self.query(JobsQuery)))


class JobHandler(LabHandler):
    """`/v1/jobs/{id}`."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Return the job, with its result once it has ended."""
        self.query(NoQuery)
        self.reply(await asyncio.to_thread(_view, self.services.journal, job_id))

    @web.authenticated
    @authorized
    async def delete(self, job_id: str) -> None:
        """Have it stopped, and return it as it is then: 202, or 200 where it has ended already."""
        self.query(NoQuery)
        job: JobRecord = await asyncio.to_thread(self.services.journal.request_cancel, job_id)
        self.reply(job_view(job), status=200 if job.is_ended else 202)


def _page(journal: Journal, query: JobsQuery) -> JobPage:
    before_key = None if query.before is None else journal.get_job(query.before).key
    states = None if query.state is None else (query.state,)
    jobs = journal.list_jobs(states=states, limit=query.limit + 1, before_key=before_key)
    shown = jobs[: query.limit]
    return JobPage(
        jobs=tuple(job_view(job) for job in shown), next_before=shown[-1].job_id if len(jobs) > query.limit else None
    )


def _view(journal: Journal, job_id: str) -> JobView:
    job = journal.get_job(job_id)
    return job_view(job, result=result_of(journal, job))
