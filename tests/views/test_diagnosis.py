"""Findings read as sentences with the report's own figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from omnirt_lab.folds import diagnosis as rules
from omnirt_lab.folds.diagnosis import Finding, diagnose
from omnirt_lab.views import numbers
from omnirt_lab.views.diagnosis import WORDINGS, findings_text, words
from tests import sample_events
from tests.sample_events import report_of

every_run = pytest.mark.parametrize("run", sample_events.ALL.values(), ids=sample_events.ALL.keys())


@every_run
def test_every_finding_of_every_run_has_its_sentence(run):
    for finding in diagnose(report_of(run())):
        fact, _ = words(finding)
        assert fact
        assert "{" not in fact


def test_every_code_that_a_rule_gives_has_a_wording():
    source = Path(rules.__file__).read_text()
    given = set(re.findall(r'code="(\w+)"', source)) | set(re.findall(r'code="(\w+)" if', source))

    assert given <= set(WORDINGS)


def test_where_the_time_went_is_one_sentence():
    report = report_of(sample_events.normal())
    finding = next(finding for finding in diagnose(report) if finding.code == "denoise_longest")

    assert words(finding)[0] == f"denoise took 80 % of {numbers.duration(report.duration_ms)}: 20 steps, median 50.0 ms"


def test_a_failed_run_begins_with_its_error_and_hint():
    first, second, *_ = findings_text(diagnose(report_of(sample_events.failed()))).splitlines()

    assert first == "error"
    assert second.startswith("  ✗ failed in denoise after 3 of 20 steps: RuntimeError: The size of tensor a (77)")


def test_topics_stand_once_each_in_the_reading_order():
    text = findings_text(diagnose(report_of(sample_events.warned())))
    topics = [line for line in text.splitlines() if not line.startswith(" ")]

    assert topics == ["error", "timings", "memory", "cache hits", "placement", "batch", "metrics", "trace", "events"]


def test_an_error_message_cannot_colour_the_terminal_or_fill_in_figures():
    figures = {"message": "\x1b[31m{type}\n", "type": "E", "stage": "", "steps": 0, "steps_planned": 0, "hint": ""}
    fact, advice = words(Finding(topic="error", code="failed", severity="problem", figures=figures))

    assert fact == r"failed: E: \x1b[31m{type}\n"
    assert advice == ""


@every_run
def test_no_line_is_longer_than_asked(run):
    assert max(map(len, findings_text(diagnose(report_of(run())), width=80).splitlines())) <= 80
