"""Waiting for a job's end, and what it came to."""

from __future__ import annotations

import asyncio

from omnirt_lab.journal import Journal
from omnirt_lab.records import GenerateResult
from omnirt_server.failures import error_of
from omnirt_server.services import Services


async def wait_for_result(services: Services, job_id: str) -> GenerateResult:
    """What the job made, once it has ended.

    Raises
    ------
    LabError
        Why it made nothing: what its worker raised, JobCancelledError or JobLostError.
    """
    await services.feed.wait_for_end(job_id)
    return await asyncio.to_thread(_result, services.journal, job_id)


def _result(journal: Journal, job_id: str) -> GenerateResult:
    report = journal.get_report(journal.get_job(job_id).run_id)
    if report.state != "succeeded":
        raise error_of(report)
    return GenerateResult(outputs=report.artifacts, metadata=report)
