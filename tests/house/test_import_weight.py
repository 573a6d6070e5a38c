"""`import omnirt_lab` is light: what it loads is part of the contract."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "torch",
    "diffusers",
    "transformers",
    "pandas",
    "plotly",
    "opentelemetry",
    "PIL",
    "IPython",
    "numpy",
    "msgspec",
}


def _loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _loaded_after("import omnirt_lab") & HEAVY == set()


def test_asking_for_the_history_loads_no_torch() -> None:
    loaded = _loaded_after("import omnirt_lab; len(omnirt_lab.history())")

    assert loaded & {"torch", "diffusers", "transformers", "plotly"} == set()


def test_the_server_package_loads_no_torch() -> None:
    assert _loaded_after("import omnirt_server") & {"torch", "diffusers"} == set()
