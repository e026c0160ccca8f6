"""The published contracts of the events: their JSON Schema, and the topics as an AsyncAPI 3 document.

Others build on them, so a change that would break a reader is no change but a new `schema` number. A test
compares both with the copies in `docs/`.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from ... import __version__
from ...config import SETTINGS
from ...domain.events import NEWEST_SCHEMA, SCHEMA_OF
from .models import CustomerEvent
from .values import OurWords, Time

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_DRAFT_7: Final = "http://json-schema.org/draft-07/schema#"


def event_schema(newest: int = NEWEST_SCHEMA) -> dict[str, Any]:
    """The JSON Schema of an event's value, for those whose `schema` is at most `newest`."""
    schema = _open(CustomerEvent.model_json_schema(by_alias=True, schema_generator=OurWords))
    ops = schema["properties"]["op"]
    ops["enum"] = [op for op in ops["enum"] if SCHEMA_OF[op] <= newest]
    return {"$schema": _DRAFT, "$id": f"urn:custsvc:event:v{newest}", **schema}


def registry_schema() -> dict[str, Any]:
    """The JSON Schema of an event's value as a schema registry gets it.

    Of draft 7, which all registries read. It is closed: so a member that is added later is a compatible
    change by a registry's rule BACKWARD.
    """
    schema = _closed(CustomerEvent.model_json_schema(by_alias=True, schema_generator=OurWords))
    schema["definitions"] = schema.pop("$defs")
    return {"$schema": _DRAFT_7, "title": "CustomerEvent", **schema}


def _closed(schema: Any) -> Any:
    """The schema without additional members, and with the names of draft 7."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema.replace("#/$defs/", "#/definitions/") if isinstance(schema, str) else schema
    closed = {name: _closed(value) for name, value in schema.items()}
    return {**closed, "additionalProperties": False} if isinstance(closed.get("properties"), dict) else closed


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


class EventHeaders(BaseModel):
    """CloudEvents 1.0 in binary mode; every header is UTF-8 text."""

    ce_specversion: Literal["1.0"]
    ce_id: str
    ce_type: Annotated[str, Field(pattern=r"^custsvc\.customer\.[a-z]+\.v[0-9]+$")]
    ce_source: Annotated[str, Field(description="The database that the event is from, as a URI.")]
    ce_subject: Annotated[str, Field(description="The customer's id.")]
    ce_time: Time
    content_type: Annotated[Literal["application/json"], Field(alias="content-type")]
    traceparent: Annotated[str, Field(description="Where the request was traced (W3C).")] = ""


class MailRequest(BaseModel):
    """A mail that another service requests. Each recipient gets a separate mail."""

    id: Annotated[str | int | None, Field(description="The same id is never sent twice.")] = None
    notifyTo: str | list[str] | None = None  # noqa: N815 - the originals' names
    notifyCC: str | list[str] | None = None  # noqa: N815
    notifyBCC: str | list[str] | None = None  # noqa: N815
    subject: Annotated[str, Field(min_length=1, max_length=250)]
    textMsg: str | None = None  # noqa: N815
    htmlMsg: str | None = None  # noqa: N815


class MailAttempt(BaseModel):
    """One try to send a mail."""

    number: int
    time: Time
    outcome: str
    code: Annotated[int | None, Field(description="The mail server's code.")]
    text: Annotated[str | None, Field(description="The mail server's words.")]
    duration: Annotated[float, Field(description="Seconds.")]


class FailedMail(BaseModel):
    """A failed mail to one recipient; or, with `request`, a mail request that cannot be read."""

    reason: Annotated[str | None, Field(description="The last reason.")]
    attempts: list[MailAttempt]
    id: str | None = None
    notifyTo: str | None = None  # noqa: N815
    subject: str | None = None
    textMsg: str | None = None  # noqa: N815
    htmlMsg: str | None = None  # noqa: N815
    notification_id: str | None = None
    rule: str | None = None
    customer_id: int | None = None
    version: int | None = None
    request: Annotated[str | None, Field(description="The record's value, where it is no mail request.")] = (
        None
    )


class DeadLetterHeaders(BaseModel):
    """Added to the record's own headers; every header is UTF-8 text."""

    dead_reason: str
    dead_class: Annotated[str, Field(description="A stable word: bad-json, bad-field, bad-key …")]
    dead_topic: str
    dead_partition: Annotated[str, Field(pattern="^[0-9]+$")]
    dead_offset: Annotated[str, Field(pattern="^[0-9]+$")]
    dead_cut: Annotated[
        str | None,
        Field(description="The record's bytes, if it did not fit and only its beginning is here."),
    ] = None


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
