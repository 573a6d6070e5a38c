from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLImg2ImgPipeline,
)
from diffusers.models.attention_processor import AttnProcessor

from omnirt_lab.pipelines.image_latents import ImageLatentCache
from omnirt_lab.pipelines.loading import with_task_class
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.records import CacheHitData, CacheMissData
from tests.pipelines import tiny, tiny_tasks
from tests.pipelines.test_text_embeddings import ListedEvents

FROM_A_PICTURE = {
    "sd": StableDiffusionImg2ImgPipeline,
    "sdxl": StableDiffusionXLImg2ImgPipeline,
    "sd3": StableDiffusion3Img2ImgPipeline,
}


@pytest.fixture
def cache() -> ImageLatentCache:
    return ImageLatentCache()


def picture(number: int = 0) -> torch.Tensor:
    return torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(number))


def call(pipeline, seed=7, **options):
    size = {"height": 64, "width": 64} if isinstance(pipeline, StableDiffusionInpaintPipeline) else {}
    if not isinstance(pipeline, StableDiffusionInstructPix2PixPipeline):
        size["strength"] = 0.8
    given = {"prompt": "a red circle", "image": picture(), "num_inference_steps": 2, **size, **options}
    return tiny.picture_of(pipeline(**given, generator=torch.Generator().manual_seed(seed), output_type="np"))


def draw(pipeline, cache, **options):
    sink = ListedEvents()
    with Probe(pipeline, interceptors=[cache]).watch(sink):
        drawn = call(pipeline, **options)
    return drawn, sink


def encode(vae, cache, pixels=None):
    """One call through the cache, as the probe makes it; and what the VAE answers itself."""
    pixels = picture() if pixels is None else pixels
    with torch.no_grad():
        answer = cache("vae_encode", vae, vae.encode, (pixels,), {}, ListedEvents()).latent_dist
        expected = vae.encode(pixels).latent_dist
    assert torch.equal(answer.parameters, expected.parameters)
    assert answer.mean.stride() == expected.mean.stride()
    return answer


@pytest.mark.parametrize("family", FROM_A_PICTURE)
def test_a_repeated_picture_is_a_hit_and_what_is_drawn_from_it_bit_identical(family, cache):
    pipeline = with_task_class(tiny.build(family), FROM_A_PICTURE[family])
    bare = call(pipeline)

    first, misses = draw(pipeline, cache)
    second, hits = draw(pipeline, cache)

    assert np.array_equal(first, bare)
    assert np.array_equal(second, bare)
    assert len(misses.of(CacheMissData)) == len(hits.of(CacheHitData)) == 1
    assert hits.of(CacheMissData) == []


def test_a_hit_says_what_it_saved_under_the_stage_of_the_encoding(sd, cache):
    pipeline = with_task_class(sd, StableDiffusionImg2ImgPipeline)
    draw(pipeline, cache)
    _, sink = draw(pipeline, cache)

    (hit,) = sink.of(CacheHitData)
    assert (hit.cache_type, hit.component) == ("image_latents", "vae")
    assert (hit, "vae_encode") in sink.events
    assert hit.size_bytes == cache.stats().size_bytes > 0
    assert hit.saved_ns == cache.stats().saved_ns


def test_another_prompt_and_seed_draw_another_sample_from_the_kept_distribution(sd, cache):
    pipeline = with_task_class(sd, StableDiffusionImg2ImgPipeline)
    draw(pipeline, cache)
    options = {"prompt": "a blue star", "strength": 0.6, "seed": 8}

    assert np.array_equal(draw(pipeline, cache, **options)[0], call(pipeline, **options))
    assert cache.stats().hits == 1


def test_inpainting_keeps_the_picture_and_the_masked_picture(sd, cache):
    pipeline = with_task_class(sd, StableDiffusionInpaintPipeline)
    mask = torch.zeros((1, 1, 64, 64))
    mask[..., :32] = 1.0
    bare = call(pipeline, mask_image=mask)

    drawn = [draw(pipeline, cache, mask_image=mask) for _ in range(2)]

    assert all(np.array_equal(one, bare) for one, _ in drawn)
    assert drawn[1][1].of(CacheMissData) == []
    assert len(drawn[1][1].of(CacheHitData)) == cache.stats().entries


def test_a_pipeline_that_takes_the_mode_of_the_distribution_draws_the_same(cache):
    pipeline = tiny_tasks.build_pix2pix()
    pipeline.set_progress_bar_config(disable=True)
    bare = call(pipeline)

    assert all(np.array_equal(draw(pipeline, cache)[0], bare) for _ in range(2))
    assert cache.stats().hits == 1


def test_another_picture_dtype_or_layout_is_encoded(sd, cache):
    encode(sd.vae, cache)
    encode(sd.vae, cache, picture(1))
    encode(sd.vae, cache, picture().contiguous(memory_format=torch.channels_last))
    sd.vae.to(torch.float64)
    encode(sd.vae, cache, picture().double())

    assert cache.stats().hits == 0


def test_slicing_tiling_layout_and_attention_of_the_vae_belong_to_the_key(sd, cache):
    vae = sd.vae
    changes = [
        vae.enable_slicing,
        vae.enable_tiling,
        lambda: setattr(vae, "tile_sample_min_size", 32),
        lambda: vae.set_attn_processor(AttnProcessor()),
        lambda: vae.to(memory_format=torch.channels_last),
    ]
    encode(vae, cache)
    for change in changes:
        change()
        encode(vae, cache)
        assert cache.stats().hits == 0

    encode(vae, cache)
    assert cache.stats().hits == 1


def test_an_encode_of_ones_own_is_not_answered_by_the_former_one(sd, cache):
    encode(sd.vae, cache)
    original = sd.vae.encode
    sd.vae.encode = lambda pixels: original(pixels * 0.5)

    encode(sd.vae, cache)

    assert cache.stats().hits == 0


def test_whoever_writes_into_the_latents_does_not_spoil_the_cache(sd, cache):
    for _ in range(3):
        answer = encode(sd.vae, cache)
        answer.mean.fill_(7.0)
        answer.std.data.zero_()

    assert cache.stats().hits == 2


def test_latents_that_are_no_distribution_are_kept_too(cache):
    vae = tiny.seeded(AutoencoderTiny, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
                      num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))  # fmt: skip
    with torch.no_grad():
        answers = [cache("vae_encode", vae, vae.encode, (picture(),), {}, ListedEvents()) for _ in range(2)]

    assert torch.equal(answers[0].latents, answers[1].latents)
    assert cache.stats().hits == 1


def test_the_least_recently_used_latents_go_and_too_big_ones_push_nothing_out(sd, cache):
    encode(sd.vae, cache)
    cache.budget_bytes = cache.stats().size_bytes
    encode(sd.vae, cache, torch.cat([picture(), picture(1)]))
    encode(sd.vae, cache)
    assert (cache.stats().hits, cache.stats().entries) == (1, 1)

    encode(sd.vae, cache, picture(1))
    encode(sd.vae, cache)
    assert (cache.stats().hits, cache.stats().entries) == (1, 1)


def test_only_the_encode_of_autoencoders_goes_through_and_none_while_it_is_off(sd, cache):
    names = ("vae", "vae_encode", "vae_decode", "text_encoder")

    assert [name for name in names if cache.wants(name, sd.vae)] == ["vae_encode"]
    assert not cache.wants("vae_encode", torch.nn.Linear(1, 1))
    cache.is_enabled = False
    assert not cache.wants("vae_encode", sd.vae)
