"""The models that requests may name, in OpenAI's shape."""

from __future__ import annotations

import asyncio

from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_lab.records.api import ModelList
from omnirt_server.handlers.base import LabHandler, NoQuery
from omnirt_server.models import get_model, list_models


class ModelsHandler(LabHandler):
    """`GET /v1/models`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return what the server may load, and what notebooks have published."""
        self.query(NoQuery)
        services = self.services
        models = await asyncio.to_thread(list_models, services.journal, services.limits, services.runner.started_at_ms)
        self.reply(ModelList(data=models))


class ModelHandler(LabHandler):
    """`GET /v1/models/{model}`."""

    @web.authenticated
    @authorized
    async def get(self, model: str) -> None:
        """Return one of them; 404 if it is none."""
        self.query(NoQuery)
        services = self.services
        models = await asyncio.to_thread(list_models, services.journal, services.limits, services.runner.started_at_ms)
        self.reply(get_model(models, model))
