"""What a server's kernel runs that has jobs done by a Ray cluster: it claims them itself, and follows many at a time.

The process is a kernel of `omnirt_lab.engine.runner`; the code that it is sent calls `begin` once, `spread` when jobs
wait, and `leave` in the end. It loads no torch.
"""

from __future__ import annotations

from typing import Final

from omnirt_lab.engine.engine import Engine
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal import Journal

_engines: Final[list[Engine]] = []
"""The process's one engine, once it has begun."""


def begin(
    queue: str,
    *,
    cancel_grace_s: float | None = None,
    ray_actors: int | None = None,
    ray_actor_cpus: float | None = None,
    ray_actor_gpus: float | None = None,
) -> str:
    """Open the journal, and register as a worker; its id. The cluster's address is that of `$OMNIRT_RAY`.

    The settings are those of `omnirt_lab.configure`.

    Raises
    ------
    InvalidRequestError
        If one of them, or the address, is none.
    """
    if not _engines:
        SETTINGS.change(
            cancel_grace_s=cancel_grace_s,
            ray=SETTINGS.current.ray,
            ray_actors=ray_actors,
            ray_actor_cpus=ray_actor_cpus,
            ray_actor_gpus=ray_actor_gpus,
        )
        _engines.append(Engine(Journal.open(), worker_kind="cluster", spread_queue=queue))
    return _engines[0].worker.worker_id


def spread() -> None:
    """Take the jobs that wait, as many as there are places for, and return at once."""
    _engines[0].spread()


def leave() -> None:
    """Give up the jobs that run, kill their actors, and leave the cluster: one of this process's own ends with it."""
    SETTINGS.change(cancel_grace_s=0)
    for engine in _engines:
        engine.abandon()
