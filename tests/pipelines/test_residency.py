from __future__ import annotations

import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from omnirt_lab.errors import ModelLoadError
from omnirt_lab.pipelines.catalog import ModelSource, get_model
from omnirt_lab.pipelines.memory import meter_for
from omnirt_lab.pipelines.reclaiming import default_budget_bytes, held_bytes, weight_bytes
from omnirt_lab.pipelines.residency import ResidencyCache, Resident
from omnirt_lab.records import Eviction
from omnirt_lab.units import BYTES_PER_MIB
from tests.pipelines import tiny

LARGE_BYTES = 48 * BYTES_PER_MIB


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sd"
    tiny.build("sd").save_pretrained(folder)
    return folder


@pytest.fixture
def models(sd_folder: Path, tmp_path: Path) -> list[ModelSource]:
    return [get_model(shutil.copytree(sd_folder, tmp_path / name)) for name in ("one", "two", "three")]


def find(cache: ResidencyCache, model: ModelSource, *, task: str = "text2image", **options) -> Resident:
    """What a run gets, and gives back at once."""
    with cache.use(model, task=task, device="cpu", **options) as resident:
        return resident


def names(cache: ResidencyCache) -> list[str]:
    return [model.name for model in cache.stats().models]


def test_the_second_call_finds_the_model_in_memory(models):
    cache = ResidencyCache()

    first = find(cache, models[0])
    second = find(cache, models[0])

    assert (first.loaded_now, second.loaded_now) == (True, False)
    assert second.pipeline is first.pipeline
    assert second.load_ns == first.load_ns > 0
    assert second.size_bytes == weight_bytes(first.pipeline) > 100_000
    assert (cache.stats().hits, cache.stats().misses) == (1, 1)


def test_another_task_is_built_on_the_same_components(models):
    cache = ResidencyCache()

    first = find(cache, models[0])
    second = find(cache, models[0], task="inpaint")

    assert not second.loaded_now
    assert second.pipeline.unet is first.pipeline.unet
    assert find(cache, models[0], task="inpaint").pipeline is second.pipeline
    assert cache.stats().size_bytes == first.size_bytes


def test_another_dtype_or_changed_files_are_loaded_anew(models):
    cache = ResidencyCache()
    find(cache, models[0])

    assert find(cache, models[0], dtype="bfloat16").loaded_now
    (Path(models[0].location) / "unet" / "config.json").touch()
    assert find(cache, get_model(models[0].name)).loaded_now


def test_the_least_recently_used_model_goes_before_one_is_loaded_that_would_not_fit(models):
    size_bytes = weight_bytes(tiny.build("sd"))
    cache = ResidencyCache(budget_bytes=2 * size_bytes + size_bytes // 2)
    unets = [weakref.ref(find(cache, model).pipeline.unet) for model in models[:2]]
    find(cache, models[0])
    evictions: list[Eviction] = []

    find(cache, models[2], on_eviction=evictions.append)

    assert [unet() is None for unet in unets] == [False, True]
    assert names(cache) == [models[0].name, models[2].name]
    assert [(eviction.name, eviction.size_bytes) for eviction in evictions] == [(models[1].name, size_bytes)]
    assert cache.stats().evictions == 1


def test_a_model_that_could_not_be_foreseen_makes_room_once_it_is_there(models):
    for path in Path(models[1].location).glob("*/*.safetensors"):  # pickles have no header that tells their size
        name = "pytorch_model.bin" if path.parent.name == "text_encoder" else "diffusion_pytorch_model.bin"
        part = getattr(tiny.build("sd"), path.parent.name)
        torch.save(part.state_dict(), path.with_name(name))
        path.unlink()
    cache = ResidencyCache(budget_bytes=weight_bytes(tiny.build("sd")) + 1)
    find(cache, models[0])

    find(cache, get_model(models[1].name))

    assert names(cache) == [models[1].name]


def test_a_model_bigger_than_the_budget_still_stays(models):
    cache = ResidencyCache(budget_bytes=1)
    find(cache, models[0])

    assert not find(cache, models[0]).loaded_now


def test_a_model_in_use_is_not_evicted_and_goes_when_its_run_has_ended(models):
    cache = ResidencyCache(budget_bytes=1)
    evictions: list[Eviction] = []
    with cache.use(models[0], task="text2image", device="cpu", on_eviction=evictions.append) as resident:
        unet = weakref.ref(resident.pipeline.unet)
        del resident
        find(cache, models[1], on_eviction=evictions.append)
        assert [model.is_in_use for model in cache.stats().models] == [True, False]

    assert unet() is None
    assert [eviction.name for eviction in evictions] == [models[0].name]
    assert names(cache) == [models[1].name]


def test_an_eviction_gives_the_memory_back_and_says_how_much_that_was(models):
    for model in models[:2]:
        config = CLIPTextConfig(**{**_text_config(model), "vocab_size": LARGE_BYTES // (4 * tiny.TEXT_DIM)})
        CLIPTextModel(config).save_pretrained(Path(model.location) / "text_encoder")
    large = [get_model(model.name) for model in models[:2]]
    cache = ResidencyCache(budget_bytes=LARGE_BYTES + LARGE_BYTES // 2)
    resident = find(cache, large[0])
    resident.pipeline.text_encoder.get_input_embeddings().weight.detach().sum()  # so that its pages are in memory
    del resident
    before_bytes = meter_for("cpu").read()
    evictions: list[Eviction] = []

    with cache.use(large[1], task="text2image", device="cpu", on_eviction=evictions.append):
        (eviction,) = evictions

    assert eviction.memory_kind == "rss"
    assert eviction.size_bytes > LARGE_BYTES
    assert eviction.freed_bytes > 0.9 * LARGE_BYTES
    assert eviction.freed_bytes == eviction.before_bytes - eviction.after_bytes
    assert eviction.after_bytes < before_bytes
    assert cache.stats().freed_bytes == eviction.freed_bytes


def _text_config(model: ModelSource) -> dict:
    return CLIPTextConfig.from_pretrained(Path(model.location) / "text_encoder").to_dict()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_an_eviction_on_a_gpu_frees_to_the_byte_what_its_allocator_had_given(models):
    cache = ResidencyCache(budget_bytes=1)
    evictions: list[Eviction] = []
    for model in models[:2]:
        with cache.use(model, task="text2image", device="cuda", on_eviction=evictions.append):
            pass

    (eviction,) = evictions
    assert (eviction.device, eviction.memory_kind) == ("cuda:0", "cuda_allocator")
    assert eviction.freed_bytes >= eviction.size_bytes > 0
    assert list(cache.stats().budget_bytes) == ["cuda:0"]


def test_a_storage_counts_once_however_many_tensors_lie_in_it(sd):
    before_bytes = weight_bytes(sd)
    encoder = sd.text_encoder
    encoder.register_buffer("view", encoder.get_input_embeddings().weight.detach()[1:])

    assert weight_bytes(sd) == before_bytes
    assert list(held_bytes(sd)) == ["cpu"]


def test_the_budget_is_half_of_the_hosts_memory_unless_it_is_said():
    cache = ResidencyCache()

    assert cache.stats().budget_bytes == {"cpu": default_budget_bytes("cpu")}
    cache.budget_bytes = 7
    assert cache.stats().budget_bytes == {"cpu": 7}


def test_clear_frees_the_weights(models):
    cache = ResidencyCache()
    unet = weakref.ref(find(cache, models[0]).pipeline.unet)

    cache.clear()
    gc.collect()

    assert unet() is None
    assert cache.stats().models == ()


def test_a_model_that_fails_to_load_leaves_nothing_behind(models):
    (Path(models[0].location) / "unet" / "config.json").unlink()
    cache = ResidencyCache()

    for _ in range(2):
        with pytest.raises(ModelLoadError):
            find(cache, models[0])
    assert cache.stats().models == ()


def test_threads_that_want_the_same_model_load_it_once(models):
    cache = ResidencyCache()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: find(cache, models[0]), range(8)))

    assert sum(resident.loaded_now for resident in found) == 1
    assert len({id(resident.pipeline) for resident in found}) == 1


def test_a_run_that_ends_does_not_wait_for_one_that_loads(models):
    cache, is_loading, may_load = ResidencyCache(budget_bytes=1), threading.Event(), threading.Event()

    def evicted(_: Eviction) -> None:
        is_loading.set()
        assert may_load.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with cache.use(models[1], task="text2image", device="cpu"):
            find(cache, models[0])
            slow = pool.submit(find, cache, models[2], on_eviction=evicted)
            assert is_loading.wait(60)
        may_load.set()

    assert slow.result().loaded_now
