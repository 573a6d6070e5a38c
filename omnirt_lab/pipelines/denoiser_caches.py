"""Diffusers' caches inside the denoiser, for the length of a run, and what they really spare."""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.hooks import ModelHook
from diffusers.models.cache_utils import CacheMixin

from omnirt_lab.errors import InvalidRequestError, NotAvailableError, UnknownOptionError
from omnirt_lab.pipelines.setup import denoisers_of
from omnirt_lab.pipelines.sink import Sink
from omnirt_lab.records import CacheHitData, CacheMissData, Config, DenoiserCache, Json, Record, WarningData

_CONFIGS: Final[dict[DenoiserCache, str]] = {
    "first_block": "FirstBlockCacheConfig",
    "taylorseer": "TaylorSeerCacheConfig",
    "magcache": "MagCacheConfig",
    "pab": "PyramidAttentionBroadcastConfig",
}
"""Class of diffusers that configures the cache."""

_DEFAULTS: Final[dict[DenoiserCache, dict[str, Json]]] = {"pab": {"spatial_attention_block_skip_range": 2}}
"""Without one of its ranges PAB skips nothing."""

_LAB_DECIDES: Final = ("num_inference_steps", "current_timestep_callback")


def check_denoiser_cache(config: Config, pipeline_class: type[DiffusionPipeline]) -> None:
    """Check the cache's options, and whether the pipeline's call tells its denoiser what such a cache must know.

    Raises
    ------
    UnknownOptionError, InvalidRequestError
        For an option that its configuration does not have or take, or that it lacks.
    NotAvailableError
        If the installed diffusers has no such cache, or the pipeline cannot use it.
    """
    kind = config.denoiser_cache
    if kind is None:
        if config.denoiser_cache_options:
            raise InvalidRequestError(
                "denoiser_cache_options is set without denoiser_cache", hint=f"Name one: {', '.join(_CONFIGS)}."
            )
        return
    _config_of(kind, config.denoiser_cache_options, steps=1, get_timestep=lambda: 0)
    if kind != "pab" and "cache_context" not in inspect.unwrap(pipeline_class.__call__).__code__.co_names:
        raise NotAvailableError(
            f"{pipeline_class.__name__} does not say which prompt its denoiser is at, which {kind!r} must know",
            hint="Leave denoiser_cache out with this model, or use 'pab'.",
        )
    if kind == "pab" and inspect.getattr_static(pipeline_class, "current_timestep", None) is None:
        raise NotAvailableError(
            f"{pipeline_class.__name__} does not say at which timestep it is, which 'pab' must know",
            hint="Leave denoiser_cache out with this model, or use another one.",
        )


@dataclass
class CacheCounter:
    """Counts what ran in the denoiser, of all that would have; an interceptor of its calls.

    One call of the denoiser is a hit if at least one of the modules that the cache watches was not computed in it. What
    it saved is the time of the latest call that computed all, less its own: on a CPU alone, as on other devices a call
    returns before its work is done.
    """

    cache_type: str

    modules: Mapping[str, torch.nn.Module]
    """The denoisers, by component name."""

    called: int = 0
    computed: int = 0
    hits: int = 0
    misses: int = 0
    saved_ns: int = 0
    _whole_ns: dict[str, int] = field(default_factory=dict)
    """Component → the time of its latest call that computed all."""

    def wants(self, name: str, module: torch.nn.Module) -> bool:
        """Whether it is a denoiser that caches."""
        return self.modules.get(name) is module

    def __call__(
        self,
        name: str,
        module: torch.nn.Module,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        sink: Sink,
    ) -> Any:
        """Make the call, and report whether it was a hit."""
        called, computed, begun_ns = self.called, self.computed, sink.now_ns()
        output = call(*args, **kwargs)
        took_ns = sink.now_ns() - begun_ns if _returns_when_done(module) else None
        if self.called - called > self.computed - computed:
            self.hits += 1
            whole_ns = self._whole_ns.get(name)
            saved_ns = None if took_ns is None or whole_ns is None else whole_ns - took_ns
            self.saved_ns += saved_ns or 0
            sink.emit(CacheHitData(cache_type=self.cache_type, component=name, saved_ns=saved_ns))
        else:
            self.misses += 1
            if took_ns is not None:
                self._whole_ns[name] = took_ns
            sink.emit(CacheMissData(cache_type=self.cache_type, component=name))
        return output

    def warnings(self) -> tuple[WarningData, ...]:
        """What to say of a run that gained nothing by it."""
        if self.hits or not self.misses:
            return ()
        return (
            WarningData(
                code="denoiser_cache_unused",
                message=f"the cache {self.cache_type} spared nothing in {self.misses} calls of the denoiser",
                hint="Make more steps, or set its denoiser_cache_options, such as a higher threshold.",
            ),
        )


class DenoiserCacheStats(Record, frozen=True, kw_only=True):
    """What one kind of cache has spared in this process; it is switched on by each call, and holds nothing after it."""

    calls: int

    hits: int

    saved_ns: int


class DenoiserCacheFigures:
    """The counters of all calls that have ended, added up; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_type: dict[str, DenoiserCacheStats] = {}

    def add(self, counter: CacheCounter) -> None:
        """Add what a call has counted."""
        with self._lock:
            before = self._by_type.get(counter.cache_type) or DenoiserCacheStats(calls=0, hits=0, saved_ns=0)
            self._by_type[counter.cache_type] = DenoiserCacheStats(
                calls=before.calls + counter.hits + counter.misses,
                hits=before.hits + counter.hits,
                saved_ns=before.saved_ns + counter.saved_ns,
            )

    def stats(self) -> dict[str, DenoiserCacheStats]:
        """Cache type → figures, of those that were used."""
        with self._lock:
            return dict(self._by_type)

    def clear(self) -> None:
        """Start the figures anew."""
        with self._lock:
            self._by_type.clear()


@dataclass
class _CountedHook:
    """A hook of diffusers whose two functions are counted; `restore` before diffusers takes the hook away."""

    reference: Any
    counter: CacheCounter
    forward: Callable[..., Any] = field(init=False)
    original: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        self.forward, self.original = self.reference.forward, self.reference.original_forward
        self.reference.forward = self._count_call
        self.reference.original_forward = self._count_compute

    def _count_call(self, *args: Any, **kwargs: Any) -> Any:
        self.counter.called += 1
        return self.forward(*args, **kwargs)

    def _count_compute(self, *args: Any, **kwargs: Any) -> Any:
        self.counter.computed += 1
        return self.original(*args, **kwargs)

    def restore(self) -> None:
        self.reference.forward, self.reference.original_forward = self.forward, self.original


@contextmanager
def use_denoiser_cache(pipeline: DiffusionPipeline, config: Config, *, steps: int) -> Iterator[CacheCounter | None]:
    """Switch the cache on in the block; afterwards the denoiser is as before. None without a cache.

    Parameters
    ----------
    steps
        Denoising steps of the run, which MagCache spreads its ratios over.

    Raises
    ------
    NotAvailableError
        If the denoiser has no place for such a cache.
    """
    kind = config.denoiser_cache
    if kind is None:
        yield None
        return
    made = _config_of(
        kind,
        config.denoiser_cache_options,
        steps=steps,
        get_timestep=lambda: getattr(pipeline, "current_timestep", None),
    )
    denoisers = denoisers_of(pipeline)
    counter = CacheCounter(f"denoiser_{kind}", denoisers)
    enabled: list[Any] = []
    hooks: list[_CountedHook] = []
    try:
        for name, module in denoisers.items():
            _enable(module, name, kind, made)
            enabled.append(module)
            hooks += [_CountedHook(hook.fn_ref, counter) for hook in _caching_hooks(module)]
        yield counter
    finally:
        for hook in reversed(hooks):
            hook.restore()
        for module in enabled:
            module.disable_cache()


def cache_settings(config: Config, *, steps: int) -> dict[str, Json]:
    """What `config_resolved` says of a cache that is on: its kind and what was set of it."""
    assert config.denoiser_cache is not None
    chosen = {**_DEFAULTS.get(config.denoiser_cache, {}), **config.denoiser_cache_options}
    ratios = {"num_inference_steps": steps} if config.denoiser_cache == "magcache" else {}
    return {"kind": config.denoiser_cache, **chosen, **ratios}


def _enable(module: torch.nn.Module, name: str, kind: DenoiserCache, made: Any) -> None:
    refusal = f"{type(module).__name__}, this model's {name}, cannot use denoiser_cache={kind!r}"
    if not isinstance(module, CacheMixin):
        raise NotAvailableError(refusal, hint="Leave denoiser_cache out with this model: it is for transformers.")
    try:
        module.enable_cache(made)
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise NotAvailableError(f"{refusal}: {error}", hint="Leave denoiser_cache out, or use another one.") from error
    if not any(True for _ in _caching_hooks(module)):
        module.disable_cache()
        raise NotAvailableError(f"{refusal}: it found no part to cache", hint="Leave denoiser_cache out with it.")


def _returns_when_done(module: torch.nn.Module) -> bool:
    return all(parameter.device.type == "cpu" for parameter in module.parameters())


def _caching_hooks(module: torch.nn.Module) -> Iterator[ModelHook]:
    """The hooks inside that stand in for a forward of their own; offloading's only stand around one."""
    for part in module.modules():
        registry = vars(part).get("_diffusers_hook")
        for hook in () if registry is None else registry.hooks.values():
            if hook.fn_ref.original_forward is not None:
                yield hook


def _config_of(kind: DenoiserCache, options: Mapping[str, Json], *, steps: int, get_timestep: Callable[[], Any]) -> Any:
    made_by = getattr(diffusers, _CONFIGS[kind], None)
    if made_by is None:
        raise NotAvailableError(
            f"diffusers {diffusers.__version__} has no {_CONFIGS[kind]}", hint="Update diffusers, or use another cache."
        )
    names = {parameter.name for parameter in dataclasses.fields(made_by)} - set(_LAB_DECIDES)
    for name in options:
        if name not in names:
            raise UnknownOptionError(
                f"denoiser_cache={kind!r} has no option {name!r}", hint=f"It has: {', '.join(sorted(names))}."
            )
    decided = {"num_inference_steps": steps, "current_timestep_callback": get_timestep}
    own = {name: value for name, value in decided.items() if name in {f.name for f in dataclasses.fields(made_by)}}
    try:
        return made_by(**{**_DEFAULTS.get(kind, {}), **options, **own})
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"denoiser_cache={kind!r}: {' '.join(str(error).split())}",
            hint=f"Set denoiser_cache_options, of {', '.join(sorted(names))}.",
        ) from error
