"""Where the server's parts stand in Tornado's settings."""

from __future__ import annotations

from typing import Final

SERVICES_KEY: Final = "omnirt_services"
