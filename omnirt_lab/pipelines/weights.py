"""What is known of a module's weights; found out once, and again when they have changed."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from omnirt_lab.pipelines.fingerprints import fingerprint
from omnirt_lab.pipelines.module_state import is_plain, tensors_of, tensors_state


@dataclass(frozen=True)
class WeightFacts:
    """Of a module's parameters; the fingerprint is of its buffers, too."""

    dtype: str | None
    """Names joined by `+` where there are several; None without parameters."""

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


def _read(module: torch.nn.Module) -> WeightFacts:
    parameters = list(module.parameters())
    return WeightFacts(
        dtype=_joined(parameter.dtype for parameter in parameters),
        held_on=_joined(parameter.device for parameter in parameters),
        parameter_count=sum(parameter.numel() for parameter in parameters),
        parameter_bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        fingerprint=fingerprint(module),
    )


def _joined(values: Iterable[object]) -> str | None:
    names = sorted(str(value).removeprefix("torch.") for value in set(values))
    return "+".join(names) or None
