"""A replay's verdict in words."""

from __future__ import annotations

from collections.abc import Mapping

from omnirt_lab.records import Json
from omnirt_lab.views import tables

_MAX_CHARS = 40


def replay_text(
    verdict: str, max_abs_diff: int | None, differences: Mapping[str, tuple[Json, Json]], *, run_id: str
) -> str:
    """Aligned text: the verdict, then each recorded field that differs with its value then and now."""
    head = f"replay {run_id}: {_sentence(verdict, max_abs_diff)}"
    if not differences:
        return f"{head}\nNo recorded field differs."
    rows = [(name, _short(then), _short(now)) for name, (then, now) in differences.items()]
    return f"{head}\n{tables.table_text(('field', 'then', 'now'), rows)}"


def _sentence(verdict: str, max_abs_diff: int | None) -> str:
    if verdict == "bit_exact":
        return "bit-exact, every value is the same"
    if max_abs_diff is None:
        return "different: the outputs do not have the same number or size"
    return f"{verdict}, a value differs by up to {max_abs_diff} of 255"


def _short(value: Json) -> str:
    text = str(value)
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"
