"""What a request comes to, found out without loading a weight."""

from __future__ import annotations

from omnirt_lab.records.base import Json, Record
from omnirt_lab.records.events import WarningData
from omnirt_lab.records.requests import GenerateRequest


class MemoryNeed(Record, frozen=True, kw_only=True):
    """What a run needs of one device, estimated, and what there is."""

    device: str
    """`cpu`, `cuda:0`, `mps`; `all GPUs` where the components are spread over them."""

    weight_bytes: int
    """Most that is held of the weights at once: all of them, or with offload the largest part that is brought."""

    activation_bytes: int | None = None
    """What the call needs beside them. None for a family that was never measured, and where none of it is there."""

    available_bytes: int
    """What the process could take now, what resident models hold included: those go when another one is loaded."""

    capacity_bytes: int

    @property
    def total_bytes(self) -> int:
        """Weights and, where they are known, activations."""
        return self.weight_bytes + (self.activation_bytes or 0)


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

    memory: tuple[MemoryNeed, ...] = ()
    """One for each device; empty where the weights' size cannot be told without loading, or others run the job."""

    warnings: tuple[WarningData, ...] = ()
