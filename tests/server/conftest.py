from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browsing import browser
from tests.server.serving import Serving, running_server

__all__ = ["browser", "server"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One server for the tests of a module, with a journal of its own and no runner."""
    home = tmp_path_factory.mktemp("server")
    with running_server(home / "state", home, "--OmniRTApp.runners=0") as serving:
        yield serving
