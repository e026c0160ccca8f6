"""The liveness and readiness of a role on this machine, by its own `/livez` and `/readyz`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..config import Settings
from ..errors import ConfigurationError
from .printable import host_port

SERVE: Final = "serve"
ROLES: Final = (SERVE, "relay", "replicate", "notify")
_PATHS: Final = ("/livez", "/readyz")
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not listened on
_ANSWER_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of one role. `reached` is False if none of ours listens."""

    role: str
    place: str
    reached: bool
    problem: str

    def __str__(self) -> str:
        return f"{self.role} at {self.place}: {self.problem or 'ok'}"


def examine(settings: Settings, role: str | None = None, *, timeout: float = 4.0) -> list[Health]:
    """The health of a role; without a name that of each role that answers at the ports of these settings.

    Raises ConfigurationError if a worker has no port for probes.
    """
    if role == SERVE:
        return [_ask(SERVE, settings.http_host, settings.http_port, timeout)]
    if role is not None:
        if not settings.metrics_port:
            raise ConfigurationError(
                f"{role} has no port to be asked on",
                fix="set CUSTSVC_METRICS_PORT, for the role and for this command",
            )
        return [_ask(role, settings.metrics_host, settings.metrics_port, timeout)]
    found = [_ask(SERVE, settings.http_host, settings.http_port, timeout)]
    if settings.metrics_port:
        found.append(_ask("worker", settings.metrics_host, settings.metrics_port, timeout))
    return [each for each in found if each.reached] or found


def _ask(role: str, host: str, port: int, timeout: float) -> Health:
    host = _EVERYWHERE.get(host, host)
    place, name = host_port(host, port), role
    for path in _PATHS:
        try:
            status, answer = _get(host, port, path, timeout)
        except (OSError, http.client.HTTPException) as exc:
            return Health(role, place, path != _PATHS[0], f"does not answer ({_reason(exc)})")
        its_role = answer.get("role", SERVE)
        if role not in (its_role, "worker"):
            return Health(role, place, True, f"{its_role} answers there")
        name = str(its_role)
        if status != http.client.OK or answer.get("status") != "ok":
            return Health(name, place, True, _words(answer) or f"{path} answers {status}")
    return Health(name, place, True, "")


def _get(host: str, port: int, path: str, timeout: float) -> tuple[int, dict[str, Any]]:
    """GET directly from that port, without the environment's proxies."""
    client = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        client.request("GET", path)
        response = client.getresponse()
        text = response.read(_ANSWER_MAX)
    finally:
        client.close()
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    return response.status, answer if isinstance(answer, dict) else {}


def _words(answer: dict[str, Any]) -> str:
    """A worker's status, or a problem of the API, as one line."""
    detail = answer.get("detail") or answer.get("status")
    return " ".join(str(detail).split())[:200] if isinstance(detail, str) else ""


def _reason(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return "timed out"
    return (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__


def is_well(found: Sequence[Health]) -> bool:
    """Whether all these roles are healthy."""
    return not any(each.problem for each in found)
