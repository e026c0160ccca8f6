"""The fields of a webhook endpoint, read from a JSON object; and an endpoint as plain data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from ...domain.address import BadAddress, host_name, one_address
from ...domain.customers import format_time
from ...domain.events import APP_EVENT_TYPE
from ...domain.text import is_one_line
from ...errors import FieldError, ValidationError, unknown_fields
from ...ports.endpoints import Endpoint
from ..channels.reachable import Reachable, is_public, literal
from ..rules.asked import Wrong, changed_fields, conditions, words

URL_MAX: Final = 2000
DESCRIPTION_MAX: Final = 200
CHANGED_MAX: Final = 50
CHANGED_TEXT_MAX: Final = 200
WHEN_MAX: Final = 4000
"""The most bytes of the conditions as JSON."""
OPS_DEFAULT: Final = tuple(op for op in APP_EVENT_TYPE if op != "snapshot")
"""Every change; `snapshot` is none, and comes only to those who ask for it."""
FIELDS: Final = ("url", "ops", "changed", "when", "payload", "email", "description")
_DEFAULTS: Final[Mapping[str, Any]] = {
    "ops": OPS_DEFAULT,
    "changed": (),
    "conditions": "{}",
    "payload": "event",
    "email": None,
    "description": "",
}
_STORED_AS: Final = {"when": "conditions"}
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")


def read(body: Any, reachable: Reachable | None, *, partial: bool) -> dict[str, Any]:
    """The values of the fields in a body, as `Endpoints.change` takes them. Raises ValidationError.

    Without `partial` the address is needed, and fields that are not there have their defaults. Without
    `reachable` it is not checked whether the address may be called: the server does that.
    """
    if not isinstance(body, dict):
        raise ValidationError([FieldError("", "not_an_object", "the body must be a JSON object")])
    errors = unknown_fields(body, FIELDS, f"is unknown; there are {', '.join(FIELDS)}")
    if not partial and "url" not in body:
        errors.append(FieldError("url", "required", "is needed"))
    found: dict[str, Any] = {} if partial else dict(_DEFAULTS)
    readers: dict[str, Callable[[Any], Any]] = {**_READERS, "url": lambda value: _url(value, reachable)}
    for name in FIELDS:
        if name in body:
            try:
                found[_STORED_AS.get(name, name)] = readers[name](body[name])
            except (Wrong, BadAddress) as exc:
                errors.append(FieldError(name, "bad_value", str(exc)))
    if errors:
        raise ValidationError(errors)
    return found


def shown(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as plain data, without its secrets."""
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "description": endpoint.description,
        "email": endpoint.email,
        "ops": endpoint.ops,
        "changed": endpoint.changed,
        "when": orjson.loads(endpoint.conditions),
        "payload": endpoint.payload,
        "state": state(endpoint),
        "failing_since": _time(endpoint.failing_since),
        "failure": endpoint.failure,
        "paused_on": _time(endpoint.paused_on),
        "paused_by": endpoint.paused_by,
        "paused_why": endpoint.paused_why,
        "created_on": _time(endpoint.created_on),
        "created_by": endpoint.created_by,
        "updated_on": _time(endpoint.updated_on),
        "secret_made_on": _time(endpoint.secret_made_on),
    }


def state(endpoint: Endpoint) -> str:
    """active, failing or paused."""
    if endpoint.paused_on is not None:
        return "paused"
    return "active" if endpoint.failing_since is None else "failing"


def _url(value: Any, reachable: Reachable | None) -> str:
    if not isinstance(value, str) or not _PRINTABLE.fullmatch(value) or len(value) > URL_MAX:
        raise Wrong("url", f"must be an address of at most {URL_MAX} ASCII characters without spaces")
    try:
        parts = urlsplit(value)
        host, port = host_name(parts.hostname or ""), parts.port
    except ValueError as exc:
        raise Wrong("url", f"is no address: {exc}") from exc
    if port == 0 or parts.fragment or parts.scheme not in ("https", "http"):
        raise Wrong("url", "must be an address as https://host/path, without a fragment")
    if "@" in parts.netloc:
        raise Wrong("url", "must not hold a user or password: the signature says who calls")
    if reachable is not None:
        _check_host(host, parts.scheme, reachable)
    return value


def _check_host(host: str, scheme: str, reachable: Reachable) -> None:
    """Refuse a host that would never be called. The addresses of a name are checked at each call."""
    if reachable.names(host):
        return
    address = literal(host)
    top = host.lower().removesuffix(".").rpartition(".")[2]
    if (address is not None and not is_public(address)) or top == "localhost":
        raise Wrong("url", "is an address inside, which CUSTSVC_WEBHOOK_ALLOW does not list")
    if scheme == "http":
        raise Wrong("url", "must begin with https://; http:// only for hosts of CUSTSVC_WEBHOOK_ALLOW")


def _ops(value: Any) -> tuple[str, ...]:
    asked = words({"ops": value}, "ops", APP_EVENT_TYPE)
    if len(value) != len(asked):
        raise Wrong("ops", "must name each op once")
    return tuple(op for op in APP_EVENT_TYPE if op in asked)


def _changed(value: Any) -> tuple[str, ...]:
    names = changed_fields({"changed": value})
    if len(value) > CHANGED_MAX or not all(
        len(name) <= CHANGED_TEXT_MAX and is_one_line(name) for name in names
    ):
        raise Wrong("changed", f"must be at most {CHANGED_MAX} names of fields")
    return tuple(sorted(names))


def _when(value: Any) -> str:
    try:
        for _ in conditions(value):
            pass
        text = orjson.dumps(value).decode()
    except (TypeError, RecursionError) as exc:
        raise Wrong("when", "must hold texts, numbers, true, false and lists of them") from exc
    if len(text.encode()) > WHEN_MAX:
        raise Wrong("when", f"must have at most {WHEN_MAX} bytes as JSON")
    return text


def _payload(value: Any) -> str:
    if value not in ("event", "state"):
        raise Wrong("payload", "must be event or state")
    return str(value)


def _email(value: Any) -> str | None:
    return None if value is None else one_address(value).spec


def _description(value: Any) -> str:
    if not isinstance(value, str) or len(value) > DESCRIPTION_MAX or not is_one_line(value):
        raise Wrong("description", f"must be one line of at most {DESCRIPTION_MAX} characters")
    return value.strip()


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "ops": _ops,
    "changed": _changed,
    "when": _when,
    "payload": _payload,
    "email": _email,
    "description": _description,
}


def _time(value: Any) -> str | None:
    return format_time(value) if value else None
