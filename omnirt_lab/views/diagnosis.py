"""Findings in words: the fact with its figures, and what to try."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from omnirt_lab.folds.diagnosis import Finding, Severity
from omnirt_lab.views import numbers
from omnirt_lab.views.facts import KIND_WORDS
from omnirt_lab.views.quoting import visible


class Wording(NamedTuple):
    """A finding's sentence and, where something can be done, the next step. Braces hold figures and their format."""

    fact: str
    advice: str = ""


WORDINGS: Final[dict[str, Wording]] = {
    "no_error": Wording("no error: {state}"),
    "failed": Wording("failed{where}{progress}: {type}: {message}", "{hint}"),
    "lost": Wording(
        "lost{where}{progress}: {message}",
        "its process ended or was killed: look for an out-of-memory kill in the system's log, then run it again",
    ),
    "cancelled": Wording("cancelled{where}{progress}: {message}"),
    "latents_not_finite": Wording(
        "{nan_count:count} of the latents' values are NaN or infinite, so the picture is not to be trusted ({dtypes})",
        'run it with dtype="float32", or a lower guidance; float16 overflows in some VAEs and text encoders',
    ),
    "warning": Wording("warning: {message}", "{hint}"),
    "denoise_longest": Wording(
        "denoise took {share:share} of {duration_ms:ms}: {steps:count} steps, median {median_ms:ms}",
        "each step less saves {median_ms:ms}; multistep schedulers (DPM++, UniPC) need fewer for a like picture",
    ),
    "load_dominates": Wording(
        "loading took {share:share} of {duration_ms:ms}",
        "run the next one in this process: the pipeline is resident now, and {stage_ms:ms} of loading are saved",
    ),
    "vae_decode_dominates": Wording(
        "decoding the latents took {stage_ms:ms}, {share:share} of {duration_ms:ms}",
        "a smaller picture, or a tiny autoencoder (diffusers' AutoencoderTiny) in place of the VAE, decodes faster",
    ),
    "longest_stage": Wording(
        "{stage} took {stage_ms:ms}, {share:share} of {duration_ms:ms}, more than any other stage"
    ),
    "queue_longer_than_run": Wording(
        "waited {queue_wait_ms:ms} in the queue for {duration_ms:ms} of work",
        "a higher priority, a second worker, or batching of like requests shortens the wait",
    ),
    "slow_first_step": Wording(
        "the first step took {first_ms:ms}, the others {median_ms:ms} (median): {extra_ms:ms} of warm-up",
        "compare later runs with one another and not with this one; memory and kernels are set up in the first step",
    ),
    "step_outliers": Wording(
        "{slow_steps:count} of {steps:count} steps took more than twice the median of {median_ms:ms}; "
        "step {worst_step} took {worst_ms:ms}, {extra_ms:ms} were lost in all",
        "something else used the machine meanwhile: look at its load, then run it again",
    ),
    "unaccounted_time": Wording(
        "{rest_ms:ms}, {share:share} of {duration_ms:ms}, lie in no stage",
        "callbacks and code of the pipeline itself run between the stages; a profiler shows which",
    ),
    "memory_not_measured": Wording("memory was not measured"),
    "memory_peak": Wording("peak {peak_bytes:bytes} on {device} ({counted}){in_stage}{growth}"),
    "peak_in_vae_decode": Wording(
        "peak {peak_bytes:bytes} on {device} ({counted}){in_stage}{growth}",
        "if that is too much: pipe.vae.enable_tiling(), pipe.vae.enable_slicing(), or fewer pictures at once",
    ),
    "no_cache_asked": Wording("no cache was asked"),
    "cache_missed": Wording("{cache_type}: asked {calls:times}, no hit; the same input is a hit next time"),
    "cache_hit": Wording("{cache_type}: {hits:count} of {calls:count} hit; what that saved was never timed"),
    "cache_saved": Wording("{cache_type}: {hits:count} of {calls:count} hit, {saved_ms:saving}"),
    "encoder_uncached": Wording(
        "{stage} ran {calls:times} for {stage_ms:ms}, and no cache was asked",
        "lab.generate() and lab.observe() ask the text-embedding cache: a repeated prompt then costs next to nothing",
    ),
    "placement_unknown": Wording("where the components were is not known"),
    "placement": Wording("{components:count} components on {devices}"),
    "split_placement": Wording(
        "components on {devices}; on the host: {on_host}",
        "move them to the accelerator (pipe.to(...)) if they fit; with offloading on, this is how it should be",
    ),
    "batch": Wording("{batch_size:requests} in one pipeline call, {pictures:pictures}"),
    "several_pictures": Wording("{pictures:pictures} in one run, {picture_ms:ms} each"),
    "overhead": Wording("measuring cost {overhead_ms:ms}, {share:share} of the run"),
    "overhead_high": Wording(
        "measuring cost {overhead_ms:ms}, {share:share} of the run",
        "with steps this short, trust the shares more than the milliseconds",
    ),
    "overhead_not_measured": Wording("what measuring cost is not known"),
    "trace": Wording("trace {trace_id}: {spans:count} spans"),
    "wall_clock_on_accelerator": Wording(
        "trace {trace_id}: {spans:count} spans, all by the wall clock, although components ran on an accelerator",
        "the device works on after Python has gone on: take single stages as lower bounds, the total is right",
    ),
    "events_complete": Wording("{events:count} events besides steps and memory readings, none dropped"),
    "events_dropped": Wording(
        "{events_dropped:count} events could not be written, so stages or steps may be missing here",
        "look for a full disk or a locked journal in the state directory",
    ),
}

_MARKS: Final[dict[Severity, str]] = {"problem": "✗", "advice": "!", "info": "·"}


class _Figures(string.Formatter):
    """Formats figures by what they measure."""

    def format_field(self, value: Any, format_spec: str) -> str:
        match format_spec:
            case "ms":
                return numbers.duration(value)
            case "saving":
                return numbers.saving(value)
            case "bytes":
                return numbers.size(value)
            case "share":
                return numbers.percent(value)
            case "count":
                return f"{value:,}"
            case "times":
                return "once" if value == 1 else f"{value:,} times"
            case "requests" | "pictures":
                return numbers.count(value, format_spec.removesuffix("s"))
            case _:
                return visible(str(value))


def words(finding: Finding) -> tuple[str, str]:
    """The fact, and what to try; the latter may be empty."""
    wording = WORDINGS[finding.code]
    figures = {**_phrases(finding), **finding.figures}
    return _FORMATTER.vformat(wording.fact, (), figures), _FORMATTER.vformat(wording.advice, (), figures)


def findings_text(findings: Sequence[Finding], *, width: int = 88) -> str:
    """The findings under their topics, in reading order: `✗` a problem, `!` advice, `·` for information."""
    lines: list[str] = []
    for topic, group in groupby(findings, key=lambda finding: finding.topic):
        lines.append(topic)
        for finding in group:
            lines += _lines(finding, width)
    return "\n".join(lines)


def _lines(finding: Finding, width: int) -> Iterator[str]:
    fact, advice = words(finding)
    yield from textwrap.wrap(fact, width, initial_indent=f"  {_MARKS[finding.severity]} ", subsequent_indent="    ")
    if advice:
        yield from textwrap.wrap(advice, width, initial_indent="    → ", subsequent_indent="      ")


def _phrases(finding: Finding) -> dict[str, str]:
    """Parts of sentences that stand only where their figures do."""
    figures = finding.figures
    stage, steps, planned = figures.get("stage"), figures.get("steps", 0), figures.get("steps_planned")
    growth_bytes = figures.get("growth_bytes")
    return {
        "counted": next((words for kind, words in KIND_WORDS.items() if kind == figures.get("kind")), ""),
        "where": f" in {stage}" if stage else "",
        "progress": f" after {steps:,} of {planned:,} steps" if planned else "",
        "in_stage": f", in {stage}" if stage else "",
        "growth": f", {numbers.size(float(growth_bytes))} above its start" if growth_bytes is not None else "",
    }


_FORMATTER: Final = _Figures()
