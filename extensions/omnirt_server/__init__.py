"""The Jupyter server extension: shows every job of the journal, live, and runs jobs for others. Never loads torch."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from omnirt_server.app import OmniRTApp  # jupyter_server is heavy, and clients of the package do not need it

    return [{"module": "omnirt_server", "app": OmniRTApp}]
