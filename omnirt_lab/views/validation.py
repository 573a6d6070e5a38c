"""What a request would come to, as text."""

from __future__ import annotations

from omnirt_lab.records import MemoryNeed, Validation
from omnirt_lab.views import numbers
from omnirt_lab.views.quoting import shortened, visible


def validation_text(validation: Validation) -> str:
    """The pipeline, where and in what it would run, every argument that is not None, and what to know."""
    request = validation.request
    weights = (
        "" if validation.weight_file_bytes is None else f", {numbers.size(validation.weight_file_bytes)} of weights"
    )
    lines = [
        f"{shortened(visible(request.model), 48)} · {request.task} · can run",
        f"{validation.pipeline_class} on {validation.device} in {validation.dtype}{weights}",
        *map(_memory_line, validation.memory),
        "",
    ]
    known = {name: value for name, value in validation.config_resolved.items() if value is not None}
    width = max(map(len, known), default=0)
    lines += [f"{name.ljust(width)}  {visible(str(value), limit=200)}" for name, value in known.items()]
    lines += [f"warning: {visible(warning.message)}" for warning in validation.warnings]
    return "\n".join(lines)


def _memory_line(need: MemoryNeed) -> str:
    parts = f"{numbers.size(need.weight_bytes)} of weights"
    if need.activation_bytes is not None:
        parts += f" and {numbers.size(need.activation_bytes)} for the call"
    return (
        f"memory on {need.device}: about {parts}; {numbers.size(need.available_bytes)} "
        f"of {numbers.size(need.capacity_bytes)} available"
    )
