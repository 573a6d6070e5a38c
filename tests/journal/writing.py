"""Jobs and runs that the tests, and the processes that they start, write into a real journal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from omnirt_lab.journal import JobWriter, Journal, Worker
from omnirt_lab.records import (
    Artifact,
    Config,
    Environment,
    GenerateRequest,
    Inputs,
    JobFinishedData,
    JobStartedData,
    MemoryData,
    RunReport,
    StageEndData,
    StageStartData,
    StepData,
)

REPOSITORY = Path(__file__).parents[2]

ENVIRONMENT = Environment(python="3.11.7", platform="Linux")


def wish(prompt: str = "a red circle", **fields: object) -> GenerateRequest:
    return GenerateRequest(inputs=Inputs(prompt=prompt), config=Config(steps=20, seed=7), **fields)


def begin(journal: Journal, worker: Worker, request: GenerateRequest | None = None, **options: object) -> JobWriter:
    """A job, claimed and started."""
    job = journal.enqueue(request or wish(), **options)
    writer = journal.claim(job.job_id, worker)
    assert writer is not None
    start(writer)
    return writer


def start(writer: JobWriter) -> None:
    worker_id = writer.job.worker_id
    assert worker_id is not None
    writer.emit(JobStartedData(worker_id=worker_id, execution_mode="legacy_call", environment=ENVIRONMENT))


def step(writer: JobWriter, index: int, total: int = 20) -> None:
    writer.emit(StepData(index=index, total=total, start_t_ns=writer.now_ns()), stage="denoise")


def denoise(writer: JobWriter, steps: int = 3) -> None:
    writer.emit(StageStartData(class_name="UNet2DConditionModel", device="cpu"), stage="denoise")
    for index in range(steps):
        step(writer, index, steps)
        writer.emit(MemoryData(device="cpu", kind="rss", current_bytes=500_000_000 + index))
    writer.emit(StageEndData(peak_bytes=600_000_000, memory_kind="rss"), stage="denoise")


def run(
    journal: Journal, worker: Worker, request: GenerateRequest | None = None, *, artifacts: tuple[Artifact, ...] = ()
) -> RunReport:
    """A whole run that succeeds."""
    writer = begin(journal, worker, request)
    denoise(writer)
    return writer.finish(JobFinishedData(artifacts=artifacts))


def run_many(count: int) -> None:
    """What a writing process does; in the state directory of its environment."""
    with Journal.open() as journal, journal.worker() as worker:
        for index in range(count):
            run(journal, worker, wish(f"picture {index}"))


def stop_at_step(index: int, *, step_ms: int = 10) -> None:
    """Begin a run, say its job's id after so many steps, and wait to be killed."""
    journal = Journal.open()
    writer = begin(journal, journal.worker())
    writer.emit(StageStartData(device="cpu"), stage="denoise")
    for done in range(index):
        end_ns = writer.now_ns() + step_ms * 1_000_000
        while writer.now_ns() < end_ns:
            pass  # a step's work
        step(writer, done)
    print(writer.job.job_id, flush=True)
    signal.pause()


def claim_all(job_ids: list[str]) -> None:
    """Try to claim each job, and say which ones were won; begins when a line comes in."""
    with Journal.open() as journal, journal.worker() as worker:
        print("ready", flush=True)
        sys.stdin.readline()
        print(" ".join(job_id for job_id in job_ids if journal.claim(job_id, worker)), flush=True)


def child(call: str) -> subprocess.Popen[str]:
    """A process of its own that makes this call of this module; it sees the test's state directory."""
    code = f"from tests.journal import writing; writing.{call}"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
