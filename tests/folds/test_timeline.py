"""The timeline puts a run's stages, steps and memory on one axis."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from omnirt_lab.folds import timeline
from omnirt_lab.records import AnyEvent
from tests import sample_events
from tests.sample_events import MIB, MS, report_of

every_run = pytest.mark.parametrize("run", sample_events.ALL.values(), ids=sample_events.ALL.keys())


def test_lanes_stand_in_the_order_of_their_first_start_with_the_steps_under_denoise():
    made = timeline.fold(sample_events.normal())

    assert [lane.name for lane in made.lanes] == [
        "load",
        "text_encoder",
        "denoise",
        "steps",
        "vae_decode",
        "postprocess",
        "export",
    ]


def test_stages_of_one_name_share_a_lane_and_all_steps_share_one():
    made = timeline.fold(sample_events.warned())
    count_of = {lane.name: len(lane.spans) for lane in made.lanes}

    assert count_of["text_encoder"] == 2
    assert count_of["steps"] == 60
    assert [lane.name for lane in made.lanes if lane.is_steps] == ["steps"]


def test_the_axis_begins_where_a_worker_took_the_job():
    made = timeline.fold(sample_events.submitted())

    assert made.zero_t_ns == 2500 * MS
    assert made.lanes[0].spans[0].start_ns < 1 * MS


def test_a_cached_stage_carries_what_it_saved():
    made = timeline.fold(sample_events.cached())
    span = made.lanes[0].spans[0]

    assert (span.cache_type, span.saved_ns) == ("text_embedding", int(37.4 * MS))


def test_an_open_stage_reaches_to_the_end_and_says_that_it_is_open():
    made = timeline.fold(sample_events.lost())
    denoise = next(lane for lane in made.lanes if lane.name == "denoise")

    assert denoise.spans[0].is_open
    assert denoise.spans[0].end_ns == made.total_ns
    assert made.total_ns < 1000 * MS


def test_memory_lies_on_the_same_axis():
    made = timeline.fold(sample_events.normal())
    curve = made.curves[0]

    assert curve.device == "cpu"
    assert curve.peak_bytes == 561 * MIB
    assert len(curve.t_ns) == len(curve.bytes)
    assert curve.t_ns[-1] <= made.total_ns


@every_run
def test_every_span_lies_on_the_axis_and_the_total_is_the_report_s(run: Callable[[], list[AnyEvent]]):
    report = report_of(run())
    made = timeline.of_report(report)

    assert made.total_ns / MS == pytest.approx(report.duration_ms)
    for lane in made.lanes:
        assert all(0 <= span.start_ns <= span.end_ns <= made.total_ns for span in lane.spans)


@every_run
def test_every_prefix_has_a_timeline(run: Callable[[], list[AnyEvent]]):
    events = run()
    for count in range(1, len(events) + 1):
        timeline.fold(events[:count])


def test_a_job_in_the_queue_has_an_empty_timeline():
    made = timeline.fold(sample_events.normal()[:1])

    assert made == timeline.Timeline(zero_t_ns=0, total_ns=0)
