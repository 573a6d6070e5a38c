from __future__ import annotations

from collections.abc import Iterator

import pytest

from omnirt_lab.journal import Journal, Worker


@pytest.fixture
def journal() -> Iterator[Journal]:
    """The journal in the test's own state directory."""
    with Journal.open() as opened:
        yield opened


@pytest.fixture
def worker(journal: Journal) -> Worker:
    return journal.worker()
