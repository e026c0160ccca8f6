"""The published contracts of the events: their JSON Schema, and the topics as an AsyncAPI 3 document.

Others build on them, so a change that would break a reader is no change but a new `schema` number. A test
compares both with the copies in `docs/`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ... import __version__
from ...config import SETTINGS
from ...domain.events import NEWEST_SCHEMA, SCHEMA_OF
from .models import CustomerEvent, DeadLetterHeaders, EventHeaders, FailedMail, MailRequest, OurWords

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def event_schema(newest: int = NEWEST_SCHEMA) -> dict[str, Any]:
    """The JSON Schema of an event's value, for those whose `schema` is at most `newest`."""
    schema = _open(CustomerEvent.model_json_schema(by_alias=True, schema_generator=OurWords))
    ops = schema["properties"]["op"]
    ops["enum"] = [op for op in ops["enum"] if SCHEMA_OF[op] <= newest]
    return {"$schema": _DRAFT, "$id": f"/api/events/schema#v{newest}", **schema}


def _open(schema: Any) -> Any:
    """The schema with additional members allowed: a reader must tolerate members that are added later."""
    if isinstance(schema, list):
        return [_open(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _open(value)
        for name, value in schema.items()
        if (name, value) != ("additionalProperties", False)
    }


# The channel, its setting, what is on it and who writes to it.
_CHANNELS: Final = {
    "updates": (
        "topic_updates",
        "Every change of every customer, in order per customer. Compacted: a reader that starts from the "
        "beginning gets at least the last event of each customer.",
        "customerEvent",
        "send",
    ),
    "mailRequests": ("topic_notify", "Mails that other services ask for.", "mailRequest", "receive"),
    "failedMails": ("topic_failed", "Mails that were given up, with the reason.", "failedMail", "send"),
    "deadLetters": (
        "topic_dead",
        "Records of the updates topic that a copy cannot read: their bytes, key and headers as they were.",
        "deadLetter",
        "send",
    ),
}
_KEY: Final = {"type": "string", "pattern": "^[1-9][0-9]*$", "description": "The customer's id, in decimal."}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document."""
    models: list[type[BaseModel]] = [CustomerEvent, EventHeaders, MailRequest, FailedMail, DeadLetterHeaders]
    _, top = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
        schema_generator=OurWords,
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "custsvc events",
            "version": __version__,
            "description": "What custsvc writes to Kafka and reads from it, under the default names.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(*about) for name, about in _CHANNELS.items()},
        "operations": {
            f"{action}{name[0].upper()}{name[1:]}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{message}"}],
            }
            for name, (_, _, message, action) in _CHANNELS.items()
        },
        "components": {
            "messages": {
                "customerEvent": {
                    "summary": "One change of one customer; CloudEvents 1.0 in binary mode",
                    "contentType": "application/json",
                    "headers": _ref("EventHeaders"),
                    "payload": _ref("CustomerEvent"),
                    "bindings": {"kafka": {"key": _KEY, "bindingVersion": "0.5.0"}},
                },
                "mailRequest": {"summary": "A mail to send", "payload": _ref("MailRequest")},
                "failedMail": {"summary": "A mail that was given up", "payload": _ref("FailedMail")},
                "deadLetter": {
                    "summary": "A record that is no event",
                    "contentType": "application/octet-stream",
                    "headers": _ref("DeadLetterHeaders"),
                    "payload": {"description": "The bytes as they were."},
                },
            },
            "schemas": _open(dict(sorted(top["$defs"].items()))),
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _channel(setting: str, about: str, message: str, _action: str) -> dict[str, Any]:
    return {
        "address": SETTINGS[setting].default,
        "description": about,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


@cache
def event_schema_json() -> bytes:
    """The JSON Schema as JSON."""
    return orjson.dumps(event_schema())


@cache
def asyncapi_json() -> bytes:
    """The AsyncAPI document as JSON."""
    return orjson.dumps(asyncapi())
