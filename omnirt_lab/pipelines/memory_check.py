"""Refuses, before a weight is read, what certainly does not fit into memory, and says what would."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

from omnirt_lab.errors import NotEnoughMemoryError
from omnirt_lab.pipelines.memory_estimate import Plan, certain_bytes, memory_needs
from omnirt_lab.records import Config, MemoryNeed, WarningData
from omnirt_lab.views import numbers

_SMALLEST_PX: Final = 256
_MAX_PROPOSALS: Final = 3
_LEAST: Final = "nothing that the lab can change here makes it fit: use a smaller model, or a machine with more memory"


def require_memory(plan: Plan) -> None:
    """Refuse a run that certainly does not fit.

    Raises
    ------
    NotEnoughMemoryError
        Saying how much is needed, how much there is, and which settings would fit by the estimate.
    """
    for need in memory_needs(plan):
        if certain_bytes(need) > need.available_bytes:
            raise NotEnoughMemoryError(
                f"{plan.source.name} does not fit into the memory of {need.device}: it needs at least "
                f"{numbers.size(certain_bytes(need))}, {numbers.size(need.weight_bytes)} of it for weights, "
                f"and {_what_there_is(need)}",
                hint=_hint(plan),
            )


def memory_warnings(plan: Plan, needs: tuple[MemoryNeed, ...]) -> tuple[WarningData, ...]:
    """What may not fit, or certainly does not where nobody asked to have that refused."""
    return tuple(
        WarningData(
            code="memory_may_not_suffice",
            message=f"on {need.device} it may need {numbers.size(need.total_bytes)}, and {_what_there_is(need)}",
            hint=_hint(plan),
        )
        for need in needs
        if need.available_bytes < need.total_bytes
    )


def _hint(plan: Plan) -> str:
    fitting = [words for words, settings in _proposals(plan) if _fits(plan.changed(**settings))]
    would = f"by the estimate it fits with {', or '.join(fitting[:_MAX_PROPOSALS])}" if fitting else _LEAST
    return f"{would[0].upper()}{would[1:]}. lab.configure(memory_check=False) tries it nonetheless."


def _fits(plan: Plan) -> bool:
    return all(need.total_bytes <= need.available_bytes for need in memory_needs(plan))


def _proposals(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings that take less memory, those first that change the least; each as a person writes it."""
    config, is_on_gpu = plan.config, plan.device.type != "cpu"
    single: list[dict[str, Any]] = []
    if config.num_images > 1 and not config.vae_slicing:
        single.append({"vae_slicing": True})
    if not config.vae_tiling:
        single.append({"vae_tiling": True})
    if config.dtype in (None, "float32"):
        single.append({"dtype": "bfloat16"})
    if config.num_images > 1:
        single.append({"num_images": 1})
    for settings in single:
        yield _words(settings), settings
    if is_on_gpu and config.offload is None and config.device_map is None:
        yield "preset='low-vram'", {"dtype": "bfloat16", "vae_slicing": True, "vae_tiling": True, "offload": "model"}
        yield "offload='sequential'", {"offload": "sequential"}
    if plan.device.type == "cuda" and config.quantization is None and find_spec("bitsandbytes") is not None:
        yield "quantization='nf4'", {"quantization": "nf4"}
    yield from _smaller(plan, config)
    together = {name: value for settings in single for name, value in settings.items()}
    if len(single) > 1:
        yield _words(together), together


def _smaller(plan: Plan, config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Halves of the asked size, the largest that fits, down to the smallest that is worth drawing."""
    if config.width is None or config.height is None:
        return
    width, height, multiple = config.width // 2, config.height // 2, plan.source.size_multiple_px
    while min(width, height) >= _SMALLEST_PX:
        settings = {"width": width // multiple * multiple, "height": height // multiple * multiple}
        if _fits(plan.changed(**settings)):
            yield _words(settings), settings
            return
        width, height = width // 2, height // 2


def _words(settings: dict[str, Any]) -> str:
    return " and ".join(f"{name}={value!r}" for name, value in settings.items())


def _what_there_is(need: MemoryNeed) -> str:
    return f"{numbers.size(need.available_bytes)} of {numbers.size(need.capacity_bytes)} are available"
