from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from omnirt_lab.journal import Journal, RunQuery, Worker
from omnirt_lab.journal.tail import Tail, read_tail
from omnirt_lab.records import AnyEvent, JobFinishedData, JobLost, Step
from tests.journal.writing import begin, child, denoise, run, step, wish


def kill_at_step(index: int, *, step_ms: int = 2) -> str:
    """Start a run in a process of its own, kill -9 it after that step; the job's id."""
    process = child(f"stop_at_step({index}, step_ms={step_ms})")
    assert process.stdout is not None
    job_id = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return job_id


def begun_with_steps(journal: Journal, worker: Worker, count: int) -> tuple[AnyEvent, ...]:
    writer = begin(journal, worker)
    for index in range(count):
        step(writer, index)
    return writer.events


def test_a_run_killed_at_step_10_of_20_is_found_lost_with_every_event_and_the_rest_is_intact(
    journal: Journal, worker: Worker
):
    before = run(journal, worker)
    job_id = kill_at_step(10)

    assert journal.reap_lost() == [job_id]

    events = journal.events(job_id)
    assert [event.data.index for event in events if isinstance(event, Step)] == list(range(10))
    assert isinstance(events[-1], JobLost)
    job = journal.get_job(job_id)
    report = journal.get_report(job.run_id)
    assert (job.state, report.state, len(report.steps), report.steps_planned) == ("lost", "lost", 10, 20)
    assert report.worker_id == job.worker_id
    assert journal.get_report(before.run_id) == before
    assert [row.run_id for row in journal.query_runs(RunQuery())] == [job.run_id, before.run_id]


def test_the_last_steps_of_a_burst_reach_other_processes_although_no_event_follows(journal: Journal):
    process = child("stop_at_step(20, step_ms=0)")
    assert process.stdout is not None
    job_id = process.stdout.readline().strip()
    with journal.cursor(job_id=job_id) as cursor:
        count = 0
        while count < 23 and cursor.wait(10):
            count += len(cursor.read())
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert count == 23


def test_a_burst_of_steps_that_no_commit_took_is_found_when_its_process_was_killed(journal: Journal):
    job_id = kill_at_step(20, step_ms=0)

    assert journal.reap_lost() == [job_id]

    events = journal.events(job_id)
    assert [event.data.index for event in events if isinstance(event, Step)] == list(range(20))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_a_line_that_the_kill_cut_short_is_left_out(tmp_path: Path, journal: Journal, worker: Worker):
    steps = [event for event in begun_with_steps(journal, worker, 3) if isinstance(event, Step)]
    path = tmp_path / "some.tail"
    tail = Tail(path)
    assert tail.append(steps[:2])
    assert tail.append(steps[2:])
    path.write_bytes(path.read_bytes()[:-7])

    assert read_tail(path, after_seq=steps[0].seq - 1) == steps[:2]
    assert read_tail(path, after_seq=steps[0].seq) == steps[1:2]
    tail.remove()
    assert not path.exists()
    assert read_tail(path, after_seq=0) == []


def test_what_waited_when_a_run_could_not_be_ended_is_there_when_it_is_found_lost(journal: Journal):
    with Journal.open(journal.directory, busy_timeout_s=0.1) as other:
        worker = other.worker()
        writer = begin(other, worker)
        with sqlite3.connect(journal.directory / "journal.db", isolation_level=None) as blocker:
            step(writer, 0)
            blocker.execute("BEGIN IMMEDIATE")
            report = writer.finish(JobFinishedData())
            blocker.execute("ROLLBACK")
        blocker.close()
        assert report.probe.events_dropped > 0

    assert journal.reap_lost() == [writer.job.job_id]
    assert [event.event for event in journal.events(writer.job.job_id)][-2:] == ["step", "job_lost"]
    assert list((journal.directory / "workers").glob("*.tail")) == []


def test_a_run_that_ends_leaves_no_tail(journal: Journal, worker: Worker):
    run(journal, worker)

    assert list((journal.directory / "workers").glob("*.tail")) == []


def test_a_job_whose_worker_lives_is_not_lost(journal: Journal, worker: Worker):
    writer = begin(journal, worker)
    process = child("stop_at_step(1)")
    assert process.stdout is not None
    other_job_id = process.stdout.readline().strip()

    assert journal.reap_lost() == []
    assert {job.job_id for job in journal.list_jobs(states={"running"})} == {writer.job.job_id, other_job_id}

    process.kill()
    process.communicate()


def test_of_several_that_look_at_once_one_ends_the_lost_job(journal: Journal):
    job_id = kill_at_step(1)
    found: list[str] = []
    gate = threading.Barrier(4)

    def look() -> None:
        gate.wait()
        found.extend(journal.reap_lost())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [job_id]
    assert sum(isinstance(event, JobLost) for event in journal.events(job_id)) == 1


def test_a_job_that_waited_for_its_callers_thread_is_lost_with_the_caller(journal: Journal):
    with Journal.open() as callers:
        mine = callers.enqueue(wish())
        anybodys = callers.enqueue(wish(), is_async=True)
        assert journal.reap_lost() == []

    assert journal.reap_lost() == [mine.job_id]
    assert journal.get_job(mine.job_id).state == "lost"
    assert journal.get_job(anybodys.job_id).state == "queued"


def test_a_closed_worker_leaves_no_lock_file_and_a_dead_ones_goes_with_its_job(journal: Journal):
    locks = journal.directory / "workers"
    with journal.worker("runner") as worker:
        assert [path.name for path in locks.iterdir()] == [f"{worker.worker_id}.lock"]
    assert list(locks.iterdir()) == []

    kill_at_step(1)
    assert len(list(locks.glob("*.lock"))) == 1
    journal.reap_lost()
    assert list(locks.iterdir()) == []


def test_a_worker_that_a_process_forgot_to_close_does_not_block_its_end():
    code = "from omnirt_lab.journal import Journal; journal = Journal.open(); worker = journal.worker()"

    process = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)

    assert process.stderr == ""


def test_a_lost_job_is_ended_with_the_report_of_its_stages(journal: Journal):
    worker = journal.worker()
    writer = begin(journal, worker)
    denoise(writer, steps=2)
    worker.close()
    journal.reap_lost()

    report = journal.get_report(writer.job.run_id)
    assert [stage.name for stage in report.stages] == ["denoise"]
    assert report.timings["denoise_ms"] > 0
