from __future__ import annotations

import msgspec
import pytest

from omnirt_lab.folds import attributes, trace
from omnirt_lab.records import AnyEvent, ErrorInfo, RunReport
from omnirt_lab.records.trace import Trace, TraceSpan
from omnirt_lab.units import ms_from_ns
from tests.sample_events import ALL, ENQUEUED_AT_MS, MS, failed, long_run, lost, normal, report_of, submitted, warned

JOB = "job-1"


def traced(events: list[AnyEvent]) -> Trace:
    return trace.fold(events, job_id=JOB)


def of_kind(made: Trace, kind: str) -> list[TraceSpan]:
    return [span for span in made.spans if span.kind == kind]


@pytest.mark.parametrize("name", ALL)
def test_every_span_has_an_id_of_its_own_and_a_parent_in_the_trace(name: str):
    made = traced(ALL[name]())

    ids = [span.span_id for span in made.spans]
    assert len(set(ids)) == len(ids)
    assert all(len(span_id) == 16 and int(span_id, 16) for span_id in ids)
    root, *others = made.spans
    assert root.kind == "job"
    assert {span.parent_span_id for span in others} <= set(ids)


@pytest.mark.parametrize("name", ALL)
def test_stage_spans_last_as_long_as_the_report_says(name: str):
    report = report_of(ALL[name]())

    sums_ns: dict[str, int] = {}
    for span in of_kind(trace.of_report(report, job_id=JOB), "stage"):
        if span.end_t_ns is not None:
            sums_ns[f"{span.name}_ms"] = sums_ns.get(f"{span.name}_ms", 0) + span.end_t_ns - span.start_t_ns

    assert {name: ms_from_ns(sum_ns) for name, sum_ns in sums_ns.items()} == pytest.approx(report.timings)


@pytest.mark.parametrize("name", ALL)
def test_the_trace_as_json_reads_back_equal(name: str):
    made = traced(ALL[name]())

    assert msgspec.json.decode(msgspec.json.encode(made), type=Trace) == made


def test_the_trace_id_is_the_reports_and_times_count_from_the_enqueuing():
    report = report_of(submitted())
    made = trace.of_report(report, job_id=JOB)
    queue = made.spans[1]

    assert made.trace_id == report.trace_id
    assert (queue.name, queue.start_t_ns, queue.end_t_ns) == ("queue", 0, 2500 * MS)
    assert made.unix_ns(2500 * MS) == (ENQUEUED_AT_MS + 2500) * MS
    assert made.spans[0].end_t_ns == submitted()[-1].t_ns


def test_the_callers_span_is_the_parent_of_the_root():
    report = msgspec.structs.replace(report_of(normal()), parent_span_id="b7ad6b7169203331")

    assert trace.of_report(report, job_id=JOB).spans[0].parent_span_id == "b7ad6b7169203331"
    assert traced(normal()).spans[0].parent_span_id is None


def test_steps_stand_under_denoise():
    made = traced(normal())
    (denoise,) = [span for span in made.spans if span.name == "denoise"]

    steps = of_kind(made, "step")

    assert len(steps) == 20
    assert {step.parent_span_id for step in steps} == {denoise.span_id}
    assert [step.attributes[attributes.STEP_INDEX] for step in steps] == list(range(20))


def test_steps_of_a_second_denoise_stand_under_that_one():
    report = report_of(normal())
    (denoise,) = [stage for stage in report.stages if stage.name == "denoise"]
    middle_ns = report.steps[10].start_t_ns
    first = msgspec.structs.replace(denoise, end_t_ns=middle_ns)
    second = msgspec.structs.replace(denoise, start_t_ns=middle_ns)
    others = [stage for stage in report.stages if stage.name != "denoise"]

    made = trace.of_report(msgspec.structs.replace(report, stages=(*others, first, second)), job_id=JOB)

    ids = [span.span_id for span in made.spans if span.name == "denoise"]
    assert [step.parent_span_id for step in of_kind(made, "step")] == [ids[0]] * 10 + [ids[1]] * 10


def test_a_long_run_says_how_many_steps_have_no_span():
    made = traced(long_run(2_000))

    (denoise,) = [span for span in made.spans if span.name == "denoise"]
    assert len(of_kind(made, "step")) == trace.MAX_STEPS
    assert made.steps_left_out == 2_000 - trace.MAX_STEPS
    assert denoise.attributes[attributes.STEPS_LEFT_OUT] == made.steps_left_out
    assert made.spans[0].attributes[attributes.STEPS_COUNT] == 2_000


def test_a_failed_job_and_the_stage_that_broke_are_errors_and_no_other():
    made = traced(failed())

    assert [span.name for span in made.spans if span.is_error] == ["generate_content tiny-shapes", "denoise"]
    assert made.spans[0].attributes[attributes.ERROR_TYPE] == "RuntimeError"


def test_a_cancelled_job_is_no_error_but_says_its_state():
    root = traced(ALL["cancelled"]()).spans[0]

    assert not root.is_error
    assert root.attributes[attributes.STATE] == "cancelled"


def test_a_lost_job_ends_with_what_its_worker_last_wrote():
    events = lost()
    root = traced(events).spans[0]

    assert root.is_error
    assert root.end_t_ns == events[-2].t_ns
    assert [span.name for span in traced(events).spans if span.end_t_ns is None] == ["denoise"]


def test_a_running_jobs_trace_is_open_and_keeps_its_ids_until_the_end():
    events = normal()
    whole = {span.span_id: span for span in traced(events).spans}

    for count in range(1, len(events)):
        so_far = traced(events[:count])
        assert so_far.spans[0].end_t_ns is None
        assert {span.span_id for span in so_far.spans} <= whole.keys()
        for span in so_far.spans:
            assert whole[span.span_id].name == span.name
            assert span.end_t_ns in (None, whole[span.span_id].end_t_ns)


def test_two_runs_in_one_callers_trace_have_different_span_ids():
    report = report_of(normal())
    other = msgspec.structs.replace(report, run_id="run-2")

    ids = [{span.span_id for span in trace.of_report(each, job_id=JOB).spans} for each in (report, other)]

    assert ids[0].isdisjoint(ids[1])


def test_prompts_and_messages_are_in_the_trace_only_where_asked_for():
    prompt = "a red circle on a blue background"
    report = msgspec.structs.replace(report_of(failed()), error=ErrorInfo(type="E", message=f"cannot draw {prompt}"))

    assert prompt not in text_of(report, has_texts=False)
    assert text_of(report, has_texts=True).count(prompt) == 3  # as the prompt, and in two spans' messages


def text_of(report: RunReport, *, has_texts: bool) -> str:
    return msgspec.json.encode(trace.of_report(report, job_id=JOB, has_texts=has_texts)).decode()


def test_what_was_not_measured_has_no_attribute():
    known = traced(warned()).spans[0].attributes
    unknown = traced(ALL["one_stage"]()).spans[0].attributes

    assert known[attributes.EVENTS_DROPPED] == 3
    assert attributes.PEAK_BYTES in known
    assert unknown.keys() & {attributes.PEAK_BYTES, attributes.MEMORY_KIND, attributes.CACHE_SAVED_MS} == set()
    assert None not in unknown.values()
