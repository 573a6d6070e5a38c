"""The process's lab, and its methods as the package's functions."""

from __future__ import annotations

from typing import Final

from omnirt_lab.lab.profile import Profile
from omnirt_lab.lab.session import Lab

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
panel = LAB.panel
configure = LAB.configure
cache: Final = LAB.cache


def profile(*, sort: str = "self_cpu_time_total", top: int = 10) -> Profile:
    """Profile a block of code with torch's profiler, by the stages of the runs in it: `with profile() as found:`.

    Profiling slows the runs; each says so in its report.

    Parameters
    ----------
    sort
        What the operators are ordered by, in torch's words: `self_cpu_time_total`, `cpu_time_total`,
        `self_device_time_total`, `device_time_total` or `count`.
    top
        How many operators of each stage are shown; `to_pandas()` has all of them.

    Raises
    ------
    InvalidRequestError
        For another `sort` or `top`; when the block begins, if torch's profiler is running already.
    """
    return Profile(lambda: LAB.engine, sort=sort, top=top)
