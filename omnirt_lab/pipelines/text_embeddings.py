"""A cache of text embeddings, at the encoder's call."""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from torch._dynamo.eval_frame import OptimizedModule
from transformers import PreTrainedModel

from omnirt_lab.pipelines.call_cache import CallCache
from omnirt_lab.units import BYTES_PER_MIB

DEFAULT_BUDGET_BYTES: Final = 256 * BYTES_PER_MIB


class TextEmbeddingCache(CallCache):
    """Memoises calls of text encoders."""

    cache_type: ClassVar[str] = "text_embedding"

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        super().__init__(budget_bytes)

    def wants(self, name: str, module: torch.nn.Module) -> bool:
        """Whether this is a text encoder's call: a transformers model in one of diffusers' places for them."""
        model = module._orig_mod if isinstance(module, OptimizedModule) else module  # noqa: SLF001  # torch.compile's
        is_call = name.startswith("text_encoder") and not name.endswith(("_encode", "_decode"))
        return self.is_enabled and is_call and isinstance(model, PreTrainedModel)
