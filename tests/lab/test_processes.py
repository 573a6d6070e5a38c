"""Several processes on one history: two that write at once, one that is killed, one that is interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from omnirt_lab import Lab
from omnirt_lab.records import JobLost, RunReport, Step
from tests.journal.writing import REPOSITORY, child

PROMPT = "a red circle on a blue background"

GENERATE = f"""
import omnirt_lab
from omnirt_lab.records import Step

def tell(event):
    if isinstance(event, Step):
        print(event.data.index, flush=True)

def tell_and_wait(event):
    tell(event)
    if isinstance(event, Step) and event.data.index == 10:
        input()

omnirt_lab.generate({PROMPT!r}, steps=30, progress=False, on_event=tell)
print("made", flush=True)
omnirt_lab.generate({PROMPT!r}, steps=20, seed=7, progress=False, on_event=tell_and_wait)
"""
"""Says its runs' steps. The first run draws its seed; the second waits after step 10, to be killed right there."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor SIGINT for a child")


def start(*arguments: str) -> subprocess.Popen[str]:
    """A Python process of its own, on this test's state directory."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_of_two_processes_on_one_history_one_is_killed_at_step_10_of_20_and_nothing_else_is_lost(lab: Lab) -> None:
    process = start("-c", GENERATE)
    _read_up_to(process, "0")
    beside = _generate_until_it_says(lab, process, "made")
    _read_up_to(process, "10")
    (running,) = lab.journal.list_jobs(states={"running"})

    _kill(process)

    rows = lab.history(limit=None).rows()
    (lost_row,) = [row for row in rows if row.state != "succeeded"]
    rows.remove(lost_row)
    assert (lost_row.run_id, lost_row.state) == (running.run_id, "lost")
    events = lab.journal.events(running.job_id)
    assert [event.data.index for event in events if isinstance(event, Step)] == list(range(11))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], JobLost)
    report = lab.get_report(running.run_id)
    assert (report.state, len(report.steps), report.steps_planned) == ("lost", 11, 20)
    assert report.artifacts == ()
    assert len({row.worker_id for row in rows}) == 2
    pictures = {row.artifact_sha256 for row in rows}
    assert len(pictures) == len(rows) == len(beside) + 1, "each picture's file names its run"
    assert {lab.get_report(row.run_id).probe.events_dropped for row in rows} == {0}
    assert [lab.get_report(report.run_id) for report in beside] == beside

    (made_there,) = [row for row in rows if row.worker_id == lost_row.worker_id]
    replay = lab.replay(made_there.run_id, progress=False)
    assert (replay.verdict, replay.max_abs_diff, replay.differing_fields) == ("bit_exact", 0, ()), "in another process"


def test_a_killed_run_is_lost_for_whoever_asks_for_its_report_or_its_job_first(lab: Lab) -> None:
    processes = [child("stop_at_step(1)") for _ in range(3)]
    asked_for_its_job, asked_for_its_report, living = [lab.get_job(_first_line(process)) for process in processes]
    assert {job.state for job in (asked_for_its_job, asked_for_its_report, living)} == {"running"}

    _kill(processes[0])
    assert asked_for_its_job.state == "lost"
    _kill(processes[1])
    assert lab.get_report(asked_for_its_report.run_id).state == "lost"
    assert living.state == "running"
    _kill(processes[2])


def test_ctrl_c_ends_the_command_with_130_and_its_run_as_cancelled(lab: Lab) -> None:
    process = start("-m", "omnirt_lab.cli.main", "run", PROMPT, "--steps", "1000")
    with lab.journal.cursor() as cursor:
        while not any(isinstance(event, Step) for _, _, event in cursor.read()):
            assert process.poll() is None, process.communicate()[1]
            cursor.wait(1.0)

    process.send_signal(signal.SIGINT)

    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    (row,) = lab.history()
    assert (row.state, row.steps) == ("cancelled", 1_000)
    assert all(stage.end_t_ns is not None for stage in lab.get_report(row.run_id).stages)


def _generate_until_it_says(lab: Lab, process: subprocess.Popen[str], line: str) -> list[RunReport]:
    """What this process makes meanwhile, at least one run."""
    made: list[RunReport] = []
    reading = threading.Thread(target=_read_up_to, args=(process, line))
    reading.start()
    while not made or reading.is_alive():
        made.append(lab.generate(PROMPT, steps=2, seed=1, progress=False).report)
    reading.join()
    return made


def _read_up_to(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"it ended without saying {line!r}: {process.communicate()[1]}")


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
