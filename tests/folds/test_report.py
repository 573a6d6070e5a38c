"""The report says what the events said, at every moment, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirt_lab.folds import report
from omnirt_lab.records import (
    AnyEvent,
    CacheHitData,
    DeviceSpan,
    JobCancelledData,
    JobFinishedData,
    JobStartedData,
    MemoryData,
    RunReport,
    StageEndData,
    StageStartData,
    StepData,
)
from tests import sample_events
from tests.sample_events import MIB, MS, RESOLVED, Tape, report_of

every_run = pytest.mark.parametrize("run", sample_events.ALL.values(), ids=sample_events.ALL.keys())


def test_a_run_s_report_holds_its_request_stages_and_steps():
    made = report_of(sample_events.normal())

    assert made.state == "succeeded"
    assert made.request.inputs.prompt == "a red circle on a blue background"
    assert [stage.name for stage in made.stages] == [
        "load",
        "text_encoder",
        "denoise",
        "vae_decode",
        "postprocess",
        "export",
    ]
    assert [step.index for step in made.steps] == list(range(20))
    assert made.steps_planned == 20
    assert made.pipeline_class == "StableDiffusionPipeline"
    assert made.generators == RESOLVED.generators
    assert len(made.artifacts) == 1


def test_timings_are_the_sums_of_the_stages_of_a_name_and_the_queue():
    made = report_of(sample_events.warned())

    assert made.timings["text_encoder_ms"] == pytest.approx(161.0)
    assert made.timings["queue_ms"] == made.queue_wait_ms == pytest.approx(0.4)
    assert list(made.timings)[:2] == ["queue_ms", "text_encoder_ms"]


def test_a_run_lasts_from_taken_to_its_last_event():
    made = report_of(sample_events.submitted())

    assert made.queue_wait_ms == 2500.0
    assert made.duration_ms == (sample_events.submitted()[-1].t_ns - 2500 * MS) / MS


def test_only_a_submitted_job_shows_its_job_id():
    assert report_of(sample_events.submitted()).job_id == "job-1"
    assert report_of(sample_events.normal()).job_id is None


def test_a_cache_hit_marks_the_stage_that_it_stood_in_for():
    made = report_of(sample_events.cached())
    encoder = made.stages[0]

    assert (encoder.name, encoder.cache_type, encoder.saved_ns) == ("text_encoder", "text_embedding", int(37.4 * MS))
    assert made.cache_hits == ("resident_pipeline", "text_embedding")
    assert {use.cache_type: (use.calls, use.hits, use.saved_ms) for use in made.cache_details} == {
        "resident_pipeline": (1, 1, 142.0),
        "text_embedding": (1, 1, 37.4),
    }


def test_a_miss_is_a_call_without_a_hit():
    made = report_of(sample_events.normal())

    assert made.cache_hits == ()
    assert [(use.calls, use.hits, use.saved_ms) for use in made.cache_details] == [(1, 0, None)]


def test_a_saving_that_was_never_timed_stays_unknown():
    tape = Tape().enqueue().start().add(CacheHitData(cache_type="text_embedding"))

    assert report_of(tape.events).cache_details[0].saved_ms is None


def test_the_memory_peak_is_the_highest_of_samples_and_stage_peaks():
    made = report_of(sample_events.normal())

    assert made.memory.kind == "rss"
    assert made.memory.peak_bytes == {"cpu": 561 * MIB}
    assert made.memory.baseline_bytes == {"cpu": 410 * MIB}
    assert made.memory.samples[0].bytes == 410 * MIB


def test_figures_of_another_kind_are_not_mixed_in():
    tape = Tape().enqueue().start()
    tape.add(MemoryData(device="cuda:0", kind="cuda_allocator", current_bytes=5))
    tape.add(MemoryData(device="cpu", kind="rss", current_bytes=900 * MIB))

    memory = report_of(tape.events).memory

    assert memory.kind == "cuda_allocator"
    assert memory.peak_bytes == {"cuda:0": 5}
    assert [sample.device for sample in memory.samples] == ["cuda:0"]


def test_each_device_has_the_highest_peak_of_any_stage():
    tape = Tape().enqueue().start()
    for first, second in ((5, 70), (6, 60)):
        tape.add(StageStartData(device="cuda:0"), stage="denoise")
        peaks = StageEndData(peak_bytes=first, memory_kind="cuda_allocator", other_peak_bytes={"cuda:1": second})
        tape.add(peaks, stage="denoise")

    memory = report_of(tape.events).memory

    assert memory.kind == "cuda_allocator"
    assert memory.peak_bytes == {"cuda:0": 6, "cuda:1": 70}


def test_a_resident_set_peak_belongs_to_the_host_whatever_the_stage_ran_on():
    tape = Tape().enqueue().start().stage("denoise", 5.0, device="cuda:0", peak_mib=700)

    assert report_of(tape.events).memory.peak_bytes == {"cpu": 700 * MIB}


def test_nothing_measured_is_none_and_empty():
    made = report_of(sample_events.one_stage())

    assert made.memory.kind is None
    assert made.memory.peak_bytes == {}
    assert made.steps_planned is None
    assert made.probe.overhead_ns is None
    assert made.device_placement == {}


def test_placement_names_the_components_that_have_a_device():
    assert report_of(sample_events.normal()).device_placement == {"text_encoder": "cpu", "unet": "cpu", "vae": "cpu"}


def test_device_spans_replace_the_wall_times_of_their_stages_and_steps():
    tape = Tape().enqueue().start()
    tape.add(StageStartData(device="cuda:0"), stage="denoise")
    tape.add(StepData(index=0, start_t_ns=tape.t_ns), stage="denoise", after_ms=1.0)
    tape.add(StageEndData(), stage="denoise")
    tape.stage("vae_decode", 1.0)
    spans = (
        DeviceSpan(stage="denoise", start_t_ns=1 * MS, end_t_ns=41 * MS),
        DeviceSpan(stage="denoise", step=0, start_t_ns=2 * MS, end_t_ns=40 * MS),
    )
    made = report_of(tape.add(JobFinishedData(device_spans=spans)).events)

    assert [(stage.name, stage.clock) for stage in made.stages] == [("denoise", "device"), ("vae_decode", "wall")]
    assert made.timings["denoise_ms"] == 40.0
    assert (made.steps[0].start_t_ns, made.steps[0].end_t_ns, made.steps[0].clock) == (2 * MS, 40 * MS, "device")


def test_a_cached_stage_takes_no_device_span_of_its_name():
    tape = Tape().enqueue().start()
    tape.add(StageStartData(), stage="text_encoder").add(
        CacheHitData(cache_type="text_embedding"), stage="text_encoder"
    )
    tape.add(StageEndData(), stage="text_encoder", after_ms=0.1).stage("text_encoder", 1.0)
    span = DeviceSpan(stage="text_encoder", start_t_ns=5 * MS, end_t_ns=9 * MS)
    made = report_of(tape.add(JobFinishedData(device_spans=(span,))).events)

    assert [stage.clock for stage in made.stages] == ["wall", "device"]


def test_a_failed_run_keeps_its_error_and_what_it_had_done():
    made = report_of(sample_events.failed())

    assert made.state == "failed"
    assert made.error is not None
    assert made.error.stage == "denoise"
    assert made.stages[-1].error == "RuntimeError"
    assert len(made.steps) == 3


def test_a_lost_job_lasts_until_its_worker_s_last_event_and_leaves_its_stage_open():
    made = report_of(sample_events.lost())

    assert made.state == "lost"
    assert made.error is not None
    assert (made.error.type, made.error.stage) == ("JobLostError", "denoise")
    assert made.stages[-1].end_t_ns is None
    assert "denoise_ms" not in made.timings
    assert made.duration_ms is not None
    assert made.duration_ms < 1000.0
    assert made.backend_timeline[0].end_t_ns is None


def test_a_cancelled_run_says_why_and_where():
    made = report_of(sample_events.cancelled())

    assert made.state == "cancelled"
    assert made.error is not None
    assert (made.error.type, made.error.message, made.error.stage) == ("JobCancelledError", "interrupted", "denoise")


def test_a_job_cancelled_in_the_queue_was_never_taken():
    tape = Tape().enqueue(is_async=True).add(JobCancelledData(reason="requested"), after_ms=5.0)
    made = report_of(tape.events)

    assert (made.state, made.queue_wait_ms, made.duration_ms, made.execution_mode) == ("cancelled", None, None, None)
    assert made.backend_timeline == ()


def test_a_second_attempt_begins_afresh_and_the_first_stays_in_the_backend_timeline():
    tape = Tape().enqueue(is_async=True).start().stage("text_encoder", 50.0)
    tape.start(after_ms=900.0, attempt=2).stage("text_encoder", 40.0).add(JobFinishedData())
    made = report_of(tape.events)

    assert made.timings["text_encoder_ms"] == 40.0
    assert [(span.attempt, span.state) for span in made.backend_timeline] == [(1, "lost"), (2, "succeeded")]
    assert made.backend_timeline[0].end_t_ns is None
    assert made.queue_wait_ms == 0.4


def test_stream_events_leave_steps_and_memory_out():
    made = report_of(sample_events.normal())

    assert {mark.event for mark in made.stream_events}.isdisjoint({"step", "memory"})
    assert made.stream_events[0].event == "job_enqueued"
    assert made.stream_events[-1].event == "job_finished"


def test_a_stage_end_whose_start_was_dropped_times_nothing():
    tape = Tape().enqueue().start().add(StageEndData(), stage="vae_decode", after_ms=5.0)

    assert report_of(tape.events).stages == ()


def test_a_gap_in_seq_is_refused_with_both_numbers():
    events = sample_events.normal()

    with pytest.raises(ValueError, match="has seq 4; the next event of this job has seq 3"):
        report_of([*events[:2], *events[3:]])


def test_an_event_after_the_end_is_refused():
    tape = Tape().enqueue().start().add(JobFinishedData()).stage("load", 1.0)

    with pytest.raises(ValueError, match="follows job_finished"):
        report_of(tape.events)


def test_a_job_begins_by_being_enqueued_and_only_once():
    with pytest.raises(ValueError, match="job_enqueued is the first event"):
        report_of(Tape().start().events)
    with pytest.raises(ValueError, match="job_enqueued is the first event"):
        report_of(Tape().enqueue().enqueue().events)


def test_no_events_give_no_report():
    with pytest.raises(ValueError, match="there was no event"):
        report_of([])


@every_run
def test_every_prefix_has_a_report(run: Callable[[], list[AnyEvent]]):
    events = run()
    state = report.initial(job_id="job-1")
    for count, event in enumerate(events, start=1):
        state = report.apply(state, event)
        assert report.to_report(state) == report_of(events[:count])


@every_run
def test_a_report_comes_back_equal_from_json(run: Callable[[], list[AnyEvent]]):
    made = report_of(run())

    assert msgspec.json.decode(msgspec.json.encode(made), type=RunReport) == made


def test_a_field_that_a_newer_version_wrote_is_ignored():
    made = report_of(sample_events.normal())
    written = msgspec.json.decode(msgspec.json.encode(made))
    written["colour_of_the_sky"] = "blue"
    written["stages"][0]["mood"] = 3

    assert msgspec.convert(written, RunReport) == made


def test_an_old_state_stays_valid():
    events = sample_events.normal()
    early = report.initial()
    for event in events[:30]:
        early = report.apply(early, event)
    before = report.to_report(early)
    late = early
    for event in events[30:]:
        late = report.apply(late, event)

    assert report.to_report(early) == before
    assert report.to_report(late) == report.fold(events)


_data = st.one_of(
    st.builds(StageStartData),
    st.builds(StageEndData, peak_bytes=st.none() | st.integers(0, 2**40), memory_kind=st.sampled_from(["rss", "mps"])),
    st.builds(StepData, index=st.integers(0, 50), start_t_ns=st.integers(0, 10**9)),
    st.builds(
        MemoryData,
        device=st.sampled_from(["cpu", "cuda:0"]),
        kind=st.sampled_from(["rss", "cuda_allocator"]),
        current_bytes=st.integers(0, 2**40),
        is_baseline=st.booleans(),
    ),
    st.builds(CacheHitData, cache_type=st.sampled_from(["a", "b"]), saved_ns=st.none() | st.integers(-(10**6), 10**9)),
    st.builds(
        JobStartedData,
        worker_id=st.just("w"),
        execution_mode=st.just("ray"),
        environment=st.just(sample_events.ENVIRONMENT),
    ),
)


@given(st.lists(st.tuples(_data, st.sampled_from([None, "denoise", "vae_decode"]), st.floats(0, 100)), max_size=30))
def test_any_order_of_facts_folds_alike_event_by_event_and_at_once(facts):
    tape = Tape().enqueue()
    for data, stage, after_ms in facts:
        tape.add(data, stage=stage, after_ms=after_ms)
    state = report.initial()
    for event in tape.events:
        state = report.apply(state, event)
        report.to_report(state)
    made = report.to_report(state)

    assert made == report.fold(tape.events)
    assert msgspec.json.decode(msgspec.json.encode(made), type=RunReport) == made
    assert made.timings.keys() <= {"queue_ms", "denoise_ms", "vae_decode_ms"} | {"unnamed_ms"}
    for device, peak in made.memory.peak_bytes.items():
        assert all(sample.bytes <= peak for sample in made.memory.samples if sample.device == device)
