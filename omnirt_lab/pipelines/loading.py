"""From a model source to a pipeline in memory, through the real diffusers classes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from diffusers import DiffusionPipeline
from huggingface_hub.constants import HF_HUB_OFFLINE
from packaging.version import Version
from safetensors import SafetensorError, safe_open

from omnirt_lab.errors import InvalidRequestError, LabError, ModelLoadError, NotAvailableError, UnsupportedTaskError
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.library_messages import quiet_libraries
from omnirt_lab.pipelines.model_index import DENOISERS, check_components, read_index
from omnirt_lab.pipelines.setup import NO_SETUP, Setup, make_ready, quantization_argument
from omnirt_lab.pipelines.task_classes import pipeline_class_for
from omnirt_lab.records import Task, WarningData

DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

DTYPE_KEYWORD: Final = "dtype" if Version(diffusers.__version__) >= Version("0.42.0.dev0") else "torch_dtype"

LOADER_ERRORS: Final = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ImportError,
    RuntimeError,
    EOFError,
    MemoryError,
    SafetensorError,
)
"""What from_pretrained raises for files that are missing, damaged or foreign, or too big for the memory."""

_NOT_IN_THE_FILES = "newly initialized"
"""Diffusers and transformers both log these words when weights are missing and random ones stand in."""


@dataclass(frozen=True)
class Placement:
    """Where the weights go and what they are held in."""

    dtype: torch.dtype

    device: torch.device

    warnings: tuple[WarningData, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """A pipeline fresh from its files."""

    pipeline: DiffusionPipeline

    warnings: tuple[WarningData, ...] = ()
    """What diffusers and transformers had to say while loading."""


def load_pipeline(source: ModelSource, *, task: Task, placement: Placement, setup: Setup = NO_SETUP) -> Loaded:
    """Load the model's pipeline for this task; a hub model is downloaded first if it must be.

    Raises
    ------
    UnsupportedTaskError
        If the model cannot do the task.
    ModelLoadError
        If its files are missing, damaged, incomplete or foreign, or do not fit into memory.
    NotAvailableError
        If the setup asks for something that the pipeline does not have.
    """
    pipeline_class = get_pipeline_class(source, task)
    try:
        folder = _local_folder(source, pipeline_class)
        with quiet_libraries() as messages:
            pipeline = pipeline_class.from_pretrained(
                folder, local_files_only=True, **{DTYPE_KEYWORD: placement.dtype}, **_setup_arguments(setup, folder)
            )
        notes = checked_warnings(source, messages)
        make_ready(pipeline, setup, placement.device)
    except LabError:
        raise
    except LOADER_ERRORS as exc:
        raise load_error(source, exc) from exc
    pipeline.set_progress_bar_config(disable=True)
    return Loaded(pipeline=pipeline, warnings=notes)


def with_task_class(pipeline: DiffusionPipeline, pipeline_class: type[DiffusionPipeline]) -> DiffusionPipeline:
    """Build another class's pipeline on the same components; nothing is copied, the scheduler is shared too.

    Unlike `from_pipe` it casts nothing: that would also cast layers which the model keeps in float32.

    Raises
    ------
    UnsupportedTaskError
        If that class needs a component that this pipeline does not have.
    """
    accepted = inspect.signature(pipeline_class.__init__).parameters
    components = {name: part for name, part in pipeline.components.items() if name in accepted}
    settings = {name: value for name, value in pipeline.config.items() if name in accepted and name not in components}
    try:
        with quiet_libraries():
            sibling = pipeline_class(**components, **settings)
    except (TypeError, ValueError, AttributeError) as exc:
        raise UnsupportedTaskError(
            f"the components of a {type(pipeline).__name__} do not make a {pipeline_class.__name__}: {exc}",
            hint="Use a model that was saved for this task.",
        ) from exc
    sibling.register_to_config(_name_or_path=pipeline.name_or_path)
    sibling.set_progress_bar_config(disable=True)
    return sibling


def get_pipeline_class(source: ModelSource, task: Task) -> type[DiffusionPipeline]:
    """Import the class that does this task with this model; loads no weights.

    Raises
    ------
    InvalidRequestError
        If the model is a modular folder, which has no such class.
    UnsupportedTaskError
        If there is none.
    ModelLoadError
        If the installed diffusers does not have it.
    """
    if source.blocks_class is not None:
        raise InvalidRequestError(
            f"{source.name} is a modular folder, which only its blocks can run",
            hint="Use execution_mode='modular'.",
        )
    name = pipeline_class_for(source.pipeline_class, task)
    if name is None:
        raise UnsupportedTaskError(
            f"{source.name} is a {source.pipeline_class} and cannot do {task}",
            hint=f"It can do: {', '.join(source.tasks)}.",
        )
    found = _import_class(name)
    if found is None:
        raise ModelLoadError(
            f"{source.name} needs the pipeline class {name}, which diffusers {diffusers.__version__} does not have",
            hint="Update diffusers, or check `_class_name` in its model_index.json.",
        )
    return found


@lru_cache(maxsize=64)
def _import_class(name: str) -> type[DiffusionPipeline] | None:
    with quiet_libraries():  # importing it makes transformers say what else could be installed
        found = getattr(diffusers, name, None)
    return found if inspect.isclass(found) and issubclass(found, DiffusionPipeline) else None


def resolve_placement(dtype: str | None = None, device: str | None = None) -> Placement:
    """Check the wanted dtype and device; by default float32 on the first of CUDA, MPS and CPU that is there.

    Raises
    ------
    InvalidRequestError
        If either is not one of the known names.
    NotAvailableError
        If this machine does not have the device.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InvalidRequestError(f"dtype is {dtype!r}", hint=f"Use one of {', '.join(DTYPES)}.")
    target = _default_device() if device is None else _parse_device(device)
    held_in = DTYPES[dtype or "float32"]
    notes = [_FLOAT16_ON_CPU] if held_in is torch.float16 and target.type == "cpu" else []
    return Placement(dtype=held_in, device=target, warnings=tuple(notes))


_FLOAT16_ON_CPU = WarningData(
    code="float16_on_cpu",
    message="float16 on a CPU is up to a hundred times slower than float32",
    hint="Leave dtype out, or use dtype='bfloat16' to save memory.",
)


def _default_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda:0")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _parse_device(name: str) -> torch.device:
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()):
        raise InvalidRequestError(f"device is {name!r}", hint="Use cpu, cuda, cuda:1 or mps.")
    if kind == "cuda":
        index, count = int(number or 0), torch.cuda.device_count() if torch.cuda.is_available() else 0
        if index >= count:
            raise NotAvailableError(
                f"device {name!r} was asked for, and torch sees {count} CUDA devices",
                hint="Leave device out to use what is there.",
            )
        return torch.device("cuda", index)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise NotAvailableError("device 'mps' was asked for, and this machine has none", hint="Leave device out.")
    return torch.device(kind)


def _setup_arguments(setup: Setup, folder: Path) -> dict[str, Any]:
    components = read_index(folder).components
    denoisers = [name for name in components if name.removesuffix("_2") in DENOISERS]
    device_map = {} if setup.device_map is None else {"device_map": setup.device_map}
    return {**device_map, **quantization_argument(setup.quantization, denoisers)}


def _local_folder(source: ModelSource, pipeline_class: type[DiffusionPipeline]) -> Path:
    """The folder to load from; a hub model's missing files are downloaded, with their progress bar."""
    if source.kind == "hub":
        folder = Path(
            pipeline_class.download(source.location, revision=source.revision, local_files_only=HF_HUB_OFFLINE)
        )
    else:
        folder = Path(source.location)
    check_components(folder, read_index(folder))
    return folder


def checked_warnings(source: ModelSource, messages: list[str]) -> tuple[WarningData, ...]:
    """What was said while loading, for the report.

    Raises
    ------
    ModelLoadError
        If weights were missing, and random ones stand in.
    """
    for message in messages:
        if _NOT_IN_THE_FILES in message:
            raise ModelLoadError(
                f"the files of {source.name} lack weights, and random ones would stand in: {message}",
                hint="Download the model again, or save it with the transformers version that you load it with. "
                "If it is meant so, load it yourself and pass the pipeline to lab.observe().",
            )
    kept = [message for message in messages if "disabled the safety checker" not in message]  # the model says so itself
    return tuple(WarningData(code="model_load", message=message) for message in kept)


def load_error(source: ModelSource, exc: Exception) -> ModelLoadError:
    """The lab's error for what a loader has raised."""
    if isinstance(exc, MemoryError | torch.OutOfMemoryError):
        hint = "Ask for dtype='bfloat16' to halve it, or free memory with lab.cache.clear()."
        return ModelLoadError(f"{source.name} does not fit into memory: {exc}", hint=hint)
    damaged = None if source.kind == "hub" else _find_damaged_file(Path(source.location))
    what = f"{source.name} could not be loaded as a {source.pipeline_class}"
    if damaged is not None:
        return ModelLoadError(f"{what}: {damaged} is damaged ({exc})", hint="Download or copy that file again.")
    return ModelLoadError(
        f"{what}: {type(exc).__name__}: {exc}", hint="Download the model again, or save it with save_pretrained()."
    )


def _find_damaged_file(folder: Path) -> Path | None:
    for path in sorted(folder.glob("*/*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError):
            return path
    return None
