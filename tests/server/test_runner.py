from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from omnirt_lab.engine import runner
from omnirt_lab.journal import published_queue
from omnirt_lab.records import GenerateRequest
from omnirt_server.runner_kernel import RunnerDiedError, RunnerKernel, RunnerRefusedError
from omnirt_server.runtime_directory import RuntimeDirectory
from omnirt_server.submission import RUNNER_QUEUE
from tests.server.running import (
    ENDLESS,
    body,
    post_job,
    processes_of,
    runner_pids,
    start_endless_job,
    wait_for_state,
    wait_for_step,
)
from tests.server.serving import Serving, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with a runner that the tests of the module share."""
    home = tmp_path_factory.mktemp("runner")
    with running_server(home / "state", home, "--OmniRTApp.cancel_grace_s=0.5") as serving:
        yield serving
    assert processes_of(home / "state") == set()


def test_no_runner_starts_before_there_is_a_job(server: Serving):
    assert processes_of(server.state_dir) == {server.process.pid}


def test_a_request_is_answered_with_its_picture(server: Serving):
    response = server.client.post("/v1/generate", json=body())

    assert response.status_code == 200, response.text
    (artifact,) = response.json()["outputs"]
    picture = server.client.get(f"/v1/artifacts/{artifact['sha256']}")
    assert picture.content.startswith(b"\x89PNG")
    assert response.json()["metadata"]["worker_id"].startswith("runner-")


def test_an_async_job_is_run_and_one_kernel_runs_them_all(server: Serving):
    jobs = [post_job(server) for _ in range(3)]

    assert [wait_for_state(server, job.job_id, "succeeded", "failed") for job in jobs] == ["succeeded"] * 3
    workers = {server.journal.get_job(job.job_id).worker_id for job in jobs}
    assert len(workers) == len(runner_pids(server)) == 1


def test_the_server_loads_no_torch_though_its_runner_does(server: Serving):
    server.client.post("/v1/generate", json=body())

    (runner,) = runner_pids(server)
    assert "libtorch" not in Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{runner}/maps").read_text()


def test_a_running_job_is_cancelled_at_its_next_step_and_the_kernel_stays(server: Serving):
    job_id = start_endless_job(server)
    (before,) = runner_pids(server)

    response = server.client.delete(f"/v1/jobs/{job_id}")

    assert response.status_code == 202
    assert wait_for_state(server, job_id, "cancelled", "failed", "lost") == "cancelled"
    assert server.client.post("/v1/generate", json=body()).status_code == 200
    assert runner_pids(server) == [before]


def test_a_job_that_hears_neither_flag_nor_interrupt_is_killed_and_the_next_one_runs(server: Serving):
    job_id = start_endless_job(server)
    (before,) = runner_pids(server)
    os.kill(before, signal.SIGSTOP)  # like a native call that never returns: no Python code runs

    server.client.delete(f"/v1/jobs/{job_id}")

    assert wait_for_state(server, job_id, "cancelled", "failed", "lost") == "cancelled"
    assert server.client.post("/v1/generate", json=body()).status_code == 200
    assert before not in runner_pids(server)


def test_an_option_that_the_model_does_not_take_fails_with_its_own_error(server: Serving):
    response = server.client.post("/v1/generate", json=body(config={"steps": 2, "options": {"colour": "red"}}))

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unknown_option"


def test_a_scheduler_that_is_not_there_fails_with_its_own_error(server: Serving):
    response = server.client.post("/v1/generate", json=body(config={"scheduler": "no-such-scheduler"}))

    assert response.status_code == 400, response.text
    assert response.json()["error"]["hint"]


def test_an_execution_mode_that_is_not_there_fails_with_its_own_error(server: Serving):
    response = server.client.post("/v1/generate", json=body(config={"steps": 2, "execution_mode": "ray"}))

    assert (response.status_code, response.json()["error"]["code"]) == (400, "not_available")


def test_a_child_of_the_runner_that_is_killed_fails_its_job_alone(server: Serving):
    job = post_job(server, config={**ENDLESS, "execution_mode": "subprocess"})
    wait_for_step(server, job.job_id)
    (runner,) = runner_pids(server)
    report = server.client.get(f"/v1/runs/{job.run_id}").json()
    child = int(report["worker_id"].removeprefix(f"{server.journal.get_job(job.job_id).worker_id}/child-"))

    os.kill(child, signal.SIGKILL)

    assert wait_for_state(server, job.job_id, "cancelled", "failed", "lost") == "failed"
    report = server.client.get(f"/v1/runs/{job.run_id}").json()
    assert (report["error"]["type"], report["error"]["stage"]) == ("ChildDiedError", "denoise")
    assert "killed by SIGKILL" in report["error"]["message"]
    assert len(report["steps"]) >= 1
    assert server.client.post("/v1/generate", json=body()).status_code == 200
    assert runner_pids(server) == [runner]


def test_a_timeout_that_the_mode_cannot_keep_is_refused(server: Serving):
    response = server.client.post("/v1/generate", json=body(config={"steps": 2, "timeout_s": 60}))

    assert response.status_code == 400
    assert "legacy_call" in response.json()["error"]["message"]


def test_a_killed_idle_runner_is_replaced_by_the_next_job(server: Serving):
    server.client.post("/v1/generate", json=body())
    (before,) = runner_pids(server)
    os.kill(before, signal.SIGKILL)

    response = server.client.post("/v1/generate", json=body())

    assert response.status_code == 200
    assert before not in runner_pids(server)


def test_jobs_of_other_queues_are_left_alone(server: Serving):
    with server.journal.worker("published", model="somebodys"):
        job = server.journal.enqueue(GenerateRequest(), is_async=True, queue=published_queue("somebodys"))
        server.client.post("/v1/generate", json=body())

        assert server.journal.get_job(job.job_id).state == "queued"


def test_an_unknown_device_is_an_error_at_once(tmp_path: Path):
    command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser"]
    flags = [
        "--ServerApp.jpserver_extensions=omnirt_server=True",
        "--ServerApp.reraise_server_extension_failures=True",
        "--OmniRTApp.runner_devices=tpu:0",
    ]
    result = subprocess.run(
        [*command, *flags],
        env={**os.environ, "OMNIRT_STATE_DIR": str(tmp_path / "state"), "JUPYTER_NO_CONFIG": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode != 0
    assert "there is no runner device 'tpu:0'" in result.stderr


def test_a_runner_that_never_starts_fails_the_waiting_jobs_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch = tmp_path / "broken" / "torch.py"
    torch.parent.mkdir()
    torch.write_text("raise ImportError('this torch is broken')")
    monkeypatch.setenv("PYTHONPATH", str(torch.parent))
    with running_server(tmp_path / "state", tmp_path) as server:
        waiting = [post_job(server) for _ in range(2)]
        assert {wait_for_state(server, job.job_id, "failed", "lost", "succeeded") for job in waiting} == {"failed"}
        messages = [server.journal.get_report(job.run_id).error.message for job in waiting]
        torch.write_text("import os; os._exit(3)")
        response = server.client.post("/v1/generate", json=body())
        ready = server.client.get("/readyz")
        left = server.journal.find_next(RUNNER_QUEUE)

    assert all("3 times in a row" in message and "torch is broken" in message for message in messages)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "runner_unavailable")
    assert ready.status_code == 503
    assert "4 times in a row" in ready.json()["checks"]["runner"]
    assert left is None


def with_kernel(use: Callable[[RunnerKernel], Awaitable[None]]) -> None:
    """Do something with a real kernel, which is dead afterwards."""

    async def run() -> None:
        directory = RuntimeDirectory()
        kernel = RunnerKernel(directory.path / "0-1.json", os.environ)
        try:
            await kernel.start()
            await use(kernel)
        finally:
            await kernel.kill()
            directory.remove()
        assert not Path(f"/proc/{kernel.pid}").exists()

    asyncio.run(run())


def sleeping(kernel: RunnerKernel, mark: Path) -> asyncio.Task[None]:
    """Code that sleeps until it is interrupted, and says when it begins to."""
    return asyncio.create_task(kernel.execute(f"import time; open({str(mark)!r}, 'w').close(); time.sleep(600)"))


async def exists(mark: Path) -> None:
    async with asyncio.timeout(30):
        while not mark.exists():  # a file of another process
            await asyncio.sleep(0.02)


def test_an_interrupt_ends_the_code_and_the_kernel_lives_on(tmp_path: Path):
    async def use(kernel: RunnerKernel) -> None:
        executing = sleeping(kernel, tmp_path / "mark")
        await exists(tmp_path / "mark")

        await kernel.interrupt()

        with pytest.raises(RunnerRefusedError, match="KeyboardInterrupt"):
            await executing
        await kernel.execute("1 + 1")

    with_kernel(use)


def test_a_kernel_that_dies_ends_the_wait_for_its_answer(tmp_path: Path):
    async def use(kernel: RunnerKernel) -> None:
        executing = sleeping(kernel, tmp_path / "mark")
        await exists(tmp_path / "mark")

        assert kernel.pid is not None
        os.kill(kernel.pid, signal.SIGKILL)

        with pytest.raises(RunnerDiedError):
            await executing

    with_kernel(use)


@pytest.mark.parametrize("text", ["", "ab", "g" * 32, "0" * 32 + "\n", "'); import os; ('"])
def test_a_runner_takes_nothing_but_job_ids(text: str):
    with pytest.raises(ValueError, match="no job id"):
        runner.run(text)
