"""What `validate` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec
from msgspec.structs import replace

from omnirt_lab import records
from omnirt_lab.records import GenerateRequest
from omnirt_lab.views.validation import validation_text

if TYPE_CHECKING:
    from omnirt_lab.pipelines.catalog import ModelSource


class Validation(records.Validation, frozen=True, kw_only=True):
    """A request that can be run here; shows itself as text."""

    @classmethod
    def of(cls, request: GenerateRequest) -> Self:
        """Look the request's model up, and say what a run of it would be; loads no weights.

        Raises
        ------
        InvalidRequestError, UnknownModelError, ModelLoadError
            If it cannot be run as it stands.
        NotEnoughMemoryError
            If it certainly needs more memory than there is.
        """
        from omnirt_lab.pipelines.call_plan import foresee  # loads torch
        from omnirt_lab.pipelines.catalog import get_model  # loads huggingface_hub
        from omnirt_lab.pipelines.modular_plan import foresee_modular  # loads torch

        mode, source = request.config.execution_mode, get_model(request.model)
        foreseen = (foresee_modular if mode == "modular" else foresee)(source, request)
        if mode != "ray":  # whose nodes have memory of their own
            foreseen = _with_memory(foreseen, source, may_refuse=mode != "subprocess")
        return msgspec.convert(foreseen, cls, from_attributes=True)

    def __str__(self) -> str:
        return validation_text(self)

    def __repr__(self) -> str:
        return validation_text(self)


def _with_memory(foreseen: records.Validation, source: ModelSource, *, may_refuse: bool) -> records.Validation:
    """Add what memory it needs. A child's resident models are not known here, so for one nothing is refused."""
    from omnirt_lab.executors.resources import RESOURCES  # loads torch
    from omnirt_lab.pipelines.memory_check import memory_warnings  # loads torch
    from omnirt_lab.pipelines.memory_estimate import memory_needs  # loads torch

    if may_refuse:
        RESOURCES.require_memory(source, foreseen.request)
    plan = RESOURCES.memory_plan(source, foreseen.request)
    needs = memory_needs(plan)
    return replace(foreseen, memory=needs, warnings=foreseen.warnings + memory_warnings(plan, needs))
