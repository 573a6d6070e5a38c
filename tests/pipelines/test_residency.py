from __future__ import annotations

import gc
import shutil
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omnirt_lab.errors import ModelLoadError
from omnirt_lab.pipelines.catalog import ModelSource, get_model
from omnirt_lab.pipelines.residency import ResidencyCache, weight_bytes
from tests.pipelines import tiny


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sd"
    tiny.build("sd").save_pretrained(folder)
    return folder


@pytest.fixture
def models(sd_folder: Path, tmp_path: Path) -> list[ModelSource]:
    return [get_model(shutil.copytree(sd_folder, tmp_path / name)) for name in ("one", "two")]


def test_the_second_call_finds_the_model_in_memory(models):
    cache = ResidencyCache()

    first = cache.get(models[0], task="text2image", device="cpu")
    second = cache.get(models[0], task="text2image", device="cpu")

    assert (first.loaded_now, second.loaded_now) == (True, False)
    assert second.pipeline is first.pipeline
    assert second.load_ns == first.load_ns > 0
    assert second.size_bytes == weight_bytes(first.pipeline) > 100_000
    assert (cache.stats().hits, cache.stats().misses) == (1, 1)


def test_another_task_is_built_on_the_same_components(models):
    cache = ResidencyCache()

    first = cache.get(models[0], task="text2image", device="cpu")
    second = cache.get(models[0], task="inpaint", device="cpu")

    assert not second.loaded_now
    assert second.pipeline.unet is first.pipeline.unet
    assert cache.get(models[0], task="inpaint", device="cpu").pipeline is second.pipeline
    assert cache.stats().size_bytes == first.size_bytes


def test_another_dtype_or_changed_files_are_loaded_anew(models):
    cache = ResidencyCache()
    cache.get(models[0], task="text2image", device="cpu")

    assert cache.get(models[0], task="text2image", device="cpu", dtype="bfloat16").loaded_now
    (Path(models[0].location) / "unet" / "config.json").touch()
    assert cache.get(get_model(models[0].name), task="text2image", device="cpu").loaded_now


def test_the_least_recently_used_model_goes_when_the_budget_is_spent(models):
    size_bytes = weight_bytes(tiny.build("sd"))
    cache = ResidencyCache(budget_bytes=size_bytes + 1)
    unet = weakref.ref(cache.get(models[0], task="text2image", device="cpu").pipeline.unet)

    cache.get(models[1], task="text2image", device="cpu")

    assert unet() is None
    assert cache.stats().models == (models[1].name,)
    assert cache.stats().evictions == 1


def test_a_model_bigger_than_the_budget_still_stays(models):
    cache = ResidencyCache(budget_bytes=1)
    cache.get(models[0], task="text2image", device="cpu")

    assert not cache.get(models[0], task="text2image", device="cpu").loaded_now


def test_clear_frees_the_weights(models):
    cache = ResidencyCache()
    unet = weakref.ref(cache.get(models[0], task="text2image", device="cpu").pipeline.unet)

    cache.clear()
    gc.collect()

    assert unet() is None
    assert cache.stats().models == ()


def test_a_model_that_fails_to_load_leaves_nothing_behind(models):
    (Path(models[0].location) / "unet" / "config.json").unlink()
    cache = ResidencyCache()

    for _ in range(2):
        with pytest.raises(ModelLoadError):
            cache.get(models[0], task="text2image", device="cpu")
    assert cache.stats().models == ()


def test_threads_that_want_the_same_model_load_it_once(models):
    cache = ResidencyCache()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: cache.get(models[0], task="text2image", device="cpu"), range(8)))

    assert sum(resident.loaded_now for resident in found) == 1
    assert len({id(resident.pipeline) for resident in found}) == 1
