from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from peft import LoraConfig

from omnirt_lab.pipelines.loading import with_task_class
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.text_embeddings import TextEmbeddingCache
from omnirt_lab.records import CacheHitData, CacheMissData
from tests.pipelines import tiny


class ListedEvents:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[tuple[object, str | None]] = []

    def emit(self, data, *, stage=None, **_) -> None:
        self.events.append((data, stage))

    def together(self):
        return nullcontext()

    def now_ns(self) -> int:
        return len(self.events)

    def of(self, kind: type) -> list:
        return [data for data, _ in self.events if isinstance(data, kind)]


@pytest.fixture
def cache() -> TextEmbeddingCache:
    return TextEmbeddingCache()


def draw(pipeline, family, cache, **options):
    sink = ListedEvents()
    with Probe(pipeline, interceptors=[cache]).watch(sink):
        picture = tiny.picture_of(pipeline(**tiny.call_options(family, steps=1, **options)))
    return picture, sink


def encode(encoder, cache, ids=(1, 2, 3)):
    """One call through the cache, as the probe makes it."""
    with torch.no_grad():
        return cache("text_encoder", encoder, encoder, (torch.tensor([ids]),), {}, ListedEvents())


def lora_on(encoder, scale=1.0):
    encoder.add_adapter(LoraConfig(r=2, lora_alpha=2 * scale, target_modules=["q_proj"], init_lora_weights=False))
    encoder.eval()


def test_a_repeated_prompt_is_a_hit_and_its_picture_bit_identical(family, pipeline, cache):
    first, misses = draw(pipeline, family, cache)
    second, hits = draw(pipeline, family, cache)  # at once, though transformers has put hooks of its own in meanwhile

    bare = tiny.picture_of(pipeline(**tiny.call_options(family, steps=1)))
    assert np.array_equal(first, bare)
    assert np.array_equal(second, bare)
    assert {miss.component for miss in misses.of(CacheMissData)} == set(tiny.ENCODERS[family])
    assert {hit.component for hit in hits.of(CacheHitData)} == set(tiny.ENCODERS[family])
    assert hits.of(CacheMissData) == []


def test_a_hit_says_what_it_saved_under_the_encoders_stage(sd, cache):
    draw(sd, "sd", cache)
    _, sink = draw(sd, "sd", cache)

    hit, stage = next((data, stage) for data, stage in sink.events if isinstance(data, CacheHitData))
    assert (hit.cache_type, hit.component, stage) == ("text_embedding", "text_encoder", "text_encoder")
    assert hit.size_bytes > 0
    assert cache.stats().saved_ns == sum(hit.saved_ns for hit in sink.of(CacheHitData))
    assert (cache.stats().calls, cache.stats().hits, cache.stats().entries) == (4, 2, 2)


def test_another_prompt_or_negative_prompt_is_encoded_and_drawn_as_without_the_cache(sd, cache):
    draw(sd, "sd", cache)
    for options in ({"prompt": "a blue star"}, {"negative_prompt": "blurry"}):
        bare = tiny.picture_of(sd(**tiny.call_options("sd", steps=1, **options)))

        picture, sink = draw(sd, "sd", cache, **options)

        assert np.array_equal(picture, bare)
        assert len(sink.of(CacheMissData)) == 1
        assert len(sink.of(CacheHitData)) == 1


def test_a_guidance_that_needs_no_negative_embedding_still_hits(sd, cache):
    draw(sd, "sd", cache)
    bare = tiny.picture_of(sd(**tiny.call_options("sd", steps=1, guidance_scale=1.0)))

    picture, sink = draw(sd, "sd", cache, guidance_scale=1.0)

    assert np.array_equal(picture, bare)
    assert sink.of(CacheMissData) == []


def test_skipping_clip_layers_reads_the_same_hidden_states(cache):
    pipeline = tiny.build("sdxl")
    bare = tiny.picture_of(pipeline(**tiny.call_options("sdxl", steps=1, clip_skip=1)))
    for _ in range(2):
        assert np.array_equal(draw(pipeline, "sdxl", cache, clip_skip=1)[0], bare)


def test_another_task_on_the_same_components_hits(sd, cache):
    from diffusers import StableDiffusionImg2ImgPipeline

    draw(sd, "sd", cache)
    sink = ListedEvents()
    sibling = with_task_class(sd, StableDiffusionImg2ImgPipeline)
    with Probe(sibling, interceptors=[cache]).watch(sink):
        sibling(prompt="a red circle", image=torch.zeros(1, 3, 64, 64), num_inference_steps=2)

    assert len(sink.of(CacheHitData)) == 2


def test_the_callers_picture_may_be_changed_without_poisoning_the_cache(sd, cache):
    for _ in range(2):
        output = encode(sd.text_encoder, cache)
        output.last_hidden_state.data.zero_()
        output.pooler_output += 1

    assert torch.equal(encode(sd.text_encoder, cache)[0], sd.text_encoder(torch.tensor([(1, 2, 3)]))[0])
    assert cache.stats().hits == 2


def test_a_lora_loaded_rescaled_merged_and_unloaded_never_gives_a_stale_embedding(sd, cache):
    encoder = sd.text_encoder
    layer = encoder.encoder.layers[0].self_attn
    changes = [
        lambda: lora_on(encoder),
        lambda: layer.q_proj.scale_layer(0.5),
        lambda: layer.q_proj.merge(),
        lambda: layer.q_proj.unmerge(),
        lambda: encoder.disable_adapters(),
        lambda: encoder.enable_adapters(),
        lambda: encoder.delete_adapter("default"),
    ]
    for change in [lambda: None, *changes]:
        change()
        for _ in range(2):
            with torch.no_grad():
                expected = encoder(torch.tensor([(1, 2, 3)]))
            assert torch.equal(encode(encoder, cache).last_hidden_state, expected.last_hidden_state)


def test_a_model_in_training_or_with_gradients_is_let_pass(sd, cache):
    sink, ids = ListedEvents(), torch.tensor([(1, 2, 3)])
    output = cache("text_encoder", sd.text_encoder, sd.text_encoder, (ids,), {}, sink)
    assert output.last_hidden_state.requires_grad
    sd.text_encoder.train()
    with torch.no_grad():
        cache("text_encoder", sd.text_encoder, sd.text_encoder, (ids,), {}, sink)

    assert sink.events == []
    assert cache.stats().calls == 0


def test_inputs_that_cannot_be_told_apart_are_let_pass(sd, cache):
    with torch.no_grad():
        for _ in range(2):
            cache("text_encoder", sd.text_encoder, lambda *_: torch.ones(1), (object(),), {}, ListedEvents())

    assert cache.stats().calls == 0


def test_an_output_that_cannot_be_copied_is_not_kept(sd, cache):
    with torch.no_grad():
        answer = cache("text_encoder", sd.text_encoder, lambda: {"cache": object()}, (), {}, ListedEvents())

    assert "cache" in answer
    assert cache.stats().entries == 0


def test_an_encoder_that_raises_leaves_nothing_and_its_error_passes_on(sd, cache):
    with pytest.raises(IndexError):
        encode(sd.text_encoder, cache, ids=(10_000,))

    assert cache.stats().entries == 0


def test_the_least_recently_used_embedding_goes_when_the_budget_is_spent(sd):
    cache = TextEmbeddingCache()
    encode(sd.text_encoder, cache, ids=(1, 2, 3))
    cache.budget_bytes = 2 * cache.stats().size_bytes
    encode(sd.text_encoder, cache, ids=(2, 2, 3))
    encode(sd.text_encoder, cache, ids=(1, 2, 3))
    encode(sd.text_encoder, cache, ids=(3, 2, 3))

    assert cache.stats().entries == 2
    assert cache.stats().size_bytes == cache.budget_bytes
    encode(sd.text_encoder, cache, ids=(1, 2, 3))
    assert cache.stats().hits == 2


def test_an_embedding_bigger_than_the_budget_is_not_kept(sd):
    cache = TextEmbeddingCache(budget_bytes=1)
    encode(sd.text_encoder, cache)

    assert (cache.stats().entries, cache.stats().size_bytes) == (0, 0)


def test_only_text_encoders_go_through_and_none_while_it_is_off(family, pipeline, cache):
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}

    assert {name for name, part in modules.items() if cache.wants(name, part)} == set(tiny.ENCODERS[family])
    assert not cache.wants("text_encoder", torch.nn.Linear(1, 1))
    cache.is_enabled = False
    assert not cache.wants("text_encoder", pipeline.text_encoder)


def test_clear_forgets_everything(sd, cache):
    encode(sd.text_encoder, cache)
    cache.clear()

    assert (cache.stats().calls, cache.stats().entries, cache.stats().size_bytes) == (0, 0, 0)


class CachedBesideUncached(RuleBasedStateMachine):
    """Whatever is done to an encoder, through the cache it answers what it answers itself."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = tiny.build("sd").text_encoder
        self.cache = TextEmbeddingCache(budget_bytes=20_000)
        self.has_lora = False

    def layer(self, number):
        return self.encoder.encoder.layers[number].self_attn

    @rule(ids=st.sampled_from([(1, 2, 3), (3, 2, 1), (5,)]), wanted=st.booleans())
    def call(self, ids, wanted):
        inputs, options = torch.tensor([ids]), {"output_hidden_states": wanted}
        with torch.no_grad():
            expected = self.encoder(inputs, **options)
            answer = self.cache("text_encoder", self.encoder, self.encoder, (inputs,), options, ListedEvents())
        assert torch.equal(answer.last_hidden_state, expected.last_hidden_state)
        assert (answer.hidden_states is None) == (not wanted)
        answer.last_hidden_state.fill_(7.0)

    @rule(number=st.integers(0, 1))
    def write(self, number):
        with torch.no_grad():
            self.layer(number).k_proj.weight[0, 0] += 0.5

    @rule(number=st.integers(0, 1))
    def write_through_data(self, number):
        self.layer(number).k_proj.weight.data[1, 1] += 0.5

    @rule(number=st.integers(0, 1))
    def replace(self, number):
        self.layer(number).k_proj.weight = torch.nn.Parameter(self.layer(number).k_proj.weight.detach() * 1.5)

    @precondition(lambda self: not self.has_lora)
    @rule()
    def load_lora(self):
        lora_on(self.encoder)
        self.has_lora = True

    @precondition(lambda self: self.has_lora)
    @rule(scale=st.sampled_from([0.5, 2.0]))
    def scale_lora(self, scale):
        self.layer(0).q_proj.scale_layer(scale)

    @precondition(lambda self: self.has_lora)
    @rule()
    def unload_lora(self):
        self.encoder.delete_adapter("default")
        self.has_lora = False

    @invariant()
    def stays_within_its_budget(self):
        assert self.cache.stats().size_bytes <= self.cache.budget_bytes


TestCachedBesideUncached = CachedBesideUncached.TestCase
TestCachedBesideUncached.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
