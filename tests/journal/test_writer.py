from __future__ import annotations

import sqlite3
import threading
from itertools import pairwise

import msgspec
import pytest

from omnirt_lab.folds import report as report_fold
from omnirt_lab.journal import Journal, Worker
from omnirt_lab.journal.sparse import sparse
from omnirt_lab.journal.writer import LINGER_NS
from omnirt_lab.records import (
    AnyEvent,
    ErrorInfo,
    JobCancelledData,
    JobFailedData,
    JobFinished,
    JobFinishedData,
    JobStarted,
    MemoryData,
    ProbeCost,
    RunReport,
    StageEndData,
    StageErrorData,
    StageStartData,
    Warned,
    WarningData,
)
from tests import sample_events
from tests.journal.writing import begin, denoise, step, wish


def test_the_stored_events_fold_to_the_stored_report(journal: Journal, worker: Worker):
    writer = begin(journal, worker, is_async=True)
    denoise(writer, steps=5)

    report = writer.finish(JobFinishedData())

    stored = journal.events(writer.job.job_id)
    assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
    assert isinstance(stored[-1], JobFinished)
    assert journal.get_report(report.run_id) == report == report_fold.fold(stored, job_id=writer.job.job_id)
    assert (report.state, report.job_id, len(report.steps)) == ("succeeded", writer.job.job_id, 5)
    assert journal.get_job(writer.job.job_id).state == "succeeded"


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (JobFailedData(error=ErrorInfo(type="ValueError", message="no")), "failed"),
        (JobCancelledData(reason="interrupted"), "cancelled"),
    ],
)
def test_a_run_that_fails_or_is_cancelled_keeps_its_report(
    journal: Journal, worker: Worker, data: JobFailedData | JobCancelledData, state: str
):
    writer = begin(journal, worker)
    denoise(writer, steps=2)

    report = writer.finish(data)

    assert (report.state, len(report.steps)) == (state, 2)
    assert journal.get_report(report.run_id) == report
    assert journal.get_job(writer.job.job_id).state == state


def test_a_stage_event_of_a_submitted_job_is_stored_when_emit_returns(journal: Journal, worker: Worker):
    writer = begin(journal, worker, is_async=True)

    writer.emit(StageStartData(), stage="denoise")

    assert journal.events(writer.job.job_id)[-1].stage == "denoise"


def test_events_of_a_job_in_its_callers_thread_are_stored_by_the_background_in_order(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    with journal.cursor(job_id=writer.job.job_id) as cursor:
        denoise(writer, steps=3)
        seen: list[AnyEvent] = []
        while len(seen) < 10 and cursor.wait(10):
            seen += [entry.event for entry in cursor.read()]

    assert tuple(seen) == writer.events


def test_an_event_long_after_a_commit_is_stored_when_emit_returns_in_its_callers_thread(
    journal: Journal, worker: Worker
):
    writer = begin(journal, worker)
    end_ns = writer.now_ns() + LINGER_NS
    while writer.now_ns() < end_ns:
        pass  # a long step's work

    step(writer, 0)

    assert journal.events(writer.job.job_id)[-1].event == "step"


def test_what_waits_for_its_commit_is_stored_in_order_by_whoever_finds_the_job_lost(journal: Journal):
    worker = journal.worker()
    writer = begin(journal, worker)
    denoise(writer, steps=3)

    with Journal.open(journal.directory) as other:
        worker.close()
        assert other.reap_lost() == [writer.job.job_id]
        stored = other.events(writer.job.job_id)

    assert tuple(stored[:-1]) == writer.events
    assert stored[-1].event == "job_lost"


def test_steps_in_a_burst_are_stored_before_the_next_stage_event(journal: Journal, worker: Worker):
    writer = begin(journal, worker, is_async=True)
    for index in range(50):
        step(writer, index)

    writer.emit(StageStartData(), stage="vae_decode")

    words = [event.event for event in journal.events(writer.job.job_id)]
    assert words == ["job_enqueued", "job_started", *["step"] * 50, "stage_start"]


def test_the_last_step_of_a_burst_is_stored_without_a_further_event(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    with journal.cursor(job_id=writer.job.job_id) as cursor:
        for index in range(10):
            step(writer, index)
        seen: list[AnyEvent] = []
        while len(seen) < 12 and cursor.wait(10):
            seen += [entry.event for entry in cursor.read()]

    assert [event.seq for event in seen] == list(range(1, 13))


def test_several_threads_emit_into_one_run_without_a_gap(journal: Journal, worker: Worker):
    writer = begin(journal, worker)

    def sample() -> None:
        for reading in range(100):
            writer.emit(MemoryData(device="cpu", kind="rss", current_bytes=reading))

    threads = [threading.Thread(target=sample) for _ in range(3)]
    for thread in threads:
        thread.start()
    denoise(writer, steps=30)
    for thread in threads:
        thread.join()
    report = writer.finish(JobFinishedData())

    events = journal.events(writer.job.job_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (len(report.steps), len(report.memory.samples)) == (30, 330)


def test_time_is_monotonic_since_the_job_was_enqueued(journal: Journal, worker: Worker):
    job = journal.enqueue(wish(), is_async=True)
    writer = journal.claim(job.job_id, worker)
    assert writer is not None

    times = [writer.now_ns() for _ in range(3)]
    writer.emit(StageStartData(), stage="denoise", t_ns=times[1])

    assert all(0 < earlier <= later for earlier, later in pairwise(times))
    assert journal.events(job.job_id)[-1].t_ns == times[1]


def test_listeners_hear_every_event_in_order_and_the_terminal_one_last(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    heard: list[AnyEvent] = []
    writer.listeners.append(heard.append)

    denoise(writer, steps=2)
    writer.finish(JobFinishedData())

    assert heard == journal.events(writer.job.job_id)[2:]


def test_a_listener_that_raises_is_dropped_with_a_warning(journal: Journal, worker: Worker):
    def broken(event: AnyEvent) -> None:
        raise RuntimeError("no display")

    writer = begin(journal, worker)
    heard: list[AnyEvent] = []
    writer.listeners += [broken, heard.append]

    denoise(writer, steps=1)
    report = writer.finish(JobFinishedData())

    assert [warning.code for warning in report.warnings] == ["listener_failed"]
    assert "no display" in report.warnings[0].message
    assert [event.event for event in heard[:2]] == ["stage_start", "warning"]
    assert isinstance(heard[1], Warned)


def test_after_the_end_nothing_is_appended_and_finish_answers_the_same(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    report = writer.finish(JobFinishedData())
    events = journal.events(writer.job.job_id)

    writer.emit(MemoryData(device="cpu", kind="rss", current_bytes=1))  # a sampler that was late

    assert journal.events(writer.job.job_id) == events
    assert writer.finish(JobCancelledData(reason="requested")) is report


def test_a_job_that_was_lost_stays_lost_when_its_writer_comes_back(journal: Journal):
    worker = journal.worker()
    writer = begin(journal, worker, is_async=True)
    denoise(writer, steps=2)
    worker.close()
    assert journal.reap_lost() == [writer.job.job_id]
    events = journal.events(writer.job.job_id)

    step(writer, 3)
    writer.emit(StageStartData(), stage="vae_decode")
    assert writer.is_cancel_requested()
    report = writer.finish(JobFinishedData())

    assert report.state == "lost"
    assert report == journal.get_report(writer.job.run_id)
    assert journal.events(writer.job.job_id) == events


def test_a_locked_journal_delays_events_and_loses_none(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    other = sqlite3.connect(journal.directory / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    denoise(writer, steps=3)
    assert len(journal.events(writer.job.job_id)) == 2
    other.execute("ROLLBACK")
    other.close()
    report = writer.finish(JobFinishedData())

    assert report.probe.events_dropped == 0
    assert len(journal.events(writer.job.job_id)) == 11


def test_a_run_whose_journal_stays_locked_still_gets_its_report_and_it_counts_what_was_dropped():
    with Journal.open(busy_timeout_s=0.05) as journal:
        writer = begin(journal, journal.worker())
        other = sqlite3.connect(journal.directory / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        denoise(writer, steps=3)
        report = writer.finish(JobFinishedData(probe=ProbeCost(overhead_ns=5)))

        other.execute("ROLLBACK")
        other.close()
        assert (report.state, len(report.steps)) == ("succeeded", 3)
        assert report.probe == ProbeCost(overhead_ns=5, events_dropped=9)
        assert journal.get_job(writer.job.job_id).state == "running"


def test_events_known_together_are_stored_together_at_the_end_of_the_outermost_block(journal: Journal, worker: Worker):
    writer = begin(journal, worker, is_async=True)
    heard: list[AnyEvent] = []
    writer.listeners.append(heard.append)

    with writer.together():
        writer.emit(StageStartData(), stage="prepare")
        with writer.together():
            writer.emit(StageEndData(), stage="prepare")
        writer.emit(StageStartData(), stage="denoise")
        assert len(heard) == 3
        assert len(journal.events(writer.job.job_id)) == 2

    assert journal.events(writer.job.job_id)[2:] == heard


def test_a_block_that_raises_has_stored_its_events_and_later_ones_do_not_wait(journal: Journal, worker: Worker):
    writer = begin(journal, worker, is_async=True)

    def interrupted() -> None:
        with writer.together(), writer.together():
            writer.emit(StageStartData(), stage="denoise")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(journal.events(writer.job.job_id)) == 3

    writer.emit(StageErrorData(type="KeyboardInterrupt", message=""), stage="denoise")
    assert len(journal.events(writer.job.job_id)) == 4


def test_another_thread_stores_at_once_whatever_a_block_holds_back(journal: Journal, worker: Worker):
    writer = begin(journal, worker, is_async=True)
    thread = threading.Thread(target=lambda: writer.emit(StageEndData(), stage="load"))

    with writer.together():
        writer.emit(StageStartData(), stage="load")
        thread.start()
        thread.join()  # no lock is held in a block
        assert len(journal.events(writer.job.job_id)) == 4
        writer.emit(StageStartData(), stage="denoise")

    assert [event.seq for event in journal.events(writer.job.job_id)] == [1, 2, 3, 4, 5]


def test_a_job_may_end_within_a_block(journal: Journal, worker: Worker):
    writer = begin(journal, worker)

    with writer.together():
        writer.emit(StageStartData(), stage="denoise")
        report = writer.finish(JobFinishedData())

    assert [event.event for event in journal.events(writer.job.job_id)][2:] == ["stage_start", "job_finished"]
    assert report == journal.get_report(report.run_id)


def test_an_interrupt_after_a_single_events_commit_does_not_repeat_it(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    writer._stored -= 1  # as if Ctrl-C had come between the commit and this line

    writer.flush()

    assert [event.seq for event in journal.events(writer.job.job_id)] == [1, 2]


def test_an_interrupt_after_a_commit_neither_loses_nor_repeats_an_event(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    writer.emit(StageStartData(), stage="denoise")
    writer._stored = 1  # as if Ctrl-C had come between the commit and this line

    denoise(writer, steps=2)
    writer.finish(JobFinishedData())

    assert [event.seq for event in journal.events(writer.job.job_id)] == list(range(1, 11))


def test_text_that_utf8_cannot_hold_does_not_break_a_run(journal: Journal, worker: Worker):
    writer = begin(journal, worker)

    writer.emit(WarningData(code="odd_file", message="cannot read \udcff.png"))
    writer.finish(JobFinishedData())

    assert journal.get_report(writer.job.run_id).warnings[0].message == "cannot read ?.png"


@pytest.mark.parametrize("name", sample_events.ALL)
def test_a_sparse_report_decodes_to_the_same_report(name: str):
    report = sample_events.report_of(sample_events.ALL[name]())

    text = msgspec.json.encode(sparse(report))

    assert msgspec.json.decode(text, type=RunReport) == report
    assert len(text) < len(msgspec.json.encode(report))


def test_the_worker_and_the_wait_stand_in_the_report(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    report = writer.finish(JobFinishedData())

    started = next(event for event in journal.events(writer.job.job_id) if isinstance(event, JobStarted))
    assert report.worker_id == worker.worker_id == started.data.worker_id
    assert report.queue_wait_ms == pytest.approx(started.t_ns / 1e6)


def test_a_run_that_has_not_ended_has_the_report_of_what_it_has_done(journal: Journal, worker: Worker):
    writer = begin(journal, worker, is_async=True)
    denoise(writer, steps=2)

    report = journal.get_report(writer.job.run_id)

    assert (report.state, len(report.steps)) == ("running", 2)
    assert writer.events == tuple(journal.events(writer.job.job_id))
