from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from omnirt_lab.errors import QueueFullError
from omnirt_lab.journal import Journal, Snapshot, published_queue
from omnirt_lab.records import Config, ErrorInfo
from tests.journal.writing import run, wish


def test_a_worker_takes_only_jobs_of_the_queue_that_it_asks_for(journal: Journal):
    worker = journal.worker()
    hosted = journal.enqueue(wish(), is_async=True, queue="runner")

    assert journal.claim_next(worker) is None
    found = journal.find_next("runner")
    assert found is not None
    assert found.job_id == hosted.job_id
    taken = journal.claim_next(worker, "runner")

    assert taken is not None
    assert (taken.job.job_id, taken.job.queue) == (hosted.job_id, "runner")


def test_a_worker_takes_only_jobs_of_the_modes_that_it_asks_for(journal: Journal):
    worker = journal.worker()
    plain = journal.enqueue(wish(), is_async=True)
    spread = journal.enqueue(replace(wish(), config=Config(execution_mode="ray")), is_async=True, priority=9)

    found = journal.find_next(modes={"ray"})
    assert found is not None
    assert found.job_id == spread.job_id
    assert journal.find_next(modes={"modular"}) is None
    assert [job.job_id for job in journal.list_queued(modes={"legacy_call", "modular"})] == [plain.job_id]
    taken = journal.claim_next(worker, modes={"legacy_call", "modular"})

    assert taken is not None
    assert taken.job.job_id == plain.job_id
    assert [job.job_id for job in journal.list_queued()] == [spread.job_id]


def test_a_full_queue_leaves_room_in_others(journal: Journal):
    journal.enqueue(wish(), is_async=True, queue="runner", max_queued=1)

    with pytest.raises(QueueFullError):
        journal.enqueue(wish(), is_async=True, queue="runner", max_queued=1)

    assert journal.enqueue(wish(), is_async=True, max_queued=1).queue == "local"


def test_jobs_for_a_published_pipeline_are_lost_with_the_last_worker_that_has_it(journal: Journal):
    first, second = journal.worker("published", model="mine"), journal.worker("published", model="mine")
    job = journal.enqueue(wish(), is_async=True, queue=published_queue("mine"))
    assert [worker.model for worker in journal.live_workers()] == ["mine", "mine"]

    first.close()
    assert journal.reap_lost() == []
    second.close()

    assert journal.reap_lost() == [job.job_id]
    report = journal.get_report(job.run_id)
    assert report.state == "lost"
    assert journal.live_workers() == []


def test_a_job_whose_worker_is_gone_after_a_cancel_is_cancelled(journal: Journal):
    worker = journal.worker()
    job = journal.enqueue(wish(), is_async=True)
    journal.claim(job.job_id, worker)
    journal.request_cancel(job.job_id)
    worker.close()

    journal.reap_lost()

    assert journal.get_job(job.job_id).state == "cancelled"


def test_a_snapshot_only_moves_on(journal: Journal):
    assert journal.find_snapshot("series") is None
    assert journal.put_snapshot(Snapshot(name="series", after_id=5, state=b"five"))
    assert not journal.put_snapshot(Snapshot(name="series", after_id=4, state=b"four"))

    assert journal.find_snapshot("series") == Snapshot(name="series", after_id=5, state=b"five")


def test_a_trace_is_sent_on_by_one(journal: Journal):
    report = run(journal, journal.worker())
    (job,) = journal.list_jobs()

    assert journal.claim_export(job.job_id, "http://collector")
    assert not journal.claim_export(job.job_id, "http://collector")
    assert journal.claim_export(job.job_id, "http://other")
    journal.purge([report.run_id])


def test_the_last_event_id_stays_after_a_purge(journal: Journal):
    assert journal.last_event_id() == 0
    report = run(journal, journal.worker())
    last = journal.last_event_id()

    journal.purge([report.run_id])

    assert journal.last_event_id() == last > 0


def test_jobs_are_listed_page_by_page(journal: Journal):
    made = [journal.enqueue(wish(), is_async=True).job_id for _ in range(5)]

    first = journal.list_jobs(limit=3)
    rest = journal.list_jobs(limit=3, before_key=first[-1].key)

    assert [job.job_id for job in [*first, *rest]] == made[::-1]


def test_a_journal_of_version_1_is_upgraded_with_all_that_it_holds(state_dir: Path):
    with Journal.open() as journal:
        kept = run(journal, journal.worker())
    connection = sqlite3.connect(state_dir / "journal.db")
    connection.executescript(
        "ALTER TABLE jobs DROP COLUMN queue; ALTER TABLE workers DROP COLUMN model; DROP TABLE snapshots; "
        "DROP TABLE exports; PRAGMA user_version = 1;"
    )
    connection.close()

    with Journal.open() as journal:
        assert journal.get_report(kept.run_id) == kept
        (job,) = journal.list_jobs()
        assert job.queue == "local"


def test_the_next_job_is_found_beside_those_that_somebody_has_in_hand(journal: Journal):
    first, second = (journal.enqueue(wish(), is_async=True, queue="runner").job_id for _ in range(2))

    found = journal.find_next("runner", beside=[first])

    assert found is not None
    assert found.job_id == second
    assert journal.find_next("runner", beside=[first, second]) is None


def test_jobs_that_nobody_can_run_fail_with_a_reason_and_those_of_other_queues_wait(journal: Journal):
    doomed = journal.enqueue(wish(), is_async=True, queue="runner")
    other = journal.enqueue(wish(), is_async=True)
    error = ErrorInfo(type="RunnerUnavailableError", message="no torch here", hint="Install it.")

    assert journal.fail_queued("runner", error) == [doomed.job_id]

    report = journal.get_report(doomed.run_id)
    assert (report.state, report.error) == ("failed", error)
    assert journal.get_job(other.job_id).state == "queued"
    assert journal.fail_queued("runner", error) == []
