"""Widgets whose front end is heard while a cell runs, and what that asks of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import anywidget


class HeardWidget(anywidget.AnyWidget):
    """A widget that its front end and a cell change at once, each in a thread of its own.

    They take turns: a change is checked, stored, and told to those who observe it before the next one begins. So what
    is made of a value never stands beside another value. Whoever observes a change keeps the other thread waiting.
    """

    def __init__(self, **state: Any) -> None:
        super().__init__(**state)
        hear_while_busy(self.comm)

    @cached_property
    def turn(self) -> threading.RLock:
        """Held while the widget changes; traitlets and ipywidgets have no lock of their own."""
        return threading.RLock()

    def __setattr__(self, name: str, value: object) -> None:
        with self.turn:
            super().__setattr__(name, value)

    def set_state(self, sync_data: Mapping[str, object]) -> None:
        """Take what the front end sends."""
        with self.turn:
            super().set_state(sync_data)


def hear_while_busy(comm: Any) -> None:
    """Let the front end's messages on this comm be heard while a cell runs, and in the order in which they were sent.

    ipykernel 7 sends them to where the comm was last used, which may be the thread that runs the cell; so they are sent
    to where the front end asks for, which is a subshell of its own. Earlier ones do that by themselves, or not at all.
    """
    if getattr(comm, "_reply_subshell_for", None) is not None:
        comm._reply_subshell_for = lambda _data, default: default  # noqa: SLF001  # there is no public way
