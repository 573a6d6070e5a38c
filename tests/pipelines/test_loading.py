from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from omnirt_lab.errors import InvalidRequestError, ModelLoadError, NotAvailableError, UnsupportedTaskError
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.loading import load_pipeline, resolve_placement, with_task_class
from tests.pipelines import tiny

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
CPU = resolve_placement(device="cpu")


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sd"
    tiny.build("sd").save_pretrained(folder)
    return folder


@pytest.fixture
def broken(sd_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd_folder, tmp_path / "broken"))


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def load(folder: Path, task="text2image", placement=CPU):
    return load_pipeline(get_model(str(folder)), task=task, placement=placement)


def test_a_loaded_pipeline_draws_what_the_saved_one_drew(family, pipeline, tmp_path):
    before = tiny.picture_of(pipeline(**tiny.call_options(family, steps=1)))
    pipeline.save_pretrained(tmp_path / family)

    loaded = load(tmp_path / family, task="text2video" if family == "wan" else "text2image")

    assert type(loaded.pipeline) is type(pipeline)
    assert loaded.warnings == ()
    after = tiny.picture_of(loaded.pipeline(**tiny.call_options(family, steps=1)))
    assert np.allclose(after, before, atol=1e-5)  # weights mapped from a file lie otherwise, so kernels round otherwise


def test_loading_prints_nothing_and_leaves_the_libraries_as_they_were(sd_folder, capfd):
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]

    load(sd_folder)

    assert capfd.readouterr() == ("", "")
    assert [(logger.handlers, logger.level, logger.propagate) for logger in loggers] == before
    assert diffusers.utils.logging.is_progress_bar_enabled()
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_the_task_picks_the_class(sd_folder):
    assert type(load(sd_folder, task="image2image").pipeline) is StableDiffusionImg2ImgPipeline


def test_a_task_that_the_model_cannot_do_names_those_that_it_can(sd_folder):
    with pytest.raises(UnsupportedTaskError, match="text2audio") as caught:
        load(sd_folder, task="text2audio")
    assert "image2image" in caught.value.hint


def test_the_weights_are_held_in_the_dtype_that_was_asked_for(sd_folder):
    pipeline = load(sd_folder, placement=resolve_placement("bfloat16", "cpu")).pipeline

    assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.bfloat16}


@pytest.mark.parametrize("name", [UNET_WEIGHTS, "text_encoder/model.safetensors"])
def test_a_truncated_weight_file_is_named(broken, name):
    os.truncate(broken / name, 5000)

    with pytest.raises(ModelLoadError, match=f"{name} is damaged") as caught:
        load(broken)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "name", [UNET_WEIGHTS, "text_encoder/model.safetensors", "vae/config.json", "scheduler/scheduler_config.json"]
)
def test_a_missing_file_is_an_error_that_names_its_component(broken, name):
    (broken / name).rename(broken / name.split("/")[0] / "elsewhere")

    with pytest.raises(ModelLoadError, match=name.split("/")[0]):
        load(broken)


def test_weights_of_another_shape_are_an_error(broken):
    change_json(broken / "unet" / "config.json", block_out_channels=[32, 128])

    with pytest.raises(ModelLoadError, match="shape"):
        load(broken)


@pytest.mark.parametrize("name", [UNET_WEIGHTS, "text_encoder/model.safetensors"])
def test_missing_weights_are_an_error_and_not_random(broken, name):
    weights = load_file(broken / name)
    lost = next(key for key in weights if key.endswith("norm2.weight"))
    del weights[lost]
    save_file(weights, broken / name, metadata={"format": "pt"})

    with pytest.raises(ModelLoadError, match="random ones would stand in"):
        load(broken)


def test_a_class_that_diffusers_does_not_have_is_an_error(broken):
    change_json(broken / "model_index.json", _class_name="NoSuchPipeline")
    with pytest.raises(ModelLoadError, match="NoSuchPipeline"):
        load(broken)

    change_json(broken / "model_index.json", _class_name="StableDiffusionPipeline", unet=["diffusers", "NoSuchUNet"])
    with pytest.raises(ModelLoadError, match="NoSuchUNet"):
        load(broken)


def test_a_class_of_diffusers_that_is_no_pipeline_is_an_error(broken):
    change_json(broken / "model_index.json", _class_name="UNet2DConditionModel")

    with pytest.raises(ModelLoadError, match="UNet2DConditionModel"):
        load(broken)


def test_a_sibling_shares_the_components_and_casts_none(sd):
    sd.unet.to(torch.bfloat16)
    sd.unet.conv_in.float()  # as models do that keep some layers in float32

    sibling = with_task_class(sd, StableDiffusionImg2ImgPipeline)

    assert sibling.unet is sd.unet
    assert sibling.scheduler is sd.scheduler
    assert sd.unet.conv_in.weight.dtype is torch.float32
    assert sd.unet.conv_out.weight.dtype is torch.bfloat16
    assert sibling.config.requires_safety_checker is False


def test_a_sibling_that_needs_other_components_is_an_error():
    with pytest.raises(UnsupportedTaskError, match="FluxPipeline"):
        with_task_class(tiny.build("flux"), StableDiffusionPipeline)


def test_the_default_is_float32_on_what_is_there():
    placement = resolve_placement()

    assert placement.dtype is torch.float32
    assert placement.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_float16_on_a_cpu_is_allowed_with_a_warning():
    assert [warning.code for warning in resolve_placement("float16", "cpu").warnings] == ["float16_on_cpu"]


@pytest.mark.parametrize(("dtype", "device"), [("int8", None), (None, "gpu"), (None, "cuda:x")])
def test_an_unknown_dtype_or_device_is_an_invalid_request(dtype, device):
    with pytest.raises(InvalidRequestError):
        resolve_placement(dtype, device)


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has it")
@pytest.mark.parametrize("device", ["cuda:7", "mps"])
def test_a_device_that_is_not_there_is_not_available(device):
    with pytest.raises(NotAvailableError):
        resolve_placement(device=device)
