"""A sequence that grows by one at constant cost and never changes: what a frozen fold state keeps its long lists in."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

T = TypeVar("T")

Chain: TypeAlias = "tuple[T, Chain[T]] | None"
"""The latest item and the chain before it; None is the empty chain."""


def unwind(chain: Chain[T]) -> tuple[T, ...]:
    """The items in the order in which they came."""
    items: list[T] = []
    while chain is not None:
        item, chain = chain
        items.append(item)
    items.reverse()
    return tuple(items)
