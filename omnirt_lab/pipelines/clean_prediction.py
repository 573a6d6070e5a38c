"""What a solver step says the finished latents will be: the model's prediction of x0, exactly or not at all.

Sources: the `step` and `convert_model_output` methods of the schedulers named here, diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import diffusers
import torch
from diffusers.utils import BaseOutput

_GIVING: Final = (
    diffusers.DDIMScheduler,
    diffusers.DDPMScheduler,
    diffusers.EulerDiscreteScheduler,
    diffusers.EulerAncestralDiscreteScheduler,
    diffusers.HeunDiscreteScheduler,
    diffusers.KDPM2DiscreteScheduler,
    diffusers.KDPM2AncestralDiscreteScheduler,
    diffusers.LCMScheduler,
)
"""Return x0 beside the new latents."""

_BY_SIGMA: Final = (
    diffusers.DPMSolverMultistepScheduler,
    diffusers.DPMSolverSinglestepScheduler,
    diffusers.UniPCMultistepScheduler,
    diffusers.DEISMultistepScheduler,
)

_FLOW: Final = (
    diffusers.FlowMatchEulerDiscreteScheduler,
    diffusers.FlowMatchHeunDiscreteScheduler,
    diffusers.FlowMatchLCMScheduler,
)


@dataclass(frozen=True)
class SolverStep:
    """One call of a scheduler's `step`, which has returned."""

    scheduler: Any
    output: object
    model_output: object = None
    timestep: object = None
    sample: object = None
    options: Mapping[str, object] = field(default_factory=dict)
    """The other arguments that were passed by name."""


def predicted_clean(step: SolverStep) -> torch.Tensor | None:
    """The prediction of x0, of the sample's shape; None where this scheduler or its setting is not known here.

    Subclasses are not known: their `step` may be another.
    """
    model_output, sample = step.model_output, step.sample
    if not (isinstance(model_output, torch.Tensor) and isinstance(sample, torch.Tensor)):
        return None
    kind = type(step.scheduler)
    if kind in _GIVING:
        clean = _given(step.output)
    elif model_output.shape != sample.shape:  # a learned variance stands beside the prediction
        return None
    elif kind is diffusers.PNDMScheduler:
        clean = _by_alphas(step.scheduler, model_output.float(), step.timestep, sample.float())
    elif kind in _BY_SIGMA:
        clean = _by_sigma(step.scheduler, model_output.float(), sample.float())
    elif kind in _FLOW and not _is_unusual_flow(step):
        clean = sample.float() - _sigma(step.scheduler) * model_output.float()
    else:
        return None
    return clean if clean is not None and clean.shape == sample.shape else None


def _given(output: object) -> torch.Tensor | None:
    values = output.to_tuple() if isinstance(output, BaseOutput) else output
    second = values[1] if isinstance(values, tuple) and len(values) > 1 else None
    return second if isinstance(second, torch.Tensor) else None


def _by_alphas(scheduler: Any, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor) -> torch.Tensor | None:
    alpha_bar = float(scheduler.alphas_cumprod[int(timestep)])
    return _converted(
        scheduler.config.prediction_type, model_output, sample, alpha=alpha_bar**0.5, sigma=(1 - alpha_bar) ** 0.5
    )


def _by_sigma(scheduler: Any, model_output: torch.Tensor, sample: torch.Tensor) -> torch.Tensor | None:
    if scheduler.config.thresholding:
        return None
    sigma = _sigma(scheduler)
    if scheduler.config.prediction_type == "flow_prediction":
        return sample - sigma * model_output
    if scheduler.config.get("use_flow_sigmas"):
        alpha_t, sigma_t = 1 - sigma, sigma
    else:
        alpha_t = (1 + sigma**2) ** -0.5
        sigma_t = sigma * alpha_t
    return _converted(scheduler.config.prediction_type, model_output, sample, alpha=alpha_t, sigma=sigma_t)


def _converted(
    prediction_type: str, model_output: torch.Tensor, sample: torch.Tensor, *, alpha: float, sigma: float
) -> torch.Tensor | None:
    """x0, where the sample is `alpha` x0 + `sigma` noise."""
    if prediction_type == "epsilon":
        return (sample - sigma * model_output) / alpha
    if prediction_type == "v_prediction":
        return alpha * sample - sigma * model_output
    return model_output if prediction_type == "sample" else None


def _sigma(scheduler: Any) -> float:
    """The noise of the sample that the step was given; the step has counted its index up by one."""
    return float(scheduler.sigmas[scheduler.step_index - 1])


def _is_unusual_flow(step: SolverStep) -> bool:
    """Whether time runs the other way, each token has a time of its own, noise was added, or the picture grows."""
    latents = step.output[0] if isinstance(step.output, (tuple, BaseOutput)) else None
    return (
        bool(step.scheduler.config.get("invert_sigmas"))
        or step.options.get("per_token_timesteps") is not None
        or bool(step.options.get("s_churn"))
        or not isinstance(latents, torch.Tensor)
        or not isinstance(step.sample, torch.Tensor)
        or latents.shape != step.sample.shape
    )
