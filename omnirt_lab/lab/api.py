"""The process's lab, and its methods as the package's functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omnirt_lab.lab.panel import panel_of
from omnirt_lab.lab.session import Lab

if TYPE_CHECKING:
    from omnirt_lab.widgets.panel import Panel

LAB: Final = Lab()

generate = LAB.generate
submit = LAB.submit
validate = LAB.validate
compare = LAB.compare
sweep = LAB.sweep
observe = LAB.observe
unobserve = LAB.unobserve
publish = LAB.publish
unpublish = LAB.unpublish
history = LAB.history
get_report = LAB.get_report
last_report = LAB.last_report
replay = LAB.replay
get_job = LAB.get_job
models = LAB.models
configure = LAB.configure
cache: Final = LAB.cache


def panel(model: str | None = None) -> Panel:
    """A form over a model's real options, with what it makes beneath it: for those who don't write code.

    Runs are queued for this process's worker thread, so that cells go on working; they stand in the history.

    Parameters
    ----------
    model
        The one to begin with: a built-in name, a local folder, or a hub id.

    Raises
    ------
    UnknownModelError
        If there is no such model.
    """
    return panel_of(LAB.submit, LAB.journal, model)
