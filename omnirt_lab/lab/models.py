"""The list of models, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self, overload

from omnirt_lab.views import tables

if TYPE_CHECKING:
    from omnirt_lab.pipelines.catalog import ModelSource


class Models(Sequence["ModelSource"]):
    """Models at hand, in the catalog's order; prints as a table."""

    def __init__(self, sources: Sequence[ModelSource]) -> None:
        self._sources = tuple(sources)

    @classmethod
    def at_hand(cls) -> Self:
        """Ask the catalog."""
        from omnirt_lab.pipelines.catalog import list_models  # reaches diffusers

        return cls(list_models())

    @overload
    def __getitem__(self, index: int) -> ModelSource: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ModelSource]: ...
    def __getitem__(self, index: int | slice) -> ModelSource | Sequence[ModelSource]:
        return self._sources[index]

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[ModelSource]:
        return iter(self._sources)

    def __repr__(self) -> str:
        rows = [(s.name, s.kind, s.pipeline_class, ", ".join(s.tasks)) for s in self._sources]
        return tables.table_text(("model", "kind", "pipeline", "tasks"), rows)
