"""What presets set by device, and what a VAE cannot take on."""

from __future__ import annotations

import pytest
from diffusers import StableDiffusionPipeline

from omnirt_lab.errors import NotAvailableError
from omnirt_lab.pipelines.presets import preset_only, with_preset
from omnirt_lab.pipelines.vae_settings import use_vae_settings, vae_settings_in_effect
from omnirt_lab.records import Config


def merged(device_type: str = "cuda", **config) -> Config:
    return with_preset(Config(**config), StableDiffusionPipeline, device_type=device_type, schedulers=("dpm++",))


@pytest.mark.parametrize(
    ("preset", "dtype", "offload"),
    [
        ("fast", "bfloat16", None),
        ("balanced", "bfloat16", None),
        ("quality", None, None),
        ("low-vram", "bfloat16", "model"),
    ],
)
def test_on_a_gpu_a_preset_places_the_weights_too(preset, dtype, offload):
    config = merged(preset=preset)

    assert (config.dtype, config.offload) == (dtype, offload)


def test_what_the_user_sets_is_never_changed():
    own = {"dtype": "float16", "offload": "group", "steps": 7, "scheduler": "ddim", "vae_tiling": False}

    for preset in ("fast", "balanced", "quality", "low-vram"):
        config = merged(preset=preset, **own)
        assert {name: getattr(config, name) for name in own} == own


def test_a_device_map_and_the_presets_offload_do_not_meet():
    assert merged(preset="low-vram", device_map="balanced").offload is None


def test_without_a_preset_nothing_changes():
    assert merged(steps=3) == Config(steps=3)


def test_the_report_can_tell_the_presets_values_from_the_users():
    asked = Config(preset="low-vram", vae_slicing=False)

    assert preset_only(asked, merged(preset="low-vram", vae_slicing=False, device_type="cpu")) == {"vae_tiling"}


def test_a_vae_that_cannot_slice_is_an_error_if_it_was_asked_for_and_a_warning_if_a_preset_did(sd):
    sd.vae = None
    config = Config(preset="low-vram", vae_slicing=True, vae_tiling=False)

    with pytest.raises(NotAvailableError, match="vae_slicing"), use_vae_settings(sd, config):
        pass
    with use_vae_settings(sd, config, optional={"vae_slicing"}) as warnings:
        assert vae_settings_in_effect(sd, config) == {"vae_tiling": False}

    assert [warning.code for warning in warnings] == ["preset_left_out"]
