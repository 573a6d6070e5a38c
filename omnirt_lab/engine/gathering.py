"""Which of the queued jobs run together: those that may share a pipeline call, when the first has waited a little."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from omnirt_lab.executors import check_request
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal.clock import monotonic_zero_ns
from omnirt_lab.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from omnirt_lab.journal import JobRecord, JobWriter, Journal, Worker
    from omnirt_lab.records import ExecutionMode, GenerateRequest

_LOOK_EVERY_S: Final = 0.01
"""How often the queue is looked at while a job waits for company, which another process may send."""

_LOOK_AHEAD: Final = 100
"""Jobs of the queue that are considered at a time."""

TakesCompany: TypeAlias = "Callable[[GenerateRequest], bool]"

_log: Final = logging.getLogger(__name__)


class Company(NamedTuple):
    """The job whose turn it is, and who may go with it."""

    jobs: tuple[JobRecord, ...]

    may_grow: bool
    """Whether another one like them could still join."""


def gather(
    journal: Journal,
    worker: Worker,
    queue: str,
    *,
    first_id: str | None = None,
    modes: Collection[ExecutionMode] | None = None,
    arrived: threading.Event,
    takes_company: TakesCompany | None = None,
    is_closing: Callable[[], bool] = lambda: False,
) -> list[JobWriter]:
    """Take the job whose turn it is, with those that may share its call; empty where none waits.

    It waits for company no longer than the window of the settings, counted from when it was queued. While it waits it
    stays queued: it can be cancelled, taken by another worker, or overtaken by a job of higher priority.

    Parameters
    ----------
    first_id
        The one to take, whoever's turn it is.
    modes
        Of the jobs that are meant; None for all.
    arrived
        Set when a job may have been queued.
    takes_company
        Whether a request may share a call with others of its shape; raises what is wrong with one that cannot be run.
        By default as its model in the catalog takes it.
    """
    settings = SETTINGS.current
    window_ns = round((settings.batch_window_ms or 0.0) * NS_PER_MS)
    end_ns = time.monotonic_ns() + window_ns
    while True:
        arrived.clear()
        waiting = _with_first(journal, journal.list_queued(queue, limit=_LOOK_AHEAD, modes=modes), first_id)
        company = company_of(waiting, limit=settings.max_batch_size, takes_company=takes_company)
        left_ns = 0
        if company.may_grow:
            left_ns = min(end_ns, _queued_at_ns(company.jobs[0]) + window_ns) - time.monotonic_ns()
        if left_ns <= 0 or is_closing():
            break
        arrived.wait(min(left_ns / NS_PER_S, _LOOK_EVERY_S))
    return [] if is_closing() else journal.claim_all([job.job_id for job in company.jobs], worker)


def company_of(waiting: Sequence[JobRecord], *, limit: int, takes_company: TakesCompany | None = None) -> Company:
    """Choose from the queue's jobs, in the order of their turns, the first one and those that may share its call.

    No job is chosen before one of higher priority that has to be left out.
    """
    if not waiting:
        return Company((), may_grow=False)
    first = waiting[0]
    takes_company = takes_company or _takes_company
    shape = _find_shape(first.request, takes_company)
    if shape is None:
        return Company((first,), may_grow=False)
    chosen, left_out_priority = [first], None
    for job in waiting[1:]:
        if len(chosen) == limit or (left_out_priority is not None and job.priority < left_out_priority):
            break
        if _find_shape(job.request, takes_company, wanted=shape) is not None:
            chosen.append(job)
        elif left_out_priority is None:
            left_out_priority = job.priority
    return Company(tuple(chosen), may_grow=len(chosen) < limit)


def _takes_company(request: GenerateRequest) -> bool:
    from omnirt_lab.pipelines.batching import takes_batches  # loads torch

    check_request(request)
    return takes_batches(request)


def _find_shape(
    request: GenerateRequest, takes_company: TakesCompany, *, wanted: GenerateRequest | None = None
) -> GenerateRequest | None:
    """What the request has in common with those that may share its call; None if it is to run alone.

    Where a shape is wanted, one of another is not looked at any further.
    """
    from omnirt_lab.pipelines.batching import shape_of  # loads torch

    shape = shape_of(request)
    if shape is None or wanted not in (None, shape):
        return None
    try:
        return shape if takes_company(request) else None
    except Exception as error:  # noqa: BLE001  # alone, it ends with a report that says what is wrong with it
        _log.info("a job runs alone, as its request is wrong: %s", error)
        return None


def _with_first(journal: Journal, waiting: list[JobRecord], first_id: str | None) -> list[JobRecord]:
    """The jobs with this one before all others; none if it is queued no more."""
    if first_id is None:
        return waiting
    first = journal.get_job(first_id)
    return [first, *(job for job in waiting if job.job_id != first_id)] if first.state == "queued" else []


def _queued_at_ns(job: JobRecord) -> int:
    return monotonic_zero_ns(boot=job.boot_id, monotonic_ns=job.monotonic_ns, wall_clock_ms=job.enqueued_at_ms)
