"""A report read as an expert reads it: in order, and from its own figures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from omnirt_lab.folds import report as report_fold
from omnirt_lab.folds.diagnosis import Finding, diagnose
from omnirt_lab.records import AnyEvent, JobFinishedData, LatentStats, RunReport, StageEndData, StageStartData, StepData
from tests import sample_events
from tests.sample_events import MIB, MS, RESOLVED, Tape, report_of

every_run = pytest.mark.parametrize("run", sample_events.ALL.values(), ids=sample_events.ALL.keys())

ORDER = ["error", "timings", "memory", "cache hits", "placement", "batch", "metrics", "trace", "events"]


def found(report: RunReport, code: str) -> Finding:
    return next(finding for finding in diagnose(report) if finding.code == code)


def codes(report: RunReport) -> list[str]:
    return [finding.code for finding in diagnose(report)]


@every_run
def test_findings_stand_in_the_reading_order(run: Callable[[], list[AnyEvent]]):
    topics = [finding.topic for finding in diagnose(report_of(run()))]

    assert topics == sorted(topics, key=ORDER.index)


@every_run
def test_every_prefix_can_be_diagnosed(run: Callable[[], list[AnyEvent]]):
    events = run()
    for count in range(1, len(events) + 1):
        diagnose(report_fold.fold(events[:count]))


def test_a_healthy_run_has_no_problem_and_says_where_its_time_went():
    report = report_of(sample_events.normal())
    denoise = found(report, "denoise_longest")

    assert [finding.code for finding in diagnose(report) if finding.severity == "problem"] == []
    assert denoise.figures["stage_ms"] == report.timings["denoise_ms"]
    assert denoise.figures["share"] == report.timings["denoise_ms"] / report.duration_ms
    assert denoise.figures["steps"] == 20


@pytest.mark.parametrize(("run", "severity"), [("failed", "problem"), ("lost", "problem"), ("cancelled", "info")])
def test_a_run_that_did_not_succeed_names_its_stage_and_how_far_it_came(run: str, severity: str):
    finding = diagnose(report_of(sample_events.ALL[run]()))[0]

    assert (finding.code, finding.severity, finding.figures["stage"]) == (run, severity, "denoise")
    assert finding.figures["steps_planned"] == 20


def test_latents_that_are_not_finite_are_a_problem():
    report = replace(
        report_of(sample_events.normal()),
        latent_stats=LatentStats(shape=(1,), mean=None, std=None, min=None, max=None, nan_count=4096),
    )

    assert found(report, "latents_not_finite").figures == {"nan_count": 4096, "dtypes": "float32"}


def test_a_run_that_mostly_loads_says_so():
    tape = Tape().enqueue().start().stage("load", 900.0).stage("vae_decode", 50.0).add(JobFinishedData())

    assert found(report_of(tape.events), "load_dominates").figures["stage_ms"] == 900.0


def test_a_slow_first_step_and_outliers_are_told_apart():
    tape = Tape().enqueue().start().add(StageStartData(), stage="denoise")
    for index, step_ms in enumerate([200.0, 50.0, 50.0, 150.0, 50.0, 50.0]):
        tape.add(StepData(index=index, start_t_ns=tape.t_ns), stage="denoise", after_ms=step_ms)
    report = report_of(tape.add(StageEndData(), stage="denoise").add(JobFinishedData()).events)

    assert found(report, "slow_first_step").figures == {"first_ms": 200.0, "median_ms": 50.0, "extra_ms": 150.0}
    assert found(report, "step_outliers").figures["worst_step"] == 4


def test_time_outside_every_stage_is_counted():
    tape = Tape().enqueue().start().stage("vae_decode", 50.0, gap_ms=50.0).add(JobFinishedData())

    assert found(report_of(tape.events), "unaccounted_time").figures["rest_ms"] == pytest.approx(50.0)


def test_a_wait_longer_than_the_run_is_named():
    assert found(report_of(sample_events.submitted()), "queue_longer_than_run").figures["queue_wait_ms"] == 2500.0


def test_the_peak_names_its_stage_and_its_growth():
    figures = found(report_of(sample_events.normal()), "memory_peak").figures

    assert figures["stage"] == "vae_decode"
    assert figures["peak_bytes"] == 561 * MIB
    assert figures["growth_bytes"] == (561 - 410) * MIB


def test_a_decoding_peak_that_stands_out_is_advice():
    tape = Tape().enqueue().start().stage("denoise", 50.0, peak_mib=400).stage("vae_decode", 5.0, peak_mib=900)

    assert found(report_of(tape.events), "peak_in_vae_decode").severity == "advice"


def test_a_stage_that_was_open_at_the_end_counts_as_long_as_it_was_seen():
    report = report_of(sample_events.lost())

    assert found(report, "denoise_longest").figures["stage_ms"] > report.timings["load_ms"]


def test_memory_that_was_not_measured_is_said():
    assert "memory_not_measured" in codes(report_of(sample_events.one_stage()))


def test_savings_stand_beside_hits_and_misses():
    assert found(report_of(sample_events.cached()), "cache_saved").figures["saved_ms"] == 142.0
    assert found(report_of(sample_events.normal()), "cache_missed").figures["calls"] == 1


def test_an_encoder_that_ran_twice_without_a_cache_is_named():
    figures = found(report_of(without_caches(sample_events.warned())), "encoder_uncached").figures

    assert figures == {"stage": "text_encoder", "calls": 2, "stage_ms": pytest.approx(161.0)}


def without_caches(events: list[AnyEvent]) -> list[AnyEvent]:
    assert not any(event.event.startswith("cache") for event in events)
    return events


def test_components_on_the_host_beside_an_accelerator_are_named():
    figures = found(report_of(sample_events.warned()), "split_placement").figures

    assert figures["on_host"] == "text_encoder, vae"
    assert figures["devices"] == "cpu, cuda:0"


def test_wall_clock_times_of_an_accelerator_are_pointed_out():
    assert "wall_clock_on_accelerator" in codes(report_of(sample_events.warned()))
    assert "trace" in codes(report_of(sample_events.normal()))


def test_several_pictures_have_a_time_each():
    report = report_of(sample_events.finished(Tape().enqueue().start(resolved=RESOLVED), pictures=4).events)

    assert found(report, "several_pictures").figures["picture_ms"] == report.duration_ms / 4


def test_the_measurement_s_own_cost_and_losses_are_findings():
    report = report_of(sample_events.warned())

    assert found(report, "overhead_high").figures["overhead_ms"] == 60.0
    assert found(report, "events_dropped").severity == "problem"
    assert found(report_of(sample_events.normal()), "overhead").figures["overhead_ms"] == 1.9 * MS / MS
