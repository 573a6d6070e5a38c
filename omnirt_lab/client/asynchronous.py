"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx

from omnirt_lab.client import calls
from omnirt_lab.client.calls import Call, RunFilter, TraceFormat, Wish
from omnirt_lab.client.connection import TIMEOUT_S, options, stream_timeout, timeout_of, unreachable
from omnirt_lab.client.following import Following
from omnirt_lab.records import AnyEvent, GenerateResult, JobState, Json, RunReport, RunRow
from omnirt_lab.records.api import Health, JobPage, JobView, Model

T = TypeVar("T")


class AsyncClient:
    """A connection pool to one server, for one event loop.

    Parameters
    ----------
    url
        The server's address, base URL included: `http://127.0.0.1:8000`.
    token
        What the server printed when it started; None where it asks for none.
    timeout_s
        For each answer. `generate`, and a job's `result`, wait as long as the work takes.

    Every method raises the `LabError` that the server answered, `AuthenticationError` for a wrong token and
    `ServerUnreachableError` where there is no answer.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(**options(url, token))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def generate(
        self,
        prompt: str,
        *,
        traceparent: str | None = None,
        idempotency_key: str | None = None,
        **wish: Unpack[Wish],
    ) -> GenerateResult:
        """Run it on the server, and return the result when it is there.

        Parameters
        ----------
        traceparent
            W3C Trace Context of the caller's span, which the job's trace continues.
        idempotency_key
            1 to 200 printable ASCII characters: a second request with the same key gets the first one's job.
        """
        return await self._ask(calls.generate(prompt, wish, traceparent=traceparent, idempotency_key=idempotency_key))

    async def submit(
        self,
        prompt: str,
        *,
        traceparent: str | None = None,
        idempotency_key: str | None = None,
        **wish: Unpack[Wish],
    ) -> AsyncRemoteJob:
        """Queue it on the server, and return its job at once; parameters as for `generate`."""
        call = calls.submit(prompt, wish, traceparent=traceparent, idempotency_key=idempotency_key)
        return AsyncRemoteJob(self, await self._ask(call))

    async def job(self, job_id: str) -> JobView:
        """The job as it is now, with its result where it has ended."""
        return await self._ask(calls.job(job_id))

    async def jobs(self, *, state: JobState | None = None, limit: int = 50, before: str | None = None) -> JobPage:
        """A page of jobs, the latest first; `before` is the page before's `next_before`."""
        return await self._ask(calls.jobs(state, limit, before))

    async def cancel(self, job_id: str) -> JobView:
        """Have the job stopped, and return it as it is then; its terminal event comes when the worker has stopped."""
        return await self._ask(calls.cancel(job_id))

    async def events(self, job_id: str) -> AsyncIterator[AnyEvent]:
        """Each of the job's events once, from the first to the terminal one; a connection that breaks is renewed.

        Raises
        ------
        ServerUnreachableError
            After ten new connections in a row that brought nothing.
        """
        following = Following(job_id)
        while not following.is_over:
            broken: Exception | None = None
            try:
                async for event in self._connected(following):
                    yield event
            except httpx.TransportError as error:
                broken = error
            if not following.is_over:
                await asyncio.sleep(following.pause_s(broken))

    async def trace(self, job_id: str, *, format: TraceFormat = "omnirt") -> Json:  # noqa: A002  # as the API names it
        """The job's spans: the lab's own JSON, OTLP's, or Chrome's trace format."""
        return await self._ask(calls.trace(job_id, format))

    async def runs(self, **asked: Unpack[RunFilter]) -> tuple[RunRow, ...]:
        """The runs that match, newest first."""
        return (await self._ask(calls.runs(asked))).runs

    async def report(self, run_id: str) -> RunReport:
        """The run's report, as far as it has come."""
        return await self._ask(calls.report(run_id))

    async def artifact(self, sha256: str) -> bytes:
        """A stored file's bytes."""
        return await self._ask(calls.artifact(sha256))

    async def preview(self, job_id: str) -> bytes:
        """What a running job's picture looks like so far; PreviewNotFoundError where it has none now."""
        return await self._ask(calls.preview(job_id))

    async def models(self) -> tuple[Model, ...]:
        """What the server serves."""
        return (await self._ask(calls.models())).data

    async def health(self) -> Health:
        """Whether the server can do its work; `unavailable` is an answer, no error."""
        return await self._ask(calls.health())

    async def _ask(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(
                call.method,
                call.path,
                params=dict(call.query),
                headers=dict(call.headers),
                content=call.content,
                timeout=timeout_of(call, self._timeout_s),
            )
        except httpx.TransportError as error:
            raise unreachable(self._http.base_url, error) from error
        return call.answer(response.status_code, response.content)

    async def _connected(self, following: Following) -> AsyncIterator[AnyEvent]:
        call = following.connect()
        timeout = stream_timeout(self._timeout_s)
        async with self._http.stream(call.method, call.path, headers=dict(call.headers), timeout=timeout) as response:
            if response.status_code != HTTPStatus.OK:
                following.refuse(response.status_code, await response.aread())
                return
            async for chunk in response.aiter_bytes():
                for event in following.take(chunk):
                    yield event
                if following.is_over:
                    return
            following.close()


@dataclass
class AsyncRemoteJob:
    """A job on the server."""

    client: AsyncClient

    view: JobView
    """The job as it was when it was last asked for."""

    @property
    def job_id(self) -> str:
        """32 hex digits."""
        return self.view.job_id

    async def refresh(self) -> JobView:
        """The job as it is now."""
        self.view = await self.client.job(self.job_id)
        return self.view

    async def cancel(self) -> JobView:
        """Have it stopped."""
        self.view = await self.client.cancel(self.job_id)
        return self.view

    def events(self) -> AsyncIterator[AnyEvent]:
        """Each of its events once, as they come; see `AsyncClient.events`."""
        return self.client.events(self.job_id)

    async def result(self) -> GenerateResult:
        """Wait for its end; the report's `state` says how it ended, and a failed job's report is partial."""
        async for _ in self.events():
            pass
        result = (await self.refresh()).result
        assert result is not None
        return result
