"""Schedulers by short names, and another one for the length of a run."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import diffusers
from diffusers import DDIMScheduler, DiffusionPipeline

from omnirt_lab.errors import InvalidRequestError, UnknownOptionError
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.library_messages import quiet_libraries

SCHEDULERS: Final = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "pndm": "PNDMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "dpm2_a": "KDPM2AncestralDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++_single": "DPMSolverSinglestepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "deis": "DEISMultistepScheduler",
    "lcm": "LCMScheduler",
    "flow_euler": "FlowMatchEulerDiscreteScheduler",
    "flow_heun": "FlowMatchHeunDiscreteScheduler",
    "flow_lcm": "FlowMatchLCMScheduler",
}
"""Short name → class of diffusers."""


def get_scheduler_class(name: str) -> type[Any]:
    """The diffusers class of a scheduler's short name or class name.

    Raises
    ------
    UnknownOptionError
        If there is none; the hint has the nearest.
    """
    found = getattr(diffusers, SCHEDULERS.get(name, name), None)
    if not (inspect.isclass(found) and issubclass(found, diffusers.SchedulerMixin)):
        nearest = difflib.get_close_matches(name, SCHEDULERS, n=1, cutoff=0.0)[0]
        raise UnknownOptionError(
            f"no scheduler is called {name!r}", hint=f"The nearest is {nearest!r}; there are {', '.join(SCHEDULERS)}."
        )
    return found


def find_scheduler(source: ModelSource) -> Any | None:
    """The model's own, made from its config; None where that is not on this machine, or is of no class known here."""
    revision = {"revision": source.revision} if source.kind == "hub" else {}
    try:
        with quiet_libraries():
            config = DDIMScheduler.load_config(  # any scheduler's would do: they share the file's name
                source.location, subfolder="scheduler", local_files_only=True, **revision
            )
            return get_scheduler_class(str(config["_class_name"])).from_config(config)
    except (OSError, LookupError, UnknownOptionError):
        return None


def check_scheduler(source: ModelSource, name: str) -> None:
    """Refuse a scheduler that cannot stand in for the model's own, as far as the files that are here tell.

    Raises
    ------
    UnknownOptionError
        If no scheduler has this name.
    InvalidRequestError
        If it does not fit what the model was trained for.
    """
    wanted, own = get_scheduler_class(name), find_scheduler(source)
    if own is not None:
        _require_fit(own, wanted)


@contextmanager
def use_scheduler(pipeline: DiffusionPipeline, name: str | None) -> Iterator[None]:
    """Let the pipeline run with another scheduler in the block; the model's own noise schedule is kept.

    None leaves the pipeline's scheduler in place.

    Raises
    ------
    UnknownOptionError
        If no scheduler has this name.
    InvalidRequestError
        If it does not fit what the model was trained for: noise prediction against flow matching.
    """
    if name is None:
        yield
        return
    own = pipeline.scheduler
    pipeline.scheduler = _made_from(own, get_scheduler_class(name))
    try:
        yield
    finally:
        pipeline.scheduler = own


def compatible_names(scheduler: Any) -> tuple[str, ...]:
    """Short names of the schedulers that can stand in for this one."""
    return tuple(name for name in SCHEDULERS if _fits(scheduler, get_scheduler_class(name)))


def _made_from(own: Any, wanted: type[Any]) -> Any:
    _require_fit(own, wanted)
    accepted = _parameters(wanted)
    return wanted.from_config({k: v for k, v in own.config.items() if k in accepted or k.startswith("_")})


def _require_fit(own: Any, wanted: type[Any]) -> None:
    if not _fits(own, wanted):
        raise InvalidRequestError(
            f"{wanted.__name__} cannot stand in for this model's {type(own).__name__}",
            hint=f"These can: {', '.join(compatible_names(own))}.",
        )


def _fits(own: Any, wanted: type[Any]) -> bool:
    """Whether the class integrates the same kind of process.

    Diffusers' own `compatibles` leave out LCM, and do not tell a UniPC that was set to flow matching from one that
    was not; the parameters tell both.
    """
    if type(own) is wanted:
        return True
    if type(own).__name__.startswith("FlowMatch"):
        return wanted.__name__.startswith("FlowMatch")
    needed = "use_flow_sigmas" if own.config.get("use_flow_sigmas") else "beta_schedule"
    return needed in _parameters(own) and needed in _parameters(wanted)


def _parameters(scheduler: Any) -> set[str]:
    return set(inspect.signature(scheduler if inspect.isclass(scheduler) else type(scheduler)).parameters)
