"""Runs side by side: aligned text, and what every view of a comparison says in the same words."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from omnirt_lab.folds.comparison import Side, Times
from omnirt_lab.records import Json
from omnirt_lab.views import facts, numbers
from omnirt_lab.views.bundle import PLOTLY_MIME
from omnirt_lab.views.quoting import shortened, visible
from omnirt_lab.views.tables import table_text

_VALUE_WIDTH: Final = 26
_FIELD_WIDTH: Final = 40
_PROMPT_LIMIT: Final = 120
_NOTABLE_PERCENT: Final = 0.5
_CARD_SCALE: Final = 1


class Shown(NamedTuple):
    """What the views of a comparison are made from."""

    sides: tuple[Side, ...]
    stages: tuple[Times, ...]
    total: Times
    median_step: Times
    differences: Mapping[str, tuple[Json, ...]]

    pictures: tuple[tuple[bytes, ...], ...]
    """Encoded pictures of each side."""

    picture_lines: tuple[str, ...]


def mimebundle(shown: Shown) -> dict[str, Any]:
    """What a cell shows: plotly, the card, text; no HTML, as in `bundle`."""
    from omnirt_lab.views import comparison_figure, comparison_png  # they load Pillow

    figure = comparison_figure.figure_dict(shown)
    return {
        PLOTLY_MIME: {**figure, "config": {"displaylogo": False, "responsive": True}},
        "image/png": base64.b64encode(comparison_png.comparison_png(shown, scale=_CARD_SCALE)).decode(),
        "text/plain": comparison_text(shown),
    }


def comparison_text(shown: Shown, *, width: int = 88) -> str:
    """The sides, what differs in how they were made, the stage times, and the pictures."""
    blocks = [
        "\n".join(line for side in shown.sides for line in _wrapped(side, width)),
        _differences(shown),
        _times(shown),
        "\n".join(shown.picture_lines),
    ]
    return "\n\n".join(block for block in blocks if block)


def title(side: Side) -> str:
    """Model, outcome and run of a side; of repeats how many."""
    first = side.reports[0]
    if len(side.reports) == 1:
        return f"{facts.model(first, width=32)} · {facts.outcome(first)} · run {first.run_id[:8]}"
    return f"{facts.model(first, width=32)} · {len(side.reports)} runs, the first {first.run_id[:8]}"


def notes(side: Side) -> tuple[str, ...]:
    """What must be known to read a side's figures."""
    apart = len(side.warm_up)
    found = [f"{numbers.count(apart, 'run')} that loaded the model set apart"] if apart else []
    if side.includes_loading:
        found.append("the model was loaded in this run")
    failed = sum(report.state != "succeeded" for report in side.reports)
    if failed and len(side.reports) > 1:
        found.append(f"{failed} of {len(side.reports)} did not succeed")
    return tuple(found)


def prompt(side: Side) -> str:
    """The prompt of a side's first run, in quotes."""
    text = visible(side.reports[0].request.inputs.prompt, limit=_PROMPT_LIMIT)
    return f"“{text}”" if text else ""


def figure(times: Times, index: int) -> str:
    """One side's time: of repeats the mean and the standard deviation."""
    spread = times.spreads[index]
    if spread is None:
        return numbers.UNKNOWN
    mean = numbers.duration(spread.mean_ms)
    return mean if spread.std_ms is None else f"{mean} ± {numbers.duration(spread.std_ms)}"


def change(times: Times, index: int) -> str:
    """How much longer or shorter than on the first side: `+12 %`, `-3.4 %`, `±0 %`; empty where not known."""
    percent = times.change_percent[index]
    if percent is None:
        return ""
    if abs(percent) < _NOTABLE_PERCENT:
        return "±0 %"
    return f"{'+' if percent > 0 else '-'}{numbers.percent(abs(percent) / 100)}"


def is_beyond_spread(times: Times, index: int) -> bool:
    """Whether a side's mean differs from the first's by more than both standard deviations together."""
    first, other = times.spreads[0], times.spreads[index]
    if first is None or other is None:
        return False
    return abs(other.mean_ms - first.mean_ms) > (first.std_ms or 0) + (other.std_ms or 0)


def picture_line(first: str, side: str, index: int, largest: int | None, mean: float | None) -> str:
    """How one picture differs from the first side's."""
    where = f"{side} against {first}, picture {index + 1}"
    if largest is None or mean is None:
        return f"{where}: not of the same size"
    if largest == 0:
        return f"{where}: every pixel is the same"
    return f"{where}: a colour value differs by up to {largest} of 255, by {mean:.2g} on average"


def value(found: Json, width: int = _VALUE_WIDTH) -> str:
    """A recorded value; a dash where there is none."""
    return numbers.UNKNOWN if found is None else shortened(visible(str(found)), width)


def all_times(shown: Shown) -> tuple[Times, ...]:
    """Every line of the table of times."""
    step = (shown.median_step,) if any(shown.median_step.spreads) else ()
    return (*shown.stages, *step, shown.total)


def _wrapped(side: Side, width: int) -> Iterator[str]:
    parts = [title(side), prompt(side), " · ".join(facts.settings(side.reports[0])), *notes(side)]
    first, after = f"{side.label}  ", "   "
    for part in (part for part in parts if part):
        yield from textwrap.wrap(part, width, initial_indent=first, subsequent_indent=after)
        first = after


def _differences(shown: Shown) -> str:
    if not shown.differences:
        return "Nothing recorded differs but the times."
    labels = [side.label for side in shown.sides]
    rows = [
        (shortened(name, _FIELD_WIDTH), *(value(found) for found in values))
        for name, values in shown.differences.items()
    ]
    return table_text(("differs", *labels), rows)


def _times(shown: Shown) -> str:
    header, has_warm_up = ["stage"], [bool(side.warm_up) for side in shown.sides]
    for index, side in enumerate(shown.sides):
        header += (
            [side.label] + (["change"] if index else []) + ([f"{side.label} warm-up"] if has_warm_up[index] else [])
        )
    rows = []
    for times in all_times(shown):
        row = [visible(times.name)]
        for index in range(len(shown.sides)):
            row += [figure(times, index)] + ([change(times, index)] if index else [])
            row += [numbers.duration(times.warm_up_ms[index])] if has_warm_up[index] else []
        rows.append(row)
    return table_text(header, rows, right=range(1, len(header)))
