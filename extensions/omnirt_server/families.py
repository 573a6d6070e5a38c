"""The series as Prometheus' families: names, labels, base units."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Final, TypeAlias, get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from omnirt_lab.folds import series
from omnirt_lab.folds.histogram import STAGE_BOUNDS_S, STEP_BOUNDS_S, Exemplar, Histogram
from omnirt_lab.folds.series import SeriesState
from omnirt_lab.records import JobState, Record
from omnirt_lab.units import s_from_ns
from omnirt_server.exposition import Block, BlockFamily

MAX_PRIORITIES: Final = 32
"""Priorities with a series of their own; the API takes fewer."""

STATES: Final[tuple[JobState, ...]] = get_args(JobState)

LabelPairs: TypeAlias = tuple[tuple[str, str], ...]
"""Labels and their values."""

_RSS: Final = "rss"


class Levels(Record, frozen=True, kw_only=True):
    """What stands in the journal at this moment, and is no sum of events."""

    queue_depth: dict[int, int]
    """Priority → jobs that wait."""

    workers: dict[str, int]
    """Kind → live workers."""


class Health(Record, frozen=True, kw_only=True):
    """Whether this server's own parts work."""

    journal: bool
    """The journal could be read."""

    series: bool
    """New events are counted."""


class Blocks:
    """The samples of histograms as they were last shown: at most scrapes, most have not changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, LabelPairs], tuple[Histogram, Block]] = {}

    def family(
        self, name: str, documentation: str, bounds_s: tuple[float, ...], rows: Mapping[LabelPairs, Histogram]
    ) -> Metric:
        """A family of histograms, one for each set of labels."""
        blocks = [self._block(name, labels, bounds_s, histogram) for labels, histogram in rows.items()]
        return BlockFamily(name, documentation, "histogram", blocks)

    def _block(self, name: str, labels: LabelPairs, bounds_s: tuple[float, ...], histogram: Histogram) -> Block:
        known = self._known.get((name, labels))
        if known is not None and known[0] is histogram:
            return known[1]
        block = _block(name, dict(labels), bounds_s, histogram)
        self._known[name, labels] = (histogram, block)
        return block


def counted(state: SeriesState | None, blocks: Blocks) -> Iterator[Metric]:
    """The families of the fold; without a sample while None, because a sum that is not complete would seem to fall."""
    state_or_empty = state or SeriesState()
    yield _jobs(state_or_empty)
    yield from _histograms(state_or_empty, blocks)
    yield from _caches(state_or_empty)
    yield from _memory(state_or_empty)
    running = GaugeMetricFamily("omnirt_jobs_running", "Jobs that a worker has taken and that have not ended.")
    dropped = CounterMetricFamily("omnirt_events_dropped", "Events of ended jobs that the journal could not take.")
    if state is not None:
        running.add_metric([], series.running(state))
        dropped.add_metric([], state.events_dropped)
    yield running
    yield dropped


def present(levels: Levels | None, health: Health) -> Iterator[Metric]:
    """The families of what is so now; levels without a sample where they could not be read."""
    queue = GaugeMetricFamily("omnirt_queue_depth", "Jobs that wait for a worker.", labels=["priority"])
    workers = GaugeMetricFamily("omnirt_workers_live", "Workers whose process lives.", labels=["kind"])
    if levels is not None:
        for priority, jobs in _few(levels.queue_depth):
            queue.add_metric([priority], jobs)
        for kind, count in sorted(levels.workers.items()):
            workers.add_metric([kind], count)
    yield queue
    yield workers
    up = GaugeMetricFamily("omnirt_part_up", "1 while this part of the server does its work.", labels=["part"])
    up.add_metric(["journal"], health.journal)
    up.add_metric(["series"], health.series)
    yield up
    build = GaugeMetricFamily("omnirt_build_info", "1, with the versions.", labels=["version", "python"])
    build.add_metric([version("omnirt-lab"), platform.python_version()], 1)
    yield build


def exported(undelivered_spans: int | None) -> Metric:
    """What the trace export could not deliver; without a sample where nothing is exported."""
    return CounterMetricFamily(
        "omnirt_export_undelivered_spans",
        "Spans that the collector did not take.",
        value=undelivered_spans,
    )


def _jobs(state: SeriesState) -> Metric:
    family = CounterMetricFamily(
        "omnirt_jobs",
        "Jobs, each counted once in every state that it reached.",
        labels=["task", "model", "execution_mode", "state"],
    )
    for task, model, mode in dict.fromkeys(labels[:3] for labels in state.jobs):
        for job_state in STATES:  # those that none has reached too: a rate begins at the first 0 that was seen
            count = state.jobs.get((task, model, mode, job_state))
            exemplar = None if count is None else _exemplar(count.exemplar)
            family.add_metric([task, model, mode, job_state], 0 if count is None else count.value, exemplar=exemplar)
    return family


def _histograms(state: SeriesState, blocks: Blocks) -> Iterator[Metric]:
    yield blocks.family(
        "omnirt_job_duration_seconds",
        "From taken by a worker to the end, of jobs that succeeded.",
        STAGE_BOUNDS_S,
        {(("model", model),): histogram for model, histogram in state.job_durations.items()},
    )
    yield blocks.family(
        "omnirt_stage_duration_seconds",
        "Stages of ended jobs; `queue` is the wait for a worker.",
        STAGE_BOUNDS_S,
        {(("stage", stage), ("model", model)): histogram for (stage, model), histogram in state.stages.items()},
    )
    yield blocks.family(
        "omnirt_step_duration_seconds",
        "Denoising steps of ended jobs.",
        STEP_BOUNDS_S,
        {(("model", model),): histogram for model, histogram in state.steps.items()},
    )


def _caches(state: SeriesState) -> Iterator[Metric]:
    saved_s = {name: s_from_ns(saved_ns) for name, saved_ns in state.cache_saved_ns.items()}
    yield _by_cache("omnirt_cache_hits", "Cached values that stood in for work.", state.cache_hits)
    yield _by_cache("omnirt_cache_requests", "Times that a cache was asked.", state.cache_requests)
    yield _by_cache("omnirt_cache_saved_seconds", "Work that hits stood in for, less what the hits cost.", saved_s)
    yield _by_cache("omnirt_cache_evictions", "Cached values that had to go to make room.", state.cache_evictions)
    yield _by_cache("omnirt_cache_freed_bytes", "Memory that evictions gave back.", state.cache_freed_bytes)


def _by_cache(name: str, documentation: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=["cache_type"])
    for cache_type, value in values.items():
        family.add_metric([cache_type], value)
    return family


def _memory(state: SeriesState) -> Iterator[Metric]:
    vram = GaugeMetricFamily(
        "omnirt_vram_peak_bytes",
        "Highest reading of the accelerator's memory by the jobs that run, or else by the last one that did.",
        labels=["device"],
    )
    process = GaugeMetricFamily(
        "omnirt_process_memory_peak_bytes",
        "Highest resident memory of a worker's process during the jobs that run, or else during the last one.",
    )
    for (kind, device), peak_bytes in series.peak_bytes(state).items():
        if kind == _RSS:
            process.add_metric([], peak_bytes)
        else:
            vram.add_metric([device], peak_bytes)
    yield vram
    yield process


def _block(name: str, labels: dict[str, str], bounds_s: tuple[float, ...], histogram: Histogram) -> Block:
    """The samples of one histogram."""
    samples, up_to = [], 0
    bounds = [*map(floatToGoString, bounds_s), "+Inf"]
    for bound, inside, exemplar in zip(bounds, histogram.counts, histogram.exemplars, strict=True):
        up_to += inside
        shown = None if exemplar is None else _exemplar(exemplar)
        samples.append(Sample(f"{name}_bucket", {"le": bound, **labels}, up_to, None, shown))
    samples.append(Sample(f"{name}_count", labels, up_to))
    samples.append(Sample(f"{name}_sum", labels, s_from_ns(histogram.sum_ns)))
    return Block(samples)


def _exemplar(exemplar: Exemplar) -> PrometheusExemplar:
    labels = {"trace_id": exemplar.trace_id, "job_id": exemplar.job_id}
    return PrometheusExemplar(labels, exemplar.value, exemplar.timestamp_s)


def _few(queue_depth: Mapping[int, int]) -> Iterator[tuple[str, int]]:
    """The highest priorities, and the sum of the others; priority 0 always, so that an empty queue is seen as 0."""
    ordered = sorted(({0: 0} | dict(queue_depth)).items(), reverse=True)
    for priority, jobs in ordered[:MAX_PRIORITIES]:
        yield str(priority), jobs
    if rest := ordered[MAX_PRIORITIES:]:
        yield series.OTHER, sum(jobs for _, jobs in rest)
