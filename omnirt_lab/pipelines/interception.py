"""Wrappers around a pipeline's parts, in place for one call and gone afterwards."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from diffusers import SchedulerMixin
from torch.utils.hooks import RemovableHandle
from tqdm.std import tqdm

from omnirt_lab.pipelines.patches import InstancePatch
from omnirt_lab.pipelines.sink import CallInterceptor, Sink
from omnirt_lab.pipelines.sites import AnyPipeline, Site, find_bar_makers
from omnirt_lab.pipelines.watched_call import WatchedCall


class Interception:
    """Stands between a pipeline and its parts for one call.

    1. `install` wraps every site outermost, every scheduler's `step`, and the progress bar.
    2. A wrapper tells the watched call, makes the original call, and tells again.
    3. `remove` puts everything back. A wrapper that lives on, as on a copied scheduler, then only passes calls on.

    Module calls are wrapped at `_compiled_call_impl` on the instance, which is where `nn.Module.compile` puts its own:
    it lies outside of all hooks (offloading's too) and of a compiled graph.
    """

    def __init__(self, call: WatchedCall, sink: Sink, interceptors: Sequence[CallInterceptor]) -> None:
        self._call = call
        self._sink = sink
        self._interceptors = interceptors
        self._is_on = False
        self._patches: list[InstancePatch] = []
        self._hooks: list[RemovableHandle] = []

    def install(self, pipeline: AnyPipeline, sites: Sequence[Site], schedulers: Sequence[SchedulerMixin]) -> None:
        """Put the wrappers in place."""
        self._is_on = True
        for site in sites:
            self._watch(site)
        for scheduler in schedulers:
            self._replace(scheduler, "step", types.MethodType(self._watched_step(scheduler), scheduler))
        for maker in find_bar_makers(pipeline):
            self._replace(maker, "progress_bar", self._watched_progress_bar(maker.progress_bar))

    def remove(self) -> None:
        """Leave the pipeline as it was."""
        self._is_on = False
        for patch in self._patches:
            patch.remove()
        for hook in self._hooks:
            hook.remove()

    def _replace(self, target: object, name: str, replacement: Any) -> None:
        patch = InstancePatch(target, name, replacement)
        self._patches.append(patch)  # known before it is set, so that an interrupt in between leaves nothing behind
        patch.install()

    def _watch(self, site: Site) -> None:
        module = site.module
        if site.method != "__call__":
            original = self._intercepted(site, getattr(module, site.method))
            self._replace(module, site.method, self._watched(site, original))
        elif site.has_plain_call:
            original = vars(module).get("_compiled_call_impl") or module._call_impl  # noqa: SLF001  # as nn.Module does
            self._replace(module, "_compiled_call_impl", self._watched(site, self._intercepted(site, original)))
        else:
            self._hook(site)

    def _hook(self, site: Site) -> None:
        """Watch a module whose class has a call of its own; interceptors have no place there."""

        def enter(*_: object) -> None:
            self._call.enter(site)

        def leave(*_: object) -> None:
            self._call.leave(site)

        self._hooks.append(site.module.register_forward_pre_hook(enter))
        self._hooks.append(site.module.register_forward_hook(leave))

    def _intercepted(self, site: Site, original: Callable[..., Any]) -> Callable[..., Any]:
        for interceptor in self._interceptors:
            if interceptor.wants(site.stage, site.module):
                original = partial(self._through, interceptor, site, original)
        return original

    def _through(
        self, interceptor: CallInterceptor, site: Site, original: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        return interceptor(site.stage, site.module, original, args, kwargs, self._sink)

    def _watched(self, site: Site, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self._is_on:
                return original(*args, **kwargs)
            self._call.enter(site, kwargs)
            try:
                output = original(*args, **kwargs)
            except BaseException as error:  # an interrupt from the notebook ends a stage too
                self._call.fail(error)
                raise
            self._call.leave(site)
            return output

        return watched

    def _watched_step(self, own: SchedulerMixin) -> Callable[..., Any]:
        earlier = vars(own).get("step")
        owner = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        taken = inspect.signature(own.step)

        def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            """Step this scheduler: the pipeline's own, or a copy that the pipeline has made of it."""
            is_own = scheduler is own
            original = earlier if is_own and earlier else types.MethodType(type(scheduler).step, scheduler)
            if not self._is_on:
                return original(*args, **kwargs)
            self._call.before_step()
            try:
                output = original(*args, **kwargs)
            except BaseException as error:  # an interrupt from the notebook ends a stage too
                self._call.fail(error)
                raise
            self._call.after_step(scheduler, output, args, kwargs, is_own=is_own)
            return output

        # pipelines read it to learn whether a step takes their generator and eta
        step.__signature__ = taken.replace(parameters=[owner, *taken.parameters.values()])  # type: ignore[attr-defined]
        return step

    def _watched_progress_bar(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def progress_bar(*args: Any, **kwargs: Any) -> Any:
            bar = original(*args, **kwargs)
            if self._is_on and isinstance(bar, tqdm):
                self._call.bar_made(bar)
            return bar

        return progress_bar
