"""The counts over all jobs: the same however they are cut up, never falling, bounded, and the reports' own figures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnirt_lab.folds import report, series
from omnirt_lab.folds.series import Entry, SeriesState
from omnirt_lab.records import (
    AnyEvent,
    CacheHitData,
    DeviceSpan,
    Eviction,
    JobCancelled,
    JobCancelledData,
    JobEnqueued,
    JobFinished,
    JobFinishedData,
    JobStarted,
    JobStartedData,
    MemoryData,
    StageEndData,
    StageErrorData,
    StageStartData,
    WarningData,
)
from omnirt_lab.units import NS_PER_MS
from tests import sample_events
from tests.sample_events import ENVIRONMENT, MS, Tape

SUCCEEDED = ("text2image", "tiny-shapes", "legacy_call", "succeeded")


def entries_of(events: list[AnyEvent], job_id: str = "job-1") -> list[Entry]:
    return [(job_id, event) for event in events]


def counted(events: list[AnyEvent], job_id: str = "job-1", state: SeriesState | None = None) -> SeriesState:
    return series.apply(state or SeriesState(), entries_of(events, job_id))


@st.composite
def interleaved(draw: st.DrawFn) -> list[list[Entry]]:
    """Some of the sample runs at once, each job's events in order, cut into batches."""
    names = draw(st.lists(st.sampled_from(sorted(sample_events.ALL)), min_size=1, max_size=4))
    waiting = [entries_of(sample_events.ALL[name](), f"job-{i}") for i, name in enumerate(names)]
    order = draw(st.permutations([i for i, run in enumerate(waiting) for _ in range(min(len(run), 12))]))
    mixed = [waiting[i].pop(0) for i in order] + [entry for run in waiting for entry in run]
    cuts = sorted(draw(st.lists(st.integers(0, len(mixed)), max_size=6)))
    return [mixed[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(mixed)], strict=True)]


@settings(max_examples=60, deadline=None)
@given(interleaved())
def test_batches_put_away_and_taken_up_in_between_come_to_the_same_as_the_whole(batches: list[list[Entry]]):
    state = SeriesState()
    for batch in batches:
        taken_up = series.decode(series.encode(state))
        assert taken_up == state
        state = series.apply(taken_up, batch)

    assert state == series.apply(SeriesState(), [entry for batch in batches for entry in batch])
    assert state.active == {}


def test_applying_leaves_the_state_that_was_given_as_it_was():
    begun = counted(sample_events.normal()[:30])
    before = series.encode(begun)

    counted(sample_events.normal()[30:], state=begun)

    assert series.encode(begun) == before


def test_no_count_ever_falls():
    state = SeriesState()
    for name, run in sample_events.ALL.items():
        for entry in entries_of(run(), name):
            after = series.apply(state, [entry])
            for table in ("jobs", "stages", "steps", "job_durations", "cache_hits", "cache_requests", "cache_saved_ns"):
                old, new = getattr(state, table), getattr(after, table)
                assert old.keys() <= new.keys()
                assert all(_total(new[key]) >= _total(value) for key, value in old.items())
            assert after.events_dropped >= state.events_dropped
            state = after


def _total(value: object) -> int:
    if isinstance(value, int):
        return value
    return value.value if isinstance(value, series.Count) else sum(value.counts)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("run", "states"),
    [
        ("normal", {"queued", "running", "succeeded"}),
        ("failed", {"queued", "running", "failed"}),
        ("cancelled", {"queued", "running", "cancelled"}),
        ("lost", {"queued", "running", "lost"}),
    ],
)
def test_a_job_counts_once_in_each_state_that_it_reaches(run: str, states: set[str]):
    jobs = counted(sample_events.ALL[run]()).jobs

    assert {labels[3] for labels in jobs} == states
    assert {count.value for count in jobs.values()} == {1}


def test_a_job_that_is_tried_again_runs_once():
    tape = Tape().enqueue().start().stage("denoise", 5.0).start(attempt=2).stage("denoise", 7.0)

    state = counted(tape.add(JobFinishedData()).events)

    assert {count.value for count in state.jobs.values()} == {1}
    assert state.stages["denoise", "tiny-shapes"].sum_ns == 7 * MS


@pytest.mark.parametrize("run", sample_events.ALL.values(), ids=sample_events.ALL.keys())
def test_stage_and_step_times_are_those_of_the_report(run):
    made, state = report.fold(run()), counted(run())

    sums = {f"{stage}_ms": histogram.sum_ns / NS_PER_MS for (stage, _), histogram in state.stages.items()}
    assert sums == pytest.approx(made.timings)
    assert sum(sum(histogram.counts) for histogram in state.steps.values()) == len(made.steps)


def company(*, waits_ms: tuple[float, ...], cancelled: bool = False) -> list[Entry]:
    """Jobs that were queued at different times and share one call, as `SharedWriter` writes their events."""
    tapes = [Tape().enqueue(model="shared") for _ in waits_ms]
    for tape, wait_ms in zip(tapes, waits_ms, strict=True):
        data = JobStartedData(
            worker_id="worker-1",
            execution_mode="legacy_call",
            environment=ENVIRONMENT,
            batch_size=len(tapes),
            batch_group_id="ab" * 8,
        )
        tape.add(data, after_ms=wait_ms).stage("load", 5.0).stage("prepare", 2.0).stage("prepare", 2.0)
        tape.add(StageStartData(), stage="denoise", after_ms=0.1).steps(2, 50.0)
    entries = []
    for index, tape in enumerate(tapes):
        if cancelled and index == 0:
            tape.add(StageErrorData(type="JobCancelledError", message="x"), stage="denoise")
            tape.add(JobCancelledData(reason="requested"))
        else:
            tape.steps(2, 50.0, first=2).add(StageEndData(), stage="denoise")
            tape.stage("export", 4.0 + index).add(JobFinishedData())
        entries += entries_of(tape.events, f"job-{index}")
    turns = {JobEnqueued: 0, JobStarted: 1, JobFinished: 3, JobCancelled: 3}
    return sorted(entries, key=lambda entry: turns.get(type(entry[1]), 2))


def observed(state: SeriesState, stage: str) -> tuple[int, int]:
    """How many there were, and how long together."""
    histogram = state.stages[stage, "shared"]
    return sum(histogram.counts), histogram.sum_ns


def test_what_jobs_did_in_one_call_is_counted_once_and_what_each_did_alone_for_each():
    state = series.apply(SeriesState(), company(waits_ms=(9.0, 3.0, 0.5)))

    assert observed(state, "load") == (1, 5 * MS)
    assert observed(state, "prepare") == (2, 4 * MS), "two stages of one call, though they took as long"
    assert observed(state, "denoise")[0] == 1
    assert sum(state.steps["shared"].counts) == 4
    assert observed(state, "export") == (3, 15 * MS)
    assert observed(state, "queue") == (3, int(12.5 * MS))
    assert sum(state.job_durations["shared"].counts) == 3
    assert state.shared == {}


def test_a_job_that_left_the_call_it_shared_does_not_stand_for_those_that_went_on():
    state = series.apply(SeriesState(), company(waits_ms=(9.0, 3.0, 0.5), cancelled=True))

    assert observed(state, "load") == (1, 5 * MS)
    assert observed(state, "denoise")[0] == 2, "up to where it left, and the whole"
    assert sum(state.steps["shared"].counts) == 4
    assert observed(state, "export")[0] == 2


def test_two_calls_of_the_same_length_are_two():
    first = company(waits_ms=(9.0, 3.0))
    second = [(f"other-{job_id}", event) for job_id, event in first]

    state = series.apply(series.apply(SeriesState(), first), second)

    assert observed(state, "load") == (2, 10 * MS)


def test_times_of_the_device_s_clock_replace_those_of_the_wall():
    tape = Tape().enqueue().start().stage("denoise", 3.0)
    spans = (DeviceSpan(stage="denoise", start_t_ns=0, end_t_ns=800 * MS),)

    state = counted(tape.add(JobFinishedData(device_spans=spans)).events)

    histogram = state.stages["denoise", "tiny-shapes"]
    assert histogram.sum_ns == 800 * MS
    assert histogram.counts[series.STAGE_BOUNDS_S.index(1.0)] == 1


def test_a_bucket_s_bound_is_included_and_its_exemplar_names_the_job():
    state = counted(Tape().enqueue().start().stage("load", 5.0).add(JobFinishedData()).events)

    histogram = state.stages["load", "tiny-shapes"]
    at = series.STAGE_BOUNDS_S.index(0.005)
    exemplar = histogram.exemplars[at]
    assert histogram.counts[at] == 1
    assert exemplar is not None
    assert (exemplar.job_id, exemplar.trace_id, exemplar.value) == ("job-1", "0" * 31 + "1", 0.005)


def test_hits_requests_and_saved_time_are_counted_per_cache_and_a_loss_saves_nothing():
    state = counted(sample_events.cached(), state=counted(sample_events.normal(), "job-0"))
    loss = Tape().enqueue().start().add(CacheHitData(cache_type="text_embedding", saved_ns=-5 * MS))
    state = counted(loss.events, "job-2", state)

    assert state.cache_requests == {"text_embedding": 3, "resident_pipeline": 1}
    assert state.cache_hits == {"text_embedding": 2, "resident_pipeline": 1}
    assert state.cache_saved_ns == {"text_embedding": int(37.4 * MS), "resident_pipeline": 142 * MS}


def test_evictions_and_the_memory_that_they_gave_back_are_counted_and_other_warnings_are_not():
    tape = Tape().enqueue().start().add(WarningData(code="float16_on_cpu", message="slow"))
    for after_bytes in (400, None):
        eviction = Eviction(
            cache_type="resident_pipeline",
            name="sd",
            device="cpu",
            size_bytes=700,
            memory_kind="rss",
            before_bytes=1_000,
            after_bytes=after_bytes,
        )
        tape.add(WarningData(code="pipeline_evicted", message="sd was let go", eviction=eviction))
    state = counted(tape.events)
    (use,) = report.fold(tape.events).cache_details

    assert state.cache_evictions == {"resident_pipeline": 2}
    assert state.cache_freed_bytes == {"resident_pipeline": 600}
    assert (use.cache_type, use.calls, use.evictions, use.freed_bytes) == ("resident_pipeline", 0, 2, 600)


def test_the_memory_peak_is_the_running_jobs_or_else_the_last_one_s():
    def tape(*readings: int) -> Tape:
        made = Tape().enqueue().start()
        for reading in readings:
            made.add(MemoryData(device="cuda:0", kind="cuda_allocator", current_bytes=reading))
        return made

    first = counted(tape(500, 900, 100).add(JobFinishedData()).events, "job-1")
    second = counted(tape(300, 200).events, "job-2", first)

    assert series.peak_bytes(first) == {("cuda_allocator", "cuda:0"): 900}
    assert series.peak_bytes(second) == {("cuda_allocator", "cuda:0"): 300}


def test_a_process_s_resident_memory_is_never_an_accelerator_s():
    tape = Tape().enqueue().start().add(StageStartData(device="cuda:0"), stage="denoise")
    tape.add(StageEndData(peak_bytes=700, memory_kind="rss"), stage="denoise")

    assert series.peak_bytes(counted(tape.events)) == {("rss", "cpu"): 700}


def test_each_device_of_one_run_has_a_peak():
    tape = Tape().enqueue().start()
    tape.add(StageStartData(device="cuda:0"), stage="denoise")
    peaks = StageEndData(peak_bytes=700, memory_kind="cuda_allocator", other_peak_bytes={"cuda:1": 900})
    tape.add(peaks, stage="denoise")

    assert series.peak_bytes(counted(tape.events)) == {
        ("cuda_allocator", "cuda:0"): 700,
        ("cuda_allocator", "cuda:1"): 900,
    }


def test_the_hundred_and_first_model_counts_as_other_and_the_first_keep_their_names():
    state = SeriesState()
    for index in range(150):
        events = Tape().enqueue(model=f"model-{index}").start().add(JobFinishedData()).events
        state = counted(events, f"job-{index}", state)
    state = counted(Tape().enqueue(model="model-7").start().add(JobFinishedData()).events, "again", state)

    succeeded = {labels[1]: count.value for labels, count in state.jobs.items() if labels[3] == "succeeded"}
    assert len(succeeded) == 101
    assert (succeeded["model-7"], succeeded["other"]) == (2, 50)


def test_what_is_kept_of_a_running_job_holds_no_words_of_the_user_and_goes_with_its_end():
    begun = counted(sample_events.normal()[:40])

    assert series.running(begun) == 1
    assert b"circle" not in series.encode(begun)
    assert counted(sample_events.normal()[40:], state=begun).active == {}


def test_a_running_job_s_record_does_not_grow_for_ever():
    begun = counted(sample_events.long_run(series.MAX_TIMINGS + 20)[:-1])

    assert len(begun.active["job-1"].steps) == series.MAX_TIMINGS


def test_events_of_a_job_whose_beginning_is_unknown_are_passed_over():
    assert counted(sample_events.normal()[5:]) == SeriesState()


def test_a_forgotten_job_no_longer_runs_and_its_counts_stay():
    begun = counted(sample_events.normal()[:40])

    after = series.forget(begun, ["job-1"])

    assert series.running(after) == 0
    assert after.jobs == begun.jobs


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x80" * 9, series.encode(SeriesState(format=99))])
def test_a_state_of_another_format_is_not_read_on(content: bytes):
    assert series.decode(content) is None
