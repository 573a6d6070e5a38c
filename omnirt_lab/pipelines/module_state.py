"""Everything besides its inputs that a module's output depends on, as a key that changes when any of it does.

What is seen: another parameter, buffer or submodule in place of one; a write to a tensor, by its `_version`; the
training flag; forward hooks; a replaced `forward`; adapters, their scaling and merging; dtype and device; the
attention implementation; and the process's settings that change bits (autocast, threads, matmul precision, kernels).

Writes through `.data` leave `_version` as it is. They are noticed by a sample of the values: every one of a tensor of
at most 4,096, else 1,024 spread evenly. A write through `.data` to a few values of a larger tensor goes unnoticed.
"""

from __future__ import annotations

import itertools
import sys
import threading
import types
import weakref
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final

import torch

SAMPLE_ALL_UP_TO: Final = 4_096
SAMPLE_OF_LARGER: Final = 1_024

_ATTENTION_KERNELS: Final[tuple[Callable[[], bool], ...]] = (
    torch.backends.cuda.flash_sdp_enabled,
    torch.backends.cuda.mem_efficient_sdp_enabled,
    torch.backends.cuda.math_sdp_enabled,
)
_PLAIN: Final = (bool, int, float, str, type(None), tuple, torch.dtype)
_FUNCTIONS: Final = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, partial)
_CONFIG: Final = "_internal_dict"
"""Where diffusers' models keep their configuration."""
_COLLECTOR: Final = "transformers.utils.output_capturing"
"""Its hooks only read outputs, and a model gets them by its first call that is asked for hidden states."""


class _Identities:
    """Numbers objects, never using a number twice: an `id()` is free again when its object has gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        """`id()` → its object and the number; goes with the object."""
        self._next = itertools.count()

    def number_of(self, thing: object) -> int:
        """The object's number, drawn when it is first asked for; without a lock where it is known."""
        key = id(thing)
        number = self._find(key, thing)
        if number is None:
            with self._lock:
                number = self._find(key, thing)
                if number is None:
                    number = next(self._next)
                    self._known[key] = weakref.ref(thing, partial(self._forget, key)), number
        return number

    def _find(self, key: int, thing: object) -> int | None:
        known = self._known.get(key)
        return known[1] if known is not None and known[0]() is thing else None

    def _forget(self, key: int, gone: weakref.ref[Any]) -> None:
        known = self._known.get(key)
        if known is not None and known[0] is gone:  # else the id has been given to another object meanwhile
            del self._known[key]


_identities = _Identities()


def module_state(module: torch.nn.Module) -> Hashable:
    """The key of the module as it stands now; equal keys mean that equal inputs give bit-equal outputs."""
    parts = _parts(module)
    state = tuple(_part_state(part) for part in parts)
    return state, tensors_state(_tensors(parts)), _attention_of(module), process_settings()


def attributes_state(module: torch.nn.Module) -> Hashable:
    """The key of what methods read of their own object: public values such as `use_tiling`, processors, the config.

    For modules whose outputs depend on such values; functions that are set on a module are not seen.
    """
    return tuple(
        (repr(vars(part).get(_CONFIG)), tuple((name, _value_state(value)) for name, value in _public(part)))
        for part in _parts(module)
    )


def function_state(call: Callable[..., Any]) -> Hashable:
    """The key of a function or method as code: bound methods of one function are alike."""
    return _identities.number_of(call.__func__ if isinstance(call, types.MethodType) else call)


def tensors_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """All parameters and buffers, each once; several times as fast as the module's own iterators."""
    return _tensors(_parts(module))


def tensors_state(tensors: Sequence[torch.Tensor]) -> Hashable:
    """The key of these tensors alone: which they are, and what they hold."""
    return tuple(_tensor_state(tensor) for tensor in tensors), _sample_values(tensors)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether its values can be read: it is not on the meta device, and of no class of its own, as quantised ones."""
    return not tensor.is_meta and type(tensor) in (torch.Tensor, torch.nn.Parameter)


def _parts(module: torch.nn.Module) -> list[torch.nn.Module]:
    found: dict[int, torch.nn.Module] = {}
    waiting = [module]
    while waiting:
        part = waiting.pop()
        if id(part) not in found:
            found[id(part)] = part
            waiting += [child for child in vars(part)["_modules"].values() if child is not None]
    return list(found.values())


def _tensors(parts: Sequence[torch.nn.Module]) -> list[torch.Tensor]:
    held = [tensor for part in parts for kind in ("_parameters", "_buffers") for tensor in vars(part)[kind].values()]
    return list({id(tensor): tensor for tensor in held if tensor is not None}.values())


def _tensor_state(tensor: torch.Tensor) -> Hashable:
    version = None if tensor.is_inference() else tensor._version  # noqa: SLF001  # the write counter has no public name
    layout = None if tensor.layout != torch.strided else tensor.stride()
    return _identities.number_of(tensor), version, tensor.dtype, tensor.device, tensor.shape, layout


def _sample_values(tensors: Sequence[torch.Tensor]) -> Hashable:
    """A hash over values of all plain tensors."""
    pieces: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
    with torch.no_grad():
        for tensor in tensors:
            if is_plain(tensor):
                pieces.setdefault((tensor.device, tensor.dtype), []).append(_sample(tensor))
        return hash(tuple(_bytes_of(torch.cat(group)) for group in pieces.values()))


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    flat, size = tensor.reshape(-1), tensor.numel()
    return flat if size <= SAMPLE_ALL_UP_TO else flat[:: size // SAMPLE_OF_LARGER]


def _bytes_of(flat: torch.Tensor) -> bytes:
    return flat.contiguous().view(torch.uint8).cpu().numpy().tobytes() if flat.numel() else b""


def _public(thing: object) -> list[tuple[str, object]]:
    return [
        (name, value)
        for name, value in vars(thing).items()
        if not name.startswith("_") and not isinstance(value, (*_FUNCTIONS, torch.Tensor))
    ]


def _value_state(value: object) -> Hashable:
    """A plain value as it is, another object by its number and its own plain values; None for what has none."""
    if type(value) in _PLAIN:
        return type(value).__name__, repr(value)
    if not isinstance(value, type) and "__dict__" in dir(value):
        own = tuple((name, repr(item)) for name, item in _public(value) if type(item) in _PLAIN)
        return _identities.number_of(value), own
    return None


def _part_state(part: torch.nn.Module) -> Hashable:
    forward = vars(part).get("forward")
    return (
        _identities.number_of(part),
        part.training,
        tuple(part._forward_pre_hooks),  # noqa: SLF001  # handles are numbered once in a process
        tuple(number for number, hook in part._forward_hooks.items() if not _only_reads(hook)),  # noqa: SLF001
        None if forward is None else id(forward),
        _adapter_state(part),
    )


def _only_reads(hook: Callable[..., Any]) -> bool:
    return isinstance(hook, types.FunctionType) and hook.__module__ == _COLLECTOR


def _adapter_state(part: torch.nn.Module) -> Hashable:
    """What peft holds beside the weights of an adapted layer; None for all others."""
    peft = sys.modules.get("peft.tuners.tuners_utils")  # no layer is peft's while nobody has imported it
    if peft is None or not isinstance(part, peft.BaseTunerLayer):
        return None
    scaling = vars(part).get("scaling", {})
    return (
        tuple(part.active_adapters),
        tuple(part.merged_adapters),
        part.disable_adapters,
        tuple(sorted((name, float(scale)) for name, scale in scaling.items())),
    )


def _attention_of(module: torch.nn.Module) -> Hashable:
    return getattr(vars(module).get("config"), "_attn_implementation", None)


def process_settings() -> Hashable:
    """The key of what this process has set that changes bits, whatever the module is."""
    autocast = tuple(
        torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None for kind in ("cpu", "cuda")
    )
    return (
        autocast,
        torch.is_inference_mode_enabled(),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.mkldnn.enabled,
        torch.backends.cudnn.enabled,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        tuple(is_enabled() for is_enabled in _ATTENTION_KERNELS),
    )
