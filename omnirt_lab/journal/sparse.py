"""A record's JSON without the members that have their default: a third less, and decoding puts them back."""

from __future__ import annotations

from functools import cache

import msgspec
from msgspec.structs import asdict, astuple, fields


def sparse(value: object) -> object:
    """Plain data for `value`: records keep only what differs from its default, users' own dictionaries everything."""
    if isinstance(value, msgspec.Struct):
        if value.__struct_config__.array_like:
            return astuple(value)
        defaults = _defaults(type(value))
        members = asdict(value).items()
        return {name: sparse(member) for name, member in members if name not in defaults or member != defaults[name]}
    if isinstance(value, tuple):
        return [sparse(member) for member in value]
    if isinstance(value, dict):
        return {name: sparse(member) for name, member in value.items()}
    return value


@cache
def _defaults(kind: type[msgspec.Struct]) -> dict[str, object]:
    known: dict[str, object] = {}
    for field in fields(kind):
        if field.default is not msgspec.NODEFAULT:
            known[field.name] = field.default
        elif field.default_factory is not msgspec.NODEFAULT:
            known[field.name] = field.default_factory()
    return known
