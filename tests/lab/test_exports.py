from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnirt_lab import Lab, RunReport


@pytest.fixture
def report(lab: Lab) -> RunReport:
    return lab.generate("a red circle on a blue background", steps=3, seed=7, progress=False).report


def test_a_chrome_traces_totals_are_the_reports(report: RunReport, tmp_path: Path):
    trace = report.to_chrome_trace(tmp_path / "trace.json")

    assert json.loads((tmp_path / "trace.json").read_text()) == trace
    for stage in ("denoise", "vae_decode", "export"):
        spans = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["name"] == stage]
        assert sum(event["dur"] for event in spans) / 1000 == pytest.approx(report.timings[f"{stage}_ms"], abs=0.01)


def test_an_otlp_request_has_the_reports_trace_id_and_no_prompt(report: RunReport):
    request = report.to_otlp()

    spans = [span for part in request["resourceSpans"] for scope in part["scopeSpans"] for span in scope["spans"]]
    assert {span["traceId"] for span in spans} == {report.trace_id}
    assert "denoise" in {span["name"] for span in spans}
    assert "red circle" not in json.dumps(request)
