"""The live view's half in the browser, and the line to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anywidget
import msgspec
import traitlets

from omnirt_lab.views.live import LiveState
from omnirt_lab.widgets.cell import Bundle
from omnirt_lab.widgets.hearing import hear_while_busy

WIDGET_MIME: Final = "application/vnd.jupyter.widget-view+json"
_STOP: Final = {"action": "stop"}
_FALLBACK: Final = "A run is shown here while it goes on, and its report when it has ended."


class LiveWidget(anywidget.AnyWidget):
    """Shows a `LiveState` and the latest preview; says when its person wants the run to stop.

    Parameters
    ----------
    on_stop
        Called when the button was pressed, in whichever thread the kernel hears of it; must be quick.
    """

    _esm = Path(__file__).with_name("live.js")
    _css = Path(__file__).with_name("live.css")

    state = traitlets.Unicode("").tag(sync=True)
    """A `LiveState` as JSON: ipykernel would walk through a dict, which takes ten times as long as writing this."""
    is_stopping = traitlets.Bool(False).tag(sync=True)
    preview = traitlets.Bytes().tag(sync=True)
    """An encoded picture; travels as a buffer."""
    preview_type = traitlets.Unicode("").tag(sync=True)
    """Its media type."""

    def __init__(self, on_stop: Callable[[], None]) -> None:
        super().__init__()
        self._on_stop = on_stop
        self.on_msg(self._hear)
        hear_while_busy(self.comm)

    def show(self, state: LiveState, *, is_stopping: bool) -> None:
        """Send what has changed, in one message."""
        with self.hold_sync():
            self.state = msgspec.json.encode(state).decode()
            self.is_stopping = is_stopping

    def show_preview(self, content: bytes, media_type: str) -> None:
        """Send the picture."""
        with self.hold_sync():
            self.preview_type = media_type
            self.preview = content

    def bundle(self) -> Bundle:
        """What a front end needs to draw it."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {WIDGET_MIME: view, "text/plain": _FALLBACK}

    def close(self) -> None:
        """Leave nothing of it in the front end, so that a notebook saved now holds no widget."""
        self.layout.close()
        super().close()

    def _hear(self, _widget: object, content: Any, _buffers: object) -> None:
        if content == _STOP:
            self._on_stop()
