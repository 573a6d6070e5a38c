"""Statistics of a run's final latents."""

from __future__ import annotations

import torch

from omnirt_lab.records import LatentStats


def latent_stats(latents: torch.Tensor) -> LatentStats:
    """Summarise latents of any shape; one transfer from the device. `std` is the population's (divided by N)."""
    values = latents.detach().to(torch.float32)
    finite_count = int(torch.isfinite(values).sum())
    nan_count = values.numel() - finite_count
    shape = tuple(latents.shape)
    if nan_count or finite_count == 0:
        return LatentStats(shape=shape, mean=None, std=None, min=None, max=None, nan_count=nan_count)
    std, mean = torch.std_mean(values, correction=0)
    low, high = torch.aminmax(values)
    figures = torch.stack((mean, std, low, high)).tolist()
    return LatentStats(shape=shape, mean=figures[0], std=figures[1], min=figures[2], max=figures[3], nan_count=0)
