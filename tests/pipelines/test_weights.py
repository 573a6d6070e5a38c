from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch.testing._internal.two_tensor import TwoTensor

from omnirt_lab.pipelines.fingerprints import fingerprint
from omnirt_lab.pipelines.weights import weight_facts
from tests.pipelines import tiny


def write_in_place(module):
    with torch.no_grad():
        module.conv_in.bias[0] += 1


def write_through_data(module):
    module.conv_out.bias.data[0] += 1


def replace_parameter(module):
    module.conv_out.bias = torch.nn.Parameter(module.conv_out.bias.detach() + 1)


def replace_submodule(module):
    module.conv_out = torch.nn.Conv2d(module.conv_out.in_channels, module.conv_out.out_channels, 3, padding=1)


@pytest.mark.parametrize("change", [write_in_place, write_through_data, replace_parameter, replace_submodule])
def test_changed_weights_are_read_again(sd, change):
    before = weight_facts(sd.unet)

    change(sd.unet)

    after = weight_facts(sd.unet)
    assert before.fingerprint != after.fingerprint == fingerprint(sd.unet)


def test_of_a_tensor_that_keeps_its_values_in_others_these_are_counted():
    """As quantised ones do; this one of torch's own tests holds two of its size."""
    layer = torch.nn.Linear(8, 8, bias=False)
    layer.weight = torch.nn.Parameter(TwoTensor(torch.zeros(8, 8), torch.zeros(8, 8)))

    facts = weight_facts(layer)

    assert (facts.parameter_count, facts.parameter_bytes) == (64, 2 * 64 * 4)
    assert (facts.dtype, facts.held_on, facts.fingerprint) == ("float32", "cpu", None)


def test_moved_weights_are_read_again(sd):
    weight_facts(sd.unet)

    sd.unet.to(torch.bfloat16)

    facts = weight_facts(sd.unet)
    assert facts.dtype == "bfloat16"
    assert facts.parameter_bytes == 2 * facts.parameter_count


def test_unchanged_weights_are_not_read_again(sd):
    assert weight_facts(sd.unet) is weight_facts(sd.unet)


def test_what_cannot_be_read_is_described_without_a_fingerprint():
    facts = weight_facts(torch.nn.Linear(2, 3, device="meta"))

    assert (facts.held_on, facts.parameter_count, facts.fingerprint) == ("meta", 9, None)
    assert weight_facts(torch.nn.Identity()).dtype is None


def test_remembering_keeps_no_weights_alive():
    module = tiny.build("sd").unet
    weight_facts(module)
    first = weakref.ref(next(module.parameters()))

    del module
    gc.collect()

    assert first() is None
