"""Processes killed at the worst moment: nothing that was emitted is lost, states are right, nobody stays behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.server.running import (
    body,
    post_job,
    processes_of,
    runner_pids,
    start_endless_job,
    wait_for,
    wait_for_state,
)
from tests.server.serving import running_server


def test_a_killed_runner_loses_its_job_alone_and_keeps_all_that_it_emitted(tmp_path: Path):
    with running_server(tmp_path / "state", tmp_path) as server:
        poison = start_endless_job(server)
        waiting = post_job(server)
        (runner,) = runner_pids(server)
        emitted = server.journal.events(poison)

        os.kill(runner, signal.SIGKILL)

        assert wait_for_state(server, poison, "lost", "failed", "cancelled") == "lost"
        assert wait_for_state(server, waiting.job_id, "succeeded", "failed", "lost") == "succeeded"
        events = server.journal.events(poison)
        assert events[: len(emitted)] == emitted
        assert [event.event for event in events].count("job_started") == 1
        assert events[-1].event == "job_lost"
        assert server.journal.get_report(server.journal.get_job(poison).run_id).state == "lost"
        (after,) = runner_pids(server)
        assert processes_of(server.state_dir) == {server.process.pid, after}
    assert processes_of(tmp_path / "state") == set()


def test_a_request_that_waits_for_a_lost_job_is_told_so(tmp_path: Path):
    with running_server(tmp_path / "state", tmp_path) as server:
        job_id = start_endless_job(server)
        lines = server.client.stream("GET", f"/v1/jobs/{job_id}/events")
        with lines as response:
            os.kill(runner_pids(server)[0], signal.SIGKILL)
            names = [line.removeprefix("event: ") for line in response.iter_lines() if line.startswith("event: ")]

    assert names[-1] == "job_lost"


@pytest.mark.parametrize("kills", [("server",), ("server", "runner"), ("runner", "server")])
def test_after_a_killed_server_states_are_right_and_queued_jobs_run(tmp_path: Path, kills: tuple[str, ...]):
    state_dir = tmp_path / "state"
    with running_server(state_dir, tmp_path) as server:
        running = start_endless_job(server)
        waiting = [post_job(server).job_id for _ in range(2)]
        emitted = server.journal.events(running)
        pids = {"server": server.process.pid, "runner": runner_pids(server)[0]}
        for name in kills:
            os.kill(pids[name], signal.SIGKILL)
        server.process.wait(30)
        wait_for(lambda: processes_of(state_dir) == set(), "the runner ends with its server")

    with running_server(state_dir, tmp_path) as server:
        assert wait_for_state(server, running, "lost", "cancelled", "failed", "succeeded") == "lost"
        ends = [wait_for_state(server, job_id, "succeeded", "failed", "lost") for job_id in waiting]
        assert ends == ["succeeded"] * 2
        assert server.journal.events(running)[: len(emitted)] == emitted
        assert server.client.get("/readyz").status_code == 200
    assert processes_of(state_dir) == set()


def test_the_runner_ends_with_its_server_also_where_no_python_code_runs(tmp_path: Path):
    state_dir = tmp_path / "state"
    with running_server(state_dir, tmp_path) as server:
        start_endless_job(server)
        os.kill(runner_pids(server)[0], signal.SIGSTOP)
        server.process.kill()
        server.process.wait(30)
        wait_for(lambda: processes_of(state_dir) == set(), "the stopped runner ends with its server", within_s=5)


def test_a_stopped_server_leaves_no_process_and_no_socket_and_its_queue_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
):
    state_dir, sockets = tmp_path / "state", Path(os.path.realpath("/tmp")) / f"ort-{os.getpid()}"
    sockets.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(sockets))
    try:
        with running_server(state_dir, tmp_path) as server:
            running = start_endless_job(server)
            waiting = post_job(server).job_id
            assert list(sockets.glob("omnirt-runners-*"))
        assert processes_of(state_dir) == set()
        assert list(sockets.iterdir()) == []

        with running_server(state_dir, tmp_path, "--OmniRTApp.runners=0") as server:
            assert server.journal.get_job(running).state == "lost"
            assert server.journal.get_job(waiting).state == "queued"
    finally:
        sockets.rmdir()


def test_what_a_killed_server_left_is_removed_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    state_dir, sockets = tmp_path / "state", Path("/tmp") / f"ort-left-{os.getpid()}"
    sockets.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(sockets))
    try:
        with running_server(state_dir, tmp_path) as server:
            server.client.post("/v1/generate", json=body())
            server.process.kill()
            server.process.wait(30)
        (left,) = sockets.iterdir()

        with running_server(state_dir, tmp_path):
            (new,) = sockets.iterdir()
            assert new != left
            assert new.stat().st_mode & 0o777 == 0o700
        assert list(sockets.iterdir()) == []
    finally:
        sockets.rmdir()
