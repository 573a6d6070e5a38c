from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading

import pytest

from omnirt_lab.journal import Journal, RunQuery, Worker
from omnirt_lab.journal.background import Background
from omnirt_lab.journal.clock import boot_id, monotonic_zero_ns, wall_ms
from omnirt_lab.journal.database import MAX_WAL_BYTES
from tests.journal.writing import child, run, run_many, wish

RUNS_EACH = 500


def test_two_processes_write_500_runs_each_at_once_and_nothing_is_lost(journal: Journal):
    processes = [child(f"run_many({RUNS_EACH})") for _ in range(2)]
    exits = [(process.communicate()[0], process.returncode) for process in processes]

    assert exits == [("", 0), ("", 0)]
    rows = journal.query_runs(RunQuery())
    assert len(rows) == 2 * RUNS_EACH
    assert {row.state for row in rows} == {"succeeded"}
    assert sorted(row.prompt for row in rows) == sorted(2 * [f"picture {index}" for index in range(RUNS_EACH)])
    assert len({row.worker_id for row in rows}) == 2
    reports = [journal.get_report(row.run_id) for row in rows]
    assert {report.probe.events_dropped for report in reports} == {0}
    assert {len(journal.events(row.job_id)) for row in rows} == {11}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("parent_closes", [False, True])
def test_a_forked_child_writes_to_the_same_journal(journal: Journal, worker: Worker, parent_closes: bool):
    run(journal, worker)  # both threads' connections are open when the fork comes
    threading.Thread(target=journal.queue_depth).start()
    gate = multiprocessing.get_context("fork").Event()

    def write() -> None:
        gate.wait()
        for _ in range(20):
            run(journal, journal.worker())
        journal.close()

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    if parent_closes:
        journal.close()  # the last connection but the child's: it must not take the log away from under it
    gate.set()
    if not parent_closes:
        for _ in range(20):
            run(journal, worker)
    process.join()

    assert process.exitcode == 0
    with Journal.open() as again:
        assert len(again.query_runs(RunQuery())) == (21 if parent_closes else 41)
        assert again.reap_lost() == []
    with sqlite3.connect(journal.directory / "journal.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_the_connections_of_ended_threads_are_closed(journal: Journal):
    for _ in range(20):
        thread = threading.Thread(target=journal.queue_depth)
        thread.start()
        thread.join()

    assert len(journal._database._connections) <= 2


def test_a_thread_can_close_its_own_connection_and_go_on(journal: Journal):
    journal.enqueue(wish(), is_async=True)

    journal.close_thread()

    assert len(journal.list_jobs()) == 1


def test_a_journal_that_nobody_closes_is_closed_with_its_object(journal: Journal):
    other = Journal.open(journal.directory)
    other.enqueue(wish(), is_async=True)
    connections = other._database._connections
    del other

    assert [own._connection for own in connections] == [None]


def test_the_log_is_kept_short_while_a_process_writes_without_a_pause(journal: Journal):
    sizes_bytes = []
    for _ in range(8):
        run_many(100)
        sizes_bytes.append((journal.directory / "journal.db-wal").stat().st_size)

    assert max(sizes_bytes) < 2 * MAX_WAL_BYTES


def test_time_counts_from_the_same_zero_in_every_process_of_a_boot():
    assert monotonic_zero_ns(boot=boot_id(), monotonic_ns=5, wall_clock_ms=0) == 5


def test_after_a_reboot_time_counts_by_the_wall_clock():
    now_ms = wall_ms()

    zero_ns = monotonic_zero_ns(boot="another", monotonic_ns=5, wall_clock_ms=now_ms - 60_000)

    here_ns = monotonic_zero_ns(boot="another", monotonic_ns=5, wall_clock_ms=now_ms)
    assert here_ns - zero_ns == pytest.approx(60_000_000_000, abs=5_000_000_000)


def test_the_background_does_what_it_was_asked_for_before_it_ends():
    background, done = Background(), []
    for number in range(5):
        background.soon(lambda number=number: done.append(number))

    background.close()
    background.close()

    assert done == [0, 1, 2, 3, 4]
