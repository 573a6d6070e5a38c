"""The rules of CONTRIBUTING.md that a program can check."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "omnirt_lab").rglob("*.py"), *(ROOT / "extensions").rglob("*.py")])
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 40
HEAVY = {
    "torch", "diffusers", "transformers", "accelerate", "peft", "pandas", "plotly", "PIL", "IPython", "numpy",
    "opentelemetry", "mlflow", "av", "ray", "jupyter_server", "omnirt_lab", "omnirt_server",
}  # fmt: skip
"""Libraries that an import inside a function may keep out; our own packages where a module of theirs loads one."""

by_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@by_module
def test_a_module_fits_on_a_few_screens(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES


@by_module
def test_a_function_fits_on_one_screen(path: Path) -> None:
    """Statements count; a docstring does not make a function complex."""
    long = []
    for node in _nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) else None
            lines = (node.end_lineno or 0) - node.lineno + 1
            lines -= (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
            long += [f"{node.name}: {lines}"] if lines > MAX_FUNCTION_LINES else []
    assert long == []


@by_module
def test_a_broad_except_stands_with_its_reason(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    unexplained = []
    for node in _nodes(path):
        if isinstance(node, ast.ExceptHandler):
            kind = getattr(node.type, "id", None)
            is_broad = node.type is None or kind in ("Exception", "BaseException")
            if is_broad and lines[node.lineno - 1].count("#") == 0:
                unexplained.append(node.lineno)
    assert unexplained == []


@by_module
def test_an_import_inside_a_function_only_keeps_a_heavy_library_out(path: Path) -> None:
    wrong = []
    for function in _nodes(path):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
                wrong += [name for name in names if name.partition(".")[0] not in HEAVY]
    assert wrong == []
