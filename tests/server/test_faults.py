"""Processes killed at the worst moment: nothing that was emitted is lost, states are right, nobody stays behind."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.server.running import (
    post_job,
    processes_of,
    runner_pids,
    start_endless_job,
    wait_for,
    wait_for_state,
)
from tests.server.serving import Serving, running_server


class Place:
    """Where one server after the other runs, on one journal; a test takes the last one that still lives.

    So that its runner, which takes long to start, is at hand for the next test.
    """

    def __init__(self, home: Path, sockets: Path) -> None:
        self.home = home
        self.state_dir = home / "state"
        self.sockets = sockets
        self._server: Serving | None = None
        self._end = ExitStack()

    @property
    def server(self) -> Serving:
        """The server that runs, or a new one if the last one was killed or stopped."""
        if self._server is None or self._server.process.poll() is not None:
            self.stop()
            self._server = self._end.enter_context(running_server(self.state_dir, self.home))
        return self._server

    @property
    def is_busy(self) -> bool:
        """Whether a job of the server runs or waits."""
        return self._server is not None and bool(self._server.journal.list_jobs(states={"queued", "running"}))

    def stop(self) -> None:
        self._end.close()
        self._server = None


@pytest.fixture(scope="module")
def own_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for the tests of the module, with a folder for sockets whose path is short enough."""
    home = tmp_path_factory.mktemp("faults")
    sockets = Path(os.path.realpath("/tmp")) / f"ort-{os.getpid()}"
    sockets.mkdir(mode=0o700)
    place = Place(home, sockets)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", str(sockets))
            yield place
            place.stop()
        assert processes_of(place.state_dir) == set()
    finally:
        shutil.rmtree(sockets)  # the next server would remove what a killed one has left there


@pytest.fixture
def place(own_place: Place) -> Iterator[Place]:
    """The module's place; a test that failed in the middle leaves no job of its own to the next one."""
    yield own_place
    if own_place.is_busy:
        own_place.stop()


def test_a_killed_runner_loses_its_job_alone_keeps_all_that_it_emitted_and_who_waits_is_told_so(place: Place):
    server = place.server
    poison = start_endless_job(server)
    waiting = post_job(server)
    (runner,) = runner_pids(server)
    emitted = server.journal.events(poison)

    with server.client.stream("GET", f"/v1/jobs/{poison}/events") as response:
        os.kill(runner, signal.SIGKILL)
        told = [line.removeprefix("event: ") for line in response.iter_lines() if line.startswith("event: ")]

    assert told[-1] == "job_lost"
    assert wait_for_state(server, poison, "lost", "failed", "cancelled") == "lost"
    assert wait_for_state(server, waiting.job_id, "succeeded", "failed", "lost") == "succeeded"
    events = server.journal.events(poison)
    assert events[: len(emitted)] == emitted
    assert [event.event for event in events] == told
    assert told.count("job_started") == 1
    assert server.journal.get_report(server.journal.get_job(poison).run_id).state == "lost"
    (after,) = runner_pids(server)
    assert processes_of(server.state_dir) == {server.process.pid, after}


@pytest.mark.parametrize("to_the_runner", [signal.SIGSTOP, signal.SIGKILL], ids=lambda number: number.name)
def test_after_a_killed_server_no_process_is_left_states_are_right_and_queued_jobs_run(
    place: Place, to_the_runner: signal.Signals
):
    """A stopped runner ends with its server too, though it runs no Python code."""
    server = place.server
    running = start_endless_job(server)
    waiting = [post_job(server).job_id for _ in range(2)]
    emitted = server.journal.events(running)
    (left,) = place.sockets.iterdir()
    os.kill(runner_pids(server)[0], to_the_runner)
    server.process.kill()
    server.process.wait(30)
    wait_for(lambda: processes_of(place.state_dir) == set(), "the runner ends with its server")
    assert left.exists()

    server = place.server
    assert wait_for_state(server, running, "lost", "cancelled", "failed", "succeeded") == "lost"
    ends = [wait_for_state(server, job_id, "succeeded", "failed", "lost") for job_id in waiting]
    assert ends == ["succeeded"] * 2
    assert server.journal.events(running)[: len(emitted)] == emitted
    assert server.client.get("/readyz").status_code == 200
    (new,) = place.sockets.iterdir()
    assert new != left
    assert new.stat().st_mode & 0o777 == 0o700


def test_a_stopped_server_leaves_no_process_and_no_socket_and_its_queue_waits(place: Place):
    server = place.server
    running = start_endless_job(server)
    waiting = post_job(server).job_id
    assert list(place.sockets.glob("omnirt-runners-*"))
    place.stop()
    assert processes_of(place.state_dir) == set()
    assert list(place.sockets.iterdir()) == []

    with running_server(place.state_dir, place.home, "--OmniRTApp.runners=0") as server:
        assert server.journal.get_job(running).state == "lost"
        assert server.journal.get_job(waiting).state == "queued"
