"""What a request comes to, found out without loading a weight."""

from __future__ import annotations

from omnirt_lab.records.base import Json, Record
from omnirt_lab.records.events import WarningData
from omnirt_lab.records.requests import GenerateRequest


class Validation(Record, frozen=True, kw_only=True):
    """A request that can be run here, as far as can be told before its model is loaded."""

    request: GenerateRequest
    """With its preset's values in it."""

    pipeline_class: str

    config_resolved: dict[str, Json]
    """As the report of the run would have it: the call's arguments with its defaults, and the settings that are set."""

    dtype: str
    """What the weights would be held in."""

    device: str

    weight_file_bytes: int | None = None
    """Size of the model's weight files; None for a hub model, whose files may not be here."""

    warnings: tuple[WarningData, ...] = ()
