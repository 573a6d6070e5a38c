"""`/v1/jobs/{id}/trace`, and traces that are sent to a collector."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from omnirt_lab.export.target import JSON, PROTOBUF, Target
from omnirt_lab.folds import trace as trace_fold
from omnirt_lab.journal import Journal, Worker
from omnirt_lab.records import ErrorInfo, JobFailedData, JobFinishedData
from omnirt_lab.records.trace import Trace
from omnirt_server.tracing import Tracing
from tests.journal.writing import begin, denoise, run, step, wish
from tests.server.collecting import Collector, collecting
from tests.server.serving import Serving, free_port, running_server

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SPANS_OF_A_RUN = 6
"""The root, `queue`, `denoise` and three steps."""

UNDELIVERED = "omnirt_export_undelivered_spans_total"

DEADLINE_S = 30


def wait_until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < deadline, f"not so after {DEADLINE_S} s"
        time.sleep(0.02)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture
def journal() -> Iterator[Journal]:
    with Journal.open() as opened:
        yield opened


@pytest.fixture
def worker(journal: Journal) -> Worker:
    return journal.worker()


@pytest.fixture(autouse=True)
def _short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1.5")


@contextmanager
def exporting(journal: Journal, url: str, *, protocol: str = JSON, has_texts: bool = False) -> Iterator[Tracing]:
    tracing = Tracing(journal, Target(f"{url}/v1/traces", protocol), has_texts=has_texts)
    tracing.start()
    try:
        yield tracing
    finally:
        asyncio.run(tracing.stop())


def newest_id(journal: Journal) -> str:
    return journal.list_jobs(limit=1)[0].job_id


def metric(server: Serving, name: str) -> float | None:
    lines = server.client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), None)


def test_an_ended_jobs_trace_is_the_fold_of_its_report(server: Serving):
    report = run(server.journal, server.journal.worker())
    job_id = newest_id(server.journal)

    answer = server.client.get(f"/v1/jobs/{job_id}/trace")

    assert msgspec.json.decode(answer.content, type=Trace) == trace_fold.of_report(report, job_id=job_id)


def test_a_running_jobs_trace_is_open(server: Serving):
    writer = begin(server.journal, server.journal.worker())
    step(writer, 0)
    writer.flush()

    made = msgspec.json.decode(server.client.get(f"/v1/jobs/{writer.job.job_id}/trace").content, type=Trace)

    assert made.state == "running"
    assert [span.name for span in made.spans if span.end_t_ns is None] == ["generate_content tiny-shapes"]
    assert made.spans[-1].name == "step 0"


def test_a_queued_jobs_trace_waits(server: Serving):
    job = server.journal.enqueue(wish(), is_async=True)

    made = msgspec.json.decode(server.client.get(f"/v1/jobs/{job.job_id}/trace").content, type=Trace)

    assert [span.name for span in made.spans] == ["generate_content tiny-shapes", "queue"]


def test_otlp_and_chrome_are_formats_of_the_same_trace(server: Serving):
    report = run(server.journal, server.journal.worker())
    path = f"/v1/jobs/{newest_id(server.journal)}/trace"

    own = server.client.get(path).json()
    otlp = server.client.get(path, params={"format": "otlp"}).json()
    chrome = server.client.get(path, params={"format": "chrome"}).json()

    spans = otlp["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [span["spanId"] for span in spans] == [span["span_id"] for span in own["spans"]]
    assert {span["traceId"] for span in spans} == {report.trace_id} == {chrome["otherData"]["trace_id"]}
    assert sum(event["ph"] == "X" for event in chrome["traceEvents"]) == len(spans)


def test_no_prompt_stands_in_any_format(server: Serving):
    run(server.journal, server.journal.worker(), wish("a very private circle"))
    path = f"/v1/jobs/{newest_id(server.journal)}/trace"

    for form in ("omnirt", "otlp", "chrome"):
        assert "private" not in server.client.get(path, params={"format": form}).text


def test_an_unknown_format_is_400_and_an_unknown_job_404(server: Serving):
    run(server.journal, server.journal.worker())

    unknown_format = server.client.get(f"/v1/jobs/{newest_id(server.journal)}/trace?format=pdf")
    unknown_job = server.client.get(f"/v1/jobs/{'0' * 32}/trace")

    assert (unknown_format.status_code, unknown_format.json()["error"]["code"]) == (400, "invalid_request")
    assert (unknown_job.status_code, unknown_job.json()["error"]["code"]) == (404, "job_not_found")


def test_the_collector_gets_the_tree_with_the_reports_trace_id_and_the_callers_parent(
    journal: Journal, worker: Worker, collector: Collector
):
    with exporting(journal, collector.url) as tracing:
        writer = begin(journal, worker, trace_id=TRACE, parent_span_id=SPAN)
        denoise(writer)
        report = writer.finish(JobFinishedData())
        wait_until(lambda: tracing.delivered_spans == SPANS_OF_A_RUN)

    assert report.trace_id == TRACE
    assert {span["traceId"] for span in collector.spans} == {TRACE}
    tree = {span["spanId"]: span["parentSpanId"] for span in collector.spans}
    names = {span["spanId"]: span["name"] for span in collector.spans}
    (root,) = [span_id for span_id, parent in tree.items() if parent == SPAN]
    children = {names[span_id]: names[parent] for span_id, parent in tree.items() if span_id != root}
    assert children == {"queue": names[root], "denoise": names[root], **{f"step {i}": "denoise" for i in range(3)}}


@pytest.mark.parametrize(("protocol", "media_type"), [(JSON, "application/json"), (PROTOBUF, "application/x-protobuf")])
def test_both_encodings_say_the_same_and_are_compressed(
    journal: Journal, worker: Worker, collector: Collector, protocol: str, media_type: str
):
    with exporting(journal, collector.url, protocol=protocol) as tracing:
        report = run(journal, worker)
        wait_until(lambda: tracing.delivered_spans == SPANS_OF_A_RUN)

    (request,) = collector.received
    assert request.path == "/v1/traces"
    assert (request.headers["content-type"], request.headers["content-encoding"]) == (media_type, "gzip")
    wanted = [span.span_id for span in trace_fold.of_report(report, job_id=newest_id(journal)).spans]
    assert [hex_of(span["spanId"], protocol) for span in request.spans] == wanted


def hex_of(span_id: str, protocol: str) -> str:
    return base64.b64decode(span_id).hex() if protocol == PROTOBUF else span_id


def test_prompts_and_error_messages_are_sent_only_where_the_operator_wants_them(
    journal: Journal, worker: Worker, collector: Collector
):
    for has_texts in (False, True):
        with exporting(journal, collector.url, has_texts=has_texts) as tracing:
            writer = begin(journal, worker, wish("a very private circle"))
            writer.finish(JobFailedData(error=ErrorInfo(type="ValueError", message="cannot draw: private")))
            wait_until(lambda tracing=tracing: tracing.delivered_spans == 2)

    without, with_texts = (json.dumps(request.spans) for request in collector.received)
    assert "private" not in without
    assert with_texts.count("private") == 2


def test_the_standard_variable_sets_headers(
    journal: Journal, worker: Worker, collector: Collector, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=lab")

    with exporting(journal, collector.url) as tracing:
        run(journal, worker)
        wait_until(lambda: tracing.delivered_spans == SPANS_OF_A_RUN)

    assert collector.received[0].headers["x-tenant"] == "lab"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_collector_is_asked_again_and_then_gets_the_trace_once(
    journal: Journal, worker: Worker, collector: Collector, monkeypatch: pytest.MonkeyPatch, status: int
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "20")
    collector.status, collector.headers = status, {"Retry-After": "0.2"}

    with exporting(journal, collector.url) as tracing:
        run(journal, worker)
        wait_until(lambda: len(collector.received) == 2)
        collector.status = 200
        wait_until(lambda: tracing.delivered_spans > 0)

        assert (tracing.delivered_spans, tracing.undelivered_spans) == (SPANS_OF_A_RUN, 0)


@pytest.mark.parametrize("status", [302, 400, 401, 429, 500, 503])
def test_spans_that_a_collector_refuses_are_counted_and_the_next_ones_are_sent(
    journal: Journal, worker: Worker, collector: Collector, status: int
):
    collector.status, collector.headers = status, {"Retry-After": "60"}

    with exporting(journal, collector.url) as tracing:
        run(journal, worker)
        wait_until(lambda: tracing.undelivered_spans == SPANS_OF_A_RUN)
        assert str(status) in str(tracing.last_error)
        collector.status = 200
        run(journal, worker)
        wait_until(lambda: tracing.delivered_spans == SPANS_OF_A_RUN)

        assert tracing.undelivered_spans == SPANS_OF_A_RUN


@pytest.mark.parametrize("protocol", [JSON, PROTOBUF])
def test_what_a_partial_success_rejects_is_counted(
    journal: Journal, worker: Worker, collector: Collector, protocol: str
):
    collector.rejects = 2

    with exporting(journal, collector.url, protocol=protocol) as tracing:
        run(journal, worker)
        wait_until(lambda: tracing.undelivered_spans > 0)

        assert (tracing.delivered_spans, tracing.undelivered_spans) == (SPANS_OF_A_RUN - 2, 2)
        assert len(collector.received) == 1


def test_a_dead_collector_is_counted(journal: Journal, worker: Worker):
    with exporting(journal, f"http://127.0.0.1:{free_port()}") as tracing:
        run(journal, worker)
        wait_until(lambda: tracing.undelivered_spans == SPANS_OF_A_RUN)

        assert tracing.delivered_spans == 0
        assert "no answer" in str(tracing.last_error)


def test_what_was_not_delivered_is_counted_on_by_the_next_server(journal: Journal, worker: Worker):
    url = f"http://127.0.0.1:{free_port()}"
    with exporting(journal, url) as tracing:
        run(journal, worker)
        wait_until(lambda: tracing.undelivered_spans == SPANS_OF_A_RUN)

    with exporting(journal, url) as tracing:
        assert tracing.undelivered_spans == SPANS_OF_A_RUN
        run(journal, worker)
        wait_until(lambda: tracing.undelivered_spans == 2 * SPANS_OF_A_RUN)
        assert tracing.delivered_spans == 0


def test_two_servers_on_one_journal_send_each_job_once(journal: Journal, worker: Worker, collector: Collector):
    with exporting(journal, collector.url) as first, exporting(journal, collector.url) as second:
        ids = [run(journal, worker).run_id for _ in range(20)]
        wait_until(lambda: first.delivered_spans + second.delivered_spans >= 20 * SPANS_OF_A_RUN)

    roots = [span for span in collector.spans if span["name"].startswith("generate_content")]
    assert len(roots) == len({span["spanId"] for span in roots}) == 20
    assert sorted(run_id_of(span) for span in roots) == sorted(ids)


def run_id_of(span: dict[str, object]) -> str:
    return next(each["value"]["stringValue"] for each in span["attributes"] if each["key"] == "omnirt.run_id")  # type: ignore[attr-defined]


def test_two_collectors_each_get_the_job(journal: Journal, worker: Worker, collector: Collector):
    with collecting() as other, exporting(journal, collector.url) as first, exporting(journal, other.url) as second:
        run(journal, worker)
        wait_until(lambda: first.delivered_spans == second.delivered_spans == SPANS_OF_A_RUN)

        assert [span["spanId"] for span in collector.spans] == [span["spanId"] for span in other.spans]


def test_jobs_that_ended_while_no_server_ran_are_sent_by_the_next_and_older_ones_are_not(
    journal: Journal, worker: Worker, collector: Collector
):
    run(journal, worker)
    with exporting(journal, collector.url) as tracing:
        known = run(journal, worker)
        wait_until(lambda: tracing.delivered_spans == SPANS_OF_A_RUN)
    missed = run(journal, worker)
    with exporting(journal, collector.url) as tracing:
        wait_until(lambda: tracing.delivered_spans == SPANS_OF_A_RUN)

    roots = [span for span in collector.spans if span["name"].startswith("generate_content")]
    assert [run_id_of(root) for root in roots] == [known.run_id, missed.run_id]


def test_a_run_that_was_purged_before_it_could_be_sent_is_passed_over(
    journal: Journal, worker: Worker, collector: Collector
):
    with exporting(journal, collector.url):
        pass
    gone = run(journal, worker)
    journal.trash(gone.run_id)
    journal.purge()
    kept = run(journal, worker)

    with exporting(journal, collector.url) as tracing:
        wait_until(lambda: tracing.delivered_spans == SPANS_OF_A_RUN)

    assert run_id_of(collector.spans[0]) == kept.run_id


def test_without_a_collector_no_loss_is_shown_and_no_opentelemetry_is_loaded(server: Serving):
    code = "import sys, omnirt_server.app; print('opentelemetry' in sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "False"
    assert metric(server, UNDELIVERED) is None


def test_no_stalled_busy_or_dead_collector_delays_a_servers_jobs_and_the_loss_is_shown(
    tmp_path: Path, collector: Collector
):
    flags = (f"--OmniRTApp.otlp_endpoint={collector.url}", "--ServerApp.authenticate_prometheus=False")

    with running_server(tmp_path / "served", tmp_path, "--OmniRTApp.runners=0", *flags) as server:
        collector.is_open.clear()
        lose_a_run(server, collector, lost=1)
        collector.status = 429
        collector.is_open.set()
        lose_a_run(server, collector, lost=2)
        collector.shutdown()
        collector.server_close()
        lose_a_run(server, None, lost=3)


def lose_a_run(server: Serving, asked: Collector | None, *, lost: int) -> None:
    """A run that is there for all while the collector is asked, and in the end counted as not delivered."""
    requests = 0 if asked is None else len(asked.received)
    run(server.journal, server.journal.worker())
    wait_until(lambda: asked is None or len(asked.received) > requests)
    job = server.client.get(f"/v1/jobs/{newest_id(server.journal)}").json()
    events = server.client.get(f"/v1/jobs/{newest_id(server.journal)}/events").text
    ready = server.client.get("/readyz").status_code

    assert (job["state"], ready) == ("succeeded", 200)
    assert "event: job_finished" in events
    wait_until(lambda: metric(server, UNDELIVERED) == lost * SPANS_OF_A_RUN)


def test_a_server_sends_by_the_standard_variables(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", PROTOBUF)

    with running_server(tmp_path / "served", tmp_path, "--OmniRTApp.runners=0") as server:
        response = server.client.post(
            "/v1/generate",
            json={"inputs": {"prompt": "x"}, "async_run": True},
            headers={"traceparent": f"00-{TRACE}-{SPAN}-01"},
        )
        server.client.delete(f"/v1/jobs/{response.json()['job_id']}")
        wait_until(lambda: len(collector.received) == 1)

    (root,) = collector.spans  # it was cancelled before a worker took it
    assert base64.b64decode(root["traceId"]).hex() == TRACE
    assert base64.b64decode(root["parentSpanId"]).hex() == SPAN


def test_variables_for_another_protocol_do_not_keep_the_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")

    with running_server(tmp_path / "served", tmp_path, "--OmniRTApp.runners=0") as server:
        assert "http/protobuf" in server.log
