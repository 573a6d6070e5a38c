"""`/metrics`: what the journal's events count up to, over restarts, purges and several servers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from omnirt_lab.folds import series
from omnirt_lab.journal import SERIES, Journal, RunQuery, Snapshot
from omnirt_lab.records import CacheHitData, CacheMissData, JobFinishedData
from omnirt_server.handlers.metrics import prefers_openmetrics
from omnirt_server.metrics import Metrics
from tests.journal.writing import begin, denoise, run, wish
from tests.server.serving import Serving, free_port, running_server, stop

OPEN = "--ServerApp.authenticate_prometheus=False"
NO_RUNNER = "--OmniRTApp.runners=0"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
DEADLINE_S = 30
AWKWARD = 'a "quoted" \\ back\\nslash\nand a new line'

T = TypeVar("T")
Labels = frozenset[tuple[str, str]]


def wait_for(look: Callable[[], T]) -> T:
    """What `look` answers, once it is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := look()):
        assert time.monotonic() < deadline, f"not so after {DEADLINE_S} s; the last answer was {answer!r}"
        time.sleep(0.05)
    return answer


def families(server: Serving, client: httpx.Client | None = None) -> dict[str, Metric]:
    response = (client or server.client).get("/metrics")
    assert response.status_code == 200, response.text
    return {family.name: family for family in parse_text(response.text)}


def counters(server: Serving) -> dict[tuple[str, Labels], float]:
    """Every sample of the lab that is a sum."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for name, family in families(server).items()
        if name.startswith("omnirt_") and family.type in ("counter", "histogram")
        for sample in family.samples
    }


def jobs(server: Serving, state: str, model: str = "tiny-shapes") -> float:
    """Jobs of this model that have reached the state."""
    samples = families(server)["omnirt_jobs"].samples
    return sum(s.value for s in samples if (s.labels["state"], s.labels["model"]) == (state, model))


def gauge(server: Serving, name: str) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in families(server)[name].samples}


def kill(server: Serving) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


@pytest.fixture(scope="module")
def neighbour(server: Serving) -> Iterator[Serving]:
    """A second server on the journal of the first, younger than a run there; it shows its metrics to everybody."""
    run(server.journal, server.journal.worker())
    with running_server(server.state_dir, server.log_path.parent, NO_RUNNER, OPEN) as second:
        yield second


@contextmanager
def started(home: Path, *flags: str) -> Iterator[Serving]:
    """A server on the journal in `home`; not the first one there, perhaps."""
    with running_server(home / "state", home, NO_RUNNER, *flags) as server:
        yield server


def test_a_run_s_stages_steps_and_caches_are_what_its_report_says(server: Serving):
    model = "reported"
    with server.journal.worker() as worker:
        writer = begin(server.journal, worker, wish(model=model))
        writer.emit(CacheMissData(cache_type="text_embedding"))
        writer.emit(CacheHitData(cache_type="text_embedding", saved_ns=2_500_000_000))
        denoise(writer, steps=4)
        report = writer.finish(JobFinishedData())

    wait_for(lambda: jobs(server, "succeeded", model))

    assert jobs(server, "queued", model) == jobs(server, "running", model) == 1
    assert jobs(server, "failed", model) == 0
    sums = counters(server)
    for stage in ("queue", "denoise"):
        labels = frozenset({"stage": stage, "model": model}.items())
        assert sums["omnirt_stage_duration_seconds_sum", labels] == pytest.approx(report.timings[f"{stage}_ms"] / 1000)
    assert sums["omnirt_step_duration_seconds_count", frozenset({("model", model)})] == 4
    cache = frozenset({("cache_type", "text_embedding")})
    assert sums["omnirt_cache_hits_total", cache] == 1
    assert sums["omnirt_cache_requests_total", cache] == 2
    assert sums["omnirt_cache_saved_seconds_total", cache] == 2.5


def test_without_an_accelerator_its_memory_has_a_family_and_no_sample(server: Serving):
    run(server.journal, server.journal.worker(), wish(model="on the cpu"))
    wait_for(lambda: jobs(server, "succeeded", "on the cpu"))

    shown = families(server)

    assert shown["omnirt_vram_peak_bytes"].samples == []
    assert [sample.value for sample in shown["omnirt_process_memory_peak_bytes"].samples] == [600_000_000]


def test_a_model_s_name_is_shown_as_it_is_whatever_it_holds(server: Serving):
    run(server.journal, server.journal.worker(), wish(model=AWKWARD))

    assert wait_for(lambda: jobs(server, "succeeded", AWKWARD)) == 1


def test_queue_and_workers_are_those_of_the_moment(server: Serving):
    before = gauge(server, "omnirt_queue_depth")
    kernels = gauge(server, "omnirt_workers_live")["kernel",]
    made = [server.journal.enqueue(wish(), is_async=True, priority=priority) for priority in (0, 7, 7)]
    with server.journal.worker():
        assert gauge(server, "omnirt_workers_live")["kernel",] == kernels + 1
        assert gauge(server, "omnirt_queue_depth") == {("7",): 2, ("0",): before["0",] + 1}
    for job in made:
        server.journal.request_cancel(job.job_id)

    assert gauge(server, "omnirt_workers_live")["kernel",] == kernels
    assert gauge(server, "omnirt_queue_depth") == before


def test_a_running_job_is_seen_while_it_runs(server: Serving):
    with server.journal.worker() as worker:
        writer = begin(server.journal, worker)
        wait_for(lambda: gauge(server, "omnirt_jobs_running") == {(): 1})
        writer.finish(JobFinishedData())

    wait_for(lambda: gauge(server, "omnirt_jobs_running") == {(): 0})


def test_the_server_s_own_series_stay(server: Serving):
    shown = families(server)

    assert {"http_request_duration_seconds", "kernel_currently_running_total", "python_info"} <= shown.keys()
    assert gauge(server, "omnirt_part_up") == {("journal",): 1, ("series",): 1}


def test_openmetrics_is_sent_to_whoever_prefers_it_and_names_a_job_beside_its_figures(server: Serving):
    run(server.journal, server.journal.worker(), wish(model="exemplary"))
    wait_for(lambda: jobs(server, "succeeded", "exemplary"))
    job = server.journal.list_jobs(limit=1)[0]

    response = server.client.get("/metrics", headers={"Accept": OPENMETRICS})
    plain = server.client.get("/metrics")

    assert response.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert job.trace_id not in plain.text
    samples = [sample for family in parse_openmetrics(response.text) for sample in family.samples]
    mine = [s for s in samples if s.exemplar and s.labels.get("model") == "exemplary"]
    assert {sample.name for sample in mine} == {
        "omnirt_jobs_total",
        "omnirt_job_duration_seconds_bucket",
        "omnirt_stage_duration_seconds_bucket",
        "omnirt_step_duration_seconds_bucket",
    }
    assert all(s.exemplar.labels == {"trace_id": job.trace_id, "job_id": job.job_id} for s in mine)


@pytest.mark.parametrize(
    ("accept", "is_preferred"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        (OPENMETRICS, True),
        ("text/plain, application/openmetrics-text;q=0.9", False),
        ("Application/OpenMetrics-Text ; q=1.0", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=high", False),
        (";;,,=;q=", False),
    ],
)
def test_an_accept_header_is_weighed(accept: str, is_preferred: bool):
    assert prefers_openmetrics(accept) == is_preferred


def test_the_token_is_needed_unless_the_server_s_setting_says_otherwise(server: Serving, neighbour: Serving):
    refused = httpx.get(f"{server.url}/metrics", verify=False)
    wrong = httpx.get(f"{server.url}/metrics", headers={"Authorization": "Bearer wrong"}, verify=False)
    free = httpx.get(f"{neighbour.url}/metrics", verify=False)

    assert (refused.status_code, wrong.status_code, free.status_code) == (403, 403, 200)
    assert "omnirt" not in refused.text
    assert "omnirt_part_up" in free.text


def test_a_server_that_starts_again_counts_on_where_the_last_one_was_killed_or_stopped(tmp_path: Path):
    denoised = "omnirt_stage_duration_seconds_count", frozenset({"stage": "denoise", "model": "tiny-shapes"}.items())
    seen: list[dict[tuple[str, Labels], float]] = []
    for end in (kill, lambda server: stop(server.process), None):
        with started(tmp_path) as server, server.journal.worker() as worker:
            run(server.journal, worker)
            runs = len(server.journal.query_runs(RunQuery()))
            wait_for(lambda server=server, runs=runs: jobs(server, "succeeded") == runs)
            seen.append(counters(server))
            if end is not None:
                end(server)
                run(server.journal, worker)  # while no server looks

    first, second, third = seen
    assert first.keys() <= second.keys() <= third.keys()
    assert all(first[key] <= second[key] for key in first)
    assert all(second[key] <= third[key] for key in second)
    assert [counts[denoised] for counts in seen] == [1, 3, 5]


def test_no_count_falls_when_runs_are_trashed_and_purged_and_the_server_is_then_killed(tmp_path: Path):
    with started(tmp_path) as first, first.journal.worker() as worker:
        run(first.journal, worker)
        kept = run(first.journal, worker)
        wait_for(lambda: jobs(first, "succeeded") == 2)
        before = counters(first)
        first.journal.trash(kept.run_id)
        first.journal.purge()
        assert counters(first) == before
        kill(first)
        unseen = run(first.journal, worker)
        first.journal.purge([unseen.run_id])
        assert len(first.journal.query_runs(RunQuery())) == 1
    with started(tmp_path) as second:
        wait_for(lambda: jobs(second, "succeeded") == 3)
        after = counters(second)

    assert all(after[key] >= value for key, value in before.items())


def test_two_servers_on_one_journal_both_count_everything_once(server: Serving, neighbour: Serving):
    for _ in range(2):
        run(server.journal, server.journal.worker(), wish(model="shared"))

    wait_for(lambda: jobs(server, "succeeded", "shared") == jobs(neighbour, "succeeded", "shared") == 2)
    assert counters(server) == counters(neighbour)


def test_no_sum_is_shown_before_the_journal_was_read_to_its_end(state_dir: Path):
    with Journal.open(state_dir) as journal:
        run(journal, journal.worker())
        metrics = Metrics(journal, registry=CollectorRegistry())

        shown = {family.name: family.samples for family in metrics.collect()}

    assert shown["omnirt_jobs"] == shown["omnirt_events_dropped"] == []


def test_a_job_that_was_purged_before_its_end_was_read_no_longer_runs(state_dir: Path):
    with Journal.open(state_dir) as journal:
        writer = begin(journal, journal.worker())
        job_id = writer.job.job_id
        half = series.apply(series.SeriesState(), [(job_id, event) for event in journal.events(job_id)])
        run_id = writer.finish(JobFinishedData()).run_id
        journal.purge([run_id])
        journal.put_snapshot(Snapshot(name=SERIES, after_id=journal.last_event_id(), state=series.encode(half)))
        metrics = Metrics(journal, registry=CollectorRegistry())

        shown = asyncio.run(_samples_when_caught_up(metrics, "omnirt_jobs_running"))

    assert shown == [0]


async def _samples_when_caught_up(metrics: Metrics, name: str) -> list[float]:
    metrics.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                shown = {family.name: family.samples for family in metrics.collect()}
                if values := [sample.value for sample in shown[name] if sample.value == 0]:
                    return values
                await asyncio.sleep(0.01)
    finally:
        await metrics.stop()


def test_a_journal_that_cannot_be_read_is_told_and_breaks_nothing(state_dir: Path):
    with Journal.open(state_dir) as journal:
        metrics = Metrics(journal, registry=CollectorRegistry())
        with sqlite3.connect(state_dir / "journal.db") as other:
            other.execute("ALTER TABLE workers RENAME TO elsewhere")
        other.close()

        metrics.page(is_openmetrics=False)
        shown = {family.name: family.samples for family in metrics.collect()}

    assert next((sample.labels, sample.value) for sample in shown["omnirt_part_up"]) == ({"part": "journal"}, 0)
    assert shown["omnirt_queue_depth"] == []


def test_spans_that_were_not_delivered_are_shown_where_traces_are_exported(state_dir: Path):
    with Journal.open(state_dir) as journal:
        metrics = Metrics(journal, registry=CollectorRegistry())
        silent = [f.samples for f in metrics.collect() if f.name == "omnirt_export_undelivered_spans"]
        metrics.watch_export(lambda: 12)
        told = [f.samples[0].value for f in metrics.collect() if f.name == "omnirt_export_undelivered_spans"]

    assert (silent, told) == ([[]], [12])


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is absent")
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's prometheus is absent")


@needs_promtool
def test_promtool_has_nothing_to_say_about_the_lab_s_series(server: Serving):
    run(server.journal, server.journal.worker(), wish(model=AWKWARD))
    wait_for(lambda: jobs(server, "succeeded", AWKWARD))
    text = server.client.get("/metrics").text
    own = [line for line in text.splitlines() if line.removeprefix("# HELP ").removeprefix("# TYPE ")[:7] == "omnirt_"]

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input="\n".join(own) + "\n", capture_output=True, text=True
    )
    whole = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert [line for line in whole.stderr.splitlines() if "omnirt" in line or "error" in line] == []


@contextmanager
def prometheus(home: Path, server: Serving) -> Iterator[httpx.Client]:
    """A real Prometheus that scrapes the server with its token, and its API."""
    (home / "token").write_text(server.token)
    scrape = {
        "job_name": "omnirt",
        "scrape_interval": "1s",
        "authorization": {"credentials_file": str(home / "token")},
        "static_configs": [{"targets": [server.url.removeprefix("http://")]}],
    }
    (home / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={home / 'prometheus.yml'}",
        f"--storage.tsdb.path={home / 'tsdb'}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
    ]
    with (home / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, env=os.environ | {"GOMAXPROCS": "1"})
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1/", timeout=30) as client:
            yield client
    finally:
        stop(process)


def _asked(api: httpx.Client, path: str, **parameters: object) -> list[dict[str, object]]:
    """What Prometheus answers; nothing while it starts."""
    try:
        response = api.get(path, params=parameters)
    except httpx.TransportError:
        return []
    if response.status_code == 503:
        return []
    data = response.raise_for_status().json()["data"]
    found: list[dict[str, object]] = data["result"] if isinstance(data, dict) else data
    return found


@needs_prometheus
def test_a_real_prometheus_scrapes_counts_and_exemplars(server: Serving, tmp_path: Path):
    run(server.journal, server.journal.worker(), wish(model=AWKWARD))
    wait_for(lambda: jobs(server, "succeeded", AWKWARD))
    job = server.journal.list_jobs(limit=1)[0]
    with prometheus(tmp_path, server) as api:
        succeeded = wait_for(lambda: _asked(api, "query", query='omnirt_jobs_total{state="succeeded"}'))
        up = _asked(api, "query", query='up{job="omnirt"}')
        since = time.time() - 600
        exemplars = wait_for(
            lambda: _asked(api, "query_exemplars", query="omnirt_jobs_total", start=since, end=time.time() + 60)
        )

    assert up[0]["value"][1] == "1"
    assert {row["metric"]["model"]: row["value"][1] for row in succeeded}[AWKWARD] == str(
        int(jobs(server, "succeeded", AWKWARD))
    )
    assert job.trace_id in str(exemplars)
