"""What a control panel says of its form and its runs, as markup in which no user's text can act."""

from __future__ import annotations

import html
from typing import Final

from omnirt_lab.records import RunReport
from omnirt_lab.views import facts, numbers
from omnirt_lab.views.quoting import shortened, visible

_PROMPT_LIMIT: Final = 60
_MESSAGE_LIMIT: Final = 600
_NAME_WIDTH: Final = 40
_ALERT: Final = "color: var(--jp-error-color1, #b3261e); line-height: 1.4"
_MUTED: Final = "color: var(--jp-ui-font-color2, #596273); line-height: 1.4"


def problem(message: str, hint: str | None) -> str:
    """What is wrong, read out at once by a screen reader, and what to do next."""
    next_step = f"<div>{_text(hint)}</div>" if hint else ""
    return f'<div role="alert" style="{_ALERT}"><b>{_text(message)}</b>{next_step}</div>'


def quiet(text: str) -> str:
    """What goes on; not read out, as it may change ten times a second."""
    return f'<div style="{_MUTED}">{_text(text)}</div>'


def title(prompt: str) -> str:
    """The prompt as plain text, short enough for a button."""
    return visible(prompt, limit=_PROMPT_LIMIT) or "no prompt"


def file_words(name: str, size_bytes: int) -> str:
    """An uploaded file in words."""
    return f"{shortened(visible(name), _NAME_WIDTH)}, {numbers.size(size_bytes)}"


def waiting(ahead: int) -> str:
    """Of a job that no worker has taken yet, with how many of the panel's own come first."""
    return "queued" if ahead == 0 else f"queued behind {numbers.count(ahead, 'run')}"


def progress(stage: str | None, done: int, total: int | None, left_ms: float | None) -> str:
    """`denoise · step 5 of 20 · 1.2 s left`."""
    steps = f"step {done:,}" + (f" of {total:,}" if total else "") if done else ""
    left = f"{numbers.duration(left_ms)} left" if left_ms is not None else ""
    return " · ".join(part for part in (visible(stage or "starting"), steps, left) if part)


def outcome(report: RunReport) -> str:
    """How a run ended, its settings, and why it failed if it did."""
    colour = "" if report.state == "succeeded" else f' style="{_ALERT}"'
    lines = [f"<div{colour}>{_text(facts.outcome(report))}</div>"]
    lines.append(quiet(" · ".join(facts.settings(report))))
    if report.error is not None:
        hint = f" {report.error.hint}" if report.error.hint else ""
        lines.append(f'<div style="{_ALERT}">{_text(f"{facts.error_line(report)}.{hint}")}</div>')
    return "".join(lines)


def ended(report: RunReport) -> str:
    """The outcome, read out when there is a pause."""
    return f'<div role="status">{outcome(report)}</div>'


def _text(text: str) -> str:
    return html.escape(visible(text, limit=_MESSAGE_LIMIT))
