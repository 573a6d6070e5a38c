"""A cache whose look-up took longer than what it stood in for: every view says so in words."""

from __future__ import annotations

from omnirt_lab.folds.diagnosis import diagnose
from omnirt_lab.records import AnyEvent, CacheHitData, RunReport, StageEndData, StageStartData
from omnirt_lab.views import facts, numbers
from omnirt_lab.views.diagnosis import findings_text
from omnirt_lab.views.plotly import figure_dict
from omnirt_lab.views.sweep import Shown, summary
from omnirt_lab.views.text import report_text
from tests import sample_events
from tests.sample_events import MS, Tape, report_of

LOSS = "cost 4.20 ms more than it saved"


def slow_look_up(tape: Tape, *, hits: int = 1) -> list[AnyEvent]:
    """A text encoder whose embedding took longer to find than to make."""
    for _ in range(hits):
        tape.add(StageStartData(), stage="text_encoder", after_ms=0.3)
        tape.add(CacheHitData(cache_type="text_embedding", saved_ns=int(-4.2 * MS)), stage="text_encoder")
        tape.add(StageEndData(), stage="text_encoder", after_ms=5.0)
    return sample_events.finished(sample_events.denoised(tape)).events


def lost(*, hits: int = 1) -> RunReport:
    return report_of(slow_look_up(Tape().enqueue().start(), hits=hits))


def test_a_saving_below_nothing_is_told_as_a_cost():
    assert numbers.saving(37.4) == "saved 37.4 ms"
    assert numbers.saving(-4.2) == LOSS


def test_text_diagnosis_and_plotly_say_that_the_cache_cost_more_than_it_saved():
    report = lost()

    text = report_text(report)
    assert f"└ from the text_embedding cache, {LOSS}" in text
    assert f"text_embedding: 1 of 1 hit, {LOSS}" in text
    assert LOSS in " ".join(findings_text(diagnose(report)).split())
    (note,) = figure_dict(report)["layout"]["annotations"]
    assert note["text"] == f"from the text_embedding cache, {LOSS}"
    assert "saved -" not in text


def test_several_losses_of_a_stage_are_told_together():
    (note,) = figure_dict(lost(hits=2))["layout"]["annotations"]

    assert note["text"] == "2 from the text_embedding cache, cost 8.40 ms more than they saved"


def test_a_sweep_says_it_too():
    shown = Shown(name="s", prompt="p", axes=(), cells=(), saved_ms=-4.2, pictures=())

    assert f"the text-embedding cache {LOSS}" in summary(shown)


def test_the_key_figure_is_a_loss_without_a_sign():
    assert ("lost by caches", "4.20 ms") in facts.key_figures(lost())
