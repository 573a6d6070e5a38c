"""The extension: its configuration, its routes, and its background parts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from traitlets import Bool, Float, Int, List, Unicode

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.export.target import Target, find_target
from omnirt_lab.journal import Journal
from omnirt_server.cluster_lane import ADDRESS_VARIABLE, ClusterOptions
from omnirt_server.feed import Feed
from omnirt_server.handlers import ROUTES
from omnirt_server.handlers.page import PAGE_ROUTES
from omnirt_server.limits import Limits
from omnirt_server.metrics import Metrics
from omnirt_server.reaper import Reaper
from omnirt_server.runner import Runner, RunnerOptions
from omnirt_server.services import Services
from omnirt_server.settings import SERVICES_KEY
from omnirt_server.tracing import Tracing


class OmniRTApp(ExtensionApp):
    """Shows every job of the journal, live, and runs jobs for others."""

    name = "omnirt"
    extension_url = "/omnirt"
    load_other_extensions = True

    state_dir = Unicode("", help="The lab's state directory; by default the user's.").tag(config=True)
    allowed_models = List(
        Unicode(), ["tiny-shapes"], help="Models that requests may load: built-in names, folders, hub ids."
    ).tag(config=True)
    allowed_adapters = List(Unicode(), [], help="Sources of LoRA adapters that requests may name.").tag(config=True)
    allow_compile = Bool(
        False, help="Let requests have the denoiser compiled, which takes a runner minutes for each new shape."
    ).tag(config=True)
    max_queued = Int(100, min=0, help="Jobs that may wait in one queue; one more is answered 429.").tag(config=True)
    runners = Int(1, min=0, help="Runner kernels a device; 0 leaves queued jobs to other servers.").tag(config=True)
    runner_devices = List(
        Unicode(), [""], minlen=1, help="Devices with runners: cpu, cuda:0, cuda:1 …; '' is what the machine has."
    ).tag(config=True)
    prewarm = Bool(False, help="Start the runners with the server, and load the built-in model.").tag(config=True)
    cancel_grace_s = Float(
        5.0, min=0, help="Seconds until a job that does not stop is interrupted, and again until its runner is killed."
    ).tag(config=True)
    batch_window_ms = Float(
        None,
        allow_none=True,
        min=0,
        max=60_000,
        help="Milliseconds that a job waits for others to share its pipeline call; by default each has its own.",
    ).tag(config=True)
    max_batch_size = Int(8, min=1, max=64, help="Jobs that share a call at most, with a batch_window_ms.").tag(
        config=True
    )
    ray = Unicode(
        "",
        help="The Ray cluster for jobs of execution_mode 'ray': local, auto, or HOST:PORT; by default OMNIRT_RAY's.",
    ).tag(config=True)
    ray_actors = Int(
        None, allow_none=True, min=1, help="Actors at most; by default what the cluster has room for."
    ).tag(config=True)
    ray_actor_cpus = Float(None, allow_none=True, help="CPUs that each takes; by default 1.").tag(config=True)
    ray_actor_gpus = Float(
        None, allow_none=True, help="GPUs that each takes; by default 1 where the cluster has any."
    ).tag(config=True)
    max_body_bytes = Int(16 * 2**20, min=1024, help="Largest body of a request.").tag(config=True)
    otlp_endpoint = Unicode(
        "", help="Address of an OTLP/HTTP collector for traces; by default what OTEL_EXPORTER_OTLP_ENDPOINT says."
    ).tag(config=True)
    otlp_prompts = Bool(False, help="Put prompts and error messages into exported traces.").tag(config=True)

    services: Services

    def initialize_settings(self) -> None:
        """Open the journal and make what the handlers share."""
        limits = Limits(
            body_bytes=self.max_body_bytes,
            queued_jobs=self.max_queued,
            allowed_models=tuple(self.allowed_models),
            allowed_adapters=tuple(self.allowed_adapters),
            allow_compile=self.allow_compile,
        )
        journal = Journal.open(Path(self.state_dir) if self.state_dir else None)
        feed, metrics = Feed(journal), Metrics(journal)
        tracing = Tracing(journal, self._find_target(), has_texts=self.otlp_prompts)
        if tracing.is_configured:
            metrics.watch_export(lambda: tracing.undelivered_spans)
        runner = Runner(journal, feed, self._runner_options())
        self.services = Services(
            journal=journal,
            limits=limits,
            feed=feed,
            metrics=metrics,
            tracing=tracing,
            runner=runner,
            parts=[feed, metrics, Reaper(journal), tracing, runner],
        )
        self.settings[SERVICES_KEY] = self.services

    def _runner_options(self) -> RunnerOptions:
        return RunnerOptions(
            kernels=self.runners,
            devices=tuple(self.runner_devices),
            prewarm=self.prewarm,
            cancel_grace_s=self.cancel_grace_s,
            allowed_models=tuple(self.allowed_models),
            batch_window_ms=self.batch_window_ms,
            max_batch_size=self.max_batch_size,
            cluster=self._cluster_options(),
        )

    def _cluster_options(self) -> ClusterOptions | None:
        address = self.ray or os.environ.get(ADDRESS_VARIABLE)
        if not address:
            return None
        return ClusterOptions(
            address=address,
            cancel_grace_s=self.cancel_grace_s,
            actors=self.ray_actors,
            actor_cpus=self.ray_actor_cpus,
            actor_gpus=self.ray_actor_gpus,
        )

    def _find_target(self) -> Target | None:
        """Where traces go. Variables that were set for other programs do not keep the server from starting."""
        try:
            return find_target(self.otlp_endpoint, os.environ)
        except InvalidRequestError as error:
            if self.otlp_endpoint:
                raise
            self.log.warning("no traces are exported: %s. %s", error, error.hint)
            return None

    def initialize_handlers(self) -> None:
        """Mount the routes."""
        self.handlers.extend([*PAGE_ROUTES, *ROUTES])

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:  # noqa: ARG002  # the server's hook
        self.services.start()

    async def stop_extension(self) -> None:
        """Stop the background parts and close the journal."""
        await self.services.stop()

    def current_activity(self) -> dict[str, Any] | None:
        """Jobs that run or wait keep a server from being culled as idle."""
        active = self.services.journal.list_jobs(states=("queued", "running"), limit=1)
        return {"jobs": len(active)} if active else None
