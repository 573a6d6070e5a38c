"""A cache that stands at a component's call, so that no pipeline has to know of it."""

from __future__ import annotations

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

import torch

from omnirt_lab.pipelines.encoder_calls import (
    CallTimer,
    NotPlainError,
    OutputCopy,
    copy_output,
    device_of,
    digest_inputs,
)
from omnirt_lab.pipelines.module_state import module_state
from omnirt_lab.pipelines.sink import Sink
from omnirt_lab.records import CacheHitData, CacheMissData, Record


class CallCacheStats(Record, frozen=True, kw_only=True):
    """What the cache has done since it was made or cleared, and what it holds."""

    is_enabled: bool
    """False lets every call pass; what is held stays."""

    calls: int
    """Calls that it was asked about; those that it lets pass unasked, as in training, do not count."""

    hits: int

    saved_ns: int
    """Over all hits whose original call was timed: what the call had cost, less what the hit cost."""

    size_bytes: int

    budget_bytes: int

    entries: int


@dataclass(frozen=True)
class _Entry:
    output: OutputCopy
    timer: CallTimer


class CallCache(ABC):
    """Memoises calls of components; stands between a pipeline and its components as a `CallInterceptor`.

    An entry is keyed by the values of all inputs and by the module's state (`module_state`), so an input never gets the
    output of other weights, adapters or scales. What goes in and what comes out are copies: no consumer can write into
    an entry. The least recently used entries go when the budget is spent. Safe to use from several threads.
    """

    cache_type: ClassVar[str]

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.is_enabled = True
        """Set to False to let every call pass; what is held stays."""
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._calls = self._hits = self._saved_ns = self._size_bytes = 0

    @abstractmethod
    def wants(self, name: str, module: torch.nn.Module) -> bool:
        """Whether calls of this name go through the cache."""

    def __call__(
        self,
        name: str,
        module: torch.nn.Module,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        sink: Sink,
    ) -> Any:
        """Answer a call from memory, or make it and keep what it gave."""
        start_ns = time.perf_counter_ns()
        key = self._key(module, call, args, kwargs)
        if key is None:
            return call(*args, **kwargs)
        component = self._component(name)
        entry = self._find(key)
        if entry is None:
            sink.emit(CacheMissData(cache_type=self.cache_type, component=component), stage=name)
            return self._call_and_keep(key, call, args, kwargs)
        output = copy_output(entry.output.value).value
        cost_ns = entry.timer.cost_ns()
        saved_ns = None if cost_ns is None else cost_ns - (time.perf_counter_ns() - start_ns)
        with self._lock:
            self._saved_ns += saved_ns or 0
        size_bytes = entry.output.size_bytes
        hit = CacheHitData(cache_type=self.cache_type, component=component, saved_ns=saved_ns, size_bytes=size_bytes)
        sink.emit(hit, stage=name)
        return output

    def stats(self) -> CallCacheStats:
        """What it holds, and how often that helped."""
        with self._lock:
            return CallCacheStats(
                is_enabled=self.is_enabled,
                calls=self._calls,
                hits=self._hits,
                saved_ns=self._saved_ns,
                size_bytes=self._size_bytes,
                budget_bytes=self.budget_bytes,
                entries=len(self._entries),
            )

    def clear(self) -> None:
        """Forget everything, and start the figures anew."""
        with self._lock:
            self._entries.clear()
            self._calls = self._hits = self._saved_ns = self._size_bytes = 0

    def _component(self, name: str) -> str:
        """The component that a call of this name is made of."""
        return name

    def _state(self, module: torch.nn.Module, call: Callable[..., Any]) -> Hashable:  # noqa: ARG002  # others read it
        """What the output depends on beside the inputs."""
        return module_state(module)

    def _key(
        self, module: torch.nn.Module, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes | None:
        """The key of a call; None for what must not be memoised: in training, with gradients, with opaque inputs."""
        if torch.is_grad_enabled() or any(part.training for part in module.modules()):
            return None
        try:
            inputs = digest_inputs(args, kwargs)
        except NotPlainError:
            return None
        return _digest_state(module, self._state(module, call)) + inputs

    def _find(self, key: bytes) -> _Entry | None:
        with self._lock:
            self._calls += 1
            entry = self._entries.get(key)
            if entry is not None:
                self._hits += 1
                self._entries.move_to_end(key)
            return entry

    def _call_and_keep(self, key: bytes, call: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        timer = CallTimer()
        output = call(*args, **kwargs)
        timer.stop(device_of(output))
        try:
            entry = _Entry(copy_output(output), timer)
        except NotPlainError:
            return output
        if entry.output.size_bytes > self.budget_bytes:
            return output
        with self._lock:
            if key not in self._entries:
                self._size_bytes += entry.output.size_bytes
            self._entries[key] = entry
            while self._size_bytes > self.budget_bytes:
                _, oldest = self._entries.popitem(last=False)
                self._size_bytes -= oldest.output.size_bytes
        return output


_lock: Final = threading.Lock()
_digested: WeakKeyDictionary[torch.nn.Module, tuple[Hashable, bytes]] = WeakKeyDictionary()
"""Module → its state when it was last asked about, and that state's digest."""


def _digest_state(module: torch.nn.Module, state: Hashable) -> bytes:
    """A digest of the module's state; comparing a state with the last one takes a fraction of writing it out."""
    with _lock:
        known = _digested.get(module)
        if known is None or known[0] != state:
            known = _digested[module] = state, hashlib.blake2b(repr(state).encode(), digest_size=16).digest()
    return known[1]
