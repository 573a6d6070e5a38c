"""The process's lab, and its methods as the package's functions."""

from __future__ import annotations

from typing import Final

from omnirt_lab.lab.session import Lab

LAB: Final = Lab()

generate = LAB.generate
submit = LAB.submit
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
