"""`/metrics` while a job runs, against jupyter_server's own `/api/status`: with 1,000 series, and with 100 models'.

A series is what Prometheus stores: one line of the answer, so each bucket of a histogram too.
"""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace
from recorded_run import ENVIRONMENT, STAGES, denoise, ending, request, stage
from report import emit_report
from serving import Served, served

from omnirt_lab.journal import JobWriter, Journal, Worker
from omnirt_lab.records import JobFinishedData, JobStartedData, StepData

ASKED = 400
SERIES = 1_000
MODELS = 100
MAX_P99_MS = 20.0
STEP_S = 0.02
PAUSE_S = 0.01
DEADLINE_S = 60.0
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
"""What Prometheus asks for; it has the exemplars too."""


def begin(journal: Journal, worker: Worker, model: str) -> JobWriter:
    """A job of this model, taken and started."""
    job = journal.enqueue(replace(request(0), model=model))
    writer = journal.claim(job.job_id, worker)
    assert writer is not None
    writer.emit(JobStartedData(worker_id=worker.worker_id, execution_mode="legacy_call", environment=ENVIRONMENT))
    return writer


def record(journal: Journal, worker: Worker, model: str) -> None:
    """A whole run of it."""
    writer = begin(journal, worker, model)
    for name in dict.fromkeys(STAGES):
        if name == "denoise":
            denoise(writer)
        else:
            stage(writer, name)
    writer.finish(ending(0))


@contextmanager
def running_job(server: Served, worker: Worker) -> Iterator[None]:
    """A job that does a step every 20 ms meanwhile."""
    stopping = threading.Event()
    writer = begin(server.journal, worker, "running")

    def work() -> None:
        index = 0
        while not stopping.wait(STEP_S):
            writer.emit(StepData(index=index, start_t_ns=writer.now_ns()), stage="denoise")
            index += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        writer.finish(JobFinishedData())


def fetch(connection: http.client.HTTPConnection, server: Served, path: str) -> tuple[bytes, float]:
    """The answer, and the milliseconds until it was read whole."""
    headers = {"Authorization": f"Bearer {server.token}", "Accept": OPENMETRICS}
    start = time.perf_counter()
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    content = response.read()
    took_ms = (time.perf_counter() - start) * 1e3
    assert response.status == 200, content
    return content, took_ms


def series_in(content: bytes) -> int:
    return sum(not line.startswith(b"#") for line in content.splitlines())


def fill_to_series(server: Served, worker: Worker) -> int:
    """Record runs, each of a new model, until there are `SERIES` series; how many models it took."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for index in range(MODELS):
        record(server.journal, worker, f"model-{index}")
        if wait_until_counted(connection, server, index) >= SERIES:
            return index + 1
    raise SystemExit(f"{MODELS} models make less than {SERIES} series")


def fill_to_models(server: Served, worker: Worker, first: int) -> None:
    """Record runs of further models; the job that runs meanwhile is of one too."""
    for index in range(first, MODELS - 1):
        record(server.journal, worker, f"model-{index}")
    wait_until_counted(http.client.HTTPConnection("127.0.0.1", server.port), server, MODELS - 2)


def wait_until_counted(connection: http.client.HTTPConnection, server: Served, index: int) -> int:
    deadline = time.monotonic() + DEADLINE_S
    name = f'omnirt_job_duration_seconds_count{{model="model-{index}"}}'.encode()
    while time.monotonic() < deadline:
        content, _ = fetch(connection, server, "/metrics")
        if name in content:
            return series_in(content)
        time.sleep(PAUSE_S)
    raise SystemExit(f"model {index} was not counted within {DEADLINE_S:.0f} s")


def measure(server: Served, worker: Worker, what: str, asked: int) -> dict[str, object]:
    """Both routes in turn, so that whatever disturbs the machine disturbs both."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    metrics_ms, status_ms = [], []
    with running_job(server, worker):
        for _ in range(asked):
            content, took_ms = fetch(connection, server, "/metrics")
            metrics_ms.append(took_ms)
            status_ms.append(fetch(connection, server, "/api/status")[1])
            time.sleep(PAUSE_S)
    metrics, status = statistics.quantiles(metrics_ms, n=100), statistics.quantiles(status_ms, n=100)
    return {
        "what": what,
        "series": series_in(content),
        "p50_ms": metrics[49],
        "p99_ms": metrics[98],
        "status_p50_ms": status[49],
        "status_p99_ms": status[98],
        "ratio_p50": metrics[49] / status[49],
        "ratio_p99": metrics[98] / status[98],
    }


def main() -> None:
    with served("--runners", "0") as server, server.journal.worker() as worker:
        models = fill_to_series(server, worker)
        some = measure(server, worker, f"{SERIES:,} series", ASKED)
        fill_to_models(server, worker, models)
        many = measure(server, worker, f"{MODELS} models", ASKED // 4)
    verdicts = {f"{some['series']:,} series: <= {MAX_P99_MS} ms for 99 %": float(str(some["p99_ms"])) <= MAX_P99_MS}
    emit_report("metrics_scrape", [some, many], verdicts)


if __name__ == "__main__":
    main()
