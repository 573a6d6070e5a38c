"""A server whose runner is prewarmed and lets jobs share calls, each group once it is full: the window is a minute."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from omnirt_lab.records import RunReport
from omnirt_lab.records.api import JobView
from tests.server.running import post_job, runner_pids, wait_for, wait_for_state, wait_for_step
from tests.server.serving import Serving, running_server

PROMPTS = ("a red circle", "a green star", "a blue square")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("batching")
    flags = ("prewarm=True", "batch_window_ms=60000", "max_batch_size=3", "cancel_grace_s=0.1")
    with running_server(home / "state", home, *(f"--OmniRTApp.{flag}" for flag in flags)) as serving:
        yield serving


def post_all(server: Serving, *, steps: int) -> list[JobView]:
    return [post_job(server, steps=steps, inputs={"prompt": prompt}) for prompt in PROMPTS]


def report_of(server: Serving, job: JobView) -> RunReport:
    response = server.client.get(f"/v1/runs/{job.run_id}")
    return msgspec.json.decode(response.content, type=RunReport)


def test_a_prewarmed_runner_starts_without_a_job(server: Serving):
    wait_for(lambda: runner_pids(server), "a runner without a job")

    assert server.journal.list_jobs() == []


def test_jobs_of_several_requests_share_a_call_and_find_the_model_there(server: Serving):
    jobs = post_all(server, steps=2)

    assert {wait_for_state(server, job.job_id, "succeeded", "failed") for job in jobs} == {"succeeded"}
    reports = [report_of(server, job) for job in jobs]
    assert {report.batch_size for report in reports} == {3}
    assert len({report.batch_group_id for report in reports}) == 1
    assert any("resident_pipeline" in report.cache_hits for report in reports)  # told to one of those who share it
    assert len({report.artifacts[0].sha256 for report in reports}) == 3


def test_one_that_is_cancelled_leaves_the_others_and_the_runner_alone(server: Serving):
    jobs = post_all(server, steps=120)  # the others go on for longer than the grace before an interrupt
    wait_for_step(server, jobs[0].job_id)

    server.client.delete(f"/v1/jobs/{jobs[0].job_id}")

    assert wait_for_state(server, jobs[0].job_id, "succeeded", "cancelled") == "cancelled"
    for job in jobs[1:]:
        assert wait_for_state(server, job.job_id, "succeeded", "cancelled", "lost", "failed") == "succeeded"
        assert [span.attempt for span in report_of(server, job).backend_timeline] == [1]
    workers = {server.journal.get_job(job.job_id).worker_id for job in jobs}
    assert len(workers) == 1
