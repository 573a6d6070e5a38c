from __future__ import annotations

import time

import pytest

from omnirt_lab.errors import InvalidRequestError, JobNotFoundError, QueueFullError
from omnirt_lab.journal import Journal, RunQuery, Worker
from omnirt_lab.journal.writer import WATCHED_LINGER_NS
from omnirt_lab.records import JobCancelled, JobEnqueued, JobFinishedData, StageStartData
from tests.journal.writing import begin, child, denoise, run, step, wish


def test_a_job_begins_with_its_first_event_at_time_zero(journal: Journal):
    job = journal.enqueue(wish(), trace_id="ab" * 16, priority=3, is_async=True)

    (event,) = journal.events(job.job_id)

    assert isinstance(event, JobEnqueued)
    assert (event.seq, event.t_ns) == (1, 0)
    assert event.data.request == job.request == wish()
    assert (event.data.run_id, event.data.trace_id, event.data.priority) == (job.run_id, "ab" * 16, 3)
    assert journal.get_job(job.job_id) == job
    assert (job.state, job.is_ended) == ("queued", False)


@pytest.mark.parametrize(
    "prompt", ["quotes \" and '", "lines\n\r\ttabs", "<script>alert(1)</script>", "🔴 on 蓝", "\x00"]
)
def test_a_prompt_comes_back_exactly(journal: Journal, worker: Worker, prompt: str):
    report = run(journal, worker, wish(prompt))

    assert journal.get_report(report.run_id).request.inputs.prompt == prompt
    assert journal.query_runs(RunQuery())[0].prompt == prompt


def test_a_prompt_that_is_no_text_is_refused_and_nothing_is_written(journal: Journal):
    with pytest.raises(InvalidRequestError, match="no Unicode text"):
        journal.enqueue(wish("\ud83d"))

    assert journal.list_jobs() == []


def test_the_same_idempotency_key_gives_the_same_job(journal: Journal):
    first = journal.enqueue(wish(), idempotency_key="once")

    assert journal.enqueue(wish("another"), idempotency_key="once") == first
    assert len(journal.list_jobs()) == 1


def test_a_full_queue_takes_no_more(journal: Journal):
    journal.enqueue(wish(), is_async=True, max_queued=1)

    with pytest.raises(QueueFullError, match="1 jobs are waiting; the queue holds 1"):
        journal.enqueue(wish(), is_async=True, max_queued=1)


def test_the_highest_priority_is_claimed_first_and_of_equals_the_oldest(journal: Journal, worker: Worker):
    jobs = [journal.enqueue(wish(), is_async=True, priority=priority) for priority in (0, 5, 0, 5)]
    journal.enqueue(wish(), priority=9)  # its caller's thread runs it
    assert journal.queue_depth() == {0: 2, 5: 2, 9: 1}

    order = [journal.claim_next(worker) for _ in range(5)]

    assert [writer and writer.job.job_id for writer in order] == [
        jobs[1].job_id,
        jobs[3].job_id,
        jobs[0].job_id,
        jobs[2].job_id,
        None,
    ]


def test_a_claimed_job_belongs_to_its_worker(journal: Journal, worker: Worker):
    job = journal.enqueue(wish())

    assert journal.claim(job.job_id, worker) is not None
    assert journal.claim(job.job_id, worker) is None
    claimed = journal.get_job(job.job_id)
    assert (claimed.state, claimed.worker_id) == ("running", worker.worker_id)


def test_of_several_processes_that_claim_a_job_one_wins(journal: Journal):
    job_ids = [journal.enqueue(wish(), is_async=True).job_id for _ in range(40)]
    claimers = [child(f"claim_all({job_ids!r})") for _ in range(3)]
    for claimer in claimers:
        assert claimer.stdout is not None
        assert claimer.stdout.readline() == "ready\n"

    won = []
    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    for claimer in claimers:
        won += claimer.communicate()[0].split()

    assert sorted(won) == sorted(job_ids)


def test_cancelling_a_queued_job_ends_it_at_once_with_a_report(journal: Journal, worker: Worker):
    job = journal.enqueue(wish())

    cancelled = journal.request_cancel(job.job_id)

    assert cancelled.state == "cancelled"
    assert journal.claim(job.job_id, worker) is None
    assert isinstance(journal.events(job.job_id)[-1], JobCancelled)
    assert journal.get_report(job.run_id).state == "cancelled"


def test_cancelling_a_running_job_tells_its_writer(journal: Journal, worker: Worker):
    writer = begin(journal, worker, is_async=True)
    assert not writer.is_cancel_requested()
    assert not journal.is_cancel_requested(writer.job.job_id)

    assert journal.request_cancel(writer.job.job_id).state == "running"

    assert journal.is_cancel_requested(writer.job.job_id)
    writer.emit(StageStartData(), stage="denoise")  # whoever stores an event hears of it
    assert writer.is_cancel_requested()


def test_a_run_in_its_callers_thread_hears_a_cancel_from_its_own_process_at_once(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    assert not writer.is_cancel_requested()

    journal.request_cancel(writer.job.job_id)

    assert writer.is_cancel_requested()


def test_a_writer_that_stores_nothing_hears_of_the_cancel_when_its_memory_is_old(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    with Journal.open(journal.directory) as other:
        other.request_cancel(writer.job.job_id)

    deadline = time.monotonic() + 10
    while not writer.is_cancel_requested():
        assert time.monotonic() < deadline

    assert writer.is_cancel_requested()


def test_a_cancel_from_another_connection_is_heard_within_a_step(journal: Journal, worker: Worker):
    writer = begin(journal, worker, is_async=True)
    with Journal.open(journal.directory) as other:
        other.request_cancel(writer.job.job_id)

    end_ns = writer.now_ns() + WATCHED_LINGER_NS
    while writer.now_ns() < end_ns:
        pass  # a step's work
    step(writer, 0)

    assert writer.is_cancel_requested()


def test_cancelling_an_ended_job_changes_nothing(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    denoise(writer)
    writer.finish(JobFinishedData())
    ended = journal.get_job(writer.job.job_id)

    assert journal.request_cancel(writer.job.job_id) == ended


def test_jobs_are_listed_newest_first_and_by_state(journal: Journal, worker: Worker):
    first, second = journal.enqueue(wish()), journal.enqueue(wish())
    journal.claim(first.job_id, worker)

    assert [job.job_id for job in journal.list_jobs()] == [second.job_id, first.job_id]
    assert [job.job_id for job in journal.list_jobs(states={"running"})] == [first.job_id]
    assert [job.job_id for job in journal.list_jobs(limit=1)] == [second.job_id]


@pytest.mark.parametrize("ask", ["get_job", "events", "request_cancel", "is_cancel_requested", "find_preview"])
def test_an_unknown_job_is_an_error_that_says_so(journal: Journal, ask: str):
    with pytest.raises(JobNotFoundError, match="no job 'x'"):
        getattr(journal, ask)("x")


def test_a_preview_stands_until_the_next_and_goes_when_the_job_ends(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    writer.show_preview(b"one", media_type="image/png", step=1)
    writer.show_preview(b"two", media_type="image/png", step=2)

    preview = journal.find_preview(writer.job.job_id)
    writer.finish(JobFinishedData())

    assert preview is not None
    assert (preview.content, preview.step) == (b"two", 2)
    assert journal.find_preview(writer.job.job_id) is None


@pytest.mark.parametrize("is_async", [True, False])
def test_previews_are_wanted_of_background_jobs_and_of_others_once_somebody_asks(
    journal: Journal, worker: Worker, is_async: bool
):
    writer = begin(journal, worker, is_async=is_async)

    assert writer.wants_preview() is is_async

    writer.previews = not is_async

    assert writer.wants_preview() is not is_async
