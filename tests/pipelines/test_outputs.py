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
from omnirt_lab.pipelines.outputs import Outputs, find_outputs, find_warnings, output_metadata, outputs_of
from omnirt_lab.records import GenerateRequest, Inputs
from tests.pipelines import tiny


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
@pytest.mark.parametrize("return_dict", [True, False])
def test_pictures_come_out_the_same_in_whatever_form(sd, output_type, return_dict):
    options = {"output_type": output_type, "return_dict": return_dict, "num_images_per_prompt": 2}

    images = outputs_of(sd(**tiny.call_options("sd", steps=1, **options))).images

    expected = sd(**tiny.call_options("sd", steps=1, output_type="pil", num_images_per_prompt=2)).images
    assert [image.tobytes() for image in images] == [image.tobytes() for image in expected]


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_videos_come_out_the_same_in_whatever_form(output_type):
    wan = tiny.build("wan")
    options = {"num_videos_per_prompt": 2, "steps": 1}

    outputs = outputs_of(wan(**tiny.call_options("wan", **options, output_type=output_type)))

    assert [[frame.size for frame in video] for video in outputs.videos] == [[(32, 32)] * 5] * 2
    assert (outputs.images, outputs.count) == ((), 2)
    expected = outputs_of(wan(**tiny.call_options("wan", **options, output_type="pil"))).videos
    assert [f.tobytes() for video in outputs.videos for f in video] == [f.tobytes() for v in expected for f in v]


@pytest.mark.parametrize("audios", [np.zeros((2, 100)), torch.zeros(2, 2, 100), [np.zeros(100), np.zeros(100)]])
def test_sounds_come_out_as_channels_and_samples(audios):
    sounds = outputs_of({"audios": audios}).sounds

    assert [(sound.dtype, sound.shape[1]) for sound in sounds] == [(np.float32, 100)] * 2
    assert sounds[0].shape[0] == (2 if isinstance(audios, torch.Tensor) else 1)


def test_latents_and_other_outputs_are_none(sd):
    latents = sd(**tiny.call_options("sd", steps=1, output_type="latent"))

    assert find_outputs(latents).count == 0
    assert find_outputs(None) == find_outputs(()) == find_outputs({"images": None}) == Outputs()
    with pytest.raises(PipelineError, match="without pictures"):
        outputs_of(latents)


def test_good_pictures_raise_no_warning(sd):
    output = sd(**tiny.call_options("sd", steps=1))

    assert find_warnings(output, find_outputs(output)) == ()


def test_values_that_are_no_numbers_and_black_pictures_are_told():
    output = StableDiffusionPipelineOutput(images=np.full((1, 8, 8, 3), np.nan), nsfw_content_detected=None)

    warnings = find_warnings(output, find_outputs(output))

    assert [warning.code for warning in warnings] == ["nan_in_picture", "black_picture"]


def test_a_picture_that_the_safety_checker_blackened_is_told_as_that():
    black, white = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "white")
    output = StableDiffusionPipelineOutput(images=[white, black], nsfw_content_detected=[False, True])

    (warning,) = find_warnings(output, find_outputs(output))

    assert warning.code == "withheld_by_safety_checker"
    assert "picture 2" in warning.message


def test_a_black_video_and_a_sound_beyond_full_scale_are_told():
    black = find_outputs({"frames": np.zeros((1, 3, 8, 8, 3))})
    loud = find_outputs({"audios": np.array([[0.5, 1.5, np.nan]])})

    assert [warning.code for warning in find_warnings({}, black)] == ["black_video"]
    assert [warning.code for warning in find_warnings({}, loud)] == ["nan_in_sound", "clipped_sound"]


def test_a_pictures_text_says_how_it_was_made(state_dir: Path):
    request = GenerateRequest(inputs=Inputs(prompt='a "red" circle\n<script> 🎨'))
    with Journal(state_dir) as journal:
        job = journal.enqueue(request)

        facts = json.loads(output_metadata(job, seed=7)[METADATA_KEY])

    assert facts["request"]["inputs"]["prompt"] == request.inputs.prompt
    assert (facts["run_id"], facts["model"], facts["seed"]) == (job.run_id, "tiny-shapes", 7)
    assert facts["packages"]["torch"] == torch.__version__
