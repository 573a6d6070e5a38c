from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from omnirt_lab.errors import InvalidRequestError, ModelLoadError, UnsupportedTaskError
from omnirt_lab.pipelines.adapters import use_adapters
from omnirt_lab.pipelines.fingerprints import fingerprint
from omnirt_lab.records import Adapter
from tests.pipelines import tiny


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA over the tiny UNet and text encoder, as training saves it."""
    pipeline = tiny.build("sd")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
        pipeline.text_encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    folder = tmp_path_factory.mktemp("lora")
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet)),
        text_encoder_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.text_encoder)),
    )
    return folder


def draw(pipeline):
    return pipeline(**tiny.call_options("sd", steps=2)).images


def test_an_adapter_changes_the_picture_by_its_scale_and_leaves_no_trace(sd, lora):
    bare, weights = draw(sd), fingerprint(sd.unet)

    pictures = []
    for scale in (1.0, 0.5):
        with use_adapters(sd, [Adapter(source=str(lora), scale=scale)]):
            pictures.append(draw(sd))

    assert not np.array_equal(pictures[0], bare)
    assert not np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(draw(sd), bare)
    assert fingerprint(sd.unet) == weights


def test_two_adapters_work_together(sd, lora):
    wanted = [Adapter(source=str(lora), name="one"), Adapter(source=str(lora), name="two", scale=0.5)]
    with use_adapters(sd, wanted) as warnings:
        assert warnings == ()
        assert sorted(sd.get_active_adapters()) == ["one", "two"]


def test_no_adapters_touch_nothing(sd):
    with use_adapters(sd, ()):
        assert sd.get_list_adapters() == {}


def test_adapters_go_when_the_run_raises(sd, lora):
    with pytest.raises(ZeroDivisionError), use_adapters(sd, [Adapter(source=str(lora))]):
        raise ZeroDivisionError
    assert sd.get_list_adapters() == {}


def test_a_missing_or_damaged_adapter_is_named(sd, tmp_path):
    with pytest.raises(ModelLoadError, match="nowhere"), use_adapters(sd, [Adapter(source=str(tmp_path / "nowhere"))]):
        pass
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with (
        pytest.raises(ModelLoadError, match=r"bad\.safetensors"),
        use_adapters(sd, [Adapter(source=str(tmp_path / "bad.safetensors"))]),
    ):
        pass


def test_an_adapter_for_another_model_is_an_error_and_not_ignored(sd, tmp_path):
    save_file({"transformer.block.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")

    with pytest.raises(ModelLoadError), use_adapters(sd, [Adapter(source=str(tmp_path / "other.safetensors"))]):
        pass
    assert sd.get_list_adapters() == {}


def test_equal_names_and_adapters_of_the_users_own_are_refused(sd, lora):
    twice = [Adapter(source=str(lora)), Adapter(source=str(lora))]
    with pytest.raises(InvalidRequestError, match="default"), use_adapters(sd, twice):
        pass

    sd.load_lora_weights(str(lora), adapter_name="mine")
    with pytest.raises(InvalidRequestError, match="mine"), use_adapters(sd, twice[:1]):
        pass
    assert sd.get_active_adapters() == ["mine"]


def test_a_pipeline_that_takes_no_lora_says_so():
    from diffusers import DDIMPipeline

    sd = tiny.build("sd")
    pipeline = DDIMPipeline(unet=sd.unet, scheduler=sd.scheduler)
    with pytest.raises(UnsupportedTaskError, match="DDIMPipeline"), use_adapters(pipeline, [Adapter(source="x")]):
        pass
