"""What is known of a module's weights; found out once, and again when they have changed."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from omnirt_lab.pipelines.fingerprints import fingerprint
from omnirt_lab.pipelines.module_state import is_plain, tensors_of, tensors_state


@dataclass(frozen=True)
class WeightFacts:
    """Of a module's parameters; the fingerprint is of its buffers, too."""

    dtype: str | None
    """What the values are held in, joined by `+` where there is more than one; None without parameters."""

    held_on: str | None
    """The devices that they are on now, joined likewise."""

    parameter_count: int

    parameter_bytes: int

    fingerprint: str | None


_lock = threading.Lock()
_known: WeakKeyDictionary[torch.nn.Module, tuple[Hashable, WeightFacts]] = WeakKeyDictionary()
"""Module → state of its weights and what was found then; goes with the module."""


def weight_facts(module: torch.nn.Module) -> WeightFacts:
    """The facts of the weights as they are; those of unchanged ones (`tensors_state`) are not read again."""
    tensors = tensors_of(module)
    if not all(map(is_plain, tensors)):
        return _read(module)
    state = tensors_state(tensors)
    with _lock:
        known = _known.get(module)
    if known is not None and known[0] == state:
        return known[1]
    facts = _read(module)
    with _lock:
        _known[module] = state, facts
    return facts


def held_in(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that hold the values: a quantised one keeps its numbers and scales in others."""
    whole: object = tensor
    if not is_traceable_wrapper_subclass(whole):
        yield tensor
        return
    names, _ = whole.__tensor_flatten__()
    for name in names:
        yield from held_in(getattr(tensor, name))


def _read(module: torch.nn.Module) -> WeightFacts:
    parameters = list(module.parameters())
    held = [part for parameter in parameters for part in held_in(parameter)]
    return WeightFacts(
        dtype=_joined(part.dtype for part in held),
        held_on=_joined(part.device for part in held),
        parameter_count=sum(parameter.numel() for parameter in parameters),
        parameter_bytes=sum(part.numel() * part.element_size() for part in held),
        fingerprint=fingerprint(module),
    )


def _joined(values: Iterable[object]) -> str | None:
    names = sorted(str(value).removeprefix("torch.") for value in set(values))
    return "+".join(names) or None
