from __future__ import annotations

from collections.abc import Iterator

import pytest

from omnirt_lab import Lab
from tests.browsing import browser

__all__ = ["browser"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as opened:
        yield opened
