"""Pipelines that stay in memory between runs, up to a budget of bytes."""

from __future__ import annotations

import gc
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import psutil
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
from omnirt_lab.pipelines.setup import NO_SETUP, Setup, check_setup
from omnirt_lab.records import Record, Task, WarningData

DEFAULT_SHARE_OF_RAM: Final = 0.5


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


class ResidencyStats(Record, frozen=True, kw_only=True):
    """What the cache has done since it was made, and what it holds."""

    is_enabled: bool
    """False loads for each run anew, and keeps nothing."""

    models: tuple[str, ...]
    """Names of the resident models, the least recently used first."""

    size_bytes: int

    budget_bytes: int

    hits: int

    misses: int

    evictions: int


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
    size_bytes: int
    warnings: tuple[WarningData, ...]
    by_class: dict[type[DiffusionPipeline], DiffusionPipeline] = field(default_factory=dict)
    """One pipeline for each task's class; all of them share their components."""


class ResidencyCache:
    """Loads a model once and keeps it, the least recently used ones going first when the budget is spent.

    Safe to use from several threads: one loads at a time, and two that want the same model load it once. An evicted
    model's memory is free when the runs that still hold its pipeline have ended.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        """Hold at most `budget_bytes`, by default half of the machine's memory; one model may always stay."""
        self.budget_bytes = budget_bytes or int(psutil.virtual_memory().total * DEFAULT_SHARE_OF_RAM)
        self.is_enabled = True
        """Set to False to load for each call anew; the next one lets go of all that is held."""
        self._loading = threading.Lock()
        self._table = threading.Lock()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._hits = self._misses = self._evictions = 0

    def get(
        self,
        source: ModelSource,
        *,
        task: Task,
        dtype: str | None = None,
        device: str | None = None,
        setup: Setup = NO_SETUP,
    ) -> Resident:
        """The model's pipeline for this task, loaded now unless it is resident.

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
            entry = self._find(key) if is_kept else None
            loaded_now = entry is None
            if entry is None:
                entry = _entry(source, task, placement, setup, pipeline_class)
                if is_kept:
                    self._keep(key, entry)
            if pipeline_class not in entry.by_class:
                entry.by_class[pipeline_class] = with_task_class(next(iter(entry.by_class.values())), pipeline_class)
            return Resident(
                pipeline=entry.by_class[pipeline_class],
                is_kept=is_kept,
                loaded_now=loaded_now,
                load_ns=entry.load_ns,
                size_bytes=entry.size_bytes,
                warnings=entry.warnings,
            )

    def stats(self) -> ResidencyStats:
        """What is resident, and how often that helped."""
        with self._table:
            return ResidencyStats(
                is_enabled=self.is_enabled,
                models=tuple(entry.name for entry in self._entries.values()),
                size_bytes=sum(entry.size_bytes for entry in self._entries.values()),
                budget_bytes=self.budget_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
            )

    def clear(self) -> None:
        """Let go of every model."""
        with self._table:
            held = len(self._entries)
            self._entries.clear()
        if held:
            _free_memory()

    def _find(self, key: _Key) -> _Entry | None:
        with self._table:
            entry = self._entries.get(key)
            if entry is None:
                self._misses += 1
                return None
            self._hits += 1
            self._entries.move_to_end(key)
            return entry

    def _keep(self, key: _Key, entry: _Entry) -> None:
        """Add the entry and let the oldest others go until the rest fits."""
        with self._table:
            self._entries[key] = entry
            evicted = 0
            while len(self._entries) > 1 and self._used_bytes() > self.budget_bytes:
                self._entries.popitem(last=False)
                evicted += 1
            self._evictions += evicted
        if evicted:
            _free_memory()

    def _used_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self._entries.values())


def _entry(
    source: ModelSource, task: Task, placement: Placement, setup: Setup, pipeline_class: type[DiffusionPipeline]
) -> _Entry:
    start_ns = time.perf_counter_ns()
    loaded = _load(source, task, placement, setup)
    load_ns = time.perf_counter_ns() - start_ns
    entry = _Entry(source.name, load_ns, weight_bytes(loaded.pipeline), placement.warnings + loaded.warnings)
    entry.by_class[pipeline_class] = loaded.pipeline
    return entry


def _load(source: ModelSource, task: Task, placement: Placement, setup: Setup) -> Loaded:
    if source.blocks_class is not None:
        return load_modular(source, placement=placement, setup=setup)
    return load_pipeline(source, task=task, placement=placement, setup=setup)


def weight_bytes(pipeline: DiffusionPipeline) -> int:
    """Bytes of all parameters and buffers of the pipeline's components, tied ones counted once."""
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = {id(tensor): tensor for module in modules for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _free_memory() -> None:
    gc.collect()  # pipelines and their modules refer to each other in circles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
