from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import omnirt_lab
from omnirt_lab import GenerateResult, Lab
from omnirt_lab.errors import InvalidRequestError, RunNotFoundError

WEIGHTS = Path(omnirt_lab.__file__).parent / "tiny_shapes" / "weights"
PROMPT = "a red circle on a blue background"


def drawn(lab: Lab, prompt: str = PROMPT, **options: object) -> GenerateResult:
    return lab.generate(prompt, steps=3, progress=False, **options)  # type: ignore[arg-type]


def test_a_picture_file_is_enough(lab: Lab, tmp_path: Path):
    result = drawn(lab, seed=5, num_images=2)
    path = tmp_path / "second.png"
    path.write_bytes(result.report.pictures()[1])

    with Image.open(path) as picture:
        for source in (path, str(path), path.read_bytes(), picture, result.report):
            assert lab.replay(source, progress=False).verdict == "bit_exact"


def test_a_picture_from_another_history_is_compared_alone(lab: Lab, tmp_path: Path):
    with Lab(tmp_path / "elsewhere") as other:
        picture = drawn(other, seed=5, num_images=2).report.pictures()[1]

    replay = lab.replay(picture, progress=False)

    assert (replay.verdict, replay.differing_fields) == ("bit_exact", ())
    assert len(replay.result.outputs) == 2


def test_another_number_of_threads_is_named(lab: Lab):
    report = drawn(lab, seed=1).report
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        replay = lab.replay(report, progress=False)
    finally:
        torch.set_num_threads(threads)

    assert replay.differing_fields == ("environment.torch_threads",)
    assert replay.differences["environment.torch_threads"] == (threads, threads + 1)
    assert replay.verdict in ("bit_exact", "close")


def test_a_changed_weight_makes_another_picture_and_is_named(lab: Lab, tmp_path: Path):
    model = tmp_path / "model"
    shutil.copytree(WEIGHTS, model)
    report = drawn(lab, seed=1, model=str(model)).report
    pipeline = StableDiffusionPipeline.from_pretrained(model, local_files_only=True)
    with torch.no_grad():
        pipeline.unet.conv_out.weight.mul_(3)
    shutil.rmtree(model)
    pipeline.save_pretrained(model)
    lab.cache.clear()

    replay = lab.replay(report.run_id, progress=False)

    assert replay.verdict == "different"
    assert replay.max_abs_diff is not None
    assert replay.max_abs_diff > 8
    assert "components.unet.fingerprint" in replay.differing_fields
    assert "components.unet.fingerprint" in str(replay)


def test_what_cannot_be_repeated_is_refused_with_the_reason(lab: Lab):
    pipeline = lab.observe(StableDiffusionPipeline.from_pretrained(WEIGHTS, local_files_only=True), name="mine")
    pipeline(PROMPT, num_inference_steps=2)

    with pytest.raises(InvalidRequestError, match="global random state"):
        lab.replay(lab.last_report())
    with pytest.raises(InvalidRequestError, match="no PNG"):
        lab.replay(b"not a picture")
    with pytest.raises(InvalidRequestError, match=r"nowhere\.png cannot be read"):
        lab.replay("nowhere.png")
    with pytest.raises(RunNotFoundError):
        lab.replay("0123456789abcdef")


def test_a_picture_that_does_not_say_how_it_was_made_is_refused(lab: Lab):
    with pytest.raises(InvalidRequestError, match="does not say how it was made"):
        lab.replay(Image.new("RGB", (8, 8)))
