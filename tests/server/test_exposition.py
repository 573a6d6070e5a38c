"""The text of a registry is prometheus_client's own, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Metric,
    Summary,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from omnirt_lab.folds import series
from omnirt_server import exposition, families
from omnirt_server.families import Blocks, Health, Levels
from tests import sample_events

AWKWARD = 'a "quoted" \\ back\\nslash\nand a new line'


class Families(Collector):
    def __init__(self, made: Iterable[Metric]) -> None:
        self.made = list(made)

    def collect(self) -> list[Metric]:
        return self.made


def of_the_lab() -> Families:
    state = series.SeriesState()
    for name, run in sample_events.ALL.items():
        state = series.apply(state, [(name, event) for event in run()])
    levels = Levels(queue_depth={0: 3, 7: 1} | {-index: index for index in range(1, 50)}, workers={"kernel": 2})
    present = families.present(levels, Health(journal=True, series=False))
    blocks = Blocks()
    assert list(families.counted(state, blocks)) == list(families.counted(state, blocks))
    return Families([*families.counted(state, blocks), *present, families.exported(None), families.exported(3)])


def of_every_kind() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("counted", AWKWARD, ["label"], registry=registry).labels(AWKWARD).inc(1e9, {"trace_id": AWKWARD})
    Gauge("level", "one", ["b", "a"], registry=registry).labels("x", "y").set(float("nan"))
    Gauge("open_total", "a gauge by a counter's name", registry=registry).set(float("-inf"))
    Gauge("sized", "with a unit", unit="bytes", registry=registry).set(123456789.125)
    histogram = Histogram("took_seconds", "durations", ["label"], registry=registry)
    histogram.labels("a").observe(0.3, {"trace_id": "abc"})
    histogram.labels("b").observe(1e12)
    Summary("weights", "sum and count", registry=registry).observe(2)
    Info("build", "versions", registry=registry).info({"version": AWKWARD})
    Enum("phase", "states", states=["up", "down"], registry=registry).state("down")
    return registry


@pytest.mark.parametrize(
    "registry",
    [of_the_lab(), of_every_kind(), Families([]), Families(REGISTRY.collect())],
    ids=["the lab's", "every kind", "none", "this process's"],
)
def test_what_is_written_is_what_prometheus_client_writes(registry: Collector):
    assert exposition.text(registry) == generate_latest(registry)
    assert exposition.openmetrics(registry) == generate_openmetrics(registry)


def test_a_histogram_that_has_changed_is_written_anew():
    blocks = Blocks()
    state = series.apply(series.SeriesState(), [("first", event) for event in sample_events.normal()])
    before = exposition.openmetrics(Families(families.counted(state, blocks)))
    state = series.apply(state, [("second", event) for event in sample_events.normal()])

    after = exposition.openmetrics(Families(families.counted(state, blocks)))

    assert after == generate_openmetrics(Families(families.counted(state, Blocks())))
    assert after != before
