"""Every execution mode, told apart by nothing but its name: four families, one journal, one server that follows it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import psutil
import pytest
from PIL import Image
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from omnirt_lab import Lab
from omnirt_lab.errors import OutOfMemoryError
from omnirt_lab.folds.attributes import CACHE_SAVED_MS, NODE
from omnirt_lab.lab.jobs import Job
from omnirt_lab.records import AnyEvent, JobStarted, RunReport, decode_event
from omnirt_lab.records.base import JobState
from omnirt_lab.records.trace import Trace
from tests.executors.clusters import directories_of
from tests.executors.processes import child
from tests.executors.reports import of_the_request
from tests.pipelines import tiny
from tests.server.running import wait_for
from tests.server.serving import Serving, running_server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a child takes over pipes, which Windows does not do")

MODES = ("legacy_call", "modular", "subprocess", "ray")
"""The first is what the others are held against."""

FAMILIES: dict[str, dict[str, Any]] = {
    "sdxl": {"guidance_scale": 5.0},
    "sd3": {"guidance_scale": 7.0, "negative_prompt": ""},
    "flux": {"guidance_scale": 3.5},
    "wan": {"guidance_scale": 5.0, "task": "text2video"},
}
"""What makes blocks and pipeline do the same: blocks have defaults of their own, and SD3's guide against a prompt."""

STEPS = 2
DEADLINE_S = 120

GAPS = {"prepare", "postprocess"}
"""What lies between two components: a stage of its own where it is long enough to be worth one."""

EMPTY = {"batch_group_id", "error", "parent_span_id", "result_key", "source_run_id", "warnings"}
"""Fields that no run here fills: it has no company, does not fail, continues nobody's trace, stands for no other run's
result, and warns of nothing."""

OF_MODULAR = {"blocks", "cache_hits"}
"""Fields that `modular` alone fills: it has blocks, and it runs on what `legacy_call` has loaded before."""


class Seen(NamedTuple):
    """One run: its report, and its events as a stream had them while it ran."""

    report: RunReport
    streamed: list[str]

    @property
    def job_id(self) -> str:
        assert self.report.job_id is not None
        return self.report.job_id


Runs = dict[tuple[str, str], Seen]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modes")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Serving]:
    """It has no runner: what it knows of the runs, it has from the journal."""
    with running_server(home / "state", home, "--OmniRTApp.runners=0") as serving:
        yield serving


DRIVER = """
import json
import sys

import omnirt_lab as lab

lab.configure(ray="local", ray_actors=1)
for line in sys.stdin:
    print(lab.submit(**json.loads(line)).id, flush=True)
"""


@pytest.fixture(scope="module")
def driver(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has a cluster of its own, and submits what it reads."""
    environment = {**os.environ, "OMNIRT_STATE_DIR": str(home / "state")}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[Lab]:
    with Lab(home / "state") as opened:
        yield opened


@pytest.fixture(scope="module")
def runs(home: Path, server: Serving, lab: Lab, driver: subprocess.Popen[str]) -> Runs:
    """Each family's run in each mode, all of one seed, queued one after the other and followed on a WebSocket."""
    for family in FAMILIES:
        tiny.build(family).save_pretrained(home / family)
    return {
        (family, mode): _follow(server, _submit(lab, driver, _asked(home, family, mode)))
        for family in FAMILIES
        for mode in MODES
    }


def _asked(home: Path, family: str, mode: str) -> dict[str, Any]:
    given = {"prompt": "a red circle", "model": str(home / family), "execution_mode": mode, "steps": STEPS, "seed": 7}
    return {**given, **tiny.SIZES[family], **FAMILIES[family]}


def _submit(lab: Lab, driver: subprocess.Popen[str], asked: dict[str, Any]) -> Job:
    """In this process, or in that of the cluster."""
    if asked["execution_mode"] != "ray":
        return lab.submit(**asked)
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write(f"{json.dumps(asked)}\n")
    driver.stdin.flush()
    job_id = driver.stdout.readline().strip()
    return Job(lab.journal, job_id, lab.journal.get_job(job_id).run_id)


def _follow(server: Serving, job: Job) -> Seen:
    headers = {"Authorization": f"Bearer {server.token}"}
    patience: dict[str, Any] = {"open_timeout": DEADLINE_S, "ping_timeout": DEADLINE_S}
    with connect(f"{server.ws_url}/v1/jobs/{job.id}/stream", additional_headers=headers, **patience) as socket:
        streamed = [str(message) for message in socket]
    return Seen(job.result(timeout=DEADLINE_S).report, streamed)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def seen(runs: Runs, family: str, mode: str) -> Seen:
    return runs[family, mode]


@pytest.fixture
def classic(runs: Runs, family: str) -> Seen:
    return runs[family, MODES[0]]


def test_the_same_seed_gives_the_same_output(classic: Seen, seen: Seen, mode: str) -> None:
    expected, made = classic.report, seen.report

    assert made.latent_stats is not None
    assert expected.latent_stats is not None
    if mode == "modular":
        assert np.abs(_levels(made) - _levels(expected)).max() <= 1, (
            "1e-6 of the value, before it is rounded to a level"
        )
        assert made.latent_stats.shape[-1] == expected.latent_stats.shape[-1]
        assert made.latent_stats.std == pytest.approx(expected.latent_stats.std, rel=1e-5)
    else:
        assert np.array_equal(_levels(made), _levels(expected))
        assert made.latent_stats == expected.latent_stats
        assert [artifact.raw_sha256 for artifact in made.artifacts] == [a.raw_sha256 for a in expected.artifacts]


def test_the_same_stages_are_named_in_the_same_order(classic: Seen, seen: Seen) -> None:
    assert _stages(seen.report) == _stages(classic.report)
    assert {"load", "denoise", "vae_decode", "export"} < {name for name, _ in _stages(seen.report)}
    assert {stage.name for stage in seen.report.stages} <= {name for name, _ in _stages(classic.report)} | GAPS
    assert [(step.index, step.timestep) for step in seen.report.steps] == [
        (step.index, step.timestep) for step in classic.report.steps
    ]
    assert len(seen.report.steps) == seen.report.steps_planned == STEPS


def test_every_field_of_the_report_is_filled_and_says_the_same_of_the_model(
    classic: Seen, seen: Seen, mode: str
) -> None:
    expected, report = classic.report, seen.report

    empty = {name for name, value in msgspec.to_builtins(report).items() if value in (None, (), {}, "")}
    assert empty - EMPTY == (set() if mode == "modular" else OF_MODULAR)
    assert report.execution_mode == mode
    (span,) = report.backend_timeline
    assert (span.execution_mode, span.attempt, span.state) == (mode, 1, "succeeded")
    assert (span.node is not None) == (mode == "ray"), "a node is a cluster's"
    if mode != "modular":
        assert of_the_request(report) == of_the_request(expected)
    assert report.device_placement == expected.device_placement
    assert report.memory.kind == expected.memory.kind
    assert set(report.memory.peak_bytes) == set(expected.memory.peak_bytes) == set(report.memory.baseline_bytes)
    weights = {name: facts.fingerprint for name, facts in report.components.items() if facts.fingerprint}
    assert weights == {name: facts.fingerprint for name, facts in expected.components.items() if facts.fingerprint}
    assert report.scheduler_config == expected.scheduler_config
    assert report.generators == expected.generators
    assert report.environment == expected.environment
    assert {use.cache_type: use.calls for use in report.cache_details} == {
        use.cache_type: use.calls for use in expected.cache_details
    }


def test_the_journal_has_the_same_events_in_the_same_order(server: Serving, classic: Seen, seen: Seen) -> None:
    events = server.journal.events(seen.job_id)

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert _kinds(events) == _kinds(server.journal.events(classic.job_id))
    times_ns = [event.t_ns for event in events if event.event in ("stage_start", "stage_end", "step")]
    assert times_ns == sorted(times_ns)
    (started,) = [event for event in events if isinstance(event, JobStarted)]
    assert started.data.worker_id == seen.report.worker_id


def test_streams_have_each_event_as_the_journal_has_it(server: Serving, seen: Seen) -> None:
    events = server.journal.events(seen.job_id)

    later = server.client.get(f"/v1/jobs/{seen.job_id}/events").text
    sent = [line.removeprefix("data: ") for line in later.splitlines() if line.startswith("data: ")]

    assert [decode_event(message) for message in seen.streamed] == events, "on a WebSocket, while it ran"
    assert sent == seen.streamed, "as server-sent events, afterwards"


def test_the_trace_has_a_span_for_each_stage_and_step(server: Serving, classic: Seen, seen: Seen, mode: str) -> None:
    expected, trace = _trace(server, classic), _trace(server, seen)

    (root,) = [span for span in trace.spans if span.kind == "job"]
    stages = {span.span_id: span.name for span in trace.spans if span.kind == "stage"}
    steps = [span for span in trace.spans if span.kind == "step"]
    assert list(stages.values()) == ["queue", *(stage.name for stage in seen.report.stages)]
    assert [(stages[str(span.parent_span_id)], span.name) for span in steps] == [
        ("denoise", f"step {index}") for index in range(STEPS)
    ]
    assert all(span.parent_span_id == root.span_id for span in trace.spans if span.kind == "stage")
    assert all(span.end_t_ns is not None and not span.is_error for span in trace.spans)
    assert trace.trace_id == seen.report.trace_id
    assert (NODE in root.attributes) == (mode == "ray"), "a node is a cluster's"
    differs = {CACHE_SAVED_MS, NODE}
    assert set(root.attributes) - differs == set(expected.spans[0].attributes) - differs


def test_metrics_count_each_mode_s_job_in_each_state(server: Serving, runs: Runs, family: str, mode: str) -> None:
    report = runs[family, mode].report

    jobs = {frozenset(sample.labels.items()): sample.value for sample in _families(server)["omnirt_jobs"].samples}

    labels = {"task": report.task, "model": report.model, "execution_mode": mode}
    reached = {state: jobs[frozenset({**labels, "state": state}.items())] for state in get_args(JobState)}
    assert reached == {state: state in ("queued", "running", "succeeded") for state in reached}


def test_metrics_are_the_sums_of_the_reports_of_all_modes(server: Serving, runs: Runs, family: str) -> None:
    reports = [runs[family, mode].report for mode in MODES]

    found = _families(server)

    model = reports[0].model
    durations = _of_model(found["omnirt_stage_duration_seconds"], model)
    expected = Counter(stage.name for report in reports for stage in report.stages) + Counter({"queue": len(MODES)})
    assert {stage: count for (kind, stage), count in durations.items() if kind == "count"} == expected
    sums_ms = {stage: 1_000 * total for (kind, stage), total in durations.items() if kind == "sum"}
    for stage in expected:
        assert sums_ms[stage] == pytest.approx(sum(report.timings.get(f"{stage}_ms", 0.0) for report in reports))
    assert _of_model(found["omnirt_step_duration_seconds"], model)["count", ""] == STEPS * len(MODES)


def test_metrics_count_what_the_caches_of_all_modes_were_asked(server: Serving, runs: Runs) -> None:
    uses = [use for seen in runs.values() for use in seen.report.cache_details]

    found = _families(server)

    for name, field in (("omnirt_cache_requests", "calls"), ("omnirt_cache_hits", "hits")):
        expected: Counter[str] = Counter()
        for use in uses:
            expected[use.cache_type] += getattr(use, field)
        samples = {s.labels["cache_type"]: s.value for s in found[name].samples if s.name.endswith("_total")}
        assert samples == expected


def test_a_child_without_memory_ends_its_run_and_itself(lab: Lab) -> None:
    """The last of this process's tests: the others share the child."""
    asked: dict[str, Any] = {"prompt": "a red circle", "execution_mode": "subprocess", "steps": 1, "progress": False}
    lab.generate(**asked)
    process = child()
    in_use = process.memory_info().vms
    resource.prlimit(process.pid, resource.RLIMIT_AS, (in_use + 2**26, resource.RLIM_INFINITY))

    with pytest.raises(OutOfMemoryError, match="memory") as caught:
        lab.generate(**asked, width=1_024, height=1_024)

    assert "smaller" in caught.value.hint
    report = lab.last_report()
    assert (report.state, report.worker_id) == ("failed", f"{lab.engine.worker.worker_id}/child-{process.pid}")
    assert report.error is not None
    assert report.error.type == "OutOfMemoryError"
    assert not psutil.pid_exists(process.pid)


AGENTS = ("ray::DashboardAg", "ray::RuntimeEnv")
"""Ray's own, as the system shortens their names: they wait a minute for a cluster that may come back, and then end."""


def test_a_driver_that_is_killed_takes_its_cluster_with_it(runs: Runs, driver: subprocess.Popen[str]) -> None:
    started = psutil.Process(driver.pid).children(recursive=True)
    agents = [process for process in started if process.name().startswith(AGENTS)]
    assert [process for process in started if process.name().startswith("ray::Actor")], "it has run jobs"

    driver.kill()

    assert driver.wait() < 0
    assert psutil.wait_procs([one for one in started if one not in agents], timeout=DEADLINE_S)[1] == []
    for agent in agents:
        agent.kill()
    for directory in directories_of(driver.pid):  # nobody is left to remove it
        shutil.rmtree(directory)


def _levels(report: RunReport) -> np.ndarray:
    """The pictures, or each video's frames in a row; int, so that differences have a sign."""
    return np.asarray([np.asarray(Image.open(BytesIO(content)).convert("RGB"), int) for content in report.pictures()])


def _stages(report: RunReport) -> list[tuple[str, str | None]]:
    return [(stage.name, stage.class_name) for stage in report.stages if stage.name not in GAPS]


def _kinds(events: list[AnyEvent]) -> list[tuple[str, str | None]]:
    """Kinds and stages in order, without what is a matter of chance: gaps, and readings by the clock.

    A hit and a miss are one: which of them it is depends on what the process has run before.
    """
    names = {"cache_hit": "cache_asked", "cache_miss": "cache_asked"}
    return [
        (names.get(event.event, event.event), event.stage)
        for event in events
        if event.event != "memory" and event.stage not in GAPS
    ]


def _trace(server: Serving, seen: Seen) -> Trace:
    return msgspec.json.decode(server.client.get(f"/v1/jobs/{seen.job_id}/trace").content, type=Trace)


def _families(server: Serving) -> dict[str, Metric]:
    """What `/metrics` says, once it has counted the last job."""

    def find() -> dict[str, Metric] | None:
        found = {family.name: family for family in text_string_to_metric_families(server.client.get("/metrics").text)}
        samples = found["omnirt_jobs"].samples
        ended = sum(sample.value for sample in samples if sample.labels["state"] == "succeeded")
        return found if ended == len(FAMILIES) * len(MODES) else None

    return wait_for(find, "all jobs are counted")


def _of_model(histogram: Metric, model: str) -> dict[tuple[str, str], float]:
    """Of each stage, or of the steps, how many there were, and how long they took together."""
    return {
        (sample.name.rpartition("_")[2], sample.labels.get("stage", "")): sample.value
        for sample in histogram.samples
        if sample.labels["model"] == model and not sample.name.endswith("_bucket")
    }
