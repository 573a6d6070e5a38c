from __future__ import annotations

from omnirt_lab.pipelines.call_arguments import check_request
from omnirt_lab.pipelines.call_options import call_options
from omnirt_lab.pipelines.catalog import ModelSource, get_model
from omnirt_lab.records import Config, GenerateRequest, Inputs


def test_a_task_is_offered_the_words_that_its_call_takes_with_the_calls_own_defaults():
    source = get_model("tiny-shapes")

    text, image = call_options(source, "text2image"), call_options(source, "image2image")

    assert {"prompt", "negative_prompt", "steps", "seed", "width", "height", "scheduler"} < text.words
    assert not {"image", "mask"} & text.words
    assert "image" in image.words
    assert not {"mask", "width", "height"} & image.words
    assert text.defaults == {"width": 64, "height": 64, "steps": 50, "guidance_scale": 7.5, "num_images": 1}


def test_every_scheduler_that_is_offered_is_taken():
    source = get_model("tiny-shapes")
    offered = call_options(source, "text2image")

    assert offered.own_scheduler == "DDIMScheduler"
    assert "euler" in offered.schedulers
    assert "flow_euler" not in offered.schedulers
    for name in offered.schedulers:
        check_request(source, GenerateRequest(inputs=Inputs(prompt="a circle"), config=Config(scheduler=name)))


def test_a_negative_prompt_that_the_pipeline_would_ignore_is_not_offered():
    source = ModelSource(
        name="flux",
        location="/nowhere",
        kind="folder",
        pipeline_class="FluxPipeline",
        tasks=("text2image",),
        revision="0",
    )

    offered = call_options(source, "text2image")

    assert "negative_prompt" not in offered.words
    assert (offered.own_scheduler, offered.schedulers) == (None, ())
    assert "scheduler" not in offered.words
