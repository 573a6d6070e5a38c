"""A Ray cluster of two nodes, and a server that has jobs run on it, also when a node or an actor is lost."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from omnirt_lab.errors import JobTimeoutError
from omnirt_lab.journal import Journal
from omnirt_lab.records import JobStarted, Step
from omnirt_lab.records.api import JobView
from tests.executors import environments
from tests.executors.clusters import TwoNodes, two_nodes
from tests.server.running import body, post_job, processes_of, wait_for, wait_for_state
from tests.server.serving import Serving, hosted_server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="two nodes on one machine are for Linux")

JOBS, STEPS = 3, 30
THERE = {"steps": 2, "seed": 7, "width": 64, "height": 64, "execution_mode": "ray"}
SLOW = {**THERE, "steps": STEPS, "options": {"eta": environments.SLOW}}
ENDLESS = {**SLOW, "steps": 1_000}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where Ray's token would be, which here is a variable; the nodes' diffusers breaks where it is asked to."""
    path = tmp_path_factory.mktemp("nodes")
    (path / "sitecustomize.py").write_text(environments.BREAKABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(path))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # it listens on 127.0.0.1 alone
        yield path


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[TwoNodes]:
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture(scope="class")
def server(home: Path, cluster: TwoNodes) -> Iterator[Serving]:
    """`omnirt serve --ray`; when it has ended, nothing of it is left, also on the nodes."""
    with hosted_server(home / "state", home, "--state-dir", str(home / "state"), "--ray", cluster.address) as serving:
        yield serving
    wait_for(lambda: not processes_of(home / "state"), "the end of the server's processes")
    wait_for(lambda: not _actors(cluster), "the end of its actors")


class TestServeRay:
    """The server ends with the class: its actors keep their places until then."""

    def test_jobs_that_ask_for_ray_run_side_by_side_on_its_nodes(self, server: Serving) -> None:
        first, second = (post_job(server, config=ENDLESS) for _ in range(2))
        for job in (first, second):
            _wait_for_step(server, job.job_id)
        nodes = {_starts(server.journal, job.job_id)[-1].data.node for job in (first, second)}
        third = post_job(server, config=THERE)

        assert {server.journal.get_job(job.job_id).state for job in (first, second)} == {"running"}
        assert server.journal.get_job(third.job_id).state == "queued", "it waits for a place"
        assert len(nodes) == 2

        for job in (first, second):
            server.client.delete(f"/v1/jobs/{job.job_id}")
            assert wait_for_state(server, job.job_id, "cancelled", "succeeded", "failed", "lost") == "cancelled"
        assert wait_for_state(server, third.job_id, "succeeded", "failed", "lost") == "succeeded"

    def test_a_job_on_a_cluster_looks_like_any_other_to_clients_metrics_and_traces(self, server: Serving) -> None:
        response = server.client.post("/v1/generate", json=body(config=THERE))

        assert response.status_code == 200, response.text
        report = response.json()["metadata"]
        job_id = report["job_id"]
        assert report["execution_mode"] == "ray"
        assert report["backend_timeline"][0]["node"]
        picture = server.client.get(f"/v1/artifacts/{report['artifacts'][0]['sha256']}")
        assert picture.content.startswith(b"\x89PNG")
        events = server.client.get(f"/v1/jobs/{job_id}/events").text
        told = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
        assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
        assert [event["event"] for event in told].count("step") == 2
        assert told[-1]["event"] == "job_finished"
        trace = server.client.get(f"/v1/jobs/{job_id}/trace").json()
        assert {"denoise", "vae_decode"} <= {span["name"] for span in trace["spans"]}
        wait_for(lambda: _counted(server, "succeeded") == _succeeded(server.journal), "it is counted")

    def test_a_job_of_the_server_s_own_runner_goes_on_beside_the_cluster(self, server: Serving) -> None:
        response = server.client.post("/v1/generate", json=body())

        assert response.status_code == 200, response.text
        assert response.json()["metadata"]["worker_id"].startswith("runner-")

    def test_a_node_that_is_lost_costs_an_attempt_and_no_job(self, server: Serving, cluster: TwoNodes) -> None:
        jobs = [post_job(server, config={**SLOW, "seed": seed}) for seed in range(JOBS)]
        lost = wait_for(lambda: _at_work_on(server, cluster.second, jobs), "a step on the second node")
        cluster.remove_second()

        reports = {}
        for job in jobs:
            assert wait_for_state(server, job.job_id, "succeeded", "failed", "lost", "cancelled") == "succeeded"
            reports[job.job_id] = server.journal.get_report(job.run_id)
        retried = reports.pop(lost)
        assert [(span.attempt, span.state) for span in retried.backend_timeline] == [(1, "lost"), (2, "succeeded")]
        assert [len(report.backend_timeline) for report in reports.values()] == [1] * (JOBS - 1)
        before, after = (str(span.node) for span in retried.backend_timeline)
        assert before.endswith(cluster.second)
        assert not after.endswith(cluster.second)
        assert len(retried.steps) == STEPS

    def test_a_run_that_hangs_is_killed_when_its_time_is_over_and_not_tried_again(self, server: Serving) -> None:
        hanging = {**THERE, "steps": 5, "timeout_s": 3, "options": {"eta": environments.HANG}}

        job = post_job(server, config=hanging)

        assert wait_for_state(server, job.job_id, "cancelled", "succeeded", "failed", "lost") == "cancelled"
        report = server.journal.get_report(job.run_id)
        assert report.error is not None
        assert report.error.type == JobTimeoutError.__name__
        assert (len(report.backend_timeline), len(report.steps)) == (1, 3)
        pid = int(str(report.worker_id).rpartition("-")[2])
        wait_for(lambda: not psutil.pid_exists(pid), "its actor's end")


def _at_work_on(server: Serving, node: str, jobs: list[JobView]) -> str | None:
    """The one of the jobs that is in its steps on this node."""
    for job in jobs:
        started = _starts(server.journal, job.job_id)
        is_there = started and str(started[-1].data.node).endswith(node)
        if is_there and any(isinstance(event, Step) for event in server.journal.events(job.job_id)):
            return job.job_id
    return None


def _starts(journal: Journal, job_id: str) -> list[JobStarted]:
    return [event for event in journal.events(job_id) if isinstance(event, JobStarted)]


def _actors(cluster: TwoNodes) -> list[int]:
    return [process.pid for process in cluster.processes() if process.name().startswith("ray::Actor")]


def _succeeded(journal: Journal) -> int:
    return sum(job.request.config.execution_mode == "ray" for job in journal.list_jobs(states=("succeeded",)))


def _counted(server: Serving, state: str) -> float:
    wanted = {"execution_mode": "ray", "state": state}
    return sum(
        sample.value
        for family in text_string_to_metric_families(server.client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "omnirt_jobs_total" and wanted.items() <= sample.labels.items()
    )


def _wait_for_step(server: Serving, job_id: str) -> None:
    """Its actor may have to start first, and load torch."""
    wait_for(
        lambda: any(isinstance(event, Step) for event in server.journal.events(job_id)),
        f"a step of {server.journal.get_job(job_id)}; the log:\n{server.log}",
    )
