"""The caches of a process, as a person meets them: in the report, in `lab.cache`, and switched off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from omnirt_lab import GenerateResult, Lab
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.views.text import report_text
from tests.pipelines import tiny

QUICK = {"steps": 2, "seed": 7, "progress": False}


@pytest.fixture
def settings() -> Iterator[None]:
    """Whatever the test sets is as before afterwards."""
    before = SETTINGS.current
    yield
    SETTINGS.current = before


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(11).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def _uses(result: GenerateResult) -> dict[str, tuple[int, int]]:
    return {use.cache_type: (use.hits, use.calls) for use in result.report.cache_details}


def test_a_second_run_from_the_same_picture_spares_its_encoding(lab: Lab, picture: np.ndarray) -> None:
    lab.cache.clear()
    options = {"task": "image2image", "image": picture, **QUICK}

    first = lab.generate("a red circle", **options)
    second = lab.generate("a red circle", **options)

    assert first.images[0].tobytes() == second.images[0].tobytes()
    assert (_uses(first)["image_latents"], _uses(second)["image_latents"]) == ((0, 1), (1, 1))
    (use,) = (use for use in second.report.cache_details if use.cache_type == "image_latents")
    (stage,) = (stage for stage in second.report.stages if stage.name == "vae_encode")
    assert stage.cache_type == "image_latents"
    assert use.saved_ms is not None
    assert lab.cache.stats()["image_latents"]["hits"] == 1


def test_each_cache_can_be_switched_off_and_on_again_and_says_so(lab: Lab, picture: np.ndarray) -> None:
    lab.cache.clear()
    options = {"task": "image2image", "image": picture, **QUICK}
    names = {
        "resident_pipeline_cache": "resident_pipeline",
        "text_embedding_cache": "text_embedding",
        "image_latent_cache": "image_latents",
    }
    expected = lab.generate("a red circle", **options)
    for switch, cache_type in names.items():
        try:
            lab.configure(**{switch: False})
            result = lab.generate("a red circle", **options)
            stats = lab.cache.stats()
        finally:
            lab.configure(**{switch: True})

        assert result.images[0].tobytes() == expected.images[0].tobytes()
        assert set(_uses(result)) == set(names.values()) - {cache_type}
        assert [name for name in names.values() if not stats[name]["is_enabled"]] == [cache_type]
        assert lab.cache.stats()[cache_type]["is_enabled"]


def test_a_run_that_needs_the_room_of_another_model_says_which_one_went_and_what_that_freed(
    lab: Lab, tmp_path: Path, settings: None
) -> None:
    other = shutil.copytree(get_model("tiny-shapes").location, tmp_path / "other")
    lab.cache.clear()
    lab.generate("a red circle", **QUICK)
    before = lab.cache.stats()["resident_pipeline"]
    lab.configure(resident_pipeline_bytes=1)

    result = lab.generate("a red circle", model=str(other), **QUICK)

    (use,) = (use for use in result.report.cache_details if use.cache_type == "resident_pipeline")
    (warning,) = result.report.warnings
    after = lab.cache.stats()["resident_pipeline"]
    assert (use.calls, use.hits, use.evictions) == (1, 0, 1)
    assert warning.code == "pipeline_evicted"
    assert f"tiny-shapes was let go to make room: it held {before['size_bytes']:,} bytes on cpu" in warning.message
    assert [model["name"] for model in after["models"]] == [str(other)]
    assert after["evictions"] - before["evictions"] == 1
    assert after["freed_bytes"] - before["freed_bytes"] == use.freed_bytes
    assert "1 let go" in report_text(result.report)


def test_a_published_pipeline_is_never_evicted(lab: Lab, settings: None) -> None:
    mine = tiny.build("sd")
    lab.publish(mine, name="mine")
    lab.configure(resident_pipeline_bytes=1)
    lab.generate("a red circle", **QUICK)
    lab.generate("a red circle", dtype="bfloat16", **QUICK)

    assert lab.cache.stats()["resident_pipeline"]["evictions"] > 0
    assert all(weight.device.type == "cpu" for weight in mine.unet.parameters())
    assert "mine" not in [model["name"] for model in lab.cache.stats()["resident_pipeline"]["models"]]


def test_a_budget_is_a_number_of_bytes(lab: Lab) -> None:
    with pytest.raises(InvalidRequestError, match="resident_pipeline_bytes is 0; it must be 1 or more"):
        lab.configure(resident_pipeline_bytes=0)


def test_without_residency_nothing_stays_in_memory(lab: Lab) -> None:
    lab.generate("a red circle", **QUICK)
    try:
        lab.configure(resident_pipeline_cache=False)
        lab.generate("a red circle", **QUICK)
        assert lab.cache.stats()["resident_pipeline"]["models"] == ()
    finally:
        lab.configure(resident_pipeline_cache=True)
