"""What a request comes to with this model on this machine: its preset merged, everything checked, nothing loaded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import diffusers
from msgspec.structs import replace

from omnirt_lab.errors import NotAvailableError
from omnirt_lab.pipelines.call_arguments import call_parameters, check_request, named_arguments
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.denoiser_caches import check_denoiser_cache
from omnirt_lab.pipelines.loading import Placement, get_pipeline_class, resolve_placement
from omnirt_lab.pipelines.model_index import DENOISERS, read_index
from omnirt_lab.pipelines.presets import preset_only, with_preset
from omnirt_lab.pipelines.resolution import to_json
from omnirt_lab.pipelines.schedulers import compatible_names, find_scheduler
from omnirt_lab.pipelines.setup import Setup, check_setup
from omnirt_lab.pipelines.sites import AnyPipeline
from omnirt_lab.records import IMAGE_TASKS, Config, GenerateRequest, Json, Validation

SETTINGS: Final = (
    "preset", "dtype", "device", "device_map", "offload", "channels_last", "compile", "quantization",
)  # fmt: skip
"""Words of a request for how the pipeline is held in memory; no argument of its call stands for them."""


@dataclass(frozen=True)
class CallPlan:
    """A checked request."""

    request: GenerateRequest
    """With the preset's values in it."""

    pipeline_class: type[AnyPipeline]

    placement: Placement

    from_preset: frozenset[str] = frozenset()
    """Names of the settings that the preset alone has set."""


def plan_call(source: ModelSource, request: GenerateRequest) -> CallPlan:
    """Merge the preset and check the request against the model's files and this machine; loads no weights.

    Raises
    ------
    InvalidRequestError
        If it cannot be run as it stands.
    ModelLoadError
        If the installed diffusers does not have the class.
    """
    plan = merge_preset(source, request)
    config = plan.request.config
    check_request(source, plan.request)
    check_setup(Setup.of(config), plan.placement.device)
    check_denoiser_cache(config, plan.pipeline_class)
    if source.kind != "hub":
        _check_components(Path(source.location), config, plan)
    return plan


def foresee(source: ModelSource, request: GenerateRequest) -> Validation:
    """What a run of the request would be, as far as the model's files and the class of its pipeline tell.

    Raises
    ------
    InvalidRequestError, ModelLoadError
        As `plan_call` does.
    """
    plan = plan_call(source, request)
    return described(source, plan, call_parameters(plan.pipeline_class))


def described(source: ModelSource, plan: CallPlan, accepted: Mapping[str, inspect.Parameter]) -> Validation:
    """What a planned call would be, of a pipeline that accepts these parameters."""
    config, pipeline = plan.request.config, plan.pipeline_class.__name__
    defaults = {
        name: parameter.default for name, parameter in accepted.items() if parameter.default is not parameter.empty
    }
    named = named_arguments(pipeline, accepted, plan.request)
    resolved = {argument: to_json(value) for argument, value in (defaults | named).items()}
    for side in ("width", "height"):
        if side in resolved and resolved[side] is None and plan.request.task not in IMAGE_TASKS:
            resolved[side] = source.default_size_px
    cache = {} if config.denoiser_cache is None else {"denoiser_cache": config.denoiser_cache}
    vae = {word: value for word in ("vae_slicing", "vae_tiling") if (value := getattr(config, word)) is not None}
    return Validation(
        request=plan.request,
        pipeline_class=pipeline,
        config_resolved={**resolved, **settings_of(config), **vae, **cache},
        dtype=str(plan.placement.dtype).removeprefix("torch."),
        device=str(plan.placement.device),
        weight_file_bytes=None if source.kind == "hub" else _weight_file_bytes(Path(source.location)),
        warnings=plan.placement.warnings,
    )


def merge_preset(source: ModelSource, request: GenerateRequest) -> CallPlan:
    """Merge the preset, and check nothing else.

    Raises
    ------
    InvalidRequestError
        If the model cannot do the task, or the machine has no such device.
    ModelLoadError
        If the installed diffusers does not have the class.
    """
    pipeline_class = get_pipeline_class(source, request.task)
    placement = resolve_placement(request.config.dtype, request.config.device)
    if request.config.preset is None:
        return CallPlan(request=request, pipeline_class=pipeline_class, placement=placement)
    scheduler = find_scheduler(source)
    config = with_preset(
        request.config,
        pipeline_class,
        device_type=placement.device.type,
        schedulers=() if scheduler is None else compatible_names(scheduler),
    )
    return CallPlan(
        request=replace(request, config=config),
        pipeline_class=pipeline_class,
        placement=resolve_placement(config.dtype, config.device),
        from_preset=preset_only(request.config, config),
    )


def settings_of(config: Config) -> dict[str, Json]:
    """The settings that are set, as `config_resolved` has them."""
    return {name: value for name in ("scheduler", *SETTINGS) if (value := getattr(config, name)) is not None}


def _weight_file_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for kind in ("safetensors", "bin") for path in folder.glob(f"*/*.{kind}"))


def _check_components(folder: Path, config: Config, plan: CallPlan) -> None:
    """Check by their classes that the VAE and the denoiser can do what is asked of them."""
    classes = {
        name: getattr(diffusers, class_name, None) for name, (_, class_name) in read_index(folder).components.items()
    }
    for word in ("vae_slicing", "vae_tiling"):
        if getattr(config, word) and word not in plan.from_preset:
            _require_method(classes.get("vae"), f"enable_{word.removeprefix('vae_')}", word, plan)
    if config.denoiser_cache is not None:
        denoiser = next((classes[name] for name in DENOISERS if name in classes), None)
        _require_method(denoiser, "enable_cache", f"denoiser_cache={config.denoiser_cache!r}", plan)


def _require_method(part: type | None, method: str, word: str, plan: CallPlan) -> None:
    if part is None or not callable(getattr(part, method, None)):
        owner = f"its {part.__name__}" if part is not None else "it"
        raise NotAvailableError(
            f"{plan.pipeline_class.__name__} cannot do {word}: {owner} has no {method}",
            hint=f"Leave {word.partition('=')[0]} out with this model.",
        )
