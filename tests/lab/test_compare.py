from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import omnirt_lab
from omnirt_lab import GenerateResult, Lab
from omnirt_lab.errors import InvalidRequestError, RunNotFoundError
from omnirt_lab.views.bundle import PLOTLY_MIME

WEIGHTS = Path(omnirt_lab.__file__).parent / "tiny_shapes" / "weights"
PROMPT = "a red circle on a blue background"


def drawn(lab: Lab, prompt: str = PROMPT, **options: object) -> GenerateResult:
    return lab.generate(prompt, **{"steps": 2, "seed": 1, "progress": False, **options})  # type: ignore[arg-type]


def pixels(result: GenerateResult) -> np.ndarray:
    return np.asarray(result.images[0].convert("RGB")).astype(int)


def test_what_was_asked_differently_is_named_with_each_value(lab: Lab):
    first, other = drawn(lab), drawn(lab, "a green star", steps=3, scheduler="euler", options={"eta": 0.5})

    found = lab.compare(first, other).differences

    assert found["request.inputs.prompt"] == (PROMPT, "a green star")
    assert found["request.config.steps"] == (2, 3)
    assert found["request.config.scheduler"] == (None, "euler")
    assert found["request.config.options.eta"] == (None, 0.5)
    assert found["components.scheduler.class_name"] == ("DDIMScheduler", "EulerDiscreteScheduler")
    assert "request.config.seed" not in found


def test_the_environment_is_compared_too(lab: Lab):
    first = drawn(lab)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        other = drawn(lab)
    finally:
        torch.set_num_threads(threads)

    assert lab.compare(first, other).differences == {"environment.torch_threads": (threads, threads + 1)}


def test_the_same_request_twice_differs_in_nothing_but_times(lab: Lab):
    comparison = lab.compare(drawn(lab), drawn(lab))

    assert comparison.differences == {}
    assert [(p.side, p.max_abs_diff, p.mean_abs_diff) for p in comparison.pictures] == [("B", 0, 0.0)]
    assert "Nothing recorded differs but the times." in str(comparison)
    assert "every pixel is the same" in str(comparison)


def test_stage_times_and_changes_are_those_of_the_reports(lab: Lab):
    drawn(lab)
    first, other = drawn(lab), drawn(lab, steps=4)

    comparison = lab.compare(first.report.run_id, other.report)

    denoise = next(times for times in comparison.stages if times.name == "denoise")
    before, after = first.report.timings["denoise_ms"], other.report.timings["denoise_ms"]
    assert [spread.mean_ms for spread in denoise.spreads if spread] == [before, after]
    assert denoise.change_percent == (None, pytest.approx((after / before - 1) * 100))
    assert [spread.mean_ms for spread in comparison.total.spreads if spread] == [
        first.report.duration_ms,
        other.report.duration_ms,
    ]


def test_repeats_give_mean_and_spread_with_the_run_that_loaded_set_apart(lab: Lab):
    lab.cache.clear()
    first = [drawn(lab) for _ in range(3)]
    other = [drawn(lab, steps=3) for _ in range(2)]

    comparison = lab.compare(first, other)

    warm = [result.report.timings["denoise_ms"] for result in first[1:]]
    denoise = next(times for times in comparison.stages if times.name == "denoise")
    spread = denoise.spreads[0]
    assert spread is not None
    assert (spread.n, spread.min_ms, spread.max_ms) == (2, min(warm), max(warm))
    assert spread.mean_ms == pytest.approx(np.mean(warm))
    assert spread.std_ms == pytest.approx(np.std(warm, ddof=1))
    assert denoise.warm_up_ms == (first[0].report.timings["denoise_ms"], None)
    assert "1 run that loaded the model set apart" in str(comparison)


def test_a_single_run_that_loaded_the_model_is_measured_and_says_so(lab: Lab):
    lab.cache.clear()
    comparison = lab.compare(drawn(lab), drawn(lab))

    assert comparison.total.spreads[0] is not None
    assert comparison.total.warm_up_ms == (None, None)
    assert "the model was loaded in this run" in str(comparison)


def test_pictures_are_compared_pixel_by_pixel_and_not_at_all_where_the_size_differs(lab: Lab):
    first, other, wide = drawn(lab), drawn(lab, seed=2), drawn(lab, width=128, height=64)

    pictures = lab.compare(first, other, wide).pictures

    levels = np.abs(pixels(first) - pixels(other))
    assert [picture.side for picture in pictures] == ["B", "C"]
    assert (pictures[0].max_abs_diff, pictures[0].mean_abs_diff) == (levels.max(), pytest.approx(levels.mean()))
    assert (pictures[1].max_abs_diff, pictures[1].mean_abs_diff) == (None, None)


def test_a_frame_has_one_row_for_each_stage_and_side(lab: Lab):
    drawn(lab)
    first, other = drawn(lab), drawn(lab, steps=3)

    frame = lab.compare(first, other).to_pandas()

    denoise = frame[frame["stage"] == "denoise"].set_index("side")
    assert list(denoise.index) == ["A", "B"]
    assert denoise.loc["B", "mean_ms"] == other.report.timings["denoise_ms"]
    assert denoise["n"].to_list() == [1, 1]
    assert denoise["std_ms"].isna().all()
    assert {"total", "median step"} < set(frame["stage"])


def test_a_cell_shows_plotly_a_picture_and_text_and_no_html(lab: Lab):
    bundle = lab.compare(drawn(lab), drawn(lab, steps=3))._repr_mimebundle_()

    assert set(bundle) == {PLOTLY_MIME, "image/png", "text/plain"}
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).width == 760
    kinds = [trace["type"] for trace in bundle[PLOTLY_MIME]["data"]]
    assert kinds == ["bar", "bar", "scatter", "scatter"]
    assert len(bundle[PLOTLY_MIME]["layout"]["images"]) == 3
    assert len(json.dumps(bundle)) < 100_000


def test_a_prompt_of_markup_is_text_in_the_figure(lab: Lab):
    evil = "<img src=x onerror=alert(1)> $x$\x1b[31m"
    bundle = lab.compare(drawn(lab, evil), drawn(lab))._repr_mimebundle_()

    assert "<img" not in json.dumps(bundle[PLOTLY_MIME]["layout"]["title"])
    assert "\x1b" not in bundle["text/plain"]


def test_runs_of_observed_pipelines_and_failed_ones_are_compared(lab: Lab):
    pipeline = lab.observe(StableDiffusionPipeline.from_pretrained(WEIGHTS, local_files_only=True), name="mine")
    pipeline(PROMPT, num_inference_steps=2)
    observed = lab.last_report()
    with pytest.raises(TypeError):
        pipeline(PROMPT, num_inference_steps="many")
    failed = lab.last_report()

    comparison = lab.compare(observed, failed)

    assert comparison.differences["state"] == ("succeeded", "failed")
    assert comparison.pictures == ()
    assert comparison.to_png()
    assert "failed after" in str(comparison)


def test_what_is_no_run_is_refused_before_anything_is_read(lab: Lab):
    run = drawn(lab)
    with pytest.raises(InvalidRequestError, match="2 to 8 runs; 1 were given"):
        lab.compare(run)
    with pytest.raises(InvalidRequestError, match="9 were given"):
        lab.compare(*[run] * 9)
    with pytest.raises(InvalidRequestError, match="list of repeats is empty"):
        lab.compare(run, [])
    with pytest.raises(InvalidRequestError, match="a int is no run"):
        lab.compare(run, 3)  # type: ignore[arg-type]
    with pytest.raises(RunNotFoundError):
        lab.compare(run, "0123456789")
