"""Mail requests that other services put on the notification topic.

`{"id", "notifyTo", "notifyCC", "notifyBCC", "subject", "textMsg", "htmlMsg"}`: each of the three is an
address, a list of addresses or null. Each recipient gets a mail of their own and never sees the others.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from ...domain.text import body, is_one_line
from ...kafka.record import Message, place_of
from .plain import text_of

_BODY_MAX = 200_000
_RECIPIENTS_MAX = 1000
_ID_MAX = 200
_SUBJECT_MAX = 250


class BadRequest(ValueError):
    """The record is not a mail request."""


@dataclass(frozen=True, slots=True)
class MailRequest:
    """A mail request of valid form. Its addresses are unchecked: a bad one fails alone."""

    id: str | None
    recipients: tuple[str, ...]
    subject: str
    text: str
    html: str | None


def read(value: bytes | None) -> MailRequest:
    """The request in a record's value. Raises BadRequest that says what is wrong."""
    try:
        raw = orjson.loads(value or b"")
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"the value is not JSON: {exc}") from exc
    if not isinstance(raw, dict):
        raise BadRequest("the value is not a JSON object")
    names = ("notifyTo", "notifyCC", "notifyBCC")
    recipients = tuple(dict.fromkeys(address for name in names for address in _addresses(raw, name)))
    if not recipients:
        raise BadRequest("there is no recipient")
    if len(recipients) > _RECIPIENTS_MAX:
        raise BadRequest(f"there are more than {_RECIPIENTS_MAX} recipients")
    subject = _text(raw, "subject")
    if not subject or not subject.strip() or not is_one_line(subject) or len(subject) > _SUBJECT_MAX:
        raise BadRequest(f"subject must be one line of 1 to {_SUBJECT_MAX} characters")
    text, html = _text(raw, "textMsg"), _text(raw, "htmlMsg")
    if not text and not html:
        raise BadRequest("there is neither textMsg nor htmlMsg")
    return MailRequest(
        id=_id(raw),
        recipients=recipients,
        subject=subject,
        text=body(text or text_of((html or "")[:_BODY_MAX]), _BODY_MAX),
        html=body(html, _BODY_MAX) if html else None,
    )


def own_id(message: Message) -> str:
    """An id for a request without one: the same on every read, a different one in a recreated topic."""
    where = place_of(message)
    what = [*where.values(), message.timestamp()[1], (message.value() or b"").decode("utf-8", "replace")]
    digest = hashlib.blake2b(orjson.dumps(what), digest_size=8).hexdigest()
    return f"{where['topic'][:100]}/{where['partition']}/{where['offset']}/{digest}"


def _addresses(raw: dict[str, Any], name: str) -> list[str]:
    value = raw.get(name)
    entries = value if isinstance(value, list) else [value]
    if not all(entry is None or isinstance(entry, str) for entry in entries):
        raise BadRequest(f"{name} is neither an address nor a list of addresses")
    return [entry for entry in entries if entry]


def _text(raw: dict[str, Any], name: str) -> str | None:
    value = raw.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"{name} is not text")
    return value


def _id(raw: dict[str, Any]) -> str | None:
    value = raw.get("id")
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > _ID_MAX:
        raise BadRequest(f"id is not text of at most {_ID_MAX} characters")
    return str(value)
