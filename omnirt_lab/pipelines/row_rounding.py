"""Rows of a shared call, rounded as each is alone.

Kernels for other shapes add up in another order, and guidance multiplies what that changes: at 7.5 a picture of
tiny-shapes came out 1.3e-5 from the one of a run of its own. On the CPU it is convolutions and linear layers that
differ, and only at some shapes. Those are computed row by row, the others for all rows at once; with that, tiny-shapes
draws the bits of single runs. What a part computes outside of such layers stays as it is: tiny SDXL, SD3 and Flux keep
differences of 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch._dynamo.eval_frame import OptimizedModule

from omnirt_lab.pipelines.patches import InstancePatch
from omnirt_lab.pipelines.sites import execution_device

if TYPE_CHECKING:
    from omnirt_lab.pipelines.sites import AnyPipeline

_CALL: Final = "_compiled_call_impl"
"""Where `nn.Module` looks for a compiled call on the instance first: outside of all hooks, offloading's too."""

_known: Final[dict[Hashable, bool]] = {}
"""By all that kernels are chosen by: whether a row is rounded alike alone and in company."""


@contextmanager
def rounded_as_alone(pipeline: AnyPipeline, rows: int) -> Iterator[None]:
    """Let the pipeline's calls inside the block give each of `rows` requests the bits that it gets alone.

    On the CPU only, and not in parts that are compiled. On a GPU rows in one kernel are what a shared call is for.
    """
    patches = [
        InstancePatch(layer, _CALL, _RowWise(layer, rows))
        for layer in (_layers(pipeline) if rows > 1 and execution_device(pipeline).type == "cpu" else ())
    ]
    try:
        for patch in patches:
            patch.install()
        yield
    finally:
        for patch in patches:
            patch.remove()


class _RowWise:
    """A layer's call, in as many parts as there are requests where its kernels make a difference."""

    def __init__(self, layer: torch.nn.Conv2d | torch.nn.Linear, rows: int) -> None:
        self._call: Callable[..., Any] = layer._call_impl  # noqa: SLF001  # what nn.Module calls by default
        self._rows = rows
        weight = layer.weight
        self._kind = str(layer), type(weight), weight.dtype, weight.stride(), rows

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        (values, *others) = args or (None,)
        if not isinstance(values, torch.Tensor) or others or kwargs or len(values) % self._rows or not len(values):
            return self._call(*args, **kwargs)
        key = self._kind, values.shape, values.stride(), values.dtype, torch.get_num_threads()
        if key not in _known:
            _known[key] = self._rounds_alike(values)
        if _known[key]:
            return self._call(values)
        return torch.cat([self._call(own) for own in values.chunk(self._rows)])

    def _rounds_alike(self, values: torch.Tensor) -> bool:
        """Try it with noise in the shape and layout of `values`, so that what is found depends on no prompt."""
        noise = torch.Generator().manual_seed(0)
        own = torch.empty_like(values[: len(values) // self._rows]).normal_(generator=noise)
        company = torch.empty_like(values).copy_(torch.cat([own] * self._rows))
        alone = self._call(own)
        tells_something = not torch.equal(alone, self._call(torch.zeros_like(own)))  # else all weights are 0
        return tells_something and torch.equal(self._call(company), torch.cat([alone] * self._rows))


def _layers(pipeline: AnyPipeline) -> Iterator[torch.nn.Conv2d | torch.nn.Linear]:
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module) and not _is_compiled(part):
            yield from (layer for layer in part.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear))


def _is_compiled(part: torch.nn.Module) -> bool:
    return any(isinstance(module, OptimizedModule) or vars(module).get(_CALL) is not None for module in part.modules())
