"""`submit`: a durable queue, run by a thread of this process."""

from __future__ import annotations

import threading

import pytest

from omnirt_lab import Lab
from omnirt_lab.errors import InvalidRequestError, JobCancelledError, JobNotFoundError, PipelineError
from omnirt_lab.lab.jobs import Job
from omnirt_lab.records import JobFinished, JobStarted, Step

PROMPT = "a green star on a white background"
DEADLINE_S = 60.0


def test_a_job_runs_in_the_background_and_gives_its_result(lab: Lab) -> None:
    job = lab.submit(PROMPT, steps=2, seed=1)

    result = job.result(timeout=DEADLINE_S)

    assert job.state == "succeeded"
    assert result.report.job_id == job.id
    assert result.report.queue_wait_ms is not None
    assert result.report.queue_wait_ms >= 0
    assert result.images[0].tobytes() == lab.generate(PROMPT, steps=2, seed=1, progress=False).images[0].tobytes()


def test_events_come_in_order_and_end_with_the_terminal_one(lab: Lab) -> None:
    job = lab.submit(PROMPT, steps=3, seed=1)

    events = list(job.events(timeout=DEADLINE_S))

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], JobFinished)
    assert list(job.events(timeout=DEADLINE_S)) == events, "a job that ended replays"


def test_higher_priorities_run_first_and_equal_ones_in_the_order_of_arrival(lab: Lab) -> None:
    blocker = lab.submit(PROMPT, steps=40, seed=1)
    _wait_for_a_step(blocker)
    low, high, second_high = (lab.submit(PROMPT, steps=1, priority=priority) for priority in (0, 5, 5))

    started = {job.id: _started_at(job) for job in (low, high, second_high)}

    assert started[high.id] < started[second_high.id] < started[low.id]


def test_a_queued_job_is_cancelled_at_once(lab: Lab) -> None:
    blocker = lab.submit(PROMPT, steps=40, seed=1)
    _wait_for_a_step(blocker)
    queued = lab.submit(PROMPT, steps=2)

    queued.cancel()

    assert queued.state == "cancelled"
    with pytest.raises(JobCancelledError) as caught:
        queued.result(timeout=DEADLINE_S)
    assert queued.run_id in str(caught.value)


def test_a_running_job_stops_at_the_next_step(lab: Lab) -> None:
    job = lab.submit(PROMPT, steps=1_000, seed=1)
    _wait_for_a_step(job)

    job.cancel()

    with pytest.raises(JobCancelledError):
        job.result(timeout=DEADLINE_S)
    assert 1 <= len(job.report.steps) < 1_000
    assert lab.submit(PROMPT, steps=1).result(timeout=DEADLINE_S).report.state == "succeeded"


def test_a_failed_job_raises_for_whoever_waits_and_the_next_one_runs(lab: Lab) -> None:
    job = lab.submit(PROMPT, steps=2, options={"guidance_rescale": "not a number"})

    with pytest.raises(PipelineError, match=job.run_id):
        job.result(timeout=DEADLINE_S)

    assert lab.submit(PROMPT, steps=1).result(timeout=DEADLINE_S).report.state == "succeeded"


def test_a_bad_request_is_refused_before_it_is_queued(lab: Lab) -> None:
    with pytest.raises(InvalidRequestError):
        lab.submit(PROMPT, steps=0)

    assert lab.journal.list_jobs() == []


def test_one_idempotency_key_makes_one_job(lab: Lab) -> None:
    first, second = (lab.submit(PROMPT, steps=1, idempotency_key="mine") for _ in range(2))

    assert first.id == second.id
    first.result(timeout=DEADLINE_S)


def test_waiting_no_longer_than_asked_leaves_the_job_running(lab: Lab) -> None:
    job = lab.submit(PROMPT, steps=1_000, seed=1)

    with pytest.raises(TimeoutError, match=job.id):
        job.result(timeout=0.05)

    job.cancel()
    with pytest.raises(JobCancelledError):
        job.result(timeout=DEADLINE_S)


def test_a_job_is_found_again_by_its_id(lab: Lab) -> None:
    job = lab.submit(PROMPT, steps=1)

    assert lab.get_job(job.id).result(timeout=DEADLINE_S).report.run_id == job.run_id
    with pytest.raises(JobNotFoundError):
        lab.get_job("no-such-job")


def test_generate_and_a_queued_job_share_one_pipeline_and_take_turns(lab: Lab) -> None:
    job = lab.submit(PROMPT, steps=10, seed=1)

    here = lab.generate(PROMPT, steps=10, seed=1, progress=False)

    assert job.result(timeout=DEADLINE_S).images[0].tobytes() == here.images[0].tobytes()


def test_closing_the_lab_ends_its_thread(lab: Lab) -> None:
    lab.submit(PROMPT, steps=1).result(timeout=DEADLINE_S)

    lab.close()

    assert [thread.name for thread in threading.enumerate() if thread.name == "omnirt-engine"] == []


def _wait_for_a_step(job: Job) -> None:
    for event in job.events(timeout=DEADLINE_S):
        if isinstance(event, Step):
            return
    raise AssertionError(f"{job} ended without a step")


def _started_at(job: Job) -> int:
    job.result(timeout=DEADLINE_S)
    (started,) = [event.timestamp_ms * 1_000_000 for event in job.events() if isinstance(event, JobStarted)]
    return started
