"""A worker in the test's own process: it takes the server's queued jobs from the journal, as a runner does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image

from omnirt_lab.journal import JobWriter
from omnirt_lab.records import Artifact, ErrorInfo, JobCancelledData, JobFailedData, JobFinishedData
from omnirt_server.submission import RUNNER_QUEUE
from tests.journal.writing import denoise, start
from tests.server.serving import Serving

Work = Callable[[JobWriter], None]


@contextmanager
def working(server: Serving, work: Work) -> Iterator[None]:
    """While the block runs, every job of the queue is worked on, one after the other."""
    stopping = threading.Event()

    def run() -> None:
        with server.journal.worker() as worker:
            while not stopping.is_set():
                writer = server.journal.claim_next(worker, RUNNER_QUEUE)
                if writer is None:
                    stopping.wait(0.01)
                else:
                    work(writer)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def png(colour: str = "red", size: tuple[int, int] = (64, 64)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, format="PNG")
    return file.getvalue()


def pictures(writer: JobWriter) -> tuple[Artifact, ...]:
    """What the job's request asks for, in a colour of each seed."""
    config = writer.job.request.config
    size = (config.width or 64, config.height or 64)
    first = config.seed or 0
    return tuple(
        writer.artifacts.put_bytes(
            png(f"#0000{index:02x}", size), "image/png", width_px=size[0], height_px=size[1], index=index, seed=seed
        )
        for index, seed in enumerate(range(first, first + config.num_images))
    )


def draw(writer: JobWriter) -> None:
    """A run that makes the pictures that were asked for."""
    start(writer)
    denoise(writer)
    writer.finish(JobFinishedData(artifacts=pictures(writer)))


def fail(kind: str, message: str = "it broke", hint: str | None = None) -> Work:
    """A run that raises."""

    def work(writer: JobWriter) -> None:
        start(writer)
        writer.finish(JobFailedData(error=ErrorInfo(type=kind, message=message, hint=hint)))

    return work


def stop(writer: JobWriter) -> None:
    """A run that goes on until it is cancelled."""
    start(writer)
    while not writer.is_cancel_requested():
        denoise(writer, 1)
    writer.finish(JobCancelledData(reason="requested"))
