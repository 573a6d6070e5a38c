"""Tasks beyond text2image: the built-in model's, and those of tiny pipelines of other families."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from diffusers import DiffusionPipeline
from PIL import Image

from omnirt_lab import Lab
from omnirt_lab.errors import ArtifactNotFoundError, InvalidRequestError
from omnirt_lab.journal import read_png_metadata
from omnirt_lab.tiny_shapes.verifier import read_picture
from tests.pipelines import tiny, tiny_tasks

SQUARE = "a green square on a white background"
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    builders = {
        "wan": tiny.build_wan,
        "wan_i2v": tiny_tasks.build_wan_i2v,
        "audio": tiny_tasks.build_stable_audio,
        "pix2pix": tiny_tasks.build_pix2pix,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Oobleck's weight norm is torch's former one
        for name, build in builders.items():
            build().save_pretrained(root / name)
    return {name: str(root / name) for name in builders}


@pytest.fixture(scope="module")
def square() -> Image.Image:
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste((40, 160, 70), (16, 16, 48, 48))
    return picture


def _levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), int)


def test_image2image_draws_the_prompt_over_the_picture(lab: Lab, square: Image.Image) -> None:
    weak, strong = (
        lab.generate(
            "a red circle on a blue background",
            task="image2image", image=square, strength=strength, steps=20, seed=1, progress=False,
        )
        for strength in (0.1, 0.9)
    )  # fmt: skip

    changes = [np.abs(_levels(result.images[0]) - _levels(square)).mean() for result in (weak, strong)]
    assert changes[0] < changes[1] / 3
    seen = read_picture(strong.images[0])
    assert (seen.colour, seen.shape, seen.background) == ("red", "circle", "blue")
    assert (len(weak.report.steps), len(strong.report.steps)) == (2, 18)
    assert "vae_encode_ms" in strong.report.timings
    assert strong.report.pipeline_class == "StableDiffusionImg2ImgPipeline"


def test_inpaint_changes_the_white_of_the_mask_and_leaves_the_rest(lab: Lab, square: Image.Image) -> None:
    mask = np.zeros((64, 64), bool)
    mask[:, 32:] = True

    result = lab.generate(
        "a red circle on a white background", task="inpaint", image=square, mask=mask, steps=20, seed=1, progress=False
    )

    before, after = _levels(square), _levels(result.images[0])
    change = np.abs(before - after).mean(axis=(0, 2))
    assert change[:28].mean() < 10, "but for the VAE, which loses a little"
    assert change[36:].mean() > 3 * change[:28].mean()
    assert after[24:40, 36:44].mean(axis=(0, 1))[0] > 120, "the right half of the square is red now"


def test_without_a_task_a_picture_means_image2image_and_with_a_mask_inpaint(lab: Lab, square: Image.Image) -> None:
    quick = {"image": square, "steps": 2, "progress": False}

    with_picture = lab.generate(SQUARE, **quick).report
    with_mask = lab.generate(SQUARE, **quick, mask=np.ones((64, 64), bool)).report

    assert (with_picture.task, with_mask.task) == ("image2image", "inpaint")


def test_three_tasks_of_one_model_share_its_weights_and_load_once(lab: Lab, square: Image.Image) -> None:
    lab.cache.clear()
    before = lab.cache.stats()["resident_pipeline"]
    lab.generate(SQUARE, steps=1, progress=False)
    lab.generate(SQUARE, task="image2image", image=square, steps=2, progress=False)
    lab.generate(SQUARE, task="inpaint", image=square, mask=np.ones((64, 64), bool), steps=2, progress=False)

    after = lab.cache.stats()["resident_pipeline"]
    assert after["misses"] - before["misses"] == 1
    assert after["hits"] - before["hits"] == 2


def test_a_picture_that_the_model_cannot_hold_is_scaled_and_that_is_said(lab: Lab) -> None:
    odd = Image.new("RGB", (100, 70), "green")
    quick = {"task": "image2image", "image": odd, "steps": 2, "seed": 1, "progress": False}

    fitted = lab.generate(SQUARE, **quick)
    asked = lab.generate(SQUARE, **quick, width=64, height=32)

    assert fitted.images[0].size == (96, 64)
    assert [warning.code for warning in fitted.report.warnings] == ["input_scaled"]
    assert "100 x 70" in fitted.report.warnings[0].message
    assert (asked.images[0].size, asked.report.warnings) == ((64, 32), ())


def test_inpaint_works_in_the_size_of_its_picture(lab: Lab) -> None:
    result = lab.generate(
        SQUARE, task="inpaint", image=NOISE, mask=np.ones((32, 64), bool), steps=2, seed=1, progress=False
    )

    assert result.images[0].size == (64, 32)


def test_a_replay_begins_with_the_recorded_picture(lab: Lab, square: Image.Image) -> None:
    first = lab.generate(SQUARE, task="image2image", image=square, strength=0.5, steps=4, progress=False)

    replay = lab.replay(first.report.run_id, progress=False)

    assert replay.verdict == "bit_exact"
    request = replay.result.report.request
    assert request.inputs.image == first.report.request.inputs.image
    assert request.config.strength == 0.5
    stored = Image.open(io.BytesIO(lab.journal.artifacts.read(request.inputs.image)))
    assert stored.tobytes() == square.tobytes()


def test_a_replay_whose_picture_is_gone_says_so_and_runs_nothing(lab: Lab, square: Image.Image) -> None:
    first = lab.generate(SQUARE, task="image2image", image=square, steps=2, progress=False)
    lab.journal.artifacts.remove([first.report.request.inputs.image])

    with pytest.raises(ArtifactNotFoundError):
        lab.replay(first.report, progress=False)

    assert len(lab.history()) == 1


def test_a_purge_keeps_a_picture_that_a_waiting_job_begins_with(lab: Lab, square: Image.Image) -> None:
    first = lab.generate(SQUARE, task="image2image", image=square, steps=2, progress=False)
    waiting = lab.journal.enqueue(first.report.request)

    lab.journal.purge([first.report.run_id])

    assert lab.journal.artifacts.read(waiting.request.inputs.image)
    lab.journal.request_cancel(waiting.job_id)


def test_a_sweep_takes_pictures_as_an_axis(lab: Lab, square: Image.Image) -> None:
    sweep = lab.sweep(SQUARE, task="image2image", image=[square, NOISE], steps=2, progress=False)

    sizes = [result.images[0].size for result in sweep.results if result is not None]
    assert sizes == [(64, 64), (64, 32)]


def test_an_instruction_edits_a_picture(lab: Lab, models: dict[str, str]) -> None:
    result = lab.generate(
        "make it red", model=models["pix2pix"], task="edit", image=NOISE, steps=2, seed=1, progress=False,
        image_guidance_scale=2.0,
    )  # fmt: skip

    assert result.images[0].size == (64, 32)
    assert result.report.pipeline_class == "StableDiffusionInstructPix2PixPipeline"
    assert result.report.config_resolved["image_guidance_scale"] == 2.0


def test_a_prompt_becomes_a_video(lab: Lab, models: dict[str, str], tmp_path: Path) -> None:
    result = lab.generate(
        "a red circle", model=models["wan"], task="text2video", width=32, height=32, num_frames=9, fps=8, steps=2,
        num_images=2, seed=3, max_sequence_length=16, progress=False,
    )  # fmt: skip

    first, second = result.outputs
    assert (first.media_type, first.width_px, first.frame_count, first.fps) == ("video/mp4", 32, 9, 8)
    assert (first.duration_s, first.seed, second.seed) == (9 / 8, 3, 4)
    assert [video.shape for video in result.videos] == [(9, 32, 32, 3)] * 2
    assert result.videos[0].dtype == np.uint8
    assert (result.images, result.audio) == ([], [])
    assert result.report.config_resolved["fps"] == 8
    assert "9 frames at 8 a second" in result.report.to_text()
    strips = [Image.open(io.BytesIO(content)) for content in result.report.pictures()]
    assert [strip.width > 2 * 32 for strip in strips] == [True, True]
    assert json.loads(read_png_metadata(result.report.pictures()[0])["omnirt"])["seed"] == 3
    assert set(result._repr_mimebundle_()) == {"application/vnd.plotly.v1+json", "image/png", "text/plain"}
    page = result.report.to_html()
    assert (page.count("data:image/png"), page.count('<video controls src="data:video/mp4')) == (2, 2)
    assert next(iter(lab.history())).artifact_sha256 == first.preview_sha256


def test_a_video_is_replayed_bit_for_bit(lab: Lab, models: dict[str, str]) -> None:
    first = lab.generate(
        "a red circle", model=models["wan"], task="text2video", width=32, height=32, num_frames=5, steps=1,
        max_sequence_length=16, progress=False,
    )  # fmt: skip

    replay = lab.replay(first.report, progress=False)

    assert (replay.verdict, replay.max_abs_diff) == ("bit_exact", 0)
    assert replay.result.outputs[0].fps == 16, "Wan's own rate"
    assert replay.result.outputs[0].raw_sha256 == first.outputs[0].raw_sha256


def test_a_number_of_frames_that_the_model_cannot_make_is_an_error_with_the_nearest(
    lab: Lab, models: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequestError, match="num_frames is 7") as caught:
        lab.generate("a red circle", model=models["wan"], task="text2video", num_frames=7, progress=False)

    assert "5 and 9" in caught.value.hint


def test_a_picture_becomes_a_video_of_its_shape(lab: Lab, models: dict[str, str]) -> None:
    result = lab.generate(
        "it moves", model=models["wan_i2v"], task="image2video", image=NOISE, num_frames=5, steps=1, seed=1,
        max_sequence_length=16, progress=False,
    )  # fmt: skip

    assert result.videos[0].shape == (5, 32, 64, 3)
    assert "vae_encode_ms" in result.report.timings


def test_a_prompt_becomes_sounds(lab: Lab, models: dict[str, str]) -> None:
    result = lab.generate(
        "a bell",
        model=models["audio"],
        task="text2audio",
        audio_length=4,
        num_images=2,
        steps=2,
        seed=5,
        progress=False,
    )

    first, second = result.outputs
    assert (first.media_type, first.sample_rate_hz, first.duration_s) == ("audio/wav", tiny_tasks.SAMPLE_RATE_HZ, 4)
    assert (first.seed, second.seed, first.raw_sha256 != second.raw_sha256) == (5, 6, True)
    samples = result.audio[0]
    assert (samples.dtype, samples.shape) == (np.float32, (2, 4 * tiny_tasks.SAMPLE_RATE_HZ))
    assert 0 < np.abs(samples).max() <= 1
    assert len(result.report.pictures()) == 2
    assert "sounds" in result.report.to_text()
    assert result.report.to_html().count('<audio controls src="data:audio/wav') == 2
    assert lab.replay(result.report, progress=False).verdict == "bit_exact"


def test_an_observed_pipelines_videos_are_kept_as_videos(lab: Lab) -> None:
    wan: DiffusionPipeline = lab.observe(tiny.build("wan"))

    wan(**tiny.call_options("wan", steps=1))

    report = lab.last_report()
    (video,) = report.artifacts
    assert (video.media_type, video.frame_count, video.fps, video.seed) == ("video/mp4", 5, 16, None)
    assert (report.task, report.request.config.num_frames) == ("text2video", 5)
