from __future__ import annotations

import base64

import msgspec
import pytest
import torch
from accelerate import cpu_offload

from omnirt_lab.pipelines.resolution import resolve, to_json
from omnirt_lab.pipelines.setup import Setup, make_ready
from omnirt_lab.records import Resolved
from tests.pipelines import tiny


def test_every_component_is_described_and_survives_json(family, pipeline):
    resolved = resolve(pipeline, tiny.call_options(family))

    present = {name for name, part in pipeline.components.items() if part is not None}
    assert set(resolved.components) == present
    assert resolved.pipeline_class == type(pipeline).__name__
    denoiser = resolved.components[tiny.DENOISERS[family][0]]
    module = pipeline.components[tiny.DENOISERS[family][0]]
    assert (denoiser.device, denoiser.dtype) == ("cpu", "float32")
    assert denoiser.parameter_count == sum(parameter.numel() for parameter in module.parameters())
    assert denoiser.parameter_bytes == 4 * denoiser.parameter_count
    assert len(denoiser.fingerprint) == 16
    assert msgspec.json.decode(msgspec.json.encode(resolved), type=Resolved) == resolved


def test_a_component_without_weights_has_its_class_only(sd):
    tokenizer = resolve(sd, {}).components["tokenizer"]

    assert tokenizer.class_name == type(sd.tokenizer).__name__
    assert (tokenizer.device, tokenizer.dtype, tokenizer.parameter_count, tokenizer.fingerprint) == (None,) * 4


def test_defaults_are_filled_in_and_what_json_cannot_hold_is_named(sd):
    config = resolve(sd, {"prompt": "a star", "latents": torch.zeros(1), "callback_on_step_end": print}).config

    assert config["prompt"] == "a star"
    assert (config["num_inference_steps"], config["guidance_scale"]) == (50, 7.5)
    assert (config["width"], config["height"]) == (64, 64)
    assert (config["latents"], config["callback_on_step_end"]) == ("Tensor", "builtin_function_or_method")


@pytest.mark.parametrize(("family", "side_px"), [("sd", 64), ("sdxl", 64), ("sd3", 32), ("flux", 256)])
def test_the_default_size_is_the_one_that_the_pipeline_draws(family, side_px):
    pipeline = tiny.build(family)
    options = {k: v for k, v in tiny.call_options(family, steps=1).items() if k not in ("width", "height")}

    config = resolve(pipeline, options).config

    assert config["width"] == config["height"] == side_px
    assert tiny.picture_of(pipeline(**options)).shape[1:3] == (side_px, side_px)


def test_the_scheduler_is_named_with_its_config(sd):
    config = resolve(sd, {}).scheduler_config

    assert config["_class_name"] == "DDIMScheduler"
    assert config["beta_schedule"] == "scaled_linear"
    assert "_use_default_values" not in config


def test_a_fresh_generator_needs_no_state_and_a_used_one_is_restored_by_its(sd):
    fresh, used = torch.Generator().manual_seed(7), torch.Generator().manual_seed(8)
    torch.randn(3, generator=used)

    first, second = resolve(sd, {"generator": [fresh, used]}).generators

    assert (first.device, first.seed, first.state) == ("cpu", 7, None)
    state = torch.frombuffer(bytearray(base64.b64decode(second.state)), dtype=torch.uint8)
    restored = torch.Generator()
    restored.set_state(state)
    assert torch.equal(torch.randn(3, generator=restored), torch.randn(3, generator=used))


def test_without_a_generator_there_are_no_facts(sd):
    assert resolve(sd, {}).generators is None


def test_mixed_dtypes_are_all_named(sd):
    sd.unet.conv_in.to(torch.bfloat16)

    assert resolve(sd, {}).components["unet"].dtype == "bfloat16+float32"


def test_weights_that_wait_elsewhere_are_called_offloaded(sd):
    cpu_offload(sd.unet, execution_device=torch.device("cpu"))

    unet = resolve(sd, {}).components["unet"]

    assert unet.device == "cpu (offloaded)"
    assert unet.fingerprint is None


def test_weights_that_are_brought_in_groups_are_called_offloaded(sd):
    make_ready(sd, Setup(offload="group"), torch.device("cpu"))

    components = resolve(sd, {}).components

    assert {components[name].device for name in ("unet", "vae", "text_encoder")} == {"cpu (offloaded)"}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_an_offloaded_pipeline_names_the_device_that_runs_it(sd):
    sd.enable_model_cpu_offload()

    assert resolve(sd, {}).components["unet"].device == "cuda:0 (offloaded)"


def test_numbers_that_are_not_finite_become_text():
    assert to_json({"a": float("nan"), 1: (1, 2.5, None)}) == {"a": "nan", "1": [1, 2.5, None]}
