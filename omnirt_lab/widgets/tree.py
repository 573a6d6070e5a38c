"""A widget with everything in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ipywidgets


def each_widget(widget: Any) -> Iterator[Any]:
    """The widget, what it holds, and the layouts and styles of all these."""
    for part in widget.trait_values().values():
        if isinstance(part, ipywidgets.Widget):
            yield from each_widget(part)
    for child in widget.children if isinstance(widget, ipywidgets.Box) else ():
        yield from each_widget(child)
    yield widget


def close_all(widget: Any) -> None:
    """Leave nothing of it in the kernel, nor in the front end; `close` alone would leave what it holds."""
    for part in list(each_widget(widget)):
        part.close()
