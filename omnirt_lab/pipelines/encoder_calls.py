"""An encoder's call as data: its inputs as a key, its output copied, its cost timed."""

from __future__ import annotations

import copy
import hashlib
import time
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils import BaseOutput
from transformers.utils import ModelOutput

from omnirt_lab.units import NS_PER_MS

_PLAIN = (type(None), bool, int, float, str, torch.dtype, torch.device)


class NotPlainError(Exception):
    """A value that the cache cannot tell apart or copy, such as an attention cache; the call is not memoised."""


def digest_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """A digest of the values of all arguments.

    Raises
    ------
    NotPlainError
        If one is neither a tensor nor a plain value nor made of such.
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, args)
    _feed(digest, kwargs)
    return digest.digest()


def _feed(digest: hashlib.blake2b, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)} {value.stride()} {value.device};".encode())
        if value.numel():
            digest.update(value.detach().reshape(-1).contiguous().view(torch.uint8).cpu().numpy().data)
    elif isinstance(value, _PLAIN):
        digest.update(f"{type(value).__name__} {value!r};".encode())
    elif type(value) in (tuple, list):
        digest.update(f"{type(value).__name__} {len(value)};".encode())
        for item in value:
            _feed(digest, item)
    elif type(value) is dict:
        digest.update(f"dict {len(value)};".encode())
        for name in value:
            _feed(digest, name)
            _feed(digest, value[name])
    else:
        raise NotPlainError(type(value).__name__)


@dataclass(frozen=True)
class OutputCopy:
    """An output that nobody else holds: tensors copied, those that stood twice in it copied once."""

    value: Any

    size_bytes: int


def copy_output(value: Any) -> OutputCopy:
    """Copy an encoder's output: tensors, plain values, distributions; tuples, lists, dicts and output records of such.

    Raises
    ------
    NotPlainError
        If something else is in it.
    """
    copies: dict[int, torch.Tensor] = {}
    copied = _copy(value, copies)
    return OutputCopy(copied, sum(tensor.numel() * tensor.element_size() for tensor in copies.values()))


def _copy(value: Any, copies: dict[int, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        if id(value) not in copies:
            copies[id(value)] = value.detach().clone()
        return copies[id(value)]
    if isinstance(value, _PLAIN):
        return value
    if type(value) is DiagonalGaussianDistribution:
        return _copy_distribution(value, copies)
    if isinstance(value, (ModelOutput, BaseOutput)):
        return type(value)(**{name: _copy(item, copies) for name, item in value.items()})
    if type(value) in (tuple, list):
        return type(value)(_copy(item, copies) for item in value)
    if type(value) is dict:
        return {name: _copy(item, copies) for name, item in value.items()}
    raise NotPlainError(type(value).__name__)


def _copy_distribution(
    value: DiagonalGaussianDistribution, copies: dict[int, torch.Tensor]
) -> DiagonalGaussianDistribution:
    """A distribution whose `mean` is a view of its `parameters`, as in the original: kernels see the same strides."""
    copied = copy.copy(value)
    for name, item in vars(value).items():
        setattr(copied, name, _copy(item, copies))
    if copied.parameters.stride() == value.parameters.stride():
        copied.mean = copied.parameters.chunk(2, dim=1)[0]
    return copied


class CallTimer:
    """What a call cost: by the device's own clock where it ran on CUDA, else by the wall clock.

    CUDA works after Python has gone on: the events are only asked later, when a hit needs the figure.
    """

    def __init__(self) -> None:
        self._start_ns = time.perf_counter_ns()
        self._start = self._mark()
        self._end: torch.cuda.Event | None = None
        self._wall_ns: int | None = None

    def stop(self, device: torch.device | None) -> None:
        """Take the time; `device` is where the output lies."""
        wall_ns = time.perf_counter_ns() - self._start_ns
        if device is not None and device.type == "cuda":
            self._end = self._mark()
        elif device is None or device.type == "cpu":
            self._wall_ns = wall_ns

    def cost_ns(self) -> int | None:
        """Nanoseconds of the call; None where the device has no clock of its own, or has not come to it yet."""
        if self._start is not None and self._end is not None:
            is_over = bool(self._end.query())  # type: ignore[no-untyped-call]  # torch.cuda.Event is not annotated
            return round(float(self._start.elapsed_time(self._end)) * NS_PER_MS) if is_over else None
        return self._wall_ns

    @staticmethod
    def _mark() -> torch.cuda.Event | None:
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # no annotations there
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # nor there
        event.record()
        return event


def device_of(value: Any) -> torch.device | None:
    """The device of the first tensor in an output."""
    if isinstance(value, torch.Tensor):
        return value.device
    if isinstance(value, DiagonalGaussianDistribution):
        return torch.device(value.parameters.device)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return next((device for item in items if (device := device_of(item)) is not None), None)
