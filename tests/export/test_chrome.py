from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from omnirt_lab.export import chrome
from omnirt_lab.folds import trace
from omnirt_lab.records import AnyEvent
from tests.sample_events import ALL, lost, normal, report_of


def exported(events: list[AnyEvent]) -> dict[str, Any]:
    report = report_of(events)
    document: dict[str, Any] = json.loads(chrome.encode(report, trace.of_report(report, job_id="job-1")))
    return document


@pytest.mark.parametrize("name", ALL)
def test_the_stages_of_the_file_add_up_to_the_reports_timings(name: str):
    report = report_of(ALL[name]())

    sums_ms: defaultdict[str, float] = defaultdict(float)
    for event in exported(ALL[name]())["traceEvents"]:
        if event["ph"] == "X" and event["cat"] == "stage":
            sums_ms[f"{event['name']}_ms"] += event["dur"] / 1000

    assert dict(sums_ms) == pytest.approx(report.timings)


@pytest.mark.parametrize("name", ALL)
def test_the_memory_counters_are_the_reports_samples(name: str):
    report = report_of(ALL[name]())

    counters = [event for event in exported(ALL[name]())["traceEvents"] if event["ph"] == "C"]

    assert [(event["ts"] * 1000, event["args"]["bytes"]) for event in counters] == [
        (pytest.approx(sample.t_ns), sample.bytes) for sample in report.memory.samples
    ]


def test_each_stage_and_the_steps_have_a_lane_with_a_name():
    events = exported(normal())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}

    for event in events:
        if event["ph"] == "X":
            assert names[event["tid"]] == {"job": "job", "step": "steps"}.get(event["cat"], event["name"])
    assert sum(event.get("cat") == "step" for event in events) == 20


def test_an_open_span_begins_and_does_not_end():
    events = exported(lost())["traceEvents"]

    assert [event["name"] for event in events if event["ph"] == "B"] == ["denoise"]


@pytest.mark.parametrize("name", ALL)
def test_spans_of_one_lane_nest_or_follow_each_other(name: str):
    """Perfetto draws nothing sensible otherwise."""
    lanes: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for event in exported(ALL[name]())["traceEvents"]:
        if event["ph"] == "X":
            lanes[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))

    for spans in lanes.values():
        for begin, end in spans:
            for other_begin, other_end in spans:
                assert not begin < other_begin < end - 1e-3 < other_end - 2e-3
