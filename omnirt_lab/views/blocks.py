"""The blocks of a modular run, in words."""

from __future__ import annotations

from typing import Final

from omnirt_lab.folds.timeline import BlockSpan, Timeline
from omnirt_lab.units import ms_from_ns
from omnirt_lab.views import numbers
from omnirt_lab.views.quoting import visible

LABEL: Final = "blocks"

_MAX_NAMED: Final = 3


def block_lines(made: Timeline) -> tuple[str, ...]:
    """`11 in 51.2 ms: denoise.denoise 41.0 ms (80 %), …`, the longest first; empty for a run without blocks."""
    if not made.blocks:
        return ()
    total_ns = busy_ns(made)
    longest = sorted(made.blocks, key=lambda block: block.duration_ns, reverse=True)
    named = [f"{visible(block.name)} {took(block, total_ns)}" for block in longest[:_MAX_NAMED]]
    others_ns = sum(block.duration_ns for block in longest[_MAX_NAMED:])
    if len(longest) > _MAX_NAMED:
        others = numbers.count(len(longest) - _MAX_NAMED, "other")
        named.append(f"{others} {numbers.duration(ms_from_ns(others_ns))}")
    return (f"{len(longest):,} in {numbers.duration(ms_from_ns(total_ns))}: {', '.join(named)}",)


def busy_ns(made: Timeline) -> int:
    """What all blocks took; they follow each other."""
    return sum(block.duration_ns for block in made.blocks)


def took(block: BlockSpan, total_ns: int) -> str:
    """`41.0 ms (80 %)`."""
    share = block.duration_ns / total_ns if total_ns else None
    return f"{numbers.duration(ms_from_ns(block.duration_ns))} ({numbers.percent(share)})"
