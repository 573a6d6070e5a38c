"""Keyword options that several functions share, spelled out in each one's signature and docstring."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar, get_type_hints

Params = ParamSpec("Params")
Answer = TypeVar("Answer")


def spell_out(
    function: Callable[Params, Answer], options: type, help_text: str, *, rest: str | None = None
) -> Callable[Params, Answer]:
    """Let `help` and completion see what stands behind a `**name` of the function.

    Parameters
    ----------
    options
        A TypedDict; each of its keys becomes a keyword argument that may be left out.
    help_text
        Stands in the docstring where `**name` stood.
    rest
        What further keyword arguments are called, where they are taken.
    """
    signature = inspect.signature(function)
    (spelled,) = (p for p in signature.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in signature.parameters.values() if p is not spelled]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in get_type_hints(options).items()
    ]
    if rest is not None:
        parameters.append(inspect.Parameter(rest, inspect.Parameter.VAR_KEYWORD))

    @functools.wraps(function)
    def wrapper(*args: Params.args, **kwargs: Params.kwargs) -> Answer:
        return function(*args, **kwargs)

    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    wrapper.__doc__ = inspect.cleandoc(function.__doc__ or "").replace(f"**{spelled.name}", help_text)
    return wrapper
