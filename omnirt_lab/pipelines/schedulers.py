"""Schedulers by short names, and another one for the length of a run."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import diffusers
from diffusers import DiffusionPipeline

from omnirt_lab.errors import InvalidRequestError, UnknownOptionError

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
    if not _fits(own, wanted):
        raise InvalidRequestError(
            f"{wanted.__name__} cannot stand in for this model's {type(own).__name__}",
            hint=f"These can: {', '.join(compatible_names(own))}.",
        )
    accepted = _parameters(wanted)
    return wanted.from_config({k: v for k, v in own.config.items() if k in accepted or k.startswith("_")})


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
