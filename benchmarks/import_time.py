"""How long `import omnirt_lab` takes, in CPU milliseconds of a fresh interpreter, beside an import of nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys

from report import emit_report

RUNS = 15
MAX_CPU_MS = 100.0

TIMER = "import time; start = time.process_time_ns(); {statement}; print(time.process_time_ns() - start)"


def cpu_ms(statement: str) -> float:
    """CPU time of `statement` in a new interpreter."""
    command = [sys.executable, "-c", TIMER.format(statement=statement)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1e6


def main() -> None:
    for statement in ("import omnirt_lab", "import torch"):
        cpu_ms(statement)  # bytecode and disk caches
    lab = statistics.median(cpu_ms("import omnirt_lab") for _ in range(RUNS))
    torch = statistics.median(cpu_ms("import torch") for _ in range(3))
    rows = [
        {"import": "omnirt_lab", "cpu_ms": lab, "share_of_torch": lab / torch},
        {"import": "torch", "cpu_ms": torch, "share_of_torch": 1.0},
    ]
    emit_report("import_time", rows, {"import omnirt_lab <= 100 ms CPU": lab <= MAX_CPU_MS})


if __name__ == "__main__":
    main()
