from random import Random

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image, ImageChops, ImageStat

from omnirt_lab.tiny_shapes import WEIGHTS_DIR
from omnirt_lab.tiny_shapes.captions import known_words, plain_caption
from omnirt_lab.tiny_shapes.scenes import PALETTE, Triple, draw_scene, held_out_triples, is_held_out, sample_scene
from omnirt_lab.tiny_shapes.verifier import judge, read_picture

HELD_OUT = held_out_triples()[::17]


@pytest.fixture(scope="module")
def pipeline():
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS_DIR, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generators(count):
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def paint(pipeline, prompts, **options):
    options = {"num_inference_steps": 20, "guidance_scale": 4.0, "generator": generators(len(prompts))} | options
    return pipeline(prompts, **options).images


def test_the_weights_take_at_most_ten_megabytes():
    assert sum(path.stat().st_size for path in WEIGHTS_DIR.rglob("*") if path.is_file()) <= 10_000_000


def test_the_pipeline_loads_in_float32_without_a_dtype(pipeline):
    parts = (pipeline.text_encoder, pipeline.unet, pipeline.vae)

    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for part in parts for p in part.parameters())


def test_the_general_loader_makes_the_same_pipeline(pipeline):
    general = DiffusionPipeline.from_pretrained(WEIGHTS_DIR, local_files_only=True)

    assert type(general) is StableDiffusionPipeline
    assert torch.equal(general.unet.conv_in.weight, pipeline.unet.conv_in.weight)
    assert general.safety_checker is None


def test_the_scheduler_is_the_one_it_was_trained_with(pipeline):
    config = pipeline.scheduler.config

    assert type(pipeline.scheduler) is DDIMScheduler
    assert (config.prediction_type, config.beta_schedule) == ("v_prediction", "scaled_linear")
    assert config.timestep_spacing == "trailing"


def test_the_shipped_tokenizer_keeps_each_known_word_one_token(pipeline):
    assert all(pipeline.tokenizer.tokenize(word) == [f"{word}</w>"] for word in known_words())


def test_three_held_out_prompts_are_drawn_right(pipeline):
    assert all(is_held_out(triple) for triple in HELD_OUT)

    pictures = paint(pipeline, [plain_caption(triple) for triple in HELD_OUT])

    assert [judge(*pair).is_right for pair in zip(pictures, HELD_OUT, strict=True)] == [True] * len(HELD_OUT)


def test_the_pictures_are_64_pixels_by_default(pipeline):
    assert paint(pipeline, ["a red circle"], num_inference_steps=1)[0].size == (64, 64)


def test_the_pipelines_own_defaults_draw_a_right_picture(pipeline):
    picture = pipeline("a red circle on a blue background", generator=generators(1)).images[0]

    assert judge(picture, Triple(shape="circle", colour="red", background="blue")).is_right


def test_a_caption_without_a_background_gets_white_and_a_white_shape_black(pipeline):
    red, white = paint(pipeline, ["a red star", "a white heart"])

    assert judge(red, Triple(shape="star", colour="red", background="white")).is_right
    assert judge(white, Triple(shape="heart", colour="white", background="black")).is_right


def test_the_same_seed_draws_the_same_picture(pipeline):
    one, other = (paint(pipeline, ["a blue ring"], num_inference_steps=3)[0] for _ in range(2))

    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("prompt", ["", "😀 zebra", "漢字", "red " * 200])
def test_no_prompt_makes_it_fail(pipeline, prompt):
    assert paint(pipeline, [prompt], num_inference_steps=2)[0].size == (64, 64)


def test_the_autoencoder_restores_a_picture_it_never_saw(pipeline):
    triple = HELD_OUT[0]
    picture = draw_scene(sample_scene(triple, Random(1)))

    with torch.no_grad():
        values = pipeline.image_processor.preprocess(picture)
        restored = pipeline.vae.decode(pipeline.vae.encode(values).latent_dist.mean).sample
    image = pipeline.image_processor.postprocess(restored)[0]

    assert judge(image, triple).is_right


def test_image_to_image_recolours_a_shape(pipeline):
    start = draw_scene(sample_scene(Triple(shape="square", colour="red", background="white"), Random(1)))
    editor = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    editor.set_progress_bar_config(disable=True)

    picture = paint(editor, ["a green square on a white background"], image=start, strength=0.9)[0]

    assert read_picture(picture).colour == "green"


def test_inpainting_leaves_what_is_outside_the_mask(pipeline):
    start = Image.new("RGB", (64, 64), PALETTE["white"])
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    editor = StableDiffusionInpaintPipeline(**pipeline.components, requires_safety_checker=False)
    editor.set_progress_bar_config(disable=True)

    picture = paint(editor, ["a blue circle on a white background"], image=start, mask_image=mask)[0]

    change = ImageChops.difference(picture, start)
    assert max(ImageStat.Stat(change.crop((44, 0, 64, 64))).mean) < 10
    assert max(ImageStat.Stat(change.crop((8, 8, 32, 56))).mean) > 20
