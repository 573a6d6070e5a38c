"""Runs side by side, and grids of runs, from made-up events."""

from __future__ import annotations

import io
import json

import plotly.graph_objects as go
import pytest
from PIL import Image

from omnirt_lab.folds.comparison import Side, stage_times, step_times, total_times
from omnirt_lab.folds.grid import Axis, Cell
from omnirt_lab.views import comparison, comparison_figure, comparison_png, sweep, sweep_png
from omnirt_lab.views.difference import difference_png
from tests import sample_events
from tests.sample_events import picture, report_of

EVIL = "<img src=x onerror=alert(1)> $x$\x1b[31m"


def shown(*runs: str, differences: dict[str, tuple[object, ...]] | None = None) -> comparison.Shown:
    sides = tuple(
        Side(label=label, reports=(report_of(sample_events.ALL[run]()),))
        for label, run in zip("ABCDEFGH", runs, strict=False)
    )
    return comparison.Shown(
        sides=sides,
        stages=stage_times(sides),
        total=total_times(sides),
        median_step=step_times(sides),
        differences=differences or {},  # type: ignore[arg-type]
        pictures=tuple((picture(),) for _ in sides),
        picture_lines=(),
    )


@pytest.mark.parametrize("run", sample_events.ALL)
def test_any_two_runs_can_be_shown_side_by_side(run: str):
    both = shown("normal", run)

    figure = go.Figure(comparison_figure.figure_dict(both))
    assert [trace.type for trace in figure.data[:2]] == ["bar", "bar"]
    assert Image.open(io.BytesIO(comparison_png.comparison_png(both))).width == 2 * 760
    assert "denoise" in comparison.comparison_text(both)


def test_eight_runs_fit_the_card():
    assert Image.open(io.BytesIO(comparison_png.comparison_png(shown(*["normal"] * 8), scale=1))).width == 760


def test_values_that_differ_are_shown_and_never_interpreted():
    both = shown("normal", "cached", differences={"request.inputs.prompt": ("a moon", EVIL)})

    text = comparison.comparison_text(both)

    assert "a moon" in text
    assert "\x1b" not in text
    assert comparison_png.comparison_png(both)


def test_a_stage_that_only_one_side_has_is_not_compared():
    both = shown("normal", "cached")
    load = next(times for times in both.stages if times.name == "load")

    assert load.spreads[1] is None
    assert load.change_percent == (None, None)
    assert comparison.change(load, 1) == ""


def test_a_small_difference_of_pictures_is_amplified_and_says_by_how_much():
    made = difference_png(picture(colour="#c23b3b"), picture(colour="#c33b3b"))

    assert made is not None
    assert made.label == "difference x 255"
    assert max(high for _, high in Image.open(io.BytesIO(made.png)).getextrema()) == 255
    same = difference_png(picture(), picture())
    assert same is not None
    assert same.label == "no difference"
    assert difference_png(picture(64), picture(32)) is None


def grid(count: int, *, prompt: str = "a red circle", name: str = "mine") -> sweep.Shown:
    states = ("succeeded", "failed", None)
    cells = tuple(
        Cell(
            values=(EVIL, index),
            run_id=None if state is None else f"{index:016x}",
            state=state,
            duration_ms=None if state is None else 10.0 + index,
            error=f"TypeError: {EVIL}" if state == "failed" else None,
        )
        for index in range(count)
        for state in (states[index % 3],)
    )
    axes = (Axis(name="prompt", values=(EVIL,)), Axis(name="seed", values=tuple(range(count))))
    pictures = tuple(picture() if cell.state == "succeeded" else None for cell in cells[: sweep.MAX_PICTURES])
    return sweep.Shown(name=name, prompt=prompt, axes=axes, cells=cells, saved_ms=None, pictures=pictures)


@pytest.mark.parametrize("count", [1, 3, 10, 11, 25, 1_000])
def test_a_grid_of_any_size_has_a_picture_and_a_table(count: int):
    image = Image.open(io.BytesIO(sweep_png.grid_png(grid(count), scale=1)))

    assert image.width == 760
    assert image.height < 4_000
    text = sweep.sweep_text(grid(count))
    assert "\x1b" not in text
    assert f"{count:,} cell" in text
    assert ("more: to_pandas()" in text) == (count > sweep.MAX_PICTURES)


def test_parallel_coordinates_hold_the_runs_that_succeeded_and_markup_as_text():
    figure = sweep.figure_dict(grid(9, name="<b>$x$"))

    assert figure is not None
    (trace,) = go.Figure(figure).data
    assert [dimension.label for dimension in trace.dimensions] == ["prompt", "seed", "total ms"]
    assert list(trace.dimensions[1]["values"]) == [0, 3, 6]
    assert "&lt;b&gt;" in figure["layout"]["title"]["text"]
    assert "\x1b" not in json.dumps(figure, ensure_ascii=False)


def test_fewer_than_two_runs_make_no_parallel_coordinates():
    assert sweep.figure_dict(grid(2)) is None
