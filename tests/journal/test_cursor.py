from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from omnirt_lab.errors import JobNotFoundError
from omnirt_lab.journal import Cursor, Journal, JournalEntry, Worker
from omnirt_lab.journal.events import PACKS_A_READ
from omnirt_lab.journal.watch import InotifyWatch, PollingWatch, watch_directory
from omnirt_lab.records import JobFinishedData, StageStartData
from tests.journal.writing import begin, child, denoise, run, wish


def drain(cursor: Cursor, limit: int = 1000) -> list[JournalEntry]:
    entries: list[JournalEntry] = []
    while batch := cursor.read(limit=limit):
        entries += batch
    return entries


def test_a_cursor_over_all_reads_every_event_once_in_the_order_of_writing(journal: Journal, worker: Worker):
    first = begin(journal, worker)
    second = begin(journal, worker)
    denoise(first)
    second.finish(JobFinishedData())
    denoise(first)
    first.finish(JobFinishedData())

    with journal.cursor() as cursor:
        entries = drain(cursor)

    ids = [entry.id for entry in entries]
    assert ids == sorted(set(ids))
    for writer in (first, second):
        own = [entry.event for entry in entries if entry.job_id == writer.job.job_id]
        assert own == journal.events(writer.job.job_id)


def test_jobs_that_ran_at_once_and_ended_are_read_in_small_pieces_without_loss(journal: Journal, worker: Worker):
    longest = begin(journal, worker)
    for index in range(2 * PACKS_A_READ):
        run(journal, worker)
        longest.emit(StageStartData(), stage=f"stage_{index}")
    still_running = begin(journal, worker)
    longest.finish(JobFinishedData())

    with journal.cursor() as cursor:
        entries = drain(cursor, limit=7)

    assert [entry.id for entry in entries] == list(range(1, len(entries) + 1))
    assert sum(entry.job_id == longest.job.job_id for entry in entries) == 3 + 2 * PACKS_A_READ
    assert entries[-1].job_id in (longest.job.job_id, still_running.job.job_id)


@pytest.mark.parametrize("is_ended", [False, True])
@pytest.mark.parametrize("of_one_job", [False, True])
def test_reading_on_by_id_misses_and_repeats_nothing(
    journal: Journal, worker: Worker, is_ended: bool, of_one_job: bool
):
    writer = begin(journal, worker)
    denoise(writer)
    if is_ended:
        writer.finish(JobFinishedData())
    job_id = writer.job.job_id if of_one_job else None
    with journal.cursor(job_id=job_id) as cursor:
        whole = drain(cursor)

    for place in range(len(whole)):
        with journal.cursor(job_id=job_id, after_id=whole[place].id) as cursor:
            assert drain(cursor) == whole[place + 1 :]


def test_iterating_over_a_job_that_ended_long_ago_ends_after_its_terminal_event(journal: Journal, worker: Worker):
    report = run(journal, worker)
    job_id = journal.list_jobs()[0].job_id

    with journal.cursor(job_id=job_id) as cursor:
        entries = list(cursor)
        assert cursor.is_at_end()
    with journal.cursor(job_id=job_id, after_id=entries[-1].id) as cursor:
        assert list(cursor) == []

    assert entries[-1].event.event == "job_finished"
    assert [mark.seq for mark in report.stream_events][-1] == entries[-1].event.seq


def test_iterating_over_a_running_job_waits_for_the_events_to_come(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    seen: list[str] = []

    def follow() -> None:
        with journal.cursor(job_id=writer.job.job_id) as cursor:
            seen.extend(entry.event.event for entry in cursor)

    thread = threading.Thread(target=follow)
    thread.start()
    denoise(writer, steps=2)
    writer.finish(JobFinishedData())
    thread.join()

    assert seen == [event.event for event in journal.events(writer.job.job_id)]


def test_a_cursor_is_woken_by_another_process(journal: Journal):
    with journal.cursor() as cursor:
        assert not cursor.wait(0)
        process = child("run_many(1)")
        assert cursor.wait(30)
        process.communicate()
        assert drain(cursor)[-1].event.event == "job_finished"
        assert not cursor.wait(0.001)


def test_a_cursor_of_one_job_is_not_woken_by_another(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    with journal.cursor(job_id=writer.job.job_id) as cursor:
        drain(cursor)
        run(journal, worker)
        assert not cursor.wait(0.001)


def test_a_reader_that_stalls_holds_nothing_up_and_nothing_grows_for_it(journal: Journal, worker: Worker):
    with journal.cursor() as stalled:
        run(journal, worker)
        assert len(stalled.read(limit=1)) == 1
        for _ in range(60):
            run(journal, worker)

        journal.checkpoint()

        assert (journal.directory / "journal.db-wal").stat().st_size == 0
        assert len(drain(stalled)) == 61 * 11 - 1


def test_a_cursor_over_an_unknown_job_is_an_error(journal: Journal):
    with pytest.raises(JobNotFoundError):
        journal.cursor(job_id="x")


def test_a_cursor_over_a_purged_job_ends(journal: Journal, worker: Worker):
    report = run(journal, worker)
    with journal.cursor(job_id=journal.list_jobs()[0].job_id) as cursor:
        journal.purge([report.run_id])
        assert list(cursor) == []


@pytest.mark.parametrize("is_polling", [False, True])
def test_both_ways_of_watching_notice_a_write(journal: Journal, is_polling: bool):
    watch = PollingWatch() if is_polling else watch_directory(journal.directory)
    with journal.cursor() as cursor:
        cursor._watch = watch
        writing = threading.Thread(target=journal.enqueue, args=(wish(),))
        writing.start()
        assert cursor.wait(10)
        writing.join()


@pytest.mark.parametrize("is_early", [False, True])
@pytest.mark.parametrize("is_polling", [False, True])
def test_a_cursor_waits_no_longer_once_another_thread_wakes_it(journal: Journal, is_polling: bool, is_early: bool):
    begun, ended = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert not cursor.wait(600)
        ended.set()
        journal.close_thread()

    waiting = threading.Thread(target=wait, daemon=True)
    with journal.cursor() as cursor:
        cursor._watch = PollingWatch() if is_polling else watch_directory(journal.directory)
        if is_early:
            cursor.wake()
        waiting.start()
        if not is_early:
            assert begun.wait(30)
            cursor.wake()
        assert ended.wait(30)
        assert not cursor.wait(0.001), "a wake ends one wait"
    waiting.join()
    cursor.wake()  # without effect on one that is closed


def test_without_an_inotify_instance_to_spare_a_cursor_polls(journal: Journal):
    watches = []
    try:
        while isinstance(watch := watch_directory(journal.directory), InotifyWatch) and len(watches) < 2000:
            watches.append(watch)
        assert len(watches) == 2000 or isinstance(watch, PollingWatch)
    finally:
        for held in watches:
            held.close()


class EarlyWatch:
    """Wakes its reader as SQLite does: at the last write of a commit, before the commit shows."""

    def __init__(self, commit: Callable[[], object]) -> None:
        self.asked_s: list[float] = []
        self._commit = commit

    def wait(self, timeout_s: float) -> bool:
        self.asked_s.append(timeout_s)
        if len(self.asked_s) == 5:
            self._commit()
        return len(self.asked_s) == 1

    def close(self) -> None:
        pass


def test_a_reader_that_is_woken_before_the_commit_shows_looks_again_soon(journal: Journal, worker: Worker):
    cursor = journal.cursor()
    watch = EarlyWatch(lambda: begin(journal, worker))
    cursor._watch = watch

    assert cursor.wait(60)
    assert watch.asked_s == [0.001, 0.001, 0.002, 0.004, 0.008]
