from __future__ import annotations

import gc

import pytest
import torch

from omnirt_lab.pipelines.module_state import module_state, tensors_of, tensors_state
from tests.pipelines import tiny


@pytest.fixture
def encoder():
    return tiny.build("sd").text_encoder


def first_weight(module):
    return next(module.parameters())


def replace_by_equal(module):
    """Another parameter of the same values: the old one's memory, and so its id, may be used again."""
    module.final_layer_norm.weight = torch.nn.Parameter(module.final_layer_norm.weight.detach().clone())
    gc.collect()


def write_in_place(module):
    with torch.no_grad():
        module.final_layer_norm.weight[3] += 1e-3


def write_through_data(module):
    first_weight(module).data.mul_(1.001)


def assign_data(module):
    module.final_layer_norm.weight.data = module.final_layer_norm.weight.data + 1


def add_hook(module):
    module.register_forward_hook(lambda *_: None)


def replace_forward(module):
    module.final_layer_norm.forward = lambda values: values


def replace_submodule(module):
    module.encoder.layers[0].mlp.activation_fn = torch.nn.ReLU()


@pytest.mark.parametrize(
    "change",
    [
        replace_by_equal,
        write_in_place,
        write_through_data,
        assign_data,
        add_hook,
        replace_forward,
        replace_submodule,
        lambda module: module.train(),
        lambda module: module.to(torch.bfloat16),
        lambda module: module.set_attn_implementation("eager"),
    ],
)
def test_whatever_changes_a_module_changes_its_state(encoder, change):
    before = module_state(encoder)
    assert module_state(encoder) == before

    change(encoder)

    assert module_state(encoder) != before


def test_a_module_with_equal_weights_has_another_state():
    assert module_state(tiny.build("sd").text_encoder) != module_state(tiny.build("sd").text_encoder)


def test_settings_of_the_process_that_change_bits_change_the_state(encoder):
    before = module_state(encoder)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module_state(encoder) != before
    with torch.inference_mode():
        assert module_state(encoder) != before
    assert module_state(encoder) == before


def test_weights_on_the_meta_device_and_made_in_inference_mode_have_a_state():
    with torch.inference_mode():
        assert tensors_state(tensors_of(torch.nn.Linear(2, 2))) is not None
    assert tensors_state(tensors_of(torch.nn.Linear(2, 2, device="meta"))) is not None


def test_all_parameters_and_buffers_are_seen_once(family, pipeline):
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            expected = {id(tensor) for tensor in (*part.parameters(), *part.buffers())}
            assert sorted(map(id, tensors_of(part))) == sorted(expected)
