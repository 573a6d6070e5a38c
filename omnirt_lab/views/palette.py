"""Colours of the card and of the stages; told apart also by people who do not tell red from green.

Text colours reach a contrast of 4.5 on `CARD` (WCAG 2.1, 1.4.3); `tests/views` computes it.
"""

from __future__ import annotations

from typing import Final, Literal

CARD: Final = "#fcfcfb"
BORDER: Final = "#d3d7de"
RULE: Final = "#e6e8ec"
INK: Final = "#1d2430"
MUTED: Final = "#596273"
ALERT: Final = "#b3261e"
GOOD: Final = "#17694a"
CAUTION: Final = "#8a5300"

NEUTRAL: Final = "#79818d"
"""Readable on white and on JupyterLab's dark background alike: for text on a transparent figure."""

LOAD: Final = "#8b95a7"
ENCODE: Final = "#2a9d8f"
DENOISE: Final = "#3a6fb7"
DENOISE_LIGHT: Final = "#8fb3e2"
DECODE: Final = "#e09f3e"
OTHER: Final = "#b4a7c9"
BLOCK: Final = "#8f7fb0"
BLOCK_LIGHT: Final = "#cfc6de"
MEMORY: Final = "#6c5b9e"
MEMORY_FILL: Final = "#e4dff0"

SIDES: Final = ("#3a6fb7", "#e09f3e", "#2a9d8f", "#8a4f9e", "#8b95a7", "#c2605a", "#5a7d2a", "#1d2430")
"""Of the runs that are compared, in order."""


StageKind = Literal["load", "encode", "denoise", "decode", "other"]

_STAGE_COLOURS: Final[dict[StageKind, str]] = {
    "load": LOAD,
    "encode": ENCODE,
    "denoise": DENOISE,
    "decode": DECODE,
    "other": OTHER,
}


def stage_kind(name: str) -> StageKind:
    """What a stage does, by its name."""
    if name == "denoise":
        return "denoise"
    if name.startswith("vae"):
        return "decode"
    if "encoder" in name:
        return "encode"
    return "load" if name in ("load", "queue") else "other"


def stage_colour(name: str) -> str:
    """The colour of a stage, by what it does."""
    return _STAGE_COLOURS[stage_kind(name)]


def state_colour(state: str) -> str:
    """The colour in which a job's state is written."""
    return {"succeeded": GOOD, "failed": ALERT, "lost": ALERT, "cancelled": CAUTION}.get(state, MUTED)
