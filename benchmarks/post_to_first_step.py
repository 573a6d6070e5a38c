"""From `POST /v1/generate` to the first denoising step in a warm runner, against `lab.generate` in this process.

Both take turns, on one thread each. All read CLOCK_MONOTONIC, which the machine has once: the journal keeps a job's
zero by it, and each event's distance from there.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch loads, here and in the runner

import statistics
import tempfile
import time
from pathlib import Path

import httpx
from report import emit_report
from serving import Served, served

from omnirt_lab import Lab
from omnirt_lab.records import AnyEvent, Step

ROUNDS = 40
WARM_UP = 3
MAX_RATIO = 2.5

CONFIG = {"steps": 2, "seed": 7, "width": 64, "height": 64}


def first_step_ns(events: list[AnyEvent]) -> int:
    """Since the job was enqueued."""
    return next(event.t_ns for event in events if isinstance(event, Step))


def in_process_ms(lab: Lab) -> float:
    events: list[AnyEvent] = []
    lab.generate("a red circle", progress=False, on_event=events.append, **CONFIG)
    return first_step_ns(events) / 1e6


def posted_ms(server: Served, client: httpx.Client) -> tuple[float, float]:
    """From the POST to the first step, and of that from the job's place in the queue."""
    body = {"inputs": {"prompt": "a red circle"}, "config": CONFIG}
    sent_ns = time.monotonic_ns()
    response = client.post("/v1/generate", json=body)
    response.raise_for_status()
    job = server.journal.get_job(response.json()["metadata"]["job_id"])
    step_ns = first_step_ns(server.journal.events(job.job_id))
    return (job.monotonic_ns + step_ns - sent_ns) / 1e6, step_ns / 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as home, served("--runners", "1") as server, Lab(Path(home)) as lab:
        headers = {"Authorization": f"Bearer {server.token}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=120) as client:
            for _ in range(WARM_UP):
                in_process_ms(lab)
                posted_ms(server, client)
            rounds = [(in_process_ms(lab), *posted_ms(server, client)) for _ in range(ROUNDS)]
    names = ("lab.generate: enqueued to first step", "POST to first step", "of that: enqueued to first step")
    rows = [
        {"what": name, "p50_ms": statistics.median(column), "p90_ms": statistics.quantiles(column, n=10)[-1]}
        for name, column in zip(names, zip(*rounds, strict=True), strict=True)
    ]
    in_process, posted, _ = (statistics.median(column) for column in zip(*rounds, strict=True))
    claim = f"a POST takes {posted / in_process:.2f} times as long as the call at the median; at most {MAX_RATIO}"
    emit_report("post_to_first_step", rows, {claim: posted <= MAX_RATIO * in_process})


if __name__ == "__main__":
    main()
