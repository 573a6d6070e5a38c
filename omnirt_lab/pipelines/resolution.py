"""What a call really runs with: components as they stand, the scheduler, every argument, the source of randomness."""

from __future__ import annotations

import base64
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, CpuOffload
from diffusers import ConfigMixin, ModularPipeline

from omnirt_lab.pipelines.call_arguments import parameters_of
from omnirt_lab.pipelines.model_index import DENOISERS, latent_shape
from omnirt_lab.pipelines.sites import AnyPipeline, execution_device
from omnirt_lab.pipelines.weights import weight_facts
from omnirt_lab.records import ComponentFacts, GeneratorFacts, Json, Resolved


def resolve(pipeline: AnyPipeline, arguments: Mapping[str, Any]) -> Resolved:
    """Describe a call of the pipeline with these arguments, before it is made; defaults are filled in."""
    parts = {name: part for name, part in pipeline.components.items() if part is not None}
    scheduler = parts.get("scheduler")
    return Resolved(
        pipeline_class=type(pipeline).__name__,
        components={name: _component_facts(pipeline, part) for name, part in parts.items()},
        scheduler_config=_scheduler_config(scheduler) if isinstance(scheduler, ConfigMixin) else {},
        config=_filled_in(pipeline, parts, arguments),
        generators=generator_facts(arguments.get("generator")),
    )


def to_json(value: Any) -> Json:
    """The value as JSON has it; what JSON cannot hold as the name of its type, numbers that are not finite as text."""
    match value:
        case None | bool():
            return value
        case int():  # here and below also a subclass, which JSON does not hold as it is: numpy's float64, an enum
            return int(value)
        case str():
            return str(value)
        case float():
            return float(value) if math.isfinite(value) else str(value)
        case list() | tuple():
            return [to_json(item) for item in value]
        case dict():
            return {str(name): to_json(item) for name, item in value.items()}
        case _:
            return type(value).__name__


def _component_facts(pipeline: AnyPipeline, part: object) -> ComponentFacts:
    if not isinstance(part, torch.nn.Module):
        return ComponentFacts(class_name=type(part).__name__)
    weights = weight_facts(part)
    return ComponentFacts(
        class_name=type(part).__name__,
        device=_device_of(pipeline, part, weights.held_on),
        dtype=weights.dtype,
        parameter_count=weights.parameter_count,
        parameter_bytes=weights.parameter_bytes,
        fingerprint=weights.fingerprint,
    )


def _device_of(pipeline: AnyPipeline, part: torch.nn.Module, held_on: str | None) -> str | None:
    """Where the weights stand; `cuda:0 (offloaded)` for a component that is brought there for each call."""
    brought_to = _hook_device(part)
    if brought_to is not None and brought_to != held_on:
        return f"{brought_to} (offloaded)"
    if _is_group_offloaded(part):
        return f"{execution_device(pipeline)} (offloaded)"
    return held_on


def _is_group_offloaded(part: torch.nn.Module) -> bool:
    """Whether diffusers brings groups of its layers; where each layer is one, the hooks are on the layers alone."""
    registries = (vars(layer).get("_diffusers_hook") for layer in part.modules())
    return any(found is not None and found.get_hook("group_offloading") is not None for found in registries)


def _hook_device(part: torch.nn.Module) -> str | None:
    """The device to which accelerate's hooks bring a component, as a whole or layer by layer."""
    if "_hf_hook" not in vars(part):
        return None
    hooks = [hook for layer in part.modules() if (hook := vars(layer).get("_hf_hook")) is not None]
    devices = [hook.execution_device for hook in hooks if isinstance(hook, AlignDevicesHook | CpuOffload)]
    return next((str(torch.device(device)) for device in devices if device is not None), None)


def _scheduler_config(scheduler: ConfigMixin) -> dict[str, Json]:
    own = {name: to_json(value) for name, value in scheduler.config.items() if not name.startswith("_")}
    return {"_class_name": type(scheduler).__name__, **own}


def _filled_in(pipeline: AnyPipeline, parts: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Json]:
    defaults = {
        name: parameter.default
        for name, parameter in parameters_of(pipeline).items()
        if parameter.default is not inspect.Parameter.empty
    }
    config = {name: to_json(value) for name, value in (defaults | dict(arguments)).items()}
    for name in ("width", "height"):
        if name in config and config[name] is None:
            config[name] = _default_size_px(pipeline, parts, name)
    return config


def _default_size_px(pipeline: AnyPipeline, parts: Mapping[str, Any], name: str) -> int | None:
    """Width or height that the pipeline takes when none is given; None where it depends on its inputs."""
    if isinstance(pipeline, ModularPipeline):
        default = getattr(pipeline, f"default_{name}", None)  # each family has its own class
        return default if isinstance(default, int) else None
    latents = getattr(pipeline, "default_sample_size", None)
    scale = getattr(pipeline, "vae_scale_factor", None)
    if isinstance(latents, int) and isinstance(scale, int):
        return latents * scale
    configs = {name: dict(part.config) for name, part in parts.items() if isinstance(part, ConfigMixin)}
    denoiser = next((configs[name] for name in DENOISERS if name in configs), {})
    return latent_shape(denoiser, configs.get("vae", {})).default_size_px


def generator_facts(passed: object) -> tuple[GeneratorFacts, ...] | None:
    """Of the generator, or each of the generators, that a call is given; None if that is something else."""
    generators = passed if isinstance(passed, list | tuple) else [passed]
    facts = [_facts_of(generator) for generator in generators if isinstance(generator, torch.Generator)]
    return tuple(facts) or None


def _facts_of(generator: torch.Generator) -> GeneratorFacts:
    seed, state = generator.initial_seed(), generator.get_state()
    fresh = torch.Generator(generator.device).manual_seed(seed).get_state()
    used = None if torch.equal(state, fresh) else base64.b64encode(state.cpu().numpy().tobytes()).decode()
    return GeneratorFacts(device=str(generator.device), seed=seed, state=used)
