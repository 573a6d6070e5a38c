"""The process's lab, on a state directory of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omnirt_lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab that is closed afterwards; resident pipelines stay, as in a kernel."""
    with Lab() as opened:
        yield opened
