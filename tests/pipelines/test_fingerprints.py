from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnirt_lab.pipelines.fingerprints import fingerprint
from tests.pipelines import tiny


class Weights(torch.nn.Module):
    """One parameter, named as the test likes."""

    def __init__(self, values: torch.Tensor, name: str = "weight") -> None:
        super().__init__()
        self.register_parameter(name, torch.nn.Parameter(values, requires_grad=False))


def test_equal_weights_have_equal_fingerprints_in_any_process_order():
    assert fingerprint(tiny.build("sd").unet) == fingerprint(tiny.build("sd").unet)
    assert len(fingerprint(tiny.build("sd").unet)) == 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool])
def test_any_single_changed_value_changes_it(dtype):
    @given(size=st.integers(1, 40_000), data=st.data())
    def check(size, data):
        values = torch.zeros(size, dtype=dtype)
        before = fingerprint(Weights(values.clone()))
        values[data.draw(st.integers(0, size - 1))] = 1

        assert fingerprint(Weights(values)) != before

    check()


def test_swapped_values_change_it():
    values = torch.arange(100_000, dtype=torch.float32)
    swapped = values.clone()
    swapped[[3, 70_000]] = swapped[[70_000, 3]]

    assert fingerprint(Weights(values)) != fingerprint(Weights(swapped))


def test_name_shape_and_dtype_count():
    zeros = torch.zeros(4)
    prints = {
        fingerprint(Weights(zeros)),
        fingerprint(Weights(zeros, name="other")),
        fingerprint(Weights(zeros.reshape(2, 2))),
        fingerprint(Weights(zeros.to(torch.float16))),
    }

    assert len(prints) == 4


def test_a_layout_in_memory_does_not_count():
    values = torch.randn(6, 8)

    assert fingerprint(Weights(values.t().contiguous().t())) == fingerprint(Weights(values))


def test_weights_that_cannot_be_read_have_none():
    assert fingerprint(torch.nn.Linear(2, 2, device="meta")) is None
    assert fingerprint(torch.nn.Identity()) is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_device_does_not_count(sd):
    assert fingerprint(sd.unet.to("cuda")) == fingerprint(tiny.build("sd").unet)
