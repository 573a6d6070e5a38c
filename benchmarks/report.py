"""How every benchmark says what it found: JSON for programs, then a table, then the verdicts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence


def emit_report(name: str, rows: Sequence[Mapping[str, object]], verdicts: Mapping[str, bool]) -> None:
    """Print the figures and whether each limit holds; the exit status is 1 if one does not.

    Parameters
    ----------
    rows
        One mapping a line of the table; all have the keys of the first.
    verdicts
        Limit, as a sentence with its figure → whether it holds.
    """
    print(json.dumps({"benchmark": name, "rows": list(rows), "verdicts": dict(verdicts)}))
    cells = [list(rows[0])] + [[_text(value) for value in row.values()] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        first, *others = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *others]))
    for claim, holds in verdicts.items():
        print(f"{'holds' if holds else 'FAILS'}  {claim}")
    if not all(verdicts.values()):
        sys.exit(1)


def _text(value: object) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else str(value)
