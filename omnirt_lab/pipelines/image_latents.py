"""A cache of pictures' latents, at the VAE's `encode`: what it holds is the distribution, which is sampled afterwards.

So the generator makes the same draws with the cache and without it, and the picture stays the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Final

import torch
from diffusers import ModelMixin
from torch._dynamo.eval_frame import OptimizedModule

from omnirt_lab.pipelines.call_cache import CallCache
from omnirt_lab.pipelines.module_state import attributes_state, function_state, module_state
from omnirt_lab.units import BYTES_PER_MIB

DEFAULT_BUDGET_BYTES: Final = 256 * BYTES_PER_MIB

_SUFFIX: Final = "_encode"


class ImageLatentCache(CallCache):
    """Memoises `encode` of autoencoders. Slicing, tiling and attention processors are part of the key, too."""

    cache_type: ClassVar[str] = "image_latents"

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        super().__init__(budget_bytes)

    def wants(self, name: str, module: torch.nn.Module) -> bool:
        """Whether this is the `encode` of one of diffusers' models."""
        model = module._orig_mod if isinstance(module, OptimizedModule) else module  # noqa: SLF001  # torch.compile's
        return self.is_enabled and name.endswith(_SUFFIX) and isinstance(model, ModelMixin)

    def _component(self, name: str) -> str:
        return name.removesuffix(_SUFFIX)

    def _state(self, module: torch.nn.Module, call: Callable[..., Any]) -> Hashable:
        return module_state(module), attributes_state(module), function_state(call)
