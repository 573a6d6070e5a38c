"""Runs side by side, to look into: their pictures with one zoom for all, flipped through, or as a difference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import traitlets

from omnirt_lab.views.comparison import Shown
from omnirt_lab.views.comparison_page import comparison_page
from omnirt_lab.views.difference import difference_png
from omnirt_lab.widgets.hearing import HeardWidget

_FALLBACK: Final = (
    "A comparison to look into, which lives as long as its kernel; the comparison itself stays when saved."
)


class CompareExplorer(HeardWidget):
    """Shows one picture of each side at a time; the browser asks for another by its index."""

    _esm = Path(__file__).with_name("compare_explorer.js")
    _css = Path(__file__).with_name("compare_explorer.css")

    page = traitlets.Dict().tag(sync=True)
    """A `ComparisonPage`."""

    pictures: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """A side's entry: `content`, its picture's bytes, `difference` from the first side's, and a `label` of that."""

    index = traitlets.Int(0).tag(sync=True)
    """Which picture of each side is shown, from 0."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._page = comparison_page(shown)
        super().__init__(page=msgspec.to_builtins(self._page), pictures=_pictures(shown.pictures, 0))

    @traitlets.validate("index")
    def _check_index(self, proposal: Any) -> int:
        """Keep what the browser asks for inside what there is."""
        return max(0, min(int(proposal["value"]), self._page.picture_count - 1))

    @traitlets.observe("index")
    def _show_index(self, change: Any) -> None:
        self.pictures = _pictures(self._shown.pictures, change["new"])

    def __repr__(self) -> str:
        return _FALLBACK


def _pictures(sides: Sequence[Sequence[bytes]], index: int) -> list[dict[str, Any]]:
    chosen = [side[index] if index < len(side) else None for side in sides]
    apart = [(None, ""), *(_difference(chosen[0], content) for content in chosen[1:])]
    return [
        {"content": content, "difference": difference, "label": label}
        for content, (difference, label) in zip(chosen, apart, strict=True)
    ]


def _difference(first: bytes | None, other: bytes | None) -> tuple[bytes | None, str]:
    if first is None or other is None:
        return None, "nothing to compare"
    made = difference_png(first, other)
    return (None, "not of the same size") if made is None else (made.png, made.label)
