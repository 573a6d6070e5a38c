"""What a sweep is to run: the options that vary, and one checked request for each combination of their values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from omnirt_lab.engine import build_request
from omnirt_lab.engine.requests import request_name
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.folds.grid import Axis
from omnirt_lab.records import GenerateRequest, Json, Record

MAX_CELLS: Final = 10_000

DEFAULT_SEED: Final = 0
"""Of every cell where no seed was asked for, so that pictures differ by what is swept alone."""

_MAX_NAME: Final = 80
_OUTERMOST: Final = (
    "model", "task", "preset", "dtype", "device", "device_map", "offload", "quantization", "channels_last", "compile",
    "adapters", "prompt", "negative_prompt", "image", "mask",
)  # fmt: skip
"""Changed as seldom as can be: first what loads a pipeline anew, then what encodes a text anew."""

_OTHER_NAMES: Final = {"seeds": "seed", "prompts": "prompt"}

Several: TypeAlias = "list[Any] | tuple[Any, ...] | range"


class Plan(Record, frozen=True, kw_only=True):
    """The grid before any run; `values` and `requests` have an entry a cell, the last axis varying fastest."""

    axes: tuple[Axis, ...]

    values: tuple[tuple[Json, ...], ...]

    requests: tuple[GenerateRequest, ...]

    @property
    def shapes(self) -> tuple[GenerateRequest, ...]:
        """Requests of which each stands for all cells that the same checks against a model apply to."""
        return tuple({request_key(shape): shape for shape in map(_shape, self.requests)}.values())


def plan_of(prompt: str | Sequence[str], options: Mapping[str, Any]) -> Plan:
    """Sort the options into fixed ones and axes, and build every request.

    Raises
    ------
    InvalidRequestError
        For no axis, an empty one, a value that stands twice, more than 10,000 cells, or a value that is out of range.
    """
    given = _by_own_name({"prompt": prompt, **options})
    axes = {name: list_or_tuple for name, list_or_tuple in given.items() if _is_axis(name, list_or_tuple)}
    names = sorted(axes, key=lambda name: _OUTERMOST.index(name) if name in _OUTERMOST else len(_OUTERMOST))
    _require_axes(axes)
    fixed = {"seed": DEFAULT_SEED, **{name: value for name, value in given.items() if name not in axes}}
    combinations = list(itertools.product(*(axes[name] for name in names)))
    requests = tuple(_requests(fixed, names, combinations))
    _require_distinct(names, combinations, requests)
    return Plan(
        axes=tuple(Axis(name=name, values=tuple(map(msgspec.to_builtins, axes[name]))) for name in names),
        values=tuple(tuple(map(msgspec.to_builtins, values)) for values in combinations),
        requests=requests,
    )


def request_key(request: GenerateRequest) -> bytes:
    """What tells a cell's request from all others."""
    return msgspec.json.encode(request, order="deterministic")


def check_name(name: str) -> str:
    """A sweep's name, which is part of a tag in the history.

    Raises
    ------
    InvalidRequestError
        If it is empty, too long, or has characters that cannot be seen.
    """
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable() or name != name.strip():
        raise InvalidRequestError(
            f"{name[:_MAX_NAME]!r} cannot name a sweep", hint=f"Use 1 to {_MAX_NAME} letters, digits and signs."
        )
    return name


def _by_own_name(options: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for given, value in options.items():
        name = request_name(_OTHER_NAMES.get(given, given))
        if name in named:
            raise InvalidRequestError(f"{name} is given twice, once as {given}", hint=f"Pass {name} once.")
        named[name] = value
    return named


def _is_axis(name: str, value: object) -> bool:
    if not isinstance(value, list | tuple | range):
        return False
    return name != "adapters" or any(isinstance(item, list | tuple) for item in value)


def _require_axes(axes: Mapping[str, Several]) -> None:
    if not axes:
        raise InvalidRequestError(
            "nothing varies in this sweep", hint="Give an option a list of values, such as steps=[10, 20, 30]."
        )
    for name, values in axes.items():
        if len(values) == 0:
            raise InvalidRequestError(f"{name} has no values", hint=f"Give {name} at least one value.")
    cells = math.prod(len(values) for values in axes.values())
    if cells > MAX_CELLS:
        sizes = " × ".join(f"{len(values):,} {name}" for name, values in axes.items())  # noqa: RUF001  # a product
        raise InvalidRequestError(
            f"the sweep has {cells:,} cells ({sizes}); at most {MAX_CELLS:,} are taken",
            hint="Sweep fewer values, or one part after the other under the same name.",
        )


def _requests(
    fixed: Mapping[str, Any], names: Sequence[str], combinations: Sequence[tuple[Any, ...]]
) -> Iterator[GenerateRequest]:
    for values in combinations:
        options = {**fixed, **dict(zip(names, values, strict=True))}
        yield build_request(options.pop("prompt"), options)


def _require_distinct(
    names: Sequence[str], combinations: Sequence[tuple[Any, ...]], requests: Sequence[GenerateRequest]
) -> None:
    seen: set[bytes] = set()
    for values, request in zip(combinations, requests, strict=True):
        key = request_key(request)
        if key in seen:
            cell = ", ".join(f"{name}={str(value)[:40]!r}" for name, value in zip(names, values, strict=True))
            raise InvalidRequestError(f"the sweep has this cell twice: {cell}", hint="Give each value of an axis once.")
        seen.add(key)


def _shape(request: GenerateRequest) -> GenerateRequest:
    """The request without what is checked by itself: texts, and the numbers of seed and steps."""
    config = request.config
    return replace(
        request,
        inputs=replace(request.inputs, prompt="x" if request.inputs.prompt else ""),
        config=replace(config, seed=None if config.seed is None else 0, steps=None if config.steps is None else 1),
    )
