"""The prediction of x0, checked with a model that knows the answer: each step must say it exactly."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from omnirt_lab.pipelines.clean_prediction import SolverStep, predicted_clean
from omnirt_lab.pipelines.schedulers import SCHEDULERS, get_scheduler_class

STEPS = 6
NAMES = ["ddim", "ddpm", "pndm", "euler", "euler_a", "heun", "dpm++", "dpm++_single", "unipc", "deis", "lcm"]
FLOW = ["flow_euler", "flow_heun", "flow_lcm"]


class OtherEuler(diffusers.FlowMatchEulerDiscreteScheduler):
    """A subclass, which may step in another way."""


def latents(seed: int) -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def ideal_output(scheduler: Any, sample: torch.Tensor, t: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """What a model that knows x0 answers, whatever the scheduler asks it to predict."""
    if type(scheduler).__name__.startswith("FlowMatch"):
        return (sample - clean) / (t / scheduler.config.num_train_timesteps)
    alpha_bar = scheduler.alphas_cumprod[int(t)]
    noisy = scheduler.scale_model_input(sample, t)
    noise = (noisy - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()
    if scheduler.config.prediction_type == "v_prediction":
        return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * clean
    return clean if scheduler.config.prediction_type == "sample" else noise


def predictions(scheduler: Any, clean: torch.Tensor, **options: Any) -> list[torch.Tensor | None]:
    scheduler.set_timesteps(STEPS)
    sample = latents(1) * getattr(scheduler, "init_noise_sigma", 1.0)
    found = []
    for t in scheduler.timesteps:
        output = ideal_output(scheduler, sample, t, clean)
        returned = scheduler.step(output, t, sample, return_dict=False, **options)
        found.append(predicted_clean(SolverStep(scheduler, returned, output, t, sample, options)))
        sample = returned[0]
    return found


def close(found: list[torch.Tensor | None], clean: torch.Tensor) -> bool:
    return all(value is not None and torch.allclose(value, clean, atol=2e-3) for value in found)


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # DEIS divides numpy by tensors
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", NAMES)
def test_each_step_says_what_the_model_predicts(name: str, prediction_type: str):
    clipping = {"clip_sample": False} if name in ("ddim", "ddpm") else {}
    whole = {} if name == "dpm++_single" else {"timestep_spacing": "leading"}  # the ideal model looks its noise up
    scheduler = get_scheduler_class(name)(prediction_type=prediction_type, **whole, **clipping)
    clean = 0.5 * latents(0)

    assert close(predictions(scheduler, clean), clean)


@pytest.mark.parametrize("name", FLOW)
def test_a_flow_step_says_what_the_model_predicts(name: str):
    clean = latents(0)

    assert close(predictions(get_scheduler_class(name)(), clean), clean)


def test_every_short_name_that_predicts_is_known():
    assert {*NAMES, *FLOW, "dpm2", "dpm2_a"} == set(SCHEDULERS)


@pytest.mark.parametrize(
    "scheduler",
    [
        OtherEuler(),
        diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        diffusers.DPMSolverMultistepScheduler(thresholding=True),
        diffusers.DDIMInverseScheduler(),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_what_is_not_known_is_none(scheduler: Any):
    scheduler.set_timesteps(STEPS)
    t, sample = scheduler.timesteps[1], latents(1)
    returned = scheduler.step(latents(2), t, sample, return_dict=False)

    step = SolverStep(scheduler, returned, latents(2), t, sample)

    assert predicted_clean(step) is None
