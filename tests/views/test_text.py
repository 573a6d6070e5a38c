"""The text report: what a terminal, a log and a notebook without front end show."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from omnirt_lab.folds import report as report_fold
from omnirt_lab.records import MemoryReport
from omnirt_lab.views import numbers
from omnirt_lab.views.explorer import explorer_page
from omnirt_lab.views.plotly import figure_dict
from omnirt_lab.views.png import report_png
from omnirt_lab.views.tables import columns_of
from omnirt_lab.views.text import report_text
from tests import sample_events
from tests.sample_events import report_of

every_run = pytest.mark.parametrize("run", sample_events.ALL.values(), ids=sample_events.ALL.keys())


def line_of(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(label))


def test_the_head_says_what_ran_how_it_ended_and_how_long_it_took():
    report = report_of(sample_events.normal())
    first, second, third, *_ = report_text(report).splitlines()

    assert first == f"tiny-shapes · text2image · succeeded in {numbers.duration(report.duration_ms)}"
    assert second == "“a red circle on a blue background”"
    assert third == f"20 steps · guidance 5 · {numbers.sides(64, 64)} · seed 7 · DDIMScheduler"


def test_every_stage_stands_with_the_report_s_own_time():
    report = report_of(sample_events.normal())
    text = report_text(report)

    for name in ("load", "text_encoder", "denoise", "vae_decode", "postprocess", "export"):
        assert numbers.duration(report.timings[f"{name}_ms"]) in line_of(text, name)


def test_steps_stand_in_one_line():
    line = line_of(report_text(report_of(sample_events.normal())), "steps")

    assert line.endswith("20 steps: median 50.0 ms, min 48.0 ms, max 56.0 ms")


def test_bars_lie_one_after_the_other():
    lines = report_text(report_of(sample_events.normal())).splitlines()
    starts = [line.index("█") for line in lines if "█" in line]

    assert starts == sorted(starts)


def test_a_cached_stage_says_what_it_saved():
    text = report_text(report_of(sample_events.cached()))

    assert "└ from the text_embedding cache, saved 37.4 ms" in text
    assert line_of(text, "caches") == "caches    resident_pipeline: 1 of 1 hit, saved 142 ms"


def test_memory_says_what_it_counts():
    line = line_of(report_text(report_of(sample_events.normal())), "memory")

    assert line == "memory    peak 561 MiB on cpu (process memory), 151 MiB above its start"


def test_memory_of_another_process_is_called_that_process_s_in_every_view():
    here = report_of(sample_events.normal())
    report = replace(here, execution_mode="subprocess", worker_id="worker-1/child-4242")

    assert "process memory of child-4242" in line_of(report_text(report), "memory")
    assert "process memory of child-4242" in str(figure_dict(report))
    assert "process memory of child-4242" in str(explorer_page(report))
    assert report_png(report, ()) != report_png(here, ())


def test_each_device_has_a_peak_of_its_own():
    memory = MemoryReport(kind="cuda_allocator", peak_bytes={"cuda:0": 2**30, "cuda:1": 2**31})
    text = report_text(replace(report_of(sample_events.normal()), memory=memory))

    assert "peak 1.00 GiB on cuda:0 (CUDA allocator)" in text
    assert "peak 2.00 GiB on cuda:1 (CUDA allocator)" in text


def test_an_error_stands_with_its_stage_and_hint():
    text = report_text(report_of(sample_events.failed()))

    assert line_of(text, "error").startswith("error     RuntimeError in denoise: The size of tensor a (77)")
    assert (
        line_of(text, "hint")
        == "hint      check cross_attention_dim of the UNet against the text encoder's hidden size"
    )
    assert "└ ended by RuntimeError" in text
    assert "3 of 20 steps" in text


def test_a_lost_run_says_that_its_stage_has_not_ended():
    text = report_text(report_of(sample_events.lost()))

    assert "lost after 689 ms" in text
    assert "└ has not ended" in text


def test_the_measurement_s_own_cost_and_losses_are_in_the_report():
    text = report_text(report_of(sample_events.warned()))

    assert line_of(text, "probe") == "probe     cost of measuring: 60.0 ms (5.8 %), wall clock, 3 events dropped"


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("<script>alert('x')</script>", "<script>alert('x')</script>"),
        ("one\ntwo\r\n\x1b[2Jthree", r"one\ntwo\r\n\x1b[2Jthree"),
        ('quotes " and emoji 🎨', 'quotes " and emoji 🎨'),
    ],
)
def test_a_prompt_is_text_whatever_stands_in_it(prompt: str, shown: str):
    text = report_text(report_of(sample_events.finished(sample_events.Tape().enqueue(prompt).start()).events))

    assert f"“{shown}”" in text
    assert "\x1b" not in text


def test_a_very_long_prompt_is_cut_and_counted():
    text = report_text(report_of(sample_events.Tape().enqueue("circle " * 2_000).start().events))

    assert "characters)" in text
    assert len(text) < 2_000


@every_run
@pytest.mark.parametrize("width", [60, 88, 120])
def test_no_line_is_longer_than_asked(run, width: int):
    assert max(map(columns_of, report_text(report_of(run()), width=width).splitlines())) <= width


@every_run
def test_a_run_can_be_shown_at_every_moment(run):
    events = run()
    for count in range(1, len(events) + 1, 3):
        report_text(report_fold.fold(events[:count]))
