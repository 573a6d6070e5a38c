"""The settings of this process, as a person changes them."""

from __future__ import annotations

from pathlib import Path

from omnirt_lab.executors.settings import SETTINGS, Settings


class Configured:
    """The part of the lab that changes settings."""

    def configure(
        self,
        *,
        embed_metadata: bool | None = None,
        live: bool | None = None,
        subprocess_python: str | Path | None = None,
        cancel_grace_s: float | None = None,
        ray: str | None = None,
        ray_actors: int | None = None,
        ray_actor_cpus: float | None = None,
        ray_actor_gpus: float | None = None,
        batch_window_ms: float | None = None,
        max_batch_size: int | None = None,
        resident_pipeline_cache: bool | None = None,
        resident_pipeline_bytes: int | None = None,
        text_embedding_cache: bool | None = None,
        image_latent_cache: bool | None = None,
        result_cache: bool | None = None,
        memory_check: bool | None = None,
    ) -> Settings:
        """Change settings of this process, and return all of them; what is left out stays as it is.

        Parameters
        ----------
        embed_metadata
            Write the request, seed, model and versions into each stored PNG (the default); False leaves them out.
        live
            Show runs live in a notebook: True always, False never, but as a line of text. Before it is set they are
            where the notebook has a person before it; not where nbclient, nbconvert or papermill run it.
        subprocess_python
            The python that runs with `execution_mode="subprocess"` use, such as another environment's; it needs this
            version of omnirt-lab. By default this process's own.
        cancel_grace_s
            Seconds that such a run, or a `ray` one, may go on after a cancel before it is killed; 5 by default.
        ray
            The Ray cluster that runs with `execution_mode="ray"` use: `local` starts one on this machine, which ends
            with this process; `auto` is the one that this machine is a node of, `HOST:PORT` a certain one. Needs the
            extra `omnirt-lab[ray]`, in the same version on each node.
        ray_actors
            How many actors there may be; each keeps its pipelines in memory, and runs one job at a time. By default as
            many as the cluster has room for.
        ray_actor_cpus, ray_actor_gpus
            What each takes of its node: by default one CPU, and one GPU where the cluster has any.
        batch_window_ms
            Switches batching on: a submitted job waits so long, counted from when it was queued, for others that may
            share one call of the pipeline. 0 waits for none, and takes those that are there.
        max_batch_size
            How many may share a call: 8 by default, at most 64; 1 switches batching off.
        resident_pipeline_cache
            False loads the model for each run anew, and keeps none from the next run on.
        resident_pipeline_bytes
            What resident pipelines may take together on each device: by default 70 % of a GPU's memory, and half of
            the host's. When a model needs more, those that were not used for longest go first, never one that a run is
            using, nor a pipeline of your own; the run's report says what that freed.
        text_embedding_cache
            False has each run encode its texts; what is kept stays, for when it is on again.
        image_latent_cache
            False has each run encode its input pictures, likewise.
        result_cache
            True answers a run with an explicit seed from the history, if the same run is there: the same request,
            model files, adapters, versions, threads and device. It is a run of its own, whose report names the one that
            made the pictures; nothing is loaded. Off by default; `result_cache=…` of a call goes before it. Runs that
            share a call, and those in other processes, are made in any case, and so is a replay.

        memory_check
            False has runs tried that, by an estimate made before loading, certainly need more memory than there is.

        Raises
        ------
        NotAvailableError
            If `subprocess_python` is no program.
        InvalidRequestError
            If a number is none of what is asked for.
        """
        return SETTINGS.change(
            embed_metadata=embed_metadata,
            live=live,
            subprocess_python=subprocess_python,
            cancel_grace_s=cancel_grace_s,
            ray=ray,
            ray_actors=ray_actors,
            ray_actor_cpus=ray_actor_cpus,
            ray_actor_gpus=ray_actor_gpus,
            batch_window_ms=batch_window_ms,
            max_batch_size=max_batch_size,
            resident_pipeline_cache=resident_pipeline_cache,
            resident_pipeline_bytes=resident_pipeline_bytes,
            text_embedding_cache=text_embedding_cache,
            image_latent_cache=image_latent_cache,
            result_cache=result_cache,
            memory_check=memory_check,
        )
