from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from omnirt_lab.errors import InvalidRequestError, NotAvailableError, UnknownOptionError, UnsupportedTaskError
from omnirt_lab.pipelines.call_arguments import call_arguments, check_request, seeded_generators
from omnirt_lab.pipelines.catalog import ModelSource, get_model
from omnirt_lab.pipelines.loading import with_task_class
from omnirt_lab.records import Config, GenerateRequest, Inputs
from tests.pipelines import tiny

SHA256 = "0" * 64


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSource]:
    root = tmp_path_factory.mktemp("models")
    for family in ("sd", "flux", "wan"):
        tiny.build(family).save_pretrained(root / family)
    return {family: get_model(str(root / family)) for family in ("sd", "flux", "wan")}


def request(task="text2image", prompt="a red circle", negative_prompt=None, image=None, mask=None, **config):
    inputs = Inputs(prompt=prompt, negative_prompt=negative_prompt, image=image, mask=mask)
    return GenerateRequest(task=task, inputs=inputs, config=Config(**config))


def test_every_word_of_a_request_reaches_the_pipelines_own_name(sd):
    wanted = request(
        negative_prompt="blue", steps=3, guidance_scale=2.5, width=64, height=32, num_images=2, options={"clip_skip": 1}
    )

    arguments = call_arguments(sd, wanted, generators=seeded_generators(7, 2))

    assert [g.initial_seed() for g in arguments.pop("generator")] == [7, 8]
    assert arguments == {
        "prompt": "a red circle",
        "negative_prompt": "blue",
        "num_inference_steps": 3,
        "guidance_scale": 2.5,
        "width": 64,
        "height": 32,
        "num_images_per_prompt": 2,
        "clip_skip": 1,
        "output_type": "pil",
    }


def test_what_a_request_leaves_open_is_left_to_the_pipeline(sd):
    assert call_arguments(sd, request(), generators=()) == {"prompt": "a red circle", "output_type": "pil"}


def test_a_video_pipeline_counts_videos():
    arguments = call_arguments(tiny.build("wan"), request("text2video", num_images=2), generators=())

    assert arguments["num_videos_per_prompt"] == 2


def test_the_arguments_run_on_every_family(family, pipeline):
    sizes = dict(tiny.SIZES[family])
    wanted = request(
        "text2video" if family == "wan" else "text2image",
        steps=1,
        num_images=2,
        height=sizes.pop("height"),
        width=sizes.pop("width"),
        num_frames=sizes.pop("num_frames", None),
        options=sizes,
    )

    output = pipeline(**call_arguments(pipeline, wanted, generators=seeded_generators(7, 2)))

    assert len(tiny.picture_of(output)) == 2


def test_picture_i_of_a_run_is_the_one_of_seed_plus_i(sd):
    options = {"steps": 2, "width": 32, "height": 32}
    both = sd(**call_arguments(sd, request(num_images=2, **options), generators=seeded_generators(7, 2))).images
    second = sd(**call_arguments(sd, request(**options), generators=seeded_generators(8, 1))).images

    difference = np.asarray(both[1], dtype=int) - np.asarray(second[0], dtype=int)
    assert abs(difference).max() <= 1  # never bit-equal by contract: kernels are chosen by shape


def test_pictures_go_in_under_the_pipelines_names(sd):
    from diffusers import StableDiffusionInpaintPipeline

    pipeline = with_task_class(sd, StableDiffusionInpaintPipeline)
    picture = Image.new("RGB", (64, 64))

    arguments = call_arguments(
        pipeline, request("inpaint", image=SHA256, mask=SHA256), generators=(), image=picture, mask=picture
    )

    assert arguments["image"] is arguments["mask_image"] is picture


def test_an_unknown_option_names_the_nearest(sources):
    with pytest.raises(UnknownOptionError, match="'guidance_rescal'") as caught:
        check_request(sources["sd"], request(options={"guidance_rescal": 0.5}))
    assert "'guidance_rescale'" in caught.value.hint

    with pytest.raises(UnknownOptionError) as caught:
        check_request(sources["sd"], request(options={"num_inference_steps": 5}))
    assert "steps=" in caught.value.hint

    with pytest.raises(UnknownOptionError, match="set by the lab"):
        check_request(sources["sd"], request(options={"output_type": "np"}))


def test_what_the_pipeline_does_not_take_is_an_error_and_not_dropped(sources):
    for unknown in ({"strength": 0.5}, {"num_frames": 5}, {"audio_length_s": 2.0}):
        with pytest.raises(UnknownOptionError, match=next(iter(unknown))):
            check_request(sources["sd"], request(**unknown))


def test_a_size_where_the_pipeline_takes_none_is_for_its_picture(sources):
    wanted = request("image2image", image=SHA256, width=64, height=32)

    check_request(sources["sd"], wanted)

    arguments = call_arguments(with_task_class(tiny.build("sd"), StableDiffusionImg2ImgPipeline), wanted, generators=())
    assert "width" not in arguments


def test_a_negative_prompt_that_flux_would_ignore_is_an_error(sources):
    with pytest.raises(InvalidRequestError, match="true_cfg_scale"):
        check_request(sources["flux"], request(negative_prompt="blue"))

    check_request(sources["flux"], request(negative_prompt="blue", options={"true_cfg_scale": 4.0}))


@pytest.mark.parametrize(("task", "family"), [("text2video", "sd"), ("text2image", "wan"), ("edit", "sd")])
def test_a_task_that_the_model_cannot_do_is_unsupported(sources, task, family):
    with pytest.raises(UnsupportedTaskError, match=task):
        check_request(sources[family], request(task, image=SHA256 if task == "edit" else None))


def test_inputs_must_fit_the_task(sources):
    with pytest.raises(InvalidRequestError, match="needs an input image"):
        check_request(sources["sd"], request("image2image"))
    with pytest.raises(InvalidRequestError, match="needs an input mask"):
        check_request(sources["sd"], request("inpaint", image=SHA256))
    with pytest.raises(UnsupportedTaskError, match="takes no input image"):
        check_request(sources["sd"], request(image=SHA256))
    with pytest.raises(InvalidRequestError, match="empty"):
        check_request(sources["sd"], request(prompt=" \n"))


def test_a_size_that_the_model_would_round_is_an_error_with_the_nearest(sources):
    check_request(sources["sd"], request(width=40, height=40))
    with pytest.raises(InvalidRequestError, match="multiples of 16") as caught:
        check_request(sources["wan"], request("text2video", width=40, height=48))
    assert caught.value.hint == "The nearest are 32 and 48."


@pytest.mark.parametrize(("given", "missing"), [("width", "height"), ("height", "width")])
def test_one_side_alone_is_an_error_as_diffusers_would_ignore_it(sources, given: str, missing: str):
    with pytest.raises(InvalidRequestError, match=f"{given} is given without {missing}"):
        check_request(sources["sd"], request(**{given: 128}))


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has it")
def test_a_device_that_is_not_there_is_noticed_before_loading(sources):
    with pytest.raises(NotAvailableError):
        check_request(sources["sd"], request(device="cuda:7"))


def test_checking_reads_no_weights(sources):
    weights = Path(sources["sd"].location) / "unet" / "diffusion_pytorch_model.safetensors"
    accessed_ns = weights.stat().st_atime_ns
    weights.chmod(0)
    try:
        check_request(sources["sd"], request())
    finally:
        weights.chmod(0o600)
    assert weights.stat().st_atime_ns == accessed_ns
