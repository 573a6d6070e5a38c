"""Which models requests may name, and who serves them now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from omnirt_lab.errors import ModelNotAllowedError
from omnirt_lab.journal import Journal
from omnirt_lab.records.api import Model
from omnirt_server.limits import Limits

_MS_PER_S: Final = 1000


def list_models(journal: Journal, limits: Limits, started_at_ms: int) -> tuple[Model, ...]:
    """The allowed models, then the published ones in the order in which they were published.

    A published pipeline stands in the place of an allowed model of the same name, as its queue does.

    Parameters
    ----------
    started_at_ms
        When the server began, in milliseconds since 1970: since then it serves what is allowed.
    """
    workers = journal.live_workers()
    runners = tuple(worker.worker_id for worker in workers if worker.kind in ("runner", "cluster"))
    published = list(dict.fromkeys(worker.model for worker in workers if worker.model is not None))
    allowed = [
        Model(id=name, created=started_at_ms // _MS_PER_S, owned_by="omnirt-lab", workers=runners)
        for name in dict.fromkeys(limits.allowed_models)
        if name not in published
    ]
    shared = []
    for name in published:
        own = [worker for worker in workers if worker.model == name]
        created = min(worker.started_at_ms for worker in own) // _MS_PER_S
        ids = tuple(worker.worker_id for worker in own)
        shared.append(Model(id=name, created=created, owned_by="notebook", workers=ids))
    return (*allowed, *shared)


def get_model(models: Sequence[Model], name: str) -> Model:
    """The model of this name.

    Raises
    ------
    ModelNotAllowedError
        If it is none of them.
    """
    for model in models:
        if model.id == name:
            return model
    raise ModelNotAllowedError(
        f"this server does not serve the model {name[:200]!r}",
        hint=f"It serves: {', '.join(model.id for model in models)}.",
    )
