"""What a person may set for the whole process."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from omnirt_lab.errors import InvalidRequestError, NotAvailableError
from omnirt_lab.records import MAX_IMAGES, Record

MAX_WINDOW_MS: Final = 60_000

_EMBED_VARIABLE: Final = "OMNIRT_EMBED_METADATA"
_PYTHON_VARIABLE: Final = "OMNIRT_SUBPROCESS_PYTHON"
_RAY_VARIABLE: Final = "OMNIRT_RAY"

_HOST_AND_PORT: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")


class Settings(Record, frozen=True, kw_only=True):
    """Settings of this process; `omnirt_lab.configure` changes them."""

    embed_metadata: bool = True
    """Write the request, seed, model and versions into each PNG; also `$OMNIRT_EMBED_METADATA` (0 or 1)."""

    live: bool | None = None
    """Show runs live in a notebook. None: where its front end has a person before it, and can show widgets."""

    subprocess_python: str | None = None
    """The python that `subprocess` runs use; None is this process's own. Also `$OMNIRT_SUBPROCESS_PYTHON`."""

    cancel_grace_s: float = 5.0
    """How long a child process or an actor may go on after a cancel before it is killed."""

    ray: str | None = None
    """The Ray cluster of `ray` runs: `local`, `auto`, or `HOST:PORT`. None is none. Also `$OMNIRT_RAY`."""

    ray_actors: int | None = None
    """Actors at most; None is as many as the cluster has room for."""

    ray_actor_cpus: float | None = None
    """What each takes of its node's CPUs; None is 1."""

    ray_actor_gpus: float | None = None
    """What each takes of its node's GPUs; None is 1 where the cluster has any, else 0."""

    batch_window_ms: float | None = None
    """How long a queued job waits for others that may share its pipeline call; None leaves batching off."""

    max_batch_size: int = 8
    """Jobs that share a call at most."""

    resident_pipeline_cache: bool = True
    """Keep pipelines in memory for the next run."""

    resident_pipeline_bytes: int | None = None
    """What they may take together on each device; None: 70 % of a GPU's memory, and half of the host's."""

    text_embedding_cache: bool = True
    """Keep text embeddings for the next run."""

    image_latent_cache: bool = True
    """Keep the latents of input pictures for the next run."""

    memory_check: bool = True
    """Refuse a run that certainly needs more memory than there is, before its model is loaded."""

    result_cache: bool = False
    """Answer runs with an explicit seed from the history, where all that decides their result is the same."""

    @property
    def is_batching(self) -> bool:
        """Whether queued jobs may share a call."""
        return self.batch_window_ms is not None and self.max_batch_size > 1


def get_python(python: str | Path) -> str:
    """The absolute path of an executable, given by its path or its name.

    Raises
    ------
    NotAvailableError
        If there is none.
    """
    found = shutil.which(Path(python).expanduser())
    if found is None:
        raise NotAvailableError(
            f"{str(python)!r} is no program",
            hint="Give the path of a python, such as .venv/bin/python.",
        )
    return str(Path(found).absolute())


def get_grace_s(seconds: float) -> float:
    """A number of seconds to wait.

    Raises
    ------
    InvalidRequestError
        If it is none.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidRequestError(f"cancel_grace_s is {seconds}", hint="Give seconds, such as 5.")
    return float(seconds)


def get_window_ms(milliseconds: float) -> float:
    """A time that a queued job may wait.

    Raises
    ------
    InvalidRequestError
        If it is no number of milliseconds from 0 to a minute.
    """
    if not 0 <= milliseconds <= MAX_WINDOW_MS:
        raise InvalidRequestError(
            f"batch_window_ms is {milliseconds}; it must be 0 to {MAX_WINDOW_MS:,}",
            hint="Give milliseconds, such as 50.",
        )
    return float(milliseconds)


def get_batch_size(size: int) -> int:
    """How many jobs may share a call.

    Raises
    ------
    InvalidRequestError
        If it is not 1 to 64.
    """
    if not 1 <= size <= MAX_IMAGES:
        raise InvalidRequestError(
            f"max_batch_size is {size}; it must be 1 to {MAX_IMAGES}", hint="Give 1 for one job a call, or more."
        )
    return int(size)


def get_cluster(address: str) -> str:
    """The address of a Ray cluster.

    Raises
    ------
    InvalidRequestError
        If it is none.
    """
    if not (address in ("local", "auto") or _HOST_AND_PORT.fullmatch(address)):
        raise InvalidRequestError(
            f"ray is {address!r}",
            hint="Give 'local', 'auto' for the cluster that this machine is a node of, or HOST:PORT of its head; "
            "a Ray Client address (ray://) does not do.",
        )
    return address


def get_actors(count: int) -> int:
    """How many actors there may be.

    Raises
    ------
    InvalidRequestError
        If it is less than 1.
    """
    if count < 1:
        raise InvalidRequestError(f"ray_actors is {count}", hint="Give 1 or more.")
    return int(count)


def get_cpus(cpus: float) -> float:
    """What an actor takes of its node's CPUs.

    Raises
    ------
    InvalidRequestError
        If it is nothing.
    """
    if not (math.isfinite(cpus) and cpus > 0):
        raise InvalidRequestError(f"ray_actor_cpus is {cpus}", hint="Give a number above 0, such as 1.")
    return float(cpus)


def get_gpus(gpus: float) -> float:
    """What an actor takes of its node's GPUs; a part of one is shared with others.

    Raises
    ------
    InvalidRequestError
        If it is negative, or one GPU and a part of another.
    """
    if not (math.isfinite(gpus) and gpus >= 0 and (gpus <= 1 or gpus == int(gpus))):
        raise InvalidRequestError(f"ray_actor_gpus is {gpus}", hint="Give 0, a part of 1, or a whole number.")
    return float(gpus)


def get_budget_bytes(budget_bytes: int) -> int:
    """What resident pipelines may take.

    Raises
    ------
    InvalidRequestError
        If it is no number of bytes.
    """
    if budget_bytes < 1:
        raise InvalidRequestError(
            f"resident_pipeline_bytes is {budget_bytes}; it must be 1 or more",
            hint="Give bytes, such as 8 * 2**30. To keep none: lab.configure(resident_pipeline_cache=False).",
        )
    return int(budget_bytes)


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "subprocess_python": get_python,
    "cancel_grace_s": get_grace_s,
    "batch_window_ms": get_window_ms,
    "max_batch_size": get_batch_size,
    "resident_pipeline_bytes": get_budget_bytes,
    "ray": get_cluster,
    "ray_actors": get_actors,
    "ray_actor_cpus": get_cpus,
    "ray_actor_gpus": get_gpus,
}


class SettingsHolder:
    """The one place where the current settings stand."""

    def __init__(self) -> None:
        self.current = Settings(
            embed_metadata=os.environ.get(_EMBED_VARIABLE, "1") != "0",
            subprocess_python=os.environ.get(_PYTHON_VARIABLE) or None,
            ray=os.environ.get(_RAY_VARIABLE) or None,
        )

    def change(self, **changes: Any) -> Settings:
        """Replace those settings that are not None, or none where one of them is wrong, and return all.

        Raises
        ------
        NotAvailableError
            If `subprocess_python` is no program.
        InvalidRequestError
            If a number is none of what is asked for.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        checked = {name: _CHECKS[name](value) if name in _CHECKS else value for name, value in given.items()}
        self.current = msgspec.structs.replace(self.current, **checked)
        return self.current


SETTINGS: Final = SettingsHolder()
