"""The calls of webhook endpoints, for `send` of either client; the key needs the role admin. No I/O.

>>> from custsvc.client import Client, webhooks
>>> with Client("http://localhost:8000", key) as client:
...     made = client.send(webhooks.create("https://crm.example.org/hook", ops=["created", "updated"]))

Endpoints and deliveries are plain data, in the form of the API's document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from .calls import PAGE, Call, write
from .retry import json_of

_PATH: Final = "/api/webhooks"


class Log(NamedTuple):
    """A page of an endpoint's log, and the cursor of the next one."""

    deliveries: list[dict[str, Any]]
    next: str | None


def list_all() -> Call[list[dict[str, Any]]]:
    """Every endpoint, the oldest first."""
    return Call("GET", _PATH, lambda found: list(json_of(found)["results"]))


def get(endpoint_id: str) -> Call[dict[str, Any]]:
    """An endpoint, and how much waits for it. Raises NotFound."""
    return Call("GET", _path(endpoint_id), json_of)


def create(url: str, *, key: str | None = None, **fields: Any) -> Call[dict[str, Any]]:
    """Make an endpoint. The answer's `secret` is shown only here."""
    return write("POST", _PATH, {"url": url, **fields}, json_of, key=key)


def change(endpoint_id: str, fields: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """Change fields of an endpoint."""
    return write("PATCH", _path(endpoint_id), dict(fields), json_of, key=None)


def delete(endpoint_id: str) -> Call[None]:
    """Delete an endpoint; its waiting deliveries are discarded."""
    return Call("DELETE", _path(endpoint_id), lambda _: None)


def pause(endpoint_id: str) -> Call[dict[str, Any]]:
    """Pause an endpoint: its deliveries wait."""
    return write("POST", _path(endpoint_id, "pause"), None, json_of, key=None)


def resume(endpoint_id: str) -> Call[dict[str, Any]]:
    """Resume an endpoint: waiting deliveries are sent at once."""
    return write("POST", _path(endpoint_id, "resume"), None, json_of, key=None)


def test(endpoint_id: str) -> Call[str]:
    """Ask for a test delivery; its id."""
    return Call("POST", _path(endpoint_id, "test"), lambda found: str(json_of(found)["delivery"]))


def rotate(endpoint_id: str, *, overlap: int | None = None, key: str | None = None) -> Call[str]:
    """Give an endpoint a new secret; the ones before sign for `overlap` seconds more."""
    asked = "" if overlap is None else f"?overlap={int(overlap)}"
    path = _path(endpoint_id, "rotate") + asked
    return write("POST", path, None, lambda found: str(json_of(found)["secret"]), key=key)


def deliveries(endpoint_id: str, cursor: str | None = None, *, state: str | None = None) -> Call[Log]:
    """A page of an endpoint's log, the newest delivery first: the first page, or that of a cursor."""
    asked = {"limit": str(PAGE), **({"state": state} if state else {})}
    return Call("GET", _path(endpoint_id, "deliveries"), _log, asked | ({"cursor": cursor} if cursor else {}))


def redeliver(endpoint_id: str, delivery_id: str) -> Call[None]:
    """Send a delivery again, under the same webhook-id."""
    return Call("POST", _path(endpoint_id, "deliveries", delivery_id, "redeliver"), lambda _: None)


def _log(response: httpx.Response) -> Log:
    found = json_of(response)
    return Log(found["results"], httpx.URL(found["next"]).params.get("cursor") if found["next"] else None)


def _path(*parts: str) -> str:
    return "/".join((_PATH, *(quote(part, safe="") for part in parts)))
