"""What type checkers see of the public API; mypy reads this file, nothing runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_type

import pandas as pd
from PIL.Image import Image
from plotly.graph_objects import Figure

import omnirt_lab as lab
from omnirt_lab import records
from omnirt_lab.widgets.compare_explorer import CompareExplorer
from omnirt_lab.widgets.explorer import ReportExplorer, Selection
from omnirt_lab.widgets.panel import Panel

result = lab.generate("a red circle", steps=20, seed=7, guidance_scale=4.0, options={"eta": 0.5})
assert_type(result, lab.GenerateResult)
assert_type(result.images, list[Image])
assert_type(result.report, lab.RunReport)
assert_type(result.metadata, lab.RunReport)
assert_type(result.outputs, tuple[lab.Artifact, ...])
assert_type(result.report.timings, dict[str, float])
assert_type(result.report.to_png(), bytes)
figure: Figure = result.report.figure()
explorer = result.report.explore()
assert_type(explorer, ReportExplorer)
assert_type(explorer.selection, Selection)
explorer.select(step=3)

replay = lab.replay("picture.png")
assert_type(replay, lab.Replay)
assert_type(replay.result, lab.GenerateResult)
assert_type(replay.differing_fields, tuple[str, ...])

comparison = lab.compare("123456", result, [result.report, "654321"])
assert_type(comparison, lab.Comparison)
assert_type(comparison.to_pandas(), pd.DataFrame)
assert_type(comparison.explore(), CompareExplorer)

sweep = lab.sweep("a red circle", steps=[10, 20], seed=range(4), guidance_scale=5.0, name="mine")
assert_type(sweep, lab.Sweep)
assert_type(sweep.resume(), lab.Sweep)
assert_type(sweep.results, tuple[lab.GenerateResult | None, ...])
assert_type(sweep.grid, bytes)
swept: Figure = sweep.figure()
assert_type(sweep.explore().selection, pd.DataFrame)

panel: Panel = lab.panel("tiny-shapes")
assert_type(panel.reports, tuple[records.RunReport, ...])

with lab.profile(sort="count", top=3) as profile:
    assert_type(profile, lab.Profile)
assert_type(profile.reports, tuple[lab.RunReport, ...])
assert_type(profile.to_pandas(), pd.DataFrame)

job = lab.submit("a red circle", priority=1)
assert_type(job, lab.Job)
assert_type(job.result(timeout=60.0), lab.GenerateResult)

unpublish: Callable[[str], None] = lab.unpublish

assert_type(lab.history(since="7d"), lab.History)
assert_type(lab.history(rating=4, trashed=False).tag("good").pick("123456"), lab.History)
assert_type(lab.history().to_pandas(), pd.DataFrame)
assert_type(lab.history().to_csv("runs.csv"), Path)
assert_type(lab.history().explore().selection, pd.DataFrame)
assert_type(lab.get_report("123456"), lab.RunReport)
