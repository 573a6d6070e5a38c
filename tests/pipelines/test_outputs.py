from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from PIL import Image

from omnirt_lab.errors import PipelineError
from omnirt_lab.journal import METADATA_KEY, Journal
from omnirt_lab.pipelines.outputs import find_images, find_warnings, images_of, picture_metadata
from omnirt_lab.records import GenerateRequest, Inputs
from tests.pipelines import tiny


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
@pytest.mark.parametrize("return_dict", [True, False])
def test_pictures_come_out_the_same_in_whatever_form(sd, output_type, return_dict):
    options = {"output_type": output_type, "return_dict": return_dict, "num_images_per_prompt": 2}

    images = images_of(sd(**tiny.call_options("sd", steps=1, **options)))

    expected = sd(**tiny.call_options("sd", steps=1, output_type="pil", num_images_per_prompt=2)).images
    assert [image.tobytes() for image in images] == [image.tobytes() for image in expected]


@pytest.mark.parametrize("output_type", ["pil", "np"])
def test_the_frames_of_a_video_are_its_pictures(output_type):
    images = images_of(tiny.build("wan")(**tiny.call_options("wan", steps=1, output_type=output_type)))

    assert [image.size for image in images] == [(32, 32)] * 5


def test_latents_and_other_outputs_are_no_pictures(sd):
    latents = sd(**tiny.call_options("sd", steps=1, output_type="latent"))

    assert find_images(latents) == []
    assert find_images(None) == find_images(()) == find_images({"audios": np.zeros((1, 2, 100))}) == []
    with pytest.raises(PipelineError, match="without pictures"):
        images_of(latents)


def test_good_pictures_raise_no_warning(sd):
    output = sd(**tiny.call_options("sd", steps=1))

    assert find_warnings(output, find_images(output)) == ()


def test_values_that_are_no_numbers_and_black_pictures_are_told():
    output = StableDiffusionPipelineOutput(images=np.full((1, 8, 8, 3), np.nan), nsfw_content_detected=None)

    warnings = find_warnings(output, find_images(output))

    assert [warning.code for warning in warnings] == ["nan_in_picture", "black_picture"]


def test_a_picture_that_the_safety_checker_blackened_is_told_as_that():
    black, white = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "white")
    output = StableDiffusionPipelineOutput(images=[white, black], nsfw_content_detected=[False, True])

    (warning,) = find_warnings(output, output.images)

    assert warning.code == "withheld_by_safety_checker"
    assert "picture 2" in warning.message


def test_a_pictures_text_says_how_it_was_made(state_dir: Path):
    request = GenerateRequest(inputs=Inputs(prompt='a "red" circle\n<script> 🎨'))
    with Journal(state_dir) as journal:
        job = journal.enqueue(request)

        facts = json.loads(picture_metadata(job, seed=7)[METADATA_KEY])

    assert facts["request"]["inputs"]["prompt"] == request.inputs.prompt
    assert (facts["run_id"], facts["model"], facts["seed"]) == (job.run_id, "tiny-shapes", 7)
    assert facts["packages"]["torch"] == torch.__version__
