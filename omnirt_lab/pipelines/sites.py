"""Where a pipeline does its work: its components' calls, the VAE's `encode` and `decode`, its schedulers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import torch
from accelerate.hooks import AlignDevicesHook, CpuOffload
from diffusers import DiffusionPipeline, ModularPipeline, SchedulerMixin
from torch._dynamo.eval_frame import OptimizedModule

from omnirt_lab.pipelines.modular_blocks import find_loops

AnyPipeline: TypeAlias = DiffusionPipeline | ModularPipeline

_DENOISER_NAME: Final = re.compile(r"(unet|transformer|denoiser|dit|prior|decoder)(_\d+|_prior)?")
"""Names that diffusers gives to the model which every step calls; for pipelines without a progress bar."""


@runtime_checkable
class Autoencoder(Protocol):
    """A component that pipelines use by `encode` and `decode` rather than by calling it."""

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        """Picture to latents."""

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """Latents to picture."""


@dataclass(frozen=True)
class Site:
    """A method that pipelines call: a component's own call, or its `encode` or `decode`."""

    component: str
    """The component's attribute name on the pipeline."""

    module: torch.nn.Module

    method: str
    """`__call__`, `encode` or `decode`."""

    @cached_property
    def stage(self) -> str:
        """The component's name, and the method where it is not the call: `text_encoder`, `vae_decode`."""
        return self.component if self.method == "__call__" else f"{self.component}_{self.method}"

    @cached_property
    def is_denoiser(self) -> bool:
        """Whether each step calls it."""
        return self.method == "__call__" and _DENOISER_NAME.fullmatch(self.component) is not None

    @property
    def class_name(self) -> str:
        """Class of the component, the compiler's wrapper looked through."""
        module = self.module
        if isinstance(module, OptimizedModule):
            module = module._orig_mod  # noqa: SLF001  # has no public name
        return type(module).__name__

    @property
    def device(self) -> str | None:
        """Where the call computes; None without weights, and where diffusers' own hooks may move them."""
        if "_diffusers_hook" in vars(self.module):
            return None
        hook = vars(self.module).get("_hf_hook")
        if isinstance(hook, (AlignDevicesHook, CpuOffload)) and hook.execution_device is not None:
            return str(torch.device(hook.execution_device))
        parameter = next(self.module.parameters(), None)
        return None if parameter is None else str(parameter.device)

    @property
    def has_plain_call(self) -> bool:
        """Whether the class leaves the call to `nn.Module`, which looks for a compiled one on the instance first."""
        return type(self.module).__call__ in (torch.nn.Module.__call__, OptimizedModule.__call__)


def find_sites(parts: dict[str, object]) -> tuple[Site, ...]:
    """The sites of these parts; a module that stands under two names is watched under the first."""
    modules: dict[int, tuple[str, torch.nn.Module]] = {}
    for name, part in parts.items():
        if isinstance(part, torch.nn.Module):
            modules.setdefault(id(part), (name, part))
    sites = []
    for name, module in modules.values():
        sites.append(Site(name, module, "__call__"))
        if isinstance(module, Autoencoder):
            sites += [Site(name, module, "encode"), Site(name, module, "decode")]
    return tuple(sites)


def find_schedulers(parts: dict[str, object]) -> tuple[SchedulerMixin, ...]:
    """The distinct schedulers among these parts."""
    found = {id(part): part for part in parts.values() if isinstance(part, SchedulerMixin)}
    return tuple(found.values())


def find_bar_makers(pipeline: AnyPipeline) -> tuple[Any, ...]:
    """What makes the pipeline's progress bars: itself, or the loops among a modular pipeline's blocks."""
    if isinstance(pipeline, ModularPipeline):
        return tuple(find_loops(pipeline._blocks))  # noqa: SLF001  # `blocks` is a copy
    return (pipeline,) if isinstance(pipeline, DiffusionPipeline) else ()


def execution_device(pipeline: AnyPipeline) -> torch.device:
    """Where the pipeline computes, whatever is offloaded meanwhile."""
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        return torch.device("cpu")  # the pipeline's own answer walks all modules
    return torch.device(pipeline._execution_device)  # noqa: SLF001  # has no public name
