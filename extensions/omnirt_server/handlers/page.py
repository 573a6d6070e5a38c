"""The page for people, and the few files that it is made of."""

from __future__ import annotations

import asyncio
import hashlib
import html
from pathlib import Path
from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.web import RequestHandler

from omnirt_lab.folds.diagnosis import Severity, diagnose
from omnirt_lab.journal import Journal
from omnirt_lab.records import Record
from omnirt_lab.views.diagnosis import words
from omnirt_server.handlers.base import LabHandler, NoQuery
from omnirt_server.handlers.route import LabRoute

FOLDER: Final = Path(__file__).parents[1] / "page"

_MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}

_CONTENT_SECURITY_POLICY: Final = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'"


class PageRoute(LabRoute, JupyterHandler):
    """What the page and its files have in common. Who is not logged in is sent to Jupyter's login page."""

    @property
    def content_security_policy(self) -> str:
        """Nothing is loaded from elsewhere, and no script or style stands in the page itself."""
        return f"{super().content_security_policy}; {_CONTENT_SECURITY_POLICY}"

    def answer(self, content: bytes, media_type: str) -> None:
        """Send a file that the browser asks for again each time, and is sent only when it has changed."""
        self.set_header("Content-Type", f"{media_type}; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Etag", f'"{hashlib.sha256(content).hexdigest()}"')
        if self.check_etag_header():
            self.set_status(304)
            return
        self.finish(content)

    def compute_etag(self) -> None:
        """Leave the tag as it is."""


class PageHandler(PageRoute):
    """`GET /omnirt`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return the page, which knows the server's base URL."""
        _ = self.xsrf_token  # reading it sets the cookie, which the page sends back as a header
        text = await asyncio.to_thread((FOLDER / "index.html").read_text, encoding="utf-8")
        self.answer(text.replace("@base_url@", html.escape(self.base_url)).encode(), "text/html")


class PageFileHandler(PageRoute):
    """`GET /omnirt/page/{name}`."""

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        """Return a style or script of the page."""
        path = FOLDER / name
        if path.suffix not in _MEDIA_TYPES or not path.is_file():
            raise web.HTTPError(404, "the page has no such file")
        self.answer(await asyncio.to_thread(path.read_bytes), _MEDIA_TYPES[path.suffix])


class WordedFinding(Record, frozen=True, kw_only=True):
    """One finding about a run, as a person reads it."""

    severity: Severity

    fact: str

    advice: str
    """What to try; empty where there is nothing."""


class FindingsHandler(LabHandler):
    """`GET /omnirt/findings/{run id}`."""

    @web.authenticated
    @authorized
    async def get(self, run_id: str) -> None:
        """Return what there is to say about the run, in reading order."""
        self.query(NoQuery)
        self.reply(await asyncio.to_thread(_findings, self.services.journal, run_id))


def _findings(journal: Journal, run_id: str) -> list[WordedFinding]:
    found = []
    for finding in diagnose(journal.get_report(run_id)):
        fact, advice = words(finding)
        found.append(WordedFinding(severity=finding.severity, fact=fact, advice=advice))
    return found


PAGE_ROUTES: Final[list[tuple[str, type[RequestHandler]]]] = [
    (r"/omnirt/?", PageHandler),
    (r"/omnirt/page/([a-z]+\.[a-z]+)", PageFileHandler),
    (r"/omnirt/findings/([^/]+)", FindingsHandler),
]
"""Apart from the API's routes: a page answers with the login page, not 401. `PageHandler` may stand at `/` too."""
