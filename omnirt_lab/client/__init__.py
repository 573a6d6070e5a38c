"""A typed client of a lab's server: everything that `/openapi.json` describes, from plain Python without torch.

>>> from omnirt_lab.client import Client
>>> with Client("http://127.0.0.1:8000", token="…") as client:
...     job = client.submit("a red circle on a blue background", steps=20, seed=7)
...     for event in job.events():
...         print(event.event, event.stage)
...     picture = client.artifact(job.result().outputs[0].sha256)
"""

from omnirt_lab.client.asynchronous import AsyncClient, AsyncRemoteJob
from omnirt_lab.client.calls import RunFilter, TraceFormat, Wish
from omnirt_lab.client.failures import AuthenticationError, ServerError, ServerUnreachableError
from omnirt_lab.client.synchronous import Client, RemoteJob

__all__ = [
    "AsyncClient",
    "AsyncRemoteJob",
    "AuthenticationError",
    "Client",
    "RemoteJob",
    "RunFilter",
    "ServerError",
    "ServerUnreachableError",
    "TraceFormat",
    "Wish",
]
