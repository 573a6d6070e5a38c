"""Pipelines that stay in memory between runs, up to a budget of bytes on each device."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import torch
from diffusers import DiffusionPipeline, ModularPipeline

from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.loading import (
    Loaded,
    Placement,
    get_pipeline_class,
    load_pipeline,
    resolve_placement,
    with_task_class,
)
from omnirt_lab.pipelines.modular_loading import load_modular
from omnirt_lab.pipelines.reclaiming import default_budget_bytes, free_memory, held_bytes, reclaim
from omnirt_lab.pipelines.setup import NO_SETUP, Setup, check_setup
from omnirt_lab.pipelines.stored_weights import weight_sizes
from omnirt_lab.records import Eviction, Record, Task, WarningData

CACHE_TYPE: Final = "resident_pipeline"

_HOST: Final = "cpu"


@dataclass(frozen=True)
class Resident:
    """A pipeline in memory, ready to be called by one thread at a time."""

    pipeline: DiffusionPipeline

    is_kept: bool
    """False while the cache is off, which was not asked then."""

    loaded_now: bool
    """Read from its files for this call, rather than found in memory."""

    load_ns: int
    """What reading it took when it was read: now, or saved now."""

    size_bytes: int
    """Weights and buffers, those that pipelines of one model share counted once."""

    warnings: tuple[WarningData, ...] = ()
    """What the user should know about the loading and the placement; repeated for each call."""


class HeldModel(Record, frozen=True, kw_only=True):
    """One resident model."""

    name: str

    held_bytes: dict[str, int]
    """Device → bytes of its weights and buffers, as they lay when it was loaded."""

    is_in_use: bool
    """A run has it, and nobody evicts it."""


class ResidencyStats(Record, frozen=True, kw_only=True):
    """What the cache has done since it was made, and what it holds."""

    is_enabled: bool
    """False loads for each run anew, and keeps nothing."""

    models: tuple[HeldModel, ...]
    """The least recently used first."""

    size_bytes: int
    """Of all of them."""

    budget_bytes: dict[str, int]
    """Device → what models on it may take together."""

    hits: int

    misses: int

    evictions: int

    freed_bytes: int
    """By evictions, as measured."""


@dataclass(frozen=True)
class _Key:
    """What decides the weights in memory. Nothing of a call stands here: no call parameter causes a reload."""

    location: str
    revision: str
    dtype: torch.dtype
    device: torch.device
    setup: Setup
    pipeline_class: type[DiffusionPipeline] | None
    """Only where hooks of one pipeline move the weights, which another one cannot share."""


@dataclass
class _Entry:
    name: str
    load_ns: int
    held_bytes: dict[str, int]
    warnings: tuple[WarningData, ...]
    users: int = 0
    """Runs that have it now."""
    by_class: dict[type[DiffusionPipeline], DiffusionPipeline] = field(default_factory=dict)
    """One pipeline for each task's class; all of them share their components."""


OnEviction = Callable[[Eviction], None]


class ResidencyCache:
    """Loads a model once and keeps it, the least recently used ones going first when a device's budget is spent.

    1. `use` finds the model, or makes room for it by the size that its files tell, loads it, and makes room again by
       the size that it has. In the block it is in use, and not evicted.
    2. At the block's end the others that were in use before may go, if the budget is still overdrawn.
    3. Nobody else keeps an idle model, so an evicted one's memory is free at once; what that came to is measured.

    It knows only what it has loaded: pipelines that their owner has published, or has observed, are never evicted.
    Safe to use from several threads: one loads at a time, and two that want the same model load it once.

    Parameters
    ----------
    budget_bytes
        What models may take together on each device; one model may always stay. None: 70 % of a GPU's memory, and half
        of the host's, whatever the container may use of it.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.budget_bytes = budget_bytes
        """May be set at any time; the next use keeps to it."""
        self.is_enabled = True
        """Set to False to load for each call anew; the next one lets go of all that is held."""
        self._loading = threading.Lock()
        self._table = threading.Lock()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._hits = self._misses = self._evictions = self._freed_bytes = 0

    @contextmanager
    def use(
        self,
        source: ModelSource,
        *,
        task: Task,
        dtype: str | None = None,
        device: str | None = None,
        setup: Setup = NO_SETUP,
        on_eviction: OnEviction = lambda _: None,
    ) -> Iterator[Resident]:
        """The model's pipeline for this task, loaded now unless it is resident; in use until the block ends.

        Parameters
        ----------
        on_eviction
            Told of each model that had to go for this one.

        Raises
        ------
        InvalidRequestError, NotAvailableError
            If the dtype, the device or the setup is unknown, or not there.
        UnsupportedTaskError, ModelLoadError
            As `load_pipeline` does.
        """
        placement = resolve_placement(dtype, device)
        pipeline_class = ModularPipeline if source.blocks_class is not None else get_pipeline_class(source, task)
        check_setup(setup, placement.device)
        own_class = pipeline_class if setup.moves_weights else None
        key = _Key(source.location, source.revision, placement.dtype, placement.device, setup, own_class)
        with self._loading:
            is_kept = self.is_enabled
            if not is_kept:
                self.clear()
            entry = self._take(key) if is_kept else None
            loaded_now = entry is None
            if entry is None:
                if is_kept:
                    self._make_room(_foreseen(source, placement, setup), None, on_eviction)
                entry = _entry(source, task, placement, setup, pipeline_class)
                if is_kept:
                    self._keep(key, entry, on_eviction)
        try:
            yield Resident(
                pipeline=_of_class(entry, pipeline_class),
                is_kept=is_kept,
                loaded_now=loaded_now,
                load_ns=entry.load_ns,
                size_bytes=sum(entry.held_bytes.values()),
                warnings=entry.warnings,
            )
        finally:
            self._release(entry, on_eviction)

    def stats(self) -> ResidencyStats:
        """What is resident, and how often that helped."""
        with self._table:
            held = [
                HeldModel(name=entry.name, held_bytes=entry.held_bytes, is_in_use=entry.users > 0)
                for entry in self._entries.values()
            ]
            devices = {device: None for model in held for device in model.held_bytes}
            return ResidencyStats(
                is_enabled=self.is_enabled,
                models=tuple(held),
                size_bytes=sum(sum(model.held_bytes.values()) for model in held),
                budget_bytes={device: self._budget_of(device) for device in devices or {_HOST: None}},
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                freed_bytes=self._freed_bytes,
            )

    def clear(self) -> None:
        """Let go of every model; one in use stays in memory until its run has ended."""
        with self._table:
            held = len(self._entries)
            self._entries.clear()
        if held:
            free_memory()

    def _take(self, key: _Key) -> _Entry | None:
        with self._table:
            entry = self._entries.get(key)
            if entry is None:
                self._misses += 1
                return None
            self._hits += 1
            entry.users += 1
            self._entries.move_to_end(key)
            return entry

    def _keep(self, key: _Key, entry: _Entry, on_eviction: OnEviction) -> None:
        with self._table:
            entry.users += 1
            self._entries[key] = entry
        self._make_room({}, key, on_eviction)

    def _release(self, entry: _Entry, on_eviction: OnEviction) -> None:
        with self._table:
            entry.users -= 1
            latest = next(reversed(self._entries), None)
        if self._loading.acquire(blocking=False):  # else another run loads, and makes room itself
            try:
                self._make_room({}, latest, on_eviction)
            finally:
                self._loading.release()

    def _make_room(self, needed_bytes: Mapping[str, int], keep: _Key | None, on_eviction: OnEviction) -> None:
        """Let idle models go, the least recently used first, until what stays and what is needed fits."""
        while (found := self._pop_idle(needed_bytes, keep)) is not None:
            device, entry = found
            size_bytes = entry.held_bytes[device]
            reclaimed = reclaim(device, entry.by_class.clear)
            eviction = Eviction(
                cache_type=CACHE_TYPE,
                name=entry.name,
                device=device,
                size_bytes=size_bytes,
                memory_kind=reclaimed.kind,
                before_bytes=reclaimed.before_bytes,
                after_bytes=reclaimed.after_bytes,
            )
            with self._table:
                self._evictions += 1
                self._freed_bytes += eviction.freed_bytes or 0
            on_eviction(eviction)

    def _pop_idle(self, needed_bytes: Mapping[str, int], keep: _Key | None) -> tuple[str, _Entry] | None:
        """The next model to go and the device that it overdraws; it is in the table no more."""
        with self._table:
            devices = {device: None for entry in self._entries.values() for device in entry.held_bytes}
            for device in devices:
                used_bytes = sum(entry.held_bytes.get(device, 0) for entry in self._entries.values())
                if used_bytes + needed_bytes.get(device, 0) <= self._budget_of(device):
                    continue
                for key, entry in self._entries.items():
                    if not entry.users and key != keep and device in entry.held_bytes:
                        return device, self._entries.pop(key)
        return None

    def _budget_of(self, device: str) -> int:
        return default_budget_bytes(device) if self.budget_bytes is None else self.budget_bytes


def _of_class(entry: _Entry, pipeline_class: type[DiffusionPipeline]) -> DiffusionPipeline:
    if pipeline_class not in entry.by_class:
        entry.by_class[pipeline_class] = with_task_class(next(iter(entry.by_class.values())), pipeline_class)
    return entry.by_class[pipeline_class]


def _foreseen(source: ModelSource, placement: Placement, setup: Setup) -> dict[str, int]:
    """Device → bytes that the model will take there, as far as its files tell; empty where they do not.

    A device map spreads them as loading sees fit, so that nothing is said of it.
    """
    if source.blocks_class is not None or setup.device_map is not None:
        return {}
    sizes = weight_sizes(source, dtype=str(placement.dtype).removeprefix("torch."), quantization=setup.quantization)
    if sizes is None:
        return {}
    device = _HOST if setup.offload is not None else str(placement.device)
    return {device: sum(size.total_bytes for size in sizes.values())}


def _entry(
    source: ModelSource, task: Task, placement: Placement, setup: Setup, pipeline_class: type[DiffusionPipeline]
) -> _Entry:
    start_ns = time.perf_counter_ns()
    loaded = _load(source, task, placement, setup)
    load_ns = time.perf_counter_ns() - start_ns
    entry = _Entry(source.name, load_ns, held_bytes(loaded.pipeline), placement.warnings + loaded.warnings)
    entry.by_class[pipeline_class] = loaded.pipeline
    return entry


def _load(source: ModelSource, task: Task, placement: Placement, setup: Setup) -> Loaded:
    if source.blocks_class is not None:
        return load_modular(source, placement=placement, setup=setup)
    return load_pipeline(source, task=task, placement=placement, setup=setup)
