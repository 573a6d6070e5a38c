from __future__ import annotations

import diffusers
import pytest

from omnirt_lab.errors import InvalidRequestError, UnknownOptionError
from omnirt_lab.pipelines.schedulers import SCHEDULERS, compatible_names, get_scheduler_class, use_scheduler
from tests.pipelines import tiny


def test_every_short_name_has_its_class_in_diffusers():
    assert {name: get_scheduler_class(name).__name__ for name in SCHEDULERS} == SCHEDULERS


def test_a_class_name_works_too():
    assert get_scheduler_class("EulerDiscreteScheduler") is diffusers.EulerDiscreteScheduler


@pytest.mark.parametrize(("name", "nearest"), [("eular", "euler"), ("UNet2DConditionModel", "'"), ("a b", "'")])
def test_an_unknown_scheduler_names_the_nearest(name, nearest):
    with pytest.raises(UnknownOptionError, match=name) as caught:
        get_scheduler_class(name)
    assert nearest in caught.value.hint


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # torch in NumPy 2
@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {"flow_euler", "flow_heun", "flow_lcm"}))
def test_a_scheduler_stands_in_for_a_run_on_the_models_own_noise_schedule(sd, name, capfd):
    own = sd.scheduler

    with use_scheduler(sd, name):
        assert type(sd.scheduler).__name__ == SCHEDULERS[name]
        assert sd.scheduler.config.beta_schedule == "scaled_linear"
        sd(**tiny.call_options("sd", steps=5))

    assert sd.scheduler is own
    assert capfd.readouterr() == ("", "")


def test_no_name_leaves_the_scheduler_alone(sd):
    own = sd.scheduler
    with use_scheduler(sd, None):
        assert sd.scheduler is own


def test_the_own_scheduler_is_back_after_an_error(sd):
    own = sd.scheduler
    with pytest.raises(ZeroDivisionError), use_scheduler(sd, "euler"):
        raise ZeroDivisionError
    assert sd.scheduler is own


def test_flow_matching_and_noise_prediction_do_not_mix(sd):
    with pytest.raises(InvalidRequestError, match="DDIMScheduler") as caught, use_scheduler(sd, "flow_euler"):
        pass
    assert "euler_a" in caught.value.hint
    assert "flow" not in caught.value.hint

    flux = tiny.build("flux")
    with pytest.raises(InvalidRequestError) as caught, use_scheduler(flux, "ddim"):
        pass
    assert caught.value.hint == "These can: flow_euler, flow_heun, flow_lcm."


def test_a_solver_set_to_flow_matching_takes_its_like_only():
    scheduler = diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")

    names = compatible_names(scheduler)

    assert "dpm++" in names
    assert "ddim" not in names
