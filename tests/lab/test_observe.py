"""`observe`: a pipeline that the user already has is watched, and otherwise as it was."""

from __future__ import annotations

import copy
import gc
import io
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from omnirt_lab import Lab
from omnirt_lab.errors import InvalidRequestError, RunNotFoundError
from omnirt_lab.records import GeneratorFacts
from tests.pipelines import tiny

FAMILIES = list(tiny.BUILDERS)


def draw(pipeline: DiffusionPipeline, family: str = "sd", **more: Any) -> Any:
    return tiny.picture_of(pipeline(**tiny.call_options(family, **more)))


def raise_at(step: int, error: BaseException) -> Callable[..., dict[str, Any]]:
    """A step callback that raises this very exception."""

    def callback(pipeline: DiffusionPipeline, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if index == step:
            raise error
        return values

    return callback


@pytest.mark.parametrize("family", FAMILIES)
def test_an_observed_call_gives_the_bits_of_an_unobserved_twin(lab: Lab, family: str) -> None:
    bare = draw(tiny.build(family), family)
    pipeline = tiny.build(family)
    original = type(pipeline)

    observed = lab.observe(pipeline, name="mine")

    assert observed is pipeline
    assert isinstance(observed, original)
    assert (type(observed).__name__, type(observed).__module__) == (original.__name__, original.__module__)
    assert np.array_equal(draw(observed, family), bare)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_report_names_every_component_that_ran_and_covers_the_call(lab: Lab, family: str) -> None:
    pipeline = lab.observe(tiny.build(family), name="mine")

    draw(pipeline, family, steps=40)

    report = lab.last_report()
    classes = {stage.name: stage.class_name for stage in report.stages}
    assert {*tiny.ENCODERS[family], "denoise", "vae_decode"} <= set(classes)
    for name in tiny.ENCODERS[family]:
        assert classes[name] == type(pipeline.components[name]).__name__
    assert classes["denoise"] == type(pipeline.components[tiny.DENOISERS[family][0]]).__name__
    assert classes["vae_decode"] == type(pipeline.vae).__name__
    calls = [stage for stage in report.stages if stage.name not in ("queue", "describe", "export")]
    covered_ns = sum(stage.end_t_ns - stage.start_t_ns for stage in calls)
    assert covered_ns >= 0.97 * (calls[-1].end_t_ns - calls[0].start_t_ns)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_report_says_what_the_call_ran_with(lab: Lab, family: str) -> None:
    pipeline = lab.observe(tiny.build(family), name="mine")

    draw(pipeline, family, seed=11, guidance_scale=2.5)

    report = lab.last_report()
    config = report.config_resolved
    assert (report.state, report.model, report.pipeline_class) == ("succeeded", "mine", type(pipeline).__name__)
    assert (config["prompt"], config["num_inference_steps"], config["guidance_scale"]) == ("a red circle", 4, 2.5)
    assert config["output_type"] == "np"
    assert config["return_dict"] is True, "defaults are filled in"
    assert {name: config[name] for name in tiny.SIZES[family]} == tiny.SIZES[family]
    assert (report.request.inputs.prompt, report.request.config.steps) == ("a red circle", 4)
    assert [step.index for step in report.steps] == [0, 1, 2, 3]
    with_weights = {*tiny.ENCODERS[family], *tiny.DENOISERS[family], "vae"}
    assert report.device_placement == dict.fromkeys(with_weights, "cpu")
    assert report.generators == (GeneratorFacts(device="cpu", seed=11),)


def test_without_a_generator_the_report_says_that_it_cannot_be_repeated(lab: Lab) -> None:
    pipeline = lab.observe(tiny.build("sd"))

    draw(pipeline, generator=None)

    assert lab.last_report().generators is None


def test_a_generator_that_was_used_before_is_recorded_with_its_state(lab: Lab) -> None:
    pipeline = lab.observe(tiny.build("sd"))
    generator = torch.Generator("cpu").manual_seed(3)
    torch.randn(1, generator=generator)

    draw(pipeline, generator=generator)

    (facts,) = lab.last_report().generators
    assert facts.seed == 3
    assert facts.state is not None


def test_a_pipeline_without_a_name_goes_by_its_class(lab: Lab) -> None:
    draw(lab.observe(tiny.build("sd")))

    assert lab.last_report().model == "StableDiffusionPipeline"


def test_pictures_are_kept_as_the_caller_got_them(lab: Lab) -> None:
    pipeline = lab.observe(tiny.build("sd"))

    output = pipeline(**tiny.call_options("sd", output_type="pil"))

    report = lab.last_report()
    (artifact,) = report.artifacts
    assert (artifact.media_type, artifact.width_px, artifact.height_px) == ("image/png", 32, 32)
    assert artifact.seed is None, "the generator was the caller's"
    assert lab.journal.artifacts.read(artifact.sha256) == report.pictures()[0]
    assert _pixels(report.pictures()[0]) == output.images[0].tobytes()


def test_pictures_are_not_kept_where_they_are_not_wanted(lab: Lab, state_dir: Path) -> None:
    draw(lab.observe(tiny.build("sd"), keep_pictures=False))

    assert lab.last_report().artifacts == ()
    assert not (state_dir / "artifacts").exists()


@pytest.mark.parametrize("options", [{"return_dict": False}, {"output_type": "latent"}, {"output_type": "pt"}])
def test_whatever_form_of_output_was_asked_for_comes_back_untouched(lab: Lab, options: dict[str, Any]) -> None:
    bare = tiny.build("sd")(**tiny.call_options("sd", **options))

    output = lab.observe(tiny.build("sd"))(**tiny.call_options("sd", **options))

    assert type(output) is type(bare)
    assert np.array_equal(np.asarray(output[0]), np.asarray(bare[0]))
    assert lab.last_report().state == "succeeded"
    assert len(lab.last_report().artifacts) == (0 if options.get("output_type") == "latent" else 1)


def test_unobserve_gives_the_class_back_and_leaves_nothing_behind(lab: Lab) -> None:
    pipeline = tiny.build("sd")
    original = type(pipeline)
    draw(pipeline)
    attributes = vars(pipeline).copy()
    draw(lab.observe(pipeline))

    assert lab.unobserve(pipeline) is pipeline
    lab.unobserve(pipeline)

    assert type(pipeline) is original
    assert list(vars(pipeline)) == list(attributes)
    assert all(vars(pipeline)[name] is attributes[name] for name in ("unet", "vae", "text_encoder", "scheduler"))
    draw(pipeline)
    assert len(lab.history()) == 1


def test_observing_twice_is_observing_once_under_the_latest_name(lab: Lab) -> None:
    pipeline = tiny.build("sd")
    original = type(pipeline)
    lab.observe(lab.observe(pipeline, name="first"), name="second")

    draw(pipeline)

    assert [row.model for row in lab.history()] == ["second"]
    assert type(lab.unobserve(pipeline)) is original


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("error", "state"), [(ValueError("mine"), "failed"), (KeyboardInterrupt(), "cancelled")])
def test_the_very_exception_of_a_step_passes_on_and_the_next_picture_has_the_same_bits(
    lab: Lab, family: str, error: BaseException, state: str
) -> None:
    bare = draw(tiny.build(family), family)
    pipeline = lab.observe(tiny.build(family))

    with pytest.raises(type(error)) as caught:
        draw(pipeline, family, callback_on_step_end=raise_at(3, error))

    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    report = lab.last_report()
    assert report.state == state
    assert [step.index for step in report.steps] == [0, 1, 2]
    assert [stage.error for stage in report.stages if stage.name == "denoise"] == [type(error).__name__]
    assert all(stage.end_t_ns is not None for stage in report.stages)
    assert np.array_equal(draw(pipeline, family), bare)
    assert lab.last_report().state == "succeeded"


def test_a_failed_report_names_the_error_and_its_stage(lab: Lab) -> None:
    pipeline = lab.observe(tiny.build("sd"))

    with pytest.raises(ZeroDivisionError):
        draw(pipeline, callback_on_step_end=raise_at(1, ZeroDivisionError("by zero")))

    error = lab.last_report().error
    assert error is not None
    assert (error.type, error.message, error.stage) == ("ZeroDivisionError", "by zero", "denoise")
    assert "raise error" in str(error.traceback)


def test_a_call_with_wrong_arguments_raises_its_own_error_and_makes_no_run(lab: Lab) -> None:
    with pytest.raises(TypeError) as bare:
        tiny.build("flux")("a red circle", stesp=3)

    with pytest.raises(TypeError) as observed:
        lab.observe(tiny.build("flux"))("a red circle", stesp=3)

    assert str(observed.value) == str(bare.value)
    assert observed.value.__context__ is None, "the lab's own attempt to read them is not the user's concern"
    assert len(lab.history()) == 0


@pytest.mark.parametrize(
    "options",
    [{"num_inference_steps": 2, "height": 63}, {"num_inference_steps": 0}, {"num_images_per_prompt": 100_000_000_000}],
)
def test_a_value_that_the_pipeline_refuses_is_refused_in_its_own_words(lab: Lab, options: dict[str, Any]) -> None:
    with pytest.raises(Exception) as bare:  # whatever the pipeline raises
        draw(tiny.build("sd"), **options)

    with pytest.raises(type(bare.value)) as observed:
        draw(lab.observe(tiny.build("sd")), **options)

    assert str(observed.value) == str(bare.value)
    assert lab.last_report().state == "failed"


def test_a_prompt_that_the_journal_cannot_hold_is_drawn_all_the_same(lab: Lab) -> None:
    class Prompt(str):
        """A prompt of a user's own class."""

    pipeline = lab.observe(tiny.build("sd"))

    assert np.array_equal(draw(pipeline, prompt=Prompt("a red circle")), draw(tiny.build("sd")))
    draw(pipeline, prompt="a circle " * 2_500, guidance_scale=np.float64(2.5))
    with pytest.raises(TypeError, match="TextEncodeInput"):  # the tokenizer's own word for what is no Unicode text
        draw(pipeline, prompt="a lone surrogate \udcff")

    assert [len(row.prompt) for row in lab.history()] == [20_000, len("a red circle")]
    assert lab.last_report().config_resolved["guidance_scale"] == 2.5


def test_a_pipeline_that_nobody_uses_any_more_is_freed(lab: Lab) -> None:
    pipeline = lab.observe(tiny.build("sd"), cache_text_embeddings=True)
    draw(pipeline)
    reference = weakref.ref(pipeline)

    del pipeline
    gc.collect()

    assert reference() is None


def test_a_list_of_prompts_is_one_run_with_a_picture_each(lab: Lab) -> None:
    prompts = ["a red circle", "a blue star"]
    bare = draw(tiny.build("sd"), prompt=prompts)

    assert np.array_equal(draw(lab.observe(tiny.build("sd")), prompt=prompts), bare)

    assert len(lab.last_report().artifacts) == 2
    assert lab.last_report().config_resolved["prompt"] == prompts


def test_embeddings_from_the_cache_are_counted_and_change_no_bit(lab: Lab) -> None:
    bare = draw(tiny.build("sd"))
    lab.cache.clear()
    pipeline = lab.observe(tiny.build("sd"), cache_text_embeddings=True)

    pictures = [draw(pipeline) for _ in range(2)]

    (use,) = lab.last_report().cache_details
    assert lab.last_report().cache_hits == ("text_embedding",)
    assert use.saved_ms is not None
    assert all(np.array_equal(picture, bare) for picture in pictures)


def test_without_being_asked_nothing_is_cached(lab: Lab) -> None:
    pipeline = lab.observe(tiny.build("sd"))

    draw(pipeline)
    draw(pipeline)

    assert lab.last_report().cache_hits == ()


def test_an_observed_pipeline_is_saved_and_loaded_as_what_it_is(lab: Lab, tmp_path: Path) -> None:
    pipeline = lab.observe(tiny.build("sd"))

    pipeline.save_pretrained(tmp_path / "saved")

    loaded = DiffusionPipeline.from_pretrained(tmp_path / "saved")
    assert type(loaded) is StableDiffusionPipeline
    loaded.set_progress_bar_config(disable=True)
    assert np.array_equal(draw(loaded), draw(tiny.build("sd")))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_a_pipeline_made_from_an_observed_one_is_not_observed(lab: Lab) -> None:
    from diffusers import AutoPipelineForImage2Image  # imports one pipeline of each family, some with warnings

    pipeline = lab.observe(tiny.build("sd"))

    other = AutoPipelineForImage2Image.from_pipe(pipeline)
    twin = type(pipeline).from_pipe(pipeline)
    copied = copy.copy(pipeline)

    assert type(other) is StableDiffusionImg2ImgPipeline
    expected = draw(tiny.build("sd"))
    for unobserved in (twin, copied):
        unobserved.set_progress_bar_config(disable=True)
        assert np.array_equal(draw(unobserved), expected)
    assert len(lab.history()) == 0
    draw(pipeline)
    assert len(lab.history()) == 1


def test_an_observed_call_inside_another_on_the_same_parts_is_made_all_the_same(lab: Lab) -> None:
    outer = lab.observe(tiny.build("sd"), name="outer")
    inner = lab.observe(StableDiffusionPipeline.from_pipe(tiny.build("sd"), unet=outer.unet), name="inner")
    inner.set_progress_bar_config(disable=True)
    drawn = []

    def draw_inside(pipeline: DiffusionPipeline, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if index == 1:
            drawn.append(draw(inner))
        return values

    draw(outer, callback_on_step_end=draw_inside)

    assert np.array_equal(drawn[0], draw(tiny.build("sd")))
    assert {row.model: row.state for row in lab.history()}["outer"] == "succeeded"


def test_a_journal_that_was_removed_never_breaks_a_call(lab: Lab, state_dir: Path) -> None:
    bare = draw(tiny.build("sd"))
    pipeline = lab.observe(tiny.build("sd"))
    draw(pipeline)

    shutil.rmtree(state_dir)

    assert np.array_equal(draw(pipeline), bare)


@pytest.mark.parametrize("remains", ["nothing", "a file"])
def test_a_state_directory_that_cannot_be_made_again_never_breaks_a_call(
    lab: Lab, state_dir: Path, remains: str
) -> None:
    bare = draw(tiny.build("sd"))
    pipeline = lab.observe(tiny.build("sd"))
    lab.close()
    shutil.rmtree(state_dir)
    if remains == "a file":
        state_dir.write_text("in the way")

    assert np.array_equal(draw(pipeline), bare)


def test_a_journal_that_is_full_never_breaks_a_call(lab: Lab) -> None:
    bare = draw(tiny.build("sd"))
    pipeline = lab.observe(tiny.build("sd"))
    with lab.journal._database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    assert all(np.array_equal(draw(pipeline), bare) for _ in range(3))


def test_a_closed_lab_opens_again_for_an_observed_call(lab: Lab) -> None:
    pipeline = lab.observe(tiny.build("sd"))
    lab.close()

    draw(pipeline)

    (row,) = lab.history()
    assert row.state == "succeeded"
    assert row.worker_id == lab.engine.worker.worker_id, "its worker lives, or the run would be taken for lost"


@pytest.mark.parametrize("candidate", [None, "tiny-shapes", torch.nn.Linear(1, 1), StableDiffusionPipeline])
def test_what_is_no_pipeline_is_refused(lab: Lab, candidate: Any) -> None:
    with pytest.raises(InvalidRequestError, match="pipeline") as caught:
        lab.observe(candidate)

    assert caught.value.hint


def test_before_the_first_run_there_is_no_last_report(lab: Lab) -> None:
    lab.observe(tiny.build("sd"))

    with pytest.raises(RunNotFoundError, match="empty"):
        lab.last_report()


def _pixels(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).tobytes()
