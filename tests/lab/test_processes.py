"""Several processes on one history: one that is killed, one that is interrupted, two that write at once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from omnirt_lab import Lab
from omnirt_lab.records import JobLost, Step
from tests.journal.writing import REPOSITORY, child

PROMPT = "a red circle on a blue background"

GENERATE = f"""
import omnirt_lab
from omnirt_lab.records import Step

def tell(event):
    if isinstance(event, Step):
        print(event.data.index, flush=True)
        if event.data.index == {{pause_at}}:
            input()

omnirt_lab.generate({PROMPT!r}, steps={{steps}}, seed=7, progress=False, on_event=tell)
"""
"""Says each step's index; after `pause_at` it waits, so that whoever reads along acts at that very step."""

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


def start_generating(*, steps: int, pause_at: int = -1) -> subprocess.Popen[str]:
    return start("-c", GENERATE.format(steps=steps, pause_at=pause_at))


def read_up_to(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"it ended without saying {line!r}: {process.communicate()[1]}")


def test_a_run_killed_at_step_10_of_20_is_found_as_lost_by_whoever_looks_with_the_rest_intact(lab: Lab) -> None:
    before = lab.generate(PROMPT, steps=2, seed=1, progress=False).report
    process = start_generating(steps=20, pause_at=10)
    read_up_to(process, "10")
    (running,) = lab.journal.list_jobs(states={"running"})

    _kill(process)

    lost_row, before_row = lab.history()
    assert (lost_row.run_id, lost_row.state) == (running.run_id, "lost")
    assert (before_row.run_id, before_row.state) == (before.run_id, "succeeded")
    events = lab.journal.events(running.job_id)
    assert [event.data.index for event in events if isinstance(event, Step)] == list(range(11))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], JobLost)
    report = lab.get_report(running.run_id)
    assert (report.state, len(report.steps), report.steps_planned) == ("lost", 11, 20)
    assert report.artifacts == ()
    assert lab.get_report(before.run_id) == before


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


def test_two_processes_that_generate_at_once_share_one_history(lab: Lab) -> None:
    processes = [start_generating(steps=2) for _ in range(2)]
    exits = [(process.communicate()[1], process.returncode) for process in processes]

    assert [status for _, status in exits] == [0, 0], exits
    rows = lab.history().rows()
    assert [row.state for row in rows] == ["succeeded", "succeeded"]
    assert len({row.worker_id for row in rows}) == 2
    assert len({row.artifact_sha256 for row in rows}) == 2, "each picture's file names its run"
    assert [lab.get_report(row.run_id).probe.events_dropped for row in rows] == [0, 0]


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
