"""Tiny pipelines for every test of this room."""

from __future__ import annotations

import pytest
import torch
from diffusers import DiffusionPipeline

from tests.pipelines import tiny

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Let diffusers' Euler schedulers convert a tensor by numpy 1's protocol, which numpy 2 deprecates."""
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation doesn't accept:DeprecationWarning")


@pytest.fixture(params=list(tiny.BUILDERS))
def family(request: pytest.FixtureRequest) -> str:
    """Each family's name in turn."""
    return str(request.param)


@pytest.fixture
def pipeline(family: str) -> DiffusionPipeline:
    """A new tiny pipeline of this family."""
    return tiny.build(family)


@pytest.fixture
def sd() -> DiffusionPipeline:
    """A new tiny Stable Diffusion pipeline, for what does not depend on the family."""
    return tiny.build("sd")
