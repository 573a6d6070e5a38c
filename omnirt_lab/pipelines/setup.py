"""How a pipeline is made ready once, when it is loaded; whatever here differs is another resident pipeline."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import diffusers
import torch
from diffusers import DiffusionPipeline

from omnirt_lab.errors import InvalidRequestError, NotAvailableError
from omnirt_lab.pipelines.library_messages import quiet_libraries
from omnirt_lab.pipelines.model_index import DENOISERS
from omnirt_lab.records import Config, Offload, Quantization

_SECOND: Final = "_2"
"""Behind the name of a second denoiser, as Wan 2.2 has one."""

_TORCHAO: Final = {
    "int8": "Int8WeightOnlyConfig",
    "int4": "Int4WeightOnlyConfig",
    "float8": "Float8WeightOnlyConfig",
}

_PACKAGE_OF: Final[dict[Quantization, str]] = {
    "int8": "torchao",
    "int4": "torchao",
    "float8": "torchao",
    "nf4": "bitsandbytes",
}

_DEVICE_MAPS: Final = ("balanced",)

_CHANNELS_LAST_DIMENSIONS: Final = 4


@dataclass(frozen=True)
class Setup:
    """What of a request's configuration changes the pipeline in memory, beside its dtype and device."""

    device_map: str | None = None
    offload: Offload | None = None
    channels_last: bool = False
    compile_backend: str | None = None
    quantization: Quantization | None = None

    @classmethod
    def of(cls, config: Config) -> Setup:
        """The setup that a configuration asks for."""
        backend = "inductor" if config.compile is True else config.compile
        return cls(
            device_map=config.device_map,
            offload=config.offload,
            channels_last=bool(config.channels_last),
            compile_backend=backend or None,
            quantization=config.quantization,
        )

    @property
    def moves_weights(self) -> bool:
        """Whether hooks bring the weights to where they are needed, so that the pipeline itself is never moved."""
        return self.device_map is not None or self.offload is not None


NO_SETUP: Final = Setup()


def check_setup(setup: Setup, device: torch.device) -> None:
    """Refuse what this machine cannot do; loads no weights.

    Raises
    ------
    InvalidRequestError
        For a value that there is not, and for two that exclude each other.
    NotAvailableError
        For what needs a GPU, a package or a compiler that is not here.
    """
    if setup.device_map not in (None, *_DEVICE_MAPS):
        raise InvalidRequestError(
            f"device_map is {setup.device_map!r}", hint=f"Use {' or '.join(_DEVICE_MAPS)}, or device=…."
        )
    if setup.device_map is not None and setup.offload is not None:
        raise InvalidRequestError(
            f"device_map={setup.device_map!r} and offload={setup.offload!r} both place the weights",
            hint="Leave one of them out.",
        )
    for name in ("device_map", "offload"):
        if getattr(setup, name) is not None and device.type == "cpu":
            raise NotAvailableError(
                f"{name}={getattr(setup, name)!r} needs a GPU, and this run would be on the CPU",
                hint=f"Leave {name} out: on a CPU all weights are in its memory anyway.",
            )
    if setup.quantization is not None:
        _check_quantization(setup.quantization, device)
    if setup.compile_backend is not None:
        _check_compile(setup, device)


def quantization_argument(quantization: Quantization | None, denoisers: list[str]) -> dict[str, Any]:
    """The argument of `from_pretrained` that has these components quantised."""
    if quantization is None:
        return {}
    if quantization == "nf4":
        made: Any = diffusers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    else:
        torchao = importlib.import_module("torchao.quantization")  # not part of the installation
        made = diffusers.TorchAoConfig(getattr(torchao, _TORCHAO[quantization])())
    return {"quantization_config": diffusers.PipelineQuantizationConfig(quant_mapping=dict.fromkeys(denoisers, made))}


def make_ready(pipeline: DiffusionPipeline, setup: Setup, device: torch.device) -> None:
    """Do to a loaded pipeline what the setup asks for; the weights are on the device afterwards, or come there.

    Raises
    ------
    NotAvailableError
        If the pipeline has nothing that this could be done to.
    """
    if not setup.moves_weights:
        pipeline.to(device)
    if setup.channels_last:
        _put_channels_last(pipeline)
    with quiet_libraries():
        match setup.offload:
            case "model":
                pipeline.enable_model_cpu_offload(device=device)
            case "sequential":
                pipeline.enable_sequential_cpu_offload(device=device)
            case "group":
                pipeline.enable_group_offload(onload_device=device, offload_type="leaf_level")
            case None:
                pass
    if setup.compile_backend is not None:
        for module in denoisers_of(pipeline).values():
            module.compile(backend=setup.compile_backend)


def denoisers_of(pipeline: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """The models that each step calls, by component name.

    Raises
    ------
    NotAvailableError
        If the pipeline has none under a name that diffusers gives to them.
    """
    names = [*DENOISERS, *(name + _SECOND for name in DENOISERS)]
    parts = pipeline.components
    found = {name: part for name in names if isinstance(part := parts.get(name), torch.nn.Module)}
    if not found:
        raise NotAvailableError(
            f"{type(pipeline).__name__} has no {' or '.join(DENOISERS)}",
            hint="Leave compile and denoiser_cache out with this model.",
        )
    return found


def _put_channels_last(pipeline: DiffusionPipeline) -> None:
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    changed = [module for module in modules if any(p.dim() == _CHANNELS_LAST_DIMENSIONS for p in module.parameters())]
    if not changed:
        raise NotAvailableError(
            f"{type(pipeline).__name__} has no convolutions over pictures, so channels_last changes nothing",
            hint="Leave channels_last out with this model.",
        )
    for module in changed:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs leave it out


def _check_quantization(quantization: Quantization, device: torch.device) -> None:
    package = _PACKAGE_OF[quantization]
    if find_spec(package) is None:
        raise NotAvailableError(
            f"quantization={quantization!r} needs the package {package}, which is not installed",
            hint=f"pip install {package}, or leave quantization out.",
        )
    if quantization != "int8" and device.type != "cuda":
        raise NotAvailableError(
            f"quantization={quantization!r} needs an NVIDIA GPU, and this run would be on {device}",
            hint="Use quantization='int8', or leave it out.",
        )


def _check_compile(setup: Setup, device: torch.device) -> None:
    known = [*torch.compiler.list_backends(exclude_tags=()), "eager"]
    if setup.compile_backend not in known:
        raise InvalidRequestError(
            f"compile is {setup.compile_backend!r}, and torch has no such backend",
            hint=f"Use True, or one of {', '.join(['eager', *torch.compiler.list_backends()])}.",
        )
    if setup.offload == "sequential":
        raise InvalidRequestError(
            "compile does not go with offload='sequential', whose weights are elsewhere when it compiles",
            hint="Use offload='model' or 'group'.",
        )
    if setup.compile_backend == "inductor" and device.type == "cpu" and shutil.which("c++") is None:
        raise NotAvailableError(
            "compile on a CPU needs a C++ compiler, and there is no c++ on the PATH",
            hint="Install g++ or clang, or leave compile out.",
        )
