"""Where traces go, by configuration and OpenTelemetry's standard variables. Loads no OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from omnirt_lab.errors import InvalidRequestError, NotAvailableError

JSON: Final = "http/json"
PROTOBUF: Final = "http/protobuf"

_PATH: Final = "/v1/traces"


class Target(NamedTuple):
    """A collector's address for traces, and the encoding that it gets."""

    url: str

    protocol: str

    @property
    def name(self) -> str:
        """The address without the user's name, password and query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def find_target(endpoint: str, environment: Mapping[str, str]) -> Target | None:
    """The collector that was asked for; None if none was.

    Parameters
    ----------
    endpoint
        A collector's base address, as in OTEL_EXPORTER_OTLP_ENDPOINT, or its whole address for traces. If empty, the
        standard variables are asked: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, whole, or OTEL_EXPORTER_OTLP_ENDPOINT.

    Raises
    ------
    InvalidRequestError
        If the address is none.
    NotAvailableError
        If the standard variables ask for a protocol other than `http/json` and `http/protobuf`.
    """
    if endpoint:
        return Target(_with_path(endpoint), _protocol(environment))
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    if whole := environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return Target(urlunsplit(_split(whole)), _protocol(environment))
    if base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return Target(_with_path(base), _protocol(environment))
    return None


def _with_path(endpoint: str) -> str:
    parts = _split(endpoint)
    path = parts.path.removesuffix("/").removesuffix(_PATH) + _PATH
    return urlunsplit(parts._replace(path=path))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, or a port that is no number
        is_address = False
    if not is_address:
        raise InvalidRequestError(
            f"the collector's address {url!r} is no http or https address",
            hint="Give one such as http://127.0.0.1:4318.",
        )
    return parts


def _protocol(environment: Mapping[str, str]) -> str:
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((environment[name] for name in names if environment.get(name)), JSON)
    if protocol not in (JSON, PROTOBUF):
        raise NotAvailableError(
            f"traces cannot be sent by the protocol {protocol!r}",
            hint=f"Set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL to {JSON} or {PROTOBUF}, and the endpoint to the HTTP port.",
        )
    return protocol
