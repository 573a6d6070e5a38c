"""The plotly figure is valid, small, and shows the report's figures."""

from __future__ import annotations

import json

import plotly.graph_objects as go
import pytest

from omnirt_lab.folds import report as report_fold
from omnirt_lab.views.plotly import figure_dict
from tests import sample_events
from tests.sample_events import Tape, report_of

every_run = pytest.mark.parametrize("run", sample_events.ALL.values(), ids=sample_events.ALL.keys())


@every_run
def test_plotly_takes_every_figure(run):
    figure = figure_dict(report_of(run()), ["data:image/png;base64,AAAA"])

    go.Figure(figure)
    json.dumps(figure, allow_nan=False)


def test_every_moment_of_a_run_has_a_figure():
    events = sample_events.normal()
    for count in range(1, len(events) + 1, 5):
        go.Figure(figure_dict(report_fold.fold(events[:count])))


def test_bars_are_as_long_as_the_report_s_stages():
    report = report_of(sample_events.normal())
    bars = {trace["name"]: trace for trace in figure_dict(report)["data"] if trace["type"] == "bar"}

    assert bars["denoise"]["x"] == [pytest.approx(report.timings["denoise_ms"] / 1000, abs=1e-6)]
    assert len(bars["steps"]["x"]) == 20
    assert sum(bars["steps"]["x"]) <= bars["denoise"]["x"][0]


def test_steps_share_one_lane_and_memory_the_time_axis():
    figure = figure_dict(report_of(sample_events.normal()))
    curve = figure["data"][-1]

    assert len(figure["layout"]["yaxis"]["categoryarray"]) == 7
    assert curve["yaxis"] == "y2"
    assert "xaxis" not in curve, "it lies on the bars' own axis"
    assert figure["layout"]["xaxis"]["anchor"] == "y2"


def test_a_run_without_memory_figures_has_no_second_panel():
    layout = figure_dict(report_of(sample_events.one_stage()))["layout"]

    assert "yaxis2" not in layout
    assert layout["yaxis"]["domain"] == [0, 1]


def test_what_a_cache_saved_stands_beside_its_bar():
    annotations = figure_dict(report_of(sample_events.cached()))["layout"]["annotations"]

    assert [(note["y"], note["text"]) for note in annotations] == [
        ("text_encoder", "from the text_embedding cache, saved 37.4 ms")
    ]


def test_two_hits_of_a_stage_are_told_together_so_that_their_words_do_not_overlap():
    tape = sample_events.encoded_from_cache(Tape().enqueue().start())
    events = sample_events.finished(sample_events.denoised(sample_events.encoded_from_cache(tape))).events

    (note,) = figure_dict(report_of(events))["layout"]["annotations"]

    assert note["text"] == "2 from the text_embedding cache, saved 74.8 ms"


def test_backgrounds_are_transparent():
    layout = figure_dict(report_of(sample_events.normal()))["layout"]

    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0, 0, 0, 0)"


def test_user_text_is_neither_markup_nor_tex():
    tape = Tape().enqueue('<script>x</script> <a href="javascript:1">$y$</a>', model="<b>m</b>").start()
    text = json.dumps(figure_dict(report_of(tape.stage("<i>s</i>", 5.0).events)))

    assert "<script>" not in text
    assert "<a " not in text
    assert "<b>m" not in text
    assert "<i>" not in text
    assert "$" not in text


def test_pictures_stand_above_the_plot_in_a_row():
    images = figure_dict(report_of(sample_events.normal()), ["data:1", "data:2"])["layout"]["images"]

    assert [image["source"] for image in images] == ["data:1", "data:2"]
    assert images[0]["x"] < images[1]["x"]
    assert all(image["y"] > 1 for image in images)
