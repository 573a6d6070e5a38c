"""The client that waits for each answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
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


class Client:
    """A connection pool to one server; safe for several threads.

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
        self._http = httpx.Client(**options(url, token))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def generate(
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
        return self._ask(calls.generate(prompt, wish, traceparent=traceparent, idempotency_key=idempotency_key))

    def submit(
        self,
        prompt: str,
        *,
        traceparent: str | None = None,
        idempotency_key: str | None = None,
        **wish: Unpack[Wish],
    ) -> RemoteJob:
        """Queue it on the server, and return its job at once; parameters as for `generate`."""
        call = calls.submit(prompt, wish, traceparent=traceparent, idempotency_key=idempotency_key)
        return RemoteJob(self, self._ask(call))

    def job(self, job_id: str) -> JobView:
        """The job as it is now, with its result where it has ended."""
        return self._ask(calls.job(job_id))

    def jobs(self, *, state: JobState | None = None, limit: int = 50, before: str | None = None) -> JobPage:
        """A page of jobs, the latest first; `before` is the page before's `next_before`."""
        return self._ask(calls.jobs(state, limit, before))

    def cancel(self, job_id: str) -> JobView:
        """Have the job stopped, and return it as it is then; its terminal event comes when the worker has stopped."""
        return self._ask(calls.cancel(job_id))

    def events(self, job_id: str) -> Iterator[AnyEvent]:
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
                yield from self._connected(following)
            except httpx.TransportError as error:
                broken = error
            if not following.is_over:
                time.sleep(following.pause_s(broken))

    def trace(self, job_id: str, *, format: TraceFormat = "omnirt") -> Json:  # noqa: A002  # as the API names it
        """The job's spans: the lab's own JSON, OTLP's, or Chrome's trace format."""
        return self._ask(calls.trace(job_id, format))

    def runs(self, **asked: Unpack[RunFilter]) -> tuple[RunRow, ...]:
        """The runs that match, newest first."""
        return self._ask(calls.runs(asked)).runs

    def report(self, run_id: str) -> RunReport:
        """The run's report, as far as it has come."""
        return self._ask(calls.report(run_id))

    def artifact(self, sha256: str) -> bytes:
        """A stored file's bytes."""
        return self._ask(calls.artifact(sha256))

    def preview(self, job_id: str) -> bytes:
        """What a running job's picture looks like so far; PreviewNotFoundError where it has none now."""
        return self._ask(calls.preview(job_id))

    def models(self) -> tuple[Model, ...]:
        """What the server serves."""
        return self._ask(calls.models()).data

    def health(self) -> Health:
        """Whether the server can do its work; `unavailable` is an answer, no error."""
        return self._ask(calls.health())

    def _ask(self, call: Call[T]) -> T:
        try:
            response = self._http.request(
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

    def _connected(self, following: Following) -> Iterator[AnyEvent]:
        call = following.connect()
        timeout = stream_timeout(self._timeout_s)
        with self._http.stream(call.method, call.path, headers=dict(call.headers), timeout=timeout) as response:
            if response.status_code != HTTPStatus.OK:
                following.refuse(response.status_code, response.read())
                return
            for chunk in response.iter_bytes():
                yield from following.take(chunk)
                if following.is_over:
                    return
            following.close()


@dataclass
class RemoteJob:
    """A job on the server."""

    client: Client

    view: JobView
    """The job as it was when it was last asked for."""

    @property
    def job_id(self) -> str:
        """32 hex digits."""
        return self.view.job_id

    def refresh(self) -> JobView:
        """The job as it is now."""
        self.view = self.client.job(self.job_id)
        return self.view

    def cancel(self) -> JobView:
        """Have it stopped."""
        self.view = self.client.cancel(self.job_id)
        return self.view

    def events(self) -> Iterator[AnyEvent]:
        """Each of its events once, as they come; see `Client.events`."""
        return self.client.events(self.job_id)

    def result(self) -> GenerateResult:
        """Wait for its end; the report's `state` says how it ended, and a failed job's report is partial."""
        for _ in self.events():
            pass
        result = self.refresh().result
        assert result is not None
        return result
