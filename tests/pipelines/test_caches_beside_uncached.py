"""Whatever is done to a pipeline, with both caches it draws what its twin draws without one: not one bit differs."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from peft import LoraConfig

from omnirt_lab.pipelines.image_latents import ImageLatentCache
from omnirt_lab.pipelines.loading import with_task_class
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.text_embeddings import TextEmbeddingCache
from tests.pipelines import tiny
from tests.pipelines.test_text_embeddings import ListedEvents

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

PLACES = st.sampled_from(["text_encoder", "vae"])
LAYERS = st.integers(0, 3)
LORA = "default"


def pixels(number: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(number)).to(dtype)


class CachedBesideUncached(RuleBasedStateMachine):
    """Two equal pipelines to which the same is done; one is called with the caches, the other one bare."""

    hits = 0

    def __init__(self) -> None:
        super().__init__()
        self.caches = [TextEmbeddingCache(budget_bytes=10_000), ImageLatentCache(budget_bytes=60_000)]
        self.load()
        self.inputs = "a red circle", 0, 0

    def load(self):
        self.cached, self.bare = (with_task_class(tiny.build("sd"), StableDiffusionImg2ImgPipeline) for _ in range(2))
        for pipeline in self.twins:
            pipeline.set_progress_bar_config(disable=True)
        self.dtype = torch.float32
        self.has_lora = False

    @property
    def twins(self):
        return (self.cached, self.bare)

    def weights(self, place, layer):
        for pipeline in self.twins:
            part = getattr(pipeline, place)
            name, weight = [pair for pair in part.named_parameters() if pair[0].endswith("weight")][layer]
            yield part.get_submodule(name.removesuffix(".weight")), weight

    @rule(prompt=st.sampled_from(["a red circle", "a blue star"]), picture=st.integers(0, 1), seed=st.integers(0, 1))
    def choose(self, prompt, picture, seed):
        self.inputs = prompt, picture, seed

    @invariant()
    def draws_alike(self):
        with Probe(self.cached, interceptors=self.caches).watch(ListedEvents()):
            drawn = self.call(self.cached, *self.inputs)
        assert np.array_equal(drawn, self.call(self.bare, *self.inputs), equal_nan=True)

    def call(self, pipeline, prompt, picture, seed):
        return pipeline(
            prompt=prompt,
            image=pixels(picture, self.dtype),
            strength=0.8,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images

    @rule(place=PLACES, layer=LAYERS)
    def write(self, place, layer):
        for _, weight in self.weights(place, layer):
            with torch.no_grad():
                weight.view(-1)[0] += 0.5

    @rule(place=PLACES, layer=LAYERS)
    def write_through_data(self, place, layer):
        for _, weight in self.weights(place, layer):
            weight.data.mul_(1.25)

    @rule(place=PLACES, layer=LAYERS)
    def replace(self, place, layer):
        for module, weight in self.weights(place, layer):
            module.weight = torch.nn.Parameter(weight.detach() * 0.75)

    @rule()
    def evict(self):
        """Both go from memory and are loaded again, with the same weights, perhaps at the same addresses."""
        del self.cached, self.bare
        gc.collect()
        self.load()

    @rule(dtype=st.sampled_from([torch.float32, torch.bfloat16]))
    def move(self, dtype):
        self.dtype = dtype
        for pipeline in self.twins:
            pipeline.to(dtype)

    @rule(is_on=st.booleans())
    def tile(self, is_on):
        for pipeline in self.twins:
            pipeline.vae.use_tiling = is_on
            pipeline.vae.tile_sample_min_size = 16

    @precondition(lambda self: not self.has_lora)
    @rule()
    def load_lora(self):
        for pipeline in self.twins:
            torch.manual_seed(0)
            lora = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"], init_lora_weights=False)
            pipeline.text_encoder.add_adapter(lora)
            pipeline.text_encoder.to(self.dtype).eval()
        self.has_lora = True

    @precondition(lambda self: self.has_lora)
    @rule(scale=st.sampled_from([0.5, 2.0]))
    def scale_lora(self, scale):
        for pipeline in self.twins:
            pipeline.text_encoder.encoder.layers[0].self_attn.q_proj.scale_layer(scale)

    @precondition(lambda self: self.has_lora)
    @rule()
    def unload_lora(self):
        for pipeline in self.twins:
            pipeline.text_encoder.delete_adapter(LORA)
        self.has_lora = False

    def teardown(self):
        assert all(cache.stats().size_bytes <= cache.budget_bytes for cache in self.caches)
        type(self).hits += sum(cache.stats().hits for cache in self.caches)


TestCachedBesideUncached = CachedBesideUncached.TestCase
TestCachedBesideUncached.settings = settings(
    max_examples=5,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_such_sequences_do_hit_the_caches():
    before = CachedBesideUncached.hits
    machine = CachedBesideUncached()
    machine.draws_alike()
    machine.choose("a red circle", 0, 1)
    machine.draws_alike()
    machine.teardown()

    assert CachedBesideUncached.hits - before == 3
