"""Jobs sent to a server that has a runner, and the processes that belong to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from omnirt_lab.records.api import JobView
from tests.server.serving import Serving

T = TypeVar("T")

PATIENCE_S = 120
"""The first job of a runner loads torch, and the machine may be busy."""

ENDLESS = {"steps": 1000, "seed": 7, "width": 128, "height": 128, "num_images": 4}
"""Takes minutes; the scheduler was trained on 1000 steps, and takes no more."""


def wait_for(find: Callable[[], T | None], what: str, *, within_s: float = PATIENCE_S) -> T:
    """What `find` returns once it is neither None, False nor empty."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = find()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {what}")


def body(*, steps: int = 2, **fields: object) -> dict[str, object]:
    config = {"steps": steps, "seed": 7, "width": 64, "height": 64}
    return {"inputs": {"prompt": "a red circle"}, "config": config, **fields}


def post_job(server: Serving, *, steps: int = 2, **fields: object) -> JobView:
    response = server.client.post("/v1/generate", json=body(steps=steps, async_run=True, **fields))
    assert response.status_code == 202, response.text
    return msgspec.json.decode(response.content, type=JobView)


def wait_for_state(server: Serving, job_id: str, *states: str) -> str:
    def find() -> str | None:
        state = server.journal.get_job(job_id).state
        return state if state in states else None

    return wait_for(find, f"{job_id} is {' or '.join(states)}; the log:\n{server.log}")


def wait_for_step(server: Serving, job_id: str) -> None:
    wait_for(lambda: any(event.event == "step" for event in server.journal.events(job_id)), "a step")


def start_endless_job(server: Serving) -> str:
    """A job that is in the middle of its steps."""
    job_id = post_job(server, config=ENDLESS).job_id
    wait_for_step(server, job_id)
    return job_id


def runner_pids(server: Serving) -> list[int]:
    return [worker.pid for worker in server.journal.live_workers() if worker.kind == "runner"]


def processes_of(state_dir: Path) -> set[int]:
    """Every process that was started with this state directory, zombies left out."""
    wanted = f"OMNIRT_STATE_DIR={state_dir}".encode()
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (directory / "environ").read_bytes().split(b"\0"):
                found.add(int(directory.name))
        except OSError:
            continue
    return found - {os.getpid()}
