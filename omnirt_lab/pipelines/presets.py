"""Presets: settings that go together, between the model's defaults and what the user sets."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from diffusers import DiffusionPipeline
from msgspec.structs import replace

from omnirt_lab.pipelines.call_arguments import call_parameters
from omnirt_lab.records import Config, Json

_FAST_SHARE: Final = 0.5
_QUALITY_SHARE: Final = 1.5
_FAST_SCHEDULER: Final = "dpm++"
"""Of second order: needs half of the first-order schedulers' steps for a picture as good."""


def with_preset(
    config: Config,
    pipeline_class: type[DiffusionPipeline],
    *,
    device_type: str,
    schedulers: Collection[str],
) -> Config:
    """The configuration with its preset's values where the user has set none.

    The order is: the model's own defaults, then the preset, then what the user has set.

    - `fast`: half of the call's default steps; the scheduler `dpm++` where it fits the model; bfloat16 on a GPU.
    - `balanced`: bfloat16 on a GPU.
    - `quality`: half as many steps again.
    - `low-vram`: VAE slicing and tiling; bfloat16 and offload of whole components on a GPU.

    Parameters
    ----------
    device_type
        `cpu`, `cuda` or `mps`: where it will run.
    schedulers
        Short names of the schedulers that fit the model.
    """
    if config.preset is None:
        return config
    is_on_gpu = device_type != "cpu"
    values: dict[str, Json] = {}
    if config.preset != "quality" and is_on_gpu:
        values["dtype"] = "bfloat16"
    share = {"fast": _FAST_SHARE, "quality": _QUALITY_SHARE}.get(config.preset)
    default_steps = _default_steps(pipeline_class)
    if share is not None and default_steps is not None:
        values["steps"] = max(1, round(share * default_steps))
    if config.preset == "fast" and _FAST_SCHEDULER in schedulers:
        values["scheduler"] = _FAST_SCHEDULER
    if config.preset == "low-vram":
        values |= {"vae_slicing": True, "vae_tiling": True}
        if is_on_gpu and config.device_map is None:
            values["offload"] = "model"
    return replace(config, **{name: value for name, value in values.items() if getattr(config, name) is None})


def preset_only(asked: Config, merged: Config) -> frozenset[str]:
    """Names of the settings that the preset alone has set."""
    return frozenset(name for name in asked.__struct_fields__ if getattr(asked, name) != getattr(merged, name))


def _default_steps(pipeline_class: type[DiffusionPipeline]) -> int | None:
    parameter = call_parameters(pipeline_class).get("num_inference_steps")
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else None
