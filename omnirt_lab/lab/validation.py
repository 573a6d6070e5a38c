"""What `validate` answers."""

from __future__ import annotations

from typing import Self

import msgspec

from omnirt_lab import records
from omnirt_lab.records import GenerateRequest
from omnirt_lab.views.validation import validation_text


class Validation(records.Validation, frozen=True, kw_only=True):
    """A request that can be run here; shows itself as text."""

    @classmethod
    def of(cls, request: GenerateRequest) -> Self:
        """Look the request's model up, and say what a run of it would be; loads no weights.

        Raises
        ------
        InvalidRequestError, UnknownModelError, ModelLoadError
            If it cannot be run as it stands.
        """
        from omnirt_lab.pipelines.call_plan import foresee  # loads torch
        from omnirt_lab.pipelines.catalog import get_model  # loads huggingface_hub
        from omnirt_lab.pipelines.modular_plan import foresee_modular  # loads torch

        look_ahead = foresee_modular if request.config.execution_mode == "modular" else foresee
        return msgspec.convert(look_ahead(get_model(request.model), request), cls, from_attributes=True)

    def __str__(self) -> str:
        return validation_text(self)

    def __repr__(self) -> str:
        return validation_text(self)
