"""What a live view shows, from the events that there are so far."""

from __future__ import annotations

import pytest

from omnirt_lab.folds import report
from omnirt_lab.records import AnyEvent, Step
from omnirt_lab.views.live import MAX_BARS, MAX_POINTS, WHOLE, LiveState, live_state, steps_left_ns
from tests import sample_events
from tests.sample_events import MS


def state_of(events: list[AnyEvent], *, now_ns: int | None = None) -> LiveState:
    return live_state(report.fold(events), now_ns=events[-1].t_ns if now_ns is None else now_ns)


def until_step(index: int, events: list[AnyEvent]) -> list[AnyEvent]:
    """The events up to this step's end."""
    at = next(i for i, event in enumerate(events) if isinstance(event, Step) and event.data.index == index)
    return events[: at + 1]


def test_it_says_which_step_it_is_and_how_long_the_others_will_take():
    seen = state_of(until_step(6, sample_events.normal()))

    assert seen.headline == "step 7 of 20"
    assert seen.progress == pytest.approx(0.35)
    assert seen.left == "650 ms left"
    assert [lane.name for lane in seen.lanes] == ["load", "text encoder", "denoise", "steps"]
    assert len(seen.lanes[-1].bars) == 7
    assert seen.lanes[-1].figure == "50.0 ms each"


def test_time_left_is_not_told_from_the_first_step_which_warms_up():
    events = sample_events.normal()

    assert state_of(until_step(0, events)).left is None
    assert steps_left_ns(report.fold(until_step(1, events))) == 18 * 50 * MS


def test_what_runs_grows_up_to_now_though_no_event_says_so():
    events = until_step(3, sample_events.normal())
    before = state_of(events)

    after = state_of(events, now_ns=events[-1].t_ns + 300 * MS)

    (denoise,) = after.lanes[2].bars
    assert denoise.is_open
    assert denoise.end == WHOLE
    assert after.lanes[3].bars[-1].end < before.lanes[3].bars[-1].end == WHOLE


def test_a_job_in_the_queue_says_so_and_has_no_axis():
    seen = state_of(sample_events.submitted()[:1], now_ns=1500 * MS)

    assert (seen.headline, seen.elapsed) == ("waiting in the queue", "1.50 s")
    assert (seen.lanes, seen.ticks, seen.progress) == ((), (), None)


def test_cache_hits_are_told_with_what_they_saved_and_their_stage_is_marked():
    seen = state_of(sample_events.cached())

    assert seen.hits == (
        "resident pipeline cache: 1 hit, saved 142 ms",
        "text embedding cache: 1 hit, saved 37.4 ms",
    )
    assert seen.lanes[0].bars[0].is_cached


@pytest.mark.parametrize("run", [sample_events.failed, sample_events.cancelled])
def test_a_run_that_broke_off_shows_where(run):
    seen = state_of(run(), now_ns=10**12)

    assert seen.headline == seen.state
    assert seen.left is None
    assert seen.lanes[2].bars[0].is_error
    assert max(bar.end for lane in seen.lanes for bar in lane.bars) > 0.9 * WHOLE


def test_a_long_run_is_drawn_with_a_bounded_number_of_bars_and_points():
    seen = state_of(sample_events.long_run(5_000))

    assert len(seen.lanes[3].bars) <= MAX_BARS
    assert seen.lanes[3].bars[0].start < seen.lanes[3].bars[-1].start < seen.lanes[3].bars[-1].end
    assert all(len(curve.points) <= MAX_POINTS + 1 for curve in seen.curves)


def test_the_memory_curve_stands_between_its_lowest_and_its_highest_reading():
    (curve,) = state_of(sample_events.normal()).curves

    assert curve.name == "process memory, cpu"
    assert (curve.low, curve.high) == ("410 MiB", "561 MiB")
    assert all(0 <= x <= WHOLE and 0 <= y <= WHOLE for x, y in curve.points)
    assert [x for x, _ in curve.points] == sorted(x for x, _ in curve.points)


def test_text_of_others_is_made_visible_and_no_longer_than_it_may_be():
    tape = sample_events.begun("a\u202ecircle" + "x" * 1000)
    seen = state_of(tape.events)

    assert "\u202e" not in seen.prompt
    assert len(seen.prompt) < 400


def test_warnings_are_told():
    assert state_of(sample_events.warned()).notes == ("a memory sample came 80 ms late",)
