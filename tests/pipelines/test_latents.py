"""Statistics of latents."""

from __future__ import annotations

import pytest
import torch

from omnirt_lab.pipelines.latents import latent_stats
from omnirt_lab.records import LatentStats


def test_the_figures_are_those_of_all_values():
    stats = latent_stats(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))

    assert stats == LatentStats(shape=(2, 2), mean=3.0, std=pytest.approx(3.5**0.5), min=1.0, max=6.0, nan_count=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_counted_and_leave_no_figures(bad):
    stats = latent_stats(torch.tensor([1.0, bad]))

    assert stats == LatentStats(shape=(2,), mean=None, std=None, min=None, max=None, nan_count=1)


def test_half_precision_is_summed_in_single_precision():
    latents = torch.full((1, 4, 64, 64), 100.0, dtype=torch.float16)

    assert latent_stats(latents).mean == 100.0


def test_empty_latents_have_no_figures():
    assert latent_stats(torch.empty(0, 4)).mean is None
