"""Presets and settings in the modes beside `legacy_call`: each has the effect that it has there, or is refused clearly.

That they have one at all is shown by `tests/lab/test_settings.py`, `tests/pipelines/test_adapters.py` and others.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from omnirt_lab import GenerateResult, Lab, RunReport
from omnirt_lab.errors import InvalidRequestError, JobCancelledError, NotAvailableError
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.records import Adapter, Step
from tests.executors.processes import child
from tests.pipelines import tiny

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a child takes over pipes, which Windows does not do")

PROMPT = "a red circle"
LARGE = {"width": 128, "height": 128}
DEADLINE_S = 120.0

CHANGING: dict[str, dict[str, Any]] = {
    "scheduler": {"scheduler": "dpm++"},
    "dtype": {"dtype": "bfloat16"},
    "vae_tiling": {**LARGE, "vae_tiling": True},
    "preset fast": {"preset": "fast", "steps": None},
    "preset low-vram": {**LARGE, "preset": "low-vram"},
    "adapters": {"adapters": True},
}
"""What changes the picture, and how it is asked for."""

KEEPING: dict[str, dict[str, Any]] = {
    "device": {"device": "cpu"},
    "vae_slicing": {"num_images": 2, "vae_slicing": True},
    "channels_last": {"channels_last": True},
    "compile": {"family": "flux", "steps": 1, "guidance_scale": 3.5, "compile": "eager"},
    "preset balanced": {"preset": "balanced"},
}
"""What changes no more than roundings."""

OPTIONS = CHANGING | KEEPING

Draw = Callable[..., GenerateResult]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of SDXL and Flux, and of a LoRA for SDXL."""
    root = tmp_path_factory.mktemp("models")
    for family in ("sdxl", "flux"):
        tiny.build(family).save_pretrained(root / family)
    trained = tiny.build("sdxl").unet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        trained.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(trained))
    StableDiffusionXLPipeline.save_lora_weights(root / "lora", unet_lora_layers=layers)
    return {name: str(root / name) for name in ("sdxl", "flux", "lora")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    before = SETTINGS.current
    with Lab(tmp_path_factory.mktemp("options") / "state") as opened:
        yield opened
    SETTINGS.current = before


@pytest.fixture(scope="module")
def draw(lab: Lab, models: dict[str, str]) -> Draw:
    """Generate in a mode; what is the same again is not drawn again."""
    drawn: dict[str, GenerateResult] = {}

    def generate(mode: str, *, family: str = "sdxl", **options: Any) -> GenerateResult:
        if f"{mode} {family} {options}" in drawn:
            return drawn[f"{mode} {family} {options}"]
        given = {"steps": 2, "seed": 7, "guidance_scale": 5.0, "progress": False, **tiny.SIZES[family], **options}
        if given.pop("adapters", False):
            given["adapters"] = [Adapter(source=models["lora"])]
        asked = {name: value for name, value in given.items() if value is not None}
        result = lab.generate(PROMPT, model=models[family], execution_mode=mode, **asked)
        return drawn.setdefault(f"{mode} {family} {options}", result)

    return generate


def levels(result: GenerateResult) -> np.ndarray:
    return np.asarray([np.asarray(image, int) for image in result.images])


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("mode", ["subprocess", "modular"])
def test_an_option_has_the_same_effect_in_this_mode_and_is_recorded(draw: Draw, name: str, mode: str) -> None:
    options = OPTIONS[name]
    expected, made = draw("legacy_call", **options), draw(mode, **options)

    if mode == "subprocess":
        assert np.array_equal(levels(made), levels(expected))
    else:
        assert np.abs(levels(made) - levels(expected)).max() <= 1
    settings = {word: made.report.config_resolved.get(word) for word in (*options, "scheduler", "vae_slicing")}
    assert settings == {word: expected.report.config_resolved.get(word) for word in settings}
    assert made.report.scheduler_config == expected.report.scheduler_config
    assert len(made.report.steps) == len(expected.report.steps)
    assert _dtypes(made.report) == _dtypes(expected.report)
    assert made.report.warnings == expected.report.warnings


def _dtypes(report: RunReport) -> dict[str, str]:
    return {name: facts.dtype for name, facts in report.components.items() if facts.dtype is not None}


@pytest.mark.parametrize("name", CHANGING)
def test_the_effect_is_one_that_can_be_seen(draw: Draw, name: str) -> None:
    options = CHANGING[name]
    size = {word: value for word, value in options.items() if word in LARGE}

    plain, made = draw("legacy_call", **size), draw("legacy_call", **options)

    assert np.abs(levels(made) - levels(plain)).max() > 1


@pytest.mark.parametrize("kind", ["first_block", "taylorseer", "magcache", "pab"])
def test_a_denoiser_cache_spares_the_same_calls_in_a_child_and_is_refused_by_blocks(draw: Draw, kind: str) -> None:
    options: dict[str, Any] = {
        "first_block": {"threshold": 0.5},
        "taylorseer": {"cache_interval": 4},
        "magcache": {"mag_ratios": [1.0] * 12, "retention_ratio": 0.1},
        "pab": {},
    }
    asked = {"family": "flux", "steps": 12, "denoiser_cache": kind, "denoiser_cache_options": options[kind]}

    here, apart = draw("legacy_call", **asked), draw("subprocess", **asked)

    assert np.array_equal(levels(here), levels(apart))
    used = [
        {use.cache_type: (use.calls, use.hits) for use in result.report.cache_details}[f"denoiser_{kind}"]
        for result in (here, apart)
    ]
    assert used[0] == used[1]
    assert 0 < used[0][1] < used[0][0] == 12
    with pytest.raises(NotAvailableError, match="denoiser_cache is not available with modular blocks") as caught:
        draw("modular", **asked)
    assert "legacy_call" in caught.value.hint


@pytest.mark.parametrize("mode", ["legacy_call", "subprocess", "modular"])
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"offload": "model", "device": "cpu"}, NotAvailableError, "offload='model' needs a GPU"),
        ({"offload": "sequential", "device": "cpu"}, NotAvailableError, "offload='sequential' needs a GPU"),
        ({"offload": "group", "device": "cpu"}, NotAvailableError, "offload='group' needs a GPU"),
        ({"device_map": "balanced", "device": "cpu"}, NotAvailableError, "device_map='balanced' needs a GPU"),
        ({"quantization": "nf4", "device": "cpu"}, NotAvailableError, "quantization='nf4' needs"),
        ({"quantization": "int4", "device": "cpu"}, NotAvailableError, "quantization='int4' needs"),
        ({"quantization": "float8", "device": "cpu"}, NotAvailableError, "quantization='float8' needs"),
        ({"compile": "no-such-backend"}, InvalidRequestError, "no-such-backend"),
        ({"scheduler": "no-such-scheduler"}, InvalidRequestError, "no-such-scheduler"),
        ({"scheduler": "flow_euler"}, InvalidRequestError, "cannot stand in"),
        ({"dtype": "int7"}, InvalidRequestError, "int7"),
        ({"device": "cuda:99"}, NotAvailableError, "cuda:99"),
        ({"device": "abacus"}, InvalidRequestError, "abacus"),
    ],
)
def test_what_cannot_be_done_here_is_the_same_clear_error_in_every_mode(
    draw: Draw, lab: Lab, models: dict[str, str], mode: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    before = len(lab.history())

    with pytest.raises(error, match=said) as caught:
        draw(mode, **options)

    assert caught.value.hint
    with pytest.raises(error, match=said):
        lab.validate(PROMPT, model=models["sdxl"], execution_mode=mode, **options)
    assert len(lab.history()) == before


@pytest.mark.skipif(find_spec("torchao") is not None, reason="torchao is installed")
@pytest.mark.parametrize("mode", ["legacy_call", "subprocess", "modular"])
def test_int8_without_torchao_names_the_package(draw: Draw, mode: str) -> None:
    with pytest.raises(NotAvailableError, match="needs the package torchao") as caught:
        draw(mode, quantization="int8")

    assert "pip install torchao" in caught.value.hint


@pytest.mark.parametrize("mode", ["subprocess", "modular"])
def test_a_dry_run_foresees_what_the_run_is_given_in_this_mode(
    draw: Draw, lab: Lab, models: dict[str, str], mode: str
) -> None:
    options = {"model": models["sdxl"], "execution_mode": mode, "preset": "fast", "guidance_scale": 5.0, "seed": 7}
    report = draw(mode, **OPTIONS["preset fast"]).report
    before = len(lab.history())

    foreseen = lab.generate(PROMPT, dry_run=True, **options, **tiny.SIZES["sdxl"])

    validated = lab.validate(PROMPT, **options, **tiny.SIZES["sdxl"])
    assert (foreseen.request, foreseen.config_resolved) == (validated.request, validated.config_resolved)
    assert len(lab.history()) == before
    for word in ("num_inference_steps", "scheduler", "preset", "width"):
        assert foreseen.config_resolved[word] == report.config_resolved[word]


def test_a_child_that_does_not_hear_a_cancel_is_killed(lab: Lab) -> None:
    """The last test: the others share the child."""
    job = lab.submit(PROMPT, execution_mode="subprocess", steps=1_000, **LARGE)
    next(event for event in job.events(timeout=DEADLINE_S) if isinstance(event, Step))
    stopped = child()
    os.kill(stopped.pid, signal.SIGSTOP)  # it hears neither messages nor SIGTERM
    lab.configure(cancel_grace_s=0.2)

    job.cancel()

    with pytest.raises(JobCancelledError):
        job.result(timeout=DEADLINE_S)
    assert job.state == "cancelled"
    assert not psutil.pid_exists(stopped.pid)
